"""Training with any settings: optimizers, schedules, stopping, and going on to the bit."""

import json
import math

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import gluon, mx, nd
from d2l_deeprnn.corpora import SAMPLE_TEXT, load_text
from d2l_deeprnn.evaluate import evaluate
from d2l_deeprnn.learner import UNUSABLE, Diverged, Learner, Stopped
from d2l_deeprnn.settings import SettingsError, TrainSettings
from d2l_deeprnn.vocab import Vocab

SMALL = {
    "corpus": (SAMPLE_TEXT,),
    "num_hiddens": 8,
    "batch_size": 8,
    "num_steps": 10,
    "num_epochs": 2,
    "optimizer": "adam",
    "lr": 0.01,
}
OPTIMIZERS = sorted(set(mx.optimizer.Optimizer.opt_registry) - UNUSABLE)


@pytest.fixture(scope="module")
def text():
    text = load_text(SAMPLE_TEXT, 2000)
    vocab = Vocab(text)
    return vocab, vocab.encode(text)


def learner(text, **changed):
    vocab, indices = text
    settings = TrainSettings(**{**SMALL, **changed})
    return Learner(settings, len(vocab), indices[:1500], indices[1500:], mx.cpu())


def trained(learner):
    while not learner.finished:
        learner.train_epoch()
    return learner


def test_the_same_parameters_always_give_the_same_scores(text):
    arrays, data = trained(learner(text, num_hiddens=32, num_epochs=4)).capture()
    X = nd.array(text[1][1500:2000].reshape(2, 250))
    scores = set()
    others = []  # so that the networks do not lie where the one before lay
    for i in range(40):
        again = learner(text, num_hiddens=32)
        again.restore(arrays, data)
        output, _ = again.model(X, again.model.begin_state(batch_size=2, ctx=again.ctx))
        scores.add(output.asnumpy().tobytes())
        others.append(nd.zeros(1000 * i + 1))
    assert len(scores) == 1


def assert_same(a, b):
    (arrays, data), (others, other_data) = a.capture(), b.capture()
    assert arrays.keys() == others.keys()
    for name in arrays:
        assert np.array_equal(arrays[name], others[name]), name
    assert [record[:4] for record in a.history] == [record[:4] for record in b.history]
    for key in data.keys() - {"seconds", "history"}:
        assert data[key] == other_data[key], key


def trained_with_interruptions(text, every, **changed):
    """Trained by learners that each die after some minibatches and hand on what they captured."""
    asked = [0]

    def should_stop():
        asked[0] += 1
        return asked[0] % every == 0

    here, positions = learner(text, **changed), []
    while not here.finished:
        try:
            here.train_epoch(should_stop=should_stop)
        except Stopped:
            arrays, data = here.capture()
            positions.append(data["position"])
            here = learner(text, **changed)
            d2l.set_seed(12345)  # whatever else went on in the process
            here.restore(arrays, json.loads(json.dumps(data)))
    assert len(positions) >= 3 and all(positions)
    return here


@pytest.mark.parametrize("sampling", ["adjacent", "random"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_going_on_from_any_minibatch_is_exact(text, optimizer, sampling):
    changed = {
        "optimizer": optimizer,
        "sampling": sampling,
        "dropout": 0.3,
        "schedule": "cosine",
        "warmup_epochs": 0.5,
    }
    whole = trained(learner(text, **changed))
    assert_same(whole, trained_with_interruptions(text, 5, **changed))


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells_go_on_exactly_too(text, cell):
    whole = trained(learner(text, cell=cell, dropout=0.3))
    assert_same(whole, trained_with_interruptions(text, 4, cell=cell, dropout=0.3))


def test_options_of_the_optimizer_are_used_and_kept(text):
    changed = {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}, "lr": 1.0}
    whole = trained(learner(text, **changed))
    assert_same(whole, trained_with_interruptions(text, 5, **changed))
    plain = trained(learner(text, optimizer="sgd", lr=1.0))
    assert plain.history[-1].train_loss != whole.history[-1].train_loss


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


def test_training_stops_early_when_nothing_gets_better(text):
    here = trained(learner(text, lr=1e-30, patience=2, num_epochs=50))
    assert len(here.history) == 3 and "no better validation loss for 2 epochs" in here.finished
    assert here.best.epoch == 1


def test_the_learning_rate_follows_the_schedule(text):
    rates = [
        r.learning_rate for r in trained(learner(text, schedule="step", decay_epochs=1)).history
    ]
    assert rates == [0.01, 0.005]


@pytest.mark.parametrize("changed", [{"optimizer": "sgd", "lr": 1e30}, {"lr": 1e37}])
def test_divergence_says_what_to_change(text, changed):
    here = learner(text, clipping_theta=1e30, **changed)
    with pytest.raises(Diverged, match="diverged in epoch .*Lower the learning rate .lr, now 1e"):
        trained(here)


def test_nothing_is_captured_from_a_model_that_is_no_number_any_more(text):
    here = learner(text)
    bias = here.model.dense.bias
    bias.set_data(bias.data() * math.nan)
    with pytest.raises(Diverged, match=r"the parameter dense.bias is not finite"):
        here.capture()


def test_a_wrong_part_is_named(text):
    arrays, data = trained(learner(text)).capture()
    name = "params/dense.bias"
    for change, words in [
        (lambda a: a.pop(name), f"{name} is missing"),
        (lambda a: a.update({"params/more": a[name]}), "params/more is too many"),
        (lambda a: a.update({name: a[name][:-1]}), f"{name} has the shape"),
        (lambda a: a.pop("optimizer/0/0"), "optimizer/0/0 is missing"),
    ]:
        wrong = dict(arrays)
        change(wrong)
        with pytest.raises(ValueError, match=words):
            learner(text).restore(wrong, data)


@pytest.mark.parametrize("optimizer", ["adamm", *sorted(UNUSABLE)])
def test_an_optimizer_that_cannot_be_used_is_refused(text, optimizer):
    with pytest.raises(SettingsError, match=f"one of adadelta, .*, not '{optimizer}'"):
        learner(text, optimizer=optimizer)


@pytest.mark.parametrize(
    "optimizer, option", [("sgd", "beta"), ("sgd", "lr_scheduler"), ("adam", "param_dict")]
)
def test_an_option_that_the_optimizer_cannot_take_is_named(text, optimizer, option):
    with pytest.raises(
        SettingsError, match=f"optimizer {optimizer} cannot be made .*'{option}': 1"
    ):
        learner(text, optimizer=optimizer, optimizer_options={option: 1.0})


def test_a_short_text_says_what_would_fit(text):
    with pytest.raises(ValueError, match="the text has 1500 characters, but one minibatch"):
        learner(text, batch_size=1000)
