"""Settings of a training run: checked as a whole, and kept as JSON."""

import copy
import dataclasses
import json
import math
import pickle
from dataclasses import MISSING

import numpy as np
import pytest

from d2l_deeprnn.training.settings import (
    SettingsError,
    TrainSettings,
    as_dict,
    base_rate,
    differences,
    fields,
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
        ({"corpus": (1,)}, "corpus must contain strings, not 1"),
        ({"cell": "lstn"}, "cell must be one of lstm, gru, rnn, not 'lstn'"),
        ({"num_layers": 0}, "num_layers must be a whole number of at least 1, not 0"),
        ({"num_hiddens": 2.5}, "num_hiddens"),
        ({"num_hiddens": 10**299}, "num_hiddens must be at most"),
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
        ({"optimizer": "adamm", "lr": None}, "optimizer must be one of adadelta, .*, not 'adamm'"),
        ({"optimizer": "lars"}, "optimizer must be one of adadelta, .*, not 'lars'"),
        ({"optimizer": None}, "optimizer must be one of adadelta, .*, not None"),
        ({"optimizer": "adadelta", "lr": 0.1}, "adadelta has no learning rate: leave out lr"),
        ({"optimizer": "adadelta", "lr": None, "schedule": "step"}, "adadelta has no learning"),
        (
            {"optimizer_options": {"learning_rate": 3}},
            "'learning_rate': set the learning rate with lr",
        ),
        ({"optimizer_options": {"lr": 3}}, "'lr': set the learning rate with lr"),
        ({"optimizer_options": {1: 3}}, "optimizer_options must map names to numbers"),
        ({"optimizer_options": {"beta3": 1}}, "optimizer adam has no option 'beta3': it has beta1"),
        ({"lr": 1e39}, "lr must be from 1e-36 to 1e.38, not 1e.39: MXNet computes with 32-bit"),
        ({"lr": 1e-40}, "lr must be from 1e-36"),
        ({"clipping_theta": 1e39}, "clipping_theta must be from 1e-36"),
        ({"encoding": "nonsense"}, "encoding must be an encoding that Python knows.* 'nonsense'"),
        ({"encoding": "hex"}, "encoding must be an encoding that Python knows"),
        ({"encoding": 8}, "encoding must be an encoding that Python knows"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(changed, words):
    with pytest.raises(SettingsError, match=words):
        settings(**changed)


def copies(made):
    yield made
    yield copy.copy(made)
    yield copy.deepcopy(made)
    yield pickle.loads(pickle.dumps(made))
    yield dataclasses.replace(made, seed=made.seed)
    yield TrainSettings(**dataclasses.asdict(made))
    yield from_dict(json.loads(json.dumps(as_dict(made))))


def test_a_default_learning_rate_does_not_become_another_optimizers():
    for made in copies(TrainSettings(corpus=("text",))):
        with pytest.raises(SettingsError, match="lr must be given with optimizer 'adam'"):
            dataclasses.replace(made, optimizer="adam")
        assert dataclasses.replace(made, optimizer="adam", lr=0.1).lr == 0.1
        assert base_rate(dataclasses.replace(made, optimizer="adadelta")) == 1
        assert base_rate(dataclasses.replace(made, seed=1)) == 5
    for made in copies(TrainSettings(corpus=("text",), lr=3.0)):
        assert dataclasses.replace(made, optimizer="adam").lr == 3
    given = TrainSettings(corpus=("text",), lr=5.0)
    assert dataclasses.replace(given, optimizer="adam").lr == 5


def test_an_optimizers_name_is_the_same_in_any_case():
    assert settings(optimizer="Adam") == settings(optimizer="adam")
    assert from_dict({**as_dict(settings()), "optimizer": "ADAM"}).optimizer == "adam"


def test_settings_can_be_hashed():
    there, here = {"beta1": 0.8, "beta2": 0.9}, {"beta2": 0.9, "beta1": 0.8}
    given = settings(optimizer_options=there)
    for made in [*copies(given), settings(optimizer_options=here)]:
        assert made == given and hash(made) == hash(given)
    there["beta1"] = 0.1
    assert given.optimizer_options == {"beta1": 0.8, "beta2": 0.9}
    assert len({given, settings(), settings()}) == 2


def test_an_encoding_has_one_name():
    assert settings(encoding="windows-1252") == settings(encoding="CP1252")
    assert settings(encoding="utf8").encoding == "utf-8" and settings().encoding is None


def test_the_docstring_describes_each_setting():
    words = " ".join(TrainSettings.__doc__.split("Attributes:")[1].split())
    for name, setting in fields(TrainSettings).items():
        assert f"{name}: {setting.description}" in words


def test_a_default_is_a_value_that_its_declaration_allows():
    for name, setting in fields(TrainSettings).items():
        if setting.default not in (MISSING, None):
            setting.kind.check(name, setting.default)
        assert (setting.default is None) == bool(setting.none_means), name


def test_unknown_names_are_refused():
    values = as_dict(settings())
    for odd in ({**values, "more": 1}, {**values, 1: 1}):
        with pytest.raises(SettingsError, match="unknown settings"):
            from_dict(odd)
    for odd in ([], None, "text"):
        with pytest.raises(SettingsError, match="settings must map names to values, not"):
            from_dict(odd)


def test_a_missing_setting_gets_its_default():
    made = settings(lr=0.002, num_hiddens=8)
    values = as_dict(made)
    for name in values.keys() - {"corpus", "lr", "optimizer", "num_hiddens"}:
        assert from_dict({k: v for k, v in values.items() if k != name}) == made
    with pytest.raises(SettingsError, match="setting 'corpus' is missing"):
        from_dict({k: v for k, v in values.items() if k != "corpus"})
    with pytest.raises(SettingsError, match="lr must be given with optimizer 'adam'"):
        from_dict({k: v for k, v in values.items() if k != "lr"})


# Settings in a config.json of version 0.1.
OLDER = {
    "corpus": ["text"],
    "num_examples": None,
    "keep_case": False,
    "keep_whitespace": False,
    "valid_fraction": 0.1,
    "test_fraction": 0.0,
    "cell": "lstm",
    "num_layers": 2,
    "num_hiddens": 256,
    "dropout": 0.0,
    "init": "normal",
    "forget_bias": 0.0,
    "batch_size": 32,
    "num_steps": 35,
    "sampling": "adjacent",
    "num_epochs": 50,
    "optimizer": "sgd",
    "optimizer_options": {},
    "lr": 5,
    "schedule": "constant",
    "lr_decay": 0.5,
    "decay_epochs": 10,
    "warmup_epochs": 0.0,
    "clipping_theta": 1,
    "patience": None,
    "seed": 0,
}


def test_an_older_run_can_be_read():
    assert from_dict(OLDER) == TrainSettings(corpus=("text",))
    options = {"learning_rate": 3.0, "momentum": 0.9}
    assert from_dict({**OLDER, "optimizer_options": options}).optimizer_options == options
    rate = {"optimizer": "adadelta", "lr": 0.01, "schedule": "cosine"}
    assert from_dict({**OLDER, **rate}) == TrainSettings(corpus=("text",), optimizer="adadelta")


def test_differences_have_both_values():
    assert differences(settings(), settings(lr=2.0)) == {"lr": (1.0, 2.0)}


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


def test_plateau_waits_for_a_better_loss():
    given = settings(schedule="plateau", lr_decay=0.1, decay_epochs=2)
    losses = [3.0, 2.0, 2.5, 1.5, 1.5, 1.6, 1.7, 1.4, 1.4, 1.4, 1.4, 1.4]
    rates = [learning_rate(given, done, losses[:done]) for done in range(len(losses) + 1)]
    # Two epochs without a loss below 1.5, then twice two without one below 1.4.
    times = [0] * 6 + [1] * 4 + [2, 2, 3]
    assert rates == pytest.approx([0.1**n for n in times])
    with pytest.raises(SettingsError, match="schedule 'plateau' needs a validation part"):
        settings(schedule="plateau", valid_fraction=0.0)


def test_the_learning_rate_stays_within_limits():
    for decay in (1e30, 1e-30):
        for schedule in ("step", "plateau"):
            given = settings(schedule=schedule, lr_decay=decay, decay_epochs=1)
            assert 1e-36 <= learning_rate(given, 49, [1.0] * 49) <= 1e38


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
