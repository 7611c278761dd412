"""Execute the notebooks from top to bottom, and stop if a cell raises.

    python notebooks/execute.py            # all of them, outputs saved in place
    python notebooks/execute.py --quick    # a few epochs each, nothing saved

If the book's text is not available, the package's sample text is used instead,
and the cell that loads it prints a note.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from d2l_deeprnn.text.corpora import SAMPLE_TEXT, resolve_auto

HERE = Path(__file__).resolve().parent
CONTROL = "deep-rnn-original"  # it needs the book's file, the only one that the old library reads
FULL, QUICK = "clipping_theta = 500,", "clipping_theta = 8,"
LOAD = "d2l.load_data_time_machine()"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few epochs, nothing saved")
    parser.add_argument("names", nargs="*", help="notebooks without .ipynb (default: all)")
    arguments = parser.parse_args()
    _, missing = resolve_auto()
    names = arguments.names or [path.stem for path in sorted(HERE.glob("*.ipynb"))]
    for name in names:
        if name == CONTROL and missing:
            print(f"{name}: skipped, since it needs the book's text. {missing}")
            continue
        started = time.perf_counter()
        try:
            execute(name, quick=arguments.quick, has_book=not missing)
        except CellExecutionError as error:
            print(f"{name}: a cell raised\n{error}", file=sys.stderr)
            return 1
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    return 0


def execute(name: str, *, quick: bool, has_book: bool) -> None:
    """Execute a notebook; save it with its outputs if it ran in full, on the book's text."""
    path = HERE / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    sources = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        if quick:
            cell.source = cell.source.replace(FULL, QUICK)
        if not has_book:
            sample = f"d2l.load_corpus({SAMPLE_TEXT!r}, 10000)"
            note = "\nprint('This is a sample text, so the values differ from the book\\'s.')"
            cell.source = cell.source.replace(LOAD, sample + note)
    NotebookClient(
        notebook,
        timeout=3600,
        resources={"metadata": {"path": str(HERE)}},
        # Newer kernels warn about the connection to this program, which is local.
        extra_arguments=["--log-level=ERROR"],
    ).execute()
    if quick or not has_book:
        return
    for cell, source in zip(notebook.cells, sources):
        cell.source = source
        cell.metadata.pop("execution", None)  # the time at which each cell was run
    nbformat.write(notebook, path)


if __name__ == "__main__":
    sys.exit(main())
