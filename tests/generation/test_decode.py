"""A model one character at a time: the same scores as the model's own."""

import pytest
from recurrent import assert_close

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import gluon, mx, nd
from d2l_deeprnn.generation.decode import one_step

CTX = mx.cpu()
LAYERS = {
    "lstm": lambda: gluon.rnn.LSTM(6, num_layers=2),
    "lstm with dropout": lambda: gluon.rnn.LSTM(6, num_layers=3, dropout=0.5),
    "gru": lambda: gluon.rnn.GRU(6, num_layers=3),
    "tanh": lambda: gluon.rnn.RNN(6, num_layers=2, activation="tanh"),
    "relu": lambda: gluon.rnn.RNN(6, activation="relu"),
    "lstm with projection": lambda: gluon.rnn.LSTM(6, projection_size=3),
    "cell": lambda: gluon.rnn.LSTMCell(6),
    "stacked": lambda: d2l.StackedRNN("gru", 6, 2, 0.5, 8),
}


def model_of(kind):
    d2l.set_seed(0)
    model = d2l.RNNModel(LAYERS[kind](), 8)
    model.initialize(mx.init.Normal(1), ctx=CTX)
    return model


@pytest.mark.parametrize("hybridized", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kind", LAYERS)
def test_scores_are_the_models(kind, rows, hybridized):
    model = model_of(kind)
    if hybridized:
        model.hybridize(static_alloc=True, static_shape=True)
    text = nd.random.randint(0, 8, shape=(rows, 12)).astype("float32")
    expected, _ = model(text, model.begin_state(batch_size=rows, ctx=CTX))
    step, state = one_step(model, rows, CTX)
    found = []
    for column in text.T:
        scores, state = step(column, state)
        found.append(scores)
    # Relative to the largest: the scores of a relu network are large, and round as such.
    assert_close({"": nd.concat(*found, dim=0).asnumpy()}, {"": expected.asnumpy()}, 1e-5)
