"""Report pages: Jinja templates, and the values that several of them show.

Each template is in the folder of the module that fills it. Any string may be passed: markup and
unprintable characters are escaped.
"""

from __future__ import annotations

import functools
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Tuple

import jinja2
from markupsafe import Markup, escape

from .._version import __version__
from ..files import package_data, printable

if TYPE_CHECKING:
    from .figures import Plot

# Word of a key -> word that is shown instead.
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


def render(template: str, **values: Any) -> str:
    """Return a whole page.

    Args:
        template: its path within the package, such as ``cli/report.html``.
        values: variables of the template; ``title`` is the title of the page.
    """
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return _environment().get_template(template).render(version=__version__, date=date, **values)


@functools.lru_cache(maxsize=None)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        # Unlike PackageLoader, package_data works if the package is in a zip file.
        loader=jinja2.FunctionLoader(lambda name: package_data(name).decode()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        # Applied to every value before it is escaped.
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
    )
    environment.filters.update(
        labels=labels, provenance=provenance, with_line_breaks=with_line_breaks
    )
    return environment


def with_line_breaks(text: str) -> Markup:
    """Escape a model's text, but keep its line breaks and tabs."""
    return escape("".join(char if char in "\n\t" else printable(char) for char in text))


def labels(values: Mapping[str, Any]) -> List[Tuple[str, str]]:
    """Return the keys and values of a configuration in words."""
    return [(label(key), format_value(value)) for key, value in values.items()]


def label(key: str) -> str:
    """Return a key of a configuration in words: ``num_layers`` is "Number of layers"."""
    if key in NAMES:
        return NAMES[key]
    words = " ".join(WORDS.get(word, word) for word in key.split("_"))
    return words[:1].upper() + words[1:]


def format_value(value: Any) -> str:
    """Return a value of a configuration in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {format_value(one)}" for name, one in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(format_value, value)) or "none"
    return "none" if value is None else str(value)


def provenance(config: Mapping[str, Any]) -> List[Tuple[str, Dict[str, Any]]]:
    """Return a run's start, machine and versions, each under its heading."""
    begun = re.sub(r"^(\S{10})T(\d\d:\d\d)\S*$", r"\1 \2 UTC", str(config.get("begun", "")))
    device = {name: config[name] for name in ("device", "ranks") if config.get(name, 1) != 1}
    groups = [
        ("", {"begun": begun} if begun else {}),
        ("Machine", {**config.get("machine", {}), **device}),
        ("Versions", config.get("versions", {})),
    ]
    return [(title, values) for title, values in groups if values]


def svg(figure: Plot) -> Markup:
    """Return a figure as an ``<svg>`` element."""
    from .figures import to_svg

    text = re.sub(r"<metadata>.*?</metadata>", "", to_svg(figure), flags=re.DOTALL).strip()
    role = Markup('<svg role="img" aria-label="{}" ').format(figure.alt)
    return Markup(text.replace("<svg ", role, 1))
