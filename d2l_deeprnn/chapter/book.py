"""The chapter as data: its settings, what it printed, and a run held against it.

Source: Dive into Deep Learning, "Deep Recurrent Neural Networks", MXNet
edition of spring 2019.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Dict, List, Mapping, NamedTuple, Tuple

from ..training.settings import TrainSettings


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


def train_settings() -> TrainSettings:
    """The chapter's run as ``d2l-deeprnn train`` can do it: on the book's text, nothing held out.

    Prefixes are none of its settings.
    """
    from ..text.corpora import BOOK_TEXT  # here, since this file is read for a page of help too

    settings = asdict(CHAPTER)
    del settings["prefixes"]
    return TrainSettings(corpus=(BOOK_TEXT,), valid_fraction=0.0, **settings)


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

# For a picture: legend -> (epochs, perplexities).
MARKS = {
    "printed in the book": (
        [line.epoch for line in PRINTED],
        [line.perplexity for line in PRINTED],
    )
}

# Epoch -> what the book predicted, one text a prefix.
PREDICTIONS: Dict[int, Tuple[str, ...]] = {
    epoch: (
        "traveller smiled. 'are you sure we can move freely in space",
        "time traveller smiled. 'are you sure we can move freely in space",
    )
    for epoch in (250, 500)
}


class Band(NamedTuple):
    """The perplexities between which a run at some epoch is expected; see ``EXPECTED``."""

    low: float
    high: float

    def holds(self, perplexity: float) -> bool:
        return self.low <= perplexity <= self.high


# The perplexity of the best network that knows how frequent each character is, and nothing of
# their order: the least of the 35 places where an epoch may start to read. All runs begin with a
# plateau a little above it.
UNIGRAM_PERPLEXITY = 19.659

# 99.9 % prediction intervals for one more run, from those in results/seeds.csv, taking the
# logarithm of the loss (the logarithm of the perplexity, in nats) as normally distributed from
# seed to seed; see EXPECTED. At epoch 125 the interval would reach to 21.103, and hold a run that
# has learnt nothing of the order of the characters.
BANDS = {
    125: Band(4.528, UNIGRAM_PERPLEXITY),
    250: Band(1.028, 1.122),
    375: Band(1.012, 1.082),
    500: Band(1.007, 1.060),
}

# What has to be said wherever a band is shown; the shares are in results/interval_coverage.csv.
EXPECTED = (
    "Expected: where one more run lies with a probability of 99.9 %, if the logarithm of the loss "
    "is normally distributed from seed to seed. It is skewed: simulated with the skewness of the "
    "ten seeds, the ranges hold 98.1 to 99.9 % of further runs. At epoch 125 the range ends at "
    f"{UNIGRAM_PERPLEXITY}, the perplexity of a network that knows only how frequent each "
    "character is. That figure shows whether a run has left the plateau on which all begin; how "
    "well it learns, only the later ones show."
)


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
        One row for each of the book's epochs that the run reached. What it
        means to agree, and how sure that is, ``EXPECTED`` says.
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
