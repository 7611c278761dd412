"""A study of the chapter's remark that initialisation requires care."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import numpy as np

from .._mxnet import nd
from .._mxnet.library import try_gpu
from .._perplexity import perplexity
from ..chapter import book
from ..chapter.book import CHAPTER
from ..evidence.figures import Level, Line, heat_figure, lines_figure
from ..evidence.records import Row, Table, column, group_by, select
from ..text.corpora import load_text
from ..text.vocab import Vocab
from .networks import TrainSettings, new_network, train_until
from .study import Observer, Rows, Study, library

NOTEBOOK = "initialisation.ipynb"
HOURS = 3.3
FILES = {  # kind of rows -> file
    "grid": "initialisation_grid",
    "plateau": "initialisation_plateau",
    "fast": "initialisation_fast",
    "unigram": "initialisation_unigram",
}
GOAL = 2.0  # training perplexity of a run that has left the plateau
BY_HEART = 1.1  # training perplexity of a run that knows the text by heart
HIGHEST = 60  # highest perplexity that a plot shows
BOOK = book.BOOK.printed[-1].perplexity
INITS: Dict[str, Dict[str, Any]] = {
    "Normal(0.01)": {"init": "normal"},
    "Xavier": {"init": "xavier"},
    "orthogonal, forget bias 1": {"init": "orthogonal", "forget_bias": 1.0},
}
PLATEAU_INITS: Dict[str, Dict[str, Any]] = {
    **INITS,
    "Normal(0.01), forget bias 1": {"init": "normal", "forget_bias": 1.0},
    "orthogonal": {"init": "orthogonal"},
}
# Outputs whose spread is measured: those after the first characters, when the state has settled.
CONTEXTS = slice(200, 2000)
CHAPTERS: Dict[str, Any] = {"optimizer": "sgd", "lr": CHAPTER.lr, **INITS["Normal(0.01)"]}
FAST: Dict[str, Dict[str, Any]] = {
    "the chapter: SGD 5, Normal(0.01)": CHAPTERS,
    "SGD 5, Xavier": {"optimizer": "sgd", "lr": 5.0, **INITS["Xavier"]},
    "SGD 15, Xavier": {"optimizer": "sgd", "lr": 15.0, **INITS["Xavier"]},
    "Adam 0.01, Xavier": {"optimizer": "adam", "lr": 0.01, **INITS["Xavier"]},
    **{
        f"Adam {lr}, orthogonal, forget bias 1": {
            "optimizer": "adam",
            "lr": lr,
            **INITS["orthogonal, forget bias 1"],
        }
        for lr in (0.01, 0.02)
    },
}


def study(
    *, quick: bool = False, out: Optional[Path] = None, observer: Optional[Observer] = None
) -> Rows:
    """Train on the chapter's text with many settings, until the network knows it by heart.

    Returns:
        "grid": the first epoch with a training perplexity of at most 2, by learning rate, clipping,
        initialisation, depth and seed. "plateau": each epoch of the chapter's network, by
        initialisation. "fast": each epoch with settings chosen for speed, with the chapter's width
        and several seeds. "unigram": the perplexity of the character frequencies.
    """
    name = library(quick).first[0]
    text = load_text(name, 2000 if quick else CHAPTER.num_examples)
    vocab = Vocab(text)
    indices = vocab.encode(text)
    base = {
        "batch_size": 4 if quick else CHAPTER.batch_size,
        "num_steps": CHAPTER.num_steps,
        "num_layers": CHAPTER.num_layers,
    }
    limit = 12 if quick else 200
    widths = (16, 32) if quick else (64, CHAPTER.num_hiddens)
    described = {
        "settings": base,
        "num_hiddens": {"grid": widths[0], "plateau, fast": widths[1]},
        "text": name,
        "characters": len(text),
        "most_epochs": limit,
        "goal": GOAL,
    }
    study = Study("initialisation", FILES, described, quick=quick, out=out, observer=observer)

    def train(goal: float, num_epochs: int, measured: bool = False, **changed: Any) -> List[Row]:
        settings = TrainSettings(**{**base, "corpus": (name,), "num_epochs": num_epochs, **changed})
        model = new_network(settings, len(vocab))

        def spread() -> Row:
            """Return the standard deviation of the upper layer's outputs over contexts.

            It is the root mean square over the units. A constant output, such as that of a bias,
            tells the output layer nothing about the context.
            """
            state = model.begin_state(batch_size=1, ctx=try_gpu())
            X = nd.array(indices[: CONTEXTS.stop, None], ctx=try_gpu())
            outputs, _ = model.rnn(nd.one_hot(X, len(vocab)), state)
            outputs = outputs[CONTEXTS.start :]
            deviations = outputs - outputs.mean(axis=0, keepdims=True)
            return {"spread": float(deviations.square().mean().sqrt().asscalar())}

        return train_until(
            settings,
            model,
            indices,
            goal,
            before_epoch=spread if measured else dict,
            on_minibatch=study.on_minibatch,
        )

    def train_cell(run: Row) -> List[Row]:
        names = ("num_layers", "lr", "clipping_theta", "seed")
        chosen = {name: run[name] for name in names}
        rows = train(GOAL, limit, num_hiddens=widths[0], **chosen, **INITS[run["init"]])
        perplexities = [perplexity(row["train"]) for row in rows]
        epochs = len(rows) if perplexities[-1] <= GOAL else 0  # 0: goal not reached
        return [{"epochs": epochs, "lowest": min(perplexities), "seconds": rows[-1]["seconds"]}]

    def train_fast(run: Row) -> List[Row]:
        setting = FAST[run["setting"]]
        num_epochs = CHAPTER.num_epochs if setting is CHAPTERS and not quick else limit
        return train(BOOK, num_epochs, num_hiddens=widths[1], seed=run["seed"], **setting)

    grid = study.collect(
        "grid",
        [
            {"init": init, "num_layers": layers, "clipping_theta": theta, "lr": rate, "seed": seed}
            for seed in ([0, 1] if quick else [0, 1, 2, 3, 4])
            for init in INITS
            for layers in ([1, 2] if quick else [1, 2, 3])
            for theta in ([1.0] if quick else [0.1, 1.0, 10.0])
            for rate in ([5.0, 50.0] if quick else [1.5, 5.0, 15.0, 50.0])
        ],
        train_cell,
    )
    plateau = study.collect(
        "plateau",
        [{"init": init} for init in PLATEAU_INITS],
        lambda run: train(
            BY_HEART,
            limit,
            measured=True,
            num_hiddens=widths[1],
            lr=CHAPTER.lr,
            seed=0,
            **PLATEAU_INITS[run["init"]],
        ),
    )
    fast = study.collect(
        "fast",
        [
            {"setting": setting, "seed": seed}
            for seed in ([0] if quick else [0, 1, 2])
            for setting in FAST
        ],
        train_fast,
    )
    unigram = study.collect(
        "unigram", [{"text": name}], lambda run: [{"perplexity": _unigram_perplexity(indices)}]
    )
    return {"grid": grid, "plateau": plateau, "fast": fast, "unigram": unigram}


def _unigram_perplexity(indices: np.ndarray) -> float:
    """Return the perplexity of a model that knows only the frequency of each character."""
    p = np.bincount(indices) / len(indices)
    p = p[p > 0]
    return perplexity(-(p * np.log(p)).sum())


def tables(rows: Rows) -> List[Table]:
    """Return tables of the settings that converge, of the plateau, and of the fast settings."""
    networks = group_by(rows["grid"], "init", "num_layers")
    unigram = rows["unigram"][0]["perplexity"]
    limits = {
        f"the frequencies' {unigram:.2f}": unigram,
        "nine tenths of it": 0.9 * unigram,
        "half of it": unigram / 2,
        f"{GOAL:g}": GOAL,
    }
    seeds = len(group_by(rows["grid"], "seed"))
    return [
        Table(
            f"Learning rates and clippings with which all, some and none of {seeds} seeds reach "
            f"perplexity {GOAL:g}",
            ["initialisation", "layers", "all", "some", "none"],
            [[init, str(depth), *_agreement(runs)] for (init, depth), runs in networks.items()],
        ),
        Table(
            f"Epochs to perplexity {GOAL:g} with the best setting, each seed",
            ["initialisation", "layers", "learning rate", "clipping_theta", "epochs", "median"],
            [[init, str(depth), *_best_cell(runs)] for (init, depth), runs in networks.items()],
        ),
        Table(
            "The chapter's learning rate and clipping, seed 0: spread of the upper layer's outputs "
            "over contexts before training, and first epoch with a perplexity of at most",
            ["initialisation", "spread", *limits],
            [
                [init, *_plateau(epochs, list(limits.values()))]
                for init, epochs in group_by(rows["plateau"], "init").items()
            ],
        ),
        Table(
            f"Epochs to the book's last perplexity, {BOOK:.3f}, each seed",
            ["setting", "epochs", "median"],
            [
                [setting, *_epochs_to_the_books(runs)]
                for setting, runs in group_by(rows["fast"], "setting").items()
            ],
        ),
    ]


def _cells(rows: List[Row]) -> Dict[Tuple[float, float], List[float]]:
    """Return each seed's epochs, infinite for never, by learning rate and clipping."""
    cells = group_by(rows, "lr", "clipping_theta")
    return {cell: [row["epochs"] or math.inf for row in runs] for cell, runs in cells.items()}


def _agreement(rows: List[Row]) -> List[str]:
    """Count the cells in which all, some and none of the seeds reach the goal."""
    cells = _cells(rows).values()
    every = sum(max(epochs) < math.inf for epochs in cells)
    none = sum(min(epochs) == math.inf for epochs in cells)
    return [str(every), str(len(cells) - every - none), str(none)]


def _best_cell(rows: List[Row]) -> List[str]:
    """Return the learning rate and clipping that take the fewest epochs, and each seed's epochs."""
    # If most seeds never reach the goal, the best cell is the one in which the most do.
    (rate, theta), epochs = min(
        _cells(rows).items(),
        key=lambda cell: (statistics.median(cell[1]), cell[1].count(math.inf), cell[0]),
    )
    if min(epochs) == math.inf:
        return ["any", "any", "never", "never"]
    return [f"{rate:g}", f"{theta:g}", *_epochs_and_median(epochs, "never")]


def _plateau(rows: List[Row], limits: List[float]) -> List[str]:
    """Return the spread of the outputs before training, and the first epoch within each limit."""
    cells = [f"{rows[0]['spread']:.2g}"]
    for limit in limits:
        within = [row["epoch"] for row in rows if perplexity(row["train"]) <= limit]
        cells.append(str(within[0]) if within else f"not within {rows[-1]['epoch']}")
    return cells


def _epochs_to_the_books(rows: List[Row]) -> List[str]:
    """Return the epochs that each seed takes to the book's last perplexity, and their median."""
    ends = [run[-1] for run in group_by(rows, "seed").values()]
    epochs = [row["epoch"] if perplexity(row["train"]) <= BOOK else math.inf for row in ends]
    return _epochs_and_median(epochs, f"not within {max(column(rows, 'epoch'))}")


def _epochs_and_median(epochs: List[float], never: str) -> List[str]:
    *each, median = (
        never if epoch == math.inf else f"{epoch:g}"
        for epoch in [*epochs, statistics.median(epochs)]
    )
    return [", ".join(each), median]


def figures(rows: Rows) -> Dict[str, Any]:
    """Plot the grid as heat maps, the plateau, and the fast settings."""
    grid = rows["grid"]
    names = ("init", "num_layers", "clipping_theta", "lr")
    inits, depths, thetas, rates = (list(group_by(grid, name)) for name in names)
    depths, thetas, rates = sorted(depths), sorted(thetas), sorted(rates)
    cells = {
        cell: [row["epochs"] or math.inf for row in runs]
        for cell, runs in group_by(grid, *names).items()
    }

    def panels(value: Callable[[List[float]], float]) -> Dict[str, Dict[str, np.ndarray]]:
        """Return heat maps of a value of each cell's epochs, by depth and initialisation."""

        def values(init: str, depth: int) -> np.ndarray:
            return np.array([[value(cells[init, depth, t, r]) for r in rates] for t in thetas])

        return {
            f"{depth} layer{'s' if depth > 1 else ''}": {
                init: values(init, depth) for init in inits
            }
            for depth in depths
        }

    unigram = rows["unigram"][0]["perplexity"]
    perplexities, spreads = {}, {}
    for init, run in group_by(rows["plateau"], "init").items():
        epochs = column(run, "epoch")
        perplexities[init] = Line(epochs, [perplexity(row["train"]) for row in run])
        spreads[init] = Line(epochs, column(run, "spread"))
    fast: Dict[str, Union[Line, Level]] = {
        setting: Line(column(run, "epoch"), [_shown(row) for row in run])
        for setting, run in group_by(select(rows["fast"], seed=0), "setting").items()
    }
    fast[f"the book's last, {BOOK:.3f}"] = Level(BOOK)
    ylabel = "training perplexity per character"
    axes = (
        [f"{rate:g}" for rate in rates],
        [f"{theta:g}" for theta in thetas],
        "learning rate",
        "clipping threshold",
    )
    medians = {cell: _median_of_most(epochs) for cell, epochs in cells.items()}
    reached = [cell for cell, median in medians.items() if not math.isnan(median)]
    sure = sum(all(map(math.isfinite, epochs)) for epochs in cells.values())
    grid_title = f"No setting gets most seeds to perplexity {GOAL:g}"
    if reached:
        best = min(reached, key=lambda cell: medians[cell])
        grid_title = f"Fastest: {best[0]}, {best[1]} layers, {medians[best]:.0f} epochs"
    return {
        "initialisation_grid": heat_figure(
            panels(_median_of_most),
            *axes,
            f"epochs to perplexity {GOAL:g}, median\n(\N{EN DASH}: most seeds never)",
            low_is_good=True,
            title=grid_title,
        ),
        "initialisation_share": heat_figure(
            panels(lambda epochs: 100 * sum(map(math.isfinite, epochs)) / len(epochs)),
            *axes,
            f"% of the seeds that reach\nperplexity {GOAL:g}",
            title=f"All seeds reach perplexity {GOAL:g} with {sure} of {len(cells)} settings",
        ),
        "initialisation_plateau": lines_figure(
            {"": {**perplexities, "character frequencies alone": Level(unigram)}},
            "epoch",
            ylabel,
            log_y=True,
            title=_leaving(perplexities, unigram),
        ),
        "initialisation_hidden": lines_figure(
            {"": spreads},
            "epoch",
            "standard deviation of H over contexts",
            log_y=True,
            title="At first, the upper layer's outputs differ least between contexts with "
            + min(spreads, key=lambda init: spreads[init].y[0]),
        ),
        "initialisation_fast": lines_figure(
            {"": fast},
            "epoch",
            ylabel,
            log_x=True,
            log_y=True,
            title="Fastest ways to the book's perplexity (seed 0; values above "
            f"{HIGHEST} left out)",
        ),
    }


def _leaving(lines: Dict[str, Line], unigram: float) -> str:
    """Return a title: which runs are the first and the last to leave the plateau."""
    left = {}
    for init, line in lines.items():
        below = [epoch for epoch, value in zip(line.x, line.y) if value < 0.9 * unigram]
        left[init] = below[0] if below else math.inf
    first, *_, last = sorted(left, key=lambda init: left[init])
    if math.isinf(left[last]):
        return "Not all runs leave the plateau"
    return f"{first} leaves the plateau in epoch {left[first]}, {last} in epoch {left[last]}"


def _shown(row: Row) -> float:
    """Return the perplexity, or NaN if it would stretch the axis."""
    value = perplexity(row["train"])
    return value if value <= HIGHEST else math.nan


def _median_of_most(epochs: List[float]) -> float:
    """Return the median if at least half of the runs reach the goal, else NaN."""
    median = statistics.median(epochs)
    return math.nan if median == math.inf else median
