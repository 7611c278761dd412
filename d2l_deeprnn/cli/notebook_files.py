"""The files that ``d2l-deeprnn notebooks`` copies.

``setup.py`` runs this file to put them into the wheel, so it imports only the standard library.
"""

from pathlib import Path
from typing import List

# The notebooks, with the rows, code and pages that their cells read and their links open. The paths
# are those of a clone, and the copy has the same ones, so the cells work in both.
PATTERNS = (
    "notebooks/**/*",
    "results/**/*.csv",
    "results/**/*.md",
    "results/**/*.svg",
    "benchmarks/original.py",
    "docs/*.md",
)
FOLDER = "clone"  # in an installed package; it repeats the folders of a clone


def notebook_files(root: Path) -> List[Path]:
    """Return the files below the root of a clone, or of a copy, as relative paths."""
    files = {path for pattern in PATTERNS for path in root.glob(pattern) if path.is_file()}
    names = sorted(path.relative_to(root) for path in files)
    # Not .ipynb_checkpoints and __pycache__
    return [name for name in names if not any(part.startswith((".", "__")) for part in name.parts)]
