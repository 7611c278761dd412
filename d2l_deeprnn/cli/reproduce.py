"""``d2l-deeprnn reproduce``: a training of the authors, compared with what they printed."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from ..chapter.book import TRAININGS
from ..evidence.live import ProgressBar
from ..training.settings import TrainSettings, fields
from .console import (
    BOLD,
    DISAGREES,
    DONE,
    GREEN,
    RED,
    TEXT_MISSING,
    StopRequest,
    exit_status,
    print_error,
    print_line,
    print_paragraph,
    show_json,
    stop_on_signals,
    table,
)
from .options import add_device, add_json, add_path, add_setting, device, from_args

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
    add_json(parser, "the comparison")


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
    # With --json, everything else goes to standard error.
    with contextlib.redirect_stdout(sys.stderr if arguments.json else sys.stdout):
        run, status = _reproduce(arguments)
    if arguments.json:
        show_json(_as_json(run))
    return status


def _reproduce(arguments: argparse.Namespace) -> Tuple[Run, int]:
    """Train and compare; return the run and the exit status."""
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
        display = _Display(stack, stop, out)
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
    if run.history:
        _print_comparison(run)
    if out is not None and run.history:
        report.save(run, out, ctx)
        print_line(f"\nReport: {(out / report.REPORT).absolute().as_uri()}")
    if stop.number is not None and len(run.history) < run.settings.num_epochs:
        resume = "nothing was saved, because there is no --out"
        if out is not None:
            resume = f"to resume: d2l-deeprnn reproduce --resume --out {shlex.quote(str(out))}"
        print_error(f"d2l-deeprnn: interrupted after epoch {len(run.history)}; {resume}")
        return run, exit_status(stop.number)
    if run.missing:
        return run, TEXT_MISSING
    return run, DISAGREES if report.verdict(run).agrees is False else DONE


class _Display:
    """Shows what is trained, and the progress.

    Args:
        stack: Closes the progress bar at the end.
        stop: Set by a signal, from the start of the training on.
        out: The directory of the run, if it is kept.
    """

    def __init__(self, stack: contextlib.ExitStack, stop: StopRequest, out: Optional[Path]) -> None:
        self._stack, self._stop, self._out = stack, stop, out
        self.run: Optional[Run] = None  # until the training starts

    def start(self, run: Run) -> None:
        self.run = run
        if run.missing:
            print_line("The book's text is not available; training on a sample text instead.")
            print_paragraph(run.missing)
        if run.remark:
            print_paragraph(run.remark)
        total, done = run.settings.num_epochs, len(run.history)
        if done:
            print_line(
                f"Resuming after epoch {done}" if done < total else f"All {total} epochs are done"
            )
        message = "Stopping: writing a checkpoint ..." if self._out else "Stopping ..."
        self._stack.enter_context(stop_on_signals(message, self._stop))
        self._bar = self._stack.enter_context(ProgressBar(print_line, done / total))
        self._began, self._is_announced = time.monotonic(), False

    def epoch(self, record: EpochRecord) -> None:
        assert self.run is not None
        self._announce()
        total = self.run.settings.num_epochs
        reached = f"epoch {record.epoch}/{total}, perplexity {record.perplexity:.3f}"
        done = record.epoch / total
        self._bar.update(done, f"{reached}{self._bar.time_left(done)}")

    def _announce(self) -> None:
        """After the first epoch, say how long the training takes, and what Ctrl-C would cost."""
        assert self.run is not None
        if self._is_announced or self._stop.is_set():
            return
        self._is_announced = True
        total, done = self.run.settings.num_epochs, len(self.run.history)
        minutes = round((time.monotonic() - self._began) * (total - done) / 60)
        about = f"about {minutes} minutes" if minutes > 1 else "less than two minutes"
        print_paragraph(
            f"{total} epochs on {self.run.title}, {about}. "
            + (
                f"Ctrl-C is safe: resume with --resume --out {shlex.quote(str(self._out))}"
                if self._out
                else "Ctrl-C loses everything, unless you add --out DIR"
            )
        )

    def line(self, line: str) -> None:
        from ..chapter.report import has_letters

        assert self.run is not None
        self._announce()
        if not line.startswith(" - ") or has_letters(line[3:], self.run):
            self._bar.line(line)


def _print_comparison(run: Run) -> None:
    """Print the verdict, the values and the predictions beside the printed ones."""
    from ..chapter import report

    result, source, digits = report.verdict(run), run.training.source, run.training.digits
    print_line()
    colour = {None: "", True: f";{GREEN}", False: f";{RED}"}[result.agrees]
    print_paragraph(result.text, style=BOLD + colour)
    if run.rows():
        compared = report.table(run)
        print_line()
        print_line(compared.title, style=BOLD)
        for line in table([compared.columns, *compared.rows]):
            print_line(line)
        if run.training.bands:
            print_paragraph("Of a hundred right runs, a few are outside an expected range.")
    else:
        last = run.history[-1]
        print_line(f"Epoch {last.epoch}: training perplexity {last.perplexity:.{digits}f}")
    width, last_title = max(len(source), len("run")), ""
    for prediction in report.predictions(run):
        if report.has_letters(prediction.text, run):
            how = "quoted from the text" if prediction.verbatim else "not a quotation"
            title = f"\nEpoch {prediction.epoch} ({how}):"
            if title != last_title:
                print_line(title)
            last_title = title
            if prediction.printed:
                print_line(f"  {source:{width}}  {prediction.printed}")
            print_line(f"  {'run':{width}}  {prediction.text}")


def _as_json(run: Run) -> Dict[str, Any]:
    """Return the comparison as JSON values."""
    from ..chapter import report

    result = report.verdict(run)
    return {
        "agrees": result.agrees,
        "verdict": result.text,
        "text": run.title,
        "seed": run.settings.seed,
        "epochs": len(run.history),
        "num_epochs": run.settings.num_epochs,
        "perplexity": run.history[-1].perplexity if run.history else None,
        "values": [
            {
                "epoch": row.epoch,
                "printed": row.printed.perplexity,
                "perplexity": row.perplexity,
                "smoothed": row.comparable,
                "expected": row.band and [row.band.low, row.band.high],
                "agrees": row.agrees,
            }
            for row in run.rows()
        ],
        "predictions": [
            {
                "epoch": prediction.epoch,
                "text": prediction.text,
                "printed": prediction.printed,
                "verbatim": prediction.verbatim,
            }
            for prediction in report.predictions(run)
        ],
    }
