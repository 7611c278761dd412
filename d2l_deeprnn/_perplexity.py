"""Perplexity, which is computed here and nowhere else."""

from __future__ import annotations

import math


def perplexity(nats: float) -> float:
    """Return exp of a mean negative log-likelihood in nats; infinite if no float holds it."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
