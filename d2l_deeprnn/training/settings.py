"""What a training run is told, checked as a whole before anything starts."""

from __future__ import annotations

import dataclasses
import math
import numbers
from dataclasses import dataclass
from typing import Any, Dict, Mapping, NoReturn, Optional, Tuple

import numpy as np

from .._checks import (
    LARGEST_FLOAT,
    SMALLEST_FLOAT,
    float32,
    positive_int,
    positive_number,
    text_encoding,
    whole_number,
)
from .._mxnet import optimizers

CELLS = ("lstm", "gru", "rnn")
SAMPLINGS = ("adjacent", "random")
SCHEDULES = ("constant", "step", "cosine")
SGD_LR = 5.0  # the learning rate of the default optimizer
INITIALIZERS = ("normal", "xavier", "orthogonal")


class SettingsError(ValueError):
    """A setting cannot be used, or does not go with another one."""


class _Options(Dict[str, float]):
    """A dictionary that nobody can change, so that it has a hash."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("settings cannot be changed: make others with dataclasses.replace")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = _refuse  # type: ignore[assignment]
    setdefault = update = _refuse  # type: ignore[assignment]

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> Any:  # for copies and pickles, which would set item after item
        return type(self), (dict(self),)


class _DefaultRate(float):
    """A learning rate that was not given, which ``dataclasses.replace`` then does not give on."""


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides what a training run computes.

    The defaults are the chapter's, but for the whole text in place of its
    first 10,000 characters, a tenth of it held out, and 50 epochs.

    Attributes:
        corpus: known names or paths, one after another one text.
        num_examples: characters taken from its beginning; all if None.
        keep_case, keep_whitespace: leave capitals, and line ends and blanks,
            as they are; the chapter folds both.
        valid_fraction, test_fraction: parts held out, in file order: first
            what is trained on, then the validation part, then the test part.
        cell: "lstm", "gru" or "rnn" (with tanh).
        num_layers, num_hiddens: depth and width.
        dropout: fraction of each layer's outputs set to 0 in training, the
            same units at every time step of a minibatch.
        init: "normal", the chapter's Normal(0.01); "xavier"; "orthogonal"
            (the square matrices of each gate; the others Xavier).
        forget_bias: added to the LSTM's forget gate at the start.
        batch_size, num_steps: rows and columns of a minibatch.
        sampling: "adjacent", hidden state carried over, or "random".
        num_epochs: passes over the training part, at most.
        optimizer: name of a Gluon optimizer, in any case.
        optimizer_options: its further arguments, for instance momentum. What
            would have no effect is refused. The mapping cannot be changed.
        lr: learning rate; 5 for the chapter's SGD. Others have to be told, but
            for adadelta, which has none: it is 1, and the schedule constant.
        schedule: "constant"; "step": times ``lr_decay`` every ``decay_epochs``;
            "cosine": falls to 0 at the end.
        warmup_epochs: the rate rises linearly over these first epochs.
        clipping_theta: largest L2 norm of all gradients together.
        patience: stop after so many epochs without a better validation loss.
        seed: where the random generators start.
        encoding: that of the files in ``corpus``; None for UTF-8.

    Raises:
        SettingsError: names the setting, its value, and what would be right.
    """

    corpus: Tuple[str, ...]
    num_examples: Optional[int] = None
    keep_case: bool = False
    keep_whitespace: bool = False
    valid_fraction: float = 0.1
    test_fraction: float = 0.0
    cell: str = "lstm"
    num_layers: int = 2
    num_hiddens: int = 256
    dropout: float = 0.0
    init: str = "normal"
    forget_bias: float = 0.0
    batch_size: int = 32
    num_steps: int = 35
    sampling: str = "adjacent"
    num_epochs: int = 50
    optimizer: str = "sgd"
    optimizer_options: Mapping[str, float] = dataclasses.field(default_factory=dict)
    lr: Optional[float] = None
    schedule: str = "constant"
    lr_decay: float = 0.5
    decay_epochs: int = 10
    warmup_epochs: float = 0.0
    clipping_theta: float = 1
    patience: Optional[int] = None
    seed: int = 0
    encoding: Optional[str] = None

    def __post_init__(self) -> None:
        if isinstance(self.lr, _DefaultRate):
            object.__setattr__(self, "lr", None)
        try:
            self._check()
            if self.encoding is not None:
                object.__setattr__(self, "encoding", text_encoding("encoding", self.encoding))
        except SettingsError:
            raise
        except ValueError as error:
            raise SettingsError(str(error)) from None
        object.__setattr__(self, "optimizer", self.optimizer.lower())
        if self.lr is None:
            rate = 1 if self.optimizer == "adadelta" else SGD_LR
            object.__setattr__(self, "lr", _DefaultRate(rate))
        object.__setattr__(self, "corpus", tuple(self.corpus))
        _set_options(self, self.optimizer_options)
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))

    def _check(self) -> None:
        corpus: Any = self.corpus
        if not isinstance(corpus, (list, tuple)) or not corpus:
            raise SettingsError(
                f"corpus must be a list of at least one name or path, not {corpus!r}"
            )
        for source in self.corpus:
            if not isinstance(source, str):
                raise SettingsError(f"corpus must hold strings, not {source!r}")
        for name, choices in [
            ("cell", CELLS),
            ("sampling", SAMPLINGS),
            ("schedule", SCHEDULES),
            ("init", INITIALIZERS),
        ]:
            if getattr(self, name) not in choices:
                raise SettingsError(
                    f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}"
                )
        for name in ("num_layers", "num_hiddens", "batch_size", "num_steps", "num_epochs"):
            positive_int(name, getattr(self, name))
        positive_int("decay_epochs", self.decay_epochs)
        for name in ("num_examples", "patience"):
            if getattr(self, name) is not None:
                positive_int(name, getattr(self, name))
        for name in ("valid_fraction", "test_fraction", "dropout"):
            _fraction(name, getattr(self, name))
        if self.valid_fraction + self.test_fraction >= 1:
            raise SettingsError(
                f"valid_fraction {self.valid_fraction} and test_fraction {self.test_fraction} "
                "leave nothing to train on: together they must stay below 1"
            )
        if self.patience is not None and self.valid_fraction == 0:
            raise SettingsError("patience needs a validation part: set valid_fraction above 0")
        for name in ("keep_case", "keep_whitespace"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name} must be true or false, not {getattr(self, name)!r}")
        self._check_optimizer()
        for name in ("lr", "lr_decay", "clipping_theta"):
            value = getattr(self, name)
            if value is not None:
                positive_number(name, value)
                float32(name, value)
        _finite("forget_bias", self.forget_bias)
        if self.forget_bias and self.cell != "lstm":
            raise SettingsError(f"forget_bias is for the lstm: a {self.cell} has no forget gate")
        _finite("warmup_epochs", self.warmup_epochs)
        if not 0 <= self.warmup_epochs <= self.num_epochs:
            raise SettingsError(
                f"warmup_epochs must be from 0 to num_epochs, {self.num_epochs}, "
                f"not {self.warmup_epochs!r}"
            )
        whole_number("seed", self.seed, 0)
        if self.seed > 2**31 - 1:
            raise SettingsError(f"seed must be at most {2**31 - 1}, not {self.seed}")

    def _check_optimizer(self) -> None:
        optimizers.check_name(self.optimizer)
        optimizer = self.optimizer.lower()
        optimizers.check_options(optimizer, _numbers(self.optimizer_options))
        if optimizer == "adadelta":
            if self.lr not in (None, 1) or self.schedule != "constant" or self.warmup_epochs:
                raise SettingsError(
                    "optimizer adadelta has no learning rate: leave out lr, schedule and "
                    "warmup_epochs"
                )
        elif self.lr is None and optimizer != "sgd":
            raise SettingsError(
                f"lr must be given with optimizer {optimizer!r}: "
                f"the default, {SGD_LR:g}, is for sgd (0.002 is usual for adam)"
            )


def as_dict(settings: TrainSettings) -> Dict[str, Any]:
    """The settings as JSON has them."""
    assert settings.lr is not None
    return {
        **dataclasses.asdict(settings),
        "corpus": list(settings.corpus),
        "optimizer_options": dict(settings.optimizer_options),
        "lr": float(settings.lr),
    }


def from_dict(values: Mapping[str, Any]) -> TrainSettings:
    """The settings that ``as_dict`` was given, by this version or an earlier one.

    A setting that did not exist then has its default. Options of the optimizer
    may be such as are refused today: whether training can go on with them is
    seen when it is to go on, and they are in nobody's way who only loads the
    model.

    Raises:
        SettingsError: if a name is unknown, one without a default is missing,
            or a value is not valid.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"settings must be names with values, not {values!r}")
    names = {field.name for field in dataclasses.fields(TrainSettings)}
    odd = sorted(map(repr, set(values) - names))
    if odd:
        raise SettingsError(f"settings do not fit this version, unknown: {', '.join(odd)}")
    if "corpus" not in values:
        raise SettingsError("settings do not fit this version, missing: 'corpus'")
    stored = dict(values)
    options = stored.pop("optimizer_options", {})
    optimizer = stored.get("optimizer", "sgd")
    # Whether it was given, or left to be the default, was not written down; if it was not given,
    # it must not become another optimizer's.
    if optimizer == "sgd" and stored.get("lr") == SGD_LR:
        del stored["lr"]
    if optimizer == "adadelta":  # earlier versions took these, and they did nothing
        for name in ("lr", "schedule", "warmup_epochs"):
            stored.pop(name, None)
    settings = TrainSettings(**stored)
    _set_options(settings, _numbers(options))
    return settings


def differences(there: TrainSettings, here: TrainSettings) -> Tuple[str, ...]:
    """Name the settings in which two runs differ, each with both values."""
    return tuple(
        f"{name}: {value!r} there, {as_dict(here)[name]!r} here"
        for name, value in as_dict(there).items()
        if value != as_dict(here)[name]
    )


def learning_rate(settings: TrainSettings, epochs_done: float) -> float:
    """The learning rate of the next minibatch.

    Args:
        settings: schedule and warm-up.
        epochs_done: since the start of training, with fractions.
    """
    assert settings.lr is not None
    if epochs_done < settings.warmup_epochs:
        # Half a minibatch cannot be done; a rate of 0 would waste the first one.
        factor: float = max(epochs_done / settings.warmup_epochs, 1e-3)
    elif settings.schedule == "step":
        try:
            factor = settings.lr_decay ** (epochs_done // settings.decay_epochs)
        except OverflowError:
            factor = math.inf
    elif settings.schedule == "cosine":
        falling = settings.num_epochs - settings.warmup_epochs
        done = (epochs_done - settings.warmup_epochs) / falling if falling else 0
        factor = 0.5 * (1 + math.cos(math.pi * done))
    else:
        factor = 1
    # Far from the numbers at which MXNet's operators fail.
    return min(max(settings.lr * factor, SMALLEST_FLOAT), LARGEST_FLOAT)


def _numbers(options: Any) -> Mapping[str, float]:
    """The options of an optimizer, if they are names with numbers."""
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise SettingsError(f"optimizer_options must be names with numbers, not {options!r}")
    for name, value in options.items():
        if not isinstance(value, bool):  # which is how a flag may be given
            _finite(f"optimizer option {name}", value)
    return options


def _set_options(settings: TrainSettings, options: Mapping[str, float]) -> None:
    plain = _Options({name: _plain(value) for name, value in options.items()})
    object.__setattr__(settings, "optimizer_options", plain)


def _plain(value: Any) -> Any:
    """A number of NumPy's as Python's own, which JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value


def _finite(name: str, value: Any) -> None:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not abs(float(value)) < float("inf"):
        raise SettingsError(f"{name} must be a finite number, not {value!r}")


def _fraction(name: str, value: Any) -> None:
    _finite(name, value)
    if not 0 <= value < 1:
        raise SettingsError(f"{name} must be at least 0 and below 1, not {value!r}")
