"""Cleaning in chunks gives the same text, wherever the chunks are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2l_deeprnn.text import cleaning
from d2l_deeprnn.text.cleaning import clean, clean_text, cut_gutenberg

START = "*** START OF THE PROJECT GUTENBERG EBOOK A ***\n"
END = "*** END OF THIS PROJECT GUTENBERG ETEXT A\nLONG TITLE ***\n"


@pytest.mark.parametrize("chunk", [1, 3, 2**20])
@given(text=st.text(st.sampled_from("aB\u03a3\u0130 \n\u2003\u1680") | st.characters()))
def test_cleaning_is_the_chapters(chunk, text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "CHUNK", chunk)
        assert clean_text(text) == " ".join(" ".join(text.split("\n")).lower().split())
        assert clean_text(text, lower=False) == " ".join(text.split())
        assert clean_text(text, fold_whitespace=False) == text.lower()
        assert clean_text(text, lower=False, fold_whitespace=False) == text


@given(
    text=st.text([*"aAB1.' \n\u2003\u4e2d\u0301\u02b0\u0130", *["\u03a3"] * 5], max_size=16),
    data=st.data(),
)
def test_text_is_cleaned_across_chunks(text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
    for lower in True, False:
        cased = text.lower() if lower else text
        assert "".join(clean(chunks, lower=lower, fold_whitespace=False)) == cased
        folded = " ".join(cased.split())
        assert "".join(clean(chunks, lower=lower, fold_whitespace=True)) == folded


def test_text_without_white_space_is_not_held_back(monkeypatch):
    monkeypatch.setattr(cleaning, "LONGEST_WORD", 10)
    chunks = list(clean(["\u4e2dA\u0130"] * 20, lower=True, fold_whitespace=False))
    assert "".join(chunks) == ("\u4e2dA\u0130" * 20).lower()
    assert max(map(len, chunks)) < 20


def test_long_text_is_not_held_back_and_keeps_gutenbergs_lines(monkeypatch):
    monkeypatch.setattr(cleaning, "LONGEST_BOOK", 400)
    lines = ["Title: A\n\n", START, *["A line of a book.\n"] * 99, END, "A licence.\n"]
    num_given = 0

    def source():
        nonlocal num_given
        for line in lines:
            num_given += len(line)
            yield line

    kept = ""
    for chunk in cut_gutenberg(source()):
        kept += chunk
        assert num_given - len(kept) < 500
    assert kept == "".join(lines)


@pytest.mark.parametrize("odd", ["Produced by\n", "a\n", "***\n", "*** END OF THE\n", " ", "\n"])
def test_odd_texts_take_no_time(odd):
    """No expression is searched from each position to the end of the text."""
    closing = "End of Project Gutenberg\n"
    for beginning, end in (START, END), (START + "Produced by", closing + "x" + END):
        text = odd * (2**21 // len(odd))
        assert len("".join(cut_gutenberg([beginning, text, closing * 99, end]))) > 0
    spaced = START + closing[:-1] + " " * 2**16 + "x\n\ny\n" + END
    assert "".join(cut_gutenberg([spaced * 100])).count("y\n") == 100
    assert "".join(cut_gutenberg([START + "a\n \n" + closing * 9 + END])) == "a\n"
