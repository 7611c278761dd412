"""docs/: each page is in the site's table of contents, and each public name on a page of the API.

Whether links lead somewhere, Sphinx says: `make site`.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import d2l_deeprnn as d2l

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
