"""``d2l-deeprnn doctor``: check this machine, and give advice on each problem."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Iterator

from .._mxnet import diagnosis
from .._version import __version__
from ..errors import CorpusError
from ..files import printable
from ..text.known_texts import BOOK_TEXT, locate_text
from .console import BAD_INPUT, DONE, show_paragraph

# A recurrent layer and a matrix product, which different libraries compute.
TRIAL = """
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no core file after a crash
from d2l_deeprnn._mxnet import gluon, nd
layer = gluon.rnn.LSTM(8)
layer.initialize()
layer(nd.ones((2, 1, 8))).wait_to_read()
nd.dot(nd.ones((64, 64)), nd.ones((64, 64))).wait_to_read()
"""


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add no options."""


def run_doctor(arguments: argparse.Namespace) -> int:
    """Check the system and this Python, and try MXNet in a separate process.

    Each problem is printed with its remedy; the exit status is then 2.

    examples:
      d2l-deeprnn doctor
    """
    wsl = " in WSL" if "microsoft" in platform.release().lower() else ""
    show_paragraph(f"d2l_deeprnn {__version__}, {Path(__file__).parents[1]}")
    show_paragraph(f"Python {platform.python_version()}, {sys.executable}")
    show_paragraph(f"{platform.system()} {platform.machine()}{wsl}")
    for package in metadata.distributions():
        name = package.metadata["Name"] or ""  # None after an incomplete installation
        if name.startswith(("mxnet", "numpy")):
            show_paragraph(f"{name} {package.version}")
    problems = diagnosis.obstacles() or list(_trial())
    try:
        show_paragraph(f"the book's text: {locate_text(BOOK_TEXT) or 'not on this machine'}")
    except CorpusError as error:
        problems.append(str(error))
    for problem in problems:
        show_paragraph(f"problem: {problem}")
    if not problems:
        show_paragraph("MXNet works.")
    return BAD_INPUT if problems else DONE


def _trial() -> Iterator[str]:
    trial = subprocess.run(
        [sys.executable, "-c", TRIAL], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if trial.returncode < 0:
        yield diagnosis.crashed(trial.returncode)
    elif trial.returncode:
        lines = trial.stderr.splitlines() or ["MXNet failed and printed nothing"]
        yield printable(lines[-1].partition("CannotImportMXNet: ")[2] or lines[-1])
