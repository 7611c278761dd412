"""The chapter as data: its settings, what it printed, and a run held against it.

Source: Dive into Deep Learning, "Deep Recurrent Neural Networks", MXNet
edition of spring 2019.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from .._perplexity import perplexity
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
MINIBATCHES = 8  # of an epoch, wherever it starts to read


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
    """The perplexities between which ``judged`` is expected at some epoch; see ``EXPECTED``."""

    low: float
    high: float

    def holds(self, perplexity: float) -> bool:
        return self.low <= perplexity <= self.high


# The perplexity of the best network that knows how frequent each character is, and nothing of
# their order: the least of the 35 places where an epoch may start to read. All runs begin with a
# plateau a little above it.
UNIGRAM_PERPLEXITY = 19.659

# Most trainings, of either library, jump once after epoch 250 to a perplexity of 2 to 4.4, and are
# back after 3 to 6 epochs; see results/chapter_curves.csv. The book's epochs are to be judged also
# where one falls on a jump: by the median of so many epochs up to it.
JUMPS_FROM, AROUND_A_JUMP = 250, 15


def perplexities_of_epochs(losses: Sequence[float]) -> Dict[int, float]:
    """Epoch -> its perplexity.

    Args:
        losses: of each minibatch of a run of the chapter, in nats a character.
    """
    starts = range(0, len(losses), MINIBATCHES)
    means = [fmean(losses[start : start + MINIBATCHES]) for start in starts]
    return {epoch: perplexity(mean) for epoch, mean in enumerate(means, start=1)}


def judged(perplexities: Mapping[int, float], epoch: int) -> float:
    """What a run is judged by at an epoch: its perplexity, or in a jump the median up to there.

    Args:
        perplexities: epoch -> perplexity of the run, for all its epochs.
        epoch: one of them.
    """
    found = perplexities[epoch]
    before = range(epoch - AROUND_A_JUMP + 1, epoch + 1)
    usual = float(np.median([perplexities[e] for e in before if e in perplexities]))
    # More than twice the loss, the logarithm of the perplexity.
    return usual if epoch >= JUMPS_FROM and found > usual**2 else found


# 99.9 % prediction intervals for one more run, from those in results/chapter_seeds.csv, taking the
# logarithm of the loss (the logarithm of the perplexity, in nats) as normally distributed from
# seed to seed; see EXPECTED.
BANDS = {
    125: Band(4.707, 19.598),
    250: Band(1.030, 1.115),
    375: Band(1.014, 1.070),
    500: Band(1.009, 1.045),
}

# What has to be said wherever a band is shown; the shares are in results/interval_coverage.csv.
EXPECTED = (
    "Expected: where one more run lies with a probability of 99.9 %, if the logarithm of the loss "
    "is normally distributed from seed to seed. It is skewed: simulated with the skewness of the "
    "ten seeds, the ranges hold 97.9 to 99.9 % of further runs. The range at epoch 125 ends just "
    f"below {UNIGRAM_PERPLEXITY}, the perplexity of a network that knows only how frequent each "
    "character is. That figure shows whether a run has left the plateau on which all begin; how "
    "well it learns, only the later ones show. After epoch 250, eight or nine trainings in ten "
    "jump once, to a perplexity of 2 to 4.4 for 3 to 6 epochs; a figure of more than twice the "
    f"usual loss is judged by the median of the {AROUND_A_JUMP} epochs up to it."
)


class Row(NamedTuple):
    """One of the book's lines beside a run's."""

    epoch: int
    book: PrintedLine
    perplexity: float
    seconds: float
    judged: float
    band: Band
    agrees: bool


def compare(perplexities: Mapping[int, float], seconds: Mapping[int, float]) -> List[Row]:
    """Hold a run's figures against the book's, at the book's epochs it reached.

    Args:
        perplexities: epoch -> perplexity of the run, for all its epochs.
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
            by = judged(perplexities, line.epoch)
            rows.append(Row(line.epoch, line, perplexity, elapsed, by, band, band.holds(by)))
            since = seconds[line.epoch]
    return rows
