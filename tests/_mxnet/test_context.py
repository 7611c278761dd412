"""Devices and seeds."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import gluon, library, mx, nd
from d2l_deeprnn.generation.generate import generate
from d2l_deeprnn.training.evaluate import evaluate
from d2l_deeprnn.training.learner import Learner
from d2l_deeprnn.training.settings import TrainSettings


def test_equal_to_the_original(original):
    assert d2l.try_gpu() == original.try_gpu()
    assert d2l.try_all_gpus() == original.try_all_gpus()


@pytest.mark.parametrize("num_gpus", [0, 1, 3])
def test_with_any_number_of_gpus(monkeypatch, num_gpus):
    class Allocator:
        @staticmethod
        def array(values, ctx):
            if ctx.device_type == "gpu" and ctx.device_id >= num_gpus:
                raise mx.MXNetError("no such device")

    monkeypatch.setattr(library, "nd", Allocator)
    assert d2l.try_gpu() == (mx.gpu(0) if num_gpus else mx.cpu())
    assert d2l.try_all_gpus() == ([mx.gpu(i) for i in range(num_gpus)] or [mx.cpu()])


@pytest.mark.gpu
def test_a_gpu_is_used_where_there_is_one():
    if not mx.context.num_gpus():
        pytest.skip("MXNet sees no GPU: none is there, or this is its CPU build")
    assert d2l.try_gpu() == mx.gpu(0)
    assert nd.ones((2,), ctx=d2l.try_gpu()).sum().asscalar() == 2


def test_one_seed_for_three_generators():
    def draw():
        return random.random(), np.random.rand(), nd.random.uniform().asscalar()

    d2l.set_seed(11)
    first = draw()
    d2l.set_seed(11)
    assert draw() == first
    d2l.set_seed(12)
    assert all(a != b for a, b in zip(draw(), first))


def test_an_integer_of_numpy_is_a_seed():
    d2l.set_seed(11)
    expected = random.random()
    d2l.set_seed(np.int64(11))
    assert random.random() == expected


@pytest.mark.parametrize("seed", [-1, 2**31, 1.0, "1", None, True])
def test_bad_seeds_are_named(seed):
    with pytest.raises(ValueError, match=f"seed must be a whole number .* not {seed!r}"):
        d2l.set_seed(seed)


VOCAB = d2l.Vocab("ab")
TEXT = [1, 2] * 60
NETWORK = d2l.deep_rnn(3, 4, 3, 1)
SETTINGS = TrainSettings(corpus=("any",), num_hiddens=4, batch_size=2, num_steps=5)


def model():
    model = d2l.RNNModel(gluon.rnn.GRU(4), 3)
    model.initialize()
    return model


def train_scratch(ctx):
    get_params, init_state, rnn = NETWORK
    settings = (4, TEXT, VOCAB, ctx, False, 1, 5, 1, 1, 2, ["a"])
    d2l.train_and_predict_rnn(rnn, get_params, init_state, *settings)


def predict_scratch(ctx):
    get_params, init_state, rnn = NETWORK
    d2l.predict_rnn("a", 1, rnn, get_params(), init_state, 4, VOCAB, ctx)


TAKE_A_DEVICE = {
    "data_iter_consecutive": lambda ctx: d2l.data_iter_consecutive(TEXT, 2, 5, ctx),
    "data_iter_random": lambda ctx: d2l.data_iter_random(TEXT, 2, 5, ctx),
    "grad_clipping": lambda ctx: d2l.grad_clipping([], 1, ctx),
    "grad_clipping_gluon": lambda ctx: d2l.grad_clipping_gluon(gluon.nn.Sequential(), 1, ctx),
    "train_and_predict_rnn": train_scratch,
    "train_and_predict_rnn_gluon": lambda ctx: d2l.train_and_predict_rnn_gluon(
        model(), 4, TEXT, VOCAB, ctx, 1, 5, 1, 1, 2, ["a"]
    ),
    "predict_rnn": predict_scratch,
    "predict_rnn_gluon": lambda ctx: d2l.predict_rnn_gluon("a", 1, model(), VOCAB, ctx),
    "generate": lambda ctx: generate(model(), VOCAB, ["a"], 1, ctx=ctx),
    "evaluate": lambda ctx: evaluate(model(), TEXT, ctx),
    "Learner": lambda ctx: Learner(SETTINGS, model(), np.array(TEXT), np.array([]), ctx),
    "deep_rnn": lambda ctx: d2l.deep_rnn(3, 4, 3, ctx=ctx),
    "deep_gru": lambda ctx: d2l.deep_gru(3, 4, 3, ctx=ctx),
    "deep_lstm": lambda ctx: d2l.deep_lstm(3, 4, 3, ctx=ctx),
    "deep_gate_lstm": lambda ctx: d2l.deep_gate_lstm(3, 4, 3, ctx=ctx),
    "init_state": lambda ctx: NETWORK.init_state(2, 4, ctx),
}


@pytest.mark.parametrize("name", TAKE_A_DEVICE)
def test_several_devices_are_refused(name):
    TAKE_A_DEVICE[name](d2l.try_gpu())
    for devices in d2l.try_all_gpus(), (mx.cpu(0), mx.cpu(1)), []:
        shown = re.escape(str(list(devices)))
        with pytest.raises(TypeError, match=f"ctx must be a single device, not the list {shown}"):
            TAKE_A_DEVICE[name](devices)
    for wrong in "gpu(0)", 0, mx.cpu:
        with pytest.raises(TypeError, match="ctx must be a device such as mx.cpu"):
            TAKE_A_DEVICE[name](wrong)
