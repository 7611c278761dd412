"""Parameters are converted between from-scratch networks and Gluon's layers."""

import numpy as np
import pytest
from recurrent import MODES, fused_layer, random_array, scratch_network

from d2l_deeprnn._mxnet import autograd, gluon, init, nd
from d2l_deeprnn.nn.convert import params_from_gluon, params_to_gluon
from d2l_deeprnn.nn.scratch import deep_gru, deep_lstm

SIZES = (4, 5, 7)


def gluon_layers(mode="lstm", num_layers=2, **kwargs):
    layer, dense = fused_layer(mode, num_layers, 4, 5, **kwargs), gluon.nn.Dense(7)
    layer.initialize(init.Normal(1))
    dense.initialize(init.Normal(1))
    return layer, dense


class Own(gluon.rnn.LSTM):
    pass


class OwnDense(gluon.nn.Dense):
    pass


def random_params(network):
    return [random_array(*param.shape) for param in network.get_params()]


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())


@pytest.mark.parametrize("input_size", [0, 4])  # 0: the layer waits for its first input
@pytest.mark.parametrize("two_biases", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_to_gluon_and_back_is_the_same(mode, num_layers, two_biases, input_size):
    params = random_params(scratch_network(mode, *SIZES, num_layers, two_biases=two_biases))
    layers = gluon_layers(mode, num_layers, input_size=input_size)
    params_to_gluon(params, *layers)
    assert_equal(params_from_gluon(*layers, two_biases=two_biases), params)


def test_the_result_is_a_copy_that_can_be_trained():
    layer, dense = gluon_layers()
    dense(nd.zeros((1, 5)))
    params = params_from_gluon(layer, dense)
    network = deep_lstm(*SIZES)
    with autograd.record():
        outputs, _ = network.forward([nd.ones((1, 4))], network.init_state(1, 5), params)
    outputs[0].backward()
    assert all(param.grad.shape == param.shape for param in params)
    before = dense.bias.data().asnumpy()
    params[-1][:] = 3
    np.testing.assert_array_equal(dense.bias.data().asnumpy(), before)


def test_the_layers_keep_their_precision():
    layer, dense = fused_layer("lstm", 2, 0, 5, dtype="float64"), gluon.nn.Dense(7, dtype="float64")
    layer.initialize()
    dense.initialize()
    params_to_gluon(random_params(deep_lstm(*SIZES)), layer, dense)
    assert {p.data().dtype for p in layer.collect_params().values()} == {np.float64}
    assert dense.weight.data().dtype == np.float64


def test_parameters_that_do_not_fit():
    layer, dense = gluon_layers()
    before = layer.l0_i2h_weight.data().asnumpy()
    params = random_params(deep_lstm(*SIZES))
    with pytest.raises(ValueError, match="params has 25 arrays, but the network has 26"):
        params_to_gluon(params[:-1], layer, dense)
    with pytest.raises(ValueError, match="params has 0 arrays, but the network has 26"):
        params_to_gluon([], layer, dense)
    with pytest.raises(ValueError, match=r"params\[0\], W_xi of layer 1, .* \(3, 5\), .* \(4, 5\)"):
        params_to_gluon(random_params(deep_lstm(3, 5, 7)), layer, dense)
    with pytest.raises(ValueError, match=r"params\[24\], W_hq of the output layer, .* \(5, 8\)"):
        params_to_gluon(random_params(deep_lstm(4, 5, 8)), layer, dense)
    with pytest.raises(ValueError, match=r"\(4, 6\), but the network needs \(4, 5\)"):
        params_to_gluon(random_params(deep_lstm(4, 6, 7)), layer, dense)
    with pytest.raises(ValueError, match="params has 38 arrays, but the network has 26"):
        params_to_gluon(random_params(deep_lstm(*SIZES, 3)), layer, dense)
    np.testing.assert_array_equal(layer.l0_i2h_weight.data().asnumpy(), before)

    with pytest.raises(ValueError, match="Gluon's GRU computes reset='after'"):
        params_to_gluon(random_params(deep_gru(*SIZES)), *gluon_layers("gru"))


def test_layers_that_cannot_be_converted():
    layer, dense = gluon_layers()
    params = random_params(deep_lstm(*SIZES))
    for convert in (params_from_gluon, lambda *layers: params_to_gluon(params, *layers)):
        with pytest.raises(TypeError, match="RNN, GRU and LSTM, not LSTMCell"):
            convert(gluon.rnn.LSTMCell(5), dense)
        with pytest.raises(TypeError, match="dense must be a gluon.nn.Dense, not LSTM"):
            convert(layer, layer)
        with pytest.raises(ValueError, match="rnn_layer is bidirectional"):
            convert(gluon.rnn.LSTM(5, bidirectional=True), dense)
        with pytest.raises(ValueError, match="projection_size"):
            convert(gluon.rnn.LSTM(5, projection_size=3), dense)
        with pytest.raises(TypeError, match="RNN, GRU and LSTM, not Own"):
            convert(Own(5), dense)
        with pytest.raises(TypeError, match="dense must be a gluon.nn.Dense, not OwnDense"):
            convert(layer, OwnDense(7))
        with pytest.raises(ValueError, match="rnn_layer clips its state"):
            convert(gluon.rnn.LSTM(5, state_clip_min=0, state_clip_max=1), dense)
        with pytest.raises(ValueError, match="dense has an activation"):
            convert(layer, gluon.nn.Dense(7, activation="tanh"))
        with pytest.raises(ValueError, match="dense has no bias"):
            convert(layer, gluon.nn.Dense(7, use_bias=False))
        with pytest.raises(ValueError, match="dense reads 6 units, but rnn_layer has 5"):
            convert(layer, gluon.nn.Dense(7, in_units=6))


def test_layers_without_values():
    layer, dense = gluon_layers(input_size=0)
    with pytest.raises(ValueError, match="l0_i2h_weight has no values yet: initialize the model"):
        params_from_gluon(layer, dense)
    params = random_params(deep_lstm(*SIZES))
    with pytest.raises(ValueError, match="dense.*_weight is not initialized: call initialize"):
        params_to_gluon(params, layer, gluon.nn.Dense(7))
