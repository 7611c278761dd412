"""Pages of reports: one HTML file that holds all it shows, for any screen, light or dark.

The functions take words as they are, and return HTML in which they are escaped.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone
from html import escape
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .._version import __version__
from ..files import package_data, printable

# Most elements of a picture have a style attribute. Nothing else is run, and nothing loaded.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="d2l_deeprnn {version}">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{content}
</main>
<footer>Written {date} by d2l_deeprnn {version}. {notes}</footer>
</body>
</html>
"""
# What people call the parts of keys that are no words.
WORDS = {
    "corpus": "text",
    "examples": "characters read",
    "hiddens": "hidden units",
    "init": "initial weights",
    "lr": "learning rate",
    "num": "number of",
    "ranks": "processes",
    "steps": "time steps",
    "theta": "threshold",
    "valid": "validation",
}
NAMES = {"d2l_deeprnn": "d2l_deeprnn", "mxnet": "MXNet", "numpy": "NumPy"}


class Curve(NamedTuple):
    """Perplexities after epochs, and the seconds of training until then."""

    epochs: Sequence[float]
    seconds: Sequence[float]
    perplexities: Sequence[float]


def page(title: str, sections: Iterable[str], *, notes: str = "") -> str:
    """A whole page.

    Args:
        title: of the page.
        sections: HTML.
        notes: words at the end of the page.
    """
    return TEMPLATE.format(
        title=escape(printable(title)),
        policy=escape(POLICY),
        style=package_data("evidence/page.css").decode(),
        content="\n".join(sections),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        version=escape(__version__),
        notes=escape(notes),
    )


def section(title: str, *parts: str) -> str:
    """A section with a heading; ``parts`` are HTML, and empty ones are left out."""
    name = re.sub(r"\W+", "-", title.lower())
    content = "\n".join(part for part in parts if part)
    return (
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(title)}</h2>\n'
        f"{content}\n</section>"
    )


def heading(words: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(words)}</h3>"


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph; ``kind`` is a class of the style sheet, such as ``note`` or ``verdict``."""
    return f'<p class="{kind}">{escape(words)}</p>' if kind else f"<p>{escape(words)}</p>"


def label(key: str) -> str:
    """What people call a key of a configuration: ``num_layers`` is "Number of layers"."""
    if key in NAMES:
        return NAMES[key]
    words = " ".join(WORDS.get(word, word) for word in key.split("_"))
    return words[:1].upper() + words[1:]


def facts(rows: Iterable[Tuple[str, str]]) -> str:
    """Names with values."""
    found = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(printable(value))}</dd></div>"
        for name, value in rows
    )
    return f'<dl class="facts">\n{found}\n</dl>' if found else ""


def labelled(values: Mapping[str, Any]) -> List[Tuple[str, str]]:
    """Keys and values as people read them, for ``facts``."""
    return [(label(key), shown(value)) for key, value in values.items()]


def shown(value: Any) -> str:
    """A value of a configuration in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(one)}" for name, one in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value)) or "none"
    return "none" if value is None else str(value)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str,
    text: Sequence[str] = (),
) -> str:
    """A table, which becomes a list of its rows on a narrow screen.

    Args:
        columns: their names; the first one names a row.
        rows: words.
        caption: what the table shows, for those who do not see it.
        text: the columns that hold running text; others are aligned on the right.
    """
    kinds = ['class="text" ' if name in text else "" for name in columns]
    # Shown as blocks, the elements lose what they mean, unless it is said.
    head = "".join(
        f'<th {kind}role="columnheader" scope="col">{escape(name)}</th>'
        for kind, name in zip(kinds, columns)
    )
    body = "\n".join(
        '<tr role="row">'
        + "".join(
            f'<td {kind}role="cell" data-label="{escape(name)}">{escape(printable(word))}</td>'
            for kind, name, word in zip(kinds, columns, row)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<table role="table">\n<caption>{escape(caption)}</caption>\n'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>\n'
        f'<tbody role="rowgroup">\n{body}\n</tbody>\n</table>'
    )


def written(title: str, text: str) -> str:
    """A text that a model has written, with its line breaks."""
    words = "".join(char if char in "\n\t" else printable(char) for char in text)
    # The first line break in the element is dropped by whoever reads the page.
    caption = f"<figcaption>{escape(title)}</figcaption>"
    return f"<figure>\n{caption}\n<pre>\n{escape(words)}</pre>\n</figure>"


def picture(svg: str, name: str, caption: str, description: str) -> str:
    """A picture as a part of a page.

    Args:
        svg: an ``<svg>`` element.
        name: of this picture in the page: its identifiers begin with it.
        caption: stands below it.
        description: what it shows, for those who do not see it.
    """
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # The style sheet finds colours by these words, whichever version of matplotlib wrote them.
    svg = re.sub(r"\b(fill|stroke): ?#", r"\1: #", svg)
    for mark in (' id="', '"#', "url(#"):
        svg = svg.replace(mark, f"{mark}{name}-")
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)
    return f"<figure>\n{svg.strip()}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"


def curves(
    found: Mapping[str, Curve],
    *,
    marks: Optional[Mapping[str, Tuple[Sequence[float], Sequence[float]]]] = None,
) -> str:
    """The pictures of a training: perplexity by epoch, and by second.

    Args:
        found: legend -> curve.
        marks: legend -> (epochs, perplexities) of points to be marked, such as the book's.
    """
    from .figures import Line, lines_figure, to_svg

    parts = []
    for name, axis in ("epoch", "epoch"), ("second", "seconds of training"):
        by_epoch = name == "epoch"
        lines: Dict[str, Line] = {
            legend: Line(curve.epochs if by_epoch else curve.seconds, curve.perplexities)
            for legend, curve in found.items()
        }
        for legend, points in (marks or {}).items() if by_epoch else ():
            lines[legend] = Line(*points, style=" ")
        figure = lines_figure({"": lines}, axis, "perplexity per character", log_y=True)
        figure.set_size_inches(5.2, 3.6)  # the letters can be read on a phone
        caption = f"Perplexity by {name}"
        unit = "epoch {:g}" if by_epoch else "{:.1f} seconds"
        words = "; ".join(_described(legend, line, unit) for legend, line in lines.items())
        description = f"{caption}, on a logarithmic axis. {words}."
        parts.append(picture(to_svg(figure), f"by-{name}", caption, description))
    return '<div class="pictures">\n{}\n</div>'.format("\n".join(parts))


def _described(legend: str, line: Any, unit: str) -> str:
    places = [0, len(line.y) - 1]
    finite = [i for i, value in enumerate(line.y) if math.isfinite(value)]
    if finite:
        places.append(min(finite, key=lambda i: line.y[i]))
    words = [f"{line.y[i]:.4g} at {unit.format(line.x[i])}" for i in sorted(set(places))]
    return f"{legend}: {', '.join(words)}"


def made_with(config: Mapping[str, Any]) -> str:
    """When, where and with what a run was made, as its configuration says."""
    begun = config.get("begun")
    parts = [facts([("Begun", _date(begun))])] if begun else []
    device = {name: config[name] for name in ("device", "ranks") if config.get(name, 1) != 1}
    for title, values in (
        ("Machine", {**config.get("machine", {}), **device}),
        ("Versions", config.get("versions", {})),
    ):
        if values:
            parts += [heading(title), facts(labelled(values))]
    return "\n".join(parts)


def command(words: str) -> str:
    """A command to be copied."""
    return f"<pre><code>{escape(printable(words))}</code></pre>"


def _date(iso: str) -> str:
    return re.sub(r"^(\S{10})T(\d\d:\d\d)\S*$", r"\1 \2 UTC", str(iso))
