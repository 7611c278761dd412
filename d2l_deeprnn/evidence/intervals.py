"""How sure a mean, or a slope, is that was found from a few runs: Student's t."""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple, Sequence


class Interval(NamedTuple):
    """An estimate, and between which bounds the truth is expected."""

    middle: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies within the bounds."""
        return self.low <= value <= self.high


def t_probability(t: float, degrees: int) -> float:
    """The probability that Student's t is at most some value.

    Args:
        t: the value.
        degrees: of freedom, at least 1.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.

    Example:
        >>> from d2l_deeprnn.evidence.intervals import t_probability
        >>> round(t_probability(2.776, 4), 3)
        0.975
    """
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    term, total = (1.0, 0.0) if degrees % 2 == 0 else (cosine, 0.0)
    for k in range(degrees % 2 + 1, degrees, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    within = sine * total if degrees % 2 == 0 else 2 / math.pi * (angle + sine * total)
    return 0.5 + within / 2


def t_quantile(probability: float, degrees: int) -> float:
    """The value that Student's t exceeds with the probability that remains.

    Example:
        >>> from d2l_deeprnn.evidence.intervals import t_quantile
        >>> round(t_quantile(0.975, 4), 3)
        2.776
    """
    low, high = -1.0, 1.0
    while t_probability(high, degrees) < probability:
        high *= 2
    while t_probability(low, degrees) > probability:
        low *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if t_probability(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def mean_interval(values: Sequence[float], comparisons: int = 1) -> Interval:
    """The mean of some values, and its 95 % interval.

    Args:
        values: at least two, of runs that know nothing of each other.
        comparisons: how many such intervals are looked at together. They are wide enough to hold
            all their means at once with 95 % (Bonferroni).

    Example:
        >>> from d2l_deeprnn.evidence.intervals import mean_interval
        >>> mean_interval([1.0, 2.0, 3.0]).holds(0.0)
        True
    """
    t = t_quantile(1 - 0.025 / comparisons, len(values) - 1)
    middle = statistics.mean(values)
    margin = t * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(middle, middle - margin, middle + margin)


def slope_interval(xs: Sequence[float], ys: Sequence[float]) -> Interval:
    """The slope of the straight line through some points (least squares), and its 95 % interval.

    Example:
        >>> from d2l_deeprnn.evidence.intervals import slope_interval
        >>> round(slope_interval([0, 1, 2, 3], [1, 3, 5, 7.5]).middle, 2)
        2.15
    """
    middle_x, middle_y = statistics.mean(xs), statistics.mean(ys)
    spread = sum((x - middle_x) ** 2 for x in xs)
    slope = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys)) / spread
    rest = sum((y - middle_y - slope * (x - middle_x)) ** 2 for x, y in zip(xs, ys))
    degrees = len(xs) - 2
    margin = t_quantile(0.975, degrees) * math.sqrt(rest / degrees / spread)
    return Interval(slope, slope - margin, slope + margin)
