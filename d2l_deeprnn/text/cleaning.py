"""The cleaning of a text, piece by piece, whatever its length.

Each step takes the pieces of one text, in order, and gives pieces. However a text is cut into
pieces, the steps give the same text.
"""

from __future__ import annotations

import re
from typing import Iterable, Iterator

# Characters of a piece.
PIECE = 2**20
LONGEST_WORD = 2**20
# A text of up to so many characters is searched as a whole for Project Gutenberg's lines.
WHOLE = 2**24
# Characters at the end of a longer text that are searched for the END line.
FOOTER = 2**20
# Most characters of the credits after a header, and of the closing line before a footer.
AROUND = 2**16

# The lines that Project Gutenberg puts around a book. A long title may run on to the next line.
_TITLE_TO_STARS = r"(?:[^\n]|\n(?![ \t]*\n)){0,300}?\*{3}[ \t]*$"
_MARKER = r"^\*{3}[ \t]*%s OF (?:THE|THIS) PROJECT GUTENBERG E(?:BOOK|TEXT)\b" + _TITLE_TO_STARS
_START = re.compile(_MARKER % "START", re.IGNORECASE | re.MULTILINE)
_END = re.compile(_MARKER % "END", re.IGNORECASE | re.MULTILINE)
_PARAGRAPH_REST = r"[^\n]*(?:\n(?![ \t]*(?:\n|\Z))[^\n]+)*"
_CREDITS = re.compile(r"\A\s*Produced by\b" + _PARAGRAPH_REST)
_CLOSING_LINE = re.compile(r"End of (?:the |this )?Project Gutenberg\b", re.IGNORECASE)


def clean(pieces: Iterable[str], *, lower: bool, fold_whitespace: bool) -> Iterator[str]:
    """Clean the pieces of a text; see ``clean_text``."""
    if lower:
        pieces = (piece.lower() for piece in _whole_words(pieces))
    return _folded(pieces) if fold_whitespace else iter(pieces)


def clean_text(text: str, *, lower: bool = True, fold_whitespace: bool = True) -> str:
    """Clean a text as the chapter does: lower case, and one space for any white space.

    Args:
        text: Any text.
        lower: Whether to turn it into lower case.
        fold_whitespace: Whether to turn line breaks and runs of white space into one space, and to
            drop them at both ends.

    Returns:
        The cleaned text. Punctuation is kept.
    """
    # A piece at a time: all words of a large text at once would take many times its memory.
    return "".join(clean(cut(text), lower=lower, fold_whitespace=fold_whitespace))


def cut(text: str) -> Iterator[str]:
    """Cut a text into pieces."""
    return (text[start : start + PIECE] for start in range(0, len(text), PIECE))


def cut_gutenberg(pieces: Iterable[str]) -> Iterator[str]:
    """Keep what stands between Project Gutenberg's START and END lines, where there are any.

    Either line may be missing, and a text of up to ``WHOLE`` characters may hold several books. In
    a longer one, the START line is found in the first ``WHOLE`` characters and the END line in the
    last ``FOOTER``.
    """
    rest = iter(pieces)
    text = _take(rest, WHOLE)
    if len(text) <= WHOLE:
        yield from cut(_books(text))
        return
    start = _START.search(text, 0, WHOLE)
    if start and not _END.search(text, 0, start.start()):
        text = _without_credits(text[start.end() :])
    yield from cut(text[:-FOOTER])
    text = text[-FOOTER:]
    while True:
        added = _take(rest, PIECE)
        text += added
        if not added:
            break
        yield text[:-FOOTER]
        text = text[-FOOTER:]
    yield _before_end(text)


def _take(pieces: Iterator[str], length: int) -> str:
    """Join pieces until they have more than so many characters."""
    taken, size = [], 0
    for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size > length:
            break
    return "".join(taken)


def _books(text: str) -> str:
    """Join the books in a text that Project Gutenberg's lines may surround."""
    header, *books = _START.split(text)
    books = [_without_credits(book) for book in books]
    # Before the first START line there is only a header, unless a book ends there.
    if not books or _END.search(header):
        books.insert(0, header)
    return "\n".join(map(_before_end, books))


def _without_credits(book: str) -> str:
    """Remove who produced a book, and the empty lines at its beginning."""
    credits = _CREDITS.match(book, 0, AROUND)
    return (book[credits.end() :] if credits else book).lstrip("\n")


def _before_end(book: str) -> str:
    """Cut a book at its END line, if it has one."""
    end = _END.search(book)
    if not end:
        return book
    return _without_closing_line(book[: end.start()].rstrip()).rstrip() + "\n"


def _without_closing_line(book: str) -> str:
    """Cut a book at a closing line, if its last paragraph has one."""
    closing = end = len(book)
    while end > max(len(book) - AROUND, 0):
        start = book.rfind("\n", 0, end) + 1
        line = book[start:end]
        if not line.strip(" \t"):
            break
        if _CLOSING_LINE.match(line):
            closing = start
        end = start - 1
    return book[:closing]


def _whole_words(pieces: Iterable[str]) -> Iterator[str]:
    """Cut a text at white space, so that its pieces can be turned into lower case one by one.

    How a capital sigma is lowered depends on the letters around it: at the end of a word, it
    becomes a final sigma. Only words of more than ``LONGEST_WORD`` characters are cut.
    """
    held = ""
    for piece in pieces:
        piece = held + piece
        end = max(piece.rfind(" "), piece.rfind("\n")) + 1
        if not end and len(piece) > LONGEST_WORD:  # as in Chinese, which has no spaces
            end = len(piece)
        yield piece[:end]
        held = piece[end:]
    yield held


def _folded(pieces: Iterable[str]) -> Iterator[str]:
    """Turn runs of white space into one space, and drop them at both ends."""
    begun = space = False  # whether a word was given, and there was white space after it
    for piece in pieces:
        words = piece.split()
        if words:
            between = " " if begun and (space or piece[0].isspace()) else ""
            yield between + " ".join(words)
            begun, space = True, piece[-1].isspace()
        elif piece:
            space = True
