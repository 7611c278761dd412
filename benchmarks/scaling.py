"""How does the cost of training grow with the network, the minibatch and the text?

First milliseconds a minibatch, with one number of the chapter's settings
changed at a time, in turn. Then, for texts of 10^4 to 10^8 characters, each
in a process of its own: seconds to read it, seconds to the end of the first
minibatch, and the most memory that was in use. Writes ``results/scaling.csv``,
``scaling_texts.csv``, ``scaling.json`` and pictures.

    python benchmarks/scaling.py
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from d2l_deeprnn._mxnet import gluon, mx, nd
from d2l_deeprnn.chapter.book import CHAPTER, VOCAB_SIZE
from d2l_deeprnn.chapter.train import train_and_predict_rnn_gluon
from d2l_deeprnn.evidence.figures import Line, lines_figure, save_figure
from d2l_deeprnn.evidence.provenance import machine, versions
from d2l_deeprnn.nn.model import RNNModel
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.settings import TrainSettings

RESULTS = Path(__file__).resolve().parent.parent / "results"
MINIBATCHES = 8
GRID = {
    "num_hiddens": [128, 256, 512, 1024],
    "batch_size": [16, 32, 64, 128, 256],
    "num_layers": [1, 2, 3, 4],
    "num_steps": [16, 35, 64, 128, 256],
}
LENGTHS = [10**power for power in range(4, 9)]


class _Vocab:
    def __len__(self):
        return VOCAB_SIZE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--text", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.text is not None:
        print(json.dumps(_one_text(arguments.text)))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    texts = [row for length in LENGTHS for row in _measure_text(length)]
    _write(
        arguments.out / "scaling_texts.csv",
        ["characters", "round", "reading_seconds", "first_minibatch_seconds", "peak_memory_mib"],
        texts,
    )
    rows = _in_turn(arguments.rounds)
    _write(arguments.out / "scaling.csv", ["round", "changed", "value", "milliseconds"], rows)
    _draw(arguments.out, rows)
    made_with = {
        "command": f"python benchmarks/scaling.py --rounds {arguments.rounds}",
        "settings": {"minibatches": MINIBATCHES, **dataclasses.asdict(CHAPTER)},
        "versions": versions(),
        "machine": machine(),
    }
    (arguments.out / "scaling.json").write_text(json.dumps(made_with, indent=2) + "\n")


def _in_turn(rounds: int) -> list:
    contestants = {
        (name, value): _training(**{name: value})
        for name, values in GRID.items()
        for value in values
    }
    rows = []
    for round_ in range(-1, rounds):  # the round before the first counts for nothing
        for (name, value), train in contestants.items():
            started = time.perf_counter()
            train()
            milliseconds = 1000 * (time.perf_counter() - started) / MINIBATCHES
            if round_ >= 0:
                rows.append([round_, name, value, round(milliseconds, 3)])
        print(f"round {round_ + 1} of {rounds}", file=sys.stderr, flush=True)
    return rows


def _training(**changed):
    chapter = dataclasses.replace(CHAPTER, **changed)
    # One more character a row is the last target; a random offset is cut off in front.
    length = chapter.batch_size * (MINIBATCHES * chapter.num_steps + 1) + chapter.num_steps
    corpus_indices = [random.randrange(VOCAB_SIZE) for _ in range(length)]
    model = RNNModel(gluon.rnn.LSTM(chapter.num_hiddens, chapter.num_layers), VOCAB_SIZE)

    def train():
        train_and_predict_rnn_gluon(
            model,
            chapter.num_hiddens,
            corpus_indices,
            _Vocab(),
            mx.cpu(),
            1,
            chapter.num_steps,
            chapter.lr,
            chapter.clipping_theta,
            chapter.batch_size,
            [],
            log=lambda line: None,
        )
        nd.waitall()

    return train


def _measure_text(length: int, rounds: int = 3) -> list:
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "text"
        letters = random.Random(0)
        words = [
            "".join(letters.choices("etaoinshrdlu", k=letters.randint(1, 9))) for _ in range(999)
        ]
        with open(path, "w", encoding="utf-8") as file:
            left = length
            while left:  # a few characters outside ASCII, as books have
                line = (" ".join(letters.choices(words, k=10000)) + "\u2014\n")[:left]
                left -= file.write(line)
        for round_ in range(rounds):
            command = [sys.executable, __file__, "--text", str(path)]
            answer = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            rows.append([length, round_, *json.loads(answer)])
            print(*rows[-1], file=sys.stderr, flush=True)
    return rows


def _one_text(path: Path) -> list:
    done = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        runs.train(
            TrainSettings(corpus=(str(path),), num_epochs=1),
            Path(directory) / "run",
            on_start=lambda learner, text: done.append(time.perf_counter() - started),
            on_minibatch=lambda progress: done.append(time.perf_counter() - started),
            should_stop=lambda: True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux
    return [round(done[0], 4), round(done[1], 4), round(peak)]


def _draw(out: Path, rows: list) -> None:
    panels = {}
    for name, values in GRID.items():
        found = [[r[3] for r in rows if r[1:3] == [name, value]] for value in values]
        medians = [statistics.median(times) for times in found]
        line = Line(values, medians, [min(t) for t in found], [max(t) for t in found])
        panels[name] = {"a minibatch": line}
    figure = lines_figure(panels, "value", "milliseconds", log_x=True, log_y=True)
    save_figure(figure, out / "scaling.svg")


def _write(path: Path, header: list, rows: list) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
