"""Checks of arguments, shared by several modules."""

from __future__ import annotations

import codecs
import numbers
import reprlib
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np

# Indices go to the device as float32, which holds every whole number below this.
MAX_TOKENS = 2**24
_CHUNK = 2**20  # indices checked at a time, so that a long text is not copied as a whole


def whole_number(name: str, value: Any, least: int = 1) -> None:
    """Raise a ValueError that names the argument if it is not an integer of at least ``least``."""
    # numbers.Integral includes the integers of NumPy; True is not meant as 1.
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


def string_list(name: str, values: Iterable[str]) -> List[str]:
    """Return texts as a list; raise an error that names the argument unless all have characters."""
    if isinstance(values, str):
        raise TypeError(f"{name} must be a list of strings: [{values!r}], not {values!r}")
    if not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of strings, not {values!r}")
    texts = list(values)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{name} must contain only strings, not {text!r}")
        if not text:
            raise ValueError(f"{name} contains an empty string: {texts!r}")
    return texts


def positive_number(name: str, value: Any, *, or_infinite: bool = False) -> None:
    """Raise a ValueError that names the argument if it is not a number above 0."""
    # not (value > 0), so that NaN is refused
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not float(value) > 0:
        raise ValueError(f"{name} must be a number above 0, not {value!r}")
    if float(value) == float("inf") and not or_infinite:
        raise ValueError(f"{name} must be a finite number above 0, not {value!r}")


def token_indices(name: str, values: Any, vocab_size: Optional[int] = None) -> np.ndarray:
    """Return token indices as an array; raise a ValueError that names the first invalid one.

    MXNet accepts an index outside the vocabulary: its one-hot vector is all zeros, and as a target
    it counts as the last or the first token.

    Args:
        name: name of the argument, for the error.
        values: a list, a tuple, or an array of NumPy or MXNet.
        vocab_size: limit of the indices; None for any index.

    Returns:
        A one-dimensional array of whole numbers. An array of NumPy is returned as it is.
    """
    # Differs: the original took any index.
    limit = MAX_TOKENS if vocab_size is None else vocab_size
    # NumPy would turn True into 1, and a list with one string in it into strings.
    types = set(map(type, values)) if isinstance(values, (list, tuple)) else set()
    if any(type_ is bool or not issubclass(type_, numbers.Real) for type_ in types):
        _check_each(name, values, limit)
    array = values.asnumpy() if hasattr(values, "asnumpy") else np.asarray(values)
    if array.ndim != 1:
        raise ValueError(
            f"{name} must be one row of token indices, such as vocab[list(text)], not "
            + (f"an array of shape {array.shape}" if array.ndim else type(values).__name__)
        )
    if array.dtype.kind not in "iuf":
        _check_each(name, array.tolist(), limit)
        return array.astype(np.int64)
    for begin in range(0, len(array), _CHUNK):
        chunk = array[begin : begin + _CHUNK]
        if array.dtype.kind == "f":
            chunk = chunk.astype(np.float64)  # NumPy 2 rounds the limit to float16
        valid = (chunk >= 0) & (chunk < limit)
        if array.dtype.kind == "f":
            valid &= chunk == np.floor(chunk)
        if not valid.all():
            i = begin + int(np.argmin(valid))
            raise _wrong_index(name, i, array[i].item(), limit)
    return array


def _check_each(name: str, values: Iterable[Any], limit: int) -> None:
    for i, value in enumerate(values):
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not (is_number and 0 <= value < limit and value == int(value)):
            raise _wrong_index(name, i, value, limit)


def _wrong_index(name: str, i: int, value: Any, limit: int) -> ValueError:
    # reprlib shortens long lists.
    shown = reprlib.repr(value)
    return ValueError(f"{name}[{i}] is {shown}: it must be a whole number from 0 to {limit - 1}")


# MXNet computes in 32-bit floats, and its operators fail for larger or smaller numbers. These
# limits leave room for what optimizers compute from a number.
SMALLEST_FLOAT, LARGEST_FLOAT = 1e-36, 1e38


def text_encoding(name: str, value: Any) -> str:
    """Return Python's own name of a text encoding; raise a ValueError if there is none.

    Args:
        name: name of the argument, for the error.
        value: any name of the encoding that Python knows.
    """
    try:
        # Fails for codecs such as hex, which do not encode text.
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
    """Return arrays by name in the order of ``shapes``, after a check of names and shapes.

    Raises:
        ValueError: names the first array that is missing, unexpected, or of another shape.
    """
    for name in sorted(set(shapes) | set(arrays)):
        if name not in arrays:
            raise ValueError(f"{group}{name} is missing")
        if name not in shapes:
            raise ValueError(f"{group}{name} is unexpected: these settings have no such array")
        if arrays[name].shape != tuple(shapes[name]):
            raise ValueError(
                f"{group}{name} has the shape {arrays[name].shape}, but these settings need "
                f"{tuple(shapes[name])}"
            )
    return {name: arrays[name] for name in shapes}
