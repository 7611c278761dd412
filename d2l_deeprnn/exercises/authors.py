"""Exercise 4: is it a good idea to combine authors? What could go wrong?"""

from __future__ import annotations

import collections
import math
import unicodedata
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._perplexity import perplexity
from ..evidence.figures import Line, lines_figure, lowest, points_figure
from ..evidence.intervals import Difference, difference_table, paired_difference
from ..evidence.records import Row, Table, group_by, select, spread_of, summary_table
from ..generation.generate import generate
from ..text.vocab import Vocab
from .networks import TrainSettings, best_epoch, cosine_settings, new_network, train_to_the_end
from .search import ONE_OR_MORE_SEEDS, SEEDS, mean_perplexity, search
from .study import Observer, Rows, Study, in_one_typography, library, read, split

NOTEBOOK = "exercise-4-authors.ipynb"
HOURS = 4
FILES = {  # kind of rows -> file
    "recipes": "exercise_4_recipes",
    "runs": "exercise_4",
    "characters": "exercise_4_characters",
    "words": "exercise_4_words",
}
# Private-use characters, which no text contains. Each marks the passages of one author.
MARKS = ("\ue000", "\ue001")
PASSAGE = 500  # characters
WEIGHT_DECAY = 1e-5
GRID: Dict[str, Sequence[float]] = {"dropout": (0.2, 0.35), "lr": (0.004, 0.008)}
LADDERS: Dict[str, Sequence[float]] = {
    "dropout": (0.0, 0.1, 0.2, 0.35, 0.5, 0.65),
    "lr": (0.001, 0.002, 0.004, 0.008, 0.016, 0.032),
}
PREFIXES = ("the time ", "she was ")
SAMPLE = 200  # characters after the prefix
# Names of the mixtures
ONLY, CUT = "{} only", "{} only, cut to the other's length"
HALVES, ALL, MARKED = "both, half of each", "both, all", "{}, with author marks"
LITTLE, REPEATED = "both, a tenth of {}", "both, a tenth of {}, repeated"


def study(
    *, quick: bool = False, out: Optional[Path] = None, observer: Optional[Observer] = None
) -> Rows:
    """Train on one author, the other, and both in several ways; score each network on each author.

    A tenth of each book is held out, half of it for validation. The best epoch is judged by the
    validation parts of the authors in a network's text. Shares of an author are passages from all
    parts of all books. Dropout and learning rate are found by ``search`` for a short and a long
    mixture, and used for the texts that are nearest in length. Two remedies are tried: a mark that
    names the author before every passage, and repeating the first author's text if there is only a
    tenth of it.

    Returns:
        "recipes": the best epoch of each setting that was tried. "runs": one row per run, of its
        best epoch, with samples. "characters": how often each author uses each character. "words":
        how many of their most frequent words the authors share.
    """
    books = library(quick)
    texts = {}  # author -> training, validation and test part
    for author, names in zip(books.authors, (books.first, books.second)):
        parts = zip(*(split(in_one_typography(text), 0.1) for text in read(names)))
        texts[author] = tuple(map(" ".join, parts))
    vocab = Vocab("".join("".join(parts) for parts in texts.values()) + "".join(MARKS))
    mixtures = _mixtures({author: parts[0] for author, parts in texts.items()})
    common = {**cosine_settings(quick, 8), "num_hiddens": 32 if quick else 256}
    grid = {"dropout": (0.0,), "lr": (0.01,)} if quick else GRID
    ladders = {} if quick else LADDERS
    search_seeds = SEEDS[:1] if quick else SEEDS
    settings = {
        "settings": common,
        "weight_decay": WEIGHT_DECAY,
        "grid": grid,
        "ladders": ladders,
        "seeds": search_seeds,
        "texts": dict(zip(books.authors, (books.first, books.second))),
        "characters": {author: [len(p) for p in parts] for author, parts in texts.items()},
        "passage": PASSAGE,
    }
    study = Study("4", FILES, settings, quick=quick, out=out, observer=observer)

    def train(r: Row, *, score: bool) -> List[Row]:
        text = mixtures[r["mixture"]]
        marked = MARKS[0] in text
        alone = [a for a in texts if r["mixture"] in (ONLY.format(a), CUT.format(a))]
        held_out, valid = {}, ""
        for (author, (_, of_author, test)), mark in zip(texts.items(), MARKS):
            held_out[author] = vocab.encode(_mark(test, mark) if marked else test)
            if author in (alone or texts):
                valid += _mark(of_author, mark) if marked else of_author
        indices = vocab.encode(text)
        settings = TrainSettings(
            **common,
            **{name: r[name] for name in ("dropout", "lr", "seed")},
            optimizer_options={"wd": WEIGHT_DECAY},
            corpus=books.first + books.second,
        )
        model = new_network(settings, len(vocab))
        rows = train_to_the_end(
            settings,
            model,
            indices,
            vocab.encode(valid),
            held_out if score else {},
            unscored=tuple(vocab.encode("".join(MARKS)).tolist()),
            on_minibatch=study.on_minibatch,
            file=study.network_file("exercise_4"),
        )
        row = {"characters": len(indices), **best_epoch(rows)}
        return [{**row, **_samples(model, vocab, marked)} if score else row]

    def work(r: Row) -> int:
        return len(mixtures[r["mixture"]])

    def tried(runs: List[Row]) -> List[Row]:
        return study.collect("recipes", runs, lambda r: train(r, score=False), work=work)

    recipes, best = [], {}
    for mixture in (HALVES, ALL):
        best[mixture], rows = search(tried, {"mixture": mixture}, grid, ladders, seeds=search_seeds)
        recipes += rows

    def settings_of(mixture: str) -> Row:
        """Return the settings of the mixture that is nearest in length."""
        length = len(mixtures[mixture])
        return best[min(best, key=lambda other: abs(math.log(len(mixtures[other]) / length)))]

    runs = study.collect(
        "runs",
        [
            {"mixture": mixture, **settings_of(mixture), "seed": s}
            for s in ([1] if quick else [1, 2, 3, 4, 5])
            for mixture in mixtures
        ],
        lambda r: train(r, score=True),
        work=work,
    )
    characters = study.collect(
        "characters",
        [{"author": author} for author in texts],
        lambda r: _frequencies("".join(texts[r["author"]])),
    )
    words = study.collect(
        "words",
        [{"most_frequent": count} for count in ([100] if quick else [100, 1000, 5000])],
        lambda r: [_overlap(["".join(parts) for parts in texts.values()], r["most_frequent"])],
    )
    return {"recipes": recipes, "runs": runs, "characters": characters, "words": words}


def differences(rows: Rows) -> List[Difference]:
    """Return the differences of test losses, seed by seed, that show what helps and what harms.

    All intervals hold at once with a probability of 95 %. The comparisons are: half of each author
    against one alone, of the same length; all of both against all of one; with marks against
    without; a tenth of the first author against none; and that tenth repeated against that tenth
    once.
    """
    one, _ = authors = _authors(rows)
    runs = group_by(rows["runs"], "mixture")
    as_long = [CUT.format(a) if CUT.format(a) in runs else ONLY.format(a) for a in authors]
    pairs = [
        *((HALVES, alone, author) for alone, author in zip(as_long, authors)),
        *((ALL, ONLY.format(author), author) for author in authors),
        *((MARKED.format(both), both, author) for both in (HALVES, ALL) for author in authors),
        *((LITTLE.format(one), as_long[1], author) for author in authors),
        *((REPEATED.format(one), LITTLE.format(one), author) for author in authors),
    ]
    return [
        paired_difference(
            (mixture, other, author),
            runs[mixture],
            runs[other],
            loss=author,
            comparisons=len(pairs),
        )
        for mixture, other, author in pairs
    ]


def tables(rows: Rows) -> List[Table]:
    """Return tables of test perplexities, of differences, of shared words, and of samples."""
    first_seed = select(rows["runs"], seed=rows["runs"][0]["seed"])
    tried = rows["recipes"]
    rates = sorted({row["lr"] for row in tried})
    return [
        Table(
            f"Validation perplexity by learning rate ({ONE_OR_MORE_SEEDS})",
            ["trained on", "dropout", *(f"{rate:g}" for rate in rates)],
            [
                [
                    mixture,
                    f"{dropout:g}",
                    *(mean_perplexity(select(runs, lr=rate)) for rate in rates),
                ]
                for mixture, of_mixture in group_by(tried, "mixture").items()
                for dropout, runs in sorted(group_by(of_mixture, "dropout").items())
            ],
        ),
        summary_table(
            "Test perplexity by author: median (lowest to highest) of the seeds",
            ["trained on"],
            group_by(rows["runs"], "mixture"),
            {
                "characters": lambda runs: f"{runs[0]['characters']:,}",
                "dropout, learning rate": lambda runs: f"{runs[0]['dropout']:g}, {runs[0]['lr']:g}",
                "best epoch": spread_of("epoch", 0),
                **{author: spread_of(author, convert=perplexity) for author in _authors(rows)},
            },
        ),
        difference_table(
            "Difference of test losses in nats, seed by seed: mean, and joint 95 % intervals",
            ["trained on", "minus", "test text", "the mixture"],
            differences(rows),
            verdict=("helps", "harms", "may be noise"),
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
            [
                [row["mixture"], row[f"sample_{i}"]]
                for row in first_seed
                for i in range(len(PREFIXES))
            ],
        ),
    ]


def figures(rows: Rows) -> Dict[str, Any]:
    """Plot test perplexities, and how often each author uses each character."""
    panels = {
        f"test text by {author}": {
            mixture: [perplexity(row[author]) for row in runs]
            for mixture, runs in group_by(rows["runs"], "mixture").items()
        }
        for author in _authors(rows)
    }
    common = sorted({r["character"] for r in rows["characters"] if r["per_thousand"] >= 1})
    lines = {}
    for author, counted in group_by(rows["characters"], "author").items():
        frequencies = {row["character"]: row["per_thousand"] for row in counted}
        y = [frequencies.get(character, math.nan) for character in common]
        lines[author] = Line(range(len(common)), y, style="none")
    best = {author: lowest(by) for author, by in zip(_authors(rows), panels.values())}
    return {
        "exercise_4_matrix": points_figure(
            panels,
            "test perplexity per character (lower is better)",
            title="; ".join(f"{author}: lowest with {kind!r}" for author, kind in best.items()),
        ),
        "exercise_4_characters": lines_figure(
            {"": lines},
            "character",
            "occurrences per 1,000 characters",
            log_y=True,
            xticks=["\N{OPEN BOX}" if c == "U+0020" else chr(int(c[2:], 16)) for c in common],
            title=f"The greatest difference: {_most_different(lines, common)}",
        ),
    }


def _most_different(lines: Mapping[str, Line], characters: Sequence[str]) -> str:
    """Return the name of the character whose frequencies have the greatest ratio."""
    one, two = (line.y for line in lines.values())
    ratios = {c: max(a / b, b / a) for c, a, b in zip(characters, one, two) if a * b > 0}
    return unicodedata.name(chr(int(max(ratios, key=lambda c: ratios[c])[2:], 16))).lower()


def _mixtures(texts: Mapping[str, str]) -> Dict[str, str]:
    """Return the training texts by name.

    The authors simply follow one another. The rows of a minibatch come from all parts of a text,
    so each minibatch has all authors, in proportion to their lengths.
    """
    length = min(map(len, texts.values()))
    mixtures = {}
    for author, text in texts.items():
        if len(text) > length:
            mixtures[CUT.format(author)] = _share(text, length)
        mixtures[ONLY.format(author)] = text
    one, _ = texts
    first, second = (_share(text, length) for text in texts.values())
    little = _share(first, length // 10)
    halves = [_share(text, length // 2) for text in (first, second)]
    both = {HALVES: halves, ALL: list(texts.values())}
    mixtures.update({name: "".join(parts) for name, parts in both.items()})
    for name, parts in both.items():
        mixtures[MARKED.format(name)] = "".join(map(_mark, parts, MARKS))
    return {
        **mixtures,
        LITTLE.format(one): little + second,
        REPEATED.format(one): little * 10 + second,
    }


def _share(text: str, length: int) -> str:
    """Return a part of a text of this length, in passages from a hundred places of it."""
    starts = [i * len(text) // 100 for i in range(100)]
    ends = [start + (i + 1) * length // 100 - i * length // 100 for i, start in enumerate(starts)]
    return "".join(text[start:end] for start, end in zip(starts, ends))


def _mark(text: str, mark: str) -> str:
    """Put a mark before every passage."""
    return "".join(mark + text[i : i + PASSAGE] for i in range(0, len(text), PASSAGE))


def _samples(model: Any, vocab: Vocab, marked: bool) -> Row:
    """Have a network continue each prefix, which follows its author's mark if there are marks."""
    prefixes = [mark + prefix if marked else prefix for mark, prefix in zip(MARKS, PREFIXES)]
    texts = generate(model, vocab, prefixes, SAMPLE, temperature=0.5, seed=1)
    for mark in MARKS:
        texts = [text.replace(mark, "") for text in texts]
    return {f"sample_{i}": text for i, text in enumerate(texts)}


def _frequencies(text: str) -> List[Row]:
    counts = collections.Counter(text)
    return [
        # As a code point: the digit 1 would be read from the file as a number.
        {"character": f"U+{ord(character):04X}", "per_thousand": 1000 * count / len(text)}
        for character, count in counts.most_common()
    ]


def _overlap(texts: Sequence[str], most_frequent: int) -> Row:
    """Count the words that are frequent in both texts, and their share of all words."""
    counts = [
        collections.Counter("".join(c if c.isalpha() else " " for c in text).split())
        for text in texts
    ]
    frequent = [{word for word, _ in count.most_common(most_frequent)} for count in counts]
    shared = frequent[0] & frequent[1]
    occurrences = sum(n for count in counts for word, n in count.items() if word in shared)
    return {"shared": len(shared), "share": occurrences / sum(sum(c.values()) for c in counts)}


def _authors(rows: Rows) -> Tuple[str, str]:
    one, two = group_by(rows["characters"], "author")
    return one, two
