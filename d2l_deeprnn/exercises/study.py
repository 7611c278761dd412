"""A study: many runs, a row of figures each, kept so that none is computed twice."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Callable, Iterator, List, Mapping, Optional, Sequence

from ..errors import D2LError
from ..evidence.records import RecordError, Row, matches, read_rows, write_record
from ..files import InUse, Moved, locked, parse_json, read_text, remove_leftovers
from ..training.trainer import Callback, Progress, Trainer


class StudyError(D2LError, RuntimeError):
    """The rows of a study cannot be used."""


class Watch:
    """Is told how far a study is; of this class itself, does nothing with it."""

    def run(self, done: int, total: int, run: Row, seconds_left: Optional[float]) -> None:
        """A run begins.

        Args:
            done, total: how many runs of its kind are done, and how many there are.
            run: what tells it from the others.
            seconds_left: until all of its kind are done, by the time of those that are; None if
                that is not known.
        """

    def minibatch(self, progress: Progress) -> None:
        """Report a minibatch of the run."""


class Watched(Callback):
    """Reports the minibatches of a training to a watch."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_minibatch(self, trainer: Trainer, progress: Progress) -> None:
        self._watch.minibatch(progress)


def collect(
    name: str,
    settings: Mapping[str, Any],
    runs: Sequence[Row],
    compute: Callable[[Row], List[Row]],
    *,
    out: Optional[Path] = None,
    watch: Optional[Watch] = None,
    work: Callable[[Row], float] = lambda run: 1.0,
) -> List[Row]:
    """Compute the rows of each run of a study, those that are not there already.

    Args:
        name: of the study: its files are ``NAME.csv`` and ``NAME.json``.
        settings: all that the figures depend on besides the runs' own columns; and
            "command", which makes them again.
        runs: what tells each run from the others, by column.
        compute: gives the rows of a run, without its own columns.
        out: directory of the files, written after each run; nothing is
            written if None.
        watch: is told of each run that is computed.
        work: how long a run takes, in proportion to the others.

    Returns:
        The rows, run by run.

    Raises:
        StudyError: if the files there are of other settings, damaged, or in
            use by another process, or if ``out`` is moved or replaced meanwhile.
    """
    described = json.loads(json.dumps(settings))  # as it will be read again
    command = described.pop("command", None)
    with contextlib.ExitStack() as stack:
        if out is not None:
            stack.enter_context(_locked_study(name, out))
        rows = _read_begun(name, described, out) if out is not None else []
        for number, run in enumerate(runs):
            if any(matches(row, run) for row in rows):
                continue
            if watch is not None:
                watch.run(number, len(runs), run, _seconds_left(runs, rows, work))
            rows += [{**run, **_rounded(figures)} for figures in compute(run)]
            if out is not None:
                write_record(out / name, rows, command=command, settings=described)
    return [row for run in runs for row in rows if matches(row, run)]


def _seconds_left(
    runs: Sequence[Row], rows: Sequence[Row], work: Callable[[Row], float]
) -> Optional[float]:
    """How long the runs will take that have no rows, by the seconds of those that have."""
    done = seconds = left = 0.0
    for run in runs:
        took = [row.get("seconds", 0.0) for row in rows if matches(row, run)]
        if took:
            done, seconds = done + work(run), seconds + max(took)
        else:
            left += work(run)
    return seconds / done * left if seconds else None


@contextlib.contextmanager
def _locked_study(name: str, out: Path) -> Iterator[None]:
    """Keep other processes from the same study, and clear away what a killed one left."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out / f".{name}.lock"):
            for kind in ("csv", "json"):
                remove_leftovers(out / f"{name}.{kind}")
            yield
    except InUse:
        raise StudyError(f"another process is working on {name} in {out}") from None
    except Moved as error:
        where = f"in {error.place}" if error.place else "where that directory is now, if it exists"
        raise StudyError(
            f"{out} was moved, removed or replaced during the study, so nothing more was written "
            f"there. The rows so far are {where}; continue with that directory as --out"
        ) from error


def _read_begun(name: str, settings: Mapping[str, Any], out: Path) -> List[Row]:
    path, description = out / f"{name}.csv", out / f"{name}.json"
    if not path.exists():
        return []
    try:
        there = dict(parse_json(read_text(description))["settings"])
        there.pop("command", None)  # where it stood in version 0.1.0
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StudyError(f"{description} cannot be used: {error}") from error
    if there != settings:
        odd = sorted(k for k in {*there, *settings} if there.get(k) != settings.get(k))
        raise StudyError(
            f"{name} in {out} has other settings ({', '.join(odd)}): choose another directory"
        )
    try:
        return read_rows(path)
    except RecordError as error:
        raise StudyError(str(error)) from error


def _rounded(row: Row) -> Row:
    """Six digits: more are noise, and a file shall give back what was computed."""
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()}
