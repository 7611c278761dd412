"""The pictures in results/ and in the notebooks: drawn from their rows, and readable."""

from __future__ import annotations

import importlib
import re
import runpy
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from d2l_deeprnn.chapter import report
from d2l_deeprnn.chapter.book import BOOK
from d2l_deeprnn.evidence.figures import to_svg
from d2l_deeprnn.evidence.records import read_files
from d2l_deeprnn.exercises import EXERCISES

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "pictures.py"))
QUANTITIES = ("perplexity", "milliseconds per minibatch", "seconds", "characters per second")
QUANTITIES += ("epochs to", "standard deviation", "per 1,000", "times as fast", "nats")
DRAWN = SCRIPT["pictures"](ROOT / "results")


def of_exercises():
    for name in EXERCISES.values():
        module = importlib.import_module(f"d2l_deeprnn.exercises.{name}")
        yield from module.figures(read_files(module.FILES, ROOT / "results" / "exercises")).items()


@pytest.fixture(scope="module")
def pictures():
    found = {path.relative_to(ROOT).as_posix(): draw() for path, draw in DRAWN.items()}
    found.update(of_exercises())
    for picture in found.values():
        FigureCanvasAgg(picture).draw()  # which gives everything its place
    return found


def test_all_are_there():
    assert set(DRAWN) == set((ROOT / "results").glob("**/*.svg")), "run: make results"
    contests = {
        path.stem for path in (ROOT / "benchmarks").glob("*.py") if "CONTEST = " in path.read_text()
    }
    assert contests <= set(SCRIPT["BENCHMARKS"].values())


def parts(svg):
    """The words and the numbers of a picture."""
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", svg)]
    return re.findall(r"<!-- (.*?) -->", svg), numbers


@pytest.mark.parametrize("path", DRAWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_drawing_again_changes_nothing(path):
    there, again = path.read_text(encoding="utf-8"), to_svg(DRAWN[path]())
    if f"Matplotlib v{matplotlib.__version__}," not in there:
        pytest.skip("drawn by another version of matplotlib, which sets its letters otherwise")
    (words, numbers), (words_again, numbers_again) = (
        parts(svg[svg.index("<metadata>") :]) for svg in (there, again)
    )
    assert words_again == words, "run: make results"
    np.testing.assert_allclose(numbers_again, numbers, atol=0.01)


def written(picture):
    """Return the texts in a picture, except legends, and their boxes."""
    renderer = picture.canvas.get_renderer()
    for text in picture.texts:
        yield text.get_text(), text.get_window_extent(renderer)
    for axes in picture.axes:
        texts = [axes.title, axes._left_title, *axes.texts]
        for axis in (axis for axis in (axes.xaxis, axes.yaxis) if axis.get_visible()):
            texts.append(axis.label)
            low, high = sorted(axis.get_view_interval())
            for minor in (False, True):
                ticks = zip(axis.get_ticklocs(minor=minor), axis.get_ticklabels(minor=minor))
                texts += [label for place, label in ticks if low <= place <= high]
        for text in texts:
            if text.get_visible() and text.get_text():
                # without the arrow of an annotation
                yield text.get_text(), Text.get_window_extent(text, renderer)


def test_no_words_lie_on_others_or_leave_the_picture(pictures):
    for name, picture in pictures.items():
        shown = list(written(picture))
        for (one, its), (other, others) in combinations(shown, 2):
            assert not its.overlaps(others), f"{name}: {one} and {other}"
        width, height = picture.canvas.get_width_height()
        for words, box in shown:
            assert box.x0 >= 0 and box.y0 >= 0, f"{name}: {words}"
            assert box.x1 <= width and box.y1 <= height, f"{name}: {words}"


def test_all_fit_on_a_page_and_name_what_they_show(pictures):
    for name, picture in pictures.items():
        assert picture.get_figwidth() <= 8.5, name
        axes = [axis for axes in picture.axes for axis in (axes.xaxis, axes.yaxis)]
        labels = " ".join(axis.get_label_text() for axis in axes)
        assert any(quantity in labels for quantity in QUANTITIES), name
        assert "value" not in labels.split(), name
        assert picture.heading and picture.alt.startswith(picture.heading[:20]), name
        assert not any(axes.get_legend() for axes in picture.axes), name


def test_the_books_last_perplexity_is_a_line_where_it_is_the_goal(pictures):
    (axes,) = pictures["initialisation_fast"].axes
    goal = {BOOK.printed[-1].perplexity}
    levels = [line for line in axes.get_lines() if set(line.get_ydata()) == goal]
    assert len(levels) == 1
    assert "the book's last, 1.036" in [words.get_text() for words in axes.texts]


def test_between_characters_there_is_no_line(pictures):
    (axes,) = pictures["exercise_4_characters"].axes
    assert {line.get_linestyle() for line in axes.get_lines()} == {"None"}


def test_the_other_seeds_of_the_reports_are_those_of_the_results():
    stored = (ROOT / "d2l_deeprnn" / report.SEEDS).read_text()
    assert stored == SCRIPT["other_seeds"](ROOT / "results"), "run: make results"


def test_nanogpts_loss_is_the_one_of_the_table():
    assert f"{SCRIPT['NANOGPT']}" in (ROOT / "scripts" / "results.py").read_text()
