"""Options that several commands share, and how a setting of a run becomes an option."""

from __future__ import annotations

import argparse
from typing import Any, Callable, Dict, Iterable, List, Optional

from ..training.settings import (
    FLAG,
    NUMBERS,
    SOURCES,
    Field,
    TrainSettings,
    as_dict,
    fields,
    user_set,
)


def add_setting(parser: Any, name: str, setting: Field) -> None:
    """Add the option that follows from the declaration of a setting.

    Args:
        parser: a parser, or a group of options. With ``argument_default`` it may say that an
            option which is not given is to be absent from the arguments.
        name: of the setting; the option is called likewise.
        setting: its declaration.
    """
    kind, flag = setting.kind, _flag(name, setting)
    more: Dict[str, Any] = {"dest": name, "help": setting.description.replace("%", "%%")}
    if parser.argument_default is None:
        more["default"] = setting.default
    if kind is FLAG:
        parser.add_argument(flag, f"--no{flag[1:]}", action=_Flag, nargs=0, **more)
        return
    if kind is NUMBERS:  # each in an option of its own
        more.update(action=_Numbers, type=_named_number, help=f"{more['help']}; may be repeated")
    elif kind is SOURCES:
        more["nargs"] = "+"
    elif kind.limits is not None:
        more["type"] = whole_number(*kind.limits)
    else:
        more.update(type=kind.parse, choices=kind.choices)
    if kind.choices is None:
        more["metavar"] = kind.metavar
    if setting.default is None:
        more.update(type=_or_none(more["type"]), metavar=f"{kind.metavar}|none")
    parser.add_argument(flag, **more)


def given(arguments: argparse.Namespace, names: Iterable[str]) -> Dict[str, Any]:
    """The settings that were given; options that were not are absent from ``arguments``."""
    return {name: vars(arguments)[name] for name in names if name in arguments}


def changed(settings: TrainSettings) -> Dict[str, Any]:
    """The settings that are not the defaults, by name."""
    values = user_set(as_dict(settings))
    defaults = {name: setting.default for name, setting in fields(settings).items()}
    return {name: value for name, value in values.items() if value != defaults[name]}


def as_words(settings: TrainSettings) -> List[str]:
    """The options that give settings: what ``add_setting`` has a parser read."""
    words = []
    for name, value in changed(settings).items():
        setting = fields(settings)[name]
        flag = _flag(name, setting)
        if setting.kind is FLAG:
            words.append(flag)
        elif setting.kind is NUMBERS:
            words += [word for key, x in value.items() for word in (flag, f"{key}={x!r}")]
        elif setting.kind is SOURCES:
            words += [flag, *value]
        else:
            words += [flag, str(value)]
    return words


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses a checkpoint of a run."""
    parser.add_argument(
        "--checkpoint",
        choices=["best", "last"],
        default="best",
        help="which checkpoint of the run to load (default: %(default)s)",
    )


def add_device(parser: Any) -> None:
    """Add the option that chooses where to compute; ``device`` reads it."""
    parser.add_argument(
        "--device",
        default=None,
        metavar="DEVICE",
        help="cpu, gpu, or one of several GPUs such as gpu(1) (default: a GPU if MXNet can use "
        "one)",
    )


def device(arguments: argparse.Namespace) -> Any:
    """The device that was chosen, or None."""
    from .._mxnet.context import named_device

    return None if arguments.device is None else named_device(arguments.device)


def whole_number(low: int, high: Optional[int] = None) -> Callable[[str], int]:
    """Make a function that reads a whole number within limits from the command line."""
    limits = f"of at least {low}" if high is None else f"from {low} to {high}"

    def parse(word: str) -> int:
        try:
            number = int(word)
        except ValueError:
            number = low - 1
        if number < low or (high is not None and number > high):
            raise argparse.ArgumentTypeError(f"must be a whole number {limits}, not {word!r}")
        return number

    return parse


def _flag(name: str, setting: Field) -> str:
    """The option of a setting; of several numbers, each has one of its own."""
    flag = f"--{name.replace('_', '-')}"
    return flag[:-1] if setting.kind is NUMBERS else flag


def _or_none(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse_or_none(word: str) -> Any:
        return None if word == "none" else parse(word)

    parse_or_none.__name__ = parse.__name__  # argparse shows it: invalid float value
    return parse_or_none


def _named_number(word: str) -> Any:
    name, _, number = word.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be NAME=NUMBER, not {word!r}") from None


class _Flag(argparse.Action):
    """``--name`` and ``--no-name``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        setattr(namespace, self.dest, not option.startswith("--no-"))


class _Numbers(argparse.Action):
    """Numbers by name, each from an option of its own."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        name, number = values
        there = getattr(namespace, self.dest, {})
        if there.get(name, number) != number:
            words = f"{name} is given as {there[name]:g} and as {number:g}: give it once"
            raise argparse.ArgumentError(self, words)
        setattr(namespace, self.dest, {**there, name: number})
