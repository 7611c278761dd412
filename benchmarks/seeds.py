"""What figures do this package and the original library give, seed by seed?

Trains the chapter on the book's text with this package and with ``d2l`` 0.9.1,
on the same seeds, each training in a process of its own with one thread. Every
training leaves a file ``results/seeds/LIBRARY-SEED.json``: the loss of each
minibatch, the predictions, versions and machine. One that is there is not
trained again, so an interrupted run goes on.

    python benchmarks/seeds.py                                  # what the README shows
    python benchmarks/seeds.py --first 10 --seeds 20 --library ours --num-epochs 125

The bands of ``d2l_deeprnn.book`` are derived from these files. It needs the
extra ``test`` and the book's text in ``$D2L_DEEPRNN_DATA``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from turns import RESULTS, repair

LIBRARIES = ("ours", "original")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--library", choices=LIBRARIES, help="only this one")
    parser.add_argument("--num-epochs", type=int, default=500)
    parser.add_argument("--side-by-side", type=int, default=1, help="trainings at a time")
    parser.add_argument("--out", type=Path, default=RESULTS / "seeds")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(record(arguments.library, arguments.first, arguments.num_epochs)))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    libraries = [arguments.library] if arguments.library else LIBRARIES
    with ThreadPoolExecutor(arguments.side_by_side) as pool:
        trainings = [
            pool.submit(train_in_a_process, library, seed, arguments.num_epochs, arguments.out)
            for seed in seeds
            for library in libraries
        ]
        for training in trainings:
            training.result()


def train_in_a_process(library: str, seed: int, num_epochs: int, out: Path) -> None:
    path = out / f"{library}-{seed}.json"
    if path.exists():
        return
    command = [sys.executable, __file__, "--child", "--library", library, "--first", str(seed)]
    command += ["--num-epochs", str(num_epochs)]
    # One thread: sums are then taken in the same order whatever the number of processors.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(answer.stdout)
    unfinished.replace(path)
    print(path.name, file=sys.stderr, flush=True)


def record(library: str, seed: int, num_epochs: int) -> dict:
    """Train the chapter once; return all that is to be known of it."""
    work = {"ours": prepare_ours, "original": prepare_original}[library]()
    losses = record_losses()
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        work(seed, num_epochs)
    seconds = time.perf_counter() - started

    from d2l_deeprnn.provenance import machine, versions

    found = versions()
    if library == "original":
        del found["d2l_deeprnn"]
        found["d2l"] = importlib.import_module("d2l").__version__
    return {
        "library": library,
        "seed": seed,
        "num_epochs": num_epochs,
        "versions": found,
        "machine": machine(),
        "seconds": round(seconds, 1),
        "printed": re.findall(r"epoch (\d+), perplexity ([\d.]+)", printed.getvalue()),
        "predictions": re.findall(r"^ - +(.*)$", printed.getvalue(), re.MULTILINE),
        # str: the fewest digits that give the same float32
        "losses": [float(str(loss)) for loss in losses],
    }


def record_losses() -> list:
    """A list that grows by the mean loss of each minibatch from now on."""
    from mxnet import nd

    losses = []
    backward = nd.NDArray.backward

    def go_backward_and_record(loss, *args, **kwargs):
        backward(loss, *args, **kwargs)
        losses.append(loss.asscalar())

    # Both libraries call this once a minibatch.
    nd.NDArray.backward = go_backward_and_record
    return losses


def prepare_ours():
    import d2l_deeprnn

    corpus_indices, vocab = d2l_deeprnn.load_data_time_machine()
    return lambda seed, num_epochs: train(d2l_deeprnn, corpus_indices, vocab, seed, num_epochs)


def prepare_original():
    repair()
    d2l = importlib.import_module("d2l")
    here = os.getcwd()
    # It opens ../data/timemachine.txt.
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").symlink_to(Path(os.environ["D2L_DEEPRNN_DATA"]).resolve())
        (Path(folder) / "notebook").mkdir()
        os.chdir(Path(folder) / "notebook")
        try:
            corpus_indices, vocab = d2l.load_data_time_machine()
        finally:
            os.chdir(here)
    return lambda seed, num_epochs: train(d2l, corpus_indices, vocab, seed, num_epochs)


def train(library, corpus_indices, vocab, seed: int, num_epochs: int) -> None:
    """The chapter's cells."""
    import mxnet as mx
    import numpy as np
    from mxnet.gluon import rnn

    from d2l_deeprnn.book import CHAPTER

    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)
    model = library.RNNModel(rnn.LSTM(CHAPTER.num_hiddens, CHAPTER.num_layers), len(vocab))
    library.train_and_predict_rnn_gluon(
        model,
        CHAPTER.num_hiddens,
        corpus_indices,
        vocab,
        mx.cpu(),
        num_epochs,
        CHAPTER.num_steps,
        CHAPTER.lr,
        CHAPTER.clipping_theta,
        CHAPTER.batch_size,
        CHAPTER.prefixes,
    )


if __name__ == "__main__":
    main()
