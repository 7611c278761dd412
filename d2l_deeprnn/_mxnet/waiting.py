"""How the threads of a computation wait for each other, on a quiet machine and on a busy one.

In a minibatch there are hundreds of places where each thread waits for the others. GNU's OpenMP
has it wait in a loop, for milliseconds, before it sleeps. On a quiet machine nothing is faster. But
where another program has taken the processor of one thread, the loops of the others keep theirs
busy with waiting, and a minibatch takes ten times as long.

GNU's OpenMP waits a hundredth of that time once it has more threads than there are processors. So
while other programs are in the way, there is a second team of threads, which does nothing. Whether
they are is read from the kernel, which counts how long a thread that could run had to wait for a
processor. Nothing that is computed depends on any of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from pathlib import Path
from typing import Any, Dict, Optional

SPIN_VARIABLE = "GOMP_SPINCOUNT"  # turns of the loop, until a thread sleeps
POLICY_VARIABLE = "OMP_WAIT_POLICY"  # the same in a word
# libgomp's own number of turns; and what it takes for one where there are too many threads, but
# only if the policy is "active": otherwise it is a tenth, which costs more than it saves.
SPINS, FEW_SPINS = 300_000, 1000
# What lets a second team be of use.
SWITCHED = {POLICY_VARIABLE: "active", SPIN_VARIABLE: str(SPINS)}

TASKS = Path("/proc/self/task")  # a directory for each thread
SECONDS = 0.25  # between two looks
# Threads that, on average, could run and had no processor. Beside one busy program it is more than
# half of one, however many processors there are; on a quiet machine about a tenth.
IN_THE_WAY = 0.3
QUIET_LOOKS = 8  # until the machine counts as quiet again

Times = Dict[str, int]


def prepare() -> None:
    """Set how OpenMP's threads wait, unless the user has; before OpenMP is loaded."""
    if SPIN_VARIABLE in os.environ or POLICY_VARIABLE in os.environ:
        return
    if read_times():
        os.environ.update(SWITCHED)
    else:  # the kernel does not say whether others are in the way
        os.environ[SPIN_VARIABLE] = str(FEW_SPINS)


def watch(library: Any) -> Optional[threading.Thread]:
    """Look, from now on, whether other programs are in the way, and have threads wait accordingly.

    Args:
        library: a loaded one that OpenMP's functions can be called from.

    Returns:
        The thread that does so; None if the user decides, or there is no GNU OpenMP.
    """
    if any(os.environ.get(name) != value for name, value in SWITCHED.items()):
        return None
    if not (read_times() and hasattr(library, "GOMP_parallel")):
        return None
    thread = threading.Thread(target=_Watch(library).run, name="d2l_deeprnn waiting", daemon=True)
    thread.start()
    return thread


def read_times() -> Times:
    """How long each thread of this process has waited for a processor while it could run.

    Returns:
        thread -> nanoseconds; empty where the kernel does not say.
    """
    times: Times = {}
    # Threads come and go.
    with contextlib.suppress(OSError):
        for name in os.listdir(TASKS):
            with contextlib.suppress(OSError, ValueError):
                ran, waited, slices = (TASKS / name / "schedstat").read_bytes().split()
                times[name] = int(waited)
    return times


def waiting_threads(before: Times, after: Times, seconds: float) -> float:
    """How many threads, on average, waited for a processor between two looks."""
    both = before.keys() & after.keys()
    return sum(after[name] - before[name] for name in both) / (seconds * 1e9)


class _Watch:
    """Keeps a second team of threads as long as other programs are in the way."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._team: Optional[_IdleTeam] = None
        self._quiet_looks = 0

    def run(self) -> None:
        """Look again and again."""
        before, then = read_times(), time.monotonic()
        while True:
            time.sleep(SECONDS)
            after, now = read_times(), time.monotonic()
            self.look(waiting_threads(before, after, now - then))
            before, then = after, now

    def look(self, waiting: float) -> None:
        """Take or dismiss the team, by how many threads waited for a processor."""
        if waiting > IN_THE_WAY:
            self._quiet_looks = 0
            if self._team is None:
                self._team = _IdleTeam(self._library)
        elif self._team is not None:
            self._quiet_looks += 1
            if self._quiet_looks >= QUIET_LOOKS:
                self._team.dismiss()
                self._team = None


class _IdleTeam:
    """A team of OpenMP's threads that sleep; one more than leaves each thread a processor."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._dismissed = threading.Event()
        self._thread = threading.Thread(target=self._be, name="d2l_deeprnn idle", daemon=True)
        self._thread.start()

    def _be(self) -> None:
        # Each thread calls a function of OpenMP's that does nothing; then all of them stay, asleep,
        # until the thread that called them ends.
        nothing = ctypes.cast(self._library.omp_get_max_threads, ctypes.c_void_p)
        number = max(2, len(os.sched_getaffinity(0)))
        self._library.GOMP_parallel(nothing, None, ctypes.c_uint(number), ctypes.c_uint(0))
        self._dismissed.wait()

    def dismiss(self) -> None:
        """End the threads, and wait until they have ended."""
        self._dismissed.set()
        self._thread.join()
