"""Processes that ``mpiexec`` started and that train one model together. Each process is a rank.

Each rank has the whole model and some rows of every minibatch. Gradients are summed over all
ranks, and each rank then takes the same step. Without ``mpiexec`` there is one rank, ``SINGLE_PROCESS``,
whose methods do nothing, and MPI is not imported.

Ranks exchange numbers and JSON. Nothing is pickled.

Every wait for another rank polls a non-blocking call of MPI. So it can end: if it takes longer than
the time limit, the ranks call the roll, and those that do not answer are named.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import hashlib
import json
import math
import os
import socket
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, TypeVar

import numpy as np

from .._checks import positive_number
from .._mxnet import in_memory, mx, nd, repairs, threads
from .._mxnet.context import try_all_gpus, try_gpu
from ..errors import D2LError, is_bad_input
from ..files import printable
from .launcher import ONE_EACH, TIMEOUT, process_name, world_rank, world_size, write_stderr

GRACE = 2.0  # seconds for all ranks to fail together; a rank that fails alone ends the job
NOTICE = 10.0  # seconds after which a rank says whom it waits for at the start
SPINNING = 1.0  # seconds of busy waiting before sleeping, so that short waits stay short
PASSING_ON = 0.5  # seconds for mpiexec to print a line before the job ends
# Tags of empty messages between two ranks. The first one goes through COMM_WORLD, as a user's may.
HERE, LATE, FAILED = range(32_001, 32_004)
_ALL_OR_EACH = (
    f"Let all processes make the same call or, to train one model per process, set {ONE_EACH}=1"
)
BAD_INPUT, INTERRUPTED, FAULT = 2, 130, 70  # exit statuses, as the command has them

T = TypeVar("T")


class RanksError(D2LError, RuntimeError):
    """The ranks cannot train together. The message names the rank and the reason."""


class RootFailed(D2LError, RuntimeError):
    """An operation that rank 0 performs for all ranks failed; rank 0 reports it."""


class Ranks:
    """All ranks, as one of them sees them. This base class is a single process without MPI.

    Attributes:
        rank: number of this one, from 0 on.
        size: how many there are.
    """

    rank = 0
    size = 1

    def part(self, num_rows: int, rank: Optional[int] = None) -> range:
        """Return the rows of a rank (default: this one). Ranks differ by at most one row."""
        rank = self.rank if rank is None else rank
        # Rounded up: of a single row, rank 0 has it.
        return range(-(-num_rows * rank // self.size), -(-num_rows * (rank + 1) // self.size))

    def sum(self, arrays: Sequence[nd.NDArray]) -> None:
        """Replace arrays of each rank by their sums over all of them, in a fixed order."""

    def sum_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """The sums of some numbers over all ranks."""
        return numbers

    def broadcast(self, arrays: Sequence[nd.NDArray]) -> None:
        """Replace arrays of each rank by those of rank 0."""

    def any_set(self, *flags: bool) -> List[bool]:
        """For each flag, return whether any rank has set it."""
        return list(flags)

    def gather(self, array: np.ndarray, axis: int) -> np.ndarray:
        """The parts of an array along an axis, put together on rank 0; the part itself elsewhere.

        Args:
            array: the part of the rows ``part`` gives; it has as many along ``axis``.
            axis: that of the rows.
        """
        return array

    def allgather(self, value: Any) -> List[Any]:
        """Gather one JSON value from every rank, on every rank, in rank order."""
        return [value]

    def on_root(self, function: Callable[[], Any]) -> Any:
        """Call a function on rank 0 and return its result, a JSON value, on every rank.

        Raises:
            RootFailed: on the other ranks, where the function raised something on rank 0.
        """
        return function()

    def broadcast_arrays(self, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Give arrays by name, which rank 0 has, to all."""
        return dict(arrays)

    def root_first(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0 and then on all others. It may take any time."""
        return function()

    def working(self) -> contextlib.AbstractContextManager[None]:
        """Return a context that all ranks enter, and in which each may work for any time.

        It ends on all ranks at once, unless a rank raises an exception.
        """
        return contextlib.nullcontext()

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


SINGLE_PROCESS = Ranks()


@contextlib.contextmanager
def distributed(timeout: float = TIMEOUT) -> Iterator[Ranks]:
    """Work together with the other ranks, if there are any, inside the ``with`` block.

    All ranks have to enter it. It may be entered again, also inside itself.

    Args:
        timeout: seconds after which a rank that does not answer is named and all ranks end.

    Returns:
        A context manager that gives the ranks. An exception on all ranks is raised as usual.
        A rank that raises one alone prints it and ends the others.

    Raises:
        RanksError: if there are several, and MPI cannot be used.
        ValueError: if ``D2L_DEEPRNN_RANKS`` has another value than 1.
    """
    positive_number("rank_timeout", timeout)
    if world_size() == 1:
        yield SINGLE_PROCESS
        return
    ranks = _mpi_ranks(start_mpi(timeout))
    try:
        ranks.meet(timeout)
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
        mpi: the module ``mpi4py.MPI``.
    """

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi
        self._comm = mpi.COMM_WORLD  # until ``meet`` replaces it
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        if self.size != world_size():
            library = str(mpi.Get_library_version()).splitlines()[0].strip("\0 ")
            raise RanksError(
                f"{world_size()} processes were started, but mpi4py's MPI knows of {self.size}: it "
                f"is another MPI than that of the launcher ({library}). Use the launcher "
                "that belongs to it, or an mpi4py that was built for this launcher's MPI"
            )
        self._others = [rank for rank in range(self.size) if rank != self.rank]
        self._hosts: Dict[int, str] = {}
        self._nothing = [None, 0, mpi.BYTE]

    def meet(self, timeout: float) -> None:
        """Wait until all ranks have called this, and share the processors of each host."""
        self._timeout = min(timeout, threading.TIMEOUT_MAX)
        coming = self._announce(HERE)
        missing = self._missing(coming, min(NOTICE, timeout))
        if missing and timeout > NOTICE:
            if self.rank == min(set(range(self.size)) - set(missing)):
                write_stderr(f"d2l-deeprnn: {process_name()} waits for {self._names(missing)}")
            missing = self._missing(coming, timeout - NOTICE)
        if missing:
            raise RanksError(
                f"of {self.size} ranks, {self._names(missing)} did not come within {timeout:g} "
                f"seconds. {_ALL_OR_EACH}"
            )
        if self._comm == self._mpi.COMM_WORLD:
            # Messages of the user must not be mistaken for ours, nor ours for theirs.
            self._comm = self._comm.Dup()
        can_be_bound = hasattr(os, "sched_getaffinity")
        own = sorted(os.sched_getaffinity(0)) if can_be_bound else []
        everywhere = self.allgather([socket.gethostname(), own])
        self._hosts = {rank: host for rank, (host, _) in enumerate(everywhere)}
        if can_be_bound and not repairs.threads_are_chosen():
            of_host = [its for host, its in everywhere if host == self._hosts[self.rank]]
            threads(threads_of(repairs.available_cores(), own, of_host))

    def sum(self, arrays: Sequence[nd.NDArray]) -> None:
        for array in arrays:
            with in_memory(array) as numbers:
                self._wait(self._comm.Iallreduce(self._mpi.IN_PLACE, numbers))

    def sum_numbers(self, numbers: np.ndarray) -> np.ndarray:
        sums = numbers.copy()
        self._wait(self._comm.Iallreduce(self._mpi.IN_PLACE, sums))
        return sums

    def broadcast(self, arrays: Sequence[nd.NDArray]) -> None:
        for array in arrays:
            with in_memory(array) as numbers:
                self._wait(self._comm.Ibcast(numbers))

    def any_set(self, *flags: bool) -> List[bool]:
        return [number > 0 for number in self.sum_numbers(np.array(flags, float))]

    def gather(self, array: np.ndarray, axis: int) -> np.ndarray:
        rows = self.sum_numbers(np.array([float(array.shape[axis])]))
        num_rows = int(rows[0])
        own = np.ascontiguousarray(np.moveaxis(array, axis, 0))
        row_size = own[0].size
        counts = [len(self.part(num_rows, rank)) * row_size for rank in range(self.size)]
        whole = np.empty((num_rows, *own.shape[1:]), own.dtype)
        self._wait(self._comm.Igatherv(own, [whole, counts] if self.rank == 0 else None))
        return np.ascontiguousarray(np.moveaxis(whole, 0, axis)) if self.rank == 0 else array

    def allgather(self, value: Any, timeout: Optional[float] = None) -> List[Any]:
        # Not mpi4py's messages of Python objects: it has one serializer, which user code may need.
        own = np.frombuffer(json.dumps(value).encode(), np.uint8)
        lengths = np.empty(self.size, np.int64)
        self._wait(self._comm.Iallgather(np.array([len(own)], np.int64), lengths), timeout)
        everything = np.empty(lengths.sum(), np.uint8)
        self._wait(self._comm.Iallgatherv(own, [everything, lengths.tolist()]))
        parts = np.split(everything, np.cumsum(lengths)[:-1])
        return [json.loads(part.tobytes()) for part in parts]

    def on_root(self, function: Callable[[], Any], timeout: Optional[float] = None) -> Any:
        outcome: Dict[str, Any] = {}
        if self.rank == 0:
            try:
                outcome["value"] = function()
            except Exception as error:
                self.allgather({"error": str(error)}, timeout)
                raise
        outcome = self.allgather(outcome, timeout)[0]
        if "error" in outcome:
            raise RootFailed(outcome["error"])
        return outcome["value"]

    def broadcast_arrays(self, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        kinds = self.on_root(
            lambda: {name: [a.dtype.str, list(a.shape)] for name, a in arrays.items()}
        )
        given = {}
        for name, (dtype, shape) in kinds.items():
            array = np.ascontiguousarray(arrays[name]) if self.rank == 0 else np.empty(shape, dtype)
            self._wait(self._comm.Ibcast(array.reshape(-1).view(np.uint8)))
            given[name] = array
        return given

    def root_first(self, function: Callable[[], T]) -> T:
        done: List[T] = []
        self.on_root(lambda: done.append(function()), timeout=math.inf)
        with self.working():
            return done[0] if done else function()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        yield
        self._wait(self._comm.Ibarrier(), timeout=math.inf)

    def check_same(self, what: Mapping[str, Any]) -> None:
        there, *others = self.allgather(dict(what))
        for rank, here in enumerate(others, start=1):
            for name in there:
                if here.get(name) != there[name]:
                    raise RanksError(
                        f"{self._names([rank])} was started with another {name} than rank 0: "
                        f"{here.get(name)!r} and not {there[name]!r}. {_ALL_OR_EACH}"
                    )

    def check_equal(self, arrays: Mapping[str, nd.NDArray], when: str) -> None:
        hashed = hashlib.blake2b()
        for array in arrays.values():
            with in_memory(array) as numbers:
                hashed.update(numbers.data)
        everywhere = self.allgather(hashed.hexdigest())
        for rank, found in enumerate(everywhere):
            if found != everywhere[0]:
                raise RanksError(
                    f"the parameters of rank {rank} differ from those of rank 0 {when}: a fault of "
                    "this package, of MPI, or of the machine; go on from the last checkpoint"
                )

    def device(self) -> mx.Context:
        own = self._hosts[self.rank]
        of_host = [rank for rank, host in self._hosts.items() if host == own]
        return device_of(of_host.index(self.rank), len(of_host), try_all_gpus())

    def fail(self, error: BaseException) -> None:
        """Return if all ranks fail now. If only some do, print the error and end all ranks."""
        missing = self._missing(self._announce(FAILED), GRACE)
        if not missing:
            return
        # One after the other: the first to print its error ends the others.
        failing = [rank for rank in range(self.size) if rank not in missing]
        time.sleep(2 * PASSING_ON * failing.index(self.rank))
        expected = isinstance(error, Exception)
        _complain((str(error) if expected else "") or repr(error))
        interrupted = isinstance(error, KeyboardInterrupt)
        status = INTERRUPTED if interrupted else BAD_INPUT if is_bad_input(error) else FAULT
        self._comm.Abort(status)
        os._exit(status)  # MPICH's Abort may return

    def _wait(self, request: Any, timeout: Optional[float] = None) -> None:
        """Wait until a request is complete.

        Args:
            timeout: in seconds; that of ``meet`` if None.

        Raises:
            RanksError: if the time is over, on this rank or another.
        """
        timeout = self._timeout if timeout is None else timeout
        began = time.monotonic()
        while not request.Test():
            waited = time.monotonic() - began
            if waited < SPINNING:
                continue
            time.sleep(0.001)
            if waited > timeout or self._comm.Iprobe(tag=LATE):
                missing = self._missing(self._announce(LATE), GRACE)
                reason = (
                    f"{self._names(missing)} did not answer for {self._timeout:g} seconds: it "
                    "hangs, has ended, or is busy for longer than --rank-timeout"
                    if missing
                    else f"all ranks wait for each other for {self._timeout:g} seconds: they have "
                    "not made the same calls"
                )
                raise RanksError(f"{reason}. The last checkpoint is kept")

    def _announce(self, tag: int) -> Dict[int, Any]:
        """Send all other ranks a message, and begin to receive theirs: a request per rank."""
        coming = {rank: self._comm.Irecv(self._nothing, rank, tag) for rank in self._others}
        for rank in self._others:
            self._comm.Isend(self._nothing, rank, tag).Free()
        return coming

    def _missing(self, coming: Dict[int, Any], seconds: float) -> List[int]:
        """Wait for the messages of all ranks; return those from which none came."""
        end = time.monotonic() + seconds
        while coming and time.monotonic() < end:
            time.sleep(0.001)
            for rank in [rank for rank, request in coming.items() if request.Test()]:
                del coming[rank]
        return list(coming)

    def _names(self, ranks: Sequence[int]) -> str:
        return ", ".join(
            f"rank {rank} on {self._hosts[rank]}" if rank in self._hosts else f"rank {rank}"
            for rank in ranks
        )


def _complain(words: str) -> None:
    write_stderr(f"d2l-deeprnn: error: {process_name()}: {printable(words)}")
    # Give mpiexec time to print the line: ending the job discards what it has not printed.
    time.sleep(PASSING_ON)


@functools.lru_cache(maxsize=None)
def _mpi_ranks(mpi: Any) -> _MPIRanks:
    """The ranks of this process: one object, since MPI has a limited number of communicators."""
    return _MPIRanks(mpi)


def start_mpi(timeout: float) -> Any:
    """Import MPI and start it, unless that is done; return the module.

    Raises:
        RanksError: if MPI cannot be imported.
        ValueError: if ``timeout`` is not above 0.
    """
    positive_number("rank_timeout", timeout)
    try:
        import mpi4py
    except ImportError:
        raise RanksError(
            f"{world_size()} processes were started together, and mpi4py, with which they work "
            "together, is not installed: pip install 'd2l_deeprnn[mpi]'"
        ) from None
    mpi4py.rc.initialize = False  # does nothing if the user has imported MPI
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError, OSError) as error:
        raise RanksError(f"mpi4py cannot be used: {' '.join(str(error).split())}") from None
    if not MPI.Is_initialized():
        _start(MPI, timeout)
    return MPI


def _start(mpi: Any, timeout: float) -> None:
    """Start MPI, which waits until all processes start it."""
    # By ctypes, since mpi4py holds Python's lock in the meantime, and in a thread, so that neither
    # the time limit nor a signal has to wait.
    start = ctypes.CDLL(mpi.__file__).MPI_Init_thread
    arguments = None, None, mpi.THREAD_SERIALIZED, ctypes.byref(ctypes.c_int())
    thread = threading.Thread(target=start, args=arguments, daemon=True)
    thread.start()
    # MPI itself knows nothing of who is missing before it has started.
    missing = (
        f"rank {1 - world_rank()}" if world_size() == 2 else f"some of the {world_size()} processes"
    )
    thread.join(min(NOTICE, timeout))
    if thread.is_alive() and timeout > NOTICE:
        write_stderr(f"d2l-deeprnn: {process_name()} waits for {missing} to start MPI")
        thread.join(min(timeout - NOTICE, threading.TIMEOUT_MAX))
    if thread.is_alive():
        time.sleep(2 * PASSING_ON * world_rank())  # the first to complain ends the others
        _complain(f"{missing} did not start MPI within {timeout:g} seconds. {_ALL_OR_EACH}")
        os._exit(BAD_INPUT)  # Python would take MPI apart while it starts
    mpi.COMM_WORLD.Set_errhandler(mpi.ERRORS_RETURN)  # errors become exceptions
    atexit.register(lambda: mpi.Is_finalized() or mpi.Finalize())
