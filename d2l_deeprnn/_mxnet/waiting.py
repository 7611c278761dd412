"""How the threads of a computation wait for each other, on a quiet machine and on a busy one.

In a minibatch there are hundreds of places where each thread waits for the others. GNU's OpenMP
has it wait in a loop, for milliseconds, before it sleeps. On a quiet machine nothing is faster. But
where another program has taken the processor of one thread, the loops of the others keep theirs
busy with waiting, and a minibatch takes ten times as long.

GNU's OpenMP waits a hundredth of that time once it has more threads than there are processors. So
while other programs are in the way, there is a second team of threads, which does nothing. Whether
they are, the kernel tells: it counts how long the processors were busy, and how long a thread that
could run had to wait for one. Nothing that is computed depends on any of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from typing import Any, Dict, NamedTuple, Optional

SPIN_VARIABLE = "GOMP_SPINCOUNT"  # turns of the loop, until a thread sleeps
POLICY_VARIABLE = "OMP_WAIT_POLICY"  # the same in a word
# libgomp's own number of turns; and what it takes for one where there are too many threads, but
# only if the policy is "active": otherwise it is a tenth, which costs more than it saves.
SPINS, FEW_SPINS = 300_000, 1000
# What lets a second team be of use.
SWITCHED = {POLICY_VARIABLE: "active", SPIN_VARIABLE: str(SPINS)}

PROC = "/proc"
SECONDS = 0.1  # between two looks, each of which takes a quarter of a millisecond
# Other programs are in the way if they use so much of the processors, and so many of our threads,
# on average, could run and have none. Beside one busy program it is 0.7 and 0.7 on two processors,
# and nearly 1 and 1 on more; on a quiet machine less than 0.2 and 0.2, except that while many small
# things are computed, our own threads are in each other's way.
IN_THE_WAY = 0.3
QUIET_LOOKS = 20  # until the machine counts as quiet again


class Look(NamedTuple):
    """What the kernel counts, in seconds since some beginning.

    Attributes:
        at: the time.
        busy: how long the processors that this process may use were busy, together.
        own: processor time of this process.
        waited: for each of its threads, how long it waited for a processor while it could run.
    """

    at: float
    busy: float
    own: float
    waited: Dict[str, float]


def prepare() -> None:
    """Set how OpenMP's threads wait, unless the user has; before OpenMP is loaded."""
    if SPIN_VARIABLE in os.environ or POLICY_VARIABLE in os.environ:
        return
    if look():
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
    if not (look() and hasattr(library, "GOMP_parallel")):
        return None
    thread = threading.Thread(target=_Watch(library).run, name="d2l_deeprnn waiting", daemon=True)
    thread.start()
    return thread


def look() -> Optional[Look]:
    """Read what the kernel counts; None where it does not."""
    try:
        own = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        # No Path in here: Python would keep each part of it, such as a thread's number, in a table
        # that is rebuilt, megabytes of it, once enough of them have come and gone.
        with open(f"{PROC}/stat") as file:
            lines = [line.split() for line in file]
        # name, then ticks: user, nice, system, idle, waiting for a disk, ...
        ticks = [list(map(int, line[1:9])) for line in lines if line and line[0] in own]
        busy = sum(sum(cpu) - cpu[3] - cpu[4] for cpu in ticks) / os.sysconf("SC_CLK_TCK")
        waited = {}
        for name in os.listdir(f"{PROC}/self/task"):
            ended = contextlib.suppress(FileNotFoundError, ProcessLookupError)
            with ended, open(f"{PROC}/self/task/{name}/schedstat", "rb") as file:
                waited[name] = int(file.read().split()[1]) / 1e9
    except (AttributeError, OSError, ValueError, IndexError):  # other systems, sandboxes
        return None
    if not ticks or not waited:
        return None
    return Look(time.monotonic(), busy, time.process_time(), waited)


def others_in_the_way(before: Look, after: Look) -> bool:
    """Whether other programs took processors from this one between two looks."""
    seconds = after.at - before.at
    others = (after.busy - before.busy) - (after.own - before.own)
    both = before.waited.keys() & after.waited.keys()
    waited = sum(after.waited[name] - before.waited[name] for name in both)
    return min(others, waited) > IN_THE_WAY * seconds


class _Watch:
    """Keeps a second team of threads as long as other programs are in the way."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._team: Optional[_IdleTeam] = None
        self._quiet_looks = 0

    def run(self) -> None:
        """Look again and again."""
        before = look()
        while before:
            time.sleep(SECONDS)
            after = look()
            if after:
                self.note(others_in_the_way(before, after))
            before = after

    def note(self, in_the_way: bool) -> None:
        """Take or dismiss the team: whether others were in the way since the last look."""
        if in_the_way:
            self._quiet_looks = 0
            if self._team is None:
                # Where no thread can be started any more, as when Python ends, it stays as it is.
                with contextlib.suppress(RuntimeError):
                    self._team = _IdleTeam(self._library)
        elif self._team is not None:
            self._quiet_looks += 1
            if self._quiet_looks >= QUIET_LOOKS:
                self._team.dismiss()
                self._team = None


class _IdleTeam:
    """A team of OpenMP's threads that sleep: with those that compute, more than processors."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._dismissed = threading.Event()
        self._thread = threading.Thread(target=self._be, name="d2l_deeprnn idle", daemon=True)
        self._thread.start()

    def _be(self) -> None:
        # Each thread calls a function of OpenMP's that does nothing; then all of them stay, asleep,
        # until the thread that called them ends.
        nothing = ctypes.cast(self._library.omp_get_max_threads, ctypes.c_void_p)
        computing = self._library.omp_get_max_threads()
        number = max(2, len(os.sched_getaffinity(0)) - computing + 2)
        self._library.GOMP_parallel(nothing, None, ctypes.c_uint(number), ctypes.c_uint(0))
        self._dismissed.wait()

    def dismiss(self) -> None:
        """End the threads, and wait until they have ended."""
        self._dismissed.set()
        self._thread.join()
