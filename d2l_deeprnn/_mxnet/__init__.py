"""Everything that depends on MXNet's internals. No other subpackage imports MXNet.

Importing this subpackage loads nothing. The first use of one of its names loads MXNet, which takes
seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = [
    "at_least_float32",
    "autograd",
    "gluon",
    "in_memory",
    "init",
    "keep_freed_memory",
    "mx",
    "nd",
    "threads",
]

if TYPE_CHECKING:
    from .library import (
        at_least_float32,
        autograd,
        gluon,
        in_memory,
        init,
        keep_freed_memory,
        mx,
        nd,
        threads,
    )


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.library"), name)
