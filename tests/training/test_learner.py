"""Training with any settings: optimizers, schedules, stopping, and resuming to the bit."""

import collections
import json
import math
import os
import random
import threading
import time

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import gluon, mx, nd
from d2l_deeprnn._mxnet.library import GeneratorsInUse, exclusive_generators
from d2l_deeprnn._mxnet.optimizers import OPTIMIZERS, options_of
from d2l_deeprnn.chapter.reproduce import reproduce
from d2l_deeprnn.nn.scratch import ScratchModel, deep_gru
from d2l_deeprnn.text.corpora import SAMPLE_TEXT, load_text
from d2l_deeprnn.text.vocab import Vocab
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.evaluate import evaluate
from d2l_deeprnn.training.learner import Diverged, Learner, build_model, new_model
from d2l_deeprnn.training.optimization import parameters_of, set_parameters
from d2l_deeprnn.training.ranks import Ranks
from d2l_deeprnn.training.settings import SettingsError, TrainSettings, as_dict, from_dict
from d2l_deeprnn.training.trainer import IN_FLIGHT, Callback, Stopped, arrays_in

SMALL = {
    "corpus": (SAMPLE_TEXT,),
    "num_hiddens": 8,
    "batch_size": 8,
    "num_steps": 10,
    "num_epochs": 2,
    "optimizer": "adam",
    "lr": 0.01,
}


@pytest.fixture(scope="module")
def text():
    text = load_text(SAMPLE_TEXT, 2000)
    vocab = Vocab(text)
    return vocab, vocab.encode(text)


def learner(text, **changed):
    vocab, indices = text
    if changed.get("optimizer", "").lower() == "adadelta":
        changed = {"lr": None, **changed}
    settings = TrainSettings(**{**SMALL, **changed})
    model = new_model(settings, len(vocab), mx.cpu())
    return Learner(settings, model, indices[:1500], indices[1500:], mx.cpu())


def test_gradients_that_add_up_are_refused(text):
    vocab, indices = text
    settings = TrainSettings(**SMALL)
    model = new_model(settings, len(vocab), mx.cpu())
    model.dense.weight.grad_req = "add"
    with pytest.raises(SettingsError, match="dense.weight adds up its gradients"):
        Learner(settings, model, indices, [], mx.cpu())


def test_an_update_that_was_interrupted_is_not_counted_twice(text, monkeypatch):
    trained = learner(text)
    trained.fit(1)
    state = trained.state_dict()

    def interrupted(factor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trained.network, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained.fit(2)
    for action in trained.state_dict, lambda: trained.fit(2):
        with pytest.raises(RuntimeError, match="interrupted during an update"):
            action()
    trained.load_state_dict(*state)
    trained.fit(2)
    whole = learner(text)
    whole.fit(2)
    assert trained.history[-1].train_loss == whole.history[-1].train_loss


def test_no_epoch_follows_the_cosine_schedule(text):
    trained = learner(text, schedule="cosine")
    trained.fit(2)
    with pytest.raises(ValueError, match="the cosine schedule ends after 2 epochs"):
        trained.fit(3)


def test_a_single_held_out_character_is_refused(text):
    vocab, indices = text
    settings = TrainSettings(**SMALL)
    model = new_model(settings, len(vocab), mx.cpu())
    with pytest.raises(ValueError, match="valid_indices has 1 character"):
        Learner(settings, model, indices, indices[:1], mx.cpu())


class StopIf(Callback):
    """Stops within an epoch if a function says so."""

    def __init__(self, should_stop):
        self.should_stop = should_stop

    def after_step(self, trainer, progress):
        if self.should_stop() and progress.minibatch < progress.num_minibatches:
            raise Stopped


class CaptureBeforeScoring(Callback):
    def before_scoring(self, trainer):
        self.captured = capture(trainer)


def capture(learner):
    """Return the contents of a checkpoint, after a round trip through JSON."""
    arrays, data = learner.state_dict()
    return arrays, json.loads(json.dumps(data))


def trained(learner):
    while not learner.finished:
        learner.train_epoch()
    return learner


def test_the_same_parameters_always_give_the_same_scores(text):
    arrays, data = capture(trained(learner(text, num_hiddens=32, num_epochs=4)))
    X = nd.array(text[1][1500:2000].reshape(2, 250))
    scores = set()
    others = []  # so that each network has another address
    for i in range(40):
        again = learner(text, num_hiddens=32)
        again.load_state_dict(arrays, data)
        output, _ = again.model(X, again.model.begin_state(batch_size=2, ctx=again.ctx))
        scores.add(output.asnumpy().tobytes())
        others.append(nd.zeros(1000 * i + 1))
    assert len(scores) == 1


def assert_same(a, b):
    (arrays, data), (others, other_data) = capture(a), capture(b)
    assert arrays.keys() == others.keys()
    for name in arrays:
        assert np.array_equal(arrays[name], others[name]), name
    assert [record[:4] for record in a.history] == [record[:4] for record in b.history]
    for key in data.keys() - {"seconds", "history"}:
        assert data[key] == other_data[key], key


def trained_with_interruptions(text, every, *, least=3, **changed):
    """Train with several learners, each of which resumes from the state of the one before."""
    asked = [0]

    def should_stop():
        asked[0] += 1
        return asked[0] % every == 0

    here, positions = learner(text, **changed), []
    while not here.finished:
        try:
            here.train_epoch([StopIf(should_stop)])
        except Stopped:
            arrays, data = capture(here)
            positions.append(data["position"])
            here = learner(text, **changed)
            d2l.set_seed(12345)  # other code may use the generators
            here.load_state_dict(arrays, data)
    assert len(positions) >= least and all(positions)
    return here


def test_a_plateau_lowers_the_learning_rate_and_resumes_to_the_bit(text):
    changed = {"schedule": "plateau", "lr_decay": 0.1, "decay_epochs": 1, "lr": 0.3}
    changed["num_epochs"] = 6
    whole = trained(learner(text, **changed))
    expected, best = 0.3, math.inf
    for record in whole.history:
        assert record.learning_rate == pytest.approx(expected)
        expected *= 1 if record.valid_loss < best else 0.1
        best = min(best, record.valid_loss)
    assert expected < 0.3, "there was no plateau"
    assert_same(whole, trained_with_interruptions(text, 13, **changed))


class Listed(gluon.Block):
    """A model whose parameters, and those of its block, are in lists."""

    def __init__(self, size):
        super().__init__()
        self.vocab_size, self.inner = size, gluon.nn.Dense(3, in_units=size)
        self.lists = [
            [block.params.get("projection", shape=shape, init="xavier")]
            for block, shape in ((self.inner, (4, 3)), (self, (size, 4)))
        ]

    def begin_state(self, batch_size, ctx=None):
        return [nd.zeros((1, batch_size, 1), ctx=ctx)]

    def forward(self, inputs, state):
        hidden = self.inner(nd.one_hot(inputs.T.reshape((-1,)), self.vocab_size))
        for (param,) in self.lists:
            hidden = nd.FullyConnected(
                hidden, param.data(), no_bias=True, num_hidden=param.shape[0]
            )
        return hidden, state


def listed(size):
    model = Listed(size)
    model.initialize()
    return model


def from_scratch(size):
    return ScratchModel(deep_gru(size, 6, size, 2, scale=0.5), 6, size)


@pytest.mark.parametrize("make", [listed, from_scratch])
def test_parameters_that_are_not_attributes_are_saved(make, text):
    vocab, indices = text
    models = [make(len(vocab)) for _ in range(2)]
    learners = []
    for model in models:
        settings = TrainSettings(**SMALL)
        learners.append(Learner(settings, model, indices[:800], indices[800:900], mx.cpu()))
    here, there = learners
    here.train_epoch()
    arrays, data = capture(here)
    kept = [name for name in arrays if name.startswith("params/")]
    assert len(kept) == len(list(models[0].collect_params().keys()))
    there.load_state_dict(arrays, data)
    assert_same(trained(here), trained(there))
    assert here.history[-1].train_loss < here.history[0].train_loss - 0.05


def rate_of(optimizer, **changed):
    """Return settings of the learning rate if the optimizer has one."""
    return {} if optimizer == "adadelta" else changed


@pytest.mark.parametrize("sampling", ["adjacent", "random"])
def test_resuming_before_scoring_is_exact(text, sampling):
    whole = trained(learner(text, dropout=0.3, sampling=sampling))
    here, positions = learner(text, dropout=0.3, sampling=sampling), []
    while not here.finished:
        before_scoring = CaptureBeforeScoring()
        here.train_epoch([before_scoring])
        arrays, data = before_scoring.captured
        positions.append(data["position"])
        here = learner(text, dropout=0.3, sampling=sampling)
        d2l.set_seed(12345)
        here.load_state_dict(arrays, data)
        here.train_epoch([StopIf(lambda: pytest.fail("a minibatch is trained on again"))])
    assert all(positions)
    assert_same(here, whole)


def test_a_model_of_the_users_own_resumes_to_the_bit(text):
    """Its parameters are not in one vector, whose norm would be rounded differently."""
    vocab, indices = text
    settings = TrainSettings(**{**SMALL, "clipping_theta": 0.1})

    def of_the_users_own():
        mx.random.seed(1)
        model = d2l.RNNModel(gluon.rnn.LSTM(16, 2), len(vocab))
        model.initialize(mx.init.Uniform())
        return Learner(settings, model, indices[:1500], indices[1500:], mx.cpu())

    whole, first, rest = (of_the_users_own() for _ in range(3))
    first.train_epoch()
    rest.load_state_dict(*capture(first))
    assert_same(trained(whole), trained(rest))


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells_resume_exactly(text, cell):
    whole = trained(learner(text, cell=cell, dropout=0.3))
    assert_same(whole, trained_with_interruptions(text, 4, cell=cell, dropout=0.3))


# Seven minibatches per epoch.
TINY = {"num_layers": 1, "num_hiddens": 4, "batch_size": 16, "num_steps": 12}
# Options without a default number in Gluon.
VALUES = {"clip_gradient": 0.02, "lower_bound": 0.05, "upper_bound": 0.15, "clip_weights": 0.05}


def other_value(option, default):
    if default is None:
        return VALUES[option]
    return not default if isinstance(default, bool) else 0.9 * default + 0.05


def parameters(learner):
    return b"".join(p.data().asnumpy().tobytes() for p in learner.model.collect_params().values())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_takes_its_options_and_is_resumed_to_the_bit(text, optimizer):
    options = {name: other_value(name, v) for name, v in options_of(optimizer).items()}
    options.pop("momentum" if optimizer == "dcasgd" else "", None)  # MXNet fails with it
    i = OPTIMIZERS.index(optimizer)
    changed = {
        **TINY,
        "optimizer": optimizer.title(),
        "sampling": ["adjacent", "random"][i % 2],
        "dropout": 0.3 * (i % 3 == 0),
        **rate_of(optimizer, schedule=["step", "cosine", "plateau"][i % 3], warmup_epochs=0.5),
    }
    default = parameters(trained(learner(text, **changed)))
    changed["optimizer_options"] = options
    whole = trained(learner(text, **changed))
    assert_same(whole, trained_with_interruptions(text, 5, least=2, **changed))
    assert parameters(whole) != default


def test_all_other_optimizers_of_gluon_are_unusable():
    unusable = {"test", "groupadagrad", "lars", "adamax"}  # for the reasons given there
    assert set(OPTIMIZERS) | unusable == set(mx.optimizer.Optimizer.opt_registry)


def test_the_chapters_settings_give_the_chapters_training(text):
    """Adjacent sampling, SGD and Normal(0.01), as ``train_and_predict_rnn_gluon`` has them."""
    vocab, indices = text
    ours = learner(text, optimizer="sgd", lr=None, batch_size=4, num_epochs=3)
    layer = gluon.rnn.LSTM(8, num_layers=2, input_size=len(vocab))
    model = d2l.RNNModel(layer, len(vocab))
    model.initialize(ctx=mx.cpu())
    model(nd.zeros((1, 1)), model.begin_state(1))
    theirs = [p for p in model.collect_params().values()]
    for param, own in zip(theirs, ours.model.collect_params().values()):
        assert param.shape == own.shape
        param.set_data(own.data())
    d2l.set_seed(0)
    learner(text, optimizer="sgd", lr=None, batch_size=4, num_epochs=3)  # the same draws
    history = d2l.train_and_predict_rnn_gluon(
        *(model, 8, indices[:1500].tolist(), vocab, mx.cpu(), 3, 10, 5, 1, 4, []),
        initialize=False,
        log=lambda line: None,
    )
    trained(ours)
    expected = [math.log(record.perplexity) for record in history]
    assert [record.train_loss for record in ours.history] == pytest.approx(expected, rel=1e-5)


def test_dropout_changes_training_and_not_evaluation(text):
    losses = {p: trained(learner(text, dropout=p)).history[-1].train_loss for p in (0.0, 0.5)}
    assert losses[0.5] > losses[0.0] + 0.01
    dropped = learner(text, dropout=0.5)
    assert evaluate(dropped.model, text[1]) == evaluate(dropped.model, text[1])


def test_the_validation_loss_is_that_of_the_model_after_the_epoch(text):
    here = learner(text)
    record = here.train_epoch()
    assert record.valid_loss == evaluate(here.model, text[1][1500:]).nats
    assert 0 < record.valid_loss < math.log(len(text[0])) + 0.1


def test_training_takes_at_most_the_time_that_passed(text):
    here, started = learner(text), time.perf_counter()
    first, second = here.train_epoch(), here.train_epoch()
    passed = time.perf_counter() - started
    assert 0 < first.seconds < second.seconds <= passed


def test_training_stops_early_when_nothing_gets_better(text):
    here = trained(learner(text, lr=1e-30, patience=2, num_epochs=50))
    assert len(here.history) == 3 and "has not improved for 2 epochs" in here.finished
    assert here.best.epoch == 1


def test_the_learning_rate_follows_the_schedule(text):
    rates = [
        r.learning_rate for r in trained(learner(text, schedule="step", decay_epochs=1)).history
    ]
    assert rates == [0.01, 0.005]


@pytest.mark.parametrize("changed", [{"optimizer": "sgd", "lr": 1e30}, {"lr": 1e37}])
def test_divergence_names_the_settings_to_change(text, changed):
    here = learner(text, clipping_theta=1e30, **changed)
    with pytest.raises(Diverged, match="diverged in epoch .*Lower the learning rate .lr, now 1e"):
        trained(here)


def test_a_loss_without_a_finite_perplexity_is_divergence(text):
    """The losses are finite numbers, but exp of them is not."""
    with pytest.raises(Diverged, match=r"the loss of minibatch \d is \d"):
        trained(learner(text, lr=1e6))
    here = learner(text)
    for param in here.model.collect_params().values():
        param.set_data(param.data() * 1e5)
    with pytest.raises(Diverged, match=r"the loss of the validation part is \d"):
        here._score()


def test_a_model_that_is_not_finite_is_not_saved(text):
    here = learner(text)
    bias = here.model.dense.bias
    bias.set_data(bias.data() * math.nan)
    with pytest.raises(Diverged, match=r"the parameter dense.bias is not finite"):
        here.state_dict()


def test_a_wrong_part_is_named(text):
    arrays, data = capture(trained(learner(text)))
    name = "params/dense.bias"
    for change, words in [
        (lambda a: a.pop(name), f"{name} is missing"),
        (lambda a: a.update({"params/more": a[name]}), "params/more is unexpected"),
        (lambda a: a.update({name: a[name][:-1]}), f"{name} has the shape"),
        (lambda a: a.pop("optimizer/0/0"), "optimizer/0/0 is missing"),
    ]:
        wrong = dict(arrays)
        change(wrong)
        with pytest.raises(ValueError, match=words):
            learner(text).load_state_dict(wrong, data)


@pytest.mark.parametrize(
    "optimizer, options, words",
    [
        ("lbsgd", {"batch_scale": 2}, "lbsgd has no option 'batch_scale'"),
        ("adam", {"beta1": 1.0}, "adam fails with the options {'beta1': 1.0}: ZeroDivisionError"),
        ("adam", {"epsilon": 1e39}, "adam fails with the options .*: Out of range value"),
        ("dcasgd", {"momentum": 0.9}, "dcasgd fails with the options {'momentum': 0.9}"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(text, optimizer, options, words):
    with pytest.raises(SettingsError, match=words):
        learner(text, optimizer=optimizer, optimizer_options=options)


def test_invalid_options_of_an_older_run_are_refused_on_resume(text):
    """Its model can still be loaded."""
    vocab, indices = text
    stored = as_dict(TrainSettings(**{**SMALL, "optimizer": "lbsgd"}))
    settings = from_dict({**stored, "optimizer_options": {"batch_scale": 2.0}})
    model = build_model(settings, len(vocab))
    with pytest.raises(SettingsError, match="has no option 'batch_scale'"):
        Learner(settings, model, indices[:1500], indices[1500:], mx.cpu())


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lamb"])
def test_tiny_learning_rates_work(text, optimizer):
    for rate in (1e-36, 1e-20):
        changed = {"lr": rate, "schedule": "step", "lr_decay": 1e-9, "decay_epochs": 1}
        assert len(trained(learner(text, optimizer=optimizer, **changed, **TINY)).history) == 2


def test_settings_of_another_type_are_refused(text, tmp_path):
    model = d2l.RNNModel(gluon.rnn.LSTM(4), len(text[0]))
    for call in (
        lambda: Learner({}, model, text[1], text[1], mx.cpu()),
        lambda: new_model({}, 5, mx.cpu()),
        lambda: runs.train({}, tmp_path / "run"),
    ):
        with pytest.raises(TypeError, match="settings must be a TrainSettings, not {}"):
            call()


def test_a_short_text_is_refused(text):
    with pytest.raises(
        ValueError, match="the text to train on has 1,500 characters, but batch_size"
    ):
        learner(text, batch_size=1000)


@pytest.mark.parametrize("layer, axis", [(gluon.rnn.LSTM(8), 1), (gluon.rnn.LSTMCell(8), 0)])
def test_the_axis_of_the_rows_in_a_hidden_state(text, layer, axis):
    """Several ranks join their rows along that axis."""
    vocab, indices = text
    model = d2l.RNNModel(layer, len(vocab))
    model.initialize()
    its = Learner(TrainSettings(**SMALL), model, indices[:1500], indices[1500:], mx.cpu())
    with pytest.raises(Stopped):
        its.train_epoch([StopIf(lambda: True)])
    gathered = []

    class Two(Ranks):
        size = 2

        def gather(self, array, axis):
            gathered.append(axis)
            return array

    its._ranks = Two()
    its.state_dict()
    assert [state.shape[axis] for state in arrays_in(its.state)] == [8, 8]
    assert gathered == [axis, axis]


class OneArray(gluon.Block):
    """Its state is one array (batch_size, 4), not a list."""

    def __init__(self, size):
        super().__init__()
        self.embedding = gluon.nn.Embedding(size, 4)
        self.dense = gluon.nn.Dense(size, in_units=4)

    def begin_state(self, batch_size, ctx):
        return nd.zeros((batch_size, 4), ctx=ctx)

    def forward(self, inputs, state):
        steps = []
        for index in inputs.T:
            state = nd.tanh(self.embedding(index) + state)
            steps.append(self.dense(state))
        return nd.concat(*steps, dim=0), state


class Nested(OneArray):
    """Its state has an array in a named tuple, a dict, a list, and None beside it."""

    def begin_state(self, batch_size, ctx):
        return self.packed(super().begin_state(batch_size, ctx))

    def packed(self, array):
        return Named(collections.OrderedDict(own=[array, None], twice=2 * array))

    def forward(self, inputs, state):
        parts = state.part
        scores, array = super().forward(inputs, (parts["own"][0] + parts["twice"]) / 3)
        parts = self.packed(array).part
        return scores, Named({"twice": parts["twice"], "own": parts["own"]})  # in another order


Named = collections.namedtuple("Named", "part")


class WithNumber(Nested):
    def packed(self, array):
        return Named({"own": [array, 7], "twice": 2 * array})


class NoState(OneArray):
    def begin_state(self, batch_size, ctx):
        return None

    def forward(self, inputs, state):
        return super().forward(inputs, nd.zeros((len(inputs), 4)))[0], None


class WithDropout(OneArray):
    """A custom layer that draws random numbers independently of the settings."""

    def forward(self, inputs, state):
        scores, state = super().forward(inputs, state)
        return nd.Dropout(scores, p=0.5), state


class WithConstants(OneArray):
    """Constants that are large or integers."""

    def __init__(self, size):
        super().__init__(size)
        self.large = self.params.get_constant("large", nd.array([-1e30]))
        self.counts = self.params.get_constant("counts", nd.array([7], dtype="int32"))


def own_learner(text, kind):
    vocab, indices = text
    d2l.set_seed(1)
    model = kind(len(vocab))
    model.initialize()
    return Learner(TrainSettings(**SMALL), model, indices[:600], indices[600:700], mx.cpu())


def stopped_in_the_second_epoch(its):
    its.train_epoch()
    with pytest.raises(Stopped):
        its.train_epoch([StopIf(lambda: its.position == 3)])
    return its


@pytest.mark.parametrize("kind", [OneArray, Nested, NoState, WithDropout, WithConstants])
def test_a_custom_model_resumes_exactly(text, kind):
    through = own_learner(text, kind)
    through.train_epoch()
    between, record = through.state_dict(), through.train_epoch()
    assert not any(name.startswith("state/") for name in between[0])
    for state in (between, stopped_in_the_second_epoch(own_learner(text, kind)).state_dict()):
        resumed = own_learner(text, kind)
        resumed.load_state_dict(*state)
        assert resumed.train_epoch()[:4] == record[:4]


def test_a_state_that_cannot_be_saved_is_refused(text):
    with pytest.raises(TypeError, match="the hidden state contains a int"):
        stopped_in_the_second_epoch(own_learner(text, WithNumber)).state_dict()


class Losses(Callback):
    def __init__(self):
        self.known, self.all = [], []

    def after_step(self, trainer, progress):
        self.known.append(len(trainer.losses))
        assert progress.loss == (trainer.losses[-1] if trainer.losses else None)

    def before_scoring(self, trainer):
        self.all += trainer.losses


def test_a_callback_sees_the_losses_a_few_minibatches_later_and_all_before_scoring(text):
    here, losses = learner(text, num_epochs=2), Losses()
    assert here.fit(2, [losses]) == "all epochs are done"
    num_minibatches = len(losses.all) // 2
    later = [max(0, i - IN_FLIGHT) for i in range(1, num_minibatches + 1)]
    assert losses.known == later * 2 and num_minibatches > IN_FLIGHT
    assert all(type(loss) is float for loss in losses.all)
    first = losses.all[:num_minibatches]
    assert math.fsum(first) / len(first) == here.history[0].train_loss


def test_what_is_no_callback_is_refused(text):
    here = learner(text)
    for wrong in (print, [print], Losses()):
        with pytest.raises(TypeError, match="callbacks must be a list of Callback objects, not"):
            here.train_epoch(wrong)
        with pytest.raises(TypeError, match="callbacks must be a list of Callback objects, not"):
            here.fit(1, wrong)
    with pytest.raises(ValueError, match="num_epochs"):
        here.fit(1.5)


class AddsALayer(Callback):
    def after_epoch(self, trainer, record):
        trainer.model.more = gluon.nn.Dense(2, in_units=2)
        trainer.model.more.initialize()


def test_a_layer_that_a_callback_adds_is_not_left_untrained(text):
    here = learner(text)
    with pytest.raises(ValueError, match="has other parameters than when the learner was made"):
        here.fit(2, [AddsALayer()])
    assert len(here.history) == 1


def test_a_forked_process_may_train_while_another_thread_does(text):
    trains, done = threading.Event(), threading.Event()

    def hold():
        with exclusive_generators():
            trains.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    trains.wait()
    child = os.fork()
    if not child:
        with exclusive_generators():
            os._exit(0)
    done.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


class Draws(Callback):
    """Draws random numbers wherever a callback is called."""

    def draw(self, *args):
        random.random()

    before_epoch = after_step = before_scoring = after_epoch = draw


def test_callbacks_may_draw_random_numbers(text):
    changed = {"sampling": "random", "num_epochs": 3}
    expected, its = trained(learner(text, **changed)), learner(text, **changed)
    its.train_epoch([Draws()])
    with pytest.raises(Stopped):
        its.train_epoch([Draws(), StopIf(lambda: its.position == 3)])
    state = its.state_dict()
    resumed = learner(text, **changed)
    resumed.load_state_dict(*state)
    for one in (its, resumed):
        one.fit(3, [Draws()])
        assert_same(one, expected)


def test_a_model_may_draw_from_pythons_generator(text):
    """As stochastic depth does: new numbers in each epoch, and the same ones after a resume."""
    drawn = []

    class Noisy(d2l.RNNModel):
        def forward(self, inputs, state):
            drawn.append(random.random())
            outputs, state = super().forward(inputs, state)
            return outputs * (0.5 + drawn[-1]), state

    vocab, indices = text

    def new():
        d2l.set_seed(1)
        model = Noisy(gluon.rnn.GRU(8), len(vocab))
        model.initialize()
        settings = TrainSettings(**SMALL, sampling="random")
        return Learner(settings, model, indices, indices[:0], d2l.try_gpu())

    expected = new()
    expected.fit(2)
    draws = [x for x in drawn if drawn.count(x) == 1]
    assert len(draws) > len(drawn) / 2 and len(drawn) > 10
    its, resumed = new(), new()
    with pytest.raises(Stopped):
        its.train_epoch([StopIf(lambda: its.position == 5)])
    resumed.load_state_dict(*its.state_dict())
    resumed.fit(2)
    assert_same(resumed, expected)


def test_going_back_after_an_interruption(text):
    its = learner(text)
    its.train_epoch()
    saved = its.state_dict()
    expected = its.train_epoch()
    its.load_state_dict(*saved)
    with pytest.raises(Stopped):
        its.train_epoch([StopIf(lambda: its.position == 6)])
    its.load_state_dict(*saved)
    assert its.train_epoch()[:4] == expected[:4]


@pytest.mark.parametrize(
    "forged",
    [
        {"position": 10**9},
        {"position": -3},
        {"losses": [float("nan")], "position": 1},
        {"losses": [1e308, 1e308], "position": 2},
        {"seconds": float("nan")},
        {"history": [[1, float("nan"), None, 0.01, 1.0]]},
        {"random": "pos"},
        {"random": "key"},
        {"optimizer": ("beta1", 0.5)},
        {"optimizer": ("lr", float("inf"))},
    ],
    ids=str,
)
def test_a_forged_state_is_refused(text, forged):
    its = learner(text)
    arrays, data = its.state_dict()
    if forged == {"random": "pos"}:  # NumPy would read far beyond its table
        data["random"]["numpy"]["state"]["pos"] = 10**9
    elif forged == {"random": "key"}:
        del data["random"]["numpy"]["state"]["key"][5:]
    elif "optimizer" in forged:  # the run would be trained with other options than it shows
        data["optimizer"]["numbers"].update([forged["optimizer"]])
    else:
        data.update(forged)
    with pytest.raises(ValueError, match="position|not finite|not valid|optimizer"):
        its.load_state_dict(arrays, data)


@pytest.mark.parametrize("dtype", ["int8", ">f4", "uint64"])
def test_a_hidden_state_of_a_forged_type_is_refused(text, dtype):
    its = learner(text)
    with pytest.raises(Stopped):
        its.train_epoch([StopIf(lambda: its.position == 2)])
    arrays, data = its.state_dict()
    arrays["state/0"] = arrays["state/0"].astype(dtype)
    with pytest.raises(ValueError, match="its hidden state has the type"):
        learner(text).load_state_dict(arrays, data)


def test_a_model_may_have_a_method_called_vocab_size(text):
    vocab, indices = text
    model = d2l.RNNModel(gluon.rnn.GRU(8), len(vocab))
    model.initialize()

    class Renamed(gluon.Block):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def vocab_size(self):
            return self.model.vocab_size

        def forward(self, inputs, state):
            return self.model(inputs, state)

        def begin_state(self, **how):
            return self.model.begin_state(**how)

    its = Learner(TrainSettings(**SMALL), Renamed(model), indices, indices[:100], d2l.try_gpu())
    assert its.train_epoch().valid_loss == evaluate(Renamed(model), indices[:100], mx.cpu()).nats


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_epoch_that_a_callback_interrupted_can_be_finished(text, error):
    class Interrupt(Callback):
        def after_step(self, trainer, progress):
            if progress.minibatch == 3:
                raise error

    expected = own_learner(text, OneArray).train_epoch()
    its = own_learner(text, OneArray)
    with pytest.raises(error):
        its.train_epoch([Interrupt()])
    assert len(its.state_dict()[1]["losses"]) == its.position == 3
    assert its.train_epoch()[:4] == expected[:4]


def test_a_model_with_deferred_shapes_is_saved_and_restored(text):
    vocab, indices = text

    def deferred():
        d2l.set_seed(1)
        model = d2l.RNNModel(gluon.rnn.GRU(8), len(vocab))
        model.initialize()
        return Learner(TrainSettings(**SMALL), model, indices[:1500], indices[1500:], mx.cpu())

    before, after = deferred().state_dict(), deferred()
    record = after.train_epoch()
    resumed = deferred()
    resumed.load_state_dict(*before)
    assert resumed.train_epoch()[:4] == record[:4]


def test_double_precision_is_kept_by_a_checkpoint(text):
    vocab, indices = text
    model = d2l.RNNModel(gluon.rnn.LSTM(8, input_size=len(vocab)), len(vocab))
    model.initialize()
    model(nd.zeros((1, 1)), model.begin_state(1))
    model.cast("float64")
    param = model.dense.weight
    values = {name: p.asnumpy() + 1e-12 for name, p in parameters_of(model).items()}
    set_parameters(model, values, mx.cpu())
    np.testing.assert_array_equal(param.data().asnumpy(), values["dense.weight"])


def test_a_training_in_another_thread_is_refused(text, tmp_path):
    """Both would use the same generators. The first training is not affected."""
    changed = {"num_examples": 3000, "sampling": "random", "dropout": 0.3}
    settings = TrainSettings(**{**SMALL, **changed})
    alone = runs.train(settings, tmp_path / "alone").history
    messages = []

    def train_others():
        for begin in (
            lambda: runs.train(settings, tmp_path / "other"),
            lambda: learner(text),
            lambda: reproduce(tmp_path / "chapter", SAMPLE_TEXT, 1),
        ):
            with pytest.raises(GeneratorsInUse) as error:
                begin()
            messages.append(str(error.value))

    def on_epoch(record):
        thread = threading.Thread(target=train_others)
        thread.start()
        thread.join()

    beside = runs.train(settings, tmp_path / "first", on_epoch=on_epoch).history
    assert len(messages) == 6 and "another thread of this process is training" in messages[0]
    assert [record[:3] for record in beside] == [record[:3] for record in alone]
    assert not (tmp_path / "other").exists()
