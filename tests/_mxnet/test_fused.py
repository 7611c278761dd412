"""Fused layers without joining: the same numbers, and a model that stays what it is."""

import copy
import pickle

import numpy as np
import pytest
from recurrent import MODES, assert_close, fused_layer

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import autograd, fused, gluon, mx, nd
from d2l_deeprnn._mxnet.fused import JoinedParameters
from d2l_deeprnn.nn.stacked import StackedRNN
from d2l_deeprnn.text.corpora import SAMPLE_TEXT

CTX = mx.cpu()
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


def backward(model, joined=None):
    """A forward and a backward pass; the loss and the new state."""
    X, Y, state = minibatch(model)
    used = JoinedParameters.in_use(joined) if joined else autograd.record()
    with autograd.record(), used:
        scores, state = model(X, state)
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(scores, Y.T.reshape((-1,))).mean()
    loss.backward()
    return {f"state {i}": s.asnumpy() for i, s in enumerate(state)}, loss.asscalar()


def arrays(model):
    return {name: p.data().asnumpy() for name, p in model._collect_params_with_prefix().items()}


def gradients(model):
    return {name: p.grad().asnumpy() for name, p in model._collect_params_with_prefix().items()}


def joined_model(layer):
    model = model_of(layer)
    backward(model)
    joined = JoinedParameters.join(model, CTX)
    assert joined is not None
    return model, joined


LAYERS = {
    "lstm": lambda: gluon.rnn.LSTM(H, 2),
    "clipped": lambda: gluon.rnn.LSTM(
        H, 2, state_clip_min=-0.1, state_clip_max=0.1, state_clip_nan=True
    ),
    "gru": lambda: gluon.rnn.GRU(H),
    "rnn": lambda: gluon.rnn.RNN(H, 3),
    "stacked": lambda: StackedRNN("lstm", H, 2, 0.0, V),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_joined_model_computes_the_same_to_the_bit(kind, joins):
    model = model_of(LAYERS[kind]())
    expected, before, count = backward(model), gradients(model), len(joins)
    assert all(np.abs(gradient).max() > 0 for gradient in before.values())
    joined = JoinedParameters.join(model, CTX)
    assert_close(gradients(model), before, 0)
    assert joined.take_gradients()
    joined.vector.grad[:] = -1
    found = backward(model, joined)
    assert joined.look_after_backward() and joined.take_gradients()
    assert len(joins) == count
    assert found[1] == expected[1]
    assert_close(found[0], expected[0], 0)
    assert_close(gradients(model), before, 0)
    # Not while it trains, it joins them as ever.
    model(*minibatch(model)[::2])
    assert len(joins) > count


def test_the_arrays_are_parts_of_the_vector():
    model, joined = joined_model(gluon.rnn.LSTM(H, 2))
    first, kept = arrays(model), model.dense.weight.data()
    assert joined.vector.size == sum(array.size for array in first.values())
    joined.vector *= 2
    for name, array in arrays(model).items():
        np.testing.assert_array_equal(array, 2 * first[name])
    assert kept is model.dense.weight.data()
    model.dense.weight.set_data(nd.zeros(kept.shape))
    assert (joined.vector == 0).sum().asscalar() >= kept.size


def test_who_has_a_parameter_keeps_it():
    """Arrays that somebody took before are those that are trained."""
    model = model_of(gluon.rnn.GRU(H))
    backward(model)
    taken = model.rnn.l0_i2h_weight.data(), model.rnn.l0_i2h_weight.grad()
    joined = JoinedParameters.join(model, CTX)
    joined.vector[:] = 3
    joined.vector.grad[:] = 4
    assert (taken[0] == 3).min() == 1 and (taken[1] == 4).min() == 1
    assert (taken[0].grad == 4).min() == 1


def test_a_joined_model_is_copied_pickled_saved_and_loaded(tmp_path):
    model, joined = joined_model(gluon.rnn.LSTM(H, 2))
    model.save_parameters(str(tmp_path / "params"))
    other = model_of(gluon.rnn.LSTM(H, 2))
    other.load_parameters(str(tmp_path / "params"))
    with joined.in_use():
        copies = [other, copy.deepcopy(model)]
    copies.append(pickle.loads(pickle.dumps(model)))
    expected = arrays(model)
    joined.vector[:] = 0
    for one in copies:
        assert_close(arrays(one), expected, 0)
        backward(one)
        assert all(np.abs(gradient).max() > 0 for gradient in gradients(one).values())


def test_it_shows_when_a_parameter_is_another_array():
    model, joined = joined_model(gluon.rnn.LSTM(H, 2))
    assert joined.still_of(model.collect_params().values())
    model.rnn.l0_i2h_bias.grad_req = "null"
    assert not joined.still_of(model.collect_params().values())
    model.rnn.l0_i2h_bias.grad_req = "write"
    assert not joined.still_of(model.collect_params().values())
    model, joined = joined_model(gluon.rnn.LSTM(H, 2))
    model.initialize(force_reinit=True)
    assert not joined.still_of(model.collect_params().values())


def frozen(model):
    model.rnn.l0_i2h_weight.grad_req = "null"
    return True


def added_up(model):
    model.collect_params().setattr("grad_req", "add")
    return False


def in_double_precision(model):
    model.cast("float64")
    return False


def never_used(model):
    model.more = gluon.nn.Dense(3, in_units=2)
    model.more.initialize()
    return False


@pytest.mark.parametrize("change", [frozen, added_up, in_double_precision, never_used])
def test_not_every_model_can_be_joined(change):
    model = model_of(gluon.rnn.LSTM(H, 2, input_size=V))
    may_be = change(model)
    X, _, state = minibatch(model)
    with autograd.record():
        scores, _ = (
            model(X, [s.astype(model.dense.weight.dtype) for s in state])
            if (change is not in_double_precision)
            else (model.dense(nd.ones((2, H), dtype="float64")), None)
        )
        scores = scores.sum()
    scores.backward()
    assert (JoinedParameters.join(model, CTX) is not None) == may_be


def test_a_layer_with_other_arrays_than_its_parameters_computes_with_these(joins):
    """For instance one that drops weights."""

    class HalfLSTM(gluon.rnn.LSTM):
        def hybrid_forward(self, F, inputs, states, **params):
            params["l0_h2h_weight"] = params["l0_h2h_weight"] / 2
            return super().hybrid_forward(F, inputs, states, **params)

    model = model_of(HalfLSTM(H))
    (state, loss), before, count = backward(model), gradients(model), len(joins)
    joined = JoinedParameters.join(model, CTX)
    assert joined.take_gradients()
    found = backward(model, joined)
    assert found[1] == loss
    assert_close(found[0], state, 0)
    assert joined.look_after_backward() and joined.take_gradients()
    assert_close(gradients(model), before, 0)
    assert len(joins) == count + 1


def test_a_kernel_of_ones_own_is_left_alone():
    class Own(gluon.rnn.LSTM):
        def _forward_kernel(self, *args, **kwargs):
            return super()._forward_kernel(*args, **kwargs)

    layer = gluon.rnn.LSTM(H)
    assert fused.fused_layers(layer) == [layer]
    assert fused.fused_layers(Own(H)) == []
    layer._forward_kernel = lambda *args, **kwargs: None
    assert fused.fused_layers(layer) == []


def test_a_parameter_that_is_also_used_beside_the_kernel_is_noticed():
    """Both would write their gradient to the same place."""

    class Penalized(d2l.RNNModel):
        def forward(self, inputs, state):
            output, state = super().forward(inputs, state)
            return output * self.rnn.l0_h2h_weight.data().square().sum(), state

    model = Penalized(gluon.rnn.LSTM(H), V)
    model.initialize(mx.init.Normal(0.5))
    expected = backward(model)[1]
    before = gradients(model)
    joined = JoinedParameters.join(model, CTX)
    assert joined.take_gradients()
    backward(model, joined)
    assert not joined.look_after_backward()
    assert backward(model, joined)[1] == expected
    assert joined.look_after_backward() and joined.take_gradients()
    assert_close(gradients(model), before, 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("theta", [0.05, 100], ids=["clipped", "not clipped"])
def test_training_is_that_of_a_model_left_as_it_is(
    text, mode, num_layers, theta, monkeypatch, joins
):
    indices, vocab = text

    def trained():
        d2l.set_seed(0)
        joins.clear()
        model = d2l.RNNModel(fused_layer(mode, num_layers, len(vocab), 16), len(vocab))
        settings = (CTX, 3, 10, 0.1 / theta + 0.5, theta, 8, [])
        history = d2l.train_and_predict_rnn_gluon(
            model, 16, indices, vocab, *settings, log=lambda line: None
        )
        return arrays(model), [record.perplexity for record in history], len(joins)

    ours = trained()
    assert ours[2] == 1  # in the first minibatch
    monkeypatch.setattr(JoinedParameters, "join", lambda *args: None)
    plain = trained()
    assert plain[2] > 30
    np.testing.assert_allclose(ours[1], plain[1], rtol=1e-5)
    assert plain[1][-1] < 0.95 * plain[1][0]
    for a, b in zip(ours[0].values(), plain[0].values()):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
