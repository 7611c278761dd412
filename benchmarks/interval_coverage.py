"""How often does an interval like those of ``d2l_deeprnn.chapter.book`` contain the next run?

The intervals contain 99.9 % of further runs if the logarithm of the loss is normally distributed
from seed to seed. The measured logarithms are skewed. Writes ``results/interval_coverage.csv`` and
``.json``, with these rows:

- *simulated*: further runs from a gamma or a log-normal distribution with the skewness of the
  twenty trainings of this package and the original library (``chapter_seeds.csv``,
  ``original_seeds.csv``), at each of the book's epochs; normally distributed runs check the
  simulation;
- *left out*: each of the twenty compared with the interval of the others, at each of the book's
  epochs, and at any of them;
- *halves*: ten of the twenty, drawn at random, compared with the interval of the other ten;
- *left out, ours*: each of this package's ten trainings compared with the interval of the other
  nine, at every epoch of a range (``chapter_curves.csv``).

    python benchmarks/interval_coverage.py
"""

from __future__ import annotations

import math
from typing import Callable, Sequence, Tuple

import numpy as np
from turns import RESULTS, parser, write

from d2l_deeprnn.chapter.book import BOOK
from d2l_deeprnn.evidence.intervals import t_quantile
from d2l_deeprnn.evidence.records import read_rows

DRAWS, HALVES = 400_000, 20_000
BOOKS_EPOCHS = tuple(line.epoch for line in BOOK.printed)
# Around the book's first value, and when the text is known by heart
RANGES = ((100, 150), (250, 500))
Interval = Tuple[np.ndarray, np.ndarray]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seed", type=int, default=0, help="seed of the simulation")
    arguments = options.parse_args()
    rows = []

    def add(what: str, epochs: str, runs: int, skewness: str, below, above) -> None:
        row = {"what": what, "epochs": epochs, "runs": runs, "skewness": skewness}
        shares = {"below": below.mean(), "above": above.mean()}
        shares["coverage"] = 1 - below.mean() - above.mean()
        shown = {name: f"{share:.5f}" for name, share in shares.items()}
        rows.append({**row, "cases": below.size, **shown})

    random = np.random.default_rng(arguments.seed)
    libraries = [log_losses(f"{name}_seeds.csv") for name in ("chapter", "original")]
    runs = np.concatenate(libraries, axis=1)
    n = runs.shape[1]
    for epoch, losses in zip(BOOKS_EPOCHS, runs):
        skewness = skewness_of(losses)
        for name, draw in {
            "normal": random.standard_normal,
            "gamma": gamma(abs(skewness), random),
            "log-normal": log_normal(abs(skewness), random),
        }.items():
            drawn = math.copysign(1, skewness) * draw((DRAWS, n + 1))
            outside = outside_of(interval(drawn[:, :-1]), drawn[:, -1])
            shown = f"{skewness:.2f}" if name != "normal" else "0.00"
            add(f"simulated, {name}", str(epoch), n, shown, *outside)

    orders = [random.permutation(n) for _ in range(HALVES)]
    splits = {
        "left out": [(np.delete(np.arange(n), i), np.array([i])) for i in range(n)],
        "halves": [(order[: n // 2], order[n // 2 :]) for order in orders],
    }
    for what, pairs in splits.items():
        outside = [outside_of(interval(runs[:, a]), runs[:, b]) for a, b in pairs]
        below, above = np.concatenate(outside, axis=2)  # (epochs, cases)
        for epoch, *shares in zip(BOOKS_EPOCHS, below, above):
            add(what, str(epoch), len(pairs[0][0]), "", *shares)
        any_below = below.any(axis=0)
        add(what, "any", len(pairs[0][0]), "", any_below, above.any(axis=0) & ~any_below)
    whole = log_losses("chapter_curves.csv")
    n = whole.shape[1]
    for first, last in RANGES:
        some = whole[first - 1 : last]
        outside = [outside_of(interval(np.delete(some, i, axis=1)), some[:, i]) for i in range(n)]
        add("left out, ours", f"{first} to {last}", n - 1, "", *np.concatenate(outside, axis=1))

    write(arguments, rows)


def log_losses(name: str) -> np.ndarray:
    """Return the logarithm of the comparable loss in nats, by epoch and seed."""
    rows = read_rows(RESULTS / name)
    losses = {(row["epoch"], row["seed"]): math.log(row["judged"]) for row in rows}
    epochs, seeds = (sorted({key[i] for key in losses}) for i in (0, 1))
    return np.log([[losses[epoch, seed] for seed in seeds] for epoch in epochs])


def interval(runs: np.ndarray) -> Interval:
    """Return the bounds between which one more run is expected, from runs along the last axis."""
    n = runs.shape[-1]
    middle = runs.mean(axis=-1)
    margin = t_quantile(0.9995, n - 1) * runs.std(axis=-1, ddof=1) * math.sqrt(1 + 1 / n)
    return middle - margin, middle + margin


def outside_of(expected: Interval, runs: np.ndarray) -> Interval:
    """Return which runs are below, and which are above."""
    low, high = (bound.reshape(bound.shape + (1,) * (runs.ndim - bound.ndim)) for bound in expected)
    return runs < low, runs > high


def skewness_of(runs: np.ndarray) -> float:
    """Return the skewness, adjusted for the number of runs."""
    n = len(runs)
    deviations = runs - runs.mean()
    biased = (deviations**3).mean() / (deviations**2).mean() ** 1.5
    return float(biased * math.sqrt(n * (n - 1)) / (n - 2))


def gamma(skewness: float, random: np.random.Generator) -> Callable[[Sequence[int]], np.ndarray]:
    return lambda shape: random.standard_gamma(4 / skewness**2, shape)


def log_normal(
    skewness: float, random: np.random.Generator
) -> Callable[[Sequence[int]], np.ndarray]:
    # The skewness of a log-normal distribution is (w + 2) * sqrt(w - 1), where w = exp(sigma ** 2)
    # and so u = w - 1 solves u ** 3 + 6 * u ** 2 + 9 * u = skewness ** 2.
    u = max(root.real for root in np.roots([1, 6, 9, -(skewness**2)]) if abs(root.imag) < 1e-9)
    sigma = math.sqrt(math.log1p(u))
    return lambda shape: np.exp(sigma * random.standard_normal(shape))


if __name__ == "__main__":
    main()
