"""Test the cell of README.md for hosted notebooks such as Colab and Kaggle.

    python scripts/hosted_notebook.py [PYTHON]

Creates an environment with NumPy 2 and the packages that such machines have, and starts a kernel in
which NumPy and matplotlib are already imported. It executes the cell, with a copy of this folder
instead of the repository's address, and then the chapter's cells for a few epochs. This needs a
package index, and the extra ``notebooks`` in the Python that runs the script. PYTHON creates the
environment and needs no packages. CI runs this script.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = "git+ADDRESS"
# The packages of Colab and Kaggle that this package needs
HOSTED = ["numpy>=2", "matplotlib", "requests", "tqdm", "jinja2", "chardet", "setuptools<85"]
LOADED = "import numpy, matplotlib.pyplot\nloaded = numpy.__version__"
# The cell must not replace NumPy, in the kernel or on disk.
UNCHANGED = (
    "from importlib.metadata import version\n"
    "assert numpy.__version__ == loaded == version('numpy') and loaded >= '2', version('numpy')"
)
# A few epochs, on a text that needs no network
SHORTENED = {
    "= 500,": "= 48,",
    "d2l.load_data_time_machine()": "d2l.load_corpus('the_tide_tables', 10000)",
}


def readme_cells() -> list[str]:
    """Return the cell for hosted notebooks and the chapter's cells of README.md."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [hosted] = re.findall(r"^(%pip install .*?)^```", text, re.MULTILINE | re.DOTALL)
    chapter = text.partition("\n## The chapter's cells\n")[2].partition("\nThey print ")[0]
    return [hosted, *re.findall(r"^```python\n(.*?)^```", chapter, re.MULTILINE | re.DOTALL)]


def main() -> int:
    python = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    with tempfile.TemporaryDirectory() as folder:
        machine, source = Path(folder, "machine"), Path(folder, "d2l_deeprnn")
        shutil.copytree(
            ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "results")
        )
        subprocess.run([python, "-m", "venv", str(machine)], check=True)
        installed = machine / "bin" / "python"
        subprocess.run(
            [str(installed), "-m", "pip", "install", "--quiet", "ipykernel", *HOSTED], check=True
        )

        hosted, *chapter = readme_cells()
        assert ADDRESS in hosted, f"README.md's cell does not name {ADDRESS}"
        cells = [LOADED, hosted.replace(ADDRESS, str(source)), UNCHANGED]
        for cell in chapter:
            for printed, shortened in SHORTENED.items():
                cell = cell.replace(printed, shortened)
            cells.append(cell)
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells]
        )
        manager = KernelManager()
        manager.kernel_spec.argv[0] = str(installed)
        client = NotebookClient(notebook, km=manager, resources={"metadata": {"path": folder}})
        started = time.perf_counter()
        client.execute()
        seconds = time.perf_counter() - started

    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert re.search(r"^epoch 48, perplexity \d+\.\d+", printed, re.MULTILINE), printed
    print(printed)
    print(f"README.md's cell and the chapter's, 48 epochs: {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
