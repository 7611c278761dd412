"""How long until the network knows the chapter's text by heart: perplexity 1.05 or less?

Trains with the chapter's settings in ``d2l`` 0.9.1 as installed, in this package and in PyTorch,
and with the fastest settings in ``notebooks/initialisation.ipynb``. Each round has another seed.
Writes ``results/time_to_perplexity.csv``, ``.json`` and ``.svg``.

    python benchmarks/time_to_perplexity.py

Needs the extras ``test`` and ``bench``, the book's text in ``$D2L_DEEPRNN_DATA``, and about five
minutes per round.
"""

from __future__ import annotations

import random
import re

import original
from turns import Contest, as_installed, ratio, set_seed, train_chapter

GOAL = 1.05
MOST_EPOCHS = 500


class _Reached(Exception):
    """Ends a training that has reached the goal."""


def _stop(epoch, perplexity):
    if perplexity <= GOAL or epoch == MOST_EPOCHS:
        raise _Reached(epoch, perplexity)


def _until_reached(train):
    """Return the function that is timed: a training whose seed is the number of the round."""

    def work(seed):
        try:
            train(seed)
        except _Reached as reached:
            return [seed, *reached.args]
        raise RuntimeError("the training ended before it reached the goal or the last epoch")

    return work


def _chapter():
    from d2l_deeprnn.chapter import book
    from d2l_deeprnn.text import corpora

    corpus_indices, vocab = corpora.load_data_time_machine(book.CHAPTER.num_examples)
    return book.CHAPTER, corpus_indices, vocab


class _EveryEpoch(int):
    """A number of epochs whose quarter is 1, so that the original prints after each."""

    def __floordiv__(self, other):
        return 1


def theirs():
    as_installed()
    d2l, module = original.load()
    chapter, corpus_indices, vocab = _chapter()
    from mxnet.gluon import rnn

    def read(line):
        epoch, perplexity = re.match(r"epoch (\d+), perplexity ([\d.]+)", line).groups()
        _stop(int(epoch), float(perplexity))

    module.print = read

    def train(seed):
        set_seed(seed)
        model = d2l.RNNModel(rnn.LSTM(chapter.num_hiddens, chapter.num_layers), len(vocab))
        epochs = _EveryEpoch(MOST_EPOCHS)
        train_chapter(module.train_and_predict_rnn_gluon, model, corpus_indices, vocab, epochs)

    return _until_reached(train)


def ours():
    import d2l_deeprnn as d2l
    from d2l_deeprnn._mxnet import gluon

    chapter, corpus_indices, vocab = _chapter()

    def train(seed):
        set_seed(seed)
        model = d2l.RNNModel(gluon.rnn.LSTM(chapter.num_hiddens, chapter.num_layers), len(vocab))
        train_chapter(
            d2l.train_and_predict_rnn_gluon,
            model,
            corpus_indices,
            vocab,
            MOST_EPOCHS,
            on_epoch=lambda record: _stop(record.epoch, record.perplexity),
            log=lambda line: None,
        )

    return _until_reached(train)


def pytorch():
    as_installed()
    import torch
    from pytorch_chapter import train as train_pytorch

    _, corpus_indices, vocab = _chapter()

    def train(seed):
        random.seed(seed)
        torch.manual_seed(seed)
        train_pytorch(corpus_indices, len(vocab), MOST_EPOCHS, _stop)

    return _until_reached(train)


def fast():
    import numpy as np

    from d2l_deeprnn._mxnet import mx
    from d2l_deeprnn._perplexity import perplexity
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
            _stop(record.epoch, perplexity(record.train_loss))

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
    xlabel=f"seconds to training perplexity {GOAL} (shorter is better)",
    title=lambda rows: (
        "The text is learnt by heart in "
        f"{ratio(rows, 'd2l_deeprnn', 'd2l 0.9.1 as installed'):.0%} of the time that it takes in "
        "the library of 2019"
    ),
    packages=["d2l", "torch"],
    settings={"goal": GOAL, "most_epochs": MOST_EPOCHS},
    rounds=3,
    warm_up=False,
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
