"""The cleaning of a text in pieces: however it is cut, the same as in one piece."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2l_deeprnn.text import cleaning
from d2l_deeprnn.text.cleaning import clean, cut_gutenberg

START = "*** START OF THE PROJECT GUTENBERG EBOOK A ***\n"
END = "*** END OF THIS PROJECT GUTENBERG ETEXT A\nLONG TITLE ***\n"


def pieces_of(parts, max_size):
    """A text from some parts, and the same text cut anywhere."""
    texts = st.lists(st.sampled_from(parts), max_size=max_size).map("".join)

    def cut_anywhere(text):
        places = st.lists(st.integers(0, len(text)), max_size=20).map(sorted)
        return places.map(
            lambda cuts: (text, [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])])
        )

    return texts.flatmap(cut_anywhere)


@given(pieces_of([*"aAB1.' \n\u2003\u4e2d\u0301\u02b0\u0130", *["\u03a3"] * 5], 16))
def test_a_text_is_cleaned_across_pieces(cut):
    text, pieces = cut
    for lower in True, False:
        cased = text.lower() if lower else text
        assert "".join(clean(pieces, lower=lower, fold_whitespace=False)) == cased
        folded = " ".join(cased.split())
        assert "".join(clean(pieces, lower=lower, fold_whitespace=True)) == folded


def test_a_text_without_white_space_is_not_held_back():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "LONGEST_WORD", 10)
        pieces = list(clean(["\u4e2dA\u0130"] * 20, lower=True, fold_whitespace=False))
    assert "".join(pieces) == ("\u4e2dA\u0130" * 20).lower()
    assert max(map(len, pieces)) < 20


# Texts that are too long to be searched as a whole for Project Gutenberg's lines.

LINES = ["A line of a book.\n"] * 99
BOOK = "".join(LINES)
LICENCE = ["A licence.\n"] * 20


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    for name, limit in dict(WHOLE=400, FOOTER=350, AROUND=100, PIECE=50).items():
        monkeypatch.setattr(cleaning, name, limit)


def test_a_long_book_is_given_as_it_comes():
    given_lines = []

    def source():
        yield from ["Title: A\n\n", START, "\nProduced by me\n\n"]
        for line in LINES:
            given_lines.append(line)
            yield line
        yield from ["End of Project Gutenberg's A\n\n", END, *LICENCE]

    kept = ""
    for piece in cut_gutenberg(source()):
        kept += piece
        assert len("".join(given_lines)) - len(kept) < 500
    assert kept == BOOK


def test_long_texts_with_some_of_gutenbergs_lines():
    for text, kept in (
        (BOOK, BOOK),
        (BOOK + END + "".join(LICENCE), BOOK),
        ("Title\n" + START + BOOK, BOOK),
        # The book before may begin there, or the lines are too far inside.
        ("One.\n" + END + START + BOOK, "One.\n" + END + START + BOOK),
        (BOOK + START + BOOK + END + BOOK, BOOK + START + BOOK + END + BOOK),
        (START + BOOK + END + START + BOOK + END, BOOK + END + START + BOOK),
    ):
        for pieces in [text], text.splitlines(keepends=True), list(text):
            assert "".join(cut_gutenberg(pieces)) == kept


@pytest.mark.parametrize("odd", ["Produced by\n", "a\n", "***\n", "*** END OF THE\n", " ", "\n"])
def test_odd_texts_take_no_time(odd, monkeypatch):
    """Nothing is looked for at each place up to the end of the text."""
    monkeypatch.undo()
    closing = "End of Project Gutenberg\n"
    for beginning, end in (START, END), (START + "Produced by", closing + "x" + END):
        text = odd * (2**21 // len(odd))
        assert len("".join(cut_gutenberg([beginning, text, closing * 99, end]))) > 0
    spaced = START + closing[:-1] + " " * 2**16 + "x\n\ny\n" + END
    assert "".join(cut_gutenberg([spaced * 100])).count("y\n") == 100
    assert "".join(cut_gutenberg([START + "a\n \n" + closing * 99 + END])) == "a\n"
