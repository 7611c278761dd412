"""Names and printed scalars that MXNet 1.9.1 expects of NumPy, and that NumPy 2 no longer has.

MXNet looks up names that NumPy has removed. It also converts shapes and other attributes to
strings, where NumPy 2 prints a scalar as ``np.int64(8)``. Both are repaired for MXNet only: other
code sees the removed names while MXNet is being imported, and never afterwards.

This module imports nothing else of the package. The benchmarks of d2l 0.9.1 load it by itself.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any, Dict, Iterator

import numpy as np

# The modules of MXNet that convert attributes to strings, with ``str``.
_WRITERS = ("_ctypes.ndarray", "_ctypes.symbol", "symbol.symbol", "io.io")


def _financial(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("NumPy has no financial functions: use the package numpy-financial")


def removed() -> Dict[str, Any]:
    """Return the names that MXNet uses and that NumPy may lack, with their values."""
    types = {"bool": bool, "int": int}
    if _is_numpy_1():
        return types
    numpy: Any = np  # the type checker knows one version only
    return {
        **types,
        **dict.fromkeys(["NAN", "NaN"], np.nan),
        **dict.fromkeys(["Inf", "PINF"], np.inf),
        **{"NINF": -np.inf, "PZERO": 0.0, "NZERO": -0.0},
        **{"alltrue": np.all, "sometrue": np.any, "product": np.prod, "round_": np.round},
        "in1d": lambda ar1, ar2, *args, **kwargs: np.isin(np.ravel(ar1), ar2, *args, **kwargs),
        "msort": lambda a: np.sort(a, axis=0),
        "trapz": numpy.trapezoid,
        **dict.fromkeys(["mirr", "npv", "pmt", "ppmt", "pv", "rate"], _financial),
    }


def _is_numpy_1() -> bool:
    return np.__version__.startswith("1.")


def missing() -> Dict[str, Any]:
    """Return the names among ``removed`` that the installed NumPy lacks."""
    # Look into the namespace: NumPy answers hasattr with a warning.
    return {name: value for name, value in removed().items() if name not in vars(np)}


@contextmanager
def names() -> Iterator[None]:
    """Add the missing names to NumPy within the ``with`` block."""
    added = missing()
    vars(np).update(added)
    try:
        yield
    finally:
        for name in added:
            del vars(np)[name]


def adapt() -> None:
    """Adapt the imported modules of MXNet to the installed NumPy."""
    expected = ModuleType("numpy", np.__doc__)
    vars(expected).update({**vars(np), **missing()})
    if not _is_numpy_1():
        numpy: Any = np
        axes = SimpleNamespace(normalize_axis_tuple=numpy.lib.array_utils.normalize_axis_tuple)
        # NumPy 2 has no compat, and warns of core.
        vars(expected)["core"] = SimpleNamespace(numeric=axes)
        vars(expected)["compat"] = SimpleNamespace(basestring=str)
        for name in _WRITERS:
            vars(sys.modules[f"mxnet.{name}"])["str"] = _AttributeText
        sys.modules["mxnet.metric"].EvalMetric.__setattr__ = _set_in_double_precision
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "mxnet":
            aliases = [alias for alias, value in vars(module).items() if value is np]
            vars(module).update(dict.fromkeys(aliases, expected))


class _TextType(type):
    def __call__(cls, value: Any) -> str:
        text = str(value)
        if "np." in text and not isinstance(value, str):
            options: Any = {"legacy": "1.25"}
            with np.printoptions(**options):
                text = str(value)
        return text

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, str)


class _AttributeText(metaclass=_TextType):
    """``str`` for MXNet: prints the scalars inside a value as NumPy 1 does."""


def _set_in_double_precision(metric: Any, name: str, value: Any) -> None:
    """Set an attribute of a metric in double precision, as with NumPy 1.

    In NumPy 2, ``0.0 + np.float32(1)`` is a float32: a sum would stop growing at 2**24.
    """
    is_short = isinstance(value, (np.float16, np.float32))
    object.__setattr__(metric, name, np.float64(value) if is_short else value)
