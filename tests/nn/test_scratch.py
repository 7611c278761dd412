"""Networks from scratch: equal to Gluon's, to the book's single layer and to finite differences."""

import numpy as np
import pytest
from recurrent import (
    BATCH_SIZE,
    MODES,
    NUM_HIDDENS,
    NUM_INPUTS,
    NUM_OUTPUTS,
    NUM_STEPS,
    Case,
    assert_close,
    finite_difference_errors,
    fused_layer,
    random_array,
    relative_error,
    relative_errors,
    scratch_network,
)

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import init, mx, nd
from d2l_deeprnn.nn.convert import params_from_gluon
from d2l_deeprnn.nn.scratch import deep_gru, deep_lstm, deep_network, deep_rnn, two_layer_rnn
from d2l_deeprnn.text.corpora import SAMPLE_TEXT

CTX = mx.cpu()
SIZES = (NUM_INPUTS, NUM_HIDDENS, NUM_OUTPUTS)
LAYERS = [1, 2, 3]

NETWORKS = {
    "rnn_tanh": (deep_rnn, {}),
    "rnn_relu": (deep_rnn, {"activations": "relu"}),
    "gru_before": (deep_gru, {"reset": "before"}),
    "gru_after": (deep_gru, {"reset": "after"}),
    "lstm": (deep_lstm, {}),
}


def make(name, *sizes):
    constructor, options = NETWORKS[name]
    return constructor(*sizes, **options)


def from_scratch(case, **options):
    network = scratch_network(case.mode, *SIZES, case.num_layers, **options)
    params = params_from_gluon(case.layer, case.dense, **options)
    return case.scratch(network.forward, params)


# Equal to Gluon's ---------------------------------------------------------------------------


@pytest.mark.parametrize("num_layers", LAYERS)
@pytest.mark.parametrize("mode", MODES)
def test_equals_the_fused_layer_and_the_stack_of_cells(mode, num_layers):
    case = Case(mode, num_layers)
    ours = from_scratch(case)
    assert_close(ours, case.fused(), 1e-5)
    assert_close(ours, case.unfused(), 1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_equals_the_fused_layer_with_two_biases(mode):
    case = Case(mode, 2)
    assert_close(from_scratch(case, two_biases=True), case.fused(), 1e-5)


@pytest.mark.parametrize("num_layers", LAYERS)
@pytest.mark.parametrize("mode", MODES)
def test_equals_both_in_double_precision(mode, num_layers):
    case = Case(mode, num_layers, "float64")
    assert_close(from_scratch(case), case.unfused(), 1e-12)
    if not mode.startswith("rnn"):
        assert_close(from_scratch(case), case.fused(), 1e-12)


@pytest.mark.parametrize("mode", ["rnn_tanh", "rnn_relu"])
def test_mxnets_own_kernel_has_a_wrong_gradient_in_the_middle_of_a_plain_rnn(mode):
    # In float32 the kernel is oneDNN's, and correct. In float64, or with MXNET_USE_MKLDNN_RNN=0, it
    # is MXNet's, and this one gradient is wrong: the scratch code agrees with the cells and with
    # finite differences.
    d2l.set_seed(0)  # with other seeds, a relu layer can be dead, and its gradients 0
    case = Case(mode, 3, "float64")
    errors = relative_errors(from_scratch(case), case.fused())
    assert errors.pop("gradient of l1_i2h_weight") > 0.01
    assert max(errors.values()) < 1e-6


# Equal to finite differences, and to the book's single layer --------------------------------


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_equal_finite_differences(name, num_layers):
    sizes = (3, 2, 1)
    num_states = num_layers * (2 if name == "lstm" else 1)
    errors = finite_difference_errors(make(name, *sizes, num_layers), sizes, num_states)
    assert max(errors) < 1e-6


def books_rnn(inputs, state, params):
    """As printed in "Recurrent Neural Networks from Scratch"."""
    W_xh, W_hh, b_h, W_hq, b_q = params
    (H,) = state
    outputs = []
    for X in inputs:
        H = nd.tanh(nd.dot(X, W_xh) + nd.dot(H, W_hh) + b_h)
        Y = nd.dot(H, W_hq) + b_q
        outputs.append(Y)
    return outputs, (H,)


def books_gru(inputs, state, params):
    """As printed in "Gated Recurrent Units (GRU)"."""
    W_xz, W_hz, b_z, W_xr, W_hr, b_r, W_xh, W_hh, b_h, W_hq, b_q = params
    (H,) = state
    outputs = []
    for X in inputs:
        Z = nd.sigmoid(nd.dot(X, W_xz) + nd.dot(H, W_hz) + b_z)
        R = nd.sigmoid(nd.dot(X, W_xr) + nd.dot(H, W_hr) + b_r)
        H_tilda = nd.tanh(nd.dot(X, W_xh) + nd.dot(R * H, W_hh) + b_h)
        H = Z * H + (1 - Z) * H_tilda
        Y = nd.dot(H, W_hq) + b_q
        outputs.append(Y)
    return outputs, (H,)


def books_lstm(inputs, state, params):
    """As printed in "Long Short-Term Memory (LSTM)"."""
    [
        W_xi, W_hi, b_i, W_xf, W_hf, b_f, W_xo, W_ho, b_o, W_xc, W_hc, b_c, W_hq, b_q,
    ] = params  # fmt: skip
    (H, C) = state
    outputs = []
    for X in inputs:
        I = nd.sigmoid(nd.dot(X, W_xi) + nd.dot(H, W_hi) + b_i)
        F = nd.sigmoid(nd.dot(X, W_xf) + nd.dot(H, W_hf) + b_f)
        O = nd.sigmoid(nd.dot(X, W_xo) + nd.dot(H, W_ho) + b_o)
        C_tilda = nd.tanh(nd.dot(X, W_xc) + nd.dot(H, W_hc) + b_c)
        C = F * C + I * C_tilda
        H = O * C.tanh()
        Y = nd.dot(H, W_hq) + b_q
        outputs.append(Y)
    return outputs, (H, C)


def random_call(network, num_states):
    """Inputs, state and parameters, all random."""
    inputs = [random_array(BATCH_SIZE, NUM_INPUTS) for _ in range(NUM_STEPS)]
    state = tuple(random_array(BATCH_SIZE, NUM_HIDDENS) for _ in range(num_states))
    return inputs, state, [random_array(*param.shape) for param in network.get_params()]


def assert_same(ours, theirs):
    (our_outputs, our_state), (their_outputs, their_state) = ours, theirs
    assert len(our_outputs) == len(their_outputs) and len(our_state) == len(their_state)
    for a, b in zip([*our_outputs, *our_state], [*their_outputs, *their_state]):
        assert relative_error(a.asnumpy(), b.asnumpy()) < 1e-6


@pytest.mark.parametrize(
    "name, book", [("rnn_tanh", books_rnn), ("gru_before", books_gru), ("lstm", books_lstm)]
)
def test_one_layer_is_the_books(name, book):
    network = make(name, *SIZES, 1)
    call = random_call(network, 2 if name == "lstm" else 1)
    assert_same(network.forward(*call), book(*call))


def test_two_layers_without_a_loop():
    network = deep_rnn(*SIZES)
    call = random_call(network, 2)
    assert_same(network.forward(*call), two_layer_rnn(*call))


def test_the_two_forms_of_the_gru_differ_only_in_the_reset():
    before, after = deep_gru(*SIZES, 1), deep_gru(*SIZES, 1, reset="after")
    inputs, state, params = random_call(before, 1)
    with_bias = [*params[:9], nd.zeros(NUM_HIDDENS), *params[9:]]
    ours, theirs = before.forward(inputs, state, params), after.forward(inputs, state, with_bias)
    assert relative_error(ours[1][0].asnumpy(), theirs[1][0].asnumpy()) > 1e-3

    open_gate = nd.ones_like(params[5]) * 100  # b_r: a gate that lets all pass acts in neither
    params[5] = with_bias[5] = open_gate
    assert_same(before.forward(inputs, state, params), after.forward(inputs, state, with_bias))


def test_each_layer_has_its_own_activation():
    activations = ["relu", nd.softsign, "tanh"]
    network = deep_rnn(*SIZES, 3, activations=activations)
    inputs, state, params = random_call(network, 3)
    outputs, new_state = network.forward(inputs[:1], state, params)
    X = inputs[0]
    for l, f in enumerate([nd.relu, nd.softsign, nd.tanh]):
        W_xh, W_hh, b_h = params[3 * l : 3 * l + 3]
        X = f(nd.dot(X, W_xh) + nd.dot(state[l], W_hh) + b_h)
        np.testing.assert_allclose(new_state[l].asnumpy(), X.asnumpy(), rtol=1e-6)
    np.testing.assert_allclose(
        outputs[0].asnumpy(), (nd.dot(X, params[-2]) + params[-1]).asnumpy(), rtol=1e-5, atol=1e-6
    )


# The three functions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network, num_params, num_states",
    [
        (deep_rnn(4, 50, 7), 2 * 3 + 2, 2),
        (deep_gru(4, 50, 7, 3), 3 * 9 + 2, 3),
        (deep_gru(4, 50, 7, 3, reset="after"), 3 * 10 + 2, 3),
        (deep_lstm(4, 50, 7), 2 * 12 + 2, 4),
    ],
)
def test_initial_parameters_and_state(network, num_params, num_states):
    params = network.get_params()
    assert len(params) == num_params
    assert params[0].shape == (4, 50) and params[-2].shape == (50, 7)
    weights = np.concatenate([p.asnumpy().ravel() for p in params if p.ndim == 2])
    assert abs(weights.std() - 0.01) < 1e-3 and abs(weights.mean()) < 1e-3
    assert all((p == 0).asnumpy().all() for p in params if p.ndim == 1)
    assert all(p.grad.shape == p.shape for p in params)

    state = network.init_state(6, 50, CTX)
    assert [s.shape for s in state] == [(6, 50)] * num_states
    assert all((s == 0).asnumpy().all() for s in state)


def test_the_scale_of_the_initial_weights():
    params = deep_rnn(40, 50, 40, scale=0.3).get_params()
    assert abs(params[0].asnumpy().std() - 0.3) < 0.05


@pytest.mark.parametrize(
    "make_network, message",
    [
        (lambda: deep_rnn(0, 5, 7), "num_inputs must be a whole number of at least 1, not 0"),
        (lambda: deep_gru(4, 2.5, 7), "num_hiddens must be .* not 2.5"),
        (lambda: deep_lstm(4, 5, -7), "num_outputs must be .* not -7"),
        (lambda: deep_lstm(4, 5, 7, 0), "num_layers must be .* not 0"),
        (lambda: deep_lstm(4, 5, 7, scale=0), "scale must be a number above 0, not 0"),
        (lambda: deep_network([], 4, 5, 7), "layers is empty"),
        (lambda: deep_gru(4, 5, 7, reset="never"), r"reset must be 'before' .*, not 'never'"),
        (lambda: deep_rnn(4, 5, 7, activations="gelu"), "not 'gelu'"),
        (
            lambda: deep_rnn(4, 5, 7, activations=["tanh"]),
            "activations has 1 entries, but num_layers is 2",
        ),
    ],
)
def test_invalid_networks(make_network, message):
    with pytest.raises(ValueError, match=message):
        make_network()


def test_arguments_that_do_not_fit_the_network():
    network = deep_lstm(*SIZES)
    inputs, state, params = random_call(network, 4)
    with pytest.raises(ValueError, match="num_hiddens is 6, but the network has 5"):
        network.init_state(3, 6, CTX)
    with pytest.raises(ValueError, match="batch_size must be .* not 0"):
        network.init_state(0, 5, CTX)
    with pytest.raises(ValueError, match="params has 25 arrays, but the network has 26"):
        network.forward(inputs, state, params[1:])
    with pytest.raises(ValueError, match=r"\[12\], W_xi of layer 2, .* \(5, 4\), .* \(5, 5\)"):
        network.forward(inputs, state, [*params[:12], nd.zeros((5, 4)), *params[13:]])
    with pytest.raises(ValueError, match=r"params\[25\], b_q of the output layer"):
        network.forward(inputs, state, [*params[:25], nd.zeros(6)])
    with pytest.raises(ValueError, match="state has 3 arrays, but the network has 4"):
        network.forward(inputs, state[1:], params)
    with pytest.raises(ValueError, match=r"state .* \(1, 5\), .* needs \(3, 5\)"):
        network.forward(inputs, network.init_state(1, 5), params)
    with pytest.raises(ValueError, match=r"inputs .* \(3, 5\), .* needs \(3, 4\)"):
        network.forward([nd.zeros((3, 5))], state, params)
    with pytest.raises(ValueError, match="inputs is empty"):
        network.forward([], state, params)


# Training -----------------------------------------------------------------------------------


@pytest.fixture
def text():
    return d2l.load_corpus(SAMPLE_TEXT, 250)


def train_scratch(library, text, network, is_random_iter, prefixes):
    indices, vocab = text[0][:150], text[1]
    d2l.set_seed(1)
    library.train_and_predict_rnn(
        network.forward, network.get_params, network.init_state, 16, indices, vocab,
        CTX, is_random_iter, 4, 5, 20, 0.05, 4, prefixes,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name, is_random_iter", [*((name, False) for name in NETWORKS), ("lstm", True)]
)
def test_fits_the_train_functions_of_today_and_of_2019(
    original, text, minibatch_losses, capsys, name, is_random_iter
):
    network = make(name, len(text[1]), 16, len(text[1]), 2)
    prefixes = ["time"] if is_random_iter else []
    train_scratch(original, text, network, is_random_iter, prefixes)
    theirs, their_lines = minibatch_losses(), capsys.readouterr().out
    train_scratch(d2l, text, network, is_random_iter, prefixes)
    ours, our_lines = minibatch_losses(), capsys.readouterr().out
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert ours[-10:].mean() < ours[0] - 0.1  # something was learned
    assert (" - time" in our_lines) == (" - time" in their_lines) == is_random_iter


# Both have two biases for a gate. With the book's one, the loss after 50 minibatches of the
# chapter's settings differs by 0.15, because gradient descent moves the sum of two biases twice as
# fast.


@pytest.mark.parametrize("mode", ["rnn_tanh", "gru", "lstm"])
def test_follows_the_fused_model_for_50_minibatches(text, minibatch_losses, mode):
    indices, vocab = text
    model = d2l.RNNModel(fused_layer(mode, 2, len(vocab), 16), len(vocab))
    model.initialize(init.Normal(0.1))
    model(nd.zeros((1, 1)), model.begin_state(1))  # the output layer infers its shape
    params = params_from_gluon(model.rnn, model.dense, two_biases=True)
    network = scratch_network(mode, len(vocab), 16, len(vocab), 2, two_biases=True)
    settings = (5, 5, 1, 0.5, 4, [])

    d2l.set_seed(3)
    d2l.train_and_predict_rnn(
        network.forward, lambda: params, network.init_state, 16, indices, vocab, CTX, False,
        *settings, log=lambda line: None,
    )  # fmt: skip
    scratch = minibatch_losses()
    d2l.set_seed(3)
    d2l.train_and_predict_rnn_gluon(
        model, 16, indices, vocab, CTX, *settings, initialize=False, log=lambda line: None
    )
    fused = minibatch_losses()
    assert len(scratch) == len(fused) >= 50
    np.testing.assert_allclose(scratch[:50], fused[:50], atol=1e-5)
    assert scratch[49] < scratch[0] - 0.15  # something was learned
