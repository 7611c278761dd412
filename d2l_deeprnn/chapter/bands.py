"""Expected ranges of the perplexities of one more run, written by ``scripts/results.py``."""

from __future__ import annotations

from typing import Dict, NamedTuple


class Band(NamedTuple):
    """A prediction interval for the comparable perplexity of one more run.

    ``PrintedTraining.expected`` explains how reliable it is.
    """

    low: float
    high: float

    def contains(self, perplexity: float) -> bool:
        """Return whether a perplexity lies within the band."""
        return self.low <= perplexity <= self.high


# Name of the settings -> epoch -> band: 99.9 % prediction intervals, computed from ten seeds in
# results/chapter_seeds.csv and results/lecture_seeds.csv. They assume that log(loss), where the
# loss is log(perplexity), is normally distributed from seed to seed.
BANDS: Dict[str, Dict[int, Band]] = {
    # begin
    "chapter": {
        125: Band(4.707, 19.598),
        250: Band(1.030, 1.115),
        375: Band(1.014, 1.070),
        500: Band(1.009, 1.045),
    },
    "lecture": {},
    # end
}
