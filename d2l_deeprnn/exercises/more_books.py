"""Exercise 3: more data. How low can the perplexity go?"""

from __future__ import annotations

import math
import statistics
import tempfile
from itertools import product
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from .._mxnet import gluon
from .._perplexity import perplexity
from ..evidence.figures import Level, Line, lines_figure, lowest, points_figure
from ..evidence.intervals import (
    Difference,
    difference_table,
    paired_difference,
)
from ..evidence.records import Row, Table, column, group_by, select, spread_of, summary_table
from ..generation.generate import generate
from ..text.vocab import Vocab
from .networks import (
    PLATEAU,
    TrainSettings,
    best_epoch,
    common_settings,
    dynamic_evaluation,
    ensemble_loss,
    log_probabilities,
    new_network,
    ngram_losses,
    settings_for,
    train_to_the_end,
    without_dropout,
)
from .study import Observer, Rows, Study, library, read, split

NOTEBOOK = "exercise-3-more-books.ipynb"
HOURS = 12
FILES = {  # kind of rows -> file
    "ngrams": "exercise_3_ngrams",
    "recipes": "exercise_3_recipes",
    "amounts": "exercise_3_amounts",
    "lowest": "exercise_3_lowest",
}
RECIPE = ("num_hiddens", "dropout", "lr", "weight_decay")
# The value to try next if the best one is at the edge of the grid.
BEYOND: Dict[str, Dict[Any, Any]] = {
    "num_hiddens": {16: 8, 32: 48, 128: 64, 256: 512},
    "dropout": {0.2: 0.0, 0.5: 0.7},
    "lr": {0.002: 0.001, 0.004: 0.008},
}
PARTS = ("a tenth of a book", "three tenths of a book", "one book")
BOOKS = ("two books", "three books")  # the third book is by another author
PREFIXES = ("the time traveller ", "it was ")
SAMPLE = 200  # characters after the prefix
# Ways to improve the networks of all the books.
AS_TRAINED, GOING_ON = "trained on all the books", "going on with the first author"
AVERAGED, ADAPTING = "weights averaged over epochs", "adapting while it reads"
TOGETHER = "all seeds together"
ADAPTING_RATES = (0.01, 0.03, 0.1, 0.3)


def study(
    *, quick: bool = False, out: Optional[Path] = None, observer: Optional[Observer] = None
) -> Rows:
    """Train to the end on a tenth of a book, up to several books; then try to go lower.

    The last fifth of the first book is always held out: half of it to choose settings and epochs,
    half of it for the test. Each amount of text has its own settings. Then the networks of all the
    books are fine-tuned on the first author, and methods beyond a single network are tried.

    Returns:
        "ngrams": the baseline, one row per amount of text. "recipes": the best epoch of each
        setting that was tried. "amounts": one row per epoch; the row of a run's best epoch has the
        test loss and samples. "lowest": the same for the fine-tuned networks, and the results of
        the other methods.
    """
    books = library(quick)
    names = books.first + books.second
    texts = read(names)
    own, valid, test = split(texts[0])
    settings = {
        "settings": common_settings(quick),
        "plateau": PLATEAU,
        "texts": list(names),
        "held_out": [len(valid), len(test)],
    }
    grid: Dict[str, Tuple[Any, ...]] = {
        "num_hiddens": (16, 32) if quick else (128, 256),
        "dropout": (0.2,) if quick else (0.2, 0.5),
        "lr": (0.01,) if quick else (0.002, 0.004),
    }
    wider = (32, 48) if quick else (256, 512)
    decays = (1e-5,) if quick else (1e-5, 3e-5)
    seeds = (0, 1) if quick else (0, 1, 2)
    study = Study("3", FILES, settings, quick=quick, out=out, observer=observer)
    with tempfile.TemporaryDirectory() as temporary:
        networks = _Networks(
            study, quick, names, _amounts([own, *texts[1:]]), valid, test, Path(temporary)
        )
        ngrams = study.collect("ngrams", [{"amount": a} for a in PARTS + BOOKS], networks.ngram)

        def tried(runs: Sequence[Row]) -> List[Row]:
            return study.collect(
                "recipes",
                runs,
                lambda run: [best_epoch(networks.trained(run)[1])],
                work=networks.work,
            )

        runs: List[Row] = [
            {"amount": amount, **dict(zip(RECIPE, (*recipe, 0.0))), "seed": 0}
            for amount in PARTS
            for recipe in product(*grid.values())
        ]
        chosen = best_recipes(tried(runs))
        rate = chosen[PARTS[-1]]["lr"]  # for the larger amounts, which stay within the grid
        runs += [
            {**chosen[amount], key: BEYOND[key][chosen[amount][key]], "seed": 0}
            for amount in PARTS
            for key, values in grid.items()
            if len(values) > 1
        ]
        chosen = best_recipes(tried(runs))
        runs += [{**chosen[a], "weight_decay": decay, "seed": 0} for a in PARTS for decay in decays]
        runs += [
            {"amount": amount, **dict(zip(RECIPE, (*recipe, rate, 0.0))), "seed": 0}
            for amount in BOOKS
            for recipe in product(wider, grid["dropout"])
        ]
        recipes = tried(runs)
        chosen = best_recipes(recipes)
        amounts = study.collect(
            "amounts",
            [{**recipe, "seed": seed} for recipe in chosen.values() for seed in seeds],
            lambda run: networks.with_samples(*networks.trained(run)),
            work=networks.work,
        )
        of_all = [{**chosen[BOOKS[-1]], "seed": seed} for seed in seeds]
        lowest = study.collect(
            "lowest",
            [
                *({"way": way, "seed": seed} for way in (GOING_ON, ADAPTING) for seed in seeds),
                {"way": TOGETHER, "seed": "all"},
            ],
            lambda run: networks.improved(run["way"], of_all, run["seed"]),
            work=networks.work,
        )
        networks.remove_files()
    return {"ngrams": ngrams, "recipes": recipes, "amounts": amounts, "lowest": lowest}


class _Networks:
    """The networks of the study. Each is kept in a file, so that it is trained only once.

    Args:
        study: the study.
        quick: whether this is the small version.
        names: names of the texts.
        amounts: name -> training text.
        valid, test: the texts held out.
        temporary: directory of the files if the study has none.
    """

    def __init__(
        self,
        study: Study,
        quick: bool,
        names: Sequence[str],
        amounts: Dict[str, str],
        valid: str,
        test: str,
        temporary: Path,
    ) -> None:
        self._study, self._quick, self._names, self._temporary = study, quick, names, temporary
        self._vocab = Vocab("".join([*amounts.values(), valid, test]))
        self._amounts = {amount: self._vocab.encode(text) for amount, text in amounts.items()}
        self._held_out = {"valid": self._vocab.encode(valid), "test": self._vocab.encode(test)}

    def work(self, run: Row) -> float:
        """Return how long a run takes, relative to others; more text takes fewer epochs."""
        length = len(self._amounts[run.get("amount", BOOKS[-1])])
        return float(length**0.65 * run.get("num_hiddens", 1) ** 1.75)

    def ngram(self, run: Row) -> List[Row]:
        """Return the row of the baseline."""
        indices = self._amounts[run["amount"]]
        valid, test = self._held_out["valid"], self._held_out["test"]
        order, known, loss = ngram_losses(indices, valid, test, len(self._vocab))
        return [{"characters": len(indices), "order": order, "known": known, "test": loss}]

    def trained(self, run: Row) -> Tuple[gluon.Block, List[Row]]:
        """Return the network of a run, and one row per epoch."""
        settings = self._settings(run, run["amount"])
        values = [list(self._amounts).index(run["amount"]), *(run[k] for k in (*RECIPE, "seed"))]
        name = "_".join(f"{value:g}" for value in values)
        model = new_network(settings, len(self._vocab))
        return model, self._train(settings, model, run["amount"], name)

    def fine_tuned(self, run: Row) -> Tuple[gluon.Block, List[Row]]:
        """Return the network of a run after more epochs with the first author alone."""
        model, _ = self.trained(run)
        settings = self._settings({**run, "lr": run["lr"] / 4}, BOOKS[-2])
        return model, self._train(settings, model, BOOKS[-2], f"on_{run['seed']}", average=True)

    def with_samples(self, model: gluon.Block, rows: List[Row]) -> List[Row]:
        """Add the network's samples to the row of the best epoch."""
        samples = generate(model, self._vocab, PREFIXES, SAMPLE, temperature=0.5, seed=1)
        best_epoch(rows).update({f"sample_{i}": text for i, text in enumerate(samples)})
        return rows

    def improved(self, way: str, runs: Sequence[Row], seed: Any) -> List[Row]:
        """Return the rows of one way to improve the networks of all the books.

        Args:
            way: ``GOING_ON``, ``ADAPTING`` or ``TOGETHER``.
            runs: the runs of these networks.
            seed: seed of the network, or "all".
        """
        valid, test = self._held_out.values()
        if way == TOGETHER:
            models = [self.fine_tuned(run)[0] for run in runs]
            return [
                {
                    name: ensemble_loss([log_probabilities(m, indices) for m in models], indices)
                    for name, indices in self._held_out.items()
                }
            ]
        (run,) = select(runs, seed=seed)
        model, rows = self.fine_tuned(run)
        if way == GOING_ON:
            return self.with_samples(model, rows)
        reader = without_dropout(self._settings(run, BOOKS[-1]), model, len(self._vocab))
        tried: List[Row] = [
            {"lr": rate, "valid": dynamic_evaluation(reader, valid, rate)}
            for rate in ADAPTING_RATES
        ]
        best = best_epoch(tried)
        best["test"] = dynamic_evaluation(reader, test, best["lr"])
        return tried

    def remove_files(self) -> None:
        """Remove the files of all networks."""
        for file in self._file("").parent.glob("exercise_3_*"):
            file.unlink()

    def _file(self, name: str) -> Path:
        file = f"exercise_3_{name}"
        return self._study.network_file(file) or self._temporary / file

    def _settings(self, run: Row, amount: str) -> TrainSettings:
        return TrainSettings(
            **settings_for(self._quick, len(self._amounts[amount])),
            **{key: run[key] for key in ("num_hiddens", "dropout", "lr", "seed")},
            optimizer_options={"wd": run["weight_decay"]} if run["weight_decay"] else {},
            corpus=tuple(self._names),
        )

    def _train(
        self, settings: TrainSettings, model: gluon.Block, amount: str, name: str, **options: Any
    ) -> List[Row]:
        indices = self._amounts[amount]
        rows = train_to_the_end(
            settings,
            model,
            indices,
            self._held_out["valid"],
            {"test": self._held_out["test"]},
            on_minibatch=self._study.on_minibatch,
            file=self._file(name),
            keep=True,
            **options,
        )
        return [{"characters": len(indices), **row} for row in rows]


def best_recipes(rows: Sequence[Row]) -> Dict[str, Row]:
    """Return, by amount, the amount and its settings with the lowest validation loss."""
    best = {amount: best_epoch(runs) for amount, runs in group_by(rows, "amount").items()}
    return {amount: {key: row[key] for key in ("amount", *RECIPE)} for amount, row in best.items()}


def ways(rows: Rows) -> Dict[str, List[Row]]:
    """Return the rows of each way to use the networks of all the books, one row per seed."""
    lowest = group_by(_best_epochs(rows["lowest"]), "way")
    averaged = [
        {"seed": r["seed"], "valid": r["averaged_valid"], "test": r["averaged_test"]}
        for r in lowest[GOING_ON]
        if r.get("averaged_test", "") != ""
    ]
    all_ways = {
        AS_TRAINED: _by_amount(rows)[BOOKS[-1]],
        GOING_ON: lowest[GOING_ON],
        AVERAGED: averaged,
        ADAPTING: lowest.get(ADAPTING, []),
        TOGETHER: lowest.get(TOGETHER, []),
    }
    return {way: runs for way, runs in all_ways.items() if runs}


def differences(rows: Rows) -> List[Difference]:
    """Return differences of test losses in nats, seed by seed, with joint 95 % intervals."""
    runs = {f"network, {amount}": networks for amount, networks in _by_amount(rows).items()}
    pairs = []
    for ngram in rows["ngrams"]:
        pairs.append((f"network, {ngram['amount']}", f"n-gram, {ngram['amount']}"))
        network, baseline = pairs[-1]
        # The baseline is the same for all seeds.
        runs[baseline] = [{**row, "test": ngram["test"]} for row in runs[network]]
    runs.update(ways(rows))
    two_books, three_books = (f"network, {amount}" for amount in BOOKS)
    pairs += [
        (three_books, two_books),
        (GOING_ON, AS_TRAINED),
        (AVERAGED, GOING_ON),
        (ADAPTING, GOING_ON),
    ]
    pairs = [pair for pair in pairs if pair[0] in runs]
    return [
        paired_difference(pair, *(runs[p] for p in pair), comparisons=len(pairs)) for pair in pairs
    ]


def tables(rows: Rows) -> List[Table]:
    """Return tables of amounts, settings, ways, steps, differences and samples."""
    by_amount, all_ways = _by_amount(rows), ways(rows)
    ngrams = {row["amount"]: row for row in rows["ngrams"]}

    def ngram(runs: List[Row]) -> str:
        row = ngrams[runs[0]["amount"]]
        return f"{perplexity(row['test']):.3f} ({row['order']})"

    return [
        summary_table(
            "Perplexity by amount of text, best epoch: median (lowest to highest) of the seeds",
            ["text"],
            by_amount,
            {
                "characters": lambda runs: f"{ngrams[runs[0]['amount']]['characters']:,}",
                "units, dropout, learning rate, weight decay": lambda runs: _recipe(runs[0]),
                "best epoch": spread_of("epoch", 0),
                "training text": spread_of("known", convert=perplexity),
                "test": spread_of("test", convert=perplexity),
                "n-gram, test (order)": ngram,
            },
        ),
        _recipes_table(rows),
        summary_table(
            "Networks of all the books, perplexity: median (lowest to highest) of the seeds",
            [""],
            all_ways,
            {
                "validation": spread_of("valid", convert=perplexity),
                "test": spread_of("test", convert=perplexity),
            },
        ),
        _steps_table(rows),
        difference_table(
            "Difference of test losses in nats, seed by seed: mean, and joint 95 % intervals",
            ["", "minus", "more than noise"],
            differences(rows),
        ),
        Table(
            "Samples (temperature 0.5; of each the seed that is best on the validation part)",
            ["network", "sample"],
            [
                [name, best_epoch(runs)[f"sample_{i}"]]
                for name, runs in {**by_amount, GOING_ON: all_ways[GOING_ON]}.items()
                for i in range(len(PREFIXES))
            ],
        ),
    ]


def figures(rows: Rows) -> Dict[str, Any]:
    """Plot perplexity by amount of text and by way, and the curves of the best network."""
    by_amount, ngrams = _by_amount(rows), rows["ngrams"]
    thousands = [float(f"{row['characters'] / 1000:.3g}") for row in ngrams]
    panels: Dict[str, Dict[str, Union[Line, Level]]] = {}
    for title, name in [("the text trained on", "known"), ("text never seen (test)", "test")]:
        values = [[perplexity(row[name]) for row in runs] for runs in by_amount.values()]
        panels[title] = {
            "LSTM": Line.of_runs(thousands, values),
            "n-gram": Line(thousands, [perplexity(row[name]) for row in ngrams], style="--"),
        }
    low = {way: [perplexity(row["test"]) for row in runs] for way, runs in ways(rows).items()}
    low["n-gram"] = [perplexity(min(column(ngrams, "test")))]
    best, curves = lowest(low), _curves(rows)
    started, resumed = (min(panel["validation"].y) for panel in curves.values())
    return {
        "exercise_3_amounts": lines_figure(
            panels,
            "thousand characters trained on",
            "perplexity per character",
            log_x=True,
            log_y=True,
            title=_crossing(list(panels.values())[-1]),
        ),
        "exercise_3_curves": lines_figure(
            curves,
            "epoch",
            "perplexity per character",
            log_y=True,
            title=f"Validation perplexity falls to {started:.3f}, and then to {resumed:.3f}",
        ),
        "exercise_3_lowest": points_figure(
            {"": low},
            "test perplexity per character (lower is better)",
            title=f"Lowest on unseen text: {best}",
        ),
    }


def _crossing(lines: Mapping[str, Any]) -> str:
    """Return a title: the amount of text from which on the LSTM is better than the n-gram."""
    lstm, ngram = lines["LSTM"], lines["n-gram"]
    worse = [i for i in range(len(lstm.x)) if lstm.y[i] >= ngram.y[i]]
    first = worse[-1] + 1 if worse else 0
    if first == len(lstm.x):
        return "On unseen text, the n-gram is better at every amount"
    return f"On unseen text, the LSTM is better from {lstm.x[first]:,.0f} thousand characters on"


def _curves(rows: Rows) -> Dict[str, Dict[str, Line]]:
    """Return the curves of the network with the lowest validation loss."""
    seed = best_epoch(ways(rows)[GOING_ON])["seed"]
    epochs = {
        AS_TRAINED: select(rows["amounts"], amount=BOOKS[-1], seed=seed),
        GOING_ON: select(rows["lowest"], way=GOING_ON, seed=seed),
    }
    return {
        title: {
            legend: Line(column(run, "epoch"), [perplexity(row[name]) for row in run])
            for legend, name in [("training, dropout acting", "train"), ("validation", "valid")]
        }
        for title, run in epochs.items()
    }


def _recipes_table(rows: Rows) -> Table:
    """Return a table with one row for each setting and one column for each amount."""
    tried = rows["recipes"]
    cells: Dict[str, Dict[str, str]] = {}
    for row in sorted(tried, key=lambda row: [row[key] for key in ("weight_decay", *RECIPE)]):
        decay = f"the best, weight decay {row['weight_decay']:.5f}"
        name = decay if row["weight_decay"] else _recipe(row)
        cells.setdefault(name, {})[row["amount"]] = f"{perplexity(row['valid']):.3f}"
    amounts = list(group_by(tried, "amount"))
    return Table(
        "Validation perplexity of each setting (seed 0)",
        ["units, dropout, learning rate", *amounts],
        [[name, *(row.get(a, "\N{EN DASH}") for a in amounts)] for name, row in cells.items()],
    )


def _steps_table(rows: Rows) -> Table:
    """Return a table of the steps from one amount by the first author to the next."""
    by_amount = _by_amount(rows)
    steps = []
    for fewer, more in zip(PARTS + BOOKS, PARTS[1:] + BOOKS[:-1]):
        factor = by_amount[more][0]["characters"] / by_amount[fewer][0]["characters"]
        before, after = (statistics.mean(column(by_amount[a], "test")) for a in (fewer, more))
        power = math.log(after / before) / math.log(factor)
        steps.append(
            [f"{fewer} to {more}", f"{factor:.1f}", f"{after - before:+.3f}", f"{power:.3f}"]
        )
    return Table(
        "Each step to more text by the first author: change of the test loss, mean of the seeds",
        ["", "times the text", "nats", "power of a power law between the two"],
        steps,
    )


def _recipe(row: Row) -> str:
    decay = f", {row['weight_decay']:.5f}" if row["weight_decay"] else ""
    return f"{row['num_hiddens']}, {row['dropout']:g}, {row['lr']:g}{decay}"


def _by_amount(rows: Rows) -> Dict[str, List[Row]]:
    """Return the rows of the best epochs, one per seed, by amount."""
    by_amount = group_by(_best_epochs(rows["amounts"]), "amount")
    return {row["amount"]: by_amount[row["amount"]] for row in rows["ngrams"]}


def _best_epochs(rows: Sequence[Row]) -> List[Row]:
    """Return the rows that have a test loss."""
    return [row for row in rows if row.get("test", "") != ""]


def _amounts(texts: Sequence[str]) -> Dict[str, str]:
    """Return the training texts by name: parts of the first book, all of it, then more books."""
    first = texts[0]
    parts = (first[: len(first) // 10], first[: 3 * len(first) // 10], first)
    # The first book comes last, since the held-out text is its continuation.
    several = (" ".join(texts[count::-1]) for count in range(1, len(texts)))
    return {**dict(zip(PARTS, parts)), **dict(zip(BOOKS, several))}
