"""Checks of arguments that several modules share."""

from __future__ import annotations

import numbers
from typing import Any


def positive_int(name: str, value: Any) -> None:
    """Raise a ValueError that names the argument, unless it is 1, 2, 3, ..."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def positive_number(name: str, value: Any) -> None:
    """Raise a ValueError that names the argument, unless it is a number above 0."""
    # not (value > 0), so that NaN is refused too
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not value > 0:
        raise ValueError(f"{name} must be a number above 0, not {value!r}")
