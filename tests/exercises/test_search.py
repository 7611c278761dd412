"""Settings are chosen from a grid and its neighbours, with several seeds if they are close."""

from statistics import fmean

import pytest

from d2l_deeprnn.exercises.search import SEEDS, search

LADDERS = {"dropout": (0.0, 0.3, 0.5, 0.7), "lr": (1, 2, 4, 8, 16)}
GRID = {"dropout": (0.0, 0.3), "lr": (2, 4)}


class Trials:
    """Makes rows, and keeps what was tried. ``loss`` receives dropout, learning rate and seed."""

    def __init__(self, loss):
        self.loss, self.runs = loss, []

    def __call__(self, runs):
        self.runs = [(run["dropout"], run["lr"], run["seed"]) for run in runs]
        return [{**run, "valid": self.loss(run["dropout"], run["lr"], run["seed"])} for run in runs]


@pytest.mark.parametrize("best", [(0.0, 1), (0.0, 4), (0.3, 4), (0.5, 16), (0.7, 16)])
def test_the_best_settings_are_found_beyond_the_grid(best):
    place = LADDERS["dropout"].index(best[0]), LADDERS["lr"].index(best[1])

    def loss(dropout, lr, seed):
        at = LADDERS["dropout"].index(dropout), LADDERS["lr"].index(lr)
        return sum((a - b) ** 2 for a, b in zip(at, place)) + 0.01 * seed

    trials = Trials(loss)
    settings, rows = search(trials, {"kind": "a"}, GRID, LADDERS)
    assert settings == {"dropout": best[0], "lr": best[1]}
    assert len(rows) == len(trials.runs) == len(set(trials.runs))
    assert all(row["kind"] == "a" for row in rows)
    # All neighbours of the best settings were tried, and only these settings got more seeds.
    near = [(LADDERS["dropout"][i], best[1]) for i in (place[0] - 1, place[0] + 1) if 0 <= i < 4]
    near += [(best[0], LADDERS["lr"][i]) for i in (place[1] - 1, place[1] + 1) if 0 <= i < 5]
    assert {(*settings, 0) for settings in near} <= set(trials.runs)
    assert [run for run in trials.runs if run[2]] == [(*best, seed) for seed in SEEDS[1:]]


def test_close_settings_are_chosen_by_the_mean_over_seeds():
    losses = {
        (0.0, 2): [3.0, 3.0, 3.0],
        (0.0, 4): [2.2, 1.9, 1.9],  # within the range of the first best, and better on average
        (0.3, 2): [2.1, 2.5, 2.5],
        (0.3, 4): [2.0, 2.3, 2.3],  # best with the first seed
    }
    trials = Trials(lambda *run: losses.get(run[:2], [9.0] * 3)[SEEDS.index(run[2])])
    settings, rows = search(trials, {}, GRID, LADDERS)
    assert settings == {"dropout": 0.0, "lr": 4}
    assert (0.0, 8, 0) in trials.runs  # the neighbour of the best by several seeds
    several = {run[:2] for run in trials.runs if run[2]}
    assert several == {(0.0, 4), (0.3, 2), (0.3, 4)}
    means = [fmean(losses[pair]) for pair in several]
    assert min(means) == fmean(losses[0.0, 4])


def test_settings_without_a_ladder_are_not_moved():
    trials = Trials(lambda dropout, lr, seed: lr - dropout)
    settings, _ = search(trials, {}, {"dropout": (0.0,), "lr": (4, 8)}, {"lr": LADDERS["lr"]})
    assert settings == {"dropout": 0.0, "lr": 1}
    assert {run[0] for run in trials.runs} == {0.0}
