"""How much longer does a user's own model take than the chapter's? Training and decoding.

Only the chapter's own model takes the fast path. The user's model here is a subclass that changes
nothing, so both compute the same. The library of 2019 (``d2l`` 0.9.1, all threads) also trains and
decodes it. Writes ``results/own_models.csv``, ``.json`` and ``.svg``.

    python benchmarks/own_models.py

Needs the extra ``test``. Seconds are for 120 minibatches, or for 500 characters.
"""

from __future__ import annotations

import minibatch
import original
from generation import NUM_CHARS, random_model
from turns import Contest, as_installed, ratio

from d2l_deeprnn._mxnet.repairs import available_cores


def _train(library, train, model_class):
    work = minibatch.chapter(model_class(library), train, minibatch.EPOCHS)
    return lambda round_: work(round_) or ["training"]


def _decode(library, predict, model_class):
    import mxnet as mx

    model, vocab = random_model(library, model_class(library))
    return lambda round_: predict("a", NUM_CHARS, model, vocab, mx.cpu()) and ["decoding"]


def chapters(library):
    return library.RNNModel


def own(library):
    class Own(library.RNNModel):
        pass

    return Own


def ours(work, function, model_class):
    def start():
        import d2l_deeprnn as d2l

        return work(d2l, getattr(d2l, function), model_class)

    return start


def theirs(work, function):
    def start():
        as_installed()
        d2l, train = original.load()
        return work(d2l, getattr(train, function), own)

    return start


TRAIN, PREDICT = "train_and_predict_rnn_gluon", "predict_rnn_gluon"
CONTESTANTS = {
    "training, the chapter's": ours(_train, TRAIN, chapters),
    "training, own": ours(_train, TRAIN, own),
    "training, own, d2l 0.9.1": theirs(_train, TRAIN),
    "decoding, the chapter's": ours(_decode, PREDICT, chapters),
    "decoding, own": ours(_decode, PREDICT, own),
    "decoding, own, d2l 0.9.1": theirs(_decode, PREDICT),
}


def title(rows):
    """Return the plot's title."""
    training, decoding = (
        ratio(rows, f"{task}, own", f"{task}, the chapter's") for task in ("training", "decoding")
    )
    return (
        f"A model of your own takes {training:.1f} times as long to train, and {decoding:.0f} "
        "times as long to decode"
    )


CONTEST = Contest(
    __file__,
    CONTESTANTS,
    title=title,
    panel=lambda row: row["task"],
    label=lambda row: row["contestant"].partition(", ")[2],
    columns=["task"],
    variables={
        name: {"OMP_NUM_THREADS": str(available_cores())} for name in CONTESTANTS if "d2l" in name
    },
    packages=["d2l"],
    settings={"minibatches": minibatch.MINIBATCHES, "num_chars": NUM_CHARS},
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
