"""The only place of the package that imports MXNet."""

from __future__ import annotations

import ctypes
import warnings

from . import _copying, _repairs

_repairs.prepare()

with warnings.catch_warnings():
    # MXNet reaches for NumPy and distutils names that are on their way out.
    # They still work, and nobody will change MXNet any more.
    warnings.simplefilter("ignore", DeprecationWarning)
    import mxnet as mx
    from mxnet import autograd, gluon, init, nd

if not _repairs.USER_SET_THREADS:
    # Where MXNet was imported before us, the environment variable came too
    # late for OpenMP; this sets the same number in either case.
    mx.base._LIB.MXSetNumOMPThreads(ctypes.c_int(_repairs.available_cores()))

_copying.prepare(mx)

__all__ = ["autograd", "gluon", "init", "mx", "nd"]
