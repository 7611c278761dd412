"""Does the memory of a training grow with the number of minibatches?

Trains a small network for 5,000 minibatches and writes its resident memory
now and then to ``results/memory.csv``, with command, versions and machine in
``results/memory.json``. Linux only: it reads ``/proc/self/statm``.

    python benchmarks/memory.py
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import tempfile
from pathlib import Path

from d2l_deeprnn.evidence.provenance import machine, versions
from d2l_deeprnn.files import write_text
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.settings import TrainSettings, as_dict

RESULTS = Path(__file__).resolve().parent.parent / "results"
MINIBATCHES = 5000
EVERY = 500
SETTINGS = TrainSettings(
    corpus=("the_clockmakers_guest", "the_tide_tables"),
    num_hiddens=64,
    dropout=0.2,
    optimizer="adam",
    lr=0.002,
    num_epochs=10**6,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    measured = []
    done = 0

    def measure(progress: object) -> None:
        nonlocal done
        done += 1
        if done % EVERY == 0:
            measured.append((done, resident_mib()))
            print(*measured[-1], flush=True)

    with tempfile.TemporaryDirectory() as directory:
        runs.train(
            SETTINGS,
            Path(directory) / "run",
            on_minibatch=measure,
            should_stop=lambda: done >= MINIBATCHES,
        )
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["minibatches", "resident_mib"])
    writer.writerows((count, f"{mib:.1f}") for count, mib in measured)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out / "memory.csv", table.getvalue())
    report = {
        "command": " ".join(["python", "benchmarks/memory.py", *sys.argv[1:]]),
        "settings": as_dict(SETTINGS),
        "versions": versions(),
        "machine": machine(),
    }
    write_text(arguments.out / "memory.json", json.dumps(report, indent=2) + "\n")


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
