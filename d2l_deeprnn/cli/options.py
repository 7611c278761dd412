"""Options that several commands share, and options generated from declarations of settings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence

from ..files import printable, user_path
from ..training.settings import (
    FLAG,
    NUMBERS,
    SOURCES,
    Field,
    TrainSettings,
    as_arguments,
    as_dict,
    fields,
)


def add_setting(parser: Any, name: str, setting: Field) -> None:
    """Add the option for a setting.

    Args:
        parser: a parser or a group of options. If it has an ``argument_default``, the option has
            no default of its own.
        name: the name of the setting, and of the option.
        setting: the declaration of the setting.
    """
    kind, flag = setting.kind, _flag(name, setting)
    more: Dict[str, Any] = {"dest": name, "help": setting.description.replace("%", "%%")}
    if parser.argument_default is None:
        more["default"] = setting.default
    if kind is FLAG:
        parser.add_argument(flag, f"--no{flag[1:]}", action=_Flag, nargs=0, **more)
        return
    if kind is NUMBERS:
        more.update(action=_Numbers, type=_named_number, help=f"{more['help']}; may be repeated")
    elif kind is SOURCES:
        more["nargs"] = "+"
    elif kind.limits is not None:
        more["type"] = whole_number(*kind.limits)
    elif kind.range:
        more["type"] = number(kind.range)
    else:
        more.update(type=str, choices=kind.choices)
    if kind.choices is None:
        more["metavar"] = kind.metavar
    if setting.default is None:
        more.update(type=_or_none(more["type"]), metavar=f"{kind.metavar}|none")
    parser.add_argument(flag, **more)


def from_args(arguments: argparse.Namespace, names: Iterable[str]) -> Dict[str, Any]:
    """Return the settings that were given as options; ``arguments`` lacks the others."""
    return {name: vars(arguments)[name] for name in names if name in arguments}


def non_defaults(settings: TrainSettings) -> Dict[str, Any]:
    """Return the settings that differ from their defaults, by name."""
    declarations = fields(settings)
    values = as_arguments(as_dict(settings))
    return {name: value for name, value in values.items() if value != declarations[name].default}


def to_argv(settings: TrainSettings, names: Optional[Sequence[str]] = None) -> List[str]:
    """Return the options for the settings with these names, or else for all but the defaults."""
    chosen = non_defaults(settings)
    if names is not None:
        values = {name: getattr(settings, name) for name in names}
        chosen = {name: value for name, value in values.items() if value is not None}
    argv = []
    for name, value in chosen.items():
        setting = fields(settings)[name]
        flag = _flag(name, setting)
        if setting.kind is FLAG:
            argv.append(flag)
        elif setting.kind is NUMBERS:
            for key, x in value.items():
                argv += [flag, f"{key}={int(x) if isinstance(x, bool) else repr(x)}"]
        elif setting.kind is SOURCES:
            argv += [flag, *value]
        elif str(value).startswith("-"):  # a word of its own would be taken for an option
            argv.append(f"{flag}={value}")
        else:
            argv += [flag, str(value)]
    return argv


def add_path(
    parser: Any, name: str, help: str, metavar: str = "DIR", default: Any = None, **options: Any
) -> None:
    """Add an option or argument for a path, in which ``~`` is the home directory."""
    options.update(type=_path, metavar=metavar, default=default, help=help)
    parser.add_argument(name, **options)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses a checkpoint of a run."""
    parser.add_argument(
        "--checkpoint",
        choices=["best", "last"],
        default="best",
        help="checkpoint of the run to load (default: %(default)s)",
    )


def add_json(parser: argparse.ArgumentParser, result: str) -> None:
    """Add the option to print a result as JSON; ``result`` describes it."""
    parser.add_argument(
        "--json",
        action="store_true",
        default=False,
        help=f"print {result} as JSON on standard output, and nothing else (default: no)",
    )


def add_device(parser: Any) -> None:
    """Add the option that chooses the device; ``device`` reads it."""
    parser.add_argument(
        "--device",
        default=None,
        metavar="DEVICE",
        help="cpu, gpu, or one of several GPUs, such as gpu(1) (default: a GPU if MXNet can use "
        "one)",
    )


def device(arguments: argparse.Namespace) -> Any:
    """Return the chosen device, or None."""
    from .._mxnet.library import named_device

    return None if arguments.device is None else named_device(arguments.device)


def whole_number(low: int, high: Optional[int] = None) -> Callable[[str], int]:
    """Return a function that parses a whole number within limits."""
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


def number(expected: str) -> Callable[[str], float]:
    """Return a function that parses a number.

    Args:
        expected: the allowed range with an example, for the error if a word is not a number.
    """

    def parse(word: str) -> float:
        try:
            return float(word)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {expected}, not {word!r}") from None

    return parse


def _flag(name: str, setting: Field) -> str:
    """Return the option of a setting, in the singular if it is repeated for each number."""
    flag = f"--{name.replace('_', '-')}"
    return flag[:-1] if setting.kind is NUMBERS else flag


def _or_none(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse_or_none(word: str) -> Any:
        return None if word == "none" else parse(word)

    return parse_or_none


def _path(word: str) -> Path:
    if not word:  # Path would take it for the current directory
        raise argparse.ArgumentTypeError("is empty; the current directory is .")
    return user_path(word)


def _named_number(word: str) -> Any:
    name, _, value = word.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be NAME=NUMBER, such as momentum=0.9, not {word!r}"
        ) from None


class _Flag(argparse.Action):
    """``--name`` and ``--no-name``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        setattr(namespace, self.dest, not option.startswith("--no-"))


class _Numbers(argparse.Action):
    """Collects named numbers from repeated options."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        name, number = values
        setattr(namespace, self.dest, {**getattr(namespace, self.dest, {}), name: number})


def heading(name: str) -> str:
    """Return the name of a setting or a column for a reader."""
    return name.replace("num_", "").replace("_", " ")


def words(value: Any) -> str:
    """Return a value for a reader."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{words(key)} {words(number)}" for key, number in value.items())
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
