"""``d2l-deeprnn doctor``: check this machine, and say what to do about each problem."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Iterator

from .._mxnet import diagnosis
from .._version import __version__
from ..files import printable
from .console import BAD_INPUT, DONE, show

EXAMPLES = """\
  d2l-deeprnn doctor"""

# A recurrent layer and a product of matrices: they come from different libraries.
TRIAL = """
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file
from d2l_deeprnn._mxnet import gluon, nd
layer = gluon.rnn.LSTM(8)
layer.initialize()
layer(nd.ones((2, 1, 8))).wait_to_read()
nd.dot(nd.ones((64, 64)), nd.ones((64, 64))).wait_to_read()
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = (
        "Check the system and this Python, and let MXNet compute in a process of its own.\n"
        "Print one line per problem, with what to do. If there is one, the status is 2."
    )
    parser.set_defaults(only_prints=True)


def run(arguments: argparse.Namespace) -> int:
    """Print what is here and what is wrong; return the exit status."""
    wsl = " in WSL" if "microsoft" in platform.release().lower() else ""
    show(f"d2l_deeprnn {__version__}, {Path(__file__).parents[1]}")
    show(f"Python {platform.python_version()}, {sys.executable}")
    show(f"{platform.system()} {platform.machine()}{wsl}")
    for package in metadata.distributions():
        name = package.metadata["Name"] or ""  # None after an installation that broke off
        if name.startswith(("mxnet", "numpy")):
            show(f"{name} {package.version}")
    problems = [*(diagnosis.obstacles() or _trial()), *_cache()]
    for problem in problems:
        show(f"problem: {problem}")
    if not problems:
        show("MXNet works, and nothing is missing.")
    return BAD_INPUT if problems else DONE


def _trial() -> Iterator[str]:
    done = subprocess.run(
        [sys.executable, "-c", TRIAL], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode < 0:
        yield diagnosis.crashed(done.returncode)
    elif done.returncode:
        lines = done.stderr.splitlines() or ["MXNet failed and printed nothing"]
        yield printable(lines[-1].partition("CannotImportMXNet: ")[2] or lines[-1])


def _cache() -> Iterator[str]:
    try:
        from ..text.known_texts import SET_CACHE, cache_directory
    except ImportError:  # without NumPy, which is a problem of its own
        return
    cache = cache_directory()
    if cache is None:
        yield f"there is no home directory to keep texts in: {SET_CACHE}"
    else:
        place = next(folder for folder in (cache, *cache.parents) if folder.exists())
        if not os.access(place, os.W_OK):
            yield f"texts cannot be kept in {cache}: {SET_CACHE}"
