"""What surrounds a command: its exit status, standard streams that fail, signals."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn import cli
from d2l_deeprnn._mxnet import mx
from d2l_deeprnn.cli import COMMANDS, console, main, plot
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.training import launcher
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
    environment.setdefault("PYTHONUNBUFFERED", "")  # buffered, errors come later
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


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """MXNet would write its warnings into it."""
    program = tmp_path / "open.py"
    program.write_text(
        "from d2l_deeprnn.cli import main, plot\n"
        f"plot.run = lambda arguments: open({str(tmp_path / 'file')!r}, 'w').fileno()\n"
        "raise SystemExit(main(['plot', 'a']))\n"
    )
    command = [sys.executable, str(program)]
    run = subprocess.run(["bash", "-c", '"$@" <&- >&- 2>&-', "bash", *command])
    assert run.returncode > 2


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
    assert run.returncode == 2 and rb"\xfc contains no run" in run.stderr


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_no_control_characters_of_others(monkeypatch, capsys):
    written = "a\tb\n\x1b]0;title\x07 \x1b[31m\x1b[8mhidden\r\x00\x7f\x9b1m \u202e\u2066 \xe9\n"

    def work(arguments):
        console.show(written, end="")
        console.print_line(written)
        raise d2l.D2LError(written)

    monkeypatch.setattr(plot, "run", work)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["plot", "a"]) == 2
    out, _ = capsys.readouterr()  # not a terminal
    assert out == f"{written}{written}\n"
    with monkeypatch.context() as streams:
        for name in "stdout", "stderr":
            streams.setattr(sys, name, FakeTerminal())
        assert main(["plot", "a"]) == 2
        out, err = sys.stdout.getvalue(), sys.stderr.getvalue()
    shown = r"\x1b]0;title\x07 \x1b[31m\x1b[8mhidden\r\x00\x7f\x9b1m \u202e\u2066" + " \xe9\n"
    assert out == f"a\tb\n{shown}" * 2 + "\n"
    assert err.startswith("d2l-deeprnn: \x1b[31merror:\x1b[0m a") and err.count("\x1b") == 2
    assert not set("\r\x00\x07\x7f\x9b\u202e\u2066") & set(err)


def test_commands_print_in_no_other_way():
    for path in Path(console.__file__).parent.glob("*.py"):
        calls = re.findall(r"\b(?:print|tqdm\.write|sys\.std\w+\.write)\(", path.read_text())
        assert len(calls) == (2 if path.name == "console.py" else 0), path.name


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
def test_the_status_of_an_error(monkeypatch, capsys, error, status, words):
    def fail(*args):
        raise error

    monkeypatch.setattr(plot, "run", fail)
    monkeypatch.delenv("D2L_DEEPRNN_DEBUG", raising=False)
    assert main(["plot", "a"]) == status
    out, err = capsys.readouterr()
    assert err.startswith("d2l-deeprnn: error: ") and words in err and "Traceback" not in err
    monkeypatch.setenv("D2L_DEEPRNN_DEBUG", "1")
    assert main(["plot", "a"]) == status
    err = capsys.readouterr().err
    assert "Traceback" in err and "in fail" in err and words in err


def test_a_fault_has_the_same_status_in_every_command(monkeypatch, capsys):
    def fail(arguments):
        raise ZeroDivisionError("division by zero")

    needed = {"exercise": ["1"], "train": ["--out=a"], "reproduce": [], "corpora": [], "doctor": []}
    needed.update({"export": ["a", "--format=onnx", "--output=b"], "import": ["a", "--out=b"]})
    for command in COMMANDS:
        monkeypatch.setattr(import_module(f"d2l_deeprnn.cli.{command}"), "run", fail)
        assert main([command, *needed.get(command, ["a"])]) == 70
        assert "a fault in d2l_deeprnn" in capsys.readouterr().err


def test_a_signal_while_a_command_is_loaded_has_its_status_too(monkeypatch, capsys):
    def load(given):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr(cli, "_parser", load)
    assert main(["runs"]) == 143
    assert capsys.readouterr().err == "d2l-deeprnn: interrupted\n"


def test_a_signal_while_a_text_is_read_ends_train_at_once(monkeypatch, capsys, tmp_path):
    def read(settings):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr("d2l_deeprnn.training.runs.read_text_of", read)
    assert main([*TRAIN, "--out", str(tmp_path / "run")]) == 143
    assert "a checkpoint is being written" not in capsys.readouterr().err


def test_wrong_arguments_of_another_process_than_the_first_are_shown(monkeypatch):
    said = []
    monkeypatch.setattr(launcher, "world_rank", lambda: 1)
    monkeypatch.setattr(launcher, "silence", lambda: None)
    monkeypatch.setattr(launcher, "write_stderr", said.append)
    with pytest.raises(SystemExit):
        main(["train", "--num-epochs", "x", "--out", "a"])
    assert len(said) == 1 and said[0].startswith("rank 1 on ") and "--num-epochs" in said[0]


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
        assert not stop.is_set()
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
        monkeypatch.setattr(console, "SAME_REQUEST_SECONDS", 0.0)
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
        "plot.run = lambda arguments: warnings.warn('careful\\nhere\\x1b') or 0\n"
        "sys.exit(main(['plot', 'a']))\n"
    )
    command = [sys.executable, str(program)]
    run = subprocess.run(command, stderr=subprocess.PIPE)
    assert run.stderr == b"d2l-deeprnn: warning: careful\\nhere\\x1b\n" and run.returncode == 0
