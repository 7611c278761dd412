"""Files that are written whole or not at all, and locks between processes that write them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pkgutil
import re
import shutil
import stat
import warnings
from pathlib import Path
from typing import BinaryIO, Iterator, Union

from .errors import D2LError

# What users may give for a path.
PathLike = Union[str, "os.PathLike[str]"]


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


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of ``path`` in one step when all is written.

    A reader finds the old file or the new one, whatever happens meanwhile. An exception in the
    ``with`` block keeps the old file and leaves nothing of the new one. Only a process that is
    killed leaves its temporary file behind: see ``remove_leftovers``.

    Args:
        path: The file to make or to replace; a symbolic link is itself replaced.

    Returns:
        A context manager that gives the file, open for writing and for reading back.

    Raises:
        OSError: If the file cannot be written; the old one is then still there. It names ``path``.
    """
    # A name of its own, so that two that write at once do not meet; beside the target, because
    # only within one file system is replacing atomic.
    temporary = os.fspath(path.parent / f".{path.name}.{os.urandom(8).hex()}.part")
    with _naming(path, temporary):
        # Not tempfile, whose files only their owner can read: "x" makes it with the umask's mode.
        file = open(temporary, "x+b")  # noqa: SIM115  closed below, before it is moved
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            # It is no longer there if the exception came just after it had been moved.
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
    """Have errors name what was asked for: a full disk names nothing, others the temporary one."""
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
        OSError: if it cannot be read, or is no regular file: a pipe would be waited for.
        UnicodeDecodeError: if it is not UTF-8.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    return path.read_text(encoding="utf-8-sig")


def package_data(name: str) -> bytes:
    """Read a file that is part of this package, also if the package is imported from a zip file.

    Args:
        name: its path within the package, such as ``evidence/page.css``.
    """
    data = pkgutil.get_data(__package__, name)
    assert data is not None  # for loaders that cannot read data
    return data


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes respect, as long as the ``with`` block or the process lasts.

    Where the file system has no locks, a warning says so, and nothing is held.

    Args:
        path: The lock's file, made where it is missing. Nothing is written to it.

    Raises:
        InUse: If another process holds it.
        OSError: If the file cannot be made, or is something else than a regular file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    # Asked first, since to open a device may do something to it.
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OSError(errno.EINVAL, "it is not a regular file: remove it", os.fspath(path))
    descriptor = os.open(path, flags, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file: remove it", os.fspath(path))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                raise InUse(error.errno, "another process works here", os.fspath(path)) from None
            warnings.warn(
                f"{path} cannot be locked ({error.strerror}): see to it that no other process "
                "works in that directory",
                stacklevel=2,
            )
        yield
    finally:
        os.close(descriptor)


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
