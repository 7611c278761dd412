"""A run's directory: begun, stopped, gone on with, refused; through the real command line."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from d2l_deeprnn import files, runs
from d2l_deeprnn.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from d2l_deeprnn.cli import main
from d2l_deeprnn.corpora import SAMPLE_TEXT
from d2l_deeprnn.evaluate import evaluate
from d2l_deeprnn.learner import Diverged
from d2l_deeprnn.ngram import NGramModel, choose_order
from d2l_deeprnn.runs import RunError
from d2l_deeprnn.settings import SettingsError, TrainSettings

SMALL = {
    "corpus": (SAMPLE_TEXT,),
    "num_examples": 3000,
    "test_fraction": 0.1,
    "num_hiddens": 8,
    "batch_size": 8,
    "num_steps": 10,
    "num_epochs": 3,
    "dropout": 0.2,
    "optimizer": "adam",
    "lr": 0.01,
}
WORDS = [f"--corpus={SAMPLE_TEXT}", "--num-examples=3000", "--test-fraction=0.1"]
WORDS += ["--num-hiddens=8", "--batch-size=8", "--num-steps=10", "--num-epochs=3"]
WORDS += ["--dropout=0.2", "--optimizer=adam", "--lr=0.01"]


def settings(**changed):
    return TrainSettings(**{**SMALL, **changed})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert main(["train", *WORDS, "--out", str(out)]) == 0
    return out


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def arrays(out, name=runs.LAST):
    return load_checkpoint(out / name).arrays


def assert_same_arrays(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert np.array_equal(a[name], b[name]), name


def one_error_line(capsys):
    out, err = capsys.readouterr()
    (line,) = err.strip().splitlines()
    assert line.startswith("d2l-deeprnn: error: ") and "Traceback" not in out
    return line


def test_a_run_leaves_its_four_files_and_no_other(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {"config.json", "metrics.csv", "last.zip", "best.zip", ".lock"}
    assert not (finished / ".lock").read_bytes()
    config = json.loads((finished / "config.json").read_text())
    assert config["text"]["train_chars"] == 2400 and config["text"]["test_chars"] == 300
    assert len(runs.read_history(finished)) == 3


def test_stopped_in_an_epoch_and_resumed_it_ends_the_same(finished, tmp_path):
    out = tmp_path / "run"
    asked = []

    def should_stop():
        asked.append(1)
        return len(asked) % 25 == 0

    result = runs.train(settings(), out, should_stop=should_stop)
    calls = 1
    while result.stopped:
        assert load_checkpoint(out / runs.LAST).data["learner"]["position"] > 0
        result = runs.train(
            None if calls % 2 else settings(), out, resume=True, should_stop=should_stop
        )
        calls += 1
    assert calls > 3
    for name in (runs.LAST, runs.BEST):
        assert_same_arrays(arrays(finished, name), arrays(out, name))
    strip = [{**row, "seconds": 0} for row in runs.read_history(out)]
    assert strip == [{**row, "seconds": 0} for row in runs.read_history(finished)]


def test_killed_before_the_first_checkpoint_it_begins_again(run, finished):
    for name in (runs.LAST, runs.BEST, runs.METRICS):
        (run / name).unlink()
    (run / ".last.zip.0123456789abcdef.part").write_bytes(b"half a checkpoint")
    with pytest.warns(UserWarning, match="had not written a checkpoint yet: it begins again"):
        assert main(["train", "--resume", "--out", str(run)]) == 0
    assert_same_arrays(arrays(finished), arrays(run))
    assert not list(run.glob("*.part")) and not list(run.glob(".*.part"))


def test_killed_between_best_and_last_it_writes_the_same_best_again(run, finished, tmp_path):
    out = tmp_path / "other"
    stop = iter([False] * 28 + [True] * 10**6)
    runs.train(settings(), out, should_stop=lambda: next(stop))
    config = json.loads((out / "config.json").read_text())
    best = load_checkpoint(run / runs.BEST)
    save_checkpoint(out / runs.BEST, best.arrays, {**best.data, "run": config["run"]})
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert_same_arrays(arrays(finished, runs.BEST), arrays(out, runs.BEST))


@pytest.mark.parametrize("name, number", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_leaves_a_checkpoint_to_resume(tmp_path, name, number):
    out = tmp_path / "run"
    words = [w for w in WORDS if "epochs" not in w and "hiddens" not in w]
    words += ["--num-hiddens=64", "--num-epochs=1000", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "d2l_deeprnn", "train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not (out / runs.METRICS).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == number
    assert "Ended: stopped " in printed and f"--resume --out {out}" in printed
    assert "Traceback" not in errors
    saved = load_checkpoint(out / runs.LAST).data["learner"]
    assert saved["history"] and len(saved["losses"]) == saved["position"]


def test_another_runs_directory_and_a_full_one_are_refused(run, tmp_path, capsys):
    before = {path: path.read_bytes() for path in run.iterdir()}
    assert main(["train", *WORDS, "--out", str(run)]) == 2
    assert "holds a run: go on with it (--resume)" in one_error_line(capsys)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    for words in (WORDS, [*WORDS, "--resume"]):
        assert main(["train", *words, "--out", str(tmp_path / "full")]) == 2
        assert "is not empty and holds no run (it holds thesis.tex)" in one_error_line(capsys)
    assert main(["train", *WORDS, "--out", str(tmp_path / "full" / "thesis.tex")]) == 2
    assert "is not a directory" in one_error_line(capsys)
    assert before == {path: path.read_bytes() for path in run.iterdir()}


def test_two_processes_do_not_train_in_one_directory(run):
    with open(run / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process"):
            runs.train(None, run, resume=True)


def test_resuming_with_other_settings_shows_the_difference(run, capsys):
    assert main(["train", "--resume", "--lr", "0.02", "--out", str(run)]) == 2
    assert "lr: 0.01 there, 0.02 here" in one_error_line(capsys)
    with pytest.raises(SettingsError, match="num_hiddens: 8 there, 9 here"):
        runs.train(settings(num_hiddens=9), run, resume=True)


def test_a_text_that_has_changed_is_refused(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("some words and more of them. " * 100)
    words = ["--corpus", str(text), *WORDS[3:], "--out", str(tmp_path / "run")]
    assert main(["train", *words]) == 0
    capsys.readouterr()
    text.write_text("other words and more of them. " * 100)
    for command in (["train", "--resume", "--out"], ["evaluate"]):
        assert main([*command, str(tmp_path / "run")]) == 2
        assert "the text has changed" in one_error_line(capsys)


def test_a_checkpoint_of_another_run_is_refused(run, tmp_path, capsys):
    assert main(["train", *WORDS, "--seed", "1", "--out", str(tmp_path / "other")]) == 0
    capsys.readouterr()
    for name, command in [("last.zip", ["train", "--resume", "--out"]), ("best.zip", ["evaluate"])]:
        shutil.copy(tmp_path / "other" / name, run / name)
        assert main([*command, str(run)]) == 2
        assert f"{name} is of another run" in one_error_line(capsys)


def test_a_model_of_another_shape_is_refused(run):
    path = run / "best.zip"
    loaded = load_checkpoint(path)
    changed = {name: array[..., :-1] for name, array in loaded.arrays.items()}
    save_checkpoint(path, changed, loaded.data)
    with pytest.raises(CheckpointError, match=r"best.zip does not fit its run: params/.* shape"):
        runs.load_run(run)


def test_divergence_keeps_the_last_good_checkpoint(tmp_path, capsys):
    out = tmp_path / "run"
    words = [w for w in WORDS if "lr" not in w and "optimizer" not in w]
    # The rate rises until it is too high.
    words += ["--lr=1e38", "--clipping-theta=1e30", "--warmup-epochs=3", "--optimizer=sgd"]
    assert main(["train", *words, "--out", str(out)]) == 2
    line = capsys.readouterr().err
    assert "training diverged in epoch" in line and "Lower the learning rate" in line
    with pytest.raises(Diverged, match="there was no checkpoint yet"):
        runs.train(settings(lr=1e38, clipping_theta=1e30), tmp_path / "more")


def test_a_disk_that_is_full_keeps_the_checkpoint_before(run, monkeypatch, capsys):
    before = (run / "last.zip").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    config = json.loads((run / "config.json").read_text())
    config["settings"]["num_epochs"] = 4
    (run / "config.json").write_text(json.dumps(config))
    assert main(["train", "--resume", "--out", str(run)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert (run / "last.zip").read_bytes() == before


def test_a_loaded_model_is_the_one_that_was_best(finished):
    run = runs.load_run(finished)
    text = runs.read_text_of(run.settings)
    best = min(run.history, key=lambda record: record.valid_loss)
    assert evaluate(run.model, text.valid, run.ctx).nats == best.valid_loss


def test_evaluate_prints_both_parts_and_the_baseline(finished, capsys):
    assert main(["evaluate", str(finished), "--baseline", "ngram"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines][::2] == ["validation", "test"]
    text = runs.read_text_of(settings())
    order, _ = choose_order(text.train, text.valid, len(text.vocab))
    nats = NGramModel(text.train, order, len(text.vocab)).loss(text.test)
    assert f"n-gram of order {order}: {nats:.4f} nats" in lines[3]
    assert "299 characters scored" in lines[2]


def test_evaluate_on_another_text_counts_unknown_characters(finished, tmp_path, capsys):
    (tmp_path / "other.txt").write_text("a @ b @ c")
    assert main(["evaluate", str(finished), "--corpus", str(tmp_path / "other.txt")]) == 0
    out = capsys.readouterr().out
    assert "8 characters scored" in out and "2 characters of it are not in the run's" in out


def test_generate_writes_the_same_with_the_same_seed(finished, capsys):
    words = ["generate", str(finished), "--prefix", "the ", "--length", "30"]
    texts = []
    for more in ([], [], ["--temperature=1", "--seed=1"], ["--temperature=1", "--seed=1"]):
        assert main([*words, *more]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2] == texts[3]
    assert all(len(text) == 35 and text.startswith("the ") for text in texts)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--prefix", "é"], "not in the vocabulary: ['é'] in prefix 'é'"),
        (["--prefix", ""], "a prefix is empty"),
        (["--prefix", "a", "--temperature", "-1"], "temperature must be"),
        (["--prefix", "a", "--top-k", "3"], "need a temperature above 0"),
    ],
)
def test_generate_says_what_is_wrong(finished, capsys, words, message):
    assert main(["generate", str(finished), *words]) == 2
    assert message in one_error_line(capsys)


@pytest.mark.parametrize("command", [["evaluate"], ["generate", "--prefix=a"], ["plot"]])
def test_a_directory_without_a_run_is_named(tmp_path, capsys, command):
    assert main([*command, str(tmp_path)]) == 2
    assert f"{tmp_path} holds no run" in one_error_line(capsys)


def test_plot_draws_several_runs(finished, tmp_path, capsys):
    for name in ("curves.svg", "curves.png"):
        out = tmp_path / name
        assert main(["plot", str(finished), str(finished), "--output", str(out)]) == 0
        assert out.stat().st_size > 5000
    assert main(["plot", str(finished), "--output", str(tmp_path / "curves.txt")]) == 2
    assert "must end in one of ." in capsys.readouterr().err


def test_only_the_chapters_own_run_gets_the_books_points(finished):
    assert not runs.is_the_chapters(finished)
    results = Path(__file__).parents[1] / "results" / "chapter"
    assert runs.is_the_chapters(results)
