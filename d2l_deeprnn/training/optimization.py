"""Trainable parameters: gradient clipping, plain SGD, and updates by Gluon's optimizers."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .._checks import expected_arrays, positive_number
from .._mxnet import gluon, mx, nd, optimizers
from .._mxnet.library import check_ctx, is_initialized, named_parameters
from ..nn.fast import FlatParameters, flat_parameters, flatten_parameters, is_plain_sgd

Forward = Callable[[nd.NDArray, Any], Tuple[nd.NDArray, Any]]


class TrainableModel:
    """A Gluon model with the Gluon trainer that updates its parameters.

    The parameters of the chapter's own model may be stored in one vector (see ``nn.fast``), which
    is then clipped and updated as a whole.

    Args:
        model: any Gluon model.
        ctx: the model's device.
        gluon_trainer: Gluon's trainer of the model's parameters, with its optimizer.
    """

    def __init__(self, model: gluon.Block, ctx: mx.Context, gluon_trainer: gluon.Trainer) -> None:
        self._model, self._ctx, self._gluon_trainer = model, ctx, gluon_trainer
        self._params = list(model.collect_params().values())
        self._flat: Optional[FlatParameters] = None
        self._pending: Optional[nd.NDArray] = None  # the factor of gradients not yet clipped

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        return float(self._gluon_trainer.learning_rate)

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._gluon_trainer.set_learning_rate(rate)

    def is_current(self) -> bool:
        """Return whether the model still has the parameters that the trainer updates."""
        present = self._model.collect_params().values()
        return set(map(id, present)) == set(map(id, self._params))

    def forward(self, X: nd.NDArray, state: Any) -> Tuple[nd.NDArray, Any]:
        """Return the scores and the new state; the chapter's own model reads its vector."""
        # Check at every step, because callbacks may change the model in between.
        self._flat = flat_parameters(self._model)
        if self._flat is None:
            scores, state = self._model(X, state)
        else:
            scores, state = self._flat.forward(self._model, X, state)
        return scores, state

    def gradients(self) -> List[nd.NDArray]:
        """Return all gradients after a backward pass."""
        if self._flat is not None:
            return [self._flat.gradient]
        return [param.grad(self._ctx) for param in trainable_parameters(self._model)]

    def update(self, factor: nd.NDArray) -> None:
        """Take a step with the gradients times a factor, an array of shape (1,)."""
        flat, self._pending = self._flat, None
        if flat is not None and is_plain_sgd(self._gluon_trainer):
            # weights -= learning_rate * factor * gradient, in place: the model's parameters are
            # views of the vector. As a matrix product of shapes (1, 1) and (1, n), this is one
            # pass over the memory. Differs: the original updated the arrays one by one.
            weights, gradient = flat.vector.reshape((1, -1)), flat.gradient.reshape((1, -1))
            rate, clipping = self.learning_rate, factor.reshape((1, 1))
            nd.linalg.gemm(clipping, gradient, weights, alpha=-rate, beta=1, out=weights)
            self._pending = factor
        else:
            scale(self.gradients(), factor)
            if flat is not None:
                flat.mark_fresh()
            self._gluon_trainer.step(1)  # the loss is already a mean

    def clip_last_gradients(self) -> None:
        """Clip the gradients of the last update in place, for callbacks after an epoch."""
        # Not after every step: it takes 2 % of the chapter's minibatch.
        if self._pending is not None:
            scale(self.gradients(), self._pending)
            self._pending = None

    def state_dict(self) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Return copies of the parameters and optimizer arrays, and the optimizer's numbers."""
        arrays = {
            **with_prefix("params", as_numpy(parameters_of(self._model))),
            **with_prefix("optimizer", as_numpy(optimizers.state_arrays(self._gluon_trainer))),
        }
        return arrays, optimizers.state_numbers(self._gluon_trainer)

    def load_state_dict(self, arrays: Mapping[str, np.ndarray], numbers: Mapping[str, Any]) -> None:
        """Restore the result of ``state_dict``.

        Raises:
            ValueError: if a part is missing, unexpected, or has the wrong shape; names it.
        """
        set_parameters(self._model, without_prefix("params", arrays), self._ctx)
        optimizers.restore_state(self._gluon_trainer, without_prefix("optimizer", arrays), numbers)


def trainable_parameters(model: gluon.Block) -> List[gluon.Parameter]:
    """Return the parameters of a model that have gradients."""
    return [param for param in model.collect_params().values() if param.grad_req != "null"]


class TrainableArrays:
    """The forward pass and the parameters of a network from scratch, updated by plain SGD.

    Args:
        forward: function ``(X, state) -> (scores, state)``, with X of shape (batch_size, num_steps)
            and scores of shape (num_steps * batch_size, vocab_size), ordered by time step.
        arrays: the parameters, with gradients attached.
        lr: learning rate.
    """

    def __init__(self, forward: Forward, arrays: Sequence[nd.NDArray], lr: float) -> None:
        self.forward = forward
        self._arrays = arrays
        self.learning_rate = lr

    def gradients(self) -> List[nd.NDArray]:
        """Return all gradients after a backward pass."""
        return [array.grad for array in self._arrays]

    def update(self, factor: nd.NDArray) -> None:
        """Take a step with the gradients times a factor, an array of shape (1,)."""
        scale(self.gradients(), factor)
        sgd(self._arrays, self.learning_rate, 1)  # the loss is already a mean

    def clip_last_gradients(self) -> None:
        """Do nothing: each update has clipped the gradients."""


def with_prefix(group: str, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Return arrays by their names in a checkpoint, ``group/name``."""
    return {f"{group}/{name}": array for name, array in arrays.items()}


def without_prefix(group: str, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Return the arrays of a checkpoint's group by their names without the group."""
    prefix = f"{group}/"
    return {n[len(prefix) :]: array for n, array in arrays.items() if n.startswith(prefix)}


def parameters_of(model: gluon.Block) -> Dict[str, nd.NDArray]:
    """Return the parameters of a model by their names in a checkpoint."""
    return {name: param.data() for name, param in named_parameters(model).items()}


def set_parameters(model: gluon.Block, values: Mapping[str, np.ndarray], ctx: mx.Context) -> None:
    """Set the parameters of a model, with names as in ``parameters_of``, and reset their gradients.

    Raises:
        ValueError: if one is missing, unexpected, or has the wrong shape.
    """
    params, values = named_parameters(model), check_parameters(model, values)
    # Reuse the model's arrays. Moving them into one vector may round the norm of the gradients
    # differently, and a resumed training must not change.
    has_arrays = all(is_initialized(p) and p.list_ctx() == [ctx] for p in params.values())
    if not has_arrays:
        model.initialize(ctx=ctx, force_reinit=True)
    for name, param in params.items():
        param.set_data(nd.array(values[name], dtype=param.dtype))
        param.zero_grad()
    if not has_arrays:
        flatten_parameters(model)


def check_parameters(model: gluon.Block, values: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Return the values in the order of the model's parameters, after checking them.

    Raises:
        ValueError: as ``set_parameters``; nothing of the model's size is allocated.
    """
    shapes = {name: param.shape for name, param in named_parameters(model).items()}
    return expected_arrays("params/", values, shapes)


def as_numpy(arrays: Mapping[str, nd.NDArray]) -> Dict[str, np.ndarray]:
    """Copy arrays from the device."""
    return {name: array.asnumpy() for name, array in arrays.items()}


def sgd(params: Sequence[nd.NDArray], lr: float, batch_size: int) -> None:
    """Take one step of stochastic gradient descent, in place.

    Args:
        params: arrays with an attached gradient.
        lr: learning rate.
        batch_size: divisor of the gradients: the number of examples if the loss is a sum, 1 if
            it is a mean.

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

    The train functions do not call this. They clip in the same way, by ``clipping_factor``.

    Args:
        params: arrays with an attached gradient.
        theta: maximum norm, above 0; infinite for no clipping.
        ctx: device of the parameters. It is checked but not used; it is part of the chapter's
            signature.

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
    grad_clipping([param.data(ctx) for param in trainable_parameters(model)], theta, ctx)


def scale(gradients: Sequence[nd.NDArray], factor: nd.NDArray) -> None:
    """Multiply gradients, in place, by an array of shape (1,)."""
    for gradient in gradients:
        gradient *= factor.astype(gradient.dtype, copy=False)


def clipping_factor(gradients: Sequence[nd.NDArray], theta: float) -> nd.NDArray:
    """Return the factor that scales gradients to a joint L2 norm of at most theta."""
    if len(gradients) == 1 and gradients[0].ndim == 1:
        norm = nd.dot(gradients[0], gradients[0]).sqrt()  # multithreaded
    else:
        by_type: Dict[Any, List[nd.NDArray]] = {}  # the operator takes arrays of one type
        for gradient in gradients:
            by_type.setdefault(gradient.dtype, []).append(gradient)
        squares = [nd.multi_sum_sq(*g, num_arrays=len(g)).sum() for g in by_type.values()]
        norm = nd.add_n(*[square.astype(squares[0].dtype, copy=False) for square in squares]).sqrt()
    # Differs: the original read the norm to decide whether to scale, which waits for the device. A
    # factor of at most 1 has the same effect.
    return nd.minimum(theta / norm, 1)
