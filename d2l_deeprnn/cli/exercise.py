"""``d2l-deeprnn exercise``: the studies behind the answers to the exercises."""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING, List, Optional

from ..errors import D2LError
from ..evidence.live import ProgressBar, duration
from ..exercises import EXERCISES
from .console import BOLD, DONE, print_line, print_paragraph, table, wrapped
from .options import add_path, heading, words

if TYPE_CHECKING:
    from ..evidence.records import Row
    from ..training.trainer import Progress


def add_exercise(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``exercise``."""
    parser.add_argument(
        "name",
        choices=list(EXERCISES),
        metavar="EXERCISE",
        help="1, 2, 3 or 4: number of the exercise; initialisation: the chapter's remark on it",
    )
    add_path(parser, "--out", "directory for rows (CSV) and plots (default: keep none)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="run a small version on the sample texts (default: no)",
    )


def run_exercise(arguments: argparse.Namespace) -> int:
    """Run the study behind the answer to an exercise, and print its tables.

    A full study takes from half an hour to half a day; it says which at the start,
    and shows the remaining time once it can be estimated. If interrupted, repeat
    the command with the same --out to continue.

    examples:
      d2l-deeprnn exercise 2 --quick
      d2l-deeprnn exercise initialisation --out studies
    """
    from ..evidence.figures import save_figure
    from ..exercises.study import library

    out = arguments.out
    if out is not None and out.exists() and not out.is_dir():
        raise D2LError(f"--out {out} is not a directory: choose another directory")
    study = importlib.import_module(f"d2l_deeprnn.exercises.{EXERCISES[arguments.name]}")
    books = library(arguments.quick)
    if books.note:
        print_paragraph(books.note)
    if not arguments.quick:
        print_line(f"The whole study takes about {study.HOURS:g} hours")
        if out is None:
            print_line("Ctrl-C loses everything, unless you add --out DIR")
    with ProgressBar(print_line) as bar:
        try:
            observer = _Progress(bar, list(study.FILES))
            rows = study.study(quick=arguments.quick, out=out, observer=observer)
        except KeyboardInterrupt:
            if out is not None:
                print_line(f"To continue, repeat the command with the same --out {out}")
            raise
    for one in study.tables(rows):
        print_line()
        print_paragraph(one.title, style=BOLD)
        for line in table([one.columns, *one.rows]):
            print_line(line)
    print_line(f"\nThe answer for real books is in notebooks/{study.NOTEBOOK}")
    if books.note:
        print_line()
        print_paragraph(books.note)
    if out is not None:
        for name, figure in study.figures(rows).items():
            save_figure(figure, out / f"{name}.svg")
        print_line(f"\nRows and plots: {out}")
    return DONE


class _Progress:
    """Shows a line for each run of a study, and the progress within it.

    The bar and the percentage show how many runs of the part are done. How far a run has come is
    not known, because most of them end when the validation loss stops falling.
    """

    def __init__(self, bar: ProgressBar, parts: List[str]) -> None:
        self._bar, self._parts, self._part = bar, parts, ""

    def run(
        self, done: int, total: int, run: Row, seconds_left: Optional[float], kind: str
    ) -> None:
        if kind != self._part and len(self._parts) > 1:
            number = f"{self._parts.index(kind) + 1} of {len(self._parts)}"
            self._bar.line(f"Part {number}: {heading(kind)}")
        self._part = kind
        left = "" if seconds_left is None else f" (about {duration(seconds_left)} left)"
        # Strings need no name, and a zero other than the seed means that something is not used.
        values = [
            words(value) if isinstance(value, str) else f"{heading(name)} {words(value)}"
            for name, value in run.items()
            if value or name == "seed"
        ]
        for line in wrapped(f"run {done + 1} of {total}{left}: {', '.join(values)}", "    "):
            self._bar.line(line)
        self._run, self._done = f"run {done + 1}/{total}", done / total

    def minibatch(self, progress: Progress) -> None:
        loss = "" if progress.loss is None else f", train {progress.loss:.3f}"
        self._bar.update(self._done, f"{self._run}, epoch {progress.epoch}{loss}")
