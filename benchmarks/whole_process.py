"""How long do 20 epochs of the chapter take as a whole process, and how much memory?

Runs the chapter's cells with ``d2l`` 0.9.1 as installed, with the repairs that it needs today, and
with this package, from the start of Python to its end. Writes ``results/whole_process.csv``,
``.json`` and ``.svg``.

    python benchmarks/whole_process.py

Needs the extra ``test`` and the book's text in ``$D2L_DEEPRNN_DATA``.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
from pathlib import Path

import original
from turns import Contest, ratio


def theirs():
    d2l, _ = original.load()
    original.enter_notebook_directory(Path(os.environ["D2L_DEEPRNN_DATA"]))
    return cells(d2l)


def ours():
    import d2l_deeprnn as d2l

    return cells(d2l)


def cells(d2l):
    """Prepare the chapter's cells with either library; they return the last perplexity."""
    import mxnet as mx
    from mxnet.gluon import rnn

    def work(round_):
        random.seed(0)
        mx.random.seed(0)
        corpus_indices, vocab = d2l.load_data_time_machine()
        model = d2l.RNNModel(rnn.LSTM(hidden_size=256, num_layers=2), len(vocab))
        prefixes = ["traveller", "time traveller"]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            d2l.train_and_predict_rnn_gluon(
                model, 256, corpus_indices, vocab, d2l.try_gpu(), 20, 35, 5, 1, 32, prefixes
            )
        return [printed.getvalue().split("epoch 20, perplexity ")[1].split(",")[0]]

    return work


CONTEST = Contest(
    __file__,
    {"d2l 0.9.1 as installed": theirs, "d2l_deeprnn": ours},
    columns=["perplexity_epoch_20"],
    title=lambda rows: (
        f"20 epochs take {ratio(rows, 'd2l_deeprnn', 'd2l 0.9.1 as installed'):.0%} of the time "
        "that they take in the library of 2019"
    ),
    settings={"seed": 0, "num_epochs": 20},
    packages=["d2l"],
    whole_process=True,
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
