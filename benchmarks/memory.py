"""Does the memory of a training grow with the number of minibatches?

Trains a small network for 5,000 minibatches, and writes its resident memory at regular intervals to
``results/memory.csv`` and ``.json``. Linux only: it reads ``/proc/self/statm``.

    python benchmarks/memory.py
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from turns import parser, write

from d2l_deeprnn.training import runs
from d2l_deeprnn.training.settings import TrainSettings, as_dict

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
    arguments = parser(__doc__).parse_args()
    rows = []
    done = 0

    def measure(progress: object) -> None:
        nonlocal done
        done += 1
        if done % EVERY == 0:
            rows.append({"minibatches": done, "resident_mib": round(resident_mib(), 1)})
            print(rows[-1], flush=True)

    with tempfile.TemporaryDirectory() as directory:
        runs.train(
            SETTINGS,
            Path(directory) / "run",
            on_minibatch=measure,
            should_stop=lambda: done >= MINIBATCHES,
        )
    write(arguments, rows, settings=as_dict(SETTINGS))


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
