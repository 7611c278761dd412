"""Runs on memory-mapped texts give the same results as in memory, with less of it."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn import _checks, cli
from d2l_deeprnn._mxnet import nd
from d2l_deeprnn.text import corpora, known_texts, minibatches, token_files
from d2l_deeprnn.training import evaluate as module
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.evaluate import count_tokens, evaluate
from d2l_deeprnn.training.settings import TrainSettings

SMALL = dict(num_hiddens=6, num_layers=1, batch_size=3, num_steps=7, num_epochs=2, lr=1.0)
OPTIONS = ["--num-layers=1", "--num-hiddens=4", "--batch-size=4", "--num-steps=10"]


@pytest.fixture
def mapped(monkeypatch):
    """Treat every text as a large one."""
    monkeypatch.setattr(token_files, "IN_MEMORY", 10)
    monkeypatch.setattr(token_files, "GRAIN_SECONDS", -10)
    monkeypatch.setattr(minibatches, "BLOCK", 100)


@pytest.mark.parametrize("sampling", ["adjacent", "random"])
def test_a_run_on_a_mapped_text_is_the_same(tmp_path, request, sampling):
    settings = TrainSettings(
        corpus=("the_tide_tables", "the_clockmakers_guest"),
        num_examples=1200,
        sampling=sampling,
        test_fraction=0.1,
        **SMALL,
    )
    before = runs.train(settings, tmp_path / "before").history
    in_memory = runs.read_text_parts(settings)
    request.getfixturevalue("mapped")
    after = runs.train(settings, tmp_path / "after").history
    assert [r._replace(seconds=0) for r in after] == [r._replace(seconds=0) for r in before]
    assert list(known_texts.cache_directory().rglob("*.npy"))
    text = runs.read_own_text(tmp_path / "after")
    assert text.sha256 == in_memory.sha256 == runs.read_own_text(tmp_path / "before").sha256
    for name in ("train", "valid", "test"):
        part = getattr(text, name)
        assert part.dtype == np.uint8 and not part.flags.writeable
        np.testing.assert_array_equal(part, getattr(in_memory, name))


def test_a_run_on_a_directory(tmp_path, mapped, monkeypatch, capsys):
    texts = tmp_path / "texts"
    texts.mkdir()
    sample = corpora.find_text("the_tide_tables").read_bytes()
    (texts / "1").write_bytes(sample[:2000])
    (texts / "2.gz").write_bytes(gzip.compress(sample[2000:4000]))
    monkeypatch.chdir(tmp_path)
    out = str(tmp_path / "run")
    train = ["train", "--corpus", "texts", "--out", out, "--num-epochs", "1", *OPTIONS]
    assert cli.main(train) == 0
    monkeypatch.chdir("/")  # a run finds its text from anywhere
    assert cli.main(["train", "--resume", "--out", out, "--num-epochs", "2"]) == 0
    assert cli.main(["evaluate", out]) == 0
    own = json.loads(Path(out, "config.json").read_text())["text"]
    assert own["paths"] == [str(texts)]
    assert own["sha256"] == runs.read_own_text(Path(out)).sha256
    capsys.readouterr()
    (texts / "1").write_bytes(sample[:1999] + b"#")
    assert cli.main(["evaluate", out]) == 2
    assert "is not the text with which the run" in capsys.readouterr().err
    os.rename(texts, tmp_path / "moved")
    assert cli.main(["evaluate", out]) == 2
    assert "is no longer at" in capsys.readouterr().err


def test_another_text_is_scored_by_the_runs_vocabulary(tmp_path, mapped, capsys):
    out = str(tmp_path / "run")
    corpus = ["--corpus", "the_tide_tables", "--num-examples", "2000"]
    assert cli.main(["train", *corpus, "--out", out, "--num-epochs", "1", *OPTIONS]) == 0
    path = tmp_path / "other"
    path.write_text(
        "A text \u4e2d with \u4e8c of them that the run never met. " * 30, encoding="utf-8"
    )
    capsys.readouterr()
    assert cli.main(["evaluate", out, "--corpus", str(path)]) == 0
    shown = capsys.readouterr().out
    run = d2l.load_run(Path(out))
    indices = run.vocab.encode(corpora.load_text(path))
    unknown = int((indices == run.vocab.unk).sum())
    assert unknown >= 60 and f"{unknown} of the {len(indices):,} characters of " in shown
    assert f" {evaluate(run.model, indices, run.ctx).nats:.4f} " in shown


class Sure:
    """A model that gives each of nine tokens the same probability."""

    def begin_state(self, batch_size, ctx):
        return []

    def __call__(self, inputs, state):
        return nd.zeros((inputs.size, 9)), state


def test_scoring_takes_no_memory_for_the_length_of_the_text(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 1000)
    monkeypatch.setattr(_checks, "_CHUNK", 1000)
    text = np.random.randint(0, 9, 2_000_000).astype(np.uint8)
    evaluate(Sure(), text[:20_000], unscored=[3])
    tracemalloc.start()
    try:
        result = evaluate(Sure(), text, unscored=[3])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.num_chars == len(text) - 1 - int((text[1:] == 3).sum())
    assert result.nats == pytest.approx(np.log(9), rel=1e-5)
    assert peak < len(text) / 2


def test_tokens_are_counted_in_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)
    assert count_tokens(np.array([1, 2, 3, 1, 2, 3, 1]), [1, 3]) == 5
    assert count_tokens(np.array([1, 2]), []) == count_tokens(np.array([], int), [1]) == 0
