"""What goes further than one network: averaged weights, several networks, adapting to the text.

None of it looks ahead: a character is scored before anything has seen it.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from .._mxnet import gluon, nd
from .._mxnet.context import device_of
from ..text.minibatches import Minibatches
from ..training.optimization import ModelParameters
from ..training.state import as_numpy, parameters_of, set_parameters
from ..training.trainer import Callback, Trainer

NUM_STEPS = 256  # characters that are read at a time; they decide memory, not results
ADAPTING_STEPS = 20  # characters between two updates


def log_probabilities(model: Any, indices: np.ndarray) -> np.ndarray:
    """What a model says of each character of a text but the first, all of them read in one go.

    Args:
        model: an ``RNNModel``, or what takes and returns the same.
        indices: token indices of the text, in order.

    Returns:
        (number of characters - 1, vocab_size).
    """
    ctx = device_of(model)
    state = model.begin_state(batch_size=1, ctx=ctx)
    found = []
    for start in range(0, len(indices) - 1, NUM_STEPS):
        part = indices[start : min(start + NUM_STEPS, len(indices) - 1)]
        scores, state = model(nd.array(part[None], ctx=ctx), state)
        found.append(nd.log_softmax(scores).asnumpy())
    return np.concatenate(found)


def together(said: Sequence[np.ndarray], indices: np.ndarray) -> float:
    """The loss of several networks, in nats a character, whose probabilities are averaged.

    Args:
        said: what ``log_probabilities`` gave for each.
        indices: of the text.
    """
    right = [log_p[np.arange(len(log_p)), indices[1:]].astype(np.float64) for log_p in said]
    return float(-np.mean(np.logaddexp.reduce(right, axis=0) - np.log(len(right))))


def adapting(model: gluon.Block, indices: np.ndarray, lr: float) -> float:
    """The loss of a network, in nats a character, that learns from the text while it reads it.

    After each 20 characters, scored already, it takes a step of gradient descent. Its parameters
    are afterwards what they were.

    Args:
        model: whose dropout is 0.
        indices: token indices of the text, in order.
        lr: learning rate of the steps.

    Source: Krause, Kahembwe, Murray and Renals, Dynamic Evaluation of Neural Sequence Models, 2018;
        here with plain gradient descent.
    """
    ctx = device_of(model)
    before = as_numpy(parameters_of(model))
    optimizer = gluon.Trainer(
        model.collect_params(), "sgd", {"learning_rate": lr, "wd": 0}, kvstore=None
    )
    starts = range(0, len(indices) - 1, ADAPTING_STEPS)

    def chunk(number: int) -> Tuple[nd.NDArray, nd.NDArray]:
        start = starts[number]
        end = min(start + ADAPTING_STEPS, len(indices) - 1)
        X, Y = indices[None, start:end], indices[None, start + 1 : end + 1]
        return nd.array(X, ctx=ctx), nd.array(Y, ctx=ctx)

    losses = _Losses()
    trainer = Trainer(
        ModelParameters(model, ctx, optimizer),
        lambda: Minibatches(len(starts), chunk),
        lambda: model.begin_state(batch_size=1, ctx=ctx),
        clipping_theta=1.0,
        callbacks=[losses],
    )
    trainer.train_epoch()
    set_parameters(model, before, ctx)
    widths = np.minimum(ADAPTING_STEPS, len(indices) - 1 - np.array(starts))
    return float(np.average(losses.values, weights=widths))


class _Losses(Callback):
    """The losses of the minibatches."""

    def __init__(self) -> None:
        self.values: List[float] = []

    def on_loss(self, trainer: Trainer, loss: float) -> None:
        self.values.append(loss)


class Average:
    """The mean of a model's parameters at several moments.

    Args:
        sums: of parameters, by name, to go on from; empty at first.
        count: how many are in the sums.
    """

    def __init__(self, sums: Mapping[str, np.ndarray], count: int) -> None:
        self.sums, self.count = dict(sums), count

    def add(self, parameters: Mapping[str, np.ndarray]) -> None:
        """Take the parameters of another moment in."""
        for name, array in parameters.items():
            self.sums[name] = array.astype(np.float64) + self.sums.get(name, 0.0)
        self.count += 1

    def mean(self) -> Dict[str, np.ndarray]:
        """The means, in float32, by name."""
        return {n: (array / self.count).astype(np.float32) for n, array in self.sums.items()}
