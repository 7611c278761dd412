"""What MXNet 1.9.1 needs from today's Python before it can be imported.

MXNet was retired in 2023. Its last release still asks NumPy for names that
NumPy has removed since (``old_numpy``), chooses half of the processors as its number of threads,
has them wait for each other in a way that other programs bring to a standstill,
copies large arrays with threads that are then in the way of the others, and
crashes over large weights that are a part of another array.
All of it can be put right from outside, and that is all that happens here:
nothing in this module imports MXNet (that takes seconds), so it is cheap
enough to run whenever ``d2l_deeprnn`` is imported.

Python 3.12 also dropped ``distutils``, which MXNet imports. setuptools brings
it back by being installed, so that repair is a requirement in ``setup.py``.
What a machine lacks, and what to do about it, is in ``diagnosis``.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import subprocess
import sys
import warnings
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Optional

from ..errors import D2LError
from . import diagnosis

THREADS_VARIABLE = "OMP_NUM_THREADS"
COPY_VARIABLE = "MXNET_CPU_PARALLEL_SIZE"  # numbers in an array that is copied by several threads
LAYOUT_VARIABLE = "MXNET_MKLDNN_FORCE_FC_AB_FORMAT"  # whether large weights keep their layout
SPIN_VARIABLE = "GOMP_SPINCOUNT"  # turns of a loop in which a thread waits before it sleeps
POLICY_VARIABLE = "OMP_WAIT_POLICY"  # the same in a word
# All that importing the package may set in the environment.
VARIABLES = (THREADS_VARIABLE, COPY_VARIABLE, LAYOUT_VARIABLE, SPIN_VARIABLE)
# GNU's OpenMP takes 300,000, which are milliseconds. In a minibatch there are hundreds of places
# where threads wait for each other. If another program has taken the processor of one thread, the
# loops of the others keep theirs busy, and a minibatch takes up to ten times as long.
# Measured by benchmarks/busy.py.
SPINS = 3000


class CannotImportMXNet(D2LError, ImportError):
    """MXNet cannot be imported on this system; the message says why, and what to do."""


class _QuietFinder:
    """Finds MXNet for every ``import mxnet``, the user's too, so that importing it works quietly.

    A warnings filter would not do: test runners such as pytest reset the filters for each test.
    """

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        spec = PathFinder.find_spec(name) if name == "mxnet" else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _QuietLoader(name, spec.loader.path)
        return spec


class _QuietLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        if not hasattr(module, "base"):  # not a reload
            # Submodules that a failed import left behind would not become attributes.
            for name in [name for name in sys.modules if name.startswith("mxnet.")]:
                del sys.modules[name]
        from . import old_numpy  # which needs NumPy

        # Differs: MXNet uses deprecated names of NumPy and distutils. They still work, and MXNet
        # is no longer maintained.
        with warnings.catch_warnings(), old_numpy.names():
            warnings.simplefilter("ignore", DeprecationWarning)
            super().exec_module(module)
        old_numpy.adapt()


def prepare() -> None:
    """Make ``import mxnet`` work, quietly, and give it one thread for each physical core.

    Call it before the first ``import mxnet``. A number of threads that the user has set in
    ``OMP_NUM_THREADS`` is kept, of several the first; ``MXNET_CPU_PARALLEL_SIZE`` and
    ``MXNET_MKLDNN_FORCE_FC_AB_FORMAT`` are left alone if they are set, and so is how threads wait
    for each other (``GOMP_SPINCOUNT``, ``OMP_WAIT_POLICY``).

    Raises:
        CannotImportMXNet: If MXNet or NumPy is not installed, or because of ``python -OO``.
    """
    if sys.flags.optimize > 1:
        raise CannotImportMXNet(
            "MXNet 1.9.1 needs its docstrings, which Python's option -OO removes: use -O, or set "
            "PYTHONOPTIMIZE to 1"
        )
    for name in ("numpy", "mxnet"):
        if find_spec(name) is None:
            raise CannotImportMXNet(diagnosis.explain(ModuleNotFoundError(name=name)))
    if _QuietFinder not in sys.meta_path:
        sys.meta_path.insert(0, _QuietFinder)
    # Read once, when MXNet's library is loaded, by OpenMP and by MXNet itself, which ends the
    # process over anything but one whole number.
    global _chosen
    if _chosen is None:  # later it is what was written here
        _chosen = _given_threads() is not None
    os.environ[THREADS_VARIABLE] = str(_wanted_threads())
    if POLICY_VARIABLE not in os.environ:
        os.environ.setdefault(SPIN_VARIABLE, str(SPINS))
    # A large array that goes to the device or comes from it is copied in the main
    # thread. Done by several threads, they are a second team beside the one that
    # computes; GNU's OpenMP then has more threads than processors, and from there on
    # puts every thread to sleep at every barrier: training takes twice the time.
    os.environ.setdefault(COPY_VARIABLE, str(2**31 - 1))
    # When a layer with weights of 1,024 by 1,024 or more reads 16,384 rows or more at once, MXNet
    # brings the weights into another layout in place. Where they are a part of a longer array, as
    # after training, it takes that for the weights, and crashes.
    os.environ.setdefault(LAYOUT_VARIABLE, "1")


_chosen: Optional[bool] = None


def threads_are_chosen() -> bool:
    """Whether the user has asked for a number of threads."""
    return bool(_chosen)


def _given_threads() -> Optional[int]:
    # OpenMP takes a number for each level of nesting. MXNet has one level.
    first = os.environ.get(THREADS_VARIABLE, "").split(",")[0].strip()
    is_number = re.fullmatch(r"\+?[0-9]+", first) and 0 < int(first) < 2**31
    return int(first) if is_number else None


def _wanted_threads() -> int:
    """The number of threads that the user asks for, otherwise one for each physical core."""
    given = _given_threads()
    if given is not None:
        return given
    value = os.environ.get(THREADS_VARIABLE, "")
    cores = available_cores()
    if value.strip():
        warnings.warn(
            f"{THREADS_VARIABLE} is {value!r}, which is not a number of threads; MXNet uses "
            f"{cores}, the number of physical cores",
            RuntimeWarning,
            stacklevel=4,  # whoever imports the package
        )
    return cores


def available_cores() -> int:
    """Physical cores that this process may use, at least 1.

    Two hardware threads of one core share its arithmetic units, so a second
    one does not make a matrix product faster. Respected are the processor
    affinity of the process and the processor quota of its container.
    """
    cores = _cores_in_affinity()
    quota = _container_quota()
    if quota is not None:
        cores = min(cores, math.ceil(quota))
    return max(1, cores)


# What the kernel says is read from files that a sandbox or another kernel may fill with anything.
# None of it may keep the package from being imported: what cannot be read does not count.
_UNREADABLE = (OSError, ValueError, ArithmeticError)


def _cores_in_affinity() -> int:
    if sys.platform == "darwin":
        return _macos_cores() or os.cpu_count() or 1
    try:
        processors = os.sched_getaffinity(0)
    except (AttributeError, OSError):  # not on every system, nor in every sandbox
        return os.cpu_count() or 1
    topology = Path("/sys/devices/system/cpu")
    cores = set()
    for processor in processors:
        siblings = topology / f"cpu{processor}" / "topology" / "thread_siblings_list"
        try:
            cores.add(siblings.read_text().strip())
        except _UNREADABLE:  # no topology, as in some sandboxes: every processor counts
            return len(processors)
    return len(cores)


def _macos_cores() -> Optional[int]:
    command = ["/usr/sbin/sysctl", "-n", "hw.physicalcpu"]
    try:
        answer = subprocess.run(command, stdout=subprocess.PIPE, timeout=5, check=True).stdout
        return int(answer)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _container_quota(
    cgroup_file: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> Optional[float]:
    """Return the smallest quota of processors from this process's control group to the root.

    Only control groups of version 2 are read.
    """
    try:
        lines = cgroup_file.read_text(errors="surrogateescape").splitlines()
    except _UNREADABLE:  # not Linux, or no control groups
        return None
    quotas = []
    for path in [line[len("0::") :] for line in lines if line.startswith("0::")]:
        group = mount / path.lstrip("/")
        # Inside a container the path may be the host's and not exist here;
        # its parents, up to the mount point, are looked at all the same.
        for folder in [group, *group.parents]:
            with contextlib.suppress(*_UNREADABLE):
                quota, period = (folder / "cpu.max").read_text().split()
                if quota != "max" and int(quota) / int(period) > 0:
                    quotas.append(int(quota) / int(period))
            if folder == mount:
                break
    return min(quotas, default=None)
