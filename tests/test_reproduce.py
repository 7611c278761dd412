"""A reproduction from the command line to the report, with training cut short or replaced."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from d2l_deeprnn import book, cli, corpora, files, report, reproduce
from d2l_deeprnn._mxnet import nd
from d2l_deeprnn.train import EpochRecord


@pytest.fixture
def books_text(monkeypatch):
    """Let a sample go by the name of the book's text: the figures here are made up anyway."""
    sample = corpora.find_text(corpora.SAMPLE_TEXT)
    monkeypatch.setattr(corpora, "find_text", lambda name: sample)


@pytest.fixture
def fake_training(monkeypatch):
    """Training that takes no time and gives the perplexities it is told to, else the book's."""
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
    assert re.search(r"\n  125 +9\.005890 +9\.005890 .* yes +12\.50\n", printed)
    assert re.search(r"\n  500 +1\.036108 +1\.036108 .* yes +12\.50\n", printed)
    assert "  book  traveller smiled. 'are you sure we can move freely in space\n" in printed
    assert "  run   traveller a\n" in printed
    assert "This run agrees with the book: 4 of 4 figures in their bands." in printed
    assert "not the book's" not in printed
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "config.json", "last.zip", "metrics.csv", "perplexity.svg", "report.html",
    ]  # fmt: skip


@pytest.mark.parametrize("epoch, perplexity", [(250, 1.9), (125, 60.0), (500, float("nan"))])
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
    assert "Nothing was compared: the book's first figure is for epoch 125, and this run" in printed


def test_a_sample_stands_in_and_every_line_says_so(fake_training, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv(corpora.DATA_VARIABLE, raising=False)
    monkeypatch.setattr(corpora, "_download", missing)
    fake_training.update({125: 7.25, 250: 1.25, 375: 1.125, 500: 1.0625})
    assert cli.main(["reproduce", "--out", str(tmp_path)]) == 3
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "The book's text is missing: a sample of this package stands in for it."
    with_figures = [line for line in printed[1:] if re.search(r"\d\.\d{2}", line) or "run " in line]
    assert len(with_figures) == 4 + 4 + 4  # the book's lines, the table, the predictions
    assert all("not the book's figures" in line for line in with_figures)
    assert printed[-2] == (
        "Nothing was compared: the text was The Clockmaker's Guest, not the book's."
    )
    page = (tmp_path / "report.html").read_text()
    assert "not the book&#x27;s figures" in page and "9.005890" not in page
    assert "printed in the book" not in (tmp_path / "perplexity.svg").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["is_the_books_text"] is False


def missing(text):
    raise corpora.TextNotAvailable(f"{text.title} could not be had")


def test_a_text_asked_for_by_name_is_never_replaced(fake_training, monkeypatch, capsys):
    monkeypatch.delenv(corpora.DATA_VARIABLE, raising=False)
    monkeypatch.setattr(corpora, "_download", missing)
    assert cli.main(["reproduce", "--corpus", "time_machine"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "d2l-deeprnn: error: The Time Machine could not be had\n"


def test_a_users_own_file(fake_training, capsys, tmp_path):
    own = tmp_path / "mine.txt"
    own.write_text("all the traveller's time " * 300)
    assert cli.main(["reproduce", "--corpus", str(own)]) == 0
    assert "[text: mine.txt; not the book's figures]" in capsys.readouterr().out


def test_interrupted_keeps_what_was_done(books_text, fake_training, capsys, tmp_path):
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


class Page(HTMLParser):
    """Notes what a page would load from elsewhere, and whether its tags are closed."""

    void = {"meta", "link", "br", "img", "path", "use"}

    def __init__(self, text):
        super().__init__()
        self.open, self.outside, self.shown = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag not in self.void:
            self.open.append(tag)
        self.outside += [
            value
            for name, value in attributes
            if name in ("src", "href", "xlink:href") and not value.startswith("#")
        ]

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.shown += data


def test_report_is_one_self_contained_page(books_text, fake_training, tmp_path):
    cli.main(["reproduce", "--out", str(tmp_path)])
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.open == [] and page.outside == []
    assert '<meta name="viewport" content="width=device-width' in text
    assert text.count("<svg") == 1
    for shown in (
        "This run agrees with the book",
        "1.046033",
        "time traveller <b>",
        "versions.mxnet",
    ):
        assert shown in page.shown  # escaped in the source: a prediction is no markup


def test_seed_and_text_reach_the_training(monkeypatch):
    seen = {}

    def train(model, num_hiddens, indices, vocab, ctx, *settings, **kwargs):
        import random

        seen.update(draw=random.random(), indices=indices, settings=settings, hiddens=num_hiddens)

    monkeypatch.setattr(reproduce, "train_and_predict_rnn_gluon", train)
    import random

    run = reproduce.prepare(corpora.SAMPLE_TEXT, 7, 42)
    reproduce.train(run)
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
        ([], "COMMAND"),
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
    monkeypatch.setattr(reproduce, "train", lambda *args, **kwargs: pytest.fail("was trained"))
    (tmp_path / "file").write_text("kept")
    command = ["reproduce", "--corpus", corpora.SAMPLE_TEXT, "--out"]
    assert cli.main([*command, str(tmp_path / "file")]) == 2
    assert re.search("/file is not a directory: choose another", capsys.readouterr().err)
    assert (tmp_path / "file").read_text() == "kept"

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    assert cli.main([*command, str(tmp_path / "full")]) == 2
    assert "full/config.json: No space left on device" in capsys.readouterr().err


def test_corpora_lists_every_text(monkeypatch, capsys):
    monkeypatch.delenv(corpora.DATA_VARIABLE, raising=False)
    assert cli.main(["corpora"]) == 0
    printed = capsys.readouterr().out
    for name, text in corpora.KNOWN_TEXTS.items():
        assert name in printed and text.title in printed
    assert printed.count("not on this machine") == 4
    assert cli.main(["corpora", "fetch", corpora.SAMPLE_TEXT]) == 0
    assert capsys.readouterr().out.strip().endswith(f"{corpora.SAMPLE_TEXT}.txt")


def test_picture_marks_the_books_points_and_names_its_axes(books_text, fake_training):
    run = reproduce.prepare("time_machine", 500, 0)
    reproduce.train(run, log=lambda line: None)
    (axes,) = report.figure(run).axes
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "epoch" and "perplexity" in axes.get_ylabel()
    curve, points = axes.get_lines()
    assert len(curve.get_xdata()) == 500
    assert list(points.get_xdata()) == [125, 250, 375, 500]
    assert list(points.get_ydata()) == [line.perplexity for line in book.PRINTED]


@pytest.mark.slow
def test_the_chapter_in_full(book_dir, capsys, tmp_path):
    """500 epochs on the book's text: the verdict, and the sentence that the book printed."""
    assert cli.main(["reproduce", "--corpus", "time_machine", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "This run agrees with the book: 4 of 4 figures in their bands." in printed
    assert re.search("after epoch 500, word for word in the text:", printed)
    with open(tmp_path / "metrics.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert last["epoch"] == "500" and float(last["perplexity"]) <= 1.06
