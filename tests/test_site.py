"""docs/: each page is in the site's table of contents, and each public name on a page of the API.

Whether links lead somewhere, Sphinx says: `make site`.
"""

from __future__ import annotations

import json
import re
import runpy
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn.training import runs

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
API = sorted((DOCS / "api").glob("*.rst"))
# Packages for users. The others are internal or, like the command line, not for import.
ROOMS = {"chapter", "text", "nn", "training", "generation", "export", "exercises", "check"}


def contents(page, block, line):
    """The files that the tables of contents of a page name."""
    for table in re.findall(block, page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for name in re.findall(line, table, re.MULTILINE):
            found = sorted(page.parent.glob(f"{name}.*"))
            assert len(found) == 1, f"{page.name}: {name}"
            yield found[0].resolve().relative_to(ROOT)


def test_every_page_is_in_the_table_of_contents():
    home, api = DOCS / "index.md", DOCS / "api" / "index.rst"
    listed = list(contents(home, r"^```\{toctree\}(.*?)^```$", r"^(?:.+ <)?([\w./-]+)>?$"))
    listed += contents(api, r"^\.\. toctree::(.*)", r"^   (\w+)$")
    there = {*DOCS.glob("*.md"), *API, *(ROOT / "notebooks").rglob("*.ipynb")}
    there |= {ROOT / "results" / "README.md", *ROOT.glob("*.md")}
    assert set(listed) == {path.relative_to(ROOT) for path in there - {home}}
    assert len(listed) == len(set(listed))


def test_a_subscript_stands_beside_an_accented_letter_and_not_below():
    repaired = runpy.run_path(str(DOCS / "mathml.py"))["repaired"]

    def of(first, second, third):
        """The MathML of docutils, whose names of characters XML does not know."""
        return (
            '<math xmlns="http://www.w3.org/1998/Math/MathML"><mi>&lt;&nbsp;</mi><munderover>'
            f"<mi>{first}</mi><mi>{second}</mi>{third}</munderover></math>"
        )

    (_, beside) = ElementTree.fromstring(repaired(of("H", "t", "<mo>~</mo>")))
    assert beside.tag.endswith("}msub") and "".join(beside.itertext()) == "H~t"
    assert beside[0].tag.endswith("}mover") and beside[1].text == "t"
    (text, limits) = ElementTree.fromstring(repaired(of("∑", "i", "<mi>n</mi>")))
    assert limits.tag.endswith("}munderover") and text.text == "<\u00a0"


def test_a_function_and_its_argument_are_apart():
    repaired = runpy.run_path(str(DOCS / "mathml.py"))["repaired"]
    space = 'xmlns="http://www.w3.org/1998/Math/MathML"'
    mathml = f"<math {space}><mi>log</mi><mi>p</mi><mi>q</mi><mi>exp</mi><mo>(</mo></math>"
    assert repaired(mathml) == mathml.replace("log</mi>", 'log</mi><mspace width="0.17em" />')


def test_what_scrolls_sideways_has_a_shadow_that_says_so():
    for path in DOCS / "_static" / "site.css", ROOT / "d2l_deeprnn" / "evidence" / "page.css":
        rules = re.findall(r"\{([^{}]*overflow-x: auto[^{}]*)\}", path.read_text(encoding="utf-8"))
        assert rules and all(rule.count("scroll no-repeat") == 2 for rule in rules), path


@pytest.fixture(scope="module")
def conf():
    pytest.importorskip("sphinx", reason="needs Sphinx: pip install -e '.[site]'")
    return runpy.run_path(str(DOCS / "conf.py"))


@pytest.mark.parametrize("tex", [r"\tilde{\mathbf{H}}_t", r"\bar{x}_t", r"\widetilde{AB}_t"])
def test_no_accent_is_taken_for_a_limit(conf, tex):
    mathml = conf["repaired"](conf["tex2mathml"](tex))
    assert "<msub>" in mathml and "<mover" in mathml and "munderover" not in mathml


def test_plots_have_the_texts_of_their_outputs(conf):
    source = [(ROOT / "notebooks" / "exercise-2-gru.ipynb").read_text(encoding="utf-8")]
    env = SimpleNamespace(doc2path=lambda name: f"{name}.ipynb")
    conf["describe_plots"](SimpleNamespace(env=env), "exercise-2-gru", source)
    cells = [cell for cell in json.loads(source[0])["cells"] if "image/png" in str(cell)]
    texts = [cell["metadata"]["mystnb"]["image"]["alt"] for cell in cells]
    outputs = [output for cell in cells for output in cell["outputs"] if "image/png" in str(output)]
    assert texts == [output["metadata"]["image/png"]["alt"] for output in outputs]
    assert len(set(texts)) > 2 and all("LSTM" in text for text in texts)


def test_numbers_ranges_and_wide_tables(conf):
    from docutils.core import publish_doctree

    text = """
===== ==== ================= ====== =======
name  form test              epoch  noise
===== ==== ================= ====== =======
LSTM  a    4.05 (4.0 to 4.1) 1e-07  1, 0.5
GRU   b    4.20 (4.1 to 4.3) –      2
===== ==== ================= ====== =======
"""
    doctree = publish_doctree(text)
    conf["shape_tables"](None, doctree)
    rows = list(doctree.findall(lambda node: node.tagname == "row"))
    classes = [*[["name"]] * 2, *[["number"]] * 3]
    assert [[entry["classes"] for entry in row] for row in rows] == [classes] * 3
    heading, value = rows[1][2]
    assert heading["classes"] == ["heading"] and heading.astext() == "test"
    assert value[-1]["classes"] == ["range"] and value.astext() == "4.05 (4.0 to 4.1)"
    assert next(doctree.findall(lambda node: node.tagname == "table"))["classes"] == ["cards"]
    prose = publish_doctree(
        "==== ==== ==== ====\n\\    what why  how\n==== ==== ==== ====\n"
        f"name a    b    {'words ' * 8}\n==== ==== ==== ====\n"
    )
    conf["shape_tables"](None, prose)
    rows = list(prose.findall(lambda node: node.tagname == "row"))
    assert [entry["classes"] for entry in rows[1]] == [["name"], [], [], []]
    assert [entry[0].astext() for entry in rows[1]] == ["name", "what", "why", "how"]
    narrow = publish_doctree("== ==\na  b\n== ==\n1  c\n== ==\n")
    conf["shape_tables"](None, narrow)
    assert "cards" not in str(narrow) and "heading" not in str(narrow)


@pytest.mark.parametrize("address", ["", "https://example.org/"])
def test_a_page_says_what_links_to_it_show(conf, address):
    from docutils.core import publish_doctree

    app = SimpleNamespace(config=SimpleNamespace(html_baseurl=address))
    context = {"title": "A <code>&lt;b&gt;</code>", "metatags": ""}
    context["pathto"] = lambda name, resource: f"../{name}"
    conf["add_card"](app, "docs/a", "page.html", context, publish_doctree('One "b"\n& c.\n\nTwo.'))
    tags = dict(re.findall(r'="([\w:]+)" content="(.*)">', context["metatags"]))
    assert tags["og:title"] == "A &lt;b&gt;"
    assert tags["og:description"] == tags["description"] == "One &quot;b&quot; &amp; c."
    assert tags["og:image"] == f"{address or '../'}_static/card.png"


def test_the_card_is_the_plot_of_the_readme(conf, tmp_path):
    (tmp_path / "_static").mkdir()
    conf["draw_card"](SimpleNamespace(outdir=tmp_path), None)
    assert (tmp_path / conf["CARD"]).read_bytes()[:4] == b"\x89PNG"


def test_the_model_of_the_first_page_is_trained_once(tmp_path, monkeypatch):
    trained, real = [], runs.train

    def quickly(settings, out, **options):
        settings = replace(settings, num_hiddens=8, num_epochs=1)
        trained.append((settings, real(settings, out, **options).history[-1]))

    monkeypatch.setattr(runs, "train", quickly)
    monkeypatch.setattr("sys.argv", ["site_model.py", str(tmp_path)])
    for _ in range(2):
        runpy.run_path(str(ROOT / "scripts" / "site_model.py"), run_name="__main__")
    settings, record = trained[0]
    assert trained[1] == trained[0] and record.epoch == 1
    assert settings.valid_fraction == 0 and settings.num_examples == 10000
    page = (tmp_path / "model.html").read_text(encoding="utf-8")
    assert "LSTM layers of 8 hidden units" in page and 'value="0"' in page


def test_every_public_name_is_on_a_page_of_the_api():
    text = "".join(page.read_text(encoding="utf-8") for page in API)
    shown = re.findall(r"^\.\. (?:auto\w+|py:data):: d2l_deeprnn\.(\w+)$", text, re.MULTILINE)
    shown = [name for name in shown if name not in ROOMS]  # the rooms' own words
    assert set(shown) == set(d2l.__all__) and len(shown) == len(set(shown))


def test_the_api_has_a_page_for_each_room():
    assert {page.stem for page in API} == ROOMS | {"index"}
    for page in API:
        modules = re.findall(r"^\.\. automodule:: ([\w.]+)$", page.read_text(), re.MULTILINE)
        assert modules, page
        for module in modules:
            assert find_spec(module), f"{page.name}: {module}"
            assert page.stem in (*module.split("."), "index")
