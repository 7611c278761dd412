"""How many right trainings does ``d2l-deeprnn reproduce`` refuse?

Runs it with seeds from which the expected ranges were not computed, on the book's text. Writes the
verdicts and the values that they are about to ``results/new_seeds.csv``, and ``.json``.

    python benchmarks/new_seeds.py

Each training runs in a new process with one thread, and takes about five minutes. Its row is
written when it ends, so the script can be interrupted and repeated.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Dict, List

from turns import parser, resume

from d2l_deeprnn.chapter import report
from d2l_deeprnn.chapter.reproduce import Run, reproduce
from d2l_deeprnn.text.corpora import BOOK_TEXT


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--first", type=int, default=1000, help="the first seed")
    options.add_argument("--seeds", type=int, default=10, help="number of seeds")
    arguments = options.parse_args()
    tasks = [{"seed": arguments.first + number} for number in range(arguments.seeds)]
    resume(arguments, __file__, "judge", tasks)


def judge(seed: int) -> List[Dict[str, Any]]:
    """Reproduce the chapter with a seed, and return the row of the training."""
    with tempfile.TemporaryDirectory() as directory:
        run = reproduce(Path(directory) / "run", BOOK_TEXT, seed=seed, log=lambda line: None)
    return [row_of(run)]


def row_of(run: Run) -> Dict[str, Any]:
    """Return the verdict, and which values and predictions it is about."""
    rows, verdict = run.rows(), report.verdict(run)
    same = [p.text == p.printed for p in report.predictions(run) if p.epoch == rows[-1].epoch]
    return {
        "seed": run.settings.seed,
        "agrees": verdict.agrees,
        "outside": " ".join(str(row.epoch) for row in rows if not row.agrees),
        "last_predictions_agree": all(same),
        **{f"judged_{row.epoch}": f"{row.comparable:.6f}" for row in rows},
    }


if __name__ == "__main__":
    main()
