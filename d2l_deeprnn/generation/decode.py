"""A model one character at a time, as decoding needs it."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from .._mxnet import autograd, gluon, mx, nd
from ..nn.model import known_layers

State = Any
Step = Callable[[nd.NDArray, State], Tuple[nd.NDArray, State]]

_CELLS: Dict[str, Callable[..., gluon.Block]] = {
    "lstm": gluon.rnn.LSTMCell,
    "gru": gluon.rnn.GRUCell,
    "rnn_tanh": lambda *args, **kwargs: gluon.rnn.RNNCell(*args, activation="tanh", **kwargs),
    "rnn_relu": lambda *args, **kwargs: gluon.rnn.RNNCell(*args, activation="relu", **kwargs),
}


def one_step(model: Any, batch_size: int, ctx: Optional[mx.Context]) -> Tuple[Step, State]:
    """What decoding calls for each character, and what it starts from.

    A fused layer joins its parameters to one array in each call. That is
    little beside a minibatch, and nearly all of the time of one character. So
    where the model is known (``known_layers``) its parameters are used by
    cells here, one a layer, which take them as they are: the scores are the
    same, to rounding. The model itself is not changed. Any other model is
    called as it is.

    Args:
        model: an ``RNNModel``, or what takes and returns the same.
        batch_size: number of texts.
        ctx: device of the model.

    Returns:
        ``step(indices, state) -> (scores, state)``, indices of shape
        (batch_size,), scores (batch_size, vocab_size); and the state before
        the first character.
    """
    # In training, dropout acts in some layers: which, the model itself knows.
    layers = [] if autograd.is_training() else known_layers(model, ctx)
    if layers and all(_can_be_cells(layer) for layer in layers):
        network = _OneStep(model, layers)
        network.hybridize(static_alloc=True)
        state = network.cells.begin_state(batch_size=batch_size, func=nd.zeros, ctx=ctx)
        return network, state

    def step(indices: nd.NDArray, state: State) -> Tuple[nd.NDArray, State]:
        scores, state = model(indices.reshape((-1, 1)), state)
        return scores, state

    return step, model.begin_state(batch_size=batch_size, ctx=ctx)


class _OneStep(gluon.HybridBlock):
    """The cells and the output layer of a model, sharing its parameters."""

    def __init__(self, model: Any, layers: List[gluon.Block]) -> None:
        super().__init__()
        self._vocab_size = model.vocab_size
        self.cells = gluon.rnn.HybridSequentialRNNCell()
        for layer in layers:
            for cell in _cells_of(layer):
                self.cells.add(cell)
        # Not the output layer itself: it would be compiled, and its own graph lost.
        self.params.update(model.dense.params)
        self.weight, self.bias = model.dense.weight, model.dense.bias

    def hybrid_forward(self, F: Any, indices: Any, state: Any, weight: Any, bias: Any) -> Any:
        output, state = self.cells(F.one_hot(indices, self._vocab_size), state)
        return F.FullyConnected(output, weight, bias, num_hidden=self._vocab_size), state


def _can_be_cells(layer: gluon.Block) -> bool:
    # Gluon has no cells for an LSTM with a clipped state.
    clipped = layer._lstm_state_clip_min is not None or layer._lstm_state_clip_max is not None
    return not clipped and all(
        param.name == layer.params.prefix + name for name, param in layer._reg_params.items()
    )


def _cells_of(layer: gluon.Block) -> Iterator[gluon.Block]:
    # Not by layer._unfuse(), whose cells have parameters of their own if the layer
    # has the prefix "" or an initialiser was changed.
    for level in range(layer._num_layers):
        params = gluon.ParameterDict(f"{layer.params.prefix}l{level}_")
        params.update(layer.params)
        initializers = {
            f"{name}_initializer": getattr(layer, f"l{level}_{name}").init
            for name in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
        }
        yield _CELLS[layer._mode](layer._hidden_size, params=params, **initializers)
