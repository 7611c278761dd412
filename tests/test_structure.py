"""Who may import whom."""

import ast
import re
from pathlib import Path

from d2l_deeprnn.exercises import EXERCISES

PACKAGE = Path(__file__).parents[1] / "d2l_deeprnn"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# The rooms, floor by floor. A module may import from its own room and from the rooms of lower
# floors: what is general knows nothing of what is special.
FLOORS = [
    {"_version", "errors"},
    {"_checks", "_mistakes", "_perplexity", "files"},
    {"_mxnet"},
    {"evidence"},
    {"text", "nn"},
    {"training", "generation"},
    {"export"},
    {"chapter"},
    {"exercises", "check"},
    {"cli"},
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
DOORS = {"__init__", "__main__"}  # through which users come in: they show names of all rooms
# Modules from outside that only these rooms or modules may import.
RESERVED = {"mxnet": "_mxnet", "matplotlib": "evidence.figures", "pickle": None, "d2l": None}
RESERVED.update(onnx="export.onnx", onnxruntime="export.onnx", safetensors="export.safetensors")
RESERVED.update(tensorboardX="training.tensorboard", torch=None, chardet="text.encoding")


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


def room(module):
    return module.partition(".")[0]


def test_general_never_imports_special():
    for module in sorted(set(MODULES) - DOORS):
        assert room(module) in FLOOR_OF, f"{room(module)} is a new room: give it a floor"
        inside, outside = imports(module)
        below = {name for name, floor in FLOOR_OF.items() if floor < FLOOR_OF[room(module)]}
        if module in ("cli.__init__", "evidence.provenance"):  # they show the version
            below.add("__init__")
        wrong = {other for other in inside if room(other) not in below | {room(module)}}
        assert not wrong, f"{module} must not import these"
        for name in outside & set(RESERVED):
            place = RESERVED[name]
            assert place and module.startswith(place), f"{module} must not import {name}"


def test_what_only_some_have_is_imported_where_it_is_used():
    for module in "export.onnx", "export.safetensors", "training.tensorboard":
        tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        inside = {id(node) for function in functions for node in ast.walk(function)}
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                tops = {name.partition(".")[0] for name in names}
                wanted = {"onnx", "onnxruntime", "safetensors", "tensorboardX"}
                assert id(node) in inside or not tops & wanted, f"{module}, line {node.lineno}"


def test_no_other_room_looks_inside_mxnets_objects():
    """Nor inside other objects, but for what named tuples call with an underscore.

    The fast path is an exception: one file that a reader can skip.
    """
    public = {"_replace", "_make", "_fields"}
    nodes = [
        (module, node)
        for module in MODULES
        if room(module) != "_mxnet" and module != "nn.fast"
        for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    ]
    for module, node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            own = node.value.id in ("self", "cls", "os")  # os._exit is public
        else:
            own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call)
        name = node.attr if isinstance(node, ast.Attribute) and not own else ""
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
            name = getattr(node.args[1], "value", "")
        private = str(name).startswith("_") and not str(name).startswith("__")
        assert not private or name in public, f"{module}, line {node.lineno}: {name}"


def test_a_study_imports_no_other_study_and_training_only_through_one_module():
    studies = {f"exercises.{name}" for name in EXERCISES.values()}
    for module in MODULES:
        if room(module) == "exercises" and module != "exercises.networks":
            inside, _ = imports(module)
            assert not inside & (studies - {module}), module
            assert "training" not in map(room, inside), module


def test_no_test_sets_itself_a_limit_of_time():
    """A machine that is busy makes no test fail: `timeout` in pyproject.toml, against what hangs,
    is the only limit."""
    limit = re.compile(r"\btimeout=\s*[\d.]|mark\.timeout\b|(?:monotonic|perf_counter)\(\).*<")
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        found = limit.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.name}: {found.group()}"
