"""Token files: memory-mapped files with the indices of large texts.

They are in the user's cache directory. ``NAME.npy`` is a NumPy array of unsigned integers of 1, 2
or 4 bytes. ``NAME.json`` describes the texts and how they were cleaned, and has the vocabulary and
a checksum. The name depends on the paths of the texts and on how they are cleaned. A token file is
rebuilt if the size or the times of a text have changed.

Only their owner can read token files. They are ignored if another user may have written them.
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

from .._checks import whole_number
from ..errors import CorpusError
from ..files import atomic_file, locked, parse_json, private_directory, remove_leftovers
from .corpora import Source, TextFile, text_chunks, text_files
from .known_texts import cache_directory
from .vocab import Vocab, count_characters

# Texts up to this number of characters are kept in memory; reading them takes less than a second.
IN_MEMORY = 2**22
# Some file systems only store whole seconds. So a file that was changed less than this before it
# was read may change again and keep its times.
GRAIN_SECONDS = 2.0


class Tokens(NamedTuple):
    """A text as indices.

    Attributes:
        indices: the index of each character, in a read-only array. For a large text it is a
            memory-mapped file, of which only the parts in use are read.
        vocab: vocabulary of the indices.
        sha256: SHA-256 of the cleaned text in UTF-8.
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
    """Read a text of any size, or several as one, in little memory.

    The indices and the vocabulary are those of ``load_corpus``. A text of more than 4 million
    characters is read into a token file, which is used again as long as the text does not change.
    If the file cannot be written, a warning says so and the text is kept in memory.

    Args:
        texts, num_examples, lower, fold_whitespace, encoding: as for ``load_corpus``.
        vocab: vocabulary to use; None for that of the text.

    Raises:
        CorpusError: as ``load_corpus``, or if a large text changes while it is read.
        TypeError, ValueError: as ``load_corpus``.
    """
    if num_examples is not None:
        whole_number("num_examples", num_examples)
    files = text_files(texts, encoding)

    def chunks() -> Iterator[str]:
        return text_chunks(files, num_examples, lower=lower, fold_whitespace=fold_whitespace)

    if any(file.is_pipe for file in files):
        return _in_memory(chunks(), vocab)
    cache, started = cache_directory(), time.time()
    request: Dict[str, Any] = {
        "files": [[os.path.abspath(str(file.path)), file.encoding] for file in files],
        "num_examples": None if num_examples is None else int(num_examples),
        "lower": bool(lower),
        "fold_whitespace": bool(fold_whitespace),
        "vocab": None if vocab is None else _digest(vocab.idx_to_token),
        # The version of Unicode decides what is upper case and what is white space.
        "unicode": unicodedata.unidata_version,
    }
    name, request["state"] = _digest(request)[:32], _state(files)
    path = None if cache is None else cache / "tokens" / f"{name}.npy"
    tokens = None if path is None else _read(path, request, vocab)
    if tokens is not None:
        return tokens
    beginning, length = [], 0
    for chunk in chunks():
        beginning.append(chunk)
        length += len(chunk)
        if length > IN_MEMORY:
            break
    else:
        return _in_memory(beginning, vocab)
    reason = "there is no home directory for a cache"
    if path is not None:
        try:
            for directory in (path.parent.parent, path.parent):
                private_directory(directory)
            # Other processes wait here, and then find the file.
            with locked(path.with_suffix(".lock"), mode=0o600, wait=True):
                tokens = _read(path, request, vocab)
                if tokens is None:
                    for place in (path, path.with_suffix(".json")):
                        if place.exists() and not place.is_file():  # a pipe, for instance
                            place.unlink()
                    remove_leftovers(path)
                    tokens = _write(path, request, files, started, chunks, vocab)
                return tokens
        except OSError as error:
            reason = f"{path.parent} cannot be written to ({error.strerror or error})"
    warnings.warn(
        f"{reason}, so the text is kept in memory and read again next time: set XDG_CACHE_HOME to "
        "a directory with space for one to four bytes per character",
        stacklevel=2,
    )
    return _in_memory(chunks(), vocab)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _state(files: Sequence[TextFile]) -> List[List[int]]:
    """Return the size and the modification times of each file, or a sample text's checksum."""
    state = []
    for file in files:
        if file.data is not None:
            state.append([zlib.crc32(file.data), 0, 0])
            continue
        try:
            status = os.stat(str(file.path))
        except OSError as error:
            raise CorpusError(f"{file.name} cannot be read: {error.strerror or error}") from None
        state.append([status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    return state


def _in_memory(chunks: Iterable[str], vocab: Optional[Vocab]) -> Tokens:
    chunks = list(chunks)
    vocab = vocab or Vocab(count_characters(chunks))
    indices = np.concatenate([vocab.encode(chunk).astype(_dtype(vocab)) for chunk in chunks])
    indices.setflags(write=False)
    return Tokens(indices, vocab, hashlib.sha256(b"".join(map(_utf8, chunks))).hexdigest())


def _dtype(vocab: Vocab) -> np.dtype:
    """Return the smallest type of unsigned integers for the indices of a vocabulary."""
    return np.min_scalar_type(len(vocab) - 1)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _write(
    path: Path,
    request: Dict[str, Any],
    files: Sequence[TextFile],
    started: float,
    chunks: Callable[[], Iterator[str]],
    vocab: Optional[Vocab],
) -> Tokens:
    """Write a token file, reading the text twice: to count characters and to encode them."""
    counts = count_characters(chunks())
    length = sum(counts.values())
    vocab = vocab or Vocab(counts)
    dtype = _dtype(vocab)
    sha256, crc, num_written = hashlib.sha256(), 0, 0
    # Not through a memory map: writing to one kills the process if the disk is full.
    with atomic_file(path, mode=0o600) as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks():
            indices = vocab.encode(chunk).astype(dtype)
            file.write(indices.data)
            sha256.update(_utf8(chunk))
            crc = zlib.crc32(indices.data, crc)
            num_written += len(indices)
        if num_written != length or request["state"] != _state(files):
            names = ", ".join(file.name for file in files)
            raise CorpusError(f"{names} changed while being read: wait until it is complete")
    last_change = max(max(times) for _, *times in request["state"]) / 1e9
    if last_change >= started - GRAIN_SECONDS:  # so that the next run reads the text again
        request = {**request, "state": None}
    description = {
        "request": request,
        "characters": [ord(char) for char in vocab.idx_to_token if len(char) == 1],
        "length": length,
        "sha256": sha256.hexdigest(),
    }
    description["checksum"] = _checksum(description, crc)
    with atomic_file(path.with_suffix(".json"), mode=0o600) as file:
        file.write(json.dumps(description).encode())
    return Tokens(_map(path), vocab, sha256.hexdigest())


def _read(path: Path, request: Dict[str, Any], vocab: Optional[Vocab]) -> Optional[Tokens]:
    """Map a token file, or return None if it is missing, damaged, of another text or user."""
    # NumPy and json can raise almost anything for damaged files.
    with contextlib.suppress(Exception):
        for file in (path, path.with_suffix(".json")):
            status = os.lstat(file)
            if status.st_uid != os.getuid() or status.st_mode & 0o022:
                return None
            if not stat.S_ISREG(status.st_mode):  # reading a pipe would block
                return None
        for directory in (path.parent.parent, path.parent):
            private_directory(directory)
        description = parse_json(path.with_suffix(".json").read_bytes())
        checksum = description.pop("checksum")
        if description["request"] != request:
            return None
        if vocab is None:
            vocab = Vocab.from_tokens(["<unk>", *map(chr, description["characters"])])
        indices = _map(path)
        if indices.dtype != _dtype(vocab) or indices.shape != (description["length"],):
            return None
        if checksum != _checksum(description, zlib.crc32(indices.data)):
            return None
        return Tokens(indices, vocab, description["sha256"])
    return None


def _checksum(description: Dict[str, Any], crc_of_indices: int) -> int:
    return zlib.crc32(json.dumps(description, sort_keys=True).encode(), crc_of_indices)


def _map(path: Path) -> np.ndarray:
    """Map the indices in a file; the map stays valid if the file is replaced or removed."""
    return np.asarray(np.load(path, mmap_mode="r"))
