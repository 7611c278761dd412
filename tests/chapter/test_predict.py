"""Greedy decoding agrees with the original's, and is exact with a known model."""

from __future__ import annotations

import warnings

import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import gluon, init, mx, nd
from d2l_deeprnn.chapter import predict

CTX = mx.cpu()
VOCAB = d2l.Vocab("abcdefgh ")


@pytest.mark.parametrize("prefix, num_chars", [("a", 1), ("abc", 0), ("a", 0), ("dead beef", 40)])
def test_gluon_prediction_equals_the_original(original_train, prefix, num_chars):
    for seed in range(3):
        d2l.set_seed(seed)
        model = d2l.RNNModel(gluon.rnn.LSTM(12, 2), len(VOCAB))
        model.initialize(init.Normal(1), ctx=CTX)
        theirs = original_train.predict_rnn_gluon(prefix, num_chars, model, VOCAB, CTX)
        ours = d2l.predict_rnn_gluon(prefix, num_chars, model, VOCAB, CTX)
        assert ours == theirs
        assert "<unk>" in ours or len(ours) == len(prefix) + num_chars


def random_network():
    """Return a plain recurrent network with large random weights, for varied predictions."""
    W_xh, W_hh, W_hq = (
        nd.random.normal(scale=1.5, shape=shape)
        for shape in [(len(VOCAB), 10), (10, 10), (10, len(VOCAB))]
    )

    def rnn(inputs, state, params):
        (H,) = state
        outputs = []
        for X in inputs:
            H = nd.tanh(nd.dot(X, W_xh) + nd.dot(H, W_hh))
            outputs.append(nd.dot(H, W_hq))
        return outputs, (H,)

    def init_state(batch_size, num_hiddens, ctx):
        return (nd.zeros((batch_size, num_hiddens), ctx=ctx),)

    return rnn, [], init_state


@pytest.mark.parametrize("prefix, num_chars", [("a", 1), ("abc", 0), ("dead beef", 40)])
def test_prediction_from_scratch_equals_the_original(original_train, prefix, num_chars):
    said = set()
    for seed in range(3):
        d2l.set_seed(seed)
        arguments = (prefix, num_chars, *random_network(), 10, VOCAB, CTX)
        ours = d2l.predict_rnn(*arguments)
        assert ours == original_train.predict_rnn(*arguments)
        said.add(ours)
    assert num_chars < 2 or len(said) == 3


class NextInLine:
    """A model that predicts the next token of the vocabulary; its state counts the steps."""

    def __init__(self):
        self.steps = 0

    def begin_state(self, batch_size, ctx):
        return [nd.zeros((batch_size, 1), ctx=ctx)]

    def __call__(self, inputs, state):
        assert inputs.shape == (1, 1)
        assert state[0].asscalar() == self.steps  # the state is carried over
        self.steps += 1
        following = (inputs.reshape((1,)) + 1) % len(VOCAB)
        return nd.one_hot(following, len(VOCAB)), [state[0] + 1]


@pytest.mark.parametrize("num_chars, queue_length", [(0, 2), (1, 1), (7, 7), (30, 7), (30, 256)])
def test_decoding_with_a_known_model(monkeypatch, num_chars, queue_length):
    monkeypatch.setattr(predict, "QUEUE_LENGTH", queue_length)
    model = NextInLine()
    text = d2l.predict_rnn_gluon("hac", num_chars, model, VOCAB, CTX)
    start = VOCAB["c"] + 1
    expected = [VOCAB.idx_to_token[(start + i) % len(VOCAB)] for i in range(num_chars)]
    assert text == "hac" + "".join(expected)
    assert model.steps == 3 + num_chars - 1


def test_decoding_waits_only_once(monkeypatch):
    waits = []
    plain = nd.NDArray.asnumpy
    monkeypatch.setattr(nd.NDArray, "asnumpy", lambda self: waits.append(1) or plain(self))
    model = d2l.RNNModel(gluon.rnn.LSTM(4), len(VOCAB))
    model.initialize(ctx=CTX)
    d2l.predict_rnn_gluon("abc", 50, model, VOCAB, CTX)
    assert len(waits) == 1


def test_errors_name_the_value():
    model = NextInLine()
    with pytest.raises(ValueError, match="prefix is empty: give at least one character"):
        d2l.predict_rnn_gluon("", 5, model, VOCAB, CTX)
    for num_chars in -1, 2.0, True:
        with pytest.raises(ValueError, match=f"num_chars must be .* at least 0, not {num_chars}"):
            d2l.predict_rnn_gluon("a", num_chars, model, VOCAB, CTX)


def test_an_unknown_character_is_read_as_in_the_book_and_named(original_train):
    d2l.set_seed(0)
    model = d2l.RNNModel(gluon.rnn.LSTM(12), len(VOCAB))
    model.initialize(init.Normal(1), ctx=CTX)
    with pytest.warns(
        UserWarning, match=r"not in the vocabulary .*: \['A', 'z'\] in prefix 'Az a'"
    ):
        ours = d2l.predict_rnn_gluon("Az a", 10, model, VOCAB, CTX)
    assert ours == original_train.predict_rnn_gluon("Az a", 10, model, VOCAB, CTX)
    assert ours.startswith("<unk><unk> a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        d2l.predict_rnn_gluon("a", 1, model, VOCAB, CTX)
