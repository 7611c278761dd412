"""The memory of MXNet's arrays, for libraries that read and write it in place."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Iterator

import numpy as np

from . import mx, nd


@contextlib.contextmanager
def in_memory(array: nd.NDArray) -> Iterator[np.ndarray]:
    """An array's numbers, as they are once it is computed; what is written to them is kept.

    On the CPU it is the array's own memory, of which no copy is made. Whoever has used the array
    before must have handed that to MXNet already, and nobody may use it within the ``with`` block.

    Args:
        array: of any type of number, not sparse.

    Returns:
        A context manager that gives one row of numbers.
    """
    array.wait_to_read()
    if array.context.device_type == "cpu":
        pointer = ctypes.c_void_p()
        mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
        num_bytes = array.size * np.dtype(array.dtype).itemsize
        memory = (ctypes.c_ubyte * num_bytes).from_address(pointer.value or 0)
        yield np.ctypeslib.as_array(memory).view(array.dtype)
    else:
        numbers = array.asnumpy().reshape(-1)
        yield numbers
        array[:] = nd.array(numbers, ctx=array.context).reshape(array.shape)
