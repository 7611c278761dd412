"""What surrounds a command: its exit status, standard streams that fail, signals."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import mx
from d2l_deeprnn.cli import COMMANDS, console, main, plot
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.training.checkpoint import load_checkpoint
from d2l_deeprnn.training.learner import Diverged

COMMAND = [sys.executable, "-m", "d2l_deeprnn"]
SMALL = ["--num-layers=1", "--num-hiddens=8", "--batch-size=8", "--num-steps=10", "--num-epochs=2"]
TRAIN = ["train", f"--corpus={SAMPLE_TEXT}", "--num-examples=3000", *SMALL]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run; not to be changed."""
    out = tmp_path_factory.mktemp("console") / "finished"
    assert main([*TRAIN, "--out", str(out)]) == 0
    return out


def shell(line, *words, **environment):
    """Run a line of the shell in which "$@" is the command with these words."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}", "bash", *COMMAND, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


# Standard streams.


@pytest.mark.parametrize(
    "line",
    [
        '"$@" >&-',
        '"$@" 2>&-',
        '"$@" <&- >&- 2>&-',
        '"$@" | true',
        '"$@" 2>&1 | head -n 1',
        pytest.param('"$@" >/dev/full 2>/dev/full', marks=needs_full),
    ],
)
def test_a_training_outlives_its_streams(finished, tmp_path, line):
    run = shell(line, *TRAIN, "--out", tmp_path / "run")
    assert run.returncode == 0, run.stderr
    assert b"Traceback" not in run.stderr and b"Exception ignored" not in run.stderr
    for name in ("last.zip", "best.zip"):
        found, expected = (load_checkpoint(d / name).arrays for d in (tmp_path / "run", finished))
        assert all(np.array_equal(found[part], expected[part]) for part in expected)
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3


@pytest.mark.parametrize("line", ['"$@" >&- 2>&-', '"$@" | true'])
def test_a_reproduction_outlives_its_streams(tmp_path, line):
    words = ["--corpus", SAMPLE_TEXT, "--num-epochs=1", "--out", tmp_path / "run"]
    run = shell(line, "reproduce", *words)
    assert run.returncode == 0 and run.stderr == b""
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_a_study_outlives_its_streams(tmp_path):
    run = shell('"$@" | head -n 1', "exercise", "1", "--quick", "--out", tmp_path)
    assert run.returncode == 0 and run.stderr == b""
    assert list(tmp_path.glob("*.csv")) and list(tmp_path.glob("*.svg"))


@pytest.mark.parametrize("words", [["generate", "--length=3000"], ["evaluate"], ["corpora"]])
def test_a_command_that_only_prints_ends_quietly_with_its_reader(finished, words):
    words = [*words, finished] if words != ["corpora"] else words
    run = shell('"$@" | head -c 1', *words)
    assert (run.returncode, len(run.stdout), run.stderr) == (0, 1, b"")


@needs_full
@pytest.mark.parametrize("words", [["generate", "--length=9"], ["evaluate"], ["corpora"]])
def test_output_that_is_lost_is_an_error_where_it_is_all_there_is(finished, words):
    words = [*words, finished] if words != ["corpora"] else words
    run = shell('"$@" >/dev/full', *words)
    assert run.returncode == 2
    assert run.stderr == b"d2l-deeprnn: error: standard output: No space left on device\n"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["generate", "--help"]])
@pytest.mark.parametrize("line", ['"$@" | true', '"$@" >&-'])
def test_help_without_a_reader(words, line):
    run = shell(line, *words)
    assert (run.returncode, run.stderr) == (0, b"")


def test_bad_input_without_a_place_for_the_error(tmp_path):
    assert shell('"$@" 2>&-', "evaluate", tmp_path).returncode == 2
    assert shell('"$@" 2>&- >&-', "reprodcue").returncode == 2


def test_a_terminal_that_lacks_a_character(tmp_path):
    text = tmp_path / "caf\u00e9.txt"
    text.write_text("caf\u00e9 \u2014 " * 400, encoding="utf-8")
    out = tmp_path / "\u00f6ut"
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    run = shell('"$@"', "train", "--corpus", text, *SMALL, "--out", out, **ascii_only)
    assert run.returncode == 0 and rb"\xf6ut" in run.stdout, run.stderr
    words = ["--prefix", "caf\u00e9", "--length", "9"]
    run = shell('"$@"', "generate", out, *words, **ascii_only)
    assert run.returncode == 0 and run.stdout.startswith(rb"caf\xe9"), run.stderr
    run = shell('"$@"', "reproduce", "--corpus", text, "--num-epochs=1", **ascii_only)
    assert run.returncode == 0 and rb"The text is caf\xe9.txt, so" in run.stdout, run.stderr
    run = shell('"$@"', "evaluate", tmp_path / "\u00fc", **ascii_only)
    assert run.returncode == 2 and rb"\xfc holds no run" in run.stderr


def test_a_broken_stream_is_left_alone_from_then_on():
    calls = []

    class Broken(io.StringIO):
        def write(self, text):
            calls.append(text)
            raise BrokenPipeError

    stream = console.Stream(Broken())
    assert (stream.write("a"), stream.write("bc"), stream.flush()) == (1, 2, None)
    assert calls == ["a"]
    strict = console.Stream(Broken())
    strict.strict = True
    with pytest.raises(console.ReaderGone):
        strict.write("a")


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_no_control_characters_of_others(monkeypatch, capsys):
    written = "a\tb\n\x1b]0;title\x07 \x1b[31m\x1b[8mhidden\r\x00\x7f\x9b1m \u202e\u2066 \xe9\n"

    def work(arguments):
        print(written, end="")
        print(f"{written}\r\x1b[A", end="", file=sys.stderr)
        raise d2l.D2LError(written)

    monkeypatch.setattr(plot, "run", work)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["plot", "a"]) == 2
    out, err = capsys.readouterr()  # not a terminal
    assert out == written and err.startswith(written)
    with monkeypatch.context() as streams:
        for name in "stdout", "stderr":
            streams.setattr(sys, name, FakeTerminal())
        assert main(["plot", "a"]) == 2
        out, err = sys.stdout.getvalue(), sys.stderr.getvalue()
    rest = r"\x00\x7f\x9b1m \u202e\u2066" + " \xe9\n"
    assert out == "a\tb\n" + r"\x1b]0;title\x07 \x1b[31m\x1b[8mhidden\r" + rest
    ours, error = err.split("\r\x1b[A")  # of a progress bar
    assert ours == "a\tb\n" + r"\x1b]0;title\x07 " + "\x1b[31m" + r"\x1b[8mhidden" + f"\r{rest}"
    assert error.startswith("d2l-deeprnn: \x1b[31merror:\x1b[0m a") and error.count("\x1b") == 2


# Exit statuses.


@pytest.mark.parametrize(
    "error, status, words",
    [
        (ValueError("wrong"), 2, "wrong"),
        (OSError(28, "No space left on device", "a.csv"), 2, "a.csv: No space left on device"),
        (ImportError("MXNet needs libgomp1"), 2, "MXNet needs libgomp1"),
        (UserWarning("a.txt looks like cp1252"), 2, "a.txt looks like cp1252"),
        (MemoryError(), 2, "there is not enough memory"),
        (mx.MXNetError("Traceback (most\n  File x\nMXNetError: shapes"), 2, "MXNetError: shapes"),
        (d2l.D2LError("a message"), 2, "error: a message"),
        (Diverged("lower the rate"), 2, "error: lower the rate"),
        (RuntimeError("no running loop"), 70, "RuntimeError: no running loop"),
        (KeyError("l0_i2h"), 70, "a fault in d2l_deeprnn (set D2L_DEEPRNN_DEBUG=1 to see where)"),
        (AssertionError(), 70, "AssertionError"),
        (RecursionError("too deep"), 70, "RecursionError: too deep"),
        (ZeroDivisionError("division by zero"), 70, "ZeroDivisionError: division by zero"),
        (TypeError("a\nb"), 70, "TypeError: a"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_error_gives_the_status_of_a_comparison(
    monkeypatch, capsys, error, status, words, command
):
    def fail(*args):
        raise error

    monkeypatch.setattr(import_module(f"d2l_deeprnn.cli.{command}"), "run", fail)
    monkeypatch.delenv("D2L_DEEPRNN_DEBUG", raising=False)
    arguments = {"exercise": ["1"], "train": ["--out=a"]}
    arguments.update(dict.fromkeys(["reproduce", "corpora", "doctor"], []))
    arguments.update({"export": ["a", "--format=onnx", "--output=b"], "import": ["a", "--out=b"]})
    arguments = arguments.get(command, ["a"])
    assert main([command, *arguments]) == status
    out, err = capsys.readouterr()
    assert err.startswith("d2l-deeprnn: error: ") and words in err and "Traceback" not in err
    monkeypatch.setenv("D2L_DEEPRNN_DEBUG", "1")
    assert main([command, *arguments]) == status
    err = capsys.readouterr().err
    assert "Traceback" in err and "in fail" in err and words in err


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_any_command_with_its_status(monkeypatch, capsys, name, status):
    put_away = []

    def work(arguments):
        try:
            os.kill(os.getpid(), getattr(signal, name))
            time.sleep(10)
        finally:
            put_away.append(True)

    monkeypatch.setattr(plot, "run", work)
    before = [signal.getsignal(number) for number in console.SIGNALS]
    assert main(["plot", "a"]) == status
    assert put_away and capsys.readouterr().err == "d2l-deeprnn: interrupted\n"
    assert before == [signal.getsignal(number) for number in console.SIGNALS]


def test_a_signal_that_is_ignored_stays_so(monkeypatch):
    """As under nohup, or for a command that a script put into the background."""

    def work(arguments):
        with console.stop_on_signals("Stopping ...") as stop:
            for number in console.SIGNALS:
                os.kill(os.getpid(), number)
        assert not stop.asked_for()
        return 0

    monkeypatch.setattr(plot, "run", work)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in console.SIGNALS}
    try:
        assert main(["plot", "a"]) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_wish_to_stop_may_come_twice(capfd, monkeypatch):
    with console.stop_on_signals("Stopping ...") as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
        assert stop.number == signal.SIGTERM
        monkeypatch.setattr(console, "SAME_WISH_SECONDS", 0.0)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):  # somebody has waited, and presses Ctrl-C again
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
    assert capfd.readouterr().err == "Stopping ...\n"
    monkeypatch.setattr(os, "isatty", lambda number: True)
    with console.stop_on_signals("Stopping ..."):
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err == "\nStopping ...\n"  # not on the line of a bar


def test_a_warning_is_one_line(tmp_path):
    program = tmp_path / "warn.py"
    program.write_text(
        "import sys, warnings\n"
        "from d2l_deeprnn.cli import main, plot\n"
        "plot.run = lambda arguments: warnings.warn('careful\\nhere') or 0\n"
        "sys.exit(main(['plot', 'a']))\n"
    )
    command = [sys.executable, str(program)]
    run = subprocess.run(command, stderr=subprocess.PIPE)
    assert run.stderr == b"d2l-deeprnn: warning: careful\\nhere\n" and run.returncode == 0


# Other work in the way.


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self):
        return self.now


def said_of(pace, clock, seconds, number):
    """What a pace says of minibatches that took so many seconds each."""
    said = []
    for _ in range(number):
        clock.now += seconds
        said.append(pace.note())
    return [words for words in said if words]


@pytest.fixture
def clock():
    return Clock()


def test_a_slow_stretch_is_said_once_and_shown_while_it_lasts(clock, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    pace = console.Pace(clock)
    assert said_of(pace, clock, 0.03, 300) == [] and str(pace) == ""
    (words,) = said_of(pace, clock, 0.3, 100)
    assert words.startswith("A minibatch now takes 10 times as long as before")
    assert "OMP_NUM_THREADS=1 (now 2)" in words
    assert str(pace) == ", 10 times slower than before"
    assert said_of(pace, clock, 0.15, 100) == [] and str(pace) == ", 5 times slower than before"
    assert said_of(pace, clock, 0.03, 100) == [] and str(pace) == ""
    assert len(said_of(pace, clock, 0.3, 100)) == 1


@pytest.mark.parametrize(
    "seconds, number",
    [(0.3, 13), (0.055, 1000)],
    ids=["two windows of ten times", "always less than twice"],
)
def test_what_is_short_or_small_is_not_said(clock, seconds, number):
    pace = console.Pace(clock)
    said_of(pace, clock, 0.03, 300)
    assert said_of(pace, clock, seconds, number) == [] and str(pace) == ""
    assert said_of(pace, clock, 0.03, 300) == []


def test_what_is_done_between_two_epochs_does_not_count(clock):
    pace = console.Pace(clock)
    for _ in range(20):
        assert said_of(pace, clock, 0.03, 100) == []
        clock.now += 60
        pace.pause()
    assert str(pace) == ""


def test_training_that_was_always_slow_is_not(clock):
    assert said_of(console.Pace(clock), clock, 5.0, 100) == []


def test_one_thread_cannot_become_fewer(clock, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pace = console.Pace(clock)
    said_of(pace, clock, 0.03, 300)
    (words,) = said_of(pace, clock, 0.3, 100)
    assert "OMP_NUM_THREADS" not in words


class Crawling(console.Pace):
    """A pace at which everything has become slow."""

    def note(self):
        self._is_slow, self._times = True, 7.0
        return "it is slow"


@pytest.mark.parametrize("command", ["train", "reproduce"])
def test_commands_say_that_training_has_become_slow(command, monkeypatch, tmp_path, capsys):
    for name in "train", "reproduce":
        monkeypatch.setattr(import_module(f"d2l_deeprnn.cli.{name}"), "Pace", Crawling)
    words = {
        "train": TRAIN,
        "reproduce": ["reproduce", f"--corpus={SAMPLE_TEXT}", "--num-epochs=2"],
    }
    main([*words[command], "--out", str(tmp_path / "run")])
    assert "it is slow\n" in capsys.readouterr().out
