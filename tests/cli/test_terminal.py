"""The output of ``train`` and ``runs``, in a terminal and in a log."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from d2l_deeprnn.chapter.book import BOOK
from d2l_deeprnn.chapter.reproduce import Run
from d2l_deeprnn.chapter.train import EpochRecord
from d2l_deeprnn.cli import console, exercise, main, reproduce, train
from d2l_deeprnn.evidence import live
from d2l_deeprnn.files import locked
from d2l_deeprnn.text.corpora import KNOWN_TEXTS, SAMPLE_TEXT, load_text
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.settings import TrainSettings
from d2l_deeprnn.training.trainer import Progress, TrainRecord

SMALL = ["--num-layers=1", "--num-hiddens=8", "--batch-size=8", "--num-steps=10"]
TRAIN = ["train", f"--corpus={SAMPLE_TEXT}", "--num-examples=3000", *SMALL]


# Gives commands, separated by "then", and trains the chapter's model with a small network.
COMMANDS = f"""
import itertools, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from chapters import book, small_trainings
from d2l_deeprnn.cli import main
book.TRAININGS.update(small_trainings())
for separates, words in itertools.groupby(sys.argv[1:], "then".__eq__):
    status = 0 if separates else main(list(words))
    if status:
        sys.exit(status)
"""


def in_a_terminal(columns, directory, *words, status=0):
    """Return all lines that commands write into a terminal, including progress bars."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-c", COMMANDS, *words],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=directory,
    )  # fmt: skip
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # on Linux, the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(ours)
    assert process.wait() == status, written
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d;]*\w", "", written.decode()))


def test_a_terminal_has_a_bar_with_the_loss_and_the_time_left(tmp_path):
    words = [*TRAIN, "--num-epochs=3", "--sample-every=3", "--out=run", "then"]
    words += ["reproduce", "--corpus", SAMPLE_TEXT, "--num-epochs=2", "--out=chapter"]
    shown = in_a_terminal(60, tmp_path, *words)
    bars = [line for line in shown if re.search(r"\d% done \|.*\|$", line)]
    assert bars and max(map(len, bars)) <= 57  # 3 columns are left for ^C
    assert any(re.match(r"epoch [123]/3, train \d\.\d{3}, \d+:\d\d left, ", line) for line in bars)
    assert not any(line.startswith(",") for line in shown)
    bar = r"epoch [12]/2, perplexity \d+\.\d{3}, 0:\d\d left, \d+% done \|"
    assert any(re.match(bar, line) for line in shown)


def lines_of(capsys, *words):
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_training_is_a_summary_a_table_and_what_to_do_next(tmp_path, capsys):
    out = tmp_path / "run"
    words = ["--num-epochs=2", "--test-fraction=0.1", "--keep-case", "--out", out]
    text, model, optimization, note, header, *rows, done, best, following = lines_of(
        capsys, *TRAIN, *words
    )
    different = len(set(load_text(SAMPLE_TEXT, 3000, lower=False)))
    name = "the_clockmakers_guest: 2,400 characters for training"
    assert text == f"{name}, 300 held out, 300 for testing, {different} different"
    assert re.fullmatch(r"lstm, 1 layer of 8 units, \d,\d{3} parameters", model)
    assert optimization == "sgd, lr 5, seed 0, cpu"
    assert note == "Losses in nats per character; * marks the best epoch so far"
    assert header == "epoch    train  held out  perplexity   chars/s     time"
    row = r"  \d/2 +\d\.\d{4} +\d\.\d{4} +[\d.]+[* ] +[\d.]+k? +0:0\d"
    assert len(rows) == 2 and all(re.fullmatch(row, line) for line in rows)
    assert {len(line) for line in rows} == {len(header)}
    assert re.fullmatch(rf"Done: 2 epochs in 0:0\d\. Saved in {out}", done)
    losses = [row["valid_loss"] for row in runs.read_history(out)]
    lowest = f"{math.exp(min(losses)):.3f}"
    assert best == f"Best: epoch {losses.index(min(losses)) + 1}, held-out perplexity {lowest}"
    assert following == f"Next: d2l-deeprnn generate {out} --temperature 0.7"
    assert f"{lowest}*" in rows[losses.index(min(losses))]
    again = lines_of(capsys, "train", "--resume", "--out", out)
    ended = "Nothing left to do: all 2 epochs are done. To train further, raise --num-epochs"
    assert again == [text, model, optimization, ended, best, following]


def test_a_training_without_a_held_out_part_has_no_column_for_it(tmp_path, capsys):
    words = ["--num-epochs=1", "--valid-fraction=0", "--optimizer=adadelta", "--dropout=0.5"]
    lines = lines_of(capsys, *TRAIN, *words, "--out", tmp_path / "run")
    assert "held out" not in "\n".join(lines) and "training perplexity" in lines[-2]
    assert "lstm, 1 layer of 8 units, dropout 0.5, " in lines[1] and "adadelta, seed 0" in lines[2]


def test_a_narrow_terminal_has_the_columns_that_matter(tmp_path):
    words = [*TRAIN, "--num-epochs=2", "--sample-every=1", "--keep-whitespace", "--out=run"]
    lines = in_a_terminal(40, tmp_path, *words)
    header = next(i for i, line in enumerate(lines) if "perplexity" in line)
    assert lines[header] == "epoch  held out  perplexity      time"
    assert any(re.fullmatch(r"  1/2 +\d\.\d{4} +[\d.]+[* ] +0:0\d", line) for line in lines)
    whole = [line for line in lines if line != "" and not line.startswith("Next: ")]
    assert max(map(len, whole)) <= 40
    assert " ".join(lines[:header]).startswith(
        "the_clockmakers_guest: 2,700 characters for training, 300 held out, "
    )


def test_the_longest_row_of_an_epoch_fits_and_the_best_is_marked(capsys):
    display = train._Display(train._Samples(None, None))
    settings = TrainSettings((SAMPLE_TEXT,), num_epochs=500)
    display._learner = SimpleNamespace(settings=settings, history=[])
    display._chars, display._best = 261_000 * 10, 1.5
    display._began = time.perf_counter() - 10
    display._bar = live.ProgressBar(console.print_line)
    seconds = 9 * 3600.0 + 59 * 60 + 59
    for loss in 1.43127, 1.43128, 9.0, float("nan"):
        display.epoch(TrainRecord(500, 1.40213, loss, 0.001, seconds))
    rows = capsys.readouterr().out.splitlines()
    assert {len(row) for row in rows} == {57}
    assert [" 4.184* " in row or "*" in row for row in rows] == [True, False, False, False]
    assert all(row.endswith("     261k  9:59:59") for row in rows) and " 8,103 " in rows[2]


def test_a_log_shows_the_progress(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(live, "SILENCE_SECONDS", 0.0)
    lines = lines_of(capsys, *TRAIN, "--num-epochs=2", "--out", tmp_path / "run")
    halfway = r"epoch 2/2, train \d\.\d{3}, 0:\d\d left, 7\d% done"
    assert any(re.fullmatch(halfway, line) for line in lines)


def test_a_log_is_silent_for_twenty_seconds_after_each_line(monkeypatch):
    now, lines = [0.0], []
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    with live.ProgressBar(lines.append, 0.5) as bar:
        for done, now[0] in enumerate([5, 21, 22, 40, 42]):
            fraction = 0.5 + done / 10
            bar.update(fraction, f"step {done}{bar.time_left(fraction)}")
            if now[0] == 22:
                bar.line("an epoch is done")
    assert lines == [
        "step 1, 1:24 left, 60% done",
        "an epoch is done",
        "step 4, 0:10 left, 90% done",
    ]


def test_a_model_writes_after_some_epochs(tmp_path, capsys):
    out = tmp_path / "run"
    words = [*TRAIN, "--num-epochs=4", "--sample-every=2", "--prefix=The ", "--out", out]
    lines = lines_of(capsys, *words)
    after = [i for i, line in enumerate(lines) if line.startswith("    \u2502 the ")]
    assert [lines[i - 1].split()[0] for i in after] == ["2/4", "4/4"]
    assert max(map(len, lines[after[0] : after[0] + 2])) <= 80


def test_a_sample_is_told_from_the_table_and_its_beginning_from_what_was_written(
    tmp_path, monkeypatch, capsys
):
    def generate(model, vocab, prefixes, *args, **options):
        return [f"{prefixes[0]} far\n\n  away"]

    monkeypatch.setattr("d2l_deeprnn.generation.generate.generate", generate)
    shown = []
    monkeypatch.setattr(train, "print_line", lambda line, **how: shown.append((line, how)))
    words = ["--num-epochs=1", "--sample-every=1", "--prefix=the sea", "--keep-whitespace"]
    assert main([*TRAIN, *words, "--out", str(tmp_path / "run")]) == 0
    samples = [(how["lead"], line, how["style"]) for line, how in shown if "lead" in how]
    assert samples == [
        ("    \u2502 the sea", " far", console.DIM),
        ("    \u2502 ", "", console.DIM),
        ("    \u2502 ", "  away", console.DIM),
    ]


def test_samples_in_the_narrowest_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1")
    words = ["--num-epochs=1", "--sample-every=1", "--out", tmp_path / "run"]
    lines = lines_of(capsys, *TRAIN, *words)
    assert sum(line.startswith("    \u2502 ") for line in lines) > 4


def test_samples_change_nothing(tmp_path, capsys):
    lines_of(capsys, *TRAIN, "--num-epochs=2", "--dropout=0.5", "--out", tmp_path / "without")
    words = [*TRAIN, "--num-epochs=2", "--dropout=0.5", "--sample-every=1"]
    lines_of(capsys, *words, "--out", tmp_path / "with")
    with_samples, without = (
        [line.split(",")[:3] for line in (tmp_path / name / "metrics.csv").read_text().split()]
        for name in ("with", "without")
    )
    assert with_samples == without


@pytest.mark.parametrize(
    "words, refused",
    [
        (["--prefix=a"], "--prefix needs --sample-every N"),
        (["--sample-every=1", "--prefix=\N{SNOWMAN}"], "not in the vocabulary"),
        (["--sample-every=1", "--prefix="], "a prefix is empty"),
        (["--device=tpu"], "--device must be cpu, gpu or one GPU such as gpu.1., not 'tpu'"),
        (["--device=gpu(99)"], "device gpu.99. cannot be used by this MXNet; it can use"),
        (["--checkpoint-minutes=0"], "--checkpoint-minutes must be a number above 0, not 0"),
        (["--rank-timeout=-1"], "--rank-timeout must be a number above 0, not -1"),
    ],
)
def test_bad_input_is_refused(words, refused, tmp_path, capsys):
    assert main([*TRAIN, *words, "--out", str(tmp_path / "run")]) == 2
    assert re.search(refused, capsys.readouterr().err)


def test_a_run_that_stopped_in_an_epoch_resumes_there(tmp_path, capsys, monkeypatch):
    out, asked = tmp_path / "run", []

    def stop_in_epoch_2(self):
        asked.append(1)
        return len(asked) == 45  # an epoch has 33 minibatches, and is asked once more

    monkeypatch.setattr(console.StopRequest, "is_set", stop_in_epoch_2)
    stopped = lines_of(capsys, *TRAIN, "--num-epochs=3", "--out", out)
    assert any(line.startswith("Stopped in epoch 2, after minibatch") for line in stopped)
    monkeypatch.undo()
    lines = lines_of(capsys, "train", "--resume", "--out", out)
    assert any(re.match(r"Resuming in epoch 2, after minibatch \d+$", line) for line in lines)


@pytest.mark.parametrize(
    "seconds, words", [(0, "0:00"), (65.4, "1:05"), (3599.6, "1:00:00"), (7384, "2:03:04")]
)
def test_a_time_as_a_clock_shows_it(seconds, words):
    assert live.duration(seconds) == words


def test_text_is_styled_in_terminals_only(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console.show("text", lead="lead ", style=console.BOLD)
    assert capsys.readouterr().out == "lead text\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    console.show("text\x1b", lead="\u202e", style=console.BOLD)
    console.print_paragraph("two words", style=console.DIM)
    paragraph = "\x1b[2mtwo words\x1b[0m\n"
    shown = "\u27e8U+202E\u27e9\x1b[1mtext\u27e8U+001B\u27e9\x1b[0m\n"
    assert capsys.readouterr().out == shown + paragraph


def test_colours_depend_on_the_terminal_and_the_user(monkeypatch):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.setenv(name, "")
    assert console.coloured("error:", console.RED) == "error:"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert console.coloured("error:", console.RED) == "\x1b[31merror:\x1b[0m"
    for name, value in ("TERM", "dumb"), ("NO_COLOR", "1"):
        monkeypatch.setenv(name, value)
        assert console.coloured("error:", console.RED) == "error:"


# The list of runs.


def rows_of(lines):
    """Return the cells of a table of runs, by run and heading."""
    headings, *rows = (re.split("  +", line.strip()) for line in lines if "  " in line)
    return {row[0]: dict(zip(headings, row)) for row in rows}


def test_runs_are_listed(small_chapter, tmp_path, capsys):
    lines_of(capsys, *TRAIN, "--num-epochs=1", "--cell=gru", "--out", tmp_path / "a")
    lines_of(capsys, *TRAIN, "--num-epochs=1", "--out", tmp_path / "deep" / "b")
    lines_of(capsys, "train", "--resume", "--num-epochs=2", "--out", tmp_path / "deep" / "b")
    (tmp_path / "deep" / "b" / "best.zip").unlink()
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")  # of another program
    lines = lines_of(capsys, "runs", tmp_path)
    table = rows_of(lines[:-1])
    losses = {
        name: f"{min(row['valid_loss'] for row in runs.read_history(tmp_path / name)):.4f}"
        for name in ("a", "deep/b")
    }
    assert table == {
        name: {
            "run": name, "epochs": epochs, "held out": losses[name], "state": "finished",
            "cell": cell,
        }
        for name, epochs, cell in [("a", "1/1", "gru"), ("deep/b", "2/2", "lstm")]
    }  # fmt: skip
    common = "layers 1, hiddens 8, batch size 8, steps 10"
    assert lines[-1] == f"All: corpus the_clockmakers_guest, examples 3,000, {common}"
    words = ["reproduce", "--corpus", SAMPLE_TEXT, "--num-epochs=1", "--seed=7"]
    lines_of(capsys, *words, "--out", tmp_path / "chapter")
    table = rows_of(lines_of(capsys, "runs", tmp_path))
    (epoch,) = runs.read_history(tmp_path / "chapter")
    headings = [*table["a"]][:5]
    assert headings == ["run", "epochs", "held out", "train", "state"]
    # It has no held-out loss, so this cell is empty.
    assert [*table["chapter"].values()][1:3] == ["1/1", f"{epoch['train_loss']:.4f}"]
    with locked(tmp_path / "a" / ".lock"):
        assert re.search(r"^a .* training ", "\n".join(lines_of(capsys, "runs", tmp_path)), re.M)


def test_runs_as_json(tmp_path, capsys):
    words = [*TRAIN, "--num-epochs=1", "--optimizer-option=momentum=0.5"]
    lines_of(capsys, *words, "--out", tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "config.json").write_text("{")
    lines_of(capsys, *words, "--init-from", tmp_path / "a", "--out", tmp_path / "c")
    shown = "\n".join(lines_of(capsys, "runs", tmp_path, "--json"))
    first, second, third = json.loads(shown)
    (epoch,) = runs.read_history(tmp_path / "a")
    assert [first[key] for key in ("run", "epochs", "num_epochs", "state", "held_out_loss")] == [
        "a", 1, 1, "finished", epoch["valid_loss"]
    ]  # fmt: skip
    assert first["settings"]["optimizer_options"] == {"momentum": 0.5}
    assert first["settings"]["lr"] == 5 and "lr" not in first["changed"]
    assert second.keys() == {"run", "state", "error"} and second["state"] == "unusable"
    assert third["settings"]["init_from"] == str(tmp_path / "a")
    assert third["changed"] == [*first["changed"], "init_from"]
    table = rows_of(lines_of(capsys, "runs", tmp_path))
    assert [table[name]["init from"] for name in "ac"] == ["random", "a"]
    assert "b" in table and "init from" not in table["b"]
    # Names in a stranger's configuration are shown in one line, without control characters.
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    config["settings"]["optimizer_options"] = {"x\nmine  1/1  0.01  finished \x1b[31m": 1}
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    table = rows_of(lines_of(capsys, "runs", tmp_path))
    assert set(table) == {"a", "b", "c"} and "\x1b" not in str(table)


def test_the_state_of_a_run(tmp_path, capsys):
    words = [*TRAIN, "--num-epochs=200", "--patience=1", "--batch-size=4", "--optimizer=adam"]
    *_, done, best, _ = lines_of(capsys, *words, "--lr=0.3", "--out", tmp_path / "early")
    count = len(runs.read_history(tmp_path / "early"))
    assert done.startswith(f"Done: {count} epochs in 0:0")
    assert " (the held-out loss has not improved for one epoch). Saved in " in done
    assert best.startswith(f"Best: epoch {count - 1}, ")
    ended = lines_of(capsys, "train", "--resume", "--out", tmp_path / "early")
    (line,) = (line for line in ended if line.startswith("Nothing left to do: the held-out loss"))
    assert line.endswith("To train further, raise --patience")
    for name in "semicolons", "slip", "gone":
        shutil.copytree(tmp_path / "early", tmp_path / name)
    # A spreadsheet with a comma for the decimal point.
    metrics = tmp_path / "semicolons" / "metrics.csv"
    metrics.write_text(metrics.read_text().replace(",", ";"))
    config = tmp_path / "slip" / "config.json"
    config.write_text(config.read_text().replace('"seed": 0,', '"seed": 0,,'))
    config = tmp_path / "gone" / "config.json"
    config.write_text(config.read_text().replace('"patience": 1,', '"patience": 100,'))
    (tmp_path / "gone" / "last.zip").unlink()
    lines = lines_of(capsys, "runs", tmp_path)
    shown = {row.split()[0]: row for row in lines[1:]}
    assert re.match(r"early +[0-9]+/200 +[0-9.]+ +stopped early +1$", shown["early"])
    assert re.match(r"semicolons +unusable$", shown["semicolons"])
    assert "  last.zip is missing  " in shown["gone"]
    assert "semicolons: metrics.csv cannot be read: " in "\n".join(lines)
    assert "slip: config.json cannot be used: it is not JSON: Expecting property" in "\n".join(
        lines
    )


def test_a_run_is_in_its_first_epoch(tmp_path, capsys):
    out = tmp_path / "run"
    settings = TrainSettings(
        (SAMPLE_TEXT,), num_hiddens=8, batch_size=8, num_steps=10, num_examples=2000
    )
    stop = [False, False, True, True]
    runs.train(settings, out, should_stop=lambda: stop.pop(0))
    row = lines_of(capsys, "runs", tmp_path)[1]
    assert re.fullmatch("run +0/50 +resumable", row)
    assert main(["plot", str(out), "--output", str(tmp_path / "curves.svg")]) == 2
    assert "has no finished epoch yet" in capsys.readouterr().err
    with locked(out / ".lock"):
        assert lines_of(capsys, "runs", out)[1].endswith("  training")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--resume", "--num-epochs=80", "--out"],
        ["evaluate"],
        ["generate"],
        ["plot"],
        ["report"],
        ["export", "--format=html", "--output=a.html"],
        ["runs"],
    ],
)
def test_a_slip_in_the_name_of_a_run(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("runs/novel").mkdir(parents=True)
    Path("runs/novel/config.json").write_text("{}")
    assert main([*words, "runs/novle"]) == 2
    err = capsys.readouterr().err
    assert "runs/novle" in err and "(did you mean runs/novel?)" in err and "--corpus is" not in err
    assert main([*words, "poems"]) == 2
    err = capsys.readouterr().err
    assert "poems" in err and "did you mean" not in err
    assert sorted(os.listdir()) == ["runs"] and os.listdir("runs") == ["novel"]


def test_resume_says_that_it_starts_a_new_run(small_chapter, tmp_path, capsys):
    words = ["--num-epochs=1", "--resume", "--out", tmp_path / "run"]
    starts = f"{tmp_path / 'run'} has no run to resume, so a new one starts"
    assert starts in lines_of(capsys, *TRAIN, *words)
    assert starts not in lines_of(capsys, *TRAIN, *words)
    words = ["reproduce", "--corpus", SAMPLE_TEXT, *words[:-1], tmp_path / "runs"]
    starts = f"no run to resume (did you mean {tmp_path / 'run'}?), so a new one starts"
    assert f"{tmp_path / 'runs'} has {starts}" in lines_of(capsys, *words)


def test_a_list_of_runs_is_a_table_in_a_narrow_terminal(tmp_path, capsys):
    lines_of(capsys, *TRAIN, "--num-epochs=1", "--cell=gru", "--out", tmp_path / "one" / "a")
    lines_of(capsys, *TRAIN, "--num-epochs=1", "--out", tmp_path / "one" / "b")
    config = tmp_path / "one" / "b" / "config.json"
    text = config.read_text().replace('"init": "normal"', '"init": "orthogonal"')
    config.write_text(text.replace('"seed": 0', '"seed": 2147483647'))
    whole = in_a_terminal(62, tmp_path, "runs", "one")
    headings = ["run", "epochs", "held out", "state", "cell", "init"]
    assert re.split("  +", whole[0]) == [*headings, "seed"] and max(map(len, whole)) <= 62
    narrow = in_a_terminal(60, tmp_path, "runs", "one")
    assert re.split("  +", narrow[0]) == headings
    assert re.match("[a] +1/1 +[0-9.]+ +finished +gru +normal$", narrow[1])
    assert narrow[-2] == "They also differ in seed (wider terminal, or --json)"
    narrowest = in_a_terminal(28, tmp_path, "runs", "one")
    assert narrowest[:2] == ["  epochs  held out  state", "a"]
    assert re.fullmatch(" +1/1 +[0-9.]+  finished", narrowest[2]) and narrowest[3] == "b"


def test_runs_below_a_directory_called_tilde(tmp_path, monkeypatch, capsys):
    """It is not the home directory, since nobody typed it."""
    lines_of(capsys, *TRAIN, "--num-epochs=1", "--out", tmp_path / "~" / "x")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert rows_of(lines_of(capsys, "runs")[:-1])["~/x"]["state"] == "finished"


def test_a_directory_without_runs(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 2
    assert "there is no run in" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["generate", "evaluate", "report", "plot", "runs", "export"])
def test_a_run_that_does_not_exist(tmp_path, capsys, command):
    run = tmp_path / "novel"
    run.mkdir()
    (run / "config.json").write_text("{}")
    words = ["--format=html", "--output", str(tmp_path / "page")] if command == "export" else []
    for place, message in [
        (tmp_path / "novle", f"there is no directory {tmp_path}/novle (did you mean {run}?)"),
        (run / "config.json", f"{run}/config.json is a file: give the directory, {run}"),
    ]:
        assert main([command, str(place), *words]) == 2
        assert capsys.readouterr().err == f"d2l-deeprnn: error: {message}\n"
    (tmp_path / "text").touch()
    assert main([command, str(tmp_path / "text"), *words]) == 2
    assert "/text is a file: give the directory of a run\n" in capsys.readouterr().err


def test_a_directory_that_contains_runs_is_not_one_but_names_them(tmp_path, capsys):
    for name in "fbdeca":
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert main(["generate", str(tmp_path)]) == 2
    listed = ", ".join(str(tmp_path / name) for name in "abcde")
    expected = f"it has no config.json; it contains the runs {listed} and 1 more\n"
    assert capsys.readouterr().err.endswith(expected)


# Other commands.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that no test changes."""
    out = tmp_path_factory.mktemp("terminal") / "run"
    assert main([*TRAIN, "--num-epochs=1", "--out", str(out)]) == 0
    return out


def test_a_generated_text_is_streamed_after_a_bold_prefix(trained, tmp_path, monkeypatch, capsys):
    words = ["generate", trained, "--length=60", "--temperature=1", "--seed=1"]
    piped = "\n".join(lines_of(capsys, *words, "--prefix=the clock"))
    assert len(piped) == len("the clock") + 60
    names = [str(word) for word in words]
    shown = in_a_terminal(40, tmp_path, *names, "--prefix=the clock")
    assert " ".join(line.strip() for line in shown if line) != piped  # words moved back
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main([*names, "--prefix=the clock"]) == 0
    written = capsys.readouterr().out
    bold = "".join(f"\x1b[1m{char}\x1b[0m" for char in "the clock")
    assert written == f"{bold}{piped[len('the clock') :]}\n"
    assert main([*names, "--prefix=the", "--prefix=a"]) == 0
    written = capsys.readouterr().out
    assert written.count("\x1b[1m") == 4 and "\n\n\x1b[1ma\x1b[0m" in written


def test_only_the_generated_text_counts_as_white_space(trained, monkeypatch, capsys):
    write_spaces = lambda model, vocab, prefixes, *rest, **options: [f"{prefixes[0]}   "]  # noqa: E731
    monkeypatch.setattr("d2l_deeprnn.generation.generate.generate", write_spaces)
    assert main(["generate", str(trained), "--prefix=the sea"]) == 0
    assert "is only white space; try --temperature 0.7" in capsys.readouterr().err


def test_a_damaged_checkpoint_has_another_beside_it(trained, tmp_path, capsys):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "best.zip").write_bytes(b"damaged")
    assert main(["generate", str(run)]) == 2
    line = capsys.readouterr().err
    assert f"{run}/best.zip cannot be loaded: it is damaged" in line
    assert line.endswith("The run's other checkpoint may be intact: --checkpoint last\n")
    assert main(["generate", str(run), "--checkpoint=last"]) == 0
    (run / "last.zip").unlink()
    capsys.readouterr()
    assert main(["generate", str(run)]) == 2
    assert "--checkpoint" not in capsys.readouterr().err


def test_an_exported_file_has_a_size_and_a_use(trained, tmp_path, capsys):
    path = tmp_path / "page.html"
    written, use = lines_of(capsys, "export", trained, "--format=html", "--output", path)
    assert written == f"Written: {path} ({path.stat().st_size / 1000:.0f} KB)"
    assert use == "Open it in a browser, which needs no network."


def test_texts_are_listed(tmp_path, monkeypatch, capsys):
    (tmp_path / "timemachine.txt").write_text("not the book")
    monkeypatch.setenv("D2L_DEEPRNN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    texts = json.loads("\n".join(lines_of(capsys, "corpora", "--json")))
    by_name = {text["name"]: text for text in texts}
    assert list(by_name) == list(KNOWN_TEXTS)
    book, missing, sample = (
        by_name[name] for name in ("time_machine", "tinyshakespeare", SAMPLE_TEXT)
    )
    assert book["path"] is None and "its SHA-1 should be" in book["error"]
    assert missing["path"] is missing["error"] is None
    assert Path(sample["path"]).is_file() and sample["source"] == "included in d2l_deeprnn"
    shown = lines_of(capsys, "corpora")
    assert shown[:2] == ["time_machine", "    The Time Machine, H. G. Wells"]
    assert shown[3].startswith("    unusable: ") and "    not on this machine" in shown
    for command, status in ("corpora", 0), ("doctor", 2):
        lines = in_a_terminal(40, tmp_path, command, status=status)
        assert all(len(line) <= 40 or " " not in line.strip() for line in lines)


def test_a_study_names_its_parts_and_settings(capsys):
    run = {"comparison": "same width", "num_hiddens": 32, "num_params": 19240, "dropout": 0.0}
    with live.ProgressBar(console.print_line) as bar:
        progress = exercise._Progress(bar, ["recipes", "runs"])
        progress.run(0, 2, {**run, "seed": 0}, None, "recipes")
        progress.run(1, 2, {**run, "seed": 1, "lr": 0.004}, 65.0, "recipes")
        progress.run(0, 9, {**run, "seed": 1}, None, "runs")
    common = "same width, hiddens 32, params 19,240"
    assert capsys.readouterr().out.splitlines() == [
        "Part 1 of 2: recipes",
        f"run 1 of 2: {common}, seed 0",
        f"run 2 of 2 (about 1:05 left): {common}, seed 1, lr 0.004",
        "Part 2 of 2: runs",
        f"run 1 of 9: {common}, seed 1",
    ]


def test_the_percentage_of_a_study_is_that_of_its_runs(monkeypatch, capsys):
    monkeypatch.setattr(live, "SILENCE_SECONDS", 0.0)
    with live.ProgressBar(console.print_line) as bar:
        progress = exercise._Progress(bar, ["runs"])
        progress.run(1, 4, {"seed": 0}, None, "runs")
        progress.minibatch(Progress(3, 9, 10, 2.5))
        progress.minibatch(Progress(4, 1, 10, None))
    after = ["run 2/4, epoch 3, train 2.500, 25% done", "run 2/4, epoch 4, 25% done"]
    assert capsys.readouterr().out.splitlines() == ["run 2 of 4: seed 0", *after]


def test_reproduce_says_how_long_it_takes_after_the_first_epoch(tmp_path, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("d2l_deeprnn.cli.reproduce.time.monotonic", lambda: now[0])
    run = Run(BOOK.train_settings())
    with contextlib.ExitStack() as stack:
        display = reproduce._Display(stack, console.StopRequest(), tmp_path / "a b")
        display.start(run)
        now[0] = 1.2
        run.history.append(EpochRecord(1, 30.0, 1.2, ()))
        display.epoch(run.history[-1])
        display.epoch(run.history[-1])
    assert capsys.readouterr().out == (
        "500 epochs on The Time Machine, about 10 minutes. Ctrl-C is safe: resume with --resume "
        f"--out '{tmp_path}/a b'\n"
    )


def test_after_ctrl_c_in_the_first_epoch_reproduce_promises_nothing(tmp_path, capsys):
    stop = console.StopRequest()
    with contextlib.ExitStack() as stack:
        display = reproduce._Display(stack, stop, tmp_path)
        display.start(Run(BOOK.train_settings()))
        stop.set()
        display.epoch(EpochRecord(1, 30.0, 1.2, ()))
    assert capsys.readouterr().out == ""
