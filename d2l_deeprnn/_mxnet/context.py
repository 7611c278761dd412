"""Devices, random generators, and locks for threads that share them."""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from ..errors import D2LError
from . import mx, nd

MAX_SEED = 2**31 - 1  # MXNet takes a C int


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
        ValueError: if there is no such name, or MXNet cannot use that device.
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


def set_seed(seed: int) -> None:
    """Seed the three random generators that training draws from.

    Python's generator draws the start offset of each epoch, and MXNet's the initial parameters.
    Some of Gluon's initializers draw from NumPy's. MXNet has a generator for each thread: call this
    in the thread that draws the parameters.

    Args:
        seed: from 0 to 2**31 - 1.

    Raises:
        ValueError: if the seed is not such a number.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import nd
        >>> d2l.set_seed(0)
        >>> first = nd.random.normal(shape=(3,))
        >>> d2l.set_seed(0)
        >>> (nd.random.normal(shape=(3,)) == first).asnumpy().tolist()
        [1.0, 1.0, 1.0]
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be a whole number from 0 to {MAX_SEED}, not {seed!r}")
    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)


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

    Also usable as a decorator. The thread that holds them may enter again.

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


def random_state(python: Optional[Tuple[Any, ...]] = None) -> Dict[str, Any]:
    """Return the state of Python's and NumPy's random generators as JSON values.

    MXNet's cannot be read.

    Args:
        python: an earlier result of ``random.getstate``, to use in place of the present state.
    """
    version, internal, gauss = random.getstate() if python is None else python
    state = np.random.get_state(legacy=False)
    state["state"]["key"] = state["state"]["key"].tolist()
    return {"python": [version, list(internal), gauss], "numpy": state}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore a state that ``random_state`` returned.

    Raises:
        KeyError, TypeError, ValueError: if it is not such a state.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(state["numpy"])


# Held while operations on a model's parameters are queued. MXNet 1.9.1 can deadlock if two threads
# queue operations that share several arrays at the same time: a compiled graph reads all
# parameters, a fused layer those of all its gates, and one operation of an optimizer may update
# four. Only queueing is serialized, not computing.
queueing = threading.RLock()


def serialize_calls(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a model while no other thread calls or trains one."""

    def call(*args: Any) -> Any:
        with queueing:
            return model(*args)

    return call
