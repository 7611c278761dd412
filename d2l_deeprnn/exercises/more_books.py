"""Exercise 3: more data. How low can the perplexity go?"""

from __future__ import annotations

import math
import statistics
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from .._mxnet import gluon
from .._perplexity import perplexity
from ..evidence.figures import Level, Line, lines_figure, lowest, points_figure
from ..evidence.intervals import Difference, difference_table, paired_difference
from ..evidence.records import Row, Table, column, group_by, select, spread_of, summary_table
from ..generation.generate import generate
from ..text.vocab import Vocab
from .networks import (
    TrainSettings,
    best_epoch,
    character_losses,
    cosine_settings,
    dynamic_evaluation,
    ensemble_losses,
    new_network,
    ngram_losses,
    train_to_the_end,
    without_dropout,
)
from .search import ONE_OR_MORE_SEEDS, SEEDS, mean_perplexity, search
from .study import Observer, Rows, Study, in_one_typography, library, read, split

NOTEBOOK = "exercise-3-more-books.ipynb"
HOURS = 14
FILES = {  # kind of rows -> file
    "ngrams": "exercise_3_ngrams",
    "recipes": "exercise_3_recipes",
    "amounts": "exercise_3_amounts",
    "lowest": "exercise_3_lowest",
}
PARTS = ("a tenth of a book", "three tenths of a book", "one book")
BOOKS = ("two books", "three books")  # the third book is by another author
EPOCHS = dict(zip(PARTS + BOOKS, (36, 32, 24, 12, 8)))
NUM_SEEDS = dict(zip(PARTS + BOOKS, (5, 5, 5, 3, 3)))
RECIPE = ("num_hiddens", "dropout", "lr", "weight_decay")
# For every amount of text: the values that are combined first, and all values from low to high.
GRID = dict(zip(RECIPE, ((256, 512), (0.2, 0.5), (0.004, 0.008), (1e-5,))))
LADDERS: Dict[str, Sequence[float]] = {
    "num_hiddens": (64, 128, 256, 512),
    "dropout": (0.0, 0.2, 0.35, 0.5, 0.65, 0.8),
    "lr": (0.001, 0.002, 0.004, 0.008, 0.016, 0.032),
    "weight_decay": (0.0, 1e-5, 3e-5, 1e-4),
}
PREFIXES = ("the time traveller ", "it was ")
SAMPLE = 200  # characters after the prefix
BLOCK = 500  # characters of the test text whose loss is kept as one number
# Ways to use the networks of all the books.
AS_TRAINED, GOING_ON = "trained on all the books", "going on with the first author"
ADAPTING, TOGETHER = "adapting while it reads", "all seeds together"
FURTHER_EPOCHS = 3
FURTHER_RATES = (0.0000625, 0.00025, 0.001, 0.004)
ADAPTING_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def study(
    *, quick: bool = False, out: Optional[Path] = None, observer: Optional[Observer] = None
) -> Rows:
    """Train on a tenth of a book, up to several books; then try to go lower.

    The last fifth of the first book is always held out: half of it to choose settings and epochs,
    half of it for the test. The settings of each amount of text are found by ``search``, in the
    same grid and on the same ladders, with seeds that are not used again. Then the networks of all
    the books go on with the first author, and methods beyond a single network are tried.

    Returns:
        "ngrams": the baseline, one row per amount of text. "recipes": the best epoch of each
        setting that was tried. "amounts": the best epoch of each network, with its test loss and
        samples. "lowest": the same for the networks that went on, and for the other methods.
        "blocks" in a row are the test losses of blocks of about 500 characters.
    """
    books = library(quick)
    names = books.first + books.second
    texts = list(map(in_one_typography, read(names)))
    own, valid, test = split(texts[0])
    grid = dict(zip(RECIPE, ((16, 32), (0.2,), (0.01,), (0.0,)))) if quick else GRID
    ladders = {} if quick else LADDERS
    search_seeds = SEEDS[:1] if quick else SEEDS
    settings = {
        "settings": cosine_settings(quick, 0),
        "epochs": EPOCHS,
        "grid": grid,
        "ladders": ladders,
        "seeds": search_seeds,
        "texts": list(names),
        "held_out": [len(valid), len(test)],
    }
    study = Study("3", FILES, settings, quick=quick, out=out, observer=observer)
    with tempfile.TemporaryDirectory() as temporary:
        networks = _Networks(
            study, quick, names, _amounts([own, *texts[1:]]), valid, test, Path(temporary)
        )
        ngrams = study.collect("ngrams", [{"amount": a} for a in EPOCHS], networks.ngram)

        def tried(runs: List[Row]) -> List[Row]:
            return study.collect("recipes", runs, networks.tried, work=networks.work)

        recipes, compared = [], []
        for amount, num_seeds in NUM_SEEDS.items():
            best, rows = search(tried, {"amount": amount}, grid, ladders, seeds=search_seeds)
            recipes += rows
            for seed in range(1, 1 + (2 if quick else num_seeds)):
                compared.append({"amount": amount, **best, "seed": seed})
        amounts = study.collect("amounts", compared, networks.scored, work=networks.work)
        networks.of_all = {run["seed"]: run for run in select(compared, amount=BOOKS[-1])}
        first, *others = networks.of_all

        def go_lower(runs: List[Row]) -> List[Row]:
            return study.collect("lowest", runs, networks.improved, work=networks.work)

        lowest = []
        for way, rates in {GOING_ON: FURTHER_RATES, ADAPTING: ADAPTING_RATES}.items():
            # The rate is chosen with one of the networks, and used with all.
            start = {"lr": rates[1:2] if quick else rates[1:3]}
            ladder = {} if quick else {"lr": rates}
            best, rows = search(go_lower, {"way": way}, start, ladder, seeds=[first])
            networks.further_rate = networks.further_rate or best["lr"]
            lowest += rows
            lowest += go_lower([{"way": way, **best, "seed": seed} for seed in others])
        lowest += go_lower([{"way": TOGETHER, "lr": networks.further_rate, "seed": "all"}])
        networks.remove_files()
    return {"ngrams": ngrams, "recipes": recipes, "amounts": amounts, "lowest": lowest}


class _Networks:
    """The networks of the study. Those of all the books are kept in files while it lasts.

    Args:
        study: the study.
        quick: whether this is the small version.
        names: names of the texts.
        amounts: name -> training text.
        valid, test: the texts held out.
        temporary: directory of the files if the study has none.

    Attributes:
        of_all: seed -> run of a network of all the books.
        further_rate: learning rate at which these networks go on; None before it is chosen.
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
        self._valid, self._test = self._vocab.encode(valid), self._vocab.encode(test)
        self.of_all: Dict[int, Row] = {}
        self.further_rate: Optional[float] = None

    def work(self, run: Row) -> float:
        """Return how long a run takes, relative to others."""
        amount = run.get("amount", BOOKS[-1])
        width = run.get("num_hiddens", 1)
        return float(len(self._amounts[amount]) * EPOCHS[amount] * width**1.6)

    def ngram(self, run: Row) -> List[Row]:
        """Return the row of the baseline."""
        indices = self._amounts[run["amount"]]
        order, known, losses = ngram_losses(indices, self._valid, self._test, len(self._vocab))
        facts = {"characters": len(indices), "order": order, "known": known}
        return [{**facts, "test": float(losses.mean()), "blocks": _blocks(losses)}]

    def tried(self, run: Row) -> List[Row]:
        """Return the row of settings that are tried. They are not scored on the test text."""
        settings = self._settings(run, run["amount"], EPOCHS[run["amount"]])
        return [self._train(settings, run["amount"], "tried", keep=False)[1]]

    def scored(self, run: Row) -> List[Row]:
        """Return the row of a network, with its test loss and samples."""
        model, row = self._trained(run)
        return [self._with_test(model, row)]

    def improved(self, run: Row) -> List[Row]:
        """Return the row of one way to use the networks of all the books.

        Args:
            run: the way, the learning rate, and the seed of the network or "all".
        """
        if run["way"] == TOGETHER:
            models = [self._further(seed, run["lr"])[0] for seed in self.of_all]
            valid, losses = (ensemble_losses(models, x) for x in (self._valid, self._test))
            return [_row(float(valid.mean()), losses)]
        if run["way"] == GOING_ON:
            model, row = self._further(run["seed"], run["lr"])
            return [self._with_test(model, row)]
        assert self.further_rate is not None  # chosen before
        model, _ = self._further(run["seed"], self.further_rate)
        settings = self._settings(self.of_all[run["seed"]], BOOKS[-1], EPOCHS[BOOKS[-1]])
        reader = without_dropout(settings, model, len(self._vocab))
        valid, losses = (
            dynamic_evaluation(reader, x, run["lr"]) for x in (self._valid, self._test)
        )
        return [_row(float(valid.mean()), losses)]

    def remove_files(self) -> None:
        """Remove the files of all networks."""
        for file in self._file("").parent.glob("exercise_3_*"):
            file.unlink()

    def _trained(self, run: Row) -> Tuple[gluon.Block, Row]:
        settings = self._settings(run, run["amount"], EPOCHS[run["amount"]])
        keep, name = run["amount"] == BOOKS[-1], f"trained_{run['seed']}"
        return self._train(settings, run["amount"], name, keep=keep)

    def _further(self, seed: int, rate: float) -> Tuple[gluon.Block, Row]:
        """Return a network of all the books after more epochs with the first author alone."""
        run = self.of_all[seed]
        model, _ = self._trained(run)
        settings = self._settings({**run, "lr": rate}, BOOKS[-2], FURTHER_EPOCHS)
        name = f"further_{seed}_{rate:g}"
        return self._train(settings, BOOKS[-2], name, model=model, keep=True)

    def _with_test(self, model: gluon.Block, row: Row) -> Row:
        losses = character_losses(model, self._test)
        samples = generate(model, self._vocab, PREFIXES, SAMPLE, temperature=0.5, seed=1)
        texts = {f"sample_{i}": text for i, text in enumerate(samples)}
        return {**row, **_row(row["valid"], losses), **texts}

    def _file(self, name: str) -> Path:
        file = f"exercise_3_{name}"
        return self._study.network_file(file) or self._temporary / file

    def _settings(self, run: Row, amount: str, num_epochs: int) -> TrainSettings:
        return TrainSettings(
            **cosine_settings(self._quick, num_epochs),
            **{key: run[key] for key in ("num_hiddens", "dropout", "lr", "seed")},
            optimizer_options={"wd": run["weight_decay"]} if run["weight_decay"] else {},
            corpus=tuple(self._names),
        )

    def _train(
        self,
        settings: TrainSettings,
        amount: str,
        name: str,
        *,
        keep: bool,
        model: Optional[gluon.Block] = None,
    ) -> Tuple[gluon.Block, Row]:
        """Return a trained model and the row of its best epoch."""
        model = model or new_network(settings, len(self._vocab))
        rows = train_to_the_end(
            settings,
            model,
            self._amounts[amount],
            self._valid,
            {},
            on_minibatch=self._study.on_minibatch,
            file=self._file(name),
            keep=keep,
        )
        return model, {"characters": len(self._amounts[amount]), **best_epoch(rows)}


def _row(valid: float, losses: np.ndarray) -> Row:
    return {"valid": valid, "test": float(losses.mean()), "blocks": _blocks(losses)}


def _blocks(losses: np.ndarray) -> str:
    """Return the mean losses of blocks of the test text, as a cell."""
    parts = np.array_split(losses, max(1, len(losses) // BLOCK))
    return " ".join(f"{part.mean():.5f}" for part in parts)


def ways(rows: Rows) -> Dict[str, List[Row]]:
    """Return the rows of each way to use the networks of all the books, one row per seed.

    Of rates that were only tried, with one network, there is none.
    """
    found = {AS_TRAINED: _by_amount(rows)[BOOKS[-1]]}
    for way, runs in group_by(rows["lowest"], "way").items():
        found[way] = max(group_by(runs, "lr").values(), key=len)
    return found


def differences(rows: Rows) -> List[Difference]:
    """Return differences of test losses in nats, with joint 95 % intervals.

    They are over seeds, if there are several, and over blocks of the test text.
    """
    runs = {f"network, {amount}": networks for amount, networks in _by_amount(rows).items()}
    pairs = []
    for ngram in rows["ngrams"]:
        pairs.append((f"network, {ngram['amount']}", f"n-gram, {ngram['amount']}"))
        network, baseline = pairs[-1]
        # The baseline is the same for all seeds.
        runs[baseline] = [{**row, **ngram} for row in runs[network]]
    runs.update(ways(rows))
    two_books, three_books = (f"network, {amount}" for amount in BOOKS)
    pairs += [(three_books, two_books), (GOING_ON, AS_TRAINED), (ADAPTING, GOING_ON)]
    return [
        paired_difference(
            pair, *(runs[name] for name in pair), blocks="blocks", comparisons=len(pairs)
        )
        for pair in pairs
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
                "learning rate": lambda runs: f"{runs[0]['lr']:g}",
                "validation": spread_of("valid", convert=perplexity),
                "test": spread_of("test", convert=perplexity),
            },
        ),
        _steps_table(rows),
        difference_table(
            "Difference of test losses in nats: mean, and joint 95 % intervals",
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
    """Plot perplexity by amount of text, and by way."""
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
    best = lowest(low)
    return {
        "exercise_3_amounts": lines_figure(
            panels,
            "thousand characters trained on",
            "perplexity per character",
            log_x=True,
            log_y=True,
            title=_crossing(list(panels.values())[-1]),
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


def _recipes_table(rows: Rows) -> Table:
    """Return a table with one row for each setting and one column for each amount."""
    tried = group_by(rows["recipes"], *RECIPE)
    amounts = list(group_by(rows["recipes"], "amount"))
    cells = []
    for _, runs in sorted(tried.items()):
        by_amount = group_by(runs, "amount")
        cells.append([_recipe(runs[0]), *(mean_perplexity(by_amount.get(a, [])) for a in amounts)])
    return Table(
        f"Validation perplexity of each setting ({ONE_OR_MORE_SEEDS})",
        ["units, dropout, learning rate, weight decay", *amounts],
        cells,
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
    """Return the rows of the networks, one per seed, by amount."""
    return group_by(rows["amounts"], "amount")


def _amounts(texts: Sequence[str]) -> Dict[str, str]:
    """Return the training texts by name: parts of the first book, all of it, then more books."""
    first = texts[0]
    parts = (first[: len(first) // 10], first[: 3 * len(first) // 10], first)
    # The first book comes last, since the held-out text is its continuation.
    several = (" ".join(texts[count::-1]) for count in range(1, len(texts)))
    return {**dict(zip(PARTS, parts)), **dict(zip(BOOKS, several))}
