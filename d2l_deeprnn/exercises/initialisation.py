"""The chapter's remark that initialisation requires care, measured."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import numpy as np

from .._mxnet import nd
from .._mxnet.context import try_gpu
from .._perplexity import perplexity
from ..chapter.book import CHAPTER, PRINTED
from ..evidence.figures import Level, Line, heat_figure, lines_figure
from ..evidence.records import Row, Table, column, select
from ..files import user_path
from ..text.corpora import load_text
from ..text.vocab import Vocab
from ..training.learner import Diverged, Learner, new_model
from ..training.settings import TrainSettings
from .study import Watch, Watched, collect
from .texts import library

Rows = Dict[str, List[Row]]
Panel = Tuple[str, np.ndarray]  # of a heat map: its title and the cells' values
FILES = {  # kind of rows -> file
    "grid": "initialisation_grid",
    "plateau": "initialisation_plateau",
    "fast": "initialisation_fast",
    "unigram": "initialisation_unigram",
}
GOAL = 2.0  # training perplexity of a run that is on its way
BY_HEART = 1.1  # and of one that knows the text by heart
HIGHEST = 60  # that a picture shows
INITS: Dict[str, Dict[str, Any]] = {
    "Normal(0.01)": {"init": "normal"},
    "Xavier": {"init": "xavier"},
    "orthogonal, forget bias 1": {"init": "orthogonal", "forget_bias": 1.0},
}
CHAPTERS: Dict[str, Any] = {"optimizer": "sgd", "lr": CHAPTER.lr, "init": "normal"}
FAST: Dict[str, Dict[str, Any]] = {
    "the chapter: SGD 5, Normal(0.01)": CHAPTERS,
    "SGD 5, Xavier": {"optimizer": "sgd", "lr": 5.0, "init": "xavier"},
    "SGD 15, Xavier": {"optimizer": "sgd", "lr": 15.0, "init": "xavier"},
    "Adam 0.01, Xavier": {"optimizer": "adam", "lr": 0.01, "init": "xavier"},
    "Adam 0.01, orthogonal, forget bias 1": {
        "optimizer": "adam",
        "lr": 0.01,
        "init": "orthogonal",
        "forget_bias": 1.0,
    },
    "Adam 0.02, orthogonal, forget bias 1": {
        "optimizer": "adam",
        "lr": 0.02,
        "init": "orthogonal",
        "forget_bias": 1.0,
    },
}


def study(
    *, quick: bool = False, out: Optional[Path] = None, watch: Optional[Watch] = None
) -> Rows:
    """Train on the chapter's text with many settings, until it is known by heart.

    Args:
        quick: two minutes on a sample text, to see that it works.
        out: directory of ``initialisation*.csv``.
        watch: is told how far it is.

    Returns:
        "grid": for learning rate, clipping, initialisation, depth and each of
        several seeds, the epoch in which training perplexity first is at most
        2; "plateau": what the chapter's network does epoch by epoch; "fast":
        perplexity by epoch of settings meant to be fast, at the chapter's
        width, with several seeds.
    """
    out = out and user_path(out)
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
        "command": "d2l-deeprnn exercise initialisation" + (" --quick" if quick else ""),
        "settings": base,
        "num_hiddens": {"grid": widths[0], "plateau, fast": widths[1]},
        "text": name,
        "characters": len(text),
        "most_epochs": limit,
        "goal": GOAL,
    }

    def run(goal: float, most: int, **changed: Any) -> List[Row]:
        chosen = TrainSettings(**{**base, "corpus": (name,), "num_epochs": most, **changed})
        return _train_until(chosen, vocab, indices, goal, watch or Watch())

    rates = [5.0, 50.0] if quick else [1.5, 5.0, 15.0, 50.0]
    thetas = [1.0] if quick else [0.1, 1.0, 10.0]

    def converged(r: Row) -> List[Row]:
        rows = run(
            GOAL,
            limit,
            num_hiddens=widths[0],
            num_layers=r["num_layers"],
            lr=r["lr"],
            clipping_theta=r["clipping_theta"],
            seed=r["seed"],
            **INITS[r["init"]],
        )
        reached = perplexity(rows[-1]["train"]) <= GOAL
        # 0 epochs: not within the limit
        epochs = rows[-1]["epoch"] if reached else 0
        lowest = min(perplexity(row["train"]) for row in rows)
        return [{"epochs": epochs, "lowest": lowest, "seconds": rows[-1]["seconds"]}]

    grid = collect(
        FILES["grid"],
        described,
        [
            {"init": init, "num_layers": layers, "clipping_theta": theta, "lr": rate, "seed": seed}
            for seed in ([0, 1] if quick else [0, 1, 2, 3, 4])
            for init in INITS
            for layers in ([1, 2] if quick else [1, 2, 3])
            for theta in thetas
            for rate in rates
        ],
        converged,
        out=out,
        watch=watch,
    )
    plateau = collect(
        FILES["plateau"],
        described,
        [{"init": init} for init in INITS],
        lambda r: run(
            BY_HEART, limit, num_hiddens=widths[1], lr=CHAPTER.lr, seed=0, **INITS[r["init"]]
        ),
        out=out,
        watch=watch,
    )
    fast = collect(
        FILES["fast"],
        described,
        [
            {"setting": setting, "seed": seed}
            for seed in ([0] if quick else [0, 1, 2])
            for setting in FAST
        ],
        lambda r: run(
            PRINTED[-1].perplexity,
            limit if quick or FAST[r["setting"]] != CHAPTERS else CHAPTER.num_epochs,
            num_hiddens=widths[1],
            seed=r["seed"],
            **FAST[r["setting"]],
        ),
        out=out,
        watch=watch,
    )
    unigram = collect(
        FILES["unigram"],
        described,
        [{"text": name}],
        lambda r: [{"perplexity": _unigram_perplexity(indices)}],
        out=out,
        watch=watch,
    )
    return {"grid": grid, "plateau": plateau, "fast": fast, "unigram": unigram}


def tables(rows: Rows) -> List[Table]:
    """Which settings converge, how long the plateau is, and the fast settings."""
    grid = rows["grid"]
    inits = list(dict.fromkeys(column(grid, "init")))
    depths = sorted(set(column(grid, "num_layers")))

    frequencies = rows["unigram"][0]["perplexity"]
    limits = {
        f"the frequencies' {frequencies:.2f}": frequencies,
        "nine tenths of it": 0.9 * frequencies,
        "half of it": frequencies / 2,
        f"{GOAL:g}": GOAL,
    }
    seeds = len(set(column(grid, "seed")))
    return [
        Table(
            f"Learning rates and clippings with which all, some and none of {seeds} seeds reach "
            f"perplexity {GOAL:g}",
            ["initialisation", "layers", "all", "some", "none"],
            [
                [init, str(depth), *_agreement(select(grid, init=init, num_layers=depth))]
                for init in inits
                for depth in depths
            ],
        ),
        Table(
            f"Epochs to perplexity {GOAL:g} with the best setting, each seed",
            ["initialisation", "layers", "learning rate", "clipping_theta", "epochs", "median"],
            [
                [init, str(depth), *_best(select(grid, init=init, num_layers=depth))]
                for init in inits
                for depth in depths
            ],
        ),
        Table(
            "The chapter's learning rate and clipping, seed 0: size of the upper layer's outputs "
            "before training, and first epoch with a perplexity of at most",
            ["initialisation", "size", *limits],
            [[init, *_plateau(select(rows["plateau"], init=init), limits)] for init in inits],
        ),
        Table(
            f"Epochs to the book's last perplexity, {PRINTED[-1].perplexity:.3f}, each seed",
            ["setting", "epochs", "median"],
            [
                [setting, *_epochs_to_the_books(select(rows["fast"], setting=setting))]
                for setting in dict.fromkeys(column(rows["fast"], "setting"))
            ],
        ),
    ]


def _cells(rows: List[Row]) -> Dict[Tuple[float, float], List[float]]:
    """The epochs of each seed, infinite for never, by learning rate and clipping."""
    cells: Dict[Tuple[float, float], List[float]] = {}
    for row in rows:
        cells.setdefault((row["lr"], row["clipping_theta"]), []).append(row["epochs"] or math.inf)
    return cells


def _agreement(rows: List[Row]) -> List[str]:
    """With how many learning rates and clippings all seeds get there, some of them, and none."""
    cells = _cells(rows).values()
    every = sum(max(epochs) < math.inf for epochs in cells)
    none = sum(min(epochs) == math.inf for epochs in cells)
    return [str(every), str(len(cells) - every - none), str(none)]


def _best(rows: List[Row]) -> List[str]:
    """The learning rate and clipping that take the fewest epochs, and the epochs of each seed."""
    # Where most seeds never get there, it is the setting with which the most do.
    (rate, theta), epochs = min(
        _cells(rows).items(),
        key=lambda cell: (statistics.median(cell[1]), cell[1].count(math.inf), cell[0]),
    )
    if min(epochs) == math.inf:
        return ["any", "any", "never", "never"]
    return [f"{rate:g}", f"{theta:g}", *_words(epochs, "never")]


def _plateau(rows: List[Row], limits: Dict[str, float]) -> List[str]:
    """The size of the outputs before training, and the first epoch within each limit."""
    found = [f"{rows[0]['hidden']:.2g}"]
    for limit in limits.values():
        within = [row["epoch"] for row in rows if perplexity(row["train"]) <= limit]
        found.append(str(within[0]) if within else f"not within {rows[-1]['epoch']}")
    return found


def figures(rows: Rows) -> Dict[str, Any]:
    """The heat map, the plateau, and the fast settings."""
    grid = rows["grid"]
    inits = list(dict.fromkeys(column(grid, "init")))
    names = ("num_layers", "clipping_theta", "lr")
    depths, thetas, rates = (sorted(set(column(grid, name))) for name in names)

    def panel(init: str, depth: int, of_seeds: Callable[[List[float]], float]) -> Panel:
        cells = _cells(select(grid, init=init, num_layers=depth))
        found = [[of_seeds(cells[rate, theta]) for rate in rates] for theta in thetas]
        return f"{init}\n{depth} layer{'s' if depth > 1 else ''}", np.array(found)

    def values(of_seeds: Callable[[List[float]], float]) -> List[List[Panel]]:
        """What the epochs of a cell's seeds come to, for each depth and initialisation."""
        return [[panel(init, depth, of_seeds) for init in inits] for depth in depths]

    curves: Dict[str, Union[Line, Level]] = {}
    states = {}
    for init in inits:
        found = select(rows["plateau"], init=init)
        epochs = column(found, "epoch")
        curves[init] = Line(epochs, [perplexity(row["train"]) for row in found])
        states[init] = Line(epochs, column(found, "hidden"))
    curves["character frequencies alone"] = Level(rows["unigram"][0]["perplexity"])
    plateau = {"the chapter's learning rate and clipping": curves}
    hidden = {"size of the upper layer's outputs": states}
    fast: Dict[str, Union[Line, Level]] = {
        setting: Line(
            column(select(rows["fast"], setting=setting, seed=0), "epoch"),
            [_shown(row) for row in select(rows["fast"], setting=setting, seed=0)],
        )
        for setting in dict.fromkeys(column(rows["fast"], "setting"))
    }
    books = PRINTED[-1].perplexity
    fast[f"the book's last perplexity, {books:.3f}"] = Level(books)
    perplexities = "training perplexity per character"
    axes = (
        [f"{rate:g}" for rate in rates],
        [f"{theta:g}" for theta in thetas],
        "learning rate",
        "clipping_theta",
    )
    return {
        "initialisation_grid": heat_figure(
            values(_median_of_most),
            *axes,
            f"epochs to perplexity {GOAL:g}, median (\N{EN DASH}: most seeds never)",
        ),
        "initialisation_share": heat_figure(
            values(lambda epochs: 100 * sum(map(math.isfinite, epochs)) / len(epochs)),
            *axes,
            f"% of the seeds that reach perplexity {GOAL:g}",
        ),
        "initialisation_plateau": lines_figure(plateau, "epoch", perplexities, log_y=True),
        "initialisation_hidden": lines_figure(hidden, "epoch", "root mean square of H", log_y=True),
        "initialisation_fast": lines_figure(
            {f"the chapter's text and width, seed 0 (nothing is drawn above {HIGHEST})": fast},
            "epoch",
            perplexities,
            log_x=True,
            log_y=True,
        ),
    }


def _shown(row: Row) -> float:
    """Perplexity; a gap where a run has lost its way and the axis would stretch."""
    found = perplexity(row["train"])
    return found if found <= HIGHEST else math.nan


def _epochs_to_the_books(rows: List[Row]) -> List[str]:
    """The epochs of each seed, and their median; the longest run for one that never gets there."""
    goal, most = PRINTED[-1].perplexity, max(column(rows, "epoch"))
    ends = [select(rows, seed=seed)[-1] for seed in sorted(set(column(rows, "seed")))]
    epochs = [row["epoch"] if perplexity(row["train"]) <= goal else math.inf for row in ends]
    return _words(epochs, f"not within {most}")


def _words(epochs: List[float], never: str) -> List[str]:
    """The epochs of each seed, and their median, in words."""
    words = [
        never if epoch == math.inf else f"{epoch:g}"
        for epoch in [*epochs, statistics.median(epochs)]
    ]
    return [", ".join(words[:-1]), words[-1]]


def _median_of_most(epochs: List[float]) -> float:
    """The median, where at least half of the runs have reached the goal."""
    middle = statistics.median(epochs)
    return math.nan if middle == math.inf else middle


def _train_until(
    settings: TrainSettings, vocab: Vocab, indices: np.ndarray, goal: float, watch: Watch
) -> List[Row]:
    """Train until an epoch's perplexity is at most ``goal`` or infinite; a row an epoch.

    ``hidden`` is the root mean square of the upper layer's outputs before the epoch.
    """
    ctx = try_gpu()
    model = new_model(settings, len(vocab), ctx)
    learner = Learner(settings, model, indices, np.array([], np.int32), ctx)
    rows: List[Row] = []
    while learner.finished is None:
        hidden = _hidden(learner, indices[: settings.num_steps])
        try:
            loss = learner.train_epoch([Watched(watch)]).train_loss
        except Diverged:
            loss = math.inf
        seconds = learner.history[-1].seconds if learner.history else 0.0
        rows.append({"epoch": len(rows) + 1, "train": loss, "hidden": hidden, "seconds": seconds})
        if loss == math.inf or perplexity(loss) <= goal:
            break
    return rows


def _hidden(learner: Learner, indices: np.ndarray) -> float:
    state = learner.model.begin_state(batch_size=1, ctx=learner.ctx)
    X = nd.array(indices[None], ctx=learner.ctx)
    # The outputs of the upper layer are its H at each step.
    one_hot = nd.one_hot(X.T, learner.model.vocab_size)
    outputs, _ = learner.model.rnn(one_hot, state)
    return float(outputs.square().mean().sqrt().asscalar())


def _unigram_perplexity(indices: np.ndarray) -> float:
    """Of a model that knows how frequent each character is, and nothing else."""
    p = np.bincount(indices) / len(indices)
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))
