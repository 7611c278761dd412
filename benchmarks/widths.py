"""How long does a minibatch of ``train`` take, by width, beside PyTorch?

Two layers and 32 rows, as in the chapter, with Adam and dropout. This
package's ``Learner``, which ``d2l-deeprnn train`` uses, and PyTorch as
installed, in turn. Writes ``results/widths.csv`` and ``.json``.

    python benchmarks/widths.py

It needs the extra ``bench``. The text is random: that decides what is learnt,
and not how long it takes.
"""

from __future__ import annotations

import functools
import random

from turns import Contest, as_installed

from d2l_deeprnn.chapter.book import CHAPTER

VOCAB_SIZE = 44
DROPOUT = 0.5
WIDTHS = (256, 512, 1024)
PACKAGES = ("d2l_deeprnn", "PyTorch as installed")


def _text():
    random.seed(0)
    return [random.randrange(VOCAB_SIZE) for _ in range(CHAPTER.num_examples)]


def _epochs(num_hiddens):
    return 4 if num_hiddens <= 512 else 1


def ours(num_hiddens):
    import numpy as np

    import d2l_deeprnn as d2l
    from d2l_deeprnn.training.learner import Learner, new_model
    from d2l_deeprnn.training.settings import TrainSettings

    settings = TrainSettings(
        corpus=("random",),
        num_hiddens=num_hiddens,
        dropout=DROPOUT,
        optimizer="adam",
        lr=0.001,
        num_epochs=10**6,
    )
    ctx = d2l.try_gpu()
    none = np.array([], dtype="int32")
    model = new_model(settings, VOCAB_SIZE, ctx)
    learner = Learner(settings, model, np.array(_text()), none, ctx)

    def train(round_):
        for _ in range(_epochs(num_hiddens)):
            learner.train_epoch()
        return (num_hiddens,)

    return train


def pytorch(num_hiddens):
    as_installed()
    from pytorch_chapter import train

    text = _text()

    def work(round_):
        epochs = _epochs(num_hiddens)
        train(text, VOCAB_SIZE, epochs, num_hiddens=num_hiddens, dropout=DROPOUT, adam=True)
        return (num_hiddens,)

    return work


def name_of(package, num_hiddens):
    """How a contestant is called in the results."""
    return f"{package}, {num_hiddens} hidden units"


def minibatches(num_hiddens):
    """How many a contestant computes while it is timed: 8 an epoch."""
    return 8 * _epochs(num_hiddens)


def milliseconds(row):
    return 1000 * row["seconds"] / minibatches(row["num_hiddens"])


CONTEST = Contest(
    __file__,
    {
        name_of(package, num_hiddens): functools.partial(program, num_hiddens)
        for num_hiddens in WIDTHS
        for package, program in zip(PACKAGES, (ours, pytorch))
    },
    xlabel="milliseconds a minibatch",
    shown=milliseconds,
    columns=["num_hiddens"],
    packages=["torch"],
    settings={"dropout": DROPOUT, "minibatches": {h: minibatches(h) for h in WIDTHS}},
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
