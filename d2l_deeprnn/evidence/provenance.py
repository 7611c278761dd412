"""The machine and the versions that a result comes from."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Dict, Union

import numpy as np

from .._mxnet import mx, threads
from .._mxnet.repairs import available_cores
from .._version import __version__


def versions(*packages: str) -> Dict[str, str]:
    """Return the versions of everything that can change a result.

    Args:
        packages: names of other installed packages that were used.
    """
    return {
        "d2l_deeprnn": __version__,
        "python": platform.python_version(),
        "mxnet": mx.__version__,
        "numpy": np.__version__,
        **{name: metadata.version(name) for name in packages},
    }


def machine() -> Dict[str, Union[str, int]]:
    """Return the system, the processor, and how many cores and threads this process uses."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "physical_cores_available": available_cores(),
        "threads": str(threads()),
    }


def physical_memory() -> int:
    """Return the memory of the machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
