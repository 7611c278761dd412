"""The notebooks for the reader: made from the solved ones, empty, and solvable."""

import ast
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "reader_notebooks.py"
READER = ROOT / "notebooks" / "reader"
NAMES = runpy.run_path(str(SCRIPT))["SOLVED"]
CHECKED = {NAMES[0]: ["two_layer_rnn", "data_iter", "grad_clipping"]}
CHECKED[NAMES[1]] = ["lstm_step", "gru_step"]


def cells(name):
    return json.loads((READER / name).read_text(encoding="utf-8"))["cells"]


def source(cell):
    return "".join(cell["source"])


def test_the_script_reproduces_them(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)
    assert {path.name for path in READER.glob("*.ipynb")} == set(NAMES)
    for name in NAMES:
        made = (tmp_path / name).read_text(encoding="utf-8")
        message = "run: python scripts/reader_notebooks.py"
        assert made == (READER / name).read_text(encoding="utf-8"), message


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_not_executed_and_have_ids_of_their_own(name):
    for cell in cells(name):
        assert not cell["metadata"] and not cell.get("outputs") and not cell.get("execution_count")
    ids = [cell["id"] for cell in cells(name)]
    assert len(set(ids)) == len(ids)
    assert "## The study" not in source(cells(name)[-1]) and "../results" not in str(cells(name))


@pytest.mark.parametrize("name", NAMES)
def test_solutions_are_folded_and_all_links_lead_somewhere(name):
    for cell in cells(name):
        text = source(cell)
        if "<details>" in text:
            # A blank line after the summary makes Markdown of what follows.
            assert text.count("</summary>\n\n") == 2 and "```python\ndef " in text
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("http") or (READER / target).exists(), target
    solved = ROOT / "notebooks" / name
    assert f"](../{solved.name})" in source(cells(name)[0])


def run(cell, names):
    """Execute a cell and return the value of its last expression."""
    tree = ast.parse(source(cell))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return last and eval(compile(ast.Expression(last.value), "cell", "eval"), names)


@pytest.mark.parametrize("name", NAMES)
def test_the_empty_functions_are_wrong_and_the_solutions_right(name):
    names, checked = {}, []
    for cell, after in zip(cells(name), cells(name)[1:]):
        if cell["id"] == "cell-check-text" or "## A small run" in source(cell):
            continue
        if source(cell).startswith("check."):
            checked.append(source(cell)[len("check.") :].partition("(")[0])
            assert re.search("None|no minibatch|No gradient", run(cell, names).message), checked
            solution = re.search(r"```python\n(.*?)```", source(after), re.DOTALL)[1]
            exec(solution, names)
            verdict = run(cell, names)
            assert verdict.right, verdict
        elif cell["cell_type"] == "code" and "train" not in source(cell):
            run(cell, names)
    assert checked == CHECKED[name]
