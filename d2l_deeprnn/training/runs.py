"""Runs of ``train``: begun, gone on with, and loaded again; see also ``run_directory``."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import time
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from .._checks import positive_number
from .._mxnet import mx
from .._mxnet.context import check_ctx, exclusive_generators, try_gpu
from ..evidence.provenance import machine, versions
from ..files import PathLike, read_text, user_path
from ..nn.model import RNNModel
from ..text.corpora import check_rereadable
from ..text.token_files import read_tokens
from ..text.vocab import Vocab
from .checkpoint import Checkpoint, CheckpointError
from .launcher import TIMEOUT
from .learner import Diverged, Learner, build_model, new_model, untrained_state
from .ranks import Ranks, together
from .run_directory import (
    BEST,
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
    no_run,
    nothing_to_resume,
    places,
    read_config,
    run_directory,
)
from .settings import SettingsError, TrainSettings, as_dict, differences, from_dict
from .state import (
    TrainingState,
    TrainRecord,
    check_parameters,
    history_in,
    parameters_in,
    set_parameters,
)
from .trainer import Progress, Stopped

# Seconds since the last checkpoint after which one is written before scoring too. If the process is
# killed while it scores, for instance by running out of memory, it loses no more than this.
SAVE_SECONDS = 5.0
COLUMNS = {"train_loss", "perplexity"}  # of the history, by `train` and by `reproduce`
# What may be changed when a run goes on: it decides about what is still to come or, the last, how
# the same text is read.
CHANGEABLE = ("num_epochs", "patience", "encoding")


class TextParts(NamedTuple):
    """The text of a run: vocabulary, and the indices of its three parts in file order.

    The parts of a large text are maps of a file; see ``read_tokens``.
    """

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
    check_rereadable(settings.corpus)
    text = read_tokens(
        list(settings.corpus),
        settings.num_examples,
        lower=not settings.keep_case,
        fold_whitespace=not settings.keep_whitespace,
        encoding=settings.encoding,
    )
    indices = text.indices
    num_valid = int(len(indices) * settings.valid_fraction)
    num_test = int(len(indices) * settings.test_fraction)
    num_train = len(indices) - num_valid - num_test
    for name, fraction, length in [
        ("valid_fraction", settings.valid_fraction, num_valid),
        ("test_fraction", settings.test_fraction, num_test),
    ]:
        if fraction and length < 2:
            raise SettingsError(
                f"{name} {fraction} of {len(indices)} characters is {length}: to be scored, a part "
                "needs 2; give a longer text, a larger part, or 0 for none"
            )
    valid_end = num_train + num_valid
    parts = indices[:num_train], indices[num_train:valid_end], indices[valid_end:]
    return TextParts(text.vocab, *parts, text.sha256)


def train(
    settings: Optional[TrainSettings],
    out: PathLike,
    *,
    resume: bool = False,
    on_start: Callable[[Learner, TextParts], Any] = lambda learner, text: None,
    on_minibatch: Callable[[Progress], Any] = lambda progress: None,
    on_epoch: Callable[[TrainRecord], Any] = lambda record: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_minutes: Optional[float] = None,
    rank_timeout: float = TIMEOUT,
    ctx: Optional[mx.Context] = None,
) -> Result:
    """Train a model in a directory, with a checkpoint after each epoch.

    If ``mpiexec`` or the like started several processes, all have to call this, and they train one
    model: each computes its part of the rows of every minibatch. The losses are those of one
    process, up to rounding, and any number of processes can resume the run. Only the first process
    reads and writes ``out`` and calls the callbacks. If ``D2L_DEEPRNN_RANKS`` is 1, each process
    trains a model of its own.

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
        on_start: called before the first minibatch of this call; of several processes, in the
            first, as the next two are.
        on_minibatch: called after each minibatch.
        on_epoch: called after each epoch, when its checkpoint is written.
        should_stop: asked after each minibatch. Where it says yes, a
            checkpoint of that place is written and ``train`` returns.
        checkpoint_minutes: write a checkpoint as often as that, in the middle of an epoch too.
        rank_timeout: seconds after which all processes end if one of them does not answer. Reading
            a text and scoring may take longer, but no callback may.
        ctx: device; if None, that of ``try_gpu`` or, of several processes, a GPU for each.

    Raises:
        RunError: if the directory cannot be used, or its last checkpoint is gone.
        SettingsError: if ``settings`` would change what the run in there has done.
        CorpusError: if the text cannot be found, or is not the run's any more.
        CheckpointError: if the checkpoint is damaged or of another run.
        Diverged: if the loss is no finite number any more. The last
            checkpoint is kept.
        OSError: if a checkpoint cannot be written; the one before is kept.
        RanksError: if several processes cannot train together.
        GeneratorsInUse: if a training is running in another thread of this process.
        ValueError: if a number of minutes or seconds is not above 0.
        TypeError: if ``ctx`` is not one device.
    """
    out = user_path(out)
    check_ctx(ctx)
    if checkpoint_minutes is not None:
        positive_number("checkpoint_minutes", checkpoint_minutes)
    with contextlib.ExitStack() as stack:
        stack.enter_context(exclusive_generators())
        ranks = stack.enter_context(together(rank_timeout))
        ranks.check_same({"out": str(out), "resume": resume})
        files = _Files(out, ranks)
        config = files.take(stack, resume)
        if config is None and settings is None:
            raise RunError(f"{nothing_to_resume(out)}; to begin one, give its settings")
        if config is not None:
            settings = _gone_on_with(config, settings, out)
        assert settings is not None
        own_settings = settings
        text = ranks.first_before_others(lambda: read_text_of(own_settings))
        ranks.check_same(_what_must_be_same(settings, text))
        if config is not None:
            check_text(config, text.sha256, settings.corpus, out)
        ctx = ctx or ranks.device()
        if config is not None:
            files.load(settings, text.vocab)
        model = new_model(settings, len(text.vocab), ctx, stacked=_is_stacked(config))
        learner = Learner(settings, model, text.train, text.valid, ctx, ranks=ranks)
        if config is None:
            files.begin(_config(settings, text, ctx, ranks))
        else:
            files.restore(learner, text, settings)
        is_first = ranks.rank == 0
        if is_first:
            on_start(learner, text)
        pause = _Pause(should_stop, checkpoint_minutes, ranks)

        def save_before_scoring() -> None:
            if pause.is_overdue(SAVE_SECONDS):
                files.save(learner, text)
                pause.over()

        while learner.finished is None:
            try:
                record = learner.train_epoch(
                    on_minibatch if is_first else lambda progress: None,
                    pause.is_due,
                    save_before_scoring,
                )
            except Stopped as stopped:
                files.save(learner, text)
                if not pause.is_the_end:
                    pause.over()
                    continue
                return Result(learner.history, f"stopped {stopped}", True)
            except Diverged as error:
                kept = f"the checkpoint of epoch {len(learner.history)} is kept"
                kept = kept if (out / LAST).exists() else "there was no checkpoint yet"
                raise Diverged(f"{error}; {kept}") from None
            files.save(learner, text)
            pause.over()
            if is_first:
                on_epoch(record)
            if learner.finished is None and pause.is_due() and pause.is_the_end:
                return Result(learner.history, f"stopped after epoch {record.epoch}", True)
        return Result(learner.history, learner.finished, False)


def write_run(
    out: PathLike,
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


def load_run(
    directory: PathLike, *, checkpoint: str = "best", ctx: Optional[mx.Context] = None
) -> LoadedRun:
    """Load the model of a run.

    Args:
        directory: of the run.
        checkpoint: "best" or "last".
        ctx: device of the model; that of ``try_gpu`` if None.

    Raises:
        RunError: if the directory holds no run.
        CheckpointError: if the checkpoint is missing, damaged or of another run.
        ValueError: if ``checkpoint`` is neither.
        TypeError: if ``ctx`` is not one device.
    """
    directory = user_path(directory)
    check_ctx(ctx)
    names = {"best": BEST, "last": LAST}
    if checkpoint not in names:
        raise ValueError(f"checkpoint must be best or last, not {checkpoint!r}")
    config = _trained(directory)
    path = directory / names[checkpoint]
    if checkpoint == "best" and not path.exists():
        raise CheckpointError(_no_best(directory))
    loaded = load_own(path, config["run"])
    ctx = ctx or try_gpu()
    with fitting(path):
        settings = settings_of(config)
        vocab = Vocab.from_tokens(loaded.data["vocab"])
        model = build_model(settings, len(vocab), stacked=_is_stacked(config))
        set_parameters(model, parameters_in(loaded.arrays), ctx)
        history = history_in(loaded.data["learner"])
    return LoadedRun(model, vocab, settings, history, ctx)


def read_history(directory: PathLike) -> List[Dict[str, float]]:
    """Read the rows of a run's ``metrics.csv``: column -> number, where there is one.

    Raises:
        RunError: if there is none, or it is no table of numbers.
    """
    directory = user_path(directory)
    path = directory / METRICS
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True))
        history = [
            {name: float(row[name]) for name in row if row[name] and "prediction" not in name}
            for row in rows
        ]
        if not all(0 < row.get("epoch", 1) < 2**31 for row in history):
            raise ValueError("an epoch in it is not a number of an epoch")
        if not history or not all("epoch" in r and r.keys() & COLUMNS for r in history):
            raise ValueError(f"it has no rows with epoch and {' or '.join(sorted(COLUMNS))}")
        return history
    except (FileNotFoundError, NotADirectoryError):
        if read_config(directory) is None:
            raise no_run(directory) from None
        raise RunError(f"{directory} holds no run with a finished epoch: no {METRICS}") from None
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def settings_of(config: Dict[str, Any]) -> TrainSettings:
    """The settings in a run's configuration, with its texts where they are now."""
    settings = from_dict(config["settings"])
    corpus = tuple(located(settings.corpus, config["text"]))
    return dataclasses.replace(settings, corpus=corpus)


def read_own_text(directory: PathLike, vocab: Optional[Vocab] = None) -> TextParts:
    """Read the text of the run in a directory, if it is still what it was.

    Args:
        directory: The run's directory.
        vocab: The loaded model's vocabulary, if the text will be used with the model.

    Raises:
        RunError: If there is no run, or the text has changed.
        CorpusError: If the text cannot be found or used.
        CheckpointError: If the text's vocabulary is not the model's.
    """
    directory = user_path(directory)
    config = _trained(directory)
    _check_text_known(config, directory)
    settings = settings_of(config)
    check_there(settings.corpus, directory, TRAIN)
    text = read_text_of(settings)
    check_text(config, text.sha256, settings.corpus, directory)
    if vocab is not None:
        with fitting(directory):
            _check_vocab(vocab.idx_to_token, text.vocab)
    return text


def _check_vocab(tokens: List[str], vocab: Vocab) -> None:
    if tokens != vocab.idx_to_token:
        raise ValueError(
            "its vocabulary is not that of the run's text, so its indices stand for other "
            "characters"
        )


def _trained(directory: Path) -> Dict[str, Any]:
    """The configuration of a run of ``train``."""
    config = read_config(directory)
    if config is None:
        raise no_run(directory)
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


def _what_must_be_same(settings: TrainSettings, text: TextParts) -> Dict[str, Any]:
    """What all ranks must have been started with."""
    # The same text may lie in another place, or be in another encoding.
    own = {name: v for name, v in as_dict(settings).items() if name not in ("corpus", "encoding")}
    packages = {f"version of {name}": version for name, version in versions().items()}
    return {**own, **packages, "text (by its SHA-256)": text.sha256}


class _Pause:
    """Says when to stop between two minibatches, to write a checkpoint or for good.

    Attributes:
        is_the_end: whether it is for good.
    """

    def __init__(
        self, should_stop: Callable[[], bool], minutes: Optional[float], ranks: Ranks
    ) -> None:
        self._should_stop = should_stop
        self._seconds = float("inf") if minutes is None else 60 * minutes
        self._ranks = ranks
        self.is_the_end = False
        self.over()

    def over(self) -> None:
        """A checkpoint was written just now."""
        self._since = time.monotonic()

    def is_overdue(self, seconds: float) -> bool:
        """Whether the last checkpoint is so old, on any rank."""
        return self._ranks.any(time.monotonic() - self._since >= seconds)[0]

    def is_due(self) -> bool:
        """Whether a rank wishes to stop."""
        late = time.monotonic() - self._since >= self._seconds
        self.is_the_end, late = self._ranks.any(self._should_stop(), late)
        return self.is_the_end or late


class _Files:
    """The directory of a run that several ranks may train; rank 0 reads and writes for all."""

    def __init__(self, out: Path, ranks: Ranks) -> None:
        self._out = out
        self._ranks = ranks
        self._directory: Any = None  # on rank 0 a RunDirectory
        self._name: Optional[str] = None  # of the checkpoint that was loaded
        self._loaded = Checkpoint({}, {})

    def take(self, stack: contextlib.ExitStack, resume: bool) -> Optional[Dict[str, Any]]:
        """Lock the directory for as long as the stack lasts; give the configuration in there."""

        def take() -> Any:
            taken = run_directory(self._out, TRAIN, resume=resume)
            self._directory = stack.enter_context(taken)
            return self._directory.config

        config: Optional[Dict[str, Any]] = self._ranks.first(take)
        return config

    def begin(self, config: Dict[str, Any]) -> None:
        """Write the configuration of a new run."""
        self._ranks.first(lambda: self._directory.begin(config))

    def save(self, learner: Learner, text: TextParts) -> None:
        """Write a checkpoint, and the history."""
        state = learner.capture()
        self._ranks.first(lambda: _save(state, learner.best, text, self._directory))

    def load(self, settings: TrainSettings, vocab: Vocab) -> None:
        """Load the checkpoint that the run wrote last, if it is of these settings and text."""

        def load() -> Any:
            directory = self._directory
            name = _to_go_on_from(directory)
            if name is not None:
                self._loaded = directory.load(name)
                with fitting(self._out / name):
                    _check_vocab(self._loaded.data["vocab"], vocab)
                    stacked = _is_stacked(directory.config)
                    model = build_model(settings, len(vocab), stacked=stacked)
                    check_parameters(model, parameters_in(self._loaded.arrays))
            return name, self._loaded.data

        self._name, data = self._ranks.first(load)
        self._loaded = self._loaded._replace(data=data)

    def restore(self, learner: Learner, text: TextParts, settings: TrainSettings) -> None:
        """Resume from the checkpoint that was loaded, and repair the files beside it."""
        ranks, name, data = self._ranks, self._name, self._loaded.data
        begun = 0
        if name is not None:
            arrays = ranks.first_arrays(self._loaded.arrays)
            self._loaded = Checkpoint({}, {})  # the learner has copies
            with fitting(self._out / name):
                learner.restore(TrainingState.from_checkpoint(arrays, data["learner"]))
                in_epoch = data["learner"]["position"] > 0
            begun = len(learner.history) + in_epoch
            if ranks.first(lambda: _is_to_be_written_again(learner, name, self._directory)):
                self.save(learner, text)
            ranks.first(lambda: self._directory.save_metrics(_metrics(learner.history)))
        ranks.first(lambda: _note_changes(settings, begun, self._directory))


def _config(
    settings: TrainSettings, text: TextParts, ctx: mx.Context, ranks: Ranks
) -> Dict[str, Any]:
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
        "ranks": ranks.size,
        "versions": versions(),
        "machine": machine(),
    }


def _save(
    state: TrainingState, best: Optional[TrainRecord], text: TextParts, directory: RunDirectory
) -> None:
    arrays, data = state.to_checkpoint()
    checkpoint = {"learner": data, "vocab": text.vocab.idx_to_token, "versions": versions()}
    is_best = best is not None and best is state.history[-1] and not state.position
    directory.save(arrays, checkpoint, _metrics(state.history), best=is_best)


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


def _to_go_on_from(directory: RunDirectory) -> Optional[str]:
    """The checkpoint to go on from; None if none was written."""
    if directory.has(LAST):
        return LAST
    # Killed while it wrote its first checkpoint, it has the best one only: that is the same.
    if directory.has(METRICS) or not directory.has(BEST):
        directory.begins_again()
        return None
    return BEST


def _is_to_be_written_again(learner: Learner, name: str, directory: RunDirectory) -> bool:
    """Whether the checkpoint that a learner goes on from lacks its twin.

    Args:
        name: that of the checkpoint.
    """
    if name == BEST and len(learner.history) > 1:
        raise directory.last_is_gone()
    best = learner.best
    newest = best is not None and best is learner.history[-1] and learner.position == 0
    if name == BEST or (newest and not directory.has(BEST)):
        return True
    if best and not directory.has(BEST):
        warnings.warn(
            f"{directory.path / BEST} is gone: until an epoch is better than epoch {best.epoch}, "
            "there is --checkpoint last only",
            stacklevel=3,
        )
    return False


def held_out_parts(text: TextParts) -> Tuple[Tuple[str, np.ndarray], ...]:
    """The held-out parts of a text that there are, with their names."""
    parts = (("validation", text.valid), ("test", text.test))
    return tuple((name, indices) for name, indices in parts if len(indices))
