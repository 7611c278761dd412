"""The only place of the package that imports matplotlib."""

from __future__ import annotations

import io
import math
from itertools import cycle
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import matplotlib.style
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from .._perplexity import perplexity
from ..files import PathLike, atomic_file, printable, user_path

# Okabe and Ito's palette, which colour-blind readers can tell apart too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
# Inches. A notebook shows 80 pixels for each, an SVG 96: neither has to be scrolled or shrunk.
WIDTH, WIDEST = 7, 8.5

Curve = Tuple[Sequence[int], Sequence[float]]  # epochs, perplexities


def _defaults() -> Any:
    """Return a context, also a decorator, in which matplotlib has its own defaults.

    Every picture is created, drawn and saved in it, so that neither a user's style nor a
    matplotlibrc file changes it.
    """
    # Without the salt, the same picture would have other ids in each SVG file.
    return matplotlib.style.context(["default", {"svg.hashsalt": "d2l_deeprnn"}])


@_defaults()
def perplexity_figure(
    curves: Mapping[str, Curve], *, marks: Optional[Mapping[str, Curve]] = None, title: str = ""
) -> Picture:
    """Draw training perplexity over epochs, on a logarithmic axis.

    Args:
        curves: legend -> (epochs, perplexities). One that is not finite leaves
            a gap.
        marks: legend -> points to be marked, such as the book's.
        title: stands above the picture.

    Returns:
        A figure; Jupyter shows it, its ``savefig`` saves it.
    """
    figure = _picture(WIDTH, 4)
    axes = figure.add_subplot()
    words = [_course(label, *curve) for label, curve in {**curves, **(marks or {})}.items()]
    figure.alt = _sentence("training perplexity per character by epoch", words)
    for (label, (epochs, perplexities)), colour in zip(curves.items(), cycle(COLOURS)):
        # A run of one epoch is a point: without a marker it would not be seen.
        marker = "o" if len(epochs) == 1 else None
        axes.plot(
            epochs, perplexities, label=_plain(label), color=colour, linewidth=1.5, marker=marker
        )
    _mark(axes, marks or {})
    _finish(axes, "training perplexity per character", title)
    return figure


@_defaults()
def training_figure(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    marks: Optional[Mapping[str, Curve]] = None,
) -> Picture:
    """Draw training and held-out perplexity of runs over epochs, on a logarithmic axis.

    The axis on the right has the same in nats, as ``evaluate`` and the tables give it.

    Args:
        histories: legend -> rows with epoch, train_loss and, where there is
            one, valid_loss in nats; or with perplexity, of the training.
        marks: legend -> points to be marked, such as the book's.

    Returns:
        A figure; Jupyter shows it, its ``savefig`` saves it.
    """
    figure = _picture(WIDTH, 4)
    axes = figure.add_subplot()
    described = []
    for (label, rows), colour in zip(histories.items(), cycle(COLOURS)):
        for column, name, style in [
            ("perplexity", "training", "--"),
            ("train_loss", "training", "--"),
            ("valid_loss", "held out", "-"),
        ]:
            points = [(row["epoch"], row[column]) for row in rows if column in row]
            if not points:
                continue
            epochs = [epoch for epoch, _ in points]
            values = [x if column == "perplexity" else perplexity(x) for _, x in points]
            marker = "o" if len(points) == 1 else None
            legend = f"{label}: {name}"
            axes.plot(epochs, values, style, label=_plain(legend), color=colour, marker=marker)
            described.append(_course(legend, epochs, values))
    _mark(axes, marks or {})
    described += [_course(label, *points) for label, points in (marks or {}).items()]
    figure.alt = _sentence("perplexity per character by epoch", described)
    _finish(axes, "perplexity per character", "")
    nats = axes.twinx()
    nats.set_ylim(*np.log(axes.get_ylim()))
    nats.set_ylabel("nats per character")
    return figure


class Picture(Figure):
    """A figure that Jupyter shows, whether or not pyplot was imported.

    Attributes:
        alt: what the picture shows, in words, for people who do not see it.
    """

    alt = ""

    savefig = _defaults()(Figure.savefig)

    def set_canvas(self, canvas: Any) -> None:
        """Take a canvas, whose ``print_figure`` IPython calls without calling ``savefig``."""
        canvas.print_figure = _defaults()(canvas.print_figure)
        super().set_canvas(canvas)

    def _repr_png_(self) -> Tuple[bytes, Dict[str, Any]]:
        buffer = io.BytesIO()
        # Twice the pixels of the size shown, so that lines and letters are sharp.
        self.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
        return buffer.getvalue(), {"width": round(80 * self.get_figwidth()), "alt": self.alt}


def _picture(width: float, height: float) -> Picture:
    return Picture(figsize=(width, height), layout="constrained")


def _sentence(what: str, parts: Sequence[str]) -> str:
    """A picture in words: what it is of, and each of its parts."""
    return printable(f"{what[:1].upper()}{what[1:]}. {'; '.join(parts)}.")


def _course(label: str, x: Sequence[float], y: Sequence[float]) -> str:
    """A curve in words: where it begins and where it ends."""
    points = [(a, b) for a, b in zip(x, y) if math.isfinite(b)]
    if not points:
        return f"{label}: no data"
    ends = dict.fromkeys([points[0], points[-1]])
    return f"{label}: {' to '.join(f'{b:.4g} at {a:g}' for a, b in ends)}"


class Line(NamedTuple):
    """A line of a picture, with the range of its values where there are several runs.

    Style is one of matplotlib's. With "none" there are only the points: between categories
    there is nothing for a line to show.
    """

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    style: str = "-"


class Level(NamedTuple):
    """A dotted line across a panel, at a value that the lines are held against."""

    y: float


@_defaults()
def lines_figure(
    panels: Mapping[str, Mapping[str, Union[Line, Level]]],
    xlabel: Union[str, Sequence[str]],
    ylabel: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    xticks: Sequence[str] = (),
) -> Figure:
    """Draw lines, in panels side by side, two in a row, with the same vertical axis.

    Args:
        panels: title -> legend -> line. Lines of the same legend have the
            same look in all panels; all legends are in the first, or below it if they
            are many.
        xlabel: name of the horizontal axis, with its unit; one for each panel
            where they differ.
        ylabel: name of the vertical axis, with its unit.
        log_x, log_y: logarithmic axes.
        xticks: words on the horizontal axis, at 0, 1, 2, ...
    """
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    lines = [(legend, line) for its in panels.values() for legend, line in its.items()]
    legends = dict.fromkeys(legend for legend, line in lines if isinstance(line, Line))
    crowded = len(legends) > 5  # no corner is free for so many
    height = (4 if rows == 1 else 3 * rows) + crowded
    figure = _picture(WIDTH if columns == 1 else WIDEST, height)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    xlabels = [xlabel] * len(panels) if isinstance(xlabel, str) else xlabel
    looks = dict(zip(legends, zip(cycle(COLOURS), cycle("osD^vP"))))
    handles: Dict[str, Any] = {}
    described: List[str] = []
    for axes, name, (title, its) in zip(grid.flat, xlabels, panels.items()):
        for number, (legend, line) in enumerate(its.items()):
            if isinstance(line, Level):
                handle = axes.axhline(line.y, linestyle=":", color="black")
            else:
                handle = _draw_line(axes, line, *looks[legend], number / len(its))
            handles.setdefault(legend, handle)
        described.append(f"{title}: {', '.join(_line(*named) for named in its.items())}")
        if log_y:
            axes.set_yscale("log")
        if xticks:
            axes.set_xticks(range(len(xticks)), labels=list(xticks))
        else:
            xs = {x for line in its.values() if isinstance(line, Line) for x in line.x}
            _horizontal_ticks(axes, sorted(xs), log_x)
        axes.grid(True, color="0.9")
        axes.set_xlabel(name)
        axes.set_title(title)
    if log_y:
        _logarithmic_ticks(grid[0][0].yaxis)
    figure.alt = _sentence(f"{ylabel} by {' and '.join(dict.fromkeys(xlabels))}", described)
    if any(len(line.low) for _, line in lines if isinstance(line, Line)):
        ylabel += "\n(median; shaded: lowest to highest)"
    for row in grid:
        row[0].set_ylabel(ylabel)
    if len(handles) > 1:
        below = {"loc": "upper left", "bbox_to_anchor": (0, -0.15), "ncol": 2} if crowded else {}
        grid[0][0].legend(list(handles.values()), list(handles), fontsize="small", **below)
    return figure


def _line(legend: str, line: Union[Line, Level]) -> str:
    """A line in words."""
    if isinstance(line, Level):
        return f"{legend}: {line.y:.4g}"
    if line.style == "none":  # one point has nothing to do with the next
        found = [y for y in line.y if math.isfinite(y)]
        return f"{legend}: {len(found)} points from {min(found):.4g} to {max(found):.4g}"
    return _course(legend, line.x, line.y)


def _draw_line(axes: Any, line: Line, colour: str, marker: str, shift: float) -> Any:
    """Draw a line. Its markers are hollow, and elsewhere than those of the others.

    So what lies under another line is seen at its markers, and lines are told apart by their
    shapes, too.

    Args:
        shift: how far along the way from a marker to the next one the first one is, from 0 to 1.
    """
    every = 1 if len(line.x) <= 12 or line.style == "none" else len(line.x) // 8
    (handle,) = axes.plot(
        line.x,
        line.y,
        linestyle=line.style,
        color=colour,
        marker=marker,
        markerfacecolor="none",
        markevery=(int(shift * every), every),
    )
    if len(line.low):
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2, lw=0)
    return handle


@_defaults()
def points_figure(panels: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str) -> Figure:
    """Draw each run as a point and the median as a bar, a row for each kind of run.

    The panels are one above the other and share the axis of values, which is logarithmic where
    the greatest value is more than ten times the least.

    Args:
        panels: title -> kind -> values, all greater than 0.
        xlabel: name of the axis of values, with its unit.
    """
    kinds = dict.fromkeys(kind for rows in panels.values() for kind in rows)
    colours = dict(zip(kinds, cycle(COLOURS)))
    numbers = [len(rows) for rows in panels.values()]
    figure = _picture(WIDTH, 0.8 + 0.3 * len(panels) + 0.36 * sum(numbers))
    column = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": numbers}
    )[:, 0]
    for axes, (title, rows) in zip(column, panels.items()):
        for place, (kind, values) in enumerate(rows.items()):
            bar = [np.median(values)] * 2, [place - 0.4, place + 0.4]
            axes.plot(*bar, color="black", linewidth=1.5)
            # Each at a height of its own, the first on top: equal ones would hide each other.
            heights = place + 0.6 * ((np.arange(len(values)) + 0.5) / len(values) - 0.5)
            axes.plot(values, heights, "o", color=colours[kind], markersize=5, markeredgecolor="w")
        axes.set_yticks(range(len(rows)), labels=list(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(True, axis="x", color="0.9")
        axes.set_title(title, fontsize="medium", loc="left")
    found = [value for rows in panels.values() for values in rows.values() for value in values]
    if max(found) > 10 * min(found):
        axes.set_xscale("log")
        _logarithmic_ticks(axes.xaxis)
    axes.set_xlabel(f"{xlabel} (bar: median)")
    medians = [
        f"{title}: {', '.join(f'{kind} {np.median(values):.4g}' for kind, values in rows.items())}"
        for title, rows in panels.items()
    ]
    figure.alt = _sentence(f"{xlabel}, medians", medians)
    return figure


@_defaults()
def heat_figure(
    panels: Sequence[Sequence[Tuple[str, np.ndarray]]],
    xticks: Sequence[str],
    yticks: Sequence[str],
    xlabel: str,
    ylabel: str,
    colour_label: str,
) -> Figure:
    """Draw heat maps in a grid; each cell shows its number, and NaN is a dash on white.

    Args:
        panels: rows of (title, values); values have a row for each of
            ``yticks`` and a column for each of ``xticks``.
        xlabel, ylabel: names of the axes.
        colour_label: what the numbers are, with their unit.
    """
    height = 0.8 + (0.8 + 0.42 * len(yticks)) * len(panels)
    figure = _picture(min(WIDEST, 1.2 + 2.9 * len(panels[0])), height)
    grid = figure.subplots(len(panels), len(panels[0]), sharex=True, sharey=True, squeeze=False)
    found = [v for row in panels for _, values in row for v in values.ravel() if not np.isnan(v)]
    # Viridis is read by the colour-blind, too, and none of it looks like a cell without a number.
    colours = matplotlib.colormaps["viridis"].with_extremes(bad="white")
    norm = Normalize(min(found, default=0), max(found, default=1))
    for y, row in enumerate(panels):
        for x, (title, values) in enumerate(row):
            axes = grid[y][x]
            image = axes.imshow(values, cmap=colours, norm=norm, aspect="auto")
            for i, j in np.ndindex(*values.shape):
                value = values[i, j]
                words = "\N{EN DASH}" if np.isnan(value) else f"{value:.0f}"
                # how bright red, green and blue look
                light = np.dot(image.to_rgba(value)[:3], (0.299, 0.587, 0.114)) > 0.5
                colour = "black" if light or np.isnan(value) else "white"
                axes.text(j, i, words, ha="center", va="center", color=colour, fontsize="small")
            axes.set_xticks(range(len(xticks)), labels=list(xticks))
            axes.set_yticks(range(len(yticks)), labels=list(yticks))
            axes.set_title(title, fontsize="medium")
    cells = [_cells(title, values) for row in panels for title, values in row]
    figure.alt = _sentence(f"{colour_label}, by {xlabel} and {ylabel}", cells)
    figure.supxlabel(xlabel)
    figure.supylabel(ylabel)
    figure.colorbar(image, ax=grid, label=colour_label)
    return figure


def _cells(title: str, values: np.ndarray) -> str:
    """A heat map in words."""
    found = values[~np.isnan(values)]
    numbers = f", {found.min():.0f} to {found.max():.0f}" if len(found) else ""
    return f"{' '.join(title.split())}: {len(found)} of {values.size} have a number{numbers}"


def _horizontal_ticks(axes: Any, places: Sequence[float], logarithmic: bool) -> None:
    """Choose the numbers below an axis.

    Args:
        places: where there are values, in order.
    """
    if logarithmic:
        axes.set_xscale("log")
    if logarithmic and len(places) <= 9:
        axes.set_xticks(places, labels=[_number(place) for place in places])
        axes.xaxis.set_minor_locator(NullLocator())
    elif logarithmic:
        _logarithmic_ticks(axes.xaxis)
    elif all(place == int(place) for place in places):  # there is no half epoch
        _whole_numbers(axes.xaxis)


def _whole_numbers(axis: Any) -> None:
    axis.set_major_locator(MaxNLocator(9, steps=(1, 2, 2.5, 5, 10), integer=True))


def _logarithmic_ticks(axis: Any) -> None:
    """Choose the numbers beside a logarithmic axis: at least five, none written as a power."""
    low, high = axis.get_view_interval()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: List[float] = []
    for steps in [(1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)]:
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 5:
            break
    else:  # so short that a logarithmic axis is nearly a linear one
        found = MaxNLocator(8, steps=(1, 2, 5, 10)).tick_values(low, high)
        ticks = [tick for tick in found if low <= tick <= high]
    ticks = ticks[:: len(ticks) // 10 + 1]
    axis.set_ticks(ticks, labels=[_number(tick) for tick in ticks])
    axis.set_minor_locator(NullLocator())


def _number(value: float) -> str:
    return f"{value:,.7g}"  # 1,000,000, but 1e+07


def save_figure(figure: Figure, path: PathLike) -> None:
    """Save a figure in one atomic step, in the format of the file's ending.

    Raises:
        ValueError: if matplotlib does not know the ending.
        OSError: if the file cannot be written.
    """
    path = user_path(path)
    ending = path.suffix.lstrip(".").lower()
    known = figure.canvas.get_supported_filetypes()
    if ending not in known:
        raise ValueError(f"{path} must end in one of .{', .'.join(sorted(known))}")
    # Without a date the same picture is the same file.
    metadata = {"Date": None} if ending.startswith("svg") else None
    with atomic_file(path) as file:
        figure.savefig(file, format=ending, dpi=150, metadata=metadata)


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
            markerfacecolor="none",  # the curve is to be seen through it
            markeredgecolor="black",
            markeredgewidth=1.5,
            zorder=3,
        )


def _finish(axes: Any, ylabel: str, title: str) -> None:
    axes.set_yscale("log")
    _logarithmic_ticks(axes.yaxis)
    _whole_numbers(axes.xaxis)
    axes.grid(True, color="0.9")
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    titles = [_plain(title)] if title else []
    _, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        axes.legend()
    else:  # a legend of one line would only ask which other there is
        titles += labels
    axes.set_title("\n".join(titles))


def to_svg(figure: Figure) -> str:
    """Return a figure as the text of an SVG element, the same for the same picture."""
    buffer = io.BytesIO()
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
