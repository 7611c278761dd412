"""The fast path: the chapter's own model is trained and decoded in less time.

You can read the rest first. Without this module, every model is simply called, and gives the same
numbers up to rounding. With it, the chapter's own model is updated on the vector that this module
makes: see the first branch of ``TrainableModel.update``.

A fused layer (``rnn.LSTM``, ``rnn.GRU``, ``rnn.RNN``) has an array for each weight and bias, but
its kernel takes one vector of all of them. Gluon concatenates the arrays in every call, and splits
the vector's gradient in every backward pass. That takes a good part of a minibatch's time, and most
of the time for a decoded character. So there are two independent parts:

- ``flatten_parameters`` puts the parameters of a model into one vector. Training lets the kernels
  read it, and clips and updates it as a whole.
- ``one_step`` compiles single time steps for decoding.

Only an ``RNNModel`` around one fused layer of Gluon or a ``StackedRNN`` takes the fast path,
exactly as it was written: not a subclass, without hooks or replaced methods, not compiled, not
shared. The fast path replaces nothing of the model either. The forward pass remains
``RNNModel.hybrid_forward``, called on a shallow copy of the model with another recurrent layer.

This module uses internals of Gluon, as ``_mxnet`` does.
"""

from __future__ import annotations

import copy
import functools
import os
import threading
import weakref
from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

from .._mxnet import autograd, gluon, mx, nd
from .._mxnet.library import (
    FUSED,
    blocks_in,
    describe,
    is_initialized,
    is_unmodified,
    learn_shapes,
    queueing,
)
from .model import RNNModel
from .stacked import StackedRNN

Forward = Callable[..., Any]

# Which models -----------------------------------------------------------------------------------

_CLASSES = (
    RNNModel,
    StackedRNN,
    *FUSED,
    gluon.nn.Dense,
    gluon.nn.Activation,
    gluon.nn.Dropout,
    gluon.nn.HybridSequential,
)


# Directories of MXNet's code and of this package's.
_SOURCES = (os.path.dirname(mx.__file__), os.path.dirname(os.path.dirname(__file__)))


def _methods(cls: Any, *names: str) -> List[Tuple[Any, str, Any]]:
    """Return the original methods of a class; False for one that is already replaced."""
    methods = []
    for name in names:
        method = getattr(cls, name, None)
        code = getattr(method, "__code__", None)
        is_original = method is None or (code and code.co_filename.startswith(_SOURCES))
        methods.append((cls, name, method if is_original else False))
    return methods


_CELLS = {"lstm": gluon.rnn.LSTMCell, "gru": gluon.rnn.GRUCell, "rnn": gluon.rnn.RNNCell}
_OF_PARAMETERS = ("data", "list_data", "grad", "list_grad")
_FORWARD = [
    *_methods(gluon.Parameter, *_OF_PARAMETERS),
    *(method for cell in _CELLS.values() for method in _methods(cell, "hybrid_forward")),
    *(
        method
        for cls in _CLASSES
        for method in _methods(
            cls, "__call__", "forward", "hybrid_forward", "_forward_kernel", "_drop"
        )
    ),
]
_UPDATE = [
    *_methods(gluon.Trainer, "step", "_allreduce_grads", "_update"),
    *_methods(mx.optimizer.Updater, "__call__"),
    *_methods(mx.optimizer.SGD, "update_multi_precision", "update", "_update_impl"),
]


def _are_original(methods: Sequence[Tuple[Any, str, Any]]) -> bool:
    """Return whether nobody has replaced these methods of classes."""
    return all(getattr(cls, name, None) is method for cls, name, method in methods)


def is_chapter_model(model: Any) -> bool:
    """Return whether a model is exactly the chapter's, around one fused layer or a stack."""
    if type(model) is not RNNModel:
        return False
    layers, blocks = _fused_layers(model), blocks_in(model)
    kinds = [type(block) for block in blocks]
    described = [describe(layer) for layer in layers]
    return (
        _are_original(_FORWARD)
        # the layers have no projection or the like
        and all(type(layer) in FUSED and not layer._use_sequence_length for layer in layers)
        and not any(d.bidirectional or d.projected or d.clipped for d in described)
        and all(d.layout == "TNC" for d in described)
        # no other parameters, and none shared
        and set(kinds) <= set(_CLASSES)
        and sum(kind in FUSED for kind in kinds) == len(layers)
        and kinds.count(gluon.nn.Dense) == kinds.count(RNNModel) == 1
        and type(model.dense) is gluon.nn.Dense
        and isinstance(model.dense.act, (gluon.nn.Activation, type(None)))
        # no hooks or methods of its own, and nothing compiled
        and all(is_unmodified(block) and not getattr(block, "_active", 0) for block in blocks)
    )


def draws_nothing(model: Any) -> bool:
    """Return whether a model certainly draws no random numbers while it is trained.

    That is certain only for the chapter's own model around one fused layer.
    """
    return is_chapter_model(model) and type(model.rnn) in FUSED


def _fused_layers(model: RNNModel) -> List[gluon.Block]:
    """Return the fused layers of a model, from the lowest to the uppermost."""
    return list(model.rnn.levels) if type(model.rnn) is StackedRNN else [model.rnn]


def _parameters(model: RNNModel) -> List[gluon.Parameter]:
    """Return the parameters of the layers, in the kernel's order, then those of the output."""
    layer_params = [
        getattr(layer, f"l{level}_{source}_{kind}")
        for layer in _fused_layers(model)
        for kind in ("weight", "bias")
        for level in range(layer._num_layers)
        for source in ("i2h", "h2h")
    ]
    dense = model.dense
    return [*layer_params, dense.weight, *([] if dense.bias is None else [dense.bias])]


def _is_plain(param: gluon.Parameter) -> bool:
    """Return whether a parameter has no methods of its own."""
    own = vars(param)
    return type(param) is gluon.Parameter and not any(name in own for name in _OF_PARAMETERS)


def _ready_parameters(model: Any) -> Optional[List[gluon.Parameter]]:
    """Return the parameters of a model that takes the fast path, all with values; else None."""
    if not is_chapter_model(model):
        return None
    params = _parameters(model)
    # They must be distinct, initialized, dense, float32 and on one device.
    if not (
        len({id(param) for param in params}) == len({param.name for param in params}) == len(params)
        and all(_is_plain(param) and is_initialized(param) for param in params)
        and all(np.dtype(param.dtype) == np.float32 for param in params)
        and all(param._stype == param._grad_stype == "default" for param in params)
        and len({ctx for param in params for ctx in param.list_ctx()}) == 1
    ):
        return None
    # In training, the first mask is drawn before the weights whose shapes are not known yet.
    drops = type(model.rnn) is StackedRNN and model.rnn.dropout._rate > 0
    if drops and any(param._deferred_init for param in params):
        return None
    learn_shapes(model, params[0].list_ctx()[0])
    return params


def _with_layers(model: RNNModel, layers: Sequence[Any]) -> RNNModel:
    """Return a shallow copy of a model with functions in place of its fused layers."""
    copied = copy.copy(model)
    # Gluon's __setattr__ accepts only blocks here, and would register them with the model.
    if type(model.rnn) is StackedRNN:
        stack = copy.copy(model.rnn)
        stack.__dict__["levels"] = layers
        copied.__dict__["rnn"] = stack
    else:
        (copied.__dict__["rnn"],) = layers
    return copied


# Parameters in one vector -----------------------------------------------------------------------


@dataclass(eq=False)
class FlatParameters:
    """The parameters of a model as views of one vector, and their gradients as views of another.

    Attributes:
        vector: all parameters, shape (number of values,).
        gradient: their gradients, of the same shape.
        views: the array and the gradient of each parameter.
        parts: the part of ``vector`` that the kernel of each fused layer takes.
    """

    vector: nd.NDArray
    gradient: nd.NDArray
    views: List[Tuple[nd.NDArray, nd.NDArray]]
    parts: List[nd.NDArray]

    def forward(self, model: RNNModel, inputs: nd.NDArray, state: Any) -> Any:
        """Compute what the model does; the gradients flow back to the vector.

        Args:
            model: the model with these parameters.
            inputs, state: the arguments of ``RNNModel.forward``.
        """
        # A new copy at each call, so that it has the model's present layers and settings.
        pairs = zip(_fused_layers(model), self.parts)
        layers = [functools.partial(_call_on_vector, layer, part) for layer, part in pairs]
        return _with_layers(model, layers).forward(inputs, state)

    def mark_fresh(self) -> None:
        """Tell Gluon that the gradients are newer than the last update."""
        # A backward pass to the vector does not mark the views, and gluon.Trainer rejects them.
        for data, _ in self.views:
            data._fresh_grad = True


# Not an attribute of the model, which would be copied and pickled with it.
_flat: weakref.WeakKeyDictionary[Any, FlatParameters] = weakref.WeakKeyDictionary()


def flatten_parameters(model: Any) -> None:
    """Put the parameters of the chapter's own model into one vector.

    Call it right after drawing or loading the parameters: it gives them new arrays, as those do,
    and views of the old arrays do not follow.

    Args:
        model: any model; only the chapter's own is changed.
    """
    params = _ready_parameters(model)
    if (
        params is None
        or any(param.grad_req != "write" for param in params)
        or len(model.collect_params().keys()) != len(params)
    ):
        return
    cuts = [0, *np.cumsum([param.data().size for param in params]).tolist()]
    spans = [(*cut, param.shape) for *cut, param in zip(cuts, cuts[1:], params)]
    first = 0
    for layer in _fused_layers(model):
        last = first + 4 * layer._num_layers  # two weights and two biases per level
        spans.append((cuts[first], cuts[last], (-1,)))
        first = last
    views = []
    with autograd.pause():
        vector = nd.concat(*[param.data().reshape((-1,)) for param in params], dim=0)
        gradient = nd.zeros_like(vector)
        for begin, end, shape in spans:
            data, grad = vector[begin:end].reshape(shape), gradient[begin:end].reshape(shape)
            autograd.mark_variables([data], [grad])
            views.append((data, grad))
    for param, (data, grad) in zip(params, views):
        param._data, param._grad = [data], [grad]
    parts = [data for data, _ in views[len(params) :]]
    _flat[model] = FlatParameters(vector, gradient, views[: len(params)], parts)


def flat_parameters(model: Any) -> Optional[FlatParameters]:
    """Return the vector of a model's parameters, if it has one and still takes the fast path."""
    flat = _flat.get(model)
    if flat is None or not is_chapter_model(model):
        return None
    params = _parameters(model)
    # Drawing new values, and changing grad_req, dtype or device, makes new arrays.
    has_views = len(params) == len(flat.views) and all(
        _is_plain(param)
        and param._data is not None
        and param._grad is not None
        and param._data[0] is data
        and param._grad[0] is gradient
        for param, (data, gradient) in zip(params, flat.views)
    )
    return flat if has_views else None


def is_plain_sgd(gluon_trainer: gluon.Trainer) -> bool:
    """Return whether an update only subtracts the gradients times the learning rate."""
    optimizer = gluon_trainer._optimizer
    return (
        type(optimizer) is mx.optimizer.SGD
        and optimizer.momentum == optimizer.wd == 0
        and optimizer.clip_gradient is None
        and gluon_trainer._scale == 1
        and all(param.lr_mult == 1 for param in gluon_trainer._params)
        and _are_original(_UPDATE)
    )


def _call_on_vector(layer: gluon.Block, vector: Any, inputs: Any, states: List[Any]) -> Any:
    """Compute a fused layer whose parameters are in a vector."""
    outputs, *new_states = nd.RNN(
        *(inputs, vector, *states),
        state_size=layer._hidden_size,
        num_layers=layer._num_layers,
        mode=layer._mode,
        p=layer._dropout,
        state_outputs=True,
    )
    return outputs, new_states


# Single time steps ------------------------------------------------------------------------------


def one_step(model: Any) -> Forward:
    """Return a faster drop-in replacement for a model for one time step at a time.

    The model is not changed, and other threads may use it meanwhile. The replacement uses the
    parameters' present values, and does not follow later changes.

    Args:
        model: any model; one that is not the chapter's own is simply called.
    """
    params = _ready_parameters(model)
    if params is not None:
        return OneStep(model, params)

    def call(inputs: nd.NDArray, state: Any) -> Any:
        with queueing:  # other threads may train or use the model meanwhile
            return model(inputs, state)

    return call


# Tracing a block opens its scope of names, which threads that trace at the same time would mix up.
_tracing = threading.Lock()


class OneStep(gluon.HybridBlock):
    """A single time step of the chapter's model as one compiled graph.

    Args:
        model: a model that takes the fast path.
        params: its parameters, which are copied.
    """

    def __init__(self, model: RNNModel, params: Sequence[gluon.Parameter]) -> None:
        super().__init__(prefix="")
        self.__dict__["_model"] = model  # not as a child of this block
        # MXNet 1.9.1 can deadlock if two threads queue operations that share several arrays.
        # Freeing a graph with static shapes is such an operation on all of its arrays. So the graph
        # gets arrays of its own and queues each operation alone: it shares at most one array, a
        # temporary space.
        for param in params:
            copied = gluon.Parameter(param.name, grad_req="null", shape=param.shape)
            copied._load_init(param.data(), param.list_ctx())
            self.params.update({param.name: copied})
        self.hybridize(static_alloc=True, static_shape=True, forward_bulk_size=1)

    def _build_cache(self, *args: Any) -> None:
        with _tracing:
            super()._build_cache(*args)

    def hybrid_forward(self, F: Any, inputs: Any, state: Any) -> Any:
        layers = _fused_layers(self._model)
        steps = [functools.partial(_call_cells, F, layer) for layer in layers]
        return _with_layers(self._model, steps).hybrid_forward(F, inputs, state)


def _call_cells(F: Any, layer: gluon.Block, inputs: Any, states: List[Any]) -> Any:
    """Compute a single time step of a fused layer with Gluon's cells, on symbols."""
    kind, _, activation = layer._mode.partition("_")
    options = {"activation": activation} if activation else {}
    step = _CELLS[kind](layer._hidden_size, prefix="", **options).hybrid_forward
    weights = ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
    num_levels = layer._num_layers
    # for each kind of state: (num_levels, batch_size, hidden_size) -> num_levels arrays
    kinds = [F.split(s, num_outputs=num_levels, axis=0, squeeze_axis=True) for s in states]
    outputs, new_states = F.squeeze(inputs, axis=0), []  # (batch_size, input_size)
    for level in range(num_levels):
        arrays = [getattr(layer, f"l{level}_{name}").var() for name in weights]
        outputs, state = step(F, outputs, [kind[level] for kind in kinds], *arrays)
        new_states.append(state)
    # and back
    return F.expand_dims(outputs, axis=0), [F.stack(*kind, axis=0) for kind in zip(*new_states)]
