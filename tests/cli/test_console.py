"""Exit statuses, failing standard streams, and signals."""

from __future__ import annotations

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn import cli
from d2l_deeprnn._mxnet import mx
from d2l_deeprnn.cli import console, main, runs
from d2l_deeprnn.evidence.live import ProgressBar
from d2l_deeprnn.text.corpora import SAMPLE_TEXT, TextNotAvailable
from d2l_deeprnn.training import launcher
from d2l_deeprnn.training.checkpoint import load_checkpoint

COMMAND = [sys.executable, "-m", "d2l_deeprnn"]
SMALL = ["--num-layers=1", "--num-hiddens=8", "--batch-size=8", "--num-steps=10", "--num-epochs=2"]
TRAIN = ["train", f"--corpus={SAMPLE_TEXT}", "--num-examples=1000", *SMALL]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, which no test changes."""
    out = tmp_path_factory.mktemp("console") / "finished"
    assert main([*TRAIN, "--out", str(out)]) == 0
    return out


def shell(line, *words, **environment):
    """Run a line of the shell in which "$@" is the command with these words."""
    environment.setdefault("PYTHONUNBUFFERED", "")  # with a buffer, errors come later
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
        '"$@" <&- >&- 2>&-',
        '"$@" 2>&1 | head -n 1',
        pytest.param('"$@" >/dev/full 2>/dev/full', marks=needs_full),
    ],
)
def test_a_training_outlives_its_streams(finished, tmp_path, line):
    run = shell(line, *TRAIN, "--out", tmp_path / "run")
    assert run.returncode == 0, run.stderr
    assert b"Traceback" not in run.stderr and b"Exception ignored" not in run.stderr
    for name in ("last.zip", "best.zip"):
        arrays, expected = (load_checkpoint(d / name).arrays for d in (tmp_path / "run", finished))
        assert all(np.array_equal(arrays[part], expected[part]) for part in expected)
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3


def test_a_command_that_only_prints_ends_quietly_with_its_reader(finished):
    run = shell('"$@" | head -c 1', "generate", "--length=3000", finished)
    assert (run.returncode, len(run.stdout), run.stderr) == (0, 1, b"")


@needs_full
def test_lost_output_is_an_error_if_there_is_nothing_else():
    run = shell('"$@" >/dev/full', "corpora")
    assert run.returncode == 2
    assert run.stderr == b"d2l-deeprnn: error: standard output: No space left on device\n"


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """MXNet would write its warnings into it."""
    program = tmp_path / "open.py"
    program.write_text(
        "from d2l_deeprnn.cli import main, runs\n"
        f"runs.run_runs = lambda arguments: open({str(tmp_path / 'file')!r}, 'w').fileno()\n"
        "raise SystemExit(main(['runs']))\n"
    )
    command = [sys.executable, str(program)]
    run = subprocess.run(["bash", "-c", '"$@" <&- >&- 2>&-', "bash", *command])
    assert run.returncode > 2


@pytest.mark.parametrize("line", ['"$@" | true', '"$@" >&-'])
def test_help_without_a_reader(line):
    run = shell(line, "generate", "--help")
    assert (run.returncode, run.stderr) == (0, b"")


def test_bad_input_with_a_closed_standard_error():
    assert shell('"$@" 2>&- >&-', "reprodcue").returncode == 2


def test_a_terminal_that_lacks_a_character(tmp_path):
    text = tmp_path / "caf\u00e9.txt"
    text.write_text("caf\u00e9 \u2014 " * 400, encoding="utf-8")
    out = tmp_path / "\u00f6ut"
    # Three commands in one process, separated by lines with their statuses
    program = """if True:
        import sys
        from d2l_deeprnn.cli import main
        text, out, missing, *small = sys.argv[1:]
        print("==", main(["train", "--corpus", text, *small, "--out", out]))
        print("==", main(["generate", out, "--prefix", "caf\u00e9", "--length", "9"]))
        print("==", main(["evaluate", missing]))
    """
    run = subprocess.run(
        [sys.executable, "-c", program, text, out, tmp_path / "\u00fc", *SMALL],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
    )
    trained, generated, _ = run.stdout.split(b"== 0\n")
    assert rb"\xf6ut" in trained and generated.startswith(rb"caf\xe9"), run.stderr
    assert (
        run.stdout.endswith(b"== 2\n")
        and rb"there is no directory" in run.stderr
        and rb"\xfc" in run.stderr
    )


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_no_control_characters_of_others(monkeypatch, capsys):
    written = "a\tb\n\x1b]0;title\x07 \x1b[31m\x1b[8mhidden\r\x00\x7f\x9b1m \u202e\u2066 \xe9\n"

    def work(arguments):
        console.show(written, end="")
        console.print_line(written)
        raise d2l.D2LError(written)

    monkeypatch.setattr(runs, "run_runs", work)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["runs"]) == 2
    out, _ = capsys.readouterr()  # this is not a terminal
    assert out == f"{written}{written}\n"
    with monkeypatch.context() as streams:
        for name in "stdout", "stderr":
            streams.setattr(sys, name, FakeTerminal())
        assert main(["runs"]) == 2
        out, err = sys.stdout.getvalue(), sys.stderr.getvalue()
    shown = "<1B>]0;title<07> <1B>[31m<1B>[8mhidden<0D><00><7F><9B>1m <202E><2066> \xe9\n"
    shown = re.sub("<(..)>", r"<00\1>", shown).replace("<", "\u27e8U+").replace(">", "\u27e9")
    assert out == f"a\tb\n{shown}" * 2 + "\n"
    assert err.startswith("d2l-deeprnn: \x1b[31merror:\x1b[0m a") and err.count("\x1b") == 2
    assert not set("\r\x00\x07\x7f\x9b\u202e\u2066") & set(err)


def test_an_error_is_wrapped_between_words_in_a_terminal(monkeypatch):
    for name, value in ("COLUMNS", "40"), ("TERM", "xterm"), ("NO_COLOR", ""):
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as streams:
        streams.setattr(sys, "stderr", FakeTerminal())
        assert main(["corpora", "fetch", "time_machin"]) == 2
        shown = sys.stderr.getvalue()
    first, *lines = shown.splitlines()
    assert first == "d2l-deeprnn: \x1b[31merror:\x1b[0m 'time_machin' is"
    assert lines[0] == "neither a known text nor a file (did you"
    assert max(map(len, lines)) <= 40


def test_only_the_console_module_prints():
    for path in Path(console.__file__).parent.glob("*.py"):
        calls = re.findall(r"\b(?:print|tqdm\.write|sys\.std\w+\.write)\(", path.read_text())
        assert len(calls) == (2 if path.name == "console.py" else 0), path.name


def written_in_a_terminal(monkeypatch, columns, *chunks, style=""):
    """Return the lines in a terminal into which a growing text was written, without styles."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    with monkeypatch.context() as streams:
        streams.setattr(sys, "stdout", FakeTerminal())
        text = console.GrowingText()
        for chunk in chunks:
            text.write(chunk, style)
        written = re.sub(r"\x1b\[\d*m", "", sys.stdout.getvalue())
    # Each move back is followed by erasing the rest of the line.
    for back in re.findall(r"\x1b\[(\d+)D\x1b\[K", written):
        written = re.sub(rf".{{{back}}}\x1b\[{back}D\x1b\[K", "", written, count=1)
    return [line.rstrip(" ") for line in written.split("\n")]


def test_a_growing_text_is_wrapped_between_words(monkeypatch, capsys):
    text = "the tide was in, and the lamplighter walked along the quay\nto the sea"
    lines = written_in_a_terminal(monkeypatch, 24, *text)
    assert lines == [
        "the tide was in, and",
        "the lamplighter walked",
        "along the quay",
        "to the sea",
    ]
    assert written_in_a_terminal(monkeypatch, 24, text[:9], text[9:], style=console.BOLD) == lines
    # Too long for a line, and two columns for each character.
    lines = written_in_a_terminal(monkeypatch, 24, "x" * 30 + " yy")
    assert lines == ["x" * 23, "x" * 7 + " yy"]
    assert written_in_a_terminal(monkeypatch, 24, "\u6f6e" * 12) == ["\u6f6e" * 11, "\u6f6e"]
    lines = written_in_a_terminal(monkeypatch, 24, "if x:\n\tsee the\tsea and land")
    assert lines == ["if x:", "        see the sea and", "land"]
    assert written_in_a_terminal(monkeypatch, 24, "a\u202eb") == ["a\u27e8U+202E\u27e9b"]
    console.GrowingText().write(text + "\u202e", console.BOLD)  # not a terminal
    assert capsys.readouterr().out == text + "\u202e"


def test_a_table_stays_one_in_a_narrow_terminal(monkeypatch):
    rows = [["run", "epochs", "state"], ["a/long/name", "2/2", "done"], ["b", "10/10", "resumable"]]
    wide = [
        "run          epochs  state",
        "a/long/name     2/2  done",
        "b             10/10  resumable",
    ]
    assert console.table(rows) == wide
    monkeypatch.setenv("COLUMNS", "24")
    monkeypatch.setattr(sys, "stdout", FakeTerminal())
    assert console.table(rows) == [
        "  epochs  state", "a/long/name", "     2/2  done", "b", "   10/10  resumable"
    ]  # fmt: skip


def test_a_table_that_is_too_wide_even_so_has_a_line_for_each_cell(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys, "stdout", FakeTerminal())
    assert console.table([["", "mean", "median"], ["x", "8.435 to 9.210", "7"]]) == [
        "x", "  mean    8.435 to 9.210", "  median  7"
    ]  # fmt: skip


def test_a_progress_bar_leaves_room_for_what_a_key_shows(monkeypatch):
    monkeypatch.setattr(sys, "stderr", FakeTerminal())
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda stream: (60, 24))
    with ProgressBar(console.print_line) as bar:
        bar._bar.mininterval = 0
        bar.update(0.5, "epoch 1/2")
        bar.update(0.75, "epoch 2/2")
        shown = sys.stderr.getvalue().split("\r")
    bars = [line for line in shown if line.endswith("|")]
    assert bars and {len(line) for line in bars} == {57}


def test_json_has_no_numbers_that_are_not_finite(capsys):
    console.show_json([math.inf, math.nan, 1.5, "\udcff"])
    assert json.loads(capsys.readouterr().out) == [None, None, 1.5, "\udcff"]


# Exit statuses.


@pytest.mark.parametrize(
    "error, status, words",
    [
        (OSError(28, "No space left on device", "a.csv"), 2, "a.csv: No space left on device"),
        (FileNotFoundError("no page.css in the package"), 2, "error: no page.css in the package"),
        (MemoryError(), 2, "out of memory"),
        (mx.MXNetError("Traceback (most\n  File x\nMXNetError: shapes"), 2, "MXNetError: shapes"),
        (d2l.D2LError("a message"), 2, "error: a message"),
        (TextNotAvailable("no text"), 3, "error: no text"),
        (KeyError("l0_i2h"), 70, "bug in d2l_deeprnn (set D2L_DEEPRNN_DEBUG=1 to see where)"),
        (AssertionError(), 70, "AssertionError"),
    ],
)
def test_the_status_of_an_error(monkeypatch, capsys, error, status, words):
    def fail(*args):
        raise error

    monkeypatch.setattr(runs, "run_runs", fail)
    monkeypatch.delenv("D2L_DEEPRNN_DEBUG", raising=False)
    assert main(["runs"]) == status
    out, err = capsys.readouterr()
    assert err.startswith("d2l-deeprnn: error: ") and words in err and "Traceback" not in err
    monkeypatch.setenv("D2L_DEEPRNN_DEBUG", "1")
    assert main(["runs"]) == status
    err = capsys.readouterr().err
    assert "Traceback" in err and "in fail" in err and words in err


@pytest.mark.parametrize("words", [["runs"], ["train", "--corpus=the_tide_tables", "--out=run"]])
def test_a_removed_working_directory_is_named(tmp_path, monkeypatch, capsys, words):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(words) == 2
    assert "the current directory no longer exists" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_whose_exception_other_code_replaces(monkeypatch, capsys, number):
    def load(given):
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        except KeyboardInterrupt:
            raise RuntimeError("something else") from None

    monkeypatch.setattr(cli, "_parser", load)
    assert main(["runs"]) == 128 + number
    assert capsys.readouterr().err == "d2l-deeprnn: interrupted\n"


def test_a_signal_where_python_ignores_exceptions(monkeypatch, capsys):
    class Array:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    def work(arguments):
        del [Array()][0]
        time.sleep(10)

    monkeypatch.setattr(runs, "run_runs", work)
    assert main(["runs"]) == 143
    assert capsys.readouterr().err == "d2l-deeprnn: interrupted\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_an_import_that_ignores_exceptions(tmp_path, number):
    (tmp_path / "ignoring.py").write_text(
        "import os, time\n"
        "try:\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    time.sleep(10)\n"
        "except BaseException:\n"
        "    pass\n"
    )
    program = """\
from d2l_deeprnn import cli
def load(names):
    import ignoring
    print("ran on")
cli._parser = load
cli.main(["runs"])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == -number and done.stdout == done.stderr == ""


def test_a_signal_while_a_text_is_read_ends_train_at_once(monkeypatch, capsys, tmp_path):
    def read(settings):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr("d2l_deeprnn.training.runs.read_text_parts", read)
    assert main([*TRAIN, "--out", str(tmp_path / "run")]) == 143
    assert "writing a checkpoint" not in capsys.readouterr().err


def test_wrong_arguments_of_a_later_process_are_shown(monkeypatch):
    said = []
    monkeypatch.setattr(launcher, "world_rank", lambda: 1)
    monkeypatch.setattr(launcher, "silence", lambda: None)
    monkeypatch.setattr(launcher, "write_stderr", said.append)
    assert main(["train", "--num-epochs", "x", "--out", "a"]) == 2
    assert len(said) == 1 and "--num-epochs" in said[0]
    assert said[0].startswith("d2l-deeprnn: error: rank 1 on ")


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_any_command_with_its_status(monkeypatch, capsys, name, status):
    cleaned_up = []

    def work(arguments):
        try:
            os.kill(os.getpid(), getattr(signal, name))
            time.sleep(10)
        finally:
            cleaned_up.append(True)

    monkeypatch.setattr(runs, "run_runs", work)
    before = [signal.getsignal(number) for number in console.SIGNALS]
    assert main(["runs"]) == status
    assert cleaned_up and capsys.readouterr().err == "d2l-deeprnn: interrupted\n"
    assert before == [signal.getsignal(number) for number in console.SIGNALS]


def test_a_signal_that_is_ignored_stays_so(monkeypatch):
    """As under nohup, or for a command that a script put into the background."""

    def work(arguments):
        with console.stop_on_signals("Stopping ...") as stop:
            for number in console.SIGNALS:
                os.kill(os.getpid(), number)
        assert not stop.is_set()
        return 0

    monkeypatch.setattr(runs, "run_runs", work)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in console.SIGNALS}
    try:
        assert main(["runs"]) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_stop_request_may_come_twice(capfd, monkeypatch):
    with console.stop_on_signals("Stopping ...") as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
        assert stop.number == signal.SIGTERM
        monkeypatch.setattr(console, "SAME_REQUEST_SECONDS", 0.0)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
    assert capfd.readouterr().err == "Stopping ...\n"
    monkeypatch.setattr(os, "isatty", lambda number: True)
    with console.stop_on_signals("Stopping ..."):
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err == "\nStopping ...\n"  # not on the line of a progress bar


def test_a_warning_is_one_line(tmp_path):
    program = tmp_path / "warn.py"
    program.write_text(
        "import sys, warnings\n"
        "from d2l_deeprnn.cli import main, runs\n"
        "runs.run_runs = lambda arguments: warnings.warn('careful\\nhere\\x1b') or 0\n"
        "sys.exit(main(['runs']))\n"
    )
    command = [sys.executable, str(program)]
    run = subprocess.run(command, stderr=subprocess.PIPE)
    assert run.stderr == b"d2l-deeprnn: warning: careful\\nhere\\x1b\n" and run.returncode == 0
