"""``d2l-deeprnn runs``: a list of runs."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, Dict, List, Optional

from ..errors import D2LError
from ..files import is_locked, printable
from ..training.settings import TrainSettings, as_dict, fields, from_dict, why_finished
from .console import DONE, columns, print_paragraph, show_json, show_table
from .options import add_json, add_path, heading, non_defaults, words

LOSSES = {"held_out_loss": "held out", "training_loss": "train"}  # in JSON and in the table


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``runs``."""
    what = "a run, or a directory that contains runs (default: the current directory)"
    add_path(parser, "directory", what, default=Path(), nargs="?")
    add_json(parser, "a list of the runs with all their settings")


def run_runs(arguments: argparse.Namespace) -> int:
    """List the runs in a directory and below it.

    The columns are epochs, the lowest held-out loss in nats per character (the
    training loss for runs that hold nothing out), state, and each setting that
    differs between the runs. A line below has the others that are not defaults.

    examples:
      d2l-deeprnn runs runs
      d2l-deeprnn runs runs/novel
      d2l-deeprnn runs runs --json
    """
    from ..training.run_directory import CONFIG, RunError, no_run

    directory = arguments.directory
    if not directory.is_dir():
        raise no_run(directory)
    root = directory.absolute()  # a relative path that begins with ~ would be expanded
    paths = sorted(path.parent for path in root.rglob(CONFIG))
    runs = [run for path in paths for run in [_describe(path, root)] if run is not None]
    if not runs:
        raise RunError(f"there is no run in {directory}")
    if arguments.json:
        show_json(runs)
    else:
        _print_table(runs)
    return DONE


def _print_table(runs: List[Dict[str, Any]]) -> None:
    cells = {"run": [run["run"] for run in runs]}
    cells["epochs"] = [
        f"{run['epochs']}/{run['num_epochs']}" if "epochs" in run else "" for run in runs
    ]
    for kind, name in LOSSES.items():
        if any(kind in run for run in runs):
            cells[name] = [f"{run[kind]:.4f}" if kind in run else "" for run in runs]
    cells["state"] = [run["state"] for run in runs]
    usable = [run for run in runs if "settings" in run]
    names = {name: None for run in usable for name in run["settings"]}
    common, left_out = [], []
    width = sum(max(map(len, [name, *column])) + 2 for name, column in cells.items())
    for name in names:
        column = [_words(name, run) for run in runs]
        values = set(column) - {""}
        if len(values) > 1:
            more = max(map(len, [heading(name), *column])) + 2
            if width + more - 2 <= columns():
                width += more
                cells[heading(name)] = column
            else:
                left_out.append(heading(name))
        elif any(name in run["changed"] for run in usable):
            common.append(f"{heading(name)} {values.pop()}")
    show_table([list(cells), *map(list, zip(*cells.values()))])
    if common:
        print_paragraph(f"{'All' if len(usable) > 1 else 'Settings'}: {', '.join(common)}")
    if left_out:
        also = " also" if set(cells) & {heading(name) for name in names} else ""
        print_paragraph(f"They{also} differ in {', '.join(left_out)} (wider terminal, or --json)")
    for run in runs:
        if "error" in run:
            print_paragraph(f"{run['run']}: {run['error']}")


def _describe(path: Path, directory: Path) -> Optional[Dict[str, Any]]:
    """Describe a run; return None if another program wrote ``config.json``."""
    from ..training.run_directory import LOCK, METRICS, read_config
    from ..training.runs import read_history

    name = path.resolve().name if path == directory else str(path.relative_to(directory))
    run: Dict[str, Any] = {"run": printable(name)}
    try:
        config = read_config(path)
        assert config is not None
        settings = from_dict(config["settings"])
        history = read_history(path) if (path / METRICS).exists() else []
        losses = [
            math.log(row["perplexity"])
            if "perplexity" in row
            else row.get("valid_loss", row["train_loss"])
            for row in history
        ]
        if is_locked(path / LOCK):
            state = "training"
        elif why_finished(settings, losses) is not None:
            state = "finished" if len(losses) >= settings.num_epochs else "stopped early"
        else:
            state = _unfinished(path, config)
        run.update(epochs=len(losses), num_epochs=settings.num_epochs, state=state)
        if losses:
            run["held_out_loss" if "valid_loss" in history[0] else "training_loss"] = min(losses)
        run["settings"] = _settings(settings, config)
        defaults = set(run["settings"]) - set(non_defaults(settings)) - {"init_from"}
        run["changed"] = [name for name in run["settings"] if name not in defaults]
    except (D2LError, ValueError, KeyError, TypeError, AttributeError) as error:
        if not any((path / file).exists() for file in (LOCK, METRICS)):
            return None
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        run.update(state="unusable", error=printable(reason.replace(f"{path}/", "")))
    return run


def _unfinished(path: Path, config: Dict[str, Any]) -> str:
    from ..training.run_directory import LAST, METRICS

    if (path / METRICS).exists() and not (path / LAST).exists():
        return f"{LAST} is missing"
    text = config["text"]
    if text["sha256"] is None:
        return "imported without its text"
    if not all(Path(place).exists() for place in text.get("paths", []) if place):
        return "its text is missing"
    return "resumable"


def _settings(settings: TrainSettings, config: Dict[str, Any]) -> Dict[str, Any]:
    """Return the settings of a run, without the number of epochs, and the origin of its weights."""
    values = as_dict(settings)
    del values["num_epochs"]
    if "init_from" in config:
        values["init_from"] = config["init_from"].get("directory")
    return values


def _words(name: str, run: Dict[str, Any]) -> str:
    """Return the value of a setting for a reader, without the directories of texts and runs.

    It is "" only if the run is unusable.
    """
    if "settings" not in run:
        return ""
    value = run["settings"].get(name)
    if name == "seed":
        return str(value)  # without thousands separators
    if name == "init_from":
        value = "random" if value is None else [value]
    if isinstance(value, list):
        value = " + ".join(Path(source).name or source for source in value)
    if value is None:
        value = fields(TrainSettings)[name].none_means
    return words(value) or "none"
