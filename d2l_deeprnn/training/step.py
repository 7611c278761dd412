"""One step of training: forward, backward, clip, update."""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .._checks import positive_number
from .._mxnet import autograd, gluon, mx, nd
from .._mxnet.context import check_ctx, queueing
from .._mxnet.optimizers import is_plain_sgd, parameters
from ..nn.fast import FlatParameters, flat_parameters, structure, training_forward
from .ranks import ALONE, Ranks

Forward = Callable[[nd.NDArray, Any], Tuple[nd.NDArray, Any]]


class Step:
    """What training does with one minibatch.

    Args:
        forward: ``forward(X, state) -> (scores, state)``: a model, or a function with the same
            signature; X of shape (batch_size, num_steps), scores (num_steps * batch_size,
            vocab_size), time step by time step.
        parameters: the parameters to update, and the update rule.
        clipping_theta: the largest L2 norm of all gradients together; infinite for no clipping.
        ranks: those that share each minibatch.
        weight: this rank's share of the minibatch's rows.
    """

    def __init__(
        self,
        forward: Forward,
        parameters: ModelParameters | Arrays,
        clipping_theta: float,
        *,
        ranks: Ranks = ALONE,
        weight: float = 1.0,
    ) -> None:
        self._forward = forward
        self.parameters = parameters
        self._clipping_theta = clipping_theta
        self._ranks = ranks
        self._weight = weight
        self._loss = _MeanLoss()
        self._loss.hybridize()

    def __call__(self, X: nd.NDArray, Y: nd.NDArray, state: Any) -> Tuple[nd.NDArray, Any]:
        """Train on one minibatch.

        Args:
            X, Y: indices of the inputs and of the characters after them, (batch_size, num_steps);
                with several ranks, only this rank's rows.
            state: the hidden state after the previous minibatch.

        Returns:
            The mean loss of all rows, in nats a character, shape (1,), and the new state. Neither
            need be computed yet.
        """
        # Other threads may predict with the model meanwhile.
        with queueing:
            state = detach(state)
            with autograd.record():
                output, new_state = self._forward(X, state)
                loss = self._loss(output, Y)
                if self._weight != 1:
                    loss = loss * self._weight
            loss.backward()
            gradients = self.parameters.gradients()
            self._ranks.sum([*gradients, loss])
            factor = clipping_factor(gradients, self._clipping_theta)
            # All ranks use rank 0's factor: another machine may round it differently.
            self._ranks.take_first([factor])
            self.parameters.update(factor)
        return loss, new_state


class _MeanLoss(gluon.HybridBlock):
    """The mean cross-entropy of scores (num_steps * batch_size, vocab_size)."""

    def __init__(self) -> None:
        super().__init__()
        self.of_each = gluon.loss.SoftmaxCrossEntropyLoss()

    def hybrid_forward(self, F: Any, scores: Any, Y: Any) -> Any:
        # (batch_size, num_steps) -> (num_steps * batch_size,), rows as in scores
        return self.of_each(scores, F.reshape(F.transpose(Y), shape=(-1,))).mean()


class ModelParameters:
    """The parameters of a Gluon model, updated by one of Gluon's optimizers.

    Those of the chapter's own model may lie in one vector (``nn.fast``): it is then clipped in one
    pass, and plain SGD updates it in one.

    Args:
        model: any Gluon model.
        ctx: its device.
        optimizer: of the model's parameters, with any state that it has.
    """

    def __init__(self, model: gluon.Block, ctx: mx.Context, optimizer: gluon.Trainer) -> None:
        self._model, self._ctx = model, ctx
        self.optimizer = optimizer
        self._flat: Optional[FlatParameters] = None
        self._fast_forward: Optional[Forward] = None
        self._structure: Any = None
        self._factor: Optional[nd.NDArray] = None  # of gradients that are not scaled yet

    def belong_to(self, model: gluon.Block) -> bool:
        """Return whether the optimizer's parameters are those of a model."""
        own = {id(param) for param in parameters(self.optimizer)}
        return own == {id(param) for param in model.collect_params().values()}

    def forward(self, X: nd.NDArray, state: Any) -> Tuple[nd.NDArray, Any]:
        """Call the model, or what computes the same for the chapter's own."""
        # Asked at every step: callbacks may do anything to a model in between.
        flat = flat_parameters(self._model)
        found = None if flat is None else structure(self._model)
        if flat is not self._flat or found != self._structure:
            self._flat, self._structure = flat, found
            self._fast_forward = None if flat is None else training_forward(self._model, flat)
        return (self._fast_forward or self._model)(X, state)

    def gradients(self) -> List[nd.NDArray]:
        """All gradients, after a backward pass."""
        if self._flat is not None:
            return [self._flat.gradient]
        return [param.grad(self._ctx) for param in trainable(self._model)]

    def update(self, factor: nd.NDArray) -> None:
        """Take a step with the gradients times a factor, an array of one number."""
        flat, self._factor = self._flat, None
        if flat is not None and is_plain_sgd(self.optimizer):
            # Differs: the original went from array to array.
            flat.subtract_gradient(factor, self.optimizer.learning_rate)
            self._factor = factor
            return
        scale(self.gradients(), factor)
        if flat is not None:
            flat.mark_fresh(True)  # the backward pass wrote to the vector, not to the arrays
        self.optimizer.step(1)  # the loss is a mean already

    def finish(self) -> None:
        """Scale the last gradients, for callbacks that look at them."""
        # Not in every step: it takes 2 % of the chapter's minibatch.
        if self._factor is not None:
            scale(self.gradients(), self._factor)
            self._factor = None


def trainable(model: gluon.Block) -> List[gluon.Parameter]:
    """The parameters of a model that have gradients."""
    return [param for param in model.collect_params().values() if param.grad_req != "null"]


class Arrays:
    """Parameters of a network written from scratch, updated by stochastic gradient descent.

    Args:
        arrays: gradients attached.
        lr: learning rate.
    """

    def __init__(self, arrays: Sequence[nd.NDArray], lr: float) -> None:
        self._arrays = arrays
        self._lr = lr

    def gradients(self) -> List[nd.NDArray]:
        return [array.grad for array in self._arrays]

    def update(self, factor: nd.NDArray) -> None:
        scale(self.gradients(), factor)
        sgd(self._arrays, self._lr, 1)  # the loss is a mean already

    def finish(self) -> None:
        """Do nothing: the gradients are scaled in every step."""


def sgd(params: Sequence[nd.NDArray], lr: float, batch_size: int) -> None:
    """Take one step of stochastic gradient descent, in place.

    Args:
        params: arrays with an attached gradient.
        lr: learning rate.
        batch_size: divisor of the gradients: the number of examples if the
            loss was a sum, 1 if it was a mean.

    Source: ``d2l.sgd`` of the chapter.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import autograd, nd
        >>> w = nd.array([3.0])
        >>> w.attach_grad()
        >>> with autograd.record():
        ...     loss = w * w
        >>> loss.backward()
        >>> d2l.sgd([w], lr=0.1, batch_size=1)
        >>> print(w.asscalar().round(3))  # 3 - 0.1 * 6
        2.4
    """
    for param in params:
        param[:] = param - lr * param.grad / batch_size


def grad_clipping(params: Sequence[nd.NDArray], theta: float, ctx: mx.Context) -> None:
    """Scale the gradients down, in place, if their joint L2 norm exceeds theta.

    Args:
        params: arrays with an attached gradient.
        theta: the largest norm, above 0; infinite for no clipping.
        ctx: device of the parameters. It is checked but not used: the
            chapter's signature has it.

    Raises:
        ValueError: if theta is not above 0.
        TypeError: if ``ctx`` is not one device.

    Source: ``d2l.grad_clipping`` of the chapter.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import autograd, nd
        >>> w = nd.array([3.0, 4.0])
        >>> w.attach_grad()
        >>> with autograd.record():
        ...     loss = (w * w).sum()
        >>> loss.backward()  # the gradient is [6, 8], and its norm 10
        >>> d2l.grad_clipping([w], 5.0, d2l.try_gpu())
        >>> w.grad.asnumpy().round(3).tolist()
        [3.0, 4.0]
    """
    check_ctx(ctx)
    positive_number("theta", theta, or_infinite=True)
    gradients = [param.grad for param in params]
    if not gradients:
        return
    scale(gradients, clipping_factor(gradients, theta))


def grad_clipping_gluon(model: gluon.Block, theta: float, ctx: mx.Context) -> None:
    """Clip the gradients of a Gluon model; see ``grad_clipping``.

    Parameters that are not trained (``grad_req="null"``) are skipped.

    Source: ``d2l.grad_clipping_gluon`` of the chapter.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import autograd, gluon, nd
        >>> model = gluon.nn.Dense(1, in_units=2, use_bias=False)
        >>> model.initialize()
        >>> with autograd.record():
        ...     loss = model(nd.array([[6.0, 8.0]]))
        >>> loss.backward()
        >>> d2l.grad_clipping_gluon(model, 5.0, d2l.try_gpu())
        >>> model.weight.grad().asnumpy().round(3).tolist()
        [[3.0, 4.0]]
    """
    check_ctx(ctx)
    # Differs: the original failed on a parameter without a gradient.
    grad_clipping([param.data(ctx) for param in trainable(model)], theta, ctx)


def scale(gradients: Sequence[nd.NDArray], factor: nd.NDArray) -> None:
    """Multiply gradients, in place, by an array of one number."""
    for gradient in gradients:
        gradient *= factor.astype(gradient.dtype, copy=False)


def clipping_factor(gradients: Sequence[nd.NDArray], theta: float) -> nd.NDArray:
    """Return the factor that scales gradients to a joint L2 norm of at most theta."""
    if len(gradients) == 1 and gradients[0].ndim == 1:
        norm = nd.dot(gradients[0], gradients[0]).sqrt()  # by several threads
    else:
        norm = nd.multi_sum_sq(*gradients, num_arrays=len(gradients)).sum().sqrt()
    # Differs: the original read the norm to decide whether to scale, and so
    # waited for the device. A factor of at most 1 decides the same without.
    return nd.minimum(theta / norm, 1)


def detach(state: Any) -> Any:
    """Detach every array of a state, nested or not, from the previous minibatch's graph."""
    # Differs: the original called detach and kept the array it was called on.
    return map_arrays(lambda array: array.detach(), state)


def map_arrays(function: Callable[[nd.NDArray], Any], state: Any) -> Any:
    """Return a state, nested or not, with the function's results in place of its arrays."""
    if isinstance(state, nd.NDArray):
        return function(state)
    if isinstance(state, tuple) and hasattr(state, "_make"):  # a named one
        return state._make(map_arrays(function, part) for part in state)
    if isinstance(state, (list, tuple)):
        return type(state)(map_arrays(function, part) for part in state)
    if isinstance(state, dict):
        mapped = copy.copy(state)
        mapped.update({key: map_arrays(function, state[key]) for key in _sorted(state)})
        return mapped
    return state


def _sorted(state: Dict[Any, Any]) -> List[Any]:
    # A model may return its parts in another order than begin_state does.
    return sorted(state, key=repr)


def arrays_in(state: Any) -> List[nd.NDArray]:
    """Return the arrays of a state, nested or not, in order.

    Raises:
        TypeError: If the state has something other than arrays in it.
    """
    if isinstance(state, nd.NDArray):
        return [state]
    if state is None:
        return []
    if isinstance(state, (list, tuple, dict)):
        parts = [state[key] for key in _sorted(state)] if isinstance(state, dict) else state
        return [array for part in parts for array in arrays_in(part)]
    raise TypeError(
        f"the hidden state has a {type(state).__name__} in it, which cannot be saved: let "
        "begin_state return arrays, in lists, tuples or dicts"
    )
