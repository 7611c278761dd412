"""Rows kept in files, progress reports, and texts: the parts that all studies share."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from ..errors import D2LError
from ..evidence.records import RecordError, Row, matches, read_rows, write_record
from ..files import InUse, locked, parse_json, read_text, remove_leftovers, user_path
from ..text.corpora import TextNotAvailable, find_text, load_text

if TYPE_CHECKING:
    from .networks import Progress

Rows = Dict[str, List[Row]]  # kind of rows, as in a study's FILES -> rows


class StudyError(D2LError, RuntimeError):
    """The files of a study cannot be used."""


class Observer:
    """Receives progress reports. The base class ignores them."""

    def run(
        self, done: int, total: int, run: Row, seconds_left: Optional[float], kind: str
    ) -> None:
        """Report that a run begins.

        Args:
            done, total: number of completed runs of this kind, and of all runs of this kind.
            run: columns that identify the run.
            seconds_left: estimated time until all runs of this kind are done, or None.
            kind: kind of its rows, as in the study's ``FILES``.
        """

    def minibatch(self, progress: Progress) -> None:
        """Report that a minibatch of the run is done."""


class Study:
    """The rows of a study, which are written to files after each run.

    If an interrupted study is started again with the same directory, it only computes the missing
    rows.

    Args:
        exercise: name of the study on the command line.
        files: kind of rows -> name of their files, without ``.csv`` or ``.json``.
        settings: everything else that the rows depend on, besides their own columns.
        quick: whether this is the small version.
        out: directory of the files, or None to write nothing.
        observer: receives progress reports.
    """

    def __init__(
        self,
        exercise: str,
        files: Mapping[str, str],
        settings: Mapping[str, Any],
        *,
        quick: bool = False,
        out: Optional[Path] = None,
        observer: Optional[Observer] = None,
    ) -> None:
        self._files = files
        self._command = f"d2l-deeprnn exercise {exercise}" + (" --quick" if quick else "")
        self._settings = json.loads(json.dumps(settings))  # tuples become lists, as in the file
        self._out = None if out is None else user_path(out).absolute()
        self._observer = observer or Observer()
        self._kept: Rows = {}

    def collect(
        self,
        kind: str,
        runs: Sequence[Row],
        compute: Callable[[Row], List[Row]],
        *,
        work: Callable[[Row], float] = lambda run: 1.0,
    ) -> List[Row]:
        """Return the rows of all runs, after computing those that are missing.

        Rows that this study has computed before are not computed again.

        Args:
            kind: kind of the rows, a key of ``files``.
            runs: the columns that identify each run.
            compute: receives these columns, and returns a run's rows with all other columns.
            work: returns how long a run takes, relative to the others.

        Raises:
            StudyError: if the files have other settings or are in use by another process.
            D2LError: if a file is damaged, or if the directory is moved or replaced meanwhile;
                nothing more is written.
        """
        name = self._files[kind]
        with contextlib.ExitStack() as stack:
            rows = self._kept.setdefault(kind, [])
            if self._out is not None:
                stack.enter_context(_locked_study(name, self._out))
                rows[:] = _read_rows(name, self._settings, self._out)
            for number, run in enumerate(runs):
                if any(matches(row, run) for row in rows):
                    continue
                left = _seconds_left(runs, rows, work)
                self._observer.run(number, len(runs), run, left, kind)
                rows += [{**run, **_rounded(row)} for row in compute(run)]
                if self._out is not None:
                    described = {"command": self._command, "settings": self._settings}
                    write_record(self._out / name, rows, adding=True, **described)
        return [row for run in runs for row in rows if matches(row, run)]

    def network_file(self, name: str) -> Optional[Path]:
        """Return the file that keeps a training in progress, or None if nothing is written."""
        return None if self._out is None else self._out / "networks" / name

    def on_minibatch(self, progress: Progress) -> None:
        """Report that a minibatch is done."""
        self._observer.minibatch(progress)


def _seconds_left(
    runs: Sequence[Row], rows: Sequence[Row], work: Callable[[Row], float]
) -> Optional[float]:
    """Estimate the time of the missing runs from the seconds of the others."""
    done = seconds = left = 0.0
    for run in runs:
        found = [row for row in rows if matches(row, run)]
        times = [row["seconds"] for row in found if row.get("seconds", "") != ""]
        if times:
            done, seconds = done + work(run), seconds + max(times)
        elif not found:
            left += work(run)
    return seconds / done * left if seconds else None


@contextlib.contextmanager
def _locked_study(name: str, out: Path) -> Iterator[None]:
    """Lock the files of a study, and remove temporary files of killed processes."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out / f".{name}.lock"):
            for ending in ("csv", "json"):
                remove_leftovers(out / f"{name}.{ending}")
            yield
    except InUse:
        raise StudyError(f"another process is working on {name} in {out}") from None


def _read_rows(name: str, settings: Mapping[str, Any], out: Path) -> List[Row]:
    """Read the existing rows, and check that their settings are the same."""
    path, description = out / f"{name}.csv", out / f"{name}.json"
    if not path.exists():
        return []
    try:
        stored = dict(parse_json(read_text(description))["settings"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RecordError(f"{description} cannot be used: {error}") from error
    if stored != settings:
        changed = sorted(k for k in {*stored, *settings} if stored.get(k) != settings.get(k))
        raise StudyError(
            f"{name} in {out} has other settings ({', '.join(changed)}): choose another directory"
        )
    return read_rows(path)


def _rounded(row: Row) -> Row:
    """Round to six digits, so that rows read from a file equal the computed ones."""
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()}


class Library(NamedTuple):
    """Names of the texts that a study reads.

    Attributes:
        first, second: names of each author's texts.
        authors: names of the authors.
        note: states that the texts are samples, and why; empty for the real books.
    """

    first: Tuple[str, ...]
    second: Tuple[str, ...]
    authors: Tuple[str, str]
    note: str


BOOKS = Library(
    ("time_machine", "war_of_the_worlds"), ("pride_and_prejudice",), ("Wells", "Austen"), ""
)
SAMPLES = Library(
    ("the_clockmakers_guest", "the_tide_tables"),
    ("letters_from_a_cousin",),
    ("the tales", "the letters"),
    "This package's sample texts stand in for the books, so the results are not for real books.",
)


def library(quick: bool) -> Library:
    """Return the real books, or the samples if a book is missing or the study is a quick one."""
    if quick:
        return SAMPLES
    try:
        for name in BOOKS.first + BOOKS.second:
            find_text(name)
    except TextNotAvailable as error:
        return SAMPLES._replace(note=f"{SAMPLES.note} {error}")
    return BOOKS


def read(names: Sequence[str]) -> List[str]:
    """Return the texts with these names, cleaned as in the chapter."""
    return [load_text(name) for name in names]


# Some books have typographic quotes and dashes; others mark speech by ' or ", and dashes by --.
_ONE_TYPOGRAPHY = str.maketrans({**dict.fromkeys('\u2018\u2019\u201c\u201d"', "'"), "\u2014": "--"})


def in_one_typography(text: str) -> str:
    """Return a text with the same characters for quotes and dashes as any other.

    Example:
        >>> from d2l_deeprnn.exercises.study import in_one_typography
        >>> in_one_typography("\u201cno\u201d\u2014\"yes\"")
        "'no'--'yes'"
    """
    return text.translate(_ONE_TYPOGRAPHY)


def split(text: str, held_out: float = 0.2) -> Tuple[str, str, str]:
    """Split a text in order into training, validation and test parts.

    Args:
        text: any text.
        held_out: fraction for validation and test together, half of it for each.
    """
    train = int(len(text) * (1 - held_out))
    middle = train + (len(text) - train) // 2
    return text[:train], text[train:middle], text[middle:]
