"""A model one time step at a time, as decoding needs it.

To join a fused layer's parameters is little beside a minibatch, and most of the time of one
character. Here the layers compute with Gluon's cells, which take the parameters as they are.
The model is called as ever, whatever kind it is.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List

from . import autograd, gluon, nd
from .blocks import blocks_in, describe
from .fused import OWN_KERNEL, fused_layers
from .graphs import COMPILED, Graph, can_be_compiled, replacing


def one_step_at_a_time(model: Callable[..., Any]) -> Callable[..., Any]:
    """What calls a model, and computes single time steps in less time.

    What cells cannot compute is left to the fused layer itself: several time steps, dropout,
    two directions, and an LSTM whose state is clipped or projected.

    Args:
        model: of any kind.

    Returns:
        A function that takes and returns what the model does.
    """
    cells = [(layer, _cells(layer)) for layer in fused_layers(model) if _cells_can(layer)]
    methods = [(layer, "_forward_kernel", _kernel(layer, of_layer)) for layer, of_layer in cells]
    compiled = [(layer, "_forward_kernel", _symbols(of_layer)) for layer, of_layer in cells]
    for block in blocks_in(model):
        if can_be_compiled(block):
            graph = Graph(block, lambda _: compiled, _is_one_step, flags=COMPILED)
            methods.append((block, "hybrid_forward", graph.instead))

    def call(*args: Any) -> Any:
        with replacing(methods):
            return model(*args)

    return call


def _is_one_step(inputs: nd.NDArray) -> bool:
    """Whether inputs (batch_size, num_steps) are to be decoded."""
    in_training = autograd.is_recording() or autograd.is_training()
    return inputs.shape[1:] == (1,) and not in_training


_EQUATIONS: Dict[str, Callable[[int], gluon.Block]] = {
    "lstm": gluon.rnn.LSTMCell,
    "gru": gluon.rnn.GRUCell,
    "rnn_tanh": lambda size: gluon.rnn.RNNCell(size, activation="tanh"),
    "rnn_relu": lambda size: gluon.rnn.RNNCell(size, activation="relu"),
}


def _cells_can(layer: gluon.Block) -> bool:
    described = describe(layer)
    beyond = described.bidirectional or described.projected or described.clipped
    return not beyond and not layer._use_sequence_length


class _Cells(gluon.HybridBlock):
    """One time step of cells on top of each other, with the parameters that it is given."""

    def __init__(self, mode: str, hidden_size: int, time: int) -> None:
        super().__init__()
        self.time = time  # axis of the time steps, of which there is one
        # A cell by itself would have parameters of its own.
        self._equations = _EQUATIONS[mode](hidden_size).hybrid_forward

    def hybrid_forward(self, F: Any, inputs: Any, states: List[Any], levels: List[Any]) -> Any:
        outputs, new_states = F.squeeze(inputs, axis=self.time), []
        # for each kind of state: (num_layers, batch_size, hidden_size) -> num_layers arrays
        kinds = [F.split(s, num_outputs=len(levels), axis=0, squeeze_axis=True) for s in states]
        kinds = [[kind] if len(levels) == 1 else list(kind) for kind in kinds]
        for arrays, *of_level in zip(levels, *kinds):
            outputs, of_level = self._equations(F, outputs, of_level, *arrays)
            new_states.append(of_level)
        # and back
        outputs = F.expand_dims(outputs, axis=self.time)
        return outputs, [F.stack(*kind, axis=0) for kind in zip(*new_states)]


def _cells(layer: gluon.Block) -> _Cells:
    cells = _Cells(layer._mode, layer._hidden_size, layer._layout.find("T"))
    cells.hybridize(**COMPILED)
    return cells


def _levels(params: Dict[str, Any]) -> List[List[Any]]:
    """A layer's parameters, level by level, in the order in which the equations take them."""
    names = ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
    num_layers = len(params) // len(names)
    return [[params[f"l{i}_{name}"] for name in names] for i in range(num_layers)]


def _kernel(layer: gluon.Block, cells: _Cells) -> Callable[..., Any]:
    """What the layer's ``_forward_kernel`` computes, by cells if it is one step."""

    def kernel(F: Any, inputs: Any, states: Any, sequence_length: Any, **params: Any) -> Any:
        one_step = F is nd and inputs.shape[cells.time] == 1 and not autograd.is_recording()
        if not one_step or (layer._dropout and autograd.is_training()):
            return OWN_KERNEL(layer, F, inputs, states, sequence_length, **params)
        return cells(inputs, states, _levels(params))

    return kernel


def _symbols(cells: _Cells) -> Callable[..., Any]:
    """The layer's kernel while a graph for single time steps is made."""

    def kernel(F: Any, inputs: Any, states: Any, sequence_length: Any, **params: Any) -> Any:
        return cells.hybrid_forward(F, inputs, states, _levels(params))

    return kernel
