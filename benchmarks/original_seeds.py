"""The control: what figures does the original library itself give, seed by seed?

Runs the chapter on ``d2l`` 0.9.1, with the repairs that let it be imported
today and with its own choice of threads, and writes, under ``results/``,
``original_seeds.csv`` (the figures it printed) and ``original_seeds.json``
(command, settings, versions, machine).

    python benchmarks/original_seeds.py

It needs the extra ``test`` and the book's text in ``$D2L_DEEPRNN_DATA``.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import random
import re
import tempfile
from pathlib import Path

from d2l_deeprnn import _repairs, book

THREADS = os.environ[_repairs.THREADS_VARIABLE]
if not _repairs.USER_SET_THREADS:  # as installed
    THREADS = "MXNet's own choice"
    del os.environ[_repairs.THREADS_VARIABLE]
del os.environ[_repairs.COPY_VARIABLE]

import mxnet as mx
import numpy as np
from IPython import display
from mxnet.gluon import rnn

# d2l's module of figures looks for this name when it is imported.
display.set_matplotlib_formats = lambda *formats: None

import d2l  # noqa: E402

RESULTS = Path(__file__).resolve().parent.parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="train seeds 0 to N - 1")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    rows = []
    for seed in range(arguments.seeds):
        printed = run(seed)
        print(f"seed {seed}", printed, sep="\n", flush=True)
        predictions = re.findall(r"^ - +(.*)$", printed, re.MULTILINE)
        for epoch, perplexity in re.findall(r"epoch (\d+), perplexity ([\d.]+)", printed):
            shown = predictions[:2] if int(epoch) == 250 else predictions[2:]
            rows.append([seed, epoch, perplexity, *(shown if int(epoch) % 250 == 0 else ("", ""))])
        with open(arguments.out / "original_seeds.csv", "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["seed", "epoch", "perplexity", "prediction_1", "prediction_2"])
            writer.writerows(rows)
    write_made_with(arguments)


def run(seed: int) -> str:
    """Run the chapter's cells with one seed and return what they printed."""
    chapter = book.CHAPTER
    corpus_indices, vocab = load_data()
    # As our set_seed does, whose module would choose the number of threads.
    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)
    model = d2l.RNNModel(rnn.LSTM(chapter.num_hiddens, chapter.num_layers), len(vocab))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        d2l.train_and_predict_rnn_gluon(
            model,
            chapter.num_hiddens,
            corpus_indices,
            vocab,
            d2l.try_gpu(),
            chapter.num_epochs,
            chapter.num_steps,
            chapter.lr,
            chapter.clipping_theta,
            chapter.batch_size,
            chapter.prefixes,
        )
    return printed.getvalue()


def load_data():
    """Call the original's function where it finds its file: ../data/timemachine.txt."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").symlink_to(Path(os.environ["D2L_DEEPRNN_DATA"]).resolve())
        (Path(folder) / "notebook").mkdir()
        os.chdir(Path(folder) / "notebook")
        try:
            return d2l.load_data_time_machine()
        finally:
            os.chdir(here)


def write_made_with(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from d2l_deeprnn.provenance import machine, versions

    made_with = {
        "command": f"python benchmarks/original_seeds.py --seeds {arguments.seeds}",
        "settings": asdict(book.CHAPTER),
        "versions": {**versions(), "d2l": d2l.__version__},
        "machine": {**machine(), "threads": THREADS},
    }
    path = arguments.out / "original_seeds.json"
    path.write_text(json.dumps(made_with, indent=2) + "\n")


if __name__ == "__main__":
    main()
