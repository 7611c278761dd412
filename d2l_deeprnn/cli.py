"""The command ``d2l-deeprnn``: arguments in, calls out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Callable, List, NoReturn, Optional

from . import __version__
from .book import CHAPTER

# Nothing that needs MXNet is imported up here: arguments are parsed, and help
# is given, before it is loaded.

DONE, DISAGREES, BAD_INPUT, TEXT_MISSING, INTERRUPTED = 0, 1, 2, 3, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # One line; argparse would print the usage above it.
        print(f"{self.prog}: error: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(BAD_INPUT)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments, without the program's name; those of the process
            if None.

    Returns:
        Exit status: 0 done; 1 the run does not agree with the book; 2 bad
        arguments or input; 3 the book's text could not be had, so nothing was
        compared; 130 interrupted.
    """
    arguments = _parser().parse_args(argv)
    from .corpora import CorpusError, TextNotAvailable

    try:
        return arguments.run(arguments)
    except TextNotAvailable as error:
        return _fail(error, TEXT_MISSING)
    except (CorpusError, ValueError, OSError) as error:
        return _fail(error, BAD_INPUT)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _fail(reason: object, status: int) -> int:
    print(f"d2l-deeprnn: error: {reason}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="d2l-deeprnn",
        description='The chapter "Deep Recurrent Neural Networks" (Dive into Deep Learning, 2019), '
        "running today.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    reproduce = commands.add_parser(
        "reproduce",
        help="run the chapter and hold its figures against the book's",
        description="Run the chapter and hold its figures against the book's. Exit status: 0 they "
        "agree; 1 they do not; 2 bad input; 3 the book's text could not be had.",
    )
    reproduce.add_argument(
        "--corpus",
        default="auto",
        metavar="NAME|FILE",
        help="text to train on; auto (the default): the book's if it can be had, else a sample",
    )
    reproduce.add_argument(
        "--num-epochs",
        type=_whole_number(1),
        default=CHAPTER.num_epochs,
        metavar="N",
        help="default: %(default)s",
    )
    reproduce.add_argument(
        "--seed", type=_whole_number(0, 2**31 - 1), default=0, metavar="N", help="default: 0"
    )
    reproduce.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write figures, picture and report.html"
    )
    reproduce.set_defaults(run=_reproduce)

    corpora = commands.add_parser(
        "corpora",
        help="list the known texts, or fetch one",
        description="List the known texts and where they are, or fetch one into the cache.",
    )
    corpora.set_defaults(run=_list_corpora)
    actions = corpora.add_subparsers(metavar="fetch")
    fetch = actions.add_parser("fetch", help="find or download a text")
    fetch.add_argument("name", metavar="NAME")
    fetch.set_defaults(run=_fetch_corpus)
    return parser


def _whole_number(low: int, high: Optional[int] = None) -> Callable[[str], int]:
    limits = f"of at least {low}" if high is None else f"from {low} to {high}"

    def parse(word: str) -> int:
        try:
            number = int(word)
        except ValueError:
            number = low - 1
        if number < low or (high is not None and number > high):
            raise argparse.ArgumentTypeError(f"must be a whole number {limits}, not {word!r}")
        return number

    return parse


def _reproduce(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from . import report, reproduce

    run = reproduce.prepare(arguments.corpus, arguments.num_epochs, arguments.seed)
    if arguments.out is not None:
        _try_out(run, arguments.out)
    if run.missing:
        print("The book's text is missing: a sample of this package stands in for it.")
        print(run.missing)
    interrupted = False
    with tqdm(total=run.settings.num_epochs, unit="epoch", disable=None) as bar:

        def show(record: Any) -> None:
            bar.set_postfix_str(f"perplexity {record.perplexity:.3f}", refresh=False)
            bar.update()

        def log(line: str) -> None:
            tqdm.write(line)
            sys.stdout.flush()  # a log file shows each line when it is written

        try:
            reproduce.train(run, on_epoch=show, log=log)
        except KeyboardInterrupt:
            interrupted = True
    print()
    if run.history:
        print("\n".join(report.lines(run)))
        if arguments.out is not None:
            report.save(run, arguments.out)
            print(f"Written: {arguments.out / 'report.html'} and the figures behind it")
    return _status(run, interrupted)


def _try_out(run: Any, out: Path) -> None:
    """Begin to write, before the training: nobody should wait minutes for this error."""
    from .reproduce import save_config

    try:
        out.mkdir(parents=True, exist_ok=True)
        save_config(run, out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"--out {out} cannot be written to ({reason}): name a directory that can"
        ) from error


def _status(run: Any, interrupted: bool) -> int:
    from .report import verdict

    if interrupted:
        return _fail(f"interrupted after epoch {len(run.history)}", INTERRUPTED)
    if run.missing:
        return TEXT_MISSING
    outcome = verdict(run)
    return DISAGREES if outcome.compared and not outcome.agrees else DONE


def _list_corpora(arguments: argparse.Namespace) -> int:
    from .corpora import KNOWN_TEXTS, CorpusError, locate_text

    for name, text in KNOWN_TEXTS.items():
        try:
            place = locate_text(name) or "not on this machine"
        except CorpusError as error:
            place = f"unusable: {error}"
        print(f"{name}\n    {text.title}, {text.author}\n    from {text.source}\n    {place}")
    return DONE


def _fetch_corpus(arguments: argparse.Namespace) -> int:
    from .corpora import find_text

    print(find_text(arguments.name))
    return DONE
