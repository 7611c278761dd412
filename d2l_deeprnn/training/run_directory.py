"""The directory of a training run. It is locked, and its files must all belong to one run.

    config.json   settings, text, versions and machine
    metrics.csv   the history, one row per epoch
    last.zip      the checkpoint to resume from
    best.zip      a copy of the checkpoint with the lowest loss so far

Each run has an id, which is in its configuration and in its checkpoints.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import shutil
import uuid
import warnings
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from ..errors import D2LError
from ..files import (
    InUse,
    Moved,
    PathLike,
    atomic_file,
    locked,
    parse_json,
    read_text,
    remove,
    remove_leftovers,
    user_path,
    write_text,
)
from ..text.corpora import CONFIG, KNOWN_TEXTS, LOCK, CorpusError
from .checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from .upgrades import TRAIN, keep_predictions, upgraded_config, upgraded_state

METRICS, LAST, BEST = "metrics.csv", "last.zip", "best.zip"
LISTED = 5  # runs in an error message
PREDICTIONS = "predictions.csv"  # only in runs of `reproduce`
# Types of the optional parts of a configuration, besides the settings and the text.
_TYPES = {
    "changes": list,
    "imported": dict,
    "init_from": dict,
    "machine": dict,
    "versions": dict,
    "ranks": int,
    "device": str,
}


class RunError(D2LError, RuntimeError):
    """A run's directory cannot be used as requested."""


class RunDirectory:
    """A directory that is locked for a run.

    Attributes:
        path: its absolute path.
        config: the configuration of the run in it; None before ``begin``.
    """

    def __init__(self, path: Path, config: Optional[Dict[str, Any]]) -> None:
        self.path = path
        self.config = config

    def begin(self, config: Mapping[str, Any]) -> None:
        """Write the configuration of a new run."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        identity = {"run": uuid.uuid4().hex, "command": TRAIN, "begun": now}
        self._write({**identity, **config})

    def discard(self) -> None:
        """Remove the configuration of a run that has not begun to train."""
        (self.path / CONFIG).unlink()
        self.config = None

    def change(
        self, epochs_started: int, changes: Mapping[str, Any], config: Mapping[str, Any]
    ) -> None:
        """Write a changed configuration with a record of the changes.

        Args:
            epochs_started: number of epochs that started before the change.
            changes: the old and the new value of each changed setting.
            config: the new parts of the configuration.
        """
        assert self.config is not None
        record = {"epochs_begun": epochs_started, **changes}
        all_changes = [*self.config.get("changes", []), record]
        self._write({**self.config, **config, "changes": all_changes})

    def _write(self, config: Dict[str, Any]) -> None:
        write_text(self.path / CONFIG, json.dumps(config, indent=2) + "\n")
        self.config = config

    def save_checkpoints(self, last: Checkpoint, best: Optional[Checkpoint], metrics: str) -> None:
        """Write checkpoints and the history.

        Args:
            last: the state to resume from.
            best: the best state, if it has changed: ``last`` itself, or an earlier state.
            metrics: the history as CSV.
        """
        # A run that is killed in between resumes from the old state, and writes the same again.
        if best is not None and best is not last:
            self._save_checkpoint(BEST, best)
        self._save_checkpoint(LAST, last)
        if best is last:
            self.copy_best()
        self.save_metrics(metrics)

    def _save_checkpoint(self, name: str, checkpoint: Checkpoint) -> None:
        assert self.config is not None
        data = {"run": self.config["run"], **checkpoint.data}
        save_checkpoint(self.path / name, checkpoint.arrays, data)

    def copy_best(self) -> None:
        """Make the last checkpoint the best one."""
        with atomic_file(self.path / BEST) as best, open(self.path / LAST, "rb") as last:
            shutil.copyfileobj(last, best)

    def save_metrics(self, metrics: str) -> None:
        """Write the history."""
        write_text(self.path / METRICS, metrics)

    def has(self, name: str) -> bool:
        """Return whether a file exists."""
        return (self.path / name).exists()

    def load(self, name: str) -> Checkpoint:
        """Load a checkpoint of the run."""
        assert self.config is not None
        return load_own(self.path / name, self.config["run"])

    def warn_restart(self) -> None:
        """Warn that the run to be resumed has no checkpoint and will start over.

        Raises:
            RunError: if the run had a checkpoint, which is missing.
        """
        if self.has(METRICS) or self.has(BEST):
            best = f"resume from the best epoch with a copy of {BEST}, " if self.has(BEST) else ""
            raise RunError(
                f"{LAST} of the run in {self.path} is missing: restore it, {best}or start a new "
                "run in another directory"
            )
        warnings.warn(
            f"the run in {self.path} has no checkpoint yet, so it starts over", stacklevel=3
        )


@contextlib.contextmanager
def run_directory(path: PathLike, *, resume: bool) -> Iterator[RunDirectory]:
    """Lock a directory for a run, for the duration of a ``with`` block.

    Args:
        path: the directory. It is created if missing. It must be empty or, to resume, contain
            a run.
        resume: whether to resume a run in it.

    Raises:
        RunError: if it contains something else, cannot be used, or is moved or replaced during
            the ``with`` block.
    """
    path = user_path(path)
    place = path.absolute()  # wherever the program's working directory will be
    with contextlib.ExitStack() as stack:
        try:
            if not place.exists():
                stack.callback(_remove_empty, place)  # after the lock is released
            place.mkdir(parents=True, exist_ok=True)
            has_lock = (place / LOCK).exists()
            stack.enter_context(locked(place / LOCK))
            if not has_lock:
                stack.callback(_remove_unused_lock, place)
            for name in (CONFIG, METRICS, LAST, BEST):
                remove_leftovers(place / name)
        except InUse:
            raise RunError(f"another process is training in {path}") from None
        except (FileExistsError, NotADirectoryError) as error:
            raise RunError(f"{path} is not a directory: choose another directory") from error
        except OSError as error:
            where = "" if error.filename in (None, str(place)) else f"{error.filename}: "
            raise RunError(
                f"{path} cannot be written to ({where}{error.strerror or error}): choose another "
                "directory"
            ) from error
        config = read_config(path)
        if config is not None and not resume:
            raise RunError(
                f"{path} already contains a run: resume it (--resume), or choose another directory"
            )
        others = [p.name for p in path.iterdir() if p.name != LOCK]
        if config is None and others:
            raise RunError(
                f"{path} is not empty and contains no run (it contains {min(others)}): choose "
                "another directory"
            )
        if config is not None and "run" not in config:
            raise RunError(
                f"the run in {path} is from a version that could not resume such runs: start a "
                "new one in another directory"
            )
        if config is not None:
            keep_predictions(place / METRICS, place / PREDICTIONS)
        try:
            yield RunDirectory(place, config)
        except Moved as error:
            where = f"in {error.place}" if error.place else "in the old one, if it still exists"
            raise RunError(
                f"{path} was moved, removed or replaced during the run, so nothing more was "
                f"written there. The last checkpoint is {where}; resume the run in that directory"
            ) from error


def _remove_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()  # fails if there is something in it


def _remove_unused_lock(directory: Path) -> None:
    """Remove the lock of a directory in which no run has begun, while it is held."""
    if not (directory / CONFIG).exists():
        with contextlib.suppress(OSError):
            remove(directory / LOCK)  # not the lock of a directory that has replaced this one


def read_config(directory: PathLike) -> Optional[Dict[str, Any]]:
    """Return a run's configuration, or None if there is none.

    Raises:
        RunError: if it exists but cannot be used.
    """
    path = user_path(directory) / CONFIG
    try:
        config = parse_json(read_text(path))
        if not isinstance(config, dict) or "settings" not in config:
            raise ValueError("it does not belong to a run")
        if "run" in config or "is_the_books_text" not in config:
            config["run"], config["text"]["sha256"]  # raises if one is missing
        config = upgraded_config(config)
        for name, expected in _TYPES.items():
            if name in config and not isinstance(config[name], expected):
                raise ValueError(f"it has an invalid {name}: {repr(config[name])[:60]}")
        if "init_from" in config and not isinstance(config["init_from"].get("directory"), str):
            raise ValueError(f"it has an invalid init_from: {repr(config['init_from'])[:60]}")
        text = config.get("text", {})
        if not isinstance(text.get("sha256"), (str, type(None))):
            raise ValueError(f"it has an invalid SHA-256 of its text: {repr(text['sha256'])[:60]}")
        paths = text.get("paths", [])
        if not isinstance(paths, list) or not all(isinstance(p, (str, type(None))) for p in paths):
            raise ValueError(f"it has invalid paths of its text: {paths!r}")
        return config
    except (FileNotFoundError, NotADirectoryError):
        return None
    except KeyError as error:
        raise RunError(f"{path} cannot be used: {error} is missing") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path} cannot be used: {reason}") from error


def no_run(directory: Path) -> RunError:
    """Return the error for a directory without a run, or for a path that is not a directory."""
    if not directory.exists():
        return RunError(f"there is no directory {directory}{similar(directory)}")
    if not directory.is_dir():
        place = f", {directory.parent}" if (directory.parent / CONFIG).exists() else " of a run"
        return RunError(f"{directory} is a file: give the directory{place}")
    below = sorted(str(path.parent) for path in directory.glob(f"*/{CONFIG}"))
    more = f" and {len(below) - LISTED} more" if len(below) > LISTED else ""
    hint = f"; it contains the runs {', '.join(below[:LISTED])}{more}" if below else ""
    message = f"{directory} is not a run: it has no {CONFIG}"
    return RunError(f"{message}{hint or similar(directory)}")


def nothing_to_resume(directory: Path) -> str:
    """Return the message for a directory without a run to resume."""
    return f"{directory} has no run to resume{similar(directory)}"


def similar(directory: Path) -> str:
    """Return a suggestion for a message: the run beside a directory with the most similar name."""
    names = [path.parent.name for path in directory.parent.glob(f"*/{CONFIG}")]
    close = difflib.get_close_matches(directory.name, names, n=1)
    return f" (did you mean {directory.parent / close[0]}?)" if close else ""


def load_own(path: Path, run: Optional[str]) -> Checkpoint:
    """Load a checkpoint of the run with an id.

    Raises:
        CheckpointError: if it is missing, damaged or belongs to another run.
    """
    loaded = load_checkpoint(path)
    if loaded.data.get("run") != run:
        raise CheckpointError(
            f"{path} belongs to another run ({loaded.data.get('run')}) than the {CONFIG} beside it "
            f"({run}): restore the right file"
        )
    if "learner" not in loaded.data:
        with checkpoint_errors(path):
            loaded.data["learner"] = upgraded_state(loaded.data)
    return loaded


@contextlib.contextmanager
def checkpoint_errors(path: Path) -> Iterator[None]:
    """Turn errors about parts of a checkpoint into a CheckpointError that names its path."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{path} does not fit its run: {reason}") from error


def absolute_paths(sources: Sequence[str]) -> List[Optional[str]]:
    """Return the absolute path of each text that is a file or a directory, None for a known name.

    They are recorded so that a run finds its text from any working directory.
    """
    return [None if source in KNOWN_TEXTS else str(Path(source).absolute()) for source in sources]


def resolve_paths(sources: Sequence[str], text: Mapping[str, Any]) -> List[str]:
    """Return the paths of a run's texts: the recorded absolute ones if they exist.

    Args:
        sources: original names and paths of the texts, for those without an existing path.
        text: the configuration's part about the text.
    """
    paths = text.get("paths") or []
    if len(paths) != len(sources):  # from a version that did not record them
        return list(sources)
    return [
        path if path is not None and Path(path).exists() else source
        for source, path in zip(sources, paths)
    ]


def check_exists(sources: Sequence[str], directory: Path) -> None:
    """Raise a CorpusError with advice if a text of a run is no longer there."""
    for source in sources:
        if source not in KNOWN_TEXTS and not Path(source).exists():
            raise CorpusError(
                f"the text of the run in {directory} is no longer at {source!r}: restore it, or "
                f"give its new path: d2l-deeprnn train --resume --corpus NEWPATH --out {directory}"
            )


def check_text(
    config: Mapping[str, Any], sha256: str, sources: Sequence[str], directory: Path
) -> None:
    """Raise a RunError if a text is not a run's original text.

    Args:
        config: of the run.
        sha256: of the cleaned text, as read from ``sources``.
        directory: of the run.
    """
    if sha256 != config["text"]["sha256"]:
        raise RunError(
            f"{' + '.join(sources)} is not the text with which the run in {directory} started, or "
            f"has changed: its SHA-256 is {sha256}, but that of the run's text was "
            f"{config['text']['sha256']}; give the original text (--corpus), or start a new run in "
            "another directory"
        )
