"""The cleaning of a text, piece by piece, whatever its length.

Each step takes the pieces of one text, in order, and gives pieces. However a text is cut into
pieces, the steps give the same text.
"""

from __future__ import annotations

import itertools
import re
from typing import Iterable, Iterator, List, Optional, Pattern

# Characters of a piece.
PIECE = 2**20
LONGEST_WORD = 2**20
# Within so many characters from the beginning of a text, the line that ends Project Gutenberg's
# header is looked for. What is held back meanwhile is this long at most.
HEADER = 2**24
# Most characters of one of Project Gutenberg's lines, of the credits after the header, and of the
# closing line and white space before the footer.
AROUND = 2**16

# The lines that Project Gutenberg puts around a book. A long title may run on to the next line.
_TITLE_TO_STARS = r"(?:[^\n]|\n(?![ \t]*\n)){0,300}?\*{3}[ \t]*$"
_MARKER = r"^\*{3}[ \t]*%s OF (?:THE|THIS) PROJECT GUTENBERG E(?:BOOK|TEXT)\b" + _TITLE_TO_STARS
_START = re.compile(_MARKER % "START", re.IGNORECASE | re.MULTILINE)
_END = re.compile(_MARKER % "END", re.IGNORECASE | re.MULTILINE)
_PARAGRAPH_REST = r"[^\n]*(?:\n(?![ \t]*(?:\n|\Z))[^\n]+)*"
_CREDITS = re.compile(r"\A\s*Produced by\b" + _PARAGRAPH_REST)
_CLOSING_LINE = re.compile(
    r"^End of (?:the |this )?Project Gutenberg\b" + _PARAGRAPH_REST + r"\s*\Z",
    re.IGNORECASE | re.MULTILINE,
)


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

    Either line may be missing, and several books may follow each other in one file.

    A first START line is found within the first ``HEADER`` characters. In a text that is longer,
    what stands before a later one is kept.
    """
    parts = _split(pieces, _START)
    at_end = False

    def book() -> Iterator[str]:
        nonlocal at_end
        for part in parts:
            if part is None:
                return
            yield part
        at_end = True

    header: List[str] = []
    beginning = book()
    for piece in beginning:
        header.append(piece)
        if sum(map(len, header)) > HEADER:
            break
    else:
        # Before the first START line there is only a header, unless a book ends there or there is
        # no START line at all.
        if not at_end and None not in _split(header, _END):
            header.clear()
    first = True
    if header or at_end:
        yield from _before_end(itertools.chain(header, beginning))
        first = False
    while not at_end:
        if not first:
            yield "\n"
        yield from _before_end(_without_credits(book()))
        first = False


def _split(pieces: Iterable[str], marker: Pattern[str]) -> Iterator[Optional[str]]:
    """Give the pieces without the lines that match a marker, and None in place of each of these."""
    before, held = "\n", ""  # the character before what is held: there, a line may begin
    rest, ended = iter(pieces), False
    while not ended:
        piece = next(rest, None)
        ended = piece is None
        held += piece or ""
        at = _stars(held, 0, before)
        while at >= 0:
            found = marker.match(held, at, at + AROUND)
            # An end of what is there so far, or may be looked at, is not an end of a line.
            if (
                found
                and found.end() == min(len(held), at + AROUND)
                and not (ended and found.end() == len(held))
            ):
                found = None
            if found:
                yield held[:at]
                yield None
                before, held = found.group()[-1], held[found.end() :]
                at = _stars(held, 0, before)
            elif ended or len(held) >= at + AROUND:
                at = _stars(held, at + 1, before)
            else:
                break
        if at < 0:
            at = len(held)
            # Stars that may be the first ones of a line of stars.
            stars = at - len(held.rstrip("*"))
            if not ended and stars < 3 and (before + held)[at - stars] == "\n":
                at -= stars
        if at:
            yield held[:at]
            before, held = held[at - 1], held[at:]


def _stars(text: str, start: int, before: str) -> int:
    """Where, from a place on, the first line begins with three stars; -1 if none does.

    Args:
        before: the character before the text.
    """
    if start == 0 and before == "\n" and text.startswith("***"):
        return 0
    found = text.find("\n***", max(start - 1, 0))
    return found + 1 if found >= 0 else -1


def _without_credits(book: Iterable[str]) -> Iterator[str]:
    """Remove who produced a book, and the empty lines at its beginning."""
    rest = iter(book)
    beginning = ""
    for piece in rest:
        beginning += piece
        if len(beginning) > AROUND:
            break
    beginning = _CREDITS.sub("", beginning)
    for piece in itertools.chain([beginning], rest):
        piece = piece.lstrip("\n")
        if piece:
            yield piece
            break
    yield from rest


def _before_end(book: Iterable[str]) -> Iterator[str]:
    """Cut a book at its END line, if it has one."""
    parts = _split(book, _END)
    before, tail = "\n", ""  # what precedes the END line decides what is removed with it
    for part in parts:
        if part is None:
            closing = _CLOSING_LINE.search(before + tail, 1)
            yield (tail[: closing.start() - 1] if closing else tail).rstrip() + "\n"
            for _ in parts:  # the footer
                pass
            return
        tail += part
        if len(tail) > 2 * AROUND:
            yield tail[:-AROUND]
            before, tail = tail[-AROUND - 1], tail[-AROUND:]
    yield tail


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
