"""How long do 20 epochs of the chapter take as a whole process, and how much memory?

Runs two programs in turn, each from the start of Python to its end: the
chapter's cells on ``d2l`` 0.9.1 as installed (with the repairs that let it be
imported today), and the same cells on this package. Writes
``results/whole_process.csv`` and ``.json``.

    python benchmarks/whole_process.py

It needs the extra ``test`` and the book's text in ``$D2L_DEEPRNN_DATA``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

RESULTS = Path(__file__).resolve().parent.parent / "results"

CELLS = """
import random
import mxnet as mx
from mxnet.gluon import rnn
random.seed(0)
mx.random.seed(0)
corpus_indices, vocab = d2l.load_data_time_machine()
model = d2l.RNNModel(rnn.LSTM(hidden_size=256, num_layers=2), len(vocab))
d2l.train_and_predict_rnn_gluon(model, 256, corpus_indices, vocab, d2l.try_gpu(),
                                20, 35, 5, 1, 32, ['traveller', 'time traveller'])
"""
REPAIRS = """
import numpy
numpy.bool = bool
from IPython import display
display.set_matplotlib_formats = lambda *formats: None
import d2l
"""
PROGRAMS = {
    "d2l 0.9.1 as installed": REPAIRS + CELLS,
    "d2l_deeprnn": "import d2l_deeprnn as d2l" + CELLS,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        # The original opens ../data/timemachine.txt.
        (Path(folder) / "data").symlink_to(Path(os.environ["D2L_DEEPRNN_DATA"]).resolve())
        (Path(folder) / "notebook").mkdir()
        for round_ in tqdm(range(-1, arguments.rounds), unit="round", disable=None):
            for name, program in PROGRAMS.items():
                seconds, mebibytes, printed = measure(program, Path(folder) / "notebook")
                if round_ >= 0:  # the round before fills the caches
                    rows.append([round_, name, f"{seconds:.3f}", f"{mebibytes:.0f}", printed])

    with open(arguments.out / "whole_process.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["round", "program", "seconds", "peak_memory_mib", "perplexity_epoch_20"])
        writer.writerows(rows)
    write_made_with(arguments)
    summarize(rows)


def measure(program: str, folder: Path):
    """Run a program; return seconds, peak memory in MiB and the last perplexity it printed."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=str(folder), stdout=subprocess.PIPE, text=True
    )
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status != 0:
        raise RuntimeError("a program failed; its message is above")
    process.returncode = 0  # it was waited for
    # ru_maxrss is in KiB on Linux and in bytes on macOS.
    scale = 2**20 if sys.platform == "darwin" else 2**10
    perplexity = printed.split("epoch 20, perplexity ")[1].split(",")[0]
    return seconds, usage.ru_maxrss / scale, perplexity


def summarize(rows) -> None:
    seconds = {name: [float(row[2]) for row in rows if row[1] == name] for name in PROGRAMS}
    for name, values in seconds.items():
        print(f"{name}: median {statistics.median(values):.2f} s ({min(values)} to {max(values)})")
    theirs, ours = seconds.values()
    ratios = [mine / its for mine, its in zip(ours, theirs)]
    print(f"ratio: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def write_made_with(arguments: argparse.Namespace) -> None:
    from d2l_deeprnn.evidence.provenance import machine, versions

    made_with = {
        "command": f"python benchmarks/whole_process.py --rounds {arguments.rounds}",
        "seed": 0,
        "versions": {**versions(), "d2l": "0.9.1"},
        "machine": machine(),
    }
    (arguments.out / "whole_process.json").write_text(json.dumps(made_with, indent=2) + "\n")


if __name__ == "__main__":
    main()
