"""How long does one minibatch of the chapter take? Six contestants in turn.

``d2l`` 0.9.1 as installed and with all threads, this package, PyTorch as
installed and with the same setting of the allocator, and the floor: the time
that the minibatch's matrix products (5.4 GFLOP) would take at the speed of one
large product. Writes ``results/minibatch.csv`` and ``.json``.

    python benchmarks/minibatch.py

It needs the extras ``test`` and ``bench``. The text is random: that decides
what is learnt, and not how long it takes. Seconds are those of 120
minibatches.
"""

from __future__ import annotations

import random

import original
from turns import Contest, as_installed

from d2l_deeprnn._mxnet.repairs import available_cores
from d2l_deeprnn.chapter.book import CHAPTER

VOCAB_SIZE = 44
EPOCHS = 15  # a new model for so few of them counts for little
MINIBATCHES = 8 * EPOCHS
GFLOP = 5.4  # of a minibatch's matrix products, forward and backward
SIDE = 2048  # of the large product's matrices


def _text():
    random.seed(0)
    return [random.randrange(VOCAB_SIZE) for _ in range(CHAPTER.num_examples)]


class _Vocab:
    def __len__(self):
        return VOCAB_SIZE


def theirs(epochs=EPOCHS):
    as_installed()
    d2l, train = original.load()
    return chapter(d2l.RNNModel, train.train_and_predict_rnn_gluon, epochs)


def ours(epochs=EPOCHS):
    import d2l_deeprnn as d2l

    return chapter(d2l.RNNModel, d2l.train_and_predict_rnn_gluon, epochs)


def chapter(model_class, train, epochs):
    import mxnet as mx
    from mxnet.gluon import rnn

    corpus_indices, vocab = _text(), _Vocab()
    hiddens = CHAPTER.num_hiddens
    model = model_class(rnn.LSTM(hiddens, CHAPTER.num_layers), VOCAB_SIZE)
    rest = (CHAPTER.num_steps, CHAPTER.lr, CHAPTER.clipping_theta, CHAPTER.batch_size, [])
    arguments = (model, hiddens, corpus_indices, vocab, mx.cpu(), epochs, *rest)
    return lambda round_: train(*arguments) and None


def pytorch(epochs=EPOCHS):
    as_installed()
    from pytorch_chapter import train

    corpus_indices = _text()
    return lambda round_: train(corpus_indices, VOCAB_SIZE, epochs)


def pytorch_that_keeps_memory():
    from d2l_deeprnn._mxnet import keep_freed_memory

    keep_freed_memory()
    return pytorch()


def floor():
    import torch

    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    # as many operations as the other contestants' minibatches have
    times = round(MINIBATCHES * GFLOP * 1e9 / (2 * SIDE**3))

    def multiply(round_):
        for _ in range(times):
            torch.mm(a, b)

    return multiply


def milliseconds(row):
    return 1000 * row["seconds"] / MINIBATCHES


CONTESTANTS = {
    "d2l_deeprnn": ours,
    "d2l 0.9.1 as installed": theirs,
    "d2l 0.9.1, all threads": theirs,
    "PyTorch as installed": pytorch,
    "PyTorch, same allocator": pytorch_that_keeps_memory,
    "floor: one large matrix product": floor,
}

CONTEST = Contest(
    __file__,
    CONTESTANTS,
    xlabel="milliseconds a minibatch",
    shown=milliseconds,
    variables={"d2l 0.9.1, all threads": {"OMP_NUM_THREADS": str(available_cores())}},
    packages=["d2l", "torch"],
    settings={"minibatches": MINIBATCHES, "gflop": GFLOP},
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
