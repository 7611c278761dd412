"""RNNModel around every kind of recurrent layer."""

import itertools

import numpy as np
import pytest
from recurrent import MODES, assert_close, fused_layer, random_array, randomize, scratch_network

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import autograd, gluon, init, mx, nd
from d2l_deeprnn.nn.convert import params_from_gluon
from d2l_deeprnn.nn.deepgates import DeepGateLSTMCell
from d2l_deeprnn.text.corpora import SAMPLE_TEXT

rnn = gluon.rnn
V, H, N, T = 7, 5, 3, 6  # characters, hidden units, rows, steps


def stack_of(*cells, kind=rnn.SequentialRNNCell):
    stack = kind()
    for cell in cells:
        stack.add(cell)
    return stack


# Cells that compute the same in training and in prediction.
CELLS = {
    "a cell": lambda: rnn.LSTMCell(H),
    "stack": lambda: stack_of(rnn.LSTMCell(H), rnn.GRUCell(H), rnn.RNNCell(H)),
    "hybrid stack": lambda: stack_of(
        rnn.LSTMCell(H), rnn.LSTMCell(H), kind=rnn.HybridSequentialRNNCell
    ),
    "stack in a stack": lambda: stack_of(rnn.GRUCell(H), stack_of(rnn.LSTMCell(H), rnn.GRUCell(H))),
    "residual": lambda: stack_of(rnn.LSTMCell(H), rnn.ResidualCell(rnn.LSTMCell(H))),
    "residual stack": lambda: stack_of(
        rnn.GRUCell(H),
        rnn.ResidualCell(
            stack_of(rnn.GRUCell(H), rnn.GRUCell(H), kind=rnn.HybridSequentialRNNCell)
        ),
    ),
    "deep gates": lambda: stack_of(DeepGateLSTMCell(H), DeepGateLSTMCell(H, gate_depth=3)),
}
# Cells that draw at random in training.
RANDOM_CELLS = {
    "dropout": lambda: stack_of(rnn.LSTMCell(H), rnn.DropoutCell(0.5), rnn.LSTMCell(H)),
    "dropout last": lambda: stack_of(rnn.LSTMCell(H), rnn.DropoutCell(0.5)),
    "zoneout": lambda: stack_of(rnn.ZoneoutCell(rnn.LSTMCell(H), 0.5, 0.3), rnn.LSTMCell(H)),
    "zoneout of outputs": lambda: rnn.ZoneoutCell(rnn.GRUCell(H), 0.5),
    "all together": lambda: stack_of(
        rnn.ZoneoutCell(rnn.LSTMCell(H), 0.2, 0.2),
        rnn.DropoutCell(0.3),
        rnn.ResidualCell(rnn.ZoneoutCell(rnn.GRUCell(H), 0, 0.4)),
    ),
}
ALL_CELLS = {**CELLS, **RANDOM_CELLS}
FUSED = {f"fused {mode} {L}": (mode, L) for mode, L in itertools.product(MODES, (1, 2, 3))}


def make_layer(name):
    if name in FUSED:
        mode, num_layers = FUSED[name]
        return fused_layer(mode, num_layers, V, H)
    return ALL_CELLS[name]()


def initialized(layer, vocab_size=V):
    model = d2l.RNNModel(layer, vocab_size)
    model.initialize(init.Normal(0.5))
    model(nd.zeros((1, 2)), model.begin_state(1))  # all shapes are known from here on
    for param in model.collect_params().values():
        param.set_data(random_array(*param.shape))
    return model


def characters(num_steps=T, batch_size=N):
    return nd.array(np.random.randint(0, V, (batch_size, num_steps)))


def run(model, X, state, weights=None, seed=0):
    """Outputs, new state and gradients of the parameters of a loss; the seed is for dropout."""
    mx.random.seed(seed)
    with autograd.record():
        output, new_state = model(X, state)
    if weights is None:
        weights = [nd.ones_like(a) for a in (output, *new_state)]
    autograd.backward([output, *new_state], weights)
    return {
        "output": output.asnumpy(),
        **{f"state {i}": s.asnumpy() for i, s in enumerate(new_state)},
        **{
            f"gradient {i}": param.grad().asnumpy()
            for i, param in enumerate(model.collect_params().values())
        },
    }


def random_state(model, batch_size=N):
    return [random_array(*s.shape) for s in model.begin_state(batch_size=batch_size)]


# The same numbers in several ways ------------------------------------------------------------


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_fused_layer_stack_of_cells_and_scratch_are_equal(mode, num_layers):
    d2l.set_seed(0)  # for the reason given in recurrent.Case
    layer = fused_layer(mode, num_layers, V, H)
    fused, stacked = d2l.RNNModel(layer, V), d2l.RNNModel(layer._unfuse(), V)
    stacked.dense = fused.dense
    randomize(layer)
    fused.dense.initialize()
    fused.dense(nd.zeros((1, H)))
    randomize(fused.dense)
    params = params_from_gluon(layer, fused.dense)
    network = scratch_network(mode, V, H, V, num_layers)
    X, state = characters(), random_state(stacked)
    n = len(state) // num_layers

    outputs, new_state = network.forward([nd.one_hot(x, V) for x in X.T], state, params)
    expected = {
        "output": nd.concat(*outputs, dim=0).asnumpy(),
        **{f"state {i}": s.asnumpy() for i, s in enumerate(new_state)},
    }
    by_cells = run(stacked, X, state)
    assert_close({name: by_cells[name] for name in expected}, expected, 1e-5)

    # Fused: all layers' H in one array, then all layers' C.
    by_layer = run(fused, X, [nd.stack(*state[i::n]) for i in range(n)])
    for i in range(n):
        by_layer[f"state {i}"], in_one = None, by_layer[f"state {i}"]
        expected_states = np.stack([expected[f"state {l * n + i}"] for l in range(num_layers)])
        assert_close({"": in_one}, {"": expected_states}, 1e-5)
    same = [name for name in by_layer if not name.startswith("state")]
    assert len(same) == 4 * num_layers + 3
    assert_close({k: by_layer[k] for k in same}, {k: by_cells[k] for k in same}, 1e-5)


@pytest.mark.parametrize("name", [*FUSED, "hybrid stack"])
def test_equals_the_original_model(original, name):
    model = initialized(make_layer(name))
    theirs = original.RNNModel(model.rnn, V)
    theirs.dense = model.dense
    X, state = characters(), random_state(model)
    if name in FUSED:
        assert_close(run(model, X, state), run(theirs, X, state), 0)
        assert [s.shape for s in model.begin_state(batch_size=N, ctx=mx.cpu())] == [
            s.shape for s in theirs.begin_state(batch_size=N, ctx=mx.cpu())
        ]
    else:  # the original hands a whole minibatch to a cell that takes one step
        assert_close(
            {"": model(X[:, :1], state)[0].asnumpy()},
            {"": theirs.dense(theirs.rnn(nd.one_hot(X[:, 0], V), state)[0]).asnumpy()},
            1e-6,
        )


@pytest.mark.parametrize("name", [*ALL_CELLS, "fused lstm 2"])
def test_hybridizing_changes_nothing(name):
    model = initialized(make_layer(name))
    X, state = characters(), random_state(model)
    expected = [run(model, X, state, seed=seed) for seed in (1, 2)]
    model.hybridize(static_alloc=True, static_shape=True)
    # Twice: a graph is compiled at the first call and used again at the second.
    for seed, theirs in zip((1, 2), expected):
        assert_close(run(model, X, state, seed=seed), theirs, 1e-5)


def test_a_compiled_zoneout_cell_would_be_wrong():
    # The reason why RNNModel.hybridize skips cells. If this fails, the exception can go.
    model = initialized(rnn.ZoneoutCell(rnn.GRUCell(H), 0.5))
    X, state = characters(), random_state(model)
    expected = run(model, X, state)["output"]
    model.rnn.hybridize()
    assert np.abs(run(model, X, state)["output"] - expected).max() > 0.01


@pytest.mark.parametrize("name", [*CELLS, "fused lstm 2", "fused gru 3"])
@pytest.mark.parametrize("hybridize", [False, True])
def test_the_state_is_carried_over(name, hybridize):
    model = initialized(make_layer(name))
    if hybridize:
        model.hybridize(static_alloc=True, static_shape=True)
    X, state = characters(), random_state(model)
    whole, last = model(X, state)
    pieces = []
    for start, end in [(0, 2), (2, 3), (3, T)]:
        output, state = model(X[:, start:end], state)
        pieces.append(output)
    # (steps * batch_size, vocab_size), time step by time step
    whole, pieces = whole.asnumpy(), nd.concat(*pieces, dim=0).asnumpy()
    assert_close({"": pieces}, {"": whole}, 1e-5)
    assert [s.shape for s in state] == [s.shape for s in model.begin_state(batch_size=N)]
    for a, b in zip(state, last):
        assert_close({"": a.asnumpy()}, {"": b.asnumpy()}, 1e-5)


@pytest.mark.parametrize("name", RANDOM_CELLS)
def test_dropout_and_zoneout_act_in_training_only(name):
    model = initialized(make_layer(name))
    model.hybridize(static_alloc=True, static_shape=True)
    X, state = characters(), random_state(model)
    first, second = (run(model, X, state, seed=seed)["output"] for seed in (1, 2))
    assert np.abs(first - second).max() > 0.01
    predicted = [model(X, state)[0].asnumpy() for _ in range(2)]
    np.testing.assert_array_equal(*predicted)
    assert np.abs(first - predicted[0]).max() > 0.01


# Training -----------------------------------------------------------------------------------


TRAINED = ["a cell", "stack in a stack", "hybrid stack", "residual stack", "deep gates"]
TRAINED += ["all together", "fused rnn_tanh 1", "fused lstm 3"]


@pytest.mark.parametrize("name", TRAINED)
def test_trains_and_predicts(name):
    indices, vocab = d2l.load_corpus(SAMPLE_TEXT, 200)
    lines = []
    # The layer's input size is not known before training, as in the chapter.
    layer = fused_layer(*FUSED[name], 0, H) if name in FUSED else make_layer(name)
    model = d2l.RNNModel(layer, len(vocab))
    history = d2l.train_and_predict_rnn_gluon(
        model, H, indices, vocab, mx.cpu(), 2, 5, 1, 0.5, 4, ["t"], log=lines.append
    )
    assert history[-1].perplexity < history[0].perplexity - 1
    # Batch size 4 in training, 1 in prediction; then another one, and other num_steps.
    assert [len(p) for p in history[-1].predictions] == [51]
    again = d2l.train_and_predict_rnn_gluon(
        *(model, H, indices, vocab, mx.cpu(), 1, 7, 1, 0.5, 6, []),
        initialize=False,
        log=lines.append,
    )
    assert again[0].perplexity < history[0].perplexity


# Errors, and the state -----------------------------------------------------------------------


BIDIRECTIONAL = [
    lambda: rnn.GRU(H, 3, bidirectional=True),
    lambda: stack_of(stack_of(rnn.BidirectionalCell(rnn.GRUCell(H), rnn.GRUCell(H)))),
    lambda: rnn.LSTM(H, bidirectional=True)._unfuse(),
]


@pytest.mark.parametrize("make", BIDIRECTIONAL)
def test_a_bidirectional_layer_is_trained_with_a_warning(make):
    indices, vocab = d2l.load_corpus(SAMPLE_TEXT, 200)
    with pytest.warns(UserWarning, match="rnn_layer is bidirectional: .*reads the char") as caught:
        model = d2l.RNNModel(make(), len(vocab))
    assert len(caught) == 1 and caught[0].filename == __file__
    history = d2l.train_and_predict_rnn_gluon(
        model, H, indices, vocab, mx.cpu(), 3, 5, 1, 0.5, 4, ["time"], log=lambda line: None
    )
    assert history[-1].perplexity < history[0].perplexity - 1
    assert len(history[-1].predictions[0]) >= 54
    assert model.dense.weight.shape == (len(vocab), 2 * H)


def test_other_arguments_are_errors():
    with pytest.raises(TypeError, match="must be a recurrent layer or cell .* not Dense"):
        d2l.RNNModel(gluon.nn.Dense(H), V)
    with pytest.raises(ValueError, match="layout 'TNC', not 'NTC'"):
        d2l.RNNModel(rnn.LSTM(H, layout="NTC"), V)
    with pytest.raises(ValueError, match="vocab_size must be .* not 0"):
        d2l.RNNModel(rnn.LSTM(H), 0)


@pytest.mark.parametrize("name", [*ALL_CELLS, "fused lstm 2"])
def test_the_state_before_the_first_step(name):
    model = d2l.RNNModel(make_layer(name), V)
    state = model.begin_state(batch_size=4, ctx=mx.cpu())
    assert len(state) > 0
    for array in state:
        assert isinstance(array, nd.NDArray) and array.shape[-2:] == (4, H)
        assert (array == 0).asnumpy().all()
    assert [s.shape for s in model.begin_state(4)] == [s.shape for s in state]
