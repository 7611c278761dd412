"""Settings of the documentation site, which `make site` builds with Sphinx.

The source folder is the project itself, so that links between README.md, docs/, results/ and
notebooks/ work both on the site and in the repository.
"""

from __future__ import annotations

import json
import re
import runpy
import sys
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes

import d2l_deeprnn as d2l

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from mathml import repaired  # noqa: E402

project = "d2l_deeprnn"
release = version = d2l.__version__
copyright = "the authors of d2l_deeprnn; quotations from Dive into Deep Learning"
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/**",
    "notebooks/*.ipynb",
    "notebooks/reader/*.ipynb",
    "results/README.md",
]
exclude_patterns = [".*", "build", "d2l_deeprnn", "reproduction", "tests", "venv"]

# Markdown pages, and notebooks with their committed outputs; nothing is executed.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "gfm"  # the outputs have tables

# The API, from signatures and docstrings.
autodoc_default_options = {"members": True, "show-inheritance": True}
add_module_names = False  # they are in the headings
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_rtype = False  # text before a colon is not a type
napoleon_use_ivar = True
nitpicky = True
# Objects that other packages document. Looking them up would need the network.
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|os|pathlib|matplotlib|mx|mxnet|nd|gluon|np|numpy)\..*|Path"),
    (r"py:class", r"Batch|Forward|Indices|PathLike"),  # shorthands for types
    (r"py:exc", r"GeneratorsInUse"),  # its module has no page
]

html_theme = "furo"
# furo's own underlines modules, as if they were links
pygments_dark_style = "github-dark-high-contrast"
html_title = f"d2l_deeprnn {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("copy.js", {"defer": "defer"})]
html_favicon = "_static/favicon.svg"
# `make site` trains the model of the first page and writes its page, if that has not been done.
MODEL = ROOT / "build" / "model" / "model.html"
html_extra_path = ["index.html", *([str(MODEL)] if MODEL.exists() else [])]
html_copy_source = False
html_math_renderer = "mathml"


def setup(app):
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", part_fields, priority=600)  # napoleon has 500
    app.connect("source-read", describe_plots)
    app.connect("doctree-read", unlink_folders)
    app.connect("doctree-read", shape_tables)
    app.connect("html-page-context", add_card)
    app.connect("build-finished", draw_card)
    if MODEL.exists():
        app.tags.add("model")
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))


def skip_member(app, what, name, member, skip, options):
    """Skip members that the page shows under the package's own name, and fields of named tuples,
    whose docstrings only give their position."""
    is_public = what == "module" and name in d2l.__all__ and getattr(d2l, name) is member
    return True if is_public or type(member).__name__ == "_tuplegetter" else None


def part_fields(app, what, name, member, options, lines):
    """Split a field such as `batch_size, num_steps: shape of a minibatch` into one per name.
    Sphinx would read the first name as the type of the second."""
    text = re.sub(
        r"^(:(?:param|ivar) )(\w+(?:, \w+)+)(:.*\n(?: +.*\n)*)",
        lambda field: "".join(field[1] + name + field[3] for name in field[2].split(", ")),
        "".join(f"{line}\n" for line in lines),
        flags=re.MULTILINE,
    )
    lines[:] = text.splitlines()


def describe_plots(app, docname, source):
    """Give each plot of a notebook the text that its output has for those who cannot see it."""
    if Path(app.env.doc2path(docname)).suffix == ".ipynb":
        notebook = json.loads(source[0])
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                alt = output.get("metadata", {}).get("image/png", {}).get("alt")
                if alt:
                    cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
        source[0] = json.dumps(notebook)


NUMBER = r"[−+-]?[\d.,]+(?:e[−+-]?\d+)?(?: %| MiB)?"
RANGE = rf"\({NUMBER} to {NUMBER}\)"
VALUE = rf"({NUMBER}(, {NUMBER})*( {RANGE}| to {NUMBER})?|[–-]|none)?"


def shape_tables(app, doctree):
    """Align numbers, put a range in a line of its own, and prepare wide tables for phones."""
    for table in doctree.findall(nodes.tgroup):
        *_, head, body = table
        columns = list(zip(head[0], *body))
        texts = [[entry.astext() for entry in column] for column in columns]
        numbers = [all(re.fullmatch(VALUE, text) for text in column[1:]) for column in texts]
        # The columns that say what a row is about: those before the first number.
        names = numbers.index(True) if any(numbers[1:]) else 1
        has_prose = any(len(text) > 40 for column in texts for text in column)
        cards = len(columns) > (3 if has_prose else 4)
        table.parent["classes"] += ["cards"] * cards
        for i, column in enumerate(columns):
            for entry in column:
                entry["classes"] += ["number"] * numbers[i] + ["name"] * (cards and i < names)
            for entry, text in zip(column[1:], texts[i][1:]):
                median = re.fullmatch(rf"({NUMBER}) ({RANGE})", text)
                if median:
                    small = nodes.inline(text=median[2], classes=["range"])
                    entry[:] = [nodes.paragraph("", "", nodes.Text(f"{median[1]} "), small)]
                if cards and text and (numbers[i] or i >= names):
                    entry.insert(0, nodes.inline(text=texts[i][0], classes=["heading"]))


def unlink_folders(app, doctree):
    """Replace links to folders, which only work in the repository, with their text."""
    for link in list(doctree.findall(addnodes.pending_xref)):
        if link["reftype"] == "myst":
            target = (ROOT / link["refdoc"]).parent / link["reftarget"]
            if target.is_dir():
                link.replace_self(link.children)


CARD = "_static/card.png"


def add_card(app, pagename, templatename, context, doctree):
    """Add what other sites show of a page that is linked to: title, first paragraph and picture.

    Most of them need the picture's whole address: build with `-D html_baseurl=ADDRESS`.
    """
    if doctree:
        title = re.sub("<.*?>", "", context["title"])
        about = escape(next(doctree.findall(nodes.paragraph)).astext().replace("\n", " "))
        base = app.config.html_baseurl
        image = f"{base}{CARD}" if base else context["pathto"](CARD, resource=True)
        context["metatags"] += f"""
<meta name="description" content="{about}">
<meta property="og:title" content="{title}">
<meta property="og:description" content="{about}">
<meta property="og:image" content="{image}">
<meta name="twitter:card" content="summary_large_image">
"""


def draw_card(app, exception):
    """Draw the README's plot as a PNG image, which is all that other sites show."""
    if exception is None:
        results = ROOT / "results"
        plots = runpy.run_path(str(ROOT / "scripts" / "pictures.py"))["pictures"](results)
        plot = plots[results / "chapter" / "perplexity.svg"]()
        plot.savefig(app.outdir / CARD, dpi=200, facecolor="white")


def write_math(self, node):
    """Write a formula as MathML, which browsers display without loading MathJax."""
    block = isinstance(node, nodes.math_block)
    # Formulas side by side, which may also stand below each other.
    formulas = node.astext().split(r"\qquad") if block else [node.astext()]
    mathml = [repaired(tex2mathml(tex, as_block=block)) for tex in formulas]
    self.body.append(f'<div class="math">{"".join(mathml)}</div>' if block else mathml[0])
    raise nodes.SkipNode
