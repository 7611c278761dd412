"""What surrounds a command: exit statuses, streams that may fail, signals that ask it to end."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import sys
import textwrap
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Optional, Pattern

from ..files import printable

if TYPE_CHECKING:
    from ..evidence.records import Table
    from ..training.trainer import Progress

# DISAGREES is for a run that does not agree with the book, and for nothing else. A signal's
# status comes from `exit_status`; 70 is EX_SOFTWARE.
DONE, DISAGREES, BAD_INPUT, TEXT_MISSING, FAULT = 0, 1, 2, 3, 70
# What Ctrl-C, a batch system or `kill`, and a terminal that is closed send.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A terminal and a program in between may both pass on the same Ctrl-C.
SAME_WISH_SECONDS = 1.0


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end, as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class ReaderGone(Exception):
    """Nobody reads standard output any more."""


class Stop:
    """A wish to stop: the number of the signal that brought it, or None."""

    number: Optional[int] = None

    def ask(self, number: int = signal.SIGINT) -> None:
        """Wish to stop, if nobody did before."""
        if self.number is None:
            self.number = number

    def asked_for(self) -> bool:
        """Whether somebody wishes to stop."""
        return self.number is not None


def print_line(line: str) -> None:
    """Print a line, cut between words if need be, above a progress bar, if there is one."""
    from tqdm import tqdm

    tqdm.write(fitting(line, sys.stdout))
    sys.stdout.flush()  # a log file shows each line when it is written


def advance(bar: Any, progress: Progress, words: str) -> None:
    """Show in a progress bar how far an epoch is; it begins anew with each epoch.

    Args:
        bar: of tqdm.
        progress: of the epoch.
        words: stand before the bar.
    """
    # The words first: to begin anew draws the bar, else behind the words of the epoch before.
    bar.set_description_str(words, refresh=False)
    if progress.num_minibatches != bar.total or progress.minibatch < bar.n:
        bar.reset(progress.num_minibatches)
    bar.update(progress.minibatch - bar.n)


def print_table(table: Table) -> None:
    """Print a table; in a terminal that is too narrow for it, row by row, a value a line."""
    words = str(table)
    columns = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or max(map(len, words.split("\n"))) <= columns:
        print(words)
        return
    print_line(table.title)
    for first, *values in table.rows:
        print_line("")
        print_line(f"{table.columns[0]} {first}".strip())
        for name, value in zip(table.columns[1:], values):
            if value:
                print_line(f"  {name}: {value}")


def fitting(line: str, stream: Any) -> str:
    """A line; where a stream is a terminal that is narrower, several, cut between words.

    Args:
        line: without a line break.
        stream: that it is meant for.
    """
    return cut(line, shutil.get_terminal_size().columns) if stream.isatty() else line


def cut(line: str, width: int, *, hanging: int = 2) -> str:
    """Cut a line into several that are at most so wide, between words.

    Those after the first are indented. What is longer than a line, such as a path, is not cut.

    Args:
        line: without a line break.
        width: characters.
        hanging: by how many characters the lines after the first are further in.
    """
    lines = textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * (len(line) - len(line.lstrip()) + hanging),
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


RED, YELLOW = "31", "33"


def coloured(words: str, colour: str, stream: Any) -> str:
    """Words in a colour where a stream is a terminal that has it, and the user wants it.

    Args:
        colour: ``RED`` or ``YELLOW``.

    Source: https://no-color.org for the variable ``NO_COLOR``.
    """
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{colour}m{words}\x1b[0m" if wanted and stream.isatty() else words


def duration(seconds: float) -> str:
    """A time as a clock shows it: ``4:05``, or ``1:04:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Pace:
    """Notices when training becomes much slower than it was, as it does beside other programs.

    Written into a progress bar, it is empty as long as nothing was noticed.

    Args:
        clock: gives the time in seconds.
    """

    WINDOW_SECONDS = 2.0  # over which the time of a minibatch is averaged
    MUCH, LITTLE = 2.0, 1.5  # times the best; where a slow stretch begins, and where it ends
    FOR_A_WHILE = 3  # windows

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._last: Optional[float] = None
        self._seconds, self._number = 0.0, 0  # of the window
        self._best = float("inf")
        self._slow_windows = 0
        self._times = 1.0  # as long as at best
        self._is_slow = False

    def pause(self) -> None:
        """What comes before the next minibatch is something else: its time does not count."""
        self._last = None

    def note(self) -> Optional[str]:
        """Note that a minibatch is done; where a slow stretch begins, say so in words."""
        now = self._clock()
        if self._last is not None:
            self._seconds += now - self._last
            self._number += 1
        self._last = now
        if self._seconds < self.WINDOW_SECONDS:
            return None
        took = self._seconds / self._number
        self._seconds, self._number = 0.0, 0
        self._best = min(self._best, took)
        self._times = took / self._best
        self._slow_windows = self._slow_windows + 1 if self._times > self.MUCH else 0
        if self._is_slow:
            self._is_slow = self._times > self.LITTLE
            return None
        self._is_slow = self._slow_windows >= self.FOR_A_WHILE
        return self._words() if self._is_slow else None

    def _words(self) -> str:
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        fewer = (
            f" Beside them, fewer threads may be faster: OMP_NUM_THREADS=1 (now {threads}); "
            "results then differ by rounding."
        )
        return (
            f"A minibatch now takes {self._times:.0f} times as long as before, probably because "
            f"other programs use the processors.{'' if threads == '1' else fewer}"
        )

    def __str__(self) -> str:
        return f", {self._times:.0f} times slower than before" if self._is_slow else ""


def exit_status(number: int) -> int:
    """The exit status of a process that a signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + number


@contextlib.contextmanager
def interruptions() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise an exception, as Ctrl-C does, so that things are put away."""

    def interrupt(number: int, frame: Any) -> None:
        raise Interrupted(number)

    with _handled({number: interrupt for number in SIGNALS if number != signal.SIGINT}):
        yield


@contextlib.contextmanager
def stop_on_signals(words: str) -> Iterator[Stop]:
    """Turn a signal into a wish to stop, for work that stops at a place of its own.

    A second Ctrl-C, when somebody has waited, is not held up.

    Args:
        words: shown when the first signal comes.
    """
    stop = Stop()
    first = 0.0

    def ask(number: int, frame: Any) -> None:
        nonlocal first
        if not stop.asked_for():
            stop.ask(number)
            first = time.monotonic()
            # Not print: the signal may have come while something was being printed.
            with contextlib.suppress(OSError):
                # A terminal has shown ^C, behind a progress bar if there is one.
                os.write(2, f"{chr(10) if os.isatty(2) else ''}{words}\n".encode())
        elif number == signal.SIGINT and time.monotonic() - first > SAME_WISH_SECONDS:
            raise KeyboardInterrupt

    with _handled({number: ask for number in SIGNALS}):
        yield stop


@contextlib.contextmanager
def _handled(handlers: Dict[signal.Signals, Callable[[int, Any], None]]) -> Iterator[None]:
    """Install handlers, but for signals that are ignored, as under nohup or in the background."""
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


# Characters that a terminal obeys, so that a stranger's model or text could hide what is on it: C0
# except tab and line feed, DEL, C1, and those that change the direction of writing.
_CONTROLS = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
CONTROLS = re.compile(_CONTROLS)
# Our own colours and the moves of tqdm's bars, which go to standard error. Text from elsewhere goes
# there through `printable` only.
CONTROLS_BUT_OURS = re.compile(rf"(?!\r|\x1b\[(?:A|0m|{RED}m|{YELLOW}m)){_CONTROLS}")


class Stream:
    """A standard stream that outlives its reader, and a terminal that lacks a character.

    On a terminal, control characters are shown as escapes such as ``\\x1b``.

    Args:
        stream: the stream itself.
        controls: matches the characters that are shown as escapes.

    Attributes:
        strict: whether what cannot be written is an error; else it is dropped.
    """

    def __init__(self, stream: Any, controls: Pattern[str] = CONTROLS) -> None:
        self._stream = stream
        self._controls = controls if stream.isatty() else None
        self._gone = False
        self.strict = False

    def write(self, text: str) -> int:
        shown = text
        if self._controls is not None:
            shown = self._controls.sub(lambda found: printable(found[0]), text)
        if not self._gone:
            try:
                try:
                    self._stream.write(shown)
                except UnicodeEncodeError:
                    encoding = self._stream.encoding or "ascii"
                    escaped = shown.encode(encoding, "backslashreplace")
                    self._stream.write(escaped.decode(encoding))
            except (OSError, ValueError) as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        if not self._gone:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: Exception) -> None:
        self._gone = True
        # What is buffered will be written when Python ends, and must not fail there.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if self.strict:
            if isinstance(error, BrokenPipeError):
                raise ReaderGone from error
            number = getattr(error, "errno", None) or errno.EBADF
            raise OSError(number, os.strerror(number), "standard output") from error


@contextlib.contextmanager
def standard_streams() -> Iterator[Stream]:
    """Have standard output and error drop what they cannot take; gives standard output.

    Warnings are shown in one line each.
    """
    _open_the_closed()
    before = sys.stdout, sys.stderr, warnings.formatwarning
    output, errors = (
        Stream(open(os.devnull, "w") if stream is None else stream, controls)  # noqa: SIM115
        for stream, controls in ((sys.stdout, CONTROLS), (sys.stderr, CONTROLS_BUT_OURS))
    )
    sys.stdout, sys.stderr = output, errors  # type: ignore[assignment]
    warnings.formatwarning = _one_line
    try:
        yield output
    finally:
        output.strict = False
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr, warnings.formatwarning = before


def _open_the_closed() -> None:
    """Have descriptors 0 to 2 lead somewhere, or the next files that are opened become them.

    MXNet's warnings, for instance, would then be written into a checkpoint.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)


def _one_line(message: Any, *where: Any, **more: Any) -> str:
    warning = coloured("warning:", YELLOW, sys.stderr)
    return f"{fitting(f'd2l-deeprnn: {warning} {printable(str(message))}', sys.stderr)}\n"
