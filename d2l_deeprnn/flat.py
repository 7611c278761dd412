"""The model with the parameters of its fused layer as one vector, as MXNet's kernel wants them.

A fused layer of Gluon keeps an array for each weight and bias, and joins them
to one vector in every minibatch, gradients likewise. For the chapter's network
that is a tenth of the time. Here the vector is what is kept, and the arrays are
views of its parts: whoever reads or writes one of them, reads or writes the
vector.
"""

from __future__ import annotations

from typing import Any, List

from ._mxnet import autograd, gluon, mx, nd
from .model import RNNModel


def with_flat_parameters(model: gluon.Block, ctx: mx.Context) -> gluon.Block:
    """A network that computes what the model does, to the bit, from one vector of parameters.

    The model's own parameters and their gradients become views: it may be used,
    saved and loaded as before, and sees what is done to the network.

    Args:
        model: an ``RNNModel``, initialized.
        ctx: device of the model.

    Returns:
        The network, compiled; the model itself where that cannot be: if it has
        cells and no fused layer, or parameters that are not to be trained
        alike.
    """
    if not (isinstance(model, RNNModel) and isinstance(model.rnn, gluon.rnn.rnn_layer._RNNLayer)):
        return model
    # The shapes of some parameters are not known before the first input.
    model(nd.zeros((1, 1), ctx=ctx), model.begin_state(batch_size=1, ctx=ctx))
    params = list(model.collect_params().values())
    if model.rnn._projection_size or any(p.grad_req != "write" or p.lr_mult != 1 for p in params):
        return model
    parts = _in_kernel_order(model.rnn)
    vector = nd.concat(*[part.data(ctx).reshape((-1,)) for part in parts], dim=0)
    network = _FlatModel(model, vector.size)
    network.parameters.initialize(init="zeros", ctx=ctx)  # draws no random numbers
    network.parameters.set_data(vector)
    _make_views(parts, network.parameters, ctx)
    network.hybridize(static_alloc=True)
    return network


class _FlatModel(gluon.HybridBlock):
    """``RNNModel`` around a fused layer, compiled as one graph."""

    def __init__(self, model: RNNModel, size: int) -> None:
        super().__init__()
        layer = model.rnn
        self._vocab_size = model.vocab_size
        self._kernel = {
            "mode": layer._mode,
            "state_size": layer._hidden_size,
            "num_layers": layer._num_layers,
            "p": layer._dropout,
            "lstm_state_clip_min": layer._lstm_state_clip_min,
            "lstm_state_clip_max": layer._lstm_state_clip_max,
            "lstm_state_clip_nan": layer._lstm_state_clip_nan,
            "state_outputs": True,
        }
        self.parameters = self.params.get("parameters", shape=(size,))
        # A block of its own: to compile the model's would undo what was compiled there.
        self.dense = gluon.nn.Dense(
            model.vocab_size, in_units=layer._hidden_size, params=model.dense.params
        )

    def hybrid_forward(self, F: Any, inputs: Any, state: List[Any], parameters: Any) -> Any:
        X = F.one_hot(F.transpose(inputs), self._vocab_size)
        Y, *state = F.RNN(X, parameters, *state, **self._kernel)
        # (num_steps, batch_size, num_hiddens) -> (num_steps * batch_size, num_hiddens)
        return self.dense(F.reshape(Y, (-3, 0))), state


def _in_kernel_order(layer: gluon.rnn.rnn_layer._RNNLayer) -> List[gluon.Parameter]:
    return [
        getattr(layer, f"l{level}_{source}_{kind}")
        for kind in ("weight", "bias")
        for level in range(layer._num_layers)
        for source in ("i2h", "h2h")
    ]


def _make_views(parts: List[gluon.Parameter], vector: gluon.Parameter, ctx: mx.Context) -> None:
    data, grad = vector.data(ctx), vector.grad(ctx)
    begin = 0
    for part in parts:
        end = begin + part.data(ctx).size
        part._data = [data[begin:end].reshape(part.shape)]
        part._grad = [grad[begin:end].reshape(part.shape)]
        # What backward, called on the model itself, writes to.
        autograd.mark_variables(part._data, part._grad, part.grad_req)
        begin = end
