"""Exercise 2: replace the LSTM by a GRU, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .._mxnet import nd
from .._mxnet.library import set_seed, try_gpu
from .._perplexity import perplexity
from ..evidence.figures import Line, lines_figure, lowest, points_figure
from ..evidence.intervals import Difference, difference_table, paired_difference
from ..evidence.records import Row, Table, group_by, select, spread_of, summary_table
from ..nn.scratch import ScratchModel, deep_gru
from ..text.vocab import Vocab
from .networks import (
    TrainSettings,
    best_epoch,
    new_network,
    num_params,
    settings_for,
    train_to_the_end,
)
from .search import ONE_OR_MORE_SEEDS, SEEDS, mean_perplexity, search
from .study import Observer, Rows, Study, library, read, split

NOTEBOOK = "exercise-2-gru.ipynb"
HOURS = 4.4
FILES = {  # kind of rows -> file
    "recipes": "exercise_2_recipes",
    "runs": "exercise_2",
}
BEFORE = "GRU, reset before"  # as in the book; Gluon's fused layer resets after the product
CELLS = {"LSTM": "lstm", "GRU": "gru", "plain RNN": "rnn"}
SAME_WIDTH, SAME_SIZE = "same width", "same number of parameters"
FORMS = "two forms, no dropout"
# Networks whose test losses are compared: comparison and kind of one, then of the other.
PAIRS = [
    (SAME_WIDTH, "GRU", SAME_WIDTH, "LSTM"),
    (SAME_WIDTH, "plain RNN", SAME_WIDTH, "LSTM"),
    (SAME_WIDTH, "plain RNN", SAME_WIDTH, "GRU"),
    (SAME_SIZE, "GRU", SAME_WIDTH, "LSTM"),
    (SAME_SIZE, "plain RNN", SAME_WIDTH, "LSTM"),
    (SAME_SIZE, "plain RNN", SAME_SIZE, "GRU"),
    (FORMS, BEFORE, FORMS, "GRU"),
]


def study(
    *, quick: bool = False, out: Optional[Path] = None, observer: Optional[Observer] = None
) -> Rows:
    """Train LSTM, GRU (in both forms) and plain RNN to the end, each with several seeds.

    Each network has the learning rate and dropout with the lowest validation loss, found with
    other seeds by ``search``. The networks are compared by their loss on a test part, which was
    not used for any choice. The book's form of the GRU is written from scratch and has no dropout.
    It is compared with Gluon's GRU without dropout, and uses the rate that is best for Gluon's.

    Returns:
        "recipes": one row for each setting that was tried. "runs": one row per epoch; the row of a
        run's best epoch has the test loss.
    """
    name = library(quick).first[0]
    text = split(read([name])[0])
    vocab = Vocab("".join(text))
    train, valid, test = (vocab.encode(part) for part in text)
    width = 32 if quick else 128
    common = settings_for(quick, len(train))
    rates = [0.004, 0.016] if quick else [0.004, 0.008, 0.016]
    dropouts = [0.0] if quick else [0.0, 0.3]
    ladders: Dict[str, List[float]] = {"dropout": dropouts, "lr": rates}
    if not quick:
        ladders = {"dropout": [*dropouts, 0.5, 0.7], "lr": [0.001, 0.002, *rates, 0.032, 0.064]}
    seeds = [1, 2] if quick else [1, 2, 3, 4, 5]
    settings = {
        "settings": common,
        "num_hiddens": width,
        "text": name,
        "characters": [len(part) for part in (train, valid, test)],
        "rates": rates,
        "dropouts": dropouts,
        "ladders": ladders,
        "seeds": SEEDS,
    }
    study = Study("2", FILES, settings, quick=quick, out=out, observer=observer)

    def run(r: Row) -> List[Row]:
        chosen = {name: r[name] for name in ("num_hiddens", "lr", "dropout", "seed")}
        cell = CELLS.get(r["kind"], "gru")
        settings = TrainSettings(**common, corpus=(name,), cell=cell, **chosen)
        make = _reset_before if r["kind"] == BEFORE else new_network
        return train_to_the_end(
            settings,
            make(settings, len(vocab)),
            train,
            valid,
            {"test": test},
            on_minibatch=study.on_minibatch,
            file=study.network_file("exercise_2"),
        )

    size = _num_params("lstm", width, len(vocab))
    widths = [(SAME_WIDTH, kind, width) for kind in CELLS]
    for kind in ("GRU", "plain RNN"):
        widths.append((SAME_SIZE, kind, _width_for(size, CELLS[kind], len(vocab), width)))
    networks = [
        {
            "comparison": comparison,
            "kind": kind,
            "num_hiddens": num_hiddens,
            "num_params": _num_params(CELLS[kind], num_hiddens, len(vocab)),
        }
        for comparison, kind, num_hiddens in widths
    ]
    tried: List[Row] = []

    def choose(network: Row, dropouts: Sequence[float], settings: Sequence[str]) -> Row:
        best, rows = search(
            lambda runs: study.collect("recipes", runs, lambda r: [best_epoch(run(r))], work=_work),
            network,
            {"dropout": dropouts, "lr": rates},
            {name: ladders[name] for name in settings},
        )
        tried.extend(row for row in rows if row not in tried)
        return {**network, **best}

    compared = [choose(network, dropouts, ["dropout", "lr"]) for network in networks]
    (gru,) = select(networks, comparison=SAME_WIDTH, kind="GRU")
    fused = {**choose(gru, [0.0], ["lr"]), "comparison": FORMS}
    # The GRU from scratch has one bias per gate; Gluon's has two.
    fewer_params = gru["num_params"] - common["num_layers"] * 3 * width
    compared += [fused, {**fused, "kind": BEFORE, "num_params": fewer_params}]
    runs = study.collect(
        "runs",
        [{**network, "seed": seed} for seed in seeds for network in compared],
        run,
        work=_work,
    )
    return {"recipes": tried, "runs": runs}


def differences(rows: Rows) -> List[Difference]:
    """Return the differences of test losses for all ``PAIRS``, with joint 95 % intervals."""
    runs = _best_epochs(rows)
    return [
        paired_difference(
            (f"{pair[1]}, {pair[0]}", pair[3]),
            runs[pair[:2]],
            runs[pair[2:]],
            comparisons=len(PAIRS),
        )
        for pair in PAIRS
    ]


def tables(rows: Rows) -> List[Table]:
    """Return tables of the settings tried, of the comparison, and of the differences."""
    tried = rows["recipes"]
    rates = sorted({row["lr"] for row in tried})

    return [
        Table(
            f"Validation perplexity by learning rate ({ONE_OR_MORE_SEEDS})",
            ["", "network", "dropout", *(f"{rate:g}" for rate in rates)],
            [
                [
                    comparison,
                    kind,
                    f"{dropout:g}",
                    *(mean_perplexity(select(runs, lr=rate)) for rate in rates),
                ]
                for (comparison, kind), of_network in group_by(tried, "comparison", "kind").items()
                for dropout, runs in sorted(group_by(of_network, "dropout").items())
            ],
        ),
        summary_table(
            "Perplexity at the best epoch: median (lowest to highest) of the seeds",
            ["", "network"],
            _best_epochs(rows),
            {
                "units": lambda runs: str(runs[0]["num_hiddens"]),
                "parameters": lambda runs: f"{runs[0]['num_params']:,}",
                "dropout, learning rate": lambda runs: f"{runs[0]['dropout']:g}, {runs[0]['lr']:g}",
                "test": spread_of("test", convert=perplexity),
                "training text": spread_of("known", convert=perplexity),
                "best epoch": spread_of("epoch", 0),
                "processor seconds to it": spread_of("processor_seconds", 0),
            },
        ),
        difference_table(
            "Difference of test losses in nats, seed by seed: mean, and joint 95 % intervals",
            ["network", "minus", "more than noise"],
            differences(rows),
        ),
    ]


def figures(rows: Rows) -> Dict[str, Any]:
    """Plot the test perplexity of each run, and training and validation curves."""
    panels: Dict[str, Dict[str, List[float]]] = {}
    for (comparison, kind), runs in _best_epochs(rows).items():
        panels.setdefault(comparison, {})[kind] = [perplexity(row["test"]) for row in runs]
    # Both comparisons have the same LSTM.
    panels[SAME_SIZE] = {"LSTM": panels[SAME_WIDTH]["LSTM"], **panels[SAME_SIZE]}
    curves: Dict[str, Dict[str, Line]] = {"training, dropout acting": {}, "validation": {}}
    for kind in CELLS:
        by_epoch = group_by(select(rows["runs"], comparison=SAME_WIDTH, kind=kind), "epoch")
        # Seeds end at different epochs. The curve ends where the first of them does.
        seeds = len(by_epoch[1])
        epochs = [epoch for epoch, runs in by_epoch.items() if len(runs) == seeds]
        for title, name in zip(curves, ("train", "valid")):
            values = [[perplexity(row[name]) for row in by_epoch[epoch]] for epoch in epochs]
            curves[title][kind] = Line.of_runs(epochs, values)
    best = lowest(panels[SAME_WIDTH])
    last = lowest({kind: [min(line.y)] for kind, line in curves["validation"].items()})
    return {
        "exercise_2_test": points_figure(
            panels,
            "test perplexity per character (lower is better)",
            title=f"At the same width, the {best} has the lowest perplexity",
        ),
        "exercise_2_curves": lines_figure(
            curves,
            "epoch",
            "perplexity per character",
            log_y=True,
            title=f"On the validation text, the {last} gets lowest",
        ),
    }


def _best_epochs(rows: Rows) -> Dict[Tuple[str, str], List[Row]]:
    """Return the rows of the best epochs (those with a test loss), by comparison and kind."""
    best = [row for row in rows["runs"] if row.get("test", "") != ""]
    return group_by(best, "comparison", "kind")


def _work(run: Row) -> float:
    # The GRU from scratch takes about eight times as long.
    return float(run["num_params"] * (8 if run["kind"] == BEFORE else 1))


def _num_params(cell: str, width: int, vocab_size: int) -> int:
    return num_params(TrainSettings(corpus=("any",), cell=cell, num_hiddens=width), vocab_size)


def _width_for(size: int, cell: str, vocab_size: int, width: int) -> int:
    """Return the width, at least ``width``, at which a network has about ``size`` parameters."""

    def gap(width: int) -> int:
        return abs(_num_params(cell, width, vocab_size) - size)

    while gap(width + 1) < gap(width):
        width += 1
    return width


def _reset_before(settings: TrainSettings, vocab_size: int) -> ScratchModel:
    """Return the book's GRU, with Xavier initialisation like the other networks."""
    set_seed(settings.seed)
    width, ctx = settings.num_hiddens, try_gpu()
    network = deep_gru(vocab_size, width, vocab_size, num_layers=settings.num_layers, ctx=ctx)
    model = ScratchModel(network, width, vocab_size)
    for param in model.collect_params().values():
        if len(param.shape) == 2:
            limit = np.sqrt(6 / sum(param.shape))
            param.set_data(nd.array(np.random.uniform(-limit, limit, param.shape), ctx=ctx))
    return model
