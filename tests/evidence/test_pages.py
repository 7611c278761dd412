"""Parts of a report's page: any words are safe in them, and people can read them."""

from __future__ import annotations

import re

import pytest

from d2l_deeprnn.evidence import pages

MARKUP = "<script>alert('x')</script> & \"quotes\""


@pytest.mark.parametrize(
    "part",
    [
        lambda words: pages.page(words, [], notes=words),
        lambda words: pages.section(words),
        lambda words: pages.paragraph(words),
        lambda words: pages.facts([(words, words)]),
        lambda words: pages.table([words], [[words]], caption=words),
        lambda words: pages.written(words, words),
        lambda words: pages.command(words),
        lambda words: pages.picture("<svg ></svg>", "a", words, words),
        lambda words: pages.made_with({"machine": {"processor": words}, "begun": words}),
    ],
)
def test_words_are_no_markup(part):
    found = part(MARKUP)
    assert "<script" not in found and "&lt;script&gt;" in found
    assert "x&#x27;)&lt;/script&gt; &amp; &quot;quotes&quot;" in found


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
    assert pages.shown(value) == words


def test_a_cell_names_its_column_where_a_table_is_a_list():
    found = pages.table(["epoch", "agrees"], [["1", "NO"]], caption="a", text=["agrees"])
    assert '<td role="cell" data-label="epoch">1</td>' in found
    assert '<td class="text" role="cell" data-label="agrees">NO</td>' in found
    assert 'role="columnheader" scope="col">epoch</th>' in found


def test_a_text_keeps_its_lines():
    assert "<pre>\n\na\n\tb\\x07</pre>" in pages.written("title", "\na\n\tb\x07")


@pytest.mark.parametrize(
    "perplexities", [[5.0], [float("nan"), 3.0], [float("inf")] * 2, [1.0, 1e30], [1.01, 1.02]]
)
def test_odd_values_can_be_drawn(perplexities):
    epochs = list(range(1, len(perplexities) + 1))
    found = pages.curves({"run": pages.Curve(epochs, epochs, perplexities)})
    assert found.count("<svg ") == 2


def test_pictures_in_one_page_do_not_share_identifiers():
    curve = pages.Curve([1, 2], [0.5, 1.0], [3.0, 2.0])
    found = pages.curves({"run": curve}, marks={"printed": ([2], [2.5])})
    ids = re.findall(r'\bid="([^"]*)"', found)
    assert len(set(ids)) == len(ids) > 10
    used = re.findall(r'(?:href="|url\()#([^")]*)', found)
    assert used and set(used) <= set(ids)
    by_epoch, by_second = re.findall('aria-label="([^"]*)"', found)
    assert "run: 3 at epoch 1, 2 at epoch 2; printed: 2.5 at epoch 2." in by_epoch
    assert by_second.endswith("run: 3 at 0.5 seconds, 2 at 1.0 seconds.")


def test_a_page_loads_and_runs_nothing():
    found = pages.page("title", ["<p>content</p>"])
    assert "default-src &#x27;none&#x27;; style-src &#x27;unsafe-inline&#x27;;" in found
    assert "prefers-color-scheme: dark" in found and "url(" not in found
