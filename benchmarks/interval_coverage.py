"""How often does an interval like those of ``d2l_deeprnn.book`` hold the next run?

They are made to hold 99.9 % of further runs if the logarithm of the loss is
normally distributed from seed to seed. What was measured is skewed. Writes
``results/interval_coverage.csv`` and ``.json``, a row for each of

- *simulated*: further runs are drawn from a gamma or a log-normal distribution
  with the skewness of this package's trainings in ``results/seeds``, at each
  of the book's epochs; normally distributed ones check the simulation;
- *left out*: each training is held against the interval from the others, at
  every epoch of a range;
- *original*: each training of the original library is held against the
  interval from this package's;
- *further seeds*: so are trainings of this package that ended at epoch 125.

    python benchmarks/interval_coverage.py
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import platform
from pathlib import Path
from typing import Callable, List, Sequence, Tuple

import numpy as np
from seeds import load, perplexities, write
from turns import RESULTS

from d2l_deeprnn.book import CHAPTER

DRAWS = 400_000
# Around the book's first figure, and when the text is known by heart.
RANGES = ((100, 150), (200, 500))
# Degrees of freedom -> Student's t, 0.9995.
STUDENT = {
    5: 6.869, 6: 5.959, 7: 5.408, 8: 5.041, 9: 4.781, 19: 3.883, 29: 3.659,
}  # fmt: skip

Interval = Tuple[np.ndarray, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the simulation")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["what", "epochs", "runs", "skewness", "cases", "below", "above", "coverage"])

    def note(what: str, epochs: str, runs: int, skewness: str, below, above) -> None:
        cases, held = below.size, 1 - below.mean() - above.mean()
        row = [below.mean(), above.mean(), held]
        writer.writerow([what, epochs, runs, skewness, cases, *(f"{share:.5f}" for share in row)])

    random = np.random.default_rng(arguments.seed)
    trainings = load(arguments.out)
    ours = [log_losses(t) for t in trainings if t["library"] == "ours"]
    whole = np.array([curve for curve in ours if len(curve) == CHAPTER.num_epochs]).T
    n = whole.shape[1]
    for epoch in (125, 250, 375, 500):
        skewness = skewness_of(np.array([c[epoch - 1] for c in ours if len(c) >= epoch]))
        for name, draw in {
            "normal": random.standard_normal,
            "gamma": gamma(abs(skewness), random),
            "log-normal": log_normal(abs(skewness), random),
        }.items():
            drawn = math.copysign(1, skewness) * draw((DRAWS, n + 1))
            outside = outside_of(interval(drawn[:, :-1]), drawn[:, -1])
            shown = f"{skewness:.2f}" if name != "normal" else "0.00"
            note(f"simulated, {name}", str(epoch), n, shown, *outside)

    original = np.array([log_losses(t) for t in trainings if t["library"] == "original"]).T
    for first, last in RANGES:
        some = whole[first - 1 : last]
        outside = [outside_of(interval(np.delete(some, i, axis=1)), some[:, i]) for i in range(n)]
        note("left out", f"{first} to {last}", n - 1, "", *np.concatenate(outside, axis=1))
        low, high = interval(some)
        outside = outside_of((low[:, None], high[:, None]), original[first - 1 : last])
        note("original", f"{first} to {last}", n, "", *outside)
    further = np.array([c[124] for c in ours if 125 <= len(c) < CHAPTER.num_epochs])
    if further.size:
        note("further seeds", "125", n, "", *outside_of(interval(whole[124]), further))

    write(arguments.out / "interval_coverage.csv", table.getvalue())
    made_with = {
        "command": f"python benchmarks/interval_coverage.py --seed {arguments.seed}",
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    write(arguments.out / "interval_coverage.json", json.dumps(made_with, indent=2) + "\n")


def log_losses(training) -> List[float]:
    """The logarithm of the loss, an epoch's mean in nats, of each epoch."""
    return [math.log(math.log(perplexity)) for perplexity in perplexities(training["losses"])]


def interval(runs: np.ndarray) -> Interval:
    """Where one more run is expected, from the runs along the last axis."""
    n = runs.shape[-1]
    middle = runs.mean(axis=-1)
    margin = STUDENT[n - 1] * runs.std(axis=-1, ddof=1) * math.sqrt(1 + 1 / n)
    return middle - margin, middle + margin


def outside_of(expected: Interval, found: np.ndarray) -> Interval:
    """Which lie below, and which above."""
    low, high = expected
    return found < low, found > high


def skewness_of(runs: np.ndarray) -> float:
    """Adjusted for the number of runs."""
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
