"""The chapter as data, and the bands that a run is held against."""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn.chapter import book, report, reproduce
from d2l_deeprnn.chapter.train import EpochRecord
from d2l_deeprnn.text.corpora import SAMPLE_TEXT

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


def rows(name):
    with open(RESULTS / name, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def figures():
    """Epoch -> the perplexities of this package's ten seeds."""
    found = defaultdict(list)
    for row in rows("chapter_seeds.csv"):
        found[int(row["epoch"])].append(float(row["judged"]))
    return found


def run_with(perplexities):
    """A run of the chapter with these figures, by epoch, and the book's at the others."""
    indices, vocab = d2l.load_corpus(SAMPLE_TEXT, 1000)
    run = reproduce.Run("time_machine", book.CHAPTER, 0, indices, vocab)
    for epoch in range(1, max(perplexities) + 1):
        # Between the book's epochs, what the next of them has.
        next_one = min(
            (line for line in book.PRINTED if line.epoch >= epoch), key=lambda l: l.epoch
        )
        perplexity = perplexities.get(next_one.epoch, next_one.perplexity)
        run.history.append(EpochRecord(epoch, perplexity, float(epoch), ()))
    return run


def test_ten_seeds_were_trained(figures):
    assert sorted(figures) == [line.epoch for line in book.PRINTED]
    assert all(len(perplexities) == 10 for perplexities in figures.values())


def test_bands_are_derived_from_the_seeds(figures):
    """A 99.9 % prediction interval for one more run, as ``book.BANDS`` says."""
    t = 4.781  # Student's t, 9 degrees of freedom, 0.9995
    for epoch, perplexities in figures.items():
        logs = [math.log(math.log(perplexity)) for perplexity in perplexities]
        margin = t * statistics.stdev(logs) * math.sqrt(1 + 1 / len(logs))
        middle = statistics.mean(logs)
        low, high = (math.exp(math.exp(middle + side * margin)) for side in (-1, 1))
        assert book.BANDS[epoch].low == pytest.approx(low, abs=0.001)
        assert book.BANDS[epoch].high == pytest.approx(high, abs=0.001)


def test_the_books_own_figures_lie_within_the_bands():
    for line in book.PRINTED:
        assert book.BANDS[line.epoch].contains(line.perplexity)


def test_the_originals_figures_lie_within_the_bands():
    for row in rows("original_seeds.csv"):
        assert book.BANDS[int(row["epoch"])].contains(float(row["judged"])), row


def test_unigram_perplexity_is_that_of_the_text(book_dir):
    """The least over the places where an epoch may start to read; see ``data_iter_consecutive``."""
    chapter = book.CHAPTER
    indices, _ = d2l.load_data_time_machine()
    least = math.inf
    for offset in range(chapter.num_steps):
        length = (len(indices) - offset) // chapter.batch_size
        last = (length - 1) // chapter.num_steps * chapter.num_steps
        targets = Counter()
        for row in range(chapter.batch_size):
            begin = offset + row * length
            targets.update(int(i) for i in indices[begin + 1 : begin + 1 + last])
        total = sum(targets.values())
        entropy = -sum(n / total * math.log(n / total) for n in targets.values())
        least = min(least, math.exp(entropy))
    assert least == pytest.approx(book.UNIGRAM_PERPLEXITY, abs=0.0005)


def plateau():
    """What the seeds of either library gave before they began to learn any order."""
    found = []
    for path in (RESULTS / "seeds").glob("*.json"):
        losses = json.loads(path.read_text())["losses"]
        found += [
            math.exp(statistics.mean(losses[8 * (epoch - 1) : 8 * epoch])) for epoch in range(1, 31)
        ]
    return found


def test_a_network_that_has_learnt_nothing_does_not_agree():
    found = plateau()
    assert len(found) >= 100 and statistics.median(found) == pytest.approx(19.9, abs=0.1)
    uniform = book.VOCAB_SIZE
    for epoch in book.BANDS:
        for perplexity in [*found, uniform, 19.688]:
            (row,) = book.compare({epoch: perplexity}, {epoch: 1.0})
            assert not row.agrees, (epoch, perplexity)


def test_the_perplexity_of_an_epoch_is_of_its_minibatches_mean_loss():
    losses = [float(i) for i in range(2 * book.MINIBATCHES)]
    found = book.perplexities_of_epochs(losses)
    assert found == {1: pytest.approx(math.exp(3.5)), 2: pytest.approx(math.exp(11.5))}


def test_a_figure_on_a_jump_is_judged_by_those_before_it():
    seconds = dict.fromkeys(range(1, 501), 1.0)
    curve = {**dict.fromkeys(range(1, 501), 1.03), 125: 9.0, 250: 1.06}
    for epoch in range(373, 379):  # as long as jumps are
        curve[epoch] = 3.5
        rows = {row.epoch: row for row in book.compare(curve, seconds)}
        assert rows[375].agrees, epoch
    assert (rows[375].perplexity, rows[375].comparable) == (3.5, 1.03)
    assert (rows[250].comparable, rows[500].comparable) == (1.06, 1.03)
    # One that stays there has not jumped.
    for epoch in range(360, 376):
        curve[epoch] = 3.5
    rows = {row.epoch: row for row in book.compare(curve, seconds)}
    assert not rows[375].agrees and rows[375].comparable == 3.5
    # What is no number is none in the end.
    assert not book.compare({**curve, 500: math.nan}, seconds)[-1].agrees


def test_the_seeds_jump_as_is_said():
    """The share of trainings, the height and the length that ``book.EXPECTED`` names."""
    jumped, heights, lengths = Counter(), [], []
    for path in (RESULTS / "seeds").glob("*.json"):
        losses = json.loads(path.read_text())["losses"]
        means = [statistics.mean(losses[8 * e : 8 * e + 8]) for e in range(len(losses) // 8)]
        curve = {epoch: math.exp(mean) for epoch, mean in enumerate(means, start=1)}
        high = [e for e in curve if e >= 250 and curve[e] > 1.2]
        if high:
            jumped[path.name.split("-")[0]] += 1
            heights.append(max(curve[e] for e in high))
            lengths.append(high[-1] - high[0] + 1)
            assert all(book.comparable_perplexity(curve, e) < 1.2 for e in high)
    assert set(jumped.values()) == {8, 9}
    assert min(heights) > 2 and max(heights) <= 4.4 + 0.005
    assert (min(lengths), max(lengths)) == (3, 6)


@pytest.mark.parametrize("last", [125, 500])
def test_a_verdict_on_a_plateau_says_so(last):
    figures = {line.epoch: 19.8 for line in book.PRINTED if line.epoch <= last}
    verdict = report.verdict(run_with(figures))
    assert verdict.compared and not verdict.agrees
    assert "19.800000 at epoch 125 is outside" in verdict.text
    assert verdict.text.endswith("It has not learnt more than how frequent each character is.")


def test_a_verdict_on_the_first_figure_alone_says_how_little_it_shows():
    verdict = report.verdict(run_with({125: 9.0}))
    assert verdict.agrees and verdict.text.endswith("shows only that it has begun to learn.")
    assert "begun" not in report.verdict(run_with({250: 1.05})).text


def test_what_the_bands_assume_stands_wherever_they_are_shown():
    run = run_with({500: 1.03})
    terminal, page = " ".join(report.lines(run)), report.html(run, {})
    assert book.EXPECTED in terminal
    assert book.EXPECTED in page.replace("&#x27;", "'")
    assert "normally distributed" in book.EXPECTED
    notebook = json.loads((ROOT / "notebooks/deep-rnn.ipynb").read_text(encoding="utf-8"))
    assert any(book.EXPECTED in "".join(cell["source"]) for cell in notebook["cells"])
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "the logarithm of the loss is normally distributed from seed to seed" in readme


def test_the_coverage_that_is_claimed_was_simulated():
    found = [row for row in rows("interval_coverage.csv") if row["what"].startswith("simulated")]
    normal = [float(row["coverage"]) for row in found if row["what"] == "simulated, normal"]
    skewed = [float(row["coverage"]) for row in found if row["what"] != "simulated, normal"]
    assert len(normal) == 4 and len(skewed) == 8
    assert all(share == pytest.approx(0.999, abs=0.0003) for share in normal)
    claimed = re.search(r"contain ([\d.]+) to ([\d.]+) % of further runs", book.EXPECTED).groups()
    assert claimed == tuple(f"{100 * share:.1f}" for share in (min(skewed), max(skewed)))


def test_settings_are_the_chapters():
    chapter = book.CHAPTER
    assert (chapter.num_hiddens, chapter.num_layers) == (256, 2)
    # the order of the chapter's own cell
    assert (
        chapter.num_epochs, chapter.num_steps, chapter.batch_size, chapter.lr,
        chapter.clipping_theta,
    ) == (500, 35, 32, 5, 1)  # fmt: skip
    assert chapter.prefixes == ("traveller", "time traveller")
    assert all(
        prediction.startswith(prefix) and len(prediction) == len(prefix) + 50
        for predictions in book.PREDICTIONS.values()
        for prefix, prediction in zip(chapter.prefixes, predictions)
    )


def test_compare_takes_the_epochs_that_were_reached():
    low, high = book.BANDS[250]
    rows = book.compare(
        {125: book.PRINTED[0].perplexity, 250: high + 0.001, 300: 1.0},
        {125: 20.0, 250: 50.0, 300: 60.0},
    )
    assert [(row.epoch, row.agrees) for row in rows] == [(125, True), (250, False)]
    assert [row.seconds for row in rows] == [20.0, 30.0]
    assert book.compare({1: 20.0}, {1: 0.1}) == []


@pytest.mark.parametrize("perplexity", [math.nan, math.inf, 1.0])
def test_no_band_holds_what_is_not_a_result(perplexity):
    assert not any(band.contains(perplexity) for band in book.BANDS.values())
