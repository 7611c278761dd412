"""Indices that are not in the vocabulary are named and refused, wherever a text is taken.

MXNet itself takes them: as an input they are a vector of zeros, as a target the last token or
the first, and a network learns that to a perplexity near 1.
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
    """Knows its vocabulary only by the scores that it gives."""

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


KNOWING = {  # that know the vocabulary, and what they call the text
    "train_and_predict_rnn": (train_scratch, "corpus_indices"),
    "train_and_predict_rnn_gluon": (train_gluon, "corpus_indices"),
    "evaluate": (lambda text: evaluate(gluon_model(), text), "corpus_indices"),
    "evaluate any model": (lambda text: evaluate(NoRNNModel(), text), "corpus_indices"),
    "Learner": (
        lambda text: Learner(SETTINGS, gluon_model(), text, [], CTX),
        "train_indices",
    ),
    "Learner, held out": (
        lambda text: Learner(SETTINGS, gluon_model(), TEXT, text, CTX),
        "valid_indices",
    ),
    "NGramModel": (lambda text: d2l.NGramModel(text, 3, V), "corpus_indices"),
}
NOT_KNOWING = {
    "data_iter_consecutive": (lambda text: d2l.data_iter_consecutive(text, 2, 5), "corpus_indices"),
    "data_iter_random": (lambda text: d2l.data_iter_random(text, 2, 5), "corpus_indices"),
}
ALL = {**KNOWING, **NOT_KNOWING}


def with_wrong(value, at=17):
    return [*TEXT[:at], value, *TEXT[at + 1 :]]


def message_of(take, text):
    before = random.getstate(), np.random.get_state()[1].tolist()
    with pytest.raises(ValueError) as caught:
        take(text)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # nothing was drawn
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ALL)
def test_what_is_no_index_is_named(name):
    take, argument = ALL[name]
    for value in -1, None, "a", 2.5, math.nan, math.inf, True, [1], 2**60, 10**30:
        message = message_of(take, with_wrong(value))
        expected = f"{argument}[17] is {value!r}: it must be a whole number from 0 to "
        assert message.startswith(expected)


@pytest.mark.parametrize("name", KNOWING)
def test_an_index_beyond_the_vocabulary_is_named(name):
    take, argument = KNOWING[name]
    for value in V, 10000:
        text = with_wrong(value)
        # An array of MXNet holds floats.
        for given, shown in (text, value), (np.array(text), value), (nd.array(text), float(value)):
            expected = f"{argument}[17] is {shown}: it must be a whole number from 0 to {V - 1}"
            assert message_of(take, given) == expected


@pytest.mark.parametrize("name", ALL)
def test_arrays_are_looked_at_too(name):
    take, argument = ALL[name]
    for dtype in "float32", "float64", "int16", "object":
        for value, at in (-1, 0), (-300, 119):
            message = message_of(take, np.array(with_wrong(value, at), dtype=dtype))
            assert message.startswith(f"{argument}[{at}] is {np.dtype(dtype).type(value)}: ")


def test_the_first_wrong_index_of_a_long_text_is_found():
    for dtype in np.uint32, np.float64:
        text = np.resize(np.array(TEXT, dtype), 3_000_000)
        assert token_indices("x", text, V) is text
        text[[2_999_998, 2_999_999]] = V
        with pytest.raises(ValueError, match=rf"x\[2999998\] is {V}"):
            token_indices("x", text, V)


@pytest.mark.parametrize("name", ALL)
def test_what_is_no_row_of_indices_is_named(name):
    take, argument = ALL[name]
    for text, told in (
        ("abcabcabc" * 10, "not str"),
        (np.zeros((30, 4)), r"not an array of shape (30, 4)"),
        (np.array(TEXT) > 3, "[0] is False: it must be"),
        (list("abc" * 30), "[0] is 'a': it must be"),
        (np.array(list("abc" * 30)), "[0] is 'a': it must be"),
        ([TEXT, TEXT], "[0] is [1, 2, 3, 4, 5, 6, ...]: it must be"),
        ((i for i in TEXT), "not generator"),
        (7, "not int"),
        (None, "not NoneType"),
    ):
        message = message_of(take, text)
        assert message.startswith(argument)
        assert told in message


SAME = {
    "list": list,
    "tuple": tuple,
    "range": lambda text: text,
    "whole floats": lambda text: [float(i) for i in text],
    "NumPy's numbers": lambda text: [np.int32(i) for i in text],
    "fractions": lambda text: [Fraction(i) for i in text],
    "NDArray": nd.array,
    "NDArray of int32": lambda text: nd.array(text, dtype="int32"),
    **{
        dtype: lambda text, dtype=dtype: np.array(text, dtype=dtype)
        for dtype in ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
        + ["float16", "float32", "float64", "object"]
    },
}


@pytest.mark.parametrize("name", NOT_KNOWING)
def test_a_text_of_any_kind_gives_the_same_minibatches(name, original):
    def minibatches(library, text):
        random.seed(3)
        return [(X.asnumpy(), Y.asnumpy()) for X, Y in getattr(library, name)(text, 3, 4, CTX)]

    expected = minibatches(original, list(range(100)))
    assert len(expected) > 3
    for make in SAME.values():
        found = minibatches(d2l, make(range(100)))
        assert found[0][0].dtype == np.float32
        np.testing.assert_array_equal(found, expected)


def test_a_text_of_any_kind_is_trained_on(minibatch_losses):
    found = []
    for kind in ("list", "tuple", "NDArray", "uint8"):
        text = SAME[kind](TEXT)
        for train in train_gluon, train_scratch:
            d2l.set_seed(2)
            train(text)
        found.append(minibatch_losses())
        assert len(found[0]) == 2 * 11
        np.testing.assert_array_equal(found[-1], found[0])


def test_a_text_of_any_kind_is_scored():
    for text in (SAME[kind](TEXT) for kind in ("tuple", "NDArray", "uint8")):
        assert evaluate(gluon_model(), text) == evaluate(gluon_model(), TEXT)
        assert d2l.NGramModel(text, 2, V).loss(text) == d2l.NGramModel(TEXT, 2, V).loss(TEXT)


def test_nothing_is_lost_to_a_wrong_text():
    model = gluon_model()
    model(nd.zeros((1, 1)), model.begin_state(1))
    with pytest.raises(ValueError):
        train_gluon(with_wrong(V), model=model)
    assert (model.rnn.l0_h2h_weight.data() == 0.5).asnumpy().all()


def test_another_texts_vocabulary_is_refused():
    corpus, vocab = d2l.load_corpus(SAMPLE_TEXT, 300)
    with pytest.raises(ValueError, match=rf"corpus_indices\[\d+\] is \d+: .* 0 to {V - 1}"):
        train_gluon(corpus)  # a vocabulary too small
    with pytest.raises(
        ValueError, match=f"made for {V} characters, .* vocabulary has {len(vocab)}"
    ):
        train_gluon(TEXT, vocab)
    for predict in (
        lambda model: d2l.predict_rnn_gluon("a", 3, model, vocab, CTX),
        lambda model: generate(model, vocab, ["a"], 3),
    ):
        with pytest.raises(ValueError, match=f"made for {V} characters, .* has {len(vocab)}"):
            predict(gluon_model())


def test_tokens_not_to_be_scored_are_indices_too():
    with pytest.raises(ValueError, match=r"unscored\[1\] is 'a': it must be"):
        evaluate(gluon_model(), TEXT, unscored=[0, "a"])
    assert evaluate(gluon_model(), TEXT, unscored={1, 2}).num_chars == 90


def test_the_limit_is_not_rounded_beside_short_floats():
    """Of 2049, float16 makes 2048."""
    indices = np.array([0, 2048], np.float16)
    assert token_indices("indices", indices, 2049) is indices
    with pytest.raises(ValueError, match=r"indices\[1\] is 2048\.0"):
        token_indices("indices", indices, 2048)
