"""Exercise 2: replace the LSTM by a GRU, and compare."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .._mxnet import mx, nd
from .._mxnet.context import set_seed, try_gpu
from .._perplexity import perplexity
from ..evidence.figures import Line, lines_figure, points_figure
from ..evidence.intervals import mean_interval
from ..evidence.records import Row, Table, column, select, spread
from ..files import user_path
from ..nn.scratch import ScratchModel, deep_gru
from ..text.vocab import Vocab
from ..training.learner import build_model, new_model
from ..training.settings import TrainSettings
from .study import Watch, collect
from .texts import encode, library, read, split
from .training import best, settings_for, train_to_the_end

Rows = Dict[str, List[Row]]
FILES = {  # kind of rows -> file
    "recipes": "exercise_2_recipes",
    "runs": "exercise_2",
}
BEFORE = "GRU, reset before"  # the book's; Gluon's fused layer has the other form
CELLS = {"LSTM": "lstm", "GRU": "gru", "plain RNN": "rnn"}
SAME_WIDTH, SAME_SIZE = "same width", "same number of parameters"
FORMS = "two forms, no dropout"
# Whose test losses are compared with whose: the two comparisons, and the two networks.
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
    *, quick: bool = False, out: Optional[Path] = None, watch: Optional[Watch] = None
) -> Rows:
    """Train LSTM, GRU (in both forms) and plain RNN to the end, each with several seeds.

    Learning rate and dropout of each are those with the lowest loss on a
    validation part, with a seed of its own; what is compared is the loss on a
    test part that nothing was chosen on. The book's form of the GRU, which is
    written from scratch and has no dropout, is compared with Gluon's without
    dropout, at the best learning rate of that one.

    Args:
        quick: two minutes on a sample text, to see that it works.
        out: directory of ``exercise_2*.csv``.
        watch: is told how far it is.

    Returns:
        "recipes": a row for each setting that was tried; "runs": rows, one an
        epoch, those of best epochs with the test loss; see ``tables``.
    """
    out = out and user_path(out)
    name = library(quick).first[0]
    text = split(read([name])[0])
    vocab = Vocab("".join(text))
    train, valid, test = encode(vocab, *text)
    width = 32 if quick else 128
    settings = settings_for(quick, len(train))
    rates = [0.004, 0.016] if quick else [0.004, 0.008, 0.016]
    dropouts = [0.0] if quick else [0.0, 0.3]
    seeds = [1, 2] if quick else [1, 2, 3, 4, 5]
    described = {
        "command": "d2l-deeprnn exercise 2" + (" --quick" if quick else ""),
        "settings": settings,
        "num_hiddens": width,
        "text": name,
        "characters": [len(part) for part in (train, valid, test)],
        "rates": rates,
        "dropouts": dropouts,
    }

    def run(r: Row) -> List[Row]:
        chosen = {name: r[name] for name in ("num_hiddens", "lr", "dropout", "seed")}
        of_run = TrainSettings(
            **settings, corpus=(name,), cell=CELLS.get(r["kind"], "gru"), **chosen
        )
        make = _reset_before if r["kind"] == BEFORE else new_model
        return train_to_the_end(
            of_run,
            make(of_run, len(vocab), try_gpu()),
            train,
            valid,
            {"test": test},
            watch=watch,
            file=out and out / "networks" / "exercise_2",
        )

    size = _num_params("lstm", width, len(vocab))
    networks: List[Row] = [
        {"comparison": SAME_WIDTH, "kind": kind, "num_hiddens": width} for kind in CELLS
    ]
    for kind in ("GRU", "plain RNN"):
        of_size = _width_for(size, CELLS[kind], len(vocab), width)
        networks.append({"comparison": SAME_SIZE, "kind": kind, "num_hiddens": of_size})
    for network in networks:
        network["num_params"] = _num_params(
            CELLS[network["kind"]], network["num_hiddens"], len(vocab)
        )
    tried = collect(
        FILES["recipes"],
        described,
        [
            {**network, "dropout": dropout, "lr": rate, "seed": 0}
            for network in networks
            for dropout in dropouts
            for rate in rates
        ],
        lambda r: [best(run(r))],
        out=out,
        watch=watch,
        work=_work,
    )
    compared = [{**network, **best_recipe(select(tried, **network))} for network in networks]
    gru = next(network for network in networks if network["kind"] == "GRU")
    fused = {**gru, **best_recipe(select(tried, **gru, dropout=0.0)), "comparison": FORMS}
    # One bias a gate, where Gluon has two.
    num_params = gru["num_params"] - settings["num_layers"] * 3 * width
    compared += [fused, {**fused, "kind": BEFORE, "num_params": num_params}]
    runs = collect(
        FILES["runs"],
        described,
        [{**network, "seed": seed} for seed in seeds for network in compared],
        run,
        out=out,
        watch=watch,
        work=_work,
    )
    return {"recipes": tried, "runs": runs}


def best_recipe(rows: Sequence[Row]) -> Row:
    """Dropout and learning rate with the lowest loss on the validation part."""
    chosen = best(rows)
    return {name: chosen[name] for name in ("dropout", "lr")}


def differences(rows: Rows) -> List[Row]:
    """Differences of test losses, in nats, seed by seed; and their joint 95 % intervals."""
    found = _best_runs(rows)
    compared = []
    for pair in PAIRS:
        one, other = ({r["seed"]: r["test"] for r in found[p]} for p in (pair[:2], pair[2:]))
        nats = [one[seed] - other[seed] for seed in one]
        compared.append({"pair": pair, "interval": mean_interval(nats, len(PAIRS))})
    return compared


def tables(rows: Rows) -> List[Table]:
    """Settings tried, the comparison, and which differences are more than noise."""
    tried = rows["recipes"]
    columns = sorted({(row["dropout"], row["lr"]) for row in tried})

    def valid(found: List[Row], dropout: float, rate: float) -> str:
        return f"{perplexity(select(found, dropout=dropout, lr=rate)[0]['valid']):.3f}"

    return [
        Table(
            "Validation perplexity by dropout and learning rate (seed 0)",
            ["", "network", *(f"{dropout:g}, {rate:g}" for dropout, rate in columns)],
            [
                [comparison, kind, *(valid(found, *recipe) for recipe in columns)]
                for (comparison, kind), found in _by_network(tried).items()
            ],
        ),
        Table(
            "Perplexity at the best epoch: median (lowest to highest) of the seeds",
            [
                "",
                "network",
                "units",
                "parameters",
                "dropout, learning rate",
                "test",
                "training text",
                "best epoch",
                "processor seconds to it",
            ],
            [
                [
                    comparison,
                    kind,
                    str(found[0]["num_hiddens"]),
                    f"{found[0]['num_params']:,}",
                    f"{found[0]['dropout']:g}, {found[0]['lr']:g}",
                    spread([perplexity(row["test"]) for row in found]),
                    spread([perplexity(row["known"]) for row in found]),
                    spread(column(found, "epoch"), 0),
                    spread(column(found, "processor_seconds"), 0),
                ]
                for (comparison, kind), found in _best_runs(rows).items()
            ],
        ),
        Table(
            "Difference of test losses in nats, seed by seed: mean, and joint 95 % intervals",
            ["network", "less that of", "mean", "interval", "more than noise"],
            [
                [
                    f"{row['pair'][1]}, {row['pair'][0]}",
                    row["pair"][3],
                    f"{row['interval'].middle:+.3f}",
                    f"{row['interval'].low:+.3f} to {row['interval'].high:+.3f}",
                    "no" if row["interval"].holds(0) else "yes",
                ]
                for row in differences(rows)
            ],
        ),
    ]


def figures(rows: Rows) -> Dict[str, Any]:
    """Test perplexity of each run, and the curves."""
    panels: Dict[str, Dict[str, List[float]]] = {}
    for (comparison, kind), found in _best_runs(rows).items():
        values = [perplexity(row["test"]) for row in found]
        panels.setdefault(comparison, {})[kind] = values
    # The LSTM is what the others are measured by, in both.
    panels[SAME_SIZE] = {"LSTM": panels[SAME_WIDTH]["LSTM"], **panels[SAME_SIZE]}
    curves: Dict[str, Dict[str, Line]] = {"training, dropout acting": {}, "validation": {}}
    for kind in CELLS:
        found = select(rows["runs"], comparison=SAME_WIDTH, kind=kind)
        # As far as all seeds go: some end sooner than others.
        last = min(max(column(select(found, seed=s), "epoch")) for s in set(column(found, "seed")))
        epochs = list(range(1, last + 1))
        for title, name in zip(curves, ("train", "valid")):
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


def _best_runs(rows: Rows) -> Dict[Tuple[str, str], List[Row]]:
    """The rows of the best epochs, by comparison and kind."""
    return _by_network([row for row in rows["runs"] if row.get("test", "") != ""])


def _by_network(rows: Sequence[Row]) -> Dict[Tuple[str, str], List[Row]]:
    found: Dict[Tuple[str, str], List[Row]] = {}
    for row in rows:
        found.setdefault((row["comparison"], row["kind"]), []).append(row)
    return found


def _work(run: Row) -> float:
    """From scratch, each step is many operations."""
    return float(run["num_params"] * (8 if run["kind"] == BEFORE else 1))


def _num_params(cell: str, width: int, vocab_size: int) -> int:
    settings = TrainSettings(corpus=("any",), cell=cell, num_hiddens=width)
    model = build_model(settings, vocab_size)
    return sum(int(np.prod(param.shape)) for param in model.collect_params().values())


def _width_for(size: int, cell: str, vocab_size: int, width: int) -> int:
    """The width that comes nearest to a number of parameters.

    Args:
        width: at least an eighth of what is looked for.
    """
    low, high = 1, 8 * width
    while high - low > 1:
        middle = (low + high) // 2
        if _num_params(cell, middle, vocab_size) <= size:
            low = middle
        else:
            high = middle
    return min((abs(_num_params(cell, w, vocab_size) - size), w) for w in (low, high))[1]


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
