"""Gluon's fused layers (``rnn.LSTM``, ``rnn.GRU``, ``rnn.RNN``), computed without joining.

A fused layer keeps an array for each weight and bias, and its kernel takes one
vector of all of them: in every call the layer joins its arrays, and going backward
it takes the vector's gradient apart. In training that is a good part of the time, and
in decoding nearly all of it. Both can be avoided without a change to the layer or to the
model around it, by another function in the place of the layer's ``_forward_kernel``,
which is all that knows of the vector. In training, ``JoinedParameters`` keeps all
parameters of a model in one vector; for decoding see ``one_step``. The model itself is
called as ever, whatever kind it is.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

import numpy as np

from . import autograd, gluon, mx, nd
from .blocks import blocks_in
from .graphs import Graph, Method, can_be_compiled, replacing

_LAYER = gluon.rnn.rnn_layer._RNNLayer
OWN_KERNEL = _LAYER._forward_kernel


def fused_layers(model: Any) -> List[gluon.Block]:
    """The fused layers in a model, each once, whose kernel is Gluon's own."""
    return [
        block
        for block in blocks_in(model)
        if isinstance(block, _LAYER)
        and type(block)._forward_kernel is OWN_KERNEL
        and "_forward_kernel" not in vars(block)
    ]


class _Part(NamedTuple):
    """A fused layer's part of the vector of all parameters."""

    layer: gluon.Block
    vector: nd.NDArray  # gradient attached
    arrays: Dict[str, nd.NDArray]  # the layer's parameters, views of the vector

    def kernel(self, F: Any, inputs: Any, states: Any, sequence_length: Any, **params: Any) -> Any:
        """What ``_forward_kernel`` computes, from the vector instead of what is joined to it."""
        # Somebody may compute with other arrays than the parameters, for instance with some set
        # to 0; and a graph that is compiled computes with symbols.
        if all(params[name] is array for name, array in self.arrays.items()):
            return _kernel(self.layer, self.vector)(F, inputs, states, sequence_length, **params)
        return OWN_KERNEL(self.layer, F, inputs, states, sequence_length, **params)

    def is_of_layer(self) -> bool:
        """Whether the parameters still are those that the layer has."""
        params = self.layer._reg_params
        return all(params[name]._data[0] is array for name, array in self.arrays.items())


def _kernel(layer: gluon.Block, vector: Any) -> Callable[..., Any]:
    """A layer's kernel, on a vector of its parameters; arrays or symbols."""

    def kernel(F: Any, inputs: Any, states: Any, sequence_length: Any, **params: Any) -> Any:
        ready = dict.fromkeys(params, _Ready())
        return OWN_KERNEL(layer, _Joined(F, vector), inputs, states, sequence_length, **ready)

    return kernel


class _Ready:
    """A parameter that need not be reshaped in order to be joined."""

    def reshape(self, *shape: int) -> _Ready:
        return self


class _Joined:
    """MXNet's operators, but to join a layer's parameters gives the vector."""

    def __init__(self, F: Any, vector: Any) -> None:
        self._F = F
        self._vector = vector
        self._internal = self

    def _rnn_param_concat(self, *params: _Ready, dim: int) -> Any:
        return self._vector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._F, name)


class JoinedParameters:
    """The trainable parameters of a model, and their gradients, as parts of one vector.

    The model's own arrays become views: it may be used, changed in place, saved and
    loaded as before, and sees what is done to the vector.

    Args:
        model: what they are the parameters of.
        params: parameters with gradients, of the same type.
        layers: fused layers that may compute with their part of the vector, since nobody else
            has their parameters. One that is not trained as a whole does not.

    Attributes:
        vector: all parameters, those of the fused layers first; gradient attached.
    """

    def __init__(
        self, model: Any, params: List[gluon.Parameter], layers: List[gluon.Block]
    ) -> None:
        self._params = params
        self._arrays = [(param._data[0], param._grad[0]) for param in params]
        order, spans = _in_order(params, layers)
        self.vector = nd.concat(*[param.data().reshape((-1,)) for param in order], dim=0)
        gradient = nd.concat(*[param.grad().reshape((-1,)) for param in order], dim=0)
        autograd.mark_variables([self.vector], [gradient])
        begin = 0
        for param in order:
            data, grad = param._data[0], param._grad[0]
            end = begin + data.size
            _become(data, self.vector[begin:end].reshape(param.shape))
            _become(grad, gradient[begin:end].reshape(param.shape))
            # What backward writes to.
            autograd.mark_variables([data], [grad])
            data._fresh_grad = True
            begin = end
        self._parts = []
        for layer, begin, end in spans:
            part = self.vector[begin:end]
            autograd.mark_variables([part], [gradient[begin:end]])
            arrays = {name: param._data[0] for name, param in layer._reg_params.items()}
            self._parts.append(_Part(layer, part, arrays))
        self._graphs = [
            self._graph_of(block) for block in blocks_in(model) if can_be_compiled(block)
        ]

    @classmethod
    def join(cls, model: gluon.Block, ctx: mx.Context) -> Optional[JoinedParameters]:
        """Join the parameters of a model, if it then computes the same.

        Args:
            model: any Gluon model, after a forward and a backward pass.
            ctx: device of the model.

        Returns:
            None if a parameter is not float32, is sparse, is on another device, got no
            gradient, adds its gradients up, or may be the weight of a convolution.
        """
        params = trainable(model)
        uses = Counter(id(p) for block in blocks_in(model) for p in block._reg_params.values())
        layers = [
            layer
            for layer in fused_layers(model)
            if all(uses[id(param)] == 1 for param in layer._reg_params.values())
        ]
        alike = all(
            type(param) is gluon.Parameter
            and param.grad_req == "write"
            and param._data is not None
            and param.list_ctx() == [ctx]
            and np.dtype(param.dtype) == np.float32
            and param._stype == param._grad_stype == "default"
            and param._data[0]._fresh_grad
            # Predicting, a convolution brings the array that its weight is a part of into another
            # layout, in place. Such a weight has three axes or more.
            and len(param.shape) <= 2
            for param in params
        )
        return cls(model, params, layers) if params and alike else None

    def still_of(self, params: Iterable[gluon.Parameter]) -> bool:
        """Whether those of some parameters that are trained still are the parts of the vector."""
        trained = {id(param) for param in params if param.grad_req != "null"}
        return trained == {id(param) for param in self._params} and all(
            param._data is not None
            and param._grad is not None
            and param._data[0] is data
            and param._grad[0] is grad
            for param, (data, grad) in zip(self._params, self._arrays)
        )

    def in_use(self) -> contextlib.AbstractContextManager[None]:
        """Let the model's fused layers compute with the vector."""
        kernels = [(part.layer, "_forward_kernel", part.kernel) for part in self._parts]
        return replacing(kernels + self._graphs)

    def _graph_of(self, block: gluon.Block) -> Method:
        inside = blocks_in(block)
        parts = [part for part in self._parts if part.layer in inside]

        def kernels(vectors: List[Any]) -> List[Method]:
            return [
                (part.layer, "_forward_kernel", _kernel(part.layer, vector))
                for part, vector in zip(parts, vectors)
            ]

        def when(inputs: Any) -> bool:
            return autograd.is_recording() and all(part.is_of_layer() for part in parts)

        # Without memory of its own, with which MXNet 1.9.1 aborts now and then where gradients go
        # back through several calls of a graph.
        vectors, layers = [part.vector for part in parts], [part.layer for part in parts]
        return block, "hybrid_forward", Graph(block, kernels, when, vectors, layers).instead

    def look_after_backward(self) -> bool:
        """Note which gradients a backward pass has written.

        Returns:
            False if it wrote one over another, since a parameter was used both by the
            kernel, through the vector, and beside it. The gradients are then wrong; from
            now on, the layers join their parameters themselves.
        """
        right = True
        for part in self._parts:
            if part.vector._fresh_grad:
                part.vector._fresh_grad = False
                for array in part.arrays.values():
                    right = right and not array._fresh_grad
                    array._fresh_grad = True
        if not right:
            self._parts, self._graphs = [], []
        return right

    def take_gradients(self) -> bool:
        """Whether all gradients are new; from now on, none of them is."""
        fresh = all(data._fresh_grad for data, _ in self._arrays)
        if fresh:
            for data, _ in self._arrays:
                data._fresh_grad = False
        return fresh


def trainable(model: gluon.Block) -> List[gluon.Parameter]:
    """The parameters of a model that have gradients."""
    return [param for param in model.collect_params().values() if param.grad_req != "null"]


def _in_order(
    params: List[gluon.Parameter], layers: List[gluon.Block]
) -> Tuple[List[gluon.Parameter], List[Tuple[gluon.Block, int, int]]]:
    """Parameters in the order of the vector; and each layer's begin and end in it."""
    own = {id(param) for param in params}
    order: List[gluon.Parameter] = []
    spans = []
    begin = 0
    for layer in layers:
        if layer._projection_size:
            continue
        of_layer = [
            getattr(layer, f"{direction}{level}_{source}_{kind}")
            for kind in ("weight", "bias")
            for level in range(layer._num_layers)
            for direction in "lr"[: layer._dir]
            for source in ("i2h", "h2h")
        ]
        if own.issuperset(map(id, of_layer)):
            own.difference_update(map(id, of_layer))
            order += of_layer
            end = begin + sum(param.data().size for param in of_layer)
            spans.append((layer, begin, end))
            begin = end
    return order + [param for param in params if id(param) in own], spans


def _become(array: nd.NDArray, other: nd.NDArray) -> None:
    """Make an array another one, for all who have it."""
    array.handle, other.handle = other.handle, array.handle
