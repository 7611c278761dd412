"""Short programs that use the library as other sections of the same edition do.

Sequential data, recurrent networks from scratch and with Gluon, GRU, LSTM, deep and bidirectional
networks. Each program takes a library under the name ``d2l``, runs on either, and has to print
and return the same. Recipes of 160 and 500 epochs are cut short.
"""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pytest

import d2l_deeprnn
from d2l_deeprnn._mxnet import autograd, gluon, init, nd
from d2l_deeprnn.text.corpora import SAMPLE_TEXT

gloss, rnn, nn = gluon.loss, gluon.rnn, gluon.nn


@pytest.fixture(scope="module")
def text():
    return d2l_deeprnn.load_corpus(SAMPLE_TEXT, 400)


@pytest.fixture
def compare(original, original_train, minibatch_losses, capsys):
    """Run a program on both libraries; returns the losses of each minibatch."""
    # The 2019 library does not export these; its sections define them in a cell.
    theirs_too = {
        name: getattr(original_train, name)
        for name in ("predict_rnn", "predict_rnn_gluon", "to_onehot")
    }

    class Original:
        def __getattr__(self, name):
            return theirs_too.get(name) or getattr(original, name)

    def compare(program, *args, rtol=1e-5):
        found = []
        for d2l in Original(), d2l_deeprnn:
            d2l_deeprnn.set_seed(4)
            minibatch_losses()
            capsys.readouterr()
            returned = program(d2l, *args)
            lines = re.sub(r"time [\d.]+ sec", "time - sec", capsys.readouterr().out)
            numbers = [float(p) for p in re.findall(r"(?<=perplexity )[\d.]+", lines)]
            lines = re.sub(r"(?<=perplexity )[\d.]+", "-", lines)
            found.append((returned, minibatch_losses(), lines, numbers))
        (theirs, losses, lines, numbers), (ours, our_losses, our_lines, our_numbers) = found
        assert our_lines == lines
        np.testing.assert_allclose(our_numbers, numbers, rtol=rtol)
        np.testing.assert_allclose(our_losses, losses, rtol=rtol)
        if theirs is not None:
            assert len(ours) == len(theirs)
            for a, b in zip(ours, theirs):
                np.testing.assert_allclose(as_numpy(a), as_numpy(b), rtol=rtol, atol=1e-6)
        return our_losses

    return compare


def as_numpy(value):
    return value.asnumpy() if isinstance(value, nd.NDArray) else np.asarray(value)


# Minibatches of a sequence --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data_iter_random", "data_iter_consecutive"])
def test_minibatches_of_a_short_sequence(compare, name):
    def program(d2l):
        sequence, shown = list(range(30)), []
        for X, Y in getattr(d2l, name)(sequence, batch_size=2, num_steps=6):
            print("X:", X, "\nY:", Y)
            shown += [X, Y]
        return shown

    compare(program)


# From scratch: functions and lists of arrays --------------------------------------------------


def normal(ctx, *shape):
    return nd.random.normal(scale=0.01, shape=shape, ctx=ctx)


def attach(params):
    for param in params:
        param.attach_grad()
    return params


def plain_rnn(num_inputs, num_hiddens, ctx, activation=nd.tanh):
    def get_params():
        W_xh, W_hh = normal(ctx, num_inputs, num_hiddens), normal(ctx, num_hiddens, num_hiddens)
        W_hq = normal(ctx, num_hiddens, num_inputs)
        b_h, b_q = nd.zeros(num_hiddens, ctx=ctx), nd.zeros(num_inputs, ctx=ctx)
        return attach([W_xh, W_hh, b_h, W_hq, b_q])

    def init_rnn_state(batch_size, num_hiddens, ctx):
        return (nd.zeros(shape=(batch_size, num_hiddens), ctx=ctx),)

    def forward(inputs, state, params):
        W_xh, W_hh, b_h, W_hq, b_q = params
        (H,) = state
        outputs = []
        for X in inputs:
            H = activation(nd.dot(X, W_xh) + nd.dot(H, W_hh) + b_h)
            outputs.append(nd.dot(H, W_hq) + b_q)
        return outputs, (H,)

    return forward, get_params, init_rnn_state


def gated(num_inputs, num_hiddens, ctx, gates):
    """Weights for each gate in turn, then those of the output."""

    def three():
        return [
            normal(ctx, num_inputs, num_hiddens),
            normal(ctx, num_hiddens, num_hiddens),
            nd.zeros(num_hiddens, ctx=ctx),
        ]

    def get_params():
        params = [param for _ in range(gates) for param in three()]
        return attach(
            [*params, normal(ctx, num_hiddens, num_inputs), nd.zeros(num_inputs, ctx=ctx)]
        )

    return get_params


def pre(X, H, three):
    W_x, W_h, b = three
    return nd.dot(X, W_x) + nd.dot(H, W_h) + b


def own_gru(num_inputs, num_hiddens, ctx):
    def init_gru_state(batch_size, num_hiddens, ctx):
        return (nd.zeros(shape=(batch_size, num_hiddens), ctx=ctx),)

    def forward(inputs, state, params):
        W_hq, b_q = params[-2:]
        (H,) = state
        outputs = []
        for X in inputs:
            Z, R = nd.sigmoid(pre(X, H, params[:3])), nd.sigmoid(pre(X, H, params[3:6]))
            H = Z * H + (1 - Z) * nd.tanh(pre(X, R * H, params[6:9]))
            outputs.append(nd.dot(H, W_hq) + b_q)
        return outputs, (H,)

    return forward, gated(num_inputs, num_hiddens, ctx, 3), init_gru_state


def own_lstm(num_inputs, num_hiddens, ctx):
    def init_lstm_state(batch_size, num_hiddens, ctx):
        shape = (batch_size, num_hiddens)
        return (nd.zeros(shape=shape, ctx=ctx), nd.zeros(shape=shape, ctx=ctx))

    def forward(inputs, state, params):
        W_hq, b_q = params[-2:]
        (H, C), outputs = state, []
        for X in inputs:
            I, F, O = (nd.sigmoid(pre(X, H, params[3 * i : 3 * i + 3])) for i in range(3))
            C = F * C + I * nd.tanh(pre(X, H, params[9:12]))
            H = O * C.tanh()
            outputs.append(nd.dot(H, W_hq) + b_q)
        return outputs, (H, C)

    return forward, gated(num_inputs, num_hiddens, ctx, 4), init_lstm_state


@pytest.mark.parametrize("network", [plain_rnn, own_gru, own_lstm])
@pytest.mark.parametrize("is_random_iter", [True, False], ids=["random", "adjacent"])
def test_a_network_from_scratch(compare, text, network, is_random_iter):
    corpus_indices, vocab = text

    def program(d2l):
        num_inputs, num_hiddens, ctx = len(vocab), 16, d2l.try_gpu()
        forward, get_params, init_state = network(num_inputs, num_hiddens, ctx)
        num_epochs, num_steps, batch_size, lr, clipping_theta = 4, 7, 8, 1e2, 1e-2
        made = []

        def keep_params():
            made.append(get_params())
            return made[-1]

        # Before training, to see that it works.
        first = d2l.predict_rnn(
            "time", 10, forward, get_params(), init_state, num_hiddens, vocab, ctx
        )
        print(first)
        d2l.train_and_predict_rnn(
            forward, keep_params, init_state, num_hiddens, corpus_indices, vocab, ctx,
            is_random_iter, num_epochs, num_steps, lr, clipping_theta, batch_size,
            ["traveller"],
        )  # fmt: skip
        (params,) = made
        print(d2l.predict_rnn("the", 10, forward, params, init_state, num_hiddens, vocab, ctx))
        return params

    losses = compare(program, rtol=1e-4)
    assert losses[-5:].mean() < losses[:5].mean()


@pytest.mark.parametrize("is_random_iter", [True, False], ids=["random", "adjacent"])
def test_a_random_initial_state(compare, text, is_random_iter):
    """The state is drawn as often, and in the same order, as by the original."""
    corpus_indices, vocab = text

    def program(d2l):
        forward, get_params, _ = plain_rnn(len(vocab), 16, None)
        calls = []

        def init_state(batch_size, num_hiddens, ctx):
            calls.append(batch_size)
            return (nd.random.normal(shape=(batch_size, num_hiddens), ctx=ctx),)

        d2l.train_and_predict_rnn(
            *(forward, get_params, init_state, 16, corpus_indices, vocab, d2l.try_gpu()),
            *(is_random_iter, 4, 7, 1, 1, 8, ["a"]),
        )
        print(calls)

    compare(program)


def test_a_custom_training_loop(compare, text):
    corpus_indices, vocab = text

    def program(d2l):
        ctx = d2l.try_gpu()
        X = nd.arange(10).reshape((2, 5))
        inputs = d2l.to_onehot(X.as_in_context(ctx), len(vocab))
        print(len(inputs), inputs[0].shape)
        forward, get_params, init_state = plain_rnn(len(vocab), 12, ctx)
        state = init_state(X.shape[0], 12, ctx)
        params = get_params()
        outputs, state_new = forward(inputs, state, params)
        print(len(outputs), outputs[0].shape, state_new[0].shape)

        loss = gloss.SoftmaxCrossEntropyLoss()
        for _ in range(3):
            l_sum, n = 0.0, 0
            state = init_state(8, 12, ctx)
            for X, Y in d2l.data_iter_consecutive(corpus_indices, 8, 6, ctx):
                state = [s.detach() for s in state]
                with autograd.record():
                    outputs, state = forward(d2l.to_onehot(X, len(vocab)), state, params)
                    l = loss(nd.concat(*outputs, dim=0), Y.T.reshape((-1,))).mean()
                l.backward()
                d2l.grad_clipping(params, 1e-2, ctx)
                d2l.sgd(params, 1e2, 1)
                l_sum += l.asscalar() * Y.size
                n += Y.size
            print("perplexity %f" % math.exp(l_sum / n))
        return params

    compare(program, rtol=1e-4)


def test_a_custom_training_loop_with_random_minibatches(compare, text):
    corpus_indices, vocab = text

    def program(d2l):
        net = nn.Sequential()
        net.add(nn.Embedding(len(vocab), 6), nn.Dense(len(vocab), flatten=False))
        net.initialize(init.Normal(0.1), ctx=d2l.try_gpu())
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 3})
        loss = gloss.SoftmaxCrossEntropyLoss()
        for X, Y in d2l.data_iter_random(corpus_indices, 8, 6):
            with autograd.record():
                l = loss(net(X), Y).mean()
            l.backward()
            d2l.grad_clipping_gluon(net, 0.1, d2l.try_gpu())
            trainer.step(1)
        return [param.data() for param in net.collect_params().values()]

    compare(program)


# With Gluon -----------------------------------------------------------------------------------


def test_a_layer_by_itself_then_a_model_before_and_after_training(compare, text):
    corpus_indices, vocab = text

    def program(d2l):
        num_hiddens, batch_size, num_steps = 16, 2, 9
        rnn_layer = rnn.RNN(num_hiddens)
        rnn_layer.initialize()
        state = rnn_layer.begin_state(batch_size=batch_size)
        print(state[0].shape)
        X = nd.random.uniform(shape=(num_steps, batch_size, len(vocab)))
        Y, state_new = rnn_layer(X, state)
        print(Y.shape, len(state_new), state_new[0].shape)

        ctx = d2l.try_gpu()
        model = d2l.RNNModel(rnn_layer, len(vocab))
        model.initialize(force_reinit=True, ctx=ctx)
        print(d2l.predict_rnn_gluon("traveller", 10, model, vocab, ctx))
        num_epochs, batch_size, lr, clipping_theta = 4, 8, 1e2, 1e-2
        d2l.train_and_predict_rnn_gluon(
            model, num_hiddens, corpus_indices, vocab, ctx, num_epochs, num_steps, lr,
            clipping_theta, batch_size, ["traveller"],
        )  # fmt: skip
        print(d2l.predict_rnn_gluon("the", 10, model, vocab, ctx))
        return [param.data() for param in model.collect_params().values()]

    losses = compare(program, rtol=1e-4)
    assert losses[-5:].mean() < losses[:5].mean()


class WrittenOut(gluon.Block):
    """The model as a reader would write it, without ``RNNModel``."""

    def __init__(self, rnn_layer, vocab_size, **kwargs):
        super().__init__(**kwargs)
        self.layer, self.size = rnn_layer, vocab_size
        self.output = nn.Dense(vocab_size)

    def forward(self, inputs, state):
        Y, state = self.layer(nd.one_hot(inputs.T, self.size), state)
        return self.output(Y.reshape((-1, Y.shape[-1]))), state

    def begin_state(self, *args, **kwargs):
        return self.layer.begin_state(*args, **kwargs)


LAYERS = {
    "RNN": lambda n: rnn.RNN(n),
    "GRU": lambda n: rnn.GRU(n),
    "LSTM": lambda n: rnn.LSTM(n),
    "deep LSTM": lambda n: rnn.LSTM(hidden_size=n, num_layers=2),
    "deep GRU": lambda n: rnn.GRU(n, num_layers=3),
}


@pytest.mark.parametrize(
    "how, layer",
    [
        *(("library", layer) for layer in LAYERS),
        ("written out", "RNN"), ("written out", "deep LSTM"),
        ("subclass", "LSTM"), ("subclass", "deep GRU"),
    ],
)  # fmt: skip
def test_concise_recipes(compare, text, how, layer):
    corpus_indices, vocab = text

    def program(d2l):
        class Subclass(d2l.RNNModel):
            def forward(self, inputs, state):
                Y, state = self.rnn(nd.one_hot(inputs.T, self.vocab_size), state)
                return self.dense(Y.reshape((-1, Y.shape[-1]))), state

        kinds = {"library": d2l.RNNModel, "written out": WrittenOut, "subclass": Subclass}
        num_hiddens, ctx = 16, d2l.try_gpu()
        num_epochs, num_steps, batch_size, lr, clipping_theta = 4, 7, 8, 10, 0.1
        model = kinds[how](LAYERS[layer](num_hiddens), len(vocab))
        d2l.train_and_predict_rnn_gluon(
            model, num_hiddens, corpus_indices, vocab, ctx, num_epochs, num_steps, lr,
            clipping_theta, batch_size, ["traveller"],
        )  # fmt: skip
        return [param.data() for param in model.collect_params().values()]

    losses = compare(program, rtol=1e-4)
    assert losses[-5:].mean() < losses[:5].mean()


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_bidirectional_network(compare, text, num_layers):
    corpus_indices, vocab = text

    def program(d2l):
        layer = rnn.LSTM(hidden_size=12, num_layers=num_layers, bidirectional=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = d2l.RNNModel(layer, len(vocab))
        assert len(caught) == (d2l is d2l_deeprnn)
        d2l.train_and_predict_rnn_gluon(
            *(model, 12, corpus_indices, vocab, d2l.try_gpu(), 4, 7, 10, 0.1, 8),
            ["traveller"],
        )
        print([s.shape for s in model.begin_state(batch_size=3)], model.dense.weight.shape)
        return [param.data() for param in model.collect_params().values()]

    compare(program, rtol=1e-4)


def test_training_the_same_model_twice(compare, text):
    """As when cells are run again: the second training draws new parameters."""
    corpus_indices, vocab = text

    def program(d2l):
        model = d2l.RNNModel(rnn.LSTM(12), len(vocab))
        for lr in 10, 5:
            d2l.train_and_predict_rnn_gluon(
                *(model, 12, corpus_indices, vocab, d2l.try_gpu(), 4, 7, lr, 0.1, 8, ["the"])
            )
        return [param.data() for param in model.collect_params().values()]

    compare(program, rtol=1e-4)
