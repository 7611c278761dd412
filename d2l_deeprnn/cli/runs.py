"""``d2l-deeprnn runs``: a list of runs."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ..errors import D2LError
from ..files import is_locked, printable
from ..training.settings import TrainSettings, from_dict, why_finished
from .console import DONE, show
from .options import add_path, non_defaults


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``runs``."""
    what = "a run, or a directory that contains runs (default: the current directory)"
    add_path(parser, "directory", what, default=Path(), nargs="?")


def run_runs(arguments: argparse.Namespace) -> int:
    """List the runs in a directory and below it.

    The columns are epochs, best loss in nats per character (held-out, if the run
    has such a part), state, and the settings that are not defaults.

    examples:
      d2l-deeprnn runs runs
      d2l-deeprnn runs runs/novel
    """
    from ..evidence.records import Table
    from ..training.run_directory import CONFIG, RunError, similar

    directory = arguments.directory
    if not directory.is_dir():
        raise RunError(f"{directory} is not a directory{similar(directory)}")
    paths = sorted(path.parent for path in directory.rglob(CONFIG))
    rows = [row for path in paths for row in [_row(path, directory)] if row is not None]
    if not rows:
        raise RunError(f"there is no run in {directory}")
    table = Table(f"runs in {directory}", ["run", "epochs", "best loss", "state", "settings"], rows)
    columns = shutil.get_terminal_size().columns
    for line in str(table).split("\n"):
        # A single run is shown in full, several runs as a table that fits the terminal.
        is_cut = len(line) > columns and len(rows) > 1 and sys.stdout.isatty()
        show(f"{line[: columns - 1]}\u2026" if is_cut else line)
    return DONE


def _row(path: Path, directory: Path) -> Optional[List[str]]:
    """Describe a run; return None if another program wrote ``config.json``."""
    from ..training.run_directory import LOCK, METRICS, read_config
    from ..training.runs import read_history

    name = printable(str(path.relative_to(directory)))
    epochs = best = settings_column = ""
    try:
        config = read_config(path)
        assert config is not None
        settings, settings_column = _settings(config)
        history = read_history(path) if (path / METRICS).exists() else []
        losses = [
            math.log(row["perplexity"])
            if "perplexity" in row
            else row.get("valid_loss", row["train_loss"])
            for row in history
        ]
        epochs = f"{len(losses)}/{settings.num_epochs}"
        best = f"{min(losses):.4f}" if losses else ""
        if is_locked(path / LOCK):
            state = "training"
        elif why_finished(settings, losses) is not None:
            state = "finished" if len(losses) >= settings.num_epochs else "stopped early"
        else:
            state = _unfinished(path, config)
    except (D2LError, ValueError, KeyError, TypeError, AttributeError) as error:
        if not any((path / file).exists() for file in (LOCK, METRICS)):
            return None
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        state, settings_column = "unusable", printable(reason.replace(f"{path}/", ""))
    return [name, epochs, best, state, settings_column]


def _unfinished(path: Path, config: Dict[str, Any]) -> str:
    from ..training.run_directory import LAST, METRICS

    if (path / METRICS).exists() and not (path / LAST).exists():
        return f"{LAST} is missing"
    text = config["text"]
    if text["sha256"] is None:
        return "imported without its text"
    if not all(Path(place).exists() for place in text.get("paths", []) if place):
        return "its text is missing"
    return "can be resumed"


def _settings(config: Dict[str, Any]) -> Tuple[TrainSettings, str]:
    """Return the settings of a run, and its text and other settings as words."""
    settings = from_dict(config["settings"])
    parts = [" + ".join(Path(text).name for text in settings.corpus)]
    for name, value in non_defaults(settings).items():
        if name not in ("corpus", "num_epochs"):
            parts.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    if "init_from" in config:
        parts.append(f"weights of {Path(str(config['init_from'].get('directory'))).name}")
    return settings, printable(", ".join(parts))
