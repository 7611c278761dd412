"""The file that keeps a training: named arrays and JSON values, every byte of it under SHA-256.

A checkpoint is a ZIP archive of parts that are stored as they are, not compressed. Each array is a
part ``NAME.npy``. The last part, ``checkpoint.json``, holds the format's name and version, the
JSON values, and a table of the arrays: for each its dtype, its shape and the SHA-256 of its part.
The archive's comment, the last 64 bytes of the file, is the SHA-256 of all bytes before it.

Nothing is pickled, and to load a checkpoint runs nothing and extracts nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, Mapping, NamedTuple

import numpy as np

from ..errors import D2LError
from ..files import PathLike, atomic_file, user_path

FORMAT, VERSION = "d2l_deeprnn checkpoint", 1

_MANIFEST = "checkpoint.json"
# On any system a plain path below a directory; not even a hidden file.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_NUMBERS = "biuf"  # kinds of dtype: booleans, whole numbers, floating-point numbers
_SUM_BYTES = 64
# Far more than an array of numbers needs. What NumPy reads a header with may crash over a long one,
# and NumPy itself looks at the length only since 1.24.
_HEADER_BYTES = 4096
# Python itself reads integers of at most 4300 digits, which are 14284 bits, since 3.11.
_INTEGER_BITS, _DEPTH = 14_000, 100


class CheckpointError(D2LError, RuntimeError):
    """A checkpoint cannot be loaded; the message says which, what is wrong, and what to do."""


class Checkpoint(NamedTuple):
    """What a checkpoint holds: the arrays by name, and the JSON values."""

    arrays: Dict[str, np.ndarray]
    data: Dict[str, Any]


# Saving.


def save_checkpoint(path: PathLike, arrays: Mapping[str, np.ndarray], data: Dict[str, Any]) -> None:
    """Write a checkpoint in one atomic step.

    The same arrays and values make the same bytes, in whatever order the names come.

    Args:
        path: The file to make or to replace.
        arrays: Arrays of booleans, whole or floating-point numbers, by name. Names are like
            ``params/rnn/l0_i2h_weight``: ASCII letters, digits and ``_.-`` between slashes.
        data: JSON values: None, booleans, integers (of up to 4000 digits), floats, strings,
            lists, and dictionaries with strings for keys. Each comes back equal, floats to the
            last bit. NaN and infinities do too: they are written as ``NaN`` and ``Infinity``,
            which Python reads, though JSON proper does not have them.

    Raises:
        TypeError: If an array is no array, or ``data`` holds what JSON does not have; a tuple is
            refused because it would come back as a list.
        ValueError: If a name, an array's dtype or an integer is none of the above.
        OSError: If the file cannot be written; the old one is then still there.
    """
    for name, array in arrays.items():
        _check_name(name)
        if not isinstance(array, np.ndarray):
            raise TypeError(f"array {name!r} must be a NumPy array, not {type(array).__name__}")
        if array.dtype.kind not in _NUMBERS:
            raise ValueError(f"array {name!r} must hold numbers or booleans, not {array.dtype}")
    if not isinstance(data, dict):
        raise TypeError(f"data must be a dictionary, not {type(data).__name__}")
    _check_json("data", data)
    with atomic_file(user_path(path)) as file:
        _write(file, arrays, data)


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or len(name) > 250 or not _NAME.fullmatch(name):
        raise ValueError(
            f"an array cannot be called {name!r}: use ASCII letters, digits and _.- between "
            "slashes, as in 'params/rnn/l0_i2h_weight', and at most 250 characters"
        )


def _check_json(place: str, value: Any, depth: int = 0) -> None:
    """Refuse what JSON would change or cannot write; ``place`` is how Python would get at it."""
    if depth > _DEPTH:
        raise ValueError(f"data is nested deeper than {_DEPTH} levels, or holds itself")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the keys of {place} must be strings, not {key!r}")
            _check_json(f"{place}[{key!r}]", item, depth + 1)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check_json(f"{place}[{i}]", item, depth + 1)
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        hint = ": make it a list" if isinstance(value, tuple) else ""
        raise TypeError(f"{place} is of type {type(value).__name__}, not a JSON value{hint}")
    elif isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
        raise ValueError(f"{place} is an integer of more than {_INTEGER_BITS} bits")


def _write(file: BinaryIO, arrays: Mapping[str, np.ndarray], data: Dict[str, Any]) -> None:
    table = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            array, buffer = arrays[name], io.BytesIO()
            np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
            # Not a view of it: one that outlives it, in the traceback of a full disk, ends in a
            # BufferError that nobody can catch, or in a crash (Python 3.12).
            part = buffer.getvalue()
            # A ZipInfo of its own keeps the time out of the file.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part)
            table[name] = {
                "dtype": array.dtype.str,
                "shape": list(array.shape),
                "sha256": hashlib.sha256(part).hexdigest(),
            }
        manifest = {"format": FORMAT, "version": VERSION, "data": data, "arrays": table}
        text = json.dumps(manifest, ensure_ascii=False, sort_keys=True)
        # surrogatepass: half a surrogate pair is no character, but a string may hold it.
        archive.writestr(zipfile.ZipInfo(_MANIFEST), text.encode("utf-8", "surrogatepass"))
        archive.comment = bytes(_SUM_BYTES)  # so that its length is part of what is summed
    file.seek(-_SUM_BYTES, os.SEEK_END)
    file.truncate()
    file.seek(0)
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(2**20), b""):
        digest.update(chunk)
    file.write(digest.hexdigest().encode())


# Loading.


def load_checkpoint(path: PathLike) -> Checkpoint:
    """Load a checkpoint, if each byte of it is as it was saved.

    Args:
        path: The file.

    Returns:
        Its arrays and its JSON values.

    Raises:
        CheckpointError: If it is missing, damaged, cut short, of another format or version, or
            in any way not what ``save_checkpoint`` writes.
    """
    file = user_path(path)
    try:
        return _load(file)
    except Exception as error:
        raise _cannot_be_loaded(file, error) from error


def load_data(path: PathLike) -> Dict[str, Any]:
    """Load the JSON values of a checkpoint only, whatever the size of its arrays.

    Args, Raises: As ``load_checkpoint``; damage in the arrays is not noticed.
    """
    file = user_path(path)
    try:
        _check_regular(file)
        with zipfile.ZipFile(file) as archive:
            _check_sizes(archive.infolist(), file.stat().st_size)
            data: Dict[str, Any] = _manifest(archive)["data"]
            return data
    except Exception as error:
        raise _cannot_be_loaded(file, error) from error


def _cannot_be_loaded(path: Path, error: Exception) -> CheckpointError:
    # There is no list of what zipfile, json and NumPy raise over bytes that make no sense.
    return CheckpointError(
        f"checkpoint {path} cannot be loaded: {_reason(error)}; go back to another one, or "
        "train from the start"
    )


def _reason(error: Exception) -> str:
    """Return an error's words in one line, however much of a damaged file they quote."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(words.split())[:600]


def _check_regular(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise ValueError("it is not a regular file")


def _load(path: Path) -> Checkpoint:
    _check_regular(path)
    # Read once, so that the bytes that are checked are those that are used.
    raw = path.read_bytes()
    if not zipfile.is_zipfile(io.BytesIO(raw)):
        raise ValueError("it is cut short, or was never a checkpoint" if raw else "it is empty")
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        _check_sizes(archive.infolist(), len(raw))
        manifest = _manifest(archive)
        table = manifest["arrays"]
        listed = Counter(archive.namelist())
        expected = Counter([_MANIFEST, *(f"{name}.npy" for name in table)])
        for name in expected - listed:
            raise ValueError(f"it lacks part {name!r}")
        for name in listed - expected:
            raise ValueError(f"it has one part {name!r} too many")
        arrays = {name: _read_array(archive, f"{name}.npy", row) for name, row in table.items()}
        comment = archive.comment
    # Last, because a damaged part makes a better message.
    found = hashlib.sha256(memoryview(raw)[:-_SUM_BYTES]).hexdigest()
    if comment != raw[-_SUM_BYTES:] or comment != found.encode():
        raise ValueError(f"its SHA-256 is {found}, but {comment[:100]!r} is written at its end")
    return Checkpoint(arrays, manifest["data"])


def _check_sizes(parts: List[zipfile.ZipInfo], size: int) -> None:
    """Make sure that the parts take no more memory than the file."""
    for part in parts:
        # Bit 0 is encryption.
        if part.compress_type or part.compress_size != part.file_size or part.flag_bits & 1:
            raise ValueError(f"part {part.filename!r} is listed as compressed or encrypted")
    # Parts may lie over each other.
    if sum(part.file_size for part in parts) > size:
        raise ValueError("its parts are listed with more bytes than it has")


def _manifest(archive: zipfile.ZipFile) -> Dict[str, Any]:
    with _blaming(_MANIFEST):
        manifest = json.loads(archive.read(_MANIFEST))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"part {_MANIFEST!r} does not say that it is a {FORMAT}")
    version = manifest.get("version")
    if version != VERSION:
        raise ValueError(
            f"its version is {version!r}, not {VERSION}: update d2l_deeprnn to load it"
        )
    with _blaming(_MANIFEST):
        if manifest.keys() != {"format", "version", "data", "arrays"}:
            raise ValueError(f"it holds {sorted(manifest)}")
        data, table = manifest["data"], manifest["arrays"]
        if not all(isinstance(item, dict) for item in [data, table, *dict(table).values()]):
            raise ValueError("its data or its table of arrays is no dictionary")
        for name in table:
            _check_name(name)
    checked: Dict[str, Any] = manifest
    return checked


@contextlib.contextmanager
def _blaming(part: str) -> Iterator[None]:
    """Say of whatever is raised which part it is about."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"part {part!r} is damaged: {_reason(error)}") from error


def _read_array(archive: zipfile.ZipFile, name: str, row: Dict[str, Any]) -> np.ndarray:
    with _blaming(name):
        part = archive.read(name)
        _check_row(row, "sha256", hashlib.sha256(part).hexdigest())
        file = io.BytesIO(part)
        length = int.from_bytes(part[8:10], "little")
        if np.lib.format.read_magic(file) != (1, 0) or length > _HEADER_BYTES:
            raise ValueError(f"its header is too long ({length} bytes), or not of NPY version 1.0")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.kind not in _NUMBERS:
            raise ValueError(f"it holds {dtype}, not numbers or booleans")
        _check_row(row, "dtype", dtype.str)
        _check_row(row, "shape", list(shape))
        # NumPy would first make room for what is declared, and then look for it.
        if math.prod(shape) * dtype.itemsize != len(part) - file.tell():
            raise ValueError(f"its {len(part)} bytes are not {dtype} of shape {shape}")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def _check_row(row: Dict[str, Any], key: str, found: Any) -> None:
    """Compare what was found in a part with the array's row in the table."""
    if row.get(key) != found:
        raise ValueError(f"its {key} is {found}, expected {row.get(key)}")
