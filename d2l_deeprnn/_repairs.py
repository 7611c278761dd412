"""What MXNet 1.9.1 needs from today's Python before it can be imported.

MXNet was retired in 2023. Its last release still asks NumPy for a name that
NumPy 1.24 removed, chooses half of the processors as its number of threads,
and copies large arrays with threads that are then in the way of the others.
All of it can be put right from outside, and that is all that happens here:
nothing in this module imports MXNet (that takes seconds), so it is cheap
enough to run whenever ``d2l_deeprnn`` is imported.

Python 3.12 also dropped ``distutils``, which MXNet imports. setuptools brings
it back by being installed, so that repair is a requirement in ``setup.py``.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator, Optional

import numpy as np

THREADS_VARIABLE = "OMP_NUM_THREADS"
USER_SET_THREADS = THREADS_VARIABLE in os.environ  # before prepare() sets it
COPY_VARIABLE = "MXNET_CPU_PARALLEL_SIZE"  # numbers in an array that is copied by several threads


def prepare() -> None:
    """Make ``import mxnet`` work and give it one thread for each physical core.

    Call it before the first ``import mxnet``. Values of ``OMP_NUM_THREADS`` and
    ``MXNET_CPU_PARALLEL_SIZE`` that the user has set are left alone.
    """
    # A look into the namespace and not hasattr: NumPy answers a hasattr for
    # this name with a warning.
    if "bool" not in vars(np):
        np.bool = bool  # type: ignore[attr-defined, misc, assignment, unused-ignore]
    # OpenMP reads the variable once, when MXNet's library is loaded.
    os.environ.setdefault(THREADS_VARIABLE, str(available_cores()))
    # A large array that goes to the device or comes from it is copied in the main
    # thread. Done by several threads, they are a second team beside the one that
    # computes; GNU's OpenMP then has more threads than processors, and from there on
    # puts every thread to sleep at every barrier: training takes twice the time.
    os.environ.setdefault(COPY_VARIABLE, str(2**31 - 1))


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


def _cores_in_affinity() -> int:
    if sys.platform == "darwin":
        return _macos_cores() or os.cpu_count() or 1
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    processors = os.sched_getaffinity(0)
    topology = Path("/sys/devices/system/cpu")
    cores = set()
    for processor in processors:
        siblings = topology / f"cpu{processor}" / "topology" / "thread_siblings_list"
        try:
            cores.add(siblings.read_text().strip())
        except OSError:  # no topology, as in some sandboxes: every processor counts
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
    """The smallest processor quota on the way to the root, in processors."""
    quotas = list(_quotas(cgroup_file, mount))
    return min(quotas) if quotas else None


def _quotas(cgroup_file: Path, mount: Path) -> Iterator[float]:
    try:
        lines = cgroup_file.read_text().splitlines()
    except OSError:  # not Linux, or no control groups
        return
    for line in lines:
        # hierarchy-number:controllers:path; version 2 has no controllers
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, read = mount, _quota_version_2
        elif "cpu" in controllers.split(","):
            root, read = mount / controllers, _quota_version_1
        else:
            continue
        group = root / path.lstrip("/")
        # Inside a container the path may be the host's and not exist here;
        # its parents, up to the mount point, are looked at all the same.
        for folder in [group, *group.parents]:
            quota = read(folder)
            if quota is not None:
                yield quota
            if folder == root:
                break


def _quota_version_2(group: Path) -> Optional[float]:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_version_1(group: Path) -> Optional[float]:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
        return None if quota <= 0 else quota / period
    except (OSError, ValueError):
        return None
