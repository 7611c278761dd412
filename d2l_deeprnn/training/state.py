"""The state of training: history, parameters and hidden state."""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from .._checks import expected_arrays
from .._mxnet import gluon, mx, nd
from .._mxnet.blocks import named_parameters
from ..nn.fast import flatten_parameters


class TrainRecord(NamedTuple):
    """The results of one epoch of training.

    Attributes:
        epoch: from 1 on.
        train_loss: mean over the epoch's minibatches, in nats per character, each computed before
            its update and with dropout.
        valid_loss: on the validation part after the epoch, or None if there is none.
        learning_rate: of the epoch's last minibatch.
        seconds: of work, from the start of training to the end of the epoch.
    """

    epoch: int
    train_loss: float
    valid_loss: Optional[float]
    learning_rate: float
    seconds: float

    @property
    def loss(self) -> float:
        """The validation loss, or the training loss if there is none. Lower is better."""
        return self.train_loss if self.valid_loss is None else self.valid_loss


def history_in(data: Mapping[str, Any]) -> List[TrainRecord]:
    """Return the history in a checkpoint's JSON values.

    Raises:
        KeyError, TypeError, ValueError: If it is missing or malformed.
    """
    history = []
    for number, (epoch, train, valid, lr, seconds) in enumerate(data["history"], 1):
        if epoch != number:
            raise ValueError(f"its record of epoch {number} has the number {epoch!r}")
        valid = None if valid is None else float(valid)
        history.append(TrainRecord(number, float(train), valid, float(lr), float(seconds)))
    return history


def with_prefix(group: str, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Return arrays by their names in a checkpoint, ``group/name``."""
    return {f"{group}/{name}": array for name, array in arrays.items()}


def without_prefix(group: str, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Return the arrays of a checkpoint's group by their names without the group."""
    prefix = f"{group}/"
    return {n[len(prefix) :]: array for n, array in arrays.items() if n.startswith(prefix)}


def parameters_of(model: gluon.Block) -> Dict[str, nd.NDArray]:
    """Return the parameters of a model by their names in a checkpoint."""
    return {name: param.data() for name, param in named_parameters(model).items()}


def set_parameters(model: gluon.Block, values: Mapping[str, np.ndarray], ctx: mx.Context) -> None:
    """Set the parameters of a model, with names as in ``parameters_of``.

    Raises:
        ValueError: if one is missing, unexpected, or has the wrong shape.
    """
    params, values = named_parameters(model), check_parameters(model, values)
    model.initialize(ctx=ctx, force_reinit=True)
    for name, param in params.items():
        param.set_data(nd.array(values[name], dtype=param.dtype))
    flatten_parameters(model)


def check_parameters(model: gluon.Block, values: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Return the values in the order of the model's parameters, after checking them.

    Raises:
        ValueError: as ``set_parameters``, but before anything of the model's size is allocated.
    """
    shapes = {name: param.shape for name, param in named_parameters(model).items()}
    return expected_arrays("params/", values, shapes)


def as_numpy(arrays: Mapping[str, nd.NDArray]) -> Dict[str, np.ndarray]:
    """Copy arrays from the device."""
    return {name: array.asnumpy() for name, array in arrays.items()}


def detach(state: Any) -> Any:
    """Detach every array of a possibly nested hidden state from the previous minibatch's graph."""
    # Differs: the original called detach and ignored its result.
    return map_leaves(lambda leaf: leaf.detach() if isinstance(leaf, nd.NDArray) else leaf, state)


def map_leaves(function: Callable[[Any], Any], state: Any) -> Any:
    """Apply a function to each leaf of a possibly nested hidden state; return the same structure.

    Args:
        function: takes a leaf, which is anything except a list, tuple or dictionary.
        state: hidden state.
    """
    if isinstance(state, tuple) and hasattr(state, "_make"):  # a named tuple
        return state._make(map_leaves(function, part) for part in state)
    if isinstance(state, (list, tuple)):
        return type(state)(map_leaves(function, part) for part in state)
    if isinstance(state, dict):
        mapped = copy.copy(state)
        # A model may return the parts in another order than begin_state.
        for key in sorted(state, key=repr):
            mapped[key] = map_leaves(function, state[key])
        return mapped
    return function(state)


def arrays_in(state: Any) -> List[nd.NDArray]:
    """Return the arrays of a possibly nested hidden state, in order.

    Raises:
        TypeError: if a leaf is neither an array nor None.
    """
    arrays = []

    def collect(leaf: Any) -> None:
        if isinstance(leaf, nd.NDArray):
            arrays.append(leaf)
        elif leaf is not None:
            raise TypeError(
                f"the hidden state contains a {type(leaf).__name__}, which cannot be saved: "
                "begin_state must return arrays, in lists, tuples or dicts"
            )

    map_leaves(collect, state)
    return arrays
