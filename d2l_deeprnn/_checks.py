"""Checks of arguments that several modules share."""

from __future__ import annotations

import numbers
from typing import Any


def positive_int(name: str, value: Any) -> None:
    """Raise a ValueError that names the argument, unless it is 1, 2, 3, ..."""
    whole_number(name, value, 1)


def whole_number(name: str, value: Any, least: int) -> None:
    """Raise a ValueError that names the argument, unless it is a large enough integer."""
    # numbers.Integral and not int: NumPy's integers are welcome; True is not meant as 1
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


def positive_number(name: str, value: Any) -> None:
    """Raise a ValueError that names the argument, unless it is a number above 0."""
    # not (value > 0), so that NaN is refused too
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not float(value) > 0:
        raise ValueError(f"{name} must be a number above 0, not {value!r}")
