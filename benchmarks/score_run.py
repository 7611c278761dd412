"""Score the held-out text of a finished run.

Writes ``evaluation.json`` into the run's directory: the loss of the best checkpoint with 32 rows
side by side, and with one row, which is exact.

    d2l-deeprnn train --corpus tinyshakespeare ... --out DIR
    python benchmarks/score_run.py DIR
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from d2l_deeprnn.evidence.records import write_description
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.evaluate import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory

    run = runs.load_run(directory)
    text = runs.read_own_text(directory)
    best = min(run.history, key=lambda record: record.loss)
    report = {
        "command": f"python benchmarks/score_run.py {directory.name}",
        "best_epoch": best.epoch,
        "seconds_to_best_epoch": best.seconds,
        "seconds": run.history[-1].seconds,
        "num_chars": len(text.valid) - 1,
        "nats_32_rows": evaluate(run.model, text.valid, run.ctx).nats,
        "nats_1_row": evaluate(run.model, text.valid, run.ctx, batch_size=1).nats,
    }
    write_description(directory / "evaluation.json", **report)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
