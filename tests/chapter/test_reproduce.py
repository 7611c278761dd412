"""A reproduction from the command line to the report, with short or fake training."""

from __future__ import annotations

import base64
import csv
import dataclasses
import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from report_page import Page

from d2l_deeprnn import cli, files
from d2l_deeprnn._mxnet import library, mx, nd
from d2l_deeprnn.chapter import book, report, reproduce
from d2l_deeprnn.chapter.train import EpochRecord
from d2l_deeprnn.text import corpora, known_texts
from d2l_deeprnn.training.checkpoint import load_checkpoint


@pytest.fixture
def books_text(monkeypatch):
    """Use a sample under the name of the book's text, since the results here are made up."""
    sample = corpora.find_text(corpora.SAMPLE_TEXT)
    monkeypatch.setattr(corpora, "find_text", lambda name: sample)


@pytest.fixture
def fake_training(monkeypatch):
    """Fake training that returns the perplexities in a dictionary, by default the book's."""
    told = {}
    printed = {line.epoch: line.perplexity for line in book.PRINTED}

    def train(model, num_hiddens, indices, vocab, ctx, num_epochs, *rest, on_epoch, log, **how):
        model.initialize(ctx=ctx)
        model(nd.zeros((1, 1), ctx=ctx), model.begin_state(batch_size=1, ctx=ctx))
        for epoch in range(len(how["history"]) + 1, num_epochs + 1):
            if epoch == told.get("interrupt"):
                raise KeyboardInterrupt
            perplexity = told.get(epoch, printed.get(epoch, 10.0))
            predictions = ("traveller a", "time traveller <b>") if epoch % 250 == 0 else ()
            if epoch % 125 == 0:
                log(f"epoch {epoch}, perplexity {perplexity:f}, time 1.00 sec")
            on_epoch(EpochRecord(epoch, perplexity, epoch / 10, predictions))

    monkeypatch.setattr(reproduce, "train_and_predict_rnn_gluon", train)
    return told


def test_a_run_that_agrees(books_text, fake_training, capsys, tmp_path):
    out = tmp_path / "new" / "folder"
    assert cli.main(["reproduce", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "epoch 125, perplexity 9.005890, time 1.00 sec\n" in printed  # the book's own format
    assert re.search(r"\n125 +9\.005890 +9\.005890 .* yes +12\.50\n", printed)
    assert re.search(r"\n500 +1\.036108 +1\.036108 .* yes +12\.50\n", printed)
    assert "  book  traveller smiled. 'are you sure we can move freely in space\n" in printed
    assert "  run   traveller a\n" in printed
    assert "This run agrees with the book: 4 of 4 values in their bands." in printed
    assert "not the book's" not in printed
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "config.json", "last.zip", "metrics.csv", "model.html", "perplexity.svg",
        "report.html",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "epoch, perplexity",
    [(250, 1.9), (125, 60.0), (125, 19.9), (500, float("nan"))],
    ids=["forgot", "worse than chance", "learnt nothing yet", "not a number"],
)
def test_a_run_that_does_not_agree(books_text, fake_training, capsys, epoch, perplexity):
    fake_training[epoch] = perplexity
    assert cli.main(["reproduce"]) == 1
    printed = capsys.readouterr().out
    assert re.search(
        rf"does not agree with the book: {perplexity:.6f} at epoch {epoch} is outside", printed
    )
    assert printed.count(" NO ") == 1


def test_too_short_to_be_compared(books_text, fake_training, capsys):
    assert cli.main(["reproduce", "--num-epochs", "124"]) == 0
    printed = capsys.readouterr().out
    assert "Nothing was compared: the book's first value is for epoch 125, and this run" in printed


def test_a_sample_replaces_the_book_and_is_named(fake_training, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv(known_texts.DATA_VARIABLE, raising=False)
    monkeypatch.setattr(known_texts, "_download", missing)
    fake_training.update({125: 7.25, 250: 1.25, 375: 1.125, 500: 1.0625})
    assert cli.main(["reproduce", "--out", str(tmp_path)]) == 3
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "The book's text is missing, so a sample text of this package replaces it."
    figures = [i for i, line in enumerate(printed) if re.search(r"\d\.\d{2}", line)]
    assert len(figures) == 4 + 4  # the book's lines, and the table
    before = (
        "The text is The Clockmaker's Guest, so these results cannot be compared with the book's."
    )
    after = "Nothing was compared: the text was The Clockmaker's Guest, not the book's."
    named = [i for i, line in enumerate(printed) if "The Clockmaker's Guest" in line]
    assert [printed[i] for i in named] == [before, after]
    assert named[0] < figures[0] and figures[-1] < named[1] == len(printed) - 2
    page = (tmp_path / "report.html").read_text()
    assert page.count("not the book&#39;s") == 1
    assert '<p class="verdict open">Nothing was compared: the text was The Clockmaker' in page
    assert "9.005890" not in page
    assert "printed in the book" not in (tmp_path / "perplexity.svg").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["is_the_books_text"] is False


def missing(text):
    raise corpora.TextNotAvailable(f"{text.title} could not be had")


def test_a_requested_text_is_never_replaced(fake_training, monkeypatch, capsys):
    monkeypatch.delenv(known_texts.DATA_VARIABLE, raising=False)
    monkeypatch.setattr(known_texts, "_download", missing)
    assert cli.main(["reproduce", "--corpus", "time_machine"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "d2l-deeprnn: error: The Time Machine could not be had\n"


def test_a_users_own_file(fake_training, capsys, tmp_path):
    own = tmp_path / "mine.txt"
    own.write_text("all the traveller's time " * 300)
    assert cli.main(["reproduce", "--corpus", str(own)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "The text is mine.txt, so these results cannot be compared with the book's.\n"
    )
    assert printed.endswith("Nothing was compared: the text was mine.txt, not the book's.\n")


def test_an_interrupted_run_keeps_its_epochs(books_text, fake_training, capsys, tmp_path):
    fake_training["interrupt"] = 300
    assert cli.main(["reproduce", "--out", str(tmp_path)]) == 130
    assert "interrupted after epoch 299" in capsys.readouterr().err
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 300
    fake_training["interrupt"] = 1
    assert cli.main(["reproduce", "--out", str(tmp_path / "none")]) == 130


def test_files_of_a_run(books_text, fake_training, tmp_path):
    cli.main(["reproduce", "--seed", "3", "--num-epochs", "260", "--out", str(tmp_path)])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["seed"] == 3
    assert config["settings"]["num_epochs"] == 260 and config["settings"]["num_steps"] == 35
    assert set(config["versions"]) == {"d2l_deeprnn", "python", "mxnet", "numpy"}
    assert config["machine"]["physical_cores_available"] >= 1

    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 261))
    assert float(rows[124]["perplexity"]) == 9.005890
    assert rows[249]["prediction_2"] == "time traveller <b>" and rows[248]["prediction_2"] == ""

    picture = ElementTree.parse(tmp_path / "perplexity.svg").getroot()
    assert picture.tag.endswith("svg")


def test_report_is_one_self_contained_page(books_text, fake_training, tmp_path):
    cli.main(["reproduce", "--seed", "3", "--out", str(tmp_path)])
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.open == [] and page.loads == ["model.html"]
    assert '<meta name="viewport" content="width=device-width' in text
    assert text.count("<svg") == 1
    config = json.loads((tmp_path / "config.json").read_text())
    for shown in (
        "This run agrees with the book",
        "1.046033",
        "time traveller <b>",
        "d2l-deeprnn reproduce --corpus time_machine --num-epochs 500 --seed 3",
        "Number of hidden units",
        "MXNet",
        config["machine"]["processor"],
        f"by d2l_deeprnn {config['versions']['d2l_deeprnn']}.",
        config["begun"][:16].replace("T", " "),
    ):
        assert shown in page.shown  # predictions are escaped in the source
    for key in ("num_hiddens", "machine.", "versions.", "physical_cores"):
        assert key not in page.shown
    (label,) = re.findall('aria-label="([^"]*)"', text)
    assert "printed in the book: 9.006 at 125 to 1.036 at 500" in label
    assert "this run (seed 3): " in label


def test_a_second_report_has_the_date_of_the_run(books_text, fake_training, tmp_path):
    command = ["reproduce", "--num-epochs", "125", "--out", str(tmp_path)]
    cli.main(command)
    path = tmp_path / "config.json"
    path.write_text(
        re.sub('"begun": "[^"]*"', '"begun": "2024-02-29T12:34:56+00:00"', path.read_text())
    )
    cli.main([*command, "--resume"])
    assert "2024-02-29 12:34 UTC" in (tmp_path / "report.html").read_text()


def test_the_trained_model_gets_a_page(books_text, fake_training, tmp_path):
    cli.main(["reproduce", "--num-epochs", "1", "--out", str(tmp_path)])
    page = (tmp_path / "model.html").read_text()
    assert "<title>A recurrent network trained on The Time Machine</title>" in page
    assert ">\ntraveller</textarea>" in page
    checkpoint = load_checkpoint(tmp_path / "last.zip")
    (data,) = re.findall(r'"dense_weight":"([^"]*)"', page)
    np.testing.assert_array_equal(
        np.frombuffer(base64.b64decode(data), "<f2"),
        checkpoint.arrays["params/dense.weight"].astype("float16").ravel(),
    )


def test_a_model_that_has_diverged_gets_none(books_text, fake_training, monkeypatch, tmp_path):
    trained = reproduce.trained_model

    def broken(run, out):
        model = trained(run, out)
        model.dense.bias.set_data(model.dense.bias.data() * float("nan"))
        return model

    cli.main(["reproduce", "--num-epochs", "1", "--out", str(tmp_path)])
    monkeypatch.setattr(reproduce, "trained_model", broken)
    assert cli.main(["reproduce", "--resume", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "model.html").exists()
    report = (tmp_path / "report.html").read_text()
    assert "There is no page of the model: " in report and "model.html" not in report


def test_seed_and_text_reach_the_training(monkeypatch):
    seen = {}

    def train(model, num_hiddens, indices, vocab, ctx, *settings, **kwargs):
        import random

        seen.update(draw=random.random(), indices=indices, settings=settings, hiddens=num_hiddens)

    monkeypatch.setattr(reproduce, "train_and_predict_rnn_gluon", train)
    import random

    run = reproduce.prepare(corpora.SAMPLE_TEXT, 7, 42)
    reproduce.train_run(run)
    assert seen["draw"] == random.Random(42).random()
    assert len(seen["indices"]) == 10000
    assert (seen["hiddens"], *seen["settings"]) == (
        256, 7, 35, 5, 1, 32, ("traveller", "time traveller"),
    )  # fmt: skip


def test_a_real_run_of_two_epochs(capsys, tmp_path):
    command = ["reproduce", "--corpus", corpora.SAMPLE_TEXT, "--num-epochs", "2"]
    assert cli.main([*command, "--out", str(tmp_path / "1")]) == 0
    assert cli.main([*command, "--out", str(tmp_path / "2")]) == 0
    first, second = (
        [line.split(",")[:2] for line in (tmp_path / n / "metrics.csv").read_text().splitlines()]
        for n in "12"
    )
    assert len(first) == 3
    assert first == second  # to the last digit
    assert float(first[2][1]) < float(first[1][1])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["reproduce", "--num-epochs", "0"], "--num-epochs: must be .* at least 1, not '0'"),
        (["reproduce", "--seed", "x"], "--seed: must be a whole number from 0 to .*, not 'x'"),
        (["reproduce", "--corpus", "no_such_text"], "'no_such_text' is neither a known text nor"),
        (["corpora", "fetch", "time_machin"], "did you mean 'time_machine'"),
        (["reprodcue"], "reprodcue"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, arguments, message):
    try:
        status = cli.main(arguments)
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    assert status == 2
    assert len(captured.err.splitlines()) == 1
    assert re.search(message, captured.err)
    assert captured.out == ""


def test_an_unusable_directory_is_found_before_training(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(reproduce, "train_run", lambda *args, **kwargs: pytest.fail("was trained"))
    (tmp_path / "file").write_text("kept")
    command = ["reproduce", "--corpus", corpora.SAMPLE_TEXT, "--out"]
    assert cli.main([*command, str(tmp_path / "file")]) == 2
    assert re.search("/file is not a directory", capsys.readouterr().err)
    assert (tmp_path / "file").read_text() == "kept"

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    assert cli.main([*command, str(tmp_path / "full")]) == 2
    assert "full/config.json: No space left on device" in capsys.readouterr().err


def test_corpora_lists_every_text(monkeypatch, capsys):
    monkeypatch.delenv(known_texts.DATA_VARIABLE, raising=False)
    assert cli.main(["corpora"]) == 0
    printed = capsys.readouterr().out
    for name, text in corpora.KNOWN_TEXTS.items():
        assert name in printed and text.title in printed
    assert printed.count("not on this machine") == 4
    assert cli.main(["corpora", "fetch", corpora.SAMPLE_TEXT]) == 0
    assert capsys.readouterr().out.strip().endswith(f"{corpora.SAMPLE_TEXT}.txt")


def test_picture_marks_the_books_points_and_names_its_axes(books_text, fake_training):
    run = reproduce.prepare("time_machine", 500, 0)
    reproduce.train_run(run, log=lambda line: None)
    (axes,) = report.figure(run).axes
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "epoch" and "perplexity" in axes.get_ylabel()
    curve, points = axes.get_lines()
    assert len(curve.get_xdata()) == 500
    assert list(points.get_xdata()) == [125, 250, 375, 500]
    assert list(points.get_ydata()) == [line.perplexity for line in book.PRINTED]


@pytest.mark.slow
def test_the_chapter_in_full(book_dir, capsys, tmp_path):
    """500 epochs on the book's text: verdict and predictions."""
    assert cli.main(["reproduce", "--corpus", "time_machine", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "This run agrees with the book: 4 of 4 values in their bands." in printed
    assert re.search("after epoch 500, word for word in the text:", printed)
    with open(tmp_path / "metrics.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert last["epoch"] == "500" and float(last["perplexity"]) <= 1.06


# Safe resuming, as in `train`.


@pytest.fixture
def small_chapter(monkeypatch):
    """The chapter's training with a small network."""
    small = dataclasses.replace(book.CHAPTER, num_hiddens=8, num_examples=3000)
    monkeypatch.setattr(book, "CHAPTER", small)


def rows(out):
    with open(out / "metrics.csv", newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def assert_same_run(out, whole):
    found, expected = (load_checkpoint(path / "last.zip") for path in (out, whole))
    assert found.arrays.keys() == expected.arrays.keys()
    for name in expected.arrays:
        assert np.array_equal(found.arrays[name], expected.arrays[name]), name
    assert found.data["random"] == expected.data["random"]
    assert rows(out) == rows(whole)


def contents(directory):
    return {path: path.read_bytes() for path in directory.iterdir()}


SAMPLE = ["reproduce", "--corpus", corpora.SAMPLE_TEXT]


def test_a_run_is_never_written_over_another(small_chapter, tmp_path, capsys):
    trained, reproduced, thesis = (tmp_path / name for name in ("train", "reproduce", "thesis"))
    words = ["--corpus", corpora.SAMPLE_TEXT, "--num-hiddens=8", "--num-epochs=1"]
    assert cli.main(["train", *words, "--out", str(trained)]) == 0
    assert cli.main([*SAMPLE, "--num-epochs=2", "--out", str(reproduced)]) == 0
    thesis.mkdir()
    (thesis / "thesis.tex").write_text("years of work")
    directories = (trained, reproduced, thesis)
    (thesis / ".lock").touch()  # left over when a directory was refused
    before = [contents(path) for path in directories]
    capsys.readouterr()
    for command, out, message in [
        (SAMPLE, trained, "contains a run"),
        (
            [*SAMPLE, "--resume"],
            trained,
            "contains a run of `train`, which `reproduce` cannot resume",
        ),
        (SAMPLE, reproduced, "already contains a run: resume it (--resume)"),
        ([*SAMPLE, "--resume", "--seed", "1"], reproduced, "another seed (0, not 1)"),
        ([*SAMPLE, "--resume", "--num-epochs=1"], reproduced, "num_epochs must be at least 2"),
        ([*SAMPLE[:2], "the_tide_tables", "--resume"], reproduced, "the text has changed"),
        (SAMPLE, thesis, "is not empty and contains no run (it contains thesis.tex)"),
        (["train", *words], reproduced, "contains a run"),
        (["train", *words, "--resume"], reproduced, "contains a run of `reproduce`, which `train`"),
        (["train", "--resume"], reproduced, "contains a run of `reproduce`, which `train`"),
    ]:
        assert cli.main([*command, "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line, line
    assert before == [contents(path) for path in directories]
    with open(reproduced / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli.main(["reproduce", "--resume", "--out", str(reproduced)]) == 2
    assert "another process is training in" in capsys.readouterr().err


def test_interrupted_and_resumed_it_ends_the_same(small_chapter, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "stopped"
    command = [*SAMPLE, "--num-epochs", "12"]
    assert cli.main([*command, "--out", str(whole)]) == 0
    backward, left = nd.NDArray.backward, []

    def interrupted(loss, *args, **kwargs):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return backward(loss, *args, **kwargs)

    # Ctrl-C in the middle of an epoch, which has two minibatches.
    statuses = []
    with monkeypatch.context() as patched:
        patched.setattr(nd.NDArray, "backward", interrupted)
        for minibatches in (3, 1, 5, 3, 7, 99):
            left[:] = [None] * minibatches
            statuses.append(cli.main([*command, "--resume", "--out", str(out)]))
            command = ["reproduce"]
    assert statuses == [130] * 5 + [0]
    assert_same_run(out, whole)


def test_stopped_by_the_caller_and_resumed_it_ends_the_same(small_chapter, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "stopped"
    lines, stops = [[], []], [1, 4, 5, 99]
    how = {"corpus": corpora.SAMPLE_TEXT, "num_epochs": 8, "seed": 3}
    with reproduce.directory(whole, **how) as (run, directory):
        reproduce.train_run(run, out=directory, log=lines[0].append)
        predictions = [record.predictions for record in run.history]
    for epoch in stops:
        how = how if epoch == 1 else {}
        with reproduce.directory(out, resume=True, **how) as (run, directory):
            reproduce.train_run(
                run,
                out=directory,
                log=lines[1].append,
                should_stop=lambda: len(run.history) >= epoch,  # noqa: B023
            )
            assert len(run.history) == min(epoch, 8)
    assert_same_run(out, whole)
    assert [record.predictions for record in run.history] == predictions
    assert any(predictions)
    without_times = [[re.sub(r"time [\d.]+", "", line) for line in found] for found in lines]
    assert without_times[0] == without_times[1]


def test_more_epochs_on_resume(small_chapter, tmp_path, capsys):
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert cli.main([*SAMPLE, "--num-epochs", "6", "--out", str(whole)]) == 0
    assert cli.main([*SAMPLE, "--num-epochs", "4", "--out", str(out)]) == 0
    capsys.readouterr()
    assert cli.main(["reproduce", "--resume", "--num-epochs", "6", "--out", str(out)]) == 0
    assert "Resuming after epoch 4" in capsys.readouterr().out
    found, expected = (load_checkpoint(path / "last.zip").arrays for path in (out, whole))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert [row["perplexity"] for row in rows(out)] == [r["perplexity"] for r in rows(whole)]
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["num_epochs"] == 6
    assert config["changes"] == [{"epochs_begun": 4, "num_epochs": {"from": 4, "to": 6}}]
    assert cli.main(["reproduce", "--resume", "--out", str(out)]) == 0
    assert "All 6 epochs are done" in capsys.readouterr().out


def test_the_history_is_written_while_it_runs(small_chapter, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "SAVE_SECONDS", 0.0)
    with reproduce.directory(tmp_path, corpus=corpora.SAMPLE_TEXT, num_epochs=3) as (run, out):

        def look(record):
            assert len(rows(tmp_path)) == record.epoch
            history = load_checkpoint(tmp_path / "last.zip").data["history"]
            assert len(history) == record.epoch

        reproduce.train_run(run, out=out, on_epoch=look, log=lambda line: None)


def test_a_lost_or_foreign_checkpoint_is_not_started_over(small_chapter, tmp_path, capsys):
    for seed in "01":
        words = ["--num-epochs", "2", "--seed", seed, "--out", str(tmp_path / seed)]
        assert cli.main([*SAMPLE, *words]) == 0
    out = tmp_path / "0"
    resume = ["reproduce", "--resume", "--out", str(out)]
    for damage, message in [
        (lambda path: path.unlink(), "is missing: restore it"),
        (lambda path: shutil.copy(tmp_path / "1" / "last.zip", path), "belongs to another run"),
        (lambda path: path.write_bytes(b"PK"), "cannot be loaded"),
    ]:
        damage(out / "last.zip")
        before = contents(out)
        capsys.readouterr()
        assert cli.main(resume) == 2
        assert message in capsys.readouterr().err
        assert before == contents(out)
    for name in ("last.zip", "metrics.csv"):
        (out / name).unlink()
    with pytest.warns(UserWarning, match="has no checkpoint yet"):
        assert cli.main(resume) == 0
    assert rows(out) != rows(tmp_path / "1") and len(rows(out)) == 2


def test_a_run_on_a_text_that_has_moved(small_chapter, tmp_path, monkeypatch, capsys):
    text = tmp_path / "mine.txt"
    text.write_text("all the traveller's time, and more of it; " * 200)
    monkeypatch.chdir(tmp_path)
    command = ["reproduce", "--corpus", "mine.txt", "--num-epochs"]
    assert cli.main([*command, "4", "--out", "whole"]) == 0
    assert cli.main([*command, "2", "--out", "run"]) == 0
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    resume = ["reproduce", "--resume", "--out", "../run"]
    assert cli.main([*resume, "--num-epochs", "3"]) == 0
    text.rename(tmp_path / "new.txt")
    capsys.readouterr()
    assert cli.main(resume) == 2
    assert "no longer at" in capsys.readouterr().err
    assert cli.main([*resume, "--corpus", "../new.txt", "--num-epochs", "4"]) == 0
    monkeypatch.chdir(tmp_path)
    assert [r["perplexity"] for r in rows(Path("run"))] == [
        r["perplexity"] for r in rows(Path("whole"))
    ]
    config = json.loads(Path("run/config.json").read_text())
    assert config["text"]["paths"] == [str(tmp_path / "sub" / ".." / "new.txt")]
    assert cli.main(["reproduce", "--resume", "--out", "run"]) == 0


def test_a_sample_run_is_not_resumed_when_the_book_is_available(
    small_chapter, fake_training, monkeypatch, capsys, tmp_path
):
    monkeypatch.delenv(known_texts.DATA_VARIABLE, raising=False)
    with monkeypatch.context() as offline:
        offline.setattr(known_texts, "_download", missing)
        command = ["reproduce", "--num-epochs", "2", "--out", str(tmp_path)]
        assert cli.main(command) == 3
        assert cli.main([*command, "--resume"]) == 3
    sample = corpora.find_text(corpora.SAMPLE_TEXT)
    monkeypatch.setattr(corpora, "find_text", lambda name: sample)
    capsys.readouterr()
    assert cli.main([*command, "--resume"]) == 2
    assert "uses a sample, the_clockmakers_guest" in capsys.readouterr().err
    assert cli.main([*command, "--resume", "--corpus", corpora.SAMPLE_TEXT]) == 0


def test_the_requested_device_is_used(small_chapter, monkeypatch, capsys, tmp_path):
    # MXNet numbers CPU devices too; all of them are the same one.
    monkeypatch.setattr(library, "named_device", {"gpu(1)": mx.cpu(1), "cpu": mx.cpu(2)}.get)
    seen, trained = [], reproduce.trained_model

    def noted(run, out):
        model = trained(run, out)
        seen.append((run.ctx, library.device_of(model)))
        return model

    monkeypatch.setattr(reproduce, "trained_model", noted)
    train = reproduce.train_and_predict_rnn_gluon

    def train_noted(model, num_hiddens, indices, vocab, ctx, *rest, **how):
        seen.append(ctx)
        return train(model, num_hiddens, indices, vocab, ctx, *rest, **how)

    monkeypatch.setattr(reproduce, "train_and_predict_rnn_gluon", train_noted)
    words = [*SAMPLE, "--num-epochs=1", "--device=gpu(1)", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    assert seen == [mx.cpu(1), (mx.cpu(1), mx.cpu(1))]
    assert json.loads((tmp_path / "config.json").read_text())["device"] == "cpu(1)"
    seen.clear()
    resume = ["reproduce", "--resume", "--num-epochs=2", "--device=cpu", "--out", str(tmp_path)]
    assert cli.main(resume) == 0
    assert cli.main(["report", str(tmp_path), "--device=gpu(1)"]) == 0
    assert seen == [mx.cpu(2), (mx.cpu(2), mx.cpu(2)), (mx.cpu(1), mx.cpu(1))]
    seen.clear()
    assert cli.main([*SAMPLE, "--num-epochs=1"]) == 0
    assert seen == [library.try_gpu()]


def test_an_unknown_device_is_refused(capsys, tmp_path):
    assert cli.main([*SAMPLE, "--device=tpu", "--out", str(tmp_path / "run")]) == 2
    assert "device must be cpu, gpu or one GPU such as gpu(1), not 'tpu'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    for begin in (
        lambda ctx: reproduce.prepare(corpora.SAMPLE_TEXT, 1, 0, ctx=ctx),
        lambda ctx: reproduce.directory(tmp_path / "run", ctx=ctx).__enter__(),
    ):
        with pytest.raises(TypeError, match="ctx must be a single device, not the list"):
            begin([mx.cpu()])


def test_resume_needs_a_directory(capsys):
    assert cli.main(["reproduce", "--resume"]) == 2
    assert "--resume needs --out DIR" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a$^$.txt", "_a.txt", "a\n<b>.txt", b"\xff\xfe.txt"])
def test_a_text_may_have_any_name(small_chapter, capsys, tmp_path, name):
    own = os.path.join(str(tmp_path), os.fsdecode(name))
    try:
        with open(own, "w") as file:
            file.write("all the traveller's time " * 300)
    except OSError as error:
        pytest.skip(f"this file system has no such names: {error}")
    out = os.path.join(str(tmp_path), "out " + os.fsdecode(name))
    shown = files.printable(os.path.basename(own))
    command = ["reproduce", "--corpus", own, "--num-epochs", "1", "--out", out]
    assert cli.main(command) == 0
    assert f"The text is {shown}, so these results" in capsys.readouterr().out
    page = Page((Path(out) / "report.html").read_bytes().decode("utf-8"))
    assert f"on {shown}" in page.shown and page.open == []
    assert json.loads((Path(out) / "config.json").read_text())["corpus"] == own
    assert cli.main([*command, "--resume"]) == 0
    assert cli.main(["plot", out, "--output", str(tmp_path / "curves.png")]) == 0


@pytest.mark.parametrize(
    "name, status",
    [
        ("SIGINT", 130),
        pytest.param("SIGTERM", 143, marks=pytest.mark.slow),
        pytest.param("SIGHUP", 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_keeps_all_epochs(tmp_path, name, status):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "d2l_deeprnn", *SAMPLE, "--out", str(out)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not (out / "metrics.csv").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    printed, errors = process.communicate()
    assert process.returncode == status
    done = len(rows(out))
    assert f"interrupted after epoch {done}; to resume: d2l-deeprnn reproduce --resume" in errors
    assert "Traceback" not in errors and done >= 1
    assert len(load_checkpoint(out / "last.zip").data["history"]) == done
    assert (out / "report.html").exists()


@pytest.mark.slow
def test_killed_and_resumed_it_ends_the_same(tmp_path, seeded):
    whole, out = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "d2l_deeprnn", *SAMPLE, "--num-epochs", "30"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    assert subprocess.run([*command, "--out", str(whole)], **quiet).returncode == 0
    draw = random.Random(seeded)
    kills, status = 0, None
    while status != 0:
        process = subprocess.Popen([*command, "--resume", "--out", str(out)], **quiet)
        if kills < 5:
            try:
                process.wait(draw.uniform(0, 8))
            except subprocess.TimeoutExpired:
                process.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM]))
                kills += 1
        status = process.wait()
        assert status in (0, -signal.SIGKILL, -signal.SIGTERM, 143)
    assert kills
    assert_same_run(out, whole)


def test_chapter_runs_are_recognized(tmp_path):
    results = Path(__file__).parents[2] / "results"
    assert reproduce.is_chapter_run(results / "chapter")
    assert not reproduce.is_chapter_run(results / "tinyshakespeare")
    assert not reproduce.is_chapter_run(tmp_path)
