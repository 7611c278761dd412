"""Who may import whom."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "d2l_deeprnn"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# Modules of the package that each module may import. `_version` is open to all.
ALLOWED = {
    "_version": set(),
    "_checks": set(),
    "_copying": set(),
    "_repairs": set(),
    "_allocator": set(),
    "_mxnet": {"_copying", "_repairs"},
    "book": set(),
    "files": set(),
    "vocab": {"_checks"},
    "optimizers": {"_checks"},
    "settings": {"_checks", "book", "optimizers"},
    "checkpoint": {"files"},
    "ngram": {"_checks"},
    "unchanged": {"_mxnet"},
    "encoding": set(),
    "corpora": {"_checks", "encoding", "files", "vocab"},
    "context": {"_mxnet"},
    "provenance": {"_mxnet", "_repairs"},
    "batches": {"_checks", "_mxnet", "context"},
    "stacked": {"_checks", "_mxnet", "unchanged"},
    "model": {"_checks", "_mxnet", "stacked", "unchanged"},
    "initialize": {"_mxnet"},
    "decode": {"_mxnet", "model"},
    "evaluate": {"_checks", "_mxnet", "context"},
    "generate": {"_checks", "_mxnet", "context", "decode", "model", "vocab"},
    "scratch": {"_checks", "_mxnet", "context"},
    "convert": {"_checks", "_mxnet", "scratch"},
    "deepgates": {"_checks", "_mxnet", "scratch"},
    "predict": {"_checks", "_mxnet", "batches", "context", "decode", "model", "vocab"},
    "flat": {"_mxnet", "model"},
    "losses": {"_mxnet"},
    "train": {
        "_allocator",
        "_checks",
        "_mxnet",
        "batches",
        "context",
        "flat",
        "losses",
        "model",
        "predict",
        "vocab",
    },
    "learner": {
        "_allocator",
        "_checks",
        "_mxnet",
        "batches",
        "context",
        "evaluate",
        "initialize",
        "losses",
        "model",
        "optimizers",
        "settings",
        "stacked",
        "train",
    },
    "run_directory": {"checkpoint", "corpora", "files"},
    "runs": {
        "_mxnet",
        "book",
        "checkpoint",
        "context",
        "corpora",
        "files",
        "learner",
        "model",
        "provenance",
        "run_directory",
        "settings",
        "vocab",
    },
    "console": {"files"},
    "commands": {
        "console",
        "corpora",
        "exercises",
        "exercises.texts",
        "evaluate",
        "figure",
        "files",
        "generate",
        "learner",
        "ngram",
        "report",
        "reproduce",
        "run_directory",
        "runs",
        "settings",
    },
    "figure": {"book", "files"},
    "reproduce": {
        "_mxnet",
        "book",
        "checkpoint",
        "context",
        "corpora",
        "files",
        "learner",
        "model",
        "provenance",
        "run_directory",
        "settings",
        "train",
        "vocab",
    },
    "report": {"book", "figure", "files", "reproduce"},
    "exercises.__init__": set(),
    "exercises.study": {"files", "provenance"},
    "exercises.texts": {"corpora", "vocab"},
    "exercises.training": {"context", "evaluate", "exercises.study", "learner", "settings"},
}
# The studies stand above all of it, and none knows another.
STUDIES = ["from_scratch", "gru", "more_books", "authors", "initialisation"]
ANYTHING_BUT = {
    **{
        f"exercises.{study}": {"cli", "commands", "report", "reproduce", "runs"}
        | {f"exercises.{other}" for other in STUDIES if other != study}
        for study in STUDIES
    },
    "__init__": {"cli"},
    "cli": set(),
    "__main__": set(),
}

# Modules from outside that only these may import.
RESERVED = {"mxnet": {"_mxnet"}, "matplotlib": {"figure"}, "pickle": set(), "d2l": set()}


def imports(module):
    """The modules of the package, and the top-level modules from outside, that a module imports.

    Imports inside functions and under ``TYPE_CHECKING`` count too.
    """
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ["d2l_deeprnn", *module.split(".")][: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == "d2l_deeprnn":
                inside.add(_module_of(rest))
            else:
                outside.add(top)
    return inside - {module, "_version"}, outside


def _module_of(name):
    """``predict.predict_rnn`` is in ``predict``; what is in no module is in ``__init__``."""
    while name and name not in MODULES and f"{name}.__init__" not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_table(module):
    inside, outside = imports(module)
    if module in ANYTHING_BUT:
        forbidden = inside & ANYTHING_BUT[module]
    else:
        assert module in ALLOWED, f"{module} is new: add it to the table in {Path(__file__).name}"
        forbidden = inside - ALLOWED[module]
    reserved = {name for name in outside if module not in RESERVED.get(name, {module})}
    assert not forbidden | reserved, f"{module} must not import these"


def test_the_table_names_no_module_twice():
    assert not set(ALLOWED) & set(ANYTHING_BUT)


def test_no_test_sets_itself_a_limit_of_time():
    """A machine that is busy makes no test fail: `timeout` in pyproject.toml, against what hangs,
    is the only limit."""
    limit = re.compile(r"\btimeout=\s*[\d.]|mark\.timeout\b|(?:monotonic|perf_counter)\(\).*<")
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found = limit.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.name}: {found.group()}"
