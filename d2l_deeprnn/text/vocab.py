"""Vocabularies: tables of tokens and their indices."""

from __future__ import annotations

import collections
import operator
import sys
import unicodedata
from typing import Any, Dict, Iterable, List, Literal, NamedTuple, Optional, Sequence, Set

import numpy as np

from .._checks import whole_number

CHUNK = 2**20  # characters


class Vocab:
    """A table of tokens and their indices, built from a text.

    The special tokens come first, then the others by falling frequency; equally frequent ones are
    sorted. A token that is not in the table has the index of ``'<unk>'``.

    Args:
        tokens: the tokens of a text, one after another; a string counts as its characters. Or a
            mapping from each token to its frequency.
        min_freq: minimum frequency of the tokens in the table; 0 and 1 include every token.
        use_special_tokens: whether ``'<pad>'``, ``'<bos>'``, ``'<eos>'`` and ``'<unk>'`` have the
            indices 0 to 3. Otherwise ``'<unk>'`` is the only special token, at 0.

    Attributes:
        idx_to_token: token of each index.
        token_to_idx: index of each token.
        unk: index of ``'<unk>'``.
        pad, bos, eos: indices of the other special tokens, if these are used.

    Raises:
        ValueError: if ``min_freq`` is not a non-negative integer.
        TypeError: if tokens cannot be hashed, or cannot be compared with each other.

    Source:
        ``d2l.Vocab`` of d2l 0.9.1.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> vocab = d2l.Vocab("time machine")
        >>> vocab.idx_to_token
        ['<unk>', 'e', 'i', 'm', ' ', 'a', 'c', 'h', 'n', 't']
        >>> vocab["m"], vocab["z"]
        (3, 0)
        >>> "".join(vocab.to_tokens(vocab.encode("tame")))
        'tame'
    """

    def __init__(
        self, tokens: Iterable[Any], min_freq: int = 0, use_special_tokens: bool = False
    ) -> None:
        # Differs: the original took any number, even a negative one.
        whole_number("min_freq", min_freq, 0)
        self.unk: int
        if use_special_tokens:
            self.pad, self.bos, self.eos, self.unk = 0, 1, 2, 3
            special_tokens = ["<pad>", "<bos>", "<eos>", "<unk>"]
        else:
            self.unk = 0
            special_tokens = ["<unk>"]
        counter = collections.Counter(tokens)
        # The second sort is stable, so the first one decides between equal frequencies.
        by_freq = sorted(sorted(counter), key=counter.__getitem__, reverse=True)
        self.idx_to_token: List[Any] = special_tokens + [
            token for token in by_freq if counter[token] >= min_freq and token not in special_tokens
        ]
        self.token_to_idx: Dict[Any, int] = {
            token: index for index, token in enumerate(self.idx_to_token)
        }

    @classmethod
    def from_tokens(cls, idx_to_token: Sequence[Any]) -> Vocab:
        """Return the vocabulary with this ``idx_to_token``.

        Raises:
            ValueError: if a token is a duplicate or not a string, or ``'<unk>'`` is not at index 0.
        """
        if not idx_to_token or idx_to_token[0] != "<unk>":
            raise ValueError(f"idx_to_token must begin with '<unk>': {list(idx_to_token)[:3]}")
        if not all(isinstance(token, str) for token in idx_to_token):
            raise ValueError("idx_to_token must contain only strings")
        vocab = cls([])
        vocab.idx_to_token = list(idx_to_token)
        vocab.token_to_idx = {token: index for index, token in enumerate(idx_to_token)}
        if len(vocab.token_to_idx) != len(vocab):
            raise ValueError("idx_to_token contains a token twice")
        return vocab

    def encode(self, text: str) -> np.ndarray:
        """Look up the indices of all characters of a text at once.

        Returns:
            int32 array (len(text),), the same numbers as ``self[list(text)]``.
        """
        characters = {
            ord(token): index
            for token, index in self.token_to_idx.items()
            if isinstance(token, str) and len(token) == 1
        }
        table = np.full(max(characters, default=0) + 2, self.unk, dtype=np.int32)
        table[list(characters)] = list(characters.values())
        indices = np.empty(len(text), dtype=np.int32)
        for start in range(0, len(text), CHUNK):  # to save memory
            codes = _code_points(text[start : start + CHUNK])
            # The last entry catches all characters beyond the table.
            indices[start : start + CHUNK] = np.take(table, codes, mode="clip")
        return indices

    def __len__(self) -> int:
        """Return the number of tokens, special ones included."""
        return len(self.idx_to_token)

    def __getitem__(self, tokens: Any) -> Any:
        """Look up indices.

        Args:
            tokens: a token, or a list or tuple of tokens, nested to any depth.

        Returns:
            The index of the token (``unk`` if it is unknown), or a list of indices with the nesting
            of ``tokens``.
        """
        if isinstance(tokens, (list, tuple)):
            return [self[token] for token in tokens]
        return self.token_to_idx.get(tokens, self.unk)

    def to_tokens(self, indices: Any) -> Any:
        """Look up tokens.

        Args:
            indices: an index, or a list, tuple or array of indices.

        Returns:
            The token of the index, or a list of tokens.

        Raises:
            IndexError: if an index is not in 0 to ``len(self) - 1``.
            TypeError: if an index is not an integer.
        """
        if not isinstance(indices, (list, tuple, np.ndarray)):
            return self.to_tokens([indices])[0]
        positions = [operator.index(index) for index in indices]
        for position in positions:
            # Differs: in the original, a negative index counted from the end, which hid mistakes.
            if not 0 <= position < len(self):
                raise IndexError(
                    f"index {position} is outside the vocabulary: use 0 to {len(self) - 1}"
                )
        return [self.idx_to_token[position] for position in positions]


def count_characters(chunks: Iterable[str]) -> Dict[str, int]:
    """Count the characters of a text, passed in chunks."""
    counts = np.zeros(sys.maxunicode + 1, np.int64)
    for text in chunks:
        for start in range(0, len(text), CHUNK):
            frequencies = np.bincount(_code_points(text[start : start + CHUNK]))
            counts[: len(frequencies)] += frequencies
    return {chr(code): int(counts[code]) for code in np.flatnonzero(counts)}


def _code_points(text: str) -> np.ndarray:
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    # One character is one 32-bit unit, unlike in UTF-8.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


MAX_LISTED = 10  # of the unknown characters of a text
Form = Literal["NFC", "NFD"]
FORMS: Dict[Form, str] = {
    "NFC": "composed characters (NFC)",
    "NFD": "decomposed characters (NFD)",
}


class Unknown(NamedTuple):
    """Characters of a text that are not in a vocabulary.

    Attributes:
        characters: the characters, sorted.
        form: the Unicode normalization form in which the text has fewer unknown characters and no
            new ones; None if there is none.
    """

    characters: List[str]
    form: Optional[Form]

    def __str__(self) -> str:
        """List the characters, with the names of those outside ASCII, which may look alike."""
        shown = [
            (ascii(c) if unicodedata.combining(c) else repr(c))
            + ("" if c.isascii() else f" (U+{ord(c):04X} {unicodedata.name(c, 'without a name')})")
            for c in self.characters[:MAX_LISTED]
        ]
        more = len(self.characters) - MAX_LISTED
        return f"[{', '.join(shown)}]" + (f" and {more} more" if more > 0 else "")


def unknown_characters(chunks: Iterable[str], vocab: Vocab) -> Unknown:
    """Return the characters of a text, passed in chunks, that are not in a vocabulary."""
    known = set(vocab.token_to_idx)
    unknown: Dict[Optional[Form], Set[str]] = {None: set(), "NFC": set(), "NFD": set()}
    for chunk in chunks:
        if not known.issuperset(chunk):
            for form, characters in unknown.items():
                characters.update(unicodedata.normalize(form, chunk) if form else chunk)
                characters -= known
    as_it_is = unknown[None]
    helpful = [form for form, characters in unknown.items() if characters < as_it_is]
    form = min(helpful, key=lambda form: len(unknown[form]), default=None)
    return Unknown(sorted(as_it_is), form)


def describe_unknown(name: str, text: str, vocab: Vocab) -> str:
    """Describe the characters of a short text that are not in a vocabulary; "" if all are.

    Args:
        name: name of the text, such as "prefix".
    """
    unknown = unknown_characters([text], vocab)
    if not unknown.characters:
        return ""
    message = f"{unknown} in {name} {text!r}"
    if unknown.form:
        escaped = "".join(map(_escaped, unicodedata.normalize(unknown.form, text)))
        message += (
            f"; the vocabulary has {FORMS[unknown.form]}: write '{escaped}', in a shell "
            f"$'{escaped}'"
        )
    return message


def _escaped(char: str) -> str:
    """Return a character as it is written within quotes in Python and in a shell."""
    if char.isascii() and char.isprintable() and char not in "'\\":
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
