"""Initial parameters: the spread of each draw, gate by gate, and its seed."""

from __future__ import annotations

import re

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import gluon, mx
from d2l_deeprnn.nn.initialize import initialize

NUM_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
CELLS = list(NUM_GATES)
SCHEMES = ["normal", "xavier", "orthogonal"]
VOCAB_SIZE, NUM_HIDDENS = 30, 40


def parameters(cell, scheme, stacked=False, seed=0, **options):
    """The parameters of two layers by the ends of their names, such as l1_h2h_weight."""
    if stacked:
        layer = d2l.StackedRNN(cell, NUM_HIDDENS, 2, 0.5, VOCAB_SIZE, prefix="")
    elif cell == "rnn":
        layer = gluon.rnn.RNN(NUM_HIDDENS, 2, "tanh", input_size=VOCAB_SIZE, prefix="")
    else:
        layer = {"lstm": gluon.rnn.LSTM, "gru": gluon.rnn.GRU}[cell](
            NUM_HIDDENS, 2, input_size=VOCAB_SIZE, prefix=""
        )
    model = d2l.RNNModel(layer, VOCAB_SIZE, prefix="")
    model.dense.weight.shape = (VOCAB_SIZE, NUM_HIDDENS)
    d2l.set_seed(seed)
    initialize(model, scheme, mx.cpu(), **options)
    params = {name: p.data().asnumpy() for name, p in model.collect_params().items()}
    if stacked:  # l1_l0_i2h_weight -> l1_i2h_weight
        params = {name.replace("_l0_", "_"): array for name, array in params.items()}
    assert len(params) == 10
    # dense7_bias, counted over all tests -> dense_bias
    return {re.sub(r"^dense\d+", "dense", name): array for name, array in params.items()}


def gates(params, cell, name):
    return np.split(params[name], NUM_GATES[cell])


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_normal_has_the_chapters_spread_and_biases_are_0(cell, stacked):
    for name, array in parameters(cell, "normal", stacked).items():
        if name.endswith("bias"):
            assert not array.any()
        else:
            assert array.std() == pytest.approx(0.01, rel=0.1)
            assert abs(array.mean()) < 0.002


def assert_xavier(matrix):
    limit = np.sqrt(6 / sum(matrix.shape))
    assert 0.98 * limit < np.abs(matrix).max() <= np.float32(limit)
    assert matrix.std() == pytest.approx(limit / np.sqrt(3), rel=0.1)


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("scheme", ["xavier", "orthogonal"])
def test_each_gate_has_a_matrix_of_its_own(cell, scheme, stacked):
    params = parameters(cell, scheme, stacked)
    for layer in "l0", "l1":
        for gate in gates(params, cell, f"{layer}_i2h_weight"):
            assert_xavier(gate)
        for Q in gates(params, cell, f"{layer}_h2h_weight"):
            if scheme == "xavier":
                assert_xavier(Q)
            else:
                assert np.abs(Q.T @ Q - np.eye(NUM_HIDDENS)).max() < 1e-5
    assert_xavier(params["dense_weight"])
    assert not any(array.any() for name, array in params.items() if name.endswith("bias"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_gates_and_layers_differ(scheme):
    params = parameters("lstm", scheme)
    first = [
        gate[0, 0]
        for name in params
        if name.endswith("h2h_weight")
        for gate in gates(params, "lstm", name)
    ]
    assert len(set(first)) == len(first) == 8


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_forget_bias_moves_the_forget_gates_alone(scheme, stacked):
    plain = parameters("lstm", scheme, stacked)
    biased = parameters("lstm", scheme, stacked, forget_bias=1.5)
    for name, array in biased.items():
        expected = plain[name].copy()
        if name.endswith("i2h_bias"):
            expected[NUM_HIDDENS : 2 * NUM_HIDDENS] = 1.5  # gates i, f, g, o
        assert (array == expected).all(), name


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_seed_decides_the_draw(scheme):
    one, again, other = (parameters("gru", scheme, seed=seed) for seed in (1, 1, 2))
    for name in one:
        assert (one[name] == again[name]).all()
        assert name.endswith("bias") or (one[name] != other[name]).any()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_second_call_draws_again(scheme):
    model = d2l.RNNModel(gluon.rnn.LSTM(4, input_size=5), 5)
    model.dense.weight.shape = (5, 4)
    drawn = []
    for _ in range(2):
        initialize(model, scheme, mx.cpu())
        drawn.append([p.data().asnumpy() for p in (model.dense.weight, model.rnn.l0_h2h_weight)])
    assert all((a != b).any() for a, b in zip(*drawn))
