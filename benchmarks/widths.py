"""How long does a minibatch of ``train`` take, by width, beside PyTorch?

Two layers and 32 rows, as in the chapter, with Adam and dropout. This
package's ``Learner``, which ``d2l-deeprnn train`` uses, and PyTorch as
installed and with the same setting of the allocator, in turn. Writes
``results/widths.csv``, ``.json`` and ``.svg``.

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


def pytorch_that_keeps_memory(num_hiddens):
    from d2l_deeprnn._mxnet import keep_freed_memory

    keep_freed_memory()
    return pytorch(num_hiddens)


PROGRAMS = {
    "d2l_deeprnn": ours,
    "PyTorch as installed": pytorch,
    "PyTorch, same allocator": pytorch_that_keeps_memory,
}


def minibatches(num_hiddens):
    """How many a contestant computes while it is timed: 8 an epoch."""
    return 8 * _epochs(num_hiddens)


def milliseconds(row):
    return 1000 * row["seconds"] / minibatches(row["num_hiddens"])


CONTEST = Contest(
    __file__,
    {
        f"{name}, {num_hiddens} hidden units": functools.partial(program, num_hiddens)
        for num_hiddens in WIDTHS
        for name, program in PROGRAMS.items()
    },
    xlabel="milliseconds a minibatch",
    shown=milliseconds,
    panel=lambda row: f"{row['num_hiddens']} hidden units",
    label=lambda row: row["contestant"].rpartition(", ")[0],
    columns=["num_hiddens"],
    packages=["torch"],
    settings={"dropout": DROPOUT, "minibatches": {h: minibatches(h) for h in WIDTHS}},
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
