"""A model's parameters as one vector: the same numbers, and the arrays are views."""

import numpy as np
import pytest
from recurrent import fused_layer

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import autograd, gluon, mx, nd
from d2l_deeprnn.chapter import train
from d2l_deeprnn.nn.flat import clip_and_descend, flatten
from d2l_deeprnn.nn.stacked import StackedRNN
from d2l_deeprnn.text.corpora import SAMPLE_TEXT

V, H = 7, 5


@pytest.fixture(scope="module")
def text():
    return d2l.load_corpus(SAMPLE_TEXT, 1000)


def model_of(layer):
    model = d2l.RNNModel(layer, V)
    model.initialize(mx.init.Normal(0.5), force_reinit=True)
    return model


def minibatch(model):
    X = nd.array(np.arange(12).reshape(3, 4) % V)
    return X, (X * 2) % V, [nd.ones(s.shape) for s in model.begin_state(3)]


def loss_of(model, X, Y, state):
    """What the flat network computes, by the model itself."""
    scores, _ = model(X, state)
    return gluon.loss.SoftmaxCrossEntropyLoss()(scores, Y.T.reshape((-1,))).mean()


def arrays(model):
    return [param.data().asnumpy() for param in model.collect_params().values()]


def gradients(model):
    return [param.grad().asnumpy() for param in model.collect_params().values()]


@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("theta", [0.05, 100], ids=["clipped", "not clipped"])
def test_training_is_that_of_a_model_left_as_it_is(text, mode, num_layers, theta, monkeypatch):
    indices, vocab = text
    used = []

    def trained(flatten):
        monkeypatch.setattr(train, "flatten", flatten)
        d2l.set_seed(0)
        model = d2l.RNNModel(fused_layer(mode, num_layers, len(vocab), 16), len(vocab))
        settings = (mx.cpu(), 3, 10, 0.1 / theta + 0.5, theta, 8, ["the"])
        history = d2l.train_and_predict_rnn_gluon(
            model, 16, indices, vocab, *settings, log=lambda line: None
        )
        return arrays(model), history

    def noted(model, ctx):
        used.append(flatten(model, ctx))
        return used[-1]

    ours, plain = trained(noted), trained(lambda model, ctx: None)
    assert used[0] is not None
    for a, b in zip(ours[1], plain[1]):
        assert a.perplexity == pytest.approx(b.perplexity, rel=1e-5)
    assert plain[1][-1].perplexity < 0.95 * plain[1][0].perplexity
    for a, b in zip(ours[0], plain[0]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


LAYERS = [
    gluon.rnn.LSTM(H, 2),
    gluon.rnn.LSTM(H, 2, state_clip_min=-0.1, state_clip_max=0.1, state_clip_nan=True),
    gluon.rnn.GRU(H),
    gluon.rnn.RNN(H, 3),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_the_network_computes_what_the_model_does(layer):
    model = model_of(layer)
    X, Y, state = minibatch(model)
    _, expected_state = model(X, state)
    expected = loss_of(model, X, Y, state).asscalar()
    flat = flatten(model, mx.cpu())
    loss, new_state = flat.network(X, Y, state)
    assert loss.asscalar() == expected
    for a, b in zip(new_state, expected_state):
        assert np.array_equal(a.asnumpy(), b.asnumpy())

    found = []
    for compute in (lambda: flat.network(X, Y, state)[0], lambda: loss_of(model, X, Y, state)):
        with autograd.record():
            loss = compute()
        loss.backward()
        found.append(gradients(model))
    for a, b in zip(*found):
        assert np.abs(a).max() > 0
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_what_is_done_to_the_model_is_done_to_the_network(layer):
    model = model_of(layer)
    X, Y, state = minibatch(model)
    flat = flatten(model, mx.cpu())
    first = flat.network(X, Y, state)[0].asscalar()
    for param in model.collect_params().values():
        param.set_data(param.data() * 0.5)
    assert flat.network(X, Y, state)[0].asscalar() == loss_of(model, X, Y, state).asscalar()
    assert flat.network(X, Y, state)[0].asscalar() != first


@pytest.mark.parametrize("theta", [1e-3, 1e3], ids=["clipped", "not clipped"])
def test_an_update_is_clipping_and_gradient_descent(theta):
    model = model_of(gluon.rnn.LSTM(H, 2))
    X, Y, state = minibatch(model)
    flat = flatten(model, mx.cpu())
    with autograd.record():
        loss, _ = flat.network(X, Y, state)
    loss.backward()
    before = arrays(model)
    norm = np.sqrt(sum(np.square(g).sum() for g in gradients(model)))
    step = 0.3 * min(1, theta / norm)
    expected = [a - step * g for a, g in zip(before, gradients(model))]
    assert flat.vector.size == sum(a.size for a in before)
    clip_and_descend(flat.vector, theta, 0.3)()
    for a, b, c in zip(arrays(model), expected, before):
        np.testing.assert_allclose(a - c, b - c, rtol=1e-3, atol=1e-7)
        assert not np.array_equal(a, c)


def test_a_gradient_of_zero_changes_nothing():
    vector = nd.array([1.0, -2.0])
    vector.attach_grad()
    clip_and_descend(vector, 1, 0.1)()
    assert vector.asnumpy().tolist() == [1, -2]


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
    assert flatten(model, mx.cpu()) is None
