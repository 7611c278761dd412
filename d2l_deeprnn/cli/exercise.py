"""``d2l-deeprnn exercise``: the study behind the answer to an exercise."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any, Dict

from ..exercises import EXERCISES, NOTEBOOKS
from .console import DONE, print_line

EXAMPLES = """\
  d2l-deeprnn exercise 2 --quick
  d2l-deeprnn exercise initialisation --out studies"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = """\
Run the study behind the answer to an exercise, or to the chapter's remark on
initialisation, and print its tables. In full they take from ten minutes to an
hour. Interrupted, the same command with the same --out goes on with the next
run."""
    parser.add_argument(
        "name",
        choices=list(EXERCISES),
        help="number of the exercise, or the chapter's remark on initialisation",
    )
    parser.add_argument(
        "--out",
        type=Path,
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
    from tqdm import tqdm

    from ..evidence.figures import save_figure
    from ..exercises import texts
    from ..training.run_directory import RunError

    study = importlib.import_module(f"d2l_deeprnn.exercises.{EXERCISES[arguments.name]}")
    books = texts.library(arguments.quick)
    if books.note:
        print(books.note)
    if arguments.out is not None:
        try:
            arguments.out.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise RunError(f"{arguments.out} is not a directory: choose another") from None
    with tqdm(unit="run", disable=None, leave=False) as bar:

        def show(done: int, total: int, run: Dict[str, Any]) -> None:
            bar.total = total
            words = ", ".join(f"{name} {value}" for name, value in run.items())
            print_line(f"run {done + 1} of {total}: {words}")
            bar.update(done - bar.n)

        try:
            rows = study.study(quick=arguments.quick, out=arguments.out, on_run=show)
        except KeyboardInterrupt:
            if arguments.out is not None:
                print(f"To go on with the run that was interrupted: the same --out {arguments.out}")
            raise
    for table in study.tables(rows):
        print(f"\n{table}")
    print(f"\nThe answer for real books: the project's notebooks/{NOTEBOOKS[arguments.name]}")
    if books.note:
        print(f"\n{books.note}")
    if arguments.out is not None:
        for name, figure in study.figures(rows).items():
            save_figure(figure, arguments.out / f"{name}.svg")
        print(f"\nRows and pictures: {arguments.out}")
    return DONE
