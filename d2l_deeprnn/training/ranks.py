"""Data-parallel training with MPI: ``mpiexec`` starts several processes, which train one model.

Each process is a rank. It has the whole model and computes some rows of every minibatch. Gradients
are summed over all ranks, which then take the same step. Without ``mpiexec`` there is one rank,
``SINGLE_PROCESS``, whose methods do nothing, and MPI is not imported.

Ranks exchange numbers and JSON. Nothing is pickled.

A rank waits for others by polling non-blocking MPI calls. After the time limit, all ranks ping each
other, and the error names those that do not answer.
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
from .._mxnet.library import try_all_gpus, try_gpu
from ..errors import D2LError, is_bad_input
from ..files import printable
from .launcher import ONE_EACH, TIMEOUT, process_name, world_rank, world_size, write_stderr

GRACE = 2.0  # seconds for all ranks to fail together; a rank that fails alone ends the job
NOTICE = 10.0  # seconds after which a rank prints which other ranks it is waiting for
SPINNING = 1.0  # seconds of busy waiting before sleeping, so that short waits stay short
PRINTING = 0.5  # seconds for mpiexec to print a line before the job ends
# Tags of empty messages between two ranks. HERE goes through COMM_WORLD, which users' code may use,
# too, so the tags are unusual.
HERE, LATE, FAILED = range(32_001, 32_004)
_ALL_OR_EACH = (
    f"Make the same call in all processes or, to train one model per process, set {ONE_EACH}=1"
)
BAD_INPUT, INTERRUPTED, FAULT = 2, 130, 70  # exit statuses, the same as in the command line

T = TypeVar("T")


class RanksError(D2LError, RuntimeError):
    """The ranks cannot train together; the message names the rank and the reason."""


class RootFailed(D2LError, RuntimeError):
    """An operation that rank 0 performs for all ranks failed; rank 0 reports it."""


class Ranks:
    """All ranks, as seen by one of them. This base class is a single process without MPI.

    Attributes:
        rank: number of this rank, from 0 on.
        size: number of ranks.
    """

    rank = 0
    size = 1

    def part(self, num_rows: int, rank: Optional[int] = None) -> range:
        """Return the rows of a rank (default: this one). Ranks differ by at most one row."""
        rank = self.rank if rank is None else rank
        # Rounded up, so that rank 0 gets the only row.
        return range(-(-num_rows * rank // self.size), -(-num_rows * (rank + 1) // self.size))

    def sum(self, arrays: Sequence[nd.NDArray]) -> None:
        """Replace arrays by their sums over all ranks, in a fixed order."""

    def sum_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """Return the sums of numbers over all ranks."""
        return numbers

    def broadcast(self, arrays: Sequence[nd.NDArray]) -> None:
        """Replace arrays by those of rank 0."""

    def any_set(self, *flags: bool) -> List[bool]:
        """For each flag, return whether any rank has set it."""
        return list(flags)

    def gather(self, array: np.ndarray, axis: int) -> np.ndarray:
        """Join the ranks' parts of an array on rank 0; other ranks get their own part back.

        Args:
            array: the part of this rank, with the rows that ``part`` returns.
            axis: axis of the rows.
        """
        return array

    def allgather(self, value: Any) -> List[Any]:
        """Gather one JSON value from every rank, on every rank, in rank order."""
        return [value]

    def on_root(self, function: Callable[[], Any]) -> Any:
        """Call a function on rank 0 and return its result, a JSON value, on every rank.

        Raises:
            RootFailed: on the other ranks, if the function raised an exception on rank 0.
        """
        return function()

    def broadcast_arrays(self, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Return the named arrays of rank 0 on every rank."""
        return dict(arrays)

    def root_first(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0 and then on all others, without a time limit."""
        return function()

    def working(self) -> contextlib.AbstractContextManager[None]:
        """Return a context manager for work without a time limit, which all ranks enter.

        At its end, each rank waits for all others, unless a rank raises an exception.
        """
        return contextlib.nullcontext()

    def check_same(self, values: Mapping[str, Any]) -> None:
        """Check that all ranks were started with the same values.

        Args:
            values: JSON values by name.

        Raises:
            RanksError: on all ranks; names the first rank and value that differ from rank 0.
        """

    def check_equal(self, arrays: Mapping[str, nd.NDArray], when: str) -> None:
        """Check that all ranks have the same arrays, to the bit.

        Args:
            arrays: the arrays by name.
            when: time of the comparison, for the message.

        Raises:
            RanksError: on all ranks, if any arrays differ.
        """

    def device(self) -> mx.Context:
        """Return the device of this rank; each rank of a machine with GPUs has its own GPU."""
        return try_gpu()


def digest_of(arrays: Mapping[str, nd.NDArray]) -> str:
    """Return a hash of the values of some arrays."""
    hashed = hashlib.blake2b(digest_size=32)
    for array in arrays.values():
        with in_memory(array) as numbers:
            hashed.update(numbers.data)
    return hashed.hexdigest()


SINGLE_PROCESS = Ranks()


@contextlib.contextmanager
def distributed(timeout: float = TIMEOUT) -> Iterator[Ranks]:
    """Join the other ranks, if there are any, for the duration of a ``with`` block.

    All ranks have to enter it. It may be entered repeatedly, and may be nested.

    Args:
        timeout: seconds after which a rank that does not answer is named and all ranks end.

    Returns:
        A context manager that returns the ranks. If all ranks raise an exception, it is raised
        as usual. If only some do, they print it and end the job.

    Raises:
        RanksError: if there are several ranks, and MPI cannot be used.
        ValueError: if ``D2L_DEEPRNN_RANKS`` is set to a value other than 1.
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
    """Return the device of a rank.

    Args:
        local_rank: its number among the ranks of its machine, from 0 on.
        local_size: number of ranks on that machine.
        devices: the devices of the machine, as returned by ``try_all_gpus``.

    Raises:
        RanksError: if there are GPUs, but fewer than ranks.
    """
    if devices[0].device_type == "cpu":
        return devices[0]
    if local_size > len(devices):
        raise RanksError(
            f"{local_size} ranks were started on {socket.gethostname()}, which has {len(devices)} "
            "GPUs: start one rank per GPU"
        )
    return devices[local_rank]


def threads_of(cores: int, own: Sequence[int], all_of_host: Sequence[Sequence[int]]) -> int:
    """Return the number of threads for a rank.

    Args:
        cores: number of physical cores that it may use.
        own: ids of the processors that it may run on.
        all_of_host: these ids for each rank of its machine, including itself.
    """
    sharing = [sum(processor in other for other in all_of_host) for processor in own]
    share = sum(1 / ranks for ranks in sharing) / len(sharing)
    return max(1, int(cores * share + 1e-9))


class _MPIRanks(Ranks):
    """Several ranks that communicate through ``mpi``, the module ``mpi4py.MPI``."""

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi
        self._comm = mpi.COMM_WORLD  # until ``meet`` replaces it
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        if self.size != world_size():
            library = str(mpi.Get_library_version()).splitlines()[0].strip("\0 ")
            raise RanksError(
                f"{world_size()} processes were started, but mpi4py's MPI sees {self.size}: it is "
                f"not the launcher's MPI ({library}). Use the launcher of that MPI, or an mpi4py "
                "built for this launcher's MPI"
            )
        self._others = [rank for rank in range(self.size) if rank != self.rank]
        self._hosts: Dict[int, str] = {}
        self._nothing = [None, 0, mpi.BYTE]

    def meet(self, timeout: float) -> None:
        """Wait until all ranks have called this, and share the cores of each machine."""
        self._timeout = min(timeout, threading.TIMEOUT_MAX)
        pending = self._ping(HERE)
        missing = self._missing(pending, min(NOTICE, timeout))
        if missing and timeout > NOTICE:
            if self.rank == min(set(range(self.size)) - set(missing)):
                write_stderr(f"d2l-deeprnn: {process_name()} is waiting for {self._names(missing)}")
            missing = self._missing(pending, timeout - NOTICE)
        if missing:
            raise RanksError(
                f"of {self.size} ranks, {self._names(missing)} did not join within {timeout:g} "
                f"seconds. {_ALL_OR_EACH}"
            )
        if self._comm == self._mpi.COMM_WORLD:
            # Keep our messages apart from those of users' code.
            self._comm = self._comm.Dup()
        has_affinity = hasattr(os, "sched_getaffinity")
        own = sorted(os.sched_getaffinity(0)) if has_affinity else []
        everywhere = self.allgather([socket.gethostname(), own])
        self._hosts = {rank: host for rank, (host, _) in enumerate(everywhere)}
        if has_affinity and not repairs.threads_are_chosen():
            ids_here = [ids for host, ids in everywhere if host == self._hosts[self.rank]]
            threads(threads_of(repairs.available_cores(), own, ids_here))

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
        # mpi4py could send Python objects, but it has only one serializer, which users may need.
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
        types = self.on_root(
            lambda: {name: [a.dtype.str, list(a.shape)] for name, a in arrays.items()}
        )
        received = {}
        for name, (dtype, shape) in types.items():
            array = np.ascontiguousarray(arrays[name]) if self.rank == 0 else np.empty(shape, dtype)
            self._wait(self._comm.Ibcast(array.reshape(-1).view(np.uint8)))
            received[name] = array
        return received

    def root_first(self, function: Callable[[], T]) -> T:
        done: List[T] = []
        self.on_root(lambda: done.append(function()), timeout=math.inf)
        with self.working():
            return done[0] if done else function()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        yield
        self._wait(self._comm.Ibarrier(), timeout=math.inf)

    def check_same(self, values: Mapping[str, Any]) -> None:
        root, *others = self.allgather(dict(values))
        for rank, other in enumerate(others, start=1):
            for name in root:
                if other.get(name) != root[name]:
                    raise RanksError(
                        f"{self._names([rank])} was started with another {name} than rank 0: "
                        f"{other.get(name)!r}, not {root[name]!r}. {_ALL_OR_EACH}"
                    )

    def check_equal(self, arrays: Mapping[str, nd.NDArray], when: str) -> None:
        digests = self.allgather(digest_of(arrays))
        for rank, digest in enumerate(digests):
            if digest != digests[0]:
                raise RanksError(
                    f"the parameters of rank {rank} differ from those of rank 0 {when}, because of "
                    "a bug in this package or MPI, or a hardware fault: resume from the last "
                    "checkpoint"
                )

    def device(self) -> mx.Context:
        own = self._hosts[self.rank]
        ranks_here = [rank for rank, host in self._hosts.items() if host == own]
        return device_of(ranks_here.index(self.rank), len(ranks_here), try_all_gpus())

    def fail(self, error: BaseException) -> None:
        """Do nothing if all ranks fail now. If only some do, print the error and end all ranks."""
        missing = self._missing(self._ping(FAILED), GRACE)
        if not missing:
            return
        # One after the other, since the first to print its error ends the others.
        failing = [rank for rank in range(self.size) if rank not in missing]
        time.sleep(2 * PRINTING * failing.index(self.rank))
        expected = isinstance(error, Exception)
        _print_error((str(error) if expected else "") or repr(error))
        interrupted = isinstance(error, KeyboardInterrupt)
        status = INTERRUPTED if interrupted else BAD_INPUT if is_bad_input(error) else FAULT
        self._comm.Abort(status)
        os._exit(status)  # MPICH's Abort may return

    def _wait(self, request: Any, timeout: Optional[float] = None) -> None:
        """Wait until a request is complete.

        Args:
            timeout: the limit in seconds; by default, that of ``meet``.

        Raises:
            RanksError: if the time is up, on this rank or another.
        """
        timeout = self._timeout if timeout is None else timeout
        start = time.monotonic()
        while not request.Test():
            waited = time.monotonic() - start
            if waited < SPINNING:
                continue
            time.sleep(0.001)
            if waited > timeout or self._comm.Iprobe(tag=LATE):
                missing = self._missing(self._ping(LATE), GRACE)
                reason = (
                    f"{self._names(missing)} did not answer for {self._timeout:g} seconds: it "
                    "hangs, has ended, or was busy longer than --rank-timeout"
                    if missing
                    else f"all ranks have waited for each other for {self._timeout:g} seconds: "
                    "they did not make the same calls"
                )
                raise RanksError(f"{reason}. The last checkpoint is kept")

    def _ping(self, tag: int) -> Dict[int, Any]:
        """Send a message to all other ranks; return the pending requests for theirs, by rank."""
        pending = {rank: self._comm.Irecv(self._nothing, rank, tag) for rank in self._others}
        for rank in self._others:
            self._comm.Isend(self._nothing, rank, tag).Free()
        return pending

    def _missing(self, pending: Dict[int, Any], seconds: float) -> List[int]:
        """Wait for messages; return the ranks that sent none in this time."""
        end = time.monotonic() + seconds
        while pending and time.monotonic() < end:
            time.sleep(0.001)
            for rank in [rank for rank, request in pending.items() if request.Test()]:
                del pending[rank]
        return list(pending)

    def _names(self, ranks: Sequence[int]) -> str:
        return ", ".join(
            f"rank {rank} on {self._hosts[rank]}" if rank in self._hosts else f"rank {rank}"
            for rank in ranks
        )


def _print_error(message: str) -> None:
    write_stderr(f"d2l-deeprnn: error: {process_name()}: {printable(message)}")
    # Give mpiexec time to print the line: ending the job discards unprinted output.
    time.sleep(PRINTING)


@functools.lru_cache(maxsize=None)
def _mpi_ranks(mpi: Any) -> _MPIRanks:
    """Return the same object each time, because MPI has a limited number of communicators."""
    return _MPIRanks(mpi)


def start_mpi(timeout: float) -> Any:
    """Import MPI, start it if necessary, and return the module.

    Raises:
        RanksError: if MPI cannot be imported.
        ValueError: if ``timeout`` is not above 0.
    """
    positive_number("rank_timeout", timeout)
    try:
        import mpi4py
    except ImportError:
        raise RanksError(
            f"{world_size()} processes were started together, but mpi4py, which they need, is not "
            "installed: pip install 'd2l_deeprnn[mpi]'"
        ) from None
    mpi4py.rc.initialize = False  # without effect if the user has imported MPI
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError, OSError) as error:
        raise RanksError(f"mpi4py cannot be used: {' '.join(str(error).split())}") from None
    if not MPI.Is_initialized():
        _start(MPI, timeout)
    return MPI


def _start(mpi: Any, timeout: float) -> None:
    """Start MPI, which blocks until all processes start it."""
    # Through ctypes, because mpi4py holds the GIL meanwhile. In a thread, so that the time limit
    # and signals work.
    start = ctypes.CDLL(mpi.__file__).MPI_Init_thread
    arguments = None, None, mpi.THREAD_SERIALIZED, ctypes.byref(ctypes.c_int())
    thread = threading.Thread(target=start, args=arguments, daemon=True)
    thread.start()
    # Before it has started, MPI cannot tell which processes are missing.
    missing = (
        f"rank {1 - world_rank()}" if world_size() == 2 else f"some of the {world_size()} processes"
    )
    thread.join(min(NOTICE, timeout))
    if thread.is_alive() and timeout > NOTICE:
        write_stderr(f"d2l-deeprnn: {process_name()} is waiting for {missing} to start MPI")
        thread.join(min(timeout - NOTICE, threading.TIMEOUT_MAX))
    if thread.is_alive():
        time.sleep(2 * PRINTING * world_rank())  # the first to print its error ends the others
        _print_error(f"{missing} did not start MPI within {timeout:g} seconds. {_ALL_OR_EACH}")
        os._exit(BAD_INPUT)  # a normal exit would finalize MPI while it is starting
    mpi.COMM_WORLD.Set_errhandler(mpi.ERRORS_RETURN)  # errors become exceptions
    atexit.register(lambda: mpi.Is_finalized() or mpi.Finalize())
