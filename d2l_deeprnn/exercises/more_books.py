"""Exercise 3: more data. How low can the perplexity go?"""

from __future__ import annotations

import itertools
import math
import statistics
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

from .._mxnet.context import try_gpu
from ..evidence.figures import Level, Line, lines_figure
from ..evidence.intervals import Interval, slope_interval
from ..evidence.records import Row, Table, column, select, spread
from ..text.vocab import Vocab
from ..training.learner import new_model
from ..training.ngram import NGramModel, choose_order
from ..training.settings import TrainSettings
from .study import Watch, collect, perplexity
from .texts import encode, library, read, split
from .training import best, num_minibatches, settings_for, train_to_the_end

Rows = Dict[str, List[Row]]
FILES = {  # kind of rows -> file
    "ngrams": "exercise_3_ngrams",
    "recipes": "exercise_3_recipes",
    "amounts": "exercise_3_amounts",
}
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
        best epochs with the test loss.
    """
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
    widths = {"up to a book": [16] if quick else [128, 256], "more": [24] if quick else [256, 512]}
    dropouts = [0.2] if quick else [0.2, 0.5]
    rates = [0.01, 0.02] if quick else [0.002, 0.004]
    described = {
        "command": "d2l-deeprnn exercise 3" + (" --quick" if quick else ""),
        "settings": {a: _settings(quick, len(indices)) for a, indices in amounts.items()},
        "num_hiddens": widths,
        "dropouts": dropouts,
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

    def run(r: Row, keep: bool) -> List[Row]:
        indices = amounts[r["amount"]]
        of_run = TrainSettings(
            **_settings(quick, len(indices)),
            corpus=names,
            forget_bias=1.0,
            **{name: r[name] for name in (*RECIPE, "seed")},
        )
        books = list(amounts).index(r["amount"])
        name = f"exercise_3_{books}_{r['seed']}" if keep else "exercise_3"
        rows = train_to_the_end(
            of_run,
            new_model(of_run, len(vocab), try_gpu()),
            indices,
            valid_indices,
            {"test": test_indices},
            watch=watch,
            file=out and out / "networks" / name,
            keep=keep,
        )
        return [{"characters": len(indices), **row} for row in rows]

    def tried(amounts: Sequence[str], widths: Sequence[int], rates: Sequence[float]) -> List[Row]:
        grid = itertools.product(amounts, widths, dropouts, rates)
        return [{**dict(zip(("amount", *RECIPE), values)), "seed": 0} for values in grid]

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
    few = tried(list(amounts)[:3], widths["up to a book"], rates)
    more: List[Row] = []
    for runs in (few, more):
        recipes = collect(
            FILES["recipes"],
            described,
            [*few, *more],
            lambda r: [best(run(r, keep=False))],
            out=out,
            watch=watch,
            work=work,
        )
        if runs is few:
            rate = best(select(recipes, amount=one_book))["lr"]
            more += tried(list(amounts)[3:], widths["more"], [rate])
    by_amount = collect(
        FILES["amounts"],
        described,
        [
            {"amount": amount, **best_recipe(recipes, amount), "seed": seed}
            for seed in ([1, 2] if quick else [1, 2, 3])
            for amount in amounts
        ],
        lambda r: run(r, keep=True),
        out=out,
        watch=watch,
        work=work,
    )
    return {"ngrams": ngrams, "recipes": recipes, "amounts": by_amount}


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
            "Settings tried: validation perplexity at the best epoch (seed 0)",
            ["text", "units, dropout, learning rate", "validation", "best epoch"],
            [
                [row["amount"], _recipe(row), f"{perplexity(row['valid']):.3f}", str(row["epoch"])]
                for row in rows["recipes"]
            ],
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
