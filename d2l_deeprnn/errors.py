"""The base class of the errors that users cause, and how the command tells them from faults."""

from __future__ import annotations

import sys


class D2LError(Exception):
    """An error that the caller can do something about; the message says what.

    Each error class of this package derives from it, and from the built-in exception that fits.
    Wrong arguments are plain ValueErrors and TypeErrors.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> try:
        ...     d2l.load_run("runs/of/nobody")
        ... except d2l.D2LError as error:
        ...     print(error)
        runs/of/nobody is not a run: it has no config.json
    """


def is_bad_input(error: BaseException) -> bool:
    """Return whether an error is the user's to fix; any other is a fault of this package."""
    mxnet = sys.modules.get("mxnet")
    # MXNet raises its own where a size that the user chose is beyond its limits or the memory.
    # Under -W error, our warnings are raised too.
    kinds = (D2LError, ValueError, OSError, ImportError, MemoryError, UserWarning)
    return isinstance(error, kinds if mxnet is None else (*kinds, mxnet.MXNetError))
