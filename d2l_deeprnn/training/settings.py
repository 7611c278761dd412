"""What a training run is told, checked as a whole before anything starts.

Each setting is declared once, as a field of ``TrainSettings``: its name, type, default, limits and
what it means. The checks, the options of the command line with their help, and the reading of
older files follow from there.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import os
from dataclasses import MISSING, dataclass, field
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
    float32,
    positive_number,
    text_encoding,
    whole_number,
)
from .._mxnet import optimizers
from ..errors import D2LError

SGD_LR = 5.0  # the learning rate of the default optimizer


class SettingsError(D2LError, ValueError):
    """A setting cannot be used, or does not go with another one."""


class Kind(NamedTuple):
    """What values a setting takes.

    Attributes:
        check: raises a ValueError that names the setting, given its name and a wrong value.
        parse: makes a value of a string.
        metavar: what stands for a value in the help.
        choices: all the values there are, if they can be listed.
        limits: the smallest and the largest whole number, if it takes whole numbers; None in
            place of the largest for no limit.
    """

    check: Callable[[str, Any], Any]
    parse: Callable[[str], Any] = str
    metavar: str = "NAME"
    choices: Optional[Tuple[str, ...]] = None
    limits: Optional[Tuple[int, Optional[int]]] = None


class Field(NamedTuple):
    """The declaration of a setting: what a field of ``TrainSettings`` has as its metadata.

    Attributes:
        default: the value where none is given; ``dataclasses.MISSING`` where one must be.
        group: "data", "model", "optimization" or "run".
        kind: what values it takes; None is a value too where it is the default.
        help: what it means.
        none_means: what None means.
    """

    default: Any
    group: str
    kind: Kind
    help: str
    none_means: str = ""

    @property
    def description(self) -> str:
        """What it means, with the default."""
        default = self.default
        if default is MISSING:
            return self.help
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        shown = {"None": self.none_means, "False": "no", "{}": "none"}.get(shown, shown)
        return f"{self.help} (default: {shown})"


def setting(default: Any, *declaration: Any) -> Any:
    """Declare a field of ``TrainSettings``; the arguments are the attributes of ``Field``."""
    metadata = {"setting": Field(default, *declaration)}
    if isinstance(default, dict):
        return field(default_factory=default.copy, hash=False, metadata=metadata)
    return field(default=default, metadata=metadata)


def fields(settings: Any) -> Dict[str, Field]:
    """The declarations of all settings, by name, of ``TrainSettings`` or an instance of it."""
    return {field.name: field.metadata["setting"] for field in dataclasses.fields(settings)}


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

    return Kind(check, int, "N", limits=(low, high))


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
    float32(name, value)


def _sources(name: str, value: Any) -> None:
    if not isinstance(value, (list, tuple)) or not value:
        raise SettingsError(f"{name} must be a list of at least one name or path, not {value!r}")
    for source in value:
        if not isinstance(source, str):
            raise SettingsError(f"{name} must hold strings, not {source!r}")


def _numbers(name: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise SettingsError(f"{name} must be names with numbers, not {value!r}")
    for key, number in value.items():
        if not isinstance(number, bool):  # which is how a flag may be given
            _finite(f"optimizer option {key}", number)


SOURCES = Kind(_sources, metavar="NAME|FILE")
FLAG = Kind(_flag)
COUNT, SEED = _whole(1), _whole(0, 2**31 - 1)
FRACTION = Kind(_fraction, float, "F")
NUMBER = Kind(_finite, float, "X")
POSITIVE = Kind(_positive, float, "X")
NUMBERS = Kind(_numbers, float, "NAME=NUMBER")


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides what a training run computes.

    The defaults are the chapter's, but for the whole text in place of its
    first 10,000 characters, a tenth of it held out, and 50 epochs.

    Raises:
        SettingsError: names the setting, its value, and what would be right.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> settings = d2l.TrainSettings(corpus=("time_machine",), optimizer="adam", lr=0.002)
        >>> settings.cell, settings.num_hiddens
        ('lstm', 256)
    """

    # fmt: off
    corpus: Tuple[str, ...] = field(metadata={"setting": Field(MISSING, "data", SOURCES,
        "known texts (see `d2l-deeprnn corpora`), files (.gz is unpacked) or directories of files, "
        "joined")})
    num_examples: Optional[int] = setting(None, "data", COUNT,
        "number of characters to take from the beginning", "all")
    keep_case: bool = setting(False, "data", FLAG,
        "keep capital letters; the chapter turns them into lower case")
    keep_whitespace: bool = setting(False, "data", FLAG,
        "keep line breaks and runs of white space; the chapter turns each into one space")
    valid_fraction: float = setting(0.1, "data", FRACTION,
        "fraction held out for validation, after the training part")
    test_fraction: float = setting(0.0, "data", FRACTION,
        "fraction held out for testing, at the end of the text")
    cell: str = setting("lstm", "model", _one_of("lstm", "gru", "rnn"),
        "recurrent cell; rnn is the one with tanh")
    num_layers: int = setting(2, "model", _whole(1, 1000), "number of recurrent layers")
    num_hiddens: int = setting(256, "model", COUNT, "number of hidden units in each layer")
    dropout: float = setting(0.0, "model", FRACTION,
        "fraction of each layer's outputs that training sets to 0, the same units at every time "
        "step of a minibatch")
    init: str = setting("normal", "model", _one_of("normal", "xavier", "orthogonal"),
        "initial weights; normal is the chapter's Normal(0.01); orthogonal makes the square "
        "matrix of each gate orthogonal and the other weights Xavier")
    forget_bias: float = setting(0.0, "model", NUMBER,
        "added to the bias of the LSTM's forget gate at the start")
    batch_size: int = setting(32, "optimization", COUNT, "number of rows in a minibatch")
    num_steps: int = setting(35, "optimization", COUNT, "number of characters in each row")
    sampling: str = setting("adjacent", "optimization", _one_of("adjacent", "random"),
        "order of the minibatches; from one adjacent minibatch to the next the hidden state is "
        "carried over")
    num_epochs: int = setting(50, "optimization", COUNT,
        "number of passes over the training part, at most")
    optimizer: str = setting("sgd", "optimization",
        Kind(lambda name, value: optimizers.check_name(value)),
        f"one of Gluon's: {', '.join(optimizers.OPTIMIZERS)}")
    optimizer_options: Mapping[str, float] = setting({}, "optimization", NUMBERS,
        "further arguments of the optimizer in Gluon, such as momentum=0.9")
    lr: Optional[float] = setting(None, "optimization", POSITIVE, "learning rate",
        f"{SGD_LR:g} for sgd; adadelta has none, and other optimizers need one")
    schedule: str = setting("constant", "optimization",
        _one_of("constant", "step", "cosine", "plateau"),
        "how the learning rate changes; step multiplies it by lr_decay every decay_epochs epochs, "
        "plateau after decay_epochs epochs without a better validation loss, cosine lowers it to 0")
    lr_decay: float = setting(0.5, "optimization", POSITIVE,
        "factor of the schedules step and plateau")
    decay_epochs: int = setting(10, "optimization", COUNT,
        "number of epochs between two changes of the schedules step and plateau")
    warmup_epochs: float = setting(0.0, "optimization", NUMBER,
        "number of epochs, which may be a fraction, over which the learning rate rises linearly "
        "at the start")
    clipping_theta: float = setting(1, "optimization", POSITIVE,
        "largest L2 norm of all gradients together")
    patience: Optional[int] = setting(None, "optimization", COUNT,
        "stop after this number of epochs without a better validation loss", "never")
    seed: int = setting(0, "run", SEED, "seed of all random number generators")
    encoding: Optional[str] = setting(None, "data", Kind(text_encoding),
        "encoding of the files, such as cp1252", "utf-8")
    # fmt: on

    def __post_init__(self) -> None:
        try:
            self._check()
            if self.encoding is not None:
                object.__setattr__(self, "encoding", text_encoding("encoding", self.encoding))
        except SettingsError:
            raise
        except ValueError as error:
            raise SettingsError(str(error)) from None
        object.__setattr__(self, "optimizer", self.optimizer.lower())
        object.__setattr__(self, "corpus", tuple(map(os.path.expanduser, self.corpus)))
        _set_options(self, self.optimizer_options)
        for name in fields(self):
            object.__setattr__(self, name, _plain(getattr(self, name)))

    def _check(self) -> None:
        for name, setting in fields(self).items():
            value = getattr(self, name)
            if value is not None or setting.default is not None:
                setting.kind.check(name, value)
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
        self._check_optimizer()
        if self.forget_bias and self.cell != "lstm":
            raise SettingsError(f"forget_bias is for the lstm: a {self.cell} has no forget gate")
        if not 0 <= self.warmup_epochs <= self.num_epochs:
            raise SettingsError(
                f"warmup_epochs must be from 0 to num_epochs, {self.num_epochs}, "
                f"not {self.warmup_epochs!r}"
            )

    def _check_optimizer(self) -> None:
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


_lines = [f"    {name}: {item.description}" for name, item in fields(TrainSettings).items()]
TrainSettings.__doc__ = "\n".join(
    [inspect.cleandoc(TrainSettings.__doc__ or ""), "", "Attributes:", *_lines]
)


def as_dict(settings: TrainSettings) -> Dict[str, Any]:
    """The settings as JSON has them."""
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


def user_set(values: Mapping[str, Any]) -> Dict[str, Any]:
    """What was given of the settings that ``as_dict`` returned, as far as it can be told.

    Args:
        values: settings by name, as this version or an earlier one wrote them. Some may be missing.

    Returns:
        Arguments for ``TrainSettings``, together with others.

    Raises:
        SettingsError: if a name is unknown, or options are not names with numbers.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"settings must be names with values, not {values!r}")
    odd = sorted(map(repr, set(values) - set(fields(TrainSettings))))
    if odd:
        raise SettingsError(f"settings do not fit this version, unknown: {', '.join(odd)}")
    stored = dict(values)
    _numbers("optimizer_options", stored.get("optimizer_options", {}))
    optimizer = stored.get("optimizer", "sgd")
    # The default is recorded like a rate that was given. It must not become another optimizer's.
    if optimizer == "sgd" and stored.get("lr") == SGD_LR:
        del stored["lr"]
    if optimizer == "adadelta":  # earlier versions took these, and they did nothing
        for name in ("lr", "schedule", "warmup_epochs"):
            stored.pop(name, None)
    return stored


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
    stored = user_set(values)
    if "corpus" not in stored:
        raise SettingsError("settings do not fit this version, missing: 'corpus'")
    options = stored.pop("optimizer_options", {})
    settings = TrainSettings(**stored)
    _set_options(settings, options)
    return settings


def differences(there: TrainSettings, here: TrainSettings) -> Tuple[str, ...]:
    """Name the settings in which two runs differ, each with both values."""
    return tuple(
        f"{name}: {value!r} there, {as_dict(here)[name]!r} here"
        for name, value in as_dict(there).items()
        if value != as_dict(here)[name]
    )


def plateaus(losses: Iterable[float], epochs: int) -> int:
    """How many times a loss has failed to become better for a number of epochs.

    After each such time the epochs are counted anew.

    Args:
        losses: of the validation part, an epoch each.
        epochs: how many make a plateau.
    """
    best, waited, found = math.inf, 0, 0
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited == epochs:
            waited, found = 0, found + 1
    return found


def learning_rate(
    settings: TrainSettings, epochs_done: float, losses: Iterable[float] = ()
) -> float:
    """The learning rate of the next minibatch.

    Args:
        settings: schedule and warm-up.
        epochs_done: since the start of training, with fractions.
        losses: of the validation part, for each epoch that is done; for the schedule plateau.
    """
    if epochs_done < settings.warmup_epochs:
        # Half a minibatch cannot be done; a rate of 0 would waste the first one.
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
    # Far from the numbers at which MXNet's operators fail.
    return min(max(base_rate(settings) * factor, SMALLEST_FLOAT), LARGEST_FLOAT)


def why_finished(settings: TrainSettings, losses: Sequence[float]) -> Optional[str]:
    """Say why a training is finished, or return None if it is not.

    Args:
        losses: of each epoch that is done: of the validation part, or of the training without one.
    """
    if len(losses) >= settings.num_epochs:
        return f"all {settings.num_epochs} epochs are done"
    if settings.patience is not None and losses:
        waited = len(losses) - 1 - losses.index(min(losses))
        if waited >= settings.patience:
            return f"no better validation loss for {waited} epochs"
    return None


def _set_options(settings: TrainSettings, options: Mapping[str, float]) -> None:
    plain = {name: _plain(value) for name, value in options.items()}
    object.__setattr__(settings, "optimizer_options", plain)


def _plain(value: Any) -> Any:
    """A number of NumPy's as Python's own, which JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value
