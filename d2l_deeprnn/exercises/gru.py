"""Exercise 2: replace the LSTM by a GRU, and compare."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .._mxnet import mx, nd
from .._mxnet.context import set_seed, try_gpu
from ..evidence.figures import Line, lines_figure, points_figure
from ..evidence.records import Row, Table, column, select, spread
from ..nn.scratch import ScratchModel, deep_gru
from ..text.vocab import Vocab
from ..training.learner import build_model, new_model
from ..training.settings import TrainSettings
from .study import Watch, collect, perplexity
from .texts import encode, library, read, split
from .training import train_and_score

Rows = Dict[str, List[Row]]
FILES = {  # kind of rows -> file
    "learning_rates": "exercise_2_learning_rates",
    "runs": "exercise_2",
}
BEFORE = "GRU, reset before"  # the book's; Gluon's fused layer has the other form
CELLS = {"LSTM": "lstm", "GRU": "gru", "plain RNN": "rnn"}
SAME_WIDTH, SAME_SIZE = "same width", "same number of parameters"
HELD_OUT = "test"


def study(
    *, quick: bool = False, out: Optional[Path] = None, watch: Optional[Watch] = None
) -> Rows:
    """Train LSTM, GRU (in both forms) and plain RNN, each with several seeds.

    The learning rate of each is the one with the lowest loss on a validation
    part, with a seed of its own; what is compared is the loss on a test part
    that nothing was chosen on.

    Args:
        quick: two minutes on a sample text, to see that it works.
        out: directory of ``exercise_2*.csv``.
        watch: is told how far it is.

    Returns:
        "learning_rates" and "runs": rows, one an epoch; see ``tables``.
    """
    name = library(quick).first[0]
    text = split(read([name])[0])
    vocab = Vocab("".join(text))
    parts = encode(vocab, *text)
    settings = _settings(name, quick)
    rates = [0.004, 0.016] if quick else [0.001, 0.002, 0.004, 0.008, 0.016]
    seeds = [1, 2] if quick else [1, 2, 3, 4, 5]
    described = {
        "command": "d2l-deeprnn exercise 2" + (" --quick" if quick else ""),
        "settings": {k: v for k, v in settings.items() if k != "corpus"},
        "text": name,
        "characters": [len(part) for part in parts],
        "rates": rates,
    }

    def run(kind: str, width: int, rate: float, seed: int) -> List[Row]:
        cell = CELLS.get(kind, "gru")
        chosen = {**settings, "num_hiddens": width, "lr": rate, "seed": seed, "cell": cell}
        of_run = TrainSettings(**chosen)
        make = _reset_before if kind == BEFORE else new_model
        model = make(of_run, len(vocab), try_gpu())
        held_out = {"valid": parts[1], HELD_OUT: parts[2]}
        return train_and_score(of_run, model, parts[0], held_out, watch=watch)

    width = settings["num_hiddens"]
    size = _num_params("lstm", width, len(vocab), settings)
    compared = [{"comparison": SAME_WIDTH, "kind": kind, "num_hiddens": width} for kind in CELLS]
    compared += [
        {
            "comparison": SAME_SIZE,
            "kind": kind,
            "num_hiddens": _width_for(size, CELLS[kind], len(vocab), settings),
        }
        for kind in ("GRU", "plain RNN")
    ]
    tried = collect(
        FILES["learning_rates"],
        described,
        [{**network, "lr": rate} for network in compared for rate in rates],
        lambda r: run(r["kind"], r["num_hiddens"], r["lr"], 0)[-1:],
        out=out,
        watch=watch,
    )
    chosen = best_rates(tried)
    # The book's form takes the rate of the other: it is too slow from scratch to try them all.
    compared.append({"comparison": SAME_WIDTH, "kind": BEFORE, "num_hiddens": width})
    chosen[SAME_WIDTH, BEFORE] = chosen[SAME_WIDTH, "GRU"]
    rows = collect(
        FILES["runs"],
        described,
        [
            {
                **network,
                "num_params": _num_params_of(network, len(vocab), settings),
                "lr": chosen[network["comparison"], network["kind"]],
                "seed": seed,
            }
            for seed in seeds
            for network in compared
        ],
        lambda r: run(r["kind"], r["num_hiddens"], r["lr"], r["seed"]),
        out=out,
        watch=watch,
    )
    return {"learning_rates": tried, "runs": rows}


def best_rates(rows: Sequence[Row]) -> Dict[Tuple[str, str], float]:
    """The learning rate with the lowest loss on the validation part, by comparison and kind."""
    return {
        key: min(found, key=lambda row: row["valid"])["lr"]
        for key, found in _by_network(rows).items()
    }


def tables(rows: Rows) -> List[Table]:
    """Learning rates tried, and the comparison."""
    rates = sorted(set(column(rows["learning_rates"], "lr")))

    def tried(found: List[Row], rate: float) -> str:
        of_rate = select(found, lr=rate)
        return f"{perplexity(of_rate[0]['valid']):.3f}" if of_rate else "diverged"

    return [
        Table(
            "Validation perplexity by learning rate (seed 0)",
            ["", "network", *(f"{rate:g}" for rate in rates)],
            [
                [comparison, kind, *(tried(found, rate) for rate in rates)]
                for (comparison, kind), found in _by_network(rows["learning_rates"]).items()
            ],
        ),
        Table(
            "Perplexity after the last epoch: median (lowest to highest) of the seeds",
            ["", "network", "units", "parameters", "training", "test", "seconds an epoch"],
            [
                [
                    comparison,
                    kind,
                    str(found[0]["num_hiddens"]),
                    f"{found[0]['num_params']:,}",
                    spread([perplexity(row["train"]) for row in found]),
                    spread([perplexity(row[HELD_OUT]) for row in found]),
                    spread([row["seconds"] / row["epoch"] for row in found], 2),
                ]
                for (comparison, kind), found in _last(rows).items()
            ],
        ),
    ]


def figures(rows: Rows) -> Dict[str, Any]:
    """Test perplexity of each run, and the curves."""
    panels: Dict[str, Dict[str, List[float]]] = {}
    for (comparison, kind), found in _last(rows).items():
        values = [perplexity(row[HELD_OUT]) for row in found]
        panels.setdefault(comparison, {})[kind] = values
    # The LSTM is what the others are measured by, in both.
    panels[SAME_SIZE] = {"LSTM": panels[SAME_WIDTH]["LSTM"], **panels[SAME_SIZE]}
    curves: Dict[str, Dict[str, Line]] = {"training": {}, "test": {}}
    for kind in (*CELLS, BEFORE):
        found = select(rows["runs"], comparison=SAME_WIDTH, kind=kind)
        epochs = sorted(set(column(found, "epoch")))
        for title, name in [("training", "train"), ("test", HELD_OUT)]:
            by_epoch = [
                [perplexity(row[name]) for row in select(found, epoch=epoch)] for epoch in epochs
            ]
            middle = [statistics.median(v) for v in by_epoch]
            curves[title][kind] = Line(
                epochs, middle, [min(v) for v in by_epoch], [max(v) for v in by_epoch]
            )
    return {
        "exercise_2_test": points_figure(panels, "test perplexity per character"),
        "exercise_2_curves": lines_figure(curves, "epoch", "perplexity per character", log_y=True),
    }


def _last(rows: Rows) -> Dict[Tuple[str, str], List[Row]]:
    """The rows of the last epoch, by comparison and kind."""
    last = max(column(rows["runs"], "epoch"))
    return _by_network(select(rows["runs"], epoch=last))


def _by_network(rows: Sequence[Row]) -> Dict[Tuple[str, str], List[Row]]:
    found: Dict[Tuple[str, str], List[Row]] = {}
    for row in rows:
        found.setdefault((row["comparison"], row["kind"]), []).append(row)
    return found


def _settings(name: str, quick: bool) -> Dict[str, Any]:
    return {
        "corpus": (name,),
        "num_layers": 2,
        "num_hiddens": 32 if quick else 128,
        "batch_size": 8 if quick else 32,
        "num_steps": 35,
        "num_epochs": 2 if quick else 15,
        "init": "xavier",
        "optimizer": "adam",
        "schedule": "cosine",
        "warmup_epochs": 0.5,
    }


def _num_params(cell: str, width: int, vocab_size: int, settings: Dict[str, Any]) -> int:
    chosen = {**settings, "cell": cell, "num_hiddens": width, "lr": 1.0}
    model = build_model(TrainSettings(**chosen), vocab_size)
    return sum(int(np.prod(param.shape)) for param in model.collect_params().values())


def _num_params_of(network: Row, vocab_size: int, settings: Dict[str, Any]) -> int:
    kind, width = network["kind"], network["num_hiddens"]
    found = _num_params(CELLS.get(kind, "gru"), width, vocab_size, settings)
    if kind == BEFORE:  # one bias a gate, where Gluon has two
        found -= settings["num_layers"] * 3 * width
    return found


def _width_for(size: int, cell: str, vocab_size: int, settings: Dict[str, Any]) -> int:
    """The width that comes nearest to a number of parameters."""
    widths = range(1, 8 * settings["num_hiddens"])
    # It grows with the width, so a search by halves would do; there are few.
    low, high = widths.start, widths.stop
    while high - low > 1:
        middle = (low + high) // 2
        if _num_params(cell, middle, vocab_size, settings) <= size:
            low = middle
        else:
            high = middle
    nearest = [(abs(_num_params(cell, w, vocab_size, settings) - size), w) for w in (low, high)]
    return min(nearest)[1]


def _reset_before(settings: TrainSettings, vocab_size: int, ctx: mx.Context) -> ScratchModel:
    """The book's GRU."""
    set_seed(settings.seed)
    width = settings.num_hiddens
    network = deep_gru(vocab_size, width, vocab_size, num_layers=settings.num_layers, ctx=ctx)
    model = ScratchModel(network, width, vocab_size)
    for param in model.collect_params().values():
        if len(param.shape) == 2:  # Xavier, as of the other networks
            limit = np.sqrt(6 / sum(param.shape))
            param.set_data(nd.array(np.random.uniform(-limit, limit, param.shape), ctx=ctx))
    return model
