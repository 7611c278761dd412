"""How long does a minibatch of ``train`` take, by width, compared with PyTorch?

Two layers and 32 rows, as in the chapter, with Adam and dropout. This package's ``Learner``, which
``d2l-deeprnn train`` uses, is compared with PyTorch as installed and with the same setting of the
allocator. Writes ``results/widths.csv``, ``.json`` and ``.svg``.

    python benchmarks/widths.py

Needs the extra ``bench``. The text is random.
"""

from __future__ import annotations

import functools

from turns import Contest, as_installed, random_text, ratio

from d2l_deeprnn.chapter.book import CHAPTER, VOCAB_SIZE

DROPOUT = 0.5
EPOCHS = {256: 4, 512: 4, 1024: 1}  # hidden units -> epochs of 8 minibatches that are timed
MINIBATCHES = {num_hiddens: 8 * epochs for num_hiddens, epochs in EPOCHS.items()}


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
    text = np.array(random_text(CHAPTER.num_examples))
    learner = Learner(settings, new_model(settings, VOCAB_SIZE, ctx), text, none, ctx)

    def work(round_):
        for _ in range(EPOCHS[num_hiddens]):
            learner.train_epoch()
        return (num_hiddens,)

    return work


def pytorch(num_hiddens):
    as_installed()
    from pytorch_chapter import train

    text = random_text(CHAPTER.num_examples)

    def work(round_):
        epochs = EPOCHS[num_hiddens]
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


def title(rows):
    """Return the plot's title."""
    names = [f"{{}}, {num_hiddens} hidden units" for num_hiddens in EPOCHS]
    ratios = [
        ratio(rows, name.format("d2l_deeprnn"), name.format("PyTorch as installed"))
        for name in names
    ]
    return f"Training takes {min(ratios):.0%} to {max(ratios):.0%} of PyTorch's time, by width"


CONTEST = Contest(
    __file__,
    {
        f"{name}, {num_hiddens} hidden units": functools.partial(program, num_hiddens)
        for num_hiddens in EPOCHS
        for name, program in PROGRAMS.items()
    },
    xlabel="milliseconds per minibatch (shorter is better)",
    title=title,
    shown=lambda row: 1000 * row["seconds"] / MINIBATCHES[row["num_hiddens"]],
    panel=lambda row: f"{row['num_hiddens']} hidden units",
    label=lambda row: row["contestant"].rpartition(", ")[0],
    columns=["num_hiddens"],
    packages=["torch"],
    settings={"dropout": DROPOUT, "minibatches": MINIBATCHES},
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
