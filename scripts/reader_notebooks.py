"""Write the reader's notebooks: the solved ones, with the solutions folded away.

    python scripts/reader_notebooks.py [DIR]    # default: notebooks/reader

A cell with the tag ``solution`` defines one function. The reader gets an empty function in its
place, and the solution below the cell that checks it. Cells with the tag ``in-short``, the one with
the tag ``study`` and all cells after that are left out.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any, Dict, Iterator

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SOLVED = ["exercise-1-from-scratch.ipynb", "exercise-2-gru.ipynb"]
INTRODUCTION = """\
> **Your turn.** Replace each `...` with your own code, and run the cell below it. It tells you \
whether your function is right and, if not, [which mistake it has](../../docs/check.md). A hint \
and a solution are folded below it. The study and the answer are in \
[the solved notebook](../{name})."""
FOLDED = """\
<details>
<summary>A hint</summary>

{hint}

</details>
<details>
<summary>The solution</summary>

```python
{solution}
```

</details>"""

# For each function: what it returns, and a hint.
FUNCTIONS = {
    "two_layer_rnn": (
        "params: W_xh1, W_hh1, b_h1, W_xh2, W_hh2, b_h2, W_hq, b_q. state: (H1, H2).\n"
        "    Return a list with an output for each of the inputs, and the new state.",
        "Begin with the loop of the single-layer network, `for X in inputs:`. In each step, "
        "compute `H1` from `X` and the old `H1`, then `H2` from the new `H1` and the old `H2`. The "
        "products are `nd.dot(X, W_xh1)` and the like.",
    ),
    "data_iter": (
        "Yield minibatches (X, Y) of shape (batch_size, num_steps).",
        "Cut off a random number of characters at the beginning, and at the end what does not fill "
        "the rows. After `reshape((batch_size, length))`, each minibatch is a slice of columns.",
    ),
    "grad_clipping": (
        "Scale param.grad, for all params together, to a norm of at most theta, in place.",
        "Add up the squares of all gradients before you take the root. `param.grad[:] = ...` "
        "changes a gradient in place.",
    ),
    "lstm_step": (
        "i, f, o, c: (W_x, W_h, b) of the three gates and the candidate. Return the new H and C.",
        "`linear(X, H, *i)` computes what is inside the function of the input gate. Compute `C` "
        "before `H`, which reads the new one.",
    ),
    "gru_step": (
        "z, r, h: (W_x, W_h, b) of the two gates and the candidate. Return the new H.",
        "`linear(X, H, *z)` computes what is inside the function of the update gate. The candidate "
        "reads `R * H` in place of `H`.",
    ),
}


def main() -> None:
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else NOTEBOOKS / "reader"
    directory.mkdir(exist_ok=True)
    for name in SOLVED:
        notebook = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))
        notebook["cells"] = list(reader_cells(notebook["cells"], name))
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
        (directory / name).write_text(text + "\n", encoding="utf-8")


def reader_cells(cells: Any, name: str) -> Iterator[Dict[str, Any]]:
    """Yield the cells of the reader's notebook."""
    solution = ""
    for position, cell in enumerate(cells):
        source, tags = "".join(cell["source"]), cell["metadata"].pop("tags", [])
        if "study" in tags:
            return
        if "in-short" in tags:
            continue
        if cell["cell_type"] == "markdown":
            source = re.sub(r"\]\(([^)]+)\)", relink, source)
            if position == 0:
                title, _, rest = source.partition("\n\n")
                source = f"{title} (to solve)\n\n{INTRODUCTION.format(name=name)}\n\n{rest}"
            yield with_source(cell, source)
            continue
        cell.update(execution_count=None, outputs=[])
        yield with_source(cell, stub(source) if "solution" in tags else source)
        if solution:  # the cell before this one, which checks it
            function = ast.parse(solution).body[0].name
            text = FOLDED.format(hint=FUNCTIONS[function][1], solution=solution)
            folded = {"cell_type": "markdown", "id": f"{cell['id']}-solution", "metadata": {}}
            yield with_source(folded, text)
        solution = source if "solution" in tags else ""


def stub(solution: str) -> str:
    """Return the head of a solution's function, with its task in place of its body."""
    (function,) = ast.parse(solution).body
    head = "\n".join(solution.split("\n")[: function.body[0].lineno - 1])
    return f'{head}\n    """{FUNCTIONS[function.name][0]}"""\n    ...'


def relink(link: re.Match) -> str:
    """Return a link of the solved notebook as one of the reader's, which is one folder deeper."""
    target = link[1]
    if target.startswith(("http", "#")) or target in SOLVED:
        return link[0]
    return f"](../{target})"


def with_source(cell: Dict[str, Any], source: str) -> Dict[str, Any]:
    return {**cell, "source": source.splitlines(keepends=True)}


if __name__ == "__main__":
    main()
