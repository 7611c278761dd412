"""Exercise 3: more data. How low can the perplexity go?"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from .._mxnet.context import try_gpu
from ..evidence.figures import Level, Line, lines_figure
from ..evidence.intervals import Interval, slope_interval
from ..evidence.records import Row, Table, column, select, spread
from ..text.vocab import Vocab
from ..training.learner import new_model
from ..training.ngram import NGramModel, choose_order
from ..training.settings import TrainSettings
from .how_low import adapting, log_probabilities, together
from .study import Watch, collect, perplexity
from .texts import encode, library, read, split
from .training import best, load_network, num_minibatches, settings_for, train_to_the_end

Rows = Dict[str, List[Row]]
FILES = {  # kind of rows -> file
    "ngrams": "exercise_3_ngrams",
    "recipes": "exercise_3_recipes",
    "amounts": "exercise_3_amounts",
    "lowest": "exercise_3_lowest",
}
# Ways to get lower; weights are averaged in the same training as ONE.
ONE, AVERAGED = "one network", "its weights averaged over epochs"
ADAPTING, TOGETHER = "one network that adapts to the text", "the networks of all seeds together"
RECIPE = ("num_hiddens", "dropout", "lr")


def study(
    *, quick: bool = False, out: Optional[Path] = None, watch: Optional[Watch] = None
) -> Rows:
    """Train on a tenth of a book up to several books, each network to the end.

    What is held out is the same everywhere: the last fifth of the first book,
    half of it to choose on, half of it for the test. For each amount of text,
    width, dropout and learning rate are those of a small grid that are best on
    the validation part; with more than one book, the learning rate is that of
    one book.

    Args:
        quick: two minutes on the sample texts, to see that it works.
        out: directory of ``exercise_3*.csv``, and in it, in ``networks``, of
            the networks of "amounts".
        watch: is told how far it is.

    Returns:
        "ngrams": the baseline, a row an amount of text; "recipes": a row for
        each setting that was tried; "amounts": rows, one an epoch, those of
        best epochs with the test loss; "lowest": a row for each way to get
        lower, of networks that go on from all books with those of the author
        who is asked about.
    """
    if out is not None:
        return _study(quick, out, out / "networks", watch)
    # Kept for as long as it takes to go on from them.
    with tempfile.TemporaryDirectory() as networks:
        return _study(quick, None, Path(networks), watch)


def _study(quick: bool, out: Optional[Path], folder: Path, watch: Optional[Watch]) -> Rows:
    books = library(quick)
    names = books.first + books.second
    texts = read(names)
    own, valid, test = split(texts[0])
    vocab = Vocab("".join(texts))
    valid_indices, test_indices = encode(vocab, valid, test)
    amounts = {
        name: vocab.encode(text) for name, text in _amounts(names, [own, *texts[1:]]).items()
    }
    one_book = list(amounts)[2]  # after two parts of it
    # Width and dropout; a wide network with little dropout only learns more of the text by heart.
    up_to_a_book = [(16, 0.2)] if quick else [(w, d) for w in (128, 256) for d in (0.2, 0.5)]
    more_books = [(24, 0.2)] if quick else [(256, 0.2), (256, 0.5), (512, 0.5)]
    rates = [0.01, 0.02] if quick else [0.002, 0.004]
    seeds = [0, 1] if quick else [0, 1, 2]
    described = {
        "command": "d2l-deeprnn exercise 3" + (" --quick" if quick else ""),
        "settings": {a: _settings(quick, len(indices)) for a, indices in amounts.items()},
        "num_hiddens, dropout": {"up to a book": up_to_a_book, "more": more_books},
        "rates": rates,
        "texts": list(names),
        "held_out": [len(valid), len(test)],
    }

    def ngram(amount: str) -> List[Row]:
        indices = amounts[amount]
        order, _ = choose_order(indices, valid_indices, len(vocab))
        model = NGramModel(indices, order, len(vocab))
        losses = {"train": model.loss(indices), "test": model.loss(test_indices)}
        return [{"characters": len(indices), "order": order, **losses}]

    def settings_of(r: Row) -> TrainSettings:
        return TrainSettings(
            **_settings(quick, len(amounts[r["amount"]])),
            corpus=names,
            forget_bias=1.0,
            **{name: r[name] for name in (*RECIPE, "seed")},
        )

    def file_of(r: Row) -> Path:
        recipe = "_".join(f"{r[name]:g}" for name in RECIPE)
        return folder / f"exercise_3_{list(amounts).index(r['amount'])}_{recipe}_{r['seed']}"

    def train(r: Row, model: Any, file: Path, **options: Any) -> List[Row]:
        indices, held_out = amounts[r["amount"]], {"test": test_indices}
        options = {"watch": watch, "file": file, **options}
        rows = train_to_the_end(settings_of(r), model, indices, valid_indices, held_out, **options)
        return [{"characters": len(indices), **row} for row in rows]

    def run(r: Row) -> List[Row]:
        """Train, or read what was trained when recipes were tried."""
        model = new_model(settings_of(r), len(vocab), try_gpu())
        return train(r, model, file_of(r), keep=True)

    def tried(
        amounts: Sequence[str], networks: Sequence[Tuple[int, float]], rates: Sequence[float]
    ) -> List[Row]:
        grid = itertools.product(amounts, networks, rates)
        return [
            {"amount": amount, **dict(zip(RECIPE, (*network, rate))), "seed": seeds[0]}
            for amount, network, rate in grid
        ]

    def work(run: Row) -> float:
        return float(len(amounts[run["amount"]]) * run["num_hiddens"] ** 2)

    ngrams = collect(
        FILES["ngrams"],
        described,
        [{"amount": amount} for amount in amounts],
        lambda r: ngram(r["amount"]),
        out=out,
        watch=watch,
    )
    few = tried(list(amounts)[:3], up_to_a_book, rates)
    more: List[Row] = []
    for runs in (few, more):
        recipes = collect(
            FILES["recipes"],
            described,
            [*few, *more],
            lambda r: [best(run(r))],
            out=out,
            watch=watch,
            work=work,
        )
        if runs is few:
            rate = best(select(recipes, amount=one_book))["lr"]
            more += tried(list(amounts)[3:], more_books, [rate])
    by_amount = collect(
        FILES["amounts"],
        described,
        [
            {"amount": amount, **best_recipe(recipes, amount), "seed": seed}
            for seed in seeds
            for amount in amounts
        ],
        run,
        out=out,
        watch=watch,
        work=work,
    )
    # From the networks that have read all the books, on with those of the author in question.
    own_books, all_books = list(amounts)[-2:]
    adapting_rates = [0.03, 0.1] if quick else [0.01, 0.03, 0.1, 0.3]

    def of_all(seed: int) -> Row:
        return {"amount": all_books, **best_recipe(recipes, all_books), "seed": seed}

    def of_own(seed: int) -> Row:
        chosen = of_all(seed)
        return {**chosen, "amount": own_books, "lr": chosen["lr"] / 4}

    def going_on(seed: int) -> Path:
        return folder / f"exercise_3_lowest_{seed}"

    def network(seed: int) -> Any:
        """Without dropout, which training mode would have act."""
        settings = settings_of(of_own(seed))
        without = dataclasses.replace(settings, dropout=0.0)
        model = new_model(without, len(vocab), try_gpu(), stacked=True)
        load_network(model, going_on(seed), settings)
        return model

    def lowest(way: str, seed: int) -> List[Row]:
        if way == ONE:
            model = new_model(settings_of(of_own(seed)), len(vocab), try_gpu())
            load_network(model, file_of(of_all(seed)), settings_of(of_all(seed)))
            rows = train(of_own(seed), model, going_on(seed), keep=True, average=True)
            return [best(rows)]
        if way == ADAPTING:
            model = network(seed)
            tried = {lr: adapting(model, valid_indices, lr) for lr in adapting_rates}
            lr = min(tried, key=lambda lr: tried[lr])
            return [{"lr": lr, "valid": tried[lr], "test": adapting(model, test_indices, lr)}]
        models = [network(seed) for seed in seeds]
        parts = {"valid": valid_indices, "test": test_indices}
        return [
            {
                name: together([log_probabilities(m, p) for m in models], p)
                for name, p in parts.items()
            }
        ]

    ways = [{"way": way, "seed": seed} for way in (ONE, ADAPTING) for seed in seeds]
    how_low = collect(
        FILES["lowest"],
        {**described, "adapting_rates": adapting_rates},
        [*ways, {"way": TOGETHER, "seed": 0}],
        lambda r: lowest(r["way"], r["seed"]),
        out=out,
        watch=watch,
    )
    return {"ngrams": ngrams, "recipes": recipes, "amounts": by_amount, "lowest": how_low}


def best_recipe(recipes: Sequence[Row], amount: str) -> Row:
    """Width, dropout and learning rate with the lowest loss on the validation part."""
    chosen = best(select(recipes, amount=amount))
    return {name: chosen[name] for name in RECIPE}


def power_law(rows: Rows, amounts: Sequence[str]) -> Interval:
    """The power of the amount of text that the test loss in nats is in proportion to."""
    points = [
        (math.log(row["characters"]), math.log(row["test"]))
        for amount in amounts
        for row in _ends(rows, amount)
    ]
    return slope_interval([x for x, _ in points], [y for _, y in points])


def tables(rows: Rows) -> List[Table]:
    """Amounts of text, settings tried, and what further text is worth."""
    by_amount = []
    for ngram in rows["ngrams"]:
        found = _ends(rows, ngram["amount"])
        by_amount.append(
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
    amounts = column(rows["ngrams"], "amount")
    one_author = amounts[:-1]
    law = power_law(rows, one_author)
    factor = [2**power for power in law]
    return [
        Table(
            "Perplexity by amount of text: median (lowest to highest) of the seeds, at the epoch "
            "that is best on the validation part",
            [
                "text",
                "characters",
                "units, dropout, learning rate",
                "best epoch",
                "training text",
                "test",
                "n-gram, test (order)",
            ],
            by_amount,
        ),
        Table(
            "Settings tried: validation perplexity at the best epoch, with the first seed",
            ["text", "units, dropout, learning rate", "validation", "best epoch"],
            [
                [row["amount"], _recipe(row), f"{perplexity(row['valid']):.3f}", str(row["epoch"])]
                for row in rows["recipes"]
            ],
        ),
        Table(
            "How low? Perplexity of networks that go on from all books with those of one author: "
            "median (lowest to highest) of the seeds",
            ["what", "validation", "test"],
            _how_low(rows["lowest"]),
        ),
        Table(
            "What further text by the same author is worth: test loss in nats as a power of the "
            "number of characters",
            ["power", "95 % interval", "twice the text multiplies the loss by"],
            [
                [
                    f"{law.middle:.3f}",
                    f"{law.low:.3f} to {law.high:.3f}",
                    f"{factor[0]:.3f} ({factor[1]:.3f} to {factor[2]:.3f})",
                ]
            ],
        ),
    ]


def figures(rows: Rows) -> Dict[str, Any]:
    """Perplexity by amount of text, and the curves of the largest amounts."""
    ngrams = rows["ngrams"]
    thousands = [_thousands(row) for row in ngrams]
    values = [[perplexity(row["test"]) for row in _ends(rows, n["amount"])] for n in ngrams]
    known = [[perplexity(row["known"]) for row in _ends(rows, n["amount"])] for n in ngrams]
    middle = [statistics.median(v) for v in values]
    law = power_law(rows, column(ngrams, "amount")[:-1]).middle
    # Through the middle of the points that it was fitted to.
    logs = [(math.log(x), math.log(math.log(y))) for x, y in zip(thousands[:-1], middle[:-1])]
    at = [statistics.mean(axis) for axis in zip(*logs)]
    fitted = [math.exp(math.exp(at[1] + law * (math.log(x) - at[0]))) for x in thousands]
    by_amount: Dict[str, Dict[str, Union[Line, Level]]] = {
        "text never seen (test)": {
            "LSTM": Line(thousands, middle, [min(v) for v in values], [max(v) for v in values]),
            "n-gram": Line(thousands, [perplexity(row["test"]) for row in ngrams], style="--"),
            "power law of one author's": Line(thousands, fitted, style=":"),
        },
        "the text trained on": {
            "LSTM": Line(
                thousands,
                [statistics.median(v) for v in known],
                [min(v) for v in known],
                [max(v) for v in known],
            ),
            "n-gram": Line(thousands, [perplexity(row["train"]) for row in ngrams], style="--"),
        },
    }
    curves: Dict[str, Dict[str, Line]] = {"training, dropout acting": {}, "validation": {}}
    for ngram in ngrams[2:]:
        found = select(rows["amounts"], amount=ngram["amount"], seed=1)
        for title, name in zip(curves, ("train", "valid")):
            ys = [perplexity(row[name]) for row in found]
            label = f"{ngram['characters']:,} characters"
            curves[title][label] = Line(column(found, "epoch"), ys)
    ylabel = "perplexity per character"
    return {
        "exercise_3_amounts": lines_figure(
            by_amount, "thousand characters trained on", ylabel, log_x=True, log_y=True
        ),
        "exercise_3_curves": lines_figure(curves, "epoch", ylabel, log_x=True, log_y=True),
    }


def _how_low(rows: Sequence[Row]) -> List[List[str]]:
    columns = [(ONE, ONE, ""), (AVERAGED, ONE, "averaged_"), (ADAPTING, ADAPTING, "")]
    return [
        [
            what,
            *(
                spread([perplexity(row[prefix + name]) for row in select(rows, way=way)])
                for name in ("valid", "test")
            ),
        ]
        for what, way, prefix in [*columns, (TOGETHER, TOGETHER, "")]
        if all(row.get(f"{prefix}test", "") != "" for row in select(rows, way=way))
    ]


def _settings(quick: bool, num_chars: int) -> Dict[str, Any]:
    return settings_for(quick, num_minibatches(num_chars, quick))


def _ends(rows: Rows, amount: str) -> List[Row]:
    """The rows of the best epochs of an amount of text."""
    return [r for r in select(rows["amounts"], amount=amount) if r.get("test", "") != ""]


def _recipe(row: Row) -> str:
    return ", ".join(f"{row[name]:g}" for name in RECIPE)


def _thousands(row: Row) -> float:
    """Thousands of characters, in the three digits that an axis has room for."""
    return float(f"{row['characters'] / 1000:.3g}")


def _amounts(names: Sequence[str], texts: Sequence[str]) -> Dict[str, str]:
    """Name -> text: parts of the first book, all of it, and one book more each time."""
    first = texts[0]
    amounts = {
        f"a tenth of {names[0]}": first[: len(first) // 10],
        f"three tenths of {names[0]}": first[: 3 * len(first) // 10],
        names[0]: first,
    }
    for count in range(2, len(texts) + 1):
        # The first book last: it is the one that is asked about.
        amounts[" + ".join(names[:count])] = " ".join(texts[count - 1 :: -1][:count])
    return amounts
