"""Exercise 3: more data. How low can the perplexity go?"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

from .._mxnet.context import try_gpu
from ..evidence.figures import Level, Line, lines_figure
from ..evidence.records import Row, Table, column, select, spread
from ..text.vocab import Vocab
from ..training.learner import new_model
from ..training.ngram import NGramModel, choose_order
from ..training.settings import TrainSettings
from .study import Watch, collect, perplexity
from .texts import encode, library, read, split
from .training import best, epochs_for, lstm_settings, train_and_score

Rows = Dict[str, List[Row]]
FILES = {  # kind of rows -> file
    "amounts": "exercise_3_amounts",
    "sizes": "exercise_3_sizes",
    "longer": "exercise_3_longer",
    "ngrams": "exercise_3_ngrams",
}


def study(
    *, quick: bool = False, out: Optional[Path] = None, watch: Optional[Watch] = None
) -> Rows:
    """Train on a tenth of a book up to several books, and networks of several sizes.

    What is held out is the same everywhere: the last fifth of the first book,
    half of it to choose the epoch on, half of it for the test. Every network
    sees about the same number of minibatches, however long its text is: 2,500.
    That is little for several books, so a wider network with dropout trains on
    one book, two and all of them for four times as long.

    Args:
        quick: two minutes on the sample texts, to see that it works.
        out: directory of ``exercise_3*.csv``.
        watch: is told how far it is.

    Returns:
        "amounts", "sizes" and "longer": rows, one a run, at the epoch that is
        best on the validation part; "ngrams": the baseline, a row an amount of
        text.
    """
    books = library(quick)
    names = books.first + books.second
    texts = read(names)
    own, valid, test = split(texts[0])
    vocab = Vocab("".join(texts))
    valid_indices, test_indices = encode(vocab, valid, test)
    amounts = _amounts(names, [own, *texts[1:]])
    settings = lstm_settings(quick)
    minibatches = 300 if quick else 2500
    described = {
        "command": "d2l-deeprnn exercise 3" + (" --quick" if quick else ""),
        "settings": settings,
        "minibatches": minibatches,
        "texts": list(names),
        "held_out": [len(valid), len(test)],
    }

    def run(amount: str, minibatches: int = minibatches, **changed: Any) -> List[Row]:
        indices = vocab.encode(amounts[amount])
        epochs = epochs_for(minibatches, len(indices), settings, least=2)
        chosen = {**settings, "corpus": names, "num_epochs": epochs, **changed}
        held_out = {"valid": valid_indices, "test": test_indices}
        of_run = TrainSettings(**chosen)
        model = new_model(of_run, len(vocab), try_gpu())
        rows = train_and_score(of_run, model, indices, held_out, watch=watch)
        return [{"characters": len(indices), **best(rows), "last_train": rows[-1]["train"]}]

    def ngram(amount: str) -> List[Row]:
        indices = vocab.encode(amounts[amount])
        order, _ = choose_order(indices, valid_indices, len(vocab))
        model = NGramModel(indices, order, len(vocab))
        losses = {"train": model.loss(indices), "test": model.loss(test_indices)}
        return [{"characters": len(indices), "order": order, **losses}]

    ngrams = collect(
        FILES["ngrams"],
        described,
        [{"amount": amount} for amount in amounts],
        lambda r: ngram(r["amount"]),
        out=out,
        watch=watch,
    )
    seeds = [1, 2] if quick else [1, 2, 3]
    by_amount = collect(
        FILES["amounts"],
        described,
        [{"amount": amount, "seed": seed} for seed in seeds for amount in amounts],
        lambda r: run(r["amount"], seed=r["seed"]),
        out=out,
        watch=watch,
    )
    widths = [16, 32] if quick else [64, 128, 256]
    # Several books by the same author: the other author comes last.
    several = [name for name in amounts][len(amounts) - 1 - len(books.second)]
    sizes = collect(
        FILES["sizes"],
        described,
        [
            {"amount": several, "num_layers": layers, "num_hiddens": width}
            for width in widths
            for layers in ([1, 2] if quick else [1, 2, 3])
        ],
        lambda r: run(
            r["amount"], num_layers=r["num_layers"], num_hiddens=r["num_hiddens"], seed=1
        ),
        out=out,
        watch=watch,
    )
    wide = {"num_hiddens": 48 if quick else 256, "dropout": 0.3, "seed": 1}
    longer = collect(
        FILES["longer"],
        {**described, "minibatches": 4 * minibatches},
        # the whole books: the first two amounts are parts of one
        [{"amount": amount, **wide} for amount in list(amounts)[2:]],
        lambda r: run(r["amount"], 4 * minibatches, **wide),
        out=out,
        watch=watch,
    )
    return {"amounts": by_amount, "sizes": sizes, "longer": longer, "ngrams": ngrams}


def tables(rows: Rows) -> List[Table]:
    """Amounts of text, and sizes of the network."""
    amounts = []
    for ngram in rows["ngrams"]:
        found = select(rows["amounts"], amount=ngram["amount"])
        amounts.append(
            [
                ngram["amount"],
                f"{ngram['characters']:,}",
                spread([perplexity(row["train"]) for row in found]),
                spread([perplexity(row["test"]) for row in found]),
                f"{perplexity(ngram['train']):.3f}",
                f"{perplexity(ngram['test']):.3f} ({ngram['order']})",
            ]
        )
    return [
        Table(
            "Perplexity by amount of text: median (lowest to highest) of the seeds, at the epoch "
            "that is best on the validation part",
            ["text", "characters", "training", "test", "n-gram, training", "n-gram, test (order)"],
            amounts,
        ),
        Table(
            f"Perplexity by size of the network: {rows['sizes'][0]['amount']}",
            ["layers", "units", "training", "test", "best epoch"],
            [
                [
                    str(row["num_layers"]),
                    str(row["num_hiddens"]),
                    f"{perplexity(row['train']):.3f}",
                    f"{perplexity(row['test']):.3f}",
                    str(row["epoch"]),
                ]
                for row in rows["sizes"]
            ],
        ),
        Table(
            "Perplexity of a wider network with dropout, trained four times as long",
            ["text", "characters", "training, dropout acting", "test", "n-gram, test", "epoch"],
            [
                [
                    row["amount"],
                    f"{row['characters']:,}",
                    f"{perplexity(row['train']):.3f}",
                    f"{perplexity(row['test']):.3f}",
                    f"{perplexity(_ngram(rows, row['amount'])['test']):.3f}",
                    str(row["epoch"]),
                ]
                for row in rows["longer"]
            ],
        ),
    ]


def figures(rows: Rows) -> Dict[str, Any]:
    """Perplexity by amount of text, and by size of the network."""
    ngrams = rows["ngrams"]
    thousands = [_thousands(row) for row in ngrams]
    by_amount: Dict[str, Dict[str, Union[Line, Level]]] = {}
    for title, name in [("the text trained on", "train"), ("text never seen (test)", "test")]:
        values = [
            [perplexity(row[name]) for row in select(rows["amounts"], amount=ngram["amount"])]
            for ngram in ngrams
        ]
        by_amount[title] = {
            "LSTM": Line(
                thousands,
                [statistics.median(v) for v in values],
                [min(v) for v in values],
                [max(v) for v in values],
            ),
            "n-gram": Line(thousands, [perplexity(row[name]) for row in ngrams], style="--"),
        }
        by_amount[title]["LSTM, wider, longer"] = Line(
            [_thousands(row) for row in rows["longer"]],
            [perplexity(row[name]) for row in rows["longer"]],
            style="-.",
        )
    last = [_last(rows, ngram["amount"]) for ngram in ngrams]
    by_amount["the text trained on"]["LSTM, last epoch"] = Line(thousands, last, style=":")
    sizes = rows["sizes"]
    ngram = _ngram(rows, sizes[0]["amount"])
    by_size: Dict[str, Dict[str, Union[Line, Level]]] = {}
    for title, name in [("the text trained on", "train"), ("text never seen (test)", "test")]:
        by_size[title] = {}
        for layers in sorted(set(column(sizes, "num_layers"))):
            found = select(sizes, num_layers=layers)
            legend = f"LSTM, {layers} layer{'s' if layers > 1 else ''}"
            ys = [perplexity(row[name]) for row in found]
            by_size[title][legend] = Line(column(found, "num_hiddens"), ys)
        by_size[title]["n-gram"] = Level(perplexity(ngram[name]))
    pictures = {
        "exercise_3_amounts": (by_amount, "thousand characters trained on"),
        "exercise_3_sizes": (by_size, "hidden units a layer"),
    }
    return {
        name: lines_figure(panels, xlabel, "perplexity per character", log_x=True, log_y=True)
        for name, (panels, xlabel) in pictures.items()
    }


def _ngram(rows: Rows, amount: str) -> Row:
    (row,) = select(rows["ngrams"], amount=amount)
    return row


def _thousands(row: Row) -> float:
    """Thousands of characters, in the three digits that an axis has room for."""
    return float(f"{row['characters'] / 1000:.3g}")


def _last(rows: Rows, amount: str) -> float:
    found = select(rows["amounts"], amount=amount)
    return statistics.median(perplexity(row["last_train"]) for row in found)


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
