"""The committed notebooks: thin, executed from top to bottom, and without an error in them."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = {
    "deep-rnn",
    "deep-rnn-original",
    "exercise-1-from-scratch",
    "exercise-2-gru",
    "exercise-3-more-books",
    "exercise-4-authors",
    "initialisation",
}


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def test_all_are_there_and_in_the_readme():
    assert {path.stem for path in NOTEBOOKS} == NAMES
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"](notebooks/{name}.ipynb)" in readme, name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_thin_and_were_executed_in_order(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert len(source(cell).splitlines()) < 10, source(cell)
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", output


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_of_the_real_books(path):
    text = path.read_text(encoding="utf-8")
    assert "the figures are not the book" not in text
    if path.stem != "deep-rnn-original":
        assert "image/png" in text, "no picture"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    for cell in cells(path, "markdown"):
        for target in re.findall(r"\]\(([^)#]+)\)", source(cell)):
            assert target.startswith("http") or (path.parent / target).exists(), target


def test_the_chapters_cells_are_as_printed():
    """What the chapter's notebook and the control have in common is the chapter."""
    ours, theirs = (
        [source(cell) for cell in cells(ROOT / "notebooks" / f"{name}.ipynb", "code")]
        for name in ("deep-rnn", "deep-rnn-original")
    )
    assert ours[0].replace("import d2l_deeprnn as d2l", "import d2l") == theirs[1]
    assert ours[1] == theirs[2]
    assert ours[2].replace("history = ", "") == theirs[3].replace(
        "d2l_deeprnn.set_seed", "d2l.set_seed"
    )


@pytest.mark.parametrize("number", ["1", "2", "3", "4", "initialisation"])
def test_the_answer_is_what_the_rows_say(number):
    """The committed output of the last cell follows from the committed rows."""
    import importlib

    from d2l_deeprnn.evidence import records
    from d2l_deeprnn.exercises import EXERCISES

    module = importlib.import_module(f"d2l_deeprnn.exercises.{EXERCISES[number]}")
    (path,) = [p for p in NOTEBOOKS if p.stem.startswith((f"exercise-{number}", number))]
    answer = module.answer(records.read_files(module.FILES, ROOT / "results" / "exercises"))
    shown = "".join("".join(o.get("text", "")) for o in cells(path, "code")[-1]["outputs"])
    assert answer.split() == shown.split()
