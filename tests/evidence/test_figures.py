"""Pictures: the same bytes for the same data, and no trouble with odd data."""

from __future__ import annotations

import io
import math
import re
import sys
from itertools import combinations
from xml.etree import ElementTree

import matplotlib.style
import numpy as np
import pytest

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
    assert "<!-- training 4.482 (1.500 nats) -->" in svg
    svg = words(figure.training_figure({name: rows, "b": rows}, note=f"so {name}" * 40))
    assert f"{shown}: training 4.482 (" in svg and f"{shown}: held out 12.18 (" in svg
    assert f"<!-- so {shown}".replace("\\n", " ") in svg and "... -->" in svg
    svg = words(figure.perplexity_figure({name: ([1, 2], [3.0, 2.0])}, title=f"on {name}"))
    assert f"{shown} -->" in svg and f"<!-- on {shown} -->" in svg
    ElementTree.fromstring(svg)  # raises where it is not XML


def test_jupyter_shows_a_picture_though_pyplot_is_not_imported():
    found, metadata = figure.perplexity_figure({"run": ([1, 2], [3.0, 2.0])})._repr_png_()
    assert found.startswith(b"\x89PNG") and metadata == {
        "width": 557,
        "alt": "Training perplexity per character by epoch. run: 3 at 1 to 2 at 2.",
    }


def test_pictures_say_in_words_what_they_show():
    rows = [{"epoch": e, "train_loss": 1.0 / e, "valid_loss": math.log(8 / e)} for e in (1, 2, 4)]
    assert figure.training_figure({"ours": rows}, marks={"book": ([4], [1.5])}).alt == (
        "Lowest perplexity: held out, 2 in epoch 4. Perplexity per character by epoch. "
        "ours: training: 2.718 at 1 to 1.284 at 4; "
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
    cells = {"1 layer": {"Xavier": np.array([[97.0, np.nan]]), "zero": np.array([[np.nan] * 2])}}
    picture = figure.heat_figure(cells, ["1", "5"], ["1"], "rate", "theta", "epochs", title="97")
    assert picture.alt == (
        "97. Epochs, by rate and theta. 1 layer, Xavier: 1 of 2 have a number, 97 to 97; "
        "1 layer, zero: 0 of 2 have a number."
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
    for text in ("GRU", "perplexity", "(number: median)", "1.500", "3.000"):
        assert f"<!-- {text} -->" in svg


def shown(axis):
    """The numbers or words beside an axis that are in sight, and where they are."""
    low, high = sorted(axis.get_view_interval())
    return {
        label.get_text(): place
        for label, place in zip(axis.get_ticklabels(), axis.get_ticklocs())
        if low <= place <= high
    }


def linear(colour):
    """Return red, green and blue of a colour as amounts of light."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return np.array([p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts])


def contrast(one, other):
    """Return the contrast of two colours, as the Web Content Accessibility Guidelines define it."""
    lights = [0.05 + linear(colour) @ (0.2126, 0.7152, 0.0722) for colour in (one, other)]
    return max(lights) / min(lights)


@pytest.mark.parametrize("page", ["#ffffff", "#111111", "#15171c"])
def test_pictures_are_readable_on_light_and_dark_pages(page):
    """JupyterLab's and the reports' pages; a picture has no background."""
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for colour in (figure.INK, figure.OTHERS, figure.PRINTED, *figure.COLOURS):
        assert contrast(colour, page) >= 3, colour
    assert contrast(figure.INK, page) >= 3.8


# How people without cones for red, green or blue see linear RGB (Machado and others, 2009).
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.mark.parametrize("vision", VISIONS)
def test_colour_blind_readers_can_tell_the_colours_of_lines_apart(vision):
    def lab(colour):
        """Return a colour in CIELAB, where 2 is a difference that is just visible."""
        seen = np.clip(VISIONS[vision] @ linear(colour), 0, 1)
        to_xyz = [[0.434, 0.376, 0.190], [0.213, 0.715, 0.072], [0.018, 0.109, 0.873]]
        x, y, z = np.cbrt(to_xyz @ seen)
        return np.array([116 * y, 500 * (x - y), 200 * (y - z)])

    dark = dict(re.findall(r'stroke: (#\w+)"\] { stroke: (#\w+)', figure.CSS))
    for colours in (figure.COLOURS, [dark.get(colour, colour) for colour in figure.COLOURS]):
        for one, other in combinations(map(lab, colours), 2):
            assert np.linalg.norm(one - other) > 10


def test_a_file_has_stronger_colours_and_the_background_that_they_need(tmp_path):
    with matplotlib.rc_context({"figure.facecolor": "red", "savefig.facecolor": "red"}):
        picture = figure.perplexity_figure({"run": ([1, 2], [3.0, 2.0])})
        figure.save_figure(picture, tmp_path / "picture.svg")
    svg = (tmp_path / "picture.svg").read_text()
    for patch in ("patch_1", "patch_2"):
        background = re.search(rf'<g id="{patch}">.*?</g>', svg, re.S)
        assert "fill: none" in background.group()
    style = re.search(r"<style>(.*?)</style>", svg, re.S).group(1)
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for part in (light, dark):
        (page,) = re.findall(r"svg { background: (#\w+) }", part)
        colours = re.findall(r": (#\w{6}) !important", part)
        assert colours and all(contrast(colour, page) >= 3 for colour in colours)
    assert contrast(page, "#000000") < 2
    drawn = svg.replace(style, "")
    for colour, property in ((figure.INK, "fill"), (figure.OURS, "stroke")):
        selector = f"{property}: {colour}"
        assert f'[style*="{selector}"]' in style and selector in drawn


PICTURES = {
    "perplexity": lambda: figure.perplexity_figure({"a": ([1, 2], [3.0, 2.0])}, title="a title"),
    "training": lambda: figure.training_figure({"a": [{"epoch": 1, "train_loss": 2.0}] * 2}),
    "lines": lambda: figure.lines_figure({"": {"a": LINE}}, "x", "y", log_x=True, log_y=True),
    "points": lambda: figure.points_figure({"": {"a": [1.0, 20.0]}}, "loss"),
    "heat": lambda: figure.heat_figure({"": {"": np.array([[1.0]])}}, ["1"], ["1"], "x", "y", "z"),
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


def labels(axes):
    return [text.get_text() for text in axes.texts]


def test_lines_are_labelled_at_their_ends():
    curve = {"seed 0": ([1, 2], [3.0, 2.0])}
    picture = figure.perplexity_figure({**curve, "seed 1": ([1, 2], [4.0, 1.0])}, title="an LSTM")
    (axes,) = picture.axes
    assert axes.get_legend() is None and picture.heading == "an LSTM"
    one, other = axes.texts
    assert (one.get_text(), one.xy, one.get_color()) == ("seed 1", (2, 1.0), figure.COLOURS[1])
    assert (other.get_text(), other.xy, other.get_color()) == ("seed 0", (2, 2.0), figure.OURS)
    # In panels, the label is in the last one; a single line needs none.
    panels = {"left": {"LSTM": LINE, "GRU": LINE}, "right": {"GRU": LINE}}
    left, right = figure.lines_figure(panels, "epoch", "loss").axes
    assert (labels(left), labels(right)) == (["LSTM", "GRU"], ["GRU"])
    panels = {
        "left": {"LSTM": LINE, "a wide GRU": LINE},
        "right": {"a wide GRU, too": LINE, "LSTM": LINE},
    }
    left, right = figure.lines_figure(panels, "epoch", "loss").axes
    assert (labels(left), labels(right)) == (["a wide GRU"], ["a wide GRU, too", "LSTM"])
    panels = {title: {"a minibatch": LINE} for title in ("width", "depth")}
    picture = figure.lines_figure(panels, ["units", "layers"], "milliseconds")
    assert not any(axes.texts for axes in picture.axes)
    assert [axes.get_xlabel() for axes in picture.axes] == ["units", "layers"]


def test_labels_of_lines_that_meet_stand_one_above_the_other():
    names = [f"line {i}" for i in range(5)]
    curves = {name: ([1, 2 + i], [3.0, 2.0]) for i, name in enumerate(names)}
    (axes,) = figure.perplexity_figure(curves).axes
    heights = {text.get_text(): text.xyann[1] for text in axes.texts}
    assert sorted(heights, key=heights.get) == names[::-1]  # the longest line is the lowest
    end = axes.transAxes.inverted().transform(axes.transData.transform((2, 2.0)))[1]
    assert min(heights.values()) == pytest.approx(end)
    gaps = np.diff(sorted(heights.values())) * axes.get_window_extent().height
    assert min(gaps) > 9 * axes.figure.dpi / 72


def test_a_long_name_leaves_room_for_the_curves():
    name = "/a/very/long/path/" * 20 + "of a run"
    (axes,) = figure.perplexity_figure({name: ([1, 2], [3.0, 2.0])}).axes
    (text,) = labels(axes)
    assert text.startswith("...") and text.endswith("of a run") and len(text) < 50


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
    for line, explained in [(LINE, True), (LINE._replace(low=(), high=()), False)]:
        svg = words(figure.lines_figure({"": {"run": line}}, "epoch", "perplexity"))
        assert ("shaded: lowest to highest -->" in svg) == explained


def test_only_few_points_have_markers():
    panels = {"": {"few": figure.Line([1, 2], [3, 1]), "many": figure.Line(range(40), range(40))}}
    (axes,) = figure.lines_figure(panels, "epoch", "perplexity").axes
    few, many = axes.get_lines()
    assert few.get_marker() == "o" and few.get_markerfacecolor() == "none"
    assert many.get_marker() == "None"


def test_what_a_picture_is_about_is_blue_and_the_others_grey():
    panels = {"": {"theirs": LINE, "ours": LINE, "goal": figure.Level(1.0)}}
    (axes,) = figure.lines_figure(panels, "epoch", "perplexity", ours=["ours"]).axes
    colours = [line.get_color() for line in axes.get_lines()]
    assert colours == [figure.OTHERS, figure.OURS, figure.INK]
    rows = {"test": {"theirs": [3.0, 2.0], "ours": [1.0], "n": [2.0]}}
    for ours in (["ours"], None):  # or the lowest
        (axes,) = figure.points_figure(rows, "loss", ours=ours).axes
        weights = {text.get_text(): text.get_weight() for text in axes.texts}
        assert weights == {"2.500": "normal", "1.000": "bold", "2.000": "normal"}
        points = [line.get_color() for line in axes.get_lines()]
        assert points == [figure.OTHERS, figure.OURS, figure.OTHERS]


def test_printed_values_are_hollow_diamonds_in_bars_of_what_is_expected():
    marks = {"printed in the book": ([2, 3], [2.0, 1.5])}
    for picture in (
        figure.perplexity_figure({"run": ([1, 2, 3], [3.0, 2.0, 1.5])}, marks=marks),
        figure.training_figure({"run": [{"epoch": 2, "train_loss": 0.7}]}, marks=marks),
    ):
        (axes,) = picture.axes
        points = axes.get_lines()[-1]
        assert (points.get_marker(), points.get_markerfacecolor()) == ("D", "none")
        assert points.get_markeredgecolor() == figure.PRINTED
        assert "printed in the book" in labels(axes)
    (axes,) = figure.perplexity_figure(
        {"run": ([1, 2], [3.0, 2.0])}, ranges=("expected", {2: (1.5, 4.0)})
    ).axes
    (bar,) = axes.collections
    np.testing.assert_array_equal(bar.get_segments(), [[[2, 1.5], [2, 4.0]]])


@pytest.mark.parametrize("last", [1, 2, 3])
def test_epochs_are_whole_numbers(last):
    curve = list(range(1, last + 1)), [2.0] * last
    (axes,) = figure.perplexity_figure({"run": curve}).axes
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks == list(range(1, last + 1))


def test_the_label_of_a_mark_near_the_right_edge_leaves_room_for_the_axes():
    name, bars = "expected range", {125: (4.0, 9.0)}
    for end in (125, 130, 150, 180, 250):
        epochs = range(1, end + 1)
        picture = figure.perplexity_figure(
            {"this run (seed 1)": (epochs, [9 - epoch / end * 4 for epoch in epochs])},
            marks={"printed in the book": ([125], [6.08])},
            ranges=(name, bars),
        )
        picture.draw_without_rendering()
        (axes,) = picture.axes
        (label,) = [text for text in axes.texts if name in text.get_text()]
        assert axes.bbox.x0 < label.get_window_extent().x0
        assert axes.bbox.width > 0.6 * picture.bbox.width


def test_marked_points_and_curves_show_their_values_under_the_mouse():
    marks = {"printed in <the> book": ([1, 2], [2.0, 1.5])}
    losses = [{"epoch": epoch, "train_loss": 0.7 / epoch} for epoch in (1, 2)]
    svg = ElementTree.fromstring(
        figure.to_svg(figure.training_figure({"run": losses}, marks=marks))
    )
    (curve, best, *points) = (title.text for title in svg.iter(f"{{{svg.tag[1:-4]}}}title"))
    assert curve.endswith(": 1.419 in the last epoch, 2")
    assert best == "training, 1.419 in epoch 2"
    assert points == [f"printed in <the> book: {y} in epoch {x}" for x, y in [(1, 2), (2, 1.5)]]


def test_other_curves_and_notes_are_drawn_without_labels():
    others, notes = [([1, 2], [3.0, 2.5])] * 2, [(1, 3.0, "a note")]
    (axes,) = figure.perplexity_figure(
        {"run": ([1, 2], [3.0, 2.0])}, others=others, notes=notes, level=(2.8, "a level")
    ).axes
    assert len(axes.get_lines()) == 4 and set(labels(axes)) == {"run", "a note", "a level"}


def test_points_have_one_axis_of_values_and_none_hides_another():
    panels = {"alone": {"one": [30.0, 30.0, 31.0], "two": [60.0, 61.0]}, "both": {"one": [90.0]}}
    first, second = figure.points_figure(panels, "loss").axes
    assert first.get_xlim() == second.get_xlim()
    assert [axes.get_xlabel() for axes in (first, second)] == ["", "loss\n(number: median)"]
    points, *_ = first.get_lines()
    assert list(points.get_xdata()) == [30.0, 30.0, 31.0] and len(set(points.get_ydata())) == 3
    medians = [bar.get_segments()[0][0][0] for bar in first.collections]
    assert medians == [30.0, 60.5]


def test_amounts_are_bars_from_zero_with_their_number():
    panels = {"alone": {"ours": [30.0, 34.94, 39.0], "theirs": [2000.0]}, "both": {"ours": [90.0]}}
    picture = figure.points_figure(panels, "milliseconds", ours=["ours"], from_zero=True)
    first, second = picture.axes
    assert [(bar.get_x(), bar.get_width()) for bar in first.patches] == [(0, 34.94), (0, 2000)]
    assert first.get_xlim()[0] == second.get_xlim()[0] == 0
    assert second.get_xlim()[1] < 100  # each panel has its scale
    assert labels(first) == ["34.9", "2,000"]


def test_a_trainings_picture_has_its_last_values_and_its_best_epoch():
    rows = [
        {"epoch": epoch, "train_loss": 2.0 / epoch, "valid_loss": valid}
        for epoch, valid in [(1, 2.0), (2, 1.5), (3, 1.75)]
    ]
    picture = figure.training_figure({"run": rows})
    (axes,) = picture.axes
    assert sorted(labels(axes)) == ["held out 5.755 (1.750 nats)", "training 1.948 (0.667 nats)"]
    assert [line.get_linestyle() for line in axes.get_lines()] == ["--", "-", "None"]
    best = axes.get_lines()[-1]
    assert list(best.get_xdata()) == [2] and best.get_ydata()[0] == pytest.approx(math.exp(1.5))
    assert picture.heading == "Lowest perplexity: held out, 4.482 in epoch 2"
    history = [{"epoch": 1, "perplexity": 3.0}]
    assert figure.training_figure({"run": rows, "other": history}).heading == ""
    alone = figure.training_figure({"run": history}).axes[0].get_lines()
    assert alone[0].get_linestyle() == "-"


def test_the_axis_of_a_training_ends_at_its_last_epoch():
    rows = [{"epoch": epoch, "train_loss": 2.0} for epoch in (1, 2, 3)]
    (axes,) = figure.training_figure({"run": rows}, num_epochs=60, title="t", note="now").axes
    assert axes.get_xlim() == (0, 60)
    (axes,) = figure.training_figure({}, num_epochs=60).axes  # before the first epoch
    assert axes.get_xlim() == (0, 60) and not axes.get_lines()


@pytest.mark.parametrize("low_is_good", [False, True])
def test_the_colours_of_a_heat_map_are_those_of_its_numbers(low_is_good):
    values = np.array([[97.0, np.nan], [195.0, 120.0]])
    picture = figure.heat_figure(
        {"": {"": values}}, ["1", "5"], ["0.1", "1"], "rate", "theta", "epochs",
        low_is_good=low_is_good,
    )  # fmt: skip
    axes, bar = picture.axes
    assert bar.get_ylim() == (97, 195)
    image = axes.get_images()[0]
    assert tuple(image.to_rgba(np.ma.masked_invalid(values))[0, 1]) == (0, 0, 0, 0)
    written = {words.get_text(): words.get_color() for words in axes.texts}
    bright, dark = ("97", "195") if low_is_good else ("195", "97")
    assert (written[bright], written[dark]) == ("black", "white")
    assert written["\N{EN DASH}"] == figure.INK


@pytest.mark.parametrize("found", [150.0, np.nan])
def test_a_heat_map_of_one_number_or_none_is_drawn(found):
    values = np.array([[found, np.nan]])
    panels = {"": {"": values}}
    picture = figure.heat_figure(panels, ["1", "5"], ["0.1"], "rate", "theta", "epochs")
    assert "<!-- \N{EN DASH} -->" in figure.to_svg(picture)


def test_a_heat_map_shows_its_numbers_and_what_is_missing():
    values = np.array([[12.0, np.nan], [150.0, 7.0]])
    grid = {"": {"one layer": values, "two layers": np.full((2, 2), np.nan)}}
    svg = words(figure.heat_figure(grid, ["1", "5"], ["0.1", "1"], "rate", "theta", "epochs"))
    for text in ("one layer", "two layers", "12", "150", "7", "rate", "theta", "epochs"):
        assert f"<!-- {text} -->" in svg
    assert svg.count("<!-- \N{EN DASH} -->") == 5
    assert svg.count("<!-- one layer -->") == 1


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
