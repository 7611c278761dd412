"""Run the chapter on its text, or on another one in its place."""

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

from .._mxnet import gluon, mx, nd
from .._mxnet.context import (
    check_ctx,
    exclusive_generators,
    random_state,
    set_random_state,
    set_seed,
    try_gpu,
)
from ..evidence.provenance import machine, versions
from ..files import PathLike, parse_json, printable, read_text, remove_leftovers, user_path
from ..nn.model import RNNModel
from ..text.corpora import BOOK_TEXT, KNOWN_TEXTS, check_kept, load_corpus, resolve_auto
from ..text.vocab import Vocab
from ..training.checkpoint import Checkpoint
from ..training.run_directory import (
    CONFIG,
    LAST,
    REPRODUCE,
    RunDirectory,
    RunError,
    absolute_paths,
    check_exists,
    checkpoint_errors,
    resolve_paths,
    run_directory,
    text_sha256,
)
from ..training.settings import SettingsError, from_dict
from ..training.state import (
    as_numpy,
    parameters_of,
    set_parameters,
    with_prefix,
    without_prefix,
)
from . import book
from .train import EpochRecord, History, train_and_predict_rnn_gluon

AUTO = "auto"  # the book's text where it is available, and else a sample
NUM_EPOCHS = book.CHAPTER.num_epochs
PICTURE, REPORT, PAGE = "perplexity.svg", "report.html", "model.html"
# An epoch takes a fraction of a second and a checkpoint some hundredths: written after each, they
# would cost a tenth of the time. Killed, a run loses what it did since the last one.
SAVE_SECONDS = 5.0


@dataclass
class Run:
    """A run of the chapter, before, during and after its training.

    Attributes:
        corpus: name of the known text, or path of the file, to train on.
        settings: the chapter's, with this run's number of epochs.
        seed: where the random generators start.
        corpus_indices, vocab: the text.
        missing: why the book's text is not available, if another one stands
            in for it.
        encoding: that of the file; None for UTF-8.
        history: one record for each epoch that was finished.
        checkpoint: what a run that was interrupted goes on from.
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
        """What has to be said before the figures of a run on another text, else nothing."""
        if self.is_books_text:
            return ""
        return f"The text is {self.title}, so these figures are not the book's."

    def rows(self) -> List[book.Row]:
        """The book's lines beside this run's; none where the text is another."""
        if not self.is_books_text:
            return []
        return book.compare(
            {record.epoch: record.perplexity for record in self.history},
            {record.epoch: record.seconds for record in self.history},
        )

    def is_verbatim(self, prediction: str) -> bool:
        """Whether a prediction stands in the text word for word."""
        return prediction in "".join(self.vocab.to_tokens(self.corpus_indices))


def prepare(
    corpus: str,
    num_epochs: int,
    seed: int,
    *,
    encoding: Optional[str] = None,
    ctx: Optional[mx.Context] = None,
) -> Run:
    """Find and read the text of a run.

    Args:
        corpus: ``"auto"`` for the book's text where it is available and else a
            sample; or a known name, or a path.
        num_epochs, seed: of the training.
        encoding: that of the file; None for UTF-8.
        ctx: device to train on; that of ``try_gpu`` if None.

    Raises:
        CorpusError: if the text is not available or not usable; nothing
            stands in for a text that was asked for by name.
        TypeError: if ``ctx`` is not one device.
    """
    check_ctx(ctx)
    corpus, missing = os.path.expanduser(corpus), None
    if corpus == AUTO:
        corpus, missing = resolve_auto()
    settings = replace(book.CHAPTER, num_epochs=num_epochs)
    check_kept([corpus])
    corpus_indices, vocab = load_corpus(corpus, settings.num_examples, encoding=encoding)
    where = ctx or try_gpu()
    return Run(corpus, settings, seed, corpus_indices, vocab, missing, encoding, ctx=where)


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
    """Begin a run in a directory, or go on with the one that is there.

    Args:
        out: of the run; made if missing. It must be empty or, to resume, hold
            a run of ``reproduce``.
        resume: go on with the run that is there, or begin it if none is.
        corpus, num_epochs, seed, encoding: as in ``prepare``. To resume, they
            need not be repeated; ``corpus`` may be another place of the same
            text, in another ``encoding`` too, and ``num_epochs`` another
            number, if not so many are done.
        ctx: as in ``prepare``. A run may go on on another device.

    Raises:
        RunError: if the directory cannot be used.
        SettingsError: if the run that is there has others.
        CorpusError, TypeError: as ``prepare``.
        CheckpointError: if the run's checkpoint cannot be used.
    """
    check_ctx(ctx)
    out = user_path(out)
    with run_directory(out, REPRODUCE, resume=resume) as taken:
        for name in (PICTURE, REPORT, PAGE):
            remove_leftovers(out / name)
        if taken.config is None:
            epochs = NUM_EPOCHS if num_epochs is None else num_epochs
            own_seed = 0 if seed is None else seed
            run = prepare(corpus, epochs, own_seed, encoding=encoding, ctx=ctx)
            taken.begin(config(run))
        else:
            run = _go_on(taken, corpus, num_epochs, seed, encoding, ctx or try_gpu())
        yield run, taken


def _go_on(
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
        own, text, missing = config["corpus"], config["text"], config.get("missing")
        settings, own_seed = book.ChapterSettings(**config["settings"]), config["seed"]
        settings = replace(settings, prefixes=tuple(settings.prefixes))
        (there,) = resolve_paths([own], text)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{out.path} contains a run that cannot be resumed: {error!r}") from error
    if settings != replace(book.CHAPTER, num_epochs=settings.num_epochs):
        raise RunError(f"the run in {out.path} has other settings than the chapter's")
    if seed is not None and seed != own_seed:
        raise SettingsError(
            f"the run in {out.path} has other settings (seed: {own_seed} there, {seed} here): "
            "resume it with its own, or start a new run in another directory"
        )
    if corpus == AUTO:
        if missing is not None and resolve_auto()[1] is None:
            raise RunError(
                f"the run in {out.path} is on a sample, {own}, since the book's text was not "
                "available; now it is: start a new run in another directory, or go on with the "
                f"sample (--corpus {own})"
            )
    else:
        missing = None
    corpus = there if corpus in (AUTO, own) else corpus
    if corpus == there:
        check_exists([there], out.path, REPRODUCE)
    check_kept([corpus])
    encoding = config.get("encoding") if encoding is None else encoding
    corpus_indices, vocab = load_corpus(corpus, settings.num_examples, encoding=encoding)
    # What a file is called does not change with the directory it is looked at from.
    name = own if corpus == there else corpus
    run = Run(name, settings, own_seed, corpus_indices, vocab, missing, encoding, ctx=ctx)
    out.check_text(_sha256(run), [corpus])
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
    _note_changes(run, corpus, num_epochs, out)
    return run


def _note_changes(run: Run, corpus: str, num_epochs: Optional[int], out: RunDirectory) -> None:
    """Write down what is changed from here on."""
    assert out.config is not None
    what: Dict[str, Any] = {}
    if num_epochs is not None and num_epochs != run.settings.num_epochs:
        if num_epochs < len(run.history):
            raise SettingsError(
                f"num_epochs must be at least {len(run.history)}, as many as the run in "
                f"{out.path} has done, not {num_epochs}"
            )
        what["num_epochs"] = {"from": run.settings.num_epochs, "to": num_epochs}
        run.settings = replace(run.settings, num_epochs=num_epochs)
    text = {**out.config["text"], "paths": absolute_paths([corpus])}
    if text != out.config["text"]:
        what["corpus"] = {"from": out.config["text"].get("paths"), "to": text["paths"]}
    if run.encoding != out.config.get("encoding"):
        what["encoding"] = {"from": out.config.get("encoding"), "to": run.encoding}
    if what:
        new = {**config(run), "text": text}
        changed = ("corpus", "encoding", "is_the_books_text", "settings", "text")
        out.change(len(run.history), what, {name: new[name] for name in changed})


@exclusive_generators()
def train_run(
    run: Run,
    *,
    on_epoch: Callable[[EpochRecord], Any] = lambda record: None,
    log: Callable[[str], Any] = print,
    out: Optional[RunDirectory] = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train as the chapter does; ``run.history`` grows with every epoch.

    A run that is interrupted and gone on with ends with the parameters, to
    the bit, of one that never was (on the same machine, with the same number
    of threads).

    Args:
        run: what ``prepare`` returned, or ``directory`` gave.
        on_epoch: called with the record of every epoch.
        log: receives the book's lines.
        out: where to write a checkpoint and the history: every few seconds,
            and, however the training ends, of the last epoch that was done.
        should_stop: asked after each epoch. Where it says yes, ``train``
            returns.

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
        with checkpoint_errors(Path(LAST) if out is None else out.path / LAST):
            _set_parameters(model, run.checkpoint, run.ctx)
            set_random_state(run.checkpoint.data["random"])
    writer = _Writer(run, model, out)

    def record_epoch(record: EpochRecord) -> None:
        run.history.append(record)
        writer.note()
        on_epoch(record)
        if should_stop() and record.epoch < settings.num_epochs:
            raise _Stopped

    with contextlib.suppress(_Stopped):
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
            writer.write()


class _Stopped(Exception):
    """The training was asked to stop."""


class _Writer:
    """Keeps the state of the last epoch that was done, and writes it from time to time."""

    def __init__(self, run: Run, model: RNNModel, out: Optional[RunDirectory]) -> None:
        self._run, self._model, self._out = run, model, out
        self._written = -SAVE_SECONDS  # the first epoch is written at once
        self._state: Optional[Tuple[Dict[str, np.ndarray], Dict[str, Any], History]] = None

    def note(self) -> None:
        """Take the state between two epochs: in the middle of one there is none to go on from."""
        if self._out is None:
            return
        arrays = with_prefix("params", as_numpy(parameters_of(self._model)))
        # With the history of that moment, which may have grown when this is written.
        self._state = arrays, random_state(), list(self._run.history)
        if time.monotonic() - self._written >= SAVE_SECONDS:
            self.write()

    def write(self) -> None:
        """Write what was taken, if it is not written yet."""
        if self._out is None or self._state is None:
            return
        arrays, state, history = self._state
        data = {
            "history": [[*record[:3], list(record.predictions)] for record in history],
            "random": state,
            "vocab": self._run.vocab.idx_to_token,
            "versions": versions(),
        }
        self._out.save(arrays, data, metrics(replace(self._run, history=history)))
        self._written, self._state = time.monotonic(), None


def trained_model(run: Run, out: RunDirectory) -> RNNModel:
    """The model of a run, as the last checkpoint in its directory has it.

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
    # The shapes of some parameters are not known before the first input.
    model(nd.zeros((1, 1), ctx=ctx), model.begin_state(batch_size=1, ctx=ctx))
    set_parameters(model, without_prefix("params", checkpoint.arrays), ctx)


def is_the_chapters(directory: PathLike) -> bool:
    """Whether a run, of ``train`` or of ``reproduce``, is the chapter's, so that the book's
    figures can be drawn beside it."""
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
    """Everything that somebody needs to repeat a run."""
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
    """The history as CSV: epoch, perplexity, seconds from the start, predictions."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    prefixes = run.settings.prefixes
    writer.writerow(
        ["epoch", "perplexity", "seconds", *(f"prediction_{i + 1}" for i in range(len(prefixes)))]
    )
    for record in run.history:
        predictions = record.predictions or [""] * len(prefixes)
        # repr keeps every digit: two runs with one seed must be equal to the last
        writer.writerow(
            [record.epoch, repr(record.perplexity), f"{record.seconds:.3f}", *predictions]
        )
    return table.getvalue()


def _sha256(run: Run) -> str:
    return text_sha256("".join(run.vocab.to_tokens(run.corpus_indices)))
