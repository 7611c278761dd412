"""Unusual models, compiled or not, are trained, scored and decoded as in a plain loop."""

from __future__ import annotations

import functools
import math
import warnings

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import autograd, gluon, init, mx, nd
from d2l_deeprnn.generation.generate import generate
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.training.evaluate import evaluate
from d2l_deeprnn.training.learner import Learner

CTX = mx.cpu()
H = 8
EPOCHS, STEPS, LR, THETA, ROWS = 2, 5, 2.0, 0.5, 4
rnn, nn = gluon.rnn, gluon.nn

FLAGS = {
    "not compiled": None,
    "compiled": {},
    "static shapes": {"static_alloc": True, "static_shape": True},
}


@pytest.fixture(scope="module")
def text():
    return d2l.load_corpus(SAMPLE_TEXT, 200)


# The models -----------------------------------------------------------------------------------


class Hybrid(gluon.HybridBlock):
    """A model with an embedding, a recurrent layer and an output layer."""

    def __init__(self, size, layer=None, **embedding):
        super().__init__()
        self.size = size
        with self.name_scope():
            self.embedding = nn.Embedding(size, H, **embedding)
            self.layer = layer or rnn.GRU(H, input_size=H)
            self.out = nn.Dense(size, in_units=H, flatten=False)

    def begin_state(self, batch_size, ctx):
        return self.layer.begin_state(batch_size=batch_size, ctx=ctx)

    def hybrid_forward(self, F, inputs, state):
        Y, state = self.layer(self.embedding(F.transpose(inputs)), state)
        return F.reshape(self.out(self.between(F, Y)), (-3, 0)), state

    def between(self, F, Y):
        return Y


class Normed(Hybrid):
    def __init__(self, size):
        super().__init__(size)
        self.norm = nn.LayerNorm(in_channels=H)

    def between(self, F, Y):
        return self.norm(Y)


class UsedTwice(Hybrid):
    """Its layer is applied a second time, to its own output, with another state."""

    def begin_state(self, batch_size, ctx):
        return 2 * super().begin_state(batch_size, ctx)

    def hybrid_forward(self, F, inputs, state):
        Y, (first,) = self.layer(self.embedding(F.transpose(inputs)), state[:1])
        Y, (second,) = self.layer(Y, state[1:])
        return F.reshape(self.out(Y), (-3, 0)), [first, second]


class WithConstant(Hybrid):
    def __init__(self, size):
        super().__init__(size)
        with self.name_scope():
            self.scale = self.params.get_constant("scale", nd.arange(1, H + 1) / H)

    def hybrid_forward(self, F, inputs, state, scale):
        self.now = scale
        return super().hybrid_forward(F, inputs, state)

    def between(self, F, Y):
        return F.broadcast_mul(Y, self.now)


class Tied(Hybrid):
    """The embedding's weights are the output layer's."""

    def __init__(self, size):
        super().__init__(size)
        with self.name_scope():
            self.out = nn.Dense(size, in_units=H, flatten=False, params=self.embedding.params)


class InDoublePrecision(Hybrid):
    def __init__(self, size):
        super().__init__(size)
        self.cast("float64")

    def begin_state(self, batch_size, ctx):
        return [state.astype("float64") for state in super().begin_state(batch_size, ctx)]


def chapters(layer):
    return lambda size: d2l.RNNModel(layer(), size)


def half_frozen(size):
    model = d2l.RNNModel(rnn.LSTM(H, 2, input_size=size), size)
    model.collect_params(".*l0.*").setattr("grad_req", "null")
    return model


def deep_cells():
    stack = rnn.SequentialRNNCell()
    stack.add(rnn.GRUCell(H))
    stack.add(rnn.ResidualCell(rnn.LSTMCell(H, input_size=H)))
    return stack


def imported(size, folder, with_values=True):
    """Return a model that was imported from files, without its Python code."""
    model = Hybrid(size)
    model.initialize(init.Normal(0.5))
    model.hybridize()
    model(nd.zeros((1, 2)), model.begin_state(1, CTX))
    model.export(str(folder / "model"))
    names = ["data0", "data1"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of types that MXNet cannot decide
        values = str(folder / "model-0000.params") if with_values else None
        block = gluon.SymbolBlock.imports(str(folder / "model-symbol.json"), names, values)

    class Imported(gluon.Block):
        def __init__(self):
            super().__init__()
            self.block = block

        def forward(self, inputs, state):
            scores, state = self.block(inputs, *state)
            return scores, [state]

        def begin_state(self, batch_size, ctx):
            return [nd.zeros((1, batch_size, H), ctx=ctx)]

    return Imported()


MODELS = {
    "lstm": chapters(lambda: rnn.LSTM(H, 2)),
    "stacked": lambda size: d2l.RNNModel(d2l.StackedRNN("gru", H, 2, 0.0, size), size),
    "cell": chapters(lambda: rnn.LSTMCell(H)),
    "stack of cells": chapters(deep_cells),
    "half frozen": half_frozen,
    "own": Hybrid,
    "normed": Normed,
    "layer used twice": UsedTwice,
    "constant": WithConstant,
    "tied": Tied,
    "float64": InDoublePrecision,
    "sparse": lambda size: Hybrid(size, sparse_grad=True),
    "dropout": lambda size: Hybrid(size, d2l.StackedRNN("gru", H, 1, 0.3, H)),
    "imported": imported,
}


def made(name, size, flags, folder):
    """Return the same model each time, compiled before the first call."""
    d2l.set_seed(3)
    model = MODELS[name](size, folder) if name == "imported" else MODELS[name](size)
    if name == "imported":
        d2l.set_seed(3)
        model.initialize(init.Normal(0.5), force_reinit=True)
    else:
        model.initialize(init.Normal(0.5))
    if flags is not None:
        model.hybridize(**flags)
    model(nd.zeros((1, 1)), model.begin_state(batch_size=1, ctx=CTX))
    return model


# A plain loop as in Gluon's tutorials ---------------------------------------------------------


def plain_training(model, indices, optimizer="sgd", lr=LR):
    trainer = gluon.Trainer(model.collect_params(), optimizer, {"learning_rate": lr, "wd": 0})
    loss, means = gluon.loss.SoftmaxCrossEntropyLoss(), []
    params = [p for p in model.collect_params().values() if p.grad_req != "null"]
    for _ in range(EPOCHS):
        state, losses = model.begin_state(batch_size=ROWS, ctx=CTX), []
        for X, Y in d2l.data_iter_consecutive(indices, ROWS, STEPS, CTX):
            state = [s.detach() for s in state]
            with autograd.record():
                output, state = model(X, state)
                l = loss(output, Y.T.reshape((-1,))).mean()
            l.backward()
            norms = [float(p.grad().tostype("default").square().sum().asscalar()) for p in params]
            factor = min(1, THETA / math.sqrt(sum(norms)))
            for p in params:
                p.grad()[:] = p.grad() * factor
            trainer.step(1)
            losses.append(l.asscalar())
        means.append(np.mean(losses))
    return np.exp(means)


def plain_scores(model, indices):
    state, rows = model.begin_state(batch_size=1, ctx=CTX), []
    for index in indices:
        scores, state = model(nd.array([[index]]), state)
        rows.append(scores.asnumpy()[0])
    return np.array(rows)


def plain_text(model, vocab, prefix, num_chars):
    state, text = model.begin_state(batch_size=1, ctx=CTX), list(prefix)
    for i in range(len(prefix) + num_chars - 1):
        scores, state = model(nd.array([[vocab[text[i]]]]), state)
        if i >= len(prefix) - 1:
            text.append(vocab.idx_to_token[int(scores.asnumpy().argmax())])
    return "".join(text)


def check_use(model, text):
    """Check that the model is scored and decoded as in a plain loop."""
    indices, vocab = text
    scores = plain_scores(model, indices[:30])
    log_sums = np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1)) + scores.max(1)
    expected = (log_sums[:-1] - scores[np.arange(29), indices[1:30]]).mean()
    assert evaluate(model, indices[:30]).nats == pytest.approx(expected, rel=1e-4)
    expected = plain_text(model, vocab, "the", 8)
    assert d2l.predict_rnn_gluon("the", 8, model, vocab, CTX) == expected
    if "<unk>" not in expected:
        assert generate(model, vocab, ["the"], 8) == [expected]


# Compiling without static shapes is another path for each kind of layer, not for each model.
COMBINATIONS = [(name, flags) for name in MODELS for flags in ("not compiled", "static shapes")]
COMBINATIONS += [(name, "compiled") for name in ("lstm", "stack of cells", "own", "dropout")]


@pytest.fixture(scope="module")
def plainly_trained(text, tmp_path_factory):
    """A function that returns a model's perplexities and arrays after ``plain_training``."""

    @functools.lru_cache(maxsize=None)
    def train(name):
        indices, vocab = text
        model = made(name, len(vocab), None, tmp_path_factory.mktemp("reference"))
        d2l.set_seed(5)
        perplexities = plain_training(model, indices)
        return perplexities, [p.data().asnumpy() for p in model.collect_params().values()]

    return train


@pytest.mark.parametrize("name, flags", COMBINATIONS)
def test_the_chapters_function_equals_a_plain_loop(name, flags, text, plainly_trained, tmp_path):
    indices, vocab = text
    expected, arrays = plainly_trained(name)
    model = made(name, len(vocab), FLAGS[flags], tmp_path)
    d2l.set_seed(5)
    history = d2l.train_and_predict_rnn_gluon(
        *(model, H, indices, vocab, CTX, EPOCHS, STEPS, LR, THETA, ROWS, []),
        initialize=False,
        log=lambda line: None,
    )
    np.testing.assert_allclose([r.perplexity for r in history], expected, rtol=1e-4)
    assert expected[-1] < 0.95 * expected[0]
    check_use(model, text)
    params = model.collect_params().values()
    assert len(params) == len(arrays)
    for param, array in zip(params, arrays):
        np.testing.assert_allclose(param.data().asnumpy(), array, rtol=1e-3, atol=1e-4)


def test_a_stack_with_dropout_draws_its_first_mask_before_the_weights_of_unknown_shape(text):
    indices, vocab = text

    def new():
        d2l.set_seed(3)
        return d2l.RNNModel(d2l.StackedRNN("lstm", H, 2, 0.5, len(vocab)), len(vocab))

    arguments = (H, indices, vocab, CTX, EPOCHS, STEPS, LR, THETA, ROWS, [])
    history = d2l.train_and_predict_rnn_gluon(new(), *arguments, log=lambda line: None)
    model = new()
    model.initialize(init.Normal(0.01))
    expected = plain_training(model, indices)
    np.testing.assert_allclose([r.perplexity for r in history], expected, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"dropout"}))
def test_a_learner_equals_a_plain_loop(name, text, tmp_path):
    """With Adam, which reads each array's own gradient. (A learner seeds dropout its own way.)"""
    indices, vocab = text
    settings = d2l.TrainSettings(
        corpus=(SAMPLE_TEXT,),
        num_epochs=EPOCHS,
        num_steps=STEPS,
        batch_size=ROWS,
        lr=0.02,
        clipping_theta=THETA,
        optimizer="adam",
    )
    reference = made(name, len(vocab), None, tmp_path)
    d2l.set_seed(settings.seed)
    expected = plain_training(reference, indices, "adam", 0.02)
    model = made(name, len(vocab), FLAGS["static shapes"], tmp_path)
    learner = Learner(settings, model, np.array(indices), np.array(indices[:60]), CTX)
    records = [learner.train_epoch() for _ in range(EPOCHS)]
    np.testing.assert_allclose(np.exp([r.train_loss for r in records]), expected, rtol=1e-4)


def test_an_imported_network_without_values_is_resumed(text, tmp_path):
    """The shapes of its parameters are None until it is called."""
    indices, vocab = text
    settings = d2l.TrainSettings(
        corpus=("numbers",), batch_size=ROWS, num_steps=STEPS, num_epochs=EPOCHS, valid_fraction=0
    )

    def learner():
        d2l.set_seed(1)
        model = imported(len(vocab), tmp_path, with_values=False)
        model.initialize()
        return Learner(settings, model, np.array(indices), np.zeros(0, int), CTX)

    whole, first, rest = learner(), learner(), learner()
    whole.fit(EPOCHS)
    first.train_epoch()
    rest.load_state_dict(*first.state_dict())
    rest.fit(EPOCHS)
    assert [r.train_loss for r in rest.history] == [r.train_loss for r in whole.history]
