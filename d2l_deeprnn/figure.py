"""The only place of the package that imports matplotlib."""

from __future__ import annotations

import io
from itertools import cycle
from pathlib import Path
from typing import Any, Mapping, Sequence, Tuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .book import PRINTED
from .files import atomic_file

# Okabe and Ito's palette, which colour-blind readers can tell apart too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")

Curve = Tuple[Sequence[int], Sequence[float]]  # epochs, perplexities


def perplexity_figure(
    curves: Mapping[str, Curve], *, with_book: bool = True, title: str = ""
) -> Figure:
    """Draw training perplexity over epochs, on a logarithmic axis.

    Args:
        curves: legend -> (epochs, perplexities). One that is not finite leaves
            a gap.
        with_book: mark the four figures that the book printed. They belong
            to the book's text only.
        title: stands above the picture.

    Returns:
        A figure; Jupyter shows it, its ``savefig`` saves it.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for (label, (epochs, perplexities)), colour in zip(curves.items(), cycle(COLOURS)):
        # A run of one epoch is a point: without a marker it would not be seen.
        marker = "o" if len(epochs) == 1 else None
        axes.plot(epochs, perplexities, label=label, color=colour, linewidth=1.5, marker=marker)
    if with_book:
        _mark_book(axes)
    _finish(axes, "training perplexity per character", title)
    return figure


def training_figure(
    histories: Mapping[str, Sequence[Mapping[str, float]]], *, with_book: bool = False
) -> Figure:
    """Draw training and held-out perplexity of runs over epochs, on a logarithmic axis.

    Args:
        histories: legend -> rows with epoch, train_loss and, where there is
            one, valid_loss in nats; or with perplexity, of the training.
        with_book: mark the four figures that the book printed.

    Returns:
        A figure; Jupyter shows it, its ``savefig`` saves it.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for (label, rows), colour in zip(histories.items(), cycle(COLOURS)):
        for column, name, style in [
            ("perplexity", "training", "--"),
            ("train_loss", "training", "--"),
            ("valid_loss", "held out", "-"),
        ]:
            points = [(row["epoch"], row[column]) for row in rows if column in row]
            if not points:
                continue
            epochs, values = np.array(points).T
            if column != "perplexity":
                values = np.exp(np.minimum(values, 700))  # a float holds no more
            marker = "o" if len(points) == 1 else None
            legend = f"{label}: {name}"
            axes.plot(epochs, values, style, label=legend, color=colour, marker=marker)
    if with_book:
        _mark_book(axes)
    _finish(axes, "perplexity per character", "")
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure in one atomic step, in the format of the file's ending.

    Raises:
        ValueError: if matplotlib does not know the ending.
        OSError: if the file cannot be written.
    """
    ending = path.suffix.lstrip(".").lower()
    known = figure.canvas.get_supported_filetypes()
    if ending not in known:
        raise ValueError(f"{path} must end in one of .{', .'.join(sorted(known))}")
    with atomic_file(path) as file, matplotlib.rc_context({"svg.hashsalt": "d2l_deeprnn"}):
        figure.savefig(file, format=ending, dpi=150)


def _mark_book(axes: Any) -> None:
    axes.plot(
        [line.epoch for line in PRINTED],
        [line.perplexity for line in PRINTED],
        label="printed in the book",
        linestyle="none",
        marker="D",
        markersize=7,
        markerfacecolor="white",
        markeredgecolor="black",
        markeredgewidth=1.5,
        zorder=3,
    )


def _finish(axes: Any, ylabel: str, title: str) -> None:
    axes.set_yscale("log")
    ticks = [1, 1.5, 2, 3, 5, 10, 20, 40]
    axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(True, color="0.9")
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    axes.legend()


def to_svg(figure: Figure) -> str:
    """Return a figure as the text of an SVG element, the same for the same picture."""
    buffer = io.BytesIO()
    # Without these two every call would put in other identifiers and the date.
    with matplotlib.rc_context({"svg.hashsalt": "d2l_deeprnn"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue().decode("utf-8")
    # An HTML page takes the element itself, not the XML declaration above it.
    return svg[svg.index("<svg") :]


def use_svg_display() -> None:
    """Show matplotlib's figures as SVG in Jupyter.

    Raises:
        ImportError: outside Jupyter, where there is nothing to set.

    Source: ``d2l.use_svg_display`` of the chapter.
    """
    # Differs: the original called IPython's function, which is gone.
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError as error:
        raise ImportError(
            "use_svg_display needs Jupyter: pip install 'd2l_deeprnn[notebooks]'"
        ) from error
    set_matplotlib_formats("svg")
