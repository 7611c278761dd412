"""A step of training: what happens to the gradients."""

from __future__ import annotations

from typing import Sequence

from .._checks import positive_number
from .._mxnet import mx, nd
from .._mxnet.context import check_ctx


def grad_clipping(params: Sequence[nd.NDArray], theta: float, ctx: mx.Context) -> None:
    """Scale the gradients down, in place, if their joint L2 norm exceeds theta.

    Args:
        params: arrays with an attached gradient.
        theta: the largest norm, above 0; infinite for no clipping.
        ctx: device of the parameters. It is where the chapter had it; the
            gradients themselves say the same.

    Raises:
        ValueError: if theta is not above 0.
        TypeError: if ``ctx`` is not one device.

    Source: ``d2l.grad_clipping`` of the chapter.
    """
    check_ctx(ctx)
    positive_number("theta", theta, or_infinite=True)
    gradients = [param.grad for param in params]
    if not gradients:
        return
    norm = nd.multi_sum_sq(*gradients, num_arrays=len(gradients)).sum().sqrt()
    # Differs: the original read the norm to decide whether to scale, and so
    # waited for the device. A factor of at most 1 decides the same without.
    factor = nd.minimum(theta / norm, 1)
    for gradient in gradients:
        gradient *= factor
