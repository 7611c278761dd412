"""Errors that users can fix, and how to tell them from bugs in this package."""

from __future__ import annotations

import difflib
import sys
from typing import Iterable


class D2LError(Exception):
    """An error that the caller can fix; the message says how.

    Each error class of this package derives from this class and from a built-in exception. Wrong
    arguments raise a plain ValueError or TypeError.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> try:
        ...     d2l.load_run("runs/of/nobody")
        ... except d2l.D2LError as error:
        ...     print(error)
        there is no directory runs/of/nobody
    """


class CorpusError(D2LError, RuntimeError):
    """A text that cannot be used; the message gives the reason and the remedy."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message that asks for the most similar word; "" if none is similar."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def is_bad_input(error: BaseException) -> bool:
    """Return whether a user can fix an error; any other error is a bug in this package."""
    mxnet = sys.modules.get("mxnet")
    # MXNet raises its own error if a size exceeds its limits or the memory. Under -W error,
    # warnings are raised, too.
    kinds = (D2LError, ValueError, OSError, ImportError, MemoryError, UserWarning)
    return isinstance(error, kinds if mxnet is None else (*kinds, mxnet.MXNetError))
