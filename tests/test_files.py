"""Atomic files, locks and paths."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
import time

import pytest
from interpreter import python

from d2l_deeprnn import files


def test_text_is_written_unchanged(tmp_path):
    path = tmp_path / "a.csv"
    files.write_text(path, "é\r\n1\n")
    assert path.read_bytes() == "é\r\n1\n".encode()
    files.write_text(path, "of \udcff")  # a file name that is not UTF-8
    assert path.read_text() == r"of \udcff"
    assert os.listdir(tmp_path) == ["a.csv"]
    assert files.printable("a\n\udcff\x1b é 文.txt") == r"a\n\udcff\x1b é 文.txt"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch, step, error):
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
    path = tmp_path / "a+b [1].zip"
    with files.atomic_file(path):
        (leftover,) = os.listdir(tmp_path)
    (tmp_path / leftover).touch()
    random = leftover[-21:-5]
    others = {
        *(path.name, f".{path.name}.part", f".{path.name}.0123.part", f"x{leftover}"),
        *(f".b.zip.{random}.part", f".a+b [1]Xzip.{random}.part", f"{leftover}.bak"),
    }
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / f".{path.name}.0123456789abcdef.part").mkdir()
    files.remove_leftovers(path)
    assert {*os.listdir(tmp_path)} == {*others, f".{path.name}.0123456789abcdef.part"}


def test_permissions_are_those_of_mode_and_umask(tmp_path):
    before = os.umask(0o027)
    try:
        for mode, expected in (0o666, 0o640), (0o600, 0o600):
            with files.atomic_file(tmp_path / "a", mode=mode):
                (temporary,) = (path for path in tmp_path.iterdir() if path.suffix == ".part")
                assert temporary.stat().st_mode & 0o777 == expected
            assert (tmp_path / "a").stat().st_mode & 0o777 == expected
    finally:
        os.umask(before)


def test_readers_see_the_old_file_until_all_is_written(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with files.atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
        file.seek(0)
        assert file.read() == b"new"
    assert path.read_text() == "new"


def test_concurrent_writers_do_not_meet(tmp_path):
    path = tmp_path / "a"
    with files.atomic_file(path) as first, files.atomic_file(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a"]


def test_link_is_replaced_and_its_target_stays(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    files.write_text(tmp_path / "link", "new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "old"


@pytest.mark.parametrize("moment", ["open", "fsync", "replace"])
def test_error_names_the_requested_file(tmp_path, monkeypatch, moment):
    path = tmp_path / "missing" / "a" if moment == "open" else tmp_path / "a"

    def full(*args):
        raise OSError(28, "No space left on device", *args[:1] if moment == "replace" else ())

    if moment != "open":
        monkeypatch.setattr(os, moment, full)
    with pytest.raises(OSError) as caught:
        files.write_text(path, "new")
    assert caught.value.filename == str(path) and ".part" not in str(caught.value)


def test_lock_is_exclusive_and_released(tmp_path):
    path = tmp_path / ".lock"
    twice = pytest.raises(files.InUse, match="another process")
    with files.locked(path), twice, files.locked(path):
        pytest.fail("was locked twice")
    assert not files.is_locked(path)
    with files.locked(path):
        assert files.is_locked(path)


def test_a_lock_file_that_its_holder_removes_is_not_locked_by_two(tmp_path, monkeypatch):
    path, lock, twice = tmp_path / ".lock", files._lock, pytest.raises(files.InUse)

    def remove_and_lock(*args):
        monkeypatch.setattr(files, "_lock", lock)
        path.unlink()  # the holder does so after this process has opened the file
        lock(*args)

    monkeypatch.setattr(files, "_lock", remove_and_lock)
    with files.locked(path):
        assert files.is_locked(path)
        with twice, files.locked(path):
            pytest.fail("was locked twice")
        files.write_text(tmp_path / "a", "its directory is in place")
    with files.locked(path):
        pass


def test_waiting_for_a_lock(tmp_path, monkeypatch):
    """With ``wait``, a second process enters only after the first one has left, and says so."""
    monkeypatch.setattr(files, "_WAIT_SECONDS", 0.1)
    entered = []

    def enter():
        with files.locked(tmp_path / ".lock", wait=True):
            entered.append("second")

    with pytest.warns(UserWarning, match="waiting for another process, which holds .*lock"):
        with files.locked(tmp_path / ".lock"):
            thread = threading.Thread(target=enter)
            thread.start()
            time.sleep(0.5)  # longer than a process waits without ``wait``
            entered.append("first")
        thread.join()
    assert entered == ["first", "second"]


def _link(path):
    path.with_name("precious").write_text("kept")
    path.symlink_to("precious")


@pytest.mark.parametrize("make", [_link, os.mkfifo, os.mkdir, lambda path: path.symlink_to("gone")])
def test_lock_is_a_regular_file(tmp_path, make):
    make(tmp_path / ".lock")
    before = sorted(os.listdir(tmp_path))
    refused = pytest.raises(OSError, match="it is not a regular file: remove it")
    with refused, files.locked(tmp_path / ".lock"):
        pytest.fail("was locked")
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("moment", ["before", "while"])
@pytest.mark.parametrize("then", ["replaced", "moved", "removed"])
def test_only_the_locked_directory_is_written_to(tmp_path, moment, then):
    out, moved = tmp_path / "out", tmp_path / "moved"
    (out / "below").mkdir(parents=True)

    def move():
        out.rename(moved)
        if then == "replaced":
            shutil.copytree(moved, out)
            (out / "below" / "a").write_text("another's")
        if then == "removed":
            shutil.rmtree(moved)

    with files.locked(out / ".lock"):
        with pytest.raises(files.Moved) as raised:
            if moment == "before":
                move()
            with files.atomic_file(out / "below" / "a"):
                move()
        place = raised.value.place  # None off Linux
        assert place in (None, str(moved)) and (place is None or then != "removed")
        if then == "replaced":
            with pytest.raises(files.Moved):
                files.remove(out / "below" / "a")
            assert (out / "below" / "a").read_text() == "another's"
            assert os.listdir(out / "below") == ["a"]
        files.write_text(tmp_path / "beside", "not in the locked directory")
    (out / "below").mkdir(parents=True, exist_ok=True)
    files.write_text(out / "below" / "a", "the lock is released")


@pytest.mark.parametrize("number", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_file_system_without_locks_is_not_another_process(tmp_path, monkeypatch, number):
    def no_locks(*args):
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.warns(UserWarning, match="cannot be locked"), files.locked(tmp_path / ".lock"):
        pass


def test_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a")
    with pytest.raises(OSError, match="not a regular file"):
        files.read_text(tmp_path / "a")


@pytest.mark.parametrize(
    "given, expected",
    [
        ("~", "{home}"),
        ("~/a", "{home}/a"),
        ("a/~", "a/~"),
        ("./~", "{here}/~"),
        ("./~/a", "{here}/~/a"),
        ("~nobody-of-this-name/a", "{here}/~nobody-of-this-name/a"),
    ],
)
def test_user_path(tmp_path, monkeypatch, given, expected):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    path = files.user_path(given)
    assert str(path) == expected.format(home=tmp_path / "home", here=tmp_path)
    assert files.user_path(path) == path


def test_devices_and_pipes_are_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(os.devnull)
    for path in pipe, tmp_path / "link":
        with pytest.raises(OSError, match="it is not a regular file"):
            files.write_text(path, "text")
    assert pipe.is_fifo() and len(list(tmp_path.iterdir())) == 2


def test_a_forked_process_leaves_the_lock_to_its_parent(tmp_path):
    """A pool that a user starts during the training may outlive it."""
    code = f"""
        import os
        from pathlib import Path
        from d2l_deeprnn.files import is_locked, locked
        path = Path({str(tmp_path)!r}, "lock")
        read, write = os.pipe()
        ready, begun = os.pipe()
        with locked(path):
            if not os.fork():
                os.write(begun, b".")
                os.close(write)
                os.read(read, 1)  # until the parent has ended
                os._exit(0)
            os.read(ready, 1)
            assert is_locked(path)
        assert not is_locked(path)
    """
    python(code)
