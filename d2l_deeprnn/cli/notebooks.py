"""``d2l-deeprnn notebooks``: a copy of the notebooks, to run and to change."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from ..errors import D2LError
from ..files import atomic_file
from .console import DONE, show
from .notebook_files import FOLDER, notebook_files
from .options import add_path

PACKAGE = Path(__file__).parents[1]
FIRST = Path("notebooks", "deep-rnn.ipynb")


def add_notebooks(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``notebooks``."""
    default = Path("deep-rnn-notebooks")
    add_path(parser, "directory", f"where to (default: {default})", default=default, nargs="?")
    parser.add_argument(
        "--open", action="store_true", help="then start JupyterLab there (default: no)"
    )


def run_notebooks(arguments: argparse.Namespace) -> int:
    """Copy the notebooks into a directory, with the results that they show.

    Files that are already in the directory are kept. Those that differ from the
    originals, such as notebooks that you have run or changed, are listed.

    examples:
      d2l-deeprnn notebooks
      d2l-deeprnn notebooks my-copy --open
    """
    directory = arguments.directory
    _copy(directory)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={directory.absolute()}"]
    command.append(f"--LabApp.default_url=/lab/tree/{FIRST}")
    if not arguments.open:
        show(f"To open them: d2l-deeprnn notebooks {shlex.quote(str(directory))} --open")
        return DONE
    if find_spec("jupyterlab") is None:
        raise D2LError(f"JupyterLab is not installed. Install it, then repeat this: {_install()}")
    show(f"Starting {shlex.join(command)}")
    os.execv(command[0], command)  # so that Ctrl-C and the exit status are JupyterLab's


def _copy(directory: Path) -> None:
    source = PACKAGE / FOLDER
    if not source.is_dir():
        source = PACKAGE.parent  # a clone
    names = notebook_files(source)
    if FIRST not in names:
        raise D2LError(
            f"{PACKAGE} has no notebooks: install the package again with pip, or use a clone"
        )
    if directory.exists() and not directory.is_dir():
        raise D2LError(f"{directory} is not a directory: choose another directory")
    place = directory.resolve()
    for folder in {source / name.parts[0] for name in names}:
        if folder.resolve() in (place, *place.parents):
            raise D2LError(
                f"{directory} is inside {folder}, so it would be copied, too: choose another "
                "directory"
            )
    copied, kept = 0, []
    for name in names:
        target, data = directory / name, (source / name).read_bytes()
        if os.path.lexists(target):
            if not target.is_file() or target.read_bytes() != data:
                kept.append(target)
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise D2LError(
                f"{error.filename} is not a directory: rename it, or choose another directory"
            ) from None
        with atomic_file(target) as file:
            file.write(data)
        copied += 1
    show(f"Files copied to {directory}: {copied}; already there: {len(names) - copied}")
    for target in kept:
        show(f"Kept, though it differs from the original: {target}")
    if kept:
        show("For the original of a file, rename or remove yours, then repeat this command.")


def _install() -> str:
    """Return the command that installs the extra for notebooks into this Python."""
    python = shlex.quote(sys.executable)
    install = f"{python} -m pip install" if find_spec("pip") else f"uv pip install -p {python}"
    return f"{install} 'd2l_deeprnn[notebooks]'"
