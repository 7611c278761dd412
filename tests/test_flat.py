"""The fused layer's parameters as one vector: the same numbers, and the arrays are views."""

import numpy as np
import pytest
from recurrent import fused_layer

import d2l_deeprnn as d2l
from d2l_deeprnn import train
from d2l_deeprnn._mxnet import autograd, gluon, mx, nd
from d2l_deeprnn.corpora import SAMPLE_TEXT
from d2l_deeprnn.flat import with_flat_parameters
from d2l_deeprnn.stacked import StackedRNN

V, H = 7, 5


@pytest.fixture(scope="module")
def text():
    return d2l.load_corpus(SAMPLE_TEXT, 1000)


def model_of(layer):
    model = d2l.RNNModel(layer, V)
    model.initialize(mx.init.Normal(0.5))
    return model


def inputs(model):
    X = nd.array(np.arange(12).reshape(3, 4) % V)
    return X, [nd.ones(s.shape) for s in model.begin_state(3)]


def arrays(model):
    return [param.data().asnumpy() for param in model.collect_params().values()]


@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_training_is_the_same_to_the_bit(text, mode, num_layers, monkeypatch):
    indices, vocab = text
    used = []

    def trained(network_of):
        monkeypatch.setattr(train, "with_flat_parameters", network_of)
        d2l.set_seed(0)
        model = d2l.RNNModel(fused_layer(mode, num_layers, len(vocab), 16), len(vocab))
        settings = (mx.cpu(), 3, 10, 2, 0.5, 8, ["the"])
        history = d2l.train_and_predict_rnn_gluon(
            model, 16, indices, vocab, *settings, log=lambda line: None
        )
        return arrays(model), [(r.perplexity, r.predictions) for r in history]

    def flat(model, ctx):
        used.append(with_flat_parameters(model, ctx))
        assert used[0] is not model
        return used[0]

    ours, plain = trained(flat), trained(lambda model, ctx: model)
    assert used and ours[1] == plain[1]
    for a, b in zip(ours[0], plain[0]):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "layer",
    [
        gluon.rnn.LSTM(H, 2),
        gluon.rnn.LSTM(H, 2, state_clip_min=-0.1, state_clip_max=0.1, state_clip_nan=True),
        gluon.rnn.GRU(H),
        gluon.rnn.RNN(H, 3),
    ],
    ids=repr,
)
def test_what_is_done_to_one_is_done_to_the_other(layer):
    model = model_of(layer)
    X, state = inputs(model)
    expected = model(X, state)[0].asnumpy()
    network = with_flat_parameters(model, mx.cpu())
    assert np.array_equal(network(X, state)[0].asnumpy(), expected)
    gradients = []
    for block in (network, model):
        with autograd.record():
            total = block(X, state)[0].square().sum()
        total.backward()
        gradients.append([param.grad().asnumpy() for param in model.collect_params().values()])
    for a, b in zip(*gradients):
        assert np.abs(a).max() > 0 and np.array_equal(a, b)
    # An update of the network's parameters is one of the model's, and the other way round.
    trainer = gluon.Trainer(network.collect_params(), "sgd", {"learning_rate": 0.1})
    trainer.step(1, ignore_stale_grad=True)
    updated = network(X, state)[0].asnumpy()
    assert not np.array_equal(updated, expected)
    assert np.array_equal(model(X, state)[0].asnumpy(), updated)
    for param in model.collect_params().values():
        param.set_data(param.data() * 0.5)
    assert np.array_equal(network(X, state)[0].asnumpy(), model(X, state)[0].asnumpy())
    assert not np.array_equal(network(X, state)[0].asnumpy(), updated)


def test_a_trained_model_is_saved_and_loaded(text, tmp_path):
    indices, vocab = text
    models = [d2l.RNNModel(gluon.rnn.LSTM(16, 2), len(vocab)) for _ in range(2)]
    for model in models:
        settings = (mx.cpu(), 1, 10, 2, 0.5, 8, [])
        d2l.train_and_predict_rnn_gluon(model, 16, indices, vocab, *settings, log=lambda line: None)
    models[0].save_parameters(str(tmp_path / "params"))
    models[1].load_parameters(str(tmp_path / "params"))
    for a, b in zip(*map(arrays, models)):
        assert np.array_equal(a, b)


def frozen(model):
    model.rnn.l0_i2h_weight.grad_req = "null"


def slower(model):
    model.dense.bias.lr_mult = 0.5


@pytest.mark.parametrize(
    "layer, change",
    [
        (gluon.rnn.LSTMCell(H), None),
        (StackedRNN("lstm", H, 2, 0.0, V), None),
        (gluon.rnn.LSTM(H, projection_size=3), None),
        (gluon.rnn.LSTM(H, 2), frozen),
        (gluon.rnn.LSTM(H, 2), slower),
    ],
    ids=["cell", "stacked", "projection", "frozen", "slower"],
)
def test_other_models_are_left_as_they_are(layer, change):
    model = d2l.RNNModel(layer, V)
    model.initialize()
    if change:
        change(model)
    assert with_flat_parameters(model, mx.cpu()) is model
