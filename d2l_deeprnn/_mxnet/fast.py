"""Parts of the fast path: parameters in one vector, single time steps by cells, compiled graphs.

A fused layer (``rnn.LSTM``, ``rnn.GRU``, ``rnn.RNN``) has an array for each weight and bias, but
its kernel takes one vector of all of them. Gluon concatenates the arrays in every call and splits
the vector's gradient in every backward pass. That takes a good part of a minibatch's time, and most
of a decoded character's. ``nn.fast`` decides which models use these parts.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np

from . import autograd, gluon, mx, nd
from .blocks import blocks_in, describe

FUSED = (gluon.rnn.LSTM, gluon.rnn.GRU, gluon.rnn.RNN)
_METHODS = ("__call__", "forward", "hybrid_forward", "_forward_kernel", "_drop")
_PLAIN = (bool, int, float, str, tuple, type(None))


def snapshot(params: Sequence[gluon.Parameter]) -> List[gluon.Parameter]:
    """Copies of parameters under the same names, with arrays of their own and no gradients."""
    copies = []
    for param in params:
        copied = gluon.Parameter(param.name, grad_req="null", shape=param.shape)
        copied._load_init(param.data(), param.list_ctx())
        copies.append(copied)
    return copies


def methods_of(classes: Sequence[type]) -> List[Any]:
    """Return the forward methods of classes, to find out whether one has been replaced."""
    return [getattr(cls, name, None) for cls in classes for name in _METHODS]


def structure(model: gluon.Block) -> List[Tuple[gluon.Block, List[Any]]]:
    """The blocks of a model with their settings, such as a rate of dropout, to notice changes."""
    return [
        (block, [value for value in vars(block).values() if isinstance(value, _PLAIN)])
        for block in blocks_in(model)
    ]


def is_basic(layer: gluon.Block) -> bool:
    """Return whether a layer is one of Gluon's fused layers, without projection or the like."""
    if type(layer) not in FUSED:
        return False
    described = describe(layer)
    rare = described.bidirectional or described.projected or described.clipped
    return not rare and described.layout == "TNC" and not layer._use_sequence_length


def layer_parameters(layer: gluon.Block) -> List[gluon.Parameter]:
    """The parameters of a fused layer in the order of its kernel's vector."""
    return [
        getattr(layer, f"l{level}_{source}_{kind}")
        for kind in ("weight", "bias")
        for level in range(layer._num_layers)
        for source in ("i2h", "h2h")
    ]


def are_float32(params: Sequence[gluon.Parameter]) -> bool:
    """Return whether all parameters have Gluon's own class and the usual type of number."""
    return all(
        type(param) is gluon.Parameter and np.dtype(param.dtype) == np.float32 for param in params
    )


def are_alike(params: Sequence[gluon.Parameter]) -> bool:
    """Return whether parameters are distinct, dense float32 arrays that are on one device."""
    ids, names = {id(param) for param in params}, {param.name for param in params}
    if not len(ids) == len(names) == len(params) or any(param._data is None for param in params):
        return False
    devices = {array.context for param in params for array in param._data}
    return (
        are_float32(params)
        and all(param._stype == param._grad_stype == "default" for param in params)
        and sum(len(param._data) for param in params) == len(params)
        and len(devices) == 1
    )


class FlatParameters:
    """Parameters whose arrays are views of one vector, and their gradients views of another.

    The parameters get new arrays, which views of the old ones do not follow. Use it only right
    after drawing or loading them, which makes new arrays too.

    Args:
        params: in the order of the vector; ``are_alike``, each with a gradient of its own.

    Attributes:
        vector: all parameters, shape (number of values,).
        gradient: their gradients, of the same shape.
    """

    def __init__(self, params: Sequence[gluon.Parameter]) -> None:
        self._ends = np.cumsum([param.data().size for param in params]).tolist()
        self._arrays = []
        with autograd.pause():
            self.vector = nd.concat(*[param.data().reshape((-1,)) for param in params], dim=0)
            self.gradient = nd.zeros_like(self.vector)
            for param, begin, end in zip(params, [0, *self._ends], self._ends):
                data, gradient = self._view(begin, end, param.shape)
                param._data, param._grad = [data], [gradient]
                self._arrays.append((data, gradient))

    def _view(self, begin: int, end: int, shape: Tuple[int, ...]) -> Tuple[nd.NDArray, nd.NDArray]:
        data = self.vector[begin:end].reshape(shape)
        gradient = self.gradient[begin:end].reshape(shape)
        autograd.mark_variables([data], [gradient])
        return data, gradient

    def part(self, first: int, number: int) -> nd.NDArray:
        """The values of some consecutive parameters as a vector that gradients flow back to."""
        begin, end = [0, *self._ends][first], self._ends[first + number - 1]
        return self._view(begin, end, (end - begin,))[0]

    def hold(self, params: Sequence[gluon.Parameter]) -> bool:
        """Return whether the arrays of these parameters still are the views, in this order."""
        # Changing grad_req, the dtype or the device, or drawing anew, gives a parameter new arrays.
        return len(params) == len(self._arrays) and all(
            param._data is not None
            and param._grad is not None
            and param._data[0] is data
            and param._grad[0] is gradient
            for param, (data, gradient) in zip(params, self._arrays)
        )

    def subtract_gradient(self, factor: nd.NDArray, lr: float) -> None:
        """Take a step of plain SGD with the gradient times ``factor``, of shape (1,)."""
        # As a matrix product of shapes (1, 1) and (1, n), this is one pass over the memory.
        row, gradient = self.vector.reshape((1, -1)), self.gradient.reshape((1, -1))
        nd.linalg.gemm(factor.reshape((1, 1)), gradient, row, alpha=-lr, beta=1, out=row)
        self.mark_fresh(False)

    def mark_fresh(self, fresh: bool) -> None:
        """Tell Gluon whether the gradients are newer than the last update.

        ``gluon.Trainer.step`` refuses gradients that are not.
        """
        for data, _ in self._arrays:
            data._fresh_grad = fresh


class LayerOnVector:
    """A fused layer, as a symbol, that reads its parameters from a vector."""

    def __init__(self, layer: gluon.Block, vector: Any) -> None:
        self._vector = vector
        self._options = {
            "state_size": layer._hidden_size,
            "num_layers": layer._num_layers,
            "mode": layer._mode,
            "p": layer._dropout,
            "state_outputs": True,
        }

    def __call__(self, inputs: Any, states: List[Any]) -> Tuple[Any, List[Any]]:
        outputs, *new_states = mx.sym.RNN(inputs, self._vector, *states, **self._options)
        return outputs, new_states


_CELLS: Dict[str, Callable[[int], gluon.Block]] = {
    "lstm": lambda size: gluon.rnn.LSTMCell(size, prefix=""),
    "gru": lambda size: gluon.rnn.GRUCell(size, prefix=""),
    "rnn_tanh": lambda size: gluon.rnn.RNNCell(size, activation="tanh", prefix=""),
    "rnn_relu": lambda size: gluon.rnn.RNNCell(size, activation="relu", prefix=""),
}


class LayerOfCells:
    """A fused layer, as a symbol, computed by Gluon's cells for a single time step."""

    def __init__(self, layer: gluon.Block) -> None:
        self._step = _CELLS[layer._mode](layer._hidden_size).hybrid_forward
        self._levels = [
            [
                getattr(layer, f"l{level}_{name}").var()
                for name in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
            ]
            for level in range(layer._num_layers)
        ]

    def __call__(self, inputs: Any, states: List[Any]) -> Tuple[Any, List[Any]]:
        F, num_levels = mx.sym, len(self._levels)
        outputs, new_states = F.squeeze(inputs, axis=0), []  # (batch_size, input_size)
        # for each kind of state: (num_levels, batch_size, hidden_size) -> num_levels arrays
        kinds = [F.split(s, num_outputs=num_levels, axis=0, squeeze_axis=True) for s in states]
        kinds = [[kind] if num_levels == 1 else list(kind) for kind in kinds]
        for arrays, *of_level in zip(self._levels, *kinds):
            outputs, of_level = self._step(F, outputs, of_level, *arrays)
            new_states.append(of_level)
        # and back
        outputs = F.expand_dims(outputs, axis=0)
        return outputs, [F.stack(*kind, axis=0) for kind in zip(*new_states)]


def is_compiled(model: Any) -> bool:
    """Return whether a block of a model runs as a compiled graph."""
    return any(
        getattr(block, "_active", False) or isinstance(block, gluon.SymbolBlock)
        for block in blocks_in(model)
    )


# Held while operations on a model's parameters are queued. MXNet 1.9.1 can deadlock if two threads
# at once queue operations that share several arrays: a compiled graph reads all parameters, a fused
# layer those of all its gates, and an optimizer may update four in one operation.
# Only queueing takes turns, not computing.
queueing = threading.RLock()


def called_by_one_thread(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a model while no other thread calls or trains one."""

    def call(*args: Any) -> Any:
        with queueing:
            return model(*args)

    return call


# Tracing a block opens its scope of names, which threads that trace it at once would mix up.
_tracing = threading.Lock()


class CompiledFunction(gluon.HybridBlock):
    """A function of arrays as one compiled graph.

    Args:
        function: called once, with symbols in place of the arrays.
        params: those whose symbols it reads.
        flags: of Gluon's ``hybridize``.
    """

    def __init__(
        self, function: Callable[..., Any], params: Sequence[gluon.Parameter], **flags: Any
    ) -> None:
        super().__init__(prefix="")
        self._function = function
        self.params.update({param.name: param for param in params})
        self.hybridize(**flags)

    def _build_cache(self, *args: Any) -> None:
        with _tracing:
            super()._build_cache(*args)

    def hybrid_forward(self, F: Any, *args: Any) -> Any:
        return self._function(*args)
