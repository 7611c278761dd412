"""Convert parameters between from-scratch networks and Gluon's fused layers.

Both compute the same, and store the parameters differently:

- Gluon has one matrix for all gates of a layer, transposed: ``i2h_weight`` is (gates * num_hiddens,
  inputs of the layer). The gates' order is i, f, c, o in an LSTM and r, z, h in a GRU; here it is
  i, f, o, c and z, r, h.
- Gluon adds two biases, ``i2h_bias`` and ``h2h_bias``, where the book has one. Only their sum
  matters, except in a GRU, where the reset gate comes between them. ``two_biases`` keeps both.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence

from .._mxnet import gluon, nd
from .._mxnet.library import FUSED, describe, is_initialized, set_value
from .scratch import (
    GRU_LAYER,
    GRU_RESET_AFTER_LAYER,
    LSTM_LAYER,
    RNN_LAYER,
    Layer,
    check_params,
    network_param_shapes,
    with_two_biases,
)


class _Form(NamedTuple):
    """The layer from scratch that computes the same as Gluon's, and the order of Gluon's gates."""

    layer: Layer
    gates: str


_FORMS = {
    "rnn_tanh": _Form(RNN_LAYER, "h"),
    "rnn_relu": _Form(RNN_LAYER, "h"),
    "gru": _Form(GRU_RESET_AFTER_LAYER, "rzh"),
    "lstm": _Form(LSTM_LAYER, "ifco"),
}


def params_from_gluon(
    rnn_layer: gluon.rnn.GRU, dense: gluon.nn.Dense, *, two_biases: bool = False
) -> List[nd.NDArray]:
    """Read the parameters of a network from scratch out of Gluon's layers.

    Args:
        rnn_layer: ``rnn.RNN``, ``rnn.GRU`` or ``rnn.LSTM``, as ``model.rnn``.
        dense: the output layer, as ``model.dense``.
        two_biases: whether the network was made with ``two_biases=True``.

    Returns:
        Copies with gradients attached, in the order of ``deep_rnn`` (with the layer's activation),
        ``deep_gru(..., reset='after')`` or ``deep_lstm``.

    Raises:
        TypeError: if a layer has another class.
        ValueError: if the layers have no values yet, do not fit each other, are bidirectional, or
            have a projection, a clipped state, an activation after the output or no bias.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import nd
        >>> from mxnet.gluon import rnn
        >>> model = d2l.RNNModel(rnn.LSTM(8, num_layers=2), vocab_size=5)
        >>> model.initialize()
        >>> X = nd.array([[0, 1, 2]])
        >>> scores, _ = model(X, model.begin_state(batch_size=1))
        >>> params = d2l.params_from_gluon(model.rnn, model.dense)
        >>> _, init_state, forward = d2l.deep_lstm(5, 8, 5, num_layers=2)
        >>> outputs, _ = forward(d2l.to_onehot(X, 5), init_state(1, 8), params)
        >>> bool((nd.concat(*outputs, dim=0) - scores).abs().max().asscalar() < 1e-5)
        True
    """
    form = _form(rnn_layer, dense)
    layer = with_two_biases(form.layer) if two_biases else form.layer
    names = list(layer.param_shapes(1, 1))
    params = []
    for params_of_layer in _by_layer(rnn_layer):
        i2h_weight, h2h_weight, i2h_bias, h2h_bias = (
            # (gates * num_hiddens, ...) -> (gates, num_hiddens, ...)
            value.reshape((len(form.gates), -1, *value.shape[1:]))
            for value in map(_value, params_of_layer)
        )
        values: Dict[str, nd.NDArray] = {}
        for i, g in enumerate(form.gates):
            # (num_hiddens, inputs of the layer) -> (inputs of the layer, num_hiddens)
            values[f"W_x{g}"], values[f"W_h{g}"] = i2h_weight[i].T, h2h_weight[i].T
            if f"b_h{g}" in names:
                values[f"b_{g}"], values[f"b_h{g}"] = i2h_bias[i], h2h_bias[i]
            else:
                values[f"b_{g}"] = i2h_bias[i] + h2h_bias[i]
        params += [values[name] for name in names]
    params += [_value(dense.weight).T, _value(dense.bias)]
    params = [param.copy() for param in params]
    for param in params:
        param.attach_grad()
    return params


def params_to_gluon(
    params: Sequence[nd.NDArray], rnn_layer: gluon.rnn.GRU, dense: gluon.nn.Dense
) -> None:
    """Write the parameters of a network from scratch into Gluon's layers.

    Args:
        params: parameters of ``deep_rnn``, ``deep_gru(..., reset='after')`` or ``deep_lstm``,
            with two biases or with one. A single bias goes to ``i2h_bias``, and ``h2h_bias``
            becomes 0.
        rnn_layer: an initialized ``rnn.RNN``, ``rnn.GRU`` or ``rnn.LSTM``.
        dense: the output layer, initialized.

    Raises:
        TypeError: as ``params_from_gluon``.
        ValueError: if the number of parameters or a shape is wrong, if the layers are not
            initialized, and as ``params_from_gluon``. Nothing is written then.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet.gluon import nn, rnn
        >>> layer, dense = rnn.GRU(8, num_layers=2, input_size=5), nn.Dense(5, in_units=8)
        >>> layer.initialize(), dense.initialize()
        (None, None)
        >>> params = d2l.deep_gru(5, 8, 5, num_layers=2, reset="after").get_params()
        >>> d2l.params_to_gluon(params, layer, dense)
        >>> bool((dense.weight.data() == params[-2].T).asnumpy().all())
        True
    """
    form = _form(rnn_layer, dense)
    names = _names_of_one_layer(params, form, rnn_layer, dense)
    layers = _by_layer(rnn_layer)
    for param in [*(param for layer in layers for param in layer), dense.weight, dense.bias]:
        if not is_initialized(param):
            raise ValueError(f"{param.name} is not initialized: call initialize() first")
    for l, params_of_layer in enumerate(layers):
        values = dict(zip(names, params[l * len(names) :]))
        zeros = nd.zeros_like(values[f"b_{form.gates[0]}"])
        # Each gate (inputs of the layer, num_hiddens) -> (num_hiddens, inputs of the layer),
        # then all gates one below the other: (gates * num_hiddens, inputs of the layer)
        joined = [
            nd.concat(*[values[f"W_x{g}"].T for g in form.gates], dim=0),
            nd.concat(*[values[f"W_h{g}"].T for g in form.gates], dim=0),
            nd.concat(*[values[f"b_{g}"] for g in form.gates], dim=0),
            nd.concat(*[values.get(f"b_h{g}", zeros) for g in form.gates], dim=0),
        ]
        for param, value in zip(params_of_layer, joined):
            set_value(param, value)
    set_value(dense.weight, params[-2].T)
    set_value(dense.bias, params[-1])


def _by_layer(rnn_layer: Any) -> List[List[Any]]:
    names = ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
    levels = range(describe(rnn_layer).num_layers)
    return [[getattr(rnn_layer, f"l{l}_{name}") for name in names] for l in levels]


def _form(rnn_layer: Any, dense: Any) -> _Form:
    if type(rnn_layer) not in FUSED:  # a subclass may compute anything
        raise TypeError(
            f"rnn_layer must be one of gluon.rnn.RNN, GRU and LSTM, not {type(rnn_layer).__name__}"
        )
    if type(dense) is not gluon.nn.Dense:
        raise TypeError(f"dense must be a gluon.nn.Dense, not {type(dense).__name__}")
    described = describe(rnn_layer)
    for is_there, name in [
        (described.bidirectional, "rnn_layer is bidirectional"),
        (described.projected, "rnn_layer has a projection_size"),
        (described.clipped, "rnn_layer clips its state"),
        (dense.act is not None, "dense has an activation"),
    ]:
        if is_there:
            raise ValueError(f"{name}: the networks from scratch do not support this")
    if dense.bias is None:
        raise ValueError("dense has no bias: make it with use_bias=True")
    if dense.weight.shape[1] not in (0, described.num_hiddens):  # 0: not known yet
        raise ValueError(
            f"dense reads {dense.weight.shape[1]} units, but rnn_layer has {described.num_hiddens}"
        )
    return _FORMS[described.mode]


def _names_of_one_layer(
    params: Sequence[nd.NDArray], form: _Form, rnn_layer: Any, dense: Any
) -> List[str]:
    """Return the names of a layer's parameters, after checking all shapes."""
    described = describe(rnn_layer)
    num_layers = described.num_layers

    def count(layer: Layer) -> int:
        return num_layers * len(layer.param_shapes(1, 1)) + 2  # + 2: W_hq and b_q

    if form.layer is GRU_RESET_AFTER_LAYER and len(params) == count(GRU_LAYER):
        raise ValueError(
            f"params has {len(params)} arrays, as many as deep_gru(..., reset='before') has: "
            "Gluon's GRU computes reset='after'"
        )
    doubled = with_two_biases(form.layer)
    layer = doubled if len(params) == count(doubled) else form.layer
    # A layer that has seen no input does not know its size. The first parameter, W_x of a gate,
    # does: (num_inputs, num_hiddens).
    num_inputs = rnn_layer.l0_i2h_weight.shape[1]
    if num_inputs == 0 and len(params) > 0:
        num_inputs = params[0].shape[0]
    sizes = (num_inputs, described.num_hiddens, dense.weight.shape[0])
    check_params(params, network_param_shapes([layer] * num_layers, *sizes))
    return list(layer.param_shapes(1, 1))


def _value(param: Any) -> nd.NDArray:
    try:
        return param.data()
    except (gluon.parameter.DeferredInitializationError, RuntimeError) as error:
        raise ValueError(
            f"{param.name} has no values yet: initialize the model and call it once"
        ) from error
