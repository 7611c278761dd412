"""What a process can know of the others that ``mpiexec`` started with it, before MPI is loaded."""

from __future__ import annotations

import contextlib
import os
from typing import Tuple

# Variables with a process's number and with how many there are, by the launcher.
LAUNCHERS = (
    ("PMI_RANK", "PMI_SIZE"),  # MPICH, Intel MPI, MVAPICH; Slurm's pmi2
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # Open MPI
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),  # Slurm's pmix
)
TIMEOUT = 600.0  # seconds that a process waits for the others

# Where a message goes that must be seen.
_errors = 2


def number() -> int:
    """The number of this process, from 0 on; 0 without a launcher."""
    return _find()[0]


def launched() -> int:
    """How many processes were started; 1 without a launcher."""
    return _find()[1]


def _find() -> Tuple[int, int]:
    for names in LAUNCHERS:
        rank, size = (os.environ.get(name, "") for name in names)
        if rank.isdigit() and size.isdigit():
            return int(rank), int(size)
    return 0, 1


def keep_quiet() -> None:
    """Have standard output and error lead nowhere, but for what ``say`` is given."""
    global _errors
    _errors = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def say(line: str) -> None:
    """Write a line on standard error, also after ``keep_quiet``."""
    with contextlib.suppress(OSError):  # nobody may read it any more
        os.write(_errors, f"{line}\n".encode("utf-8", "backslashreplace"))
