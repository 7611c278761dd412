"""Plots. No other module of the package imports matplotlib."""

from __future__ import annotations

import io
import math
import re
import statistics
import textwrap
from itertools import cycle
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import matplotlib.style
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from .._perplexity import perplexity
from ..files import PathLike, atomic_file, printable, user_path

# One language for all plots. The subject, such as this package, is blue, and all others are grey.
# Values printed by the authors are vermilion diamonds. In notebooks, plots have no background: each
# colour has a contrast of at least 3:1 on white and on black. Colour-blind readers can tell the
# lines' colours apart.
INK, OURS, OTHERS, PRINTED = "#70757e", "#0a7abf", "#878c95", "#d55e00"
COLOURS = (OURS, "#007a5a", "#cf739f", "#a87b00", "#9050e0", "#746c30")
# Inches. A notebook and an SVG show 96 pixels per inch: no plot has to be scrolled or shrunk.
WIDTH, WIDEST = 5.8, 8.5

STYLE = {
    # Without the salt, the ids in the SVG file would differ from one file to the next.
    "svg.hashsalt": "d2l_deeprnn",
    "path.simplify_threshold": 0.6,  # of a pixel; makes files smaller
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.xmargin": 0.02,
    "axes.axisbelow": True,
    "grid.color": OTHERS,
    "grid.alpha": 0.25,
    "lines.linewidth": 1.8,
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    **{f"axes.{part}color": INK for part in ("label", "edge", "title")},
}
# An SVG file has stronger colours than these, and a background, since the page around it may be
# light when the reader's system is dark, or the other way round.
CSS = f"""<style>
svg {{ background: #ffffff }}
[style*="fill: {INK}"] {{ fill: #24272e !important }}
@media (prefers-color-scheme: dark) {{
svg {{ background: #0d1117 }}
[style*="fill: {INK}"] {{ fill: #e6e7ea !important }}
[style*="fill: {OURS}"] {{ fill: #56b4e9 !important }}
[style*="stroke: {OURS}"] {{ stroke: #56b4e9 !important }}
[style*="fill: {COLOURS[1]}"] {{ fill: #2fae86 !important }}
[style*="stroke: {COLOURS[1]}"] {{ stroke: #2fae86 !important }}
}}
</style>
"""

Curve = Tuple[Sequence[int], Sequence[float]]  # epochs, perplexities


def _defaults() -> Any:
    """Return a context manager and decorator under which matplotlib uses only our style.

    Every plot is created, drawn and saved under it, so that neither a user's style nor a
    matplotlibrc file changes the plot.
    """
    return matplotlib.style.context(["default", STYLE])


class Plot(Figure):
    """A figure that Jupyter shows even if pyplot was not imported.

    Attributes:
        heading: the title, a sentence about the result.
        alt: a description of the plot, for people who cannot see it.
    """

    heading, alt = "", ""

    savefig = _defaults()(Figure.savefig)

    def set_canvas(self, canvas: Any) -> None:
        """Attach a canvas, whose ``print_figure`` IPython calls instead of ``savefig``."""
        canvas.print_figure = _defaults()(canvas.print_figure)
        super().set_canvas(canvas)

    def _repr_png_(self) -> Tuple[bytes, Dict[str, Any]]:
        buffer = io.BytesIO()
        # More than the displayed resolution, so that lines and letters are sharp.
        self.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
        return buffer.getvalue(), {"width": round(96 * self.get_figwidth()), "alt": self.alt}

    def set_heading(self, title: str, subject: str, parts: Sequence[str]) -> None:
        """Set the title and the description."""
        self.heading = title
        if title:
            lines = textwrap.wrap(_plain(title), round(9.2 * self.get_figwidth()))
            self.suptitle("\n".join(lines), x=0.01, ha="left", weight="bold", size=11)
            title += ". "
        subject = subject[:1].upper() + subject[1:]
        self.alt = printable(f"{title}{subject}. {'; '.join(parts)}.")


@_defaults()
def perplexity_figure(
    curves: Mapping[str, Curve],
    *,
    marks: Optional[Mapping[str, Curve]] = None,
    ranges: Optional[Tuple[str, Mapping[int, Tuple[float, float]]]] = None,
    others: Sequence[Curve] = (),
    level: Optional[Tuple[float, str]] = None,
    notes: Sequence[Tuple[float, float, str]] = (),
    title: str = "",
) -> Plot:
    """Plot training perplexity over epochs, on a logarithmic axis.

    Args:
        curves: label -> (epochs, perplexities). Values that are not finite leave a gap.
        marks: label -> points to mark, such as those of the book.
        ranges: name of the expected ranges, and epoch -> lowest and highest perplexity, drawn as a
            bar.
        others: pale curves for comparison, such as other seeds.
        level: height and name of a dotted line.
        notes: x, y and text of notes, which stand above their points.
        title: title of the plot.
    """
    figure = Plot(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for other in others:
        axes.plot(*other, color=OTHERS, alpha=0.45, linewidth=0.8)
    ends: List[_End] = []
    for (label, curve), colour in zip(curves.items(), cycle(COLOURS)):
        ends += _draw_curve(axes, _short(label), curve, colour)
    name, bars = ranges or ("", {})
    for epoch, bounds in bars.items():
        axes.vlines(epoch, *bounds, color=PRINTED, alpha=0.35, linewidth=8)
    _draw_marks(axes, marks or {}, f"bar: {name}" if name else "")
    if level:
        axes.axhline(level[0], color=INK, linestyle=":", linewidth=1)
        axes.annotate(
            level[1],
            (1, level[0]),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="bottom",
            size=9,
        )
    for x, y, text in notes:
        axes.annotate(
            text, (x, y), (0, 5), textcoords="offset points", ha="center", va="bottom", size=9
        )
    ylabel = "training perplexity per character"
    _finish_epochs(axes, ylabel)
    _label_ends(axes, ends)
    courses = [_course(name, *curve) for name, curve in [*curves.items(), *(marks or {}).items()]]
    figure.set_heading(title, f"{ylabel} by epoch", courses)
    return figure


@_defaults()
def training_figure(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    marks: Optional[Mapping[str, Curve]] = None,
    num_epochs: int = 0,
    title: str = "",
    note: str = "",
) -> Plot:
    """Plot training and held-out perplexity of runs over epochs, on a logarithmic axis.

    The last value of each curve is beside it, also in nats. A circle marks the best epoch.

    Args:
        histories: label -> rows with ``epoch`` and ``train_loss``, and ``valid_loss`` if there is
            one, in nats. ``perplexity`` may stand for ``train_loss``.
        marks: label -> points to mark, such as those of the book.
        num_epochs: last epoch of the horizontal axis, if that is known.
        title: title of the plot; by default, it names the best epoch, if the values of all runs are
            held out, or none are.
        note: a line below the plot, such as a prediction.
    """
    width = WIDTH if len(histories) <= 1 else WIDEST  # the names of runs need room
    figure = Plot(figsize=(width, 3.6), layout="constrained")
    axes = figure.add_subplot()
    ends: List[_End] = []
    courses, bests = [], []
    kinds = set()
    for (label, rows), colour in zip(histories.items(), cycle(COLOURS)):
        found = dict(_perplexities(rows))
        for name, curve in found.items():
            style = "--" if name == "training" and len(found) > 1 else "-"
            full = name if len(histories) == 1 else f"{_short(label)}: {name}"
            last = curve[1][-1]
            value = f"{full} {last:.4g}"
            if 0 < last < math.inf:
                value += f" ({math.log(last):.3f} nats)"
            ends += _draw_curve(axes, value, curve, colour, style)
            courses.append(_course(f"{label}: {name}", *curve))
        # The last curve is the held-out one, if there is one.
        value, epoch = min(zip(*reversed(curve)), key=lambda point: (math.isnan(point[0]), point))
        best = f"{full}, {value:.4g} in epoch {epoch}"
        axes.plot(epoch, value, "o", color=INK, mfc="none", markersize=8, gid=_tooltip(best))
        bests.append((value, best))
        kinds.add(name)
    _draw_marks(axes, marks or {})
    if not ends:
        axes.set_ylim(1, 30)
    if num_epochs:
        axes.set_xlim(0 if num_epochs > 1 else 0.5, max(num_epochs, axes.get_xlim()[1]))
    _finish_epochs(axes, "perplexity per character")
    _label_ends(axes, ends)
    if note:
        text = printable(" ".join(note.split()))
        text = text if len(text) <= 70 else f"{text[:67]}..."
        figure.supxlabel(_plain(text), x=0.01, ha="left", size=9, family="monospace")
    courses += [_course(name, *points) for name, points in (marks or {}).items()]
    if len(kinds) == 1 and not title:  # training and held-out values cannot be compared
        title = f"Lowest perplexity: {min(bests)[-1]}"
    figure.set_heading(title, "perplexity per character by epoch", courses)
    return figure


def _perplexities(rows: Sequence[Mapping[str, float]]) -> Iterator[Tuple[str, Curve]]:
    """Yield name and curve of a history's training and held-out perplexities."""
    for column, name in [
        ("perplexity", "training"),
        ("train_loss", "training"),
        ("valid_loss", "held out"),
    ]:
        epochs = [int(row["epoch"]) for row in rows if column in row]
        values = [row[column] for row in rows if column in row]
        if column != "perplexity":
            values = [perplexity(nats) for nats in values]
        if values:
            yield name, (epochs, values)


class _End(NamedTuple):
    """The label of a line, and the point at which the line ends."""

    text: str
    x: float
    y: float
    colour: str


def _draw_curve(
    axes: Any, label: str, curve: Curve, colour: str, style: str = "-"
) -> Iterator[_End]:
    """Draw a curve over epochs, and yield its end if it has one."""
    # A curve of one epoch is a point, which is invisible without a marker.
    marker = "o" if len(curve[0]) == 1 else None
    (line,) = axes.plot(*curve, style, label=_plain(label), color=colour, marker=marker)
    points = [point for point in zip(*curve) if 0 < point[1] < math.inf]
    if points:
        epoch, value = points[-1]
        line.set_gid(_tooltip(f"{label}: {value:.4g} in the last epoch, {epoch}"))
        yield _End(label, epoch, value, colour)


def _draw_marks(axes: Any, marks: Mapping[str, Curve], more: str = "") -> None:
    """Draw printed values as diamonds, with their label at the first one."""
    for label, points in marks.items():
        for x, y in zip(*points):
            axes.plot(
                x,
                y,
                label=_plain(label),
                linestyle="none",
                marker="D",
                markersize=7,
                markerfacecolor="none",  # does not hide the curve
                markeredgecolor=PRINTED,
                markeredgewidth=1.8,
                zorder=3,
                gid=_tooltip(f"{label}: {y:.4g} in epoch {x}"),
            )
        first = points[0][0], points[1][0]
        texts = [_plain(text) for text in (label, more) if text]
        place: Dict[str, Any] = {"text": "; ".join(texts), "xytext": (11, 5), "va": "bottom"}
        if first[0] > sum(axes.get_xlim()) / 2:
            # On the right, the label would leave no room for the axes. A falling curve leaves room
            # on the left of its point, below.
            place = {"text": "\n".join(texts), "xytext": (-11, -5), "va": "top", "ha": "right"}
        axes.annotate(xy=first, textcoords="offset points", color=PRINTED, size=9, **place)


def _finish_epochs(axes: Any, ylabel: str) -> None:
    axes.set_yscale("log")
    _logarithmic_ticks(axes.yaxis)
    _whole_numbers(axes.xaxis)
    axes.grid(True, axis="y")
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)


def _label_ends(axes: Any, ends: Sequence[_End]) -> None:
    """Write the labels of lines beside their ends, one above the other where lines meet.

    All labels are in one column, right of the line that reaches furthest. A thin line leads to each
    end that is not beside its label.
    """
    if not ends:
        return
    figure = axes.get_figure()
    figure.draw_without_rendering()  # gives everything its place
    scale = figure.dpi / 72
    box, gap = axes.get_window_extent(), 12 * scale
    places = [axes.transData.transform((end.x, end.y)) for end in ends]
    # Of lines that end at the same height, the longest has the lowest label: no leaders cross.
    order = sorted(range(len(ends)), key=lambda i: (places[i][1] // (3 * scale), -places[i][0]))
    heights: List[float] = []
    for i in order:
        heights.append(max(places[i][1], heights[-1] + gap) if heights else places[i][1])
    ceiling = box.y1 + gap
    for k in reversed(range(len(heights))):
        ceiling = heights[k] = min(heights[k], ceiling - gap)
    left = max(place[0] for place in places) + 10 * scale
    for i, height in zip(order, heights):
        end, place = ends[i], places[i]
        is_far = math.hypot(left - place[0], height - place[1]) > 16 * scale
        line = {"arrowstyle": "-", "color": end.colour, "linewidth": 0.6, "shrinkA": 1}
        axes.annotate(
            _plain(end.text),
            (end.x, end.y),
            (
                axes.transData.inverted().transform((left, height))[0],
                (height - box.y0) / box.height,
            ),
            textcoords=("data", "axes fraction"),
            color=end.colour,
            size=9,
            va="center",
            arrowprops={**line, "shrinkB": 4, "alpha": 0.7, "relpos": (0, 0.5)} if is_far else None,
            annotation_clip=False,
        )


def _plain(text: str) -> str:
    """Return any text as matplotlib shows it.

    Matplotlib takes text between dollar signs for TeX, and hides legends with a leading underscore.
    """
    text = printable(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _tooltip(text: str) -> str:
    """Return the id of an element that shows a text when the mouse is over it; see ``to_svg``."""
    return f"tooltip: {printable(text)}"


def _short(name: str) -> str:
    """Return a name, such as a path, that leaves room for the curves; its end tells most."""
    return name if len(name) <= 28 else f"...{name[-25:]}"


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
    ours: Sequence[str] = (),
    title: str = "",
) -> Plot:
    """Plot lines in panels side by side, two in a row, with the same vertical axis.

    Args:
        panels: heading -> label -> line. Lines with the same label have the same colour in all
            panels. The label is in the last of them or, if all labels are short, in each.
        xlabel: name of the horizontal axis, with its unit; or one for each panel.
        ylabel: name of the vertical axis, with its unit.
        log_x, log_y: whether the axes are logarithmic.
        xticks: labels on the horizontal axis, at 0, 1, 2, ...
        ours: lines that the plot is about. If there are any, the others are grey.
        title: title of the plot.
    """
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    lines = [(label, line) for panel in panels.values() for label, line in panel.items()]
    labels = dict.fromkeys(label for label, line in lines if isinstance(line, Line))
    size = (WIDTH if columns == 1 else WIDEST, 3.6 if rows == 1 else 2.7 * rows)
    figure = Plot(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    xlabels = [xlabel] * len(panels) if isinstance(xlabel, str) else xlabel
    looks = dict(zip(labels, zip(cycle(COLOURS), cycle("os^v"))))
    if ours:
        looks = {label: (OURS if label in ours else OTHERS, "o") for label in labels}
    descriptions: List[str] = []
    for axes, name, (heading, panel) in zip(grid.flat, xlabels, panels.items()):
        for label, line in panel.items():
            if isinstance(line, Level):
                axes.axhline(line.y, linestyle=":", color=INK, linewidth=1)
            else:
                _draw_line(axes, line, *looks[label])
        parts = ", ".join(_describe_line(label, line) for label, line in panel.items())
        descriptions.append(f"{heading}: {parts}" if heading else parts)
        if log_y:
            axes.set_yscale("log")
        if xticks:
            axes.set_xticks(range(len(xticks)), labels=list(xticks))
        else:
            xs = {x for line in panel.values() if isinstance(line, Line) for x in line.x}
            _horizontal_ticks(axes, sorted(xs), log_x)
        axes.grid(True, axis="y")
        axes.set_xlabel(name)
        axes.set_title(heading)
        if not log_y:
            axes.yaxis.set_major_formatter("{x:,.6g}")
    if log_y:
        _logarithmic_ticks(grid[0][0].yaxis)
    subject = f"{ylabel} by {' and '.join(dict.fromkeys(xlabels))}"
    figure.set_heading(title, subject, descriptions)
    if any(len(line.low) for _, line in lines if isinstance(line, Line)):
        note = "line: median of the runs; shaded: lowest to highest"
        figure.supxlabel(note, x=0.01, ha="left", size=9)
    for row in grid:
        row[0].set_ylabel(ylabel)
    last = {label: axes for axes, panel in zip(grid.flat, panels.values()) for label in panel}
    if len(last) > 1:
        are_short = max(map(len, last)) <= 10
        for axes, panel in zip(grid.flat, panels.values()):
            shown = {x: line for x, line in panel.items() if are_short or last[x] is axes}
            _label_ends(axes, [_end_of(axes, *item, looks) for item in shown.items()])
    return figure


def _end_of(
    axes: Any, label: str, line: Union[Line, Level], looks: Mapping[str, Tuple[str, str]]
) -> _End:
    if isinstance(line, Level):
        return _End(label, axes.get_xlim()[1], line.y, INK)
    points = [point for point in zip(line.x, line.y) if math.isfinite(point[1])]
    return _End(label, *points[-1], looks[label][0])


def _describe_line(legend: str, line: Union[Line, Level]) -> str:
    if isinstance(line, Level):
        return f"{legend}: {line.y:.4g}"
    if line.style == "none":
        values = [y for y in line.y if math.isfinite(y)]
        return f"{legend}: {len(values)} points from {min(values):.4g} to {max(values):.4g}"
    return _course(legend, line.x, line.y)


def _draw_line(axes: Any, line: Line, colour: str, marker: str) -> None:
    """Draw a line, with markers if its points are few."""
    style = {"linestyle": line.style, "color": colour, "markerfacecolor": "none"}
    shown = marker if len(line.x) <= 12 or line.style == "none" else None
    axes.plot(line.x, line.y, marker=shown, **style)
    if len(line.low):
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2, lw=0)


def lowest(rows: Mapping[str, Sequence[float]]) -> str:
    """Return the kind of run with the lowest median."""
    return min(rows, key=lambda kind: statistics.median(rows[kind]))


@_defaults()
def points_figure(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    xlabel: str,
    *,
    ours: Optional[Sequence[str]] = None,
    from_zero: bool = False,
    title: str = "",
) -> Plot:
    """Plot each run as a point, and the median as a number; one row for each kind of run.

    The panels are one above the other. Amounts such as times are bars from zero to the median, to
    the scale of their panel. Other values have a common axis, and a line marks the median.

    Args:
        panels: heading -> kind -> values.
        xlabel: name of the horizontal axis, with its unit and with the direction that is better.
        ours: kinds that the plot is about; by default, the lowest of each panel. The others are
            grey.
        from_zero: whether the values are amounts.
        title: title of the plot.
    """
    numbers = [len(rows) for rows in panels.values()]
    headings = sum(map(bool, panels))
    height = 0.9 + 0.3 * (headings + 1) + 0.3 * sum(numbers)
    figure = Plot(figsize=(WIDTH, height), layout="constrained")
    column = figure.subplots(
        len(panels), 1, sharex=not from_zero, squeeze=False, gridspec_kw={"height_ratios": numbers}
    )[:, 0]
    for axes, (heading, rows) in zip(column, panels.items()):
        highlighted = [lowest(rows)] if ours is None else ours
        for place, (kind, values) in enumerate(rows.items()):
            is_ours, median = kind in highlighted, statistics.median(values)
            colour = OURS if is_ours else OTHERS
            # Points have different heights, so that equal values do not hide each other.
            heights = place + 0.5 * ((np.arange(len(values)) + 0.5) / len(values) - 0.5)
            if from_zero:
                axes.barh(place, median, 0.66, color=colour)
                points = {"markerfacecolor": "white", "markeredgecolor": INK, "mew": 0.7}
                axes.plot(values, heights, "o", markersize=3.5, **points)
            else:
                axes.plot(values, heights, "o", color=colour, markersize=5, alpha=0.7, mew=0)
                axes.vlines(median, place - 0.4, place + 0.4, color=colour, linewidth=3)
            axes.annotate(
                _number(float(f"{median:.3g}")) if from_zero else f"{median:#.4g}",
                (max(values), place),
                (8, 0),
                textcoords="offset points",
                va="center",
                weight="bold" if is_ours else "normal",
                annotation_clip=False,
            )
        axes.set_yticks(range(len(rows)), labels=list(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        if from_zero:
            axes.set_xlim(left=0)
            axes.set_xticks([])
            axes.spines["bottom"].set_visible(False)
        else:
            axes.grid(True, axis="x")
        if heading:
            axes.set_title(heading)
    axes.set_xlabel(f"{xlabel}\n(number: median)")
    medians = [
        f"{heading}: {values}" if heading else values
        for heading, values in (
            (name, ", ".join(f"{k} {statistics.median(v):.4g}" for k, v in rows.items()))
            for name, rows in panels.items()
        )
    ]
    figure.set_heading(title, f"{xlabel}, medians", medians)
    return figure


@_defaults()
def heat_figure(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    xticks: Sequence[str],
    yticks: Sequence[str],
    xlabel: str,
    ylabel: str,
    colour_label: str,
    *,
    low_is_good: bool = False,
    title: str = "",
) -> Plot:
    """Plot heat maps in a grid. Each cell shows its number; NaN is a dash. Good values are bright.

    Args:
        panels: head of a row -> head of a column -> values. The values have one row for each of
            ``yticks`` and one column for each of ``xticks``.
        xticks, yticks: labels on the axes.
        xlabel, ylabel: names of the axes.
        colour_label: name of the numbers, with their unit.
        low_is_good: whether low numbers are good.
        title: title of the plot.
    """
    heads = list(next(iter(panels.values())))
    height = 1 + (0.5 + 0.3 * len(yticks)) * len(panels)
    figure = Plot(figsize=(min(WIDEST, 1.8 + 2.2 * len(heads)), height), layout="constrained")
    grid = figure.subplots(len(panels), len(heads), sharex=True, sharey=True, squeeze=False)
    maps = [values for row in panels.values() for values in row.values()]
    numbers = [v for values in maps for v in values.ravel() if not np.isnan(v)]
    # Colour-blind readers can tell Viridis's colours apart, and none looks like an empty cell.
    name = "viridis_r" if low_is_good else "viridis"
    colours = matplotlib.colormaps[name].with_extremes(bad="none")
    norm = Normalize(min(numbers, default=0), max(numbers, default=1))
    for axes, values in zip(grid.flat, maps):
        image = axes.imshow(values, cmap=colours, norm=norm, aspect="auto")
        for i, j in np.ndindex(*values.shape):
            value = values[i, j]
            text = "\N{EN DASH}" if np.isnan(value) else f"{value:.0f}"
            # The usual weights of red, green and blue in brightness.
            light = np.dot(image.to_rgba(value)[:3], (0.299, 0.587, 0.114)) > 0.5
            colour = INK if np.isnan(value) else "black" if light else "white"
            axes.text(j, i, text, ha="center", va="center", color=colour, size=9)
        axes.set_xticks(range(len(xticks)), labels=list(xticks))
        axes.set_yticks(range(len(yticks)), labels=list(yticks))
    for axes, head in zip(grid[0], heads):
        axes.set_title(head, loc="center")
    for axes, head in zip(grid[:, -1], panels):
        axes.annotate(head, (1, 0.5), (6, 0), "axes fraction", "offset points", va="center")
    cells = [
        _describe_cells(f"{head}, {other}", values)
        for head, row in panels.items()
        for other, values in row.items()
    ]
    figure.set_heading(title, f"{colour_label}, by {xlabel} and {ylabel}", cells)
    figure.supxlabel(xlabel, size="medium")
    figure.supylabel(ylabel, size="medium")
    figure.colorbar(image, ax=grid, label=colour_label)
    return figure


def _describe_cells(title: str, values: np.ndarray) -> str:
    numbers = values[~np.isnan(values)]
    span = f", {numbers.min():.0f} to {numbers.max():.0f}" if len(numbers) else ""
    return f"{title}: {len(numbers)} of {values.size} have a number{span}"


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
    axis.set_major_locator(MaxNLocator(9, steps=(1, 2, 2.5, 5, 10), integer=True, min_n_ticks=1))


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
    with atomic_file(path) as file:
        if ending == "svg":
            header = '<?xml version="1.0" encoding="utf-8"?>\n'
            file.write((header + to_svg(figure)).encode("utf-8"))
        else:
            figure.savefig(file, format=ending, dpi=150)


def to_svg(figure: Figure) -> str:
    """Return a figure as an ``<svg>`` element; equal plots give equal elements."""
    buffer = io.BytesIO()
    # Without a date, so that the same plot gives the same file.
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue().decode("utf-8")
    # HTML pages need only the element, without the XML declaration.
    svg = svg[svg.index("<svg") :]
    # Only some versions of matplotlib write this space, and the style sheet's selectors need it.
    svg = re.sub(r"\b(fill|stroke): ?#", r"\1: #", svg)
    svg = re.sub('<g id="tooltip: ([^"]*)">', r"<g><title>\1</title>", svg)
    # Hundredths of a point are enough, and make the file smaller.
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)
    return svg.replace("<defs>", CSS + "<defs>", 1)


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
