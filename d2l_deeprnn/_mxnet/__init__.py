"""Everything that this package knows about MXNet's inside; no other room imports MXNet.

To import this room loads nothing. Its names (``nd``, ``autograd``, ``gluon``, ``init``, ``mx`` and
``threads``) load MXNet, which takes seconds, when one of them is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["autograd", "gluon", "init", "mx", "nd", "threads"]

if TYPE_CHECKING:
    from .library import autograd, gluon, init, mx, nd, threads


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.library"), name)
