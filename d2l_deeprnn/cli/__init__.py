"""The command ``d2l-deeprnn``: arguments in, calls out."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import os
import shutil
import signal
import sys
import traceback
from typing import Any, List, NoReturn, Optional, Sequence

from .. import __version__
from .._mxnet import diagnosis
from ..errors import is_bad_input
from ..files import printable
from ..training import launcher
from . import console
from .console import BAD_INPUT, DONE, FAULT, TEXT_MISSING, print_error

# The file of a command has EXAMPLES, add_arguments(parser) and run(arguments). It is imported when
# the command is given; nothing that needs MXNet, tqdm or Matplotlib is imported where it begins:
# arguments are parsed, and help is given, before they are loaded.
COMMANDS = {
    "reproduce": "run the chapter and compare its results with the book's",
    "train": "train a model on any text, with checkpoints",
    "evaluate": "held-out loss of a run",
    "generate": "let a trained model write",
    "plot": "draw the curves of one or several runs",
    "report": "write a report of a run, as a web page",
    "runs": "list runs, with settings, best loss and state",
    "export": "write a run's model into a file for other programs",
    "import": "turn such a file back into a run",
    "exercise": "answer one of the chapter's exercises",
    "corpora": "list the known texts, or fetch one",
    "doctor": "check whether everything works on this machine",
}
# Of these, several processes that mpiexec starts do one together.
TOGETHER = ("train", "evaluate", "generate")
DEBUG_VARIABLE = "D2L_DEEPRNN_DEBUG"


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        # No wider than 80 columns, which are easier to read.
        width = min(80, shutil.get_terminal_size().columns) - 2
        layout = functools.partial(
            argparse.RawDescriptionHelpFormatter, max_help_position=28, width=width
        )
        # Of an abbreviated option, a slip would be taken for another one.
        super().__init__(formatter_class=layout, allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        # A command refuses what it does not know itself: the program would point to its own help.
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        # One line; argparse would print the usage above it.
        words = f"{self.prog}: {_error()} {message} (see {self.prog} --help)"
        print_error(words)
        if launcher.world_rank() > 0:  # only this process may have been given these arguments
            launcher.write_stderr(f"{launcher.process_name()}: {words}")
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
    try:
        if launcher.world_rank() > 0:  # the first process prints for all
            launcher.silence()
    except ValueError as error:
        return _fail(error, BAD_INPUT)
    with console.standard_streams(), console.interruptions():
        return _run(argv)


def _run(argv: Optional[List[str]]) -> int:
    given = sys.argv[1:] if argv is None else argv
    try:
        if "_ARGCOMPLETE" in os.environ:  # a shell asks how a word could go on
            with contextlib.suppress(ImportError):
                import argcomplete

                argcomplete.autocomplete(_parser())
        arguments = _parser(given).parse_args(given or ["--help"])
        if launcher.world_size() > 1 and arguments.command not in TOGETHER:
            words = (
                f"{arguments.command} is done by one process: mpiexec can start {_or(TOGETHER)}. "
                f"To do it in each process separately, set {launcher.ONE_EACH}=1"
            )
            return _fail(ValueError(words), BAD_INPUT)
        with contextlib.ExitStack() as stack:
            if launcher.world_size() > 1:
                _join(stack, getattr(arguments, "rank_timeout", launcher.TIMEOUT))
            return arguments.run(arguments)
    except MemoryError as error:
        return _fail(error, BAD_INPUT, "there is not enough memory: ")
    except KeyboardInterrupt as error:
        print_error("d2l-deeprnn: interrupted")
        return console.exit_status(getattr(error, "number", signal.SIGINT))
    except Exception as error:
        if isinstance(error, BrokenPipeError) and error.filename == console.OUTPUT:
            return DONE  # the reader has read all that it wanted
        corpora = sys.modules.get("d2l_deeprnn.text.corpora")  # which cannot be imported everywhere
        if corpora and isinstance(error, corpora.TextNotAvailable):
            return _fail(error, TEXT_MISSING)
        if is_bad_input(error):
            return _fail(error, BAD_INPUT)
        where = f"a fault in d2l_deeprnn (set {DEBUG_VARIABLE}=1 to see where): "
        return _fail(error, FAULT, f"{where}{type(error).__name__}: ")


def _join(stack: contextlib.ExitStack, timeout: float) -> None:
    """Work together with the other processes until the stack is closed."""
    try:
        from ..training.ranks import distributed, start_mpi

        start_mpi(timeout)
    except BaseException as error:
        # The others may not have this error, and without MPI they cannot be told.
        if launcher.world_rank() > 0:
            launcher.write_stderr(f"d2l-deeprnn: error: {launcher.process_name()}: {_words(error)}")
        raise
    stack.enter_context(distributed(timeout))


def _fail(error: BaseException, status: int, prefix: str = "") -> int:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(type(error), error, error.__traceback__)
    print_error(f"d2l-deeprnn: {_error()} {prefix}{_words(error)}")
    return status


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _error() -> str:
    return console.coloured("error:", console.RED, sys.stderr)


def _words(error: BaseException) -> str:
    """What an error says, so that it can be shown."""
    if isinstance(error, ImportError) and error.name in diagnosis.INSTALL:
        return printable(diagnosis.explain(error))
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return printable(f"{os.fsdecode(error.filename)}: {error.strerror}")
    lines = str(error).splitlines() or [type(error).__name__]
    # MXNet puts the way to its errors above them.
    lines = lines[-1:] if lines[0].startswith("Traceback") else lines
    return "\n".join(printable(line) for line in lines)


def _parser(given: Sequence[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """What parses arguments; it knows those of the commands that are given, and of no others."""
    parser = _Parser(
        prog="d2l-deeprnn",
        description='The chapter "Deep Recurrent Neural Networks" of Dive into Deep Learning\n'
        "(2019), running today.",
        epilog="`d2l-deeprnn COMMAND --help` explains the options of a command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        added = commands.add_parser(name, help=summary)
        if name in given:
            command = importlib.import_module(f".{name}", __package__)
            added.epilog = f"examples:\n{command.EXAMPLES}"
            added.set_defaults(run=command.run, command=name)
            command.add_arguments(added)
    return parser
