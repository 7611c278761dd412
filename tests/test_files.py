"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from d2l_deeprnn import files


def test_written_as_given(tmp_path):
    path = tmp_path / "a.csv"
    files.write_text(path, "é\r\n1\n")
    assert path.read_bytes() == "é\r\n1\n".encode()
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.csv"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_others_may_read_it_as_any_file_of_the_user(tmp_path):
    (tmp_path / "plain").write_text("")
    files.write_text(tmp_path / "ours", "")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch, step, error):
    path = tmp_path / "a"
    path.write_text("old")

    def fail(*args):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_leftovers_of_exactly_that_file_are_removed(tmp_path):
    path = tmp_path / "last.zip"
    path.write_bytes(b"kept")
    mine = tmp_path / ".last.zip.0123456789abcdef.part"
    others = [".last.zip.part", ".best.zip.0123456789abcdef.part", ".last.zip.0123.part", "x.part"]
    for name in [mine.name, *others]:
        (tmp_path / name).touch()
    files.remove_leftovers(path)
    assert not mine.exists()
    assert {p.name for p in tmp_path.iterdir()} == {path.name, *others}


def test_an_exception_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), files.atomic_file(path) as file:
        file.write(b"half of the n")
        raise KeyboardInterrupt
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_the_mode_is_what_the_umask_gives(tmp_path):
    before = os.umask(0o027)
    try:
        with files.atomic_file(tmp_path / "file"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
