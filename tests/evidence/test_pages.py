"""Parts of a report's page: any words are safe in them, and people can read them."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from d2l_deeprnn.evidence import pages
from d2l_deeprnn.evidence.figures import perplexity_figure

MARKUP = "<script>alert('x')</script> & \"quotes\" \x1b\u202e"
ESCAPED = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;quotes&#34; \\x1b\\u202e"


@pytest.fixture(scope="module")
def parts():
    """The macros of the templates, as functions."""
    return pages._environment().get_template("evidence/parts.html").module


def test_strings_are_escaped(parts):
    config = {"machine": {MARKUP: MARKUP}, "begun": MARKUP, "versions": {"mxnet": [MARKUP]}}
    for found, times in [
        (pages.render("evidence/page.html", title=MARKUP), 2),
        (parts.definition_list([(MARKUP, MARKUP)]), 2),
        (parts.table([MARKUP], [[MARKUP]], MARKUP), 4),
        (parts.sample(MARKUP, MARKUP), 2),
        (parts.command(MARKUP), 1),
        (parts.provenance(config), 3),
    ]:
        assert "<script" not in found and found.count("&lt;script&gt;") >= times
        assert found.count(ESCAPED) >= times - 1  # a label and a description are changed, too


def test_a_misspelt_name_in_a_template_is_an_error():
    with pytest.raises(UndefinedError, match="'title' is undefined"):
        pages.render("evidence/page.html")


@pytest.mark.parametrize(
    "key, shown",
    [
        ("num_hiddens", "Number of hidden units"),
        ("lr_decay", "Learning rate decay"),
        ("physical_cores_available", "Physical cores available"),
        ("d2l_deeprnn", "d2l_deeprnn"),
        ("mxnet", "MXNet"),
    ],
)
def test_keys_as_people_read_them(key, shown):
    assert pages.label(key) == shown


@pytest.mark.parametrize(
    "value, words",
    [(True, "yes"), (None, "none"), (0.0020, "0.002"), ({"a": 1}, "a 1"), ((), "none"),
     (["x", 2], "x, 2"), ({}, "none"), ("text", "text")],
)  # fmt: skip
def test_values_as_people_read_them(value, words):
    assert pages.format_value(value) == words


def test_a_cell_names_its_column_where_a_table_is_a_list(parts):
    found = parts.table(["epoch", "agrees"], [["1", "NO"]], "a", text=["agrees"])
    assert '<td role="cell" data-label="epoch">1</td>' in found
    assert '<td class="text" role="cell" data-label="agrees">NO</td>' in found
    assert 'role="columnheader" scope="col">epoch</th>' in found


def test_a_text_keeps_its_lines(parts):
    assert "<pre>\n\na\n\tb\\x07</pre>" in parts.sample("title", "\na\n\tb\x07")


@pytest.mark.parametrize(
    "perplexities", [[5.0], [float("nan"), 3.0], [float("inf")] * 2, [1.0, 1e30], [1.01, 1.02]]
)
def test_odd_values_can_be_drawn(perplexities):
    epochs = list(range(1, len(perplexities) + 1))
    found = pages.svg(perplexity_figure({MARKUP: (epochs, perplexities)}))
    assert found.count("<svg ") == 1 and "<script" not in found and "<metadata" not in found
    label = found.split('aria-label="')[1].split('"')[0]
    assert label.startswith("Training perplexity per character by epoch. &lt;script&gt;")


def test_a_page_loads_and_runs_nothing():
    found = pages.render("evidence/page.html", title="title")
    assert "default-src 'none'; style-src 'unsafe-inline';" in found
    assert "prefers-color-scheme: dark" in found and "url(" not in found
