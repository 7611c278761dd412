"""Properties of Gluon's blocks, recurrent layers and parameters."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple

from . import gluon, mx, nd

FUSED = (gluon.rnn.LSTM, gluon.rnn.GRU, gluon.rnn.RNN)


def blocks_in(model: Any) -> List[Any]:
    """Return a model and all blocks in it, each once."""
    blocks: Dict[int, Any] = {}
    pending = [model]
    while pending:
        block = pending.pop()
        if id(block) not in blocks:
            blocks[id(block)] = block
            pending.extend(getattr(block, "_children", {}).values())
    return list(blocks.values())


class Description(NamedTuple):
    """Properties of a recurrent layer; None if the layer does not declare one."""

    mode: Any  # lstm, gru, rnn_tanh or rnn_relu
    num_layers: Any
    num_hiddens: Any
    bidirectional: bool
    layout: str
    projected: bool
    clipped: bool


def describe(layer: Any) -> Description:
    """Describe one of Gluon's fused layers, or a layer that has the same attributes."""
    limits = (getattr(layer, f"_lstm_state_clip_{end}", None) for end in ("min", "max"))
    return Description(
        mode=getattr(layer, "_mode", None),
        num_layers=getattr(layer, "_num_layers", None),
        num_hiddens=getattr(layer, "_hidden_size", None),
        bidirectional=getattr(layer, "_dir", 1) == 2,
        layout=getattr(layer, "_layout", "TNC"),
        projected=bool(getattr(layer, "_projection_size", None)),
        clipped=any(limit is not None for limit in limits),
    )


def is_unmodified(block: Any) -> bool:
    """Return whether a block has no hooks, and no methods besides those of its class."""
    replaced = [name for name in vars(block) if callable(getattr(type(block), name, None))]
    return not (replaced or block._forward_hooks or block._forward_pre_hooks)


def activations(cell: Any) -> List[Any]:
    """Return the activations of one of Gluon's cells: of its output, and of its gates."""
    names = ("_activation", "_recurrent_activation")
    return [getattr(cell, name) for name in names if hasattr(cell, name)]


def named_parameters(model: gluon.Block) -> Dict[str, gluon.Parameter]:
    """Return all parameters of a model by names that are the same in every process.

    Gluon names the parameters that are attributes of a block. Those that a block made with
    ``params.get`` and keeps elsewhere, such as in a list, have the name that was asked for.
    """
    named: Dict[str, gluon.Parameter] = model._collect_params_with_prefix()
    known = {id(param) for param in named.values()}

    def add(block: gluon.Block, path: str) -> None:
        prefix = block.params.prefix
        for name, param in block.params.items():
            if id(param) not in known:
                known.add(id(param))
                key = path + (name[len(prefix) :] if name.startswith(prefix) else name)
                while key in named:  # an attribute of that name is another parameter
                    key += "_"
                named[key] = param
        for name, child in block._children.items():
            add(child, f"{path}{name}.")

    add(model, "")
    return named


def is_initialized(param: gluon.Parameter) -> bool:
    """Return whether a parameter has a value, or gets one as soon as its shape is known."""
    return param._data is not None or bool(param._deferred_init)


def learn_shapes(model: Any, ctx: mx.Context) -> None:
    """Run a model once if Gluon has yet to infer the shape of a parameter, and so draw it."""
    if any(0 in (param.shape or ()) for param in named_parameters(model).values()):
        model(nd.zeros((1, 1), ctx=ctx), model.begin_state(batch_size=1, ctx=ctx))


def set_value(param: gluon.Parameter, value: nd.NDArray) -> None:
    """Set the value of a parameter, also if its shape was not yet known."""
    param.set_data(value.astype(param.dtype))
    param._finish_deferred_init()
