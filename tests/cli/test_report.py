"""``d2l-deeprnn report``: pages for runs of every kind."""

from __future__ import annotations

import json
import math
import re
import shlex

import pytest
from report_page import Page

from d2l_deeprnn._mxnet import mx
from d2l_deeprnn.cli import main, report
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.text.vocab import Vocab
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.learner import new_model
from d2l_deeprnn.training.settings import TrainSettings

SMALL = ["--num-layers=1", "--num-hiddens=8", "--batch-size=8", "--num-steps=10"]
TRAIN = ["train", "--num-examples=3000", *SMALL, "--num-epochs=2"]


def page_of(path):
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == [] and page.loads == []
    return page


@pytest.fixture(autouse=True)
def short_samples(monkeypatch):
    monkeypatch.setattr(report, "LENGTH", 40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with validation and test parts, on a text whose name contains markup."""
    directory = tmp_path_factory.mktemp("runs")
    text = directory / "<b>&.txt"
    text.write_text("all the traveller's time, and more of it; " * 100)
    out = directory / "run"
    words = ["--test-fraction=0.1", "--keep-case", "--optimizer-option=momentum=0.5"]
    assert main([*TRAIN, *words, "--corpus", str(text), "--out", str(out)]) == 0
    return out


def test_a_run_as_a_page(trained, capsys):
    assert main(["report", str(trained), "--baseline", "ngram"]) == 0
    assert capsys.readouterr().out == f"Written: {trained / 'report.html'}\n"
    page = page_of(trained / "report.html")
    history = runs.read_history(trained)
    config = json.loads((trained / "config.json").read_text())
    for shown in (
        "A training run on <b>&.txt",
        "1-layer LSTM with 8 hidden units per layer",
        f"held-out perplexity {math.exp(min(row['valid_loss'] for row in history)):.4g}",
        "Perplexity tells how many characters the model hesitates between",
        "Number of hidden units",
        "momentum 0.5",
        config["machine"]["processor"],
        config["begun"][:16].replace("T", " "),
        f"by d2l_deeprnn {config['versions']['d2l_deeprnn']}.",
    ):
        assert shown in page.shown
    for key in ("num_hiddens", "physical_cores", "train_chars"):
        assert key not in page.shown
    own, other = page.shown.index("Changed from the defaults"), page.shown.index("Defaults\n")
    assert own < page.shown.index("momentum 0.5") < other < page.shown.index("Dropout")
    sections = ["Generated text", "Perplexity", "Held-out loss", "Settings", "How it was made"]
    assert sorted(sections, key=lambda name: page.shown.index(f"{name}\n")) == sections
    assert f"d2l-deeprnn export {trained} --format html" in page.shown


def test_the_pages_numbers_are_those_of_evaluate(trained, tmp_path, capsys):
    assert main(["evaluate", str(trained), "--baseline", "ngram", "--json"]) == 0
    names = "nats", "bits", "perplexity"
    scores = json.loads(capsys.readouterr().out)
    wanted = [tuple(f"{score[name]:.4f}" for name in names) for score in scores]
    output = tmp_path / "page.html"
    assert main(["report", str(trained), "--baseline=ngram", f"--output={output}"]) == 0
    rows = [row for row in page_of(output).rows if row]
    assert [tuple(row[2:5]) for row in rows] == wanted and len(rows) == 4
    assert [row[0] for row in rows] == ["validation", "validation", "test", "test"]
    shown = page_of(output).shown
    for part, (own, ngram) in zip(("validation", "test"), zip(rows[::2], rows[1::2])):
        lead = float(own[2]) - float(ngram[2])
        better = ["network is better than the n-gram", "n-gram model is better than the network"]
        assert f"On the {part} text, the {better[lead > 0]}" in shown
        assert f"by {abs(lead):.3f} nats: " in shown
    assert "n-gram of order" in rows[1][1] and rows[0][1] == "best checkpoint, epoch 2"


def test_the_plot_has_a_text_alternative(trained, tmp_path):
    assert main(["report", str(trained), "--output", str(tmp_path / "page.html")]) == 0
    (label,) = re.findall('aria-label="([^"]*)"', (tmp_path / "page.html").read_text())
    first, last = runs.read_history(trained)
    for name, column in ("training", "train_loss"), ("held out", "valid_loss"):
        ends = " to ".join(f"{math.exp(r[column]):.4g} at {r['epoch']:g}" for r in (first, last))
        assert f"this run: {name}: {ends}" in label


def test_samples_follow_prefix_and_seed(trained, tmp_path):
    def samples(*words):
        output = tmp_path / "page.html"
        assert main(["report", str(trained), "--output", str(output), *words]) == 0
        return re.findall(r"<pre>\n(.*?)</pre>", output.read_text(), re.DOTALL)

    likely, *drawn = samples("--prefix=time")
    assert [text[:4] for text in (likely, *drawn)] == ["time"] * 3
    assert samples("--prefix=time", "--seed=0") == [likely, *drawn]
    again, *others = samples("--prefix=time", "--seed=1")
    assert again == likely and drawn[1] != others[1]


def test_the_command_on_the_page_makes_the_same_run(trained, tmp_path):
    assert main(["report", str(trained), "--output", str(tmp_path / "page.html")]) == 0
    page = page_of(tmp_path / "page.html")
    (command,) = re.findall("^(d2l-deeprnn train .*)$", page.shown, re.MULTILINE)
    words = shlex.split(command)[1:]
    assert words[-2:] == ["--out", "repeated"]  # the run has the real directory
    assert main([*words[:-1], str(tmp_path / "again")]) == 0
    assert [r["train_loss"] for r in runs.read_history(tmp_path / "again")] == [
        r["train_loss"] for r in runs.read_history(trained)
    ]


def test_without_its_text_a_run_shows_what_the_history_has(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("all the traveller's time, and more of it; " * 100)
    out = tmp_path / "run"
    assert main([*TRAIN, "--corpus", str(text), "--out", str(out)]) == 0
    text.unlink()
    assert main(["report", str(out)]) == 0
    page = page_of(out / "report.html")
    (row,) = [row for row in page.rows if row]
    valid_loss = min(row["valid_loss"] for row in runs.read_history(out))
    assert row[2] == f"{valid_loss:.4f}" and row[5] == ""
    assert "The text could not be scored: " in page.shown and "is no longer at" in page.shown
    capsys.readouterr()
    assert main(["report", str(out), "--baseline", "ngram"]) == 2
    assert "is no longer at" in capsys.readouterr().err


def test_a_run_that_held_nothing_out(tmp_path):
    words = [*TRAIN, f"--corpus={SAMPLE_TEXT}", "--valid-fraction=0", "--out", str(tmp_path)]
    assert main(words) == 0
    assert main(["report", str(tmp_path)]) == 0
    page = page_of(tmp_path / "report.html")
    assert "The run has no held-out text." in page.shown and "held out: " not in page.shown


def test_a_model_from_elsewhere_has_no_history(tmp_path):
    settings = TrainSettings(corpus=("elsewhere",), num_hiddens=4, num_layers=1)
    vocab = Vocab("all the traveller's time")
    model = new_model(settings, len(vocab), mx.cpu())
    text = {"sha256": None, "vocab_size": len(vocab), "valid_chars": "<b>"}
    how = {"text": text, "imported": {"file": "<b>.safetensors"}}
    runs.write_run(tmp_path / "run", settings, model, vocab, [], **how)
    words = ["report", str(tmp_path / "run"), "--checkpoint=last"]
    assert main(words) == 0
    page = page_of(tmp_path / "run" / "report.html")
    assert (
        "after 0 of 50 epochs" in page.shown
        and "<svg" not in (tmp_path / "run" / "report.html").read_text()
    )
    assert "d2l-deeprnn import '<b>.safetensors' --out" in page.shown
    assert "The text could not be scored: " in page.shown


def test_a_run_of_reproduce_is_compared_with_the_book_again(small_chapter, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["reproduce", "--corpus", SAMPLE_TEXT, "--num-epochs=2", "--out", str(out)]
    assert main(command) == 0
    before = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert main(["report", str(out)]) == 0
    after = (out / "report.html").read_text()
    assert re.sub("Written [^<]* by", "", after) == re.sub("Written [^<]* by", "", before)
    other = tmp_path / "other.html"
    assert main(["report", str(out), "--output", str(other)]) == 0
    assert "Nothing was compared" in page_of(other).shown
    assert "reproduce --corpus time_machine --settings chapter" in page_of(other).shown
    capsys.readouterr()
    assert main(["report", str(out), "--baseline", "ngram"]) == 2
    assert "--baseline and --prefix need a run of `train`" in capsys.readouterr().err


def test_a_replaced_file_is_mentioned(trained, tmp_path, capsys):
    for words, path in (["plot"], tmp_path / "a.svg"), (["report"], tmp_path / "a.html"):
        for written in "Written", "Written over the old file":
            assert main([*words, str(trained), "--output", str(path)]) == 0
            assert capsys.readouterr().out == f"{written}: {path}\n"


def test_a_plot_of_runs_on_different_texts_names_no_lowest_perplexity(trained, tmp_path):
    other, shorter, plot = tmp_path / "other", tmp_path / "shorter", tmp_path / "plot.svg"
    assert main([*TRAIN, "--corpus", SAMPLE_TEXT, "--out", str(other)]) == 0
    config = json.loads((trained / "config.json").read_text())["settings"]
    (tmp_path / "settings.json").write_text(json.dumps({**config, "valid_fraction": 0.3}))
    words = ["--config", str(tmp_path / "settings.json"), "--out", str(shorter)]
    assert main(["train", *words]) == 0
    for directory, title in [
        (other, "Runs on different texts"),
        (shorter, "Runs with different held-out parts"),
        (trained, "Lowest perplexity: "),
    ]:
        assert main(["plot", str(trained), str(directory), "--output", str(plot)]) == 0
        assert f"<!-- {title}" in plot.read_text()


def test_bad_input_writes_no_report(trained, tmp_path, capsys):
    for words, message in [
        ([str(tmp_path)], "is not a run: it has no config.json"),
        ([str(trained), "--output", str(tmp_path / "no" / "a.html")], "there is no directory"),
        ([str(trained), "--prefix", "\N{SNOWMAN}"], "not in the vocabulary"),
    ]:
        assert main(["report", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not list(tmp_path.iterdir())
