"""The checkpoint format: exact, atomic, and safe against damaged or forged files."""

import copy
import errno
import hashlib
import io
import json
import math
import os
import pickle
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest

from d2l_deeprnn.training import checkpoint
from d2l_deeprnn.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)

ARRAYS = {
    "params/a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "state/0": np.array(True),
    "optimizer/0/1": np.zeros((0, 3)),
}
DATA = {"epoch": 3, "loss": 0.1, "vocab": ["<unk>", "é", "\U0001f600", "\ud800"]}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "last.zip"
    save_checkpoint(path, ARRAYS, DATA)
    return path


def archive_of(parts, compression=zipfile.ZIP_STORED):
    """Return a checkpoint with any parts and the right checksum."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, part in parts:
            archive.writestr(zipfile.ZipInfo(name), part, compress_type=compression)
        archive.comment = b"0" * 64
    body = file.getvalue()[:-64]
    return body + hashlib.sha256(body).hexdigest().encode()


def parts_of(path):
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def refused(path, words="cannot be loaded"):
    with pytest.raises(CheckpointError, match=words) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "array",
    [
        np.array([0.1, -0.0, math.inf, math.nan], dtype=np.float32),
        np.array([0.1, 1e-320]),
        np.array([[2**62, -1]]),
        np.array([255], dtype=np.uint8),
        np.array([True, False]),
        np.array(7.5),
        np.zeros((2, 0, 3), dtype=np.float32),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12).reshape(3, 4)[::2, ::-1],
        np.array([1, 256], dtype=">i2"),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_come_back_to_the_bit(tmp_path, array):
    save_checkpoint(tmp_path / "c", {"a": array}, {})
    back = load_checkpoint(tmp_path / "c").arrays["a"]
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_values_come_back_equal(tmp_path):
    values = [0.1 + 0.2, -0.0, 5e-324, math.inf, -math.inf, math.nan, 2**900, 1, True, "1", None]
    data = {"": {}, "values": values, **DATA}
    save_checkpoint(tmp_path / "c", {}, data)
    assert repr(load_checkpoint(tmp_path / "c").data) == repr(data)


def test_the_same_content_makes_the_same_bytes(tmp_path, path):
    save_checkpoint(tmp_path / "other", ARRAYS, DATA)
    assert (tmp_path / "other").read_bytes() == path.read_bytes()


def test_numpy_and_unzip_can_open_it(path):
    assert np.array_equal(np.load(path)["params/a.weight"], ARRAYS["params/a.weight"])
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment == path.read_bytes()[-64:]  # nothing lies behind the checksum


def test_a_file_that_is_cut_short_or_longer_is_refused(path):
    raw = path.read_bytes()
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        refused(path)
    for damaged in (raw + b"0", b"0" + raw):
        path.write_bytes(damaged)
        refused(path)


def test_a_file_with_a_flipped_bit_is_refused(path):
    raw = path.read_bytes()
    for i in range(len(raw)):
        damaged = bytearray(raw)
        damaged[i] ^= 1 << i % 8
        path.write_bytes(damaged)
        refused(path)


# Forged files with the right checksum ---------------------------------------------------------


def array_part(shape, descr="<f8", numbers=b"", version=1, padding=1):
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}) + " " * padding + "\n"
    length = len(header).to_bytes(2, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + numbers


def test_a_checkpoint_can_be_forged(path):
    """So the tests below fail only because of the change that they make."""
    more = ("more.npy", array_part((1,), numbers=bytes(8)))
    path.write_bytes(archive_of([*parts_of(path), more]))
    loaded = load_checkpoint(path)
    assert loaded.data == DATA and loaded.arrays["more"].tolist() == [0.0]


@pytest.mark.parametrize(
    "manifest, words",
    [
        (None, "no item named 'checkpoint.json'"),
        (b"{", "cannot be loaded"),
        (b"[" * 10**5, "cannot be loaded"),
        (b"{}", "is not that of a d2l_deeprnn checkpoint"),
        (
            {"version": 2, "data": {}, "format": "another"},
            "is not that of a d2l_deeprnn checkpoint",
        ),
        ({"version": 3, "data": {}}, "its version is 3; this d2l_deeprnn reads 1 and 2: update it"),
        ({"version": 2, "data": []}, "has no data"),
        ({"version": 2}, "has no data"),
    ],
)
def test_an_invalid_manifest_is_refused(path, manifest, words):
    parts = parts_of(path)[:-1]
    if isinstance(manifest, dict):
        manifest = json.dumps({"format": checkpoint.FORMAT, **manifest}).encode()
    if manifest is not None:
        parts.append(("checkpoint.json", manifest))
    path.write_bytes(archive_of(parts))
    refused(path, words)


def test_a_compressed_archive_is_refused_before_it_is_read(path, monkeypatch):
    path.write_bytes(archive_of([("a.npy", bytes(10**7)), *parts_of(path)], zipfile.ZIP_DEFLATED))
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    refused(path, "its parts have more bytes than the file")


def test_parts_that_overlap_are_refused(path):
    """A thousand entries in the archive's directory share the bytes of one part."""
    file = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(file, "a") as archive:
        first = archive.getinfo("params/a.weight.npy")
        for i in range(1000):
            again = copy.copy(first)
            again.filename = f"{i}.npy"
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
        archive.comment = b"0" * 64  # so that the directory is rewritten
    body = file.getvalue()[:-64]
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode())
    refused(path, "its parts have more bytes than the file")


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"PK",
        array_part((1,)),
        array_part((1,), numbers=bytes(16)),
        array_part((10**15,), numbers=bytes(8)),
        array_part((2**62, 4), numbers=bytes(8)),  # overflows to 0 in 64 bits
        array_part((1,), numbers=bytes(8), version=2),
        array_part((1,), descr="<U2", numbers=bytes(8)),
        array_part((1,), numbers=bytes(8), padding=5000),
    ],
)
def test_a_part_that_is_not_an_array_is_refused(path, part, monkeypatch):
    path.write_bytes(archive_of([*parts_of(path), ("more.npy", part)]))
    load = np.load

    def load_others(file, **how):
        assert file.getvalue() != part, "it would allocate what the header declares"
        return load(file, **how)

    monkeypatch.setattr(np, "load", load_others)
    refused(path, "its part 'more.npy' is not an array: (?!it would)")


def test_a_pickle_is_never_opened(path, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)

    file = io.BytesIO()
    np.lib.format.write_array(file, np.array([Evil()], dtype=object))
    parts = parts_of(path)
    for part in (file.getvalue(), pickle.dumps(Evil())):
        path.write_bytes(archive_of([("evil.npy", part), *parts]))
        refused(path, "its part 'evil.npy' is not an array")
    assert not (tmp_path / "was here").exists()


def test_a_missing_or_irregular_file_is_named(tmp_path):
    refused(tmp_path / "none", "No such file")
    refused(tmp_path, "not a regular file")
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", "it is empty")


@pytest.mark.parametrize("room", [0, 100_000])
def test_a_full_disk_keeps_the_old_file(path, room):
    resource = pytest.importorskip("resource", reason="limits are POSIX's")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OSError) as caught:
            save_checkpoint(path, {"a": np.zeros(10_000), "b": np.zeros(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_interrupt_between_two_parts_keeps_the_old_file(path, monkeypatch):
    before, write = path.read_bytes(), zipfile.ZipFile.writestr

    def write_then_interrupt(*args):
        write(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile.ZipFile, "writestr", write_then_interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, ARRAYS, {})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_error_from_a_full_disk_is_garbage_collected_silently(tmp_path):
    """Python 3.12 crashed here, and 3.13 printed a BufferError."""
    pytest.importorskip("resource", reason="limits are POSIX's")
    code = """
        import gc, pathlib, resource
        import numpy as np
        from d2l_deeprnn.training.checkpoint import save_checkpoint

        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        for _ in range(10):
            try:
                save_checkpoint(pathlib.Path("last.zip"), {"a": np.zeros(1000)}, {})
            except OSError as error:
                cycle = [error]
            cycle.append(cycle)
        del cycle
        gc.collect()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=str(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
