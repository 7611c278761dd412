"""Any texts, settings and damaged files give a result or one of our own errors."""

import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d2l_deeprnn._mxnet import mx
from d2l_deeprnn.cli import main
from d2l_deeprnn.evidence import figures
from d2l_deeprnn.text.corpora import CorpusError, load_text
from d2l_deeprnn.text.minibatches import data_iter_consecutive, data_iter_random
from d2l_deeprnn.text.vocab import Vocab
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.ngram import NGramModel
from d2l_deeprnn.training.settings import SettingsError, TrainSettings, as_dict, from_dict

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    """Figures are made but not drawn, which takes longer than all else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save_figure", lambda figure, path: Path(path).touch())
        yield


FEW = settings(max_examples=250, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=500, suppress_health_check=list(HealthCheck))

ANY_CHARACTERS = st.characters()
TEXTS = st.text(ANY_CHARACTERS, max_size=200)
NUMBERS = st.integers(-2, 300) | st.floats()
ANYTHING = NUMBERS | st.none() | st.booleans() | st.text(max_size=5) | st.just([])


@MANY
@given(TEXTS, TEXTS)
def test_a_vocabulary_and_its_indices(text, other):
    vocab = Vocab(text)
    assert vocab.encode(other).tolist() == vocab[list(other)]
    assert "".join(vocab.to_tokens(vocab.encode(text).tolist())) == text
    again = Vocab.from_tokens(vocab.idx_to_token)
    assert again.idx_to_token == vocab.idx_to_token and again.token_to_idx == vocab.token_to_idx


@MANY
@given(st.binary(max_size=300) | TEXTS.map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_text_or_an_error(raw):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "text"
        path.write_bytes(raw)
        with contextlib.suppress(CorpusError):
            assert load_text(str(path)).strip()


@FEW
@given(
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=300),
    st.floats(0, 0.99),
    st.floats(0, 0.99),
)
def test_the_parts_of_a_text_are_the_text(text, valid_fraction, test_fraction):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "text"
        path.write_bytes(text.encode())
        try:
            chosen = TrainSettings(
                corpus=(str(path),),
                keep_case=True,
                keep_whitespace=True,
                valid_fraction=valid_fraction,
                test_fraction=test_fraction,
            )
            parts = runs.read_text_parts(chosen)
        except (SettingsError, CorpusError):
            return
        whole = load_text(str(path), lower=False, fold_whitespace=False)
        indices = np.concatenate([parts.train, parts.valid, parts.test])
        assert indices.tolist() == parts.vocab[list(whole)]
        assert len(parts.valid) == int(len(whole) * valid_fraction)
        assert len(parts.test) == int(len(whole) * test_fraction)


@MANY
@given(st.dictionaries(st.sampled_from(sorted(as_dict(TrainSettings(("text",))))), ANYTHING))
def test_settings_are_made_or_refused(values):
    try:
        made = TrainSettings(**{"corpus": ("text",), **values})
    except SettingsError:
        return
    assert from_dict(json.loads(json.dumps(as_dict(made)))) == made


@FEW
@given(
    st.lists(st.integers(0, 9), max_size=120), st.integers(1, 5), st.integers(1, 8), st.booleans()
)
def test_minibatches_spell_the_text(indices, batch_size, num_steps, adjacent):
    data_iter = data_iter_consecutive if adjacent else data_iter_random
    try:
        batches = data_iter(indices, batch_size, num_steps, mx.cpu())
    except ValueError as error:
        assert "but batch_size" in str(error)
        return
    text, seen = bytes(indices), 0
    for X, Y in batches:
        for x, y in zip(X.asnumpy().astype(np.uint8), Y.asnumpy().astype(np.uint8)):
            assert bytes(x) + bytes(y)[-1:] in text and bytes(x)[1:] == bytes(y)[:-1]
        seen += 1
    assert seen == len(batches) > 0


@FEW
@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.integers(1, 5))
def test_the_baseline_is_finite(indices, order):
    loss = NGramModel(indices, order, 5).loss(indices)
    assert np.isfinite(loss) and loss > 0


def called(words):
    """Return the exit status of a command; check that an error is one line of ours."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        status = main(words)
    assert status in (0, 2), (words, status)
    if status:
        lines = errors.getvalue().splitlines()
        assert len(lines) == 1 and lines[0].startswith("d2l-deeprnn"), (words, errors.getvalue())
    return status


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(
    text=st.text(st.sampled_from("ab cdé\n\U0001f600"), min_size=1, max_size=400),
    options=st.fixed_dictionaries(
        {
            "--num-hiddens": st.integers(0, 4),
            "--batch-size": st.integers(1, 6),
            "--num-steps": st.integers(0, 12),
            "--valid-fraction": st.floats(-0.1, 1) | st.just(0.2),
            "--num-epochs": st.integers(1, 2),
        },
        optional={
            "--test-fraction": st.floats(0, 0.5),
            "--num-layers": st.integers(1, 3),
            "--cell": st.sampled_from(["lstm", "gru", "rnn"]),
            "--init": st.sampled_from(["normal", "xavier", "orthogonal"]),
            "--sampling": st.sampled_from(["adjacent", "random"]),
            "--dropout": st.floats(0, 1),
            "--lr": st.floats(1e-6, 1e40),
            "--optimizer": st.sampled_from(["sgd", "adam", "rmsprop", "nonsense"]),
            "--schedule": st.sampled_from(["constant", "step", "cosine", "plateau"]),
            "--warmup-epochs": st.floats(0, 3),
            "--forget-bias": st.floats(-1, 1),
            "--patience": st.integers(0, 2),
        },
    ),
    prefix=st.text(st.sampled_from("ab cdé?"), max_size=3),
)
def test_any_arguments_train_or_are_refused(text, options, prefix):
    with tempfile.TemporaryDirectory() as directory:
        path, out = Path(directory) / "text", str(Path(directory) / "run")
        path.write_text(text, encoding="utf-8")
        words = [f"{name}={value}" for name, value in options.items()]
        if called(["train", "--corpus", str(path), *words, "--out", out]) == 0:
            called(["evaluate", out])
            called(["generate", out, f"--prefix={prefix}", "--length=5"])
            assert called(["plot", out, "--output", str(Path(directory) / "p.png")]) == 0


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    for seed in ("0", "1"):
        words = ["--corpus=the_tide_tables", "--num-examples=500", "--num-hiddens=3"]
        words += ["--num-epochs=1", "--batch-size=4", "--num-steps=10", f"--seed={seed}"]
        assert called(["train", *words, "--out", str(directory / seed)]) == 0
    return directory


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(["config.json", "metrics.csv", "last.zip", "best.zip"]),
    how=st.sampled_from(["truncate", "flip", "swap", "remove"]),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_a_damaged_run_is_refused_or_unaffected(two_runs, name, how, place, bit):
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "run"
        shutil.copytree(two_runs / "0", out)
        raw = bytearray((out / name).read_bytes())
        where = int(place * len(raw))
        if how == "truncate":
            raw = raw[:where]
        elif how == "flip":
            raw[where] ^= 1 << bit
        elif how == "swap":
            raw = bytearray((two_runs / "1" / name).read_bytes())
        (out / name).write_bytes(raw)
        if how == "remove":
            (out / name).unlink()
        resumed = called(["train", "--resume", "--out", str(Path(shutil.copytree(out, out / "x")))])
        evaluated = called(["evaluate", str(out)])
        generated = called(["generate", str(out), "--prefix=the", "--length=3"])
        called(["plot", str(out), "--output", str(Path(directory) / "p.png")])
        if name == "best.zip":
            assert (evaluated, generated) == (2, 2)
        if name == "last.zip" and how != "remove":  # without it, the run starts over
            assert resumed == 2
