"""Files that are written whole or not at all, and locks between processes that write them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pkgutil
import re
import shutil
import stat
import time
import warnings
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, Optional, Union

from .errors import D2LError

_LARGEST_TEXT = 64 * 2**20

# What users may give for a path.
PathLike = Union[str, "os.PathLike[str]"]


# The locks that this process holds: descriptor -> absolute path of the lock's file.
_held: Dict[int, str] = {}


def user_path(path: PathLike) -> Path:
    """Return a path that a user gave, with the home directory in place of ``~`` or ``~name``.

    No shell does that for ``--out=~/runs``, for a command in a Makefile or for a string in Python.
    As in a shell, ``./~`` is a file of that name, and ``~name`` is left alone if there is no such
    user.
    """
    expanded = Path(os.path.expanduser(path))
    # Path has dropped the dot of ./~, and a second call would expand the rest.
    return expanded.absolute() if str(expanded).startswith("~") else expanded


class InUse(D2LError, OSError):
    """Another process holds a lock."""


class Moved(D2LError, OSError):
    """A directory that this process has locked is no longer at its path.

    Attributes:
        place: The path of the directory now; None if it is not known.
    """

    place: Optional[str] = None


@contextlib.contextmanager
def atomic_file(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of ``path`` in one step when all is written.

    A reader finds the old file or the new one, whatever happens meanwhile. An exception in the
    ``with`` block keeps the old file and leaves nothing of the new one. Only a process that is
    killed leaves its temporary file behind: see ``remove_leftovers``.

    Args:
        path: The file to make or to replace; a symbolic link is itself replaced.
        mode: The permissions of the file, less those that the umask takes away. The temporary
            file has them from the start.

    Returns:
        A context manager that gives the file, open for writing and for reading back.

    Raises:
        Moved: If ``path`` lies in a directory that was locked, and is now in another one.
        OSError: If the file cannot be written; the old one is then still there. It names ``path``.
    """
    check_in_place(path)
    # A name of its own, so that two that write at once do not meet; beside the target, because
    # only within one file system is replacing atomic.
    temporary = os.fspath(path.parent / f".{path.name}.{os.urandom(8).hex()}.part")
    with _naming(path, temporary):
        # Not tempfile, whose files only their owner can read: "x" makes it with the umask's mode.
        file = open(  # noqa: SIM115  closed below, before it is moved
            temporary, "x+b", opener=lambda name, flags: os.open(name, flags, mode)
        )
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            # Again: to write a large file takes time. If the directory is replaced from here on,
            # the temporary file is missing in the new one, and os.replace fails.
            check_in_place(path)
            os.replace(temporary, path)
        except BaseException:
            # It is already gone if the exception came right after it was moved.
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    _sync_directory(path.parent)


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Make a directory that is there, with all its files, in one step.

    An exception in the ``with`` block leaves nothing of it.

    Args:
        path: The directory to make. It must not exist, or be empty.

    Returns:
        A context manager that gives the directory to write into, which then becomes ``path``.

    Raises:
        OSError: If it cannot be made, or something is in its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.urandom(8).hex()}.part"
    with _naming(path, os.fspath(temporary)):
        temporary.mkdir()
        try:
            yield temporary
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    _sync_directory(path.parent)


@contextlib.contextmanager
def _naming(path: Path, temporary: str) -> Iterator[None]:
    """Name ``path`` in errors that name the temporary file or, as for a full disk, no file."""
    try:
        yield
    except OSError as error:
        name = temporary if error.filename is None else error.filename
        if error.errno is not None and isinstance(name, str) and name.startswith(temporary):
            error.filename, error.filename2 = os.fspath(path) + name[len(temporary) :], None
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file in one atomic step.

    A reader finds the old file or the new one, whatever happens meanwhile. What UTF-8 cannot hold,
    which a file's name may have, is written as Python would: ``\\udcff``.

    Raises:
        OSError: if the file cannot be written; the old one is then still there.
    """
    with atomic_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, without the byte order mark that some editors write.

    Raises:
        OSError: If it cannot be read, is not a regular file (a pipe would block), or is larger
            than any that this package writes.
        UnicodeDecodeError: If it is not UTF-8.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    if path.stat().st_size > _LARGEST_TEXT:
        raise OSError(errno.EFBIG, f"it is larger than {_LARGEST_TEXT >> 20} MiB", os.fspath(path))
    return path.read_text(encoding="utf-8-sig")


def parse_json(text: Union[str, bytes]) -> Any:
    """Parse JSON that may come from a stranger.

    Raises:
        ValueError: If it is not JSON, is nested too deeply, or has an integer of so many digits
            that it could not be converted to a floating-point number.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _integer(digits: str) -> int:
    if len(digits) > 300:  # a floating-point number has up to 309
        raise ValueError(f"it has an integer of {len(digits)} digits")
    return int(digits)


def package_data(name: str) -> bytes:
    """Read a file that is part of this package, also if the package is imported from a zip file.

    Args:
        name: its path within the package, such as ``evidence/page.css``.
    """
    data = pkgutil.get_data(__package__, name)
    assert data is not None  # for loaders that cannot read data
    return data


@contextlib.contextmanager
def locked(path: Path, *, mode: int = 0o666) -> Iterator[None]:
    """Hold a lock that other processes respect, as long as the ``with`` block or the process lasts.

    If the directory of the lock's file is moved or replaced meanwhile, ``atomic_file`` and
    ``remove`` no longer change anything below its path: they raise ``Moved``. Where the file system
    has no locks, a warning says so, and nothing is held.

    Args:
        path: The lock's file, made where it is missing. Nothing is written to it.
        mode: The permissions of the file if it is made, less those that the umask takes away.

    Raises:
        InUse: If another process holds it.
        OSError: If the file cannot be made, or is something else than a regular file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    # Asked first, since to open a device may do something to it.
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OSError(errno.EINVAL, "it is not a regular file: remove it", os.fspath(path))
    descriptor = os.open(path, flags, mode)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file: remove it", os.fspath(path))
        try:
            _lock(descriptor)
        except OSError as error:
            if error.errno in _BUSY:
                raise InUse(error.errno, "another process uses it", os.fspath(path)) from None
            warnings.warn(
                f"{path} cannot be locked ({error.strerror}): make sure that no other process "
                "works in that directory",
                stacklevel=2,
            )
        _held[descriptor] = os.path.abspath(path)
        yield
    finally:
        _held.pop(descriptor, None)
        os.close(descriptor)


_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + 0.2
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.02)  # is_locked may have it for a moment


def is_locked(path: Path) -> bool:
    """Return whether somebody holds the lock of a file; False if that cannot be seen."""
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
    """Make sure that a file's directory is still the one that this process locked.

    Args:
        path: A file that is going to be changed, directly or anywhere below a locked directory.

    Raises:
        Moved: If the directory was moved or removed, or another one has taken its place.
    """
    wanted = os.path.abspath(path)
    for descriptor, lock in list(_held.items()):
        directory = os.path.dirname(lock)
        if os.path.commonpath([directory, wanted]) != directory:
            continue
        there = os.fstat(descriptor)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if os.path.samestat(os.stat(lock), there):
                continue
        error = Moved(errno.ESTALE, "it was moved, removed or replaced while in use", directory)
        if there.st_nlink:
            with contextlib.suppress(OSError):  # only Linux tells where an open file is now
                error.place = os.path.dirname(os.readlink(f"/proc/self/fd/{descriptor}"))
        raise error


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        Moved: As ``atomic_file``.
        OSError: If it cannot be removed.
    """
    check_in_place(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def private_directory(path: Path) -> None:
    """Make a directory that only this user can enter, if it is missing; see ``check_private``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(0o700)
    check_private(path)


def check_private(path: Path) -> None:
    """Make sure that a directory is this user's, and close it to all others.

    Raises:
        OSError: If it is missing, belongs to another user, or cannot be closed to others.
    """
    found = os.stat(path)
    # A link has an owner too: it must not be another user's choice where files go.
    if {found.st_uid, os.lstat(path).st_uid} != {os.getuid()}:
        raise PermissionError(errno.EPERM, f"{path} belongs to another user", os.fspath(path))
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path))
    if found.st_mode & 0o077:
        path.chmod(0o700)
        if path.stat().st_mode & 0o022:  # a file system without permissions
            raise PermissionError(errno.EPERM, f"others can write to {path}", os.fspath(path))


def printable(words: str) -> str:
    """Words in one line that can be shown anywhere, whatever a file's name may hold.

    Line ends, control characters and bytes that are not UTF-8 become escapes such as ``\\n`` and
    ``\\udcff``.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in words
    )


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files that killed processes left while they wrote ``path``.

    Only for the one process that writes ``path``: what another is writing just now would go too.

    Args:
        path: The file that was to be written; it need not exist, and it is not touched.

    Raises:
        OSError: If the directory cannot be read, or a temporary file not removed.
    """
    temporary = re.compile(re.escape(f".{path.name}.") + r"[0-9a-f]{16}\.part")
    with os.scandir(path.parent) as entries:
        for entry in entries:
            if temporary.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)


def _sync_directory(directory: Path) -> None:
    """Have the new name of a file on the disk too, where the platform can do that."""
    # An error here must not be reported: the file is in place, and callers take an OSError to
    # mean that it is not.
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
