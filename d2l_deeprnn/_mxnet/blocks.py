"""What Gluon's blocks, layers and parameters say of themselves."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple

from . import gluon, mx, nd


def blocks_in(model: Any) -> List[Any]:
    """A model and all blocks in it, each once."""
    found: Dict[int, Any] = {}

    def look_at(block: Any) -> None:
        if id(block) not in found:
            found[id(block)] = block
            for child in getattr(block, "_children", {}).values():
                look_at(child)

    look_at(model)
    return list(found.values())


class Description(NamedTuple):
    """A recurrent layer in words and numbers; None where it does not say."""

    mode: Any  # lstm, gru, rnn_tanh or rnn_relu
    num_layers: Any
    num_hiddens: Any
    bidirectional: bool
    layout: str
    projected: bool
    clipped: bool


def describe(layer: Any) -> Description:
    """What a fused layer of Gluon is, or another one that says the same of itself."""
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


def is_as_its_class(block: Any) -> bool:
    """Whether a block has no hooks, and no methods of its own beside those of its class."""
    replaced = [name for name in vars(block) if callable(getattr(type(block), name, None))]
    return not (replaced or block._forward_hooks or block._forward_pre_hooks)


def activations(cell: Any) -> List[Any]:
    """The activations with which a cell of Gluon was made: of what it gives, and of its gates."""
    names = ("_activation", "_recurrent_activation")
    return [getattr(cell, name) for name in names if hasattr(cell, name)]


def own_parameters(block: Any) -> Dict[str, gluon.Parameter]:
    """The parameters of a block itself, without those of the blocks in it."""
    return dict(block._reg_params)


def cells_of(stack: Any) -> List[Any]:
    """The cells of a ``SequentialRNNCell``, the one that reads the inputs first."""
    return list(stack._children.values())


def named_parameters(model: gluon.Block) -> Dict[str, gluon.Parameter]:
    """All parameters of a model by names that are the same in every process.

    Gluon gives a name to those that are attributes of a block. A block may also keep parameters in
    a list, say, and have made them by ``params.get``: these have the name that was asked for.
    """
    named: Dict[str, gluon.Parameter] = model._collect_params_with_prefix()
    known = {id(param) for param in named.values()}

    def look_at(block: gluon.Block, path: str) -> None:
        prefix = block.params.prefix
        for name, param in block.params.items():
            if id(param) not in known:
                known.add(id(param))
                key = path + (name[len(prefix) :] if name.startswith(prefix) else name)
                while key in named:  # an attribute of that name is another parameter
                    key += "_"
                named[key] = param
        for name, child in block._children.items():
            look_at(child, f"{path}{name}.")

    look_at(model, "")
    return named


def is_initialized(param: gluon.Parameter) -> bool:
    """Whether a parameter has a value, or gets one as soon as its shape is known."""
    return param._data is not None or bool(param._deferred_init)


def learn_shapes(model: Any, ctx: mx.Context) -> None:
    """Draw the parameters that Gluon draws only when it learns their shapes from first inputs."""
    if any(0 in (param.shape or ()) for param in named_parameters(model).values()):
        model(nd.zeros((1, 1), ctx=ctx), model.begin_state(batch_size=1, ctx=ctx))


def set_value(param: gluon.Parameter, value: nd.NDArray) -> None:
    """Set the value of a parameter, also of one that waited to learn its shape."""
    param.set_data(value.astype(param.dtype))
    param._finish_deferred_init()
