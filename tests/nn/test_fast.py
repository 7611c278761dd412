"""The fast path: the same numbers, only for the chapter's own model, which does not change."""

import copy
import functools
import multiprocessing
import pickle
import threading

import numpy as np
import pytest
from recurrent import MODES, assert_close, fused_layer

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import autograd, gluon, mx, nd
from d2l_deeprnn.generation.generate import generate
from d2l_deeprnn.nn import fast
from d2l_deeprnn.nn.fast import flat_parameters, flatten_parameters, one_step
from d2l_deeprnn.nn.stacked import StackedRNN
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.training.evaluate import evaluate

CTX = mx.cpu()
V, H = 7, 5


def model_of(layer, kind=d2l.RNNModel):
    model = kind(layer, V)
    model.initialize(mx.init.Normal(0.5), force_reinit=True)
    return model


def minibatch(model):
    X = nd.array(np.arange(12).reshape(3, 4) % V)
    return X, (X * 2) % V, [nd.ones(s.shape) for s in model.begin_state(3)]


def backward(model, forward=None):
    """Run a forward and a backward pass; return the loss and the new state."""
    X, Y, state = minibatch(model)
    with autograd.record():
        scores, state = (forward or model)(X, state)
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(scores, Y.T.reshape((-1,))).mean()
    loss.backward()
    return {"loss": loss.asnumpy(), **{f"state {i}": s.asnumpy() for i, s in enumerate(state)}}


def arrays(model):
    return {name: p.data().asnumpy() for name, p in model._collect_params_with_prefix().items()}


def gradients(model):
    return {name: p.grad().asnumpy() for name, p in model._collect_params_with_prefix().items()}


def flat_model(layer):
    model = model_of(layer)
    flatten_parameters(model)
    return model, flat_parameters(model)


LAYERS = {
    "lstm": lambda: gluon.rnn.LSTM(H, 2),
    "gru": lambda: gluon.rnn.GRU(H, 3),
    "tanh": lambda: gluon.rnn.RNN(H, 2, activation="tanh"),
    "relu": lambda: gluon.rnn.RNN(H, activation="relu"),
    "lstm with dropout": lambda: gluon.rnn.LSTM(H, num_layers=3, dropout=0.5),
    "stacked": lambda: StackedRNN("lstm", H, 2, 0.0, V),
    "stacked gru": lambda: StackedRNN("gru", H, 2, 0.5, V),
}

# Parameters in one vector --------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(LAYERS) - {"stacked gru"}))
def test_a_minibatch_is_the_same_to_the_bit(kind, joins):
    model = model_of(LAYERS[kind]())
    expected, expected_gradients = backward(model), gradients(model)
    assert all(np.abs(gradient).max() > 0 for gradient in expected_gradients.values())
    flatten_parameters(model)
    flat = flat_parameters(model)
    flat.gradient[:] = -1
    joins.clear()
    assert_close(backward(model, functools.partial(flat.forward, model)), expected, 0)
    assert not joins
    assert_close(gradients(model), expected_gradients, 0)
    # Other code calls the model itself, with the same arrays.
    flat.gradient[:] = -1
    assert_close(backward(model), expected, 0)
    assert joins
    assert_close(gradients(model), expected_gradients, 0)


@pytest.mark.parametrize("initialize", [True, False])
def test_views_taken_by_the_user_follow_the_training(initialize):
    """Drawing new parameters makes new arrays, as in Gluon."""
    indices, vocab = d2l.load_corpus(SAMPLE_TEXT, 400)
    model = d2l.RNNModel(gluon.rnn.LSTM(H, input_size=len(vocab)), len(vocab))
    model.initialize()
    weight, taken = model.rnn.l0_h2h_weight, []

    def take(record=None):
        taken[:] = [weight.data(), weight.data()[1], weight.data().detach(), weight.grad()[2]]

    if not initialize:
        take()
    d2l.train_and_predict_rnn_gluon(
        *(model, H, indices, vocab, CTX, 3, 5, 1, 1, 4, []),
        initialize=initialize,
        on_epoch=lambda record: take() if initialize and record.epoch == 1 else None,
        log=lambda line: None,
    )
    now, gradient = weight.data().asnumpy(), weight.grad().asnumpy()
    for view, expected in zip(taken, [now, now[1], now, gradient[2]]):
        np.testing.assert_array_equal(view.asnumpy(), expected)
    assert np.abs(gradient).max() > 0


def test_a_callback_sees_clipped_gradients():
    indices, vocab = d2l.load_corpus(SAMPLE_TEXT, 400)
    model, norms = d2l.RNNModel(gluon.rnn.GRU(H), len(vocab)), []

    def measure(record):
        grads = [param.grad() for param in model.collect_params().values()]
        norms.append(sum(float(grad.square().sum().asscalar()) for grad in grads) ** 0.5)

    settings = (CTX, 3, 5, 1, 0.01, 4, [])
    d2l.train_and_predict_rnn_gluon(
        model, H, indices, vocab, *settings, on_epoch=measure, log=lambda line: None
    )
    assert flat_parameters(model) is not None
    np.testing.assert_allclose(norms, 0.01, rtol=1e-4)


def test_a_flat_model_is_copied_pickled_saved_and_loaded(tmp_path):
    model, flat = flat_model(gluon.rnn.LSTM(H, 2))
    model.save_parameters(str(tmp_path / "params"))
    other = model_of(gluon.rnn.LSTM(H, 2))
    other.load_parameters(str(tmp_path / "params"))
    copies = [other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    expected = arrays(model)
    flat.vector[:] = 0
    for one in copies:
        assert_close(arrays(one), expected, 0)
        assert flat_parameters(one) is None
        backward(one)
        assert all(np.abs(gradient).max() > 0 for gradient in gradients(one).values())


class Subclass(d2l.RNNModel):
    pass


class OwnLSTM(gluon.rnn.LSTM):
    pass


def scope():
    layer = gluon.rnn.LSTM(H, prefix="same_")
    model = d2l.RNNModel(layer, V)
    model.dense = gluon.nn.Dense(V, prefix="same_l0_i2h_", in_units=H)
    return model


def tied():
    model = d2l.RNNModel(StackedRNN("gru", V, 2, 0.0, V), V)
    model.rnn.levels._children["1"] = model.rnn.levels[0]
    return model


def with_change(change):
    def make():
        model = d2l.RNNModel(gluon.rnn.LSTM(H, 2, input_size=V), V)
        change(model)
        return model

    return make


def in_float64(model):
    model.dense = gluon.nn.Dense(V, in_units=H)
    model.cast("float64")


OTHERS = {
    "subclass": lambda: Subclass(gluon.rnn.LSTM(H), V),
    "own layer": lambda: d2l.RNNModel(OwnLSTM(H), V),
    "cell": lambda: d2l.RNNModel(gluon.rnn.LSTMCell(H), V),
    "projected": lambda: d2l.RNNModel(gluon.rnn.LSTM(H, projection_size=3), V),
    "clipped": lambda: d2l.RNNModel(
        gluon.rnn.LSTM(H, state_clip_min=-0.1, state_clip_max=0.1, state_clip_nan=True), V
    ),
    "names that are not unique": scope,
    "shared parameters": tied,
    "output layer": with_change(lambda m: setattr(m, "dense", type("D", (gluon.nn.Dense,), {})(V))),
    "one more layer": with_change(lambda m: setattr(m, "more", gluon.nn.Dense(3, in_units=2))),
    "one more parameter": with_change(lambda m: m.params.get("more", shape=(1,))),
    "hook": with_change(lambda m: m.dense.register_forward_hook(lambda *args: None)),
    "forward": with_change(lambda m: setattr(m, "forward", m.forward)),
    "kernel": with_change(lambda m: setattr(m.rnn, "_forward_kernel", m.rnn._forward_kernel)),
    "compiled": with_change(lambda m: m.hybridize()),
    "compiled output layer": with_change(lambda m: m.dense.hybridize(static_alloc=True)),
    "frozen": with_change(lambda m: setattr(m.rnn.l0_i2h_weight, "grad_req", "null")),
    "added up": with_change(lambda m: m.collect_params().setattr("grad_req", "add")),
    "float64": with_change(in_float64),
}
DECODED = {"frozen", "added up", "one more parameter"}  # these matter in training only


@pytest.mark.parametrize("kind", OTHERS)
def test_any_other_model_is_called_as_it_is(kind):
    model = OTHERS[kind]()
    for part in model._children.values():  # Gluon can initialize these with any names
        part.initialize(mx.init.Normal(0.5))
    if kind != "float64":
        model(nd.zeros((1, 1)), model.begin_state(1))
    params = [p for part in model._children.values() for p in part.collect_params().values()]
    before = [param.data() for param in params]
    flatten_parameters(model)
    assert flat_parameters(model) is None
    assert all(param.data() is array for param, array in zip(params, before))
    assert isinstance(one_step(model), fast.OneStep) == (kind in DECODED)


CHANGES = {
    "freeze": lambda m: setattr(m.rnn.l0_h2h_bias, "grad_req", "null"),
    "initialize": lambda m: m.initialize(force_reinit=True),
    "cast": lambda m: m.cast("float64"),
    "hook": lambda m: m.register_forward_hook(lambda *args: None),
    "compile": lambda m: m.hybridize(),
    "forward": lambda m: setattr(m, "forward", m.forward),
    "dense": lambda m: setattr(m, "dense", gluon.nn.Dense(V, in_units=H)),
    "layer": lambda m: setattr(m, "rnn", gluon.rnn.LSTM(H, 2, input_size=V)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_leaves_the_fast_path(change):
    model, flat = flat_model(gluon.rnn.LSTM(H, 2, input_size=V))
    assert flat is not None and flat_parameters(model) is flat
    model.dense.weight.set_data(nd.zeros((V, H)))  # new values are allowed
    assert flat_parameters(model) is flat
    CHANGES[change](model)
    assert flat_parameters(model) is None


@pytest.mark.parametrize(
    "mode, num_layers, theta", [*((mode, 3, 0.05) for mode in MODES), ("lstm", 1, 100)]
)
def test_training_gives_the_same_without_the_fast_path(mode, num_layers, theta, monkeypatch, joins):
    indices, vocab = d2l.load_corpus(SAMPLE_TEXT, 1000)

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
    assert ours[2] == 1  # to infer the shapes
    monkeypatch.setattr(fast, "is_chapter_model", lambda model: False)
    plain = trained()
    assert plain[2] > 30
    np.testing.assert_allclose(ours[1], plain[1], rtol=1e-5)
    assert plain[1][-1] < 0.95 * plain[1][0]
    for a, b in zip(ours[0].values(), plain[0].values()):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


# Single time steps ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LAYERS)
def test_one_step_at_a_time_gives_the_models_scores(kind, joins):
    model, rows = model_of(LAYERS[kind]()), 3
    text = nd.random.randint(0, V, shape=(rows, 12)).astype("float32")
    expected, expected_state = model(text, model.begin_state(batch_size=rows, ctx=CTX))
    joins.clear()
    step, state, found = one_step(model), model.begin_state(batch_size=rows), []
    assert step is not model
    for column in text.T:
        scores, state = step(column.reshape((-1, 1)), state)
        found.append(scores.asnumpy())
    assert not joins
    # Relative to the largest: rounding errors of large relu scores are large.
    assert_close({"": np.concatenate(found)}, {"": expected.asnumpy()}, 1e-5)
    for a, b in zip(state, expected_state):
        assert_close({"": a.asnumpy()}, {"": b.asnumpy()}, 1e-5)


def test_decoding_infers_unknown_shapes():
    model = model_of(gluon.rnn.LSTM(H, 2))
    scores, _ = one_step(model)(nd.zeros((1, 1)), model.begin_state(1))
    expected, _ = model(nd.zeros((1, 1)), model.begin_state(1))
    assert_close({"": scores.asnumpy()}, {"": expected.asnumpy()}, 1e-5)


def test_decoding_changes_nothing_of_a_model():
    model = model_of(gluon.rnn.LSTM(H, 2))
    model(nd.zeros((1, 1)), model.begin_state(1))
    before = [dict(vars(part)) for part in (model, model.rnn, model.dense)]
    params = [param.data() for param in model.collect_params().values()]
    one_step(model)(nd.zeros((1, 1)), model.begin_state(1))
    assert before == [dict(vars(part)) for part in (model, model.rnn, model.dense)]
    assert all(p.data() is a for p, a in zip(model.collect_params().values(), params))


# Threads and processes ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["chapter's", "compiled"])
def test_threads_that_share_a_model_get_the_right_texts(kind):
    """MXNet can deadlock if threads queue operations that share arrays."""
    model, vocab = model_of(gluon.rnn.LSTM(16, 2)), d2l.Vocab("abcdef")
    calls, num_chars = 15, 6  # each text creates and frees a graph
    if kind == "compiled":
        model.hybridize(static_alloc=True, static_shape=True)
        calls, num_chars = 5, 40
    model(nd.zeros((1, 1)), model.begin_state(1))
    expected, found = d2l.predict_rnn_gluon("a", num_chars, model, vocab, CTX), []

    def answer():
        for _ in range(calls):
            try:
                found.append(d2l.predict_rnn_gluon("a", num_chars, model, vocab, CTX))
            except Exception as error:
                found.append(error)

    threads = [threading.Thread(target=answer, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 6 * calls


@pytest.mark.parametrize("flags", [None, {"static_alloc": True, "static_shape": True}])
def test_threads_predict_while_a_model_is_trained(flags):
    """The texts change meanwhile; this tests for deadlocks."""
    model, vocab = model_of(gluon.rnn.GRU(16, 2), Subclass), d2l.Vocab("abcdef")
    if flags is not None:
        model.hybridize(**flags)
    predicted(model)
    ended, texts = threading.Event(), []

    def predict():
        while not ended.is_set():
            texts.append(d2l.predict_rnn_gluon("a", 20, model, vocab, CTX))

    threads = [threading.Thread(target=predict, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    d2l.train_and_predict_rnn_gluon(
        *(model, 16, [1, 2, 3] * 60, vocab, CTX, 8, 5, 1, 1, 4, ["a"]),
        initialize=False,
        log=lambda line: None,
    )
    ended.set()
    for thread in threads:
        thread.join()
    assert texts


def predicted(model):
    return d2l.predict_rnn_gluon("a", 5, model, d2l.Vocab("abcdef"), CTX)


@pytest.mark.parametrize("flags", [None, {}, {"static_alloc": True, "static_shape": True}])
@pytest.mark.parametrize("kind", [d2l.RNNModel, Subclass])
def test_a_model_from_a_queue_predicts_and_trains(kind, flags):
    model, vocab = model_of(gluon.rnn.LSTM(H, 2), kind), d2l.Vocab("abcdef")
    if flags is not None:
        model.hybridize(**flags)
    expected = predicted(model)
    queue = multiprocessing.Queue()
    queue.put(model)
    model = queue.get()
    assert predicted(model) == expected
    assert generate(model, vocab, ["a"], 5)[0].startswith("a")
    assert evaluate(model, [1, 2, 3] * 5).num_chars == 14
    history = d2l.train_and_predict_rnn_gluon(
        *(model, H, [1, 2, 3] * 30, vocab, CTX, 2, 5, 1, 1, 4, ["a"]),
        initialize=False,
        log=lambda line: None,
    )
    assert history[1].perplexity < history[0].perplexity
