"""The train functions agree with the original's, without its faults."""

from __future__ import annotations

import math
import random
import re
import time

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import autograd, gluon, init, mx, nd
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.training.trainer import IN_FLIGHT

CTX = mx.cpu()
PREFIXES = ["traveller", "time traveller"]


@pytest.fixture
def text():
    """Indices and vocabulary of 400 characters."""
    return d2l.load_corpus(SAMPLE_TEXT, 400)


def small_model(library, vocab, num_hiddens=16):
    return library.RNNModel(gluon.rnn.LSTM(num_hiddens, 2), len(vocab))


def train_small(
    library, text, prefixes=(), *, seed=1, num_epochs=4, lr=20, theta=0.05, model=None, **kwargs
):
    """Two small layers, about 19 minibatches an epoch, clipped in most of them."""
    indices, vocab = text
    d2l.set_seed(seed)
    model = model or small_model(library, vocab)
    history = library.train_and_predict_rnn_gluon(
        model, 16, indices, vocab, CTX, num_epochs, 5, lr, theta, 4, list(prefixes), **kwargs
    )
    return model, history


def without_times(printed):
    return re.sub(r"time [\d.]+ sec", "time - sec", printed)


def assert_same_lines(ours, theirs):
    """Check that lines agree, except for times and the last digit of perplexities."""
    number = r"(?<=perplexity )[\d.]+"
    assert re.sub(number, "-", without_times(ours)) == re.sub(number, "-", without_times(theirs))
    perplexities = [[float(p) for p in re.findall(number, lines)] for lines in (ours, theirs)]
    np.testing.assert_allclose(*perplexities, rtol=1e-6)


# Compared with the original -------------------------------------------------------------------


@pytest.mark.parametrize(
    "lr, theta", [(20, 0.05), (1, 1000), (1, math.inf)], ids=["clipped", "not clipped", "infinite"]
)
def test_gluon_training_equals_the_original(original, text, minibatch_losses, capsys, lr, theta):
    train_small(original, text, PREFIXES[:1], lr=lr, theta=theta)
    theirs, their_lines = minibatch_losses(), capsys.readouterr().out
    train_small(d2l, text, PREFIXES[:1], lr=lr, theta=theta)
    ours, our_lines = minibatch_losses(), capsys.readouterr().out

    assert len(ours) > 60
    np.testing.assert_allclose(ours, theirs, rtol=2e-6)
    assert ours[-1] < ours[0]  # something was learned: the test is not about constants
    assert_same_lines(our_lines, their_lines)


def test_gluon_training_equals_the_original_with_the_chapters_settings(original, minibatch_losses):
    indices, vocab = d2l.load_corpus(SAMPLE_TEXT, 4600)
    found = []
    for library in original, d2l:
        d2l.set_seed(0)
        model = library.RNNModel(gluon.rnn.LSTM(hidden_size=256, num_layers=2), len(vocab))
        library.train_and_predict_rnn_gluon(
            model, 256, indices, vocab, CTX, 4, 35, 5, 1, 32, ["traveller"]
        )
        found.append(minibatch_losses())
    assert len(found[0]) == 16
    np.testing.assert_allclose(found[1], found[0], rtol=2e-6)


def single_layer(vocab, num_hiddens):
    """The single-layer network of the book's earlier section, by its equations."""

    def get_params():
        shapes = [
            (len(vocab), num_hiddens), (num_hiddens, num_hiddens), (num_hiddens,),
            (num_hiddens, len(vocab)), (len(vocab),),
        ]  # fmt: skip
        params = [nd.random.normal(scale=0.3, shape=shape) for shape in shapes]
        for param in params:
            param.attach_grad()
        return params

    def init_state(batch_size, num_hiddens, ctx):
        return (nd.zeros((batch_size, num_hiddens), ctx=ctx),)

    def rnn(inputs, state, params):
        W_xh, W_hh, b_h, W_hq, b_q = params
        (H,) = state
        outputs = []
        for X in inputs:
            H = nd.tanh(nd.dot(X, W_xh) + nd.dot(H, W_hh) + b_h)
            outputs.append(nd.dot(H, W_hq) + b_q)
        return outputs, (H,)

    return rnn, get_params, init_state


@pytest.mark.parametrize("is_random_iter", [False, True])
def test_training_from_scratch_equals_the_original(
    original, text, minibatch_losses, capsys, is_random_iter
):
    indices, vocab = text
    rnn, get_params, init_state = single_layer(vocab, 12)
    found = []
    for library in original, d2l:
        d2l.set_seed(2)
        library.train_and_predict_rnn(
            rnn, get_params, init_state, 12, indices, vocab, CTX, is_random_iter,
            4, 5, 2, 0.5, 4, PREFIXES,
        )  # fmt: skip
        found.append((minibatch_losses(), capsys.readouterr().out))
    (theirs, their_lines), (ours, our_lines) = found
    assert len(ours) > 60
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert ours[-5:].mean() < ours[:5].mean()
    assert_same_lines(our_lines, their_lines)


def test_our_function_trains_their_model_and_theirs_ours(original, text, minibatch_losses):
    indices, vocab = text
    their_vocab = original.Vocab(vocab.to_tokens(indices))
    d2l.set_seed(0)
    train_small(d2l, (indices, their_vocab), model=small_model(original, vocab))
    first = minibatch_losses()
    train_small(original, (indices, vocab), model=small_model(d2l, vocab))
    np.testing.assert_allclose(minibatch_losses(), first, rtol=2e-6)


@pytest.mark.parametrize("theta", [0.01, 1, 1e6])
def test_grad_clipping_equals_the_original(original, theta):
    gradients = []
    for clip in original.grad_clipping, d2l.grad_clipping:
        d2l.set_seed(5)
        params = [nd.zeros((3, 4)), nd.zeros((7,))]
        for param in params:
            param.attach_grad()
            param.grad[:] = nd.random.normal(scale=3, shape=param.shape)
        clip(params, theta, CTX)
        gradients.append(np.concatenate([p.grad.asnumpy().ravel() for p in params]))
    theirs, ours = gradients
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert np.linalg.norm(ours) <= theta * (1 + 1e-6) or theta == 1e6


def test_gradients_of_several_types_are_clipped_together():
    params = [nd.zeros((2,), dtype=dtype) for dtype in ("float32", "float64", "float16")]
    for param in params:
        param.attach_grad()
        param.grad[:] = 2  # the norm of all is 2 * sqrt(6)
    d2l.grad_clipping(params, 1, CTX)
    for param in params:
        np.testing.assert_allclose(param.grad.asnumpy(), 1 / np.sqrt(6), rtol=1e-3)


def test_gradients_of_zero_stay_zero():
    param = nd.ones((3,))
    param.attach_grad()
    d2l.grad_clipping([param], 1, CTX)
    assert (param.grad.asnumpy() == 0).all()


def test_sgd_equals_the_original(original):
    updated = []
    for library in original, d2l:
        param = nd.array([1.0, -2.0])
        param.attach_grad()
        param.grad[:] = nd.array([0.5, 4.0])
        library.sgd([param], 0.1, 2)
        updated.append(param.asnumpy())
    np.testing.assert_array_equal(*updated)
    np.testing.assert_allclose(updated[1], [1 - 0.1 * 0.5 / 2, -2 - 0.1 * 4 / 2], rtol=1e-6)


# Faults of the 2019 code ----------------------------------------------------------------------


@pytest.mark.parametrize("num_epochs", [1, 2, 3])
def test_fewer_than_four_epochs(text, num_epochs):
    _, history = train_small(d2l, text, PREFIXES, num_epochs=num_epochs)
    assert [record.epoch for record in history] == list(range(1, num_epochs + 1))
    assert len(history[-1].predictions) == 2


def test_loaded_weights_are_kept_on_request(text, tmp_path):
    model, _ = train_small(d2l, text)
    model.save_parameters(str(tmp_path / "weights"))
    loaded = small_model(d2l, text[1])
    loaded.load_parameters(str(tmp_path / "weights"), ctx=CTX)
    before = loaded.dense.weight.data().copy()
    indices, vocab = text
    d2l.train_and_predict_rnn_gluon(
        loaded, 16, indices, vocab, CTX, 1, 5, 1e-12, 1, 4, [], initialize=False
    )
    np.testing.assert_allclose(loaded.dense.weight.data().asnumpy(), before.asnumpy(), atol=1e-9)

    d2l.train_and_predict_rnn_gluon(loaded, 16, indices, vocab, CTX, 1, 5, 1e-12, 1, 4, [])
    assert abs(loaded.dense.weight.data() - before).max().asscalar() > 0.01  # the chapter's way


def test_num_hiddens_is_not_ignored(text):
    with pytest.raises(ValueError, match="num_hiddens is 16, but .* has 8 units"):
        train_small(d2l, text, model=small_model(d2l, text[1], num_hiddens=8))


def test_a_model_for_another_vocabulary_is_refused(text):
    model = d2l.RNNModel(gluon.rnn.LSTM(16, 2), 3)
    with pytest.raises(ValueError, match=f"made for 3 characters, .* has {len(text[1])}"):
        train_small(d2l, text, model=model)


def test_a_text_shorter_than_a_minibatch_is_refused(text):
    indices, vocab = text
    with pytest.raises(ValueError, match="27 characters.* need at least 28: give a longer text"):
        train_small(d2l, (indices[:27], vocab))  # 4 rows of 5 + 1, and an offset of up to 4
    train_small(d2l, (indices[:28], vocab), num_epochs=1)


def test_losses_are_read_late(text, monkeypatch):
    events = []
    for name in "asnumpy", "asscalar", "wait_to_read", "backward":
        plain = getattr(nd.NDArray, name)

        def noted(self, *args, name=name, plain=plain, **kwargs):
            events.append("backward" if name == "backward" else "wait")
            return plain(self, *args, **kwargs)

        monkeypatch.setattr(nd.NDArray, name, noted)
    monkeypatch.setattr(nd, "waitall", lambda: events.append("waitall"))
    indices, vocab = text
    d2l.train_and_predict_rnn_gluon(
        small_model(d2l, vocab), 16, indices, vocab, CTX, 1, 5, 1, 1, 4, []
    )
    events = events[events.index("backward") :]
    minibatches = events.count("backward")
    assert minibatches > 2 * IN_FLIGHT
    # asscalar calls asnumpy: two waits per loss
    expected = ["backward"] * IN_FLIGHT
    expected += ["backward", "wait", "wait"] * (minibatches - IN_FLIGHT)
    assert events == expected + ["wait", "wait"] * IN_FLIGHT


def in_graph(array):
    try:
        autograd.get_symbol(array)
    except mx.MXNetError:
        return False
    return True


class StateSpy(gluon.Block):
    """A model that records whether its state still belongs to a graph."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.seen = []

    def forward(self, inputs, state):
        self.seen.append(any(in_graph(s) for s in state))
        return self.model(inputs, state)

    def begin_state(self, *args, **kwargs):
        return self.model.begin_state(*args, **kwargs)


def test_the_state_is_detached(original, text, monkeypatch):
    # If the previous minibatch's graph is retained, the original's state still belongs to it.
    backward = nd.NDArray.backward
    monkeypatch.setattr(nd.NDArray, "backward", lambda l: backward(l, retain_graph=True))
    theirs, _ = train_small(original, text, model=StateSpy(small_model(original, text[1])))
    ours, _ = train_small(d2l, text, model=StateSpy(small_model(d2l, text[1])))
    assert any(theirs.seen)
    assert ours.seen and not any(ours.seen)


# New features ---------------------------------------------------------------------------------


def test_the_history_equals_the_printed_lines(text, capsys):
    _, history = train_small(d2l, text, PREFIXES, num_epochs=8)
    printed = capsys.readouterr().out.splitlines()
    expected = []
    for record in history:
        if record.epoch % 2 == 0:
            expected.append(f"epoch {record.epoch}, perplexity {record.perplexity:f}, time - sec")
        expected += [" - " + text for text in record.predictions]
    assert [without_times(line) for line in printed] == expected
    assert [record.epoch for record in history if record.predictions] == [4, 8]
    assert all(record.predictions[1].startswith("time traveller") for record in history[3::4])
    seconds = [record.seconds for record in history]
    assert seconds == sorted(seconds) and seconds[0] > 0


def test_perplexity_is_exp_of_the_mean_loss(text, minibatch_losses):
    _, history = train_small(d2l, text, num_epochs=1)
    assert history[0].perplexity == pytest.approx(math.exp(minibatch_losses().mean()), rel=1e-6)


def test_on_epoch_and_log_receive_everything(text, capsys):
    records, lines, started = [], [], time.perf_counter()
    _, history = train_small(d2l, text, PREFIXES, on_epoch=records.append, log=lines.append)
    elapsed = time.perf_counter() - started
    printed = [float(s) for s in re.findall(r"time ([\d.]+) sec", "".join(lines))]
    assert len(printed) == 4 and sum(printed) <= elapsed + 4 * 0.005  # each one is rounded
    assert records == history
    assert capsys.readouterr().out == ""
    assert len(lines) == 4 + 2 * 2


def test_same_seed_same_digits(text):
    runs = [train_small(d2l, text, seed=seed)[1] for seed in (7, 7, 8)]
    first, second, other = ([record.perplexity for record in run] for run in runs)
    assert first == second
    assert first != other


def test_shapes_of_numpys_kind_change_nothing(text):
    """In which an unknown dimension is -1, since 0 is that of an empty array."""
    expected = train_small(d2l, text)[1]
    with mx.util.np_shape(True):
        history = train_small(d2l, text, model=small_model(d2l, text[1]))[1]
    assert [r.perplexity for r in history] == [r.perplexity for r in expected]


def test_a_resumed_training_prints_and_predicts_the_same(text):
    lines, rest, more, stopped = [], [], [], {}
    _, expected = train_small(d2l, text, PREFIXES, num_epochs=10, log=lines.append)

    class Interruption(Exception):
        pass

    def stop(record):
        rest.append(record)
        if record.epoch == 5:
            stopped["random"] = random.getstate()
            raise Interruption

    model = small_model(d2l, text[1])
    with pytest.raises(Interruption):
        how = {"num_epochs": 10, "model": model, "log": more.append, "on_epoch": stop}
        train_small(d2l, text, PREFIXES, **how)
    indices, vocab = text
    random.setstate(stopped["random"])
    history = d2l.train_and_predict_rnn_gluon(
        model, 16, indices, vocab, CTX, 10, 5, 20, 0.05, 4, PREFIXES,
        initialize=False, history=rest, log=more.append, on_epoch=rest.append,
    )  # fmt: skip
    assert history == rest
    assert [r[:2] + r[3:] for r in history] == [r[:2] + r[3:] for r in expected]
    assert [without_times(line) for line in more] == [without_times(line) for line in lines]
    assert all(a.seconds <= b.seconds for a, b in zip(history, history[1:]))


def test_a_history_does_not_go_with_new_parameters(text):
    with pytest.raises(ValueError, match="pass initialize=False"):
        d2l.train_and_predict_rnn_gluon(
            small_model(d2l, text[1]), 16, *text, CTX, 10, 5, 20, 0.05, 4, PREFIXES,
            history=[d2l.EpochRecord(1, 9.5, 0.1, ())],
        )  # fmt: skip


def test_a_diverging_run_has_an_infinite_perplexity(text):
    indices, vocab = text
    history = d2l.train_and_predict_rnn_gluon(
        small_model(d2l, vocab), 16, indices, vocab, CTX, 1, 5, 1e9, 1e9, 4, []
    )
    assert not history[0].perplexity < 1e6  # inf, and no OverflowError


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(num_epochs=0), "num_epochs must be a whole number of at least 1, not 0"),
        (dict(num_epochs=2.5), "num_epochs must be a whole number of at least 1, not 2.5"),
        (dict(num_steps=-3), "num_steps must be a whole number of at least 1, not -3"),
        (dict(batch_size=True), "batch_size must be a whole number of at least 1, not True"),
        (dict(lr=-1), "lr must be a number above 0, not -1"),
        (dict(lr=float("nan")), "lr must be a number above 0, not nan"),
        (dict(lr=float("inf")), "lr must be a finite number above 0, not inf"),
        (dict(clipping_theta=0), "clipping_theta must be a number above 0, not 0"),
        (dict(prefixes=["time", ""]), r"prefixes contains an empty string: \['time', ''\]"),
        (dict(corpus_indices=[]), "the text to train on has 0 characters"),
    ],
)
def test_bad_settings_are_named(text, change, message):
    indices, vocab = text
    settings = dict(
        corpus_indices=indices, vocab=vocab, ctx=CTX, num_epochs=1, num_steps=5, lr=1,
        clipping_theta=1, batch_size=4, prefixes=PREFIXES,
    )  # fmt: skip
    model = small_model(d2l, vocab)
    model.initialize(init.Constant(0.5), ctx=CTX)
    with pytest.raises(ValueError, match=message):
        d2l.train_and_predict_rnn_gluon(model, 16, **{**settings, **change})
    assert (model.rnn.l0_h2h_weight.data() == 0.5).asnumpy().all()  # the parameters are kept

    network = single_layer(vocab, 12)
    with pytest.raises(ValueError, match=message):
        d2l.train_and_predict_rnn(*network, 12, **{"is_random_iter": True, **settings, **change})


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(prefixes="time"), r"prefixes must be a list of strings: \['time'\]"),
        (dict(prefixes=[1]), "prefixes must contain only strings, not 1"),
        (dict(prefixes=None), "prefixes must be a list of strings, not None"),
        (dict(vocab={"a": 1}), "vocab must be a Vocab, not {'a': 1}"),
        (dict(on_epoch=3), "on_epoch must be a function or None, not 3"),
    ],
)
def test_arguments_of_another_type_are_named(text, change, message):
    indices, vocab = text
    settings = dict(
        corpus_indices=indices, vocab=vocab, ctx=CTX, num_epochs=1, num_steps=5, lr=1,
        clipping_theta=1, batch_size=4, prefixes=PREFIXES,
    )  # fmt: skip
    with pytest.raises(TypeError, match=message):
        d2l.train_and_predict_rnn_gluon(small_model(d2l, vocab), 16, **{**settings, **change})
    network = single_layer(vocab, 12)
    with pytest.raises(TypeError, match=message):
        d2l.train_and_predict_rnn(*network, 12, **{"is_random_iter": True, **settings, **change})


@pytest.mark.parametrize("kind", [tuple, iter, dict.fromkeys])
def test_prefixes_may_be_any_iterable(text, kind):
    indices, vocab = text
    settings = (indices, vocab, CTX, 2, 5, 1, 1, 4)
    model = small_model(d2l, vocab)
    history = d2l.train_and_predict_rnn_gluon(model, 16, *settings, kind(["t", "ti"]))
    for record in history:
        assert [len(prediction) for prediction in record.predictions] == [51, 52]
    settings = (indices, vocab, CTX, False, 2, 5, 1, 1, 4)
    network = single_layer(vocab, 12)
    history = d2l.train_and_predict_rnn(*network, 12, *settings, kind(["t", "ti"]))
    for record in history:
        assert [len(prediction) for prediction in record.predictions] == [51, 52]


def test_no_parameters_have_no_gradients_to_clip():
    d2l.grad_clipping([], 1, CTX)  # MXNet's operator would abort the process


def test_theta_must_be_positive():
    with pytest.raises(ValueError, match="theta must be a number above 0, not -1"):
        d2l.grad_clipping([], -1, CTX)
