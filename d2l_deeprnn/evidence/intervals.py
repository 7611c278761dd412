"""Confidence intervals over runs and over a text, and seed-by-seed comparisons."""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .records import Row, Table


class Interval(NamedTuple):
    """An estimate, with the bounds of its confidence interval."""

    middle: float
    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Return whether a value lies within the bounds."""
        return self.low <= value <= self.high


def t_probability(t: float, degrees: int) -> float:
    """Return the probability that Student's t is at most ``t``.

    Args:
        t: the bound.
        degrees: degrees of freedom, at least 1.

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
    """Return the value that Student's t does not exceed with a given probability.

    Example:
        >>> from d2l_deeprnn.evidence.intervals import t_quantile
        >>> round(t_quantile(0.975, 4), 3)
        2.776
    """
    low, high = -1e6, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        if t_probability(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def mean_interval(values: Sequence[float], comparisons: int = 1) -> Interval:
    """Return the mean of some values with its 95 % interval.

    Args:
        values: at least two independent values.
        comparisons: number of intervals that are judged together. Each is wide enough that with a
            probability of 95 %, all of them contain their true means (Bonferroni).

    Example:
        >>> from d2l_deeprnn.evidence.intervals import mean_interval
        >>> mean_interval([1.0, 2.0, 3.0]).contains(0.0)
        True
    """
    t = t_quantile(1 - 0.025 / comparisons, len(values) - 1)
    middle = statistics.mean(values)
    margin = t * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(middle, middle - margin, middle + margin)


def block_interval(differences: Sequence[float], comparisons: int = 1) -> Interval:
    """Return the mean over blocks of a text with its 95 % interval by the bootstrap.

    It says how much the mean would vary with other texts of the same kind and length. Characters
    near each other are not independent, so whole blocks are drawn.

    Args:
        differences: one value for each block, all blocks of about the same length.
        comparisons: see ``mean_interval``.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, sections 8.6 and 13.3.

    Example:
        >>> from d2l_deeprnn.evidence.intervals import block_interval
        >>> block_interval([1.0, 2.0, 3.0]).contains(2.0)
        True
    """
    values = np.asarray(differences, float)
    drawn = np.random.RandomState(0).randint(len(values), size=(20_000, len(values)))
    tail = 0.025 / comparisons
    low, high = np.quantile(values[drawn].mean(1), [tail, 1 - tail])
    return Interval(float(values.mean()), float(low), float(high))


class Difference(NamedTuple):
    """The difference between the losses of two groups of runs, with its intervals.

    Attributes:
        labels: the names of the two groups, as a table shows them.
        mean: mean difference of runs with the same seed.
        interval: the mean with its interval over seeds, or None if there is only one seed.
        over_text: the mean with its interval over blocks of the text, or None if not computed.
    """

    labels: Tuple[str, ...]
    mean: float
    interval: Optional[Interval]
    over_text: Optional[Interval] = None


def paired_difference(
    labels: Tuple[str, ...],
    rows: Sequence[Row],
    others: Sequence[Row],
    *,
    loss: str = "test",
    blocks: str = "",
    comparisons: int = 1,
) -> Difference:
    """Compare the losses of two groups of runs, which have one row per seed.

    Args:
        labels: see ``Difference``.
        rows, others: the groups. Seeds that are in only one of them are left out.
        loss: column of the losses.
        blocks: column with the losses of the text's blocks, separated by spaces, if there is one.
        comparisons: see ``mean_interval``.
    """
    losses = {row["seed"]: row[loss] for row in others}
    differences = [row[loss] - losses[row["seed"]] for row in rows if row["seed"] in losses]
    interval = mean_interval(differences, comparisons) if len(differences) > 1 else None
    over_text = None
    if blocks:
        one, other = (
            np.mean([list(map(float, str(row[blocks]).split())) for row in group], axis=0)
            for group in (rows, others)
        )
        over_text = block_interval(one - other, comparisons)
    return Difference(labels, statistics.mean(differences), interval, over_text)


def difference_table(
    title: str,
    columns: Sequence[str],
    differences: Sequence[Difference],
    *,
    verdict: Tuple[str, str, str] = ("yes", "yes", "no"),
) -> Table:
    """Return a table of differences, with a verdict on each.

    Args:
        columns: names of the columns: one per label, and the verdict.
        verdict: the last cell if all intervals are below 0, above 0, or one of them contains 0.
    """
    less, more, noise = verdict
    has_text = any(difference.over_text for difference in differences)
    rows = []
    for labels, mean, interval, over_text in differences:
        bounds = [interval, over_text] if has_text else [interval]
        shown = [f"{i.low:+.3f} to {i.high:+.3f}" if i else "one seed" for i in bounds]
        is_sure = all(i and not i.contains(0) for i in bounds)
        cell = (less if mean < 0 else more) if is_sure else noise
        rows.append([*labels, f"{mean:+.3f}", *shown, cell])
    intervals = ["interval over seeds", "over the test text"] if has_text else ["interval"]
    return Table(title, [*columns[:-1], "mean", *intervals, columns[-1]], rows)
