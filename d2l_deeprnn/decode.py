"""A model one character at a time, as decoding needs it."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Tuple

from ._mxnet import gluon, mx, nd
from .model import RNNModel
from .stacked import StackedRNN

State = List[nd.NDArray]
Step = Callable[[nd.NDArray, State], Tuple[nd.NDArray, State]]


def one_step(model: Any, batch_size: int, ctx: Optional[mx.Context]) -> Tuple[Step, State]:
    """What decoding calls for each character, and what it starts from.

    A fused layer joins its parameters to one array in each call. That is
    little beside a minibatch, and nearly all of the time of one character. So
    they are used by cells here, one a layer, which take them as they are: the
    scores are the same, to rounding. The model itself is not changed. One
    that has no fused layer is called as it is.

    Args:
        model: an ``RNNModel``, or what takes and returns the same.
        batch_size: number of texts.
        ctx: device of the model.

    Returns:
        ``step(indices, state) -> (scores, state)``, indices of shape
        (batch_size,), scores (batch_size, vocab_size); and the state before
        the first character.
    """
    if isinstance(model, RNNModel) and _can_be_cells(model.rnn):
        network = _OneStep(model)
        network.hybridize(static_alloc=True)
        state = network.cells.begin_state(batch_size=batch_size, func=nd.zeros, ctx=ctx)
        return network, state

    def step(indices: nd.NDArray, state: State) -> Tuple[nd.NDArray, State]:
        scores, state = model(indices.reshape((-1, 1)), state)
        return scores, state

    return step, model.begin_state(batch_size=batch_size, ctx=ctx)


class _OneStep(gluon.HybridBlock):
    """The cells and the output layer of a model, sharing its parameters."""

    def __init__(self, model: RNNModel) -> None:
        super().__init__()
        self._vocab_size = model.vocab_size
        rnn = model.rnn
        layers = rnn.levels if isinstance(rnn, StackedRNN) else [rnn]
        self.cells = gluon.rnn.HybridSequentialRNNCell()
        for layer in layers:
            self.cells.add(layer._unfuse())
        # A block of its own: to compile the model's would undo what was compiled there.
        self.dense = gluon.nn.Dense(
            model.vocab_size, in_units=rnn._hidden_size, params=model.dense.params
        )

    def hybrid_forward(self, F: Any, indices: Any, state: Any) -> Any:
        output, state = self.cells(F.one_hot(indices, self._vocab_size), state)
        return self.dense(output), state


def _can_be_cells(layer: gluon.Block) -> bool:
    if isinstance(layer, StackedRNN):
        return True
    # Gluon has no cells for an LSTM with projection or a clipped state.
    return isinstance(layer, gluon.rnn.rnn_layer._RNNLayer) and not (
        layer._projection_size or layer._lstm_state_clip_min or layer._lstm_state_clip_max
    )
