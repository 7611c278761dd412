"""Copies of models are models of their own, and the C library keeps freed memory."""

from __future__ import annotations

import copy
import os
import pickle
import platform
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import autograd, gluon, library, mx, nd
from d2l_deeprnn.generation.generate import generate
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.training.evaluate import evaluate

CTX = mx.cpu()
H = 8
COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


@pytest.fixture(scope="module")
def text():
    return d2l.load_corpus(SAMPLE_TEXT, 120)


def test_the_number_of_threads_can_be_read_within_a_bulk():
    number = library.threads()
    with mx.engine.bulk(50):
        nd.ones(1) + 1  # waits for the end of the bulk
        assert library.threads() == number


class Own(gluon.Block):
    """A model without anything of this package."""

    def __init__(self, size):
        super().__init__()
        with self.name_scope():
            self.embedding = gluon.nn.Embedding(size, 4)
            self.gru = gluon.rnn.GRU(H)
            self.out = gluon.nn.Dense(size)

    def forward(self, inputs, state):
        Y, state = self.gru(self.embedding(inputs.T), state)
        return self.out(Y.reshape((-1, H))), state

    def begin_state(self, *args, **kwargs):
        return self.gru.begin_state(*args, **kwargs)


class Subclass(d2l.RNNModel):
    def forward(self, inputs, state):
        output, state = super().forward(inputs, state)
        return output * 2, state


def cells(size):
    stack = gluon.rnn.SequentialRNNCell()
    stack.add(gluon.rnn.LSTMCell(H))
    stack.add(gluon.rnn.GRUCell(H))
    return d2l.RNNModel(stack, size)


MODELS = {
    "LSTM": lambda size: d2l.RNNModel(gluon.rnn.LSTM(H, 2), size),
    "stacked": lambda size: d2l.RNNModel(d2l.StackedRNN("gru", H, 2, 0.3, size), size),
    "cells": cells,
    "subclass": lambda size: Subclass(gluon.rnn.LSTM(H, 2), size),
    "own": Own,
}


def train(model, text, num_epochs=2, **kwargs):
    indices, vocab = text
    d2l.train_and_predict_rnn_gluon(
        *(model, H, indices, vocab, CTX, num_epochs, 10, 4, 0.5, 8, []),
        log=lambda line: None,
        **kwargs,
    )


def loss(model, text):
    return evaluate(model, text[0], CTX).nats


def arrays(model):
    params = model._collect_params_with_prefix()
    return {name: param.data().asnumpy() for name, param in params.items()}


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", [*MODELS, "compiled"])
def test_a_trained_model_is_copied(name, how, text):
    d2l.set_seed(0)
    model = MODELS.get(name, MODELS["stacked"])(len(text[1]))
    if name == "compiled":
        model.hybridize(static_alloc=True)
    train(model, text)
    before, params = loss(model, text), arrays(model)
    copied = COPIES[how](model)
    assert type(copied) is type(model)
    assert loss(copied, text) == before
    assert generate(copied, text[1], ["the"], 20) == generate(model, text[1], ["the"], 20)

    # Changing one does not change the other, and both learn alike.
    d2l.set_seed(1)
    train(model, text, initialize=False)
    assert_equal(arrays(copied), params)
    assert loss(copied, text) == before
    d2l.set_seed(1)
    train(copied, text, initialize=False)
    assert_equal(arrays(copied), arrays(model))
    assert loss(model, text) != before


@pytest.mark.parametrize("how", COPIES)
def test_the_best_epoch_is_kept(how, text):
    d2l.set_seed(0)
    model = d2l.RNNModel(gluon.rnn.LSTM(H, 2), len(text[1]))
    kept = []

    def keep(record):
        kept.append((COPIES[how](model), arrays(model)))

    train(model, text, num_epochs=4, on_epoch=keep)
    for copied, params in kept:
        assert_equal(arrays(copied), params)
    weights = [params["dense.weight"] for _, params in kept]
    assert all(not np.array_equal(a, b) for a, b in zip(weights, weights[1:]))

    d2l.set_seed(0)
    undisturbed = d2l.RNNModel(gluon.rnn.LSTM(H, 2), len(text[1]))
    train(undisturbed, text, num_epochs=4)
    assert_equal(arrays(model), arrays(undisturbed))


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", MODELS)
def test_a_copy_has_gradients(name, how, text):
    model = MODELS[name](len(text[1]))
    model.initialize()
    loss(model, text)  # all shapes are known from here on
    copied = COPIES[how](model)
    with autograd.record():
        output, _ = copied(nd.ones((2, 3)), copied.begin_state(batch_size=2, ctx=CTX))
    output.backward()
    for name, param in copied._collect_params_with_prefix().items():
        assert abs(param.grad()).sum().asscalar() > 0, name
    for name, param in model._collect_params_with_prefix().items():
        assert abs(param.grad()).sum().asscalar() == 0, name
    trainer = gluon.Trainer(copied.collect_params(), "adam")
    before = arrays(copied)
    trainer.step(1)
    assert not np.array_equal(before.popitem()[1], arrays(copied).popitem()[1])


def test_a_frozen_parameter_stays_so_in_the_copy(text):
    model = MODELS["LSTM"](len(text[1]))
    model.initialize()
    loss(model, text)
    model.rnn.l0_h2h_weight.grad_req = "null"
    copied = copy.deepcopy(model)
    train(copied, text, initialize=False)
    assert_equal(
        {"": copied.rnn.l0_h2h_weight.data().asnumpy()},
        {"": model.rnn.l0_h2h_weight.data().asnumpy()},
    )
    assert not np.array_equal(arrays(copied)["dense.bias"], arrays(model)["dense.bias"])


@pytest.mark.parametrize("how", COPIES)
def test_parts_and_untouched_models_are_copied(how, text):
    size = len(text[1])
    untouched = COPIES[how](MODELS["LSTM"](size))
    train(untouched, text)
    model = MODELS["stacked"](size)
    model.initialize()
    model.hybridize(static_alloc=True)
    loss(model, text)
    layer = COPIES[how](model.rnn)
    X, state = nd.random.normal(shape=(3, 2, size)), model.begin_state(2)
    np.testing.assert_array_equal(layer(X, state)[0].asnumpy(), model.rnn(X, state)[0].asnumpy())
    dense = COPIES[how](model.dense)
    Y = nd.ones((1, H))
    np.testing.assert_array_equal(dense(Y).asnumpy(), model.dense(Y).asnumpy())


def test_a_copy_does_not_drag_its_trainer_along(text):
    model = MODELS["own"](len(text[1]))
    model.initialize()
    loss(model, text)
    size = len(pickle.dumps(model))
    trainer = gluon.Trainer(model.collect_params(), "adam", kvstore=mx.kv.create("local"))
    with autograd.record():
        output, _ = model(nd.ones((1, 3)), model.begin_state(1))
    output.backward()
    trainer.step(1)
    assert len(pickle.dumps(model)) < 1.1 * size
    copy.deepcopy(model)
    trainer.step(1, ignore_stale_grad=True)  # the model's own still works


def test_a_pickle_is_read_by_another_process(tmp_path, text):
    indices, vocab = text
    d2l.set_seed(0)
    model = MODELS["LSTM"](len(vocab))
    model.hybridize()
    train(model, text)
    expected = d2l.predict_rnn_gluon("the", 20, model, vocab, CTX)
    (tmp_path / "model").write_bytes(pickle.dumps((model, vocab)))
    program = f"""
import pickle
with open({str(tmp_path / "model")!r}, "rb") as file:
    model, vocab = pickle.load(file)
import d2l_deeprnn as d2l
print(d2l.predict_rnn_gluon("the", 20, model, vocab, None))
corpus = vocab[list("the time traveller " * 9)]
d2l.train_and_predict_rnn_gluon(
    model, {H}, corpus, vocab, None, 1, 5, 1, 1, 4, [], initialize=False
)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first == expected
    assert second.startswith("epoch 1, perplexity ")


# Memory ------------------------------------------------------------------------------------------

MEMORY_PROGRAM = """
import resource, sys
import d2l_deeprnn as d2l
from mxnet.gluon import rnn
d2l.set_seed(0)
corpus_indices, vocab = d2l.load_corpus("the_tide_tables", 4000)
model = d2l.RNNModel(rnn.LSTM(128, 2), len(vocab))
history = d2l.train_and_predict_rnn_gluon(
    model, 128, corpus_indices, vocab, d2l.try_gpu(), 2, 35, 5, 1, 32, ["the "],
    log=lambda line: None)
print([record.perplexity for record in history], history[-1].predictions)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def run(value):
    environment = {**os.environ, library.ALLOCATOR_VARIABLE: value}
    command = [sys.executable, "-W", "ignore", "-c", MEMORY_PROGRAM]
    results, faults = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()
    return results, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_results_are_the_same_and_pages_are_kept():
    results, faults = run("keep")
    default_results, default_faults = run("default")
    assert results == default_results
    assert faults < default_faults


@pytest.mark.parametrize("libc, expected", [("glibc", True), ("musl", False)])
def test_only_glibc_is_set(monkeypatch, libc, expected):
    settings = []

    class Library:
        def __init__(self, name):
            self.mallopt = lambda *setting: settings.append(setting) or 1

    monkeypatch.delenv(library.ALLOCATOR_VARIABLE, raising=False)
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, "1"))
    monkeypatch.setattr(library.ctypes, "CDLL", Library)
    assert library.keep_freed_memory() is expected
    assert len(settings) == (3 if expected else 0)


def test_the_setting_can_be_turned_off(monkeypatch):
    monkeypatch.setenv(library.ALLOCATOR_VARIABLE, "default")
    assert not library.keep_freed_memory()
    monkeypatch.setenv(library.ALLOCATOR_VARIABLE, "off")
    with pytest.raises(
        ValueError, match="D2L_DEEPRNN_ALLOCATOR must be keep or default, not 'off'"
    ):
        library.keep_freed_memory()


# Threads -----------------------------------------------------------------------------------------


def test_a_thread_that_waits_comes_before_one_that_returns():
    order = []

    def take():
        with library.queueing:
            order.append("the other")

    other = threading.Thread(target=take)
    with library.queueing:
        other.start()
        while not library.queueing._next.locked():
            time.sleep(0.001)
        with library.queueing:  # its owner need not wait
            order.append("first")
    with library.queueing:
        order.append("again")
    other.join()
    assert order == ["first", "the other", "again"]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_fused_layer_of_more_than_ten_layers_can_be_saved(tmp_path, bidirectional):
    """MXNet expects the number of a layer to have one digit."""
    first, second = (
        gluon.rnn.GRU(3, 12, bidirectional=bidirectional, input_size=2) for _ in range(2)
    )
    first.initialize()
    first.save_parameters(str(tmp_path / "parameters"))
    second.load_parameters(str(tmp_path / "parameters"))
    for name in vars(first)["_reg_params"]:
        saved, loaded = (getattr(layer, name).data().asnumpy() for layer in (first, second))
        assert (saved == loaded).all(), name
    cell = "r_cell." if bidirectional else ""
    expected = {f"1._unfused.{n}.{cell}h2h_weight" for n in range(12)}
    model = gluon.nn.HybridSequential()
    model.add(gluon.nn.Dense(2), first)
    assert expected <= set(library.named_parameters(model))
    assert len(library.named_parameters(model)) == 2 + 12 * 4 * (1 + bidirectional)
