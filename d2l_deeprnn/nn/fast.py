"""The fast path: the chapter's own model is trained and decoded in less time.

Skip this module to understand the rest. Without it, every model is simply called, and gives the
same numbers up to rounding. Its parts are independent:

- ``flatten_parameters`` puts the parameters into one vector, which is clipped and updated as such.
- ``training_forward`` lets the recurrent kernel read that vector.
- ``one_step`` compiles single time steps for decoding.
- ``LateLosses``, for models of every kind, keeps the device busy while losses are read.

Only an ``RNNModel`` around one fused layer of Gluon or a ``StackedRNN`` takes the fast path,
exactly as it was written: not a subclass, without hooks or replaced methods, not compiled, not
shared. The fast path replaces nothing of the model either. The forward pass remains
``RNNModel.hybrid_forward``, called on a shallow copy of the model with another recurrent layer.
"""

from __future__ import annotations

import copy
import weakref
from typing import Any, Callable, List, Optional, Sequence

from .._mxnet import gluon, mx
from .._mxnet.blocks import FUSED, blocks_in, is_unmodified, learn_shapes
from .._mxnet.context import queueing, serialize_calls
from .._mxnet.fast import (
    CompiledFunction,
    FlatParameters,
    LateLosses,
    are_alike,
    copy_parameters,
    is_basic,
    is_compiled,
    layer_of_cells,
    layer_on_vector,
    layer_parameters,
    methods_of,
)
from .model import RNNModel
from .stacked import StackedRNN

__all__ = [
    "FlatParameters",
    "LateLosses",
    "draws_nothing",
    "flat_parameters",
    "flatten_parameters",
    "one_step",
    "training_forward",
]

Forward = Callable[..., Any]

_CLASSES = (
    RNNModel,
    StackedRNN,
    *FUSED,
    gluon.nn.Dense,
    gluon.nn.Activation,
    gluon.nn.Dropout,
    gluon.nn.HybridSequential,
)
_ORIGINAL_METHODS = methods_of(_CLASSES)
# Not an attribute of the model, which would be copied and pickled with it.
_flat: weakref.WeakKeyDictionary[Any, FlatParameters] = weakref.WeakKeyDictionary()


def flatten_parameters(model: Any) -> None:
    """Put the parameters of the chapter's own model into one vector.

    Call it right after drawing or loading the parameters: it gives them new arrays, as those do,
    and views of the old arrays do not follow.

    Args:
        model: of any kind; only the chapter's own changes.
    """
    params = _ready_parameters(model)
    if (
        params is not None
        and all(param.grad_req == "write" for param in params)
        and len(model.collect_params().keys()) == len(params)
    ):
        _flat[model] = FlatParameters(params)


def flat_parameters(model: Any) -> Optional[FlatParameters]:
    """Return the vector of a model's parameters, if it has one and still takes the fast path."""
    flat = _flat.get(model)
    usable = flat is not None and is_chapter_model(model) and flat.belongs_to(_parameters(model))
    return flat if usable else None


def training_forward(model: RNNModel, flat: FlatParameters) -> Forward:
    """Return a model's forward pass with layers that read their parameters from the vector.

    Args:
        model: one that takes the fast path.
        flat: its parameters; gradients flow back to their vector.

    Returns:
        A function ``(inputs, state) -> (scores, state)`` that computes what the model does.
    """
    parts = flat.parts([len(layer_parameters(layer)) for layer in _fused_layers(model)])

    def forward(inputs: Any, state: Any) -> Any:
        # A new copy at each call, so that it has the model's present layers and settings.
        layers = [layer_on_vector(*each) for each in zip(_fused_layers(model), parts)]
        return _with_layers(model, layers).forward(inputs, state)

    return forward


def one_step(model: Any) -> Forward:
    """Return a faster drop-in replacement for a model for one time step at a time.

    The model is not changed, and other threads may use it meanwhile. The replacement uses the
    parameters' present values, and does not follow later changes.

    Args:
        model: of any kind; any but the chapter's own is called as it is.
    """
    params = _ready_parameters(model)
    if params is None:
        return serialize_calls(model)

    def forward(inputs: Any, state: Any) -> Any:
        cells = [layer_of_cells(layer) for layer in _fused_layers(model)]
        return _with_layers(model, cells).hybrid_forward(mx.sym, inputs, state)

    # MXNet 1.9.1 can deadlock if two threads queue operations that share several arrays. Freeing a
    # graph with static shapes is such an operation on all of its arrays. So the graph gets arrays
    # of its own and queues each operation alone: it shares at most one array, a temporary space.
    flags = {"static_alloc": True, "static_shape": True, "forward_bulk_size": 1}
    return CompiledFunction(forward, copy_parameters(params), **flags)


def draws_nothing(model: Any) -> bool:
    """Return whether a model certainly draws no random numbers while it is trained.

    That is certain only for the chapter's own model around one fused layer.
    """
    return is_chapter_model(model) and type(model.rnn) in FUSED


def is_chapter_model(model: Any) -> bool:
    """Return whether a model is exactly the chapter's, around one fused layer or a stack."""
    if type(model) is not RNNModel or methods_of(_CLASSES) != _ORIGINAL_METHODS:
        return False
    layers, blocks = _fused_layers(model), blocks_in(model)
    kinds = [type(block) for block in blocks]
    return (
        all(map(is_basic, layers))
        # no other parameters, and none shared
        and set(kinds) <= set(_CLASSES)
        and sum(kind in FUSED for kind in kinds) == len(layers)
        and kinds.count(gluon.nn.Dense) == kinds.count(RNNModel) == 1
        and type(model.dense) is gluon.nn.Dense
        and isinstance(model.dense.act, (gluon.nn.Activation, type(None)))
        # no hooks or methods of its own, and nothing compiled
        and all(is_unmodified(block) and not is_compiled(block) for block in blocks)
    )


def _ready_parameters(model: Any) -> Optional[List[gluon.Parameter]]:
    """Return the parameters of a model that takes the fast path, all with values; else None."""
    if not is_chapter_model(model):
        return None
    params = _parameters(model)
    if not are_alike(params):
        return None
    with queueing:
        learn_shapes(model, params[0].list_ctx()[0])
    return params


def _fused_layers(model: RNNModel) -> List[gluon.Block]:
    """Return the fused layers of a model, from the lowest to the uppermost."""
    return list(model.rnn.levels) if type(model.rnn) is StackedRNN else [model.rnn]


def _parameters(model: RNNModel) -> List[gluon.Parameter]:
    """Return the parameters in the order of the vector: layer by layer, then the output's."""
    of_layers = [param for layer in _fused_layers(model) for param in layer_parameters(layer)]
    dense = model.dense
    return [*of_layers, dense.weight, *([] if dense.bias is None else [dense.bias])]


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
