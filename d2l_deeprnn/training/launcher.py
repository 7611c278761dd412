"""Facts about the processes that ``mpiexec`` started, available before MPI is loaded."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Tuple

# Environment variables with the number of a process and the number of processes, by launcher.
LAUNCHERS = (
    ("PMI_RANK", "PMI_SIZE"),  # MPICH, Intel MPI, MVAPICH; Slurm's pmi2
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # Open MPI
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),  # Slurm's pmix
)
ONE_EACH = "D2L_DEEPRNN_RANKS"  # if this variable is 1, each process works alone
TIMEOUT = 600.0  # seconds after which all processes end if one does not answer

_stderr = 2  # descriptor for messages that must be seen


def world_rank() -> int:
    """Return the number of this process, from 0 on; 0 if it works alone."""
    return _rank_and_size()[0]


def world_size() -> int:
    """Return the number of processes that work together; 1 if this one works alone.

    Raises:
        ValueError: if ``D2L_DEEPRNN_RANKS`` is set to a value other than 1.
    """
    return _rank_and_size()[1]


def process_name() -> str:
    """Return the number of this process and its host, for messages."""
    return f"rank {world_rank()} on {socket.gethostname()}"


def _rank_and_size() -> Tuple[int, int]:
    one_each = os.environ.get(ONE_EACH, "")
    if one_each not in ("", "1"):
        raise ValueError(
            f"{ONE_EACH} must be 1 or unset, not {one_each!r}: with 1, each process trains its own "
            "model; unset, all processes of mpiexec train one model"
        )
    if one_each:
        return 0, 1
    for names in LAUNCHERS:
        rank, size = (os.environ.get(name, "") for name in names)
        if rank.isdigit() and size.isdigit():
            return int(rank), int(size)
    return 0, 1


def silence() -> None:
    """Silence standard output and error, except for ``write_stderr``."""
    global _stderr
    if _stderr != 2:  # already silenced
        return
    _stderr = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def write_stderr(line: str) -> None:
    """Write a line to standard error, even after ``silence``."""
    with contextlib.suppress(OSError):  # it may be closed
        os.write(_stderr, f"{line}\n".encode("utf-8", "backslashreplace"))
