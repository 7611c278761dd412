"""The chapter as data: its settings, what it printed, and a run held against it.

Source: Dive into Deep Learning, "Deep Recurrent Neural Networks", MXNet
edition of spring 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, NamedTuple, Tuple


@dataclass(frozen=True)
class Settings:
    """The settings of the chapter's run."""

    num_hiddens: int = 256
    num_layers: int = 2
    num_epochs: int = 500
    num_steps: int = 35
    batch_size: int = 32
    lr: float = 5
    clipping_theta: float = 1
    prefixes: Tuple[str, ...] = ("traveller", "time traveller")
    num_examples: int = 10000


CHAPTER = Settings()
VOCAB_SIZE = 44  # of the first 10,000 characters, <unk> included


class PrintedLine(NamedTuple):
    """A line that the book printed; seconds are since the line before it, on a GPU."""

    epoch: int
    perplexity: float
    seconds: float


PRINTED = (
    PrintedLine(125, 9.005890, 8.14),
    PrintedLine(250, 1.046033, 7.10),
    PrintedLine(375, 1.024058, 6.68),
    PrintedLine(500, 1.036108, 6.71),
)

# Epoch -> what the book predicted, one text a prefix.
PREDICTIONS: Dict[int, Tuple[str, ...]] = {
    epoch: (
        "traveller smiled. 'are you sure we can move freely in space",
        "time traveller smiled. 'are you sure we can move freely in space",
    )
    for epoch in (250, 500)
}


class Band(NamedTuple):
    """The perplexities between which a run at some epoch is expected."""

    low: float
    high: float

    def holds(self, perplexity: float) -> bool:
        return self.low <= perplexity <= self.high


# Where one more run is expected to lie: 99.9 % prediction intervals from the
# ten runs in results/chapter_seeds.csv, taking the logarithm of the loss (the
# logarithm of the perplexity, in nats) as normally distributed. At epoch 125
# some runs have only just left a plateau at 19.9, so that band is wide.
BANDS = {
    125: Band(4.528, 21.103),
    250: Band(1.028, 1.122),
    375: Band(1.012, 1.082),
    500: Band(1.007, 1.060),
}


class Row(NamedTuple):
    """One of the book's lines beside a run's."""

    epoch: int
    book: PrintedLine
    perplexity: float
    seconds: float
    band: Band
    agrees: bool


def compare(perplexities: Mapping[int, float], seconds: Mapping[int, float]) -> List[Row]:
    """Hold a run's figures against the book's, at the book's epochs it reached.

    Args:
        perplexities: epoch -> perplexity of the run.
        seconds: epoch -> seconds from the start of training.

    Returns:
        One row for each of the book's epochs that the run reached.
    """
    rows = []
    since = 0.0
    for line in PRINTED:
        if line.epoch in perplexities:
            perplexity, band = perplexities[line.epoch], BANDS[line.epoch]
            elapsed = seconds[line.epoch] - since
            rows.append(Row(line.epoch, line, perplexity, elapsed, band, band.holds(perplexity)))
            since = seconds[line.epoch]
    return rows
