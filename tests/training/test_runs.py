"""The directory of a run: started, stopped, resumed, refused; through the command line."""

import codecs
import dataclasses
import fcntl
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from d2l_deeprnn import files
from d2l_deeprnn.cli import main
from d2l_deeprnn.errors import CorpusError
from d2l_deeprnn.files import InUse, is_locked, locked
from d2l_deeprnn.text.corpora import SAMPLE_TEXT, find_text, load_text
from d2l_deeprnn.training import learner, runs
from d2l_deeprnn.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from d2l_deeprnn.training.evaluate import evaluate
from d2l_deeprnn.training.learner import Diverged, Learner
from d2l_deeprnn.training.ngram import NGramModel, choose_order
from d2l_deeprnn.training.run_directory import run_directory
from d2l_deeprnn.training.runs import RunError
from d2l_deeprnn.training.settings import TrainSettings

SMALL = {
    "corpus": (SAMPLE_TEXT,),
    "num_examples": 1500,
    "test_fraction": 0.1,
    "num_hiddens": 8,
    "batch_size": 8,
    "num_steps": 10,
    "num_epochs": 3,
    "dropout": 0.2,
    "optimizer": "adam",
    "lr": 0.01,
}
WORDS = [f"--corpus={SAMPLE_TEXT}", "--num-examples=1500", "--test-fraction=0.1"]
WORDS += ["--num-hiddens=8", "--batch-size=8", "--num-steps=10", "--num-epochs=3"]
WORDS += ["--dropout=0.2", "--optimizer=adam", "--lr=0.01"]


def settings(**changed):
    return TrainSettings(**{**SMALL, **changed})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run. Tests must not change it."""
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


def assert_same_run(out, expected):
    for name in (runs.LAST, runs.BEST):
        assert_same_arrays(arrays(expected, name), arrays(out, name))
    histories = [[{**row, "seconds": 0} for row in runs.read_history(d)] for d in (out, expected)]
    assert histories[0] == histories[1]


def stop_after(minibatches):
    answers = iter([False] * minibatches)
    return lambda: next(answers, True)


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
    assert config["text"]["train_chars"] == 1200 and config["text"]["test_chars"] == 150
    assert len(runs.read_history(finished)) == 3


def test_stopped_in_an_epoch_and_resumed_it_ends_the_same(finished, tmp_path):
    out = tmp_path / "run"
    asked = []

    def should_stop():
        asked.append(1)
        return len(asked) % 12 == 0

    result = runs.train(settings(), out, should_stop=should_stop)
    calls = 1
    while result.stopped:
        assert load_checkpoint(out / runs.LAST).data["learner"]["position"] > 0
        result = runs.train(
            None if calls % 2 else settings(), out, resume=True, should_stop=should_stop
        )
        calls += 1
    assert calls > 3
    assert_same_run(out, finished)


def test_a_stop_requested_once_at_the_end_of_an_epoch_is_not_lost(tmp_path):
    at_the_end = []

    def note(progress):
        at_the_end.append(progress.minibatch == progress.num_minibatches)

    def should_stop():  # True once
        return sum(at_the_end) == 1 and at_the_end.pop()

    result = runs.train(settings(), tmp_path / "run", on_minibatch=note, should_stop=should_stop)
    assert result.stopped and len(result.history) == 1


def test_a_run_stays_in_its_directory_if_the_program_goes_to_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "run").mkdir(parents=True)
    runs.train(settings(), "run", on_epoch=lambda record: os.chdir(elsewhere))
    assert len(runs.load_run(tmp_path / "run").history) == 3
    assert not list((elsewhere / "run").iterdir())


def test_a_run_without_its_model_says_so():
    kept = Path(__file__).parents[2] / "results" / "chapter"
    for checkpoint in "best", "last":
        with pytest.raises(CheckpointError, match="has no checkpoint: only its results are here"):
            runs.load_run(kept, checkpoint=checkpoint)


def test_a_training_that_cannot_begin_leaves_no_directory(tmp_path):
    with pytest.raises(CorpusError):
        runs.train(settings(corpus=("nosuch.txt",)), tmp_path / "run")
    with pytest.raises(ValueError):
        runs.train(settings(batch_size=10**6), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_epoch_that_could_not_be_scored_is_not_lost(finished, tmp_path, monkeypatch):
    def no_memory(*args, **kwargs):
        raise MemoryError("no room for scores")

    out = tmp_path / "run"
    monkeypatch.setattr(runs, "SAVE_SECONDS", 0)
    for epoch in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr(learner, "evaluate", no_memory)
            with pytest.raises(MemoryError):
                runs.train(settings(), out, resume=True)
        data = load_checkpoint(out / runs.LAST).data["learner"]
        assert len(data["history"]) == epoch - 1 and data["position"] == len(data["losses"]) > 0
        stopped = runs.train(settings(), out, resume=True, should_stop=lambda: True)
        assert len(stopped.history) == epoch
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert_same_run(out, finished)


@pytest.mark.parametrize(
    "name, value", [("num_layers", 10**9), ("num_hiddens", 10**9), ("num_layers", 1000)]
)
def test_huge_sizes_in_a_configuration_take_no_memory(
    run, tmp_path, capsys, monkeypatch, name, value
):
    config = json.loads((run / "config.json").read_text())
    config["settings"][name] = value
    (run / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(runs, "new_model", None)  # it would allocate the parameters
    for command in (
        ["generate", str(run)],
        ["evaluate", str(run)],
        ["export", str(run), "--format=html", f"--output={tmp_path / 'model.html'}"],
        ["train", "--resume", f"--out={run}"],
    ):
        assert main(command) == 2
        line = one_error_line(capsys)
        assert name in line.replace("-", "_") or "params/" in line
    with pytest.raises(CheckpointError, match=f"best.zip does not fit its run: .*({name}|params/)"):
        runs.load_run(run)


def test_a_model_that_is_larger_than_the_memory_is_refused(tmp_path, capsys):
    words = [word for word in WORDS if "hiddens" not in word]
    assert main(["train", *words, "--num-hiddens=10000000", "--out", str(tmp_path / "run")]) == 2
    assert re.search(r"--num-hiddens 10000000 .* this machine has .* GiB", one_error_line(capsys))


def test_killed_before_the_first_checkpoint_it_starts_over(run, finished):
    for name in (runs.LAST, runs.BEST, runs.METRICS):
        (run / name).unlink()
    (run / ".last.zip.0123456789abcdef.part").write_bytes(b"half a checkpoint")
    with pytest.warns(UserWarning, match="has no checkpoint yet, so it starts over"):
        assert main(["train", "--resume", "--out", str(run)]) == 0
    assert_same_arrays(arrays(finished), arrays(run))
    assert not list(run.glob("*.part")) and not list(run.glob(".*.part"))


def test_killed_between_last_and_best_it_writes_the_best_when_it_resumes(finished, tmp_path):
    out = tmp_path / "other"
    result = runs.train(settings(), out, should_stop=lambda: (out / runs.LAST).exists())
    assert len(result.history) == 1
    (out / runs.BEST).unlink()
    for _ in range(2):  # the first epoch is the best one, and then another is
        result = runs.train(None, out, resume=True, should_stop=lambda: True)
        assert result.stopped and (out / runs.BEST).exists()
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert_same_arrays(arrays(finished, runs.BEST), arrays(out, runs.BEST))


@pytest.mark.parametrize(
    "name, number",
    [
        ("SIGTERM", 143),
        pytest.param("SIGINT", 130, marks=pytest.mark.slow),
        pytest.param("SIGHUP", 129, marks=pytest.mark.slow),
    ],
)
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
    while not (out / runs.METRICS).exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    printed, errors = process.communicate()
    assert process.returncode == number
    assert "\nStopped " in printed and f"--resume --out {out}" in printed
    assert "Traceback" not in errors
    saved = load_checkpoint(out / runs.LAST).data["learner"]
    assert saved["history"] and len(saved["losses"]) == saved["position"]


def test_another_runs_directory_and_a_full_one_are_refused(run, tmp_path, capsys):
    before = {path: path.read_bytes() for path in run.iterdir()}
    assert main(["train", *WORDS, "--out", str(run)]) == 2
    assert "already contains a run: resume it (--resume)" in one_error_line(capsys)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    for words in (WORDS, [*WORDS, "--resume"]):
        assert main(["train", *words, "--out", str(tmp_path / "full")]) == 2
        assert "is not empty and contains no run (it contains thesis.tex)" in one_error_line(capsys)
    assert main(["train", *WORDS, "--out", str(tmp_path / "full" / "thesis.tex")]) == 2
    assert "is not a directory" in one_error_line(capsys)
    assert before == {path: path.read_bytes() for path in run.iterdir()}


def test_a_command_that_failed_before_training_can_be_corrected(tmp_path, capsys):
    words = ["train", *WORDS, "--sample-every=1", "--out", str(tmp_path / "run")]
    assert main([*words, "--prefix", "\u00a7"]) == 2
    assert "not in the vocabulary" in one_error_line(capsys)
    assert main([*words, "--prefix", "the "]) == 0


def test_epochs_without_a_checkpoint_of_their_own(run, tmp_path, monkeypatch):
    """A run that is killed between two checkpoints ends the same, with the same best epoch."""
    out, killed = tmp_path / "out", tmp_path / "killed"
    monkeypatch.setattr(runs, "SAVE_SECONDS", 1e9)

    def copy(record):
        if record.epoch == 2:
            shutil.copytree(out, killed)

    result = runs.train(settings(num_epochs=4), out, on_epoch=copy)
    assert len(load_checkpoint(killed / runs.LAST).data["learner"]["history"]) == 1
    (killed / ".lock").unlink()
    assert runs.train(None, killed, resume=True).history[-1][:4] == result.history[-1][:4]
    for name in (runs.LAST, runs.BEST):
        found, expected = (load_checkpoint(path / name) for path in (killed, out))
        assert_same_arrays(found.arrays, expected.arrays)
    best = min(result.history, key=lambda record: record.loss)
    assert len(load_checkpoint(out / runs.BEST).data["learner"]["history"]) == best.epoch


@pytest.mark.parametrize("epoch", [1, 2])
def test_killed_while_it_was_scored_it_resumes(run, tmp_path, monkeypatch, capsys, epoch):
    out, killed = tmp_path / "out", tmp_path / "killed"
    words = [*WORDS, "--num-epochs=2", "--sample-every=1"]
    monkeypatch.setattr(runs, "SAVE_SECONDS", 0.0)
    score = Learner._score

    def copy(learner):
        if learner.epoch == epoch:
            shutil.copytree(out, killed)
        return score(learner)

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "_score", copy)
        assert main(["train", *words, "--out", str(out)]) == 0
    (killed / ".lock").unlink()
    state = load_checkpoint(killed / runs.LAST).data["learner"]
    assert state["position"] and len(state["history"]) == epoch - 1
    capsys.readouterr()
    assert main(["train", "--resume", "--sample-every=1", "--out", str(killed)]) == 0
    assert re.search("^ +2/2 ", capsys.readouterr().out, re.M)
    for name in (runs.LAST, runs.BEST):
        assert_same_arrays(arrays(killed, name), arrays(out, name))


def test_an_error_at_the_start_of_a_resumed_run_keeps_its_settings(run, tmp_path, capsys):
    begun = tmp_path / "begun"  # killed before its first checkpoint
    begun.mkdir()
    shutil.copy(run / "config.json", begun)
    words = ["train", "--resume", "--sample-every=1", "--out", str(begun)]
    with pytest.warns(UserWarning, match="has no checkpoint yet"):
        assert main([*words, "--prefix", "\u00a7"]) == 2
    assert "not in the vocabulary" in one_error_line(capsys)
    with pytest.warns(UserWarning, match="has no checkpoint yet"):
        assert main([*words, "--prefix", "the "]) == 0


def test_two_processes_do_not_train_in_one_directory(run):
    with open(run / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process"):
            runs.train(None, run, resume=True)


def test_a_run_whose_directory_is_replaced_leaves_the_other_run_alone(run, tmp_path, capsys):
    out, moved = tmp_path / "out", tmp_path / "moved"
    other = {}

    def replace(record):
        if record.epoch == 2:
            out.rename(moved)
            shutil.copytree(run, out)
            other.update({path: path.read_bytes() for path in out.iterdir()})

    with pytest.raises(RunError, match=f"{out} was moved, .* checkpoint is in {moved}; resume"):
        runs.train(settings(), out, on_epoch=replace)
    assert other == {path: path.read_bytes() for path in out.iterdir()}
    assert load_checkpoint(moved / runs.LAST).data["learner"]["history"]
    assert main(["train", "--resume", "--out", str(moved)]) == 0
    assert_same_arrays(arrays(run), arrays(moved))


def test_a_text_that_has_changed_is_refused(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("some words and more of them. " * 100)
    words = ["--corpus", str(text), *WORDS[3:], "--out", str(tmp_path / "run")]
    assert main(["train", *words]) == 0
    capsys.readouterr()
    text.write_text("other words and more of them. " * 100)
    for command in (["train", "--resume", "--out"], ["evaluate"]):
        assert main([*command, str(tmp_path / "run")]) == 2
        assert "is not the text with which" in one_error_line(capsys)


def test_a_checkpoint_of_another_run_is_refused(run, tmp_path, capsys):
    assert main(["train", *WORDS, "--seed", "1", "--out", str(tmp_path / "other")]) == 0
    capsys.readouterr()
    for name, command in [("last.zip", ["train", "--resume", "--out"]), ("best.zip", ["evaluate"])]:
        shutil.copy(tmp_path / "other" / name, run / name)
        assert main([*command, str(run)]) == 2
        assert f"{name} belongs to another run" in one_error_line(capsys)


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
    with pytest.raises(Diverged, match="start a new run in another directory$"):
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
    text = runs.read_text_parts(run.settings)
    best = min(run.history, key=lambda record: record.valid_loss)
    assert evaluate(run.model, text.valid, run.ctx).nats == best.valid_loss


def test_evaluate_prints_both_parts_and_the_baseline(finished, capsys):
    assert main(["evaluate", str(finished), "--baseline", "ngram"]) == 0
    lines = capsys.readouterr().out.splitlines()
    text = runs.read_text_parts(settings())
    order, _ = choose_order(text.train, text.valid, len(text.vocab))
    nats = NGramModel(text.train, order, len(text.vocab)).loss(text.test)
    heading, valid, _, test, ngram, _, better = lines
    assert heading.split() == ["nats", "bits", "perplexity", "scored"]
    assert valid.startswith("validation ") and test.startswith("test ")
    assert ngram.startswith(f"  n-gram of order {order}  {nats:.4f}  ")
    assert test.endswith(" 149") and len({len(line) for line in lines[:5]}) == 1
    difference = float(test.split()[1]) - nats
    name = "network" if difference < 0 else f"n-gram of order {order}"
    assert re.fullmatch(rf"test: the {name} is better, by (\S+) nats per character", better)
    assert float(better.split()[-4]) == pytest.approx(abs(difference), abs=1e-4)


def test_evaluate_as_json(finished, capsys):
    assert main(["evaluate", str(finished), "--baseline", "ngram", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert [score["text"] for score in scores] == ["validation"] * 2 + ["test"] * 2
    run = runs.load_run(finished)
    text = runs.read_text_parts(run.settings)
    result = evaluate(run.model, text.test, run.ctx)
    assert scores[2] == {
        "text": "test", "model": "network", "nats": result.nats, "bits": result.bits,
        "perplexity": result.perplexity, "characters": 149, "unknown": 0,
    }  # fmt: skip


def test_evaluate_on_another_text_counts_unknown_characters(finished, tmp_path, capsys):
    (tmp_path / "other.txt").write_text("a @ b @ c")
    assert main(["evaluate", str(finished), "--corpus", str(tmp_path / "other.txt")]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].endswith(" 8")
    assert "\n2 of the 9 characters of " in out
    assert "other.txt are unknown to the model: ['@']" in out


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
        (["--prefix", ""], "a prefix is empty"),
        (["--prefix", "a", "--temperature", "-1"], "temperature must be"),
        (["--prefix", "a", "--top-k", "3"], "need a temperature above 0"),
    ],
)
def test_generate_says_what_is_wrong(finished, capsys, words, message):
    assert main(["generate", str(finished), *words]) == 2
    assert message in one_error_line(capsys)


def test_a_directory_without_a_run_is_named(tmp_path, capsys):
    for command in (["evaluate"], ["generate", "--prefix=a"], ["plot"]):
        assert main([*command, str(tmp_path)]) == 2
        assert f"{tmp_path} is not a run" in one_error_line(capsys)


def test_plot_draws_several_runs(finished, tmp_path, capsys):
    for name in ("curves.svg", "curves.png"):
        out = tmp_path / name
        assert main(["plot", str(finished), str(finished), "--output", str(out)]) == 0
        assert out.stat().st_size > 5000
    assert main(["plot", str(finished), "--output", str(tmp_path / "curves.txt")]) == 2
    assert "must end in one of ." in capsys.readouterr().err


# Resuming elsewhere, for longer, and with files missing.


@pytest.fixture
def own_text(tmp_path, monkeypatch):
    """A text in a directory that a run begins from, under a relative path."""
    (tmp_path / "texts").mkdir()
    text = tmp_path / "texts" / "mine.txt"
    text.write_text(Path(find_text(SAMPLE_TEXT)).read_text())
    monkeypatch.chdir(tmp_path)
    return text


def stopped(out, *more):
    """A run on the text, stopped in its second epoch; its words."""
    words = [w for w in WORDS if "corpus" not in w]
    runs.train(settings(corpus=("texts/mine.txt",), **dict(more)), out, should_stop=stop_after(20))
    return ["--corpus=texts/mine.txt", *words]


def test_a_run_resumes_from_any_directory(own_text, finished, tmp_path, monkeypatch, capsys):
    stopped(tmp_path / "run")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["train", "--resume", "--out", "../run"]) == 0
    assert_same_run(tmp_path / "run", finished)
    capsys.readouterr()
    assert main(["evaluate", "../run", "--baseline", "ngram"]) == 0
    here = capsys.readouterr().out
    assert len(runs.read_text_parts(runs.load_run(Path("../run")).settings).valid) == 150
    # The absolute path is recorded next to the given one.
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["corpus"] == ["texts/mine.txt"]
    assert config["text"]["paths"] == [str(own_text)]
    # Text and run may also move together.
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    shutil.copytree(tmp_path, moved)
    own_text.unlink()
    monkeypatch.chdir(moved)
    assert main(["evaluate", "run", "--baseline", "ngram"]) == 0
    assert capsys.readouterr().out == here


def test_the_new_path_of_a_text_can_be_given(own_text, finished, tmp_path, capsys):
    out = tmp_path / "run"
    stopped(out)
    before = (out / "config.json").read_bytes()
    new = own_text.rename(tmp_path / "renamed.txt")
    for command in (["train", "--resume", "--out", str(out)], ["evaluate", str(out)]):
        assert main(command) == 2
        line = one_error_line(capsys)
        assert "no longer at 'texts/mine.txt'" in line and "--corpus NEWPATH" in line
    other = tmp_path / "other.txt"
    other.write_text("another text than that of the run. " * 200)
    assert main(["train", "--resume", "--out", str(out), "--corpus", str(other)]) == 2
    assert "is not the text with which" in one_error_line(capsys)
    assert (out / "config.json").read_bytes() == before
    assert main(["train", "--resume", "--out", str(out), "--corpus", "renamed.txt"]) == 0
    assert_same_run(out, finished)
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["corpus"] == ["renamed.txt"]
    assert config["text"]["paths"] == [str(new)]
    assert config["changes"] == [
        {"epochs_begun": 2, "corpus": {"from": [str(own_text)], "to": [str(new)]}}
    ]
    assert main(["evaluate", str(out)]) == 0


def test_an_older_run_without_paths_resumes_in_its_original_directory(own_text, finished, tmp_path):
    out = tmp_path / "run"
    stopped(out)
    config = json.loads((out / "config.json").read_text())
    del config["text"]["paths"], config["command"]
    (out / "config.json").write_text(json.dumps(config))
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert_same_run(out, finished)


@pytest.mark.parametrize(
    "more", [{}, {"schedule": "step", "decay_epochs": 2, "warmup_epochs": 2.5}]
)
def test_a_run_with_more_epochs_equals_one_that_had_them_from_the_start(tmp_path, capsys, more):
    whole, out = tmp_path / "whole", tmp_path / "run"
    runs.train(settings(num_epochs=5, **more), whole)
    runs.train(settings(**more), out)
    assert main(["train", "--resume", "--num-epochs", "4", "--out", str(out)]) == 0
    runs.train(settings(num_epochs=5, **more), out, resume=True)
    assert_same_run(out, whole)
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["num_epochs"] == 5
    assert config["changes"] == [
        {"epochs_begun": 3, "num_epochs": {"from": 3, "to": 4}},
        {"epochs_begun": 4, "num_epochs": {"from": 4, "to": 5}},
    ]
    assert runs.load_run(out).settings.num_epochs == 5


def test_epochs_and_patience_may_change_for_future_epochs(tmp_path, capsys):
    out = tmp_path / "run"
    runs.train(settings(num_epochs=9), out, should_stop=stop_after(31))
    before = (out / "config.json").read_bytes()
    for number, status in [("2", 2), ("3", 0)]:  # it is in its third
        assert main(["train", "--resume", "--num-epochs", number, "--out", str(out)]) == status
    assert "--num-epochs must be at least 3, the number of" in capsys.readouterr().err
    assert before != (out / "config.json").read_bytes()
    assert len(runs.read_history(out)) == 3
    words = ["--num-epochs=5", "--patience=1"]
    assert main(["train", "--resume", *words, "--out", str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["patience"] == 1
    assert config["changes"][-1]["patience"] == {"from": None, "to": 1}


def test_a_patience_that_would_have_ended_past_epochs_is_refused(tmp_path, capsys):
    out = tmp_path / "run"
    # With a tiny rate, the loss does not change, so the first epoch stays the best.
    runs.train(settings(optimizer="sgd", lr=1e-30, num_epochs=5), out)
    assert main(["train", "--resume", "--patience=3", "--num-epochs=6", "--out", str(out)]) == 2
    line = one_error_line(capsys)
    assert (
        "with the --patience 3, " in line and "stopped after epoch 4, and it has started 5" in line
    )
    assert main(["train", "--resume", "--patience=4", "--num-epochs=6", "--out", str(out)]) == 0
    assert len(runs.read_history(out)) == 5


def test_a_run_inside_the_directory_of_its_text_is_no_part_of_it(tmp_path, monkeypatch, capsys):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("time machine " * 100)
    monkeypatch.chdir(texts)
    for out in "runs/a", "runs/b":
        runs.train(settings(corpus=(".",), num_epochs=1), out)
    runs.train(dataclasses.replace(settings(corpus=(".",)), num_epochs=2), "runs/a", resume=True)
    found = [json.loads((texts / f"runs/{run}/config.json").read_text())["text"] for run in "ab"]
    assert [text["train_chars"] + text["valid_chars"] + text["test_chars"] for text in found] == [
        1299, 1299
    ]  # fmt: skip
    assert main(["runs", "."]) == 0
    assert "corpus .," in capsys.readouterr().out


def test_a_refused_command_leaves_texts_where_they_are_and_no_lock(tmp_path, capsys):
    texts, empty = tmp_path / "texts", tmp_path / "empty"
    texts.mkdir()
    empty.mkdir()
    (texts / "a.txt").write_text("time machine " * 100)
    for corpus, out in ("the_tide_tables", texts), ("the_tide_tible", empty), (texts, texts):
        for command in "train", "reproduce":
            assert main([command, "--corpus", str(corpus), "--out", str(out)]) == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.txt", "empty", "texts"]
    # Other programs have such files, too.
    (texts / ".lock").touch()
    assert load_text(texts) == load_text(texts / "a.txt")
    assert main(["train", "--corpus", str(texts), "--out", str(texts)]) == 2
    assert (texts / ".lock").exists()
    capsys.readouterr()


def test_a_refused_command_leaves_the_lock_of_a_directory_that_replaced_its_own(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with run_directory(out, resume=False):
        out.rename(tmp_path / "moved")
        out.mkdir()
        (out / ".lock").touch()
    assert (out / ".lock").exists()


def test_a_change_that_would_affect_past_epochs_is_refused(tmp_path, capsys):
    out = tmp_path / "run"
    runs.train(settings(schedule="cosine"), out, should_stop=stop_after(20))
    before = {path: path.read_bytes() for path in out.iterdir()}
    for words, message in [
        (["--num-epochs=5"], "with the --schedule cosine, it determines the learning rates"),
        (
            ["--num-epochs=5", "--schedule=constant"],
            "schedule: 'cosine' in the run, 'constant' requested",
        ),
        (["--warmup-epochs=1"], "--warmup-epochs: 0.0 in the run, 1.0 requested"),
        (["--lr=0.02", "--patience=3"], "lr: 0.01 in the run, 0.02 requested"),
    ]:
        assert main(["train", "--resume", *words, "--out", str(out)]) == 2
        line = one_error_line(capsys)
        assert message in line and "start a new run in another directory" in line
        assert "patience" not in line
    assert before == {path: path.read_bytes() for path in out.iterdir()}


def test_a_lost_checkpoint_is_not_started_over(run, finished, capsys):
    (run / runs.LAST).unlink()
    for gone in (None, runs.BEST, None):
        if gone:
            (run / gone).unlink()
        before = {path: path.read_bytes() for path in run.iterdir()}
        assert main(["train", "--resume", "--out", str(run)]) == 2
        line = one_error_line(capsys)
        assert f"last.zip of the run in {run} is missing: restore it" in line
        assert (f"a copy of {runs.BEST}" in line) == (run / runs.BEST).exists()
        assert before == {path: path.read_bytes() for path in run.iterdir()}
    shutil.copy(finished / runs.BEST, run / runs.BEST)
    (run / runs.METRICS).unlink()  # nor if only a best checkpoint exists
    assert main(["train", "--resume", "--out", str(run)]) == 2


def test_a_run_resumes_from_a_copy_of_its_best_checkpoint(run, finished):
    shutil.copy(run / runs.BEST, run / runs.LAST)
    assert main(["train", "--resume", "--out", str(run)]) == 0
    assert_same_run(run, finished)


def test_killed_in_its_first_save_a_run_loses_nothing(finished, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    runs.train(settings(num_epochs=1), out)
    for name in (runs.BEST, runs.METRICS):
        (out / name).unlink()
    assert main(["train", "--resume", "--num-epochs", "1", "--out", str(out)]) == 0
    assert (out / runs.BEST).exists() and len(runs.read_history(out)) == 1
    assert main(["train", "--resume", "--num-epochs", "3", "--out", str(out)]) == 0
    assert_same_run(out, finished)


@pytest.mark.parametrize("damage", ["gone", "cut", "ahead"])
def test_the_history_is_repaired_even_when_no_epoch_is_left(run, damage):
    expected = (run / runs.METRICS).read_text()
    lines = expected.splitlines(keepends=True)
    (run / runs.METRICS).write_text("".join(lines[:2] if damage == "cut" else [*lines, lines[-1]]))
    if damage == "gone":
        (run / runs.METRICS).unlink()
    assert main(["train", "--resume", "--out", str(run)]) == 0
    assert (run / runs.METRICS).read_text() == expected


def test_a_lost_best_checkpoint_is_rewritten_or_reported(run, finished, capsys):
    best = load_checkpoint(run / runs.BEST).data["learner"]["history"]
    (run / runs.BEST).unlink()
    if len(best) == 3:
        assert main(["train", "--resume", "--out", str(run)]) == 0
        assert_same_arrays(arrays(finished, runs.BEST), arrays(run, runs.BEST))
        (run / runs.BEST).unlink()
    assert main(["generate", str(run), "--prefix", "a"]) == 2
    assert "use --checkpoint last" in one_error_line(capsys)
    assert main(["generate", str(run), "--prefix", "a", "--checkpoint", "last"]) == 0


def test_a_run_that_was_stopped_in_its_first_epoch_has_its_last_checkpoint(tmp_path, capsys):
    out = tmp_path / "run"
    runs.train(settings(), out, should_stop=stop_after(5))
    for command in ("generate", "evaluate"):
        assert main([command, str(out)]) == 2
        line = one_error_line(capsys)
        assert "use --checkpoint last, or resume the run" in line
        assert "from the start" not in line
        assert main([command, str(out), "--checkpoint", "last"]) == 0
        capsys.readouterr()
    assert main(["train", "--resume", "--out", str(out), "--num-epochs", "1"]) == 0
    assert main(["generate", str(out)]) == 0


def test_a_lock_that_is_not_a_regular_file_is_refused(run, capsys):
    (run / ".lock").unlink()
    (run / ".lock").symlink_to("config.json")
    assert main(["train", "--resume", "--out", str(run)]) == 2
    assert ".lock: it is not a regular file: remove it" in one_error_line(capsys)


# Generating and plotting.


def test_a_prefix_is_cleaned_as_the_runs_text_was(finished, tmp_path, capsys):
    texts = []
    for prefix in ("it was ", "It\n  WAS "):
        assert main(["generate", str(finished), "--prefix", prefix, "--length=20"]) == 0
        out, err = capsys.readouterr()
        texts.append(out)
        said = "the prefix 'It\\n  WAS ' is cleaned like the run's text: 'it was '"
        assert (said in err) == (prefix != "it was ")
    assert texts[0] == texts[1]
    kept = tmp_path / "kept"
    runs.train(settings(keep_case=True, keep_whitespace=True, num_epochs=1), kept)
    assert main(["generate", str(kept), "--prefix", "The\n", "--length=5"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("The\n") and "cleaned" not in err


def test_generate_ends_a_text_with_a_stop_text(finished, tmp_path, capsys):
    words = ["generate", str(finished), "--temperature=1", "--seed=1", "--prefix=the "]
    assert main(words) == 0
    text = capsys.readouterr().out.rstrip("\n")
    assert main([*words, "--stop=tt", "--stop", " "]) == 0
    assert capsys.readouterr().out == re.match("the .*?(tt| )", text)[0] + "\n"
    assert main([*words, "--stop", "\n"]) == 2  # which this text has folded
    line = one_error_line(capsys)
    assert r"not in the vocabulary: ['\n'] in stop text '\n'" in line


def test_a_text_with_other_accents_than_the_runs(tmp_path, capsys):
    text = "le caf\u00e9 du g\u00e9n\u00e9ral est ferm\u00e9. " * 60
    for form in "NFC", "NFD":
        (tmp_path / form).write_text(unicodedata.normalize(form, text), encoding="utf-8")
    run = str(tmp_path / "run")
    assert main(["train", "--corpus", str(tmp_path / "NFC"), *WORDS[2:], "--out", run]) == 0
    assert main(["generate", run, "--prefix", "cafe\u0301"]) == 2
    line = one_error_line(capsys)
    assert "(NFC): write 'caf\\u00e9', in a shell $'caf\\u00e9'" in line
    assert main(["evaluate", run, "--corpus", str(tmp_path / "NFD")]) == 0
    out = capsys.readouterr().out
    assert r"are unknown to the model: ['\u0301' (U+0301 COMBINING ACUTE ACCENT)]" in out
    assert "the run's text has composed characters (NFC): convert this text" in out


@pytest.mark.parametrize("keep, start", [(False, " "), (True, "\n")])
def test_without_a_prefix_it_starts_with_a_line_or_a_word(tmp_path, capsys, keep, start):
    runs.train(settings(keep_whitespace=keep, num_epochs=1), tmp_path / "run")
    assert main(["generate", str(tmp_path / "run"), "--length", "7"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(start) and len(out) == 9


def test_a_text_without_blanks_can_start_too(tmp_path, capsys):
    (tmp_path / "dna.txt").write_text("acgtgacc" * 300)
    words = ["--corpus", str(tmp_path / "dna.txt"), *WORDS[2:], "--out", str(tmp_path / "run")]
    assert main(["train", *words]) == 0
    assert main(["generate", str(tmp_path / "run"), "--length", "7"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("c")


def test_a_plot_in_a_missing_directory_is_refused(finished, tmp_path, capsys):
    out = tmp_path / "missing" / "curves.svg"
    assert main(["plot", str(finished), "--output", str(out)]) == 2
    line = one_error_line(capsys)
    assert f"--output {out} cannot be written: there is no directory" in line
    assert ".part" not in line
    (tmp_path / "taken.svg").mkdir()
    assert main(["plot", str(finished), "--output", str(tmp_path / "taken.svg")]) == 2
    line = one_error_line(capsys)
    assert "taken.svg" in line and ".part" not in line


def test_files_that_an_editor_gave_a_byte_order_mark_are_read(run, capsys):
    for name in ("config.json", "metrics.csv"):
        (run / name).write_bytes(codecs.BOM_UTF8 + (run / name).read_bytes())
    assert main(["runs", str(run)]) == 0
    assert "finished" in capsys.readouterr().out
    curves, config = str(run / "curves.svg"), str(run / "config.json")
    assert main(["plot", str(run), "--output", curves]) == 0
    assert main(["evaluate", str(run)]) == 0
    assert main(["train", "--config", config, "--num-epochs", "1", "--out", str(run / "new")]) == 0
    assert main(["train", "--resume", "--out", str(run)]) == 0


@pytest.mark.parametrize(
    "row, words",
    [
        ("1.5,2.0", "whole number above 0"),
        ("1,nan", "a value that is not finite"),
        ("1,inf", "a value that is not finite"),
        ("1,2.0,3.0", "more cells than the header"),
        ("one,2.0", "could not convert string to float: 'one'"),
    ],
)
def test_a_history_that_somebody_changed_is_refused(row, words, tmp_path):
    (tmp_path / "metrics.csv").write_text(f"epoch,train_loss\n{row}\n")
    with pytest.raises(RunError, match=f"metrics.csv cannot be read: .*{words}"):
        runs.read_history(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "metrics.csv"])
@pytest.mark.parametrize("damage", ["pipe", b"\xff\x00", b"[1]", b"[" * 10**5])
def test_malformed_files_are_refused_in_one_line(run, capsys, name, damage):
    path = run / name
    path.unlink()
    if damage == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(damage)
    commands = [["plot", "--output", str(run / "curves.svg")]]
    if name == "config.json":
        commands = [
            ["evaluate"],
            ["train", "--resume", "--out"],
            ["reproduce", "--resume", "--out"],
        ]
    for command in commands:
        assert main([*command, str(run)]) == 2
        assert name in one_error_line(capsys)


def edit_config(run, edit):
    config = json.loads((run / "config.json").read_text())
    edit(config)
    (run / "config.json").write_text(json.dumps(config))


def edit_checkpoints(run, edit):
    for name in ("best.zip", "last.zip"):
        loaded = load_checkpoint(run / name)
        edit(loaded.data)
        save_checkpoint(run / name, loaded.arrays, loaded.data)


INVALID_CONFIGS = {
    "a long integer": lambda c: c["settings"].update(lr=10**400),
    "paths of the text": lambda c: c["text"].update(paths=[7]),
    "SHA-256": lambda c: c["text"].update(sha256=["a"]),
    "changes": lambda c: c.update(changes=5),
    "imported": lambda c: c.update(imported=[1]),
    "machine": lambda c: c.update(machine=None),
    "ranks": lambda c: c.update(ranks="x"),
}
INVALID_CHECKPOINTS = {
    "vocabulary": lambda d: d["vocab"].__setitem__(2, 7),
    "order of the vocabulary": lambda d: d["vocab"].__setitem__(slice(2, 4), d["vocab"][3:1:-1]),
    "history": lambda d: d["learner"].update(history=[[1, "x", None, 1.0, 1.0]]),
    "learner": lambda d: d.update(learner=None),
    "epochs": lambda d: d["learner"]["history"][-1].__setitem__(0, math.inf),
    "losses": lambda d: d["learner"].update(losses=["a"], position=1),
    "numbers": lambda d: d["learner"]["optimizer"]["numbers"].update(num_update="x"),
    "counts": lambda d: d["learner"]["optimizer"]["update_counts"].update({"0": -(10**30)}),
    "short key": lambda d: d["learner"]["random"]["numpy"]["state"].update(key=[1] * 5),
    "generators": lambda d: d["learner"]["random"]["numpy"]["state"].update(key=[-1] * 624),
}


@pytest.mark.parametrize("what", [*INVALID_CONFIGS, *INVALID_CHECKPOINTS])
def test_invalid_values_in_a_run_are_refused_in_one_line(run, capsys, what):
    """Damaged or malicious values are bad input, not a fault of this package."""
    if what in INVALID_CONFIGS:
        edit_config(run, INVALID_CONFIGS[what])
    else:
        edit_checkpoints(run, INVALID_CHECKPOINTS[what])
    before = (run / "last.zip").read_bytes()
    assert main(["train", "--resume", "--num-epochs=9", "--out", str(run)]) == 2
    assert str(run) in one_error_line(capsys)
    assert (run / "last.zip").read_bytes() == before
    if what in INVALID_CONFIGS:
        for command in "report", "plot", "evaluate":
            assert main([command, str(run)]) == 2
            assert str(run) in one_error_line(capsys)
    if what == "order of the vocabulary":
        assert main(["evaluate", str(run)]) == 2
        assert "its vocabulary differs from that of the run's text" in one_error_line(capsys)


@pytest.mark.parametrize("name, value", [("lr", 0.5), ("valid_fraction", 0.3), ("seed", 7)])
def test_a_configuration_that_was_edited_is_noticed(run, capsys, name, value):
    """The run would go on with settings that its past epochs did not have."""
    edit_config(run, lambda config: config["settings"].update({name: value}))
    for words in ["train", "--resume", "--num-epochs=9", "--out"], ["evaluate"]:
        assert main([*words, str(run)]) == 2
        assert f"it was trained with {name} " in one_error_line(capsys)
    edit_checkpoints(run, lambda data: data.pop("settings"))  # as up to 0.3
    assert main(["generate", str(run), "--length=5"]) == 0


def test_the_number_of_epochs_may_not_be_edited_if_past_rates_follow_from_it(tmp_path, capsys):
    out = tmp_path / "run"
    runs.train(settings(schedule="cosine"), out, should_stop=stop_after(20))
    edit_config(out, lambda config: config["settings"].update(num_epochs=9))
    for words in ["train", "--resume", "--out"], ["evaluate"]:
        assert main([*words, str(out)]) == 2
        assert "it was trained with num_epochs 3 (here 9)" in one_error_line(capsys)


def test_a_huge_configuration_is_not_read(run, capsys):
    with open(run / "config.json", "r+b") as file:
        file.truncate(2**40)  # sparse: it takes no space
    assert main(["evaluate", str(run)]) == 2
    assert "it is larger than 64 MiB" in one_error_line(capsys)


def test_a_report_needs_no_times(run, tmp_path, capsys):
    rows = [line.rpartition(",")[0] for line in (run / "metrics.csv").read_text().splitlines()]
    (run / "metrics.csv").write_text("\n".join(rows) + "\n")
    assert main(["report", str(run), "--output", str(tmp_path / "report.html")]) == 0
    assert "Training time" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    "edit, state",
    [
        (lambda config: config["text"].update(sha256=None), "imported without its text"),
        (lambda config: config["text"].update(paths=["/nowhere/at/all"]), "its text is missing"),
    ],
)
def test_a_run_without_its_text_cannot_be_resumed(run, capsys, edit, state):
    edit_config(run, edit)
    edit_config(run, lambda config: config["settings"].update(num_epochs=9))
    assert main(["runs", str(run)]) == 0
    assert state in capsys.readouterr().out


def test_a_lock_that_cannot_be_taken_is_not_a_training(run, capsys):
    (run / ".lock").unlink()
    (run / ".lock").symlink_to("nowhere")
    assert main(["runs", str(run)]) == 0
    assert "finished" in capsys.readouterr().out


def test_listing_runs_does_not_block_training(run):
    ended, refused = threading.Event(), []

    def look():
        while not ended.is_set():
            is_locked(run / ".lock")

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(300):
        try:
            with locked(run / ".lock"):
                pass
        except InUse as error:
            refused.append(error)
    ended.set()
    thread.join()
    assert not refused
