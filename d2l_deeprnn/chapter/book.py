"""Trainings whose results the authors printed: settings, results, and a comparison with them.

Sources: Dive into Deep Learning, "Deep Recurrent Neural Networks", MXNet edition of spring 2019;
and the authors' lecture of 16 April 2019 (github.com/d2l-ai/berkeley-stat-157, slides/4_16), which
runs the settings that the chapter's prose names.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, median
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .._perplexity import perplexity
from ..training.settings import TrainSettings, as_arguments, differences
from .bands import BANDS, FIRST_LOSSES, Band


@dataclass(frozen=True)
class ChapterSettings:
    """The settings of a training; the defaults are those of the chapter's cells."""

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

# The lowest perplexity of a network that knows only character frequencies: the minimum over the 35
# positions at which an epoch may start. Every run begins with a plateau slightly above it.
UNIGRAM_PERPLEXITY = 19.659

# From epoch 250 on, most trainings of either library jump once to a perplexity of 2 to 4.4, and
# return within ten epochs; see results/chapter_curves.csv. If a printed epoch falls on a jump,
# the run is judged by the median of this many epochs ending there.
JUMPS_FROM, AROUND_A_JUMP = 250, 15

# Largest relative difference of a run's first losses from those known for its seed. The two
# libraries differ by 3 parts in a million, whatever the processor; without the second bias of each
# gate, the difference is 3 parts in a thousand.
FIRST_LOSSES_WITHIN = 1e-4

_RANGE = (
    "If the logarithm of the loss were normally distributed over seeds, 99.9 % of runs would be in "
    "each range."
)
_ON_A_JUMP = (
    "A value above twice the usual loss is replaced by the median of the "
    f"{AROUND_A_JUMP} epochs that end there."
)


class PrintedLine(NamedTuple):
    """A line that the authors printed.

    The seconds are those since the line before, on a GPU; None if they are not known.
    """

    epoch: int
    perplexity: float
    seconds: Optional[float] = None


class Row(NamedTuple):
    """A printed line beside the values of a run.

    ``band`` and ``agrees`` are None if there are no expected ranges for the run's settings.
    """

    epoch: int
    printed: PrintedLine
    perplexity: float
    seconds: float
    comparable: float
    band: Optional[Band]
    agrees: Optional[bool]


@dataclass(frozen=True)
class PrintedTraining:
    """A training of the authors: its settings, and the results that they printed.

    Attributes:
        name: name of the settings on the command line.
        source: where the results were printed, as in "the book".
        settings: the settings of the training.
        printed: the printed perplexities.
        predictions: epoch -> the printed predictions, one per prefix.
        bands: epoch -> the range of one more run; empty if it has not been measured.
        sure_predictions: epochs after which every measured run predicted the printed texts.
        first_losses: seed -> the losses of the first epochs in nats per character, if known.
        expected: explanation of the ranges, to show beside them.
        period: number of epochs between two printed results. By default, a run prints its
            perplexity after every quarter and its predictions after every half.
        digits: number of decimals of a band.
    """

    name: str
    source: str
    settings: ChapterSettings
    printed: Tuple[PrintedLine, ...]
    predictions: Mapping[int, Tuple[str, ...]]
    bands: Mapping[int, Band]
    expected: str
    sure_predictions: Tuple[int, ...] = ()
    first_losses: Mapping[int, Tuple[float, ...]] = field(default_factory=dict)
    period: Optional[int] = None
    digits: int = 3

    @property
    def marks(self) -> Dict[str, Tuple[List[int], List[float]]]:
        """The perplexities as points of a plot, by their legend; epochs first."""
        epochs, perplexities = zip(*(line[:2] for line in self.printed))
        return {f"printed in the {self.source}": (list(epochs), list(perplexities))}

    def train_settings(self) -> TrainSettings:
        """Return the settings with which ``d2l-deeprnn train`` repeats the training."""
        from ..text.corpora import BOOK_TEXT  # imports MXNet, which --help does not need

        values = asdict(self.settings)
        del values["prefixes"]
        return TrainSettings(corpus=(BOOK_TEXT,), valid_fraction=0.0, **as_arguments(values))

    def other_settings(self, settings: TrainSettings) -> List[str]:
        """Return the names of the settings that differ from this training's.

        The text, its encoding, the seed and the number of epochs may differ.
        """
        kept = {key: getattr(settings, key) for key in ("corpus", "num_epochs", "seed", "encoding")}
        return list(differences(settings, replace(self.train_settings(), **kept)))

    def compare(self, perplexities: Mapping[int, float], seconds: Mapping[int, float]) -> List[Row]:
        """Compare a run with the printed lines at each of their epochs that the run reached.

        Args:
            perplexities: epoch -> perplexity, for all epochs of the run.
            seconds: epoch -> seconds since the start of training.

        Returns:
            One row per printed epoch. A row agrees if its comparable perplexity lies within its
            band; ``expected`` explains how reliable that is.
        """
        rows: List[Row] = []
        since = 0.0
        for line in self.printed:
            if line.epoch in perplexities:
                measured, band = perplexities[line.epoch], self.bands.get(line.epoch)
                value = comparable_perplexity(perplexities, line.epoch)
                elapsed, since = seconds[line.epoch] - since, seconds[line.epoch]
                agrees = band.contains(value) if band else None
                rows.append(Row(line.epoch, line, measured, elapsed, value, band, agrees))
        return rows


# The coverage is in results/interval_coverage.csv.
BOOK = PrintedTraining(
    name="chapter",
    source="book",
    settings=CHAPTER,
    printed=(
        PrintedLine(125, 9.005890, 8.14),
        PrintedLine(250, 1.046033, 7.10),
        PrintedLine(375, 1.024058, 6.68),
        PrintedLine(500, 1.036108, 6.71),
    ),
    predictions={
        epoch: (
            "traveller smiled. 'are you sure we can move freely in space",
            "time traveller smiled. 'are you sure we can move freely in space",
        )
        for epoch in (250, 500)
    },
    bands=BANDS["chapter"],
    expected=(
        f"{_RANGE} It is skewed, and there are four ranges: of a hundred right runs, a few are "
        "outside one. Epoch 125 shows only whether a run has left the "
        f"initial plateau, at the perplexity of the character frequencies, {UNIGRAM_PERPLEXITY}; "
        "the later epochs show how well it learns. From epoch 250 on, nine trainings in ten jump "
        f"to a perplexity of 2 to 4.4 for less than ten epochs. {_ON_A_JUMP}"
    ),
    sure_predictions=(500,),
    first_losses=FIRST_LOSSES,
)
LECTURE = PrintedTraining(
    name="lecture",
    source="lecture",
    settings=replace(CHAPTER, num_epochs=3000, lr=100, clipping_theta=1e-2),
    printed=(
        PrintedLine(500, 1.028183),
        PrintedLine(1000, 1.020994),
        PrintedLine(1500, 1.015552),
        PrintedLine(2000, 1.014056),
        PrintedLine(2500, 1.014954),
        PrintedLine(3000, 1.017568),
    ),
    predictions={
        epoch: (
            "traveller. 'but now you begin to see the object of my inves",
            "time traveller. 'but now you begin to see the object of my inves",
        )
        for epoch in range(500, 3001, 500)
    },
    bands=BANDS["lecture"],
    expected=f"{_RANGE} {_ON_A_JUMP}",
    period=500,
    digits=4,
)
TRAININGS = {training.name: training for training in (BOOK, LECTURE)}


def training_with(settings: TrainSettings) -> Optional[PrintedTraining]:
    """Return the printed training with these settings, or None; see ``other_settings``."""
    for training in TRAININGS.values():
        if not training.other_settings(settings):
            return training
    return None


def first_difference(
    known: Sequence[float], perplexities: Mapping[int, float]
) -> Optional[Tuple[int, float, float]]:
    """Return the first epoch whose loss differs from the known one, with both losses; or None.

    Args:
        known: losses of the first epochs in nats per character.
        perplexities: epoch -> perplexity of a run.
    """
    for epoch, loss in enumerate(known, start=1):
        if epoch in perplexities:
            own = math.log(perplexities[epoch])
            if not abs(own - loss) <= FIRST_LOSSES_WITHIN * loss:
                return epoch, own, loss
    return None


def perplexities_of_epochs(
    losses: Sequence[float], per_epoch: int = MINIBATCHES
) -> Dict[int, float]:
    """Return the perplexity of each epoch, numbered from 1.

    Args:
        losses: mean losses in nats per character, such as those of each minibatch of a run.
        per_epoch: number of losses per epoch.
    """
    starts = range(0, len(losses), per_epoch)
    means = [fmean(losses[start : start + per_epoch]) for start in starts]
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
