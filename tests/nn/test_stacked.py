"""StackedRNN: equal to Gluon's fused layer without dropout, and its dropout in training."""

from __future__ import annotations

import numpy as np
import pytest
from recurrent import BATCH_SIZE, NUM_HIDDENS, NUM_INPUTS, NUM_STEPS, fused_layer, random_array

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import autograd, init, mx, nd

MODES = {"lstm": "lstm", "gru": "gru", "rnn": "rnn_tanh"}
CELLS = list(MODES)


def stacked(cell, num_layers, dropout, num_inputs=NUM_INPUTS):
    layer = d2l.StackedRNN(cell, NUM_HIDDENS, num_layers, dropout, num_inputs)
    layer.initialize(init.Normal(0.7))
    return layer


def fused_with_parameters_of(layer, cell, num_layers, num_inputs=NUM_INPUTS):
    fused = fused_layer(MODES[cell], num_layers, num_inputs)
    fused.initialize()
    for i, level in enumerate(layer.levels):
        for name, param in level._reg_params.items():
            getattr(fused, name.replace("l0_", f"l{i}_")).set_data(param.data())
    return fused


def arguments(layer):
    state = [random_array(*info["shape"]) for info in layer.state_info(BATCH_SIZE)]
    return random_array(NUM_STEPS, BATCH_SIZE, NUM_INPUTS), state


def run(layer, X, state, training=False):
    with autograd.record(train_mode=training):
        outputs, new_state = layer(X, state)
    return [array.asnumpy() for array in (outputs, *new_state)]


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training, dropout", [(True, 0), (False, 0), (False, 0.5)])
@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_without_dropout_is_gluons_fused_layer(cell, num_layers, hybrid, training, dropout):
    layer = stacked(cell, num_layers, dropout)
    fused = fused_with_parameters_of(layer, cell, num_layers)
    if hybrid:
        layer.hybridize(static_alloc=True, static_shape=True)
    X, state = arguments(fused)
    for _ in range(2):
        assert_same(run(layer, X, state, training), run(fused, X, state, training))


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_state_is_laid_out_as_gluons(cell, num_layers):
    layer, fused = stacked(cell, num_layers, 0.5), fused_layer(MODES[cell], num_layers)
    ours, theirs = layer.state_info(4), fused.state_info(4)
    assert [(i["shape"], i["__layout__"]) for i in ours] == [
        (i["shape"], i["__layout__"]) for i in theirs
    ]
    ours, theirs = layer.begin_state(4, ctx=mx.cpu()), fused.begin_state(4)
    assert [s.shape for s in ours] == [s.shape for s in theirs]
    assert not any(s.asnumpy().any() for s in ours)


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_one_mask_for_all_time_steps(cell, hybrid):
    layer = stacked(cell, 1, 0.4)
    if hybrid:
        layer.hybridize()
    X, state = arguments(layer)
    plain, *plain_state = run(layer, X, state)
    masks = []
    for _ in range(100):
        outputs, *new_state = run(layer, X, state, training=True)
        assert_same(new_state, plain_state)  # the state is not dropped from
        mask = outputs[0] != 0
        assert_same([outputs], [plain * mask / 0.6])
        masks.append(mask)
    kept = np.stack(masks)
    assert kept.mean() == pytest.approx(0.6, abs=0.06)  # 1500 draws
    assert kept.any(axis=0).all() and not kept.all(axis=0).any()  # of every row and unit


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_acts_between_the_levels_too(cell):
    layer = stacked(cell, 2, 0.5)
    X, state = arguments(layer)
    lower, upper = np.split(run(layer, X, state)[1], 2)
    for _ in range(5):
        new_lower, new_upper = np.split(run(layer, X, state, training=True)[1], 2)
        assert_same([new_lower], [lower])
    assert np.abs(new_upper - upper).max() > 1e-3


def test_gradients_are_those_of_the_fused_layer():
    layer = stacked("lstm", 2, 0)
    fused = fused_with_parameters_of(layer, "lstm", 2)
    X, state = arguments(fused)
    gradients = []
    for network in layer, fused:
        with autograd.record():
            (network(X, state)[0] ** 2).sum().backward()
        params = network.collect_params().values()
        gradients.append([param.grad().asnumpy() for param in params])
    assert_same(*gradients)


def test_parameter_names_have_the_level():
    layer = stacked("gru", 2, 0.5)
    assert layer(nd.zeros((1, 2, NUM_INPUTS)), layer.begin_state(2))[0].shape == (1, 2, NUM_HIDDENS)
    assert [name.split("_", 1)[1] for name in layer.collect_params()][::4] == [
        "l0_l0_i2h_weight",
        "l1_l0_i2h_weight",
    ]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"cell": "elman"}, "cell must be one of lstm, gru, rnn, not 'elman'"),
        ({"hidden_size": 0}, "hidden_size must be .* at least 1, not 0"),
        ({"num_layers": 1.5}, "num_layers must be .* at least 1, not 1.5"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1, not -0.1"),
        ({"dropout": float("nan")}, "dropout must be at least 0 and below 1, not nan"),
    ],
)
def test_errors_name_the_value(change, message):
    settings = {"cell": "lstm", "hidden_size": 4, "num_layers": 2, "dropout": 0, "input_size": 3}
    with pytest.raises(ValueError, match=message):
        d2l.StackedRNN(**{**settings, **change})
