"""A run can start with the weights of another run, on another text."""

import html
import json
import re
import shlex
import shutil

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import nd
from d2l_deeprnn.cli import main
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.init_from import initialize_from
from d2l_deeprnn.training.learner import new_model
from d2l_deeprnn.training.run_directory import RunError
from d2l_deeprnn.training.settings import SettingsError

SENTENCE = "we sing of the sea and the tides. "


def settings(path, **changed):
    fields = {
        "corpus": (str(path),), "num_hiddens": 8, "batch_size": 4, "num_steps": 8, "num_epochs": 1,
        "optimizer": "adam", "lr": 0.01, **changed,
    }  # fmt: skip
    return d2l.TrainSettings(**fields)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    directory = tmp_path_factory.mktemp("first")
    (directory / "text.txt").write_text(SENTENCE * 40)
    runs.train(settings(directory / "text.txt", num_epochs=2), directory / "run")
    return directory / "run"


def interrupt(learner, text):
    raise KeyboardInterrupt


def scores_of(model, vocab, text, characters):
    """Return the scores of some characters after each character of a text."""
    indices = nd.array([vocab[list(text)]])
    scores, _ = model(indices, model.begin_state(batch_size=1, ctx=indices.context))
    return scores.asnumpy().astype(float)[:, vocab[characters]]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_known_characters_keep_their_weights_whatever_their_index(first, tmp_path, dropout):
    there = d2l.load_run(first)
    (tmp_path / "other.txt").write_text("xx the hen's nest, xxx ")
    chosen = settings(tmp_path / "other.txt", dropout=dropout, seed=5)
    vocab = d2l.Vocab((tmp_path / "other.txt").read_text())
    model = new_model(chosen, len(vocab), there.ctx)
    before = scores_of(model, vocab, "the nest", ["x", "t"])
    with pytest.warns(UserWarning, match=r"3 of 10 characters .* start at random: 'x' \"'\" ','"):
        initialize_from(there, model, chosen, vocab, there.ctx)
    known = [c for c in there.vocab.idx_to_token if c in vocab.token_to_idx]
    assert "t" in known and vocab["t"] != there.vocab["t"]
    here = scores_of(model, vocab, "the nest", known)
    np.testing.assert_allclose(
        here, scores_of(there.model, there.vocab, "the nest", known), rtol=1e-5
    )
    assert np.abs(here - before[:, 1:]).max() > 0.01  # not those of a new model


def test_training_starts_where_the_other_run_was_at_its_best(first, tmp_path, capsys):
    words = ["--corpus", str(first.parent / "text.txt"), "--num-hiddens=8", "--batch-size=4"]
    words += ["--num-steps=8", "--optimizer=adam", "--lr=1e-12", "--num-epochs=1"]
    out = tmp_path / "run"
    assert main(["train", *words, "--init-from", str(first), "--out", str(out)]) == 0
    (record,) = d2l.load_run(out).history
    assert record.valid_loss == pytest.approx(d2l.load_run(first).history[-1].valid_loss, rel=1e-6)
    origin = json.loads((out / "config.json").read_text())["init_from"]
    assert origin["run"] == json.loads((first / "config.json").read_text())["run"]
    assert origin["epoch"] == 2 and origin["directory"] == str(first)
    assert f"weights of {first}" in capsys.readouterr().out
    # Its own weights are kept when it resumes.
    again = ["train", "--resume", "--num-epochs=2", "--out", str(out)]
    assert main([*again, "--init-from", str(out)]) == 2
    assert "weights cannot be replaced" in capsys.readouterr().err
    assert main([*again, "--init-from", str(first)]) == 0
    assert "weights of" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "changed, text, words",
    [
        (
            {"cell": "gru", "num_hiddens": 9},
            SENTENCE,
            "^init_from: cell is gru, but lstm in that run; num_hiddens is 9, but 8 in that",
        ),
        ({"num_layers": 1}, SENTENCE, "num_layers is 1, but 2 in that run"),
        ({}, "1234567890", "no character in common"),
    ],
)
def test_a_run_that_does_not_fit_is_refused(first, tmp_path, changed, text, words):
    path, out = tmp_path / "text.txt", tmp_path / "run"
    path.write_text(text * 50)
    with pytest.raises(SettingsError, match=words):
        runs.train(settings(path, **changed), out, init_from=first)
    assert not (out / "config.json").exists()


def test_killed_before_its_first_checkpoint_it_starts_with_the_same_weights(first, tmp_path):
    chosen = settings(first.parent / "text.txt", num_epochs=2)
    expected = runs.train(chosen, tmp_path / "whole", init_from=first).history
    out = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        runs.train(chosen, out, init_from=first, on_start=interrupt)
    assert (out / "config.json").exists() and not (out / "last.zip").exists()
    with pytest.warns(UserWarning, match="starts over"):
        # The same command again, with --resume, and another spelling of the directory.
        resumed = runs.train(chosen, out, resume=True, init_from=first / ".." / "run").history
    assert [record[:4] for record in resumed] == [record[:4] for record in expected]


def test_the_command_in_its_report_makes_the_same_run(first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = runs.train(settings(first.parent / "text.txt"), "run", init_from=first).history
    assert main(["report", "run"]) == 0
    page = html.unescape((tmp_path / "run" / "report.html").read_text())
    (command,) = re.findall("d2l-deeprnn (train .*--out repeated)", page)
    assert main(shlex.split(command)) == 0
    assert [r["train_loss"] for r in runs.read_history("repeated")] == [
        record.train_loss for record in expected
    ]


def test_weights_that_have_changed_meanwhile_are_refused(first, tmp_path):
    source, out = tmp_path / "source", tmp_path / "run"
    shutil.copytree(first, source)
    chosen = settings(first.parent / "text.txt")
    with pytest.raises(KeyboardInterrupt):
        runs.train(chosen, out, init_from=source, on_start=interrupt)
    assert main(["train", "--resume", "--num-epochs=3", "--out", str(source)]) == 0
    if len(d2l.load_run(source).history) == 2:  # its best epoch is still the same
        pytest.skip("the third epoch is not better")
    with pytest.warns(UserWarning), pytest.raises(RunError, match="whose weights it starts with"):
        runs.train(None, out, resume=True)


def test_it_is_shown_with_the_settings(first, tmp_path, capsys):
    out = tmp_path / "run"
    runs.train(settings(first.parent / "text.txt"), out, init_from=first)
    assert main(["runs", str(tmp_path)]) == 0
    assert "init from run\n" in capsys.readouterr().out
    config = ["--config", str(out / "config.json"), "--out", str(tmp_path / "other")]
    with pytest.warns(UserWarning, match=f"add --init-from {first}"):
        assert main(["train", *config]) == 0


def test_a_run_without_a_finished_epoch_has_no_weights_to_start_with(first, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(first, source)
    (source / "best.zip").unlink()
    with pytest.raises(RunError, match="has no finished epoch"):
        runs.train(settings(first.parent / "text.txt"), tmp_path / "run", init_from=source)
