"""The committed notebooks: thin, executed from top to bottom, and without an error in them."""

import importlib
import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from d2l_deeprnn.evidence.records import read_files, read_rows
from d2l_deeprnn.exercises import EXERCISES

ROOT = Path(__file__).parents[1]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STUDIES = {
    name: importlib.import_module(f"d2l_deeprnn.exercises.{module}")
    for name, module in EXERCISES.items()
}


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def test_all_are_there_and_in_the_readme():
    notebooks = {path.name for path in PATHS}
    exercises = {study.NOTEBOOK for study in STUDIES.values()}
    assert notebooks == {"deep-rnn.ipynb", "deep-rnn-original.ipynb"} | exercises
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in notebooks:
        assert f"](notebooks/{name})" in readme, name


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_cells_are_thin_and_were_executed_in_order(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert len(source(cell).splitlines()) < 10, source(cell)
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", output


def test_the_picture_of_the_network_suits_light_and_dark_pages():
    path = ROOT / "notebooks" / "network.svg"
    svg = ElementTree.parse(path).getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert svg.find(f"{space}title").text and svg.find(f"{space}desc").text
    light, dark = svg.find(f"{space}style").text.split("@media (prefers-color-scheme: dark)")
    coloured = [
        {
            (name.strip(), kind)
            for names, rules in re.findall(r"([^{}]+)\{([^{}]+)\}", style)
            for name in names.split(",")
            for kind in re.findall(r"(fill|stroke): #", rules)
        }
        for style in (light, dark.lstrip(" {"))
    ]
    assert coloured[0] == coloured[1] and (".background", "fill") in coloured[0]
    for page in ("README.md", "notebooks/deep-rnn.ipynb"):
        assert "network.svg)" in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_outputs_are_of_the_real_books(path):
    text = path.read_text(encoding="utf-8")
    assert "This is a sample text" not in text
    if path.stem != "deep-rnn-original":
        assert "image/png" in text, "no picture"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_outputs_are_shown_everywhere_and_to_everybody(path):
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            assert not any("widget" in kind for kind in output.get("data", {}))  # need a kernel
            words = "".join(output.get("text", []))
            assert not re.search(r"\r|/(?:tmp|home|root|Users|site-packages)/", words), words
            if path.stem != "deep-rnn-original" and "image/png" in output.get("data", {}):
                assert output["metadata"]["image/png"]["alt"].endswith("."), source(cell)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_trainings_are_drawn_in_one_picture_while_they_run(path):
    live = [cell for cell in cells(path, "code") if "LivePlot(" in source(cell)]
    assert len(live) == (path.stem != "deep-rnn-original")
    for cell in live:
        # In the chapter's notebook, the training is the next cell.
        training = cell if path.stem != "deep-rnn" else cells(path, "code")[3]
        kinds = [output["output_type"] for output in training["outputs"]]
        assert kinds.count("display_data") == 1 and set(kinds) <= {"display_data", "stream"}
        (picture,) = (o for o in training["outputs"] if o["output_type"] == "display_data")
        assert " to " in picture["metadata"]["image/png"]["alt"]  # from its first epoch to its last


@pytest.mark.parametrize("name", STUDIES)
def test_exercises_go_from_equations_and_code_to_a_live_run_and_the_study(name):
    path = ROOT / "notebooks" / STUDIES[name].NOTEBOOK
    notebook = json.loads(path.read_text(encoding="utf-8"))
    text = "\n".join(source(cell) for cell in notebook["cells"])
    steps = [
        "\n**In short.** ",
        "read_files(",
        "\nfigures[",
        "## The equations",
        "$$",
        "## The code",
    ]
    steps += ["## A small run, live", "LivePlot(", "--quick", "## The answer"]
    places = [text.find(step) for step in steps]
    assert places == sorted(places) and places[0] > 0, dict(zip(steps, places))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    for cell in cells(path, "markdown"):
        for target in re.findall(r"\]\(([^)#]+)\)", source(cell)):
            assert target.startswith("http") or (path.parent / target).exists(), target


def test_the_chapters_cells_are_as_printed():
    """The chapter's notebook and the control have the chapter's cells in common."""
    ours, theirs = (
        [source(cell) for cell in cells(ROOT / "notebooks" / f"{name}.ipynb", "code")]
        for name in ("deep-rnn", "deep-rnn-original")
    )
    assert ours[0].replace("import d2l_deeprnn as d2l", "import d2l") == theirs[1]
    assert ours[1] == theirs[2]
    assert "LivePlot" in ours[2]  # the cell of ours that has the next one draw
    assert ours[3].replace("history = ", "") == theirs[3].replace(
        "d2l_deeprnn.set_seed", "d2l.set_seed"
    )


@pytest.mark.parametrize("name", STUDIES)
def test_figures_in_the_answer_are_those_of_the_tables(name):
    """A person writes the answer; a figure with a decimal point is taken from a table."""
    study = STUDIES[name]
    rows = read_files(study.FILES, ROOT / "results" / "exercises")
    tables = " ".join(str(table) for table in study.tables(rows))
    if name == "3":  # the notebook makes a further table, and names the chapter's perplexity
        counted = read_rows(ROOT / "results" / "counting.csv")
        tables += " 1.03 " + " ".join(f"{math.exp(row['nats']):.3f}" for row in counted)
    last = source(cells(ROOT / "notebooks" / study.NOTEBOOK, "markdown")[-1])
    assert last.startswith("## The answer\n\n")
    figures = re.findall(r"\d+\.\d+(?:e-\d+)?", last)
    missing = [figure for figure in figures if not re.search(rf"\b{figure}\b", tables)]
    assert len(figures) >= 3 and not missing


@pytest.mark.parametrize("name", STUDIES)
def test_the_short_answer_has_figures_of_the_answer_and_a_plot(name):
    path = ROOT / "notebooks" / STUDIES[name].NOTEBOOK
    short, answer = (source(cells(path, "markdown")[i]) for i in (1, -1))
    figures = re.findall(r"\d+(?:\.\d+)?", short.replace("Normal(0.01)", ""))
    assert len(figures) >= 3
    assert [figure for figure in figures if not re.search(rf"\b{figure}\b", answer)] == []
    assert "image/png" in cells(path, "code")[0]["outputs"][0]["data"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_code_that_only_shows_a_table_or_a_plot_is_hidden(path):
    for cell in cells(path, "code"):
        if re.fullmatch(r"(tables|figures)\[[^\n]*\]", source(cell)):
            assert cell["metadata"]["tags"] == ["remove-input"]  # on the site
            assert cell["metadata"]["jupyter"] == {"source_hidden": True}


@pytest.mark.parametrize("name", STUDIES)
def test_the_tables_shown_are_those_of_the_rows(name):
    study = STUDIES[name]
    rows = read_files(study.FILES, ROOT / "results" / "exercises")
    outputs = [
        "".join(output.get("data", {}).get("text/plain", []))
        for cell in cells(ROOT / "notebooks" / study.NOTEBOOK, "code")
        for output in cell["outputs"]
    ]
    shown = [output for output in outputs if output.startswith("Table(")]
    assert [table.title for table in study.tables(rows) if repr(table) not in shown] == []
