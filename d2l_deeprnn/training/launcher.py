"""What a process can know of the others that ``mpiexec`` started with it, before MPI is loaded."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Tuple

# Variables with a process's number and with how many there are, by the launcher.
LAUNCHERS = (
    ("PMI_RANK", "PMI_SIZE"),  # MPICH, Intel MPI, MVAPICH; Slurm's pmi2
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # Open MPI
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),  # Slurm's pmix
)
# If it is 1, each process that a launcher started works alone.
ONE_EACH = "D2L_DEEPRNN_RANKS"
TIMEOUT = 600.0  # seconds after which a process that does not answer ends all

# Where a message goes that must be seen.
_errors = 2


def world_rank() -> int:
    """Return the number of this process, from 0 on; 0 if it works alone."""
    return _find()[0]


def world_size() -> int:
    """Return how many processes were started to work together; 1 if this one works alone.

    Raises:
        ValueError: if ``D2L_DEEPRNN_RANKS`` has another value than 1.
    """
    return _find()[1]


def process_name() -> str:
    """Return the number of this process and its host in words."""
    return f"rank {world_rank()} on {socket.gethostname()}"


def _find() -> Tuple[int, int]:
    chosen = os.environ.get(ONE_EACH, "")
    if chosen not in ("", "1"):
        raise ValueError(
            f"{ONE_EACH} is {chosen!r}, and can only be 1: each process then trains a model of its "
            "own. Without it, all processes that mpiexec starts train one model"
        )
    if chosen:
        return 0, 1
    for names in LAUNCHERS:
        rank, size = (os.environ.get(name, "") for name in names)
        if rank.isdigit() and size.isdigit():
            return int(rank), int(size)
    return 0, 1


def silence() -> None:
    """Silence standard output and error, except for ``write_stderr``."""
    global _errors
    if _errors != 2:  # it was called before
        return
    _errors = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def write_stderr(line: str) -> None:
    """Write a line on standard error, also after ``silence``."""
    with contextlib.suppress(OSError):  # nobody may read it any more
        os.write(_errors, f"{line}\n".encode("utf-8", "backslashreplace"))
