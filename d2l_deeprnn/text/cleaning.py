"""Clean texts of any length, chunk by chunk.

Each step turns the chunks of one text into cleaned chunks. The resulting text does not depend on
where the chunks are cut.
"""

from __future__ import annotations

import re
from typing import Iterable, Iterator

# All limits are in characters.
CHUNK = 2**20
LONGEST_WORD = 2**20
# A longer text is not searched for Project Gutenberg's lines.
LONGEST_BOOK = 2**24
# Longest credits after a header, and longest closing paragraph before a footer.
CREDITS, CLOSING = 2**16, 2**10

# The lines that Project Gutenberg puts around a book. A long title may continue on the next line.
_TITLE_TO_STARS = r"(?:[^\n]|\n(?![ \t]*\n)){0,300}?\*{3}[ \t]*$"
_MARKER = r"^\*{3}[ \t]*%s OF (?:THE|THIS) PROJECT GUTENBERG E(?:BOOK|TEXT)\b" + _TITLE_TO_STARS
_START = re.compile(_MARKER % "START", re.IGNORECASE | re.MULTILINE)
_END = re.compile(_MARKER % "END", re.IGNORECASE | re.MULTILINE)
_REST_OF_PARAGRAPH = r".*(?:\n.*\S.*)*"
_CREDITS = re.compile(r"\s*Produced by\b" + _REST_OF_PARAGRAPH)
_CLOSING = re.compile(
    r"^End of (?:the |this )?Project Gutenberg\b" + _REST_OF_PARAGRAPH + r"\Z",
    re.IGNORECASE | re.MULTILINE,
)


def clean(chunks: Iterable[str], *, lower: bool, fold_whitespace: bool) -> Iterator[str]:
    """Clean the chunks of a text; see ``clean_text``."""
    if lower:
        chunks = (chunk.lower() for chunk in _whole_words(chunks))
    return _folded(chunks) if fold_whitespace else iter(chunks)


def clean_text(text: str, *, lower: bool = True, fold_whitespace: bool = True) -> str:
    """Clean a text as the chapter does: lower case, and one space for any white space.

    Args:
        text: any text.
        lower: whether to turn it into lower case.
        fold_whitespace: whether to turn line breaks and runs of white space into one space, and to
            remove them at both ends.

    Returns:
        The cleaned text, with its punctuation.
    """
    # In chunks, because the list of all words takes many times the memory of the text.
    return "".join(clean(split(text), lower=lower, fold_whitespace=fold_whitespace))


def split(text: str) -> Iterator[str]:
    """Split a text into chunks."""
    return (text[start : start + CHUNK] for start in range(0, len(text), CHUNK))


def cut_gutenberg(chunks: Iterable[str]) -> Iterator[str]:
    """Keep the text between Project Gutenberg's START and END lines, if there are any.

    Either line may be missing, and a text may contain several books. A text of more than
    ``LONGEST_BOOK`` characters is left as it is.
    """
    chunks = iter(chunks)
    text = ""
    for chunk in chunks:
        text += chunk
        if len(text) > LONGEST_BOOK:
            yield from split(text)
            text = ""
            yield from chunks
            return
    header, *books = _START.split(text)
    books = [_without_credits(book) for book in books]
    # The part before the first START line is a header, unless a book ends there.
    if not books or _END.search(header):
        books.insert(0, header)
    yield from split("\n".join(map(_before_end, books)))


def _without_credits(book: str) -> str:
    """Remove the credits and the empty lines at the beginning of a book."""
    credits = _CREDITS.match(book, 0, CREDITS)
    return (book[credits.end() :] if credits else book).lstrip("\n")


def _before_end(book: str) -> str:
    """Cut a book at its END line, if it has one, and at the closing paragraph before that."""
    end = _END.search(book)
    if not end:
        return book
    book = book[: end.start()].rstrip()
    closing = _CLOSING.search(book, max(len(book) - CLOSING, 0))
    return (book[: closing.start()].rstrip() if closing else book) + "\n"


def _whole_words(chunks: Iterable[str]) -> Iterator[str]:
    """Cut a text at white space, so that each chunk can be lowered separately.

    The lower case of a capital sigma depends on the letters around it: it becomes a final sigma at
    the end of a word. Only words of more than ``LONGEST_WORD`` characters are cut.
    """
    rest = ""
    for chunk in chunks:
        chunk = rest + chunk
        end = max(chunk.rfind(" "), chunk.rfind("\n")) + 1
        if not end and len(chunk) > LONGEST_WORD:  # as in Chinese, which has no spaces
            end = len(chunk)
        yield chunk[:end]
        rest = chunk[end:]
    yield rest


def _folded(chunks: Iterable[str]) -> Iterator[str]:
    """Turn runs of white space into one space, and remove them at both ends."""
    started = space = False  # whether there was a word before, and white space after it
    for chunk in chunks:
        words = chunk.split()
        if words:
            separator = " " if started and (space or chunk[0].isspace()) else ""
            yield separator + " ".join(words)
            started, space = True, chunk[-1].isspace()
        elif chunk:
            space = True
