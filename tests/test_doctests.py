"""The examples in the docstrings of the public names: they are there, and they run."""

from __future__ import annotations

import doctest

import pytest

import d2l_deeprnn as d2l

# README, docs and notebooks show these at work: they need the book's text, a run, or Jupyter.
WITHOUT = {"load_data_time_machine", "load_run", "use_svg_display", "export_run", "import_run"}
NEEDS = {"export_model": "safetensors", "import_model": "safetensors"}
NAMES = sorted(set(d2l.__all__) - WITHOUT - {"__version__"})


@pytest.mark.parametrize("name", NAMES)
def test_the_example_runs(name, capsys):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"needs the extra {NEEDS[name]!r}")
    found = {
        test.name: test  # that of a class, and those of its methods
        for test in doctest.DocTestFinder().find(getattr(d2l, name), name, globs={})
        if test.examples
    }
    assert name in found
    for test in found.values():
        failures, _ = doctest.DocTestRunner().run(test)
        assert not failures, capsys.readouterr().out


def test_names_without_an_example_are_public():
    assert set(d2l.__all__) > WITHOUT
