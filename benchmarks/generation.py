"""How many characters per second does the chapter's model write?

The programs are the book's function as installed (``d2l`` 0.9.1), our ``predict_rnn_gluon``, our
``generate`` (greedy, sampled, eight texts in one batch). ``exported_generation.py`` has PyTorch.
Writes ``results/generation.csv``, ``.json`` and ``.svg``.

    python benchmarks/generation.py

Needs the extra ``test``. The parameters are random, which does not change the time.
"""

from __future__ import annotations

import original
from turns import Contest, as_installed, ratio

NUM_CHARS = 500
PREFIX = "time traveller"
ALPHABET = "abcdefghijklmnopqrstuvwxyz "  # 28 tokens with <unk>
HIDDENS, LAYERS = 256, 2


def random_model(library, model_class=None, num_hiddens=HIDDENS):
    """Return a library's model with random parameters, and its vocabulary."""
    import mxnet as mx
    from mxnet.gluon import rnn

    mx.random.seed(0)
    model_class = model_class or library.RNNModel
    model = model_class(rnn.LSTM(num_hiddens, LAYERS), len(ALPHABET) + 1)
    model.initialize(mx.init.Normal(0.3))
    model(mx.nd.zeros((1, 1)), model.begin_state(batch_size=1))  # sets the shapes
    return model, library.Vocab(list(ALPHABET))


def theirs():
    as_installed()
    d2l, train = original.load()
    import mxnet as mx

    model, vocab = random_model(d2l)
    return lambda round_: _count(train.predict_rnn_gluon(PREFIX, NUM_CHARS, model, vocab, mx.cpu()))


def predict():
    import d2l_deeprnn as d2l

    model, vocab = random_model(d2l)
    return lambda round_: _count(
        d2l.predict_rnn_gluon(PREFIX, NUM_CHARS, model, vocab, d2l.try_gpu())
    )


def generate(num_texts=1, **options):
    import d2l_deeprnn as d2l
    from d2l_deeprnn.generation.generate import generate

    model, vocab = random_model(d2l)
    return lambda round_: _count(
        *generate(model, vocab, [PREFIX] * num_texts, NUM_CHARS, **options)
    )


def _count(*texts):
    # The original writes <unk>, of more than one letter, if that is the most likely token.
    return [sum(len(text.replace("<unk>", "?")) - len(PREFIX) for text in texts)]


CONTESTANTS = {
    "d2l 0.9.1, predict_rnn_gluon": theirs,
    "d2l_deeprnn, predict_rnn_gluon": predict,
    "d2l_deeprnn, generate": generate,
    "d2l_deeprnn, generate, temperature 1": lambda: generate(temperature=1, seed=0),
    "d2l_deeprnn, generate, 8 texts": lambda: generate(8),
}

CONTEST = Contest(
    __file__,
    CONTESTANTS,
    columns=["characters"],
    xlabel="characters per second (more is better)",
    title=lambda rows: (
        "The chapter's model writes "
        f"{ratio(rows, 'd2l 0.9.1, predict_rnn_gluon', 'd2l_deeprnn, predict_rnn_gluon'):.0f} "
        "times as fast as in the library of 2019"
    ),
    shown=lambda row: row["characters"] / row["seconds"],
    packages=["d2l"],
    settings={"num_chars": NUM_CHARS, "num_hiddens": HIDDENS, "num_layers": LAYERS},
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
