"""Evidence: rows of figures as a CSV file, a JSON file that says what made them, and tables."""

from __future__ import annotations

import csv
import io
import json
import statistics
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

from ..errors import D2LError
from ..files import PathLike, read_text, user_path, write_text
from .provenance import machine, versions

Row = Dict[str, Any]


class RecordError(D2LError, ValueError):
    """A file of rows cannot be used."""


class Table(NamedTuple):
    """A title, the names of the columns, and rows of words, as they are shown to people."""

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

    def markdown(self) -> str:
        """The table in Markdown, without its title."""
        rows = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)

    def _repr_markdown_(self) -> str:
        """What Jupyter shows."""
        return f"**{self.title}**\n\n{self.markdown()}"


def write_record(path: PathLike, rows: Sequence[Row], **made_with: Any) -> None:
    """Write rows and what they were made with, each file in one atomic step.

    Args:
        path: of both files, without the suffix: ``.csv`` for the rows, ``.json`` for the rest.
        rows: column -> value. A column that a row lacks is left empty.
        made_with: command, seeds, settings: whatever it takes to make the rows again. ``versions``
            and ``machine`` are those of this process unless they are given.
    """
    path = user_path(path)
    # The description first: a study does not go on from rows that have none.
    write_description(path.with_suffix(".json"), **made_with)
    write_text(path.with_suffix(".csv"), as_csv(rows))


def write_description(path: PathLike, **made_with: Any) -> None:
    """Write the JSON file of ``write_record``."""
    described = {**made_with}
    for name, here in ("versions", versions), ("machine", machine):
        if name not in described:
            described[name] = here()
    path = user_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(described, indent=2) + "\n")


def as_csv(rows: Sequence[Row]) -> str:
    """Rows as the text of a CSV file; the columns are in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


def read_rows(path: PathLike) -> List[Row]:
    """Read the rows of a CSV file: numbers as numbers, words as words.

    Raises:
        RecordError: if there is no such file, or it is damaged or empty.
    """
    try:
        table = io.StringIO(read_text(user_path(path)), newline="")
        rows = [
            {name: _value(word) for name, word in row.items()}
            for row in csv.DictReader(table, strict=True)
        ]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    if not rows:
        raise RecordError(f"{path} has no rows")
    return rows


def read_files(files: Mapping[str, str], directory: PathLike) -> Dict[str, List[Row]]:
    """Read the rows of several files.

    Args:
        files: key of the result -> name of a file, without ``.csv``; a study's ``FILES``.
        directory: where they are.

    Raises:
        RecordError: as ``read_rows``.
    """
    directory = user_path(directory)
    return {kind: read_rows(directory / f"{name}.csv") for kind, name in files.items()}


def matches(row: Row, wanted: Row) -> bool:
    """Whether a row has these values."""
    return all(row.get(name) == value for name, value in wanted.items())


def select(rows: Sequence[Row], **wanted: Any) -> List[Row]:
    """The rows that have these values."""
    return [row for row in rows if matches(row, wanted)]


def column(rows: Sequence[Row], name: str) -> List[Any]:
    """One column of rows."""
    return [row[name] for row in rows]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The median of values, and their range where there are several, in words."""
    middle, low, high = (
        f"{v:,.{digits}f}" for v in (statistics.median(values), min(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def _value(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return word
