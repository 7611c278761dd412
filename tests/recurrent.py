"""Helpers for tests of recurrent networks: random weights, gradients, and comparisons.

Results are dictionaries from a name, such as "gradient of l0_i2h_weight", to a NumPy array.
"""

import numpy as np

from d2l_deeprnn._mxnet import autograd, gluon, init, nd
from d2l_deeprnn._mxnet.library import set_seed
from d2l_deeprnn.nn.scratch import deep_gru, deep_lstm, deep_rnn

MODES = ["rnn_tanh", "rnn_relu", "gru", "lstm"]
NUM_STATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 1, "lstm": 2}

# Sizes that are all different, so that no array can stand in for another.
NUM_STEPS, BATCH_SIZE, NUM_INPUTS, NUM_HIDDENS, NUM_OUTPUTS = 6, 3, 4, 5, 7


def relative_error(a, b):
    """The largest difference, as a part of the largest number; 0 for two arrays of zeros."""
    assert a.shape == b.shape, (a.shape, b.shape)
    difference = np.abs(a - b).max()
    return 0.0 if difference == 0 else difference / np.abs(b).max()


def relative_errors(ours, theirs):
    assert ours.keys() == theirs.keys()
    return {name: relative_error(ours[name], theirs[name]) for name in theirs}


def assert_close(ours, theirs, limit):
    too_far = {k: e for k, e in relative_errors(ours, theirs).items() if not e <= limit}
    assert not too_far, f"relative errors above {limit}: {too_far}"


def random_array(*shape, scale=0.5, dtype="float32"):
    """Large enough to saturate some of the gates."""
    return nd.array(np.random.normal(0, scale, shape), dtype=dtype)


def attached(array):
    array.attach_grad()
    return array


def fused_layer(mode, num_layers, num_inputs=NUM_INPUTS, num_hiddens=NUM_HIDDENS, **kwargs):
    kwargs = {"input_size": num_inputs, **kwargs}
    if mode == "gru":
        return gluon.rnn.GRU(num_hiddens, num_layers, **kwargs)
    if mode == "lstm":
        return gluon.rnn.LSTM(num_hiddens, num_layers, **kwargs)
    return gluon.rnn.RNN(num_hiddens, num_layers, activation=mode[len("rnn_") :], **kwargs)


def scratch_network(mode, *sizes, **options):
    """The network from scratch that computes what Gluon's does."""
    if mode == "gru":
        return deep_gru(*sizes, reset="after", **options)
    if mode == "lstm":
        return deep_lstm(*sizes, **options)
    return deep_rnn(*sizes, activations=mode[len("rnn_") :], **options)


def randomize(block, dtype="float32"):
    """Give every parameter random values, biases too."""
    block.initialize(init.Zero(), force_reinit=True)
    for param in block.collect_params().values():
        param.set_data(random_array(*param.shape, dtype=dtype))


class Case:
    """Gluon layers with random weights, random inputs and states, and weights for the loss."""

    def __init__(self, mode, num_layers, dtype="float32"):
        # In float32, always one and the same draw. A plain network of tanh can amplify rounding
        # from step to step: in about 1 draw of 1000 both sides are then as far from the truth as
        # 5e-6. In float64 each test run draws afresh.
        if dtype == "float32":
            set_seed(0)
        self.mode, self.num_layers, self.dtype = mode, num_layers, dtype
        self.layer = fused_layer(mode, num_layers, dtype=dtype)
        self.dense = gluon.nn.Dense(NUM_OUTPUTS, in_units=NUM_HIDDENS, dtype=dtype)
        randomize(self.layer, dtype)
        randomize(self.dense, dtype)
        self.X = random_array(NUM_STEPS, BATCH_SIZE, NUM_INPUTS, scale=1, dtype=dtype)
        # H^(1), C^(1), H^(2), ... as the cell stacks and the networks from scratch have them
        num_states = num_layers * NUM_STATES[mode]
        self.state = [self._random(BATCH_SIZE, NUM_HIDDENS) for _ in range(num_states)]
        # The loss is a weighted sum of all outputs and final states.
        self.output_weight = self._random(NUM_STEPS, BATCH_SIZE, NUM_OUTPUTS)
        self.state_weights = [self._random(BATCH_SIZE, NUM_HIDDENS) for _ in range(num_states)]

    def _random(self, *shape):
        return random_array(*shape, dtype=self.dtype)

    def scratch(self, forward, params):
        X, state = attached(self.X.copy()), [attached(s.copy()) for s in self.state]
        with autograd.record():
            outputs, new_state = forward([X[t] for t in range(NUM_STEPS)], state, params)
            outputs = nd.stack(*outputs)
        gradients = gluon_form(self.mode, self._backward(outputs, new_state, params))
        return self._results(outputs, new_state, X, state, gradients)

    def fused(self):
        X, n = attached(self.X.copy()), NUM_STATES[self.mode]
        # L arrays (batch_size, num_hiddens), for H and for C -> (L, batch_size, num_hiddens)
        state = [attached(nd.stack(*self.state[i::n])) for i in range(n)]
        with autograd.record():
            Y, stacked = self.layer(X, state)
            outputs = self._output(Y)
            new_state = [stacked[i % n][i // n] for i in range(len(self.state))]
        gradients = self._backward(outputs, new_state)
        for i, weight in enumerate(self.state):
            weight.attach_grad()
            weight.grad[:] = state[i % n].grad[i // n]
        return self._results(outputs, new_state, X, self.state, gradients)

    def unfused(self, stack=None):
        stack = stack or self.layer._unfuse()
        X, state = attached(self.X.copy()), [attached(s.copy()) for s in self.state]
        with autograd.record():
            Y, new_state = stack.unroll(NUM_STEPS, X, state, layout="TNC", merge_outputs=True)
            outputs = self._output(Y)
        gradients = self._backward(outputs, new_state)
        return self._results(outputs, new_state, X, state, gradients)

    def _output(self, Y):
        # (num_steps, batch_size, num_hiddens) -> (num_steps, batch_size, num_outputs)
        return self.dense(Y.reshape((-1, NUM_HIDDENS))).reshape((NUM_STEPS, BATCH_SIZE, -1))

    def _backward(self, outputs, new_state, params=None):
        autograd.backward([outputs, *new_state], [self.output_weight, *self.state_weights])
        if params is not None:
            return [param.grad.asnumpy() for param in params]
        blocks = {"": self.layer, "dense_": self.dense}
        return {
            prefix + name: param.grad().asnumpy()
            for prefix, block in blocks.items()
            for name, param in block._reg_params.items()
        }

    def _results(self, outputs, new_state, X, state, gradients):
        assert all(s.shape == (BATCH_SIZE, NUM_HIDDENS) for s in new_state)
        return {
            "outputs": outputs.asnumpy(),
            **{f"final state {i}": s.asnumpy() for i, s in enumerate(new_state)},
            "gradient of the inputs": X.grad.asnumpy(),
            **{f"gradient of state {i}": s.grad.asnumpy() for i, s in enumerate(state)},
            **{f"gradient of {name}": gradient for name, gradient in gradients.items()},
        }


def gluon_form(mode, gradients):
    """Gradients of parameters from scratch, in the order and under the names of Gluon's.

    Written without a look at ``d2l_deeprnn.nn.convert``, and so a test of it too.
    """
    *hidden, W_hq, b_q = gradients
    form = {"dense_weight": W_hq.T, "dense_bias": b_q}
    num_layers = sum(1 for g in hidden if g.ndim == 2) // {"gru": 6, "lstm": 8}.get(mode, 2)
    size = len(hidden) // num_layers
    for l in range(num_layers):
        p = hidden[size * l : size * (l + 1)]
        if mode == "lstm":  # here i, f, o, c
            W_x, W_h = [p[0], p[3], p[9], p[6]], [p[1], p[4], p[10], p[7]]
            b_x = b_h = [p[2], p[5], p[11], p[8]]
            if size == 16:  # two biases
                b_h = [p[12], p[13], p[15], p[14]]
        elif mode == "gru":  # here z, r, h, and one more bias
            W_x, W_h = [p[3], p[0], p[6]], [p[4], p[1], p[7]]
            b_x, b_h = [p[5], p[2], p[8]], [p[5], p[2], p[9]]
            if size == 12:
                b_h = [p[11], p[10], p[9]]
        else:
            W_x, W_h = [p[0]], [p[1]]
            b_x, b_h = [p[2]], [p[-1]]
        form[f"l{l}_i2h_weight"] = np.concatenate(W_x, axis=1).T
        form[f"l{l}_h2h_weight"] = np.concatenate(W_h, axis=1).T
        form[f"l{l}_i2h_bias"] = np.concatenate(b_x)
        form[f"l{l}_h2h_bias"] = np.concatenate(b_h)
    return form


def finite_difference_errors(network, sizes, num_states):
    """Relative errors of the gradients of a network from scratch, in float64.

    All numbers of an array are moved together by 1e-5, each up or down at random, and back: the
    loss then changes by the sum of all gradients, each with its sign, so that any wrong one shows.

    Returns:
        One error for each array: the inputs, the initial states, the parameters.
    """
    num_inputs, num_hiddens, num_outputs = sizes
    num_steps, batch_size = 3, 2
    # Always one and the same draw. Differences say nothing near 0 of a relu, nor where a gradient
    # is as small as the rounding of the loss, and a new draw may come upon either.
    set_seed(0)

    def random(*shape):
        return attached(random_array(*shape, dtype="float64"))

    inputs = [random(batch_size, num_inputs) for _ in range(num_steps)]
    state = [random(batch_size, num_hiddens) for _ in range(num_states)]
    params = [random(*param.shape) for param in network.get_params()]
    weights = [random(batch_size, num_outputs) for _ in range(num_steps)]
    weights += [random(batch_size, num_hiddens) for _ in range(num_states)]

    def loss():
        outputs, new_state = network.forward(inputs, state, params)
        return nd.add_n(*[(a * w).sum() for a, w in zip([*outputs, *new_state], weights)])

    with autograd.record():
        l = loss()
    l.backward()

    errors = []
    for array in [*inputs, *state, *params]:
        numbers, gradient = array.asnumpy(), array.grad.asnumpy()
        signs = np.random.choice([-1.0, 1.0], numbers.shape)
        ends = []
        for step in (1e-5, -1e-5):
            array[:] = nd.array(numbers + step * signs, dtype="float64")
            ends.append(loss().asscalar())
        array[:] = nd.array(numbers, dtype="float64")
        error = abs((gradient * signs).sum() - (ends[0] - ends[1]) / 2e-5)
        errors.append(0.0 if error == 0 else error / np.abs(gradient).max())
    return errors
