"""Run the chapter on its text, or on another one in its place."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from . import book
from ._mxnet import gluon
from .context import set_seed, try_gpu
from .corpora import BOOK_TEXT, KNOWN_TEXTS, load_corpus, resolve_auto
from .files import write_text
from .model import RNNModel
from .provenance import machine, versions
from .train import EpochRecord, train_and_predict_rnn_gluon
from .vocab import Vocab


@dataclass
class Run:
    """A run of the chapter, before, during and after its training.

    Attributes:
        corpus: name of the known text, or path of the file, to train on.
        settings: the chapter's, with this run's number of epochs.
        seed: where the random generators start.
        corpus_indices, vocab: the text.
        missing: why the book's text could not be had, if another one stands
            in for it.
        history: one record for each epoch that was finished.
    """

    corpus: str
    settings: book.Settings
    seed: int
    corpus_indices: np.ndarray
    vocab: Vocab
    missing: Optional[str] = None
    history: List[EpochRecord] = field(default_factory=list)

    @property
    def title(self) -> str:
        known = KNOWN_TEXTS.get(self.corpus)
        return known.title if known else Path(self.corpus).name

    @property
    def is_books_text(self) -> bool:
        return self.corpus == BOOK_TEXT

    @property
    def remark(self) -> str:
        """What has to stand beside each figure of a run on another text, else nothing."""
        return "" if self.is_books_text else f"[text: {self.title}; not the book's figures]"

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


def prepare(corpus: str, num_epochs: int, seed: int) -> Run:
    """Find and read the text of a run.

    Args:
        corpus: ``"auto"`` for the book's text where it can be had and else a
            sample; or a known name, or a path.
        num_epochs, seed: of the training.

    Raises:
        CorpusError: if the text cannot be had or used; nothing stands in for
            a text that was asked for by name.
    """
    missing = None
    if corpus == "auto":
        corpus, missing = resolve_auto()
    settings = replace(book.CHAPTER, num_epochs=num_epochs)
    corpus_indices, vocab = load_corpus(corpus, settings.num_examples)
    return Run(corpus, settings, seed, corpus_indices, vocab, missing)


def train(
    run: Run,
    *,
    on_epoch: Callable[[EpochRecord], Any] = lambda record: None,
    log: Callable[[str], Any] = print,
) -> None:
    """Train as the chapter does; ``run.history`` grows with every epoch.

    Args:
        run: what ``prepare`` returned.
        on_epoch: called with the record of every epoch.
        log: receives the book's lines.
    """
    settings = run.settings
    set_seed(run.seed)
    layer = gluon.rnn.LSTM(hidden_size=settings.num_hiddens, num_layers=settings.num_layers)

    def record_epoch(record: EpochRecord) -> None:
        run.history.append(record)
        on_epoch(record)

    train_and_predict_rnn_gluon(
        RNNModel(layer, len(run.vocab)),
        settings.num_hiddens,
        run.corpus_indices,
        run.vocab,
        try_gpu(),
        settings.num_epochs,
        settings.num_steps,
        settings.lr,
        settings.clipping_theta,
        settings.batch_size,
        settings.prefixes,
        on_epoch=record_epoch,
        log=lambda line: log(f"{line}  {run.remark}" if run.remark else line),
    )


def config(run: Run) -> Dict[str, Any]:
    """Everything that somebody needs to repeat a run."""
    return {
        "corpus": run.corpus,
        "is_the_books_text": run.is_books_text,
        "vocab_size": len(run.vocab),
        "settings": asdict(run.settings),
        "seed": run.seed,
        "device": str(try_gpu()),
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


def save_config(run: Run, out: Path) -> None:
    """Write ``config.json`` into an existing directory; see ``config``."""
    write_text(out / "config.json", json.dumps(config(run), indent=2) + "\n")
