"""The checks of the reader's own solutions.

The wrong answers are written as readers write them, with MXNet, and not from the texts of
``_mistakes``. Each must be named.
"""

import random
import re
from pathlib import Path

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn import _mistakes, check
from d2l_deeprnn._mxnet import autograd, gluon, nd
from d2l_deeprnn._mxnet.library import random_state
from d2l_deeprnn.nn import scratch

CHECKS = {f.__name__: f for f in (check.two_layer_rnn, check.gru_step, check.lstm_step)}
CHECKS.update({f.__name__: f for f in (check.data_iter, check.grad_clipping)})


def dense(X, H, W_x, W_h, b):
    return nd.dot(X, W_x) + nd.dot(H, W_h) + b


# Right answers -------------------------------------------------------------------------------


def rnn_in_a_loop(inputs, state, params):
    """Any number of layers, states and outputs as tuples."""
    state, outputs = list(state), []
    for X in inputs:
        for l in range(2):
            X = state[l] = nd.tanh(dense(X, state[l], *params[3 * l : 3 * l + 3]))
        outputs.append(nd.dot(X, params[6]) + params[7])
    return tuple(outputs), tuple(state)


def rnn_layer_by_layer(inputs, state, params):
    """The whole sequence through layer 1, then through layer 2; results are stacked arrays."""
    sequence, state = list(inputs), [H.detach() for H in state]
    for l in range(2):
        for t, X in enumerate(sequence):
            state[l] = sequence[t] = nd.tanh(dense(X, state[l], *params[3 * l : 3 * l + 3]))
    outputs = nd.stack(*[nd.dot(H, params[6]) + params[7] for H in sequence])
    return outputs, nd.stack(*state)


def rnn_of_concatenations(inputs, state, params):
    """One product for input and state."""
    W_1, W_2 = nd.concat(*params[:2], dim=0), nd.concat(*params[3:5], dim=0)
    (H1, H2), outputs = state, []
    for X in inputs:
        H1 = nd.broadcast_add(nd.dot(nd.concat(X, H1, dim=1), W_1), params[2]).tanh()
        H2 = nd.broadcast_add(nd.dot(nd.concat(H1, H2, dim=1), W_2), params[5]).tanh()
        outputs.append(nd.FullyConnected(H2, params[6].T, params[7], num_hidden=len(params[7])))
    return [outputs, [H1, H2]]


def rnn_of_gluon(inputs, state, params):
    _, _, forward = d2l.deep_rnn(inputs[0].shape[1], state[0].shape[1], len(params[-1]))
    return forward(inputs, state, params)


def lstm_of_notebook(X, H, C, i, f, o, c):
    I, F, O = (nd.sigmoid(dense(X, H, *gate)) for gate in (i, f, o))
    C = F * C + I * nd.tanh(dense(X, H, *c))
    return O * nd.tanh(C), C


def lstm_of_package(X, H, C, i, f, o, c):
    return scratch.lstm_step(X, (H, C), [*i, *f, *o, *c])


def lstm_of_lists(X, H, C, *gates):
    both = [nd.dot(nd.concat(X, H, dim=1), nd.concat(W_x, W_h, dim=0)) + b for W_x, W_h, b in gates]
    I, F, O = map(nd.sigmoid, both[:3])
    memory = nd.elemwise_add(F * C, I * both[3].tanh())
    return nd.stack(memory.tanh() * O, memory)


def gru_of_notebook(X, H, z, r, h):
    Z, R = (nd.sigmoid(dense(X, H, *gate)) for gate in (z, r))
    return Z * H + (1 - Z) * nd.tanh(dense(X, R * H, *h))


def gru_of_package(X, H, z, r, h):
    return scratch.gru_step(X, (H,), [*z, *r, *h])


def gru_by_difference(X, H, z, r, h):
    """The same sum in another form, as a list, with the logistic function from tanh."""
    Z, R = ((1 + nd.tanh(dense(X, H, *gate) / 2)) / 2 for gate in (z, r))
    H_tilda = nd.tanh(dense(X, R * H, *h))
    return [H_tilda + Z * (H - H_tilda)]


def folded(text, batch_size):
    length = len(text) // batch_size
    return nd.array(text[: batch_size * length]).reshape((batch_size, length))


def data_without_offset(text, batch_size, num_steps, ctx):
    rows = folded(text, batch_size)
    starts = range(0, rows.shape[1] - num_steps, num_steps)
    return [(rows[:, i : i + num_steps], rows[:, i + 1 : i + num_steps + 1]) for i in starts]


def data_of_later_editions(text, batch_size, num_steps, ctx=None):
    offset = random.randint(0, num_steps)
    length = (len(text) - offset - 1) // batch_size
    X, Y = (
        np.array(text)[i : i + batch_size * length].reshape(batch_size, -1)
        for i in (offset, offset + 1)
    )
    for i in range(0, num_steps * (length // num_steps), num_steps):
        yield [nd.array(X[:, i : i + num_steps]), nd.array(Y[:, i : i + num_steps])]


def clip_with_the_smaller_factor(params, theta, ctx):
    norm = nd.concat(*[param.grad.reshape(-1) for param in params], dim=0).norm().asscalar()
    for param in params:
        param.grad[:] = param.grad * min(1, theta / norm)


def clip_with_gluon(params, theta, ctx):
    gluon.utils.clip_global_norm([param.grad for param in params], theta)


def rnn_that_uses_up_its_arguments(inputs, state, params):
    outputs = []
    while inputs:
        X = inputs.pop(0)
        for i, H in enumerate(state):
            W_xh, W_hh, b_h = params[3 * i : 3 * i + 3]
            X = state[i] = nd.tanh(nd.dot(X, W_xh) + nd.dot(H, W_hh) + b_h)
        outputs.append(nd.dot(X, params[6]) + params[7])
    return outputs, state


RIGHT = {
    "two_layer_rnn": [d2l.two_layer_rnn, rnn_in_a_loop, rnn_layer_by_layer, rnn_of_concatenations],
    "lstm_step": [lstm_of_notebook, lstm_of_package, lstm_of_lists],
    "gru_step": [gru_of_notebook, gru_of_package, gru_by_difference],
    "data_iter": [d2l.data_iter_consecutive, data_without_offset, data_of_later_editions],
    "grad_clipping": [d2l.grad_clipping, clip_with_the_smaller_factor, clip_with_gluon],
}
RIGHT["two_layer_rnn"] += [rnn_of_gluon, rnn_that_uses_up_its_arguments]


@pytest.mark.parametrize(
    "name, function",
    [(name, function) for name, functions in RIGHT.items() for function in functions],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_right_answers_in_any_style(name, function):
    verdict = CHECKS[name](function)
    assert verdict and verdict.right, verdict.message


def test_the_library_of_2019_is_right(original):
    assert check.data_iter(original.data_iter_consecutive), "data_iter"
    assert check.grad_clipping(original.grad_clipping), "grad_clipping"


# Wrong answers -------------------------------------------------------------------------------


def rnn(layer1, layer2, output=lambda X, H1, H2, p: nd.dot(H2, p[6]) + p[7], start=None, end=None):
    """A network whose lines get (X, H1, H2, params), with the newest states."""

    def two_layer_rnn(inputs, state, params):
        H1, H2 = start(*state) if start else state
        outputs = []
        for X in inputs:
            H1 = layer1(X, H1, H2, params)
            H2 = layer2(X, H1, H2, params)
            outputs.append(output(X, H1, H2, params))
        return outputs, end(H1, H2) if end else (H1, H2)

    return two_layer_rnn


def upper(X, H1, H2, p):
    return nd.tanh(dense(H1, H2, *p[3:6]))


def lower(X, H1, H2, p):
    return nd.tanh(dense(X, H1, *p[:3]))


def rnn_upper_first(inputs, state, params):
    (H1, H2), outputs = state, []
    for X in inputs:
        H2 = upper(X, H1, H2, params)
        H1 = lower(X, H1, H2, params)
        outputs.append(nd.dot(H2, params[6]) + params[7])
    return outputs, (H1, H2)


def rnn_with_local_states(inputs, state, params):
    (H1, H2), outputs = state, []
    for X in inputs:
        new1 = nd.tanh(dense(X, H1, *params[:3]))
        new2 = nd.tanh(dense(new1, H2, *params[3:6]))
        outputs.append(nd.dot(new2, params[6]) + params[7])
    return outputs, (new1, new2)


def rnn_with_fresh_states(inputs, state, params):
    outputs = []
    for X in inputs:
        H1, H2 = nd.zeros_like(state[0]), nd.zeros_like(state[1])
        H1 = lower(X, H1, H2, params)
        H2 = upper(X, H1, H2, params)
        outputs.append(nd.dot(H2, params[6]) + params[7])
    return outputs, (H1, H2)


def rnn_with_one_state(inputs, state, params):
    H, outputs = state[0], []
    for X in inputs:
        for l in range(2):
            H = nd.tanh(dense(X, H, *params[3 * l : 3 * l + 3]))
            X = H
        outputs.append(nd.dot(H, params[6]) + params[7])
    return outputs, (H, H)


def rnn_with_one_state_returned(inputs, state, params):
    outputs, (H, _) = rnn_with_one_state(inputs, state, params)
    return outputs, (H,)


def rnn_appending_after_the_loop(inputs, state, params):
    outputs, state = d2l.two_layer_rnn(inputs, state, params)
    return outputs[-1:], state


def rnn_returning_the_last(inputs, state, params):
    outputs, state = d2l.two_layer_rnn(inputs, state, params)
    return outputs[-1], state


def rnn_joining_outputs(inputs, state, params):
    outputs, state = d2l.two_layer_rnn(inputs, state, params)
    return nd.concat(*outputs, dim=0), state


def rnn_in_reverse(inputs, state, params):
    outputs, state = d2l.two_layer_rnn(inputs, state, params)
    return outputs[::-1], state


def rnn_with_other_parameters(inputs, state, params):
    return d2l.two_layer_rnn(inputs, state, [*params[3:6], *params[:3], *params[6:]])


def rnn_of_transposed_weights(inputs, state, params):
    return d2l.two_layer_rnn(inputs, state, [p.T if p.ndim == 2 else p for p in params])


def rnn_cut_between_steps(inputs, state, params):
    (H1, H2), outputs = state, []
    for X in inputs:
        H1, H2 = H1.detach(), H2.detach()
        H1 = lower(X, H1, H2, params)
        H2 = upper(X, H1, H2, params)
        outputs.append(nd.dot(H2, params[6]) + params[7])
    return outputs, (H1, H2)


def without_bias(params, *numbers):
    return [0 * p if i in numbers else p for i, p in enumerate(params)]


def lstm(
    memory=lambda I, F, G, C, H: F * C + I * G,
    state=lambda O, C, old, G: O * nd.tanh(C),
    sigmoid=nd.sigmoid,
    tanh=nd.tanh,
):
    """A step whose last two lines and whose functions are given."""

    def lstm_step(X, H, C, i, f, o, c):
        I, F, O = (sigmoid(dense(X, H, *gate)) for gate in (i, f, o))
        G = tanh(dense(X, H, *c))
        new = memory(I, F, G, C, H)
        return state(O, new, C, G), new

    return lstm_step


def of(step, change):
    """Change the parameters (W_x, W_h, b) of every gate before a step."""
    return lambda *args: step(*[change(*a) if isinstance(a, list) else a for a in args])


def gru(candidate=None, new=lambda Z, R, H, G: Z * H + (1 - Z) * G):
    def gru_step(X, H, z, r, h):
        Z, R = (nd.sigmoid(dense(X, H, *gate)) for gate in (z, r))
        G = candidate(X, H, Z, R, *h) if candidate else nd.tanh(dense(X, R * H, *h))
        return new(Z, R, H, G)

    return gru_step


def data(labels=1, step=None):
    def data_iter(text, batch_size, num_steps, ctx):
        rows = folded(text, batch_size)
        for i in range(1, rows.shape[1] - num_steps, step or num_steps):
            j = i + labels
            yield rows[:, i : i + num_steps], rows[:, j : j + num_steps]

    return data_iter


def data_down_the_columns(text, batch_size, num_steps, ctx):
    rows = nd.array(text[: len(text) // batch_size * batch_size]).reshape((-1, batch_size)).T
    for i in range(0, rows.shape[1] - num_steps, num_steps):
        yield rows[:, i : i + num_steps], rows[:, i + 1 : i + num_steps + 1]


def data_folded_within_minibatches(text, batch_size, num_steps, ctx):
    for i in range(0, len(text) - batch_size * num_steps, batch_size * num_steps):
        X, Y = (nd.array(text[j : j + batch_size * num_steps]) for j in (i, i + 1))
        yield X.reshape((batch_size, num_steps)), Y.reshape((batch_size, num_steps))


def data_rolled(text, batch_size, num_steps, ctx):
    for X, _ in data_without_offset(text, batch_size, num_steps, ctx):
        yield X, nd.concat(X[:, 1:], X[:, :1], dim=1)


def data_without_the_last(text, batch_size, num_steps, ctx):
    return data_without_offset(text, batch_size, num_steps, ctx)[:-1]


def data_with_a_short_end(text, batch_size, num_steps, ctx):
    rows = folded(text, batch_size)
    for i in range(0, rows.shape[1] - 1, num_steps):
        Y = rows[:, i + 1 : i + 1 + num_steps]
        yield rows[:, i : i + Y.shape[1]], Y


def data_transposed(text, batch_size, num_steps, ctx):
    for X, Y in data_without_offset(text, batch_size, num_steps, ctx):
        yield X.T, Y.T


def data_with_equal_rows(text, batch_size, num_steps, ctx):
    for X, Y in data_without_offset(text, 1, num_steps, ctx):
        yield nd.concat(*[X] * batch_size, dim=0), nd.concat(*[Y] * batch_size, dim=0)


def data_without_an_end(text, batch_size, num_steps, ctx):
    while True:
        yield from data_without_offset(text, batch_size, num_steps, ctx)


def data_of_numpy(text, batch_size, num_steps, ctx):
    for X, Y in data_without_offset(text, batch_size, num_steps, ctx):
        yield X.asnumpy(), Y.asnumpy()


def data_of_a_function_without_yield(text, batch_size, num_steps, ctx):
    data_without_offset(text, batch_size, num_steps, ctx)


def clip(factor, change=lambda param, factor: param.grad * factor):
    def grad_clipping(params, theta, ctx):
        norm = sum((param.grad**2).sum() for param in params).sqrt().asscalar()
        for param in params:
            param.grad[:] = change(param, factor(norm, theta))

    return grad_clipping


def clip_each_array(params, theta, ctx):
    for param in params:
        norm = param.grad.norm().asscalar()
        if norm > theta:
            param.grad[:] *= theta / norm


def clip_each_element(params, theta, ctx):
    for param in params:
        param.grad[:] = nd.clip(param.grad, -theta, theta)


def clip_copies(params, theta, ctx):
    norm = sum((param.grad**2).sum() for param in params).sqrt().asscalar()
    grads = [param.grad for param in params]
    return [grad * (theta / norm) if norm > theta else grad for grad in grads]


def clip_parameters(params, theta, ctx):
    norm = sum((param.grad**2).sum() for param in params).sqrt().asscalar()
    for param in params:
        param[:] *= min(1, theta / norm)


def clip_by_the_last_norm(params, theta, ctx):
    for param in params:
        norm = (param.grad**2).sum()
    norm = norm.sqrt().asscalar()
    for param in params:
        param.grad[:] *= min(1, theta / norm)


def clip_without_root(params, theta, ctx):
    norm = sum((param.grad**2).sum() for param in params).asscalar()
    for param in params:
        param.grad[:] *= min(1, theta / norm)


def clip_by_the_parameters(params, theta, ctx):
    norm = sum((param**2).sum() for param in params).sqrt().asscalar()
    for param in params:
        param.grad[:] *= min(1, theta / norm)


def identity(X):
    return X


def biased(number):
    """The two-layer network with a bias multiplied by a number."""
    return lambda inputs, state, params: d2l.two_layer_rnn(
        inputs, state, [p * number if p.ndim == 1 else p for p in params]
    )


WRONG = {
    "two_layer_rnn": [
        (rnn_upper_first, "The layers are swapped: layer 2 reads layer 1 before"),
        (rnn_with_other_parameters, "The layers are swapped: each has the other's parameters"),
        (rnn(lower, lambda X, H1, H2, p: nd.tanh(dense(X, H2, *p[3:6]))), "reads the input"),
        (rnn_with_local_states, "The state is not passed on: every step reads the first one"),
        (rnn_with_fresh_states, "The state is not passed on: every step starts from zeros"),
        (rnn(lower, upper, start=lambda H1, H2: (0 * H1, 0 * H2)), "`state` is not used"),
        (rnn(lower, upper, start=lambda H1, H2: (H2, H1)), "swapped on entry"),
        (rnn(lower, upper, start=lambda H1, H2: (H1, H1)), "Both layers start from the state of"),
        (rnn(lower, upper, end=lambda H1, H2: (H2, H1)), "swapped on return"),
        (lambda i, s, p: (d2l.two_layer_rnn(i, s, p)[0], s), "returns the one that it received"),
        (rnn_with_one_state, "The layers share one variable"),
        (rnn_with_one_state_returned, "`state` (one array for each layer) must have 2"),
        (rnn(lower, lambda X, H1, H2, p: nd.tanh(dense(H1, H1, *p[3:6]))), "layers share a state"),
        (rnn(lambda X, H1, H2, p: nd.tanh(dense(X, H2, *p[:3])), upper), "layers share a state"),
        (rnn(lower, upper, lambda X, H1, H2, p: nd.dot(H1, p[6]) + p[7]), "layer reads layer 1"),
        (rnn(lower, upper, lambda X, H1, H2, p: H2), "The output layer is missing"),
        (rnn(lower, upper, lambda X, H1, H2, p: nd.softmax(nd.dot(H2, p[6]) + p[7])), "softmax"),
        (rnn(lower, upper, lambda X, H1, H2, p: nd.dot(H2, p[6])), "A bias is missing"),
        (rnn(lower, lambda X, H1, H2, p: nd.sigmoid(dense(H1, H2, *p[3:6]))), "Sigmoid instead"),
        (rnn(lambda X, H1, H2, p: dense(X, H1, *p[:3]), upper), "The tanh is left out"),
        (rnn_appending_after_the_loop, "`outputs` (one array for each time step) must have 3"),
        (rnn_returning_the_last, "`outputs` (one array for each time step) must have 3"),
        (rnn_joining_outputs, "`outputs` (one array for each time step) must have 3"),
        (rnn_in_reverse, "The outputs are in reverse order"),
        (rnn_of_transposed_weights, "Transposed weights"),
        (biased(0), "A bias is missing"),
        (biased(2), "A bias is added twice"),
        (rnn_cut_between_steps, "The results are right, but not the gradients"),
    ],
    "lstm_step": [
        (lstm(state=lambda O, C, old, G: O * C), "The tanh is left out of the output"),
        (lstm(state=lambda O, C, old, G: O * nd.sigmoid(C)), "Sigmoid instead of tanh in the out"),
        (lstm(state=lambda O, C, old, G: O * nd.tanh(old)), "memory of the step before"),
        (lstm(state=lambda O, C, old, G: nd.tanh(C)), "The output gate is not used"),
        (lstm(lambda I, F, G, C, H: I * C + F * G), "input gate and the forget gate are swapped"),
        (lstm(lambda I, F, G, C, H: F * C + G), "The input gate is not used"),
        (lstm(lambda I, F, G, C, H: C + I * G), "The forget gate is not used"),
        (lstm(lambda I, F, G, C, H: F * C + (1 - F) * G), "`1 - F` instead of the input gate"),
        (lstm(sigmoid=nd.tanh), "Tanh instead of sigmoid in a gate"),
        (lstm(tanh=nd.sigmoid), "Sigmoid instead of tanh"),
        (lstm(tanh=nd.relu), "ReLU instead of tanh"),
        (lstm(tanh=identity), "The tanh is left out"),
        (lambda X, H, C, i, f, o, c: lstm()(X, H, C, i, f, c, o), "in another order, `i, f, c, o`"),
        (lambda X, H, C, i, f, o, c: lstm()(X, H, C, o, i, f, c), "in another order, `o, i, f, c`"),
        (lambda *args: lstm()(*args)[::-1], "`H` and `C` are returned in the wrong order"),
        (lambda *args: lstm()(*args)[0], "The result must have 2 parts"),
        (lambda X, H, C, *gates: (lstm()(X, H, C, *gates)[0], C), "The memory is not passed on"),
        (of(lstm(), lambda W_x, W_h, b: [W_x, W_h, 0 * b]), "A bias is missing"),
        (of(lstm(), lambda W_x, W_h, b: [W_x, W_h, 2 * b]), "A bias is added twice"),
        (of(lstm(), lambda W_x, W_h, b: [W_x.T, W_h.T, b]), "Transposed weights"),
        (of(lstm(), lambda W_x, W_h, b: [W_h, W_x, b]), "input and of the state are swapped"),
        (lambda *args: tuple(a.detach() for a in lstm()(*args)), "but not the gradients"),
    ],
    "gru_step": [
        (gru(lambda X, H, Z, R, W_x, W_h, b: nd.tanh(nd.dot(X, W_x) + R * nd.dot(H, W_h) + b)),
         "The reset gate acts after the product, as in Gluon"),
        (gru(lambda X, H, Z, R, W_x, W_h, b: nd.tanh(nd.dot(X, W_x) + R * (nd.dot(H, W_h) + b))),
         "The reset gate acts after the product, as in Gluon"),
        (gru(new=lambda Z, R, H, G: (1 - Z) * H + Z * G), "The update gate is the other way round"),
        (gru(lambda X, H, Z, R, *h: nd.tanh(dense(X, H, *h))), "The reset gate is not used"),
        (gru(lambda X, H, Z, R, *h: nd.tanh(dense(R * X, H, *h))), "reset gate acts on the input"),
        (gru(lambda X, H, Z, R, *h: nd.sigmoid(dense(X, R * H, *h))), "Sigmoid instead of tanh"),
        (gru(lambda X, H, Z, R, *h: dense(X, R * H, *h)), "The tanh is left out"),
        (gru(new=lambda Z, R, H, G: Z * H + G), "The candidate lacks `1 - Z`"),
        (lambda X, H, z, r, h: gru()(X, H, r, z, h), "in another order, `r, z, h`"),
        (lambda X, H, z, r, h: gru()(X, H, z, r, [*h[:2], 0 * h[2]]), "A bias is missing"),
        (of(gru(), lambda W_x, W_h, b: [W_x, W_h.T, b]), "Transposed weights"),
    ],
    "data_iter": [
        (data(labels=0), "The labels are not shifted"),
        (data(labels=-1), "The labels are shifted the wrong way"),
        (data_down_the_columns, "The text runs down the columns"),
        (data_rolled, "The last label of a row is wrong"),
        (data(step=1), "A minibatch begins 1 characters after the last one"),
        (d2l.data_iter_random, "Rows are not continued from minibatch to minibatch: row i"),
        (data_folded_within_minibatches, "Rows are not continued from minibatch to minibatch, but"),
        (data_without_the_last, "Minibatches are missing at the end"),
        (data_with_a_short_end, "The last minibatch is too short"),
        (data_transposed, "`X` or `Y` has the shape"),
        (data_with_equal_rows, "The rows are not `batch_size` equal parts of the text"),
        (data_without_an_end, "The minibatches do not end"),
        (data_of_numpy, "`X` is of the type `numpy.ndarray`"),
        (data_of_a_function_without_yield, "There is no minibatch"),
    ],
    "grad_clipping": [
        (clip_each_array, "Each array is clipped by itself"),
        (clip_each_element, "Each element is clipped by itself"),
        (clip(lambda norm, theta: theta / norm), "although their norm is below theta"),
        (clip(lambda norm, theta: theta / norm if norm < theta else 1), "clipped when their norm"),
        (clip(lambda norm, theta: norm / theta if norm > theta else 1), "The factor is upside"),
        (clip_copies, "No gradient has changed"),
        (clip_parameters, "The parameters changed"),
        (clip_by_the_last_norm, "The norm is that of the last array"),
        (clip_without_root, "The square root of the norm is missing"),
        (clip_by_the_parameters, "The norm is of the parameters"),
    ],
}  # fmt: skip
CASES = [(name, *case) for name, cases in WRONG.items() for case in cases]


@pytest.mark.parametrize("name, function, message", CASES)
def test_wrong_answers_are_named(name, function, message):
    verdict = CHECKS[name](function)
    assert not verdict and not verdict.right and message in verdict.message, verdict
    assert "two mistakes" not in verdict.message


def test_two_mistakes_at_once_are_both_named():
    def reversed_and_after(X, H, z, r, h):
        Z, R = (nd.sigmoid(dense(X, H, *gate)) for gate in (z, r))
        G = nd.tanh(nd.dot(X, h[0]) + R * nd.dot(H, h[1]) + h[2])
        return (1 - Z) * H + Z * G

    verdict = check.gru_step(reversed_and_after)
    assert "There are two mistakes. The reset gate acts after" in verdict.message
    assert "The update gate is the other way round" in verdict.message


def test_a_mistake_that_raises_is_named_or_shown_with_its_line():
    def multiplied_from_the_left(X, H, z, r, h):
        return gru_of_notebook(X, H, z, r, [h[0].T, h[1], h[2]])

    def too_few(X, H, z, r, h):
        W_x, W_h = h
        return H

    def unknown(X, H, z, r, h):
        return nd.dot(H, X)

    assert "Transposed weights" in check.gru_step(multiplied_from_the_left).message
    assert "raises ValueError in `W_x, W_h = h`: too many values" in check.gru_step(too_few).message
    message = check.gru_step(unknown).message
    assert "raises MXNetError in `return nd.dot(H, X)`: " in message
    assert "dot shape error: [3,5] X [3,4]" in message and "\n" not in message


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize(
    "function, message",
    [
        (lambda *args: None, "`None`|no minibatch|No gradient has changed"),
        (lambda *args: [][0], "raises IndexError in .*list index out of range"),
        (lambda *args: 1 / 0, "raises ZeroDivisionError in .*division by zero"),
        (lambda: None, "raises TypeError: .*takes 0 positional arguments"),
        (lambda *args: "a text", "must have|of the type|No gradient has changed"),
        (lambda *args: nd.zeros(3), "must have|shape|of the type|No gradient has changed"),
        (lambda *args: np.zeros((3, 5)), "must have|of the type|No gradient has changed"),
        (
            lambda *args: iter([np.zeros((3, 5))]),
            "must have|of the type|No gradient has changed",
        ),
        (None, "Give the function itself"),
        (3, "Give the function itself"),
    ],
)
def test_no_answer_raises(name, function, message):
    verdict = CHECKS[name](function)
    assert not verdict.right and re.search(message, verdict.message), verdict


def test_results_that_are_not_finite_or_of_another_type():
    assert "`H` contains NaN" in check.gru_step(lambda X, H, *_: H * float("nan")).message
    assert "`H` has the shape (3, 4)" in check.gru_step(lambda X, H, *_: X).message
    verdict = check.lstm_step(lambda *args: [a.asnumpy() for a in lstm_of_notebook(*args)])
    assert "`H` is of the type `numpy.ndarray`. Compute with `nd`" in verdict.message
    verdict = check.gru_step(lambda *args: gru_of_notebook(*args).asnumpy())
    assert "`H` is of the type `numpy.ndarray`. Compute with `nd`" in verdict.message
    assert "One or two of the usual mistakes" in check.gru_step(lambda X, H, *_: H.exp()).message


def test_what_is_right_is_listed_if_no_mistake_explains_the_rest():
    verdict = check.lstm_step(lambda *args: (lstm_of_notebook(*args)[0].exp(), lstm()(*args)[1]))
    assert verdict.message.endswith("Wrong: `H`. Right: `C`.")


def test_the_reference_is_gluons_layer():
    """Parameters that are copied to a layer get no gradients, but the results are right."""

    def of_gluon(X, H, C, *gates):
        layer = gluon.rnn.LSTM(H.shape[1], input_size=X.shape[1])
        dense = gluon.nn.Dense(1, in_units=H.shape[1])
        layer.initialize(), dense.initialize()
        params = [p.detach() for gate in gates for p in gate]
        with autograd.pause():
            d2l.params_to_gluon([*params, nd.zeros((H.shape[1], 1)), nd.zeros(1)], layer, dense)
        _, (H, C) = layer(X.expand_dims(0), [H.expand_dims(0), C.expand_dims(0)])
        return H[0], C[0]

    assert check.lstm_step(of_gluon).message.startswith("The results are right, but not the grad")


@pytest.mark.parametrize("name", CHECKS)
def test_random_numbers_are_as_if_nothing_had_been_checked(name):
    def draws(*args):
        random.random(), np.random.rand()
        return RIGHT[name][0](*args)

    before = random_state()
    assert CHECKS[name](draws)
    assert not CHECKS[name](lambda *args: random.random() / 0)
    assert random_state() == before
    expected = [d2l.set_seed(0), nd.random.normal(shape=(3,)).asnumpy()]
    d2l.set_seed(0)
    CHECKS[name](RIGHT[name][0])
    assert (nd.random.normal(shape=(3,)).asnumpy() == expected[1]).all()


def test_verdicts_can_be_read_and_tested():
    right, wrong = check.gru_step(gru_of_notebook), check.gru_step(gru(new=lambda Z, R, H, G: H))
    assert right and not wrong
    assert repr(right) == f"Right. {right.message}"
    assert repr(wrong) == f"Not right yet. {wrong.message}"
    verdict = check.Verdict(False, "Look at `a < b`.")
    page = verdict._repr_html_()
    assert "<b>Not right yet.</b> Look at <code>a &lt; b</code>.</p>" in page
    assert "#d1603d" in page and "#d1603d" not in right._repr_html_()


def test_the_example_of_the_documentation(capsys):
    page = (Path(__file__).parents[1] / "docs" / "check.md").read_text(encoding="utf-8")
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], {})
    assert capsys.readouterr().out == re.search(r"```text\n(.*?)```", page, re.DOTALL)[1]
    for name in CHECKS:
        assert f"| `check.{name}` | `{name}(" in page


TEXTS = ["TWO_LAYER_RNN", "LSTM_STEP", "GRU_STEP", "GRAD_CLIPPING"]


@pytest.mark.parametrize("name", TEXTS)
def test_each_planted_mistake_changes_the_code_once(name):
    code, mistakes = _mistakes._parse(getattr(_mistakes, name))
    for message, replacements in mistakes:
        planted = code
        for old, new in replacements:
            assert old in planted, (message, old)
            planted = planted.replace(old, new)
        compile(planted, message, "exec")
    assert len({message for message, _ in mistakes}) > 15


def joint_norm(params):
    return float(nd.concat(*[param.grad.reshape(-1) for param in params], dim=0).norm().asscalar())


@pytest.mark.parametrize(
    "is_clipped",
    [
        lambda norm, theta, params: norm**2 > theta,
        lambda norm, theta, params: norm > theta**2,
        lambda norm, theta, params: max(joint_norm([param]) for param in params) > theta,
    ],
)
def test_clipping_under_another_condition_is_wrong(is_clipped):
    def clip(params, theta, ctx):
        norm = joint_norm(params)
        if is_clipped(norm, theta, params):
            for param in params:
                param.grad[:] *= theta / norm

    assert not check.grad_clipping(clip).right
