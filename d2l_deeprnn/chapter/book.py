"""The chapter as data: its settings, its printed results, and a comparison with them.

Source: Dive into Deep Learning, "Deep Recurrent Neural Networks", MXNet edition of spring 2019.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

from .._perplexity import perplexity
from ..training.settings import TrainSettings


@dataclass(frozen=True)
class ChapterSettings:
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


CHAPTER = ChapterSettings()
VOCAB_SIZE = 44  # of the first 10,000 characters, including <unk>
MINIBATCHES = 8  # per epoch, at any starting position


def train_settings() -> TrainSettings:
    """Return the settings with which ``d2l-deeprnn train`` repeats the chapter's run."""
    from ..text.corpora import BOOK_TEXT  # imports MXNet, which --help does not need

    settings = asdict(CHAPTER)
    del settings["prefixes"], settings["lr"]  # the default rate is the chapter's
    return TrainSettings(corpus=(BOOK_TEXT,), valid_fraction=0.0, **settings)


class PrintedLine(NamedTuple):
    """A line printed in the book; the seconds are those since the line before, on a GPU."""

    epoch: int
    perplexity: float
    seconds: float


PRINTED = (
    PrintedLine(125, 9.005890, 8.14),
    PrintedLine(250, 1.046033, 7.10),
    PrintedLine(375, 1.024058, 6.68),
    PrintedLine(500, 1.036108, 6.71),
)

# The same as points of a plot: legend -> (epochs, perplexities).
MARKS = {"printed in the book": ([x.epoch for x in PRINTED], [x.perplexity for x in PRINTED])}

# Epoch -> the texts that the book predicted, one per prefix.
PREDICTIONS: Dict[int, Tuple[str, ...]] = {
    epoch: (
        "traveller smiled. 'are you sure we can move freely in space",
        "time traveller smiled. 'are you sure we can move freely in space",
    )
    for epoch in (250, 500)
}


class Band(NamedTuple):
    """A prediction interval for the comparable perplexity of one more run; see ``EXPECTED``."""

    low: float
    high: float

    def contains(self, perplexity: float) -> bool:
        """Return whether a perplexity lies within the band."""
        return self.low <= perplexity <= self.high


# The lowest perplexity of a network that knows only character frequencies: the minimum over the 35
# positions at which an epoch may start. Every run begins with a plateau slightly above it.
UNIGRAM_PERPLEXITY = 19.659

# After epoch 250, most trainings of either library jump once to a perplexity of 2 to 4.4, and
# return after 3 to 6 epochs; see results/chapter_curves.csv. If a printed epoch falls on a jump,
# the run is judged by the median of this many epochs ending there.
JUMPS_FROM, AROUND_A_JUMP = 250, 15

# 99.9 % prediction intervals for one more run, computed from results/chapter_seeds.csv. They assume
# that log(loss), where the loss is log(perplexity), is normally distributed from seed to seed.
BANDS = {
    125: Band(4.707, 19.598),
    250: Band(1.030, 1.115),
    375: Band(1.014, 1.070),
    500: Band(1.009, 1.045),
}

# Shown beside every band. The coverage is in results/interval_coverage.csv.
EXPECTED = (
    "Expected: a range that contains one more run with a probability of 99.9 %, if the logarithm "
    "of the loss is normally distributed from seed to seed. It is skewed: in simulations with the "
    "skewness of the ten seeds, the ranges contain 97.9 to 99.9 % of further runs. The range at "
    f"epoch 125 ends just below {UNIGRAM_PERPLEXITY}, the perplexity of a network that knows only "
    "character frequencies. So epoch 125 shows only whether a run has left the initial plateau; "
    "the later epochs show how well it learns. After epoch 250, eight or nine trainings in ten "
    "jump once, to a perplexity of 2 to 4.4 for 3 to 6 epochs. A value above twice the usual loss "
    f"is replaced by the median of the {AROUND_A_JUMP} epochs that end there."
)


def perplexities_of_epochs(losses: Sequence[float]) -> Dict[int, float]:
    """Return the perplexity of each epoch, numbered from 1.

    Args:
        losses: the mean loss of each minibatch of a chapter run, in nats per character.
    """
    starts = range(0, len(losses), MINIBATCHES)
    means = [fmean(losses[start : start + MINIBATCHES]) for start in starts]
    return {epoch: perplexity(mean) for epoch, mean in enumerate(means, start=1)}


def comparable_perplexity(perplexities: Mapping[int, float], epoch: int) -> float:
    """Return the perplexity of an epoch or, if it falls on a jump, the median up to there.

    Args:
        perplexities: epoch -> perplexity, for all epochs of a run.
        epoch: one of them.
    """
    value = perplexities[epoch]
    before = range(epoch - AROUND_A_JUMP + 1, epoch + 1)
    usual = median(perplexities[e] for e in before if e in perplexities)
    # The loss is the logarithm of the perplexity, so this is twice the usual loss.
    return usual if epoch >= JUMPS_FROM and value > usual * usual else value


class Row(NamedTuple):
    """A line of the book beside the values of a run."""

    epoch: int
    book: PrintedLine
    perplexity: float
    seconds: float
    comparable: float
    band: Band
    agrees: bool


def compare(perplexities: Mapping[int, float], seconds: Mapping[int, float]) -> List[Row]:
    """Compare a run with the book at each printed epoch that the run reached.

    Args:
        perplexities: epoch -> perplexity, for all epochs of the run.
        seconds: epoch -> seconds since the start of training.

    Returns:
        One row per printed epoch. A row agrees if its comparable perplexity lies within its band;
        ``EXPECTED`` explains how reliable that is.
    """
    rows: List[Row] = []
    since = 0.0
    for line in PRINTED:
        if line.epoch in perplexities:
            measured, band = perplexities[line.epoch], BANDS[line.epoch]
            value = comparable_perplexity(perplexities, line.epoch)
            elapsed, since = seconds[line.epoch] - since, seconds[line.epoch]
            rows.append(Row(line.epoch, line, measured, elapsed, value, band, band.contains(value)))
    return rows
