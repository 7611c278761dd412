"""``d2l-deeprnn plot``: the curves of runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..files import user_path
from .console import DONE, print_line

EXAMPLES = """\
  d2l-deeprnn plot runs/novel
  d2l-deeprnn plot runs/lstm runs/gru --output cells.png"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = """\
Draw training and held-out perplexity of one or several runs, with nats on the
axis on the right."""
    parser.add_argument(
        "directories", type=user_path, nargs="+", metavar="DIR", help="directory of a run"
    )
    parser.add_argument(
        "--output",
        type=user_path,
        default=Path("perplexity.svg"),
        metavar="FILE",
        help="picture to write: .svg, .png or .pdf (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw the curves of runs into a file; gives the exit status."""
    from ..chapter.book import MARKS
    from ..chapter.reproduce import is_chapter_run
    from ..evidence.figures import save_figure, training_figure
    from ..training import runs

    if not arguments.output.parent.is_dir():
        raise runs.RunError(
            f"--output {arguments.output} cannot be written: there is no directory "
            f"{arguments.output.parent}; make it, or choose another"
        )
    histories = {str(path): runs.read_history(path) for path in arguments.directories}
    of_the_book = any(is_chapter_run(path) for path in arguments.directories)
    save_figure(training_figure(histories, marks=MARKS if of_the_book else None), arguments.output)
    print_line(f"Written: {arguments.output}")
    return DONE
