"""A model one time step at a time: the same numbers, and a model that stays what it is."""

import numpy as np
import pytest
from recurrent import assert_close

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import autograd, gluon, mx, nd
from d2l_deeprnn._mxnet import graphs as compiled
from d2l_deeprnn._mxnet.one_step import one_step_at_a_time

CTX = mx.cpu()
V, H = 8, 6


@pytest.fixture
def graphs(monkeypatch):
    """How often a graph has computed, as a list that grows."""
    found = []
    call = compiled.Graph.__call__

    def count(graph, *args):
        found.append(args)
        return call(graph, *args)

    monkeypatch.setattr(compiled.Graph, "__call__", count)
    return found


def model_of(layer, kind=d2l.RNNModel):
    model = kind(layer, V)
    model.initialize(mx.init.Normal(0.7))
    return model


def decode(model, rows=2, num_chars=6, call=None):
    """Scores and last state of single steps, by a call of the model or by another."""
    call, state, found = call or model, model.begin_state(rows), []
    for i in range(num_chars):
        scores, state = call(nd.arange(i, i + rows).reshape((-1, 1)) % V, state)
        found.append(scores.asnumpy())
    return {"scores": np.stack(found), **{str(i): s.asnumpy() for i, s in enumerate(state)}}


def check_the_same(model, limit=1e-5, **options):
    """That a model gives the same scores with and without."""
    found = decode(model, call=one_step_at_a_time(model), **options)
    assert_close(found, decode(model, **options), limit)


DECODED = {
    "lstm": lambda: gluon.rnn.LSTM(H, num_layers=2),
    "lstm with dropout": lambda: gluon.rnn.LSTM(H, num_layers=3, dropout=0.5),
    "gru": lambda: gluon.rnn.GRU(H, num_layers=3),
    "tanh": lambda: gluon.rnn.RNN(H, num_layers=2, activation="tanh"),
    "relu": lambda: gluon.rnn.RNN(H, activation="relu"),
    "stacked": lambda: d2l.StackedRNN("gru", H, 2, 0.5, V),
}
LEFT = {
    "projected": lambda: gluon.rnn.LSTM(H, projection_size=3),
    "clipped": lambda: gluon.rnn.LSTM(H, state_clip_min=-0.1, state_clip_max=0.1),
    "cell": lambda: gluon.rnn.LSTMCell(H),
}


@pytest.mark.parametrize("hybridized", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kind", [*DECODED, *LEFT])
def test_one_step_at_a_time_gives_the_models_scores(kind, rows, hybridized, joins, graphs):
    model = d2l.RNNModel({**DECODED, **LEFT}[kind](), V)
    # With larger weights a network of tanh makes a difference in rounding larger at every step.
    model.initialize(mx.init.Normal(0.5), ctx=CTX)
    if hybridized:
        model.hybridize(static_alloc=True, static_shape=True)
    text = nd.random.randint(0, V, shape=(rows, 12)).astype("float32")
    expected, expected_state = model(text, model.begin_state(batch_size=rows, ctx=CTX))
    joins.clear()
    step, state, found = one_step_at_a_time(model), model.begin_state(batch_size=rows), []
    for column in text.T:
        scores, state = step(column.reshape((-1, 1)), state)
        found.append(scores)
    if kind in DECODED:
        assert not joins
        assert len(graphs) == 12
    # Relative to the largest: the scores of a relu network are large, and round as such.
    assert_close({"": nd.concat(*found, dim=0).asnumpy()}, {"": expected.asnumpy()}, 1e-5)
    for a, b in zip(state, expected_state):
        assert_close({"": a.asnumpy()}, {"": b.asnumpy()}, 1e-5)


@pytest.mark.parametrize("layout", ["TNC", "NTC"])
def test_a_layer_that_decodes_takes_several_steps_and_either_layout(layout):
    layer = gluon.rnn.GRU(H, 2, layout=layout)
    layer.initialize(mx.init.Normal(0.7))
    step = one_step_at_a_time(layer)
    for shape in [(1, 1, 3), (4, 1, 3), (1, 4, 3), (4, 2, 3)]:
        inputs = nd.random.normal(shape=shape)
        state = layer.begin_state(shape[layout.find("N")])
        expected, (expected_state,) = layer(inputs, state)
        found, (found_state,) = step(inputs, state)
        assert_close({"": found.asnumpy()}, {"": expected.asnumpy()}, 1e-5)
        assert_close({"": found_state.asnumpy()}, {"": expected_state.asnumpy()}, 1e-5)


def test_after_decoding_the_layer_is_what_it_was():
    model = model_of(gluon.rnn.LSTM(H, 2))
    model.hybridize()
    step = one_step_at_a_time(model)
    step(nd.zeros((1, 1)), model.begin_state(1))
    assert "_forward_kernel" not in vars(model.rnn) and model.rnn._active
    with pytest.raises(ValueError, match="state shape"):
        step(nd.zeros((1, 1)), model.begin_state(2))
    assert "_forward_kernel" not in vars(model.rnn) and model.rnn._active
    assert "hybrid_forward" not in vars(model)


def test_parameters_may_wait_to_learn_their_shapes():
    model = model_of(gluon.rnn.LSTM(H, 2))
    found = decode(model, call=one_step_at_a_time(model))
    assert_close(found, decode(model), 1e-5)


@pytest.mark.parametrize("hybridized", [False, True])
def test_new_values_of_parameters_are_seen_in_the_next_step(hybridized):
    model = model_of(gluon.rnn.GRU(H))
    step, state = one_step_at_a_time(model), model.begin_state(1)
    if hybridized:
        model.hybridize()
    step(nd.zeros((1, 1)), state)
    for param in model.collect_params().values():
        param.set_data(param.data() * 2)
    found, _ = step(nd.zeros((1, 1)), state)
    np.testing.assert_allclose(
        found.asnumpy(), model(nd.zeros((1, 1)), state)[0].asnumpy(), rtol=1e-5, atol=1e-6
    )


class Counting(d2l.RNNModel):
    """What it computes depends on how often it was called."""

    calls = 0

    def forward(self, inputs, state):
        self.calls += 1
        scores, state = super().forward(inputs, state)
        return scores * self.calls, state


class Rewritten(Counting):
    """Its ``hybrid_forward`` is no expression."""

    def hybrid_forward(self, F, inputs, state):
        scores, state = super().hybrid_forward(F, inputs, state)
        return scores + self.calls, state


class CountingLSTM(gluon.rnn.LSTM):
    calls = 0

    def hybrid_forward(self, F, *args, **kwargs):
        self.calls += 1
        outputs, state = super().hybrid_forward(F, *args, **kwargs)
        return outputs * self.calls, state


class Plain:
    """A recurrent layer that is no block."""

    def __init__(self):
        self.calls = 0

    def begin_state(self, batch_size=0, **kwargs):
        return [nd.zeros((1, batch_size, V))]

    def __call__(self, inputs, states):
        self.calls += 1
        return inputs * self.calls, states


def count(block):
    """A model whose output layer computes something else in each call."""
    calls = []

    def forward(inputs):
        calls.append(inputs)
        return type(block).forward(block, inputs) * len(calls)

    return forward


def own_output_layer(model):
    model.dense.forward = count(model.dense)
    return model


OWN = {
    # name -> the model, and whether a part of it may still be compiled
    "forward": (lambda: model_of(gluon.rnn.LSTM(H), Counting), True),
    "hybrid_forward": (lambda: model_of(gluon.rnn.LSTM(H), Rewritten), False),
    "layer": (lambda: model_of(CountingLSTM(H)), False),
    "no block": (lambda: model_of(Plain()), False),
    "output layer": (lambda: own_output_layer(model_of(gluon.rnn.LSTM(H))), False),
}


@pytest.mark.parametrize("kind", OWN)
def test_a_model_of_ones_own_is_what_it_is_in_every_step(kind, graphs):
    make, compiled = OWN[kind]
    mx.random.seed(1)
    one = make()
    found = decode(one, call=one_step_at_a_time(one))
    mx.random.seed(1)
    other = make()
    assert_close(found, decode(other), 1e-5)
    assert bool(graphs) == compiled
    ratio = found["scores"][0] / found["scores"][-1]
    assert np.abs(ratio - 1).min() > 1e-3


def test_who_listens_to_a_part_hears_each_step(graphs):
    model, heard = model_of(gluon.rnn.LSTM(H)), []
    model.dense.register_forward_hook(lambda block, inputs, output: heard.append(output.shape))
    check_the_same(model)
    assert heard == [(2, V)] * 12 and not graphs


def test_another_output_layer_between_two_steps(graphs):
    model = model_of(gluon.rnn.LSTM(H))
    step = one_step_at_a_time(model)
    decode(model, call=step)
    model.dense = gluon.nn.Dense(3)
    model.dense.initialize()
    before = len(graphs)
    assert step(nd.zeros((1, 1)), model.begin_state(1))[0].shape == (1, 3)
    assert len(graphs) == before


def test_parameters_of_the_same_name(graphs):
    """A graph would take one for the other."""
    layer = gluon.rnn.LSTM(H, prefix="same_")
    model = d2l.RNNModel(layer, V)
    model.dense = gluon.nn.Dense(V, prefix="same_l0_i2h_", in_units=H)
    for part in model.rnn, model.dense:
        part.initialize(mx.init.Normal(0.7))
    check_the_same(model)
    assert not graphs


def test_in_training_dropout_acts(graphs):
    model = model_of(d2l.StackedRNN("lstm", H, 2, 0.5, V))
    step, state = one_step_at_a_time(model), model.begin_state(1)
    with autograd.train_mode():
        found = [step(nd.zeros((1, 1)), state)[0].asnumpy() for _ in range(20)]
    assert np.ptp(found, axis=0).max() > 1e-3 and not graphs


def test_a_graph_is_left_when_gradients_are_wanted(graphs):
    model = model_of(gluon.rnn.LSTM(H))
    step = one_step_at_a_time(model)
    decode(model, call=step)
    before = len(graphs)
    with autograd.record():
        scores, _ = step(nd.zeros((1, 1)), model.begin_state(1))
        scores.sum().backward()
    assert np.abs(model.rnn.l0_i2h_weight.grad().asnumpy()).max() > 0
    assert len(graphs) == before


def test_texts_of_another_number_and_several_steps(graphs):
    model = model_of(gluon.rnn.LSTM(H, 2))
    step = one_step_at_a_time(model)
    for shape in [(1, 1), (3, 1), (3, 4), (1, 4), (2, 1)]:
        inputs, state = nd.ones(shape), model.begin_state(shape[0])
        np.testing.assert_allclose(
            step(inputs, state)[0].asnumpy(), model(inputs, state)[0].asnumpy(), atol=1e-5
        )
    assert len(graphs) == 3
