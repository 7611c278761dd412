"""``d2l-deeprnn reproduce``: the chapter's run, compared with the book."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ..chapter.book import CHAPTER
from ..evidence.live import ProgressBar
from ..training.settings import TrainSettings, fields
from .console import (
    DISAGREES,
    DONE,
    TEXT_MISSING,
    StopRequest,
    exit_status,
    print_error,
    print_line,
    stop_on_signals,
)
from .options import add_device, add_path, add_setting, device, from_args

if TYPE_CHECKING:
    from ..chapter.reproduce import Run
    from ..training.run_directory import RunDirectory

SHARED = ("encoding", "num_epochs", "seed")  # settings of `train`


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``reproduce``."""
    # Options without defaults, so that --resume sees which ones were given.
    parser.argument_default = argparse.SUPPRESS
    parser.add_argument(
        "--corpus",
        metavar="NAME|FILE",
        help="text to train on (default: auto, the book's text if available, or else a sample)",
    )
    settings = fields(TrainSettings)
    settings["num_epochs"] = settings["num_epochs"]._replace(default=CHAPTER.num_epochs)
    for name in SHARED:
        add_setting(parser, name, settings[name])
    add_path(
        parser,
        "--out",
        "directory for the checkpoint, metrics.csv, a plot, report.html and model.html, a page on "
        "which the model writes (default: nothing is written)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        default=False,
        help="resume the run in DIR; its options need not be repeated (default: no)",
    )
    add_device(parser)


def run_reproduce(arguments: argparse.Namespace) -> int:
    """Run the chapter and compare the results with the book.

    Exit status: 0 they agree; 1 they do not; 2 bad input; 3 the book's text is not
    available.

    examples:
      d2l-deeprnn reproduce --out reproduction
      d2l-deeprnn reproduce --resume --out reproduction
      d2l-deeprnn reproduce --corpus my_novel.txt --seed 1
    """
    from ..chapter import report
    from ..chapter import reproduce as chapter
    from ..training.run_directory import nothing_to_resume, read_config

    out, given = arguments.out, from_args(arguments, ("corpus", *SHARED))
    ctx = device(arguments)
    if out is None:
        if arguments.resume:
            raise chapter.RunError("--resume needs --out DIR, the directory of the run to resume")
        run = chapter.prepare(**given, ctx=ctx)
        return _finish(run, None, _train(run, None))
    if arguments.resume and read_config(out) is None:
        print_line(f"{nothing_to_resume(out)}: starting a new one")
    with chapter.directory(out, resume=arguments.resume, ctx=ctx, **given) as (run, directory):
        stop = _train(run, directory)
        status = _finish(run, out, stop)
        if run.history:
            report.save(run, out, chapter.trained_model(run, directory))
            print_line(f"Written: {out / chapter.REPORT} and the files it is made from")
    return status


def _train(run: Run, directory: Optional[RunDirectory]) -> StopRequest:
    """Train, show the progress, and return whether a stop was requested."""
    from ..chapter.reproduce import train_run

    if run.missing:
        print_line("The book's text is missing, so a sample text of this package replaces it.")
        print_line(run.missing)
    if run.remark:
        print_line(run.remark)
    total, done = run.settings.num_epochs, len(run.history)
    if done:
        print_line(
            f"Resuming after epoch {done}" if done < total else f"All {total} epochs are done"
        )
    with ProgressBar(print_line, done / total) as bar:

        def show(record: Any) -> None:
            epochs = record.epoch / total
            reached = f"epoch {record.epoch}/{total}, perplexity {record.perplexity:.3f}"
            bar.update(epochs, f"{reached}{bar.time_left(epochs)}")

        with stop_on_signals("Stopping after this epoch ...") as stop:
            try:
                train_run(run, on_epoch=show, log=bar.line, out=directory, should_stop=stop.is_set)
            except KeyboardInterrupt:
                stop.set()
    return stop


def _finish(run: Run, out: Optional[Path], stop: StopRequest) -> int:
    """Print the comparison with the book, and return the exit status."""
    from ..chapter import report

    print_line()
    for line in report.lines(run) if run.history else ():
        print_line(line)
    if stop.number is not None and len(run.history) < run.settings.num_epochs:
        resume = (
            f"; to resume: d2l-deeprnn reproduce --resume --out {shlex.quote(str(out))}"
            if out
            else ""
        )
        print_error(f"d2l-deeprnn: interrupted after epoch {len(run.history)}{resume}")
        return exit_status(stop.number)
    if run.missing:
        return TEXT_MISSING
    return DISAGREES if report.verdict(run).agrees is False else DONE
