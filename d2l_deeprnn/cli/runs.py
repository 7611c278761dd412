"""``d2l-deeprnn runs``: what runs there are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, List, Optional

from ..files import InUse, locked, printable, user_path
from .console import DONE, print_table
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
    parser.set_defaults(only_prints=True)


def run(arguments: argparse.Namespace) -> int:
    """List runs; gives the exit status."""
    from ..evidence.records import Table
    from ..training.run_directory import CONFIG, RunError

    directory = arguments.directory
    if not directory.is_dir():
        raise RunError(f"{directory} is not a directory")
    found = sorted(path.parent for path in directory.rglob(CONFIG))
    rows = [row for path in found for row in [_row(path, directory)] if row is not None]
    if not rows:
        raise RunError(f"there is no run in {directory}")
    table = Table(f"runs in {directory}", ["run", "epochs", "best loss", "state", "settings"], rows)
    print_table(table)
    return DONE


def _row(path: Path, directory: Path) -> Optional[List[str]]:
    """What is shown of a run; None for a file that is only called like a configuration."""
    from ..training.run_directory import LOCK, RunError, command_of, read_config

    name = printable(str(path.relative_to(directory)))
    try:
        config = read_config(path)
        assert config is not None
        words = _words(command_of(config), config)
    except RunError:
        return None
    except ValueError as error:  # of a later version
        return [name, "", "", printable(str(error)), ""]
    epochs, best = _history(path)
    wanted = config["settings"].get("num_epochs")
    if _is_locked(path / LOCK):
        state = "training"
    elif wanted is not None and epochs >= wanted:
        state = "finished"
    else:
        state = "can go on"
    return [
        name,
        f"{epochs}/{wanted}",
        "" if best is None else f"{best:.4f}",
        state,
        words,
    ]


def _history(path: Path) -> Any:
    """How many epochs a run has done, and its best loss."""
    import math

    from ..training.runs import RunError, read_history

    try:
        history = read_history(path)
    except RunError:  # no epoch is finished
        return 0, None
    losses = [
        row.get(
            "valid_loss", row["train_loss"] if "train_loss" in row else math.log(row["perplexity"])
        )
        for row in history
    ]
    return len(history), min(losses)


def _is_locked(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with locked(path):
            return False
    except (InUse, OSError):
        return True


def _words(command: str, config: Dict[str, Any]) -> str:
    """The text, and the settings that are not the defaults."""
    from ..training.settings import from_dict

    if command == "reproduce":
        name = Path(config.get("corpus", "")).name
        return printable(f"{name}, the chapter's, seed {config.get('seed', 0)}")
    settings = from_dict(config["settings"])
    words = [" + ".join(Path(text).name for text in settings.corpus)]
    for name, value in changed(settings).items():
        if name not in ("corpus", "num_epochs"):
            words.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    return printable(", ".join(words))
