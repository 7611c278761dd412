"""The directory of a training run, whoever trains in it: locked, and never another run's.

    config.json   what was asked for, text, versions and machine
    metrics.csv   the history, a row an epoch
    last.zip      the checkpoint to go on from
    best.zip      the checkpoint with the smallest loss so far, where there is one

Each run has an identifier, which stands in its configuration and in its checkpoints.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import uuid
import warnings
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

import numpy as np

from ..errors import D2LError
from ..files import (
    InUse,
    Moved,
    PathLike,
    locked,
    parse_json,
    read_text,
    remove_leftovers,
    user_path,
    write_text,
)
from ..text.corpora import KNOWN_TEXTS, CorpusError
from .checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint

CONFIG, METRICS, LAST, BEST, LOCK = "config.json", "metrics.csv", "last.zip", "best.zip", ".lock"
TRAIN, REPRODUCE = "train", "reproduce"  # commands that have such a directory


# Types of the optional parts of a configuration, beside the settings and the text.
_KINDS = {"changes": list, "machine": dict, "versions": dict, "ranks": int, "device": str}


class RunError(D2LError, RuntimeError):
    """A directory cannot be used for what was asked."""


class RunDirectory:
    """A directory that is locked for a run.

    Attributes:
        path: of the directory.
        config: the configuration of the run that is there; None before ``begin``.
    """

    def __init__(self, path: Path, command: str, config: Optional[Dict[str, Any]]) -> None:
        self.path = path
        self.config = config
        self._command = command

    def begin(self, config: Mapping[str, Any]) -> None:
        """Write the configuration of a new run."""
        begun = datetime.now(timezone.utc).isoformat(timespec="seconds")
        identity = {"run": uuid.uuid4().hex, "command": self._command, "begun": begun}
        self._write({**identity, **config})

    def change(self, begun: int, what: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Write a changed configuration, and into it what was changed, and when.

        Args:
            begun: how many epochs were begun.
            what: of each setting that was changed, the value before and the new one.
            config: the parts of the configuration that are new.
        """
        assert self.config is not None
        changes = [*self.config.get("changes", []), {"epochs_begun": begun, **what}]
        self._write({**self.config, **config, "changes": changes})

    def _write(self, config: Dict[str, Any]) -> None:
        write_text(self.path / CONFIG, json.dumps(config, indent=2) + "\n")
        self.config = config

    def save(
        self,
        arrays: Mapping[str, np.ndarray],
        data: Mapping[str, Any],
        metrics: str,
        *,
        best: bool = False,
    ) -> None:
        """Write the checkpoint to go on from, and the history.

        Args:
            arrays, data: of the checkpoint.
            metrics: the history as CSV.
            best: whether the checkpoint is the best one too.
        """
        assert self.config is not None
        data = {"run": self.config["run"], **data}
        # Best first: were it last, a process killed in between would never write it.
        for name in (BEST, LAST) if best else (LAST,):
            save_checkpoint(self.path / name, arrays, data)
        self.save_metrics(metrics)

    def save_metrics(self, metrics: str) -> None:
        """Write the history."""
        write_text(self.path / METRICS, metrics)

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        return (self.path / name).exists()

    def load(self, name: str) -> Checkpoint:
        """Load a checkpoint of the run."""
        assert self.config is not None
        return load_own(self.path / name, self.config["run"])

    def begins_again(self) -> None:
        """Say that a run which is to go on had written no checkpoint.

        Raises:
            RunError: if it had.
        """
        if self.has(METRICS) or self.has(BEST):
            raise self.last_is_gone()
        warnings.warn(
            f"the run in {self.path} had not written a checkpoint yet: it begins again",
            stacklevel=3,
        )

    def last_is_gone(self) -> RunError:
        """The error that the checkpoint to go on from is lost."""
        return RunError(
            f"the run in {self.path} had begun, but its {LAST} is gone: put it back"
            + (f", or go on from the best epoch with a copy of {BEST}" if self.has(BEST) else "")
            + ", or begin a new run in another directory"
        )

    def check_text(self, sha256: str, sources: Sequence[str]) -> None:
        """Make sure that the run goes on with the text that it began with.

        Args:
            sha256: of the text, as it was read from ``sources``.
        """
        assert self.config is not None
        check_text(self.config, sha256, sources, self.path)


@contextlib.contextmanager
def run_directory(path: PathLike, command: str, *, resume: bool) -> Iterator[RunDirectory]:
    """Take a directory for a run of a command, as long as the ``with`` block lasts.

    Args:
        path: of the directory. It is made; it must be empty or, to resume, hold a run.
        command: ``TRAIN`` or ``REPRODUCE``.
        resume: whether to go on with the run that is there.

    Raises:
        RunError: if it holds something else, or cannot be used; or if it was moved or replaced
            before the end of the ``with`` block, when something was to be written into it.
    """
    path = user_path(path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_explaining_moves(path))
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path / LOCK))  # the lock goes with the process
            for name in (CONFIG, METRICS, LAST, BEST):
                remove_leftovers(path / name)
        except InUse:
            raise RunError(f"{path} is being trained in by another process") from None
        except (FileExistsError, NotADirectoryError) as error:
            raise RunError(f"{path} is not a directory: choose another") from error
        except OSError as error:
            where = "" if error.filename in (None, str(path)) else f"{error.filename}: "
            raise RunError(
                f"{path} cannot be written to ({where}{error.strerror or error}): choose another "
                "directory"
            ) from error
        config = read_config(path)
        if config is not None and not resume:
            raise RunError(
                f"{path} holds a run: go on with it (--resume), or choose another directory"
            )
        if config is not None and command_of(config) != command:
            raise RunError(
                f"{path} holds a run of `{command_of(config)}`, which `{command}` cannot go on "
                "with: choose another directory"
            )
        others = [p.name for p in path.iterdir() if p.name != LOCK]
        if config is None and others:
            raise RunError(
                f"{path} is not empty and holds no run (it holds {min(others)}): choose a new one"
            )
        if config is not None and "run" not in config:
            raise RunError(
                f"the run in {path} was made before its kind could be gone on with: begin a new "
                "one in another directory"
            )
        yield RunDirectory(path, command, config)


@contextlib.contextmanager
def _explaining_moves(path: Path) -> Iterator[None]:
    """Say where the run in a directory is now, if another one has taken its place."""
    try:
        yield
    except Moved as error:
        place = error.place
        where = f"in {place}" if place else "where that directory is now, if it still exists"
        raise RunError(
            f"{path} was moved, removed or replaced during the run, and nothing more was written "
            f"there: the run's last checkpoint is {where}; resume the run in that place"
        ) from error


def read_config(directory: PathLike) -> Optional[Dict[str, Any]]:
    """Read a run's configuration; None where there is none.

    Raises:
        RunError: if it is there and cannot be used.
    """
    path = user_path(directory) / CONFIG
    try:
        config = parse_json(read_text(path))
        if not isinstance(config, dict) or "settings" not in config:
            raise ValueError("it is not a run's")
        if command_of(config) == TRAIN or "run" in config:
            config["run"], config["text"]["sha256"]  # raises if one is not there
        for name, kind in _KINDS.items():
            if name in config and not isinstance(config[name], kind):
                raise ValueError(f"its {name} is {repr(config[name])[:60]}")
        paths = config["text"].get("paths", []) if command_of(config) == TRAIN else []
        if not isinstance(paths, list) or not all(isinstance(p, (str, type(None))) for p in paths):
            raise ValueError(f"the paths of its text are {paths!r}")
        return config
    except (FileNotFoundError, NotADirectoryError):
        return None
    except KeyError as error:
        raise RunError(f"{path} cannot be used: {error} is missing") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path} cannot be used: {reason}") from error


def no_run(directory: Path) -> RunError:
    """Make the error that a directory holds no run."""
    return RunError(f"{directory} holds no run: there is no {CONFIG}{similar(directory)}")


def nothing_to_resume(directory: Path) -> str:
    """Say that a directory holds no run to resume."""
    return f"there is no run to resume in {directory}{similar(directory)}"


def similar(directory: Path) -> str:
    """Suggest the run beside a directory whose name is most like its own, if one is."""
    names = [path.parent.name for path in directory.parent.glob(f"*/{CONFIG}")]
    close = difflib.get_close_matches(directory.name, names, n=1)
    return f" (did you mean {directory.parent / close[0]}?)" if close else ""


def command_of(config: Mapping[str, Any]) -> str:
    """Which command a run is of; the versions before this one did not write it down."""
    command = config.get("command", REPRODUCE if "is_the_books_text" in config else TRAIN)
    if command not in (TRAIN, REPRODUCE):
        raise ValueError(f"it is of a command {command!r}: update d2l_deeprnn to use it")
    return command


def load_own(path: Path, run: str) -> Checkpoint:
    """Load a checkpoint that belongs to a run.

    Raises:
        CheckpointError: if it is missing, damaged or of another run.
    """
    loaded = load_checkpoint(path)
    check_own(path, loaded.data, run)
    return loaded


def check_own(path: Path, data: Dict[str, Any], run: str) -> Dict[str, Any]:
    """Return the JSON values of a checkpoint if it belongs to a run; else raise CheckpointError."""
    if data.get("run") != run:
        raise CheckpointError(
            f"{path} is of another run ({data.get('run')}) than the {CONFIG} beside it "
            f"({run}): put back the file that belongs here"
        )
    return data


@contextlib.contextmanager
def checkpoint_errors(path: Path) -> Iterator[None]:
    """Say of which checkpoint an error is, where its parts do not fit its run.

    Raises:
        CheckpointError: in place of the errors that missing and foreign parts give.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{path} does not fit its run: {reason}") from error


def text_sha256(text: str) -> str:
    """The SHA-256 of a run's text as it is trained on, by which the text is known again."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def absolute_paths(sources: Sequence[str]) -> List[Optional[str]]:
    """The absolute path of each text that is a file or a directory; None for a known name.

    So a run finds its text from any directory.
    """
    return [None if source in KNOWN_TEXTS else str(Path(source).absolute()) for source in sources]


def resolve_paths(sources: Sequence[str], text: Mapping[str, Any]) -> List[str]:
    """Where the texts of a run are now: where they were, or else where they were said to be.

    Args:
        sources: names and paths, as they were given when the run began.
        text: what its configuration says of the text.
    """
    paths = text.get("paths") or []
    if len(paths) != len(sources):  # of a version that did not write them down
        return list(sources)
    return [
        path if path is not None and Path(path).exists() else source
        for source, path in zip(sources, paths)
    ]


def check_exists(sources: Sequence[str], directory: Path, command: str) -> None:
    """Raise a CorpusError that says how to go on, unless each text of a run is where it was."""
    for source in sources:
        if source not in KNOWN_TEXTS and not Path(source).exists():
            raise CorpusError(
                f"the text of the run in {directory} is no longer at {source!r}: put it back, or "
                f"name its new place ({command} --resume --corpus NEWPLACE --out {directory})"
            )


def check_text(
    config: Mapping[str, Any], sha256: str, sources: Sequence[str], directory: Path
) -> None:
    """Raise a RunError unless a text is still what a run began with.

    Args:
        config: of the run.
        sha256: of the text, as it was read from ``sources``.
        directory: of the run.
    """
    if sha256 != config["text"]["sha256"]:
        raise RunError(
            f"the text has changed since the run in {directory} began: its SHA-256 was "
            f"{config['text']['sha256']}, that of {' + '.join(sources)} is {sha256}; "
            "give it the text it had (--corpus), or begin a new run in another directory"
        )
