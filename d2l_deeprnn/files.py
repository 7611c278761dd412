"""Writing files so that a failure never leaves half of one."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import BinaryIO, Iterator


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
        OSError: If the file cannot be written; the old one is then still there.
    """
    # A name of its own, so that two that write at once do not meet; beside the target, because
    # only within one file system is replacing atomic.
    temporary = path.parent / f".{path.name}.{os.urandom(8).hex()}.part"
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
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file in one atomic step.

    A reader finds the old file or the new one, whatever happens meanwhile.

    Raises:
        OSError: if the file cannot be written; the old one is then still there.
    """
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))


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
