"""Runs of ``train``: begun, gone on with, and loaded again; see also ``run_directory``."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import math
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from .._checks import positive_number
from .._mxnet import mx
from .._mxnet.context import check_ctx, device_of, exclusive_generators, try_gpu
from ..evidence.provenance import machine, versions
from ..files import PathLike, read_text, user_path
from ..nn.model import RNNModel
from ..text.corpora import check_kept
from ..text.token_files import read_tokens
from ..text.vocab import Vocab
from .checkpoint import CheckpointError
from .init_from import initialize_from
from .launcher import TIMEOUT
from .learner import Diverged, EarlyStopping, Learner, build_model, initial_state, new_model
from .ranks import Ranks, together
from .run_directory import (
    BEST,
    LAST,
    METRICS,
    TRAIN,
    RunDirectory,
    RunError,
    check_text,
    check_exists,
    command_of,
    checkpoint_errors,
    load_own,
    resolve_paths,
    no_run,
    nothing_to_resume,
    absolute_paths,
    read_config,
    run_directory,
)
from .settings import SettingsError, TrainSettings, as_dict, differences, from_dict
from .state import TrainRecord, check_parameters, history_in, set_parameters, without_prefix
from .trainer import Callback, Progress, Stopped

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
    check_kept(settings.corpus)
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
    init_from: Optional[PathLike] = None,
    on_start: Callable[[Learner, TextParts], Any] = lambda learner, text: None,
    on_minibatch: Callable[[Progress], Any] = lambda progress: None,
    on_epoch: Callable[[TrainRecord], Any] = lambda record: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_minutes: Optional[float] = None,
    rank_timeout: float = TIMEOUT,
    ctx: Optional[mx.Context] = None,
) -> Result:
    """Train a model in a directory, with a checkpoint after each epoch.

    If a launcher such as ``mpiexec`` started several processes, all have to call this, and they
    train one model: each computes its part of the rows of every minibatch. The losses are those of
    one process, up to rounding, and any number of processes can resume the run. Only the first
    process reads and writes ``out`` and calls the callbacks. If ``D2L_DEEPRNN_RANKS`` is 1, each
    process trains a model of its own.

    A run that was stopped or killed at any moment and then resumed ends with the same parameters,
    to the bit, as one that was not (on the same machine, with the same number of threads).

    Args:
        settings: of the run; None to resume with its own. If the run is resumed, only those that
            affect future epochs (``CHANGEABLE``) and the place of the text may differ.
        out: the run's directory. It is created; it must be empty or, to resume, contain the run.
        resume: resume the run in ``out``, or start it if there is none.
        init_from: the directory of a run whose best weights a new run starts with, see
            ``initialize_from``.
        on_start: called before the first minibatch of this call; with several processes, only in
            the first one, like the next two.
        on_minibatch: called after each minibatch.
        on_epoch: called after each epoch, when its checkpoint is written.
        should_stop: called after each minibatch. If it returns True, a checkpoint is written and
            ``train`` returns.
        checkpoint_minutes: minutes between two checkpoints within an epoch.
        rank_timeout: seconds after which all processes end if one of them does not answer. Reading
            a text and scoring may take longer, but no callback may.
        ctx: device; if None, that of ``try_gpu`` or, with several processes, one GPU each.

    Raises:
        RunError: if the directory cannot be used, or its last checkpoint is gone.
        SettingsError: if ``settings`` would change what the run has already done.
        CorpusError: if the text cannot be found, or is not the run's any more.
        CheckpointError: if the checkpoint is damaged or of another run.
        Diverged: if the loss is not finite. The last checkpoint is kept.
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
        ranks.check_same({"out": str(out), "resume": resume, "init_from": str(init_from)})
        directory: Any = None  # a RunDirectory on rank 0, which alone reads and writes

        def lock_directory() -> Optional[Dict[str, Any]]:
            nonlocal directory
            directory = stack.enter_context(run_directory(out, TRAIN, resume=resume))
            config: Optional[Dict[str, Any]] = directory.config
            return config

        config = ranks.first(lock_directory)
        if config is not None:
            settings = _resume_settings(config, settings, out, init_from)
        if settings is None:
            raise RunError(f"{nothing_to_resume(out)}; to start one, give its settings")
        chosen = settings
        text = ranks.first_before_others(lambda: read_text_of(chosen))
        ranks.check_same(_must_be_equal(chosen, text))
        if config is not None:
            check_text(config, text.sha256, chosen.corpus, out)
        ctx = device = ctx or ranks.device()
        model = new_model(chosen, len(text.vocab), device, stacked=_is_stacked(config))
        source = None
        if init_from is not None:
            source = ranks.first(lambda: _initialize(init_from, model, chosen, text.vocab, device))
        learner = Learner(chosen, model, text.train, text.valid, ctx, ranks=ranks)
        if config is None:
            new = _config(chosen, text, ctx, ranks)
            new.update({"init_from": source} if source else {})
            ranks.first(lambda: directory.begin(new))
        else:
            _restore(learner, text.vocab, directory, ranks, out)
        session = _Session(
            directory, text, ranks, on_start, on_minibatch, on_epoch, should_stop,
            checkpoint_minutes,
        )  # fmt: skip
        try:
            reason = learner.fit(chosen.num_epochs, [session, EarlyStopping(chosen)])
        except Diverged as error:
            kept = f"the checkpoint of epoch {len(learner.history)} is kept"
            kept = kept if (out / LAST).exists() else "there was no checkpoint yet"
            raise Diverged(f"{error}; {kept}") from None
        finished = learner.finished
        return Result(learner.history, finished or reason, stopped=finished is None)


class _Session(Callback):
    """Saves a run, calls the user's functions, and stops on request. Rank 0 acts for all ranks."""

    def __init__(
        self,
        directory: Optional[RunDirectory],
        text: TextParts,
        ranks: Ranks,
        on_start: Callable[[Learner, TextParts], Any],
        on_minibatch: Callable[[Progress], Any],
        on_epoch: Callable[[TrainRecord], Any],
        should_stop: Callable[[], bool],
        checkpoint_minutes: Optional[float],
    ) -> None:
        self._directory, self._text, self._ranks = directory, text, ranks
        self._on_start, self._on_minibatch, self._on_epoch = on_start, on_minibatch, on_epoch
        self._should_stop = should_stop
        self._seconds = math.inf if checkpoint_minutes is None else 60 * checkpoint_minutes
        self._saved = time.monotonic()

    def on_start(self, trainer: Any) -> None:
        if self._ranks.rank == 0:
            self._on_start(trainer, self._text)

    def on_minibatch(self, trainer: Any, progress: Progress) -> None:
        if self._ranks.rank == 0:
            self._on_minibatch(progress)
        stop, overdue = self._ranks.any(self._should_stop(), self._age() >= self._seconds)
        if (stop or overdue) and progress.minibatch < progress.num_minibatches:
            self._save(trainer)
            if stop:
                place = f"in epoch {progress.epoch}, after minibatch {progress.minibatch}"
                raise Stopped(f"stopped {place}")

    def on_scoring(self, trainer: Any) -> None:
        if len(self._text.valid) and self._ranks.any(self._age() >= SAVE_SECONDS)[0]:
            self._save(trainer)

    def on_epoch(self, trainer: Any, record: TrainRecord) -> None:
        self._save(trainer)
        if self._ranks.rank == 0:
            self._on_epoch(record)
        if trainer.finished is None and self._ranks.any(self._should_stop())[0]:
            raise Stopped(f"stopped after epoch {record.epoch}")

    def _age(self) -> float:
        """Return the seconds since the last checkpoint."""
        return time.monotonic() - self._saved

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


def held_out_parts(text: TextParts) -> Tuple[Tuple[str, np.ndarray], ...]:
    """The held-out parts of a text that there are, with their names."""
    parts = (("validation", text.valid), ("test", text.test))
    return tuple((name, indices) for name, indices in parts if len(indices))
