"""Runs of ``train``: begun, gone on with, and loaded again; see also ``run_directory``."""

from __future__ import annotations

import csv
import dataclasses
import io
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from .._mxnet import mx
from .._mxnet.context import try_gpu
from ..evidence.provenance import machine, versions
from ..files import read_text
from ..nn.model import RNNModel
from ..text.corpora import check_kept, load_text
from ..text.vocab import Vocab
from .checkpoint import CheckpointError
from .learner import Diverged, Learner, build_model, new_model, untrained_state
from .run_directory import (
    BEST,
    CONFIG,
    LAST,
    METRICS,
    TRAIN,
    RunDirectory,
    RunError,
    check_text,
    check_there,
    command_of,
    fitting,
    load_own,
    located,
    places,
    read_config,
    run_directory,
    text_sha256,
)
from .settings import SettingsError, TrainSettings, as_dict, differences, from_dict
from .state import TrainingState, TrainRecord, parameters_in, set_parameters
from .trainer import Progress, Stopped

COLUMNS = {"train_loss", "perplexity"}  # of the history, by `train` and by `reproduce`
# What may be changed when a run goes on: it decides about what is still to come or, the last, how
# the same text is read.
CHANGEABLE = ("num_epochs", "patience", "encoding")


class TextParts(NamedTuple):
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


def read_text_of(settings: TrainSettings) -> TextParts:
    """Read the text of a run and cut it into its parts.

    Raises:
        CorpusError: if a text cannot be found or used, or could not be read
            again when the run is resumed.
        SettingsError: if a part is too short to be scored.
    """
    check_kept(settings.corpus)
    text = load_text(
        list(settings.corpus),
        settings.num_examples,
        lower=not settings.keep_case,
        fold_whitespace=not settings.keep_whitespace,
        encoding=settings.encoding,
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
    valid_end = num_train + num_valid
    parts = indices[:num_train], indices[num_train:valid_end], indices[valid_end:]
    return TextParts(vocab, *parts, text_sha256(text))


def train(
    settings: Optional[TrainSettings],
    out: Path,
    *,
    resume: bool = False,
    on_start: Callable[[Learner, TextParts], Any] = lambda learner, text: None,
    on_minibatch: Callable[[Progress], Any] = lambda progress: None,
    on_epoch: Callable[[TrainRecord], Any] = lambda record: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Train a model in a directory, with a checkpoint after each epoch.

    A run that was stopped or killed at any moment and is resumed ends with the
    parameters, to the bit, of one that never was (on the same machine, with
    the same number of threads).

    Args:
        settings: of the run; None to resume with its own. To resume, they are
            the run's, but for those that decide only about what is still to
            come (``CHANGEABLE``) and for the place of the same text.
        out: the run's directory. It is made; it must be empty or, to resume,
            hold the run.
        resume: go on with the run that is there, or begin it if none is.
        on_start: called before the first minibatch of this call.
        on_minibatch: called after each minibatch.
        on_epoch: called after each epoch, when its checkpoint is written.
        should_stop: asked after each minibatch. Where it says yes, a
            checkpoint of that place is written and ``train`` returns.

    Raises:
        RunError: if the directory cannot be used, or its last checkpoint is gone.
        SettingsError: if ``settings`` would change what the run in there has done.
        CorpusError: if the text cannot be found, or is not the run's any more.
        CheckpointError: if the checkpoint is damaged or of another run.
        Diverged: if the loss is no finite number any more. The last
            checkpoint is kept.
        OSError: if a checkpoint cannot be written; the one before is kept.
    """
    with run_directory(out, TRAIN, resume=resume) as directory:
        config = directory.config
        if config is None and settings is None:
            raise RunError(f"{out} holds no run to resume: say what to train on")
        if config is not None:
            settings = _gone_on_with(config, settings, out)
        assert settings is not None
        text = read_text_of(settings)
        if config is not None:
            directory.check_text(text.sha256, settings.corpus)
        ctx = try_gpu()
        model = new_model(settings, len(text.vocab), ctx, stacked=_is_stacked(config))
        learner = Learner(settings, model, text.train, text.valid, ctx)
        if config is None:
            directory.begin(_config(settings, text, ctx))
        else:
            begun = _restore(learner, text, directory)
            _note_changes(settings, begun, directory)
        on_start(learner, text)
        while learner.finished is None:
            try:
                record = learner.train_epoch(on_minibatch, should_stop)
            except Stopped as stopped:
                _save(learner, text, directory)
                return Result(learner.history, f"stopped {stopped}", True)
            except Diverged as error:
                kept = f"the checkpoint of epoch {len(learner.history)} is kept"
                kept = kept if directory.has(LAST) else "there was no checkpoint yet"
                raise Diverged(f"{error}; {kept}") from None
            _save(learner, text, directory)
            on_epoch(record)
            if should_stop() and learner.finished is None:
                return Result(learner.history, f"stopped after epoch {record.epoch}", True)
        return Result(learner.history, learner.finished, False)


def write_run(
    out: Path,
    settings: TrainSettings,
    model: RNNModel,
    vocab: Vocab,
    history: List[TrainRecord],
    *,
    text: Mapping[str, Any],
    imported: Mapping[str, Any],
) -> None:
    """Make a run of a model that was trained elsewhere; training can go on from there.

    Its optimizer and its random generators start anew.

    Args:
        out: directory of the run, as in ``train``.
        settings: of the model and of its training.
        model: what ``build_model`` made of them, with its parameters.
        vocab: that it was trained with.
        history: of the epochs in which it was trained.
        text: what the configuration is to say of the text. Its ``sha256`` is None where
            nobody knows which text it was.
        imported: where the model comes from.

    Raises:
        RunError: if the directory cannot be used.
        OSError: if a file cannot be written.
    """
    arrays, data = untrained_state(settings, model, history).to_checkpoint()
    with run_directory(out, TRAIN, resume=False) as directory:
        directory.begin(
            {
                "settings": as_dict(settings),
                "text": {**text, "paths": places(settings.corpus) if text["sha256"] else [None]},
                "imported": dict(imported),
                "device": str(try_gpu()),
                "versions": versions(),
                "machine": machine(),
            }
        )
        checkpoint = {"learner": data, "vocab": vocab.idx_to_token, "versions": versions()}
        directory.save(arrays, checkpoint, _metrics(history), best=True)


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
    config = _trained(directory)
    path = directory / names[checkpoint]
    if checkpoint == "best" and not path.exists():
        raise CheckpointError(_no_best(directory))
    loaded = load_own(path, config["run"])
    ctx = try_gpu()
    with fitting(path):
        settings = settings_of(config)
        vocab = Vocab.from_tokens(loaded.data["vocab"])
        model = build_model(settings, len(vocab), stacked=_is_stacked(config))
        set_parameters(model, parameters_in(loaded.arrays), ctx)
        history = [TrainRecord(*record) for record in loaded.data["learner"]["history"]]
    return LoadedRun(model, vocab, settings, history, ctx)


def read_history(directory: Path) -> List[Dict[str, float]]:
    """Read the rows of a run's ``metrics.csv``: column -> number, where there is one.

    Raises:
        RunError: if there is none, or it is no table of numbers.
    """
    path = directory / METRICS
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True))
        history = [
            {name: float(row[name]) for name in row if row[name] and "prediction" not in name}
            for row in rows
        ]
        if not history or not all("epoch" in r and r.keys() & COLUMNS for r in history):
            raise ValueError(f"it has no rows with epoch and {' or '.join(sorted(COLUMNS))}")
        return history
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{directory} holds no run with a finished epoch: no {METRICS}") from None
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def settings_of(config: Dict[str, Any]) -> TrainSettings:
    """The settings in a run's configuration, with its texts where they are now."""
    settings = from_dict(config["settings"])
    corpus = tuple(located(settings.corpus, config["text"]))
    return dataclasses.replace(settings, corpus=corpus)


def read_own_text(directory: Path) -> TextParts:
    """Read the text of the run in a directory, if it is still what it was.

    Raises:
        RunError: if there is no run, or the text has changed.
        CorpusError: if the text cannot be found or used.
    """
    config = _trained(directory)
    _check_text_known(config, directory)
    settings = settings_of(config)
    check_there(settings.corpus, directory, TRAIN)
    text = read_text_of(settings)
    check_text(config, text.sha256, settings.corpus, directory)
    return text


def _trained(directory: Path) -> Dict[str, Any]:
    """The configuration of a run of ``train``."""
    config = read_config(directory)
    if config is None:
        raise RunError(f"{directory} holds no run: there is no {CONFIG}")
    if command_of(config) != TRAIN:
        raise RunError(
            f"{directory} holds a run of `{command_of(config)}`; this takes one of `{TRAIN}`"
        )
    return config


def _check_text_known(config: Mapping[str, Any], directory: Path) -> None:
    """Raise a RunError if nobody knows on which text the model of a run was trained."""
    if config["text"]["sha256"] is None:
        raise RunError(
            f"the model in {directory} was imported from a file that does not name the text it was "
            "trained on: it can write, and be scored on a text (evaluate --corpus), but not be "
            "trained further"
        )


def _is_stacked(config: Optional[Mapping[str, Any]]) -> bool:
    """Whether a run was begun by a version that always took a ``StackedRNN``."""
    if config is None:
        return False
    version = config.get("versions", {}).get("d2l_deeprnn", "0.1.0")
    return str(version).startswith(("0.1.", "0.2."))


def _no_best(directory: Path) -> str:
    go_on = f"train --resume --out {directory}"
    if not (directory / LAST).exists():
        return f"the run in {directory} has no checkpoint yet: go on with it ({go_on})"
    return (
        f"the run in {directory} has no {BEST}, which the first finished epoch writes: take "
        f"--checkpoint last, or go on with the run ({go_on})"
    )


def _gone_on_with(
    config: Dict[str, Any], settings: Optional[TrainSettings], out: Path
) -> TrainSettings:
    """The settings to go on with: the run's, with what may be changed."""
    _check_text_known(config, out)
    own = settings_of(config)
    settings = settings or own
    odd = [
        line
        for line in differences(own, settings)
        if line.partition(":")[0] not in (*CHANGEABLE, "corpus")
    ]
    if odd:
        raise SettingsError(
            f"the run in {out} has other settings ({'; '.join(odd)}): "
            "resume it with its own, or begin a new run in another directory"
        )
    if settings.corpus == from_dict(config["settings"]).corpus:
        settings = dataclasses.replace(settings, corpus=own.corpus)
    if settings.corpus == own.corpus:
        check_there(own.corpus, out, TRAIN)
    return settings


def _note_changes(settings: TrainSettings, begun: int, directory: RunDirectory) -> None:
    """Write down what is changed from here on, unless it would change what was done."""
    config = directory.config
    assert config is not None
    own = from_dict(config["settings"])
    what = {
        name: {"from": getattr(own, name), "to": getattr(settings, name)}
        for name in CHANGEABLE
        if getattr(own, name) != getattr(settings, name)
    }
    if "num_epochs" in what:
        if settings.num_epochs < begun:
            raise SettingsError(
                f"num_epochs must be at least {begun}, as many as the run in {directory.path} "
                f"has begun, not {settings.num_epochs}"
            )
        if settings.schedule == "cosine" and begun:
            raise SettingsError(
                f"num_epochs is {own.num_epochs} in the run in {directory.path}, and cannot be "
                "changed: with schedule cosine, the epochs done would have had other learning "
                "rates; begin a new run in another directory"
            )
    text = config["text"]
    moved = settings.corpus != tuple(located(own.corpus, text))
    paths = places(settings.corpus)
    if "paths" in text and paths != text["paths"]:
        what["corpus"] = {"from": text["paths"], "to": paths}
    elif moved:
        what["corpus"] = {"from": list(own.corpus), "to": list(settings.corpus)}
    if what or paths != text.get("paths"):
        corpus = settings.corpus if moved else own.corpus
        changed = as_dict(dataclasses.replace(settings, corpus=corpus))
        new = {"settings": changed, "text": {**text, "paths": paths}}
        directory.change(begun, what, new)


def _config(settings: TrainSettings, text: TextParts, ctx: mx.Context) -> Dict[str, Any]:
    return {
        "settings": as_dict(settings),
        "text": {
            "sha256": text.sha256,
            "paths": places(settings.corpus),
            "vocab_size": len(text.vocab),
            "train_chars": len(text.train),
            "valid_chars": len(text.valid),
            "test_chars": len(text.test),
        },
        "device": str(ctx),
        "versions": versions(),
        "machine": machine(),
    }


def _save(learner: Learner, text: TextParts, directory: RunDirectory) -> None:
    arrays, data = learner.capture().to_checkpoint()
    checkpoint = {"learner": data, "vocab": text.vocab.idx_to_token, "versions": versions()}
    best = learner.best is not None and learner.best is learner.history[-1]
    metrics = _metrics(learner.history)
    directory.save(arrays, checkpoint, metrics, best=best and not data["position"])


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


def _restore(learner: Learner, text: TextParts, directory: RunDirectory) -> int:
    """Go on from the checkpoint that the run wrote last, and put right what is beside it.

    Returns: how many epochs were begun.
    """
    name = LAST
    if not directory.has(LAST):
        # Killed while it wrote its first checkpoint, it has the best one only: that is the same.
        name = BEST
        if directory.has(METRICS) or not directory.has(BEST):
            directory.begins_again()
            return 0
    loaded = directory.load(name)
    with fitting(directory.path / name):
        learner.restore(TrainingState.from_checkpoint(loaded.arrays, loaded.data["learner"]))
    if name == BEST and len(learner.history) > 1:
        raise directory.last_is_gone()
    best, begun = learner.best, len(learner.history)
    in_epoch = loaded.data["learner"]["position"] > 0
    newest = best is not None and best.epoch == begun and not in_epoch
    if name == BEST or (newest and not directory.has(BEST)):
        _save(learner, text, directory)
    elif best and not directory.has(BEST):
        warnings.warn(
            f"{directory.path / BEST} is gone: until an epoch is better than epoch {best.epoch}, "
            "there is --checkpoint last only",
            stacklevel=3,
        )
    directory.save_metrics(_metrics(learner.history))
    return begun + in_epoch


def held_out_parts(text: TextParts) -> Tuple[Tuple[str, np.ndarray], ...]:
    """The held-out parts of a text that there are, with their names."""
    parts = (("validation", text.valid), ("test", text.test))
    return tuple((name, indices) for name, indices in parts if len(indices))
