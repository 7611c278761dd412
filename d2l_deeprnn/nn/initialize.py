"""Initial values of the parameters."""

from __future__ import annotations

import numpy as np

from .._mxnet import gluon, init, mx, nd
from .._mxnet.library import describe
from .fast import flatten_parameters


def initialize(
    model: gluon.Block, scheme: str, ctx: mx.Context, *, forget_bias: float = 0.0
) -> None:
    """Draw the parameters of a model with fused layers; biases start at 0.

    Args:
        model: an ``RNNModel`` around fused layers whose input sizes are known.
        scheme: "normal", the chapter's Normal(0.01); "xavier", for the matrix of each gate;
            "orthogonal", the same except for state-to-state matrices, which are orthogonal.
        ctx: device.
        forget_bias: initial bias of an LSTM's forget gates. A gate that starts open lets gradients
            flow through many steps.
    """
    num_hiddens = describe(model.rnn).num_hiddens
    params = model.collect_params()
    # The chapter's model learns the size of the vocabulary from its first minibatch. So it draws
    # these parameters last.
    last = [name for name in params if name.endswith("l0_i2h_weight")] + [model.dense.weight.name]
    for name in [name for name in params if name not in last] + last:
        params[name].initialize(None, ctx, init.Normal(0.01), force_reinit=True)
    for name, param in model.collect_params().items():
        recurrent = name.endswith(("i2h_weight", "h2h_weight", "i2h_bias"))
        num_gates = param.shape[0] // num_hiddens if recurrent else 1
        if name.endswith("weight") and scheme != "normal":
            orthogonal = scheme == "orthogonal" and name.endswith("h2h_weight")
            draw = _orthogonal if orthogonal else _xavier
            rows, columns = param.shape
            gates = [draw(rows // num_gates, columns) for _ in range(num_gates)]
            param.set_data(nd.array(np.concatenate(gates)))
        elif name.endswith("i2h_bias") and forget_bias:
            # The gates are in the order i, f, g, o; i2h_bias and h2h_bias add up.
            bias = np.zeros((num_gates, num_hiddens))
            bias[1] = forget_bias
            param.set_data(nd.array(bias.reshape(-1)))
    flatten_parameters(model)


def _xavier(rows: int, columns: int) -> np.ndarray:
    limit = np.sqrt(6 / (rows + columns))
    return np.random.uniform(-limit, limit, (rows, columns))


def _orthogonal(rows: int, columns: int) -> np.ndarray:
    # The signs make the draw uniform over all orthogonal matrices (Mezzadri, 2007).
    q, r = np.linalg.qr(np.random.normal(size=(rows, columns)))
    return q * np.sign(np.diag(r))
