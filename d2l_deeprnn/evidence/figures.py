"""Plots. No other module of the package imports matplotlib."""

from __future__ import annotations

import io
import math
import statistics
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
# Inches. A notebook shows 80 pixels per inch, an SVG 96: no plot has to be scrolled or shrunk.
WIDTH, WIDEST = 7, 8.5

Curve = Tuple[Sequence[int], Sequence[float]]  # epochs, perplexities


def _defaults() -> Any:
    """Return a context manager and decorator under which matplotlib uses its own defaults.

    Every plot is created, drawn and saved under it, so that neither a user's style nor a
    matplotlibrc file changes the plot.
    """
    # Without the salt, the ids in the SVG file would differ from one file to the next.
    return matplotlib.style.context(["default", {"svg.hashsalt": "d2l_deeprnn"}])


class Plot(Figure):
    """A figure that Jupyter shows even if pyplot was not imported.

    Attributes:
        alt: a description of the plot, for people who cannot see it.
    """

    alt = ""

    savefig = _defaults()(Figure.savefig)

    def set_canvas(self, canvas: Any) -> None:
        """Attach a canvas, whose ``print_figure`` IPython calls instead of ``savefig``."""
        canvas.print_figure = _defaults()(canvas.print_figure)
        super().set_canvas(canvas)

    def _repr_png_(self) -> Tuple[bytes, Dict[str, Any]]:
        buffer = io.BytesIO()
        # Twice the displayed resolution, so that lines and letters are sharp.
        self.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
        return buffer.getvalue(), {"width": round(80 * self.get_figwidth()), "alt": self.alt}


@_defaults()
def perplexity_figure(
    curves: Mapping[str, Curve], *, marks: Optional[Mapping[str, Curve]] = None, title: str = ""
) -> Plot:
    """Plot training perplexity over epochs, on a logarithmic axis.

    Args:
        curves: legend -> (epochs, perplexities). Values that are not finite leave a gap.
        marks: legend -> points to mark, such as those of the book.
        title: title of the plot.
    """
    series = [(*item, "-", colour) for item, colour in zip(curves.items(), cycle(COLOURS))]
    return _epochs_figure(series, marks or {}, "training perplexity per character", title)


@_defaults()
def training_figure(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    marks: Optional[Mapping[str, Curve]] = None,
) -> Plot:
    """Plot training and held-out perplexity of runs over epochs, on a logarithmic axis.

    The axis on the right shows the same in nats.

    Args:
        histories: legend -> rows with ``epoch`` and ``train_loss``, and ``valid_loss`` if there is
            one, in nats. ``perplexity`` may stand for ``train_loss``.
        marks: legend -> points to mark, such as those of the book.
    """
    series = []
    for (label, rows), colour in zip(histories.items(), cycle(COLOURS)):
        for column, name, style in [
            ("perplexity", "training", "--"),
            ("train_loss", "training", "--"),
            ("valid_loss", "held out", "-"),
        ]:
            epochs = [int(row["epoch"]) for row in rows if column in row]
            values = [row[column] for row in rows if column in row]
            if column != "perplexity":
                values = [perplexity(nats) for nats in values]
            if values:
                series.append((f"{label}: {name}", (epochs, values), style, colour))
    figure = _epochs_figure(series, marks or {}, "perplexity per character")
    (axes,) = figure.axes
    nats = axes.twinx()
    nats.set_ylim(*np.log(axes.get_ylim()))
    nats.set_ylabel("nats per character")
    return figure


def _epochs_figure(
    series: Sequence[Tuple[str, Curve, str, str]],
    marks: Mapping[str, Curve],
    ylabel: str,
    title: str = "",
) -> Plot:
    """Plot curves over epochs, each with a legend, a line style and a colour."""
    figure = Plot(figsize=(WIDTH, 4), layout="constrained")
    axes = figure.add_subplot()
    for legend, (epochs, values), style, colour in series:
        # A curve of one epoch is a point, which is invisible without a marker.
        marker = "o" if len(epochs) == 1 else None
        axes.plot(epochs, values, style, label=_plain(legend), color=colour, marker=marker)
    for legend, points in marks.items():
        axes.plot(
            *points,
            label=_plain(legend),
            linestyle="none",
            marker="D",
            markersize=7,
            markerfacecolor="none",  # does not hide the curve
            markeredgecolor="black",
            markeredgewidth=1.5,
            zorder=3,
        )
    axes.set_yscale("log")
    _logarithmic_ticks(axes.yaxis)
    _whole_numbers(axes.xaxis)
    axes.grid(True, color="0.9")
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    titles = [_plain(title)] if title else []
    _, legends = axes.get_legend_handles_labels()
    if len(legends) > 1:
        axes.legend()
    else:  # a single curve needs no legend
        titles += legends
    axes.set_title("\n".join(titles))
    curves = [*((legend, curve) for legend, curve, *_ in series), *marks.items()]
    figure.alt = _description(
        f"{ylabel} by epoch", [_course(name, *curve) for name, curve in curves]
    )
    return figure


def _plain(text: str) -> str:
    """Return any text as matplotlib shows it.

    Matplotlib takes text between dollar signs for TeX, and hides legends with a leading underscore.
    """
    text = printable(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _description(subject: str, parts: Sequence[str]) -> str:
    """Return the description of a plot: its subject, and each of its parts."""
    return printable(f"{subject[:1].upper()}{subject[1:]}. {'; '.join(parts)}.")


def _course(legend: str, x: Sequence[float], y: Sequence[float]) -> str:
    """Describe a curve by its first and last point."""
    points = [(a, b) for a, b in zip(x, y) if math.isfinite(b)]
    if not points:
        return f"{legend}: no data"
    ends = dict.fromkeys([points[0], points[-1]])
    return f"{legend}: {' to '.join(f'{b:.4g} at {a:g}' for a, b in ends)}"


class Line(NamedTuple):
    """A line of a plot, with the range of its values if there are several runs.

    The style is one of matplotlib's line styles. "none" draws points only, as for categories.
    """

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    style: str = "-"

    @classmethod
    def of_runs(
        cls, x: Sequence[float], values: Sequence[Sequence[float]], style: str = "-"
    ) -> Line:
        """Return the line of the medians of several runs; ``values`` has all values at each x."""
        lows, highs = [min(v) for v in values], [max(v) for v in values]
        return cls(x, [statistics.median(v) for v in values], lows, highs, style)


class Level(NamedTuple):
    """A dotted line across a panel, at a reference value."""

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
) -> Plot:
    """Plot lines in panels side by side, two in a row, with the same vertical axis.

    Args:
        panels: title -> legend -> line. Lines with the same legend look the same in all panels. All
            legends are in the first panel, or below it if there are many.
        xlabel: name of the horizontal axis, with its unit; or one for each panel.
        ylabel: name of the vertical axis, with its unit.
        log_x, log_y: whether the axes are logarithmic.
        xticks: labels on the horizontal axis, at 0, 1, 2, ...
    """
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    lines = [(legend, line) for panel in panels.values() for legend, line in panel.items()]
    legends = dict.fromkeys(legend for legend, line in lines if isinstance(line, Line))
    crowded = len(legends) > 5  # too many for a corner
    height = (4 if rows == 1 else 3 * rows) + crowded
    figure = Plot(figsize=(WIDTH if columns == 1 else WIDEST, height), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    xlabels = [xlabel] * len(panels) if isinstance(xlabel, str) else xlabel
    looks = dict(zip(legends, zip(cycle(COLOURS), cycle("osD^vP"))))
    handles: Dict[str, Any] = {}
    descriptions: List[str] = []
    for axes, name, (title, panel) in zip(grid.flat, xlabels, panels.items()):
        for number, (legend, line) in enumerate(panel.items()):
            if isinstance(line, Level):
                handle = axes.axhline(line.y, linestyle=":", color="black")
            else:
                handle = _draw_line(axes, line, *looks[legend], number / len(panel))
            handles.setdefault(legend, handle)
        parts = ", ".join(_describe_line(legend, line) for legend, line in panel.items())
        descriptions.append(f"{title}: {parts}")
        if log_y:
            axes.set_yscale("log")
        if xticks:
            axes.set_xticks(range(len(xticks)), labels=list(xticks))
        else:
            xs = {x for line in panel.values() if isinstance(line, Line) for x in line.x}
            _horizontal_ticks(axes, sorted(xs), log_x)
        axes.grid(True, color="0.9")
        axes.set_xlabel(name)
        axes.set_title(title)
    if log_y:
        _logarithmic_ticks(grid[0][0].yaxis)
    figure.alt = _description(f"{ylabel} by {' and '.join(dict.fromkeys(xlabels))}", descriptions)
    if any(len(line.low) for _, line in lines if isinstance(line, Line)):
        ylabel += "\n(median; shaded: lowest to highest)"
    for row in grid:
        row[0].set_ylabel(ylabel)
    if len(handles) > 1:
        below = {"loc": "upper left", "bbox_to_anchor": (0, -0.15), "ncol": 2} if crowded else {}
        grid[0][0].legend(list(handles.values()), list(handles), fontsize="small", **below)
    return figure


def _describe_line(legend: str, line: Union[Line, Level]) -> str:
    if isinstance(line, Level):
        return f"{legend}: {line.y:.4g}"
    if line.style == "none":
        values = [y for y in line.y if math.isfinite(y)]
        return f"{legend}: {len(values)} points from {min(values):.4g} to {max(values):.4g}"
    return _course(legend, line.x, line.y)


def _draw_line(axes: Any, line: Line, colour: str, marker: str, shift: float) -> Any:
    """Draw a line. Its markers are hollow and shifted, so that lines below others stay visible.

    Args:
        shift: position of the first marker, as a fraction of the distance between two markers.
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
def points_figure(panels: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str) -> Plot:
    """Plot each run as a point and the median as a bar, with one row for each kind of run.

    The panels are one above the other and share the horizontal axis. It is logarithmic if the
    greatest value is more than ten times the least.

    Args:
        panels: title -> kind -> values, all greater than 0.
        xlabel: name of the horizontal axis, with its unit.
    """
    kinds = dict.fromkeys(kind for rows in panels.values() for kind in rows)
    colours = dict(zip(kinds, cycle(COLOURS)))
    numbers = [len(rows) for rows in panels.values()]
    figure = Plot(
        figsize=(WIDTH, 0.8 + 0.3 * len(panels) + 0.36 * sum(numbers)), layout="constrained"
    )
    column = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": numbers}
    )[:, 0]
    for axes, (title, rows) in zip(column, panels.items()):
        for place, (kind, values) in enumerate(rows.items()):
            bar = [np.median(values)] * 2, [place - 0.4, place + 0.4]
            axes.plot(*bar, color="black", linewidth=1.5)
            # Points have different heights, so that equal values do not hide each other.
            heights = place + 0.6 * ((np.arange(len(values)) + 0.5) / len(values) - 0.5)
            axes.plot(values, heights, "o", color=colours[kind], markersize=5, markeredgecolor="w")
        axes.set_yticks(range(len(rows)), labels=list(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(True, axis="x", color="0.9")
        axes.set_title(title, fontsize="medium", loc="left")
    everything = [value for rows in panels.values() for values in rows.values() for value in values]
    if max(everything) > 10 * min(everything):
        axes.set_xscale("log")
        _logarithmic_ticks(axes.xaxis)
    axes.set_xlabel(f"{xlabel} (bar: median)")
    medians = [
        f"{title}: {', '.join(f'{kind} {np.median(values):.4g}' for kind, values in rows.items())}"
        for title, rows in panels.items()
    ]
    figure.alt = _description(f"{xlabel}, medians", medians)
    return figure


@_defaults()
def heat_figure(
    panels: Sequence[Sequence[Tuple[str, np.ndarray]]],
    xticks: Sequence[str],
    yticks: Sequence[str],
    xlabel: str,
    ylabel: str,
    colour_label: str,
) -> Plot:
    """Plot heat maps in a grid. Each cell shows its number; NaN is a dash on white.

    Args:
        panels: rows of (title, values). The values have one row for each of ``yticks`` and one
            column for each of ``xticks``.
        xticks, yticks: labels on the axes.
        xlabel, ylabel: names of the axes.
        colour_label: name of the numbers, with their unit.
    """
    height = 0.8 + (0.8 + 0.42 * len(yticks)) * len(panels)
    figure = Plot(figsize=(min(WIDEST, 1.2 + 2.9 * len(panels[0])), height), layout="constrained")
    grid = figure.subplots(len(panels), len(panels[0]), sharex=True, sharey=True, squeeze=False)
    numbers = [v for row in panels for _, values in row for v in values.ravel() if not np.isnan(v)]
    # Colour-blind readers can tell Viridis's colours apart, and none looks like an empty cell.
    colours = matplotlib.colormaps["viridis"].with_extremes(bad="white")
    norm = Normalize(min(numbers, default=0), max(numbers, default=1))
    for y, row in enumerate(panels):
        for x, (title, values) in enumerate(row):
            axes = grid[y][x]
            image = axes.imshow(values, cmap=colours, norm=norm, aspect="auto")
            for i, j in np.ndindex(*values.shape):
                value = values[i, j]
                text = "\N{EN DASH}" if np.isnan(value) else f"{value:.0f}"
                # The usual weights of red, green and blue in brightness.
                light = np.dot(image.to_rgba(value)[:3], (0.299, 0.587, 0.114)) > 0.5
                colour = "black" if light or np.isnan(value) else "white"
                axes.text(j, i, text, ha="center", va="center", color=colour, fontsize="small")
            axes.set_xticks(range(len(xticks)), labels=list(xticks))
            axes.set_yticks(range(len(yticks)), labels=list(yticks))
            axes.set_title(title, fontsize="medium")
    cells = [_describe_cells(title, values) for row in panels for title, values in row]
    figure.alt = _description(f"{colour_label}, by {xlabel} and {ylabel}", cells)
    figure.supxlabel(xlabel)
    figure.supylabel(ylabel)
    figure.colorbar(image, ax=grid, label=colour_label)
    return figure


def _describe_cells(title: str, values: np.ndarray) -> str:
    numbers = values[~np.isnan(values)]
    span = f", {numbers.min():.0f} to {numbers.max():.0f}" if len(numbers) else ""
    return f"{' '.join(title.split())}: {len(numbers)} of {values.size} have a number{span}"


def _horizontal_ticks(axes: Any, places: Sequence[float], logarithmic: bool) -> None:
    """Set the numbers below an axis; ``places`` are the positions of the values."""
    if logarithmic:
        axes.set_xscale("log")
    if logarithmic and len(places) <= 9:
        axes.set_xticks(places, labels=[_number(place) for place in places])
        axes.xaxis.set_minor_locator(NullLocator())
    elif logarithmic:
        _logarithmic_ticks(axes.xaxis)
    elif all(place == int(place) for place in places):  # such as epochs
        _whole_numbers(axes.xaxis)


def _whole_numbers(axis: Any) -> None:
    axis.set_major_locator(MaxNLocator(9, steps=(1, 2, 2.5, 5, 10), integer=True))


def _logarithmic_ticks(axis: Any) -> None:
    """Label a logarithmic axis with at least five numbers, written out instead of as powers."""
    low, high = axis.get_view_interval()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: List[float] = []
    for steps in [(1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)]:
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 5:
            break
    else:  # the axis is so short that it is nearly linear
        linear = MaxNLocator(8, steps=(1, 2, 5, 10)).tick_values(low, high)
        ticks = [tick for tick in linear if low <= tick <= high]
    ticks = ticks[:: len(ticks) // 10 + 1]
    axis.set_ticks(ticks, labels=[_number(tick) for tick in ticks])
    axis.set_minor_locator(NullLocator())


def _number(value: float) -> str:
    return f"{value:,.7g}"  # 1,000,000, but 1e+07


def save_figure(figure: Figure, path: PathLike) -> None:
    """Save a figure, in the format given by the file's extension.

    Raises:
        ValueError: if matplotlib does not support the extension.
        OSError: if the file cannot be written.
    """
    path = user_path(path)
    ending = path.suffix.lstrip(".").lower()
    known = figure.canvas.get_supported_filetypes()
    if ending not in known:
        raise ValueError(f"{path} must end in one of .{', .'.join(sorted(known))}")
    # Without a date, saving the same plot again gives the same file.
    metadata = {"Date": None} if ending.startswith("svg") else None
    with atomic_file(path) as file:
        figure.savefig(file, format=ending, dpi=150, metadata=metadata)


def to_svg(figure: Figure) -> str:
    """Return a figure as an ``<svg>`` element; equal plots give equal elements."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue().decode("utf-8")
    # HTML pages need only the element, without the XML declaration.
    return svg[svg.index("<svg") :]


def use_svg_display() -> None:
    """Show matplotlib's figures as SVG in Jupyter.

    Raises:
        ImportError: outside Jupyter.

    Source: ``d2l.use_svg_display`` of the chapter.
    """
    # Differs: the original called a function that IPython has removed.
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError as error:
        raise ImportError(
            "use_svg_display needs Jupyter: pip install 'd2l_deeprnn[notebooks]'"
        ) from error
    set_matplotlib_formats("svg")
