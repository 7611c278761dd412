"""Draw the plots in results/ from the rows beside them. Nothing is trained or measured.

Also writes the curves of other seeds that the reports of ``d2l-deeprnn reproduce`` show.

    python scripts/pictures.py            # or: make results
    python scripts/pictures.py DIRECTORY  # another directory of results

The plots of the exercises are in the notebooks.
"""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from typing import Callable, Dict, Union

from d2l_deeprnn.chapter import book, report
from d2l_deeprnn.chapter.reproduce import Run
from d2l_deeprnn.chapter.train import EpochRecord
from d2l_deeprnn.evidence.figures import (
    Figure,
    Level,
    Line,
    lines_figure,
    perplexity_figure,
    save_figure,
)
from d2l_deeprnn.evidence.records import column, group_by, read_rows, select
from d2l_deeprnn.training.run_directory import read_config
from d2l_deeprnn.training.runs import read_history
from d2l_deeprnn.training.settings import from_dict

ROOT = Path(__file__).resolve().parents[1]
NANOGPT = 1.4697  # held-out nats per character of its character model, as its README says
HIGHEST_LOSS = 1.8  # the plot leaves out higher ones
# Name of the rows and of the plot -> script with a function `figure`, or with a contest
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
    """Return functions that draw the plots, by the paths of the plots."""
    draw = {}
    for name, script in BENCHMARKS.items():
        rows = results / f"{name}.csv"
        if rows.exists():
            draw[rows.with_suffix(".svg")] = functools.partial(benchmark, script, rows)
    draw[results / "chapter" / "perplexity.svg"] = functools.partial(chapter, results / "chapter")
    if (results / "lecture_curves.csv").exists():
        draw[results / "lecture.svg"] = functools.partial(lecture, results)
    draw[results / "tinyshakespeare.svg"] = functools.partial(tinyshakespeare, results)
    return draw


def other_seeds(results: Path) -> str:
    """Return the curves of the chapter's trainings, with one column for each seed."""
    seeds = group_by(read_rows(results / "chapter_curves.csv"), "seed")
    values = [[f"{x:.3g}" for x in column(rows, "perplexity")] for rows in seeds.values()]
    lines = [map(str, seeds), *zip(*values)]
    return "".join(f"{','.join(line)}\n" for line in lines)


def benchmark(script: str, rows: Path) -> Figure:
    """Draw the rows of a script in ``benchmarks``."""
    if str(ROOT / "benchmarks") not in sys.path:
        sys.path.insert(0, str(ROOT / "benchmarks"))
    module = importlib.import_module(script)
    return getattr(module, "CONTEST", module).figure(read_rows(rows))


def chapter(directory: Path) -> Figure:
    """Draw a run of ``d2l-deeprnn reproduce``, as in its report."""
    config = read_config(directory)
    assert config is not None
    history = [
        EpochRecord(int(row["epoch"]), row["perplexity"], row["seconds"], ())
        for row in read_history(directory)
    ]
    return report.figure(Run(from_dict(config["settings"]), history))


def lecture(results: Path) -> Figure:
    """Draw the runs over seeds with the lecture's settings, with the printed points."""
    seeds = group_by(read_rows(results / "lecture_curves.csv"), "seed")
    curves = {
        f"seed {seed}": (column(rows, "epoch"), column(rows, "perplexity"))
        for seed, rows in seeds.items()
    }
    return perplexity_figure(curves, marks=book.LECTURE.marks)


def tinyshakespeare(results: Path) -> Figure:
    """Draw the held-out loss of the three trainings, with seed 0, and that of other models."""
    names = {"first": "", "second": "_longer", "third": "_decay"}
    lines: Dict[str, Union[Line, Level]] = {}
    for kind, name in names.items():
        history = read_history(results / f"tinyshakespeare{name}")
        shown = [row for row in history if row["valid_loss"] < HIGHEST_LOSS]
        lowest = min(column(history, "valid_loss"))
        lines[f"{kind} training, {lowest:.4f}"] = Line(
            column(shown, "epoch"), column(shown, "valid_loss")
        )
    third = list(lines)[-1]
    counted = select(read_rows(results / "counting.csv"), text="tinyshakespeare")
    levels = {f"{row['model']} of order {row['order']}": row["nats"] for row in counted}
    for label, nats in {"nanoGPT": NANOGPT, **levels}.items():
        lines[f"{label}, {nats:.4f}"] = Level(nats)
    return lines_figure(
        {"": lines},
        "epoch",
        "held-out nats per character\n(lower is better)",
        ours=[third],
        title="A two-layer LSTM ends below nanoGPT's character model on tinyshakespeare",
    )


def main() -> None:
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results"
    for path, draw in pictures(results).items():
        save_figure(draw(), path)
    (ROOT / "d2l_deeprnn" / report.SEEDS).write_text(other_seeds(ROOT / "results"))


if __name__ == "__main__":
    main()
