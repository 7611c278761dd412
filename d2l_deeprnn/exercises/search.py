"""Settings that are chosen on a validation part, in the same way for each network of a study."""

from __future__ import annotations

from itertools import product
from statistics import fmean
from typing import Any, Callable, List, Mapping, Sequence, Tuple

from .._perplexity import perplexity
from ..evidence.records import Row, column, select

SEEDS = (0, 6, 7)  # none of those with which networks are compared
ONE_OR_MORE_SEEDS = "with one seed; *: mean loss of three seeds"  # see ``mean_perplexity``


def search(
    try_out: Callable[[List[Row]], List[Row]],
    network: Row,
    grid: Mapping[str, Sequence[float]],
    ladders: Mapping[str, Sequence[float]],
    *,
    seeds: Sequence[int] = SEEDS,
) -> Tuple[Row, List[Row]]:
    """Find the settings of a network with the lowest mean validation loss.

    First, all settings of the grid are tried with the first seed. If a neighbour of the best
    settings on a ladder has not been tried, it is tried next. Otherwise, the best settings get the
    other seeds, and so does everything whose loss lies within the range of their seeds. The search
    ends when there is nothing left to try.

    Args:
        try_out: receives rows with settings and a seed, all of them each time, and returns these
            with the column "valid".
        network: the other columns of these rows.
        grid: setting -> the values that are combined first.
        ladders: setting -> all its values, from low to high. Settings without one are not moved.
        seeds: seeds of the trainings.

    Returns:
        The settings, and the rows of everything that was tried.
    """

    def runs_of(settings: Sequence[Row], seeds: Sequence[int]) -> List[Row]:
        return [{**network, **s, "seed": seed} for seed in seeds for s in settings]

    tried: List[Row] = [dict(zip(grid, values)) for values in product(*grid.values())]
    runs = runs_of(tried, seeds[:1])
    while True:
        rows = try_out(runs)
        losses = [column(select(rows, **s), "valid") for s in tried]
        lowest = min(losses, key=fmean)
        best = tried[losses.index(lowest)]
        untried = [s for s in neighbours(best, ladders) if s not in tried]
        close = [
            s
            for s, found in zip(tried, losses)
            if len(found) < len(seeds) and found[0] <= max(lowest)
        ]
        if untried:
            tried += untried
            runs += runs_of(untried, seeds[:1])
        elif close:
            runs += runs_of(close, seeds[1:])
        else:
            return best, rows


def neighbours(settings: Row, ladders: Mapping[str, Sequence[Any]]) -> List[Row]:
    """Return the settings in which one value is moved one step up or down its ladder.

    Example:
        >>> from d2l_deeprnn.exercises.search import neighbours
        >>> neighbours({"dropout": 0.0, "lr": 0.004}, {"dropout": [0.0, 0.3]})
        [{'dropout': 0.3, 'lr': 0.004}]
    """
    found = []
    for name, ladder in ladders.items():
        place = ladder.index(settings[name])
        for value in (*ladder[max(0, place - 1) : place], *ladder[place + 1 : place + 2]):
            found.append({**settings, name: value})
    return found


def mean_perplexity(runs: Sequence[Row]) -> str:
    """Return the validation perplexity of settings for a table, "" if they were not tried."""
    mark = " *" if len(runs) > 1 else ""
    return f"{perplexity(fmean(column(runs, 'valid'))):.3f}{mark}" if runs else ""
