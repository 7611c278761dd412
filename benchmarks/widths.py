"""How long does a minibatch of ``train`` take, by width and size, beside PyTorch?

Two layers, as in the chapter: with its SGD, and with Adam and dropout. This
package's ``Learner``, which ``d2l-deeprnn train`` uses, and PyTorch as
installed, in turn. Writes ``results/widths.csv`` and ``.json``.

    python benchmarks/widths.py
    python benchmarks/widths.py --batch-sizes 64 128 --num-hiddens 256 512 1024

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
RECIPES = ("SGD", "Adam, dropout")
PACKAGES = ("d2l_deeprnn", "PyTorch as installed")
SHAPES = [(hiddens, 32) for hiddens in (256, 512, 1024, 2048)] + [
    (hiddens, size) for size in (64, 128) for hiddens in (256, 512, 1024)
]


def _text(batch_size):
    """A text whose epoch has 8 minibatches, as the chapter's."""
    random.seed(0)
    length = CHAPTER.num_examples * batch_size // CHAPTER.batch_size
    return [random.randrange(VOCAB_SIZE) for _ in range(length)]


def _epochs(num_hiddens):
    return 4 if num_hiddens <= 512 else 1


def ours(recipe, num_hiddens, batch_size):
    import numpy as np

    import d2l_deeprnn as d2l
    from d2l_deeprnn.training.learner import Learner, new_model
    from d2l_deeprnn.training.settings import TrainSettings

    settings = TrainSettings(
        corpus=("random",),
        num_hiddens=num_hiddens,
        batch_size=batch_size,
        num_epochs=10**6,
        **({} if recipe == "SGD" else {"optimizer": "adam", "lr": 0.001, "dropout": DROPOUT}),
    )
    ctx = d2l.try_gpu()
    none = np.array([], dtype="int32")
    model = new_model(settings, VOCAB_SIZE, ctx)
    learner = Learner(settings, model, np.array(_text(batch_size)), none, ctx)

    def train(round_):
        for _ in range(_epochs(num_hiddens)):
            learner.train_epoch()
        return recipe, num_hiddens, batch_size

    return train


def pytorch(recipe, num_hiddens, batch_size):
    as_installed()
    from pytorch_chapter import train

    text = _text(batch_size)
    options = {} if recipe == "SGD" else {"adam": True, "dropout": DROPOUT}

    def work(round_):
        sizes = {"num_hiddens": num_hiddens, "batch_size": batch_size}
        train(text, VOCAB_SIZE, _epochs(num_hiddens), **sizes, **options)
        return recipe, num_hiddens, batch_size

    return work


def milliseconds(row):
    return 1000 * row["seconds"] / (8 * _epochs(row["num_hiddens"]))


CONTEST = Contest(
    __file__,
    {
        f"{name}: {recipe}, {num_hiddens} hidden, batch {batch_size}": functools.partial(
            program, recipe, num_hiddens, batch_size
        )
        for recipe in RECIPES
        for num_hiddens, batch_size in SHAPES
        for name, program in zip(PACKAGES, (ours, pytorch))
    },
    xlabel="milliseconds a minibatch",
    shown=milliseconds,
    columns=["recipe", "num_hiddens", "batch_size"],
    packages=["torch"],
    settings={"dropout": DROPOUT},
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
