"""Texts of any size: read into a file of token indices, which is mapped into memory.

A token file lies in the user's cache directory, under a name that follows from the paths of the
texts and from how they are cleaned: ``NAME.npy`` is an array as NumPy saves it, in unsigned
integers of 1, 2 or 4 bytes, and ``NAME.json`` describes what was read, with the vocabulary and a
checksum. It is made anew if a text has changed since.

Only its user can read a token file. A file that another user owns or can write to is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
import unicodedata
import warnings
import zlib
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Union,
)

import numpy as np

from .._checks import positive_int
from ..files import (
    InUse,
    atomic_file,
    check_private,
    locked,
    parse_json,
    private_directory,
    remove_leftovers,
)
from .corpora import CorpusError, Source, TextFile, cache_directory, text_files, text_pieces
from .vocab import Vocab, count_characters

# A text of up to so many characters is kept in memory; reading it takes less than a second.
IN_MEMORY = 2**22
# A file that was changed so shortly before it was read may change again without its times showing
# it: some file systems count in seconds.
GRAIN_SECONDS = 2.0


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
    unless a file of it has changed since. If that file cannot be written, a warning says so, and
    the text is kept in memory.

    Args:
        texts, num_examples, lower, fold_whitespace, encoding: As for ``load_corpus``.
        vocab: The vocabulary that the indices are to be of; that of the text if None.

    Raises:
        CorpusError: As ``load_corpus``, and if a large text changes while it is read.
        TypeError, ValueError: As ``load_corpus``.
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
        # It decides what is a capital letter or white space.
        "unicode": unicodedata.unidata_version,
    }
    if directory is not None:
        path = directory / "tokens" / f"{_digest(request)[:32]}.npy"
        tokens = _read(path, request, state, vocab)
        if tokens is not None:
            return tokens
    beginning, length = [], 0
    for piece in pieces():
        beginning.append(piece)
        length += len(piece)
        if length > IN_MEMORY:
            break
    else:
        return _in_memory(beginning, vocab)
    if directory is None:
        _warn("there is no home directory for a cache")
        return _in_memory(pieces(), vocab)
    try:
        return _read_or_make(
            path,
            lambda: _read(path, request, state, vocab),
            lambda: _make(path, request, files, state, started, pieces, vocab),
        )
    except OSError as error:
        _warn(f"{path.parent} cannot be written to ({error.strerror or error})")
    return _in_memory(pieces(), vocab)


def _warn(reason: str) -> None:
    warnings.warn(
        f"{reason}, so the text is kept in memory and read again next time: set XDG_CACHE_HOME to "
        "a directory with room for one to four bytes per character",
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


def _in_memory(pieces: Iterable[str], vocab: Optional[Vocab]) -> Tokens:
    text = list(pieces)
    vocab = vocab or Vocab(count_characters(text))
    indices = np.concatenate([vocab.encode(piece).astype(_type_of(vocab)) for piece in text])
    indices.setflags(write=False)
    return Tokens(indices, vocab, hashlib.sha256(b"".join(map(_utf8, text))).hexdigest())


def _type_of(vocab: Vocab) -> np.dtype:
    """The smallest type of unsigned integers that holds all indices of a vocabulary."""
    return np.min_scalar_type(len(vocab) - 1)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _read_or_make(
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
    pieces: Callable[[], Iterator[str]],
    vocab: Optional[Vocab],
) -> Tokens:
    """Read a text twice: to count its characters, and to encode them."""
    counts = count_characters(pieces())
    length = sum(counts.values())
    vocab = vocab or Vocab(counts)
    dtype = _type_of(vocab)
    sha256, checksum, written = hashlib.sha256(), 0, 0
    # Not a map that is written to: when the disk is full, that would kill the process.
    with atomic_file(path, mode=0o600) as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces():
            indices = vocab.encode(piece).astype(dtype)
            file.write(indices.data)
            sha256.update(_utf8(piece))
            checksum = zlib.crc32(indices.data, checksum)
            written += len(indices)
        if written != length or state != _state(files):
            names = ", ".join(file.name for file in files)
            raise CorpusError(f"{names} changed while being read: wait until it is complete")
    # A text that was changed just before it was read may have changed while it was.
    latest = max(max(times) for _, *times in state) / 1e9
    description = {
        "request": request,
        "state": state if latest < started - GRAIN_SECONDS else None,
        "characters": [ord(char) for char in vocab.idx_to_token if len(char) == 1],
        "length": length,
        "sha256": sha256.hexdigest(),
    }
    description["checksum"] = _checksum(description, checksum)
    with atomic_file(path.with_suffix(".json"), mode=0o600) as file:
        file.write(json.dumps(description).encode())
    return Tokens(_map(path), vocab, sha256.hexdigest())


def _read(
    path: Path, request: Dict[str, Any], state: List[List[int]], vocab: Optional[Vocab]
) -> Optional[Tokens]:
    """Map a token file; None if it is missing, damaged, another text's, or not this user's."""
    # There is no list of what NumPy and json raise for damaged files.
    with contextlib.suppress(Exception):
        for directory in (path.parent.parent, path.parent):
            check_private(directory)
        for file in (path, path.with_suffix(".json")):
            found = os.lstat(file)
            if found.st_uid != os.getuid() or found.st_mode & 0o022:  # anybody may have written it
                return None
            if not stat.S_ISREG(found.st_mode):  # a pipe would block
                return None
        description = parse_json(path.with_suffix(".json").read_bytes())
        checksum = description.pop("checksum")
        if description["request"] != request or description["state"] != state:
            return None
        if vocab is None:
            vocab = Vocab.from_tokens(["<unk>", *map(chr, description["characters"])])
        indices = _map(path)
        if indices.dtype != _type_of(vocab) or indices.shape != (description["length"],):
            return None
        if checksum != _checksum(description, zlib.crc32(indices.data)):
            return None
        return Tokens(indices, vocab, description["sha256"])
    return None


def _checksum(description: Dict[str, Any], checksum_of_indices: int) -> int:
    """The checksum of a token file: of its description, and of its indices."""
    return zlib.crc32(json.dumps(description, sort_keys=True).encode(), checksum_of_indices)


def _map(path: Path) -> np.ndarray:
    """Map the indices in a file; the map stays when the file is replaced or removed."""
    return np.asarray(np.load(path, mmap_mode="r"))
