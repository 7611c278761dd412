"""Parts of the fast path. Only ``nn.fast`` uses them; it decides which models take that path.

A fused layer (``rnn.LSTM``, ``rnn.GRU``, ``rnn.RNN``) has an array for each weight and bias, but
its kernel takes one vector of all of them. Gluon concatenates the arrays in every call, and splits
the vector's gradient in every backward pass. That takes a good part of a minibatch's time, and most
of the time for a decoded character.
"""

from __future__ import annotations

import collections
import itertools
import threading
from typing import Any, Callable, Deque, List, Sequence, Tuple

import numpy as np

from . import autograd, gluon, mx, nd
from .blocks import FUSED, describe, is_initialized

_METHODS = ("__call__", "forward", "hybrid_forward", "_forward_kernel", "_drop")

# Which models ---------------------------------------------------------------------------------


def methods_of(classes: Sequence[type]) -> List[Any]:
    """Return the forward methods of classes, to notice when one is replaced."""
    return [getattr(cls, name, None) for cls in classes for name in _METHODS]


def is_compiled(block: gluon.Block) -> bool:
    """Return whether a block runs as a compiled graph."""
    return bool(getattr(block, "_active", False))


def is_basic(layer: gluon.Block) -> bool:
    """Return whether a layer is one of Gluon's fused layers, without projection or the like."""
    if type(layer) not in FUSED:
        return False
    described = describe(layer)
    rare = described.bidirectional or described.projected or described.clipped
    return not rare and described.layout == "TNC" and not layer._use_sequence_length


def layer_parameters(layer: gluon.Block) -> List[gluon.Parameter]:
    """Return the parameters of a fused layer in the order of its kernel's vector."""
    return [
        getattr(layer, f"l{level}_{source}_{kind}")
        for kind in ("weight", "bias")
        for level in range(layer._num_layers)
        for source in ("i2h", "h2h")
    ]


def are_alike(params: Sequence[gluon.Parameter]) -> bool:
    """Return whether parameters are distinct, initialized, dense, float32 and on one device."""
    return (
        len({id(param) for param in params}) == len(params)
        and len({param.name for param in params}) == len(params)
        and all(type(param) is gluon.Parameter and is_initialized(param) for param in params)
        and all(np.dtype(param.dtype) == np.float32 for param in params)
        and all(param._stype == param._grad_stype == "default" for param in params)
        and len({ctx for param in params for ctx in param.list_ctx()}) == 1
    )


# Parameters in one vector ---------------------------------------------------------------------


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

    def parts(self, numbers: Sequence[int]) -> List[nd.NDArray]:
        """Return vectors of so many parameters each, in order, that gradients flow back to."""
        cuts = [[0, *self._ends][i] for i in itertools.accumulate([0, *numbers])]
        return [self._view(begin, end, (end - begin,))[0] for begin, end in zip(cuts, cuts[1:])]

    def belongs_to(self, params: Sequence[gluon.Parameter]) -> bool:
        """Return whether the arrays of these parameters still are the views, in this order."""
        # Drawing new values, and changing grad_req, dtype or device, makes new arrays.
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

        ``gluon.Trainer.step`` rejects gradients that are not.
        """
        for data, _ in self._arrays:
            data._fresh_grad = fresh


def layer_on_vector(layer: gluon.Block, vector: Any) -> Callable[..., Any]:
    """Return a fused layer that reads its parameters from a vector."""

    def call(inputs: Any, states: List[Any]) -> Tuple[Any, List[Any]]:
        outputs, *new_states = nd.RNN(
            *(inputs, vector, *states),
            state_size=layer._hidden_size,
            num_layers=layer._num_layers,
            mode=layer._mode,
            p=layer._dropout,
            state_outputs=True,
        )
        return outputs, new_states

    return call


# Compiled graphs ------------------------------------------------------------------------------


def layer_of_cells(layer: gluon.Block) -> Callable[..., Any]:
    """Return a fused layer, for symbols and a single time step, computed by Gluon's cells."""
    kind, _, activation = layer._mode.partition("_")
    cells = {"lstm": gluon.rnn.LSTMCell, "gru": gluon.rnn.GRUCell, "rnn": gluon.rnn.RNNCell}
    options = {"activation": activation} if activation else {}
    step = cells[kind](layer._hidden_size, prefix="", **options).hybrid_forward
    weights = ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")

    def call(inputs: Any, states: List[Any]) -> Tuple[Any, List[Any]]:
        F, num_levels = mx.sym, layer._num_layers
        # for each kind of state: (num_levels, batch_size, hidden_size) -> num_levels arrays
        kinds = [F.split(s, num_outputs=num_levels, axis=0, squeeze_axis=True) for s in states]
        outputs, new_states = F.squeeze(inputs, axis=0), []  # (batch_size, input_size)
        for level in range(num_levels):
            arrays = [getattr(layer, f"l{level}_{name}").var() for name in weights]
            outputs, state = step(F, outputs, [kind[level] for kind in kinds], *arrays)
            new_states.append(state)
        # and back
        return F.expand_dims(outputs, axis=0), [F.stack(*kind, axis=0) for kind in zip(*new_states)]

    return call


def copy_parameters(params: Sequence[gluon.Parameter]) -> List[gluon.Parameter]:
    """Return copies of parameters under the same names, without gradients."""
    copies = []
    for param in params:
        copied = gluon.Parameter(param.name, grad_req="null", shape=param.shape)
        copied._load_init(param.data(), param.list_ctx())
        copies.append(copied)
    return copies


# Tracing a block opens its scope of names, which threads that trace at the same time would mix up.
_tracing = threading.Lock()


class CompiledFunction(gluon.HybridBlock):
    """A function of arrays as one compiled graph.

    Args:
        function: called once, with symbols in place of the arrays.
        params: the parameters whose symbols it reads.
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


# Late losses ----------------------------------------------------------------------------------

IN_FLIGHT = 4  # minibatches that may be in the device's queue


class LateLosses:
    """Reports each loss when ``IN_FLIGHT`` more were added, or when ``read`` is called.

    Reading a loss waits for the device, which is then idle while the next minibatch is prepared.
    If losses were never read, the device's queue would grow without limit.

    Args:
        on_loss: called with one number for each loss, in order.
    """

    def __init__(self, on_loss: Callable[[float], Any]) -> None:
        self._on_loss = on_loss
        self._in_flight: Deque[nd.NDArray] = collections.deque()

    def add(self, loss: nd.NDArray) -> None:
        """Add an array of one number, which may not be computed yet."""
        self._in_flight.append(loss)
        if len(self._in_flight) > IN_FLIGHT:
            self._read_first()

    def read(self) -> None:
        """Wait for all losses, and report them."""
        while self._in_flight:
            self._read_first()

    def _read_first(self) -> None:
        loss = float(self._in_flight[0].asscalar())
        self._in_flight.popleft()
        try:
            self._on_loss(loss)
        except BaseException:
            self._in_flight.clear()  # report the first loss that is refused, and no later one
            raise
