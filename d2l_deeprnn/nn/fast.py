"""The fast path: which models are trained and decoded in less time, and how.

Only the chapter's own model takes it: an ``RNNModel`` around one fused layer of Gluon or around a
``StackedRNN``, exactly as it was written (no subclass, hook, replaced method, compiled or shared
part). For any other model this module does nothing, and it is called as what it is. The forward
pass is ``RNNModel.hybrid_forward`` in either case; what changes is the recurrent layer inside it.
"""

from __future__ import annotations

import copy
import weakref
from typing import Any, Callable, List, Optional, Sequence

from .._mxnet import gluon, mx
from .._mxnet.blocks import blocks_in, is_as_its_class, learn_shapes
from .._mxnet.fast import (
    FUSED,
    CompiledFunction,
    FlatParameters,
    LayerOfCells,
    LayerOnVector,
    are_alike,
    are_float32,
    called_by_one_thread,
    is_basic,
    is_compiled,
    layer_parameters,
    methods_of,
    snapshot,
)
from .model import RNNModel
from .stacked import StackedRNN

Forward = Callable[..., Any]

_CLASSES = (
    *(RNNModel, StackedRNN, *FUSED),
    *(gluon.nn.Dense, gluon.nn.Activation, gluon.nn.Dropout, gluon.nn.HybridSequential),
)
_AS_WRITTEN = methods_of(_CLASSES)
# Not an attribute of the model, which would be copied and pickled with it.
_flat: weakref.WeakKeyDictionary[Any, FlatParameters] = weakref.WeakKeyDictionary()


def flatten_parameters(model: Any) -> None:
    """Keep the parameters of the chapter's own model in one vector, so that it trains faster.

    Call it right after drawing or loading the parameters: like that, it gives them new arrays,
    which views of the old ones do not follow.

    Args:
        model: of any kind; only the chapter's own changes.
    """
    if not _is_chapters(model) or not are_float32(_parameters(model)):
        return
    params, ctx = _parameters(model), model.dense.weight.list_ctx()[0]
    learn_shapes(model, ctx)
    trained = all(param.grad_req == "write" for param in params)
    if trained and are_alike(params) and len(model.collect_params().keys()) == len(params):
        _flat[model] = FlatParameters(params)


def flat_parameters(model: Any) -> Optional[FlatParameters]:
    """The vector of a model's parameters, if it has one and still takes the fast path."""
    flat = _flat.get(model)
    usable = flat is not None and _is_chapters(model) and flat.hold(_parameters(model))
    return flat if usable else None


def training_forward(model: RNNModel, flat: FlatParameters) -> Forward:
    """Compile the forward pass of a model for training.

    Args:
        model: one that takes the fast path.
        flat: its parameters; gradients flow back to their vector.

    Returns:
        A function ``(inputs, state) -> (scores, state)``, which computes what the model does.
    """
    layers, parts, first = _fused_layers(model), [], 0
    for layer in layers:
        number = len(layer_parameters(layer))
        parts.append(flat.part(first, number))
        first += number

    def forward(inputs: Any, state: Any, vectors: Sequence[Any]) -> Any:
        on_vectors = [LayerOnVector(layer, vector) for layer, vector in zip(layers, vectors)]
        return _with_layers(model, on_vectors).hybrid_forward(mx.sym, inputs, state)

    # Not with static_alloc: MXNet 1.9.1 then sometimes aborts in a backward pass through several
    # calls of a graph.
    compiled = CompiledFunction(forward, list(model.dense.collect_params().values()))
    return lambda inputs, state: compiled(inputs, state, parts)


def one_step(model: Any) -> Forward:
    """Return a faster drop-in replacement for a model for one time step at a time.

    Nothing of the model is changed, and other threads may use it meanwhile. The replacement
    computes with the parameters as they are now.

    Args:
        model: of any kind; any but the chapter's own is called as it is.
    """
    if not _is_chapters(model) or not are_alike(_parameters(model)):
        return called_by_one_thread(model)

    def forward(inputs: Any, state: Any) -> Any:
        cells = [LayerOfCells(layer) for layer in _fused_layers(model)]
        return _with_layers(model, cells).hybrid_forward(mx.sym, inputs, state)

    # MXNet 1.9.1 can deadlock if two threads queue operations that share several arrays. Freeing a
    # graph with static shapes is such an operation on all of its arrays. So the graph gets arrays
    # of its own and queues each operation alone: it shares at most one array, a temporary space.
    flags = {"static_alloc": True, "static_shape": True, "forward_bulk_size": 1}
    return CompiledFunction(forward, snapshot(_parameters(model)), **flags)


def draws_nothing(model: Any) -> bool:
    """Return whether a model surely draws no random numbers while it is trained.

    That is known of the chapter's own model around one fused layer, and of no other.
    """
    return flat_parameters(model) is not None and type(model.rnn) in FUSED


def _is_chapters(model: Any) -> bool:
    """Return whether a model is exactly the chapter's, around one fused layer or a stack."""
    if type(model) is not RNNModel or methods_of(_CLASSES) != _AS_WRITTEN:
        return False
    layers, blocks = _fused_layers(model), blocks_in(model)
    kinds = [type(block) for block in blocks]
    return (
        bool(layers)
        and all(map(is_basic, layers))
        # and nothing else with parameters
        and set(kinds) <= set(_CLASSES)
        and sum(kind in FUSED for kind in kinds) == len(layers)
        and kinds.count(gluon.nn.Dense) == kinds.count(RNNModel) == 1
        and type(model.dense) is gluon.nn.Dense
        and isinstance(model.dense.act, (gluon.nn.Activation, type(None)))
        # and nobody has given a part hooks or methods of its own, or compiled it
        and all(map(is_as_its_class, blocks))
        and not is_compiled(model)
    )


def _fused_layers(model: RNNModel) -> List[gluon.Block]:
    """The fused layers of a model; those of a stack from the lowest to the uppermost."""
    return list(model.rnn.levels) if type(model.rnn) is StackedRNN else [model.rnn]


def _parameters(model: RNNModel) -> List[gluon.Parameter]:
    """The parameters of a model in the order of the vector: layer by layer, then the output's."""
    of_layers = [param for layer in _fused_layers(model) for param in layer_parameters(layer)]
    dense = model.dense
    return [*of_layers, dense.weight, *([] if dense.bias is None else [dense.bias])]


def _with_layers(model: RNNModel, layers: Sequence[Any]) -> RNNModel:
    """A shallow copy of a model with other functions in place of its fused layers."""
    copied = copy.copy(model)
    # Gluon's __setattr__ accepts only blocks here, and would register them with the model.
    if type(model.rnn) is StackedRNN:
        stack = copy.copy(model.rnn)
        stack.__dict__["levels"] = layers
        copied.__dict__["rnn"] = stack
    else:
        (copied.__dict__["rnn"],) = layers
    return copied
