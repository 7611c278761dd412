"""A study: many runs, a row of figures each, kept so that none is computed twice."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..evidence.provenance import machine, versions
from ..files import InUse, locked, read_text, remove_leftovers, write_text

Row = Dict[str, Any]


class StudyError(RuntimeError):
    """The rows of a study cannot be used."""


class Table(NamedTuple):
    """What people read: a title, the names of the columns, and rows of words."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        widths = [
            max(len(row[i]) for row in [self.columns, *self.rows]) for i in range(len(self.columns))
        ]
        lines = [
            "  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip()
            for row in [self.columns, ["-" * width for width in widths], *self.rows]
        ]
        return "\n".join([self.title, "", *lines])

    def _repr_markdown_(self) -> str:
        """How Jupyter shows it."""
        lines = [
            "| " + " | ".join(row) + " |"
            for row in [self.columns, ["---"] * len(self.columns), *self.rows]
        ]
        return "\n".join([f"**{self.title}**", "", *lines])


def collect(
    name: str,
    settings: Mapping[str, Any],
    runs: Sequence[Row],
    compute: Callable[[Row], List[Row]],
    *,
    out: Optional[Path] = None,
    on_run: Callable[[int, int, Row], Any] = lambda done, total, run: None,
) -> List[Row]:
    """Compute the rows of each run of a study, those that are not there already.

    Args:
        name: of the study: its files are ``NAME.csv`` and ``NAME.json``.
        settings: all that the figures depend on beside the runs' own columns.
        runs: what tells each run from the others, by column.
        compute: gives the rows of a run, without its own columns.
        out: directory of the files, written after each run; nothing is
            written if None.
        on_run: called before each run that is computed: how many are done,
            how many there are, and the run.

    Returns:
        The rows, run by run.

    Raises:
        StudyError: if the files there are of other settings, damaged, or in
            use by another process.
    """
    described = json.loads(json.dumps(settings))  # as it will be read again
    with contextlib.ExitStack() as stack:
        if out is not None:
            _take(name, out, stack)
        rows = _read_begun(name, described, out) if out is not None else []
        for number, run in enumerate(runs):
            if any(_belongs(row, run) for row in rows):
                continue
            on_run(number, len(runs), run)
            rows += [{**run, **_rounded(figures)} for figures in compute(run)]
            if out is not None:
                _write(name, described, rows, out)
    return [row for run in runs for row in rows if _belongs(row, run)]


def read_rows(path: Path) -> List[Row]:
    """Read the rows of a study: numbers as numbers, words as words.

    Raises:
        StudyError: if there is no such file, or it is no table.
    """
    try:
        table = io.StringIO(read_text(path), newline="")
        rows = [
            {name: _value(word) for name, word in row.items()}
            for row in csv.DictReader(table, strict=True)
        ]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise StudyError(f"{path} cannot be read: {error}") from error
    if not rows:
        raise StudyError(f"{path} holds no rows")
    return rows


def read_study(files: Mapping[str, str], directory: Path) -> Dict[str, List[Row]]:
    """Read all rows of a study: what its ``study`` returned when they were written.

    Args:
        files: the study's ``FILES``.
        directory: where they are.

    Raises:
        StudyError: as ``read_rows``.
    """
    return {kind: read_rows(directory / f"{name}.csv") for kind, name in files.items()}


def select(rows: Sequence[Row], **wanted: Any) -> List[Row]:
    """The rows that have these values."""
    return [row for row in rows if _belongs(row, wanted)]


def column(rows: Sequence[Row], name: str) -> List[Any]:
    """One column of rows."""
    return [row[name] for row in rows]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The median of values, and their range where there are several, in words."""
    words = [f"{v:.{digits}f}" for v in (statistics.median(values), min(values), max(values))]
    return words[0] if len(values) == 1 else f"{words[0]} ({words[1]} to {words[2]})"


def perplexity(nats: float) -> float:
    """exp(nats), infinite where a float cannot hold it."""
    return math.exp(nats) if nats < 700 else math.inf


def _belongs(row: Row, run: Row) -> bool:
    return all(row.get(name) == value for name, value in run.items())


def _take(name: str, out: Path, stack: contextlib.ExitStack) -> None:
    """Keep other processes from the same study, and clear away what a killed one left."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(out / f".{name}.lock"))
    except InUse:
        raise StudyError(f"another process is at work on {name} in {out}") from None
    for kind in ("csv", "json"):
        remove_leftovers(out / f"{name}.{kind}")


def _read_begun(name: str, settings: Mapping[str, Any], out: Path) -> List[Row]:
    path, description = out / f"{name}.csv", out / f"{name}.json"
    if not path.exists():
        return []
    try:
        there = dict(json.loads(read_text(description))["settings"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StudyError(f"{description} cannot be used: {error}") from error
    if there != settings:
        odd = sorted(k for k in {*there, *settings} if there.get(k) != settings.get(k))
        raise StudyError(
            f"{out} holds {name} with other settings ({', '.join(odd)}): name another directory"
        )
    return read_rows(path)


def _write(name: str, settings: Mapping[str, Any], rows: Sequence[Row], out: Path) -> None:
    columns: Tuple[str, ...] = tuple(dict.fromkeys(k for row in rows for k in row))
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    description = {"settings": settings, "versions": versions(), "machine": machine()}
    # The description first: rows without one could not be gone on with.
    write_text(out / f"{name}.json", json.dumps(description, indent=2) + "\n")
    write_text(out / f"{name}.csv", table.getvalue())


def _rounded(row: Row) -> Row:
    """Six digits: more are noise, and a file shall give back what was computed."""
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()}


def _value(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return word
