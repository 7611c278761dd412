"""What training goes on from, part by part, and how a checkpoint holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from .._checks import expected_arrays
from .._mxnet import gluon, mx, nd
from .._mxnet.blocks import named_parameters
from ..nn.fast import flatten_parameters


class TrainRecord(NamedTuple):
    """What one epoch of training gave.

    Attributes:
        epoch: from 1 on.
        train_loss: mean over the epoch's minibatches, each before its update,
            in nats a character, with dropout acting.
        valid_loss: of the validation part after the epoch; None without one.
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
        """The validation loss, or without one the training loss; it is to become small."""
        return self.train_loss if self.valid_loss is None else self.valid_loss


@dataclass
class TrainingState:
    """Everything that a training goes on from, between two minibatches.

    Attributes:
        parameters: the model's, by name.
        optimizer_arrays: what the optimizer keeps for each parameter.
        optimizer_numbers: its counters and other numbers.
        hidden_state: after the last minibatch; empty at the beginning of an epoch.
        history: a record for each finished epoch.
        position: minibatches of the running epoch that are done.
        losses: of these.
        seconds: of work so far.
        random: state of the random generators at the beginning of the running epoch, from which
            its minibatches are drawn.
    """

    parameters: Dict[str, np.ndarray]
    optimizer_arrays: Dict[str, np.ndarray]
    optimizer_numbers: Dict[str, Any]
    hidden_state: List[np.ndarray]
    history: List[TrainRecord]
    position: int
    losses: List[float]
    seconds: float
    random: Dict[str, Any]

    def to_checkpoint(self) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """The arrays and the JSON values of a checkpoint."""
        arrays = {
            **parameter_arrays(self.parameters),
            **_with_prefix("optimizer", self.optimizer_arrays),
            **_with_prefix("state", {str(i): s for i, s in enumerate(self.hidden_state)}),
        }
        data = {
            "optimizer": self.optimizer_numbers,
            "history": [list(record) for record in self.history],
            "position": self.position,
            "losses": self.losses,
            "seconds": self.seconds,
            "random": self.random,
        }
        return arrays, data

    @classmethod
    def from_checkpoint(
        cls, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]
    ) -> TrainingState:
        """What ``to_checkpoint`` gave, read again.

        Raises:
            KeyError, TypeError, ValueError: If a part is missing, or is something else.
        """
        hidden = _without_prefix("state", arrays)
        return cls(
            parameters=parameters_in(arrays),
            optimizer_arrays=_without_prefix("optimizer", arrays),
            optimizer_numbers=data["optimizer"],
            hidden_state=[hidden[str(i)] for i in range(len(hidden))],
            history=history_in(data),
            position=int(data["position"]),
            losses=[float(loss) for loss in data["losses"]],
            seconds=float(data["seconds"]),
            random=data["random"],
        )


def history_in(data: Mapping[str, Any]) -> List[TrainRecord]:
    """Return the history in a checkpoint's JSON values.

    Raises:
        KeyError, TypeError, ValueError: If it is missing, or is something else.
    """
    history = []
    for number, (epoch, train, valid, lr, seconds) in enumerate(data["history"], 1):
        if epoch != number:
            raise ValueError(f"its epoch {number} is called {epoch!r}")
        valid = None if valid is None else float(valid)
        history.append(TrainRecord(number, float(train), valid, float(lr), float(seconds)))
    return history


def parameter_arrays(parameters: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Parameters by name as a checkpoint's arrays; ``parameters_in`` reads them again."""
    return _with_prefix("params", parameters)


def parameters_in(arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The parameters in a checkpoint's arrays, by name."""
    return _without_prefix("params", arrays)


def parameters_of(model: gluon.Block) -> Dict[str, nd.NDArray]:
    """The parameters of a model, by the names that a checkpoint gives them."""
    return {name: p.data() for name, p in named_parameters(model).items()}


def set_parameters(model: gluon.Block, values: Mapping[str, np.ndarray], ctx: mx.Context) -> None:
    """Give a model parameters that ``parameters_of`` named.

    Raises:
        ValueError: if one is missing, unexpected, or has another shape.
    """
    params, values = named_parameters(model), check_parameters(model, values)
    model.initialize(ctx=ctx, force_reinit=True)
    for name, param in params.items():
        param.set_data(nd.array(values[name], dtype=param.dtype))
    flatten_parameters(model)


def check_parameters(model: gluon.Block, values: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Return the values in the model's order, if they have the names and shapes that it needs.

    Raises:
        ValueError: as ``set_parameters``, before anything of the model's size is allocated.
    """
    shapes = {name: param.shape for name, param in named_parameters(model).items()}
    return expected_arrays("params/", values, shapes)


def as_numpy(arrays: Mapping[str, nd.NDArray]) -> Dict[str, np.ndarray]:
    """Copies of arrays that are on the device."""
    return {name: array.asnumpy() for name, array in arrays.items()}


def _with_prefix(group: str, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    return {f"{group}/{name}": array for name, array in arrays.items()}


def _without_prefix(group: str, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    return {
        name[len(group) + 1 :]: array
        for name, array in arrays.items()
        if name.startswith(f"{group}/")
    }
