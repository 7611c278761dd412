"""Import MXNet, and provide what its Python interface does not offer.

Sections: copying, threads, memory, devices, random generators and locks, blocks and parameters.
No other module of the package imports MXNet.
"""

from __future__ import annotations

import contextlib
import copyreg
import ctypes
import functools
import os
import platform
import queue
import random
import re
import threading
import warnings
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from ..errors import D2LError
from . import diagnosis as _diagnosis
from . import repairs as _repairs

_repairs.prepare()
_problem = _diagnosis.processor_problem()
if _problem:  # a process that an illegal instruction ends prints nothing of its own
    warnings.warn(_problem, RuntimeWarning, stacklevel=2)

try:
    import mxnet as mx
    from mxnet import autograd, gluon, init, nd  # noqa: F401
except (ImportError, OSError) as error:
    raise _repairs.CannotImportMXNet(_diagnosis.explain(error)) from None

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
    priority = 1  # with 0, the function would wait for the end of a block of `mx.engine.bulk`
    mx.base.check_call(
        _LIBRARY.MXEnginePushSync(
            _set_and_read, ctypes.c_void_p(number), None, ctypes.byref(_Device(1, 0)),
            *nothing, *nothing, None, priority, b"threads",
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
    depends on this setting. It applies to the whole process.

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
        array: a dense array of any numeric type.
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


# Devices -------------------------------------------------------------------------------------


def try_gpu() -> mx.Context:
    """Return ``mx.gpu(0)`` if that device can be used, else ``mx.cpu()``.

    Source: ``d2l.try_gpu`` of the chapter.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> d2l.try_gpu() in d2l.try_all_gpus()
        True
    """
    ctx = mx.gpu()
    return ctx if _usable(ctx) else mx.cpu()


def try_all_gpus() -> List[mx.Context]:
    """Return all usable GPUs, or ``[mx.cpu()]`` if there is none.

    Source: ``d2l.try_all_gpus`` of the chapter.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> {device.device_type for device in d2l.try_all_gpus()} <= {"cpu", "gpu"}
        True
    """
    ctxes: List[mx.Context] = []
    while _usable(mx.gpu(len(ctxes))):
        ctxes.append(mx.gpu(len(ctxes)))
    return ctxes or [mx.cpu()]


def named_device(name: str) -> mx.Context:
    """Return the device with a name: ``cpu``, ``gpu`` (the first one) or ``gpu(1)``.

    Raises:
        ValueError: if the name is invalid, or MXNet cannot use that device.
    """
    match = re.fullmatch(r"(cpu)|gpu(?:\((\d{1,4})\))?", name)
    if match is None:
        raise ValueError(f"device must be cpu, gpu or one GPU such as gpu(1), not {name!r}")
    if match[1]:
        return mx.cpu()
    ctx = mx.gpu(int(match[2] or 0))
    if not _usable(ctx):
        usable = ", ".join(map(str, try_all_gpus()))
        raise ValueError(f"device {ctx} cannot be used by this MXNet; it can use {usable}")
    return ctx


def _usable(ctx: mx.Context) -> bool:
    # Not mx.context.num_gpus(), which also counts GPUs that this build of MXNet cannot use.
    try:
        nd.array([0], ctx=ctx)
    except mx.base.MXNetError:
        return False
    return True


def device_of(model: Any) -> mx.Context:
    """Return the device of a model's parameters, or the CPU if it has none."""
    for param in model.collect_params().values() if hasattr(model, "collect_params") else ():
        return param.list_ctx()[0]
    return mx.cpu()


def check_ctx(ctx: Any) -> None:
    """Raise a TypeError unless the argument is one device or None."""
    # Differs: the original failed where it first used the list.
    if isinstance(ctx, (list, tuple)):
        raise TypeError(
            f"ctx must be a single device, not the list {list(ctx)}: pass one of them, or "
            "d2l.try_gpu()"
        )
    if ctx is not None and not isinstance(ctx, mx.Context):
        raise TypeError(f"ctx must be a device such as mx.cpu() or d2l.try_gpu(), not {ctx!r}")


# Random generators and locks -----------------------------------------------------------------

MAX_SEED = 2**31 - 1  # MXNet takes a C int


def set_seed(seed: int) -> None:
    """Seed the three random generators that training draws from.

    Python's generator draws the start offset of each epoch, and MXNet's the initial parameters.
    Some of Gluon's initializers draw from NumPy's. MXNet has a generator for each thread: call this
    in the thread that draws the parameters.

    Args:
        seed: a whole number from 0 to 2**31 - 1.

    Raises:
        ValueError: if it is not.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import nd
        >>> d2l.set_seed(0)
        >>> first = nd.random.normal(shape=(3,))
        >>> d2l.set_seed(0)
        >>> (nd.random.normal(shape=(3,)) == first).asnumpy().tolist()
        [1.0, 1.0, 1.0]
    """
    is_whole = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
    if not is_whole or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be a whole number from 0 to {MAX_SEED}, not {seed!r}")
    for generator in (random, np.random, mx.random):
        generator.seed(int(seed))


_generators = threading.RLock()


def _renew_lock() -> None:
    # A forked child has none of the threads that may have held the lock.
    global _generators
    _generators = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


class GeneratorsInUse(D2LError, RuntimeError):
    """Another thread is training and draws from the random generators."""


@contextlib.contextmanager
def exclusive_generators() -> Iterator[None]:
    """Reserve the process's random generators for one training.

    Also usable as a decorator. The thread that has reserved them may enter again.

    Raises:
        GeneratorsInUse: if a training in another thread has reserved them.
    """
    lock = _generators
    if not lock.acquire(blocking=False):
        raise GeneratorsInUse(
            "another thread of this process is training: both would draw from the same random "
            "generators, so neither would be repeatable. Train one model after the other, or each "
            "in its own process"
        )
    try:
        yield
    finally:
        lock.release()


def random_state() -> Dict[str, Any]:
    """Return the state of Python's and NumPy's random generators as JSON values.

    MXNet's cannot be read.
    """
    state = np.random.get_state(legacy=False)
    state["state"]["key"] = state["state"]["key"].tolist()
    return {"python": list(random.getstate()), "numpy": state}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore a state that ``random_state`` returned.

    Raises:
        KeyError, TypeError, ValueError: if it is not such a state.
    """
    random.setstate(python_state(state["python"]))
    table = state["numpy"]["state"]
    # NumPy would read beyond its table.
    if len(table["key"]) != 624 or not 0 <= table["pos"] <= 624:
        raise ValueError("the state of NumPy's random generator is not valid")
    np.random.set_state(state["numpy"])


def python_state(stored: Sequence[Any]) -> Tuple[Any, ...]:
    """Return a state for ``random.setstate`` that was stored as JSON values.

    Raises:
        TypeError, ValueError: if it is not such a state.
    """
    version, internal, gauss = stored
    state = (version, tuple(internal), gauss)
    random.Random().setstate(state)  # checks it
    return state


class _Turns:
    """A lock that threads take in turn; its owner may take it again.

    A thread that has just released a plain lock may get it again before those that wait for it.
    """

    def __init__(self) -> None:
        self._next, self._lock = threading.Lock(), threading.RLock()

    def __enter__(self) -> None:
        if self._lock._is_owned():  # type: ignore[attr-defined]
            self._lock.acquire()
        else:
            with self._next:
                self._lock.acquire()

    def __exit__(self, *error: Any) -> None:
        self._lock.release()


# Held while operations on a model's parameters are queued. MXNet 1.9.1 can deadlock if two threads
# queue operations that share several arrays at the same time: a compiled graph reads all
# parameters, a fused layer those of all its gates, and one operation of an optimizer may update
# four. Only queueing is serialized, not computing.
queueing = _Turns()


# Blocks and parameters -----------------------------------------------------------------------

FUSED = (gluon.rnn.LSTM, gluon.rnn.GRU, gluon.rnn.RNN)


def blocks_in(model: Any) -> List[Any]:
    """Return a model and all blocks in it, each once."""
    blocks: Dict[int, Any] = {}
    pending = [model]
    while pending:
        block = pending.pop()
        if id(block) not in blocks:
            blocks[id(block)] = block
            pending.extend(getattr(block, "_children", {}).values())
    return list(blocks.values())


class Description(NamedTuple):
    """Properties of a recurrent layer; None if the layer does not declare one."""

    mode: Any  # lstm, gru, rnn_tanh or rnn_relu
    num_layers: Any
    num_hiddens: Any
    bidirectional: bool
    layout: str
    projected: bool
    clipped: bool


def describe(layer: Any) -> Description:
    """Describe one of Gluon's fused layers, or a layer that has the same attributes."""
    limits = (getattr(layer, f"_lstm_state_clip_{end}", None) for end in ("min", "max"))
    return Description(
        mode=getattr(layer, "_mode", None),
        num_layers=getattr(layer, "_num_layers", None),
        num_hiddens=getattr(layer, "_hidden_size", None),
        bidirectional=getattr(layer, "_dir", 1) == 2,
        layout=getattr(layer, "_layout", "TNC"),
        projected=bool(getattr(layer, "_projection_size", None)),
        clipped=any(limit is not None for limit in limits),
    )


def is_unmodified(block: Any) -> bool:
    """Return whether a block has no hooks, and no methods besides those of its class."""
    cls: Any = type(block)
    replaced = not _methods(cls).isdisjoint(vars(block))
    return not (replaced or block._forward_hooks or block._forward_pre_hooks)


@functools.lru_cache  # the fast path asks at every step
def _methods(cls: Any) -> FrozenSet[str]:
    """Return the names of a class's methods."""
    return frozenset(name for name in dir(cls) if callable(getattr(cls, name, None)))


def activations(cell: Any) -> List[Any]:
    """Return the activations of one of Gluon's cells: of its output, and of its gates."""
    names = ("_activation", "_recurrent_activation")
    return [getattr(cell, name) for name in names if hasattr(cell, name)]


def _names_in_fused_layer(layer: Any, prefix: str = "") -> Dict[str, gluon.Parameter]:
    """Name the parameters of a fused layer as MXNet does, which fails for more than ten layers.

    MXNet expects that the number of a layer has one digit.
    """
    names = gluon.Block._collect_params_with_prefix(layer, prefix)
    is_bidirectional = any(name.startswith("r") for name in layer._reg_params)

    def unfused(match: Any) -> str:
        direction, number = match.groups()
        cell = f"{direction}_cell." if is_bidirectional else ""
        return f"_unfused.{number}.{cell}"

    return {re.sub(r"\b([lr])(\d+)_(?=[^.]*$)", unfused, name): p for name, p in names.items()}


gluon.rnn.rnn_layer._RNNLayer._collect_params_with_prefix = _names_in_fused_layer


def named_parameters(model: gluon.Block) -> Dict[str, gluon.Parameter]:
    """Return all parameters of a model by names that are the same in every process.

    Gluon names the parameters that are attributes of a block. Those that a block made with
    ``params.get`` and keeps elsewhere, such as in a list, have the name that was asked for.
    """
    named: Dict[str, gluon.Parameter] = model._collect_params_with_prefix()
    known = {id(param) for param in named.values()}

    def add(block: gluon.Block, path: str) -> None:
        prefix = block.params.prefix
        for name, param in block.params.items():
            if id(param) not in known:
                known.add(id(param))
                key = path + (name[len(prefix) :] if name.startswith(prefix) else name)
                while key in named:  # an attribute of that name is another parameter
                    key += "_"
                named[key] = param
        for name, child in block._children.items():
            add(child, f"{path}{name}.")

    add(model, "")
    return named


def is_initialized(param: gluon.Parameter) -> bool:
    """Return whether a parameter has a value, or gets one as soon as its shape is known."""
    return param._data is not None or bool(param._deferred_init)


def has_sparse_gradient(param: gluon.Parameter) -> bool:
    """Return whether only some rows of a parameter's gradient are stored."""
    return param._grad_stype != "default"


def learn_shapes(model: Any, ctx: mx.Context) -> None:
    """Run a model once if Gluon has yet to infer the shape of a parameter, and so draw it."""
    # Other threads may use the model, too, and Gluon's scopes of names must not be mixed up.
    with queueing:
        if any(param._deferred_init for param in model.collect_params().values()):
            model(nd.zeros((1, 1), ctx=ctx), model.begin_state(batch_size=1, ctx=ctx))


def set_value(param: gluon.Parameter, value: nd.NDArray) -> None:
    """Set the value of a parameter, also if its shape was not yet known."""
    param.set_data(value.astype(param.dtype))
    param._finish_deferred_init()
