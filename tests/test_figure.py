"""Pictures: the same bytes for the same data, and no trouble with odd data."""

from __future__ import annotations

import sys

import pytest

from d2l_deeprnn import figure


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
