"""Import MXNet, and set what its Python interface does not offer: copying, threads, memory.

No other module of the package imports MXNet.
"""

from __future__ import annotations

import contextlib
import copyreg
import ctypes
import os
import platform
import queue
import warnings
from typing import Any, Dict, Iterator

import numpy as np

from . import diagnosis as _diagnosis
from . import repairs as _repairs

_repairs.prepare()
_problem = _diagnosis.processor_problem()
if _problem:  # a process that an illegal instruction ends prints nothing of its own
    warnings.warn(_problem, RuntimeWarning, stacklevel=2)

try:
    import mxnet as mx
    from mxnet import autograd, gluon, init, nd
except (ImportError, OSError) as error:
    raise _repairs.CannotImportMXNet(_diagnosis.explain(error)) from None

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

_LIBRARY = mx.base._LIB

# Copying -------------------------------------------------------------------------------------
#
# MXNet 1.9.1 cannot copy or pickle a compiled (hybridized) model, because its graph is a pointer.
# Copied parameters lose their gradients, and drag along the trainer that last used them.
# ``multiprocessing`` puts arrays on a device of their own (``cpu_shared``), which compiled graphs
# reject. These three functions repair that.


def _without_trainer(param: gluon.Parameter) -> Dict[str, Any]:
    return {**vars(param), "_trainer": None}


def _with_gradients(param: gluon.Parameter, state: Dict[str, Any]) -> None:
    vars(param).update(state)
    for arrays in (param._data, param._grad):
        for i, array in enumerate(arrays or ()):
            if array.context.device_type == "cpu_shared":
                arrays[i] = array.copyto(mx.cpu())
    if param._grad is not None:
        autograd.mark_variables(param._data, param._grad, param.grad_req)


# None in place of the graph: Gluon compiles a new one at the next call.
copyreg.pickle(nd.CachedOp, lambda graph: (type(None), ()))
gluon.Parameter.__getstate__ = _without_trainer
gluon.Parameter.__setstate__ = _with_gradients

# Threads -------------------------------------------------------------------------------------
#
# MXNet computes in a thread of its own, and OpenMP stores the number of threads per calling thread.
# So the number is set and read in MXNet's thread.
_numbers: queue.SimpleQueue[int] = queue.SimpleQueue()


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_int)]


@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
def _set_and_read(engine: Any, number: Any) -> None:
    if number:
        _LIBRARY.MXSetNumOMPThreads(number)
    _numbers.put(_LIBRARY.omp_get_max_threads())


def threads(number: int = 0) -> int:
    """Return the number of threads that MXNet computes with on the CPU, according to OpenMP.

    Args:
        number: if it is not 0, the number to use from now on.
    """
    if not hasattr(_LIBRARY, "omp_get_max_threads"):  # a build without OpenMP
        return 1
    nothing = (None, 0)
    mx.base.check_call(
        _LIBRARY.MXEnginePushSync(
            _set_and_read, ctypes.c_void_p(number), None, ctypes.byref(_Device(1, 0)),
            *nothing, *nothing, None, 0, b"threads",
        )
    )  # fmt: skip
    return _numbers.get()


# If OpenMP was loaded before this package, it has not seen the environment variable. A program may
# also have changed the variable since ``prepare`` set it.
threads(int(os.environ[_repairs.THREADS_VARIABLE]))

# Memory --------------------------------------------------------------------------------------

ALLOCATOR_VARIABLE = "D2L_DEEPRNN_ALLOCATOR"
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory, unless ``D2L_DEEPRNN_ALLOCATOR`` is ``default``.

    Every minibatch allocates and frees the same large buffers. glibc returns each to the kernel,
    which clears the pages again: thousands of page faults, up to a fifth of the time. No result
    depends on this setting. It holds for the whole process.

    Returns:
        Whether the setting was made; it is made on glibc only.

    Raises:
        ValueError: if ``D2L_DEEPRNN_ALLOCATOR`` is neither ``keep`` nor ``default``.
    """
    wanted = os.environ.get(ALLOCATOR_VARIABLE, "keep")
    if wanted not in ("keep", "default"):
        raise ValueError(f"{ALLOCATOR_VARIABLE} must be keep or default, not {wanted!r}")
    if wanted == "default" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # No mmap, because a mapped buffer is unmapped when it is freed; never trim the heap; and grow
    # it by 256 MiB at a time.
    settings = [(_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28)]
    return all([mallopt(name, value) == 1 for name, value in settings])


def at_least_float32(array: nd.NDArray) -> nd.NDArray:
    """Return an array in single precision if it is in half precision, else the array itself."""
    return array.astype(np.promote_types(array.dtype, "float32"), copy=False)


@contextlib.contextmanager
def in_memory(array: nd.NDArray) -> Iterator[np.ndarray]:
    """Give access to an array's numbers, as one row, to read and to change them.

    On the CPU, this is the array's own memory. All earlier operations on the array must already be
    queued in MXNet, and nothing else may touch it inside the ``with`` block.

    Args:
        array: of any numeric type, not sparse.
    """
    array.wait_to_read()
    if array.context.device_type == "cpu":
        pointer = ctypes.c_void_p()
        mx.base.check_call(_LIBRARY.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
        num_bytes = array.size * np.dtype(array.dtype).itemsize
        memory = (ctypes.c_ubyte * num_bytes).from_address(pointer.value or 0)
        yield np.ctypeslib.as_array(memory).view(array.dtype)
    else:
        numbers = array.asnumpy().reshape(-1)
        yield numbers
        array[:] = nd.array(numbers, ctx=array.context).reshape(array.shape)
