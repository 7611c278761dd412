"""The settings of a training run, checked as a whole before anything starts.

Each setting is declared once, as a field of ``TrainSettings``, with its type, default, limits and
help. The checks, the command-line options and the reading of older files follow from that.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import os
from dataclasses import MISSING, dataclass
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from .._checks import (
    LARGEST_FLOAT,
    SMALLEST_FLOAT,
    positive_number,
    text_encoding,
    whole_number,
)
from .._mxnet import optimizers
from ..errors import D2LError

SGD_LR = 5.0  # default learning rate of sgd


class SettingsError(D2LError, ValueError):
    """A setting is not valid, or conflicts with another one."""


class Kind(NamedTuple):
    """The values that a setting accepts.

    Attributes:
        check: takes the setting's name and a value; raises a ValueError if the value is invalid.
        metavar: placeholder for a value in the help.
        choices: all values, if they can be listed.
        limits: minimum and maximum, if values are whole numbers; the maximum may be None.
        range: description of the values, if they are other numbers, with an example.
    """

    check: Callable[[str, Any], Any]
    metavar: str = "NAME"
    choices: Optional[Tuple[str, ...]] = None
    limits: Optional[Tuple[int, Optional[int]]] = None
    range: str = ""


class Field(NamedTuple):
    """The declaration of a setting: the metadata of a field of ``TrainSettings``.

    Attributes:
        default: ``dataclasses.MISSING`` if the setting is required.
        group: "data", "model", "optimization" or "run".
        kind: the values that it accepts, besides None if that is the default.
        help: its meaning.
        none_means: meaning of None, if that is the default.
    """

    default: Any
    group: str
    kind: Kind
    help: str
    none_means: str = ""

    @property
    def description(self) -> str:
        """The help text with the default."""
        default = self.default
        if default is MISSING:
            return self.help
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        shown = {"None": self.none_means, "False": "no", "{}": "no further ones"}.get(shown, shown)
        return f"{self.help} (default: {shown})"


def field(default: Any, *declaration: Any) -> Any:
    """Declare a field of ``TrainSettings``; the arguments are the attributes of ``Field``."""
    metadata = {"field": Field(default, *declaration)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, hash=False, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def fields(settings: Any) -> Dict[str, Field]:
    """Return the declarations of all settings of ``TrainSettings`` or an instance, by name."""
    return {field.name: field.metadata["field"] for field in dataclasses.fields(settings)}


def _one_of(*choices: str) -> Kind:
    def check(name: str, value: Any) -> None:
        if value not in choices:
            raise SettingsError(f"{name} must be one of {', '.join(choices)}, not {value!r}")

    return Kind(check, choices=choices)


def _whole(low: int, high: Optional[int] = None) -> Kind:
    def check(name: str, value: Any) -> None:
        whole_number(name, value, low)
        if high is not None and value > high:
            raise SettingsError(f"{name} must be at most {high}, not {value}")

    return Kind(check, "N", limits=(low, high))


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise SettingsError(f"{name} must be true or false, not {value!r}")


def _finite(name: str, value: Any) -> None:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not abs(float(value)) < float("inf"):
        raise SettingsError(f"{name} must be a finite number, not {value!r}")


def _fraction(name: str, value: Any) -> None:
    _finite(name, value)
    if not 0 <= value < 1:
        raise SettingsError(f"{name} must be at least 0 and below 1, not {value!r}")


def _positive(name: str, value: Any) -> None:
    positive_number(name, value)
    if not SMALLEST_FLOAT <= value <= LARGEST_FLOAT:
        raise SettingsError(
            f"{name} must be from {SMALLEST_FLOAT:g} to {LARGEST_FLOAT:g}, not {value!r}: "
            "MXNet computes with 32-bit floats"
        )


def _sources(name: str, value: Any) -> None:
    if not isinstance(value, (list, tuple)) or not value:
        raise SettingsError(f"{name} must be a list of at least one name or path, not {value!r}")
    for source in value:
        if not isinstance(source, str):
            raise SettingsError(f"{name} must contain strings, not {source!r}")


def _numbers(name: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise SettingsError(f"{name} must map names to numbers, not {value!r}")
    for key, number in value.items():
        if not isinstance(number, bool):  # True and False are allowed for flags
            _finite(f"optimizer option {key}", number)


SOURCES = Kind(_sources, metavar="NAME|FILE")
FLAG = Kind(_flag)
# Floats have all whole numbers up to 2**53. Only messages about larger values mention this limit.
COUNT, SEED = _whole(1, 2**53)._replace(limits=(1, None)), _whole(0, 2**31 - 1)
FRACTION = Kind(_fraction, "F", range="at least 0 and below 1, such as 0.1")
NUMBER = Kind(_finite, "X", range="a finite number, such as 1.5")
POSITIVE = Kind(_positive, "X", range="a number above 0, such as 0.5")
NUMBERS = Kind(_numbers, "NAME=NUMBER")


@dataclass(frozen=True)
class TrainSettings:
    """Everything that determines the result of a training run.

    The defaults are the chapter's, except for three: the whole text instead of its first 10,000
    characters, a tenth of it held out, and 50 epochs.

    Raises:
        SettingsError: if a setting is not valid; names it, its value and the valid values.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> settings = d2l.TrainSettings(corpus=("time_machine",), optimizer="adam", lr=0.002)
        >>> settings.cell, settings.num_hiddens
        ('lstm', 256)
    """

    # fmt: off
    corpus: Tuple[str, ...] = field(MISSING, "data", SOURCES,
        "known texts (see `d2l-deeprnn corpora`), files (.gz is unpacked) or directories of files, "
        "joined")
    num_examples: Optional[int] = field(None, "data", COUNT,
        "number of characters to take from the beginning", "all")
    keep_case: bool = field(False, "data", FLAG,
        "keep capital letters; the chapter converts them to lower case")
    keep_whitespace: bool = field(False, "data", FLAG,
        "keep line breaks and runs of white space; the chapter replaces each with one space")
    valid_fraction: float = field(0.1, "data", FRACTION,
        "fraction held out for validation, after the training part")
    test_fraction: float = field(0.0, "data", FRACTION,
        "fraction held out for testing, at the end of the text")
    cell: str = field("lstm", "model", _one_of("lstm", "gru", "rnn"),
        "recurrent cell; rnn is a plain RNN with tanh")
    num_layers: int = field(2, "model", _whole(1, 1000), "number of recurrent layers")
    num_hiddens: int = field(256, "model", COUNT, "number of hidden units in each layer")
    dropout: float = field(0.0, "model", FRACTION,
        "fraction of each layer's outputs that training sets to 0, the same units at every time "
        "step of a minibatch")
    init: str = field("normal", "model", _one_of("normal", "xavier", "orthogonal"),
        "initial weights; normal is the chapter's Normal(0.01); orthogonal makes the square "
        "matrix of each gate orthogonal and the other weights Xavier")
    forget_bias: float = field(0.0, "model", NUMBER,
        "initial value added to the bias of the LSTM's forget gate")
    batch_size: int = field(32, "optimization", COUNT, "number of rows in a minibatch")
    num_steps: int = field(35, "optimization", COUNT, "number of characters in each row")
    sampling: str = field("adjacent", "optimization", _one_of("adjacent", "random"),
        "order of the minibatches; with adjacent, the hidden state is "
        "carried from one minibatch to the next")
    num_epochs: int = field(50, "optimization", COUNT,
        "maximum number of passes over the training part")
    optimizer: str = field("sgd", "optimization",
        Kind(lambda name, value: optimizers.check_name(value)),
        f"one of Gluon's: {', '.join(optimizers.OPTIMIZERS)}")
    optimizer_options: Mapping[str, float] = field({}, "optimization", NUMBERS,
        "further arguments of the optimizer in Gluon, such as momentum=0.9")
    lr: Optional[float] = field(None, "optimization", POSITIVE, "learning rate",
        f"{SGD_LR:g} for sgd; other optimizers need one, except adadelta, which has none")
    schedule: str = field("constant", "optimization",
        _one_of("constant", "step", "cosine", "plateau"),
        "schedule of the learning rate: step multiplies it by lr_decay every decay_epochs epochs, "
        "plateau does so after decay_epochs epochs without a better validation loss, and cosine "
        "lowers it to 0")
    lr_decay: float = field(0.5, "optimization", POSITIVE,
        "factor of the schedules step and plateau")
    decay_epochs: int = field(10, "optimization", COUNT,
        "number of epochs between two changes of the schedules step and plateau")
    warmup_epochs: float = field(0.0, "optimization",
        NUMBER._replace(range="from 0 to the number of epochs, such as 1.5"),
        "number of epochs, possibly fractional, over which the learning rate first rises "
        "linearly")
    clipping_theta: float = field(1, "optimization", POSITIVE,
        "maximum L2 norm of all gradients together; larger gradients are scaled down to it")
    patience: Optional[int] = field(None, "optimization", COUNT,
        "stop after this number of epochs without a better validation loss", "never")
    seed: int = field(0, "run", SEED, "seed for all random number generators")
    encoding: Optional[str] = field(None, "data", Kind(text_encoding),
        "encoding of the files, such as cp1252", "utf-8")
    # fmt: on

    def __post_init__(self) -> None:
        try:
            self._check()
            values = {name: _plain(getattr(self, name)) for name in fields(self)}
            if self.encoding is not None:
                values["encoding"] = text_encoding("encoding", self.encoding)
        except SettingsError:
            raise
        except ValueError as error:
            raise SettingsError(str(error)) from None
        values["optimizer"] = self.optimizer.lower()
        values["corpus"] = tuple(map(os.path.expanduser, self.corpus))
        options = self.optimizer_options.items()
        values["optimizer_options"] = {name: _plain(value) for name, value in options}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check(self) -> None:
        for name, field in fields(self).items():
            value = getattr(self, name)
            if value is not None or field.default is not None:
                field.kind.check(name, value)
        if self.valid_fraction + self.test_fraction >= 1:
            raise SettingsError(
                f"valid_fraction {self.valid_fraction} and test_fraction {self.test_fraction} "
                "leave nothing to train on: together they must stay below 1"
            )
        if self.patience is not None and self.valid_fraction == 0:
            raise SettingsError("patience needs a validation part: set valid_fraction above 0")
        if self.schedule == "plateau" and self.valid_fraction == 0:
            raise SettingsError(
                "schedule 'plateau' needs a validation part: set valid_fraction above 0"
            )
        if self.forget_bias and self.cell != "lstm":
            raise SettingsError(
                f"forget_bias needs the cell lstm: a {self.cell} has no forget gate"
            )
        if not 0 <= self.warmup_epochs <= self.num_epochs:
            raise SettingsError(
                f"warmup_epochs must be from 0 to num_epochs, {self.num_epochs}, "
                f"not {self.warmup_epochs!r}"
            )
        optimizer = self.optimizer.lower()
        optimizers.check_options(optimizer, self.optimizer_options)
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


_lines = [f"    {name}: {field.description}" for name, field in fields(TrainSettings).items()]
TrainSettings.__doc__ = "\n".join(
    [inspect.cleandoc(TrainSettings.__doc__ or ""), "", "Attributes:", *_lines]
)


def check_settings(settings: Any) -> None:
    """Raise a TypeError unless the argument is a ``TrainSettings``."""
    if not isinstance(settings, TrainSettings):
        raise TypeError(f"settings must be a TrainSettings, not {settings!r}")


def as_dict(settings: TrainSettings) -> Dict[str, Any]:
    """Return the settings as JSON values."""
    return {
        **dataclasses.asdict(settings),
        "corpus": list(settings.corpus),
        "optimizer_options": dict(settings.optimizer_options),
        "lr": base_rate(settings),
    }


def base_rate(settings: TrainSettings) -> float:
    """Return the learning rate before the schedule: ``lr``, or the optimizer's default."""
    if settings.lr is None:
        return 1.0 if settings.optimizer == "adadelta" else SGD_LR
    return float(settings.lr)


def as_arguments(values: Mapping[str, Any]) -> Dict[str, Any]:
    """Return stored settings as arguments for ``TrainSettings``, without a default rate.

    Args:
        values: result of ``as_dict``, from this version or an earlier one. Some may be missing.

    Returns:
        Arguments that may be completed or overridden.

    Raises:
        SettingsError: if a name is unknown, or optimizer options are not numbers by name.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"settings must map names to values, not {values!r}")
    unknown = sorted(map(repr, set(values) - set(fields(TrainSettings))))
    if unknown:
        raise SettingsError(
            f"unknown settings: {', '.join(unknown)}; update d2l_deeprnn or remove them"
        )
    stored = dict(values)
    _numbers("optimizer_options", stored.get("optimizer_options", {}))
    optimizer = stored.get("optimizer", "sgd")
    # A stored rate may be the default, which must not be used with another optimizer.
    if optimizer == "sgd" and stored.get("lr") == SGD_LR:
        del stored["lr"]
    if optimizer == "adadelta":  # earlier versions accepted these and ignored them
        for name in ("lr", "schedule", "warmup_epochs"):
            stored.pop(name, None)
    return stored


def from_dict(values: Mapping[str, Any]) -> TrainSettings:
    """Return the settings for a result of ``as_dict``, from this version or an earlier one.

    A setting that did not exist then gets its default. Optimizer options are not checked, since
    earlier versions accepted more of them: they are checked when training resumes.

    Raises:
        SettingsError: if a name is unknown, ``corpus`` is missing, or a value is not valid.
    """
    stored = as_arguments(values)
    if "corpus" not in stored:
        raise SettingsError("the setting 'corpus' is missing")
    options = stored.pop("optimizer_options", {})
    settings = TrainSettings(**stored)
    object.__setattr__(settings, "optimizer_options", dict(options))
    return settings


def differences(stored: TrainSettings, requested: TrainSettings) -> Dict[str, Tuple[Any, Any]]:
    """Return the settings that differ, by name, with their stored and requested values."""
    old, new = as_dict(stored), as_dict(requested)
    return {name: (old[name], new[name]) for name in old if old[name] != new[name]}


def plateaus(losses: Iterable[float], epochs: int) -> int:
    """Return the number of plateaus: consecutive epochs without a better loss.

    Args:
        losses: the losses on the validation part, one per epoch.
        epochs: length of a plateau.
    """
    best, waited, count = math.inf, 0, 0
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited == epochs:
            waited, count = 0, count + 1
    return count


def learning_rate(
    settings: TrainSettings, epochs_done: float, losses: Iterable[float] = ()
) -> float:
    """Return the learning rate of the next minibatch.

    Args:
        settings: the settings, with schedule and warm-up.
        epochs_done: number of finished epochs, which may have a fraction.
        losses: the validation loss after each finished epoch, for the schedule plateau.
    """
    if epochs_done < settings.warmup_epochs:
        # A rate of 0 would waste the first minibatch.
        factor: float = max(epochs_done / settings.warmup_epochs, 1e-3)
    elif settings.schedule in ("step", "plateau"):
        if settings.schedule == "step":
            times = epochs_done // settings.decay_epochs
        else:
            times = plateaus(losses, settings.decay_epochs)
        try:
            factor = settings.lr_decay**times
        except OverflowError:
            factor = math.inf
    elif settings.schedule == "cosine":
        falling = settings.num_epochs - settings.warmup_epochs
        done = (epochs_done - settings.warmup_epochs) / falling if falling else 0
        factor = 0.5 * (1 + math.cos(math.pi * done))
    else:
        factor = 1
    # MXNet's operators fail on smaller or larger numbers.
    return min(max(base_rate(settings) * factor, SMALLEST_FLOAT), LARGEST_FLOAT)


def why_finished(settings: TrainSettings, losses: Sequence[float]) -> Optional[str]:
    """Return why a training is finished, or None if it is not.

    Args:
        losses: the loss of each finished epoch, on the validation part or, without one, in
            training.
    """
    if len(losses) >= settings.num_epochs:
        return f"all {settings.num_epochs} epochs are done"
    if settings.patience is not None and losses:
        waited = len(losses) - 1 - losses.index(min(losses))
        if waited >= settings.patience:
            epochs = "one epoch" if waited == 1 else f"{waited} epochs"
            return f"the held-out loss has not improved for {epochs}"
    return None


def _plain(value: Any) -> Any:
    """Convert a NumPy number to a Python number, which JSON can represent."""
    return value.item() if isinstance(value, np.generic) else value
