"""How long until the network knows the chapter's text by heart: perplexity 1.05 or less?

The chapter's recipe on ``d2l`` 0.9.1 as installed, on this package and on
PyTorch, and the recipe that needed the fewest epochs in
``notebooks/initialisation.ipynb``. In turn, a seed a round. Writes
``results/time_to_perplexity.csv`` and ``.json``.

    python benchmarks/time_to_perplexity.py

It needs the extras ``test`` and ``bench``, the book's text in
``$D2L_DEEPRNN_DATA``, and about five minutes a round.
"""

from __future__ import annotations

import random
import re

import original
from turns import Contest, as_installed

GOAL = 1.05
MOST_EPOCHS = 500


class _Reached(Exception):
    """The goal is reached."""


def _stop(epoch, perplexity):
    if perplexity <= GOAL or epoch == MOST_EPOCHS:
        raise _Reached(epoch, perplexity)


def _until_reached(train):
    """What is timed: one training, the round its seed, and what it came to."""

    def work(seed):
        try:
            train(seed)
        except _Reached as reached:
            return [seed, *reached.args]
        raise RuntimeError("the training ended and did not say how")

    return work


def _chapter():
    from d2l_deeprnn.chapter import book
    from d2l_deeprnn.text import corpora

    corpus_indices, vocab = corpora.load_data_time_machine(book.CHAPTER.num_examples)
    return book.CHAPTER, corpus_indices, vocab


def _seed(seed):
    import mxnet as mx
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)


class _EveryEpoch(int):
    """A number of epochs a quarter of which is one: the original then prints after each."""

    def __floordiv__(self, other):
        return 1


def theirs():
    as_installed()
    d2l, module = original.load()
    chapter, corpus_indices, vocab = _chapter()
    import mxnet as mx
    from mxnet.gluon import rnn

    def read(line):
        epoch, perplexity = re.match(r"epoch (\d+), perplexity ([\d.]+)", line).groups()
        _stop(int(epoch), float(perplexity))

    module.print = read

    def train(seed):
        _seed(seed)
        model = d2l.RNNModel(rnn.LSTM(chapter.num_hiddens, chapter.num_layers), len(vocab))
        module.train_and_predict_rnn_gluon(
            model,
            chapter.num_hiddens,
            corpus_indices,
            vocab,
            mx.cpu(),
            _EveryEpoch(MOST_EPOCHS),
            chapter.num_steps,
            chapter.lr,
            chapter.clipping_theta,
            chapter.batch_size,
            [],
        )

    return _until_reached(train)


def ours():
    import d2l_deeprnn as d2l
    from d2l_deeprnn._mxnet import gluon, mx

    chapter, corpus_indices, vocab = _chapter()

    def train(seed):
        _seed(seed)
        model = d2l.RNNModel(gluon.rnn.LSTM(chapter.num_hiddens, chapter.num_layers), len(vocab))
        d2l.train_and_predict_rnn_gluon(
            model,
            chapter.num_hiddens,
            corpus_indices,
            vocab,
            mx.cpu(),
            MOST_EPOCHS,
            chapter.num_steps,
            chapter.lr,
            chapter.clipping_theta,
            chapter.batch_size,
            [],
            on_epoch=lambda record: _stop(record.epoch, record.perplexity),
            log=lambda line: None,
        )

    return _until_reached(train)


def pytorch():
    as_installed()
    import torch
    from pytorch_chapter import train as train_chapter

    _, corpus_indices, vocab = _chapter()

    def train(seed):
        random.seed(seed)
        torch.manual_seed(seed)
        train_chapter(corpus_indices, len(vocab), MOST_EPOCHS, _stop)

    return _until_reached(train)


def fast():
    import math

    import numpy as np

    from d2l_deeprnn._mxnet import mx
    from d2l_deeprnn.text.corpora import BOOK_TEXT
    from d2l_deeprnn.training.learner import Learner, new_model
    from d2l_deeprnn.training.settings import TrainSettings

    chapter, corpus_indices, vocab = _chapter()

    def train(seed):
        settings = TrainSettings(
            corpus=(BOOK_TEXT,),
            seed=seed,
            num_hiddens=chapter.num_hiddens,
            num_layers=chapter.num_layers,
            num_steps=chapter.num_steps,
            batch_size=chapter.batch_size,
            clipping_theta=chapter.clipping_theta,
            num_epochs=MOST_EPOCHS,
            optimizer="adam",
            lr=0.01,
            init="orthogonal",
            forget_bias=1.0,
        )
        nothing = np.array([], np.int32)
        model = new_model(settings, len(vocab), mx.cpu())
        learner = Learner(settings, model, np.array(corpus_indices), nothing, mx.cpu())
        while True:
            record = learner.train_epoch()
            _stop(record.epoch, math.exp(record.train_loss))

    return _until_reached(train)


CONTESTANTS = {
    "d2l_deeprnn": ours,
    "d2l 0.9.1 as installed": theirs,
    "PyTorch as installed": pytorch,
    "d2l_deeprnn, fast recipe": fast,
}

CONTEST = Contest(
    __file__,
    CONTESTANTS,
    columns=["seed", "epochs", "perplexity"],
    xlabel=f"seconds to training perplexity {GOAL}",
    shown=lambda row: row["seconds"],
    packages=["d2l", "torch"],
    settings={"goal": GOAL, "most_epochs": MOST_EPOCHS},
    rounds=3,
    warm_up=False,
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
