"""Start, resume and load runs of ``train``.

``train`` makes a ``Learner`` and fits it with the callback ``_Session``, which copies the learner's
state. ``RunDirectory.save_checkpoints`` writes the copies, by ``checkpoint.save_checkpoint``.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import io
import math
import shlex
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from .._checks import positive_number
from .._mxnet import mx
from .._mxnet.library import check_ctx, device_of, exclusive_generators, try_gpu
from ..evidence.provenance import machine, versions
from ..files import PathLike, read_text, user_path
from ..nn.model import RNNModel
from ..text.corpora import check_rereadable
from ..text.token_files import read_tokens
from ..text.vocab import Vocab
from .checkpoint import Checkpoint, CheckpointError
from .init_from import initialize_from
from .launcher import TIMEOUT
from .learner import Diverged, EarlyStopping, Learner, build_model, initial_state, new_model
from .optimization import check_parameters, set_parameters, without_prefix
from .ranks import Ranks, distributed
from .run_directory import (
    BEST,
    CONFIG,
    LAST,
    METRICS,
    RunDirectory,
    RunError,
    absolute_paths,
    check_exists,
    check_text,
    checkpoint_errors,
    load_own,
    no_run,
    nothing_to_resume,
    read_config,
    resolve_paths,
    run_directory,
)
from .settings import (
    SettingsError,
    TrainSettings,
    as_dict,
    check_settings,
    differences,
    from_dict,
    why_finished,
)
from .trainer import Callback, Progress, Stopped, TrainRecord, history_in
from .upgrades import is_stacked

# A killed run loses at most the work of this many seconds and of the epoch in which it was killed.
SAVE_SECONDS = 5.0
LOSS_COLUMNS = {"train_loss", "perplexity"}  # the second in runs of `reproduce` up to 0.3
# Settings that may change on resume. They affect only future epochs or, for ``encoding``, how the
# same text is read.
CHANGEABLE = ("num_epochs", "patience", "encoding")


class TextParts(NamedTuple):
    """The text of a run: its vocabulary and the indices of its three parts, in text order.

    The parts of a large text are memory maps; see ``read_tokens``.
    """

    vocab: Vocab
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    sha256: str


class LoadedRun(NamedTuple):
    """A trained model with its vocabulary, settings, history and device."""

    model: RNNModel
    vocab: Vocab
    settings: TrainSettings
    history: List[TrainRecord]
    ctx: mx.Context


class Result(NamedTuple):
    """The outcome of a call of ``train``.

    Attributes:
        history: a record for each finished epoch, including those before a resume.
        reason: why the call ended.
        stopped: whether a stop request ended it before the training was finished.
    """

    history: List[TrainRecord]
    reason: str
    stopped: bool


def read_text_parts(settings: TrainSettings) -> TextParts:
    """Read the text of a run and split it into its parts.

    Raises:
        CorpusError: if a text cannot be found, used, or read again on resume.
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
                f"{name} {fraction} of {len(indices)} characters is {length}, but a part needs at "
                "least 2 characters to be scored: give a longer text, a larger part, or 0 for none"
            )
    valid_end = num_train + num_valid
    parts = indices[:num_train], indices[num_train:valid_end], indices[valid_end:]
    return TextParts(text.vocab, *parts, text.sha256)


def train(
    settings: Optional[TrainSettings],
    out: PathLike,
    *,
    resume: bool = False,
    init_from: Optional[PathLike] = None,
    on_start: Callable[[Learner, TextParts], Any] = lambda learner, text: None,
    on_minibatch: Callable[[Progress], Any] = lambda progress: None,
    on_epoch: Callable[[TrainRecord], Any] = lambda record: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_minutes: Optional[float] = None,
    rank_timeout: float = TIMEOUT,
    ctx: Optional[mx.Context] = None,
) -> Result:
    """Train a model in a directory, with checkpoints.

    A checkpoint is written after an epoch if the last one is at least five seconds old, and at the
    end.

    If a launcher such as ``mpiexec`` started several processes, all have to call this. They train
    one model: each computes its share of the rows of every minibatch. The losses are those of one
    process, up to rounding, and any number of processes can resume the run. Only the first process
    reads and writes ``out`` and calls the callbacks. If ``D2L_DEEPRNN_RANKS`` is 1, each process
    trains its own model.

    A run may be stopped or killed at any moment. Resumed on the same machine with the same number
    of threads, it ends with the same parameters, to the bit, as a run without interruption.

    Args:
        settings: the run's settings; None to resume with its own. To resume, only those that affect
            future epochs (``CHANGEABLE``) and the path of the text may differ from its own.
        out: the run's directory. It is created if missing. It must be empty or, to resume, contain
            the run.
        resume: resume the run in ``out``, or start it if there is none.
        init_from: directory of another run. The new run starts with its best weights; see
            ``initialize_from``.
        on_start: called before the first minibatch of this call. With several processes, this and
            the next two are called in the first process only.
        on_minibatch: called after each minibatch.
        on_epoch: called after each epoch.
        should_stop: called after each minibatch. If it returns True, a checkpoint is written and
            ``train`` returns.
        checkpoint_minutes: minutes between checkpoints within an epoch.
        rank_timeout: seconds after which all processes end if one of them does not answer. Reading
            a text and scoring may take longer, but a callback must not.
        ctx: device; by default, that of ``try_gpu`` or, with several processes, one GPU each.

    Raises:
        RunError: if the directory cannot be used, its last checkpoint is missing, or the text has
            changed.
        SettingsError: if ``settings`` would change past epochs.
        CorpusError: if the text cannot be found or used.
        CheckpointError: if the checkpoint is damaged or belongs to another run.
        Diverged: if the loss is not finite. The last checkpoint is kept.
        OSError: if a checkpoint cannot be written; the one before is kept.
        RanksError: if several processes cannot train together.
        GeneratorsInUse: if another thread of this process is training.
        ValueError: if ``checkpoint_minutes`` or ``rank_timeout`` is not above 0.
        TypeError: if ``ctx`` is not one device, or ``settings`` not a ``TrainSettings``.
    """
    out = user_path(out)
    best = out.absolute() / BEST
    check_ctx(ctx)
    if settings is not None:
        check_settings(settings)
    if checkpoint_minutes is not None:
        positive_number("checkpoint_minutes", checkpoint_minutes)
    with contextlib.ExitStack() as stack:
        stack.enter_context(exclusive_generators())
        # If the command line has entered it, this is the same group of ranks.
        ranks = stack.enter_context(distributed(rank_timeout))
        ranks.check_same({"out": str(out), "resume": resume, "init_from": str(init_from)})
        directory: Any = None  # a RunDirectory on rank 0, which alone reads and writes

        def lock_directory() -> Optional[Dict[str, Any]]:
            nonlocal directory
            directory = stack.enter_context(run_directory(out, resume=resume))
            config: Optional[Dict[str, Any]] = directory.config
            return config

        config = ranks.on_root(lock_directory)
        if config is not None:
            settings = _resume_settings(config, settings, out)
            _check_origin(config, init_from, out)
        if settings is None:
            raise RunError(f"{nothing_to_resume(out)}; to start one, give its settings")
        chosen = settings
        text = ranks.root_first(lambda: read_text_parts(chosen))
        ranks.check_same(_must_be_equal(chosen, text))
        device = ctx or ranks.device()
        if config is None:
            learner = _start(directory, chosen, text, init_from, device, ranks)
        else:
            check_text(config, text.sha256, chosen.corpus, out)
            learner = _resume(out, directory, config, chosen, text, device, ranks)
        is_new = config is None
        session = _Session(
            directory, is_new, text, ranks, on_start, on_minibatch, on_epoch, should_stop,
            checkpoint_minutes,
        )  # fmt: skip
        try:
            session.start(learner)
            try:
                reason = learner.fit(chosen.num_epochs, [session, EarlyStopping(chosen)])
            finally:
                session.write_checkpoints()
        except Diverged as error:
            advice = "and start a new run in another directory"
            if best.exists():
                advice += f"; --init-from {out} lets it begin with the best weights so far"
            raise Diverged(f"{error}, {advice}") from None
        finished = learner.finished
        return Result(learner.history, finished or reason, stopped=finished is None)


def _start(
    directory: Any,
    settings: TrainSettings,
    text: TextParts,
    init_from: Optional[PathLike],
    ctx: mx.Context,
    ranks: Ranks,
) -> Learner:
    """Return the learner of a new run, and write the run's configuration."""
    model = new_model(settings, len(text.vocab), ctx)
    origin = {}
    if init_from is not None:
        initialize = functools.partial(_initialize, init_from, model, settings, text.vocab, ctx)
        origin = {"init_from": ranks.on_root(initialize)}
    learner = Learner(settings, model, text.train, text.valid, ctx, ranks=ranks)
    described = _describe_text(settings, text)
    config = _config(settings, described, device=str(ctx), ranks=ranks.size, **origin)
    ranks.on_root(lambda: directory.begin(config))
    return learner


def _resume(
    out: Path,
    directory: Any,
    config: Dict[str, Any],
    settings: TrainSettings,
    text: TextParts,
    ctx: mx.Context,
    ranks: Ranks,
) -> Learner:
    """Return the learner of a run in the state of its last checkpoint."""
    loaded: Optional[Checkpoint] = None

    def load() -> Optional[Dict[str, Any]]:
        nonlocal loaded
        loaded = _load(directory, settings, text.vocab)
        return None if loaded is None else loaded.data["learner"]

    state = ranks.on_root(load)
    model = new_model(settings, len(text.vocab), ctx, stacked=is_stacked(config))
    if state is None and "init_from" in config:
        origin = config["init_from"]
        path = origin["directory"]
        initialize = functools.partial(_initialize, path, model, settings, text.vocab, ctx)
        if ranks.on_root(initialize) != origin:
            raise RunError(
                f"the run in {out} has no checkpoint yet, and the run in {path}, whose weights it "
                "starts with, has changed: start a new run in another directory"
            )
    learner = Learner(settings, model, text.train, text.valid, ctx, ranks=ranks)
    if state is not None:
        arrays = ranks.broadcast_arrays({} if loaded is None else loaded.arrays)
        if "optimizer" not in state:  # runs of `reproduce` up to 0.3, with plain SGD
            state["optimizer"] = learner.state_dict()[1]["optimizer"]
        with checkpoint_errors(out / LAST):
            learner.load_state_dict(arrays, state)
    ranks.on_root(lambda: _complete_files(directory, learner))
    return learner


class _Session(Callback):
    """Saves a run, calls the user's functions, and stops on request. Rank 0 acts for all ranks."""

    def __init__(
        self,
        directory: Optional[RunDirectory],
        is_new: bool,
        text: TextParts,
        ranks: Ranks,
        on_start: Callable[[Learner, TextParts], Any],
        on_minibatch: Callable[[Progress], Any],
        on_epoch: Callable[[TrainRecord], Any],
        should_stop: Callable[[], bool],
        checkpoint_minutes: Optional[float],
    ) -> None:
        self._directory, self._is_new, self._text, self._ranks = directory, is_new, text, ranks
        self._on_start, self._on_minibatch, self._on_epoch = on_start, on_minibatch, on_epoch
        self._should_stop = should_stop
        self._stop = False  # whether a stop was requested
        self._interval = math.inf if checkpoint_minutes is None else 60 * checkpoint_minutes
        self._started = time.monotonic()
        self._saved_at: Optional[float] = None
        # Copies of the run's state that are not written yet
        self._last: Optional[Checkpoint] = None
        self._best: Optional[Checkpoint] = None

    def start(self, learner: Learner) -> None:
        if self._directory is None:  # not rank 0
            return
        try:
            self._on_start(learner, self._text)
        except Exception:
            if self._is_new:  # let a corrected command start a new run here
                self._directory.discard()
            raise

    def after_step(self, trainer: Any, progress: Progress) -> None:
        if self._ranks.rank == 0:
            self._on_minibatch(progress)
        overdue = self._age() >= self._interval
        self._stop, overdue = self._ranks.any_set(self._stop or self._should_stop(), overdue)
        # After an epoch's last minibatch, after_epoch does this.
        if (self._stop or overdue) and progress.minibatch < progress.num_minibatches:
            self._checkpoint(trainer)
            if self._stop:
                raise Stopped(
                    f"stopped in epoch {progress.epoch}, after minibatch {progress.minibatch}"
                )

    def before_scoring(self, trainer: Any) -> None:
        # Scoring a large text takes long. If the run is killed meanwhile, the epoch is not lost.
        if len(self._text.valid) and self._ranks.any_set(self._age() >= SAVE_SECONDS)[0]:
            self._checkpoint(trainer)

    def after_epoch(self, trainer: Any, record: TrainRecord) -> None:
        # If epochs are short, saving after each one would take a tenth of the time.
        due = self._saved_at is None or self._age() >= SAVE_SECONDS or trainer.finished is not None
        self._checkpoint(trainer, write=self._ranks.any_set(due)[0])
        if self._ranks.rank == 0:
            self._on_epoch(record)
        stop = self._stop or self._should_stop()
        if trainer.finished is None and self._ranks.any_set(stop)[0]:
            raise Stopped(f"stopped after epoch {record.epoch}")

    def _age(self) -> float:
        """Return the seconds since the last checkpoint, or since the start if there is none."""
        return time.monotonic() - (self._started if self._saved_at is None else self._saved_at)

    def _checkpoint(self, learner: Learner, *, write: bool = True) -> None:
        """Copy the state of the run, and write the copy unless ``write`` is False."""
        arrays, data = learner.state_dict()
        if self._ranks.rank == 0:
            self._last = _checkpoint_of(arrays, data, learner.settings, self._text.vocab)
            if _is_newest_best(learner):
                self._best = self._last
        if write:
            self._ranks.on_root(self.write_checkpoints)
            self._saved_at = time.monotonic()

    def write_checkpoints(self) -> None:
        """Write the copies that are not yet in the run's directory; only rank 0 has some."""
        last, best, self._last, self._best = self._last, self._best, None, None
        if self._directory is not None and last is not None:
            history = history_in(last.data["learner"])
            self._directory.save_checkpoints(last, best, _metrics_csv(history))


def _checkpoint_of(
    arrays: Dict[str, np.ndarray], state: Dict[str, Any], settings: TrainSettings, vocab: Vocab
) -> Checkpoint:
    """Return a checkpoint of a learner's state."""
    data = {"learner": state, "vocab": vocab.idx_to_token, "settings": as_dict(settings)}
    return Checkpoint(arrays, {**data, "versions": versions()})


def _check_settings(loaded: Checkpoint, config: Mapping[str, Any]) -> None:
    """Raise a ValueError if a configuration has other settings than a checkpoint of its run.

    Checkpoints up to 0.3 have no settings.
    """
    own = as_dict(from_dict(config["settings"]))
    learner, may_differ = loaded.data["learner"], {*CHANGEABLE, "corpus"}
    if own["schedule"] == "cosine" and (learner["history"] or learner["position"]):
        may_differ.remove("num_epochs")  # the learning rates of past epochs follow from it
    edited = [
        f"{name} {value!r} (here {own[name]!r})"
        for name, value in loaded.data.get("settings", {}).items()
        if name not in may_differ and value != own[name]
    ]
    if edited:
        raise ValueError(f"it was trained with {', '.join(edited)}: restore {CONFIG}")


def _load(directory: RunDirectory, settings: TrainSettings, vocab: Vocab) -> Optional[Checkpoint]:
    """Load the last checkpoint of a run, and check that it fits the settings and the text.

    Returns:
        The checkpoint; None if the run was killed before its first one.
    """
    if not directory.has(LAST):
        directory.warn_restart()
        return None
    loaded = directory.load(LAST)
    with checkpoint_errors(directory.path / LAST):
        if not isinstance(loaded.data["learner"], dict):
            raise TypeError("its state is not an object")
        assert directory.config is not None
        _check_settings(loaded, directory.config)
        _check_vocab(loaded.data["vocab"], vocab)
        # Before arrays are allocated: settings from a stranger may declare a huge model.
        model = build_model(settings, len(vocab), stacked=is_stacked(directory.config))
        check_parameters(model, without_prefix("params", loaded.arrays))
    return loaded


def _complete_files(directory: RunDirectory, learner: Learner) -> None:
    """Write the files that a killed run could not write, and record changed settings."""
    if learner.history or learner.position:
        directory.save_metrics(_metrics_csv(learner.history))
    if _is_newest_best(learner):
        directory.copy_best()
    _record_changes(learner, directory)


def _is_newest_best(learner: Learner) -> bool:
    """Return whether the best epoch so far has just ended."""
    best = learner.best
    return best is not None and best is learner.history[-1] and not learner.position


def _initialize(
    directory: PathLike, model: RNNModel, settings: TrainSettings, vocab: Vocab, ctx: mx.Context
) -> Dict[str, Any]:
    """Initialize a model with the weights of another run; return their origin."""
    directory = user_path(directory)
    config = _read_existing_config(directory)
    if not (directory / BEST).exists():
        raise RunError(f"init_from: the run in {directory} has no finished epoch ({BEST})")
    run = load_run(directory, ctx=ctx)
    initialize_from(run, model, settings, vocab, ctx)
    origin = str(directory.absolute())
    return {"directory": origin, "run": config["run"], "epoch": len(run.history)}


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
    """Write a run with a model that was trained elsewhere, so that training can resume.

    The optimizer and the random generators start from their initial states.

    Args:
        out: directory of the run, as in ``train``.
        settings: the settings of the model and its training.
        model: trained model, created by ``build_model`` for these settings.
        vocab: the model's vocabulary.
        history: the records of the epochs in which it was trained.
        text: the configuration's part about the text; its ``sha256`` is None if it is unknown.
        imported: the model's origin.

    Raises:
        RunError: if the directory cannot be used.
        OSError: if a file cannot be written.
    """
    arrays, data = initial_state(settings, model, device_of(model), history)
    with run_directory(out, resume=False) as directory:
        paths = absolute_paths(settings.corpus) if text["sha256"] else [None]
        directory.begin(
            _config(
                settings, {**text, "paths": paths}, imported=dict(imported), device=str(try_gpu())
            )
        )
        state = _checkpoint_of(arrays, data, settings, vocab)
        directory.save_checkpoints(state, state, _metrics_csv(history))


def load_run(
    directory: PathLike, *, checkpoint: str = "best", ctx: Optional[mx.Context] = None
) -> LoadedRun:
    """Load the model of a run.

    Args:
        directory: the run's directory.
        checkpoint: "best" or "last".
        ctx: device of the model; by default, that of ``try_gpu``.

    Raises:
        RunError: if the directory does not contain a run.
        CheckpointError: if the checkpoint is missing, damaged or belongs to another run.
        ValueError: if ``checkpoint`` is neither "best" nor "last".
        TypeError: if ``ctx`` is not one device.
    """
    directory = user_path(directory)
    check_ctx(ctx)
    names = {"best": BEST, "last": LAST}
    if checkpoint not in names:
        raise ValueError(f"checkpoint must be best or last, not {checkpoint!r}")
    config = _read_existing_config(directory)
    path = directory / names[checkpoint]
    if not path.exists():
        raise CheckpointError(_no_checkpoint(directory))
    try:
        loaded = load_own(path, config.get("run"))
    except CheckpointError as error:
        other = "last" if checkpoint == "best" else "best"
        if not (directory / names[other]).exists():
            raise
        raise CheckpointError(
            f"{error}. The run's other checkpoint may be intact: --checkpoint {other}"
        ) from error
    ctx = ctx or try_gpu()
    with checkpoint_errors(path):
        _check_settings(loaded, config)
        settings = settings_of(config)
        vocab = Vocab.from_tokens(loaded.data["vocab"])
        model = build_model(settings, len(vocab), stacked=is_stacked(config))
        set_parameters(model, without_prefix("params", loaded.arrays), ctx)
        history = history_in(loaded.data["learner"])
    return LoadedRun(model, vocab, settings, history, ctx)


def read_history(directory: PathLike) -> List[Dict[str, float]]:
    """Return the rows of a run's ``metrics.csv`` as dictionaries of numbers by column.

    There are none before the first epoch is finished.

    Raises:
        RunError: if the file is missing, or is not a table of numbers.
    """
    directory = user_path(directory)
    path = directory / METRICS
    try:
        rows = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
        history = []
        for row in rows:
            if None in row:
                raise ValueError("it has a row with more cells than the header")
            names = [name for name in row if row[name] and "prediction" not in name]
            history.append({name: float(row[name]) for name in names})
        epochs = [row.get("epoch", 1.0) for row in history]
        # Not `in range`, which compares a float with one number after the other.
        if not all(epoch.is_integer() and 1 <= epoch < 2**31 for epoch in epochs):
            raise ValueError("it has an epoch that is not a whole number above 0")
        if not all(math.isfinite(value) for row in history for value in row.values()):
            raise ValueError("it has a value that is not finite")
        columns = [set(rows.fieldnames or ()), *history]
        if not all("epoch" in names and LOSS_COLUMNS & set(names) for names in columns):
            raise ValueError(
                f"it has no rows with the columns epoch and {' or '.join(sorted(LOSS_COLUMNS))}"
            )
        return history
    except (FileNotFoundError, NotADirectoryError):
        if read_config(directory) is None:
            raise no_run(directory) from None
        raise RunError(
            f"{directory} contains no run with a finished epoch: there is no {METRICS}"
        ) from None
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def settings_of(config: Dict[str, Any]) -> TrainSettings:
    """Return the settings in a run's configuration, with the current paths of its texts."""
    settings = from_dict(config["settings"])
    corpus = tuple(resolve_paths(settings.corpus, config["text"]))
    return dataclasses.replace(settings, corpus=corpus)


def read_own_text(directory: PathLike, vocab: Optional[Vocab] = None) -> TextParts:
    """Read the text of the run in a directory, and check that it has not changed.

    Args:
        directory: the run's directory.
        vocab: the loaded model's vocabulary, if the text will be used with the model.

    Raises:
        RunError: if there is no run, or the text has changed.
        CorpusError: if the text cannot be found or used.
        CheckpointError: if the text's vocabulary is not the model's.
    """
    directory = user_path(directory)
    config = _read_existing_config(directory)
    _check_text_known(config, directory)
    settings = settings_of(config)
    check_exists(settings.corpus, directory)
    text = read_text_parts(settings)
    check_text(config, text.sha256, settings.corpus, directory)
    if vocab is not None:
        with checkpoint_errors(directory):
            _check_vocab(vocab.idx_to_token, text.vocab)
    return text


def _check_vocab(tokens: List[str], vocab: Vocab) -> None:
    if tokens != vocab.idx_to_token:
        raise ValueError("its vocabulary differs from that of the run's text")


def _read_existing_config(directory: Path) -> Dict[str, Any]:
    """Return the configuration of a run; raise a RunError if there is none."""
    config = read_config(directory)
    if config is None:
        raise no_run(directory)
    return config


def _check_text_known(config: Mapping[str, Any], directory: Path) -> None:
    """Raise a RunError if the text that a run's model was trained on is unknown."""
    if config["text"]["sha256"] is None:
        raise RunError(
            f"the model in {directory} was imported without its training text. It can generate "
            "text, and it can be scored on one (evaluate --corpus). To train it further, start a "
            f"new run with its weights (d2l-deeprnn train --init-from {directory})"
        )


def _no_checkpoint(directory: Path) -> str:
    """Return the message for a run that lacks the checkpoint to be loaded."""
    has_last, has_best, has_epochs = ((directory / n).exists() for n in (LAST, BEST, METRICS))
    resume = f"d2l-deeprnn train --resume --out {shlex.quote(str(directory))}"
    if has_best:
        return f"the run in {directory} has no {LAST}: restore it, or use --checkpoint best"
    if has_last:
        return (
            f"the run in {directory} has no {BEST}, which the first finished epoch writes: use "
            f"--checkpoint last, or resume the run ({resume})"
        )
    if has_epochs:
        return f"the run in {directory} has no checkpoint: only its results are here, not its model"
    return (
        f"the run in {directory} has no checkpoint yet: resume it ({resume}) unless it has diverged"
    )


def _check_origin(config: Dict[str, Any], init_from: Optional[PathLike], out: Path) -> None:
    """Raise a SettingsError if a resumed run did not start with the weights of ``init_from``."""
    if init_from is None:
        return
    recorded = config.get("init_from", {}).get("directory")
    if recorded is None or Path(recorded).resolve() != user_path(init_from).resolve():
        raise SettingsError(
            f"the run in {out} has already started, so its weights cannot be replaced: leave out "
            "init_from, or start a new run in another directory"
        )


def _resume_settings(
    config: Dict[str, Any], settings: Optional[TrainSettings], out: Path
) -> TrainSettings:
    """Return the settings of a resumed run: its own, with the changes that are allowed."""
    _check_text_known(config, out)
    own = settings_of(config)
    settings = settings or own
    refused = [
        f"{name}: {old!r} in the run, {new!r} requested"
        for name, (old, new) in differences(own, settings).items()
        if name not in (*CHANGEABLE, "corpus")
    ]
    if refused:
        raise SettingsError(
            f"the run in {out} has other settings ({'; '.join(refused)}): leave these out to "
            "resume it, or start a new run in another directory"
        )
    if settings.corpus == from_dict(config["settings"]).corpus:
        settings = dataclasses.replace(settings, corpus=own.corpus)
    if settings.corpus == own.corpus:
        check_exists(own.corpus, out)
    return settings


def _record_changes(learner: Learner, directory: RunDirectory) -> None:
    """Record settings that change from this point on; refuse those that affect past epochs."""
    settings, config = learner.settings, directory.config
    epochs_started = len(learner.history) + (learner.position > 0)
    assert config is not None
    own = from_dict(config["settings"])
    changes = {
        name: {"from": old, "to": new}
        for name, (old, new) in differences(own, settings).items()
        if name in CHANGEABLE
    }
    if "num_epochs" in changes:
        if settings.num_epochs < epochs_started:
            raise SettingsError(
                f"num_epochs must be at least {epochs_started}, the number of epochs that the run "
                f"in {directory.path} has started, not {settings.num_epochs}"
            )
        if settings.schedule == "cosine" and epochs_started:
            raise SettingsError(
                f"num_epochs of the run in {directory.path} is {own.num_epochs} and cannot change: "
                "with the schedule cosine, it determines the learning rates of all epochs; start a "
                "new run in another directory"
            )
    if "patience" in changes:
        losses = [record.loss for record in learner.history]
        earlier = (n for n in range(1, epochs_started) if why_finished(settings, losses[:n]))
        end = next(earlier, None)
        if end is not None:
            raise SettingsError(
                f"with the patience {settings.patience}, the run in {directory.path} would have "
                f"stopped after epoch {end}, and it has started {epochs_started}: give a larger one"
            )
    text = config["text"]
    moved = settings.corpus != tuple(resolve_paths(own.corpus, text))
    paths = absolute_paths(settings.corpus)
    if "paths" in text and paths != text["paths"]:
        changes["corpus"] = {"from": text["paths"], "to": paths}
    elif moved:
        changes["corpus"] = {"from": list(own.corpus), "to": list(settings.corpus)}
    if changes or paths != text.get("paths"):
        corpus = settings.corpus if moved else own.corpus
        stored = as_dict(dataclasses.replace(settings, corpus=corpus))
        new = {"settings": stored, "text": {**text, "paths": paths}}
        directory.change(epochs_started, changes, new)


def _must_be_equal(settings: TrainSettings, text: TextParts) -> Dict[str, Any]:
    """Return the values that must be equal on all ranks."""
    # Each rank may have the same text at another path or in another encoding.
    own = {name: v for name, v in as_dict(settings).items() if name not in ("corpus", "encoding")}
    packages = {f"version of {name}": version for name, version in versions().items()}
    return {**own, **packages, "text (by its SHA-256)": text.sha256}


def _config(settings: TrainSettings, text: Mapping[str, Any], **more: Any) -> Dict[str, Any]:
    """Return the configuration of a run; see ``_describe_text`` for a part of it."""
    made_with = {"versions": versions(), "machine": machine()}
    return {"settings": as_dict(settings), "text": text, **more, **made_with}


def _describe_text(settings: TrainSettings, text: TextParts) -> Dict[str, Any]:
    return {
        "sha256": text.sha256,
        "paths": absolute_paths(settings.corpus),
        "vocab_size": len(text.vocab),
        "train_chars": len(text.train),
        "valid_chars": len(text.valid),
        "test_chars": len(text.test),
    }


def _metrics_csv(history: List[TrainRecord]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(TrainRecord._fields)
    for r in history:
        valid = "" if r.valid_loss is None else repr(r.valid_loss)
        writer.writerow(
            [r.epoch, repr(r.train_loss), valid, repr(r.learning_rate), f"{r.seconds:.3f}"]
        )
    return table.getvalue()


def held_out_parts(text: TextParts) -> Tuple[Tuple[str, np.ndarray], ...]:
    """Return the held-out parts of a text that are not empty, with their names."""
    parts = (("validation", text.valid), ("test", text.test))
    return tuple((name, indices) for name, indices in parts if len(indices))
