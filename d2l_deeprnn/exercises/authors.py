"""Exercise 4: is it a good idea to combine authors? What could go wrong?"""

from __future__ import annotations

import collections
import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .._mxnet.context import try_gpu
from ..evidence.figures import Line, lines_figure, points_figure
from ..evidence.intervals import mean_interval
from ..evidence.records import Row, Table, column, select, spread
from ..generation.generate import generate
from ..text.vocab import Vocab
from ..training.learner import new_model
from ..training.settings import TrainSettings
from .study import Watch, collect, perplexity
from .texts import library, read, split
from .training import best, num_minibatches, settings_for, train_to_the_end

Rows = Dict[str, List[Row]]
FILES = {  # kind of rows -> file
    "runs": "exercise_4",
    "characters": "exercise_4_characters",
    "words": "exercise_4_words",
}
# Tokens that no text has: each stands before a passage of its author.
MARKS = ("\ue000", "\ue001")
PASSAGE = 500  # characters
PREFIXES = ("the time ", "she was ")
HALVES, ALL = "both, half of each", "both, all"
MARKED = ", with author marks"


def study(
    *, quick: bool = False, out: Optional[Path] = None, watch: Optional[Watch] = None
) -> Rows:
    """Train on one author, on the other, and on both in several ways; score each on each.

    Every network is trained to the end, which the validation parts of those
    authors decide whom it reads. The remedies are tried on a mixture that
    holds a tenth of the first author, repeated until both are equally long,
    and as a mark before every passage that names its author.

    Args:
        quick: two minutes on the sample texts, to see that it works.
        out: directory of ``exercise_4*.csv``.
        watch: is told how far it is.

    Returns:
        "runs": rows, one an epoch, those of best epochs with the losses of
        both authors' tests and what the network wrote; "characters": how often
        each author uses each character; "words": how many of their most
        frequent words the authors share.
    """
    books = library(quick)
    first, second = (split(" ".join(read(names)), 0.1) for names in (books.first, books.second))
    texts = {books.authors[0]: first, books.authors[1]: second}
    vocab = Vocab("".join("".join(parts) for parts in texts.values()) + "".join(MARKS))
    mixtures = _mixtures({author: parts[0] for author, parts in texts.items()})
    recipe: Row = {
        "num_hiddens": 32 if quick else 256,
        "dropout": 0.3,
        "lr": 0.01 if quick else 0.004,
        "forget_bias": 1.0,
    }
    described = {
        "command": "d2l-deeprnn exercise 4" + (" --quick" if quick else ""),
        "settings": {
            mixture: {**settings_for(quick, num_minibatches(len(text), quick)), **recipe}
            for mixture, (text, _) in mixtures.items()
        },
        "texts": {books.authors[0]: books.first, books.authors[1]: books.second},
        "characters": {author: [len(p) for p in parts] for author, parts in texts.items()},
        "passage": PASSAGE,
    }

    def run(mixture: str, seed: int) -> List[Row]:
        text, readers = mixtures[mixture]
        marks = dict(zip(texts, MARKS)) if mixture.endswith(MARKED) else {}

        def indices(author: str, part: int) -> Any:
            words = texts[author][part]
            return vocab.encode(_mark(words, marks[author]) if marks else words)

        chosen = TrainSettings(
            **settings_for(quick, num_minibatches(len(text), quick)),
            **recipe,
            corpus=books.first + books.second,
            seed=seed,
        )
        model = new_model(chosen, len(vocab), try_gpu())
        rows = train_to_the_end(
            chosen,
            model,
            vocab.encode(text),
            np.concatenate([indices(author, 1) for author in readers]),
            {author: indices(author, 2) for author in texts},
            unscored=tuple(vocab.encode("".join(MARKS)).tolist()),
            watch=watch,
            file=out and out / "networks" / "exercise_4",
        )
        best(rows).update(_samples(model, vocab, bool(marks)))
        return [{"characters": len(text), **row} for row in rows]

    seeds = [1, 2] if quick else [1, 2, 3]
    rows = collect(
        FILES["runs"],
        described,
        [{"mixture": mixture, "seed": seed} for seed in seeds for mixture in mixtures],
        lambda r: run(r["mixture"], r["seed"]),
        out=out,
        watch=watch,
        work=lambda r: len(mixtures[r["mixture"]][0]),
    )
    characters = collect(
        FILES["characters"],
        described,
        [{"author": author} for author in texts],
        lambda r: _frequencies("".join(texts[r["author"]])),
        out=out,
        watch=watch,
    )
    words = collect(
        FILES["words"],
        described,
        [{"most_frequent": count} for count in ([100] if quick else [100, 1000, 5000])],
        lambda r: [_overlap(["".join(parts) for parts in texts.values()], r["most_frequent"])],
        out=out,
        watch=watch,
    )
    return {"runs": rows, "characters": characters, "words": words}


def compared(authors: Sequence[str]) -> List[Tuple[str, str, str]]:
    """What is asked of the mixtures: which, compared with which, on which author's test."""
    one, two = authors
    return [
        # As many characters, half of them by somebody else.
        *((HALVES, _only(author), author) for author in authors),
        # All that one author wrote, and all of another beside it.
        (ALL, _only(one), one),
        (ALL, _all_of(two), two),
        *((mixture + MARKED, mixture, author) for mixture in (HALVES, ALL) for author in authors),
        (_little(one), _only(two), one),
        *((_balanced(one), _little(one), author) for author in authors),
    ]


def tables(rows: Rows) -> List[Table]:
    """The matrix of mixtures and authors, what mixing does, what they share, and samples."""
    authors = _authors(rows)
    runs = _ends(rows)
    mixtures = list(dict.fromkeys(column(runs, "mixture")))
    first = select(runs, seed=runs[0]["seed"])
    asked = compared(authors)
    differences = []
    for one, other, author in asked:
        nats = [
            row[author] - select(runs, mixture=other, seed=row["seed"])[0][author]
            for row in select(runs, mixture=one)
        ]
        found = mean_interval(nats)
        sure = "no" if found.holds(0) else "it harms" if found.middle > 0 else "it helps"
        bounds = f"{found.low:+.3f} to {found.high:+.3f}"
        differences.append([one, other, author, f"{found.middle:+.3f}", bounds, sure])
    return [
        Table(
            "Test perplexity by author: median (lowest to highest) of the seeds",
            ["trained on", "characters", "best epoch", *authors],
            [
                [
                    mixture,
                    f"{select(runs, mixture=mixture)[0]['characters']:,}",
                    spread(column(select(runs, mixture=mixture), "epoch"), 0),
                    *(
                        spread([perplexity(r[a]) for r in select(runs, mixture=mixture)])
                        for a in authors
                    ),
                ]
                for mixture in mixtures
            ],
        ),
        Table(
            "Difference of test losses in nats, seed by seed: mean, and the 95 % interval of each",
            ["trained on", "less trained on", "test", "mean", "interval", "more than noise"],
            differences,
        ),
        Table(
            "What the authors share",
            ["most frequent words", "in both lists", "of all words in the texts, shared by both"],
            [
                [f"{row['most_frequent']:,}", f"{row['shared']:,}", f"{row['share']:.1%}"]
                for row in rows["words"]
            ],
        ),
        Table(
            "Samples (temperature 0.5, seed 1)",
            ["trained on", "sample"],
            [[row["mixture"], row[f"sample_{i}"]] for row in first for i in range(len(PREFIXES))],
        ),
    ]


def figures(rows: Rows) -> Dict[str, Any]:
    """The matrix as a picture, and how often each author uses each character."""
    authors = _authors(rows)
    runs = _ends(rows)
    mixtures = list(dict.fromkeys(column(runs, "mixture")))
    panels = {}
    for author in authors:
        values = {
            mixture: [perplexity(r[author]) for r in select(runs, mixture=mixture)]
            for mixture in mixtures
        }
        panels[f"test text by {author}"] = values
    common = sorted({r["character"] for r in rows["characters"] if r["per_thousand"] >= 1})
    lines = {}
    for author in authors:
        counted = select(rows["characters"], author=author)
        found = {r["character"]: r["per_thousand"] for r in counted}
        lines[author] = Line(
            range(len(common)), [found.get(c, math.nan) for c in common], style="none"
        )
    return {
        "exercise_4_matrix": points_figure(panels, "test perplexity per character"),
        "exercise_4_characters": lines_figure(
            {"characters that make up at least 1 in 1,000": lines},
            "character",
            "occurrences per 1,000 characters",
            log_y=True,
            xticks=["\N{OPEN BOX}" if c == "U+0020" else chr(int(c[2:], 16)) for c in common],
        ),
    }


def _ends(rows: Rows) -> List[Row]:
    """The rows of the best epochs."""
    return [row for row in rows["runs"] if row.get("known", "") != ""]


def _only(author: str) -> str:
    return f"{author} only"


def _all_of(author: str) -> str:
    return f"{author} only, all"


def _little(author: str) -> str:
    return f"both, a tenth of {author}"


def _balanced(author: str) -> str:
    return f"both, a tenth of {author}, repeated"


def _mixtures(texts: Mapping[str, str]) -> Dict[str, Tuple[str, Tuple[str, ...]]]:
    """Name -> text to train on, and whose it is.

    Minibatches of adjacent sampling cut a text into rows side by side, so
    that authors who stand one after the other are both in each minibatch, in
    proportion to their lengths.

    Args:
        texts: by author, that of the second the longer one.
    """
    one, two = texts
    first, all_of_second = texts.values()
    length = len(first)
    second = all_of_second[:length]
    half = length // 2
    little = first[: length // 10]
    mixed: Dict[str, Tuple[str, ...]] = {
        HALVES: (first[:half], second[:half]),
        ALL: (first, all_of_second),
    }
    marked = {
        name + MARKED: tuple(_mark(text, mark) for text, mark in zip(parts, MARKS))
        for name, parts in mixed.items()
    }
    mixed.update(marked)
    mixed[_little(one)] = (little, second)
    mixed[_balanced(one)] = (little * 10, second)
    return {
        _only(one): (first, (one,)),
        _only(two): (second, (two,)),
        _all_of(two): (all_of_second, (two,)),
        **{name: ("".join(parts), (one, two)) for name, parts in mixed.items()},
    }


def _mark(text: str, mark: str) -> str:
    """Put a mark before every passage."""
    return "".join(mark + text[i : i + PASSAGE] for i in range(0, len(text), PASSAGE))


def _samples(model: Any, vocab: Vocab, marked: bool) -> Row:
    """What a network writes; where it knows marks, behind that of the prefix's author."""
    prefixes = [mark + prefix if marked else prefix for mark, prefix in zip(MARKS, PREFIXES)]
    texts = generate(model, vocab, prefixes, 100, temperature=0.5, seed=1)
    for mark in MARKS:
        texts = [text.replace(mark, "") for text in texts]
    return {f"sample_{i}": text for i, text in enumerate(texts)}


def _frequencies(text: str) -> List[Row]:
    counts = collections.Counter(text)
    return [
        # by number: read again, the digit 1 would be a number
        {"character": f"U+{ord(character):04X}", "per_thousand": 1000 * count / len(text)}
        for character, count in counts.most_common()
    ]


def _overlap(texts: Sequence[str], most_frequent: int) -> Row:
    """Words that two texts share: among the most frequent ones, and of all running words."""
    counts = [collections.Counter(_words(text)) for text in texts]
    common = [{word for word, _ in c.most_common(most_frequent)} for c in counts]
    shared = common[0] & common[1]
    running = sum(count for c in counts for word, count in c.items() if word in shared)
    return {"shared": len(shared), "share": running / sum(sum(c.values()) for c in counts)}


def _words(text: str) -> List[str]:
    return "".join(c if c.isalpha() else " " for c in text).split()


def _authors(rows: Rows) -> Tuple[str, str]:
    one, two = dict.fromkeys(column(rows["characters"], "author"))
    return one, two
