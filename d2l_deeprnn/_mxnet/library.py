"""The only place of the package that imports MXNet."""

from __future__ import annotations

import ctypes
import os
import queue
import warnings
from typing import Any

from . import copying as _copying
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

__all__ = ["autograd", "gluon", "init", "mx", "nd", "threads"]

_copying.prepare(mx)

# MXNet computes in a thread of its own, and OpenMP keeps a number of threads for each thread that
# calls it. So the number is set, and asked for, in that thread.
_LIBRARY = mx.base._LIB
_numbers: queue.SimpleQueue[int] = queue.SimpleQueue()


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_int)]


@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
def _set_and_ask(engine: Any, number: Any) -> None:
    if number:
        _LIBRARY.MXSetNumOMPThreads(number)
    _numbers.put(_LIBRARY.omp_get_max_threads())


def threads(number: int = 0) -> int:
    """The number of threads that MXNet computes with on the CPU, as OpenMP itself says.

    Args:
        number: If it is not 0, the number to use from now on.

    Returns:
        The number in use.
    """
    if not hasattr(_LIBRARY, "omp_get_max_threads"):  # a build without OpenMP
        return 1
    nothing = (None, 0)
    mx.base.check_call(
        _LIBRARY.MXEnginePushSync(
            _set_and_ask, ctypes.c_void_p(number), None, ctypes.byref(_Device(1, 0)),
            *nothing, *nothing, None, 0, b"threads",
        )
    )  # fmt: skip
    return _numbers.get()


# Where OpenMP was loaded before us, by MXNet or by another library, the environment variable came
# too late. A program may have changed it since it was put right, and that it meant.
threads(int(os.environ[_repairs.THREADS_VARIABLE]))
