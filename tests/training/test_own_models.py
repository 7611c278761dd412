"""Custom models are trained, scored and decoded with their own methods.

Each is built with both libraries and trained by both with the same seed.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import autograd, gluon, init, mx, nd
from d2l_deeprnn.generation.generate import generate
from d2l_deeprnn.nn import fast
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.training.evaluate import evaluate
from d2l_deeprnn.training.learner import Learner

CTX = mx.cpu()
H = 8
rnn, nn = gluon.rnn, gluon.nn


@pytest.fixture(scope="module")
def text():
    return d2l.load_corpus(SAMPLE_TEXT, 135)


def lstm(**kwargs):
    return rnn.LSTM(H, 2, **kwargs)


# The family. Each function takes a library and the number of characters -----------------------


def scaled_scores(library, size):
    class Scaled(library.RNNModel):
        def forward(self, inputs, state):
            output, state = super().forward(inputs, state)
            return output * 0.5, state

    return Scaled(lstm(), size)


def no_memory(library, size):
    class Forgetful(library.RNNModel):
        def forward(self, inputs, state):
            output, _ = super().forward(inputs, self.begin_state(batch_size=inputs.shape[0]))
            return output, state

    return Forgetful(lstm(), size)


def state_in_a_tuple(library, size):
    class InATuple(library.RNNModel):
        def begin_state(self, *args, **kwargs):
            return tuple(super().begin_state(*args, **kwargs))

        def forward(self, inputs, state):
            assert type(state) is tuple
            output, state = super().forward(inputs, list(state))
            return output, tuple(state)

    return InATuple(lstm(), size)


def state_of_one_array(library, size):
    class OneArray(library.RNNModel):
        def begin_state(self, *args, **kwargs):
            return super().begin_state(*args, **kwargs)[0]

        def forward(self, inputs, state):
            output, (state,) = super().forward(inputs, [state])
            return output, state

    return OneArray(rnn.GRU(H), size)


def begins_at_one(library, size):
    class BeginsAtOne(library.RNNModel):
        def begin_state(self, *args, **kwargs):
            return [s + 1 for s in super().begin_state(*args, **kwargs)]

    return BeginsAtOne(lstm(), size)


def own_parameter(library, size):
    class Louder(library.RNNModel):
        def __init__(self, *args):
            super().__init__(*args)
            with self.name_scope():
                self.volume = self.params.get("volume", shape=(1,), init="ones")

        def forward(self, inputs, state):
            output, state = super().forward(inputs, state)
            return nd.broadcast_mul(output, self.volume.data()), state

    return Louder(lstm(), size)


class EchoedLSTM(rnn.LSTM):
    """A layer that doubles its inputs."""

    def hybrid_forward(self, F, inputs, states, **params):
        return super().hybrid_forward(F, inputs * 2, states, **params)


class CalledLSTM(rnn.LSTM):
    def __call__(self, inputs, states):
        outputs, states = super().__call__(inputs, states)
        return outputs - 0.1, states


class OwnLayer(gluon.Block):
    """A layer without Gluon's interface: its ``begin_state`` takes no ``func``."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.inputs = nn.Dense(H, flatten=False)
            self.hidden = nn.Dense(H, flatten=False, use_bias=False)

    def begin_state(self, batch_size, ctx):
        return [nd.zeros((batch_size, H), ctx=ctx)]

    def forward(self, X, state):
        (state,), outputs = state, []
        for x in X:
            state = nd.tanh(self.inputs(x) + self.hidden(state))
            outputs.append(state)
        return nd.stack(*outputs), [state]


def with_dense(**options):
    def make(library, size):
        model = library.RNNModel(lstm(), size)
        model.dense = nn.Dense(size, **options)
        return model

    return make


def stacked_of_other_levels(library, size):
    layer = d2l.StackedRNN("gru", H, 2, 0.0, size)
    layer.levels.add(Unlike(H, input_size=H))
    layer._num_layers = 3
    return library.RNNModel(layer, size)


class Unlike(rnn.GRU):
    def hybrid_forward(self, F, inputs, states, **params):
        return super().hybrid_forward(F, -inputs, states, **params)


class HalfDense(nn.Dense):
    def forward(self, x):
        return super().forward(x) / 2


def other_dense(library, size):
    model = library.RNNModel(lstm(), size)
    model.dense = HalfDense(size)
    return model


def parameter_used_twice(library, size):
    """The layer uses it, and so does the model."""

    class Penalized(library.RNNModel):
        def forward(self, inputs, state):
            output, state = super().forward(inputs, state)
            return output / (1 + self.rnn.l0_h2h_weight.data().square().mean()), state

    return Penalized(lstm(), size)


def two_output_layers(library, size):
    class Deeper(library.RNNModel):
        def __init__(self, *args):
            super().__init__(*args)
            self.before = nn.Dense(H, activation="relu")

        def forward(self, inputs, state):
            Y, state = self.rnn(nd.one_hot(inputs.T, self.vocab_size), state)
            return self.dense(self.before(Y.reshape((-1, Y.shape[-1])))), state

    return Deeper(lstm(), size)


class Embedded(gluon.Block):
    """Not an ``RNNModel``: an embedding instead of one-hot vectors, layer norm, dropout."""

    def __init__(self, size, sparse_grad=False):
        super().__init__()
        with self.name_scope():
            self.embedding = nn.Embedding(size, 5, sparse_grad=sparse_grad)
            self.lstm = lstm()
            self.norm = nn.LayerNorm()
            self.dropout = nn.Dropout(0.2)
            self.out = nn.Dense(size)

    def forward(self, inputs, state):
        Y, state = self.lstm(self.embedding(inputs.T), state)
        Y = self.dropout(self.norm(Y))
        return self.out(Y.reshape((-1, H))), state

    def begin_state(self, batch_size, ctx):
        return self.lstm.begin_state(batch_size=batch_size, ctx=ctx)


class Convolved(gluon.Block):
    """A convolution over the channels between the embedding and the layer."""

    def __init__(self, size):
        super().__init__()
        with self.name_scope():
            self.embedding = nn.Embedding(size, 16)
            self.conv = nn.Conv1D(16, 1, in_channels=16)
            self.lstm = lstm()
            self.out = nn.Dense(size)

    def forward(self, inputs, state):
        Y = self.conv(self.embedding(inputs).transpose((0, 2, 1)))  # (batch, 16, steps)
        Y, state = self.lstm(Y.transpose((2, 0, 1)), state)
        return self.out(Y.reshape((-1, H))), state

    def begin_state(self, batch_size, ctx):
        return self.lstm.begin_state(batch_size=batch_size, ctx=ctx)


class Noting(gluon.HybridBlock):
    """Counts its calls in ``hybrid_forward``, which runs only once if it is compiled."""

    def __init__(self, size):
        super().__init__()
        self.size, self.calls = size, 0
        with self.name_scope():
            self.gru = rnn.GRU(H)
            self.out = nn.Dense(size, flatten=False)

    def hybrid_forward(self, F, inputs, state):
        self.calls += 1
        Y, state = self.gru(F.one_hot(F.transpose(inputs), self.size), state)
        return F.reshape(self.out(Y), (-3, 0)), state

    def begin_state(self, *args, **kwargs):
        return self.gru.begin_state(*args, **kwargs)


def compiled(library, size):
    model = Noting(size)
    model.hybridize()
    return model


def forward_of_the_object(library, size):
    model = library.RNNModel(lstm(), size)
    model.forward = times(0.5, model.forward)
    return model


def times(factor, forward):
    def scaled(*args):
        output, state = forward(*args)
        return output * factor, state

    return scaled


def begin_state_of_the_layer(library, size):
    model = library.RNNModel(lstm(), size)
    begin_state = model.rnn.begin_state
    model.rnn.begin_state = lambda *args, **kwargs: [s - 1 for s in begin_state(*args, **kwargs)]
    return model


def with_parameters(**settings):
    def make(library, size):
        model = library.RNNModel(lstm(), size)
        for name, value in settings.items():
            model.rnn.collect_params().setattr(name, value)
        return model

    return make


def around(layer):
    return lambda library, size: library.RNNModel(layer(), size)


def tied(library, size):
    """Two layers that share their parameters."""

    class Tied(library.RNNModel):
        def __init__(self, *args):
            super().__init__(*args)
            self.again = rnn.GRU(H, input_size=H, params=self.rnn.params)

        def begin_state(self, *args, **kwargs):
            return 2 * super().begin_state(*args, **kwargs)

        def forward(self, inputs, state):
            Y, (first,) = self.rnn(nd.one_hot(inputs.T, H), state[:1])
            Y, (second,) = self.again(Y, state[1:])
            return self.dense(Y.reshape((-1, H))), [first, second]

    return Tied(rnn.GRU(H, input_size=H, prefix="tied_"), size)


FAMILY = {
    "scaled scores": scaled_scores,
    "no memory": no_memory,
    "state in a tuple": state_in_a_tuple,
    "state of one array": state_of_one_array,
    "begins at one": begins_at_one,
    "own parameter": own_parameter,
    "own hybrid_forward of a layer": around(lambda: EchoedLSTM(H)),
    "own __call__ of a layer": around(lambda: CalledLSTM(H, 2)),
    "own layer": around(OwnLayer),
    "layers share parameters": tied,
    "parameter used twice": parameter_used_twice,
    "activation": with_dense(activation="tanh"),
    "no bias": with_dense(use_bias=False),
    "bias starts at one": with_dense(bias_initializer="ones"),
    "own output layer": other_dense,
    "two output layers": two_output_layers,
    "embedding": lambda library, size: Embedded(size),
    "sparse embedding": lambda library, size: Embedded(size, sparse_grad=True),
    "convolution": lambda library, size: Convolved(size),
    "HybridBlock": lambda library, size: Noting(size),
    "compiled HybridBlock": compiled,
    "forward of the object": forward_of_the_object,
    "begin_state of the layer": begin_state_of_the_layer,
    "other learning rate": with_parameters(lr_mult=0.3),
    "other weight decay": with_parameters(wd_mult=5.0),
    "gradients added up": with_parameters(grad_req="add"),
    "no prefix": around(lambda: lstm(prefix="")),
    "clipped state": around(lambda: lstm(state_clip_min=-0.1, state_clip_max=0.1)),
    "own initializers": around(
        lambda: lstm(
            i2h_weight_initializer=init.Uniform(0.3),
            h2h_weight_initializer=init.Orthogonal(),
            i2h_bias_initializer="ones",
        )
    ),
    "dropout of the layer": around(lambda: rnn.LSTM(H, 2, dropout=0.5)),
    # the chapter's models
    "LSTM": around(lstm),
    "GRU": around(lambda: rnn.GRU(H, 3)),
    "RNN": around(lambda: rnn.RNN(H)),
}


# The original cannot train these: MXNet does not train projections on a CPU, and the original
# does not detach the state.
UNTRAINED = {
    "projection": around(lambda: lstm(projection_size=3)),
    "stacked": around(lambda: d2l.StackedRNN("lstm", H, 2, 0.0, 0)),
    "stacked of other levels": stacked_of_other_levels,
}


class Trained(NamedTuple):
    model: gluon.Block
    losses: np.ndarray
    lines: str
    perplexities: list


def trained(library, make, text, minibatch_losses, capsys, prefixes=()):
    indices, vocab = text
    d2l.set_seed(1)
    model = make(library, len(vocab))
    minibatch_losses()
    capsys.readouterr()
    settings = (CTX, 4, 5, 4, 0.5, 4, list(prefixes))
    library.train_and_predict_rnn_gluon(model, H, indices, vocab, *settings)
    lines = re.sub(r"time [\d.]+ sec", "time - sec", capsys.readouterr().out)
    perplexities = [float(p) for p in re.findall(r"(?<=perplexity )[\d.]+", lines)]
    lines = re.sub(r"(?<=perplexity )[\d.]+", "-", lines)
    return Trained(model, minibatch_losses(), lines, perplexities)


def assert_same_training(ours, theirs):
    assert len(ours.losses) == len(theirs.losses) > 20
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-5)
    np.testing.assert_allclose(ours.perplexities, theirs.perplexities, rtol=1e-5)
    assert ours.lines == theirs.lines


@pytest.mark.parametrize("name", FAMILY)
def test_training_is_the_originals(name, original, text, minibatch_losses, capsys):
    theirs = trained(original, FAMILY[name], text, minibatch_losses, capsys)
    ours = trained(d2l, FAMILY[name], text, minibatch_losses, capsys)
    assert_same_training(ours, theirs)
    assert ours.losses[-5:].mean() < ours.losses[:5].mean()
    if isinstance(ours.model, Noting):
        assert ours.model.calls == theirs.model.calls


def initialized(make, size, seed=3):
    """Return a model whose predictions depend on the characters."""
    d2l.set_seed(seed)
    model = make(d2l, size)
    model.initialize(init.Normal(0.7), ctx=CTX)
    return model


@pytest.mark.parametrize("name", [*FAMILY, *UNTRAINED])
def test_prediction_is_the_originals(name, original_train, text):
    _, vocab = text
    make = {**FAMILY, **UNTRAINED}[name]
    for seed in range(2):
        # This is the model's first call, which infers its shapes.
        theirs = original_train.predict_rnn_gluon(
            "the", 15, initialized(make, len(vocab), seed), vocab, CTX
        )
        model = initialized(make, len(vocab), seed)
        assert d2l.predict_rnn_gluon("the", 15, model, vocab, CTX) == theirs
        if "<unk>" not in theirs:  # which generate does not write
            assert generate(model, vocab, ["the"], 15) == [theirs]


def test_a_parameter_with_a_method_of_its_own(original, text, minibatch_losses, capsys):
    def with_a_mask(library, size):
        model = library.RNNModel(lstm(input_size=size), size)
        param = model.rnn.l0_i2h_weight
        data = param.data
        param.data = lambda ctx=None: 0 * data(ctx) if autograd.is_recording() else data(ctx)
        return model

    theirs = trained(original, with_a_mask, text, minibatch_losses, capsys)
    ours = trained(d2l, with_a_mask, text, minibatch_losses, capsys)
    assert_same_training(ours, theirs)
    a, b = (model.rnn.l0_i2h_weight.data().asnumpy() for model in (ours.model, theirs.model))
    np.testing.assert_allclose(a, b, rtol=1e-6)  # they got no gradient


def test_a_replaced_cell_does_not_change_a_fused_layer(text, monkeypatch):
    model = initialized(around(lstm), len(text[1]))
    expected = d2l.predict_rnn_gluon("the", 15, model, text[1], CTX)
    monkeypatch.setattr(rnn.LSTMCell, "hybrid_forward", lambda self, F, X, state, *args: (X, state))
    assert d2l.predict_rnn_gluon("the", 15, model, text[1], CTX) == expected


def loss_of_a_plain_loop(model, indices, num_steps=1):
    state, total = model.begin_state(batch_size=1, ctx=CTX), 0.0
    for begin in range(0, len(indices) - 1, num_steps):
        targets = indices[begin + 1 : begin + 1 + num_steps]
        scores, state = model(nd.array([indices[begin : begin + len(targets)]]), state)
        total -= nd.pick(nd.log_softmax(scores), nd.array(targets)).sum().asscalar()
    return total / (len(indices) - 1)


@pytest.mark.parametrize("name", [*FAMILY, *UNTRAINED])
def test_evaluation_is_a_plain_loop(name, text):
    indices, vocab = text[0][:60], text[1]
    model = initialized({**FAMILY, **UNTRAINED}[name], len(vocab))
    if name == "no memory":
        pytest.skip("its scores depend on the minibatches")
    expected = loss_of_a_plain_loop(model, indices)
    assert evaluate(model, indices).nats == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["begins at one", "state of one array", "own layer", "LSTM"])
def test_evaluation_in_several_rows(name, text):
    _, vocab = text
    model = initialized(FAMILY[name], len(vocab))
    indices = np.random.RandomState(0).randint(1, len(vocab), 1600)
    expected = loss_of_a_plain_loop(model, indices, num_steps=50)
    assert evaluate(model, indices, batch_size=3).nats == pytest.approx(expected, rel=1e-4)


def test_a_model_without_scores_stays_as_bad_as_guessing(original, text, minibatch_losses, capsys):
    def silent(library, size):
        class Silent(library.RNNModel):
            def forward(self, inputs, state):
                output, state = super().forward(inputs, state)
                return output * 0, state

        return Silent(lstm(), size)

    found = [trained(l, silent, text, minibatch_losses, capsys) for l in (original, d2l)]
    for one in found:
        np.testing.assert_allclose(one.losses, math.log(len(text[1])), rtol=1e-6)
    assert found[0].lines == found[1].lines


# Hooks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["model", "rnn", "dense"])
@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_are_called_as_often(where, kind, original, text, minibatch_losses, capsys):
    counts = []

    def hooked(library, size):
        model, calls = library.RNNModel(lstm(), size), []
        part = model if where == "model" else getattr(model, where)
        getattr(part, kind)(lambda *args: calls.append(1))
        counts.append(calls)
        return model

    theirs = trained(original, hooked, text, minibatch_losses, capsys, ["the"])
    ours = trained(d2l, hooked, text, minibatch_losses, capsys, ["the"])
    assert_same_training(ours, theirs)
    assert len(counts[0]) == len(counts[1]) > 100
    generate(ours.model, text[1], ["the"], 5)
    evaluate(ours.model, text[0])
    assert len(counts[1]) >= len(counts[0]) + 8


@pytest.mark.parametrize("num_chars", [0, 1, 7])
def test_prediction_calls_the_model_as_often(num_chars, original_train, text):
    _, vocab = text
    counts = []
    for predict in original_train.predict_rnn_gluon, d2l.predict_rnn_gluon:
        model = initialized(lambda library, size: Noting(size), len(vocab))
        predict("the", num_chars, model, vocab, CTX)
        counts.append(model.calls)
    assert counts[0] == counts[1]


# Methods that are replaced on a class ---------------------------------------------------------


def test_a_method_replaced_on_the_class(original, text, minibatch_losses, capsys, monkeypatch):
    for library in original, d2l:
        monkeypatch.setattr(library.RNNModel, "forward", times(0.5, library.RNNModel.forward))
    theirs = trained(original, around(lstm), text, minibatch_losses, capsys)
    ours = trained(d2l, around(lstm), text, minibatch_losses, capsys)
    assert_same_training(ours, theirs)


def test_a_method_replaced_on_gluons_class(original, text, minibatch_losses, capsys, monkeypatch):
    plain = trained(d2l, around(lstm), text, minibatch_losses, capsys)
    hybrid_forward = nn.Dense.hybrid_forward
    monkeypatch.setattr(
        nn.Dense, "hybrid_forward", lambda self, *args, **kw: hybrid_forward(self, *args, **kw) / 2
    )
    theirs = trained(original, around(lstm), text, minibatch_losses, capsys)
    ours = trained(d2l, around(lstm), text, minibatch_losses, capsys)
    assert_same_training(ours, theirs)
    assert np.abs(ours.losses - plain.losses).max() > 0.01


@pytest.mark.parametrize(
    "cls, name", [(gluon.Trainer, "_update"), (mx.optimizer.SGD, "update_multi_precision")]
)
def test_a_replaced_update(cls, name, original, text, minibatch_losses, capsys, monkeypatch):
    plain = trained(d2l, around(lstm), text, minibatch_losses, capsys)
    monkeypatch.setattr(cls, name, lambda *args: None)
    theirs = trained(original, around(lstm), text, minibatch_losses, capsys)
    ours = trained(d2l, around(lstm), text, minibatch_losses, capsys)
    assert_same_training(ours, theirs)
    assert np.abs(ours.losses - plain.losses).max() > 0.01


@pytest.mark.parametrize("method", ["nn.Dense.hybrid_forward", "rnn.GRU.forward"])
def test_a_method_replaced_before_the_first_training(method):
    program = f"""
import warnings; warnings.simplefilter('ignore')
import d2l_deeprnn as d2l
import mxnet as mx
from mxnet.gluon import nn, rnn
method, calls = {method}, []
def noting(self, *args, **kwargs):
    calls.append(self)
    return method(self, *args, **kwargs)
{method} = noting
model = d2l.RNNModel(rnn.GRU(4), 3)
vocab = d2l.Vocab("ab")
d2l.train_and_predict_rnn_gluon(model, 4, [1, 2] * 50, vocab, mx.cpu(), 4, 5, 1, 1, 4, [])
print(len(calls))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) >= 16  # four epochs of four minibatches


# Parameters -----------------------------------------------------------------------------------


def test_frozen_parameters_stay_as_they_are(text, minibatch_losses, capsys):
    """The original fails on them, so compare with a plain loop."""
    indices, vocab = text

    def frozen(library, size):
        model = library.RNNModel(lstm(input_size=size), size)
        model.dense = nn.Dense(size, in_units=H)
        model.rnn.l1_h2h_weight.grad_req = "null"
        model.dense.bias.grad_req = "null"
        return model

    ours = trained(d2l, frozen, text, minibatch_losses, capsys)
    d2l.set_seed(1)
    model = frozen(d2l, len(vocab))
    model.initialize(init.Normal(0.01), ctx=CTX, force_reinit=True)
    before = {name: p.data().asnumpy() for name, p in params_of(model).items()}
    loss, losses = gluon.loss.SoftmaxCrossEntropyLoss(), []
    params = [p for p in model.collect_params().values() if p.grad_req != "null"]
    for _ in range(4):
        state = model.begin_state(batch_size=4, ctx=CTX)
        for X, Y in d2l.data_iter_consecutive(indices, 4, 5, CTX):
            state = [s.detach() for s in state]
            with autograd.record():
                output, state = model(X, state)
                l = loss(output, Y.T.reshape((-1,))).mean()
            l.backward()
            norm = math.sqrt(sum(float((p.grad() ** 2).sum().asscalar()) for p in params))
            for p in params:
                p.set_data(p.data() - 4 * min(1, 0.5 / norm) * p.grad())
            losses.append(l.asscalar())
    np.testing.assert_allclose(ours.losses, losses, rtol=1e-5)
    for name, param in params_of(ours.model).items():
        changed = not np.array_equal(param.data().asnumpy(), before[name])
        assert changed == (param.grad_req != "null"), name


def params_of(model):
    return model._collect_params_with_prefix()


# Structures of states on which the original fails ---------------------------------------------


def nested(state):
    return [[state[0]], {"c": (state[1], None)}]


def flat(state):
    return [state[0][0], state[1]["c"][0]]


def test_a_nested_state(text, minibatch_losses, capsys):
    def in_nests(library, size):
        class InNests(library.RNNModel):
            def begin_state(self, *args, **kwargs):
                return nested(super().begin_state(*args, **kwargs))

            def forward(self, inputs, state):
                output, state = super().forward(inputs, flat(state))
                return output, nested(state)

        return InNests(lstm(), size)

    found = [
        trained(d2l, make, text, minibatch_losses, capsys) for make in (around(lstm), in_nests)
    ]
    assert_same_training(*found)


def test_no_state_at_all(text, minibatch_losses, capsys):
    class Bigrams(gluon.Block):
        def __init__(self, size):
            super().__init__()
            with self.name_scope():
                self.table = nn.Embedding(size, size)

        def forward(self, inputs, state):
            return self.table(inputs.T.reshape((-1,))), state

        def begin_state(self, batch_size, ctx):
            return None

    indices, vocab = text
    found = trained(d2l, lambda library, size: Bigrams(size), text, minibatch_losses, capsys)
    assert found.losses[-5:].mean() < found.losses[:5].mean() - 0.1
    expected = evaluate(found.model, indices, batch_size=1).nats
    longer = np.tile(indices, 20)
    assert evaluate(found.model, longer, batch_size=4).nats == pytest.approx(expected, abs=0.02)
    assert generate(found.model, vocab, ["t"], 5)[0].startswith("t")


# Changes during training ----------------------------------------------------------------------


def freeze(model):
    model.rnn.l0_h2h_weight.grad_req = "null"


def reinitialize(model):
    mx.random.seed(5)
    model.initialize(init.Normal(0.3), force_reinit=True)


def set_data(model):
    model.dense.weight.set_data(model.dense.weight.data() * 0.1)


def hook(model):
    model.hooked = 0

    def count(*args):
        model.hooked += 1

    model.register_forward_hook(count)


def slow_down(model):
    model.collect_params().setattr("lr_mult", 0.1)


def replace_forward(model):
    model.forward = times(0.5, model.forward)


def freeze_and_thaw(model):
    freeze(model)
    model.rnn.l0_h2h_weight.grad_req = "write"


def activate(model):
    model.dense.act = nn.Activation("tanh")


def activate_with_a_function(model):
    model.dense.act = nd.tanh


def drop(model):
    model.rnn.dropout = nn.Dropout(0.9, axes=(0,))


def drop_more(model):
    model.rnn.dropout._rate = 0.9


def drop_in_its_own_way(model):
    model.rnn._drop = lambda F, outputs: outputs * 0.5


def another_layer(model):
    """Replace the layer with one that has the same parameters."""
    old = model.rnn
    model.rnn = rnn.RNN(H, activation="relu", prefix=old.prefix, params=old.params)


def stacked(size):
    return d2l.StackedRNN("gru", H, 2, 0.0, size)


CHANGED = {
    **dict.fromkeys([freeze, reinitialize, set_data, hook, slow_down], lambda size: lstm()),
    **dict.fromkeys([replace_forward, freeze_and_thaw, activate], lambda size: lstm()),
    activate_with_a_function: lambda size: lstm(),
    drop_in_its_own_way: stacked,
    another_layer: lambda size: rnn.RNN(H, activation="tanh"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_model_may_be_changed_between_epochs(change, text, minibatch_losses, monkeypatch):
    indices, vocab = text
    found = []
    for _ in range(2):
        d2l.set_seed(1)
        model = d2l.RNNModel(CHANGED[change](len(vocab)), len(vocab))
        d2l.train_and_predict_rnn_gluon(
            *(model, H, indices, vocab, CTX, 4, 5, 4, 0.5, 4, []),
            on_epoch=lambda record, model=model: change(model) if record.epoch == 2 else None,
            log=lambda line: None,
        )
        found.append(minibatch_losses())
        if change is hook:
            assert model.hooked == len(found[-1]) // 2
        monkeypatch.setattr(fast, "is_chapter_model", lambda model: False)
    np.testing.assert_allclose(*found, rtol=1e-4)


@pytest.mark.parametrize("change", [drop, drop_more])
def test_dropout_may_be_changed_between_epochs(change, text, minibatch_losses):
    """Its random draws differ from those of the plain path, so test only that it has an effect."""
    indices, vocab = text
    losses = []
    for changes in (lambda model: None), change:
        d2l.set_seed(1)
        model = d2l.RNNModel(stacked(len(vocab)), len(vocab))
        d2l.train_and_predict_rnn_gluon(
            *(model, H, indices, vocab, CTX, 4, 5, 4, 0.5, 4, []),
            on_epoch=lambda record, m=model, f=changes: f(m) if record.epoch == 3 else None,
            log=lambda line: None,
        )
        losses.append(np.split(minibatch_losses(), 4))
    before, after = losses
    np.testing.assert_array_equal(before[2], after[2])
    assert np.abs(before[3] - after[3]).max() > 1e-3


def test_a_layer_that_is_replaced_between_epochs_is_trained(text):
    indices, vocab = text
    model = d2l.RNNModel(lstm(), len(vocab))

    def replace(record):
        if record.epoch == 1:
            model.dense = nn.Dense(len(vocab), in_units=H)
            model.dense.initialize(mx.init.Constant(0.1))

    d2l.train_and_predict_rnn_gluon(
        *(model, H, indices, vocab, CTX, 2, 5, 4, 0.5, 4, []),
        on_epoch=replace,
        log=lambda line: None,
    )
    assert (model.dense.weight.data() != np.float32(0.1)).asnumpy().mean() > 0.5


def test_training_leaves_the_model_as_it_is(text):
    indices, vocab = text
    model = d2l.RNNModel(lstm(), len(vocab))
    d2l.train_and_predict_rnn_gluon(
        model, H, indices, vocab, CTX, 1, 5, 4, 0.5, 4, [], log=lambda line: None
    )
    assert not model.rnn._active and not model.dense._active


def test_in_training_mode_prediction_is_the_models(original_train, text):
    """Dropout has the same effect as in the model: none in a fused layer on a CPU."""
    _, vocab = text
    model = initialized(around(lambda: rnn.LSTM(H, 3, dropout=0.9)), len(vocab))
    with autograd.train_mode():
        expected = original_train.predict_rnn_gluon("the", 20, model, vocab, CTX)
        assert d2l.predict_rnn_gluon("the", 20, model, vocab, CTX) == expected


@pytest.mark.parametrize("train", ["chapter", "Learner"])
def test_a_model_with_too_few_scores_is_refused(train):
    indices, vocab = d2l.load_corpus("the_tide_tables", 2000)
    model = d2l.RNNModel(gluon.rnn.LSTM(4), len(vocab))
    few = len(vocab) - 1
    model.dense = gluon.nn.Dense(few)
    model.initialize()
    with pytest.raises(ValueError, match=f"scores for {few} characters, but the text has token"):
        if train == "chapter":
            d2l.train_and_predict_rnn_gluon(
                model,
                4,
                indices,
                vocab,
                d2l.try_gpu(),
                2,
                5,
                1.0,
                1.0,
                4,
                [],
                log=lambda line: None,
            )
        else:
            settings = d2l.TrainSettings(corpus=("the_tide_tables",), batch_size=8)
            Learner(settings, model, indices, [], d2l.try_gpu()).train_epoch()
