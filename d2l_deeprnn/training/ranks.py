"""Processes that train one model together, started by ``mpiexec``; each of them is a rank.

Each rank has the whole model and some rows of every minibatch. What a rank computes from its rows
is summed over all of them, and each then takes the same step. Without ``mpiexec`` there is one
rank, ``ALONE``, for which all of this is nothing, and MPI is not imported.

Nothing is pickled: ranks send each other numbers, and JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, TypeVar

import numpy as np

from .._checks import positive_number
from .._mxnet import mx, nd, repairs, threads
from .._mxnet.context import try_all_gpus, try_gpu
from .._mxnet.memory import in_memory
from ..errors import D2LError, is_bad_input
from ..files import printable
from .launcher import TIMEOUT, launched, say

# Seconds that ranks give each other to fail for the same reason. One that fails alone ends all.
GRACE = 2.0
PASSING_ON = 0.5  # seconds for mpiexec to show a line
BAD_INPUT, INTERRUPTED, FAULT = 2, 130, 70  # exit statuses, as the command has them

T = TypeVar("T")


class RanksError(D2LError, RuntimeError):
    """The ranks cannot train together; the message says which of them, and why."""


class FirstRankFailed(D2LError, RuntimeError):
    """Rank 0, which does some things for all, could not do one; it says itself which."""


class Ranks:
    """The ranks, as one of them sees them; of this class itself, the only one.

    Attributes:
        rank: number of this one, from 0 on.
        size: how many there are.
    """

    rank = 0
    size = 1

    def part(self, num_rows: int, rank: Optional[int] = None) -> range:
        """The rows that a rank has, this one if None: as many as others, or one more."""
        rank = self.rank if rank is None else rank
        # Rounded up: of a single row, rank 0 has it.
        return range(-(-num_rows * rank // self.size), -(-num_rows * (rank + 1) // self.size))

    def sum(self, arrays: Sequence[nd.NDArray]) -> None:
        """Replace arrays of each rank by their sums over all of them, in a fixed order."""

    def sum_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """The sums of some numbers over all ranks."""
        return numbers

    def take_first(self, arrays: Sequence[nd.NDArray]) -> None:
        """Replace arrays of each rank by those of rank 0."""

    def any(self, *wishes: bool) -> List[bool]:
        """For each of some wishes, whether a rank has it."""
        return list(wishes)

    def gather(self, array: np.ndarray, axis: int) -> np.ndarray:
        """The parts of an array along an axis, put together on rank 0; the part itself elsewhere.

        Args:
            array: the part of the rows ``part`` gives; it has as many along ``axis``.
            axis: that of the rows.
        """
        return array

    def all_of(self, value: Any) -> List[Any]:
        """What each rank gives, which JSON can hold, in the order of the ranks, for all of them."""
        return [value]

    def first(self, function: Callable[[], Any]) -> Any:
        """Call a function on rank 0 only; give what it returns, which JSON can hold, to all.

        Raises:
            FirstRankFailed: on the other ranks, where the function raised something on rank 0.
        """
        return function()

    def first_arrays(self, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Give arrays by name, which rank 0 has, to all."""
        return dict(arrays)

    def first_before_others(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0, and when it is done, on the others, each for itself."""
        return function()

    def check_same(self, what: Mapping[str, Any]) -> None:
        """Make sure that all ranks were started alike.

        Args:
            what: names with values that JSON can hold.

        Raises:
            RanksError: names the first rank that differs from rank 0, and in what; on all of them.
        """

    def check_equal(self, arrays: Mapping[str, nd.NDArray], when: str) -> None:
        """Make sure that all ranks have the same arrays, to the bit.

        Args:
            arrays: by name.
            when: they are compared, in words.

        Raises:
            RanksError: on all ranks, if two differ.
        """

    def device(self) -> mx.Context:
        """The device of this rank: a GPU of its own where there are GPUs."""
        return try_gpu()


ALONE = Ranks()


@contextlib.contextmanager
def together(timeout: float = TIMEOUT) -> Iterator[Ranks]:
    """Work together with the other ranks, if there are any, as long as the ``with`` block lasts.

    Args:
        timeout: seconds that a rank waits for the others, until it ends them.

    Returns:
        A context manager that gives the ranks. An exception on all of them is raised as ever;
        a rank that raises one alone prints it and ends the others.

    Raises:
        RanksError: if there are several, and MPI cannot be used.
    """
    positive_number("rank_timeout", timeout)
    if launched() == 1:
        yield ALONE
        return
    ranks = _MPIRanks(timeout)
    try:
        ranks.choose_threads()
        yield ranks
    except BaseException as error:
        ranks.fail(error)
        raise


def device_of(local_rank: int, local_size: int, devices: Sequence[mx.Context]) -> mx.Context:
    """The device of a rank.

    Args:
        local_rank: its number among those of its host, from 0 on.
        local_size: how many there are on that host.
        devices: of the host, as ``try_all_gpus`` gives them.

    Raises:
        RanksError: if there are GPUs, and fewer than ranks.
    """
    if devices[0].device_type == "cpu":
        return devices[0]
    if local_size > len(devices):
        raise RanksError(
            f"{local_size} ranks were started on {socket.gethostname()}, which has {len(devices)} "
            "GPUs: start one rank for each"
        )
    return devices[local_rank]


def threads_of(cores: int, own: Sequence[int], all_of_host: Sequence[Sequence[int]]) -> int:
    """How many threads a rank is to compute with.

    Args:
        cores: physical ones that it may use.
        own: numbers of the processors that it may run on.
        all_of_host: these numbers, for each rank of its host, itself included.
    """
    sharing = [sum(processor in other for other in all_of_host) for processor in own]
    share = sum(1 / ranks for ranks in sharing) / len(sharing)
    return max(1, int(cores * share + 1e-9))


class _MPIRanks(Ranks):
    """Several ranks.

    Args:
        timeout: seconds that a rank waits for the others.
    """

    def __init__(self, timeout: float) -> None:
        self._mpi = _import_mpi()
        world = self._mpi.COMM_WORLD
        self.rank, self.size = world.Get_rank(), world.Get_size()
        if self.size != launched():
            raise RanksError(
                f"{launched()} processes were started, but mpi4py's MPI knows of {self.size}: it "
                f"is another MPI than that of the launcher ({self._library()}). Use the launcher "
                "that belongs to it, or an mpi4py that was built for this launcher's MPI"
            )
        self._world = world
        self._failures = world.Dup()
        host = world.Split_type(self._mpi.COMM_TYPE_SHARED)
        self._local_rank, self._local_size = host.Get_rank(), host.Get_size()
        self._host = host
        self._watch = _Watch(self.rank, timeout)
        self._watch.start()

    def _library(self) -> str:
        return str(self._mpi.Get_library_version()).splitlines()[0].strip("\0 ")

    def choose_threads(self) -> None:
        """Share the processors of the host, unless the user has chosen how many threads."""
        if repairs.threads_are_chosen() or not hasattr(os, "sched_getaffinity"):
            return
        own = sorted(os.sched_getaffinity(0))
        of_host = self._all_of(self._host, own)
        threads(threads_of(repairs.available_cores(), own, of_host))

    def sum(self, arrays: Sequence[nd.NDArray]) -> None:
        for array in arrays:
            with in_memory(array) as numbers, self._watch:
                self._world.Allreduce(self._mpi.IN_PLACE, numbers)

    def sum_numbers(self, numbers: np.ndarray) -> np.ndarray:
        sums = numbers.copy()
        with self._watch:
            self._world.Allreduce(self._mpi.IN_PLACE, sums)
        return sums

    def take_first(self, arrays: Sequence[nd.NDArray]) -> None:
        for array in arrays:
            with in_memory(array) as numbers, self._watch:
                self._world.Bcast(numbers)

    def any(self, *wishes: bool) -> List[bool]:
        return [number > 0 for number in self.sum_numbers(np.array(wishes, float))]

    def gather(self, array: np.ndarray, axis: int) -> np.ndarray:
        rows = self.sum_numbers(np.array([float(array.shape[axis])]))
        num_rows = int(rows[0])
        own = np.ascontiguousarray(np.moveaxis(array, axis, 0))
        row_size = own[0].size
        counts = [len(self.part(num_rows, rank)) * row_size for rank in range(self.size)]
        whole = np.empty((num_rows, *own.shape[1:]), own.dtype)
        with self._watch:
            self._world.Gatherv(own, [whole, counts] if self.rank == 0 else None)
        return np.ascontiguousarray(np.moveaxis(whole, 0, axis)) if self.rank == 0 else array

    def all_of(self, value: Any) -> List[Any]:
        return self._all_of(self._world, value)

    def first(self, function: Callable[[], Any]) -> Any:
        outcome: Dict[str, Any] = {}
        if self.rank == 0:
            try:
                outcome["value"] = function()
            except Exception as error:
                self._share({"error": str(error)})
                raise
        outcome = self._share(outcome)
        if "error" in outcome:
            raise FirstRankFailed(outcome["error"])
        return outcome["value"]

    def first_arrays(self, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        kinds = self._share({name: [a.dtype.str, list(a.shape)] for name, a in arrays.items()})
        given = {}
        for name, (dtype, shape) in kinds.items():
            array = np.ascontiguousarray(arrays[name]) if self.rank == 0 else np.empty(shape, dtype)
            with self._watch:
                self._world.Bcast(array.reshape(-1).view(np.uint8))
            given[name] = array
        return given

    def first_before_others(self, function: Callable[[], T]) -> T:
        done: List[T] = []
        self.first(lambda: done.append(function()))
        return done[0] if done else function()

    def check_same(self, what: Mapping[str, Any]) -> None:
        (_, there), *others = self.all_of([socket.gethostname(), dict(what)])
        for rank, (host, here) in enumerate(others, start=1):
            for name in there:
                if here.get(name) != there[name]:
                    raise RanksError(
                        f"rank {rank} on {host} was started with another {name} than rank 0: "
                        f"{here.get(name)!r} and not {there[name]!r}; start all ranks alike"
                    )

    def check_equal(self, arrays: Mapping[str, nd.NDArray], when: str) -> None:
        hashed = hashlib.blake2b()
        for array in arrays.values():
            with in_memory(array) as numbers:
                hashed.update(numbers.data)
        everywhere = self.all_of(hashed.hexdigest())
        for rank, found in enumerate(everywhere):
            if found != everywhere[0]:
                raise RanksError(
                    f"the parameters of rank {rank} differ from those of rank 0 {when}: a fault of "
                    "this package, of MPI, or of the machine; go on from the last checkpoint"
                )

    def device(self) -> mx.Context:
        return device_of(self._local_rank, self._local_size, try_all_gpus())

    def fail(self, error: BaseException) -> None:
        """Tell the others that this rank cannot go on, and end them unless they cannot either."""
        failed = self._failures.Ibarrier()
        end = time.monotonic() + GRACE
        while not failed.Test():
            if time.monotonic() > end:
                _say(self.rank, f"{error or type(error).__name__}")
                interrupted = isinstance(error, KeyboardInterrupt)
                status = BAD_INPUT if is_bad_input(error) else FAULT
                self._world.Abort(INTERRUPTED if interrupted else status)
            time.sleep(0.01)

    def _share(self, value: Any) -> Any:
        """What rank 0 gives, for all."""
        words = np.frombuffer(json.dumps(value).encode(), np.uint8).copy()
        length = np.array([len(words)], np.int64)
        with self._watch:
            self._world.Bcast(length)
            if self.rank:
                words = np.empty(length[0], np.uint8)
            self._world.Bcast(words)
        return json.loads(words.tobytes())

    def _all_of(self, ranks: Any, value: Any) -> List[Any]:
        """What each of some ranks gives, for all of them."""
        own = np.frombuffer(json.dumps(value).encode(), np.uint8).copy()
        lengths = np.empty(ranks.Get_size(), np.int64)
        with self._watch:
            ranks.Allgather(np.array([len(own)], np.int64), lengths)
            everything = np.empty(lengths.sum(), np.uint8)
            ranks.Allgatherv(own, [everything, lengths.tolist()])
        ends = np.cumsum(lengths)
        return [
            json.loads(everything[end - length : end].tobytes())
            for end, length in zip(ends, lengths)
        ]


class _Watch(threading.Thread):
    """Ends this rank, and so the others, if it waits for them for too long.

    It waits in ``with`` blocks. A rank that hangs answers nobody, and MPI would wait for ever.

    Args:
        rank: number of this one.
        timeout: seconds.
    """

    def __init__(self, rank: int, timeout: float) -> None:
        super().__init__(name="d2l_deeprnn ranks", daemon=True)
        self._rank = rank
        self._timeout = timeout
        self._since: Optional[float] = None

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *error: Any) -> None:
        self._since = None

    def run(self) -> None:
        while True:
            time.sleep(min(1.0, self._timeout / 4))
            since = self._since
            # One after the other: the first to say so ends the others.
            if since is not None and time.monotonic() - since > self._timeout + 0.2 * self._rank:
                _say(
                    self._rank,
                    f"waited for {self._timeout:g} seconds for another rank, which hangs or has "
                    "ended; the last checkpoint is kept",
                )
                os._exit(FAULT)


def _say(rank: int, words: str) -> None:
    say(f"d2l-deeprnn: error: rank {rank} on {socket.gethostname()}: {printable(words)}")
    # What mpiexec has not passed on when all is ended is lost.
    time.sleep(PASSING_ON)


def _import_mpi() -> Any:
    try:
        import mpi4py
    except ImportError:
        raise RanksError(
            f"{launched()} processes were started together, and mpi4py, with which they work "
            "together, is not installed: pip install 'd2l_deeprnn[mpi]'"
        ) from None
    mpi4py.rc.thread_level = "serialized"
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError, OSError) as error:
        raise RanksError(f"mpi4py cannot be used: {' '.join(str(error).split())}") from None
    return MPI
