"""Runs and exports of 0.3.0: see tests/data/v0.3.0/write.py."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tarfile
from pathlib import Path

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import nd
from d2l_deeprnn.chapter import book
from d2l_deeprnn.chapter.reproduce import read_predictions
from d2l_deeprnn.cli import main
from d2l_deeprnn.training.checkpoint import load_checkpoint
from d2l_deeprnn.training.runs import read_history

DATA = Path(__file__).parents[1] / "data" / "v0.3.0"
EXPECTED = json.loads((DATA / "expected.json").read_text(encoding="utf-8"))
RUNS = [name for name in EXPECTED if name != "reproduced"]
GENERATE = ["--prefix=the t", "--length=60", "--temperature=1", "--seed=0"]


@pytest.fixture
def files(tmp_path):
    """A directory with files of version 0.3.0."""
    with tarfile.open(DATA / "files.tar.xz") as archive:
        archive.extraction_filter = lambda member, path: member  # Python 3.12 asks for one
        archive.extractall(tmp_path)
    return tmp_path


def sha256_of(arrays):
    summed = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        summed.update(name.encode() + array.tobytes())
    return summed.hexdigest()


def assert_close(values, expected):
    # As floats, None is NaN.
    np.testing.assert_allclose(np.array(values, float), np.array(expected, float), rtol=1e-6)


def generated(run, capsys, *words):
    capsys.readouterr()
    assert main(["generate", str(run), *GENERATE, *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", RUNS)
def test_a_run_generates_and_resumes(name, files, capsys):
    run, expected = files / name, EXPECTED[name]
    assert sha256_of(load_checkpoint(run / "last.zip").arrays) == expected["arrays"]
    for which in ("best", "last"):
        assert generated(run, capsys, f"--checkpoint={which}") == expected[which]
    epochs = len(expected["history"])
    assert main(["train", "--resume", f"--num-epochs={epochs}", "--out", str(run)]) == 0
    history = load_checkpoint(run / "last.zip").data["learner"]["history"]
    # Equal to the bit on the machine that wrote them; other processors round differently.
    assert_close([record[:4] for record in history], expected["history"])


def test_a_reproduction_resumes(files, monkeypatch):
    small = dataclasses.replace(book.CHAPTER, num_hiddens=4, num_examples=2000, batch_size=4)
    small = dataclasses.replace(book.BOOK, settings=small)
    monkeypatch.setitem(book.TRAININGS, "chapter", small)
    run, expected = files / "reproduced", EXPECTED["reproduced"]
    assert sha256_of(load_checkpoint(run / "last.zip").arrays) == expected["arrays"]
    assert main(["report", str(run)]) == 0
    predictions = read_predictions(run)
    assert predictions
    epochs = len(expected["perplexities"])
    assert main(["reproduce", "--resume", f"--num-epochs={epochs}", "--out", str(run)]) == 0
    perplexities = [math.exp(row["train_loss"]) for row in read_history(run)]
    assert_close(perplexities, expected["perplexities"])
    assert predictions.items() <= read_predictions(run).items()
    assert main(["generate", str(run), "--length=10"]) == 0


def test_a_reproduction_that_train_resumes_keeps_its_predictions(files):
    run = files / "reproduced"
    predictions = read_predictions(run)
    assert main(["train", "--resume", "--num-epochs=4", "--out", str(run)]) == 0
    assert predictions and read_predictions(run) == predictions
    assert len(read_history(run)) == 4


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_safetensors_are_imported(name, files, capsys):
    pytest.importorskip("safetensors", reason="needs the extra 'safetensors'")
    again = str(files / "again")
    assert main(["import", str(files / f"{name}.safetensors"), "--out", again]) == 0
    assert generated(again, capsys) == EXPECTED[name]["best"]


def test_an_onnx_file_still_computes_the_scores_of_its_run(files):
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    session = runtime.InferenceSession(str(files / "lstm.onnx"), providers=["CPUExecutionProvider"])
    run = d2l.load_run(files / "lstm")
    tokens = np.arange(len(run.vocab)).reshape(1, -1)
    states = {
        given.name: np.zeros((1, given.shape[1]), np.float32) for given in session.get_inputs()[1:]
    }
    scores, *_ = session.run(None, {"tokens": tokens, **states})
    expected, _ = run.model(nd.array(tokens), run.model.begin_state(batch_size=1))
    np.testing.assert_allclose(scores[0], expected.asnumpy(), atol=1e-6)
