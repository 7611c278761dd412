"""Exercise 4: is it a good idea to combine authors? What could go wrong?"""

from __future__ import annotations

import collections
import math
import statistics
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .._mxnet.context import try_gpu
from .._perplexity import perplexity
from ..evidence.figures import Line, lines_figure, points_figure
from ..evidence.intervals import Interval, mean_interval
from ..evidence.records import Row, Table, column, select, spread
from ..files import user_path
from ..generation.generate import generate
from ..text.vocab import Vocab
from ..training.learner import new_model
from ..training.settings import TrainSettings
from .study import Watch, collect
from .texts import library, read, split
from .training import PLATEAU, best, common_settings, settings_for, train_to_the_end

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
SAMPLE = 200  # characters that follow the prefix
HALVES, ALL = "both, half of each", "both, all"


class Difference(NamedTuple):
    """How much a mixture's test loss is above another's.

    Attributes:
        mixture, other: names of the two.
        author: whose test text it is.
        interval: of the difference in nats a character, taken seed by seed; None with one seed.
        mean: of the seeds.
    """

    mixture: str
    other: str
    author: str
    interval: Optional[Interval]
    mean: float


def study(
    *, quick: bool = False, out: Optional[Path] = None, watch: Optional[Watch] = None
) -> Rows:
    """Train on one author, on the other, and on both in several ways; score each on each.

    Every network is trained to the end, by the validation parts of the authors
    who are read. The remedies are tried too: a mark before every passage that
    names its author, and, for a mixture that holds a tenth of the first author,
    sampling that shows both equally often.

    Args:
        quick: two minutes on the sample texts, to see that it works.
        out: directory of ``exercise_4*.csv``.
        watch: is told how far it is.

    Returns:
        "runs": rows, one a run, of its best epoch, with what the network wrote;
        "characters": how often each author uses each character; "words": how
        many of their most frequent words the authors share.
    """
    out = out and user_path(out)
    books = library(quick)
    first, second = (split(" ".join(read(names)), 0.1) for names in (books.first, books.second))
    texts = {books.authors[0]: first, books.authors[1]: second}
    vocab = Vocab("".join("".join(parts) for parts in texts.values()) + "".join(MARKS))
    mixtures = _mixtures({author: parts[0] for author, parts in texts.items()})
    common = common_settings(quick)
    common.update(num_hiddens=32 if quick else 256, dropout=0.0 if quick else 0.3)
    common.update(lr=0.01 if quick else 0.004)
    described = {
        "command": "d2l-deeprnn exercise 4" + (" --quick" if quick else ""),
        "settings": common,
        "plateau": PLATEAU,
        "texts": {books.authors[0]: books.first, books.authors[1]: books.second},
        "characters": {author: [len(p) for p in parts] for author, parts in texts.items()},
        "passage": PASSAGE,
    }

    def run(mixture: str, seed: int) -> List[Row]:
        text = mixtures[mixture]
        marked = MARKS[0] in text
        held_out: Dict[str, Any] = {}
        valid = ""
        for (author, (_, of_author, test)), mark in zip(texts.items(), MARKS):
            held_out[author] = vocab.encode(_mark(test, mark) if marked else test)
            if author in _read_in(mixture, texts):
                valid += _mark(of_author, mark) if marked else of_author
        indices = vocab.encode(text)
        settings = TrainSettings(
            **{**settings_for(quick, len(indices)), **common},
            corpus=books.first + books.second,
            seed=seed,
        )
        model = new_model(settings, len(vocab), try_gpu())
        row = best(
            train_to_the_end(
                settings,
                model,
                indices,
                vocab.encode(valid),
                held_out,
                unscored=tuple(vocab.encode("".join(MARKS)).tolist()),
                watch=watch,
                file=out and out / "networks" / "exercise_4",
            )
        )
        return [{"characters": len(indices), **row, **_samples(model, vocab, marked)}]

    seeds = [1] if quick else [1, 2, 3]
    rows = collect(
        FILES["runs"],
        described,
        [{"mixture": mixture, "seed": seed} for seed in seeds for mixture in mixtures],
        lambda r: run(r["mixture"], r["seed"]),
        out=out,
        watch=watch,
        work=lambda r: len(mixtures[r["mixture"]]),
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


def differences(rows: Rows) -> List[Difference]:
    """What helps and what harms: differences of test losses, seed by seed.

    Half of each author against one alone, with as many characters; all of both against all of one;
    with marks against without; a tenth of the first author against none; and that tenth repeated
    against once.
    """
    one, two = authors = _authors(rows)
    there = set(column(rows["runs"], "mixture"))
    as_long = [_cut(a) if _cut(a) in there else _only(a) for a in authors]
    pairs = [
        *((HALVES, alone, author) for alone, author in zip(as_long, authors)),
        *((ALL, _only(author), author) for author in authors),
        *((_marked(both), both, author) for both in (HALVES, ALL) for author in authors),
        *((_little(one), as_long[1], author) for author in authors),
        *((_repeated(one), _little(one), author) for author in authors),
    ]
    found = []
    for mixture, other, author in pairs:
        ours, theirs = (
            {row["seed"]: row[author] for row in select(rows["runs"], mixture=name)}
            for name in (mixture, other)
        )
        nats = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
        interval = mean_interval(nats) if len(nats) > 1 else None
        found.append(Difference(mixture, other, author, interval, statistics.mean(nats)))
    return found


def tables(rows: Rows) -> List[Table]:
    """The matrix of mixtures and authors, what helps, what the authors share, and samples."""
    authors = _authors(rows)
    mixtures = list(dict.fromkeys(column(rows["runs"], "mixture")))
    first = select(rows["runs"], seed=rows["runs"][0]["seed"])
    matrix = []
    for mixture in mixtures:
        found = select(rows["runs"], mixture=mixture)
        scores = [spread([perplexity(row[author]) for row in found]) for author in authors]
        epochs = spread(column(found, "epoch"), 0)
        matrix.append([mixture, f"{found[0]['characters']:,}", epochs, *scores])
    return [
        Table(
            "Test perplexity by author: median (lowest to highest) of the seeds",
            ["trained on", "characters", "best epoch", *authors],
            matrix,
        ),
        Table(
            "Difference of test losses in nats, seed by seed: mean, and its 95 % interval",
            ["trained on", "less that of", "test text", "mean", "interval", "the mixture"],
            [
                [
                    found.mixture,
                    found.other,
                    found.author,
                    f"{found.mean:+.3f}",
                    *_interval_in_words(found.interval),
                ]
                for found in differences(rows)
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


def _interval_in_words(interval: Optional[Interval]) -> Tuple[str, str]:
    """The interval, and what follows from it for the first of the two mixtures."""
    if interval is None:
        return "one seed", "may be noise"
    words = f"{interval.low:+.3f} to {interval.high:+.3f}"
    if interval.holds(0):
        return words, "may be noise"
    return words, "helps" if interval.high < 0 else "harms"


def _only(author: str) -> str:
    return f"{author} only"


def _cut(author: str) -> str:
    return f"{author} only, cut to the other's length"


def _marked(mixture: str) -> str:
    return f"{mixture}, with author marks"


def _little(author: str) -> str:
    return f"both, a tenth of {author}"


def _repeated(author: str) -> str:
    return f"both, a tenth of {author}, repeated"


def _mixtures(texts: Mapping[str, str]) -> Dict[str, str]:
    """Name -> text to train on.

    Minibatches of adjacent sampling cut a text into rows side by side, so
    that authors who stand one after the other are both in each minibatch, in
    proportion to their lengths.
    """
    length = min(map(len, texts.values()))
    mixtures = {}
    for author, text in texts.items():
        if len(text) > length:
            mixtures[_cut(author)] = text[:length]
        mixtures[_only(author)] = text
    one, _ = texts
    first, second = (text[:length] for text in texts.values())
    little = first[: length // 10]
    halves = [text[: length // 2] for text in (first, second)]
    both = {HALVES: halves, ALL: list(texts.values())}
    mixtures.update({name: "".join(parts) for name, parts in both.items()})
    for name, parts in both.items():
        mixtures[_marked(name)] = "".join(map(_mark, parts, MARKS))
    return {**mixtures, _little(one): little + second, _repeated(one): little * 10 + second}


def _read_in(mixture: str, authors: Iterable[str]) -> List[str]:
    """Who is read in a mixture."""
    alone = [author for author in authors if mixture in (_only(author), _cut(author))]
    return alone or list(authors)


def _mark(text: str, mark: str) -> str:
    """Put a mark before every passage."""
    return "".join(mark + text[i : i + PASSAGE] for i in range(0, len(text), PASSAGE))


def _samples(model: Any, vocab: Vocab, marked: bool) -> Row:
    """What a network writes; where it knows marks, behind that of the prefix's author."""
    prefixes = [mark + prefix if marked else prefix for mark, prefix in zip(MARKS, PREFIXES)]
    texts = generate(model, vocab, prefixes, SAMPLE, temperature=0.5, seed=1)
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
