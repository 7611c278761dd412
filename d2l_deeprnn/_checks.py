"""Checks of arguments that several modules share."""

from __future__ import annotations

import codecs
import numbers
import reprlib
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np

# Indices go to the device as float32, which holds every whole number below this.
MAX_TOKENS = 2**24
_PIECE = 2**20  # indices that are checked at a time: a long text is never copied whole


def positive_int(name: str, value: Any) -> None:
    """Raise a ValueError that names the argument, unless it is 1, 2, 3, ..."""
    whole_number(name, value, 1)


def whole_number(name: str, value: Any, least: int) -> None:
    """Raise a ValueError that names the argument, unless it is a large enough integer."""
    # numbers.Integral and not int: NumPy's integers are welcome; True is not meant as 1
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


def prefix_list(prefixes: Iterable[str]) -> List[str]:
    """Return prefixes as a list; raise a TypeError for a string, which holds its characters."""
    if isinstance(prefixes, str):
        raise TypeError(f"prefixes must be a list of strings: [{prefixes!r}], not {prefixes!r}")
    return list(prefixes)


def positive_number(name: str, value: Any, *, or_infinite: bool = False) -> None:
    """Raise a ValueError that names the argument, unless it is a number above 0."""
    # not (value > 0), so that NaN is refused too
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not float(value) > 0:
        raise ValueError(f"{name} must be a number above 0, not {value!r}")
    if float(value) == float("inf") and not or_infinite:
        raise ValueError(f"{name} must be a finite number above 0, not {value!r}")


def token_indices(name: str, values: Any, vocab_size: Optional[int] = None) -> np.ndarray:
    """Return token indices as an array, or raise a ValueError that names the wrong one.

    MXNet takes an index that is not in the vocabulary without a word: its one-hot vector is all
    zeros, and as a target it counts as the last token, or the first.

    Args:
        name: of the argument, for the error.
        values: a list, a tuple, or an array of NumPy or MXNet.
        vocab_size: indices are from 0 to below this; any if None.

    Returns:
        One row of whole numbers. An array of NumPy is returned as it is.
    """
    # Differs: the original took any index.
    limit = MAX_TOKENS if vocab_size is None else vocab_size
    # NumPy would turn True into 1, and a list with one string in it into strings.
    if isinstance(values, (list, tuple)) and not all(map(_is_number, set(map(type, values)))):
        _refuse_first(name, values, limit)
    array = values.asnumpy() if hasattr(values, "asnumpy") else np.asarray(values)
    if array.ndim != 1:
        raise ValueError(
            f"{name} must be one row of token indices, such as vocab[list(text)], not "
            + (f"an array of shape {array.shape}" if array.ndim else type(values).__name__)
        )
    if array.dtype.kind not in "iuf":
        _refuse_first(name, array.tolist(), limit)
        return array.astype(np.int64)
    for begin in range(0, len(array), _PIECE):
        piece = array[begin : begin + _PIECE]
        if array.dtype.kind == "f":
            piece = piece.astype(np.float64)  # beside float16, NumPy 2 rounds the limit
        right = (piece >= 0) & (piece < limit)
        if array.dtype.kind == "f":
            right &= piece == np.floor(piece)
        if not right.all():
            i = begin + int(np.argmin(right))
            raise _wrong_index(name, i, array[i].item(), limit)
    return array


def _is_number(kind: type) -> bool:
    return issubclass(kind, numbers.Real) and kind is not bool


def _refuse_first(name: str, values: Iterable[Any], limit: int) -> None:
    for i, value in enumerate(values):
        if not (_is_number(type(value)) and 0 <= value < limit and value == int(value)):
            raise _wrong_index(name, i, value, limit)


def _wrong_index(name: str, i: int, value: Any, limit: int) -> ValueError:
    shown = reprlib.repr(value)  # of a long list its beginning
    return ValueError(f"{name}[{i}] is {shown}: it must be a whole number from 0 to {limit - 1}")


# MXNet computes in 32-bit floats, and its operators fail on a number that is too large for one, or
# too small. Within these limits that holds for what optimizers make of the number, too.
SMALLEST_FLOAT, LARGEST_FLOAT = 1e-36, 1e38


def float32(name: str, value: Any) -> None:
    """Raise a ValueError that names the argument, unless a number is 0 or fits a 32-bit float."""
    if value != 0 and not SMALLEST_FLOAT <= abs(value) <= LARGEST_FLOAT:
        raise ValueError(
            f"{name} must be from {SMALLEST_FLOAT:g} to {LARGEST_FLOAT:g}, not {value!r}: "
            "MXNet computes with 32-bit floats"
        )


def text_encoding(name: str, value: Any) -> str:
    """Return Python's own name of an encoding of texts; raise a ValueError that names the argument.

    Args:
        name: of the argument.
        value: any name of the encoding that Python knows.
    """
    try:
        # Encoding nothing tells encodings of texts from others, such as hex.
        "".encode(value)
        encoding = codecs.lookup(value).name
        if encoding not in ("idna", "punycode", "unicode-escape", "raw-unicode-escape"):
            return encoding
    except (LookupError, TypeError, ValueError):  # ValueError: a NUL in it
        pass
    raise ValueError(
        f"{name} must be an encoding that Python knows, such as cp1252 or gb18030, not {value!r}"
    )


def expected_arrays(
    group: str, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Tuple[int, ...]]
) -> Dict[str, np.ndarray]:
    """Arrays by name, in the order of ``shapes``, if they are those and no others.

    Raises:
        ValueError: names the first that is missing, unexpected, or of another shape.
    """
    for name in sorted(set(shapes) | set(arrays)):
        if name not in arrays:
            raise ValueError(f"{group}{name} is missing")
        if name not in shapes:
            raise ValueError(f"{group}{name} is unexpected: these settings have no such array")
        if arrays[name].shape != tuple(shapes[name]):
            raise ValueError(
                f"{group}{name} has the shape {arrays[name].shape}, these settings need "
                f"{tuple(shapes[name])}"
            )
    return {name: arrays[name] for name in shapes}
