"""Repeat a printed training: a run of ``train`` with its settings, and its predictions.

A directory of such a run has one file more than other runs, ``predictions.csv``.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from .._mxnet import mx
from .._mxnet.library import check_ctx
from .._perplexity import perplexity
from ..files import PathLike, printable, read_text, remove_leftovers, user_path, write_text
from ..text.corpora import BOOK_TEXT, SAMPLE_TEXT, resolve_auto
from ..text.known_texts import title_of
from ..training import runs
from ..training.learner import Learner
from ..training.run_directory import METRICS, PREDICTIONS, RunError, read_config
from ..training.settings import TrainSettings, from_dict
from ..training.trainer import TrainRecord
from ..training.upgrades import had_other_weights
from . import book
from .predict import predict_rnn_gluon
from .train import PREDICTED_CHARS, EpochRecord, Printer

AUTO = "auto"  # the book's text if it is available, else a sample
_COLUMNS = ["epoch", "prefix", "prediction"]


@dataclass
class Run:
    """A run with the settings of a printed training, to be compared with it.

    Attributes:
        settings: the training's, with this run's text, seed and number of epochs.
        history: one record per finished epoch.
        text: the characters that the run was trained on.
        missing: the reason why a sample replaces the book's text; None if it does not.
        had_other_weights: whether an earlier version drew its first weights, so that its first
            losses are not those known for its seed.
    """

    settings: TrainSettings
    history: List[EpochRecord] = field(default_factory=list)
    text: str = ""
    missing: Optional[str] = None
    had_other_weights: bool = False

    @property
    def training(self) -> book.PrintedTraining:
        """The printed training that has the run's settings."""
        training = book.training_with(self.settings)
        assert training is not None  # `reproduce` and `load` refuse other settings
        return training

    @property
    def title(self) -> str:
        """The title of the text, or the name of its file."""
        return printable(title_of(self.settings.corpus[0]))

    @property
    def is_books_text(self) -> bool:
        """Whether the text is the book's, so that the run can be compared with it."""
        return self.settings.corpus == (BOOK_TEXT,)

    @property
    def remark(self) -> str:
        """A warning to show before the results of a run on another text, else empty."""
        if self.is_books_text:
            return ""
        source = self.training.source
        return f"The text is {self.title}, so these results cannot be compared with the {source}'s."

    def rows(self) -> List[book.Row]:
        """Compare the run with the printed lines; return none for another text."""
        if not self.is_books_text:
            return []
        return self.training.compare(
            {record.epoch: record.perplexity for record in self.history},
            {record.epoch: record.seconds for record in self.history},
        )

    def is_verbatim(self, prediction: str) -> bool:
        """Return whether a prediction occurs in the text word for word."""
        return prediction in self.text


def reproduce(
    out: PathLike,
    corpus: Optional[str] = None,
    num_epochs: Optional[int] = None,
    seed: Optional[int] = None,
    *,
    settings: Optional[str] = None,
    encoding: Optional[str] = None,
    resume: bool = False,
    on_start: Callable[[Run], Any] = lambda run: None,
    on_epoch: Callable[[EpochRecord], Any] = lambda record: None,
    log: Callable[[str], Any] = print,
    should_stop: Callable[[], bool] = lambda: False,
    ctx: Optional[mx.Context] = None,
) -> Run:
    """Train as the authors did, and print the lines and predictions that they printed.

    Checkpoints, and the exact result of an interrupted and resumed run, are those of
    ``training.runs.train``.

    Args:
        out: the run's directory. It is created if missing. It must be empty or, to resume, contain
            a run with the settings of a printed training.
        corpus: a known name, a path, or ``"auto"`` for the book's text if it is available, else a
            sample. The default is ``"auto"`` or, to resume, the run's own text.
        num_epochs, seed, encoding: as in ``TrainSettings``. The defaults are those of the settings
            or, to resume, the run's own.
        settings: ``"chapter"`` or ``"lecture"``, a name in ``book.TRAININGS``. The default is
            ``"chapter"`` or, to resume, the run's own.
        resume: resume the run in ``out``, or start it if there is none.
        on_start: called with the run before its first minibatch.
        on_epoch: called with the record of each epoch.
        log: receives the printed lines.
        should_stop: called after each minibatch. If it returns True, a checkpoint is written and
            the training ends.
        ctx: device; by default, that of ``try_gpu``.

    Raises:
        CorpusError: if the text is not available or not usable.
        ValueError: if the name of the settings is unknown.
        RunError, SettingsError, CheckpointError, Diverged, OSError, GeneratorsInUse, TypeError: as
            in ``training.runs.train``.
    """
    check_ctx(ctx)
    if settings is not None and settings not in book.TRAININGS:
        names = ", ".join(book.TRAININGS)
        raise ValueError(f"settings must be one of {names}, not {settings!r}")
    out = user_path(out)
    own = {"num_epochs": num_epochs, "seed": seed, "encoding": encoding}
    requested = {name: value for name, value in own.items() if value is not None}
    config = read_config(out) if resume else None
    chosen, missing = _settings(out, config, settings, corpus, requested)
    run = Run(chosen, missing=missing, had_other_weights=had_other_weights(config))
    training = run.training
    predictions = read_predictions(out) if resume else {}
    place = out.absolute()  # wherever the program's working directory will be
    printer: Any = None

    def start(learner: Learner, text: runs.TextParts) -> None:
        nonlocal printer
        prefixes = training.settings.prefixes
        run.text = "".join(text.vocab.to_tokens(text.train.tolist()))

        def predict(prefix: str) -> str:
            return predict_rnn_gluon(
                prefix, PREDICTED_CHARS, learner.model, text.vocab, learner.ctx
            )

        def record_epoch(record: EpochRecord) -> None:
            # Leave out the time of checkpoints and predictions, as in metrics.csv.
            record = record._replace(seconds=learner.history[-1].seconds)
            run.history.append(record)
            save_predictions(record)
            on_epoch(record)

        def save_predictions(record: EpochRecord) -> None:
            if record.predictions:
                predictions[record.epoch] = record.predictions
                _write_predictions(place, prefixes, predictions)

        run.history[:] = _epoch_records(learner.history, predictions)
        num_epochs, period = run.settings.num_epochs, training.period
        printer = Printer(predict, num_epochs, prefixes, record_epoch, log, run.history, period)
        on_start(run)
        remove_leftovers(place / PREDICTIONS)
        _write_predictions(place, prefixes, predictions)
        if run.history and not run.history[-1].predictions and not learner.position:
            # The run may have been killed between an epoch's checkpoint and its predictions.
            last = run.history[-1]
            run.history[-1] = last._replace(predictions=printer.predictions(last.epoch))
            save_predictions(run.history[-1])

    def after_epoch(record: TrainRecord) -> None:
        printer.after_epoch(record)

    runs.train(
        run.settings,
        out,
        resume=resume,
        on_start=start,
        on_epoch=after_epoch,
        should_stop=should_stop,
        ctx=ctx,
    )
    return run


def _settings(
    out: Path,
    config: Optional[Dict[str, Any]],
    name: Optional[str],
    corpus: Optional[str],
    requested: Mapping[str, Any],
) -> Tuple[TrainSettings, Optional[str]]:
    """Return the settings of a run, and the reason why a sample replaces the book's text."""
    missing = None
    if config is None:
        training = book.TRAININGS[name or "chapter"]
        text = AUTO if corpus is None else corpus
        if text == AUTO:
            text, missing = resolve_auto()
        return replace(training.train_settings(), corpus=(text,), **requested), missing
    _check_origin(config, out)
    own = runs.settings_of(config)
    training = book.training_with(own) or book.TRAININGS[name or "chapter"]
    others = training.other_settings(own)
    if len(own.corpus) > 1 or (others and own.corpus != (BOOK_TEXT,)):
        others.insert(0, "corpus")
    if others:
        options = ", ".join(f"--{other.replace('_', '-')}" for other in others)
        raise RunError(
            f"the run in {out} has other settings than the {training.name}'s "
            f"({options}): resume it with `train`, or choose another directory"
        )
    if name not in (None, training.name):
        raise RunError(
            f"the run in {out} has the {training.name}'s settings, not the {name}'s: resume it "
            f"with --settings {training.name}, or choose another directory"
        )
    # As with `make reproduce`, without and later with a network.
    if corpus == AUTO and from_dict(config["settings"]).corpus == (SAMPLE_TEXT,):
        _, missing = resolve_auto()
        if missing is None:
            raise RunError(
                f"the run in {out} uses a sample text, {SAMPLE_TEXT}, but the book's text is "
                "available: start a new run in another directory, or resume with the sample "
                f"(--corpus {SAMPLE_TEXT})"
            )
    corpora = own.corpus if corpus is None or corpus == AUTO else (corpus,)
    return replace(own, corpus=corpora, **requested), missing


def load(directory: PathLike) -> Run:
    """Return the run in a directory, with its history and text.

    Raises:
        RunError: if there is no run, it has other settings than the printed trainings, or its text
            has changed.
        CorpusError: if the text cannot be found or used.
        CheckpointError: if the checkpoint cannot be used.
    """
    directory = user_path(directory)
    loaded = runs.load_run(directory, checkpoint="last")
    text = runs.read_own_text(directory, loaded.vocab)
    config = read_config(directory) or {}
    _check_origin(config, directory)
    # Keep the text's name as the user gave it, not the path to which it was resolved.
    settings = from_dict(config["settings"])
    if book.training_with(settings) is None:
        raise RunError(
            f"the run in {directory} has the settings of none of {', '.join(book.TRAININGS)}, so "
            "there is nothing to compare it with"
        )
    history = _epoch_records(loaded.history, read_predictions(directory))
    characters = "".join(text.vocab.to_tokens(text.train.tolist()))
    return Run(settings, history, characters, had_other_weights=had_other_weights(config))


def _check_origin(config: Mapping[str, Any], directory: Path) -> None:
    """Raise a RunError if a run did not start with random weights."""
    if not _is_from_scratch(config):
        origin = config.get("init_from") or config["imported"]
        raise RunError(
            f"the run in {directory} started with the weights of "
            f"{origin.get('directory') or origin.get('file')}, so it cannot be compared with a "
            "printed training: resume it with `train`, or choose another directory"
        )


def _is_from_scratch(config: Mapping[str, Any]) -> bool:
    return "init_from" not in config and "imported" not in config


def _epoch_records(
    history: Sequence[TrainRecord], predictions: Mapping[int, Tuple[str, ...]]
) -> List[EpochRecord]:
    return [
        EpochRecord(r.epoch, perplexity(r.train_loss), r.seconds, predictions.get(r.epoch, ()))
        for r in history
    ]


def is_reproduction(directory: PathLike) -> bool:
    """Return whether a directory has a run of ``reproduce``, perhaps before its predictions."""
    return (user_path(directory) / PREDICTIONS).exists() or bool(read_predictions(directory))


def read_predictions(directory: PathLike) -> Dict[int, Tuple[str, ...]]:
    """Return the texts that a run has predicted, one per prefix, by epoch.

    Raises:
        RunError: if the file cannot be read.
    """
    predictions: Dict[int, Tuple[str, ...]] = {}
    # Versions up to 0.3 had them in the history, in a column for each prefix.
    path = user_path(directory) / PREDICTIONS
    path = path if path.exists() else path.with_name(METRICS)
    try:
        for row in csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True):
            texts = [text for name, text in row.items() if "prediction" in (name or "") and text]
            if texts:
                epoch = int(row["epoch"])
                predictions[epoch] = (*predictions.get(epoch, ()), *texts)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    return predictions


def _write_predictions(
    directory: Path, prefixes: Sequence[str], predictions: Mapping[int, Tuple[str, ...]]
) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for epoch, texts in sorted(predictions.items()):
        writer.writerows([epoch, *pair] for pair in zip(prefixes, texts))
    write_text(directory / PREDICTIONS, table.getvalue())


def printed_training(directory: PathLike) -> Optional[book.PrintedTraining]:
    """Return the printed training that a run repeats, so that they can be plotted together.

    The run must have its text and settings, and random initial weights; any seed and number of
    epochs will do.
    """
    try:
        config = read_config(directory) or {}
        settings = from_dict(config["settings"])
    except (RunError, ValueError, TypeError, KeyError):
        return None
    if not _is_from_scratch(config):
        return None
    return book.training_with(settings) if settings.corpus == (BOOK_TEXT,) else None
