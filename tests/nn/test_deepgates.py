"""The LSTM whose gates are multilayer perceptrons, from scratch and as a cell."""

import numpy as np
import pytest
from recurrent import (
    assert_close,
    attached,
    finite_difference_errors,
    random_array,
    randomize,
)

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import autograd, gluon, mx, nd
from d2l_deeprnn.nn.deepgates import DeepGateLSTMCell, deep_gate_lstm
from d2l_deeprnn.nn.scratch import deep_lstm
from d2l_deeprnn.text.corpora import SAMPLE_TEXT

D, H, Q, N, T = 4, 5, 7, 3, 6  # inputs, hidden units, outputs, rows, steps


def scratch_params(cell, dense):
    """The parameters of one layer from scratch, out of the cell's."""
    value = {name: param.data().asnumpy() for name, param in cell._reg_params.items()}
    w = (value["i2h_weight"].shape[0] - H) // 3  # rows: i, f, c, o
    rows = {"i": slice(0, w), "f": slice(w, 2 * w), "c": slice(2 * w, 2 * w + H)}
    rows["o"] = slice(2 * w + H, None)
    bias = value["i2h_bias"] + value["h2h_bias"]
    params = []
    for g in "ifoc":
        params += [value["i2h_weight"][rows[g]].T, value["h2h_weight"][rows[g]].T, bias[rows[g]]]
        k = 2
        while f"{g}{k}_weight" in value:
            params += [value[f"{g}{k}_weight"].T, value[f"{g}{k}_bias"]]
            k += 1
    params += [dense.weight.data().asnumpy().T, dense.bias.data().asnumpy()]
    return [attached(nd.array(param)) for param in params]


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize("depth, width", [(1, None), (2, None), (2, 3), (3, 6)])
def test_the_cell_equals_the_code_from_scratch(depth, width, hybridize):
    cell = DeepGateLSTMCell(H, gate_depth=depth, gate_width=width, input_size=D)
    dense = gluon.nn.Dense(Q, in_units=H)
    randomize(cell)
    randomize(dense)
    if hybridize:
        cell.hybridize(static_alloc=True, static_shape=True)
    network = deep_gate_lstm(D, H, Q, gate_depth=depth, gate_width=width)
    params = scratch_params(cell, dense)
    inputs, start = random_array(T, N, D, scale=1), [random_array(N, H) for _ in range(2)]

    X, state = attached(inputs.copy()), [attached(s.copy()) for s in start]
    with autograd.record():
        outputs, new_state = network.forward([X[t] for t in range(T)], state, params)
        outputs = nd.stack(*outputs)
    weights = [random_array(*array.shape) for array in (outputs, *new_state)]
    autograd.backward([outputs, *new_state], weights)
    results = [outputs, *new_state, X.grad, *[s.grad for s in state]]
    ours = {str(i): a.asnumpy() for i, a in enumerate(results)}
    # One bias stands for two, and each of the two has its gradient.
    our_gradients = [param.grad.asnumpy() for param in params]

    X, state = attached(inputs.copy()), [attached(s.copy()) for s in start]
    with autograd.record():
        Y, new_state = cell.unroll(T, X, state, layout="TNC", merge_outputs=True)
        outputs = dense(Y.reshape((-1, H))).reshape((T, N, Q))
    autograd.backward([outputs, *new_state], weights)
    results = [outputs, *new_state, X.grad, *[s.grad for s in state]]
    theirs = {str(i): a.asnumpy() for i, a in enumerate(results)}
    for block in (cell, dense):
        for param in block.collect_params().values():
            param.set_data(param.grad())
    np.testing.assert_array_equal(cell.i2h_bias.data().asnumpy(), cell.h2h_bias.data().asnumpy())
    cell.h2h_bias.set_data(nd.zeros_like(cell.h2h_bias.data()))
    their_gradients = [param.asnumpy() for param in scratch_params(cell, dense)]

    assert len(our_gradients) == len(their_gradients) == len(network.get_params())
    ours.update({f"gradient {i}": g for i, g in enumerate(our_gradients)})
    theirs.update({f"gradient {i}": g for i, g in enumerate(their_gradients)})
    assert_close(ours, theirs, 1e-5)


def test_depth_one_is_the_ordinary_lstm():
    for num_layers in (1, 2):
        deep = deep_gate_lstm(D, H, Q, num_layers, gate_depth=1)
        plain = deep_lstm(D, H, Q, num_layers)
        params = [random_array(*param.shape) for param in plain.get_params()]
        assert [p.shape for p in deep.get_params()] == [p.shape for p in params]
        inputs = [random_array(N, D) for _ in range(T)]
        state = [random_array(N, H) for _ in range(2 * num_layers)]
        ours, theirs = (network.forward(inputs, state, params) for network in (deep, plain))
        for a, b in zip([*ours[0], *ours[1]], [*theirs[0], *theirs[1]]):
            np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())


@pytest.mark.parametrize("num_layers, depth, width", [(1, 2, None), (1, 3, 4), (2, 2, 3)])
def test_gradients_equal_finite_differences(num_layers, depth, width):
    sizes = (3, 2, 1)
    network = deep_gate_lstm(*sizes, num_layers, gate_depth=depth, gate_width=width)
    assert max(finite_difference_errors(network, sizes, 2 * num_layers)) < 1e-6


def test_fits_the_train_functions():
    indices, vocab = d2l.load_corpus(SAMPLE_TEXT, 200)
    settings = (4, 5, 1, 0.5, 4, ["time traveller"])
    network = deep_gate_lstm(len(vocab), 16, len(vocab), scale=0.1)
    history = d2l.train_and_predict_rnn(
        *(network.forward, network.get_params, network.init_state, 16, indices, vocab, mx.cpu()),
        *(False, *settings),
    )
    assert history[-1].perplexity < history[0].perplexity - 1

    stack = gluon.rnn.SequentialRNNCell()
    stack.add(DeepGateLSTMCell(16))
    stack.add(DeepGateLSTMCell(16, gate_depth=3, gate_width=8))
    history = d2l.train_and_predict_rnn_gluon(
        d2l.RNNModel(stack, len(vocab)), 16, indices, vocab, mx.cpu(), *settings
    )
    assert history[-1].perplexity < history[0].perplexity - 1
    assert history[-1].predictions[0].startswith("time traveller")


@pytest.mark.parametrize("make", [lambda **k: deep_gate_lstm(D, H, Q, **k), DeepGateLSTMCell])
def test_invalid_gates(make):
    sizes = () if make is not DeepGateLSTMCell else (H,)
    with pytest.raises(ValueError, match="gate_depth must be a whole number .* not 0"):
        make(*sizes, gate_depth=0)
    with pytest.raises(ValueError, match="gate_width must be a whole number .* not 0"):
        make(*sizes, gate_width=0)


def test_invalid_sizes():
    with pytest.raises(ValueError, match="num_layers must be .* not 0"):
        deep_gate_lstm(D, H, Q, 0)
    with pytest.raises(ValueError, match="hidden_size must be .* not -1"):
        DeepGateLSTMCell(-1)
    with pytest.raises(ValueError, match="input_size must be .* not -1"):
        DeepGateLSTMCell(H, input_size=-1)
