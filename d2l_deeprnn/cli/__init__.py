"""The command ``d2l-deeprnn``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import os
import re
import signal
import sys
import textwrap
import traceback
from typing import Any, Dict, Iterator, List, NoReturn, Optional, Sequence

from .. import __version__
from .._mxnet import diagnosis
from ..errors import D2LError, did_you_mean, is_bad_input
from ..files import printable
from ..training import launcher
from . import console
from .console import BAD_INPUT, DONE, FAULT, TEXT_MISSING, print_error

# Group -> command -> its module and a summary. In the module, `add_COMMAND` adds options, and
# `run_COMMAND` returns the exit status; its docstring is the help page. MXNet, tqdm and Matplotlib
# are imported only when a command runs, so that help appears at once.
GROUPS = {
    "the chapter": {
        "reproduce": ("reproduce", "run the chapter and compare the results with the book"),
        "exercise": ("exercise", "run the study of one of the chapter's exercises"),
        "notebooks": ("notebooks", "copy the notebooks into a directory, and open them"),
    },
    "your own models": {
        "train": ("train", "train a model on any text, with checkpoints"),
        "generate": ("generate", "generate text with a trained model"),
        "evaluate": ("evaluate", "compute the held-out loss of a run"),
        "runs": ("runs", "list runs with their loss, state and settings"),
        "plot": ("report", "plot the curves of one or several runs"),
        "report": ("report", "write a report of a run, as a web page"),
        "export": ("export", "export the model of a run for other programs"),
        "import": ("export", "turn an exported model back into a run"),
    },
    "this machine": {
        "corpora": ("corpora", "list the known texts, or fetch one"),
        "doctor": ("doctor", "check whether everything works"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
# The commands that several processes of mpiexec can run together.
DISTRIBUTED = ("train", "evaluate", "generate")
DEBUG_VARIABLE = "D2L_DEEPRNN_DEBUG"
# Errors in whose messages the names of settings become those of options.
ABOUT_SETTINGS = ("ValueError", "SettingsError", "Diverged")
EXAMPLES = """
    examples:
      d2l-deeprnn reproduce --out reproduction
      d2l-deeprnn train --corpus my_novel.txt --out runs/novel
      d2l-deeprnn generate runs/novel --temperature 0.7

    `d2l-deeprnn COMMAND --help` explains a command, with more examples.
"""


class _Layout(argparse.HelpFormatter):
    """A help page that fits the terminal, however narrow it is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=console.text_width() - 2)

    def _format_usage(self, *arguments: Any) -> str:
        # One line, which format_help breaks, but not between an option and its short value.
        width, self._width = self._width, sys.maxsize
        usage = super()._format_usage(*arguments)
        self._width = width
        return re.sub(r"\[[^][{]*\]", lambda match: match[0].replace(" ", "\xa0"), usage)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return re.sub(r"(?<=\S)\n(?=\S)", " ", text)  # lines of a paragraph; others are indented

    def format_help(self) -> str:
        """Return the page, with long lines broken."""
        page, in_examples = [], False
        for line in super().format_help().split("\n"):
            in_examples = in_examples or line == "examples:"
            # A shell continues a command that ends with a backslash.
            end = " \\" if in_examples and line[:1] == " " else ""
            page.append(f"{end}\n".join(self._broken(line, len(end))))
        return "\n".join(page).replace("\xa0", " ")

    def _broken(self, line: str, reserved: int) -> List[str]:
        if len(line) <= self._width:
            return [line]
        start = len(re.match("usage: | *", line)[0])  # type: ignore[index]
        return textwrap.wrap(
            line,
            self._width - reserved,
            subsequent_indent=" " * (start + 4 if start else 0),
            break_long_words=False,
            break_on_hyphens=False,
        )


class _Parser(argparse.ArgumentParser):
    """A parser with narrow help pages, whose errors suggest what was meant.

    Attributes:
        commands: the parsers of the commands, if there are any.
    """

    commands: Any = None
    _args: Sequence[str] = ()  # those that are being parsed

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Layout, allow_abbrev=False, **options)
        self.color = False  # from Python 3.14 on; the layout would count the styles as letters

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        self._args = args
        # Otherwise the error would refer to the help of the program, not to that of the command.
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown)
        return namespace, unknown

    def _refuse(self, unknown: List[str]) -> NoReturn:
        hint = did_you_mean(unknown[0].partition("=")[0], self._option_string_actions)
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            hint = did_you_mean(value, action.choices) or f"; choose {', '.join(action.choices)}"
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{hint}")

    def options_by_name(self) -> Dict[str, str]:
        """Return the option for each name in Python, and for its words with spaces."""
        options: Dict[str, str] = {}
        for option, action in self._option_string_actions.items():
            if option.startswith("--"):
                options.setdefault(action.dest, option)
                options.setdefault(option[2:].replace("-", " "), option)
        return options

    def error(self, message: str) -> NoReturn:
        """Raise an error; describe each missing argument, unless an unknown option explains it."""
        _, is_incomplete, names = message.partition(" arguments are required: ")
        if is_incomplete:
            known = {*self._option_string_actions, "--"}
            options = (x for x in self._args if re.match("-[^-0-9]|--", x))
            unknown = [x for x in options if x.partition("=")[0] not in known]
            if unknown:
                self._refuse(unknown)
            message = "; ".join(map(self._missing, names.split(", ")))
        raise D2LError(f"{message} (see {self.prog} --help)")

    def _missing(self, name: str) -> str:
        (action,) = (x for x in self._actions if name in (x.metavar, *x.option_strings))
        choices = action.choices and f"choose {', '.join(action.choices)}"
        return f"{name} is missing: {choices or action.help}"


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments, without the program's name; None for those of the
            process.

    Returns:
        Exit status: 0 done; 1 the run does not agree with the book; 2 bad
        arguments or input; 3 the book's text is not available, so nothing was
        compared; 130, 143 or 129 interrupted by Ctrl-C, SIGTERM or SIGHUP; 70
        a bug in this package. ``$D2L_DEEPRNN_DEBUG`` shows the traceback.
    """
    with console.standard_streams(), console.interruptions() as interruption:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        except (KeyboardInterrupt, Exception) as error:
            if isinstance(error, KeyboardInterrupt):
                interruption.set(getattr(error, "number", signal.SIGINT))
            if interruption.number is not None:
                print_error("d2l-deeprnn: interrupted")
                return console.exit_status(interruption.number)
            if isinstance(error, BrokenPipeError) and error.filename == console.OUTPUT:
                return DONE  # the reader, such as `head`, needs no more
            return _fail(error, argv or sys.argv[1:])


def _run(argv: List[str]) -> int:
    if launcher.world_rank() > 0:  # the first process prints for all
        launcher.silence()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for completions
        with contextlib.suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(_parser())
    argv = [*argv[1:], "--help"] if argv[:1] in ([], ["help"]) else argv
    with _shown_by_each_process():
        arguments = _parser(argv).parse_args(argv)
    if launcher.world_size() == 1:
        return arguments.run(arguments)
    if arguments.command not in DISTRIBUTED:
        raise ValueError(
            f"`{arguments.command}` works in one process; mpiexec can start "
            f"{', '.join(DISTRIBUTED)}. To run it separately in each process, set "
            f"{launcher.ONE_EACH}=1"
        )
    timeout = getattr(arguments, "rank_timeout", launcher.TIMEOUT)
    with _shown_by_each_process():
        from ..training.ranks import distributed, start_mpi

        start_mpi(timeout)
    with distributed(timeout) as ranks:
        ranks.check_same({"command": arguments.command})
        return arguments.run(arguments)


@contextlib.contextmanager
def _shown_by_each_process() -> Iterator[None]:
    """Show an error also in a process that is silenced.

    It may be the only one with this error, and without MPI it cannot tell the others.
    """
    try:
        yield
    except Exception as error:
        if launcher.world_rank() > 0:
            name = launcher.process_name()
            launcher.write_stderr(f"d2l-deeprnn: error: {name}: {_message(error)}")
        raise


def _fail(error: BaseException, argv: Sequence[str]) -> int:
    """Print an error of a command, and return the exit status for it."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(type(error), error, error.__traceback__)
    status, message = BAD_INPUT, _message(error)
    if isinstance(error, MemoryError):
        message = f"out of memory: {message}"
    elif isinstance(error, FileNotFoundError) and error.errno and not error.filename:  # os.getcwd
        message = "the current directory no longer exists: change to another one"
    elif type(error).__name__ == "TextNotAvailable":  # its module may not be importable
        status = TEXT_MISSING
    elif not is_bad_input(error):
        status = FAULT
        message = (
            f"bug in d2l_deeprnn (set {DEBUG_VARIABLE}=1 to see where): {type(error).__name__}: "
            f"{message}"
        )
    elif type(error).__name__ in ABOUT_SETTINGS and argv and argv[0] in COMMANDS:
        message = _with_options(message, argv[0])
    print_error(f"d2l-deeprnn: error: {message}")
    return status


def _with_options(message: str, command: str) -> str:
    """Replace the Python names of a command's options, outside quotes and paths.

    An option that is not a setting may be an English word, such as ``out``. Its name is replaced
    only at the beginning, as in "device must be".
    """
    from ..training.settings import TrainSettings, fields  # needs NumPy

    options = _parser([command]).commands.choices[command].options_by_name()
    sure = [name for name in options if "_" in name or " " in name or name in fields(TrainSettings)]
    anywhere, first = ("|".join(sorted(names, key=len, reverse=True)) for names in (sure, options))
    pattern = rf"(?<!\w)'[^']*'|^({first})(?= must )|(?<![\w/.-])(?<!\ban )({anywhere})(?![\w/.-])"
    return re.sub(pattern, lambda match: options.get(match[1] or match[2], match[0]), message)


def _message(error: BaseException) -> str:
    """Return the message of an error in printable form."""
    if isinstance(error, ImportError) and error.name in diagnosis.INSTALL:
        return printable(diagnosis.explain(error))
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return printable(f"{os.fsdecode(error.filename)}: {error.strerror}")
    lines = str(error).splitlines() or [type(error).__name__]
    # MXNet puts a traceback above its messages.
    lines = lines[-1:] if lines[0].startswith("Traceback") else lines
    return "\n".join(printable(line) for line in lines)


def _parser(names: Sequence[str] = tuple(COMMANDS)) -> _Parser:
    """Return the parser, with options only for the commands in ``names``."""
    width = console.text_width() - 2
    groups = ""
    for title, group in GROUPS.items():
        groups += f"\n\n{title}:"
        for name, (_, summary) in group.items():
            line = f"  {name:10}  {summary}"
            groups += "\n" + textwrap.fill(line, width, subsequent_indent=" " * 14)
    parser = _Parser(
        prog="d2l-deeprnn",
        usage="%(prog)s COMMAND ...",
        description='The chapter "Deep Recurrent Neural Networks" of Dive into Deep Learning\n'
        "(2019), running today." + groups,
        epilog=inspect.cleandoc(EXAMPLES),
    )
    parser.add_argument("-V", "--version", action="version", version=f"%(prog)s {__version__}")
    parser.commands = parser.add_subparsers(
        required=True, metavar="COMMAND", prog=parser.prog, help=argparse.SUPPRESS
    )
    for name, (module, _) in COMMANDS.items():
        added = parser.commands.add_parser(name)
        if name in names:
            functions = importlib.import_module(f".{module}", __package__)
            run = getattr(functions, f"run_{name}")
            added.set_defaults(command=name, run=run)
            added.description, _, examples = (inspect.getdoc(run) or "").partition("\n\nexamples:")
            added.epilog = f"examples:{examples}"
            getattr(functions, f"add_{name}")(added)
    return parser
