"""Atomic files, locks between processes, and careful reading of small files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import pkgutil
import re
import shutil
import time
import warnings
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, Optional, Union

from .errors import D2LError

# Paths as users may pass them.
PathLike = Union[str, "os.PathLike[str]"]

_MAX_BYTES = 64 * 2**20
_WAIT_SECONDS = 2.0  # before a process says for whom it waits
# Locks held by this process: descriptor -> absolute path of the lock file.
_held: Dict[int, str] = {}
# Error numbers of ``flock`` if another process holds the lock.
_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class InUse(D2LError, OSError):
    """Another process holds a lock."""


class Moved(D2LError, OSError):
    """A locked directory was moved, removed or replaced.

    Attributes:
        place: the current path of the directory; None if it is unknown.
    """

    place: Optional[str] = None


def user_path(path: PathLike) -> Path:
    """Expand ``~`` and ``~name`` at the beginning of a path given by a user.

    Some shells do not expand ``--out=~/runs``, and Python does not expand strings. As in a shell,
    ``./~`` is a file of that name, and ``~name`` stays as it is if there is no such user.
    """
    expanded = Path(os.path.expanduser(path))
    # Path drops the dot of ./~, and a second call would expand the rest.
    return expanded.absolute() if str(expanded).startswith("~") else expanded


@contextlib.contextmanager
def atomic_file(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` at the end of the ``with`` block.

    Readers see the old file or the complete new one. If the block raises, the old file stays and
    the temporary file is removed. Only a killed process leaves its temporary file behind, for
    ``remove_leftovers``.

    Args:
        path: the file to create or replace; a symbolic link is replaced, not followed.
        mode: permissions of the file, from the start; the umask applies.

    Returns:
        A context manager that yields the file, open for writing and reading.

    Raises:
        Moved: if ``path`` is below a locked directory that was moved or replaced.
        OSError: if the file cannot be written, or is a device or a pipe, which would be replaced.
            The error names ``path``.
    """
    check_in_place(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    temporary = _temporary(path)
    with _naming(path, temporary):
        try:
            # Not tempfile, which ignores the umask.
            with open(
                temporary, "x+b", opener=lambda name, flags: os.open(name, flags, mode)
            ) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            # Again, since writing a large file takes time. If the directory is replaced after
            # this check, os.replace does not find the temporary file and fails.
            check_in_place(path)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Write the new name of a file to the disk, so that it survives a power cut."""
    # Some platforms cannot. Callers must not get an error, since the file is already in place.
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Create a directory with all its files in one step, or nothing if the block raises.

    Args:
        path: the directory to create. It must be empty or not exist.

    Returns:
        A context manager that yields a temporary directory, which then becomes ``path``.

    Raises:
        OSError: if it cannot be created, or ``path`` is a file or not empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    with _naming(path, temporary):
        os.mkdir(temporary)
        try:
            yield Path(temporary)
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _temporary(path: Path) -> str:
    """Return a unique name in the same directory: renaming is atomic in one file system only."""
    return os.fspath(path.parent / f".{path.name}.{os.urandom(8).hex()}.part")


@contextlib.contextmanager
def _naming(path: Path, temporary: str) -> Iterator[None]:
    """Name ``path`` in errors that name the temporary file, or no file (as for a full disk)."""
    try:
        yield
    except OSError as error:
        name = temporary if error.filename is None else error.filename
        if error.errno is not None and isinstance(name, str) and name.startswith(temporary):
            error.filename, error.filename2 = os.fspath(path) + name[len(temporary) :], None
        raise


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files that killed processes left beside ``path``.

    Call it only in the one process that writes ``path``; other writers would lose their files.
    """
    leftover = re.compile(re.escape(f".{path.name}.") + r"[0-9a-f]{16}\.part")
    with os.scandir(path.parent) as entries:
        for entry in entries:
            if leftover.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)


def remove(path: Path) -> None:
    """Remove a file if it exists.

    Raises:
        Moved: as ``atomic_file``.
        OSError: if it cannot be removed.
    """
    check_in_place(path)
    path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file in one atomic step; see ``atomic_file``.

    Characters that UTF-8 cannot represent, as in some file names, are escaped: ``\\udcff``.
    """
    with atomic_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def read_text(path: Path) -> str:
    """Read a small UTF-8 text file, without the byte order mark that some editors add.

    Raises:
        OSError: if it cannot be read, has more than 64 MiB, or is not a regular file.
        UnicodeDecodeError: if it is not UTF-8.
    """
    if path.exists() and not path.is_file():  # reading a pipe would block
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    if path.stat().st_size > _MAX_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {_MAX_BYTES >> 20} MiB", os.fspath(path))
    return path.read_text(encoding="utf-8-sig")


def parse_json(text: Union[str, bytes]) -> Any:
    """Parse JSON from an untrusted source.

    Raises:
        ValueError: if it is not JSON, is nested too deeply, or has an integer of more than
            300 digits.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None


def _integer(digits: str) -> int:
    if len(digits) > 300:  # a floating-point number has up to 309
        raise ValueError(f"it has an integer of {len(digits)} digits")
    return int(digits)


def package_data(name: str) -> bytes:
    """Read a file of this package, also if the package is imported from a zip file.

    Args:
        name: its path within the package, such as ``evidence/page.css``.
    """
    data = pkgutil.get_data(__package__, name)
    assert data is not None  # for loaders that cannot read data
    return data


@contextlib.contextmanager
def locked(path: Path, *, mode: int = 0o666, wait: bool = False) -> Iterator[None]:
    """Hold a lock between processes during the ``with`` block.

    If the directory of the lock file is moved or replaced meanwhile, ``atomic_file`` and
    ``remove`` raise ``Moved`` and change nothing below its path. If the file system has no locks,
    a warning says so, and the block runs without a lock.

    Args:
        path: the lock file, created if it is missing and never written to.
        mode: permissions of a new lock file; the umask applies.
        wait: whether to wait while another process holds the lock.

    Raises:
        InUse: if another process holds the lock.
        OSError: if the file cannot be created, or is not a regular file.
    """
    # Checked before it is opened, since opening a device may have effects.
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OSError(errno.EINVAL, "it is not a regular file: remove it", os.fspath(path))
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    descriptor = os.open(path, flags, mode)
    _held[descriptor] = os.path.abspath(path)
    try:
        while True:
            try:
                _lock(path, descriptor, wait)
            except OSError as error:
                if error.errno in _BUSY:
                    raise InUse(error.errno, "another process uses it", os.fspath(path)) from None
                warnings.warn(
                    f"{path} cannot be locked ({error.strerror}): make sure that no other process "
                    "uses that directory",
                    stacklevel=2,
                )
            if path.exists() and os.path.samestat(os.stat(path), os.fstat(descriptor)):
                break
            # Its holder removed the file, so another process can lock a new one of this name.
            current = os.open(path, flags, mode)
            os.dup2(current, descriptor, inheritable=False)
            os.close(current)
        yield
    finally:
        if _held.pop(descriptor, None):  # not in a forked process
            os.close(descriptor)


def _close_in_child() -> None:
    """Leave the locks to the parent. Otherwise a forked process holds them as long as it lives."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


def _lock(path: Path, descriptor: int, wait: bool) -> None:
    # is_locked may hold the lock for a moment.
    deadline = math.inf if wait else time.monotonic() + 0.2
    warn_at = time.monotonic() + _WAIT_SECONDS
    while True:
        if time.monotonic() > warn_at:
            warn_at = math.inf
            warnings.warn(f"waiting for another process, which holds {path}", stacklevel=4)
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def is_locked(path: Path) -> bool:
    """Return whether another process holds the lock of a file; False if that is unknown."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError as error:
        return error.errno in _BUSY
    finally:
        os.close(descriptor)


def check_in_place(path: Path) -> None:
    """Raise ``Moved`` if a locked directory above ``path`` was moved, removed or replaced."""
    target = os.path.abspath(path)
    for descriptor, lock in list(_held.items()):
        directory = os.path.dirname(lock)
        if os.path.commonpath([directory, target]) != directory:
            continue
        held = os.fstat(descriptor)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if os.path.samestat(os.stat(lock), held):
                continue
        error = Moved(errno.ESTALE, "it was moved, removed or replaced while in use", directory)
        if held.st_nlink:
            with contextlib.suppress(OSError):  # only Linux shows the path of an open file
                error.place = os.path.dirname(os.readlink(f"/proc/self/fd/{descriptor}"))
        raise error


def private_directory(path: Path) -> None:
    """Create a directory that only this user can read; an existing one must be this user's.

    Raises:
        OSError: if it belongs to another user, is not a directory, or cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(0o700, exist_ok=True)
    # Check the owner of a symbolic link, too: another user must not choose where the files go.
    if {path.stat().st_uid, path.lstat().st_uid} != {os.getuid()}:
        raise PermissionError(errno.EPERM, f"{path} belongs to another user", os.fspath(path))
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def printable(text: str) -> str:
    """Return a text as one line that is safe to show.

    Line breaks, control characters and bytes that are not UTF-8 become escapes such as ``\\n`` and
    ``\\udcff``.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
