"""Export to a web page on which the model writes: one file that loads and sends nothing.

Its parts are in the folder ``page``: the network in JavaScript, the search for units that follow a
feature, the controls, and the style. The
page contains no third-party code.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from html import escape
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Optional

import numpy as np

from .._version import __version__
from ..errors import CorpusError
from ..files import package_data, printable
from ..text.known_texts import title_of
from ..training.checkpoint import CheckpointError
from ..training.run_directory import RunError
from ..training.runs import LoadedRun, held_out_parts, read_own_text
from . import ExportError
from .network import WEIGHTS, Export, Layer

# Little-endian on every machine.
DTYPES = {"float16": "<f2", "float32": "<f4"}
CELLS = {
    "lstm": "LSTM layer",
    "gru": "GRU layer",
    "rnn_tanh": "plain recurrent layer (tanh)",
    "rnn_relu": "plain recurrent layer (ReLU)",
}
PRECISION = {"float16": "in half precision", "float32": "in single precision"}
ABOUT_PRECISION = {
    "float16": "its parameters are rounded to half precision (16 bits each), which makes the file "
    "half as large. After a while, a text can therefore differ from that of the model itself.",
    "float32": "its parameters have single precision (32 bits each), like the model's. At "
    "temperature 0 it writes the same as <code>d2l-deeprnn generate</code>, unless two characters "
    "are equally likely to six digits.",
}
TEMPERATURE = "0.7"  # initially, except for models that recite, which have 0 as in the book
_ICON = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" \
fill="#1f5fa3"/><path d="M8 9h4v14H8zm6 5h4v9h-4zm6-8h4v17h-4z" fill="#fff"/></svg>"""


def write(export: Export, file: BinaryIO, *, float32: bool = False) -> None:
    """Write a model as a page for a browser; see ``web_page``."""
    file.write(web_page(export, float32=float32).encode("utf-8"))


def web_page(
    export: Export, *, float32: bool = False, title: Optional[str] = None, beginning: str = ""
) -> str:
    """Return a page on which the model writes, as HTML.

    Args:
        export: the model.
        float32: keep the parameters in single precision. Otherwise they are rounded to half
            precision, which makes the page half as large.
        title: title of the page. The default names the text that the model was trained on, if
            that is known.
        beginning: initial content of the field in which users type the beginning of a text. The
            default is that of ``export.source``, if it has one.

    Raises:
        ExportError: if a parameter is too large for half precision, or if the vocabulary has no
            characters.
    """
    dtype = "float32" if float32 else "float16"
    style = _part("page.css")
    script = '"use strict";\n' + _part("network.js") + _part("follow.js") + _part("page.js")
    return _filled(
        _part("page.html"),
        policy=escape(
            f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        ),
        version=escape(__version__),
        icon=escape("data:image/svg+xml;base64," + _base64(_ICON.encode("ascii"))),
        title=escape(printable(_title(export) if title is None else title)),
        style=style,
        description=escape(f"{_description(export)} {PRECISION[dtype]}."),
        # Browsers drop the first line break in a text field.
        beginning="\n" + escape(beginning or export.source.get("beginning", "")),
        temperature=TEMPERATURE if _has_held_out(export) else "0",
        precision=ABOUT_PRECISION[dtype],
        cleaning=_cleaning(export),
        model=_json(_model(export, dtype)),
        script=script,
    )


def first_words(directory: Path, run: LoadedRun) -> str:
    """Return the first words of a run's held-out text, or of all its text if nothing is held out.

    They are "" if the text was moved, was changed or is unknown.
    """
    try:
        text = read_own_text(directory, run.vocab)
    except (RunError, CorpusError, CheckpointError):
        return ""
    parts = [indices for _, indices in held_out_parts(text)] or [text.train]
    characters = run.vocab.to_tokens(parts[0][:200].tolist())
    # A part may begin within a word.
    words = re.search(r"\s(\S.{0,40})\s", "".join(characters), re.DOTALL)
    return words[1] if words else ""


def _part(name: str) -> str:
    return package_data(f"export/page/{name}").decode()


def _filled(template: str, **parts: str) -> str:
    """Fill in the parts of a template; a part may contain anything."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match.group(1)], template)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _source(text: str) -> str:
    """Return the hash by which the Content-Security-Policy allows a script or a style."""
    return f"'sha256-{_base64(hashlib.sha256(text.encode('utf-8')).digest())}'"


def _json(value: Any) -> str:
    """Return JSON for a script element: in ASCII, and with nothing that could end the element."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _model(export: Export, dtype: str) -> Dict[str, Any]:
    """Return the model as the page's scripts read it."""
    tokens = [token if len(token) == 1 else None for token in export.vocab.idx_to_token]
    if not any(tokens):
        raise ExportError("the vocabulary has no characters, so the page could not write anything")
    network = export.network
    layers = [
        {
            "cell": layer.mode,
            "num_hiddens": layer.num_hiddens,
            "residual": layer.residual,
            **{
                name: _numbers(f"{name} of layer {i}", getattr(layer, name), dtype)
                for name in WEIGHTS
            },
        }
        for i, layer in enumerate(network.layers, 1)
    ]
    return {
        "tokens": tokens,  # null is a special token, which is never written
        "cleaning": {"lower": export.lower, "fold_whitespace": export.fold_whitespace},
        "dtype": dtype,
        "layers": layers,
        "dense_weight": _numbers("dense_weight", network.dense_weight, dtype),
        "dense_bias": _numbers("dense_bias", network.dense_bias, dtype),
    }


def _numbers(name: str, array: np.ndarray, dtype: str) -> str:
    """Return an array, row by row, in base64."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = array.astype(DTYPES[dtype])
    if not np.isfinite(rounded).all():
        raise ExportError(
            f"{name} has values up to {np.abs(array).max():g}, but half precision ends at 65504: "
            "use single precision (float32=True, or --float32)"
        )
    return _base64(rounded.tobytes())


def _title(export: Export) -> str:
    texts = export.source.get("settings", {}).get("corpus", [])
    names = list(map(title_of, texts))
    if not names:
        return "A recurrent network that writes"
    *first, last = names
    return "A recurrent network trained on " + (f"{', '.join(first)} and " if first else "") + last


def _has_held_out(export: Export) -> bool:
    """Tell if a part of the text was held out. If not, the model was trained to recite its text."""
    return export.source.get("settings", {}).get("valid_fraction", 0) > 0


def _description(export: Export) -> str:
    network = export.network
    num_characters = sum(len(token) == 1 for token in export.vocab.idx_to_token)
    arrays = [getattr(layer, name) for layer in network.layers for name in WEIGHTS]
    size = sum(array.size for array in [*arrays, network.dense_weight, network.dense_bias])
    return (
        f"{_layers(network.layers)}, {num_characters:,} different characters, {size:,} parameters"
    ).replace(" 1 different characters", " 1 character")


def _layers(layers: List[Layer]) -> str:
    """Describe layers, grouping equal neighbours."""

    def describe(layer: Layer) -> str:
        residual = " with a residual connection" if layer.residual else ""
        return f"{CELLS[layer.mode]} of {layer.num_hiddens:,} hidden units{residual}"

    parts = []
    for description, equal in itertools.groupby(map(describe, layers)):
        n = len(list(equal))
        parts.append(f"{n} {description.replace('layer', 'layers', 1) if n > 1 else description}")
    return ", then ".join(parts)


def _cleaning(export: Export) -> str:
    done = ["upper case becomes lower case"] * export.lower
    done += ["any run of white space becomes one space"] * export.fold_whitespace
    if not done:
        return "The beginning is read as typed."
    return f"The beginning is cleaned like the model's text: {', and '.join(done)}."
