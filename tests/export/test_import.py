"""A run is exported and imported, from Python and from the command line."""

from __future__ import annotations

import html
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from exported import VOCAB, fused

import d2l_deeprnn as d2l
from d2l_deeprnn.cli import main
from d2l_deeprnn.export import ExportError
from d2l_deeprnn.generation.generate import generate
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.training.checkpoint import load_checkpoint
from d2l_deeprnn.training.runs import read_history, train

pytest.importorskip("safetensors", reason="needs the extra 'safetensors'")
from safetensors import safe_open  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

TRAIN = ["train", f"--corpus={SAMPLE_TEXT}", "--num-examples=3000", "--test-fraction=0.1"]
TRAIN += ["--num-hiddens=8", "--batch-size=8", "--num-steps=10", "--num-epochs=3", "--keep-case"]
TRAIN += ["--optimizer=adam", "--lr=0.01"]
KINDS = {
    "gru": ["--cell=gru", "--num-layers=1"],
    "rnn": ["--cell=rnn", "--num-layers=3"],
    "lstm": ["--cell=lstm", "--dropout=0.2"],
}


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    """A run, its safetensors file, and the run imported from that; do not change them."""
    folder = tmp_path_factory.mktemp(request.param)
    run, file, again = (folder / name for name in ("run", "model.safetensors", "again"))
    assert main([*TRAIN, *KINDS[request.param], "--out", str(run)]) == 0
    words = ["--format", "safetensors", "--output", str(file)]
    assert main(["export", str(run), *words]) == 0
    assert main(["import", str(file), "--out", str(again)]) == 0
    return run, file, again


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """A run of one epoch and its safetensors file; do not change them."""
    folder = tmp_path_factory.mktemp("short")
    assert main([*TRAIN, "--num-epochs=1", "--out", str(folder / "run")]) == 0
    words = ["--format=safetensors", f"--output={folder / 'model.safetensors'}"]
    assert main(["export", str(folder / "run"), *words]) == 0
    return folder


@pytest.fixture
def exported(short_run, tmp_path):
    """A copy of them."""
    file = Path(shutil.copy(short_run / "model.safetensors", tmp_path))
    return Path(shutil.copytree(short_run / "run", tmp_path / "run")), file


def printed(capsys, *words):
    capsys.readouterr()
    assert main(list(map(str, words))) == 0
    return capsys.readouterr().out


def refused(capsys, *words):
    capsys.readouterr()
    assert main(list(map(str, words))) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == "" and line.startswith("d2l-deeprnn: error: ")
    return line


def facts_of(file):
    with safe_open(str(file), framework="numpy") as opened:
        return opened.metadata()


def test_an_imported_run_is_the_run(trained, capsys):
    run, _, again = trained
    assert printed(capsys, "evaluate", again) == printed(capsys, "evaluate", run)
    assert "validation " in printed(capsys, "evaluate", again, "--baseline=ngram")
    words = ["--prefix=The ", "--length=20"]
    assert printed(capsys, "generate", again, *words) == printed(capsys, "generate", run, *words)
    draws = ["--temperature=1", "--seed=2", "--checkpoint=last"]
    found = printed(capsys, "generate", again, *words, *draws)
    assert len(found) == len("The ") + 20 + 1
    for name in ("best.zip", "last.zip"):
        arrays = load_checkpoint(again / name).arrays
        expected = load_checkpoint(run / "best.zip").arrays
        assert {n for n in arrays if n.startswith("params/")} == {
            n for n in expected if n.startswith("params/")
        }
        for part in arrays:
            if part.startswith("params/"):
                assert np.array_equal(arrays[part], expected[part]), part
    assert d2l.load_run(again).history == d2l.load_run(run).history
    assert d2l.load_run(again).settings == d2l.load_run(run).settings


def test_paths_may_be_strings(tmp_path):
    small = {"num_examples": 3000, "num_hiddens": 8, "num_epochs": 1, "batch_size": 8}
    settings = d2l.TrainSettings([SAMPLE_TEXT], **small)
    names = ("run", "model.safetensors", "again", "page.html")
    run, file, again, page = (str(tmp_path / name) for name in names)
    history = train(settings, run).history
    assert [row["epoch"] for row in read_history(run)] == [1]
    d2l.export_run(run, file, format="safetensors")
    d2l.import_run(file, again)
    assert d2l.load_run(again).history == history
    assert [row["epoch"] for row in read_history(again)] == [1]
    imported = d2l.import_model(file)
    d2l.export_model(imported.model, imported.vocab, page, format="html")
    assert os.path.getsize(page) > 1000


def test_its_configuration_has_the_origin(trained):
    run, file, again = trained
    before, after = (json.loads((d / "config.json").read_text()) for d in (run, again))
    assert after["run"] != before["run"] and after["settings"] == before["settings"]
    assert after["text"] == before["text"]
    assert after["imported"] == {
        "file": file.name, "run": before["run"], "checkpoint": "best",
        "d2l_deeprnn": d2l.__version__, "epochs": len(read_history(again)),
    }  # fmt: skip


def test_exporting_again_gives_the_same_model(trained, tmp_path):
    run, file, again = trained
    twice = tmp_path / "twice"
    d2l.export_run(again, twice, format="safetensors")
    first, second = load_file(str(file)), load_file(str(twice))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    one, other = facts_of(file), facts_of(twice)
    source, again = json.loads(one.pop("source")), json.loads(other.pop("source"))
    assert one == other
    assert source.pop("run") != again.pop("run")
    assert source == again


def test_the_file_names_no_folder_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("novel.txt").write_text("some words and more of them. " * 100)
    words = ["train", "--corpus", "novel.txt", *TRAIN[4:], "--num-epochs=1", "--out", "run"]
    assert main(words) == 0
    assert str(tmp_path) in Path("run", "config.json").read_text()
    d2l.export_run(Path("run"), Path("a"), format="safetensors")
    assert str(tmp_path).encode() not in Path("a").read_bytes()
    assert json.loads(facts_of("a")["source"])["settings"]["corpus"] == ["novel.txt"]
    # From here, the text is found again, and then from anywhere.
    d2l.import_run(Path("a"), Path("again"))
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert main(["evaluate", "../again"]) == 0


def test_training_resumes(trained, tmp_path, capsys):
    _, _, again = trained
    out = tmp_path / "run"
    shutil.copytree(again, out)
    imported = d2l.load_run(again).history  # up to the best epoch
    assert "\nDone: 3 epochs in " in printed(capsys, "train", "--resume", "--out", out)
    assert main(["train", "--resume", "--num-epochs=5", "--out", str(out)]) == 0
    history = d2l.load_run(out, checkpoint="last").history
    assert [record.epoch for record in history] == [1, 2, 3, 4, 5]
    assert history[: len(imported)] == imported
    # It starts from the imported parameters.
    assert history[len(imported)].train_loss < history[0].train_loss
    before, after = (load_checkpoint(d / "last.zip").arrays for d in (again, out))
    assert before.keys() == after.keys()
    assert not np.array_equal(before["params/dense.weight"], after["params/dense.weight"])


def test_either_checkpoint_can_be_exported(exported, tmp_path):
    run, file = exported
    assert main(["train", "--resume", "--num-epochs=2", "--out", str(run)]) == 0
    last = tmp_path / "last"
    assert main(["export", str(run), "--format=safetensors", f"--output={last}",
                 "--checkpoint=last"]) == 0  # fmt: skip
    source = json.loads(facts_of(last)["source"])
    assert source["checkpoint"] == "last" and len(source["history"]) == 2
    weight = load_checkpoint(run / "last.zip").arrays["params/dense.weight"]
    assert np.array_equal(load_file(str(last))["dense.weight"], weight)
    assert not np.array_equal(load_file(str(file))["dense.weight"], weight)


# Models without a text -------------------------------------------------------------------------


@pytest.fixture
def unknown(tmp_path):
    path, out = tmp_path / "model.safetensors", tmp_path / "run"
    model = fused("gru", 2)
    d2l.export_model(model, VOCAB, path, format="safetensors", lower=False)
    d2l.import_run(path, out)
    return model, out


def test_a_model_without_a_run_becomes_one(unknown, capsys, tmp_path):
    model, out = unknown
    run = d2l.load_run(out)
    expected = generate(model, VOCAB, ["the fox"], 20)
    assert generate(run.model, run.vocab, ["the fox"], 20) == expected
    assert run.settings.keep_case and not run.settings.keep_whitespace and run.history == []
    words = printed(capsys, "generate", out, "--prefix=the fox", "--length=20")
    assert words == f"{expected[0]}\n"
    assert " nats " in printed(capsys, "evaluate", out, f"--corpus={SAMPLE_TEXT}")
    assert printed(capsys, "export", out, "--format=safetensors", f"--output={tmp_path / 'a'}")
    d2l.import_run(tmp_path / "a", tmp_path / "again")


@pytest.mark.parametrize(
    "words", [["evaluate"], ["train", "--resume"], ["train", "--resume", f"--corpus={SAMPLE_TEXT}"]]
)
def test_commands_that_need_the_text_report_that_it_is_unknown(unknown, capsys, words):
    _, out = unknown
    place = ["--out", out] if words[0] == "train" else [out]
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    line = refused(capsys, *words, *place)
    assert f"the model in {out} was imported " in line
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_cell_that_runs_do_not_have(tmp_path):
    d2l.export_model(fused("rnn_relu", 1), VOCAB, tmp_path / "a", format="safetensors")
    with pytest.raises(ExportError, match="its cell is rnn_relu, but a run can only have lstm"):
        d2l.import_run(tmp_path / "a", tmp_path / "run")
    assert os.listdir(tmp_path) == ["a"]


# Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda source: source["settings"].update(num_layers=3), "num_layers is 3 in its settings"),
        (lambda source: source["settings"].update(keep_case=False), "keep_case is False in its"),
        (lambda source: source["settings"].update(colour=1), "'colour'"),
        (lambda source: source.update(settings=8), "not 8"),
        (lambda source: source.pop("text"), "'text' is missing in its metadata"),
        (lambda source: source["text"].update(sha256=8), "its text must be a string, not 8"),
        (lambda source: source.update(text=[]), "its metadata is damaged: export the model again"),
        (lambda source: source.update(history=[[1, 2]]), ""),
        (lambda source: source.update(history=[[1, "x", 1, 1, 1]]), "could not convert string"),
        (
            lambda source: source.update(history=[[1, 1, float("nan"), 1, 1]]),
            "its record of epoch 1 has a number that is not finite",
        ),
    ],
)
def test_metadata_that_does_not_fit(exported, capsys, tmp_path, change, message):
    _, file = exported
    arrays, facts = load_file(str(file)), facts_of(file)
    source = json.loads(facts["source"])
    change(source)
    save_file(arrays, str(file), metadata={**facts, "source": json.dumps(source)})
    before = sorted(os.listdir(tmp_path))
    line = refused(capsys, "import", file, "--out", tmp_path / "new")
    assert f"{file} cannot be imported: " in line and message in line
    assert sorted(os.listdir(tmp_path)) == before


def test_nothing_is_imported_over_something(exported, capsys, tmp_path):
    run, file = exported
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("kept")
    (tmp_path / "link").symlink_to("nowhere")
    before = {path: path.read_bytes() for path in run.iterdir()}
    for place in (run, file, tmp_path / "folder", tmp_path / "link"):
        line = refused(capsys, "import", file, "--out", place)
        assert f"{place} exists and is not an empty directory: choose another" in line
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    (tmp_path / "empty").mkdir()
    assert main(["import", str(file), "--out", str(tmp_path / "empty")]) == 0
    assert main(["import", str(file), "--out", str(tmp_path / "a" / "b")]) == 0
    assert main(["evaluate", str(tmp_path / "a" / "b")]) == 0


@pytest.mark.parametrize("moment", ["save_checkpoint", "write_text"])
def test_an_import_that_fails_leaves_nothing(exported, capsys, tmp_path, monkeypatch, moment):
    from d2l_deeprnn.training import run_directory

    _, file = exported

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", str(args[0]))

    monkeypatch.setattr(run_directory, moment, full)
    before = sorted(os.listdir(tmp_path))
    assert "No space left on device" in refused(capsys, "import", file, "--out", tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == before


def test_errors_of_the_commands(exported, capsys, tmp_path):
    run, file = exported
    words = ["--format=safetensors", "--output"]
    assert "already exists: choose another" in refused(capsys, "export", run, *words, file)
    line = refused(capsys, "export", run, *words, tmp_path / "none" / "a")
    assert "there is no directory" in line
    assert "is not a run" in refused(capsys, "export", tmp_path, *words, tmp_path / "a")
    assert "there is no such file" in refused(capsys, "import", tmp_path / "b", "--out=c")
    os.remove(run / "best.zip")
    line = refused(capsys, "export", run, *words, tmp_path / "a")
    assert "use --checkpoint last" in line
    line = refused(capsys, "export", run, "--format=pickle", "--output=a")
    assert "invalid choice: 'pickle'" in line
    assert not (tmp_path / "a").exists()


def test_a_missing_extra_is_reported_in_one_line(exported, capsys, monkeypatch, tmp_path):
    run, file = exported
    for package in ("onnx", "safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, package, None)
    for name in ("onnx", "safetensors"):
        line = refused(capsys, "export", run, f"--format={name}", "--output", tmp_path / "a")
        assert line.endswith(f"pip install 'd2l_deeprnn[{name}]'")
    line = refused(capsys, "import", file, "--out", tmp_path / "b")
    assert line.endswith("pip install 'd2l_deeprnn[safetensors]'")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_the_commands_in_its_report_repeat_what_was_trained_further(tmp_path):
    text, run, file, out = (tmp_path / n for n in ("text.txt", "run", "model.safetensors", "out"))
    text.write_text("the cat sat on the mat. " * 60)
    assert main([*TRAIN, "--corpus", str(text), "--num-epochs=1", "--out", str(run)]) == 0
    assert main(["export", str(run), "--format=safetensors", f"--output={file}"]) == 0
    changes = ["--num-epochs=2", "--patience=2", "--encoding=latin-1"]
    for words in ["import", str(file)], ["train", "--resume", *changes]:
        assert main([*words, "--out", str(out)]) == 0
        assert main(["report", str(out)]) == 0
        page = html.unescape((out / "report.html").read_text())
        assert f"d2l-deeprnn import {file.name} --out repeated" in page
        further = "--out repeated && d2l-deeprnn train --resume --num-epochs 2 --patience 2 "
        further += "--encoding iso8859-1 --out repeated"
        assert (further in page) is (words[0] == "train")
