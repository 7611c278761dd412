"""Run the chapter on its text or another one, and resume such runs."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from .._mxnet import gluon, mx
from .._mxnet.library import (
    check_ctx,
    exclusive_generators,
    learn_shapes,
    random_state,
    set_random_state,
    set_seed,
    try_gpu,
)
from ..evidence.provenance import machine, versions
from ..files import PathLike, parse_json, printable, read_text, remove_leftovers, user_path
from ..nn.model import RNNModel
from ..text.corpora import BOOK_TEXT, KNOWN_TEXTS, check_rereadable, load_corpus, resolve_auto
from ..text.vocab import Vocab
from ..training.checkpoint import Checkpoint
from ..training.optimization import (
    as_numpy,
    parameters_of,
    set_parameters,
    with_prefix,
    without_prefix,
)
from ..training.run_directory import (
    CONFIG,
    LAST,
    REPRODUCE,
    RunDirectory,
    RunError,
    absolute_paths,
    check_exists,
    check_text,
    checkpoint_errors,
    resolve_paths,
    run_directory,
    text_sha256,
)
from ..training.settings import SettingsError, from_dict
from ..training.trainer import Stopped
from . import book
from .train import EpochRecord, History, train_and_predict_rnn_gluon

AUTO = "auto"  # the book's text if it is available, else a sample
NUM_EPOCHS = book.CHAPTER.num_epochs
PICTURE, REPORT, PAGE = "perplexity.svg", "report.html", "model.html"
# Seconds between two checkpoints. After each epoch, they would take a tenth of the time. A killed
# run loses only the work since its last checkpoint.
SAVE_SECONDS = 5.0


@dataclass
class Run:
    """A run of the chapter, before, during and after training.

    Attributes:
        corpus: name of the known text, or path of the file, to train on.
        settings: the chapter's, with this run's number of epochs.
        seed: for the random generators.
        corpus_indices, vocab: the text.
        missing: why the book's text is not available, if a sample replaces it.
        encoding: of the file; None for UTF-8.
        history: one record per finished epoch.
        checkpoint: the checkpoint to resume from.
        ctx: device to train on.
    """

    corpus: str
    settings: book.ChapterSettings
    seed: int
    corpus_indices: np.ndarray
    vocab: Vocab
    missing: Optional[str] = None
    encoding: Optional[str] = None
    history: List[EpochRecord] = field(default_factory=list)
    checkpoint: Optional[Checkpoint] = None
    ctx: mx.Context = field(default_factory=try_gpu)

    @property
    def title(self) -> str:
        known = KNOWN_TEXTS.get(self.corpus)
        return known.title if known else printable(Path(self.corpus).name)

    @property
    def is_books_text(self) -> bool:
        return self.corpus == BOOK_TEXT

    @property
    def remark(self) -> str:
        """A warning to show before the results of a run on another text, else empty."""
        if self.is_books_text:
            return ""
        return f"The text is {self.title}, so these results cannot be compared with the book's."

    def rows(self) -> List[book.Row]:
        """Compare the run with the book's printed lines; return none for another text."""
        if not self.is_books_text:
            return []
        return book.compare(
            {record.epoch: record.perplexity for record in self.history},
            {record.epoch: record.seconds for record in self.history},
        )

    def is_verbatim(self, prediction: str) -> bool:
        """Return whether a prediction occurs in the text word for word."""
        return prediction in "".join(self.vocab.to_tokens(self.corpus_indices))


def prepare(
    corpus: str = AUTO,
    num_epochs: int = NUM_EPOCHS,
    seed: int = 0,
    *,
    encoding: Optional[str] = None,
    ctx: Optional[mx.Context] = None,
) -> Run:
    """Return a new run with its text.

    Args:
        corpus: a known name, a path, or ``"auto"`` for the book's text if it is available, else a
            sample.
        num_epochs, seed: of the training.
        encoding: of the file; None for UTF-8.
        ctx: device to train on; by default, that of ``try_gpu``.

    Raises:
        CorpusError: if the text is not available or not usable.
        TypeError: if ``ctx`` is not one device.
    """
    check_ctx(ctx)
    corpus, missing = os.path.expanduser(corpus), None
    if corpus == AUTO:
        corpus, missing = resolve_auto()
    settings = replace(book.CHAPTER, num_epochs=num_epochs)
    check_rereadable([corpus])
    corpus_indices, vocab = load_corpus(corpus, settings.num_examples, encoding=encoding)
    ctx = ctx or try_gpu()
    return Run(corpus, settings, seed, corpus_indices, vocab, missing, encoding, ctx=ctx)


@contextlib.contextmanager
def directory(
    out: PathLike,
    *,
    resume: bool = False,
    corpus: str = AUTO,
    num_epochs: Optional[int] = None,
    seed: Optional[int] = None,
    encoding: Optional[str] = None,
    ctx: Optional[mx.Context] = None,
) -> Iterator[Tuple[Run, RunDirectory]]:
    """Start or resume a run in a directory, which is locked for the duration of a ``with`` block.

    Args:
        out: of the run. It is created if missing. It must be empty or, to resume, contain a run of
            ``reproduce``.
        resume: resume the run in ``out``, or start it if there is none.
        corpus, num_epochs, seed, encoding: as in ``prepare``. To resume, they need not be repeated.
            The text may then be at another path or in another encoding, and ``num_epochs`` may be
            any number that the run has not exceeded.
        ctx: as in ``prepare``. A run may resume on another device.

    Raises:
        RunError: if the directory cannot be used, or the text has changed.
        SettingsError: if a setting differs from that of the run and cannot change.
        CorpusError, TypeError: as ``prepare``.
        CheckpointError: if the run's checkpoint cannot be used.
    """
    check_ctx(ctx)
    out = user_path(out)
    with run_directory(out, REPRODUCE, resume=resume) as locked:
        for name in (PICTURE, REPORT, PAGE):
            remove_leftovers(out / name)
        if locked.config is None:
            num_epochs = NUM_EPOCHS if num_epochs is None else num_epochs
            run = prepare(corpus, num_epochs, seed or 0, encoding=encoding, ctx=ctx)
            locked.begin(config(run))
        else:
            run = _resume(locked, corpus, num_epochs, seed, encoding, ctx or try_gpu())
        yield run, locked


def _resume(
    out: RunDirectory,
    corpus: str,
    num_epochs: Optional[int],
    seed: Optional[int],
    encoding: Optional[str],
    ctx: mx.Context,
) -> Run:
    config, corpus = out.config, os.path.expanduser(corpus)
    assert config is not None
    try:
        name, missing, own_seed = config["corpus"], config.get("missing"), config["seed"]
        settings = book.ChapterSettings(**config["settings"])
        settings = replace(settings, prefixes=tuple(settings.prefixes))
        (path,) = resolve_paths([name], config["text"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{out.path} contains a run that cannot be resumed: {error!r}") from error
    if settings != replace(book.CHAPTER, num_epochs=settings.num_epochs):
        raise RunError(f"the run in {out.path} has other settings than the chapter's")
    if seed is not None and seed != own_seed:
        raise SettingsError(
            f"the run in {out.path} has another seed ({own_seed}, not {seed}): resume it with that "
            "seed, or start a new run in another directory"
        )
    if corpus == AUTO:
        if missing is not None and resolve_auto()[1] is None:
            raise RunError(
                f"the run in {out.path} uses a sample, {name}, because the book's text was not "
                "available, but now it is: start a new run in another directory, or resume with "
                f"the sample (--corpus {name})"
            )
    else:
        missing = None
    if corpus in (AUTO, name, path):
        corpus = path
        check_exists([path], out.path, REPRODUCE)
    else:
        name = corpus
    check_rereadable([corpus])
    encoding = config.get("encoding") if encoding is None else encoding
    corpus_indices, vocab = load_corpus(corpus, settings.num_examples, encoding=encoding)
    # Keep the name as the user gave it, so that it does not depend on the current directory.
    run = Run(name, settings, own_seed, corpus_indices, vocab, missing, encoding, ctx=ctx)
    check_text(config, _sha256(run), [corpus], out.path)
    if out.has(LAST):
        run.checkpoint = out.load(LAST)
        with checkpoint_errors(out.path / LAST):
            run.history += [
                EpochRecord(epoch, perplexity, seconds, tuple(predictions))
                for epoch, perplexity, seconds, predictions in run.checkpoint.data["history"]
            ]
        out.save_metrics(metrics(run))
    else:
        out.warn_restart()
    _record_changes(run, corpus, num_epochs, out)
    return run


def _record_changes(run: Run, corpus: str, num_epochs: Optional[int], out: RunDirectory) -> None:
    """Record the settings that change from this point on."""
    assert out.config is not None
    changes: Dict[str, Any] = {}
    if num_epochs is not None and num_epochs != run.settings.num_epochs:
        if num_epochs < len(run.history):
            raise SettingsError(
                f"num_epochs must be at least {len(run.history)}, the number of epochs that the "
                f"run in {out.path} has done, not {num_epochs}"
            )
        changes["num_epochs"] = {"from": run.settings.num_epochs, "to": num_epochs}
        run.settings = replace(run.settings, num_epochs=num_epochs)
    text = {**out.config["text"], "paths": absolute_paths([corpus])}
    if text != out.config["text"]:
        changes["corpus"] = {"from": out.config["text"].get("paths"), "to": text["paths"]}
    if run.encoding != out.config.get("encoding"):
        changes["encoding"] = {"from": out.config.get("encoding"), "to": run.encoding}
    if changes:
        new = {**config(run), "text": text}
        parts = ("corpus", "encoding", "is_the_books_text", "settings", "text")
        out.change(len(run.history), changes, {name: new[name] for name in parts})


@exclusive_generators()
def train_run(
    run: Run,
    *,
    on_epoch: Callable[[EpochRecord], Any] = lambda record: None,
    log: Callable[[str], Any] = print,
    out: Optional[RunDirectory] = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train as the chapter does, and add each epoch's record to ``run.history``.

    An interrupted run that is resumed on the same machine with the same number of threads ends
    with the same parameters, to the bit, as a run without interruption.

    Args:
        run: from ``prepare`` or ``directory``.
        on_epoch: called with the record of each epoch.
        log: receives the printed lines.
        out: the run's directory, for checkpoints and the history. They are written every few
            seconds and, however the training ends, after the last finished epoch.
        should_stop: called after each epoch; if it returns True, the training ends.

    Raises:
        CheckpointError: if the run's checkpoint does not fit it.
        OSError: if a checkpoint cannot be written; the one before is kept.
    """
    settings = run.settings
    if len(run.history) >= settings.num_epochs:
        return
    set_seed(run.seed)
    model = _new_model(run)
    if run.checkpoint is not None:
        assert out is not None
        with checkpoint_errors(out.path / LAST):
            _set_parameters(model, run.checkpoint, run.ctx)
            set_random_state(run.checkpoint.data["random"])
    saver = None if out is None else _Saver(run, model, out)

    def record_epoch(record: EpochRecord) -> None:
        run.history.append(record)
        if saver is not None:
            saver.snapshot()
        on_epoch(record)
        if should_stop() and record.epoch < settings.num_epochs:
            raise Stopped("stopped")  # train_and_predict_rnn_gluon then returns

    try:
        train_and_predict_rnn_gluon(
            model,
            settings.num_hiddens,
            run.corpus_indices,
            run.vocab,
            run.ctx,
            settings.num_epochs,
            settings.num_steps,
            settings.lr,
            settings.clipping_theta,
            settings.batch_size,
            settings.prefixes,
            initialize=run.checkpoint is None,
            history=list(run.history),
            on_epoch=record_epoch,
            log=log,
        )
    finally:
        if saver is not None:
            saver.write()


class _Saver:
    """Keeps the state after the last finished epoch, and writes it every few seconds."""

    def __init__(self, run: Run, model: RNNModel, out: RunDirectory) -> None:
        self._run, self._model, self._out = run, model, out
        self._written = -SAVE_SECONDS  # so that the first epoch is written immediately
        self._state: Optional[Tuple[Dict[str, np.ndarray], Dict[str, Any], History]] = None

    def snapshot(self) -> None:
        """Copy the state after an epoch; a run cannot resume from the middle of one."""
        arrays = with_prefix("params", as_numpy(parameters_of(self._model)))
        # Copy the history too: it may be longer when this state is written.
        self._state = arrays, random_state(), list(self._run.history)
        if time.monotonic() - self._written >= SAVE_SECONDS:
            self.write()

    def write(self) -> None:
        """Write the last copy, unless that is done."""
        if self._state is None:
            return
        arrays, random, history = self._state
        data = {
            "history": [[*record[:3], list(record.predictions)] for record in history],
            "random": random,
            "vocab": self._run.vocab.idx_to_token,
            "versions": versions(),
        }
        self._out.save(arrays, data, metrics(replace(self._run, history=history)))
        self._written, self._state = time.monotonic(), None


def trained_model(run: Run, out: RunDirectory) -> RNNModel:
    """Return the model in the last checkpoint of a run.

    Raises:
        CheckpointError: if the checkpoint cannot be used.
    """
    model, checkpoint = _new_model(run), out.load(LAST)
    with checkpoint_errors(out.path / LAST):
        _set_parameters(model, checkpoint, run.ctx)
    return model


def _new_model(run: Run) -> RNNModel:
    settings = run.settings
    layer = gluon.rnn.LSTM(hidden_size=settings.num_hiddens, num_layers=settings.num_layers)
    return RNNModel(layer, len(run.vocab))


def _set_parameters(model: RNNModel, checkpoint: Checkpoint, ctx: mx.Context) -> None:
    model.initialize(ctx=ctx)
    learn_shapes(model, ctx)
    set_parameters(model, without_prefix("params", checkpoint.arrays), ctx)


def is_chapter_run(directory: PathLike) -> bool:
    """Return whether a run has the chapter's text and settings, so it can be plotted with the book.

    It may be a run of ``train`` or ``reproduce``, with any seed and number of epochs.
    """
    try:
        config = parse_json(read_text(user_path(directory) / CONFIG))
        if "is_the_books_text" in config:
            return bool(config["is_the_books_text"])
        settings = from_dict(config["settings"])
    except (OSError, ValueError, TypeError, KeyError):
        return False
    chapter = book.train_settings()
    return settings == replace(chapter, num_epochs=settings.num_epochs, seed=settings.seed)


def config(run: Run) -> Dict[str, Any]:
    """Return the configuration of a run: everything that is needed to repeat it."""
    return {
        "corpus": run.corpus,
        "encoding": run.encoding,
        "is_the_books_text": run.is_books_text,
        **({"missing": run.missing} if run.missing else {}),
        "text": {"sha256": _sha256(run), "paths": absolute_paths([run.corpus])},
        "vocab_size": len(run.vocab),
        "settings": asdict(run.settings),
        "seed": run.seed,
        "device": str(run.ctx),
        "versions": versions(),
        "machine": machine(),
    }


def metrics(run: Run) -> str:
    """Return the history as CSV: epoch, perplexity, seconds since the start, predictions."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    prefixes = run.settings.prefixes
    writer.writerow(
        ["epoch", "perplexity", "seconds", *(f"prediction_{i + 1}" for i in range(len(prefixes)))]
    )
    for record in run.history:
        predictions = record.predictions or [""] * len(prefixes)
        # repr keeps every digit, so that equal runs can be recognized
        writer.writerow(
            [record.epoch, repr(record.perplexity), f"{record.seconds:.3f}", *predictions]
        )
    return table.getvalue()


def _sha256(run: Run) -> str:
    return text_sha256("".join(run.vocab.to_tokens(run.corpus_indices)))
