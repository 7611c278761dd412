"""The library of 2019, ``d2l`` 0.9.1, as published, with the repairs that it needs today.

Tests, benchmarks and the control notebook import the library from here.
"""

from __future__ import annotations

import atexit
import importlib
import os
import runpy
import shutil
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Tuple


def repair() -> None:
    """Make it possible to import ``mxnet`` 1.9.1 and ``d2l`` 0.9.1, and change nothing else."""
    import numpy
    from IPython import display

    # Not imported: importing the package would change the environment, too.
    package = Path(find_spec("d2l_deeprnn").origin).parent
    vars(numpy).update(runpy.run_path(str(package / "_mxnet" / "old_numpy.py"))["missing"]())
    display.set_matplotlib_formats = lambda *formats, **settings: None  # removed from IPython


def load() -> Tuple[ModuleType, ModuleType]:
    """Return the library, and its module ``d2l.train``, which the function ``d2l.train`` hides."""
    repair()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("d2l"), importlib.import_module("d2l.train")


def enter_notebook_directory(data: Path) -> None:
    """Change to a temporary directory from which the library finds its text, ``../data``.

    Args:
        data: directory of ``timemachine.txt``.
    """
    place = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    (place / "data").symlink_to(data.resolve())
    (place / "notebook").mkdir()
    os.chdir(place / "notebook")
