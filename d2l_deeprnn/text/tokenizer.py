"""From the pieces of a text to its vocabulary and indices, in one pass over the text."""

from __future__ import annotations

import sys
from typing import Iterable, List, Optional, Tuple, Union

import numpy as np

from .vocab import Vocab


def smallest_type(largest: int) -> np.dtype:
    """The smallest type of unsigned integers that holds a number, of 1, 2 or 4 bytes."""
    return np.min_scalar_type(largest)


class Numbering:
    """Numbers for the characters of a text, given as they come, since the vocabulary is not known.

    They are 1, 2, 3 and so on. Of the vocabulary that the text has, made by ``vocab``, ``indices``
    gives the index of each number.
    """

    def __init__(self) -> None:
        self._numbers = np.zeros(sys.maxunicode + 1, np.uint8)  # of each code point; 0 for none
        self._code_points: List[int] = []
        self._counts = np.zeros(1, np.int64)

    def add(self, piece: str) -> np.ndarray:
        """Number the characters of the next piece, in the smallest type that holds all so far."""
        if piece.isascii():
            code_points = np.frombuffer(piece.encode("ascii"), np.uint8)
        else:
            # One character is one 32-bit unit, unlike in UTF-8.
            code_points = np.frombuffer(piece.encode("utf-32-le", "surrogatepass"), np.uint32)
        numbers = self._numbers[code_points]
        if not numbers.all():
            new = np.unique(code_points[numbers == 0])
            first, end = len(self._counts), len(self._counts) + len(new)
            self._numbers = self._numbers.astype(smallest_type(end - 1), copy=False)
            self._numbers[new] = np.arange(first, end)
            self._code_points += new.tolist()
            self._counts = np.append(self._counts, np.zeros(len(new), np.int64))
            numbers = self._numbers[code_points]
        self._counts += np.bincount(numbers, minlength=len(self._counts))
        return numbers

    def vocab(self) -> Vocab:
        """Make the vocabulary of what was numbered."""
        return Vocab(dict(zip(map(chr, self._code_points), self._counts[1:].tolist())))

    def indices(self, vocab: Vocab) -> np.ndarray:
        """The index of each number in a vocabulary; nothing has the number 0."""
        found = [vocab.unk, *(vocab[chr(code_point)] for code_point in self._code_points)]
        return np.array(found, smallest_type(len(vocab) - 1))


def encode_pieces(pieces: Iterable[str], dtype: type) -> Tuple[np.ndarray, Vocab]:
    """Encode a text in memory.

    Args:
        pieces: of the text, in order.
        dtype: of the indices.

    Returns:
        The index of each character, and the vocabulary, as ``Vocab`` and its ``encode`` give them.
    """
    numbering = Numbering()
    numbered = [numbering.add(piece) for piece in pieces]
    vocab = numbering.vocab()
    return join(numbered, numbering.indices(vocab), dtype), vocab


def join(
    pieces: List[np.ndarray], index_of: Optional[np.ndarray], dtype: Union[type, np.dtype]
) -> np.ndarray:
    """Join the pieces of an encoded text; the list of them is then empty.

    Args:
        pieces: indices, or numbers for them.
        index_of: the index of each number; None where they are indices.
        dtype: of the result.
    """
    joined = np.empty(sum(map(len, pieces)), dtype)
    end = len(joined)
    while pieces:  # each is given up as soon as it is in its place
        piece = pieces.pop()
        joined[end - len(piece) : end] = piece if index_of is None else index_of[piece]
        end -= len(piece)
    return joined
