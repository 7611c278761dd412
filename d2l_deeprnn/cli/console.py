"""Exit statuses, output streams and signals of the command line."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import textwrap
import threading
import time
import warnings
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from ..files import printable

# 1 is only for a run that does not agree with the book; 70 is EX_SOFTWARE.
DONE, DISAGREES, BAD_INPUT, TEXT_MISSING, FAULT = 0, 1, 2, 3, 70
# Sent by Ctrl-C, by a batch system or `kill`, and by a terminal that closes.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A terminal and mpiexec or make may both send the signal of a single Ctrl-C.
SAME_REQUEST_SECONDS = 1.0
# Characters with which a model or a text could control a terminal and hide other output: C0 except
# tab and line feed, DEL, C1, and changes of the writing direction.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"
OUTPUT = "standard output"


class Interrupted(KeyboardInterrupt):
    """A signal that ends the process as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopRequest:
    """A request to stop, with the number of the signal that caused it."""

    number: Optional[int] = None

    def set(self, number: int = signal.SIGINT) -> None:
        """Request a stop, unless one is pending."""
        if self.number is None:
            self.number = number

    def is_set(self) -> bool:
        """Return whether a stop was requested."""
        return self.number is not None


def show(text: str = "", end: str = "\n", *, lead: str = "", style: str = "") -> None:
    """Print the output of a command, above a progress bar if there is one.

    On a terminal, control characters are shown as ``⟨U+001B⟩``.

    Args:
        text: the text.
        end: printed after it.
        lead: printed before it, without the style.
        style: of the text on a terminal with colours, such as ``BOLD``.

    Raises:
        OSError: if it cannot be written; its file name is ``OUTPUT``.
    """
    _write(_visible(lead) + coloured(_visible(text), style, sys.stdout) + end)


def _write(text: str) -> None:
    from tqdm import tqdm

    try:
        tqdm.write(text, end="")
        sys.stdout.flush()  # so that a log file gets each line at once
    except OSError as error:
        error.filename = OUTPUT
        raise


def _visible(text: str) -> str:
    """Replace control characters if standard output is a terminal."""
    if not sys.stdout.isatty():
        return text
    return CONTROLS.sub(lambda match: f"\u27e8U+{ord(match[0]):04X}\u27e9", text)


def print_line(line: str = "", *, lead: str = "", style: str = "") -> None:
    """Print a line like ``show``, but ignore errors of writing."""
    with contextlib.suppress(OSError):
        show(line, lead=lead, style=style)


def show_paragraph(text: str, indent: str = "") -> None:
    """Print a text like ``show``; on a terminal, lines are broken between words, and indented."""
    for line in wrapped(text, indent):
        show(line)


def print_paragraph(text: str, *, style: str = "") -> None:
    """Print a text like ``print_line``; on a terminal, lines are broken between words."""
    for line in wrapped(text):
        print_line(line, style=style)


def wrapped(text: str, indent: str = "", stream: Any = None) -> List[str]:
    """Return the lines of a text: one, or those that fit a terminal, indented after the first.

    Args:
        text: the text.
        indent: before each line but the first.
        stream: where it will be written; by default, standard output.
    """
    width = text_width() if (stream or sys.stdout).isatty() else sys.maxsize
    return textwrap.wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def print_error(text: str) -> None:
    """Print a text on standard error, if it can be written."""
    with contextlib.suppress(OSError):
        print(_for_standard_error(text), file=sys.stderr, flush=True)


def _for_standard_error(text: str) -> str:
    """On a terminal, break lines between words, and colour the word ``error`` or ``warning``."""
    lines = (part for line in text.split("\n") for part in wrapped(line, stream=sys.stderr))
    # The lines are broken first, since styles would count as letters.
    styles = {"error:": RED, "warning:": YELLOW}
    label = f"(?<=^d2l-deeprnn: )({'|'.join(styles)})"
    return re.sub(label, lambda match: coloured(match[0], styles[match[0]]), "\n".join(lines))


def show_json(value: Any) -> None:
    """Print a value as JSON, with null for numbers that are not finite, which JSON lacks."""
    finite = json.loads(json.dumps(value), parse_constant=lambda name: None)
    show(json.dumps(finite, indent=2))


def coloured(text: str, style: str, stream: Any = None) -> str:
    """Colour a text for a stream, by default standard error, if that is a terminal with colours.

    Source: https://no-color.org for the variable ``NO_COLOR``.
    """
    wanted = style and not os.environ.get("NO_COLOR") and _is_terminal(stream or sys.stderr)
    return f"\x1b[{style}m{text}\x1b[0m" if wanted else text


def _is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal that obeys escape sequences."""
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"


class GrowingText:
    """Prints a text as it grows; on a terminal, lines are broken between words."""

    def __init__(self) -> None:
        self._word, self._column = "", 0  # the last word, with styles; where the next one starts

    def write(self, text: str, style: str = "") -> None:
        """Print text at the end."""
        if not _is_terminal(sys.stdout):
            show(text, end="")
            return
        from tqdm.utils import disp_len  # counts 2 columns for a wide character

        # A character in a terminal's last column would change how the cursor moves back.
        width = min(text_width(), shutil.get_terminal_size().columns - 1)
        written = ""
        for char in _visible(text):
            if char == "\t":
                char = " " * (8 - self._column % 8)
            fits = self._column + disp_len(char) <= width
            if char == "\n" or (char.isspace() and not fits):
                self._word, self._column = "", 0
                written += "\n"
                continue
            if not fits:
                length = disp_len(self._word)
                if length == self._column:  # a word as long as the line is cut
                    self._word, length = "", 0
                written += f"\x1b[{length}D\x1b[K\n{self._word}" if length else "\n"
                self._column = length
            shown = coloured(char, style, sys.stdout)
            self._word = "" if char.isspace() else self._word + shown
            self._column += disp_len(char)
            written += shown
        _write(written)


def table(rows: Sequence[Sequence[str]]) -> List[str]:
    """Return the lines of a table, with columns of numbers aligned right.

    If a terminal is too narrow for it, the first cell of each row is on a line of its own. If that
    is still too wide, so is each other cell, after its heading.

    Args:
        rows: the cells, with the headings first.
    """
    cells = []
    for heading, *values in zip(*rows):
        side = "<" if any(value[:1].isalpha() for value in values) else ">"
        width = max(map(len, [heading, *values]))
        cells.append([f"{cell:{side}{width}}" for cell in [heading, *values]])
    lines = ["  ".join(line).rstrip() for line in zip(*cells)]
    if max(map(len, lines)) <= columns():
        return lines
    heading, *lines = ["  " + "  ".join(line).rstrip() for line in zip(*cells[1:])]
    if max(map(len, [heading, *lines])) <= columns():
        return [heading, *(line for row, rest in zip(rows[1:], lines) for line in (row[0], rest))]
    width = max(map(len, rows[0][1:]))
    return [
        line
        for first, *rest in rows[1:]
        for line in (first, *(f"  {name:{width}}  {cell}" for name, cell in zip(rows[0][1:], rest)))
    ]


def show_table(rows: Sequence[Sequence[str]]) -> None:
    """Print a table with its first line in bold; see ``table``."""
    first, *lines = table(rows)
    show(first, style=BOLD)
    for line in lines:
        show(line)


def columns() -> int:
    """Return the number of columns of standard output; there is no limit but on a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def text_width() -> int:
    """Return the number of columns for text: those of the terminal, from 20 to 80."""
    return max(20, min(80, shutil.get_terminal_size().columns))


def exit_status(number: int) -> int:
    """Return the exit status for a signal: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + number


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Cope with standard streams that are closed, lack characters or lose their reader."""
    # Otherwise the next file to be opened, such as a checkpoint, would get the number of a closed
    # stream, and MXNet would write its warnings into the file.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name in "stdout", "stderr":
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        with contextlib.suppress(AttributeError):  # in a notebook
            getattr(sys, name).reconfigure(errors="backslashreplace")
    before, warnings.formatwarning = warnings.formatwarning, _one_line
    try:
        yield
    finally:
        warnings.formatwarning = before
        for stream in sys.stdout, sys.stderr:
            try:
                stream.flush()
            except OSError:  # Python would flush again at exit, and fail
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _one_line(message: Any, *args: Any, **kwargs: Any) -> str:
    return _for_standard_error(f"d2l-deeprnn: warning: {printable(str(message))}") + "\n"


@contextlib.contextmanager
def interruptions() -> Iterator[StopRequest]:
    """Make SIGTERM and SIGHUP raise an exception, as Ctrl-C does, so that clean-up code runs.

    Yields:
        A request with the number of the first signal. It is set even if other code, such as that of
        an extension module, turns the exception into one of its own.
    """
    request = StopRequest()

    def interrupt(number: int, frame: Any) -> None:
        request.set(number)
        if number != signal.SIGINT and _is_importing(frame):
            # Imports may swallow the exception, and have nothing to clean up.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise Interrupted(number)

    def send_again(unraisable: Any) -> None:
        # Python ignores exceptions in __del__, which arrays of MXNet have.
        if isinstance(unraisable.exc_value, Interrupted):
            number = unraisable.exc_value.number
            threading.Timer(0.01, os.kill, [os.getpid(), number]).start()
        else:
            sys.__unraisablehook__(unraisable)

    before, sys.unraisablehook = sys.unraisablehook, send_again
    try:
        with _handled({number: interrupt for number in SIGNALS}):
            yield request
    finally:
        sys.unraisablehook = before


def _is_importing(frame: Any) -> bool:
    """Return whether a frame is part of an import."""
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


@contextlib.contextmanager
def stop_on_signals(message: str, stop: Optional[StopRequest] = None) -> Iterator[StopRequest]:
    """Turn the first signal into a stop request; a second Ctrl-C interrupts at once.

    Args:
        message: shown when the first signal arrives.
        stop: the request that a signal sets; a new one if None.
    """
    request = stop or StopRequest()
    first = 0.0

    def handle(number: int, frame: Any) -> None:
        nonlocal first
        if not request.is_set():
            request.set(number)
            first = time.monotonic()
            # Not print, which the signal may have interrupted. A terminal shows ^C on the line.
            with contextlib.suppress(OSError):
                os.write(2, f"{chr(10) if os.isatty(2) else ''}{message}\n".encode())
        elif number == signal.SIGINT and time.monotonic() - first > SAME_REQUEST_SECONDS:
            raise KeyboardInterrupt

    with _handled({number: handle for number in SIGNALS}):
        yield request


@contextlib.contextmanager
def _handled(handlers: Dict[signal.Signals, Callable[[int, Any], None]]) -> Iterator[None]:
    """Install signal handlers, but not for signals that are ignored, as under nohup."""
    before: Dict[signal.Signals, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():  # Python's condition
            for number, handler in handlers.items():
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
