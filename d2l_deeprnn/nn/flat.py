"""A model whose parameters lie in one vector: one norm, one update, and nothing to be joined.

A fused layer of Gluon keeps an array for each weight and bias, and joins them
to one vector in every minibatch, gradients likewise. For the chapter's network
that, and to clip and update array by array, is a fifth of the time. Here the
vector is what is kept, and the arrays are views of its parts: whoever reads or
writes one of them, reads or writes the vector.
"""

from __future__ import annotations

from typing import Any, Callable, List, NamedTuple, Optional

from .._mxnet import autograd, gluon, mx, nd
from .model import RNNModel, known_layers


class Flat(NamedTuple):
    """A model in the form that trains fastest.

    Attributes:
        network: ``network(X, Y, state) -> (loss, state)``, compiled as one
            graph; the loss is the minibatch's mean, shape (1,).
        vector: all parameters, of the fused layer first; gradient attached.
        views: the model's parameters as parts of the vector, data and gradients.
    """

    network: gluon.Block
    vector: nd.NDArray
    views: List[nd.NDArray]

    def is_still(self, model: gluon.Block, ctx: Optional[mx.Context]) -> bool:
        """Whether the network and the vector still are the model's."""
        params = _trainable(model, ctx)
        arrays = [array for p in params for array in (p._data[0], p._grad[0])]
        return len(arrays) == len(self.views) and all(a is b for a, b in zip(arrays, self.views))


def flatten(model: gluon.Block, ctx: Optional[mx.Context]) -> Optional[Flat]:
    """Put the parameters of a model into one vector.

    The model's own parameters and their gradients become views: it may be used,
    saved and loaded as before, and sees what is done to the vector.

    Args:
        model: an initialized model of any kind.
        ctx: device of the model.

    Returns:
        None where the model has to be called: see ``known_layers``. Also where it has
        a ``StackedRNN``, or parameters that are not to be trained alike.
    """
    if not _trainable(model, ctx):
        return None
    # The shapes of some parameters are not known before the first input.
    model(nd.zeros((1, 1), ctx=ctx), model.begin_state(batch_size=1, ctx=ctx))
    params = _trainable(model, ctx)
    network = _FlatModel(model, sum(param.data().size for param in model.rnn.params.values()))
    network.parameters.initialize(init="zeros", ctx=ctx)  # draws no random numbers
    vector = nd.concat(*[param.data().reshape((-1,)) for param in params], dim=0)
    vector.attach_grad()
    _make_views(params, vector)
    _make_views([network.parameters], vector)
    network.hybridize(static_alloc=True)
    views = [array for param in params for array in (param._data[0], param._grad[0])]
    return Flat(network, vector, views)


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
        # Not the output layer itself: it would be compiled, and its own graph lost.
        self.params.update(model.dense.params)
        self.weight, self.bias = model.dense.weight, model.dense.bias
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()

    def hybrid_forward(
        self,
        F: Any,
        inputs: Any,
        targets: Any,
        state: List[Any],
        parameters: Any,
        weight: Any,
        bias: Any,
    ) -> Any:
        X = F.one_hot(F.transpose(inputs), self._vocab_size)
        Y, *state = F.RNN(X, parameters, *state, **self._kernel)
        # (num_steps, batch_size, num_hiddens) -> (num_steps * batch_size, num_hiddens)
        output = F.FullyConnected(F.reshape(Y, (-3, 0)), weight, bias, num_hidden=self._vocab_size)
        # (batch_size, num_steps) -> (num_steps * batch_size,), rows as in output
        y = F.reshape(F.transpose(targets), (-1,))
        return F.mean(self.loss(output, y)), state


def _trainable(model: gluon.Block, ctx: Optional[mx.Context]) -> List[gluon.Parameter]:
    """The parameters, in the order of the kernel, if the model can be put into one vector."""
    layers = known_layers(model, ctx)
    if layers != [getattr(model, "rnn", None)]:
        return []
    params = [
        getattr(layers[0], f"l{level}_{source}_{kind}")
        for kind in ("weight", "bias")
        for level in range(layers[0]._num_layers)
        for source in ("i2h", "h2h")
    ]
    params += [model.dense.weight, model.dense.bias]
    if {id(p) for p in params} != {id(p) for p in model.collect_params().values()}:
        return []
    alike = all(param.grad_req == "write" and param.lr_mult == 1 for param in params)
    return params if alike else []


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
