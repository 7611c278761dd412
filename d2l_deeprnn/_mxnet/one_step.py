"""A model one time step at a time, as decoding needs it.

To join a fused layer's parameters, and to call MXNet's operators one by one, is little beside
a minibatch, and nearly all of the time of one character. Here the layers compute with Gluon's
cells, which take the parameters as they are, and all that a block says is an expression of
operators is compiled as one graph. The model is called as ever, whatever kind it is.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, List

from . import autograd, gluon, mx, nd
from .blocks import blocks_in, describe
from .fused import OWN_KERNEL, fused_layers, replacing


# Decoding calls with the same shapes again and again.
_COMPILED = {"static_alloc": True, "static_shape": True}


def expression(*parts: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say of a method ``hybrid_forward(self, F, inputs, states)`` that it can be compiled.

    It does nothing but call operators of ``F`` and blocks, and computes the same each time.
    Its class need not be a ``HybridBlock``, which takes no parts of another kind.

    Args:
        parts: names of the attributes that hold the blocks.
    """

    def mark(method: Callable[..., Any]) -> Callable[..., Any]:
        method.parts = parts  # type: ignore[attr-defined]
        return method

    return mark


def one_step_at_a_time(model: Callable[..., Any]) -> Callable[..., Any]:
    """What calls a model, and computes single time steps in less time.

    What cells cannot compute is left to the fused layer itself: several time steps, dropout,
    two directions, and an LSTM whose state is clipped or projected. Only what is known to be
    an expression is compiled: a block of Gluon, or a method that says so, in a block that
    nobody listens to.

    Args:
        model: of any kind.

    Returns:
        A function that takes and returns what the model does.
    """
    cells = [(layer, _cells(layer)) for layer in fused_layers(model) if _cells_can(layer)]
    methods = [(layer, "_forward_kernel", _kernel(layer, of_layer)) for layer, of_layer in cells]
    while_compiling = [(layer, "_forward_kernel", _symbols(of_layer)) for layer, of_layer in cells]
    for block in blocks_in(model):
        if not isinstance(block, gluon.HybridBlock) and _says_so(block) and _have_names(block):
            graph = _Graph(block, while_compiling)
            methods.append((block, "hybrid_forward", graph.instead))

    def call(*args: Any) -> Any:
        with replacing(methods):
            return model(*args)

    return call


# Cells.

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
    cells.hybridize(**_COMPILED)
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


# Graphs.


def _symbols(cells: _Cells) -> Callable[..., Any]:
    """The layer's kernel while a graph for single time steps is made."""

    def kernel(F: Any, inputs: Any, states: Any, sequence_length: Any, **params: Any) -> Any:
        return cells.hybrid_forward(F, inputs, states, _levels(params))

    return kernel


# What computes the same in each call, if its parts do.
_EXPRESSIONS = {
    *(gluon.rnn.LSTM, gluon.rnn.GRU, gluon.rnn.RNN),
    *(gluon.nn.Dense, gluon.nn.Activation, gluon.nn.Dropout, gluon.nn.HybridSequential),
}


def _is_expression(block: Any) -> bool:
    """Whether calling a block is nothing but an expression of operators."""
    own = type(block)
    if (
        not isinstance(block, gluon.HybridBlock)
        or (block._forward_hooks or block._forward_pre_hooks)
        or vars(block).keys() & {"forward", "hybrid_forward"}
    ):
        return False
    if own in _EXPRESSIONS:
        return all(map(_is_expression, block._children.values()))
    of_hybrid_blocks = gluon.HybridBlock.__call__, gluon.HybridBlock.forward
    return (own.__call__, own.forward) == of_hybrid_blocks and _says_so(block)


def _says_so(block: Any) -> bool:
    """Whether a block's ``hybrid_forward`` is marked as an expression, and its parts are some."""
    parts = getattr(getattr(type(block), "hybrid_forward", None), "parts", None)
    if parts is None or "hybrid_forward" in vars(block):
        return False
    return all(_is_expression(getattr(block, name)) for name in parts)


class _Graph(gluon.HybridBlock):
    """A block's ``hybrid_forward``, compiled for single time steps.

    Args:
        block: one whose ``hybrid_forward`` is marked.
        kernels: with which its fused layers are compiled.
    """

    def __init__(self, block: gluon.Block, kernels: List[Any]) -> None:
        super().__init__()
        method = type(block).hybrid_forward
        for name in method.parts:
            self.register_child(getattr(block, name), name)

        def evaluate(F: Any, inputs: Any, states: Any) -> Any:
            with replacing(kernels):
                return method(block, F, inputs, states)

        def instead(F: Any, inputs: Any, states: Any) -> Any:
            """What the block's own method computes; inputs (batch_size, num_steps)."""
            if (
                F is nd
                and inputs.shape[1:] == (1,)
                and not (autograd.is_recording() or autograd.is_training())
                and all(getattr(block, name) is part for name, part in self._children.items())
            ):
                # What a graph cannot do the block can, or it says what is wrong.
                with contextlib.suppress(mx.MXNetError):
                    return self(inputs, states)
            return method(block, F, inputs, states)

        self._evaluate, self.instead = evaluate, instead
        # As hybridize() sets them, which would set them for the parts too.
        self._active, self._flags = True, list(_COMPILED.items())

    def hybrid_forward(self, F: Any, inputs: Any, states: Any) -> Any:
        return self._evaluate(F, inputs, states)


def _have_names(block: gluon.Block) -> bool:
    """Whether no two parameters in a block have the same name: a graph knows them by it."""
    params = {id(p): p.name for b in blocks_in(block) for p in b._reg_params.values()}
    return len(set(params.values())) == len(params)
