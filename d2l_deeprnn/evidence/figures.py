"""The only place of the package that imports matplotlib."""

from __future__ import annotations

import io
from itertools import cycle
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ..files import atomic_file, printable

# Okabe and Ito's palette, which colour-blind readers can tell apart too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")

Curve = Tuple[Sequence[int], Sequence[float]]  # epochs, perplexities


def perplexity_figure(
    curves: Mapping[str, Curve], *, marks: Optional[Mapping[str, Curve]] = None, title: str = ""
) -> Figure:
    """Draw training perplexity over epochs, on a logarithmic axis.

    Args:
        curves: legend -> (epochs, perplexities). One that is not finite leaves
            a gap.
        marks: legend -> points to be marked, such as the book's.
        title: stands above the picture.

    Returns:
        A figure; Jupyter shows it, its ``savefig`` saves it.
    """
    figure = Picture(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for (label, (epochs, perplexities)), colour in zip(curves.items(), cycle(COLOURS)):
        # A run of one epoch is a point: without a marker it would not be seen.
        marker = "o" if len(epochs) == 1 else None
        axes.plot(
            epochs, perplexities, label=_plain(label), color=colour, linewidth=1.5, marker=marker
        )
    _mark(axes, marks or {})
    _finish(axes, "training perplexity per character", title)
    return figure


def training_figure(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    marks: Optional[Mapping[str, Curve]] = None,
) -> Figure:
    """Draw training and held-out perplexity of runs over epochs, on a logarithmic axis.

    Args:
        histories: legend -> rows with epoch, train_loss and, where there is
            one, valid_loss in nats; or with perplexity, of the training.
        marks: legend -> points to be marked, such as the book's.

    Returns:
        A figure; Jupyter shows it, its ``savefig`` saves it.
    """
    figure = Picture(figsize=(7, 4), layout="constrained")
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
            legend = _plain(f"{label}: {name}")
            axes.plot(epochs, values, style, label=legend, color=colour, marker=marker)
    _mark(axes, marks or {})
    _finish(axes, "perplexity per character", "")
    return figure


class Picture(Figure):
    """A figure that Jupyter shows, whether or not pyplot was imported."""

    def _repr_png_(self) -> Tuple[bytes, Dict[str, int]]:
        buffer = io.BytesIO()
        # Twice the pixels of the size shown, so that lines and letters are sharp.
        self.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
        return buffer.getvalue(), {"width": round(80 * self.get_figwidth())}


class Line(NamedTuple):
    """A line of a picture, with the range of its values where there are several runs."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    style: str = "-"


def lines_figure(
    panels: Mapping[str, Mapping[str, Line]],
    xlabel: str,
    ylabel: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    yticks: Sequence[float] = (),
    xticks: Sequence[str] = (),
) -> Figure:
    """Draw lines, in panels side by side with the same vertical axis.

    Args:
        panels: title -> legend -> line. Lines of the same legend have the
            same colour in all panels.
        xlabel, ylabel: names of the axes, with units.
        log_x, log_y: logarithmic axes.
        yticks: numbers on the vertical axis.
        xticks: words on the horizontal axis, at 0, 1, 2, ...
    """
    figure = Picture(figsize=(4 + 3 * len(panels), 4), layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    legends = list(dict.fromkeys(legend for lines in panels.values() for legend in lines))
    looks = dict(zip(legends, zip(cycle(COLOURS), cycle("osD^vP"))))
    for axes, (title, lines) in zip(row, panels.items()):
        for legend, line in lines.items():
            colour, marker = looks[legend]
            marker = marker if len(line.x) <= 12 else ""
            axes.plot(line.x, line.y, line.style, color=colour, marker=marker, label=legend)
            if len(line.low):
                axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2, lw=0)
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        if xticks:
            axes.set_xticks(range(len(xticks)), labels=list(xticks))
        if yticks:
            axes.set_yticks(list(yticks), labels=[f"{tick:g}" for tick in yticks])
            axes.minorticks_off()
        axes.grid(True, color="0.9")
        axes.set_xlabel(xlabel)
        axes.set_title(title)
        axes.legend(fontsize="small")
    row[0].set_ylabel(ylabel)
    return figure


def points_figure(panels: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str) -> Figure:
    """Draw each run as a point and the median as a bar, a row for each kind of run.

    Args:
        panels: title -> kind -> values.
        xlabel: name of the axis of values, with its unit.
    """
    most = max(len(kinds) for kinds in panels.values())
    size = (4 + 3 * len(panels), 1.2 + 0.5 * most)
    figure = Picture(figsize=size, layout="constrained")
    # Rows are shared where all panels have the same kinds.
    same = len({tuple(kinds) for kinds in panels.values()}) == 1
    row = figure.subplots(1, len(panels), squeeze=False, sharey=same)[0]
    for axes, (title, kinds) in zip(row, panels.items()):
        for place, (values, colour) in enumerate(zip(kinds.values(), cycle(COLOURS))):
            axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.6)
            axes.plot([np.median(values)], [place], "|", color="black", markersize=18)
        axes.set_yticks(range(len(kinds)), labels=list(kinds))
        axes.set_ylim(len(kinds) - 0.5, -0.5)
        axes.grid(True, axis="x", color="0.9")
        axes.set_xlabel(xlabel)
        axes.set_title(title)
    return figure


def heat_figure(
    panels: Sequence[Sequence[Tuple[str, np.ndarray]]],
    xticks: Sequence[str],
    yticks: Sequence[str],
    xlabel: str,
    ylabel: str,
    colour_label: str,
) -> Figure:
    """Draw heat maps in a grid; each cell shows its number, and NaN is a grey dash.

    Args:
        panels: rows of (title, values); values have a row for each of
            ``yticks`` and a column for each of ``xticks``.
        xlabel, ylabel: names of the axes.
        colour_label: what the numbers are, with their unit.
    """
    size = (1.2 + 2.9 * len(panels[0]), 0.8 + (0.8 + 0.42 * len(yticks)) * len(panels))
    figure = Picture(figsize=size, layout="constrained")
    grid = figure.subplots(len(panels), len(panels[0]), sharex=True, sharey=True, squeeze=False)
    found = [v for row in panels for _, values in row for v in values.ravel() if not np.isnan(v)]
    highest = max(found, default=1.0)
    # cividis was made for the colour-blind
    colours = matplotlib.colormaps["cividis"].with_extremes(bad="0.88")
    for y, row in enumerate(panels):
        for x, (title, values) in enumerate(row):
            axes = grid[y][x]
            image = axes.imshow(values, cmap=colours, vmin=0, vmax=highest, aspect="auto")
            for i, j in np.ndindex(*values.shape):
                value = values[i, j]
                words = "\N{EN DASH}" if np.isnan(value) else f"{value:.0f}"
                light = not np.isnan(value) and value < highest / 2
                colour = "white" if light else "black"
                axes.text(j, i, words, ha="center", va="center", color=colour, fontsize="small")
            axes.set_xticks(range(len(xticks)), labels=list(xticks))
            axes.set_yticks(range(len(yticks)), labels=list(yticks))
            axes.set_title(title, fontsize="medium")
    figure.supxlabel(xlabel)
    figure.supylabel(ylabel)
    figure.colorbar(image, ax=grid, label=colour_label)
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


def _plain(words: str) -> str:
    """Words as matplotlib shows them, whatever they hold.

    It would take what stands between dollar signs for TeX, and leave what begins with an
    underscore out of the legend.
    """
    words = printable(words).replace("$", r"\$")
    return f" {words}" if words.startswith("_") else words


def _mark(axes: Any, marks: Mapping[str, Curve]) -> None:
    for label, (epochs, perplexities) in marks.items():
        axes.plot(
            epochs,
            perplexities,
            label=_plain(label),
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
    axes.set_title(_plain(title))
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
