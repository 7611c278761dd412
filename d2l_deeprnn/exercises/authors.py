"""Exercise 4: is it a good idea to combine authors? What could go wrong?"""

from __future__ import annotations

import collections
import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._mxnet.context import try_gpu
from ..evidence.figures import Line, lines_figure, points_figure
from ..evidence.records import Row, Table, column, select, spread
from ..generation.generate import generate
from ..text.vocab import Vocab
from ..training.learner import new_model
from ..training.settings import TrainSettings
from .study import Watch, collect, perplexity
from .texts import library, read, split
from .training import epochs_for, lstm_settings, train_and_score

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
HALVES, ALL, MARKED = "both, half of each", "both, all", "both, all, with author marks"


def study(
    *, quick: bool = False, out: Optional[Path] = None, watch: Optional[Watch] = None
) -> Rows:
    """Train on one author, on the other, and on both in several ways; score each on each.

    Every network sees about the same number of minibatches. The remedies are
    tried on both authors in equal parts and on a mixture that holds a tenth
    of the first: sampling that shows both equally often, and a mark before
    every passage that names its author.

    Args:
        quick: two minutes on the sample texts, to see that it works.
        out: directory of ``exercise_4*.csv``.
        watch: is told how far it is.

    Returns:
        "runs": rows, one a run, with what the network wrote; "characters":
        how often each author uses each character; "words": how many of their
        most frequent words the authors share.
    """
    books = library(quick)
    first, second = (split(" ".join(read(names)), 0.1) for names in (books.first, books.second))
    texts = {books.authors[0]: first, books.authors[1]: second}
    vocab = Vocab("".join("".join(parts) for parts in texts.values()) + "".join(MARKS))
    mixtures = _mixtures({author: parts[0] for author, parts in texts.items()})
    settings = lstm_settings(quick)
    minibatches = 300 if quick else 3000
    described = {
        "command": "d2l-deeprnn exercise 4" + (" --quick" if quick else ""),
        "settings": settings,
        "minibatches": minibatches,
        "texts": {books.authors[0]: books.first, books.authors[1]: books.second},
        "characters": {author: [len(p) for p in parts] for author, parts in texts.items()},
        "passage": PASSAGE,
    }

    def run(mixture: str, seed: int) -> List[Row]:
        text = mixtures[mixture]
        marked = MARKS[0] in text
        held_out = {
            author: vocab.encode(_mark(parts[2], mark) if marked else parts[2])
            for (author, parts), mark in zip(texts.items(), MARKS)
        }
        indices = vocab.encode(text)
        chosen = TrainSettings(
            **settings,
            corpus=books.first + books.second,
            num_epochs=epochs_for(minibatches, len(indices), settings),
            seed=seed,
        )
        unscored = tuple(vocab.encode("".join(MARKS)).tolist())
        model = new_model(chosen, len(vocab), try_gpu())
        rows = train_and_score(chosen, model, indices, held_out, unscored=unscored, watch=watch)
        row = {k: rows[-1][k] for k in ("epoch", "train", *held_out, "seconds")}
        return [{"characters": len(indices), **row, **_samples(model, vocab, marked)}]

    seeds = [1] if quick else [1, 2, 3]
    rows = collect(
        FILES["runs"],
        described,
        [{"mixture": mixture, "seed": seed} for seed in seeds for mixture in mixtures],
        lambda r: run(r["mixture"], r["seed"]),
        out=out,
        watch=watch,
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


def tables(rows: Rows) -> List[Table]:
    """The matrix of mixtures and authors, what the authors share, and samples."""
    authors = _authors(rows)
    mixtures = list(dict.fromkeys(column(rows["runs"], "mixture")))
    first = select(rows["runs"], seed=rows["runs"][0]["seed"])
    return [
        Table(
            "Test perplexity by author: median (lowest to highest) of the seeds",
            ["trained on", "characters", *authors],
            [
                [
                    mixture,
                    f"{select(rows['runs'], mixture=mixture)[0]['characters']:,}",
                    *(
                        spread([perplexity(r[a]) for r in select(rows["runs"], mixture=mixture)])
                        for a in authors
                    ),
                ]
                for mixture in mixtures
            ],
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
    mixtures = list(dict.fromkeys(column(rows["runs"], "mixture")))
    panels = {}
    for author in authors:
        values = {
            mixture: [perplexity(r[author]) for r in select(rows["runs"], mixture=mixture)]
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


def _only(author: str) -> str:
    return f"{author} only"


def _little(author: str) -> str:
    return f"both, a tenth of {author}"


def _balanced(author: str) -> str:
    return f"both, a tenth of {author}, repeated"


def _mixtures(texts: Mapping[str, str]) -> Dict[str, str]:
    """Name -> text to train on.

    Minibatches of adjacent sampling cut a text into rows side by side, so
    that authors who stand one after the other are both in each minibatch, in
    proportion to their lengths.
    """
    one, two = texts
    length = min(map(len, texts.values()))
    first, second = (text[:length] for text in texts.values())
    little = first[: length // 10]
    return {
        _only(one): first,
        _only(two): second,
        HALVES: first[: length // 2] + second[: length // 2],
        ALL: first + second,
        MARKED: _mark(first, MARKS[0]) + _mark(second, MARKS[1]),
        _little(one): little + second,
        _balanced(one): little * 10 + second,
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
