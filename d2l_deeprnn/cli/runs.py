"""``d2l-deeprnn runs``: what runs there are."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ..files import is_locked, printable, user_path
from .console import DONE, show
from .options import changed

EXAMPLES = """\
  d2l-deeprnn runs runs
  d2l-deeprnn runs runs/novel"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = """\
List the runs in a directory and below: epochs, best loss in nats a character
(held out, where there is such a part), state, and settings other than defaults."""
    parser.add_argument(
        "directory",
        type=user_path,
        nargs="?",
        default=Path(),
        metavar="DIR",
        help="a run, or a directory that holds some (default: the current one)",
    )


def run(arguments: argparse.Namespace) -> int:
    """List runs; gives the exit status."""
    from ..evidence.records import Table
    from ..training.run_directory import CONFIG, RunError, similar

    directory = arguments.directory
    if not directory.is_dir():
        raise RunError(f"{directory} is not a directory{similar(directory)}")
    found = sorted(path.parent for path in directory.rglob(CONFIG))
    rows = [row for path in found for row in [_row(path, directory)] if row is not None]
    if not rows:
        raise RunError(f"there is no run in {directory}")
    table = Table(f"runs in {directory}", ["run", "epochs", "best loss", "state", "settings"], rows)
    columns = shutil.get_terminal_size().columns
    for line in str(table).split("\n"):
        # The settings come last. On a terminal, they are cut if there are other runs to compare.
        is_cut = len(line) > columns and len(rows) > 1 and sys.stdout.isatty()
        show(f"{line[: columns - 1]}\u2026" if is_cut else line)
    return DONE


def _row(path: Path, directory: Path) -> Optional[List[str]]:
    """Describe a run; None for a file of another program that is only called like ours."""
    from ..training.checkpoint import CheckpointError
    from ..training.run_directory import BEST, LAST, LOCK, METRICS, RunError, read_config

    name = printable(str(path.relative_to(directory)))
    epochs = best = words = ""
    try:
        config = read_config(path)
        assert config is not None
        settings, words = _settings(config)
        losses = _losses(path, config)
        epochs = f"{len(losses)}/{settings.num_epochs}"
        best = f"{min(losses):.4f}" if losses else ""
        state = _state(path, config, settings, losses)
    except (RunError, CheckpointError, ValueError, KeyError, TypeError, AttributeError) as error:
        # Damaged, or of a later version.
        if not any((path / file).exists() for file in (LOCK, METRICS, LAST, BEST)):
            return None
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        state = printable(reason.replace(f"{path}/", ""))
    return [name, epochs, best, state, words]


def _state(path: Path, config: Dict[str, Any], settings: Any, losses: List[float]) -> str:
    from ..training.run_directory import LAST, LOCK, METRICS, TRAIN, command_of
    from ..training.settings import why_finished

    if is_locked(path / LOCK):
        return "training"
    if why_finished(settings, losses) is not None:
        return "finished" if len(losses) >= settings.num_epochs else "stopped early"
    # Without METRICS, the run was killed during its first checkpoint, and BEST is that.
    if (path / METRICS).exists() and not (path / LAST).exists():
        return f"{LAST} is gone"
    if command_of(config) == TRAIN:
        text = config["text"]
        if text["sha256"] is None:
            return "imported without its text"
        if not all(Path(place).exists() for place in text.get("paths", []) if place):
            return "its text is gone"
    return "can go on"


def _losses(path: Path, config: Dict[str, Any]) -> List[float]:
    """The loss of each epoch that a run has done, as the checkpoint has it.

    A run from which only the figures were kept has them in ``metrics.csv``.
    """
    import math

    from ..training.checkpoint import load_data
    from ..training.run_directory import BEST, LAST, METRICS, TRAIN, check_own, command_of
    from ..training.runs import read_history
    from ..training.state import history_in

    for name in (LAST, BEST):
        if (path / name).exists():
            data = check_own(path / name, load_data(path / name), config["run"])
            if command_of(config) == TRAIN:
                return [record.loss for record in history_in(data["learner"])]
            return [math.log(perplexity) for _, perplexity, *_ in data["history"]]
    if not (path / METRICS).exists():
        return []
    return [
        row.get(
            "valid_loss", row["train_loss"] if "train_loss" in row else math.log(row["perplexity"])
        )
        for row in read_history(path)
    ]


def _settings(config: Dict[str, Any]) -> Tuple[Any, str]:
    """The settings of a run; its text and the settings that are not the defaults, in words."""
    from ..chapter import book
    from ..training.run_directory import TRAIN, command_of
    from ..training.settings import from_dict

    if command_of(config) != TRAIN:
        name = Path(config.get("corpus", "")).name
        own = dataclasses.replace(
            book.train_settings(), num_epochs=config["settings"]["num_epochs"]
        )
        return own, printable(f"{name}, the chapter's, seed {config.get('seed', 0)}")
    settings = from_dict(config["settings"])
    words = [" + ".join(Path(text).name for text in settings.corpus)]
    for name, value in changed(settings).items():
        if name not in ("corpus", "num_epochs"):
            words.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    return settings, printable(", ".join(words))
