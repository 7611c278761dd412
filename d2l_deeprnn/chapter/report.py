"""Reports that compare a run with the printed results: in the terminal and as a web page."""

from __future__ import annotations

import os
import shlex
from typing import (
    TYPE_CHECKING,
    Any,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from markupsafe import Markup, escape

from ..evidence import pages
from ..evidence.records import Table
from ..export import ExportError
from ..export.html import web_page
from ..export.network import Export
from ..files import (
    PathLike,
    package_data,
    printable,
    remove,
    remove_leftovers,
    user_path,
    write_text,
)
from ..training.run_directory import read_config
from ..training.runs import load_run
from ..training.settings import base_rate
from . import book
from .reproduce import Run

if TYPE_CHECKING:
    from .._mxnet import mx
    from ..evidence.figures import Curve, Plot

PICTURE, REPORT, PAGE = "perplexity.svg", "report.html", "model.html"
SEEDS = "chapter/seeds.csv"  # written by scripts/pictures.py


class Verdict(NamedTuple):
    """The result of a comparison with the printed results.

    Attributes:
        agrees: whether the run agrees; None if nothing was compared, or there are no bands.
        text: the result in one or two sentences.
    """

    agrees: Optional[bool]
    text: str


class Prediction(NamedTuple):
    """A text that a run predicted, and the printed one; ``printed`` is empty if there is none."""

    epoch: int
    text: str
    printed: str
    verbatim: bool


def verdict(run: Run) -> Verdict:
    """Compare a run with the printed results.

    A run agrees if every value lies within its band in ``PrintedTraining.bands``, its first losses
    are those known for its seed, and its last predictions are the printed ones. ``expected``
    explains how reliable the bands are.
    """
    training, source = run.training, run.training.source
    if not run.is_books_text:
        return Verdict(None, f"Nothing was compared: the text was {run.title}, not the {source}'s.")
    rows = run.rows()
    wrong = [
        f"{row.comparable:.6f} at epoch {row.epoch} is outside {_range(row.band, training)}"
        for row in rows
        if row.band and not row.agrees
    ]
    known = () if run.had_other_weights else training.first_losses.get(run.settings.seed, ())
    difference = book.first_difference(known, {r.epoch: r.perplexity for r in run.history})
    if difference is not None:
        epoch, own, expected = difference
        wrong.append(
            f"with seed {run.settings.seed}, the loss of epoch {epoch} is {expected:.6f} on any "
            f"processor, not {own:.6f}"
        )
    sure = [epoch for epoch in training.sure_predictions if epoch <= len(run.history)]
    predicted = [prediction for prediction in predictions(run) if prediction.epoch in sure]
    for prediction in predicted:
        if prediction.printed and prediction.text != prediction.printed:
            wrong.append(
                f"the prediction after epoch {prediction.epoch}, {prediction.text!r}, is not the "
                f"{source}'s, which all measured runs made"
            )
    if wrong:
        text = f"This run does not agree with the {source}: {'; '.join(wrong)}."
        if rows and rows[-1].perplexity >= book.UNIGRAM_PERPLEXITY:
            text += " It has learnt no more than character frequencies."
        return Verdict(False, text)
    if not rows:
        return Verdict(
            None,
            f"Nothing was compared: the {source}'s first value is for epoch "
            f"{training.printed[0].epoch}, and this run ended at epoch {len(run.history)}.",
        )
    if not training.bands:
        return Verdict(
            None,
            f"There is no verdict: it has not been measured how much runs with the {source}'s "
            "settings vary, so there are no expected ranges.",
        )
    values = f"{_all(len(rows))} values are" if len(rows) > 1 else "its value is"
    text = f"This run agrees with the {source}: {values} in the expected range."
    if sure and not predicted:
        text += f" It made no predictions after epoch {sure[-1]}, so none were compared."
    if rows[-1].epoch < book.JUMPS_FROM:
        text += " At this epoch, that shows only that it has started to learn."
    return Verdict(True, text)


def _all(count: int) -> str:
    return "both" if count == 2 else f"all {count}"


def predictions(run: Run) -> Iterator[Prediction]:
    """Yield the texts that a run predicted, beside the printed ones."""
    printed_texts = run.training.predictions if run.is_books_text else {}
    for record in run.history:
        printed = printed_texts.get(record.epoch, ())
        for i, text in enumerate(record.predictions):
            in_book = printed[i] if i < len(printed) else ""
            yield Prediction(record.epoch, text, in_book, run.is_verbatim(text))


def has_letters(prediction: str, run: Run) -> bool:
    """Return whether a model has written more than spaces and punctuation after a prefix."""
    for prefix in sorted(run.training.settings.prefixes, key=len, reverse=True):
        if prediction.startswith(prefix):
            prediction = prediction[len(prefix) :]
            break
    return any(map(str.isalpha, prediction))


def table(run: Run) -> Table:
    """Return the values of a run, beside the printed ones if it has the book's text."""
    title, training = "Training perplexity", run.training
    if not run.is_books_text:
        period = training.period or max(1, run.settings.num_epochs // 4)
        rows = [
            [str(record.epoch), f"{record.perplexity:.3f}", f"{record.seconds:.2f}"]
            for record in run.history
            if record.epoch % period == 0
        ]
        return Table(title, ["epoch", "perplexity", "seconds so far"], rows)

    def value(perplexity: float) -> str:
        return f"{perplexity:.{training.digits}f}"

    columns = {
        "epoch": lambda row: str(row.epoch),
        training.source: lambda row: value(row.printed.perplexity),
        "run": lambda row: value(row.perplexity),
    }
    if not training.bands:
        columns["difference"] = lambda row: (
            f"{row.perplexity - row.printed.perplexity:+.{training.digits}f}"
        )
    else:
        if any(row.comparable < row.perplexity for row in run.rows()):  # a value on a jump
            columns["smoothed"] = lambda row: value(row.comparable)
        columns["expected"] = lambda row: _range(row.band, training)
        columns["agrees"] = lambda row: "yes" if row.agrees else "no"
    return Table(title, list(columns), [[cell(r) for cell in columns.values()] for r in run.rows()])


def _range(band: book.Band, training: book.PrintedTraining) -> str:
    return f"{band.low:.{training.digits}f} to {band.high:.{training.digits}f}"


def _expected(run: Run) -> str:
    """Return the explanation of the ranges in the table, or "" if it has none."""
    return run.training.expected if run.rows() and run.training.bands else ""


def figure(run: Run) -> Plot:
    """Plot the perplexity of a run.

    For the book's text, the plot also has the printed values and expected ranges up to the run's
    last epoch and, for the chapter's settings, trainings with other seeds. Notes explain the
    plateau and the jumps.
    """
    from ..evidence.figures import perplexity_figure

    training, end = run.training, len(run.history)
    perplexities = {record.epoch: record.perplexity for record in run.history}
    curves = {
        f"this run (seed {run.settings.seed})": (list(perplexities), [*perplexities.values()])
    }
    if not run.is_books_text:
        epochs = "epoch" if end == 1 else "epochs"
        title = f"{run.title}: perplexity {perplexities[end]:.4g} after {end} {epochs}"
        return perplexity_figure(curves, title=title)
    rows = run.rows()
    printed = [row.epoch for row in rows], [row.printed.perplexity for row in rows]
    bands = {row.epoch: (row.band.low, row.band.high) for row in rows if row.band}
    others = _other_seeds(run.settings.seed, end) if training is book.BOOK else []
    frequencies = book.UNIGRAM_PERPLEXITY, "knows only how frequent each character is"
    return perplexity_figure(
        curves,
        marks={f"printed in the {training.source}": printed} if rows else None,
        ranges=("expected range", bands) if bands else None,
        others=others,
        level=frequencies if rows else None,
        notes=_notes(perplexities) if others else (),
        title=_title(rows, run),
    )


def _title(rows: Sequence[book.Row], run: Run) -> str:
    if not rows:
        end = len(run.history)
        return f"The first {end} epochs" if end > 1 else "The first epoch"
    if not run.training.bands:
        return f"This run, beside the {run.training.source}'s values"
    inside = sum(bool(row.agrees) for row in rows)
    count = _all(inside).capitalize() if inside == len(rows) else f"{inside} of {len(rows)}"
    values = f"{count} values are" if len(rows) > 1 else f"The value is {'' if inside else 'not '}"
    return f"{values.rstrip()} in the expected range"


def _other_seeds(seed: int, end: int) -> List[Curve]:
    """Return the curves of the measured trainings with other seeds, up to an epoch."""
    head, *lines = package_data(SEEDS).decode().split()
    table = [[float(value) for value in line.split(",")] for line in lines[:end]]
    return [
        (range(1, len(values) + 1), values)
        for name, values in zip(head.split(","), zip(*table))
        if name != str(seed)
    ]


def _notes(perplexities: Mapping[int, float]) -> List[Tuple[float, float, str]]:
    """Return notes on the curves: x, y and text."""
    jumps = [
        (value, epoch)
        for epoch, value in perplexities.items()
        if book.comparable_perplexity(perplexities, epoch) < value
    ]
    notes: List[Tuple[float, float, str]] = []
    if jumps:
        height, epoch = max(jumps)
        notes.append((epoch, height, "a jump: back\nwithin ten epochs"))
    if len(perplexities) == book.CHAPTER.num_epochs:
        notes += [(90, 3.0, "other seeds"), (437, 1.06, "recites the text")]
    return notes


def save(run: Run, out: PathLike, ctx: Optional[mx.Context] = None) -> None:
    """Write ``perplexity.svg``, ``model.html`` and ``report.html``.

    Args:
        run: a run with at least one epoch.
        out: its directory. Files with these names are replaced. If the model in its last checkpoint
            cannot be exported, the report says so.
        ctx: device of the model; by default, that of ``try_gpu``.

    Raises:
        CheckpointError: if the last checkpoint cannot be used.
        OSError: if a file cannot be written.
    """
    from ..evidence.figures import to_svg

    out = user_path(out)
    for name in (PICTURE, REPORT, PAGE):
        remove_leftovers(out / name)
    page, page_error = PAGE, ""
    loaded = load_run(out, checkpoint="last", ctx=ctx)
    try:
        export = Export.of(loaded.model, loaded.vocab, lower=True, fold_whitespace=True)
        title = f"A recurrent network trained on {run.title}"
        prefix = run.training.settings.prefixes[0]
        write_text(out / PAGE, web_page(export, title=title, beginning=prefix))
    except ExportError as error:
        remove(out / PAGE)  # from an earlier epoch
        page, page_error = "", str(error)
    write_text(out / PICTURE, to_svg(figure(run)))
    config = read_config(out) or {}
    write_text(out / REPORT, html(run, config, page=page, page_error=page_error))


def html(run: Run, config: Mapping[str, Any], *, page: str = "", page_error: str = "") -> str:
    """Return the report as one self-contained web page.

    Args:
        run: a run with at least one epoch.
        config: the configuration in its directory.
        page: the file name of the model's page, for a link.
        page_error: the reason why there is no such page.
    """
    settings = run.settings
    command = ["d2l-deeprnn", "reproduce", "--corpus", settings.corpus[0]]
    if settings.encoding is not None:
        command += ["--encoding", settings.encoding]
    command += ["--num-epochs", str(settings.num_epochs), "--seed", str(settings.seed)]
    command += ["--settings", run.training.name, "--out", "repeated"]
    result = verdict(run)
    shown = [p for p in predictions(run) if has_letters(p.text, run)]
    sources = (run.training.source,) if any(prediction.printed for prediction in shown) else ()
    marked = [_marked(prediction) for prediction in shown]
    caption = "How the model continued the prefixes"
    if any("<mark>" in text for text in marked):
        caption += "; what differs is underlined"
    return pages.render(
        "chapter/report.html",
        title=f"Deep Recurrent Neural Networks: a run on {run.title}",
        run=run,
        verdict=result.text,
        kind={None: "open", False: "disagrees", True: "agrees"}[result.agrees],
        table=table(run),
        expected=_expected(run),
        plot=pages.svg(figure(run)),
        sources=sources,
        caption=caption,
        predictions=[
            (
                str(prediction.epoch),
                *([prediction.printed] if sources else []),
                text,
                "yes" if prediction.verbatim else "no",
            )
            for prediction, text in zip(shown, marked)
        ],
        page=page,
        page_error=page_error,
        command=shlex.join(command),
        settings={
            **{
                name: getattr(settings, name, value)
                for name, value in vars(run.training.settings).items()
            },
            "lr": base_rate(settings),
            "seed": settings.seed,
        },
        config=config,
    )


def _marked(prediction: Prediction) -> Markup:
    """Return a run's prediction, with the part marked that differs from the printed one."""
    text, printed = prediction.text, prediction.printed
    same = len(os.path.commonprefix([text, printed])) if printed else len(text)
    rest = Markup("<mark>{}</mark>").format(printable(text[same:])) if text[same:] else ""
    return escape(printable(text[:same])) + rest
