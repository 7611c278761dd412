"""How does the cost of training grow with the network and the minibatch?

Milliseconds a minibatch, with one number of the chapter's settings changed at a
time, in turn. Writes ``results/scaling.csv``, ``.json`` and a picture.

    python benchmarks/scaling.py
"""

from __future__ import annotations

import dataclasses
import random
import statistics
import sys
import time

from turns import parser, write

from d2l_deeprnn._mxnet import gluon, mx, nd
from d2l_deeprnn.chapter.book import CHAPTER, VOCAB_SIZE
from d2l_deeprnn.chapter.train import train_and_predict_rnn_gluon
from d2l_deeprnn.evidence.figures import Line, lines_figure, save_figure
from d2l_deeprnn.evidence.records import column, select
from d2l_deeprnn.nn.model import RNNModel

MINIBATCHES = 8
GRID = {
    "num_hiddens": [128, 256, 512, 1024],
    "batch_size": [16, 32, 64, 128, 256],
    "num_layers": [1, 2, 3, 4],
    "num_steps": [16, 35, 64, 128, 256],
}
# What is changed -> title and horizontal axis of its part of the picture
NAMES = {
    "num_hiddens": ("width", "hidden units a layer"),
    "batch_size": ("rows", "rows of a minibatch"),
    "num_layers": ("depth", "layers"),
    "num_steps": ("steps", "steps"),
}


class _Vocab:
    def __len__(self):
        return VOCAB_SIZE


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=7)
    arguments = options.parse_args()
    settings = {"minibatches": MINIBATCHES, **dataclasses.asdict(CHAPTER)}
    rows = _in_turn(arguments.rounds)
    write(arguments, rows, settings=settings)
    save_figure(figure(rows), arguments.out / "scaling.svg")


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
                row = {"round": round_, "changed": name, "value": value}
                rows.append({**row, "milliseconds": round(milliseconds, 3)})
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


def figure(rows: list):
    """Draw rows, those just measured or those of the CSV file."""
    panels = {}
    for name, values in GRID.items():
        chosen = [select(rows, changed=name, value=value) for value in values]
        found = [column(some, "milliseconds") for some in chosen]
        medians = [statistics.median(times) for times in found]
        line = Line(values, medians, [min(t) for t in found], [max(t) for t in found])
        panels[NAMES[name][0]] = {"a minibatch": line}
    xlabels = [xlabel for _, xlabel in NAMES.values()]
    return lines_figure(panels, xlabels, "milliseconds a minibatch", log_x=True, log_y=True)


if __name__ == "__main__":
    main()
