"""Draw the pictures in results/ anew, each from its rows; nothing is trained or measured.

    python scripts/pictures.py            # or: make results
    python scripts/pictures.py DIRECTORY  # of results, elsewhere

Those of the exercises are in the notebooks.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from pathlib import Path
from typing import Callable, Dict

import numpy as np

from d2l_deeprnn.chapter import report
from d2l_deeprnn.chapter.book import CHAPTER
from d2l_deeprnn.chapter.reproduce import Run
from d2l_deeprnn.chapter.train import EpochRecord
from d2l_deeprnn.evidence.figures import Figure, save_figure, training_figure
from d2l_deeprnn.evidence.records import read_rows
from d2l_deeprnn.text.vocab import Vocab
from d2l_deeprnn.training.runs import read_history

ROOT = Path(__file__).resolve().parents[1]
# Name of the rows, and of the picture -> script whose `figure`, or whose contest's, draws them
BENCHMARKS = {
    "busy": "busy",
    "copying": "copying",
    "exported_generation": "exported_generation",
    "generation": "generation",
    "minibatch": "minibatch",
    "own_models": "own_models",
    "ranks_model": "links",
    "scaling": "scaling",
    "time_to_perplexity": "time_to_perplexity",
    "whole_process": "whole_process",
    "widths": "widths",
}


def pictures(results: Path) -> Dict[Path, Callable[[], Figure]]:
    """Path of each picture whose rows are there -> what draws it."""
    found = {}
    for name, script in BENCHMARKS.items():
        rows = results / f"{name}.csv"
        if rows.exists():
            found[rows.with_suffix(".svg")] = functools.partial(benchmark, script, rows)
    found[results / "chapter" / "perplexity.svg"] = functools.partial(chapter, results / "chapter")
    found[results / "tinyshakespeare.svg"] = functools.partial(tinyshakespeare, results)
    return found


def benchmark(script: str, rows: Path) -> Figure:
    """Draw what a script in ``benchmarks`` has measured."""
    if str(ROOT / "benchmarks") not in sys.path:
        sys.path.insert(0, str(ROOT / "benchmarks"))
    module = importlib.import_module(script)
    return getattr(module, "CONTEST", module).figure(read_rows(rows))


def chapter(directory: Path) -> Figure:
    """Draw a run of ``d2l-deeprnn reproduce``, as its report does."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    history = [
        EpochRecord(int(row["epoch"]), row["perplexity"], row["seconds"], ())
        for row in read_history(directory)
    ]
    no_text = np.array([], np.int32), Vocab("")
    return report.figure(Run(config["corpus"], CHAPTER, config["seed"], *no_text, history=history))


def tinyshakespeare(results: Path) -> Figure:
    """Draw the three trainings on tinyshakespeare, the runs with seed 0."""
    names = {"first": "", "second": "_longer", "third": "_decay"}
    return training_figure(
        {kind: read_history(results / f"tinyshakespeare{name}") for kind, name in names.items()}
    )


def main() -> None:
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results"
    for path, draw in pictures(results).items():
        save_figure(draw(), path)


if __name__ == "__main__":
    main()
