"""A run shown beside the book: lines for a terminal, a page for a browser, files."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence

from ..evidence import pages
from ..export import ExportError
from ..export.html import web_page
from ..export.network import Export
from ..files import PathLike, remove, user_path, write_text
from ..training.run_directory import REPRODUCE, read_config
from . import book
from .reproduce import PAGE, PICTURE, REPORT, Run

if TYPE_CHECKING:  # matplotlib is imported last: without it, the rest is still written
    from ..evidence.figures import Plot
    from ..nn.model import RNNModel


class Verdict(NamedTuple):
    """What the comparison came to.

    Attributes:
        compared: whether there was anything to compare.
        agrees: whether all figures compared lie within their bands.
        text: one sentence, or two.
    """

    compared: bool
    agrees: bool
    text: str


class Prediction(NamedTuple):
    """A predicted text beside the book's; ``book`` is empty where it printed none."""

    epoch: int
    text: str
    book: str
    verbatim: bool


def verdict(run: Run) -> Verdict:
    """Say whether a run agrees with the book.

    It does if each of its figures lies in its one of ``book.BANDS``; how sure
    that is, and what the first of them can't show, ``book.EXPECTED`` says.
    """
    if not run.is_books_text:
        return Verdict(
            False, False, f"Nothing was compared: the text was {run.title}, not the book's."
        )
    rows = run.rows()
    if not rows:
        return Verdict(
            False,
            False,
            f"Nothing was compared: the book's first figure is for epoch {book.PRINTED[0].epoch}, "
            f"and this run ended at epoch {len(run.history)}.",
        )
    outside = [row for row in rows if not row.agrees]
    if outside:
        which = "; ".join(
            f"{row.comparable:.6f} at epoch {row.epoch} is outside "
            f"{row.band.low:.3f} to {row.band.high:.3f}"
            for row in outside
        )
        text = f"This run does not agree with the book: {which}."
        if rows[-1].perplexity >= book.UNIGRAM_PERPLEXITY:
            text += " It has not learnt more than how frequent each character is."
        return Verdict(True, False, text)
    text = f"This run agrees with the book: {len(rows)} of {len(rows)} figures in their bands."
    if len(rows) == 1:
        text += " So early, that shows only that it has begun to learn."
    return Verdict(True, True, text)


def predictions(run: Run) -> List[Prediction]:
    """The texts that a run predicted, beside the book's."""
    found = []
    for record in run.history:
        printed = book.PREDICTIONS.get(record.epoch, ()) if run.is_books_text else ()
        for i, text in enumerate(record.predictions):
            theirs = printed[i] if printed else ""
            found.append(Prediction(record.epoch, text, theirs, run.is_verbatim(text)))
    return found


def lines(run: Run) -> Iterator[str]:
    """The comparison as lines of text: table, predictions, verdict."""
    table = _table(run)
    if len(table) > 1:  # else the run ended before there was anything to show
        yield from _align(table)
        if run.is_books_text:
            yield ""
            yield from textwrap.wrap(book.EXPECTED, 80)
    for prediction in predictions(run):
        yield ""
        yield f"after epoch {prediction.epoch}, {_how(prediction)}"
        if prediction.book:
            yield f"  book  {prediction.book}"
        yield f"  run   {prediction.text}"
    yield ""
    yield verdict(run).text


def _how(prediction: Prediction) -> str:
    return "word for word in the text:" if prediction.verbatim else "not word for word in the text:"


def _table(run: Run) -> List[Sequence[str]]:
    """Header and rows; with another text than the book's, this run's figures only."""
    if run.is_books_text:
        rows: List[Sequence[str]] = [
            (
                "epoch",
                "the book's",
                "this run's",
                "judged by",
                "expected",
                "agrees",
                "seconds",
            )
        ]
        for row in run.rows():
            rows.append(
                (
                    str(row.epoch),
                    f"{row.book.perplexity:.6f}",
                    f"{row.perplexity:.6f}",
                    f"{row.comparable:.6f}",
                    f"{row.band.low:.3f} to {row.band.high:.3f}",
                    "yes" if row.agrees else "NO",
                    f"{row.seconds:.2f}",
                )
            )
        return rows
    quarter = max(1, run.settings.num_epochs // 4)
    rows = [("epoch", "perplexity", "seconds so far")]
    for record in run.history:
        if record.epoch % quarter == 0:
            rows.append((str(record.epoch), f"{record.perplexity:.6f}", f"{record.seconds:.2f}"))
    return rows


def _align(rows: List[Sequence[str]]) -> List[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]


def figure(run: Run) -> Plot:
    """Draw the run's perplexity; with the book's points if it reached the first of them."""
    from ..evidence.figures import perplexity_figure

    label = f"this run (seed {run.seed})"
    curve = [r.epoch for r in run.history], [r.perplexity for r in run.history]
    title = f"{run.settings.num_layers}-layer LSTM on {run.title}"
    if not run.is_books_text:
        title += " (not the book's text)"
    return perplexity_figure({label: curve}, marks=book.MARKS if run.rows() else None, title=title)


def save(run: Run, out: PathLike, model: RNNModel) -> None:
    """Write ``perplexity.svg``, ``model.html`` and ``report.html``.

    The report is written even if the plot or the model's page fails.

    Args:
        run: a run with at least one epoch.
        out: an existing directory. Files of these names are replaced.
        model: the model that the run has trained.

    Raises:
        OSError: if a file cannot be written.
        Exception: an error of matplotlib; the report is then written without a plot.
    """
    out = user_path(out)
    parts: Dict[str, Any] = {"page": PAGE}
    try:
        write_text(out / PAGE, _model_page(run, model))
    except ExportError as error:
        remove(out / PAGE)  # it would be of an earlier epoch
        parts = {"page_error": str(error)}
    try:
        from ..evidence.figures import to_svg

        parts["plot"] = pages.svg(figure(run))
        write_text(out / PICTURE, to_svg(figure(run)))
    except Exception as error:
        parts["plot_error"] = str(error)
        raise
    finally:
        write_text(out / REPORT, html(run, read_config(out) or {}, **parts))


def _model_page(run: Run, model: RNNModel) -> str:
    """Return the page on which the model writes."""
    return web_page(
        Export.of(model, run.vocab, lower=True, fold_whitespace=True),
        title=f"A recurrent network trained on {run.title}",
        beginning=run.settings.prefixes[0],
    )


def html(
    run: Run,
    config: Mapping[str, Any],
    *,
    plot: str = "",
    plot_error: str = "",
    page: str = "",
    page_error: str = "",
) -> str:
    """Return one self-contained page: verdict, table, plot, predictions, settings.

    Args:
        run: the run.
        config: the configuration in its directory.
        plot: the plot, as an ``<svg>`` element.
        plot_error: why there is none.
        page: file name of the model's page, for a link.
        page_error: why there is none.
    """
    outcome = verdict(run)
    columns, *rows = _table(run)
    return pages.render(
        "chapter/report.html",
        title=f"Deep Recurrent Neural Networks: a run on {run.title}",
        run=run,
        verdict=outcome,
        kind="agrees" if outcome.agrees else "disagrees" if outcome.compared else "open",
        columns=columns,
        rows=rows,
        expected=book.EXPECTED if run.rows() else "",
        plot=plot,
        plot_error=plot_error,
        predictions=[
            (str(prediction.epoch), who, text)
            for prediction in predictions(run)
            for who, text in [("book", prediction.book), (_who(prediction), prediction.text)]
            if text
        ],
        page=page,
        page_error=page_error,
        command=_command(run),
        settings={**vars(run.settings), "seed": run.seed},
        config=config,
    )


def _who(prediction: Prediction) -> str:
    return "this run (a quotation)" if prediction.verbatim else "this run"


def _command(run: Run) -> str:
    """The command that repeats a run."""
    words = ["d2l-deeprnn", REPRODUCE, "--corpus", run.corpus]
    if run.encoding is not None:
        words += ["--encoding", run.encoding]
    words += ["--num-epochs", str(run.settings.num_epochs), "--seed", str(run.seed)]
    return shlex.join(words)
