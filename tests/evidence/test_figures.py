"""Pictures: the same bytes for the same data, and no trouble with odd data."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

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
    assert f"{shown}: training -->" in svg and f"{shown}: held out -->" in svg
    svg = words(figure.perplexity_figure({name: ([1, 2], [3.0, 2.0])}, title=f"on {name}"))
    assert f"{shown} -->" in svg and f"<!-- on {shown} -->" in svg
    ElementTree.fromstring(svg)  # raises where it is not XML


def test_jupyter_shows_a_picture_though_pyplot_is_not_imported():
    found, metadata = figure.perplexity_figure({"run": ([1, 2], [3.0, 2.0])})._repr_png_()
    assert found.startswith(b"\x89PNG") and metadata == {"width": 560}


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
            yticks=(3, 5),
        )
    )
    for text in ("left", "right", "LSTM", "GRU", "characters trained on", "perplexity"):
        assert f"<!-- {text} -->" in svg
    svg = words(figure.points_figure({"test": {"LSTM": [1.0, 2.0], "GRU": [3.0]}}, "perplexity"))
    assert "<!-- GRU -->" in svg and "<!-- perplexity -->" in svg


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
