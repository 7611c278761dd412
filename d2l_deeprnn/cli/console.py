"""Around a command: exit statuses, output that may fail, signals that ask it to stop."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Optional

from ..files import printable

if TYPE_CHECKING:
    from ..evidence.records import Table

# DISAGREES is for a run that does not agree with the book, and for nothing else. A signal's
# status comes from `exit_status`; 70 is EX_SOFTWARE.
DONE, DISAGREES, BAD_INPUT, TEXT_MISSING, FAULT = 0, 1, 2, 3, 70
# Sent by Ctrl-C, by a batch system or `kill`, and by a terminal that is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A terminal and a program in between may both pass on the same Ctrl-C.
SAME_REQUEST_SECONDS = 1.0
# Characters that a terminal obeys, so that a stranger's model or text could hide what is on it: C0
# except tab and line feed, DEL, C1, and those that change the direction of writing.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
RED, YELLOW = "31", "33"
OUTPUT = "standard output"


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end, as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopRequest:
    """A request to stop: the number of the signal that brought it, or None."""

    number: Optional[int] = None

    def set(self, number: int = signal.SIGINT) -> None:
        """Request a stop, unless one is pending."""
        if self.number is None:
            self.number = number

    def is_set(self) -> bool:
        """Return whether a stop was requested."""
        return self.number is not None


def show(text: str = "", end: str = "\n") -> None:
    """Print the result of a command that only prints, above a progress bar if there is one.

    On a terminal, control characters are shown as escapes such as ``\\x1b``.

    Raises:
        OSError: if it cannot be written; it names ``OUTPUT`` as its file.
    """
    from tqdm import tqdm

    if sys.stdout.isatty():
        text = CONTROLS.sub(lambda found: printable(found[0]), text)
    try:
        tqdm.write(text, end=end)
        sys.stdout.flush()  # a log file shows each line when it is written
    except OSError as error:
        error.filename = OUTPUT
        raise


def print_line(line: str = "") -> None:
    """Print a line as ``show`` does; a run goes on if it cannot be written."""
    with contextlib.suppress(OSError):
        show(line)


def print_error(line: str) -> None:
    """Print a line on standard error, if it can be written."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def print_table(table: Table) -> None:
    """Print a table; in a terminal that is too narrow for it, row by row, one value per line."""
    text = str(table)
    columns = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or max(map(len, text.split("\n"))) <= columns:
        print_line(text)
        return
    print_line(table.title)
    for first, *values in table.rows:
        print_line(f"\n{table.columns[0]} {first}")
        for name, value in zip(table.columns[1:], values):
            if value:
                print_line(f"  {name}: {value}")


def coloured(words: str, colour: str, stream: Any) -> str:
    """Return words in a colour if a stream is a terminal that has it, and the user wants it.

    Args:
        colour: ``RED`` or ``YELLOW``.

    Source: https://no-color.org for the variable ``NO_COLOR``.
    """
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{colour}m{words}\x1b[0m" if wanted and stream.isatty() else words


def exit_status(number: int) -> int:
    """Return the exit status of a process that a signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + number


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Prepare for streams that are closed, lack a character, or lose their reader.

    Warnings are shown in one line each.
    """
    # A descriptor from 0 to 2 that is closed would become that of the next file that is opened,
    # such as a checkpoint, and MXNet would write its warnings into it.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    before = sys.stdout, sys.stderr, warnings.formatwarning
    for name in "stdout", "stderr":
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        with contextlib.suppress(AttributeError):  # a notebook's streams take all characters
            getattr(sys, name).reconfigure(errors="backslashreplace")
    warnings.formatwarning = _one_line
    try:
        yield
    finally:
        for stream in sys.stdout, sys.stderr:
            try:
                stream.flush()
            except OSError:  # Python would try again, and fail, when it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.stdout, sys.stderr, warnings.formatwarning = before


def _one_line(message: Any, *where: Any, **more: Any) -> str:
    warning = coloured("warning:", YELLOW, sys.stderr)
    return f"d2l-deeprnn: {warning} {printable(str(message))}\n"


@contextlib.contextmanager
def interruptions() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise an exception, as Ctrl-C does, so that clean-up code runs."""

    def interrupt(number: int, frame: Any) -> None:
        raise Interrupted(number)

    with _handled({number: interrupt for number in SIGNALS if number != signal.SIGINT}):
        yield


@contextlib.contextmanager
def stop_on_signals(message: str, stop: Optional[StopRequest] = None) -> Iterator[StopRequest]:
    """Turn a signal into a stop request, for work that stops at a place of its own.

    A second Ctrl-C interrupts at once.

    Args:
        message: Shown when the first signal comes.
        stop: The request that a signal sets; a new one if None.
    """
    wanted = stop or StopRequest()
    first = 0.0

    def request(number: int, frame: Any) -> None:
        nonlocal first
        if not wanted.is_set():
            wanted.set(number)
            first = time.monotonic()
            # Not print: the signal may have come while something was being printed.
            with contextlib.suppress(OSError):
                # A terminal has shown ^C, behind a progress bar if there is one.
                os.write(2, f"{chr(10) if os.isatty(2) else ''}{message}\n".encode())
        elif number == signal.SIGINT and time.monotonic() - first > SAME_REQUEST_SECONDS:
            raise KeyboardInterrupt

    with _handled({number: request for number in SIGNALS}):
        yield wanted


@contextlib.contextmanager
def _handled(handlers: Dict[signal.Signals, Callable[[int, Any], None]]) -> Iterator[None]:
    """Install handlers, except for ignored signals, as under nohup or in the background."""
    before: Dict[signal.Signals, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():  # only it may install any
            for number, handler in handlers.items():
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
