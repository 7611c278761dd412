"""A training run and its directory: begun, gone on with, and loaded again.

A run's directory holds

    config.json   settings, text, versions and machine, written once
    metrics.csv   the history, a row an epoch
    last.zip      the checkpoint to go on from
    best.zip      the checkpoint with the smallest loss so far
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from ._mxnet import mx
from .book import CHAPTER
from .checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from .context import try_gpu
from .corpora import BOOK_TEXT, load_text
from .files import remove_leftovers, write_text
from .learner import Diverged, Learner, Progress, Stopped, TrainRecord, build_model, load_params
from .model import RNNModel
from .provenance import machine, versions
from .settings import SettingsError, TrainSettings, as_dict, differences, from_dict
from .vocab import Vocab

CONFIG, METRICS, LAST, BEST = "config.json", "metrics.csv", "last.zip", "best.zip"
COLUMNS = {"train_loss", "perplexity"}  # of the history, by `train` and by `reproduce`


class RunError(RuntimeError):
    """A directory cannot be used for what was asked."""


class Text(NamedTuple):
    """The text of a run: vocabulary, and the indices of its three parts in file order."""

    vocab: Vocab
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    sha256: str


class LoadedRun(NamedTuple):
    """A trained model and what belongs to it."""

    model: RNNModel
    vocab: Vocab
    settings: TrainSettings
    history: List[TrainRecord]
    ctx: mx.Context


class Result(NamedTuple):
    """How a call of ``train`` ended.

    Attributes:
        history: a record for each finished epoch, those before a resume too.
        reason: why it ended, in words.
        stopped: whether it was asked to stop before it was finished.
    """

    history: List[TrainRecord]
    reason: str
    stopped: bool


def read_text_of(settings: TrainSettings) -> Text:
    """Read the text of a run and cut it into its parts.

    Raises:
        CorpusError: if a text cannot be found or used.
        SettingsError: if a part is too short to be scored.
    """
    text = load_text(
        list(settings.corpus),
        settings.num_examples,
        lower=not settings.keep_case,
        fold_whitespace=not settings.keep_whitespace,
    )
    vocab = Vocab(text)
    indices = vocab.encode(text)
    num_valid = int(len(text) * settings.valid_fraction)
    num_test = int(len(text) * settings.test_fraction)
    num_train = len(text) - num_valid - num_test
    for name, fraction, length in [
        ("valid_fraction", settings.valid_fraction, num_valid),
        ("test_fraction", settings.test_fraction, num_test),
    ]:
        if fraction and length < 2:
            raise SettingsError(
                f"{name} {fraction} of {len(text)} characters is {length}: to be scored, a part "
                "needs 2; give a longer text, a larger part, or 0 for none"
            )
    sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    valid_end = num_train + num_valid
    parts = indices[:num_train], indices[num_train:valid_end], indices[valid_end:]
    return Text(vocab, *parts, sha256)


def train(
    settings: Optional[TrainSettings],
    out: Path,
    *,
    resume: bool = False,
    on_start: Callable[[Learner, Text], Any] = lambda learner, text: None,
    on_minibatch: Callable[[Progress], Any] = lambda progress: None,
    on_epoch: Callable[[TrainRecord], Any] = lambda record: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Train a model in a directory, with a checkpoint after each epoch.

    A run that was stopped or killed at any moment and is resumed ends with the
    parameters, to the bit, of one that never was (on the same machine, with
    the same number of threads).

    Args:
        settings: of the run; None to resume with its own.
        out: the run's directory. It is made; it must be empty or, to resume,
            hold the run.
        resume: go on with the run that is there, or begin it if none is.
        on_start: called before the first minibatch of this call.
        on_minibatch: called after each minibatch.
        on_epoch: called after each epoch, when its checkpoint is written.
        should_stop: asked after each minibatch. Where it says yes, a
            checkpoint of that place is written and ``train`` returns.

    Raises:
        RunError: if the directory cannot be used.
        SettingsError: if ``settings`` are not those of the run in there.
        CorpusError: if the text cannot be found, or is not the run's any more.
        CheckpointError: if the checkpoint is damaged or of another run.
        Diverged: if the loss is no finite number any more. The last
            checkpoint is kept.
        OSError: if a checkpoint cannot be written; the one before is kept.
    """
    with _directory(out, resume) as config_there:
        if config_there is not None:
            settings = _own_settings(config_there, settings, out)
        if settings is None:
            raise RunError(f"{out} holds no run to resume: say what to train on")
        text = read_text_of(settings)
        ctx = try_gpu()
        learner = Learner(settings, len(text.vocab), text.train, text.valid, ctx)
        config = config_there or _begin(settings, text, ctx, out)
        _check_text(text, config, out)
        if (out / LAST).exists():
            _restore(learner, _load_own(out / LAST, config["run"]), out / LAST)
        on_start(learner, text)
        while learner.finished is None:
            try:
                record = learner.train_epoch(on_minibatch, should_stop)
            except Stopped as stopped:
                _save(learner, text, config["run"], out)
                return Result(learner.history, f"stopped {stopped}", True)
            except Diverged as error:
                kept = f"the checkpoint of epoch {len(learner.history)} is kept"
                kept = kept if (out / LAST).exists() else "there was no checkpoint yet"
                raise Diverged(f"{error}; {kept}") from None
            _save(learner, text, config["run"], out)
            on_epoch(record)
            if should_stop() and learner.finished is None:
                return Result(learner.history, f"stopped after epoch {record.epoch}", True)
        return Result(learner.history, learner.finished, False)


def load_run(directory: Path, *, checkpoint: str = "best") -> LoadedRun:
    """Load the model of a run.

    Args:
        directory: of the run.
        checkpoint: "best" or "last".

    Raises:
        RunError: if the directory holds no run.
        CheckpointError: if the checkpoint is missing, damaged or of another run.
        ValueError: if ``checkpoint`` is neither.
    """
    names = {"best": BEST, "last": LAST}
    if checkpoint not in names:
        raise ValueError(f"checkpoint must be best or last, not {checkpoint!r}")
    config = read_config(directory)
    if config is None:
        raise RunError(f"{directory} holds no run: there is no {CONFIG}")
    path = directory / names[checkpoint]
    loaded = _load_own(path, config["run"])
    ctx = try_gpu()
    with _naming(path):
        settings = from_dict(config["settings"])
        vocab = Vocab.from_tokens(loaded.data["vocab"])
        model = build_model(settings, len(vocab))
        load_params(model, loaded.arrays, ctx)
        history = [TrainRecord(*record) for record in loaded.data["learner"]["history"]]
    model.hybridize(static_alloc=True)
    return LoadedRun(model, vocab, settings, history, ctx)


def read_history(directory: Path) -> List[Dict[str, float]]:
    """Read the rows of a run's ``metrics.csv``: column -> number, where there is one.

    Raises:
        RunError: if there is none, or it is no table of numbers.
    """
    path = directory / METRICS
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        history = [
            {name: float(row[name]) for name in row if row[name] and "prediction" not in name}
            for row in rows
        ]
        if not history or not all("epoch" in r and r.keys() & COLUMNS for r in history):
            raise ValueError(f"it has no rows with epoch and {' or '.join(sorted(COLUMNS))}")
        return history
    except FileNotFoundError:
        raise RunError(f"{directory} holds no run with a finished epoch: no {METRICS}") from None
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def is_the_chapters(directory: Path) -> bool:
    """Whether a run, of ``train`` or of ``reproduce``, is the chapter's, so that the book's
    figures can be drawn beside it."""
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        if "is_the_books_text" in config:
            return bool(config["is_the_books_text"])
        settings = from_dict(config["settings"])
    except (OSError, ValueError, TypeError, KeyError):
        return False
    chapter = TrainSettings(
        corpus=(BOOK_TEXT,),
        num_examples=CHAPTER.num_examples,
        valid_fraction=0.0,
        num_epochs=settings.num_epochs,
        seed=settings.seed,
    )
    return settings == chapter


@contextlib.contextmanager
def _directory(out: Path, resume: bool) -> Iterator[Optional[Dict[str, Any]]]:
    """Take a directory for a run; gives the configuration of the run that is to be resumed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        # The lock goes with the process, however that ends.
        with open(out / ".lock", "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(f"{out} is being trained in by another process") from None
            for name in (CONFIG, METRICS, LAST, BEST):
                remove_leftovers(out / name)
            config = read_config(out)
            if config is not None and not resume:
                raise RunError(f"{out} holds a run: go on with it (--resume), or name another")
            others = [p.name for p in out.iterdir() if p.name != ".lock"]
            if config is None and others:
                raise RunError(
                    f"{out} is not empty and holds no run (it holds {min(others)}): name a new one"
                )
            yield config
    except (FileExistsError, NotADirectoryError) as error:
        raise RunError(f"{out} is no directory: name another") from error
    except PermissionError as error:
        raise RunError(f"{out} cannot be written to: name another directory") from error


def read_config(directory: Path) -> Optional[Dict[str, Any]]:
    """Read a run's configuration; None where there is none.

    Raises:
        RunError: if it is there and cannot be used.
    """
    path = directory / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not {"run", "settings", "text"} <= set(config):
            raise ValueError("it is not a run's")
        from_dict(config["settings"])
        config["text"]["sha256"]  # raises if it is not there
        return config
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path} cannot be used: {error}") from error


def settings_of(config: Dict[str, Any]) -> TrainSettings:
    """The settings in a run's configuration."""
    return from_dict(config["settings"])


def _own_settings(
    config: Dict[str, Any], settings: Optional[TrainSettings], out: Path
) -> TrainSettings:
    own = settings_of(config)
    if settings is not None and settings != own:
        raise SettingsError(
            f"the run in {out} has other settings ({'; '.join(differences(own, settings))}): "
            "resume it with its own, or begin a new run in another directory"
        )
    return own


def check_text(text: Text, directory: Path) -> None:
    """Raise a RunError unless a text is still what the run in a directory began with."""
    config = read_config(directory)
    if config is not None:
        _check_text(text, config, directory)


def _check_text(text: Text, config: Dict[str, Any], directory: Path) -> None:
    if text.sha256 != config["text"]["sha256"]:
        raise RunError(
            f"the text has changed since the run in {directory} began: its SHA-256 was "
            f"{config['text']['sha256']}, now it is {text.sha256}; give it the text it had, "
            "or begin a new run in another directory"
        )


def _begin(settings: TrainSettings, text: Text, ctx: mx.Context, out: Path) -> Dict[str, Any]:
    config = {
        "run": uuid.uuid4().hex,
        "settings": as_dict(settings),
        "text": {
            "sha256": text.sha256,
            "vocab_size": len(text.vocab),
            "train_chars": len(text.train),
            "valid_chars": len(text.valid),
            "test_chars": len(text.test),
        },
        "device": str(ctx),
        "versions": versions(),
        "machine": machine(),
    }
    write_text(out / CONFIG, json.dumps(config, indent=2) + "\n")
    return config


def _save(learner: Learner, text: Text, run: str, out: Path) -> None:
    arrays, data = learner.capture()
    checkpoint = {"run": run, "learner": data, "vocab": text.vocab.idx_to_token}
    checkpoint["versions"] = versions()
    # Best first: were it last, a process killed in between would never write it.
    if learner.best is not None and learner.best is learner.history[-1] and not data["position"]:
        save_checkpoint(out / BEST, arrays, checkpoint)
    save_checkpoint(out / LAST, arrays, checkpoint)
    write_text(out / METRICS, _metrics(learner.history))


def _metrics(history: List[TrainRecord]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(TrainRecord._fields)
    for r in history:
        valid = "" if r.valid_loss is None else repr(r.valid_loss)
        writer.writerow(
            [r.epoch, repr(r.train_loss), valid, repr(r.learning_rate), f"{r.seconds:.3f}"]
        )
    return table.getvalue()


def _load_own(path: Path, run: str) -> Checkpoint:
    """Load a checkpoint that belongs to a run."""
    loaded = load_checkpoint(path)
    if loaded.data.get("run") != run:
        raise CheckpointError(
            f"{path} is of another run ({loaded.data.get('run')}) than the {CONFIG} beside it "
            f"({run}): put back the file that belongs here"
        )
    return loaded


def _restore(learner: Learner, loaded: Checkpoint, path: Path) -> None:
    with _naming(path):
        learner.restore(loaded.arrays, loaded.data["learner"])


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of which checkpoint an error is, where its parts do not make a model."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{path} does not fit its run: {reason}") from error


def text_parts(text: Text) -> Tuple[Tuple[str, np.ndarray], ...]:
    """The held-out parts of a text that there are, with their names."""
    parts = (("validation", text.valid), ("test", text.test))
    return tuple((name, indices) for name, indices in parts if len(indices))
