"""Whether a block still is what its class was when it was defined.

What is known about a class holds for an object of a subclass only by chance, and
in a notebook methods are replaced on classes and on single objects too.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any, Dict, Optional, TypeVar

from .._mxnet import gluon

Class = TypeVar("Class", bound=type)

_METHODS: Dict[type, Optional[Dict[str, Any]]] = {}


def remember(cls: Class) -> Class:
    """Note the methods of a class, those that it inherits included; a decorator."""
    for base in cls.__mro__[:-1]:  # the last is object
        if base not in _METHODS:
            methods = _methods(base)
            # A method may have been replaced before this package was imported.
            own = all(_is_of(base, method) for method in methods.values())
            _METHODS[base] = methods if own else None
    return cls


def is_unchanged(block: Any, *classes: type) -> bool:
    """Whether calling a block runs the methods that its class had when it was remembered.

    Args:
        block: any object.
        classes: remembered classes; the block must be of one of them, not of a
            subclass.

    Returns:
        False also if the block has hooks, or a backend that is to change its graph.
    """
    cls = type(block)
    return (
        cls in classes
        and all(_methods(base) == _METHODS[base] for base in cls.__mro__[:-1])
        and not set(dir(cls)) & vars(block).keys()
        and not (block._forward_hooks or block._forward_pre_hooks)
        and not (getattr(block, "_callback", None) or getattr(block, "_backend", None))
    )


def _methods(cls: type) -> Dict[str, Any]:
    # Not all of vars(cls): Python itself adds __annotations__ when somebody asks for it.
    return {
        name: value
        for name, value in vars(cls).items()
        if callable(value) or isinstance(value, (property, classmethod, staticmethod))
    }


def _is_of(cls: type, method: Any) -> bool:
    if not isinstance(method, FunctionType):
        return True
    return method.__module__ == cls.__module__ and not hasattr(method, "__wrapped__")


for _cls in (
    gluon.rnn.LSTM,
    gluon.rnn.GRU,
    gluon.rnn.RNN,
    gluon.nn.Dense,
    gluon.nn.Dropout,
    gluon.nn.HybridSequential,
):
    remember(_cls)
