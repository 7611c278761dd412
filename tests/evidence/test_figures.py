"""Pictures: the same bytes for the same data, and no trouble with odd data."""

from __future__ import annotations

import io
import math
import re
import sys
from xml.etree import ElementTree

import matplotlib.style
import numpy as np
import pytest
from matplotlib.lines import Line2D

from d2l_deeprnn.evidence import figures as figure


def test_same_picture_same_bytes():
    curves = {"run": ([1, 2, 3], [20.0, 10.0, 1.5])}
    first, second = (figure.to_svg(figure.perplexity_figure(curves)) for _ in range(2))
    assert first == second
    assert first.startswith("<svg") and "<dc:date>" not in first
    other = figure.to_svg(figure.perplexity_figure({"run": ([1, 2, 3], [20.0, 10.0, 1.6])}))
    assert other != first


@pytest.mark.parametrize(
    "perplexities", [[5.0], [float("nan"), 3.0], [float("inf")] * 2, [1.0, 1e30]]
)
def test_odd_values_can_be_drawn(perplexities):
    epochs = list(range(1, len(perplexities) + 1))
    assert "<svg" in figure.to_svg(figure.perplexity_figure({"run": (epochs, perplexities)}))


@pytest.mark.parametrize(
    "name, shown",
    [
        ("a$^$.txt", "a$^$.txt"),
        ("$", "$"),
        ("_run", "_run"),
        ("\udcff.txt", r"\udcff.txt"),
        ("two\nlines", r"two\nlines"),
        ("\x01", r"\x01"),
        ("50% #1 {x}^2 & <b>", "50% #1 {x}^2 &amp; &lt;b&gt;"),
    ],
)
def test_any_name_can_stand_in_a_picture(name, shown):
    rows = [{"epoch": 1, "train_loss": 2.0, "valid_loss": 2.5}, {"epoch": 2, "train_loss": 1.5}]
    svg = words(figure.training_figure({name: rows}))
    assert f"{shown}: training -->" in svg and f"{shown}: held out -->" in svg
    svg = words(figure.perplexity_figure({name: ([1, 2], [3.0, 2.0])}, title=f"on {name}"))
    assert f"{shown} -->" in svg and f"<!-- on {shown} -->" in svg
    ElementTree.fromstring(svg)  # raises where it is not XML


def test_jupyter_shows_a_picture_though_pyplot_is_not_imported():
    found, metadata = figure.perplexity_figure({"run": ([1, 2], [3.0, 2.0])})._repr_png_()
    assert found.startswith(b"\x89PNG") and metadata == {
        "width": 560,
        "alt": "Training perplexity per character by epoch. run: 3 at 1 to 2 at 2.",
    }


def test_pictures_say_in_words_what_they_show():
    rows = [{"epoch": e, "train_loss": 1.0 / e, "valid_loss": math.log(8 / e)} for e in (1, 2, 4)]
    assert figure.training_figure({"ours": rows}, marks={"book": ([4], [1.5])}).alt == (
        "Perplexity per character by epoch. ours: training: 2.718 at 1 to 1.284 at 4; "
        "ours: held out: 8 at 1 to 2 at 4; book: 1.5 at 4."
    )
    lost = figure.Line([1, 2, 3], [5.0, 4.0, math.nan])
    panels = {"test": {"LSTM": lost, "n-gram": figure.Level(4.5)}}
    assert figure.lines_figure(panels, "epoch", "perplexity").alt == (
        "Perplexity by epoch. test: LSTM: 5 at 1 to 4 at 2, n-gram: 4.5."
    )
    letters = {"letters": {"Wells": figure.Line([0, 1], [3.0, 7.0], style="none")}}
    assert figure.lines_figure(letters, "character", "share", xticks="ab").alt == (
        "Share by character. letters: Wells: 2 points from 3 to 7."
    )
    assert figure.points_figure({"test": {"GRU": [1.0, 2.0, 9.0], "RNN": [3.0]}}, "loss").alt == (
        "Loss, medians. test: GRU 2, RNN 3."
    )
    cells = [("Xavier\n1 layer", np.array([[97.0, np.nan]])), ("zero", np.array([[np.nan] * 2]))]
    assert figure.heat_figure([cells], ["1", "5"], ["1"], "rate", "theta", "epochs").alt == (
        "Epochs, by rate and theta. Xavier 1 layer: 1 of 2 have a number, 97 to 97; "
        "zero: 0 of 2 have a number."
    )


LINE = figure.Line([1, 10, 100], [5.0, 4.0, 3.0], [4.0, 3.0, 2.0], [6.0, 5.0, 4.0])


def words(picture):
    """All texts of a picture, which its SVG holds as comments."""
    return figure.to_svg(picture)


def test_pictures_name_axes_and_lines():
    svg = words(
        figure.lines_figure(
            {"left": {"LSTM": LINE, "GRU": LINE}, "right": {"GRU": LINE}},
            "characters trained on",
            "perplexity",
            log_x=True,
            log_y=True,
        )
    )
    for text in ("left", "right", "LSTM", "GRU", "characters trained on", "perplexity"):
        assert f"<!-- {text} -->" in svg
    svg = words(figure.points_figure({"test": {"LSTM": [1.0, 2.0], "GRU": [3.0]}}, "perplexity"))
    assert "<!-- GRU -->" in svg and "<!-- perplexity (bar: median) -->" in svg


def shown(axis):
    """The numbers or words beside an axis that are in sight, and where they are."""
    low, high = sorted(axis.get_view_interval())
    return {
        label.get_text(): place
        for label, place in zip(axis.get_ticklabels(), axis.get_ticklocs())
        if low <= place <= high
    }


def test_a_picture_has_a_light_background_of_its_own(tmp_path):
    """Its letters are dark, and the page may be."""
    with matplotlib.rc_context({"figure.facecolor": "none"}):
        picture = figure.perplexity_figure({"run": ([1, 2], [3.0, 2.0])})
        figure.save_figure(picture, tmp_path / "picture.svg")
    background = re.search(r'<g id="patch_1">.*?</g>', (tmp_path / "picture.svg").read_text(), re.S)
    assert "fill: #ffffff" in background.group() and "opacity" not in background.group()


PICTURES = {
    "perplexity": lambda: figure.perplexity_figure({"a": ([1, 2], [3.0, 2.0])}, title="a title"),
    "training": lambda: figure.training_figure({"a": [{"epoch": 1, "train_loss": 2.0}] * 2}),
    "lines": lambda: figure.lines_figure({"": {"a": LINE}}, "x", "y", log_x=True, log_y=True),
    "points": lambda: figure.points_figure({"": {"a": [1.0, 20.0]}}, "loss"),
    "heat": lambda: figure.heat_figure([[("", np.array([[1.0]]))]], ["1"], ["1"], "x", "y", "z"),
}


# TeX would have to be installed, and would set the letters otherwise.
USERS = {"text.usetex": True, "savefig.transparent": True, "font.size": 20}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_a_style_of_the_user_changes_no_picture(draw):
    expected = figure.to_svg(draw())
    with matplotlib.style.context(["dark_background", USERS]):
        assert figure.to_svg(draw()) == expected


def test_a_style_of_the_user_changes_nothing_where_a_picture_is_saved_or_shown(tmp_path):
    picture = PICTURES["perplexity"]()

    def save():
        png, jupyters = io.BytesIO(), io.BytesIO()
        picture.savefig(png, format="png")
        # Called by IPython once pyplot is imported.
        picture.canvas.print_figure(jupyters, format="png", dpi=100, bbox_inches="tight")
        figure.save_figure(picture, tmp_path / "picture.svg")
        svg = (tmp_path / "picture.svg").read_text()
        return png.getvalue(), jupyters.getvalue(), picture._repr_png_(), svg

    save()  # old versions of Matplotlib move things when a picture is first saved
    expected = save()
    with matplotlib.style.context(["dark_background", USERS]):
        assert save() == expected


def test_a_saved_picture_is_the_same_file_each_time(tmp_path):
    for name in ("first.svg", "second.svg"):
        figure.save_figure(figure.perplexity_figure({"run": ([1, 2], [3.0, 2.0])}), tmp_path / name)
    first, second = ((tmp_path / name).read_text() for name in ("first.svg", "second.svg"))
    assert first == second and "<dc:date>" not in first


def test_a_single_line_has_no_legend_but_its_name_in_the_title():
    curve = {"seed 0": ([1, 2], [3.0, 2.0])}
    (axes,) = figure.perplexity_figure(curve, title="an LSTM").axes
    assert axes.get_legend() is None and axes.get_title() == "an LSTM\nseed 0"
    (axes,) = figure.perplexity_figure({**curve, "seed 1": ([1, 2], [4.0, 2.0])}).axes
    assert len(axes.get_legend().get_texts()) == 2
    panels = {title: {"a minibatch": LINE} for title in ("width", "depth")}
    picture = figure.lines_figure(panels, ["units", "layers"], "milliseconds")
    assert not any(axes.get_legend() for axes in picture.axes)
    assert [axes.get_xlabel() for axes in picture.axes] == ["units", "layers"]


def test_there_is_no_half_epoch():
    pictures = [
        figure.perplexity_figure({"run": ([1, 2, 3], [3.0, 2.0, 1.5])}),
        figure.training_figure({"run": [{"epoch": e, "train_loss": 1 / e} for e in (1, 2)]}),
        figure.lines_figure({"": {"run": figure.Line([1, 2], [3.0, 2.0])}}, "epoch", "perplexity"),
    ]
    for picture in pictures:
        for place in shown(picture.axes[0].xaxis).values():
            assert place == int(place)


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (1.02, 36, ["1", "2", "5", "10", "20"]),
        (0.9, 1e5, ["1", "10", "100", "1,000", "10,000", "100,000"]),
        (3, 16, ["3", "5", "7", "10", "15"]),
        (3.6, 14.8, ["4", "6", "8", "10", "12", "14"]),
        (2.6, 6.6, ["3", "4", "5", "6"]),
        (0.0002, 0.5, ["0.0003", "0.001", "0.003", "0.01", "0.03", "0.1", "0.3"]),
        (1, 1e30, ["0.1", "1,000", *(f"1e+{power:02}" for power in range(7, 32, 4))]),
    ],
)
def test_a_logarithmic_axis_has_plain_numbers_that_suit_its_range(low, high, expected):
    line = figure.Line(range(20), np.geomspace(low, high, 20))
    picture = figure.lines_figure({"": {"run": line}}, "epoch", "perplexity", log_y=True)
    assert list(shown(picture.axes[0].yaxis)) == expected


def test_few_places_on_a_logarithmic_axis_are_all_named():
    line = figure.Line([16, 35, 64, 128, 1160], [1.0, 2, 3, 4, 5])
    picture = figure.lines_figure({"": {"run": line}}, "steps", "milliseconds", log_x=True)
    assert list(shown(picture.axes[0].xaxis)) == ["16", "35", "64", "128", "1,160"]


def test_a_range_is_explained_where_there_is_one():
    for lines, explained in [(LINE, True), (LINE._replace(low=(), high=()), False)]:
        picture = figure.lines_figure({"": {"run": lines}}, "epoch", "perplexity")
        words = picture.axes[0].get_ylabel()
        assert words.startswith("perplexity")
        assert ("(median; shaded: lowest to highest)" in words) == explained


def test_a_line_under_another_is_seen_at_its_markers():
    line = figure.Line(range(1, 41), np.linspace(3, 1, 40))
    panels = {"": {"LSTM": line, "GRU": line, "goal": figure.Level(1.036)}}
    (axes,) = figure.lines_figure(panels, "epoch", "perplexity").axes
    first, second, goal = axes.get_lines()
    places = [
        set(range(40)[start::step]) for start, step in map(Line2D.get_markevery, (first, second))
    ]
    assert all(len(its) > 4 for its in places) and not places[0] & places[1]
    assert {line.get_markerfacecolor() for line in (first, second)} == {"none"}
    assert first.get_marker() != second.get_marker()
    assert list(goal.get_ydata()) == [1.036] * 2 and goal.get_marker() == "None"
    assert [words.get_text() for words in axes.get_legend().get_texts()] == ["LSTM", "GRU", "goal"]
    # and a curve under the book's figures
    marks = {"book": ([2], [2.0])}
    (axes,) = figure.perplexity_figure({"run": ([1, 2], [3.0, 2.0])}, marks=marks).axes
    assert axes.get_lines()[-1].get_markerfacecolor() == "none"


def test_points_have_one_axis_of_values_and_none_hides_another():
    panels = {
        "alone": {"ours": [30.0, 30.0, 31.0], "theirs": [60.0, 61.0, 62.0]},
        "beside others": {"ours": [90.0, 95.0, 99.0]},
    }
    picture = figure.points_figure(panels, "milliseconds")
    first, second = picture.axes
    assert first.get_xlim() == second.get_xlim() and first.get_xscale() == "linear"
    assert [axes.get_xlabel() for axes in picture.axes] == ["", "milliseconds (bar: median)"]
    bar, points, *_ = first.get_lines()
    assert list(bar.get_xdata()) == [30.0, 30.0]
    assert len(set(points.get_ydata())) == 3
    # Programs have the same colour everywhere.
    assert points.get_color() == second.get_lines()[1].get_color()


def test_points_that_are_far_apart_are_on_a_logarithmic_axis():
    picture = figure.points_figure({"": {"ours": [40.0], "theirs": [2000.0]}}, "milliseconds")
    (axes,) = picture.axes
    assert axes.get_xscale() == "log"
    assert list(shown(axes.xaxis)) == ["50", "100", "200", "500", "1,000", "2,000"]


def test_a_trainings_picture_has_the_nats_of_the_tables_too():
    rows = [{"epoch": 1, "train_loss": 2.0, "valid_loss": 2.5}, {"epoch": 2, "train_loss": 1.5}]
    left, right = figure.training_figure({"run": rows}).axes
    assert left.get_ylabel() == "perplexity per character"
    assert right.get_ylabel() == "nats per character"
    np.testing.assert_allclose(np.exp(right.get_ylim()), left.get_ylim())


def test_the_colours_of_a_heat_map_are_those_of_its_numbers():
    values = np.array([[97.0, np.nan], [195.0, 120.0]])
    picture = figure.heat_figure(
        [[("", values)]], ["1", "5"], ["0.1", "1"], "rate", "theta", "epochs"
    )
    axes, bar = picture.axes
    assert bar.get_ylim() == (97, 195)
    image = axes.get_images()[0]
    assert tuple(image.to_rgba(np.ma.masked_invalid(values))[0, 1]) == (1, 1, 1, 1)
    written = {words.get_text(): words.get_color() for words in axes.texts}
    assert written == {"97": "white", "195": "black", "120": "white", "\N{EN DASH}": "black"}


@pytest.mark.parametrize("found", [150.0, np.nan])
def test_a_heat_map_of_one_number_or_none_is_drawn(found):
    values = np.array([[found, np.nan]])
    picture = figure.heat_figure([[("", values)]], ["1", "5"], ["0.1"], "rate", "theta", "epochs")
    assert "<!-- \N{EN DASH} -->" in figure.to_svg(picture)


def test_a_heat_map_shows_its_numbers_and_what_is_missing():
    values = np.array([[12.0, np.nan], [150.0, 7.0]])
    grid = [[("one layer", values), ("two layers", np.full((2, 2), np.nan))]]
    svg = words(figure.heat_figure(grid, ["1", "5"], ["0.1", "1"], "rate", "theta", "epochs"))
    for text in ("one layer", "two layers", "12", "150", "7", "rate", "theta", "epochs"):
        assert f"<!-- {text} -->" in svg
    assert svg.count("<!-- \N{EN DASH} -->") == 5


def test_use_svg_display_sets_what_jupyter_shows(monkeypatch):
    pytest.importorskip("matplotlib_inline")
    from matplotlib_inline import backend_inline

    formats = []
    monkeypatch.setattr(backend_inline, "set_matplotlib_formats", formats.append)
    figure.use_svg_display()
    assert formats == ["svg"]


def test_use_svg_display_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib_inline.backend_inline", None)
    with pytest.raises(ImportError, match=r"needs Jupyter: pip install 'd2l_deeprnn\[notebooks\]'"):
        figure.use_svg_display()
