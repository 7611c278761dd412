"""How long does one minibatch of the chapter take? Six programs in turn.

The programs are ``d2l`` 0.9.1 as installed and with all threads, this package, and PyTorch as
installed and with the same setting of the allocator. The lower bound is the time that the
minibatch's matrix products (5.4 GFLOP) would take at the speed of one large product. Writes
``results/minibatch.csv``, ``.json`` and ``.svg``.

    python benchmarks/minibatch.py

Needs the extras ``test`` and ``bench``. The text is random. Seconds are for 120 minibatches.
"""

from __future__ import annotations

import original
from turns import Contest, as_installed, random_text, ratio, train_chapter

from d2l_deeprnn._mxnet.repairs import available_cores
from d2l_deeprnn.chapter.book import CHAPTER, VOCAB_SIZE

EPOCHS = 15  # so many that the new model of each call hardly matters
MINIBATCHES = 8 * EPOCHS
GFLOP = 5.4  # operations in a minibatch's matrix products, forward and backward
SIDE = 2048  # rows and columns of the matrices in the large product


def theirs(epochs=EPOCHS):
    as_installed()
    d2l, train = original.load()
    return chapter(d2l.RNNModel, train.train_and_predict_rnn_gluon, epochs)


def ours(epochs=EPOCHS):
    import d2l_deeprnn as d2l

    return chapter(d2l.RNNModel, d2l.train_and_predict_rnn_gluon, epochs)


def chapter(model_class, train, epochs):
    from mxnet.gluon import rnn

    text, vocab = random_text(CHAPTER.num_examples), range(VOCAB_SIZE)
    model = model_class(rnn.LSTM(CHAPTER.num_hiddens, CHAPTER.num_layers), VOCAB_SIZE)
    return lambda round_: train_chapter(train, model, text, vocab, epochs) and None


def pytorch(epochs=EPOCHS):
    as_installed()
    from pytorch_chapter import train

    text = random_text(CHAPTER.num_examples)
    return lambda round_: train(text, VOCAB_SIZE, epochs)


def pytorch_that_keeps_memory():
    from d2l_deeprnn._mxnet import keep_freed_memory

    keep_freed_memory()
    return pytorch()


def floor():
    import torch

    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    # As many operations as the other programs' minibatches have.
    times = round(MINIBATCHES * GFLOP * 1e9 / (2 * SIDE**3))

    def multiply(round_):
        for _ in range(times):
            torch.mm(a, b)

    return multiply


def milliseconds(row):
    return 1000 * row["seconds"] / MINIBATCHES


CONTEST = Contest(
    __file__,
    {
        "d2l_deeprnn": ours,
        "d2l 0.9.1 as installed": theirs,
        "d2l 0.9.1, all threads": theirs,
        "PyTorch as installed": pytorch,
        "PyTorch, same allocator": pytorch_that_keeps_memory,
        "one large matrix product in PyTorch": floor,
    },
    xlabel="milliseconds per minibatch (shorter is better)",
    title=lambda rows: (
        f"A minibatch takes {ratio(rows, 'd2l_deeprnn', 'd2l 0.9.1 as installed'):.0%} of the time "
        "that it takes in the library of 2019"
    ),
    shown=milliseconds,
    variables={"d2l 0.9.1, all threads": {"OMP_NUM_THREADS": str(available_cores())}},
    packages=["d2l", "torch"],
    settings={"minibatches": MINIBATCHES, "gflop": GFLOP},
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
