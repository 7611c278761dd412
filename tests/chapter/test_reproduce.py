"""A reproduction from the command line to the report, with short or fake training."""

from __future__ import annotations

import base64
import csv
import dataclasses
import fcntl
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup
from report_page import Page

import d2l_deeprnn as d2l
from d2l_deeprnn import cli, files
from d2l_deeprnn._mxnet import gluon, library, mx, nd
from d2l_deeprnn.chapter import book, report, reproduce
from d2l_deeprnn.evidence import figures
from d2l_deeprnn.text import corpora, known_texts
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.checkpoint import Checkpoint, load_checkpoint
from d2l_deeprnn.training.learner import Learner, initial_state, new_model
from d2l_deeprnn.training.run_directory import run_directory
from d2l_deeprnn.training.trainer import TrainRecord


@pytest.fixture
def drawn():
    """For tests that look at the picture of a run."""


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Draw no pictures for other tests, since it takes longer than a small run."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(figures, "to_svg", lambda figure: "")
        monkeypatch.setattr(figures, "save_figure", lambda figure, path: path.touch())
        monkeypatch.setattr(report.pages, "svg", lambda figure: Markup())


@pytest.fixture
def books_text(monkeypatch):
    """Use a sample under the name of the book's text, since the results here are made up."""
    sample = corpora.find_text(corpora.SAMPLE_TEXT)
    monkeypatch.setattr(corpora, "find_text", lambda name: sample)


@pytest.fixture
def fake_training(monkeypatch):
    """Fake training that returns the perplexities in a dictionary, by default the book's."""
    told = {}
    printed = {line.epoch: line.perplexity for line in book.BOOK.printed}

    def train(settings, out, *, resume, on_start, on_epoch, should_stop, ctx):
        text = runs.read_text_parts(settings)
        ctx = ctx or library.try_gpu()
        model = new_model(settings, len(text.vocab), ctx)
        with run_directory(out, resume=resume) as directory:
            history = []
            if directory.config is None:
                directory.begin(
                    runs._config(settings, runs._describe_text(settings, text), device=str(ctx))
                )
            elif directory.has("last.zip"):
                history = runs.load_run(out, checkpoint="last").history
            on_start(SimpleNamespace(history=history, position=0, model=model, ctx=ctx), text)
            try:
                for epoch in range(len(history) + 1, settings.num_epochs + 1):
                    if epoch == told.get("interrupt"):
                        raise KeyboardInterrupt
                    known = dict(enumerate(book.BOOK.first_losses.get(settings.seed, ()), 1))
                    usual = math.exp(known.get(epoch, math.log(12.0)))
                    loss = math.log(told.get(epoch, printed.get(epoch, usual)))
                    history.append(TrainRecord(epoch, loss, None, 5.0, epoch / 10))
                    on_epoch(history[-1])
            finally:
                if history:
                    arrays, state = initial_state(settings, model, ctx, history)
                    data = {"learner": state, "vocab": text.vocab.idx_to_token}
                    saved = Checkpoint(arrays, data)
                    directory.save_checkpoints(saved, None, runs._metrics_csv(history))

    texts = {"traveller": "traveller a", "time traveller": "time traveller <b>"}
    last = dict(zip(texts, book.BOOK.predictions[500]))
    monkeypatch.setattr(reproduce.runs, "train", train)
    monkeypatch.setattr(
        reproduce, "predict_rnn_gluon", lambda prefix, *rest: texts.pop(prefix, last[prefix])
    )
    return told


def test_a_run_that_agrees(books_text, fake_training, capsys, tmp_path):
    out = tmp_path / "new" / "folder"
    assert cli.main(["reproduce", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    # the book's own format
    assert re.search(r"^epoch 125, perplexity 9\.005890, time \d+\.\d\d sec$", printed, re.M)
    verdict, table = printed.split("\n\n")[1:3]
    assert verdict == "This run agrees with the book: all 4 values are in the expected range."
    title, heading, *values, note = table.splitlines()
    assert title == "Training perplexity"
    assert heading.split() == ["epoch", "book", "run", "expected", "agrees"]
    assert re.fullmatch(r"  125 +9\.006 +9\.006 +\d+\.\d{3} to \d+\.\d{3} +yes", values[0])
    assert re.fullmatch(r"  500 +1\.036 +1\.036 +\d\.\d{3} to \d\.\d{3} +yes", values[3])
    assert note == "Of a hundred right runs, a few are outside an expected range."
    assert "  book  traveller smiled. 'are you sure we can move freely in space\n" in printed
    assert "  run   traveller a\n" in printed
    assert "not the book's" not in printed
    assert printed.endswith(f"\nReport: {(out / 'report.html').as_uri()}\n")
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "config.json", "last.zip", "metrics.csv", "model.html", "perplexity.svg",
        "predictions.csv", "report.html",
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
    assert len(re.findall(" no$", printed, re.M)) == 1


def test_a_value_on_a_jump_is_shown_with_the_one_that_is_judged(books_text, fake_training, capsys):
    fake_training.update({375: 3.5, **dict.fromkeys(range(361, 375), 1.03)})
    assert cli.main(["reproduce"]) == 0
    printed = capsys.readouterr().out
    assert re.search("\nepoch +book +run +smoothed +expected +agrees\n", printed)
    assert re.search(r"\n +375 +1\.024 +3\.500 +1\.030 +1\.015 to 1\.070 +yes\n", printed)


def test_first_losses_of_another_training(books_text, fake_training, capsys):
    fake_training[3] = 20.0
    assert cli.main(["reproduce", "--num-epochs=4", "--seed=5"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "with seed 5, the loss of epoch 3 is 3.048506 on any processor, not 2.995732" in said
    assert cli.main(["reproduce", "--num-epochs=4", "--seed=10"]) == 0  # not known


@pytest.mark.parametrize("command, status", [("train", 0), ("reproduce", 1)])
def test_first_losses_of_an_earlier_version(
    books_text, fake_training, capsys, tmp_path, command, status
):
    """Up to 0.3, `train` drew other first weights than `reproduce`."""
    fake_training[3] = 20.0
    words = ["reproduce", "--out", str(tmp_path)]
    assert cli.main([*words, "--num-epochs=4", "--seed=5"]) == 1
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["versions"]["d2l_deeprnn"] = "0.3.0"
    if command == "reproduce":
        config["stacked"] = False  # as upgraded_config does
    path.write_text(json.dumps(config))
    capsys.readouterr()
    assert cli.main([*words, "--resume"]) == status
    assert ("on any processor" in capsys.readouterr().out) == bool(status)


def test_other_predictions_than_all_runs_made(books_text, fake_training, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "predict_rnn_gluon", lambda prefix, *rest: prefix + " eee")
    assert cli.main(["reproduce"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "the prediction after epoch 500, 'traveller eee', is not the book's" in said
    assert "prediction after epoch 250, 'traveller eee', is" not in said


def test_predictions_without_a_letter_are_not_shown(books_text, fake_training, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "predict_rnn_gluon", lambda prefix, *rest: prefix + "  ' ")
    assert cli.main(["reproduce", "--num-epochs=4"]) == 0
    assert "traveller" not in capsys.readouterr().out


def test_the_comparison_as_json(books_text, fake_training, capsys, tmp_path):
    assert cli.main(["reproduce", "--json", "--out", str(tmp_path)]) == 0
    printed, others = capsys.readouterr()
    result = json.loads(printed)
    assert result["agrees"] is True and result["verdict"] in others and "epoch 125, " in others
    assert [row["printed"] for row in result["values"]] == [
        line.perplexity for line in book.BOOK.printed
    ]
    low, high = result["values"][3]["expected"]
    assert low < result["values"][3]["perplexity"] == 1.036108 < high
    assert result["predictions"][-1]["text"] == book.BOOK.predictions[500][1]
    assert (result["epochs"], result["num_epochs"], result["seed"]) == (500, 500, 0)
    assert cli.main(["reproduce", "--json", "--corpus", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().out == ""


def test_too_short_to_be_compared(books_text, fake_training, capsys):
    assert cli.main(["reproduce", "--num-epochs", "124"]) == 0
    printed = capsys.readouterr().out
    assert "Nothing was compared: the book's first value is for epoch 125, and this run" in printed


def test_a_sample_replaces_the_book_and_is_named(
    drawn, fake_training, monkeypatch, capsys, tmp_path
):
    monkeypatch.delenv(known_texts.DATA_VARIABLE, raising=False)
    monkeypatch.setattr(known_texts, "_download", missing)
    fake_training.update({125: 7.25, 250: 1.25, 375: 1.125, 500: 1.0625})
    assert cli.main(["reproduce", "--out", str(tmp_path)]) == 3
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("The book's text is not available; training on a sample text")
    figures = [i for i, line in enumerate(printed) if re.search(r"\d\.\d{2}", line)]
    assert len(figures) == 4 + 1  # the book's lines, and the last epoch
    before = (
        "The text is The Clockmaker's Guest, so these results cannot be compared with the book's."
    )
    after = "Nothing was compared: the text was The Clockmaker's Guest, not the book's."
    named = [i for i, line in enumerate(printed) if "The Clockmaker's Guest" in line]
    start = "500 epochs on The Clockmaker's Guest, less than two minutes. Ctrl-C is safe: resume"
    assert [printed[i] for i in named] == [
        before, f"{start} with --resume --out {tmp_path}", after
    ]  # fmt: skip
    assert named[0] < named[1] < figures[0] and figures[-2] < named[2] < figures[-1]
    page = (tmp_path / "report.html").read_text()
    assert page.count("not the book&#39;s") == 1
    assert "text was not available. The Time Machine could not be had" in page
    assert '<p class="verdict open">Nothing was compared: the text was The Clockmaker' in page
    assert "9.005890" not in page
    assert "printed in the book" not in (tmp_path / "perplexity.svg").read_text()


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
    assert "Ctrl-C loses everything, unless you add --out DIR\n" in printed
    assert "\nNothing was compared: the text was mine.txt, not the book's.\n" in printed


def test_an_interrupted_run_keeps_its_epochs(books_text, fake_training, capsys, tmp_path):
    fake_training["interrupt"] = 300
    assert cli.main(["reproduce", "--out", str(tmp_path)]) == 130
    assert "interrupted after epoch 299" in capsys.readouterr().err
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 300
    fake_training["interrupt"] = 1
    assert cli.main(["reproduce", "--out", str(tmp_path / "none")]) == 130


def test_files_of_a_run(drawn, books_text, fake_training, tmp_path):
    cli.main(["reproduce", "--seed", "3", "--num-epochs", "260", "--out", str(tmp_path)])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["settings"]["seed"] == 3 and config["settings"]["corpus"] == ["time_machine"]
    assert config["settings"]["num_epochs"] == 260 and config["settings"]["num_steps"] == 35
    assert set(config["versions"]) == {"d2l_deeprnn", "python", "mxnet", "numpy"}
    assert config["machine"]["physical_cores_available"] >= 1
    assert [int(row["epoch"]) for row in rows(tmp_path)] == list(range(1, 261))
    assert float(rows(tmp_path)[124]["train_loss"]) == math.log(9.005890)
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        "epoch,prefix,prediction",
        "130,traveller,traveller a",
        "130,time traveller,time traveller <b>",
        f"260,traveller,{book.BOOK.predictions[500][0]}",
        f"260,time traveller,{book.BOOK.predictions[500][1]}",
    ]

    picture = ElementTree.parse(tmp_path / "perplexity.svg").getroot()
    assert picture.tag.endswith("svg")


def test_report_is_one_self_contained_page(drawn, books_text, fake_training, tmp_path):
    cli.main(["reproduce", "--seed", "3", "--out", str(tmp_path)])
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.open == [] and page.loads == ["model.html"]
    assert '<meta name="viewport" content="width=device-width' in text
    assert text.count("<svg") == 1
    config = json.loads((tmp_path / "config.json").read_text())
    for shown in (
        "This run agrees with the book",
        "1.046",
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
    load_run = report.load_run

    def broken(*args, **kwargs):
        run = load_run(*args, **kwargs)
        run.model.dense.bias.set_data(run.model.dense.bias.data() * float("nan"))
        return run

    cli.main(["reproduce", "--num-epochs", "1", "--out", str(tmp_path)])
    monkeypatch.setattr(report, "load_run", broken)
    assert cli.main(["reproduce", "--resume", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "model.html").exists()
    page = (tmp_path / "report.html").read_text()
    assert "There is no page of the model: " in page and "model.html" not in page


def test_a_run_is_that_of_the_chapters_function(small_chapter, tmp_path):
    lines, expected = [], []
    run = reproduce.reproduce(tmp_path, corpora.SAMPLE_TEXT, 2, 42, log=lines.append)
    indices, vocab = d2l.load_corpus(corpora.SAMPLE_TEXT, 3000)
    d2l.set_seed(42)
    model = d2l.RNNModel(gluon.rnn.LSTM(8, 2), len(vocab))
    history = d2l.train_and_predict_rnn_gluon(
        model, 8, indices, vocab, d2l.try_gpu(), 2, 35, 5, 1, 32,
        ["traveller", "time traveller"], log=expected.append,
    )  # fmt: skip
    without_times = [
        [re.sub(r"time [\d.]+", "", line) for line in each] for each in (lines, expected)
    ]
    assert without_times[0] == without_times[1] and len(lines) == 6
    assert [r[:2] + r[3:] for r in run.history] == [r[:2] + r[3:] for r in history]
    trained = d2l.load_run(tmp_path, checkpoint="last").model
    X = nd.array([[1, 2, 3]])
    scores = [m(X, m.begin_state(batch_size=1))[0].asnumpy() for m in (trained, model)]
    np.testing.assert_array_equal(*scores)


def test_a_run_can_be_used_like_any_other(small_chapter, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    two, four = "--num-epochs=2", "--num-epochs=4"
    assert cli.main([*SAMPLE, two, "--out", str(first)]) == 0
    for words in (["generate", str(first)], ["runs", str(tmp_path)]):
        assert cli.main(words) == 0
    # Either command resumes it; predictions that are missing are made.
    assert cli.main(["train", "--resume", four, "--out", str(first)]) == 0
    assert cli.main(["reproduce", "--resume", "--out", str(first)]) == 0
    assert sorted(reproduce.read_predictions(first)) == [1, 2, 4]
    # So is a run of `train` with the chapter's settings.
    preset = ["train", "--preset", "chapter", *SAMPLE[1:], two]
    assert cli.main([*preset, "--out", str(second)]) == 0
    assert cli.main(["reproduce", "--resume", four, "--out", str(second)]) == 0
    assert sorted(reproduce.read_predictions(second)) == [2, 4]
    assert rows(first) == rows(second)


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
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert re.search(message, captured.err)
    assert captured.out == ""


def test_an_unusable_directory_is_found_before_training(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(Learner, "fit", lambda *args, **kwargs: pytest.fail("was trained"))
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


def test_picture_marks_the_books_points_and_names_its_axes(books_text, fake_training, tmp_path):
    run = reproduce.reproduce(tmp_path, "time_machine", log=lambda line: None)
    (axes,) = report.figure(run).axes
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "epoch" and "perplexity" in axes.get_ylabel()
    *others, curve = [line for line in axes.get_lines() if len(line.get_xdata()) == 500]
    assert len(others) == 9 and curve.get_marker() == "None"
    marks = [line for line in axes.get_lines() if line.get_marker() == "D"]
    assert [x for mark in marks for x in mark.get_xdata()] == [125, 250, 375, 500]
    printed = [line.perplexity for line in book.BOOK.printed]
    assert [y for mark in marks for y in mark.get_ydata()] == printed
    level = axes.get_lines()[-1]
    bars = [tuple(bar.get_segments()[0][:, 1]) for bar in axes.collections]
    assert bars == [(band.low, band.high) for band in book.BOOK.bands.values()]
    assert set(level.get_ydata()) == {book.UNIGRAM_PERPLEXITY}
    notes = [text.get_text() for text in axes.texts]
    assert "recites the text" in notes and not any("jump" in note for note in notes)
    assert report.figure(run).alt.startswith("All 4 values are in the expected range. ")
    run.history[:] = [r._replace(perplexity=3.0 if r.epoch == 375 else 1.02) for r in run.history]
    (note,) = [t for t in report.figure(run).axes[0].texts if "a jump" in t.get_text()]
    assert note.xy == (375, 3.0)
    # The other seeds' curves end with the chapter.
    run.history += [run.history[-1]._replace(epoch=epoch) for epoch in (501, 502)]
    lengths = {len(line.get_xdata()) for line in report.figure(run).axes[0].get_lines()}
    assert {500, 502} <= lengths


def test_a_picture_of_few_epochs_ends_where_they_do(books_text, fake_training, tmp_path):
    run = reproduce.reproduce(tmp_path, "time_machine", 8, 10, log=lambda line: None)
    picture = report.figure(run)
    (axes,) = picture.axes
    *others, curve = axes.get_lines()
    assert len(others) == 10  # no run of them has this seed
    assert {max(line.get_xdata()) for line in axes.get_lines()} == {8} and axes.get_xlim()[1] < 9
    assert picture.heading == "The first 8 epochs"
    run.history[1:], history = [], run.history[:]
    assert report.figure(run).heading == "The first epoch"
    run.history[:] = history
    assert [text.get_text() for text in axes.texts] == ["this run (seed 10)"]
    run.history += [run.history[-1]._replace(epoch=epoch) for epoch in range(9, 131)]
    axes = report.figure(run).axes[0]
    (points,) = [line for line in axes.get_lines() if line.get_marker() == "D"]
    assert list(points.get_xdata()) == [125]
    assert report.figure(run).heading == "The value is in the expected range"
    run.history += [run.history[-1]._replace(epoch=epoch) for epoch in range(131, 251)]
    run.history[-1] = run.history[-1]._replace(perplexity=1.06)
    assert report.figure(run).heading == "Both values are in the expected range"
    assert report.verdict(run).text.endswith("both values are in the expected range.")


def test_the_report_marks_where_a_prediction_differs(books_text, fake_training, tmp_path):
    run = reproduce.reproduce(tmp_path, num_epochs=500)
    printed = book.BOOK.predictions[500][0]
    texts = printed, printed[:30] + "<b>", "  "
    run.history[-1] = run.history[-1]._replace(predictions=texts)
    run.text = printed
    page = Page(report.html(run, {}))
    rows = [row for row in page.rows if row and row[0] == "500" and len(row) == 4]
    assert rows == [
        ["500", printed, printed, "yes"],
        ["500", book.BOOK.predictions[500][1], texts[1], "no"],
    ]
    assert "<mark>" in report.html(run, {}) and "&lt;b&gt;</mark>" in report.html(run, {})
    run.history[-1] = run.history[-1]._replace(predictions=texts[:1])
    assert report.html(run, {}).count("<mark>") == 2  # in the predictions of epoch 250
    assert "what differs is underlined" in report.html(run, {})
    run.history[:] = [record._replace(predictions=()) for record in run.history]
    run.history[-1] = run.history[-1]._replace(predictions=(printed,))
    assert "what differs is underlined" not in report.html(run, {})


def test_the_lectures_settings(drawn, books_text, fake_training, capsys, tmp_path):
    fake_training.update({line.epoch: line.perplexity for line in book.LECTURE.printed})
    command = ["reproduce", "--settings", "lecture", "--out", str(tmp_path)]
    assert cli.main([*command, "--num-epochs", "1200"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^epoch (\d+), perplexity ([\d.]+)", printed, re.M) == [
        ("500", "1.028183"), ("1000", "1.020994"),
    ]  # fmt: skip
    assert sorted(reproduce.read_predictions(tmp_path)) == [500, 1000]
    assert re.search(r"\n +500 +1\.0282 +1\.0282 +\+0\.0000\n", printed)
    theirs = "traveller. 'but now you begin to see the object of my inves"
    assert f"  lecture  {theirs}\n  run      traveller a\n" in printed
    settings = json.loads((tmp_path / "config.json").read_text())["settings"]
    assert (settings["lr"], settings["clipping_theta"]) == (100, 0.01)
    assert reproduce.printed_training(tmp_path) is book.LECTURE
    page = Page((tmp_path / "report.html").read_text())
    assert "--num-epochs 1200 --seed 0 --settings lecture --out repeated" in page.shown
    assert "To repeat it:" in page.shown and "quoted from the text" in page.shown
    assert "1 is certain, and lower is better" in page.shown and "16 April 2019" in page.shown
    assert "printed in the lecture" in (tmp_path / "report.html").read_text()
    assert cli.main(["plot", str(tmp_path), "--output", str(tmp_path / "plot.svg")]) == 0
    plot = (tmp_path / "plot.svg").read_text()
    # The axis ends where the run does, and not at the last printed value.
    assert (
        "printed in the lecture" in plot and "<!-- 1000 -->" in plot and "<!-- 3000 -->" not in plot
    )


@pytest.mark.slow
def test_the_chapter_in_full(book_dir, capsys, tmp_path):
    """500 epochs on the book's text: verdict and predictions."""
    assert cli.main(["reproduce", "--corpus", "time_machine", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "This run agrees with the book: all 4 values are in the expected range." in printed
    assert "Epoch 500 (quoted from the text):" in printed
    last = rows(tmp_path)[-1]
    assert last["epoch"] == "500" and math.exp(float(last["train_loss"])) <= 1.06


# Safe resuming, as in `train`.


def rows(out):
    with open(out / "metrics.csv", newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def assert_same_run(out, whole):
    found, expected = (load_checkpoint(path / "last.zip") for path in (out, whole))
    assert found.arrays.keys() == expected.arrays.keys()
    for name in expected.arrays:
        assert np.array_equal(found.arrays[name], expected.arrays[name]), name
    assert found.data["learner"]["random"] == expected.data["learner"]["random"]
    assert rows(out) == rows(whole)
    assert reproduce.read_predictions(out) == reproduce.read_predictions(whole)


def without_times(lines):
    return [re.sub(r"time [\d.]+", "", line) for line in lines]


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
    (thesis / ".lock").touch()  # of another program
    before = [contents(path) for path in directories]
    capsys.readouterr()
    for command, out, message in [
        (SAMPLE, trained, "contains a run"),
        (
            [*SAMPLE, "--resume"],
            trained,
            "other settings than the chapter's (--corpus, --num-examples, --valid-fraction)",
        ),
        (SAMPLE, reproduced, "already contains a run: resume it (--resume)"),
        ([*SAMPLE, "--resume", "--seed", "1"], reproduced, "seed: 0 in the run, 1 requested"),
        ([*SAMPLE, "--resume", "--num-epochs=1"], reproduced, "--num-epochs must be at least 2"),
        ([*SAMPLE[:2], "the_tide_tables", "--resume"], reproduced, "is not the text with which"),
        (SAMPLE, thesis, "is not empty and contains no run (it contains thesis.tex)"),
        (["train", *words], reproduced, "contains a run"),
        (["train", *words, "--resume"], reproduced, "--num-epochs must be at least 2"),
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
    lines = [[], []]
    how = {"corpus": corpora.SAMPLE_TEXT, "num_epochs": 8, "seed": 3}
    predictions = reproduce.reproduce(whole, **how, log=lines[0].append).history
    for stop_after in (1, 3, 1, 99):  # minibatches, of two in an epoch
        asked = []

        def should_stop(asked=asked, stop_after=stop_after):
            asked.append(None)
            return len(asked) >= stop_after

        run = reproduce.reproduce(
            out, **how, resume=True, log=lines[1].append, should_stop=should_stop
        )
        how = {}
    assert_same_run(out, whole)
    assert [r.predictions for r in run.history] == [r.predictions for r in predictions]
    assert any(r.predictions for r in predictions)
    assert without_times(lines[0]) == without_times(lines[1])


def test_killed_before_its_predictions_it_makes_them(small_chapter, tmp_path, monkeypatch):
    how = {"corpus": corpora.SAMPLE_TEXT, "num_epochs": 4, "log": lambda line: None}
    reproduce.reproduce(tmp_path / "whole", **how)

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(reproduce, "predict_rnn_gluon", killed)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                reproduce.reproduce(tmp_path / "killed", **how, resume=True)
    assert len(rows(tmp_path / "killed")) == 2
    reproduce.reproduce(tmp_path / "killed", **how, resume=True)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    assert sorted(reproduce.read_predictions(tmp_path / "whole")) == [2, 4]


def test_more_epochs_on_resume(small_chapter, tmp_path, capsys):
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert cli.main([*SAMPLE, "--num-epochs", "6", "--out", str(whole)]) == 0
    assert cli.main([*SAMPLE, "--num-epochs", "4", "--out", str(out)]) == 0
    capsys.readouterr()
    assert cli.main(["reproduce", "--resume", "--num-epochs", "6", "--out", str(out)]) == 0
    assert "Resuming after epoch 4" in capsys.readouterr().out
    found, expected = (load_checkpoint(path / "last.zip").arrays for path in (out, whole))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert rows(out) == rows(whole)
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["num_epochs"] == 6
    assert config["changes"] == [{"epochs_begun": 4, "num_epochs": {"from": 4, "to": 6}}]
    assert cli.main(["reproduce", "--resume", "--out", str(out)]) == 0
    assert "All 6 epochs are done" in capsys.readouterr().out


def test_a_resumed_run_keeps_its_settings(small_chapter, monkeypatch, tmp_path, capsys):
    every_second = dataclasses.replace(book.TRAININGS["lecture"], period=2)
    monkeypatch.setitem(book.TRAININGS, "lecture", every_second)
    whole, out = tmp_path / "whole", tmp_path / "run"
    command = [*SAMPLE, "--settings", "lecture", "--num-epochs"]
    assert cli.main([*command, "4", "--out", str(whole)]) == 0
    assert cli.main([*command, "2", "--out", str(out)]) == 0
    resume = ["reproduce", "--resume", "--num-epochs", "4", "--out", str(out)]
    before = contents(out)
    capsys.readouterr()
    assert cli.main([*resume, "--settings", "chapter"]) == 2
    message = "has the lecture's settings, not the chapter's: resume it with --settings lecture"
    assert message in capsys.readouterr().err
    assert before == contents(out)
    assert cli.main(resume) == 0  # without a name
    assert_same_run(out, whole)
    assert sorted(reproduce.read_predictions(out)) == [2, 4]
    # A run of `train` with the lecture's settings is one, too.
    words = ["--preset", "lecture", *SAMPLE[1:], "--num-epochs", "4"]
    assert cli.main(["train", *words, "--out", str(tmp_path / "trained")]) == 0
    assert cli.main(["reproduce", "--resume", "--out", str(tmp_path / "trained")]) == 0
    assert rows(tmp_path / "trained") == rows(whole)


def test_unknown_settings_are_named(capsys, tmp_path):
    with pytest.raises(ValueError, match="must be one of chapter, lecture, not 'prose'"):
        reproduce.reproduce(tmp_path / "run", settings="prose")
    assert not (tmp_path / "run").exists()


def test_a_report_on_predictions_of_other_settings_is_refused(small_chapter, tmp_path, capsys):
    words = ["--corpus", corpora.SAMPLE_TEXT, "--num-hiddens=8", "--num-epochs=1"]
    assert cli.main(["train", *words, "--out", str(tmp_path)]) == 0
    (tmp_path / "predictions.csv").write_text("epoch,prefix,prediction\n")
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "has the settings of none of chapter, lecture" in capsys.readouterr().err


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
    for name in ("last.zip", "best.zip", "metrics.csv"):
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
    assert rows(Path("run")) == rows(Path("whole"))
    config = json.loads(Path("run/config.json").read_text())
    assert config["text"]["paths"] == [str(tmp_path / "sub" / ".." / "new.txt")]
    assert cli.main(["reproduce", "--resume", "--out", "run"]) == 0


def test_a_sample_run_is_not_resumed_when_the_book_is_available(
    small_chapter, fake_training, monkeypatch, capsys, tmp_path
):
    monkeypatch.delenv(known_texts.DATA_VARIABLE, raising=False)
    resume = ["reproduce", "--resume", "--out", str(tmp_path)]
    with monkeypatch.context() as offline:
        offline.setattr(known_texts, "_download", missing)
        assert cli.main(["reproduce", "--num-epochs", "2", "--out", str(tmp_path)]) == 3
        assert cli.main([*resume, "--corpus", "auto"]) == 3
    sample = corpora.find_text(corpora.SAMPLE_TEXT)
    monkeypatch.setattr(corpora, "find_text", lambda name: sample)
    capsys.readouterr()
    assert cli.main([*resume, "--corpus", "auto"]) == 2  # as `make reproduce`
    assert "uses a sample text, the_clockmakers_guest" in capsys.readouterr().err
    assert cli.main([*resume, "--corpus", corpora.SAMPLE_TEXT]) == 0
    assert cli.main(resume) == 0  # with its own text
    assert "The text is The Clockmaker's Guest" in capsys.readouterr().out


def test_the_requested_device_is_used(small_chapter, monkeypatch, capsys, tmp_path):
    # MXNet numbers CPU devices too; all of them are the same one.
    monkeypatch.setattr(library, "named_device", {"gpu(1)": mx.cpu(1), "cpu": mx.cpu(2)}.get)
    seen, load_run, fit = [], report.load_run, Learner.fit

    def load_noted(*args, **kwargs):
        run = load_run(*args, **kwargs)
        seen.append(library.device_of(run.model))
        return run

    def fit_noted(learner, *args):
        seen.append(learner.ctx)
        return fit(learner, *args)

    monkeypatch.setattr(report, "load_run", load_noted)
    monkeypatch.setattr(Learner, "fit", fit_noted)
    words = [*SAMPLE, "--num-epochs=1", "--device=gpu(1)", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    assert seen == [mx.cpu(1), mx.cpu(1)]
    assert json.loads((tmp_path / "config.json").read_text())["device"] == "cpu(1)"
    seen.clear()
    resume = ["reproduce", "--resume", "--num-epochs=2", "--device=cpu", "--out", str(tmp_path)]
    assert cli.main(resume) == 0
    assert cli.main(["report", str(tmp_path), "--device=gpu(1)"]) == 0
    assert seen == [mx.cpu(2), mx.cpu(2), mx.cpu(1)]
    seen.clear()
    assert cli.main([*SAMPLE, "--num-epochs=1"]) == 0
    assert seen == [library.try_gpu()]


def test_an_unknown_device_is_refused(capsys, tmp_path):
    assert cli.main([*SAMPLE, "--device=tpu", "--out", str(tmp_path / "run")]) == 2
    assert (
        "--device must be cpu, gpu or one GPU such as gpu(1), not 'tpu'" in capsys.readouterr().err
    )
    with pytest.raises(TypeError, match="ctx must be a single device, not the list"):
        reproduce.reproduce(tmp_path / "run", corpora.SAMPLE_TEXT, ctx=[mx.cpu()])
    assert not (tmp_path / "run").exists()


def test_a_callback_that_raises_leaves_no_run(small_chapter, tmp_path):
    def refuse(run):
        raise ValueError("no")

    how = {"corpus": corpora.SAMPLE_TEXT, "num_epochs": 1, "log": lambda line: None}
    with pytest.raises(ValueError, match="no"):
        reproduce.reproduce(tmp_path, **how, on_start=refuse)
    assert len(reproduce.reproduce(tmp_path, **how).history) == 1


def test_a_run_of_several_texts_is_not_the_chapters(small_chapter, tmp_path, capsys):
    words = ["--preset=chapter", "--num-epochs=1", "--out", str(tmp_path)]
    assert cli.main(["train", *words, "--corpus", corpora.SAMPLE_TEXT, "the_tide_tables"]) == 0
    assert cli.main(["reproduce", "--resume", "--out", str(tmp_path)]) == 2
    assert "has other settings than the chapter's (--corpus)" in capsys.readouterr().err


def test_a_run_with_the_weights_of_another_is_not_the_chapters(small_chapter, tmp_path, capsys):
    words = [
        "train",
        "--preset=chapter",
        "--corpus",
        corpora.SAMPLE_TEXT,
        "--num-epochs=1",
        "--out",
    ]
    first, second = (str(tmp_path / name) for name in "ab")
    assert cli.main([*words, first]) == 0
    assert cli.main([*words, second, "--init-from", first]) == 0
    assert cli.main(["reproduce", "--resume", "--out", second]) == 2
    said = capsys.readouterr().err
    assert f"started with the weights of {first}" in said and "resume it with `train`" in said
    with pytest.raises(reproduce.RunError, match="started with the weights"):
        reproduce.load(second)
    assert cli.main(["reproduce", "--resume", "--num-epochs=2", "--out", first]) == 0
    pytest.importorskip("safetensors")
    file, third = (str(tmp_path / name) for name in ("b.safetensors", "c"))
    assert cli.main(["export", second, "--format=safetensors", "--output", file]) == 0
    assert cli.main(["import", file, "--out", third]) == 0
    assert cli.main(["reproduce", "--resume", "--out", third]) == 2
    assert "started with the weights of b.safetensors" in capsys.readouterr().err


def test_more_predictions_than_were_printed(books_text, fake_training, tmp_path):
    run = reproduce.reproduce(tmp_path, num_epochs=250)
    run.history[-1] = run.history[-1]._replace(predictions=("a", "b", "c"))
    shown = list(report.predictions(run))
    assert [p.printed != "" for p in shown if p.epoch == 250] == [True, True, False]


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
    assert json.loads((Path(out) / "config.json").read_text())["settings"]["corpus"] == [own]
    assert cli.main([*command, "--resume"]) == 0
    assert cli.main(["plot", out, "--output", str(tmp_path / "curves.png")]) == 0


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_keeps_all_epochs(small_chapter, tmp_path, monkeypatch, capsys, name, status):
    backward, minibatches = nd.NDArray.backward, []

    def signalled(loss, *args, **kwargs):
        minibatches.append(1)
        if len(minibatches) == 5:  # the first of two in the third epoch
            os.kill(os.getpid(), getattr(signal, name))
        return backward(loss, *args, **kwargs)

    monkeypatch.setattr(nd.NDArray, "backward", signalled)
    assert cli.main([*SAMPLE, "--out", str(tmp_path)]) == status
    errors = capsys.readouterr().err
    assert "interrupted after epoch 2; to resume: d2l-deeprnn reproduce --resume" in errors
    assert len(rows(tmp_path)) == 2 and (tmp_path / "report.html").exists()
    assert len(load_checkpoint(tmp_path / "last.zip").data["learner"]["history"]) == 2


@pytest.mark.slow
def test_killed_and_resumed_it_ends_the_same(tmp_path, seeded):
    whole, out = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "d2l_deeprnn", *SAMPLE, "--num-epochs", "30"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "env": environment}
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
        _, errors = process.communicate()
        status = process.returncode
        assert status in (0, -signal.SIGKILL, -signal.SIGTERM, 143), errors
    assert kills
    assert_same_run(out, whole)


def test_runs_of_printed_trainings_are_recognized(tmp_path):
    results = Path(__file__).parents[2] / "results"
    assert reproduce.printed_training(results / "chapter") is book.BOOK
    assert reproduce.printed_training(results / "tinyshakespeare") is None
    assert reproduce.printed_training(tmp_path) is None
