"""The file format of checkpoints: exact, atomic, and nothing but what was saved ever comes back."""

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
from d2l_deeprnn.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

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


def summed(archive):
    """The bytes of an archive with the right sum in its comment."""
    body = archive[:-64]
    return body + hashlib.sha256(body).hexdigest().encode()


def archive_of(parts, compression=zipfile.ZIP_STORED):
    """A checkpoint with a right sum around any parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, part in parts:
            archive.writestr(zipfile.ZipInfo(name), part, compress_type=compression)
        archive.comment = b"0" * 64
    return summed(file.getvalue())


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
    data = {"float": 0.1 + 0.2, "int": 2**10000, "none": None, "inf": [math.inf, -math.inf], **DATA}
    save_checkpoint(tmp_path / "c", {}, {**data, "nan": math.nan})
    back = load_checkpoint(tmp_path / "c").data
    assert math.isnan(back.pop("nan")) and back == data


def test_values_come_back_as_the_type_they_were(tmp_path):
    data = {"": {}, "é": [True, 1, 1.0, "1", -0.0, 5e-324, -(2**64)]}
    save_checkpoint(tmp_path / "c", {}, data)
    assert repr(load_checkpoint(tmp_path / "c").data) == repr(data)


def test_the_same_content_makes_the_same_bytes(tmp_path, path):
    turned = dict(reversed(list(ARRAYS.items()))), dict(reversed(list(DATA.items())))
    save_checkpoint(tmp_path / "other", *turned)
    assert (tmp_path / "other").read_bytes() == path.read_bytes()


def test_numpy_and_unzip_can_open_it(path):
    assert np.array_equal(np.load(path)["params/a.weight"], ARRAYS["params/a.weight"])
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_cut_short_anywhere_it_is_refused(path):
    raw = path.read_bytes()
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        refused(path)


def test_with_one_bit_flipped_anywhere_it_is_refused(path):
    raw = path.read_bytes()
    for place in range(len(raw)):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        refused(path)


def test_bytes_at_either_end_are_refused(path):
    raw = path.read_bytes()
    for damaged in (raw + b"0", b"0" + raw):
        path.write_bytes(damaged)
        refused(path)


def test_a_part_of_another_checkpoint_is_named(path, tmp_path):
    other = tmp_path / "other.zip"
    save_checkpoint(other, {name: np.asarray(array + 1) for name, array in ARRAYS.items()}, DATA)
    own, others = parts_of(path), dict(parts_of(other))
    for i, (name, part) in enumerate(own):
        if part == others[name]:
            continue
        path.write_bytes(archive_of([*own[:i], (name, others[name]), *own[i + 1 :]]))
        refused(
            path,
            "checkpoint" if name == "checkpoint.json" else f"part '{name}' is damaged: its sha256",
        )


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda parts: parts[1:], "it lacks part"),
        (lambda parts: [*parts, ("more.npy", b"")], "one part 'more.npy' too many"),
        (lambda parts: [("../evil.npy", b""), *parts], "one part '../evil.npy' too many"),
        (lambda parts: parts[:-1], "part 'checkpoint.json' is damaged"),
        (lambda parts: [*parts[:-1], ("checkpoint.json", b"{")], "checkpoint.json' is damaged"),
        (lambda parts: [*parts[:-1], ("checkpoint.json", b"[" * 10**5)], "is damaged"),
        (lambda parts: [*parts[:-1], ("checkpoint.json", b"{}")], "does not say that it is"),
        (
            lambda parts: [(name, part.replace(b"d2l_", b"d3l_")) for name, part in parts],
            "does not say that it is",
        ),
    ],
)
def test_missing_and_additional_parts_are_named(path, change, words):
    path.write_bytes(archive_of(change(parts_of(path))))
    refused(path, words)


def test_a_part_that_stands_there_twice_is_refused(path):
    parts = parts_of(path)
    with pytest.warns(UserWarning, match="Duplicate"):
        raw = archive_of([*parts, parts[0]])
    path.write_bytes(raw)
    refused(path, "too many")


def test_a_newer_version_says_to_update(path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    save_checkpoint(path, ARRAYS, DATA)
    monkeypatch.undo()
    refused(path, "its version is 2, not 1: update d2l_deeprnn")


def test_compressed_parts_are_refused_before_they_are_read(path):
    path.write_bytes(archive_of([("a.npy", bytes(10**7))], zipfile.ZIP_DEFLATED))
    refused(path, "part 'a.npy' is listed as compressed")


def test_compressed_with_all_else_right_it_is_refused(path):
    path.write_bytes(archive_of(parts_of(path), zipfile.ZIP_DEFLATED))
    refused(path, "is listed as compressed")


def test_the_parts_as_they_were_make_a_checkpoint(path):
    """What the forgeries here are refused for is not how they are put together."""
    path.write_bytes(archive_of(parts_of(path)))
    assert load_checkpoint(path).data == DATA


def forged(part):
    row = {"dtype": "|O", "shape": [1], "sha256": hashlib.sha256(part).hexdigest()}
    manifest = {"format": checkpoint.FORMAT, "version": 1, "data": {}, "arrays": {"a": row}}
    return archive_of([("a.npy", part), ("checkpoint.json", json.dumps(manifest).encode())])


def test_a_pickle_is_never_opened(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)

    file = io.BytesIO()
    np.lib.format.write_array(file, np.array([Evil()], dtype=object))
    for part in (file.getvalue(), pickle.dumps(Evil())):
        (tmp_path / "evil.zip").write_bytes(forged(part))
        refused(tmp_path / "evil.zip", "part 'a.npy' is damaged")
    assert not (tmp_path / "was here").exists()


def test_an_array_larger_than_its_part_is_refused_without_making_room(tmp_path):
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(file, header)
    part = file.getvalue()
    row = {"dtype": "<f8", "shape": [10**15], "sha256": hashlib.sha256(part).hexdigest()}
    manifest = {"format": checkpoint.FORMAT, "version": 1, "data": {}, "arrays": {"a": row}}
    raw = archive_of([("a.npy", part), ("checkpoint.json", json.dumps(manifest).encode())])
    (tmp_path / "c").write_bytes(raw)
    refused(tmp_path / "c", "part 'a.npy' is damaged: its .* bytes are not")


def test_what_is_no_file_is_named(tmp_path):
    refused(tmp_path / "none", "No such file")
    refused(tmp_path, "not a regular file")
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", "it is empty")


def nested(depth):
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    "arrays, data, error, words",
    [
        ({"a": np.array([None])}, {}, ValueError, "array 'a' must hold numbers or booleans"),
        ({"a": [1]}, {}, TypeError, "array 'a' must be a NumPy array, not list"),
        ({"../a": np.zeros(1)}, {}, ValueError, "cannot be called '../a'"),
        ({}, {"x": [{"y": (1,)}]}, TypeError, r"data\['x'\]\[0\]\['y'\] is of type tuple"),
        ({}, {1: 2}, TypeError, "the keys of data must be strings, not 1"),
        ({"a": np.array(["x"])}, {}, ValueError, "array 'a' must hold numbers or booleans"),
        ({"a": np.array([1j])}, {}, ValueError, "array 'a' must hold numbers or booleans"),
        *(
            ({name: np.zeros(1)}, {}, ValueError, "an array cannot be called")
            for name in ("", "/a", "a/", "a//b", ".a", "a/..", "a\\b", "é", "a\n", "a" * 251, 1)
        ),
        ({}, [], TypeError, "data must be a dictionary, not list"),
        ({}, {"x": b""}, TypeError, r"data\['x'\] is of type bytes"),
        ({}, {"x": np.float32(1)}, TypeError, r"data\['x'\] is of type float32"),
        ({}, {"x": -(2**14000)}, ValueError, r"data\['x'\] is an integer of more than"),
        ({}, {"x": nested(101)}, ValueError, "nested deeper than 100"),
    ],
)
def test_what_would_not_come_back_is_not_saved(path, arrays, data, error, words):
    before = path.read_bytes()
    with pytest.raises(error, match=words):
        save_checkpoint(path, arrays, data)
    assert path.read_bytes() == before


@pytest.mark.parametrize("operation", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_keeps_the_old_one(path, monkeypatch, operation, error):
    before = path.read_bytes()

    def fail(*args):
        raise copy.copy(error)  # the error gets the name of this test's file

    monkeypatch.setattr(os, operation, fail)
    with pytest.raises(type(error)) as caught:
        save_checkpoint(path, {}, {})
    if isinstance(error, OSError):
        assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("room", [0, 100, 5000, 100_000])
def test_a_disk_that_fills_up_keeps_the_old_one(path, room):
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


def test_an_interrupt_between_two_parts_keeps_the_old_one(path, monkeypatch):
    before, write = path.read_bytes(), zipfile.ZipFile.writestr

    def write_then_interrupt(*args):
        write(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile.ZipFile, "writestr", write_then_interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, ARRAYS, {})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_a_full_disk_leaves_is_collected_without_a_word(tmp_path):
    """In a process of its own: Python 3.12 crashed here, 3.13 wrote of a BufferError."""
    pytest.importorskip("resource", reason="limits are POSIX's")
    code = """
        import gc, resource
        import numpy as np
        from d2l_deeprnn.training.checkpoint import save_checkpoint

        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        for _ in range(10):
            try:
                save_checkpoint("last.zip", {"a": np.zeros(1000)}, {})
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
