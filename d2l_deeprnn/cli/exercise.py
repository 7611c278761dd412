"""``d2l-deeprnn exercise``: the study behind the answer to an exercise."""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING, Optional

from ..evidence.live import ProgressBar, duration
from ..exercises import EXERCISES
from ..files import user_path
from .console import DONE, print_line, print_table

if TYPE_CHECKING:
    from ..evidence.records import Row
    from ..training.trainer import Progress

EXAMPLES = """\
  d2l-deeprnn exercise 2 --quick
  d2l-deeprnn exercise initialisation --out studies"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = """\
Run the study behind the answer to an exercise, or to the chapter's remark on
initialisation, and print its tables. In full they take from ten minutes to a
day; each run is preceded by how long the study will still take, as soon as that
can be told. Interrupted, the same command with the same --out goes on where it
was."""
    parser.add_argument(
        "name",
        choices=list(EXERCISES),
        help="number of the exercise, or the chapter's remark on initialisation",
    )
    parser.add_argument(
        "--out",
        type=user_path,
        metavar="DIR",
        help="directory for the rows (CSV) and pictures (default: they are not kept)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="run a small version, on the sample texts (default: no)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run a study, print its tables, keep rows and pictures; gives the status."""
    from ..evidence.figures import save_figure
    from ..exercises.study import library
    from ..training.run_directory import RunError

    study = importlib.import_module(f"d2l_deeprnn.exercises.{EXERCISES[arguments.name]}")
    books = library(arguments.quick)
    if books.note:
        print_line(books.note)
    if arguments.out is not None:
        try:
            arguments.out.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise RunError(f"{arguments.out} is not a directory: choose another") from None
    with ProgressBar(print_line) as bar:
        try:
            rows = study.study(quick=arguments.quick, out=arguments.out, observer=_Display(bar))
        except KeyboardInterrupt:
            if arguments.out is not None:
                out = arguments.out
                print_line(f"To go on with the run that was interrupted: the same --out {out}")
            raise
    for table in study.tables(rows):
        print_line()
        print_table(table)
    print_line()
    print_line(f"The answer for real books: the project's notebooks/{study.NOTEBOOK}")
    if books.note:
        print_line()
        print_line(books.note)
    if arguments.out is not None:
        for name, figure in study.figures(rows).items():
            save_figure(figure, arguments.out / f"{name}.svg")
        print_line()
        print_line(f"Rows and pictures: {arguments.out}")
    return DONE


class _Display:
    """A study's ``Observer`` that shows a line for each run, and the progress of its epochs.

    Args:
        bar: shows the progress.
    """

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar

    def run(self, done: int, total: int, run: Row, seconds_left: Optional[float]) -> None:
        left = "" if seconds_left is None else f" (about {duration(seconds_left)} left)"
        columns = ", ".join(f"{name} {value}" for name, value in run.items())
        self._bar.line(f"run {done + 1} of {total}{left}: {columns}")
        self._run = f"run {done + 1}/{total}"

    def minibatch(self, progress: Progress) -> None:
        loss = "" if progress.loss is None else f", loss {progress.loss:.3f}"
        message = f"{self._run}, epoch {progress.epoch}{loss}"
        self._bar.update(progress.minibatch / progress.num_minibatches, message)
