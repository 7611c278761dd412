"""Exercise 3: more data. How low can the perplexity go?"""

from __future__ import annotations

import math
import statistics
import tempfile
from itertools import product
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from .._mxnet import gluon
from .._mxnet.context import try_gpu
from .._perplexity import perplexity
from ..evidence.figures import Level, Line, lines_figure, points_figure
from ..evidence.intervals import Interval, mean_interval, slope_interval
from ..evidence.records import Row, Table, column, select, spread
from ..files import user_path
from ..generation.generate import generate
from ..text.vocab import Vocab
from ..training.learner import build_model, new_model
from ..training.ngram import NGramModel, choose_order
from ..training.settings import TrainSettings
from ..training.state import as_numpy, parameters_of, set_parameters
from .how_low import adapting, log_probabilities, together
from .study import Watch, collect
from .texts import library, read, split
from .training import PLATEAU, best, common_settings, settings_for, train_to_the_end

Rows = Dict[str, List[Row]]
FILES = {  # kind of rows -> file
    "ngrams": "exercise_3_ngrams",
    "recipes": "exercise_3_recipes",
    "amounts": "exercise_3_amounts",
    "lowest": "exercise_3_lowest",
}
RECIPE = ("num_hiddens", "dropout", "lr", "weight_decay")
# Where the best of a grid lies at its edge: one step beyond it.
BEYOND: Dict[str, Dict[Any, Any]] = {
    "num_hiddens": {16: 8, 32: 48, 128: 64, 256: 512},
    "dropout": {0.2: 0.0, 0.5: 0.7},
    "lr": {0.002: 0.001, 0.004: 0.008},
}
PARTS = ("a tenth of a book", "three tenths of a book", "one book")
BOOKS = ("two books", "three books")  # the last one added is by another author
PREFIXES = ("the time traveller ", "it was ")
SAMPLE = 200  # characters that follow the prefix
# What is done with the networks of all the books.
AS_TRAINED, GOING_ON = "trained on all the books", "going on with the first author"
AVERAGED, ADAPTING = "weights averaged over epochs", "adapting while it reads"
TOGETHER = "all seeds together"
ADAPTING_RATES = (0.01, 0.03, 0.1, 0.3)


def study(
    *, quick: bool = False, out: Optional[Path] = None, watch: Optional[Watch] = None
) -> Rows:
    """Train on a tenth of a book up to several books, each time to the end; then go lower.

    What is held out is the same everywhere: the last fifth of the first book,
    half of it to choose settings and epochs on, half of it for the test. Each
    amount of text has settings of its own. The networks of all the books go on
    with those of the first author alone, and what goes further than one network
    is tried with them.

    Args:
        quick: two minutes on the sample texts, to see that it works.
        out: directory of ``exercise_3*.csv``, and of the networks while they are needed.
        watch: is told how far it is.

    Returns:
        "ngrams": the baseline, a row an amount of text; "recipes": a row for each
        setting that was tried, of its best epoch; "amounts": rows, one an epoch,
        those of best epochs with the test loss and what the network wrote;
        "lowest": the same of the networks that go on, and rows of what goes further.
    """
    out = out and user_path(out)
    books = library(quick)
    names = books.first + books.second
    texts = read(names)
    own, valid, test = split(texts[0])
    described = {
        "command": "d2l-deeprnn exercise 3" + (" --quick" if quick else ""),
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
    with tempfile.TemporaryDirectory() as elsewhere:
        folder = out / "networks" if out else Path(elsewhere)
        trainings = _Trainings(
            quick, names, _amounts([own, *texts[1:]]), valid, test, folder, watch
        )

        def rows_of(kind: str, runs: Sequence[Row], compute: Any) -> List[Row]:
            where: Dict[str, Any] = {"out": out, "watch": watch, "work": trainings.work}
            return collect(FILES[kind], described, runs, compute, **where)

        def tried(runs: Sequence[Row]) -> List[Row]:
            return rows_of("recipes", runs, lambda run: [best(trainings.network(run)[1])])

        ngrams = rows_of("ngrams", [{"amount": a} for a in PARTS + BOOKS], trainings.ngram)
        runs: List[Row] = [
            {"amount": amount, **dict(zip(RECIPE, (*recipe, 0.0))), "seed": 0}
            for amount in PARTS
            for recipe in product(*grid.values())
        ]
        chosen = best_recipes(tried(runs))
        rate = chosen[PARTS[-1]]["lr"]  # for the larger networks, not a step beyond
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
        amounts = rows_of(
            "amounts",
            [{**recipe, "seed": seed} for recipe in chosen.values() for seed in seeds],
            lambda run: trainings.with_samples(*trainings.network(run)),
        )
        of_all = [{**chosen[BOOKS[-1]], "seed": seed} for seed in seeds]
        lowest = rows_of(
            "lowest",
            [
                *({"way": way, "seed": seed} for way in (GOING_ON, ADAPTING) for seed in seeds),
                {"way": TOGETHER, "seed": "all"},
            ],
            lambda run: trainings.lower(run["way"], of_all, run["seed"]),
        )
        for file in folder.glob("exercise_3_*"):
            file.unlink()
    return {"ngrams": ngrams, "recipes": recipes, "amounts": amounts, "lowest": lowest}


class _Trainings:
    """What is computed for a row.

    Args:
        amounts: name -> text to train on.
        valid, test: the texts held out.
        folder: where networks are kept, so that each is trained once.
    """

    def __init__(
        self,
        quick: bool,
        names: Sequence[str],
        amounts: Dict[str, str],
        valid: str,
        test: str,
        folder: Path,
        watch: Optional[Watch],
    ) -> None:
        self._quick, self._names, self._folder, self._watch = quick, tuple(names), folder, watch
        self._vocab = Vocab("".join([*amounts.values(), valid, test]))
        self._amounts = {amount: self._vocab.encode(text) for amount, text in amounts.items()}
        self._held_out = {"valid": self._vocab.encode(valid), "test": self._vocab.encode(test)}

    def work(self, run: Row) -> float:
        """How long a run takes, in proportion; more text takes fewer epochs."""
        length = len(self._amounts[run.get("amount", BOOKS[-1])])
        return float(length**0.65 * run.get("num_hiddens", 1) ** 1.75)

    def ngram(self, run: Row) -> List[Row]:
        indices = self._amounts[run["amount"]]
        order, _ = choose_order(indices, self._held_out["valid"], len(self._vocab))
        model = NGramModel(indices, order, len(self._vocab))
        losses = {"known": model.loss(indices), "test": model.loss(self._held_out["test"])}
        return [{"characters": len(indices), "order": order, **losses}]

    def network(self, run: Row) -> Tuple[gluon.Block, List[Row]]:
        """The network of a run, and the rows of its epochs."""
        settings = self._settings(run, run["amount"])
        words = [list(self._amounts).index(run["amount"]), *(run[k] for k in (*RECIPE, "seed"))]
        name = "_".join(f"{word:g}" for word in words)
        model = new_model(settings, len(self._vocab), try_gpu())
        return model, self._train(settings, model, run["amount"], name)

    def gone_on(self, run: Row) -> Tuple[gluon.Block, List[Row]]:
        """The network of a run after some more epochs of the first author's books alone."""
        model, _ = self.network(run)
        settings = self._settings({**run, "lr": run["lr"] / 4}, BOOKS[-2])
        return model, self._train(settings, model, BOOKS[-2], f"on_{run['seed']}", average=True)

    def with_samples(self, model: gluon.Block, rows: List[Row]) -> List[Row]:
        """The rows, that of the best epoch with what the network writes."""
        written = generate(model, self._vocab, PREFIXES, SAMPLE, temperature=0.5, seed=1)
        best(rows).update({f"sample_{i}": text for i, text in enumerate(written)})
        return rows

    def lower(self, way: str, runs: Sequence[Row], seed: Any) -> List[Row]:
        """What is done with the networks of all the books.

        Args:
            runs: that they are of.
            seed: of the one it is done with.
        """
        if way == TOGETHER:
            models = [self.gone_on(run)[0] for run in runs]
            return [
                {
                    name: together([log_probabilities(model, part) for model in models], part)
                    for name, part in self._held_out.items()
                }
            ]
        (run,) = select(runs, seed=seed)
        model, rows = self.gone_on(run)
        if way == GOING_ON:
            return self.with_samples(model, rows)
        without_dropout = self._settings({**run, "dropout": 0.0}, BOOKS[-1])
        reader = build_model(without_dropout, len(self._vocab), stacked=True)
        set_parameters(reader, as_numpy(parameters_of(model)), try_gpu())
        valid, test = self._held_out["valid"], self._held_out["test"]
        tried: List[Row] = [{"lr": r, "valid": adapting(reader, valid, r)} for r in ADAPTING_RATES]
        best(tried)["test"] = adapting(reader, test, best(tried)["lr"])
        return tried

    def _settings(self, run: Row, amount: str) -> TrainSettings:
        return TrainSettings(
            **settings_for(self._quick, len(self._amounts[amount])),
            **{key: run[key] for key in ("num_hiddens", "dropout", "lr", "seed")},
            optimizer_options={"wd": run["weight_decay"]} if run["weight_decay"] else {},
            corpus=self._names,
        )

    def _train(
        self, settings: TrainSettings, model: gluon.Block, amount: str, name: str, **how: Any
    ) -> List[Row]:
        indices, valid = self._amounts[amount], self._held_out["valid"]
        how.update(watch=self._watch, file=self._folder / f"exercise_3_{name}", keep=True)
        held_out = {"test": self._held_out["test"]}
        rows = train_to_the_end(settings, model, indices, valid, held_out, **how)
        return [{"characters": len(indices), **row} for row in rows]


class PowerLaw(NamedTuple):
    """loss = exp(intercept) * characters ** power, fitted to the amounts by the first author.

    Attributes:
        power: with its 95 % interval.
        intercept: of the line through the logarithms.
    """

    power: Interval
    intercept: float

    def loss(self, characters: float) -> float:
        """In nats."""
        return math.exp(self.intercept + self.power.middle * math.log(characters))

    def characters(self, loss: float) -> float:
        """How many it takes to reach a loss in nats."""
        return perplexity((math.log(loss) - self.intercept) / self.power.middle)


def power_law(rows: Rows) -> PowerLaw:
    """The line through the logarithms of the amounts and of their losses.

    Each amount is a point, with the mean of its seeds: what they have in common, such as the
    settings, is most of what keeps the points from the line.
    """
    found = _by_amount(rows)
    points = [found[amount] for amount in PARTS + BOOKS[:-1]]
    xs = [math.log(of_amount[0]["characters"]) for of_amount in points]
    ys = [math.log(statistics.mean(column(of_amount, "test"))) for of_amount in points]
    power = slope_interval(xs, ys)
    return PowerLaw(power, statistics.mean(ys) - power.middle * statistics.mean(xs))


def best_recipes(rows: Sequence[Row]) -> Dict[str, Row]:
    """Amount -> the settings with the lowest loss on the validation part, and the amount."""
    lowest = [best(select(rows, amount=a)) for a in dict.fromkeys(column(rows, "amount"))]
    return {row["amount"]: {key: row[key] for key in ("amount", *RECIPE)} for row in lowest}


def ways(rows: Rows) -> Dict[str, List[Row]]:
    """What was done with the networks of all the books -> a row a seed, with valid and test."""
    on = _best_epochs(select(rows["lowest"], way=GOING_ON))
    averaged = [
        {"seed": r["seed"], "valid": r["averaged_valid"], "test": r["averaged_test"]}
        for r in on
        if r.get("averaged_test", "") != ""
    ]
    found = {
        AS_TRAINED: _by_amount(rows)[BOOKS[-1]],
        GOING_ON: on,
        AVERAGED: averaged,
        ADAPTING: _best_epochs(select(rows["lowest"], way=ADAPTING)),
        TOGETHER: select(rows["lowest"], way=TOGETHER),
    }
    return {way: of_way for way, of_way in found.items() if of_way}


def differences(rows: Rows) -> List[Tuple[str, str, Interval]]:
    """Differences of test losses in nats, seed by seed, each with its 95 % interval."""
    found, scored = [], ways(rows)
    for amount, of_amount in _by_amount(rows).items():
        (ngram,) = select(rows["ngrams"], amount=amount)
        nats = [row["test"] - ngram["test"] for row in of_amount]
        found.append((f"network, {amount}", f"n-gram, {amount}", mean_interval(nats)))
        scored[f"network, {amount}"] = of_amount
    two_books, three_books = (f"network, {amount}" for amount in BOOKS)
    for one, other in [
        (three_books, two_books),
        (GOING_ON, AS_TRAINED),
        (AVERAGED, GOING_ON),
        (ADAPTING, GOING_ON),
    ]:
        if one in scored:
            of_seed = {row["seed"]: row["test"] for row in scored[other]}
            nats = [row["test"] - of_seed[row["seed"]] for row in scored[one]]
            found.append((one, other, mean_interval(nats)))
    return found


def tables(rows: Rows) -> List[Table]:
    """Amounts, settings tried, how low it goes, the power law, differences, and samples."""
    by_amount = _by_amount(rows)
    amounts = []
    for ngram in rows["ngrams"]:
        found = by_amount[ngram["amount"]]
        amounts.append(
            [
                ngram["amount"],
                f"{ngram['characters']:,}",
                _recipe(found[0]),
                spread(column(found, "epoch"), 0),
                spread([perplexity(row["known"]) for row in found]),
                spread([perplexity(row["test"]) for row in found]),
                f"{perplexity(ngram['test']):.3f} ({ngram['order']})",
            ]
        )
    return [
        Table(
            "Perplexity by amount of text, best epoch: median (lowest to highest) of the seeds",
            [
                "text",
                "characters",
                "units, dropout, learning rate, weight decay",
                "best epoch",
                "training text",
                "test",
                "n-gram, test (order)",
            ],
            amounts,
        ),
        _recipes_table(rows),
        _lowest_table(rows),
        _power_law_table(rows),
        Table(
            "Difference of test losses in nats, seed by seed: mean, and its 95 % interval",
            ["", "less that of", "mean", "interval", "more than noise"],
            [
                [
                    one,
                    other,
                    f"{interval.middle:+.3f}",
                    f"{interval.low:+.3f} to {interval.high:+.3f}",
                    "no" if interval.holds(0) else "yes",
                ]
                for one, other, interval in differences(rows)
            ],
        ),
        Table(
            "Samples (temperature 0.5; of each the seed that is best on the validation part)",
            ["network", "sample"],
            [
                [name, best(found)[f"sample_{i}"]]
                for name, found in {**by_amount, GOING_ON: ways(rows)[GOING_ON]}.items()
                for i in range(len(PREFIXES))
            ],
        ),
    ]


def figures(rows: Rows) -> Dict[str, Any]:
    """Perplexity by amount of text, the curves of the best network, and how low it goes."""
    by_amount, ngrams = _by_amount(rows), rows["ngrams"]
    thousands = [float(f"{row['characters'] / 1000:.3g}") for row in ngrams]
    panels: Dict[str, Dict[str, Union[Line, Level]]] = {}
    for title, name in [("the text trained on", "known"), ("text never seen (test)", "test")]:
        values = [[perplexity(row[name]) for row in by_amount[n["amount"]]] for n in ngrams]
        middle = [statistics.median(v) for v in values]
        panels[title] = {
            "LSTM": Line(thousands, middle, [min(v) for v in values], [max(v) for v in values]),
            "n-gram": Line(thousands, [perplexity(row[name]) for row in ngrams], style="--"),
        }
    law = power_law(rows)
    fitted = [perplexity(law.loss(row["characters"])) for row in ngrams]
    panels["text never seen (test)"]["power law of the nats"] = Line(thousands, fitted, style=":")
    low = {way: [perplexity(row["test"]) for row in found] for way, found in ways(rows).items()}
    lowest_ngram = min(column(ngrams, "test"))
    return {
        "exercise_3_amounts": lines_figure(
            panels,
            "thousand characters trained on",
            "perplexity per character",
            log_x=True,
            log_y=True,
        ),
        "exercise_3_curves": lines_figure(
            _curves(rows), "epoch", "perplexity per character", log_y=True
        ),
        "exercise_3_lowest": points_figure(
            {"text never seen (test)": {**low, "n-gram": [perplexity(lowest_ngram)]}},
            "perplexity per character",
        ),
    }


def _curves(rows: Rows) -> Dict[str, Dict[str, Line]]:
    """Training and validation of the network that is best on the validation part."""
    seed = best(ways(rows)[GOING_ON])["seed"]
    panels = {}
    for title, found in {
        AS_TRAINED: select(rows["amounts"], amount=BOOKS[-1], seed=seed),
        GOING_ON: select(rows["lowest"], way=GOING_ON, seed=seed),
    }.items():
        panels[title] = {
            legend: Line(column(found, "epoch"), [perplexity(row[name]) for row in found])
            for legend, name in [("training, dropout acting", "train"), ("validation", "valid")]
        }
    return panels


def _recipes_table(rows: Rows) -> Table:
    """A row for each setting, a column for each amount."""
    tried = rows["recipes"]
    amounts = list(dict.fromkeys(column(tried, "amount")))
    found: Dict[str, Dict[str, str]] = {}
    for row in sorted(tried, key=lambda row: [row[key] for key in ("weight_decay", *RECIPE)]):
        decay = f"the best, weight decay {row['weight_decay']:.5f}"
        name = decay if row["weight_decay"] else _recipe(row)
        found.setdefault(name, {})[row["amount"]] = f"{perplexity(row['valid']):.3f}"
    return Table(
        "Validation perplexity of each setting (seed 0)",
        ["units, dropout, learning rate", *amounts],
        [[name, *(its.get(a, "\N{EN DASH}") for a in amounts)] for name, its in found.items()],
    )


def _lowest_table(rows: Rows) -> Table:
    return Table(
        "Networks of all the books, perplexity: median (lowest to highest) of the seeds",
        ["", "validation", "test"],
        [
            [way, *(spread([perplexity(row[name]) for row in found]) for name in ("valid", "test"))]
            for way, found in ways(rows).items()
        ],
    )


def _power_law_table(rows: Rows) -> Table:
    law = power_law(rows)
    found = _by_amount(rows)[BOOKS[-1]]
    loss, characters = statistics.mean(column(found, "test")), found[0]["characters"]
    # Where more text is not known to help, no amount of it is known to reach a loss.
    as_good = f"{law.characters(loss):,.0f}" if law.power.high < 0 else "not known"
    return Table(
        "The power law of the test loss in nats, fitted to the amounts by the first author",
        ["", "value"],
        [
            ["power", f"{law.power.middle:.3f}"],
            ["its 95 % interval", f"{law.power.low:.3f} to {law.power.high:.3f}"],
            [
                f"test perplexity that it gives for {characters:,} characters",
                f"{perplexity(law.loss(characters)):.3f}",
            ],
            [f"measured with {BOOKS[-1]}, which are as long", f"{perplexity(loss):.3f}"],
            ["characters by the first author that would do as well", as_good],
        ],
    )


def _recipe(row: Row) -> str:
    decay = f", {row['weight_decay']:.5f}" if row["weight_decay"] else ""
    return f"{row['num_hiddens']}, {row['dropout']:g}, {row['lr']:g}{decay}"


def _by_amount(rows: Rows) -> Dict[str, List[Row]]:
    """Amount -> the rows of the best epochs, one a seed."""
    ended = _best_epochs(rows["amounts"])
    return {row["amount"]: select(ended, amount=row["amount"]) for row in rows["ngrams"]}


def _best_epochs(rows: Sequence[Row]) -> List[Row]:
    return [row for row in rows if row.get("test", "") != ""]


def _amounts(texts: Sequence[str]) -> Dict[str, str]:
    """Name -> text: parts of the first book, all of it, and one book more each time."""
    first = texts[0]
    parts = (first[: len(first) // 10], first[: 3 * len(first) // 10], first)
    # The first book last: it is the one that is asked about.
    several = (" ".join(texts[count::-1]) for count in range(1, len(texts)))
    return {**dict(zip(PARTS, parts)), **dict(zip(BOOKS, several))}
