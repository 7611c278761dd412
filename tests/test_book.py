"""The chapter as data, and the bands that a run is held against."""

from __future__ import annotations

import csv
import math
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from d2l_deeprnn import book

SEEDS = Path(__file__).parent.parent / "results" / "chapter_seeds.csv"


@pytest.fixture(scope="module")
def figures():
    """Epoch -> the perplexities of the ten seeds."""
    found = defaultdict(list)
    with open(SEEDS, newline="") as file:
        for row in csv.DictReader(file):
            found[int(row["epoch"])].append(float(row["perplexity"]))
    return found


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
        assert book.BANDS[line.epoch].holds(line.perplexity)


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
    assert not any(band.holds(perplexity) for band in book.BANDS.values())
