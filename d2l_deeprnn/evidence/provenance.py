"""What a result was made with: versions and machine."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Dict, Union

import numpy as np

from .._mxnet import mx, threads
from .._mxnet.repairs import available_cores
from .._version import __version__


def versions(*packages: str) -> Dict[str, str]:
    """Versions of everything that can change a figure.

    Args:
        packages: names of further installed packages that took part.
    """
    return {
        "d2l_deeprnn": __version__,
        "python": platform.python_version(),
        "mxnet": mx.__version__,
        "numpy": np.__version__,
        **{name: metadata.version(name) for name in packages},
    }


def machine() -> Dict[str, Union[str, int]]:
    """The processor, and how much of it this process may use."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "physical_cores_available": available_cores(),
        "threads": str(threads()),
    }


def physical_memory() -> int:
    """The memory of the machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    if sys.platform.startswith("linux"):
        try:
            lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
