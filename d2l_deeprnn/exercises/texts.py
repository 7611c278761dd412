"""Which texts a study reads: real books where they are, else the package's samples."""

from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from ..text.corpora import TextNotAvailable, find_text, load_text
from ..text.vocab import Vocab


class Library(NamedTuple):
    """Names of texts, by who wrote them.

    Attributes:
        first, second: names of an author's texts.
        authors: names of the two.
        note: empty with the real books; else that, and why, there are samples.
    """

    first: Tuple[str, ...]
    second: Tuple[str, ...]
    authors: Tuple[str, str]
    note: str


BOOKS = Library(
    ("time_machine", "war_of_the_worlds"), ("pride_and_prejudice",), ("Wells", "Austen"), ""
)
SAMPLES = Library(
    ("the_clockmakers_guest", "the_tide_tables"),
    ("letters_from_a_cousin",),
    ("the tales", "the letters"),
    "This package's sample texts stand in for the books, so the results are not for real books.",
)


def library(quick: bool) -> Library:
    """The real books, or the samples where one of them is missing or time is short."""
    if quick:
        return SAMPLES
    try:
        for name in BOOKS.first + BOOKS.second:
            find_text(name)
    except TextNotAvailable as error:
        return SAMPLES._replace(note=f"{SAMPLES.note} {error}")
    return BOOKS


def read(names: Sequence[str]) -> List[str]:
    """The texts, each cleaned as the chapter does."""
    return [load_text(name) for name in names]


def split(text: str, held_out: float = 0.2) -> Tuple[str, str, str]:
    """Cut a text in file order: to train on, for validation, for the test.

    Args:
        text: any.
        held_out: fraction of the last two together; half of it each.
    """
    train = int(len(text) * (1 - held_out))
    middle = train + (len(text) - train) // 2
    return text[:train], text[train:middle], text[middle:]


def encode(vocab: Vocab, *texts: str) -> List[np.ndarray]:
    """The indices of each text."""
    return [vocab.encode(text) for text in texts]
