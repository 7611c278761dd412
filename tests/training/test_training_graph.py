"""A minibatch's gradient does not depend on the graph of the previous minibatch."""

import functools

import numpy as np
import pytest
from recurrent import assert_close, fused_layer, scratch_network

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import gluon, mx, nd
from d2l_deeprnn.nn.convert import params_from_gluon
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.training import trainer

H = 8


@pytest.fixture(scope="module")
def text():
    return d2l.load_corpus(SAMPLE_TEXT, 200)


def model_of(kind, mode, vocab):
    layer = fused_layer(mode, 2, len(vocab), H)
    if kind == "cells":
        layer = layer._unfuse()
    if kind == "zoneout":
        layer = gluon.rnn.SequentialRNNCell()
        layer.add(gluon.rnn.ZoneoutCell(gluon.rnn.LSTMCell(H, input_size=len(vocab)), 1e-9, 1e-9))
    return d2l.RNNModel(layer, len(vocab))


def trained(kind, mode, text):
    """Return the parameters after two epochs with the hidden state carried over."""
    indices, vocab = text
    settings = (2, 5, 1, 1, 4, [])
    d2l.set_seed(0)
    model = model_of("fused" if kind == "scratch" else kind, mode, vocab)
    randomize_reproducibly(model)
    silent = {"log": lambda line: None}
    if kind == "scratch":
        params = params_from_gluon(model.rnn, model.dense)
        network = scratch_network(mode, len(vocab), H, len(vocab), 2)
        d2l.train_and_predict_rnn(
            *(network.forward, lambda: params, network.init_state, H, indices, vocab, mx.cpu()),
            *(False, *settings),
            **silent,
        )
    else:
        d2l.train_and_predict_rnn_gluon(
            model, H, indices, vocab, mx.cpu(), *settings, initialize=False, **silent
        )
        params = [param.data() for param in model.collect_params().values()]
    return {str(i): param.asnumpy() for i, param in enumerate(params)}


def randomize_reproducibly(model):
    model.initialize(mx.init.Normal(0.5))
    model(nd.zeros((1, 1)), model.begin_state(1))


@pytest.fixture
def keep_every_graph(monkeypatch):
    """Compute all gradients with retain_graph=True, so that no graph is freed."""
    backward = nd.NDArray.backward

    def backward_and_retain(self, out_grad=None, retain_graph=False, train_mode=True):
        backward(self, out_grad, retain_graph=True, train_mode=train_mode)

    def switch_on():
        monkeypatch.setattr(nd.NDArray, "backward", backward_and_retain)

    return switch_on


@pytest.fixture(scope="module")
def expected(text):
    """A function that returns ``trained`` of a kind and mode, computed once."""
    return functools.lru_cache(maxsize=None)(lambda kind, mode: trained(kind, mode, text))


KINDS = [(kind, mode) for kind in ("scratch", "fused", "cells") for mode in ("rnn_tanh", "lstm")]


@pytest.mark.parametrize("kind, mode", [*KINDS, ("zoneout", "lstm")])
def test_the_graph_of_the_minibatch_before_does_not_matter(
    kind, mode, text, expected, keep_every_graph
):
    before = expected(kind, mode)
    keep_every_graph()
    assert_close(trained(kind, mode, text), before, 0)


@pytest.mark.parametrize("kind, mode", KINDS)
def test_it_would_matter_without_detach(kind, mode, text, expected, keep_every_graph, monkeypatch):
    # This shows that the test above can fail.
    before = expected(kind, mode)
    keep_every_graph()
    monkeypatch.setattr(trainer, "detach", lambda state: state)
    found = trained(kind, mode, text)
    assert max(np.abs(found[name] - before[name]).max() for name in before) > 1e-3


@pytest.mark.parametrize("kind, mode", KINDS)
def test_but_its_state_does(kind, mode, text, expected, monkeypatch):
    # Values are carried from minibatch to minibatch; only gradients are not.
    before = expected(kind, mode)
    monkeypatch.setattr(trainer, "detach", lambda state: [nd.zeros_like(s) for s in state])
    found = trained(kind, mode, text)
    assert max(np.abs(found[name] - before[name]).max() for name in before) > 1e-3
