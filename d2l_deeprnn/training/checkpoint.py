"""Checkpoint files: named arrays and JSON values with a SHA-256 checksum.

A checkpoint is an archive like those of ``numpy.savez``: ``numpy.load`` and ``unzip`` can open it.
An additional part, ``checkpoint.json``, has the format's name and version, and the JSON values.
The archive's comment, the last 64 bytes of the file, is the SHA-256 of all bytes before it.

Nothing is pickled, so loading a checkpoint runs no code.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Dict, Mapping, NamedTuple

import numpy as np

from ..errors import D2LError
from ..files import atomic_file, parse_json

# Version 1 (up to 0.3.0) also had a table of the arrays in checkpoint.json.
FORMAT, VERSION, READABLE = "d2l_deeprnn checkpoint", 2, (1, 2)

_MANIFEST = "checkpoint.json"
_NUMBERS = "biuf"  # kinds of dtype: booleans, integers, floating-point numbers
_SUM_BYTES = 64
# Far more than an array of numbers needs. Python's parser may crash on a long header, and NumPy
# before 1.24 does not check its length.
_HEADER_BYTES = 4096


class CheckpointError(D2LError, RuntimeError):
    """A checkpoint cannot be loaded; the message names the file, the reason and a remedy."""


class Checkpoint(NamedTuple):
    """The contents of a checkpoint: arrays by name, and JSON values."""

    arrays: Dict[str, np.ndarray]
    data: Dict[str, Any]


def save_checkpoint(path: Path, arrays: Mapping[str, np.ndarray], data: Dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    The same arrays and values in the same order give the same bytes.

    Args:
        path: file to create or replace.
        arrays: arrays of booleans, integers or floating-point numbers, by names such as
            ``params/rnn/l0_i2h_weight``.
        data: JSON values, which include NaN and infinities. Floats are kept to the last bit.

    Raises:
        OSError: if the file cannot be written; the old one is kept.
    """
    manifest = {"format": FORMAT, "version": VERSION, "data": data}
    with atomic_file(path) as file:
        # Not numpy.savez: on a full disk it leaves its archive open, and Python prints another
        # error.
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                part = io.BytesIO()
                np.save(part, array, allow_pickle=False)
                # A ZipInfo without a date, so that equal checkpoints have equal bytes.
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue())
            archive.writestr(zipfile.ZipInfo(_MANIFEST), json.dumps(manifest))
            archive.comment = bytes(_SUM_BYTES)  # the checksum covers the length of the comment
        file.seek(-_SUM_BYTES, os.SEEK_END)
        file.truncate()
        file.write(_sha256(file, file.tell()).encode())


def _sha256(file: BinaryIO, size: int) -> str:
    """Read bytes from the beginning of a file; return their SHA-256."""
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0:
        chunk = file.read(min(size, 2**20))
        if not chunk:
            break
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint and verify its checksum.

    Raises:
        CheckpointError: if it is missing, damaged, cut short, of another format or version, or
            was not written by ``save_checkpoint``.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a regular file")
        with path.open("rb") as file:
            return _parse(file)
    except Exception as error:  # zipfile, json and NumPy can raise almost anything on forged input
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        # One line, even if the reason quotes much of a forged file.
        raise CheckpointError(
            f"checkpoint {path} cannot be loaded: {' '.join(reason.split())[:600]}: use another "
            "checkpoint, or train from scratch"
        ) from error


def _parse(file: BinaryIO) -> Checkpoint:
    size = os.fstat(file.fileno()).st_size
    if not size:
        raise ValueError("it is empty")
    # Checked before anything of the file's size is in memory: a stranger's file may be huge.
    digest = _sha256(file, size - _SUM_BYTES)
    if file.read(_SUM_BYTES + 1) != digest.encode():
        raise ValueError("it is damaged or cut short (its SHA-256 is wrong), or not a checkpoint")
    with zipfile.ZipFile(file) as archive:
        # Forged parts could overlap, or be compressed a thousandfold.
        if sum(part.file_size for part in archive.infolist()) > size:
            raise ValueError("its parts have more bytes than the file")
        data = _data(archive.read(_MANIFEST))
        parts = [part for part in archive.namelist() if part != _MANIFEST]
        arrays = {part[: -len(".npy")]: _array(part, archive.read(part)) for part in parts}
    return Checkpoint(arrays, data)


def _data(part: bytes) -> Dict[str, Any]:
    manifest = parse_json(part)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"its {_MANIFEST} is not that of a {FORMAT}")
    if manifest.get("version") not in READABLE:
        raise ValueError(
            f"its version is {manifest.get('version')!r}; this d2l_deeprnn reads "
            f"{' and '.join(map(str, READABLE))}: update it"
        )
    data = manifest.get("data")
    if not isinstance(data, dict):
        raise ValueError(f"its {_MANIFEST} has no data")
    return data


def _array(name: str, part: bytes) -> np.ndarray:
    try:
        file = io.BytesIO(part)
        length = int.from_bytes(part[8:10], "little")
        if np.lib.format.read_magic(file) != (1, 0) or length > _HEADER_BYTES:
            raise ValueError("its header does not describe an array of numbers")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        # NumPy would allocate the declared size before it reads.
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in _NUMBERS or size != len(part) - file.tell():
            raise ValueError(f"its {len(part)} bytes do not fit {dtype} of shape {shape}")
        array: np.ndarray = np.load(io.BytesIO(part), allow_pickle=False)
        return array
    except Exception as error:
        raise ValueError(f"its part {name!r} is not an array: {error}") from error
