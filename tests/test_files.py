"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
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
    others += [".lastXzip.0123456789abcdef.part", ".last.zip.0123456789abcdef.part.bak"]
    others += ["x.last.zip.0123456789abcdef.part", ".last.zip.0123456789abcdeg.part"]
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


def test_a_private_file_is_private_from_the_start(tmp_path):
    with files.atomic_file(tmp_path / "a", mode=0o600):
        (temporary,) = tmp_path.iterdir()
        assert temporary.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_leftovers_are_removed_where_the_file_never_came_to_be(tmp_path):
    (tmp_path / ".a.0123456789abcdef.part").touch()
    files.remove_leftovers(tmp_path / "a")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a", "a+b [1].zip", "é\n"])
def test_what_a_killed_process_leaves_is_a_leftover(tmp_path, name):
    with files.atomic_file(tmp_path / name):
        (left,) = os.listdir(tmp_path)
    (tmp_path / left).touch()
    files.remove_leftovers(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


def test_a_directory_called_like_a_leftover_stays(tmp_path):
    directory = tmp_path / ".a.0123456789abcdef.part"
    directory.mkdir()
    files.remove_leftovers(tmp_path / "a")
    assert directory.is_dir()


def test_until_all_is_written_readers_find_the_old_file(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with files.atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
        file.seek(0)
        assert file.read() == b"new"
    assert path.read_text() == "new"


def test_two_that_write_at_once_do_not_meet(tmp_path):
    path = tmp_path / "a"
    with files.atomic_file(path) as first, files.atomic_file(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="links need a right elsewhere")
def test_a_link_is_replaced_and_its_target_stays(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    files.write_text(tmp_path / "link", "new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "old"


@pytest.mark.parametrize("moment", ["open", "fsync", "replace"])
def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch, moment):
    path = tmp_path / "missing" / "a" if moment == "open" else tmp_path / "a"

    def full(*args):
        raise OSError(28, "No space left on device", *args[:1] if moment == "replace" else ())

    if moment != "open":
        monkeypatch.setattr(os, moment, full)
    with pytest.raises(OSError) as caught:
        files.write_text(path, "new")
    assert caught.value.filename == str(path) and ".part" not in str(caught.value)


def test_a_name_that_is_not_utf_8_can_be_written_into_a_file(tmp_path):
    files.write_text(tmp_path / "a", "of \udcff")
    assert (tmp_path / "a").read_text() == r"of \udcff"
    assert files.printable("a\n\udcff\x1b é 文.txt") == r"a\n\udcff\x1b é 文.txt"


def test_a_lock_is_held_once_and_given_back(tmp_path):
    path = tmp_path / ".lock"
    twice = pytest.raises(files.InUse, match="another process")
    with files.locked(path), twice, files.locked(path):
        pytest.fail("was locked twice")
    with files.locked(path):
        pass


def _link(path):
    path.with_name("precious").write_text("kept")
    path.symlink_to("precious")


@pytest.mark.parametrize("make", [_link, os.mkfifo, os.mkdir, lambda path: path.symlink_to("gone")])
def test_a_lock_is_a_regular_file(tmp_path, make):
    make(tmp_path / ".lock")
    before = sorted(os.listdir(tmp_path))
    refused = pytest.raises(OSError, match="it is not a regular file: remove it")
    with refused, files.locked(tmp_path / ".lock"):
        pytest.fail("was locked")
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("moment", ["before", "while"])
@pytest.mark.parametrize("then", ["replaced", "moved", "removed"])
def test_nothing_is_written_into_another_directory_than_the_locked_one(tmp_path, moment, then):
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
        files.write_text(tmp_path / "beside", "is not in the locked directory")
    (out / "below").mkdir(parents=True, exist_ok=True)
    files.write_text(out / "below" / "a", "the lock is given back")


@pytest.mark.parametrize("number", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_not_another_process(tmp_path, monkeypatch, number):
    def no_locks(*args):
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.warns(UserWarning, match="cannot be locked"), files.locked(tmp_path / ".lock"):
        pass


def test_a_pipe_is_not_waited_for(tmp_path):
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
def test_the_path_that_a_user_gave(tmp_path, monkeypatch, given, expected):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    path = files.user_path(given)
    assert str(path) == expected.format(home=tmp_path / "home", here=tmp_path)
    assert files.user_path(path) == path
