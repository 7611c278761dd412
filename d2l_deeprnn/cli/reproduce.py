"""``d2l-deeprnn reproduce``: a training of the authors, compared with what they printed."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from ..chapter.book import TRAININGS
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
    from ..chapter.train import EpochRecord

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
    parser.add_argument(
        "--settings",
        choices=TRAININGS,
        help="chapter: those of the chapter's cells; lecture: those of its prose, which the "
        "authors ran in a lecture: 3000 epochs, lr 100, clipping_theta 0.01 (default: chapter)",
    )
    settings = fields(TrainSettings)
    epochs = " or ".join(str(training.settings.num_epochs) for training in TRAININGS.values())
    settings["num_epochs"] = settings["num_epochs"]._replace(default=f"{epochs}, by the settings")
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
    """Run the chapter and compare the results with those that the authors printed.

    Exit status: 0 they agree, or there was nothing to compare, as with another text
    or too few epochs; 1 they do not agree; 2 bad input; 3 the book's text is not
    available.

    examples:
      d2l-deeprnn reproduce --out reproduction
      d2l-deeprnn reproduce --resume --out reproduction
      d2l-deeprnn reproduce --settings lecture --out lecture
      d2l-deeprnn reproduce --corpus my_novel.txt --seed 1
    """
    from ..chapter import report
    from ..chapter.reproduce import load, reproduce
    from ..training.run_directory import LAST, RunError, nothing_to_resume, read_config

    out = arguments.out
    if arguments.resume:
        if out is None:
            raise RunError("--resume needs --out DIR, the directory of the run to resume")
        if read_config(out) is None:
            print_line(f"{nothing_to_resume(out)}, so a new one starts")
    options = from_args(arguments, ("corpus", "settings", *SHARED))
    ctx, stop = device(arguments), StopRequest()
    with contextlib.ExitStack() as stack:
        display = _Display(stack, stop)
        directory = out or stack.enter_context(tempfile.TemporaryDirectory())
        try:
            reproduce(
                directory,
                **options,
                resume=arguments.resume,
                on_start=display.start,
                on_epoch=display.epoch,
                log=display.line,
                should_stop=stop.is_set,
                ctx=ctx,
            )
        except KeyboardInterrupt:
            if display.run is None:
                raise
            stop.set()
            # Later epochs may be lost if the signal interrupted a checkpoint.
            saved = (Path(directory) / LAST).exists()
            display.run.history[:] = load(directory).history if saved else []
    run = display.run
    assert run is not None
    status = _finish(run, out, stop)
    if out is not None and run.history:
        report.save(run, out, ctx)
        print_line(f"Written: {out / report.REPORT} and the files it is made from")
    return status


class _Display:
    """Shows what is trained, and the progress.

    Args:
        stack: Closes the progress bar at the end.
        stop: Set by a signal, from the start of the training on.
    """

    def __init__(self, stack: contextlib.ExitStack, stop: StopRequest) -> None:
        self._stack, self._stop = stack, stop
        self.run: Optional[Run] = None  # until the training starts

    def start(self, run: Run) -> None:
        self.run = run
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
        message = "Stopping: writing a checkpoint ..."
        self._stack.enter_context(stop_on_signals(message, self._stop))
        self._bar = self._stack.enter_context(ProgressBar(print_line, done / total))

    def epoch(self, record: EpochRecord) -> None:
        assert self.run is not None
        total = self.run.settings.num_epochs
        reached = f"epoch {record.epoch}/{total}, perplexity {record.perplexity:.3f}"
        done = record.epoch / total
        self._bar.update(done, f"{reached}{self._bar.time_left(done)}")

    def line(self, line: str) -> None:
        self._bar.line(line)


def _finish(run: Run, out: Optional[Path], stop: StopRequest) -> int:
    """Print the comparison, and return the exit status."""
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
