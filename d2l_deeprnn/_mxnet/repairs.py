"""Prepare today's Python for MXNet 1.9.1, which was retired in 2023.

MXNet asks NumPy for names that NumPy has removed (see ``old_numpy``) and uses half of the
processors. It lets its threads spin, which stalls on a busy machine; copies large arrays with a
second thread team; and crashes when large weights are views of another array. All of this can be
repaired before MXNet is imported. Nothing here imports it, so importing ``d2l_deeprnn`` is fast.

``diagnosis`` finds what a machine lacks. Python 3.12 dropped ``distutils``, which MXNet imports;
``setup.py`` requires setuptools, which provides it.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
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
COPY_VARIABLE = "MXNET_CPU_PARALLEL_SIZE"  # numbers in an array that several threads copy
LAYOUT_VARIABLE = "MXNET_MKLDNN_FORCE_FC_AB_FORMAT"  # whether large weights keep their layout
SPIN_VARIABLE = "GOMP_SPINCOUNT"  # turns of a loop in which a thread waits before it sleeps
POLICY_VARIABLE = "OMP_WAIT_POLICY"  # the same in a word
# All that importing the package may set in the environment.
VARIABLES = (THREADS_VARIABLE, COPY_VARIABLE, LAYOUT_VARIABLE, SPIN_VARIABLE)
# GNU's OpenMP spins 300,000 times, which are milliseconds, at hundreds of places in a minibatch. If
# another program takes one thread's processor, the others keep theirs busy meanwhile, and a
# minibatch takes up to ten times as long. Measured by benchmarks/busy.py.
SPINS = 3000


class CannotImportMXNet(D2LError, ImportError):
    """MXNet cannot be imported on this system; the message gives the reason and a remedy."""


class _QuietFinder:
    """Finder that makes every ``import mxnet`` work without warnings, also in the user's code.

    A global warnings filter is not enough: pytest, for example, resets the filters for each test.
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
            # Submodules left behind by a failed import would not become attributes.
            for name in [name for name in sys.modules if name.startswith("mxnet.")]:
                del sys.modules[name]
        from . import old_numpy  # needs NumPy

        # Differs: MXNet uses deprecated names of NumPy and distutils, and is not maintained.
        with warnings.catch_warnings(), old_numpy.names():
            warnings.simplefilter("ignore", DeprecationWarning)
            super().exec_module(module)
        old_numpy.adapt()


def prepare() -> None:
    """Make ``import mxnet`` work without warnings, with one thread for each physical core.

    Call it before the first ``import mxnet``. Variables that the user has set are kept; of several
    numbers in ``OMP_NUM_THREADS``, the first counts.

    Raises:
        CannotImportMXNet: if MXNet or NumPy is not installed, or under ``python -OO``.
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
    _set_threads()
    if POLICY_VARIABLE not in os.environ:
        os.environ.setdefault(SPIN_VARIABLE, str(SPINS))
    # Let one thread copy large arrays. A second OpenMP team makes more threads than processors,
    # and libgomp then blocks at every barrier: training takes twice the time.
    os.environ.setdefault(COPY_VARIABLE, str(2**31 - 1))
    # When a layer with weights of 1,024 by 1,024 or more reads 16,384 rows or more, MXNet changes
    # the weights' layout in place. It crashes if they are views of a longer array, as after
    # training.
    os.environ.setdefault(LAYOUT_VARIABLE, "1")


_chosen: Optional[bool] = None


def threads_are_chosen() -> bool:
    """Return whether the user has asked for a number of threads."""
    return bool(_chosen)


def _set_threads() -> None:
    """Set the variable to one number: any other value ends the process when MXNet is loaded."""
    global _chosen
    value = os.environ.get(THREADS_VARIABLE, "")
    # OpenMP takes a number for each level of nesting. MXNet has one level.
    first = value.split(",")[0].strip()
    valid = bool(re.fullmatch(r"\+?[0-9]+", first)) and 0 < int(first) < 2**31
    if _chosen is None:  # at later calls, the value is our own
        _chosen = valid
    number = int(first) if valid else available_cores()
    if value.strip() and not valid:
        warnings.warn(
            f"{THREADS_VARIABLE} is {value!r}, which is not a number of threads; MXNet uses "
            f"{number}, the number of physical cores",
            RuntimeWarning,
            stacklevel=4,  # the import of the package
        )
    os.environ[THREADS_VARIABLE] = str(number)


def available_cores() -> int:
    """Return how many physical cores this process may use, at least 1.

    Two hardware threads of a core share its arithmetic units, so the second does not speed up a
    matrix product. The process's affinity and the container's quota are respected.
    """
    cores, quota = _cores_in_affinity(), _container_quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


# Unreadable files are ignored; they must never prevent the import.
_UNREADABLE = (OSError, ValueError, ArithmeticError)


def _cores_in_affinity() -> int:
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
        except _UNREADABLE:  # no topology, as in some sandboxes: count processors
            return len(processors)
    return len(cores)


def _container_quota(
    cgroup_file: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> Optional[float]:
    """Return the smallest processor quota from this process's control group to the root.

    Only version 2 of control groups is read.
    """
    try:
        lines = cgroup_file.read_text(errors="surrogateescape").splitlines()
    except _UNREADABLE:  # not Linux, or no control groups
        return None
    quotas = []
    for path in [line[len("0::") :] for line in lines if line.startswith("0::")]:
        group = mount / path.lstrip("/")
        # In a container, the path may be the host's and not exist. Its parents do.
        for folder in [group, *group.parents]:
            with contextlib.suppress(*_UNREADABLE):
                quota, period = (folder / "cpu.max").read_text().split()
                if quota != "max" and int(quota) / int(period) > 0:
                    quotas.append(int(quota) / int(period))
            if folder == mount:
                break
    return min(quotas, default=None)
