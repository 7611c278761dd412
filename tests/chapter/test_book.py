"""The chapter as data, and the comparison of a run with the book."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn.chapter import book, report, reproduce
from d2l_deeprnn.chapter.bands import Band
from d2l_deeprnn.chapter.train import EpochRecord

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


def rows(name):
    with open(RESULTS / name, newline="") as file:
        return list(csv.DictReader(file))


def curves():
    """Yield a library and the perplexities of each recorded training, by epoch."""
    for path in (RESULTS / "seeds").glob("*.json"):
        losses = json.loads(path.read_text())["losses"]
        yield path.name.split("-")[0], book.perplexities_of_epochs(losses)


def run_with(perplexities, training=book.BOOK):
    """Return a run with these perplexities, and the printed ones at other epochs."""
    # The first losses of this seed are not known.
    run = reproduce.Run(dataclasses.replace(training.train_settings(), seed=99))
    for epoch in range(1, max(perplexities) + 1):
        line = next(line for line in training.printed if line.epoch >= epoch)
        perplexity = perplexities.get(line.epoch, line.perplexity)
        run.history.append(EpochRecord(epoch, perplexity, float(epoch), ()))
    return run


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
        for predictions in book.BOOK.predictions.values()
        for prefix, prediction in zip(chapter.prefixes, predictions)
    )


def test_settings_of_the_lecture_are_those_of_the_prose():
    lecture = book.LECTURE.settings
    assert (lecture.num_epochs, lecture.lr, lecture.clipping_theta) == (3000, 100, 0.01)
    same = dataclasses.replace(lecture, num_epochs=500, lr=5, clipping_theta=1)
    assert same == book.CHAPTER
    assert [line.epoch for line in book.LECTURE.printed] == list(book.LECTURE.predictions)
    for predictions in book.LECTURE.predictions.values():
        for prefix, prediction in zip(lecture.prefixes, predictions):
            assert prediction.startswith(prefix) and len(prediction) == len(prefix) + 50
    # The longest step of an update is lr * clipping_theta.
    assert lecture.lr * lecture.clipping_theta == 1
    assert book.CHAPTER.lr * book.CHAPTER.clipping_theta == 5


@pytest.mark.parametrize("training", book.TRAININGS.values(), ids=book.TRAININGS)
def test_the_settings_of_a_run_tell_which_training_it_repeats(training):
    settings = training.train_settings()
    assert book.training_with(settings) is training
    other = {"seed": 3, "num_epochs": 7, "corpus": ("mine.txt",), "encoding": "cp1252"}
    assert book.training_with(dataclasses.replace(settings, **other)) is training
    assert book.training_with(dataclasses.replace(settings, lr=7)) is None
    assert training.other_settings(dataclasses.replace(settings, lr=7)) == ["lr"]


# Bands.


@pytest.mark.parametrize("training", book.TRAININGS.values(), ids=book.TRAININGS)
def test_bands_are_prediction_intervals_from_both_libraries(training):
    names = {
        "chapter": ("chapter_seeds.csv", "original_seeds.csv"),
        "lecture": ("lecture_seeds.csv", "lecture_original_seeds.csv"),
    }[training.name]
    if not all((RESULTS / name).exists() for name in names):
        assert not training.bands
        return
    perplexities = defaultdict(list)
    for row in (row for name in names for row in rows(name)):
        perplexities[int(row["epoch"])].append(float(row["judged"]))
    assert sorted(perplexities) == [line.epoch for line in training.printed]
    t = 3.8834  # Student's t, 19 degrees of freedom, 0.9995
    for epoch, values in perplexities.items():
        logs = [math.log(math.log(value)) for value in values]
        assert len(logs) == 20
        margin = t * statistics.stdev(logs) * math.sqrt(1 + 1 / len(logs))
        ends = [math.exp(math.exp(statistics.mean(logs) + side * margin)) for side in (-1, 1)]
        assert training.bands[epoch] == pytest.approx(ends, abs=0.001)


def test_bands_contain_the_book_and_the_original_library():
    for line in book.BOOK.printed:
        assert book.BOOK.bands[line.epoch].contains(line.perplexity)
    for row in rows("original_seeds.csv"):
        assert book.BOOK.bands[int(row["epoch"])].contains(float(row["judged"])), row


def test_the_claimed_coverage_was_simulated():
    simulated = [row for row in rows("interval_coverage.csv") if row["what"].startswith("simula")]
    normal = [float(row["coverage"]) for row in simulated if row["what"] == "simulated, normal"]
    skewed = [float(row["coverage"]) for row in simulated if row["what"] != "simulated, normal"]
    assert len(normal) == 4 and len(skewed) == 8
    assert all(share == pytest.approx(0.999, abs=0.0003) for share in normal)
    assert min(skewed) > 0.98
    at_any = {row["what"]: row for row in rows("interval_coverage.csv") if row["epochs"] == "any"}
    assert float(at_any["left out"]["coverage"]) == 1
    # "of a hundred right runs, a few are outside one"
    assert 0.92 < float(at_any["halves"]["coverage"]) < 0.98
    assert "of a hundred right runs, a few are outside one" in book.BOOK.expected


def test_first_losses_are_those_of_both_libraries():
    assert list(book.BOOK.first_losses) == list(range(10))
    for seed, known in book.BOOK.first_losses.items():
        for library in ("ours", "original"):
            losses = json.loads((RESULTS / "seeds" / f"{library}-{seed}.json").read_text())[
                "losses"
            ]
            measured = book.perplexities_of_epochs(losses[: len(known) * book.MINIBATCHES])
            assert len(measured) == len(known) == 12
            assert book.first_difference(known, measured) is None
            late = {epoch + 1: value for epoch, value in measured.items()}  # a counter one too high
            assert book.first_difference(known, late)[0] == 2
            measured[7] *= 1.001
            assert book.first_difference(known, measured)[0] == 7
            measured[3] = math.nan
            assert book.first_difference(known, measured)[0] == 3


def test_the_unigram_perplexity_is_that_of_the_text(book_dir):
    """The minimum over the positions at which an epoch may start; see ``data_iter_consecutive``."""
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


def test_a_network_that_has_learnt_nothing_does_not_agree():
    plateau = [curve[epoch] for _, curve in curves() for epoch in range(1, 31)]
    assert len(plateau) >= 100 and statistics.median(plateau) == pytest.approx(19.9, abs=0.1)
    for epoch in book.BOOK.bands:
        for perplexity in [*plateau, book.VOCAB_SIZE, 19.688, math.nan, math.inf, 1.0]:
            (row,) = book.BOOK.compare({epoch: perplexity}, {epoch: 1.0})
            assert not row.agrees, (epoch, perplexity)


def test_the_bands_are_explained_wherever_they_are_shown():
    run = run_with({500: 1.03})
    page = report.html(run, {})
    assert book.BOOK.expected in page.replace("&#39;", "'") and "bar: expected range" in page
    assert "The lecture" not in page  # only runs with its settings are compared with it
    assert "normally distributed" in book.BOOK.expected
    notebook = json.loads((ROOT / "notebooks/deep-rnn.ipynb").read_text(encoding="utf-8"))
    assert any(book.BOOK.expected in "".join(cell["source"]) for cell in notebook["cells"])
    readme = " ".join((ROOT / "results/README.md").read_text(encoding="utf-8").split())
    assert "the logarithm of the loss is normally distributed from seed to seed" in readme


# Comparing.


def test_the_perplexity_of_an_epoch_is_of_its_minibatches_mean_loss():
    losses = [float(i) for i in range(2 * book.MINIBATCHES)]
    perplexities = book.perplexities_of_epochs(losses)
    assert perplexities == {1: pytest.approx(math.exp(3.5)), 2: pytest.approx(math.exp(11.5))}


def test_compare_takes_the_epochs_that_were_reached():
    low, high = book.BOOK.bands[250]
    rows = book.BOOK.compare(
        {125: book.BOOK.printed[0].perplexity, 250: high + 0.001, 300: 1.0},
        {125: 20.0, 250: 50.0, 300: 60.0},
    )
    assert [(row.epoch, row.agrees) for row in rows] == [(125, True), (250, False)]
    assert [row.seconds for row in rows] == [20.0, 30.0]
    assert book.BOOK.compare({1: 20.0}, {1: 0.1}) == []


def test_an_epoch_on_a_jump_is_judged_by_those_before_it():
    seconds = dict.fromkeys(range(1, 501), 1.0)
    curve = {**dict.fromkeys(range(1, 501), 1.03), 125: 9.0, 250: 1.06}
    for epoch in range(373, 379):  # as long as jumps are
        curve[epoch] = 3.5
        rows = {row.epoch: row for row in book.BOOK.compare(curve, seconds)}
        assert rows[375].agrees, epoch
    assert (rows[375].perplexity, rows[375].comparable) == (3.5, 1.03)
    assert (rows[250].comparable, rows[500].comparable) == (1.06, 1.03)
    # A run that stays there has not jumped.
    curve.update(dict.fromkeys(range(360, 376), 3.5))
    rows = {row.epoch: row for row in book.BOOK.compare(curve, seconds)}
    assert not rows[375].agrees and rows[375].comparable == 3.5
    # NaN at the last epoch is not a jump.
    assert not book.BOOK.compare({**curve, 500: math.nan}, seconds)[-1].agrees


def test_the_recorded_trainings_jump_as_described():
    """The share of trainings, the height and the length that ``book.BOOK.expected`` names."""
    jumped, heights, lengths = Counter(), [], []
    for library, curve in curves():
        high = [epoch for epoch in curve if epoch >= 250 and curve[epoch] > 1.2]
        if high:
            jumped[library] += 1
            heights.append(max(curve[epoch] for epoch in high))
            lengths.append(high[-1] - high[0] + 1)
            assert all(book.comparable_perplexity(curve, epoch) < 1.2 for epoch in high)
    assert set(jumped.values()) == {8, 9}
    assert min(heights) > 2 and max(heights) <= 4.4 + 0.005
    assert max(lengths) < 10


def test_without_bands_values_are_shown_side_by_side_and_nothing_is_judged(monkeypatch):
    unmeasured = dataclasses.replace(book.LECTURE, bands={})
    monkeypatch.setitem(book.TRAININGS, "lecture", unmeasured)
    run = run_with({500: 1.039500, 1000: 3.0}, unmeasured)
    verdict, page = report.verdict(run), report.html(run, {})
    table = report.table(run)
    assert verdict.agrees is None and "has not been measured" in verdict.text
    assert table.rows[0] == ["500", "1.0282", "1.0395", "+0.0113"]
    assert "agrees" not in table.columns
    assert "Expected:" not in page
    assert verdict.text in page.replace("&#39;", "'")
    assert "--settings lecture" in page and "printed in the lecture" in page


def test_with_bands_the_lecture_is_judged_like_the_book(monkeypatch):
    bands = {line.epoch: Band(1.0100, 1.0303) for line in book.LECTURE.printed}
    measured = dataclasses.replace(book.LECTURE, bands=bands)
    monkeypatch.setitem(book.TRAININGS, "lecture", measured)
    verdict = report.verdict(run_with({500: 1.02}, measured))
    assert verdict == (
        True,
        "This run agrees with the lecture: its value is in the expected range.",
    )
    run = run_with({500: 1.0395}, measured)
    verdict = report.verdict(run)
    outside = "1.039500 at epoch 500 is outside 1.0100 to 1.0303"
    assert verdict == (False, f"This run does not agree with the lecture: {outside}.")
    assert book.LECTURE.expected in report.html(run, {})


@pytest.mark.parametrize("last", [125, 500])
def test_a_verdict_on_a_plateau_says_so(last):
    verdict = report.verdict(
        run_with({line.epoch: 19.8 for line in book.BOOK.printed if line.epoch <= last})
    )
    assert verdict.agrees is False
    assert "19.800000 at epoch 125 is outside" in verdict.text
    assert verdict.text.endswith("It has learnt no more than character frequencies.")


def test_a_verdict_without_the_last_predictions_says_so():
    """They are missing if `train` went to another number of epochs."""
    run = run_with({500: 1.02})
    message = " It made no predictions after epoch 500, so none were compared."
    assert report.verdict(run).agrees and report.verdict(run).text.endswith(message)
    run.history[-1] = run.history[-1]._replace(predictions=book.BOOK.predictions[500])
    assert report.verdict(run).agrees and message not in report.verdict(run).text
    assert message not in report.verdict(run_with({250: 1.05})).text


def test_a_verdict_on_the_first_epoch_alone_says_how_little_it_shows():
    verdict = report.verdict(run_with({125: 9.0}))
    assert verdict.agrees and verdict.text.endswith("shows only that it has started to learn.")
    assert "started" not in report.verdict(run_with({250: 1.05})).text
