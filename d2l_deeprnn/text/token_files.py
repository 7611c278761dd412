"""Texts of any size: read once into a file of token indices, from then on mapped into memory.

A token file lies in the user's cache directory, under a name that follows from the paths of the
texts and from how they are cleaned. In it stands what size and times the texts had, so that it is
made anew when one of them has changed.

Only its user can read a token file. A file that another user owns or can write to is not used.

    16 bytes      what file it is
    the indices   unsigned integers of 1, 2 or 4 bytes
    a JSON object what was read, and the vocabulary, length and checksum of the indices
    16 bytes      length and checksum of the JSON object
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import mmap
import os
import struct
import sys
import time
import unicodedata
import warnings
import zlib
from pathlib import Path
from typing import (
    Any,
    BinaryIO,
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np

from .._checks import known_indices, positive_int
from ..files import (
    InUse,
    atomic_file,
    check_private,
    locked,
    private_directory,
    remove_leftovers,
)
from .corpora import CorpusError, Source, TextFile, cache_directory, text_files, text_pieces
from .tokenizer import Numbering, join, smallest_type
from .vocab import Vocab

# A text of up to so many characters is kept in memory; reading it takes less than a second.
IN_MEMORY = 2**22
# Indices that are worked on at a time.
PIECE = 2**20
# A file that was changed so shortly before it was read may change again without its times showing
# it: some file systems count in seconds.
GRAIN_SECONDS = 2.0

_MAGIC = b"d2l_deeprnn 1\n\0\0"
_END = struct.Struct("<QQ")


class Tokens(NamedTuple):
    """A text as indices.

    Attributes:
        indices: of its characters, in order: an array that cannot be written to. That of a large
            text is a map of a file, of which only what is used is read.
        vocab: the vocabulary that the indices are of.
        sha256: that of the cleaned text in UTF-8.
    """

    indices: np.ndarray
    vocab: Vocab
    sha256: str


def read_tokens(
    texts: Union[Source, Sequence[Source]],
    num_examples: Optional[int] = None,
    *,
    lower: bool = True,
    fold_whitespace: bool = True,
    encoding: Optional[str] = None,
    vocab: Optional[Vocab] = None,
) -> Tokens:
    """Read a text, or several as one, in little memory, whatever its size.

    The indices and the vocabulary are those that ``load_corpus`` gives. A text of more than 4
    million characters is read into a file in the cache directory, where it is found the next time,
    unless a file of it has changed since. Where that file cannot be written, a warning says so,
    and the text is kept in memory.

    Args:
        texts, num_examples, lower, fold_whitespace, encoding: As for ``load_corpus``.
        vocab: The vocabulary that the indices are to be of; that of the text if None.

    Raises:
        CorpusError, TypeError, ValueError: As ``load_corpus``.
    """
    if num_examples is not None:
        positive_int("num_examples", num_examples)
    files = text_files(texts, encoding)

    def pieces() -> Iterator[str]:
        return text_pieces(files, num_examples, lower=lower, fold_whitespace=fold_whitespace)

    if any(file.is_pipe for file in files):
        return _in_memory(pieces(), vocab)
    directory, started, state = cache_directory(), time.time(), _state(files)
    request = {
        "files": [[os.path.abspath(str(file.path)), file.encoding] for file in files],
        "num_examples": None if num_examples is None else int(num_examples),
        "lower": bool(lower),
        "fold_whitespace": bool(fold_whitespace),
        "vocab": None if vocab is None else _digest(vocab.idx_to_token),
        # They decide what is a capital letter or white space, and what a number's bytes are.
        "unicode": unicodedata.unidata_version,
        "byteorder": sys.byteorder,
    }
    if directory is not None:
        path = directory / "tokens" / f"{_digest(request)[:32]}.tokens"
        found = _read(path, request, state, vocab)
        if found is not None:
            return found
    text = pieces()
    beginning: List[str] = []
    length = 0
    for piece in text:
        beginning.append(piece)
        length += len(piece)
        if length > IN_MEMORY:
            break
    text = itertools.chain(beginning, text)
    if length <= IN_MEMORY:
        return _in_memory(text, vocab)
    if directory is None:
        _warn("there is no home directory for a cache")
        return _in_memory(text, vocab)
    try:
        return _found_or_made(
            path,
            lambda: _read(path, request, state, vocab),
            lambda: _make(path, request, files, state, started, text, vocab),
        )
    except OSError as error:
        _warn(f"{path.parent} cannot be written to ({error.strerror or error})")
    return _in_memory(pieces(), vocab)


def _warn(reason: str) -> None:
    warnings.warn(
        f"{reason}, so the text is kept in memory and is read again at the next start: set "
        "XDG_CACHE_HOME to a directory with room for one to four bytes a character",
        stacklevel=3,
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _state(files: Sequence[TextFile]) -> List[List[int]]:
    """Return the size of each file, and when its content and anything about it last changed.

    A sample text has a checksum instead.
    """
    state = []
    for file in files:
        if file.data is not None:
            state.append([zlib.crc32(file.data), 0, 0])
            continue
        try:
            found = os.stat(str(file.path))
        except OSError as error:
            raise CorpusError(f"{file.name} cannot be read: {error.strerror or error}") from None
        state.append([found.st_size, found.st_mtime_ns, found.st_ctime_ns])
    return state


class _Encoder:
    """Encodes a text in one pass, and sums it up.

    Without a vocabulary it gives numbers, of which ``index_of`` is to make indices at the end.
    """

    def __init__(self, vocab: Optional[Vocab]) -> None:
        self._vocab = vocab
        self._numbering = Numbering()
        self._sha256 = hashlib.sha256()

    def add(self, piece: str) -> np.ndarray:
        """Encode the next piece."""
        self._sha256.update(piece.encode("utf-8", "surrogatepass"))
        if self._vocab is None:
            return self._numbering.add(piece)
        return self._vocab.encode(piece).astype(smallest_type(len(self._vocab) - 1))

    def end(self) -> Tuple[Vocab, Optional[np.ndarray], str]:
        """The vocabulary, the index of each number, and the SHA-256."""
        if self._vocab is not None:
            return self._vocab, None, self._sha256.hexdigest()
        vocab = self._numbering.vocab()
        return vocab, self._numbering.indices(vocab), self._sha256.hexdigest()


def _in_memory(text: Iterator[str], vocab: Optional[Vocab]) -> Tokens:
    encoder = _Encoder(vocab)
    pieces = [encoder.add(piece) for piece in text]
    vocab, index_of, sha256 = encoder.end()
    indices = join(pieces, index_of, smallest_type(len(vocab) - 1))
    return Tokens(known_indices(indices, len(vocab)), vocab, sha256)


def _found_or_made(
    path: Path, find: Callable[[], Optional[Tokens]], make: Callable[[], Tokens]
) -> Tokens:
    """Make a token file, or wait for the process that is making it.

    Raises:
        OSError: If it cannot be written.
    """
    for directory in (path.parent.parent, path.parent):
        private_directory(directory)
    while True:
        try:
            with locked(path.with_suffix(".lock"), mode=0o600):
                found = find()
                if found is not None:
                    return found
                remove_leftovers(path)
                return make()
        except InUse:
            time.sleep(0.1)


def _make(
    path: Path,
    request: Dict[str, Any],
    files: Sequence[TextFile],
    state: List[List[int]],
    started: float,
    text: Iterator[str],
    vocab: Optional[Vocab],
) -> Tokens:
    encoder = _Encoder(vocab)
    dtype, length = np.dtype(np.uint8), 0
    with atomic_file(path, mode=0o600) as file:
        file.write(_MAGIC)
        for piece in text:
            numbers = encoder.add(piece)
            if numbers.dtype != dtype:
                _widen(file, length, dtype, numbers.dtype)
                dtype = numbers.dtype
            file.write(numbers.data)
            length += len(numbers)
        vocab, index_of, sha256 = encoder.end()
        checksum = _replace_by_indices(file, length, dtype, index_of)
        # What may have changed while it was read, or just before, is read again the next time.
        latest = max(max(times) for _, *times in state) / 1e9
        settled = latest < started - GRAIN_SECONDS and state == _state(files)
        description = json.dumps(
            {
                "request": request,
                "state": state if settled else None,
                "characters": [ord(char) for char in vocab.idx_to_token if len(char) == 1],
                "type": dtype.name,
                "length": length,
                "checksum": checksum,
                "sha256": sha256,
            }
        ).encode()
        file.write(description)
        file.write(_END.pack(len(description), zlib.crc32(description)))
        file.flush()
        indices = _map(file, dtype, length)
    return Tokens(known_indices(indices, len(vocab)), vocab, sha256)


def _widen(file: BinaryIO, length: int, dtype: np.dtype, wider: np.dtype) -> None:
    """Turn the numbers at the end of a file into wider ones, the last first."""
    for begin, end in reversed(_cuts(length)):
        file.seek(len(_MAGIC) + begin * dtype.itemsize)
        numbers = np.frombuffer(file.read((end - begin) * dtype.itemsize), dtype)
        file.seek(len(_MAGIC) + begin * wider.itemsize)
        file.write(numbers.astype(wider).data)
    file.seek(0, os.SEEK_END)


def _replace_by_indices(
    file: BinaryIO, length: int, dtype: np.dtype, index_of: Optional[np.ndarray]
) -> int:
    """Put indices in place of the numbers in a file; give their checksum."""
    checksum = 0
    for begin, end in _cuts(length):
        place = len(_MAGIC) + begin * dtype.itemsize
        file.seek(place)
        indices = np.frombuffer(file.read((end - begin) * dtype.itemsize), dtype)
        if index_of is not None:
            indices = index_of[indices]
            file.seek(place)
            file.write(indices.data)
        checksum = zlib.crc32(indices.data, checksum)
    file.seek(0, os.SEEK_END)
    return checksum


def _cuts(length: int) -> List[Tuple[int, int]]:
    return [(begin, min(begin + PIECE, length)) for begin in range(0, length, PIECE)]


def _read(
    path: Path, request: Dict[str, Any], state: List[List[int]], vocab: Optional[Vocab]
) -> Optional[Tokens]:
    """Map a token file; None if it is missing, damaged, another text's, or not this user's."""
    with contextlib.suppress(OSError, ValueError, struct.error), _opened(path) as file:
        found = os.fstat(file.fileno())
        if found.st_uid != os.getuid() or found.st_mode & 0o022:  # anybody may have written it
            return None
        if file.read(len(_MAGIC)) != _MAGIC:
            return None
        size = found.st_size
        file.seek(size - _END.size)
        length, checksum = _END.unpack(file.read())
        file.seek(size - _END.size - length)
        description = file.read(length)
        if zlib.crc32(description) != checksum:
            return None
        # From here on it is known to be what was written.
        described = json.loads(description)
        if described["request"] != request or described["state"] != state:
            return None
        dtype = np.dtype(described["type"])
        num_bytes = described["length"] * dtype.itemsize
        if size != len(_MAGIC) + num_bytes + length + _END.size:
            return None
        file.seek(len(_MAGIC))
        checksum = 0
        for begin in range(0, num_bytes, PIECE):
            checksum = zlib.crc32(file.read(min(PIECE, num_bytes - begin)), checksum)
        if checksum != described["checksum"]:
            return None
        if vocab is None:
            vocab = Vocab.from_tokens(["<unk>", *map(chr, described["characters"])])
        indices = _map(file, dtype, described["length"])
        return Tokens(known_indices(indices, len(vocab)), vocab, described["sha256"])
    return None


def _opened(path: Path) -> BinaryIO:
    """Open a token file in the cache, whose directories must be private."""
    for directory in (path.parent.parent, path.parent):
        check_private(directory)
    return open(path, "rb")


def _map(file: BinaryIO, dtype: np.dtype, length: int) -> np.ndarray:
    """Map the indices in a file; the map stays when the file is closed, replaced or removed."""
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, dtype, length, len(_MAGIC))
