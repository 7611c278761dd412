"""Indices outside the vocabulary are refused wherever a text is passed.

MXNet accepts them: as an input they are a vector of zeros, as a target the last or the first token,
and a network learns that to a perplexity near 1.
"""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._checks import token_indices
from d2l_deeprnn._mxnet import gluon, init, mx, nd
from d2l_deeprnn.generation.generate import generate
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.training.evaluate import evaluate
from d2l_deeprnn.training.learner import Learner
from d2l_deeprnn.training.settings import TrainSettings

CTX = mx.cpu()
V, H = 9, 6
VOCAB = d2l.Vocab("abcdefgh")
TEXT = [1 + i % 8 for i in range(120)]
SETTINGS = TrainSettings(
    corpus=("any",), num_hiddens=H, num_epochs=1, batch_size=2, num_steps=5, num_layers=1
)


def gluon_model():
    model = d2l.RNNModel(gluon.rnn.GRU(H), V)
    model.initialize(init.Constant(0.5), ctx=CTX)
    return model


class NoRNNModel:
    """A model whose vocabulary size is only known from its scores."""

    def begin_state(self, batch_size, ctx):
        return []

    def __call__(self, inputs, state):
        return nd.zeros((inputs.size, V)), state


def train_gluon(text, vocab=VOCAB, model=None):
    model = model or gluon_model()
    d2l.train_and_predict_rnn_gluon(
        model, H, text, vocab, CTX, 1, 5, 1, 1, 2, [], log=lambda line: None
    )


def train_scratch(text):
    get_params, init_state, rnn = d2l.deep_rnn(V, H, V, 1)
    d2l.train_and_predict_rnn(
        *(rnn, get_params, init_state, H, text, VOCAB, CTX, False, 1, 5, 1, 1, 2, []),
        log=lambda line: None,
    )


WITH_VOCAB = {  # functions that know the vocabulary, and their name of the text
    "train_and_predict_rnn": (train_scratch, "corpus_indices"),
    "train_and_predict_rnn_gluon": (train_gluon, "corpus_indices"),
    "evaluate": (lambda text: evaluate(gluon_model(), text), "corpus_indices"),
    "evaluate any model": (lambda text: evaluate(NoRNNModel(), text), "corpus_indices"),
    "Learner": (lambda text: Learner(SETTINGS, gluon_model(), text, [], CTX), "train_indices"),
    "Learner, held out": (
        lambda text: Learner(SETTINGS, gluon_model(), TEXT, text, CTX),
        "valid_indices",
    ),
    "NGramModel": (lambda text: d2l.NGramModel(text, 3, V), "corpus_indices"),
}
ALL = {
    **WITH_VOCAB,
    "data_iter_consecutive": (lambda text: d2l.data_iter_consecutive(text, 2, 5), "corpus_indices"),
    "data_iter_random": (lambda text: d2l.data_iter_random(text, 2, 5), "corpus_indices"),
}


def with_wrong(value, at=17):
    return [*TEXT[:at], value, *TEXT[at + 1 :]]


@pytest.mark.parametrize("name", ALL)
def test_invalid_index_is_named(name):
    function, argument = ALL[name]
    for value in [-1, "a", *([V] if name in WITH_VOCAB else [])]:
        before = random.getstate()
        with pytest.raises(ValueError) as caught:
            function(with_wrong(value))
        expected = f"{argument}[17] is {value!r}: it must be a whole number from 0 to "
        assert str(caught.value).startswith(expected)
        assert random.getstate() == before  # nothing was drawn


INVALID = [-1, None, "a", 2.5, math.nan, math.inf, True, [1], 2**60, 10**30, V]


def test_every_invalid_value_is_refused_in_lists_and_arrays():
    for value in INVALID:
        with pytest.raises(ValueError) as caught:
            token_indices("x", with_wrong(value), V)
        assert str(caught.value).startswith(f"x[17] is {value!r}: it must be a whole number from 0")
    for dtype in "float32", "float64", "int16", "object":
        for value, at in (-1, 0), (-300, 119), (V, 3):
            array = np.array(with_wrong(value, at), dtype=dtype)
            with pytest.raises(ValueError) as caught:
                token_indices("x", array, V)
            assert str(caught.value).startswith(f"x[{at}] is {array[at]}: ")
    with pytest.raises(ValueError, match=rf"x\[17\] is {V}\.0: "):
        token_indices("x", nd.array(with_wrong(V)), V)


@pytest.mark.parametrize(
    "values, message",
    [
        ("abcabcabc" * 10, "not str"),
        (np.zeros((30, 4)), r"not an array of shape (30, 4)"),
        (np.array(TEXT) > 3, "[0] is False: it must be"),
        (np.array(list("abc" * 30)), "[0] is 'a': it must be"),
        ([TEXT, TEXT], "[0] is [1, 2, 3, 4, 5, 6, ...]: it must be"),
        ((i for i in TEXT), "not generator"),
        (7, "not int"),
        (None, "not NoneType"),
    ],
)
def test_other_objects_are_refused(values, message):
    with pytest.raises(ValueError) as caught:
        token_indices("x", values)
    assert str(caught.value).startswith("x") and message in str(caught.value)


def test_first_invalid_index_of_a_long_text():
    for dtype in np.uint32, np.float64:
        text = np.resize(np.array(TEXT, dtype), 3_000_000)
        assert token_indices("x", text, V) is text
        text[[2_999_998, 2_999_999]] = V
        with pytest.raises(ValueError, match=rf"x\[2999998\] is {V}"):
            token_indices("x", text, V)
    # float16 rounds a limit of 2049 to 2048.
    assert token_indices("x", np.array([0, 2048], np.float16), 2049)[1] == 2048
    with pytest.raises(ValueError, match=r"x\[1\] is 2048\.0"):
        token_indices("x", np.array([0, 2048], np.float16), 2048)


KINDS = [
    *(list, tuple, lambda text: text, nd.array, lambda text: nd.array(text, dtype="int32")),
    *(lambda text: [float(i) for i in text], lambda text: [Fraction(i) for i in text]),
    lambda text: [np.int32(i) for i in text],
    *(
        lambda text, dtype=dtype: np.array(text, dtype=dtype)
        for dtype in ["int8", "uint8", "uint16", "int32", "uint64", "float16", "float64", "object"]
    ),
]


@pytest.mark.parametrize("name", ["data_iter_consecutive", "data_iter_random"])
def test_text_of_any_kind_gives_the_same_minibatches(name, original):
    def minibatches(library, text):
        random.seed(3)
        return [(X.asnumpy(), Y.asnumpy()) for X, Y in getattr(library, name)(text, 3, 4, CTX)]

    expected = minibatches(original, list(range(100)))
    assert len(expected) > 3
    for convert in KINDS:
        ours = minibatches(d2l, convert(range(100)))
        assert ours[0][0].dtype == np.float32
        np.testing.assert_array_equal(ours, expected)


def test_text_of_any_kind_is_trained_on_and_scored(minibatch_losses):
    losses = []
    for text in TEXT, tuple(TEXT), nd.array(TEXT), np.array(TEXT, np.uint8):
        for train in train_gluon, train_scratch:
            d2l.set_seed(2)
            train(text)
        losses.append(minibatch_losses())
        assert len(losses[0]) == 2 * 11
        np.testing.assert_array_equal(losses[-1], losses[0])
        assert evaluate(gluon_model(), text) == evaluate(gluon_model(), TEXT)
        assert d2l.NGramModel(text, 2, V).loss(text) == d2l.NGramModel(TEXT, 2, V).loss(TEXT)


def test_invalid_text_does_not_change_the_model():
    model = gluon_model()
    model(nd.zeros((1, 1)), model.begin_state(1))
    with pytest.raises(ValueError):
        train_gluon(with_wrong(V), model=model)
    assert (model.rnn.l0_h2h_weight.data() == 0.5).asnumpy().all()


def test_vocabulary_of_another_text_is_refused():
    corpus, vocab = d2l.load_corpus(SAMPLE_TEXT, 300)
    with pytest.raises(ValueError, match=rf"corpus_indices\[\d+\] is \d+: .* 0 to {V - 1}"):
        train_gluon(corpus)
    for use in (
        lambda model: train_gluon(TEXT, vocab, model),
        lambda model: d2l.predict_rnn_gluon("a", 3, model, vocab, CTX),
        lambda model: generate(model, vocab, ["a"], 3),
    ):
        with pytest.raises(ValueError, match=f"made for {V} characters, .* has {len(vocab)}"):
            use(gluon_model())


def test_unscored_tokens_are_indices():
    with pytest.raises(ValueError, match=r"unscored\[1\] is 'a': it must be"):
        evaluate(gluon_model(), TEXT, unscored=[0, "a"])
    assert evaluate(gluon_model(), TEXT, unscored={1, 2}).num_chars == 90
