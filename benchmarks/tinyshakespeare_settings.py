"""What makes the difference on the tinyshakespeare text? One setting changed at a time.

Trains a smaller network than that of ``results/tinyshakespeare``, for fewer
epochs, so that all of them take minutes, and writes, under ``results/``:

- ``tinyshakespeare_settings.csv``: training and held-out loss after each epoch
- ``tinyshakespeare_settings.json``: the command, settings, versions and machine

    D2L_DEEPRNN_DATA=DIR python benchmarks/tinyshakespeare_settings.py
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import tempfile
from pathlib import Path

from d2l_deeprnn.evidence.provenance import machine, versions
from d2l_deeprnn.files import write_text
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.settings import TrainSettings, as_dict

RESULTS = Path(__file__).resolve().parent.parent / "results"
BASE = {
    "corpus": ("tinyshakespeare",),
    "keep_case": True,
    "keep_whitespace": True,
    "num_hiddens": 128,
    "batch_size": 64,
    "num_steps": 64,
    "init": "xavier",
    "forget_bias": 1.0,
    "optimizer": "adam",
    "lr": 0.004,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
}
CHANGED = {
    "base": {},
    "dropout 0.5": {"dropout": 0.5},
    "256 hidden units": {"num_hiddens": 256},
    "64 hidden units": {"num_hiddens": 64},
    "learning rate 0.001": {"lr": 0.001},
    "constant learning rate": {"schedule": "constant"},
    "the chapter's Normal(0.01), no forget bias": {"init": "normal", "forget_bias": 0.0},
    "the chapter's SGD": {"optimizer": "sgd", "lr": 5.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["setting", "epoch", "train_loss", "valid_loss", "seconds"])
    for name, changed in CHANGED.items():
        settings = TrainSettings(
            **{**BASE, "num_epochs": arguments.num_epochs, "seed": arguments.seed, **changed}
        )
        with tempfile.TemporaryDirectory() as directory:
            history = runs.train(settings, Path(directory) / "run").history
        for record in history:
            losses = [f"{loss:.6f}" for loss in (record.train_loss, record.valid_loss)]
            writer.writerow([name, record.epoch, *losses, f"{record.seconds:.1f}"])
        print(name, history[-1], flush=True)
        # After each, so that an interruption loses one only.
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_text(arguments.out / "tinyshakespeare_settings.csv", table.getvalue())
    report = {
        "command": " ".join(["python", "benchmarks/tinyshakespeare_settings.py", *sys.argv[1:]]),
        "base": as_dict(TrainSettings(**BASE)),
        "changed": CHANGED,
        "num_epochs": arguments.num_epochs,
        "seed": arguments.seed,
        "versions": versions(),
        "machine": machine(),
    }
    text = json.dumps(report, indent=2) + "\n"
    write_text(arguments.out / "tinyshakespeare_settings.json", text)


if __name__ == "__main__":
    main()
