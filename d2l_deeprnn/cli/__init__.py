"""The command ``d2l-deeprnn``: arguments in, calls out."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, List, NoReturn, Optional

from .. import __version__
from ..chapter.book import CHAPTER
from ..exercises import EXERCISES
from ..files import printable
from ..training.settings import TrainSettings, declared
from . import console
from .console import BAD_INPUT, DONE, FAULT, TEXT_MISSING

# Nothing that needs MXNet is imported up here: arguments are parsed, and help
# is given, before it is loaded.

DEBUG_VARIABLE = "D2L_DEEPRNN_DEBUG"


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
        arguments or input; 3 the book's text is not available, so nothing was
        compared; 130, 143 or 129 interrupted by Ctrl-C, SIGTERM or SIGHUP; 70
        a fault in this package. ``$D2L_DEEPRNN_DEBUG`` shows where it is.
    """
    with console.standard_streams() as output, console.interruptions():
        return _run(argv, output)


def _run(argv: Optional[List[str]], output: console.Stream) -> int:
    arguments = _parser().parse_args(argv)
    # Where what is printed is all that there will be, to lose it is an error.
    output.strict = arguments.only_prints
    from ..text.corpora import TextNotAvailable

    try:
        status = arguments.run(arguments)
        output.flush()
        return status
    except console.ReaderGone:  # it has read all that it wanted
        return DONE
    except TextNotAvailable as error:
        return _fail(error, TEXT_MISSING)
    # Ours are RuntimeErrors (texts, runs, checkpoints), ValueErrors (settings) and, from a
    # training that diverged, ArithmeticErrors; all are one line that says what to do.
    except (RuntimeError, ValueError, ArithmeticError, OSError, ImportError) as error:
        return _fail(error, BAD_INPUT)
    except MemoryError as error:
        return _fail(error, BAD_INPUT, "there is not enough memory: ")
    except KeyboardInterrupt as error:
        print("d2l-deeprnn: interrupted", file=sys.stderr)
        return console.exit_status(getattr(error, "number", signal.SIGINT))
    except Exception as error:
        where = f"a fault in d2l_deeprnn (set {DEBUG_VARIABLE}=1 to see where): "
        return _fail(error, FAULT, f"{where}{type(error).__name__}: ")


def _fail(error: BaseException, status: int, prefix: str = "") -> int:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(type(error), error, error.__traceback__)
    print(f"d2l-deeprnn: error: {prefix}{_words(error)}", file=sys.stderr)
    return status


def _words(error: BaseException) -> str:
    """What an error says, so that it can be shown."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return printable(f"{os.fsdecode(error.filename)}: {error.strerror}")
    lines = str(error).splitlines() or [type(error).__name__]
    # MXNet puts the way to its errors above them.
    lines = lines[-1:] if lines[0].startswith("Traceback") else lines
    return "\n".join(printable(line) for line in lines)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="d2l-deeprnn",
        description='The chapter "Deep Recurrent Neural Networks" (Dive into Deep Learning, 2019), '
        "running today.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(only_prints=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    _add_reproduce(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_generate(commands)
    _add_plot(commands)
    _add_exercise(commands)

    corpora = commands.add_parser(
        "corpora",
        help="list the known texts, or fetch one",
        description="List the known texts and where they are, or fetch one into the cache.",
    )
    corpora.set_defaults(run=_list_corpora, only_prints=True)
    actions = corpora.add_subparsers(metavar="fetch")
    fetch = actions.add_parser("fetch", help="find or download a text")
    fetch.add_argument("name", metavar="NAME")
    fetch.set_defaults(run=_fetch_corpus)
    return parser


def _add_reproduce(commands: Any) -> None:
    reproduce = commands.add_parser(
        "reproduce",
        help="run the chapter and hold its figures against the book's",
        description="Run the chapter and hold its figures against the book's. Exit status: 0 they "
        "agree; 1 they do not; 2 bad input; 3 the book's text is not available.",
        # What is not given stays out, so that --resume can tell it from what is.
        argument_default=argparse.SUPPRESS,
    )
    reproduce.add_argument(
        "--corpus",
        metavar="NAME|FILE",
        help="text to train on; auto (the default): the book's if it is available, else a sample",
    )
    _add_encoding(reproduce)
    reproduce.add_argument(
        "--num-epochs",
        type=_whole_number(1),
        metavar="N",
        help=f"default: {CHAPTER.num_epochs}",
    )
    reproduce.add_argument(
        "--seed", type=_whole_number(0, 2**31 - 1), metavar="N", help="default: 0"
    )
    reproduce.add_argument(
        "--out",
        type=Path,
        default=None,
        metavar="DIR",
        help="where to keep checkpoint, figures, picture and report.html",
    )
    reproduce.add_argument(
        "--resume",
        action="store_true",
        default=False,
        help="go on with the run in DIR; what it was given need not be repeated",
    )
    reproduce.set_defaults(run=_reproduce)


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a model on any text, with checkpoints",
        description="Train a character-level language model on any text, with a checkpoint after "
        "each epoch. The defaults are the chapter's settings.",
        # What is not given stays out, so that --resume can tell it from what is.
        argument_default=argparse.SUPPRESS,
    )
    settings = declared(TrainSettings)
    add = train.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="directory of the run")
    add(
        "--resume",
        action="store_true",
        default=False,
        help="go on with the run in DIR; its settings need not be repeated",
    )
    add("--corpus", nargs="+", metavar="NAME|FILE", help="one or several texts, joined")
    _add_encoding(train)
    add("--num-examples", type=int, metavar="N", help="take the first N characters only")
    add("--keep-case", action="store_true", help="do not turn the text into lower case")
    add("--keep-whitespace", action="store_true", help="do not fold blanks and line ends")
    add("--valid-fraction", type=float, metavar="F", help="held out, default 0.1")
    add("--test-fraction", type=float, metavar="F", help="held out at the end, default 0")
    add("--cell", choices=settings["cell"].kind.choices, help="default lstm")
    add("--num-layers", type=int, metavar="N", help="default 2")
    add("--num-hiddens", type=int, metavar="N", help="units of a layer, default 256")
    add("--dropout", type=float, metavar="P", help="after each layer, default 0")
    add(
        "--init",
        choices=settings["init"].kind.choices,
        help="default normal: the chapter's Normal(0.01)",
    )
    add("--forget-bias", type=float, metavar="B", help="of the LSTM at the start, default 0")
    add("--batch-size", type=int, metavar="N", help="default 32")
    add("--num-steps", type=int, metavar="N", help="characters of a row, default 35")
    add("--sampling", choices=settings["sampling"].kind.choices, help="default adjacent")
    add("--num-epochs", type=int, metavar="N", help="at most, default 50")
    add("--optimizer", metavar="NAME", help="any of Gluon's, default sgd")
    add(
        "--optimizer-option",
        action="append",
        type=_option,
        metavar="NAME=NUMBER",
        help="a further argument of it, such as momentum=0.9; may be repeated",
    )
    add("--lr", type=float, metavar="RATE", help="learning rate; default 5, for sgd only")
    add(
        "--schedule",
        choices=settings["schedule"].kind.choices,
        help="of the learning rate, default constant",
    )
    add("--lr-decay", type=float, metavar="F", help="factor of schedule step, default 0.5")
    add("--decay-epochs", type=int, metavar="N", help="epochs between its steps, default 10")
    add("--warmup-epochs", type=float, metavar="N", help="linear rise at the start, default 0")
    add("--clipping-theta", type=float, metavar="NORM", help="default 1")
    add("--patience", type=int, metavar="N", help="stop after N epochs without a better one")
    add("--seed", type=int, metavar="N", help="default 0")
    train.set_defaults(run=_train)


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="held-out loss of a run",
        description="Score the held-out parts of a run's text, or another text: nats and bits per "
        "character, perplexity. Every character but the first is scored once.",
    )
    evaluate.add_argument("directory", type=Path, metavar="DIR")
    evaluate.add_argument(
        "--corpus", nargs="+", metavar="NAME|FILE", help="score these instead, cleaned likewise"
    )
    _add_encoding(evaluate)
    evaluate.add_argument(
        "--batch-size",
        type=_whole_number(1),
        default=32,
        metavar="N",
        help="rows that read the text side by side; 1 reads it in one go (default: %(default)s)",
    )
    evaluate.add_argument(
        "--baseline", choices=["ngram"], help="score an interpolated n-gram model beside it"
    )
    _add_checkpoint(evaluate)
    evaluate.set_defaults(run=_command("evaluate"), only_prints=True)


def _add_generate(commands: Any) -> None:
    generate = commands.add_parser(
        "generate",
        help="let a trained model write",
        description="Continue a prefix with the model of a run; greedily, as the book does, "
        "unless a temperature is given.",
    )
    generate.add_argument("directory", type=Path, metavar="DIR")
    generate.add_argument(
        "--prefix",
        action="append",
        metavar="TEXT",
        help="may be repeated; cleaned as the run's text was (default: a line break, or a blank "
        "where the text has none)",
    )
    generate.add_argument(
        "--length", type=_whole_number(0), default=200, metavar="N", help="default: %(default)s"
    )
    generate.add_argument("--temperature", type=float, default=0.0, metavar="T", help="default 0")
    generate.add_argument("--top-k", type=_whole_number(1), metavar="K")
    generate.add_argument("--top-p", type=float, metavar="P")
    generate.add_argument("--seed", type=_whole_number(0, 2**31 - 1), metavar="N")
    _add_checkpoint(generate)
    generate.set_defaults(run=_command("generate"), only_prints=True)


def _add_plot(commands: Any) -> None:
    plot = commands.add_parser(
        "plot",
        help="draw the curves of one or several runs",
        description="Draw training and held-out perplexity of one or several runs.",
    )
    plot.add_argument("directories", type=Path, nargs="+", metavar="DIR")
    plot.add_argument(
        "--output",
        type=Path,
        default=Path("perplexity.svg"),
        metavar="FILE",
        help=".svg, .png or .pdf (default: %(default)s)",
    )
    plot.set_defaults(run=_command("plot"))


def _add_exercise(commands: Any) -> None:
    exercise = commands.add_parser(
        "exercise",
        help="answer one of the chapter's exercises",
        description="Run the study behind the answer to an exercise, or to the chapter's remark "
        "on initialisation; print tables and the answer. In full they take from ten minutes to an "
        "hour. Interrupted, the same command with the same --out goes on with the next run.",
    )
    exercise.add_argument("name", choices=list(EXERCISES))
    exercise.add_argument(
        "--out", type=Path, metavar="DIR", help="where to keep rows (CSV) and pictures"
    )
    exercise.add_argument(
        "--quick", action="store_true", help="a small version on the sample texts, to see it work"
    )
    exercise.set_defaults(run=_command("exercise"))


def _add_encoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoding", metavar="NAME", help="of the files, such as cp1252 or gb18030; default UTF-8"
    )


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", choices=["best", "last"], default="best", help="default: %(default)s"
    )


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from . import commands

        return getattr(commands, name)(arguments)

    return run


def _given(arguments: argparse.Namespace) -> Any:
    """The settings that were given, by name."""
    beside = ("run", "only_prints", "out", "resume")
    return {name: value for name, value in vars(arguments).items() if name not in beside}


def _reproduce(arguments: argparse.Namespace) -> int:
    from . import commands

    return commands.reproduce(_given(arguments), arguments.out, arguments.resume)


def _train(arguments: argparse.Namespace) -> int:
    from . import commands

    given = _given(arguments)
    if "optimizer_option" in given:
        given["optimizer_options"] = dict(given.pop("optimizer_option"))
    return commands.train(given, arguments.out, arguments.resume)


def _option(word: str) -> Any:
    name, _, number = word.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be NAME=NUMBER, not {word!r}") from None


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


def _list_corpora(arguments: argparse.Namespace) -> int:
    from ..text.corpora import KNOWN_TEXTS, CorpusError, locate_text

    for name, text in KNOWN_TEXTS.items():
        try:
            place = locate_text(name) or "not on this machine"
        except CorpusError as error:
            place = f"unusable: {error}"
        print(f"{name}\n    {text.title}, {text.author}\n    from {text.source}\n    {place}")
    return DONE


def _fetch_corpus(arguments: argparse.Namespace) -> int:
    from ..text.corpora import find_text

    print(find_text(arguments.name))
    return DONE
