"""Expected values of one more run, written by ``scripts/results.py``."""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple


class Band(NamedTuple):
    """A prediction interval for the comparable perplexity of one more run.

    ``PrintedTraining.expected`` explains how reliable it is.
    """

    low: float
    high: float

    def contains(self, perplexity: float) -> bool:
        """Return whether a perplexity lies within the band."""
        return self.low <= perplexity <= self.high


# Name of the settings -> epoch -> band: 99.9 % prediction intervals, computed from ten runs of this
# package and ten of the original library (results/chapter_seeds.csv and the like). They assume that
# log(loss), where the loss is log(perplexity), is normally distributed from seed to seed.
BANDS: Dict[str, Dict[int, Band]] = {
    # begin bands
    "chapter": {
        125: Band(5.396, 15.005),
        250: Band(1.035, 1.099),
        375: Band(1.015, 1.070),
        500: Band(1.011, 1.039),
    },
    "lecture": {},
    # end bands
}
# fmt: off
# Seed -> the losses of the chapter's first epochs in nats per character. On the same seed, this
# package and the original library agree in them to 3 parts in a million.
FIRST_LOSSES: Dict[int, Tuple[float, ...]] = {
    # begin first losses
    0: (3.340604, 3.078603, 3.031895, 3.019505, 3.010960, 3.013397,
        3.007580, 2.996712, 3.003957, 2.992471, 2.999115, 2.995330),
    1: (3.340745, 3.063232, 3.090400, 3.010431, 3.005995, 3.024890,
        2.994378, 3.012971, 2.994322, 2.995048, 2.992027, 3.003383),
    2: (3.340236, 3.066007, 3.043121, 3.018018, 3.018377, 3.012857,
        2.996445, 3.006918, 3.000008, 2.999671, 2.994086, 2.996830),
    3: (3.340757, 3.060197, 3.059824, 3.006096, 3.026780, 3.009949,
        3.003242, 3.001863, 2.997642, 2.992416, 3.000052, 2.996922),
    4: (3.342113, 3.064326, 3.035043, 3.024379, 3.019482, 3.012989,
        2.999784, 3.000720, 3.003167, 2.994715, 2.993517, 2.994954),
    5: (3.342371, 3.067798, 3.048506, 3.012816, 3.015032, 3.012750,
        3.001971, 3.008351, 2.995258, 2.996239, 2.997508, 2.994879),
    6: (3.341278, 3.056390, 3.063739, 3.004900, 3.022452, 2.993842,
        2.998404, 2.993576, 2.994199, 3.015963, 2.989963, 2.990499),
    7: (3.341265, 3.065120, 3.042593, 3.015429, 3.013271, 3.010337,
        3.007855, 3.000249, 3.000532, 3.002993, 2.994151, 2.995836),
    8: (3.342391, 3.064004, 3.041989, 3.037237, 3.002837, 3.011182,
        3.004502, 3.000006, 2.993672, 3.005337, 2.995592, 2.993999),
    9: (3.341846, 3.064503, 3.033540, 3.026077, 3.017516, 3.010848,
        3.005385, 3.003039, 2.995313, 3.003918, 2.994096, 2.996027),
    # end first losses
}
# fmt: on
