"""The cleaning of a text in pieces: however it is cut, the same as in one piece."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2l_deeprnn.text import cleaning
from d2l_deeprnn.text.cleaning import clean, cut_gutenberg

START = "*** START OF THE PROJECT GUTENBERG EBOOK A ***"
END = "*** END OF THIS PROJECT GUTENBERG ETEXT A\nLONG TITLE ***"
# What a text about Project Gutenberg's lines is put together from, in any order.
PARTS = [
    *(START, END, f"\n{START}\n", f"\n{END}\n", START[:-4], END[:-4], "Produced by me"),
    *(
        "\nProduced by me\nand you\n",
        "End of the Project Gutenberg A",
        "\nEnd of Project Gutenberg",
    ),
    *("\n", "\n\n", "*", "**", "***", "\n**", "\n***", " ", "One.", " \t\n"),
]


def pieces_of(parts, max_size):
    """A text from some parts, and the same text cut anywhere."""
    texts = st.lists(st.sampled_from(parts), max_size=max_size).map("".join)

    def cut_anywhere(text):
        places = st.lists(st.integers(0, len(text)), max_size=20).map(sorted)
        return places.map(
            lambda cuts: (text, [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])])
        )

    return texts.flatmap(cut_anywhere)


def kept_of(text):
    """What is kept of a text that is there as a whole."""
    title = r"(?:[^\n]|\n(?![ \t]*\n)){0,300}?\*{3}[ \t]*$"
    marker = r"(?im)^\*{3}[ \t]*%s OF (?:THE|THIS) PROJECT GUTENBERG E(?:BOOK|TEXT)\b" + title
    paragraph = r"[^\n]*(?:\n(?![ \t]*(?:\n|\Z))[^\n]+)*"
    header, *books = re.split(marker % "START", text)
    books = [re.sub(r"\A\s*Produced by\b" + paragraph, "", book).lstrip("\n") for book in books]
    if not books or re.search(marker % "END", header):
        books.insert(0, header)
    for i, book in enumerate(books):
        end = re.search(marker % "END", book)
        if end:
            closing = r"(?im)^End of (?:the |this )?Project Gutenberg\b" + paragraph + r"\s*\Z"
            books[i] = re.sub(closing, "", book[: end.start()]).rstrip() + "\n"
    return "\n".join(books)


@given(pieces_of(PARTS, 14))
def test_gutenbergs_lines_are_found_across_pieces(cut):
    text, pieces = cut
    assert "".join(cut_gutenberg(pieces)) == kept_of(text)


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


LINES = ["A line of a book.\n"] * 99


@pytest.fixture
def small(monkeypatch):
    """Limits that a small text exceeds."""
    monkeypatch.setattr(cleaning, "HEADER", 400)
    monkeypatch.setattr(cleaning, "AROUND", 100)


def test_a_long_book_is_given_as_it_comes(small):
    given_lines = []

    def source():
        yield from ["Title: A\n\n", START + "\n", "\nProduced by me\n\n"]
        for line in LINES:
            given_lines.append(line)
            yield line
        yield from ["End of Project Gutenberg's A\n\n", END + "\n", *["A licence.\n"] * 99]

    kept = ""
    for piece in cut_gutenberg(source()):
        kept += piece
        # What is held back: enough to find the credits, an END line, and what precedes it.
        assert len("".join(given_lines)) - len(kept) < 500
    assert kept == "".join(LINES)


def test_a_long_text_without_lines_of_gutenbergs_is_left_alone(small):
    assert "".join(cut_gutenberg(LINES)) == "".join(LINES)
    ended = [*LINES, END + "\n", "A licence.\n"]
    assert "".join(cut_gutenberg(ended)) == "".join(LINES)


def test_a_header_longer_than_the_limit_is_kept(small):
    """All that can be said of it is that the book begins there."""
    text = [*LINES, START + "\n", "Two.\n", END]
    assert "".join(cut_gutenberg(text)) == "".join(LINES) + "\nTwo.\n"
    assert "".join(cut_gutenberg([*LINES[:10], START + "\n", "Two.\n", END])) == "Two.\n"


def test_a_line_longer_than_the_limit_is_not_gutenbergs(small):
    long = "*** START OF THE PROJECT GUTENBERG EBOOK " + "A" * 80 + " ***\n"
    for pieces in [long + "One.\n"], [*long, "One.\n"]:
        assert "".join(cut_gutenberg(pieces)) == long + "One.\n"
