"""Results: rows in a CSV file, a JSON file about their origin, and tables of the rows."""

from __future__ import annotations

import csv
import io
import json
import statistics
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence

from ..errors import D2LError
from ..files import PathLike, parse_json, read_text, user_path, write_text
from .provenance import machine, versions

Row = Dict[str, Any]


class RecordError(D2LError, ValueError):
    """A file of rows cannot be used."""


class Table(NamedTuple):
    """A table of strings, with a title and names of the columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        widths = [
            max(len(row[i]) for row in [self.columns, *self.rows]) for i in range(len(self.columns))
        ]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
            for row in [self.columns, ["-" * width for width in widths], *self.rows]
        ]
        return "\n".join([self.title, "", *lines])

    def markdown(self) -> str:
        """Return the table in Markdown, without its title."""
        rows = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)

    def _repr_markdown_(self) -> str:
        """Return the Markdown that Jupyter shows."""
        return f"**{self.title}**\n\n{self.markdown()}"


def write_record(
    path: PathLike, rows: Sequence[Row], *, adding: bool = False, **made_with: Any
) -> None:
    """Write rows to a CSV file, and a description of their origin to a JSON file.

    Args:
        path: path of both files, without ``.csv`` or ``.json``.
        rows: column -> value. If a row lacks a column, its cell is empty.
        adding, made_with: see ``write_description``.
    """
    path = user_path(path)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    # The JSON file first: a study cannot resume from rows without one.
    write_description(path.with_suffix(".json"), adding=adding, **made_with)
    write_text(path.with_suffix(".csv"), table.getvalue())


def write_description(path: PathLike, *, adding: bool = False, **made_with: Any) -> None:
    """Write the JSON file of ``write_record``.

    Args:
        path: path of the file.
        adding: whether earlier rows of the file are kept. If they have other versions or another
            machine, these are kept, too, and the entry becomes a list.
        made_with: command, seeds, settings and anything else that is needed to repeat the work.
            ``versions`` and ``machine`` default to those of this process.
    """
    for name, of_this_process in ("versions", versions), ("machine", machine):
        if name not in made_with:
            made_with[name] = of_this_process()
    path = user_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if adding and path.exists():
        earlier = parse_json(read_text(path))
        for name in "versions", "machine":
            values = as_list(earlier.get(name, []))
            values += [v for v in as_list(made_with[name]) if v not in values]
            made_with[name] = values[0] if len(values) == 1 else values
    write_text(path, json.dumps(made_with, indent=2) + "\n")


def as_list(value: Any) -> List[Any]:
    """Return an entry of a description as a list: it is one if rows have different origins."""
    return list(value) if isinstance(value, list) else [value]


def read_rows(path: PathLike) -> List[Row]:
    """Read the rows of a CSV file. Cells that are numbers become int or float.

    Raises:
        RecordError: if the file is missing, damaged or empty.
    """
    try:
        table = io.StringIO(read_text(user_path(path)), newline="")
        rows = [
            {name: _value(cell) for name, cell in row.items()}
            for row in csv.DictReader(table, strict=True)
        ]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    if not rows:
        raise RecordError(f"{path} has no rows")
    return rows


def _value(cell: str) -> Any:
    for number in (int, float):
        try:
            return number(cell)
        except ValueError:
            pass
    return cell


def read_files(files: Mapping[str, str], directory: PathLike) -> Dict[str, List[Row]]:
    """Read the rows of several files.

    Args:
        files: key of the result -> name of the file, without ``.csv``; such as a study's ``FILES``.
        directory: the files' directory.

    Raises:
        RecordError: as ``read_rows``.
    """
    directory = user_path(directory)
    return {key: read_rows(directory / f"{name}.csv") for key, name in files.items()}


def matches(row: Row, values: Row) -> bool:
    """Return whether a row has these values."""
    return all(row.get(name) == value for name, value in values.items())


def select(rows: Sequence[Row], **values: Any) -> List[Row]:
    """Return the rows that have these values."""
    return [row for row in rows if matches(row, values)]


def column(rows: Sequence[Row], name: str) -> List[Any]:
    """Return one column of rows."""
    return [row[name] for row in rows]


def group_by(rows: Sequence[Row], *names: str) -> Dict[Any, List[Row]]:
    """Group rows by their values in one or several columns.

    Returns:
        value -> rows, in order of first appearance. With several columns, the keys are tuples.

    Example:
        >>> from d2l_deeprnn.evidence.records import group_by
        >>> groups = group_by([{"cell": "gru"}, {"cell": "lstm"}, {"cell": "gru"}], "cell")
        >>> {cell: len(rows) for cell, rows in groups.items()}
        {'gru': 2, 'lstm': 1}
    """
    groups: Dict[Any, List[Row]] = {}
    for row in rows:
        key = row[names[0]] if len(names) == 1 else tuple(row[name] for name in names)
        groups.setdefault(key, []).append(row)
    return groups


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return the median of values, and their range if there are several, as a string."""
    middle, low, high = (
        f"{v:,.{digits}f}" for v in (statistics.median(values), min(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


Cell = Callable[[List[Row]], str]  # returns the cell of a group of rows


def spread_of(name: str, digits: int = 3, convert: Callable[[Any], float] = float) -> Cell:
    """Return a function for ``summary_table`` that shows the ``spread`` of a column.

    ``convert`` is applied to each value first, such as ``perplexity``.
    """
    return lambda rows: spread([convert(row[name]) for row in rows], digits)


def summary_table(
    title: str, keys: Sequence[str], groups: Mapping[Any, List[Row]], columns: Mapping[str, Cell]
) -> Table:
    """Return a table with one row per group, such as medians of several seeds.

    Args:
        keys: names of the first columns, which show the keys of the groups.
        groups: groups of rows, as ``group_by`` returns them.
        columns: name of each other column -> function that returns a group's cell.
    """
    cells = []
    for key, rows in groups.items():
        values = key if isinstance(key, tuple) else [key]
        cells.append([*map(str, values), *(cell(rows) for cell in columns.values())])
    return Table(title, [*keys, *columns], cells)
