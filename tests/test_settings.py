"""Settings of a training run: checked as a whole, and kept as JSON."""

import json
import math

import numpy as np
import pytest

from d2l_deeprnn.settings import (
    SettingsError,
    TrainSettings,
    as_dict,
    differences,
    from_dict,
    learning_rate,
)


def settings(**changed):
    return TrainSettings(**{"corpus": ("text",), "optimizer": "adam", "lr": 1.0, **changed})


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"corpus": ()}, "corpus must be a list"),
        ({"corpus": "text"}, "corpus must be a list of at least one name or path, not 'text'"),
        ({"corpus": (1,)}, "corpus must hold strings, not 1"),
        ({"cell": "lstn"}, "cell must be one of lstm, gru, rnn, not 'lstn'"),
        ({"num_layers": 0}, "num_layers must be a whole number of at least 1, not 0"),
        ({"num_hiddens": 2.5}, "num_hiddens"),
        ({"num_examples": -1}, "num_examples"),
        ({"valid_fraction": 1}, "valid_fraction must be at least 0 and below 1, not 1"),
        ({"valid_fraction": 0.5, "test_fraction": 0.5}, "leave nothing to train on"),
        ({"dropout": math.nan}, "dropout must be a finite number"),
        ({"patience": 1, "valid_fraction": 0}, "patience needs a validation part"),
        ({"lr": None}, "lr must be given with optimizer 'adam'"),
        ({"lr": -1}, "lr must be a number above 0, not -1"),
        ({"lr": math.inf}, "lr must be a finite number"),
        ({"clipping_theta": 0}, "clipping_theta"),
        ({"forget_bias": 1, "cell": "gru"}, "a gru has no forget gate"),
        ({"warmup_epochs": 51}, "warmup_epochs must be from 0 to num_epochs, 50, not 51"),
        ({"optimizer_options": {"momentum": "much"}}, "optimizer option momentum"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**31}, "seed must be at most 2147483647"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(changed, words):
    with pytest.raises(SettingsError, match=words):
        settings(**changed)


def test_the_default_learning_rate_is_the_chapters_and_for_sgd():
    assert TrainSettings(corpus=("text",)).lr == 5


def test_they_come_back_from_json():
    given = settings(optimizer_options={"beta1": 0.8}, num_examples=100, corpus=("a", "b"))
    assert from_dict(json.loads(json.dumps(as_dict(given)))) == given


def test_unknown_and_missing_names_are_refused():
    values = as_dict(settings())
    for odd in ({**values, "more": 1}, {k: v for k, v in values.items() if k != "lr"}, [], None):
        with pytest.raises(SettingsError, match="settings do not fit this version"):
            from_dict(odd)


def test_differences_are_shown_with_both_values():
    assert differences(settings(), settings(lr=2.0)) == ("lr: 1.0 there, 2.0 here",)


def test_warm_up_is_linear_and_never_zero():
    rates = [learning_rate(settings(warmup_epochs=2), epochs) for epochs in (0, 0.5, 1, 2, 7)]
    assert rates == [0.001, 0.25, 0.5, 1, 1]


def test_cosine_falls_from_the_rate_to_zero():
    given = settings(schedule="cosine", warmup_epochs=10, num_epochs=50)
    rates = [learning_rate(given, epochs) for epochs in (5, 10, 30, 50)]
    assert rates == pytest.approx([0.5, 1, 0.5, 0], abs=1e-12)
    assert learning_rate(settings(schedule="cosine", warmup_epochs=50), 50) == 1


def test_step_multiplies_at_every_step():
    given = settings(schedule="step", lr_decay=0.1, decay_epochs=3)
    rates = [learning_rate(given, epochs) for epochs in (0, 2.9, 3, 5.9, 6)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_numpys_numbers_become_pythons():
    settings = TrainSettings(
        corpus=("a",),
        seed=np.int64(3),
        lr=np.float32(0.5),
        optimizer_options={"momentum": np.float64(0.9)},
    )
    text = json.dumps(as_dict(settings))
    assert from_dict(json.loads(text)) == settings
    assert '"seed": 3' in text and '"momentum": 0.9' in text
