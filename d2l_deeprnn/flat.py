"""A model whose parameters lie in one vector: one norm, one update, and nothing to be joined.

A fused layer of Gluon keeps an array for each weight and bias, and joins them
to one vector in every minibatch, gradients likewise. For the chapter's network
that, and to clip and update array by array, is a fifth of the time. Here the
vector is what is kept, and the arrays are views of its parts: whoever reads or
writes one of them, reads or writes the vector.
"""

from __future__ import annotations

from typing import Any, Callable, List, NamedTuple, Optional

from ._mxnet import autograd, gluon, mx, nd
from .model import RNNModel


class Flat(NamedTuple):
    """A model in the form that trains fastest.

    Attributes:
        network: ``network(X, Y, state) -> (loss, state)``, compiled as one
            graph; the loss is the minibatch's mean, shape (1,).
        vector: all parameters, of the fused layer first; gradient attached.
    """

    network: gluon.Block
    vector: nd.NDArray


def flatten(model: gluon.Block, ctx: mx.Context) -> Optional[Flat]:
    """Put the parameters of a model into one vector.

    The model's own parameters and their gradients become views: it may be used,
    saved and loaded as before, and sees what is done to the vector.

    Args:
        model: an ``RNNModel``, initialized.
        ctx: device of the model.

    Returns:
        None where that cannot be: if the model has cells and no fused layer,
        or parameters that are not to be trained alike.
    """
    if not (isinstance(model, RNNModel) and isinstance(model.rnn, gluon.rnn.rnn_layer._RNNLayer)):
        return None
    # The shapes of some parameters are not known before the first input.
    model(nd.zeros((1, 1), ctx=ctx), model.begin_state(batch_size=1, ctx=ctx))
    params = list(model.collect_params().values())
    if model.rnn._projection_size or any(p.grad_req != "write" or p.lr_mult != 1 for p in params):
        return None
    parts = _in_kernel_order(model.rnn)
    size = sum(part.data(ctx).size for part in parts)
    network = _FlatModel(model, size)
    network.parameters.initialize(init="zeros", ctx=ctx)  # draws no random numbers
    output = [model.dense.weight, model.dense.bias]
    vector = nd.concat(*[p.data(ctx).reshape((-1,)) for p in parts + output], dim=0)
    vector.attach_grad()
    _make_views(parts + output, vector)
    _make_views([network.parameters], vector)
    network.hybridize(static_alloc=True)
    return Flat(network, vector)


def clip_and_descend(vector: nd.NDArray, theta: float, lr: float) -> Callable[[], Any]:
    """What clips the gradient as ``grad_clipping`` does, and takes a step of gradient descent.

    Args:
        vector: all parameters, gradient attached.
        theta: the largest L2 norm of the gradient.
        lr: learning rate.
    """
    gradient = vector.grad
    # (size,) -> (1, size)
    row, gradient_row = vector.reshape((1, -1)), gradient.reshape((1, -1))

    def update() -> None:
        norm = nd.dot(gradient, gradient).sqrt()
        factor = nd.minimum(theta / norm, 1)
        # vector -= lr * factor * gradient, in one pass over the memory: the product
        # of a matrix of one number and one of one row, added to another.
        nd.linalg.gemm(factor.reshape((1, 1)), gradient_row, row, alpha=-lr, beta=1, out=row)

    return update


class _FlatModel(gluon.HybridBlock):
    """``RNNModel`` around a fused layer, and its loss."""

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
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()

    def hybrid_forward(
        self, F: Any, inputs: Any, targets: Any, state: List[Any], parameters: Any
    ) -> Any:
        X = F.one_hot(F.transpose(inputs), self._vocab_size)
        Y, *state = F.RNN(X, parameters, *state, **self._kernel)
        # (num_steps, batch_size, num_hiddens) -> (num_steps * batch_size, num_hiddens)
        output = self.dense(F.reshape(Y, (-3, 0)))
        # (batch_size, num_steps) -> (num_steps * batch_size,), rows as in output
        y = F.reshape(F.transpose(targets), (-1,))
        return F.mean(self.loss(output, y)), state


def _in_kernel_order(layer: gluon.rnn.rnn_layer._RNNLayer) -> List[gluon.Parameter]:
    return [
        getattr(layer, f"l{level}_{source}_{kind}")
        for kind in ("weight", "bias")
        for level in range(layer._num_layers)
        for source in ("i2h", "h2h")
    ]


def _make_views(params: List[gluon.Parameter], vector: nd.NDArray) -> None:
    """Let parameters be the parts of the vector, in order from its beginning."""
    begin = 0
    for param in params:
        (data,) = param.list_data()
        end = begin + data.size
        param._data = [vector[begin:end].reshape(param.shape)]
        param._grad = [vector.grad[begin:end].reshape(param.shape)]
        # What backward writes to.
        autograd.mark_variables(param._data, param._grad, param.grad_req)
        begin = end
