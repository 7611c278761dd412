"""How does the cost of training grow with the network and the minibatch?

Measures milliseconds per minibatch, with one of the chapter's settings changed at a time. Writes
``results/scaling.csv``, ``.json`` and ``.svg``.

    python benchmarks/scaling.py
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time

from turns import parser, random_text, train_chapter, write

from d2l_deeprnn._mxnet import gluon, nd
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
# Setting -> title and horizontal axis of its part of the plot
NAMES = {
    "num_hiddens": ("width", "hidden units a layer"),
    "batch_size": ("rows", "rows of a minibatch"),
    "num_layers": ("depth", "layers"),
    "num_steps": ("steps", "steps"),
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=7)
    arguments = options.parse_args()
    trainings = {(name, n): _training(**{name: n}) for name, values in GRID.items() for n in values}
    rows = []
    for round_ in range(-1, arguments.rounds):  # the first one warms up
        for (name, value), train in trainings.items():
            started = time.perf_counter()
            train()
            milliseconds = 1000 * (time.perf_counter() - started) / MINIBATCHES
            if round_ >= 0:
                row = {"round": round_, "changed": name, "value": value}
                rows.append({**row, "milliseconds": round(milliseconds, 3)})
        print(f"round {round_ + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
    settings = {"minibatches": MINIBATCHES, **dataclasses.asdict(CHAPTER)}
    write(arguments, rows, settings=settings)
    save_figure(figure(rows), arguments.out / "scaling.svg")


def _training(**changed):
    chapter = dataclasses.replace(CHAPTER, **changed)
    # Each row has one more character as its last label; a random offset is cut off in front.
    length = chapter.batch_size * (MINIBATCHES * chapter.num_steps + 1) + chapter.num_steps
    text = random_text(length)
    model = RNNModel(gluon.rnn.LSTM(chapter.num_hiddens, chapter.num_layers), VOCAB_SIZE)

    def train():
        options = {"settings": chapter, "log": lambda line: None}
        train_chapter(train_and_predict_rnn_gluon, model, text, range(VOCAB_SIZE), 1, **options)
        nd.waitall()

    return train


def figure(rows: list):
    """Plot rows that were measured or read from the CSV file."""
    panels = {}
    for name, values in GRID.items():
        times = [column(select(rows, changed=name, value=n), "milliseconds") for n in values]
        panels[NAMES[name][0]] = {"a minibatch": Line.of_runs(values, times)}
    xlabels = [xlabel for _, xlabel in NAMES.values()]
    wide, usual = (
        statistics.median(column(select(rows, changed="num_hiddens", value=n), "milliseconds"))
        for n in (2 * CHAPTER.num_hiddens, CHAPTER.num_hiddens)
    )
    title = f"Twice the chapter's width takes {wide / usual:.1f} times as long"
    ylabel = "milliseconds per minibatch"
    return lines_figure(panels, xlabels, ylabel, log_x=True, log_y=True, title=title)


if __name__ == "__main__":
    main()
