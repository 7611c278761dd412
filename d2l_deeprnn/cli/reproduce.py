"""``d2l-deeprnn reproduce``: the chapter's run, held against the book."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ..chapter.book import CHAPTER
from ..evidence.live import ProgressBar
from ..files import user_path
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
from .options import add_device, add_setting, device, given

if TYPE_CHECKING:
    from ..chapter.reproduce import Run
    from ..training.run_directory import RunDirectory

EXAMPLES = """\
  d2l-deeprnn reproduce --out reproduction
  d2l-deeprnn reproduce --resume --out reproduction
  d2l-deeprnn reproduce --corpus my_novel.txt --seed 1"""
SHARED = ("encoding", "num_epochs", "seed")  # the settings of `train` that it takes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = """\
Run the chapter and hold its figures against the book's. Exit status: 0 they
agree; 1 they do not; 2 bad input; 3 the book's text is not available."""
    # What is not given stays out, so that --resume can tell it from what is.
    parser.argument_default = argparse.SUPPRESS
    parser.add_argument(
        "--corpus",
        metavar="NAME|FILE",
        help="text to train on (default: auto, the book's if it is available, else a sample)",
    )
    settings = fields(TrainSettings)
    settings["num_epochs"] = settings["num_epochs"]._replace(default=CHAPTER.num_epochs)
    for name in SHARED:
        add_setting(parser, name, settings[name])
    parser.add_argument(
        "--out",
        type=user_path,
        default=None,
        metavar="DIR",
        help="directory for checkpoint, figures, picture, report.html and model.html, a page on "
        "which the model writes (default: nothing is written)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        default=False,
        help="go on with the run in DIR; what it was given need not be repeated (default: no)",
    )
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the chapter, or go on with a run of it, and hold it against the book.

    Gives the exit status.
    """
    from ..chapter import report
    from ..chapter import reproduce as chapter
    from ..training.run_directory import nothing_to_resume, read_config

    out, what = arguments.out, given(arguments, ("corpus", *SHARED))
    ctx = device(arguments)
    if out is None:
        if arguments.resume:
            raise chapter.RunError(
                "--resume needs --out DIR, the directory of the run to go on with"
            )
        defaults = {"corpus": chapter.AUTO, "num_epochs": chapter.NUM_EPOCHS, "seed": 0}
        run = chapter.prepare(**{**defaults, **what}, ctx=ctx)
        return _finish(run, None, _train(run, None))
    if arguments.resume and read_config(out) is None:
        print_line(f"{nothing_to_resume(out)}: it begins")
    with chapter.directory(out, resume=arguments.resume, ctx=ctx, **what) as (run, directory):
        stop = _train(run, directory)
        status = _finish(run, out, stop)
        if run.history:
            report.save(run, out, chapter.trained_model(run, directory))
            print_line(f"Written: {out / chapter.REPORT} and the figures behind it")
    return status


def _train(run: Run, directory: Optional[RunDirectory]) -> StopRequest:
    """Train, and show how it goes; gives whether it was stopped."""
    from ..chapter.reproduce import train_run

    if run.missing:
        print_line("The book's text is missing: a sample of this package stands in for it.")
        print_line(run.missing)
    if run.remark:  # the verdict says it once more, when the figures are there
        print_line(run.remark)
    total, done = run.settings.num_epochs, len(run.history)
    if done:
        print_line(
            f"resuming after epoch {done}" if done < total else f"all {total} epochs are done"
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
    """Show the comparison with the book; gives the exit status."""
    from ..chapter import report

    print_line()
    for line in report.lines(run) if run.history else ():
        print_line(line)
    if stop.number is not None and len(run.history) < run.settings.num_epochs:
        go_on = f"; to go on: d2l-deeprnn reproduce --resume --out {out}" if out else ""
        print_error(f"d2l-deeprnn: interrupted after epoch {len(run.history)}{go_on}")
        return exit_status(stop.number)
    if run.missing:
        return TEXT_MISSING
    outcome = report.verdict(run)
    return DISAGREES if outcome.compared and not outcome.agrees else DONE
