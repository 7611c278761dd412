"""The benchmarks' common part, and the scripts as far as they can be tested without measuring."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from interpreter import python

import d2l_deeprnn as d2l
from d2l_deeprnn.chapter import book
from d2l_deeprnn.evidence.records import read_rows

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(
    path.stem
    for path in BENCHMARKS.glob("*.py")
    if path.stem not in ("turns", "original", "pytorch_chapter")
)
CONTEST = '''"""Which is faster?

More of it.
"""
import os
import time
from turns import Contest


def prepare():
    print("no answer")
    rounds = []

    def work(round_):
        rounds.append(round_)
        time.sleep(0.001)
        return [len(rounds), os.environ.get("MORE", "")]

    return work


CONTEST = Contest(
    __file__,
    {"first": prepare, "second": prepare},
    columns=["calls", "more"],
    xlabel="seconds",
    shown=lambda row: row["seconds"],
    variables={"second": {"MORE": "yes"}},
    settings={"size": 3},
    OPTIONS
)
if __name__ == "__main__":
    CONTEST.main(__doc__)
'''


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def run(tmp_path, options, rounds):
    script = tmp_path / "contest.py"
    script.write_text(CONTEST.replace("OPTIONS", options), encoding="utf-8")
    words = [sys.executable, str(script), f"--rounds={rounds}", "--out", str(tmp_path / "out")]
    paths = os.pathsep.join([str(BENCHMARKS), os.environ.get("PYTHONPATH", "")])
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": paths})
    described = json.loads((tmp_path / "out" / "contest.json").read_text())
    assert described["command"] == f"python benchmarks/contest.py --rounds {rounds}"
    assert described["settings"] == {"size": 3}
    assert described["versions"]["numpy"] and described["machine"]["processor"]
    assert (tmp_path / "out" / "contest.svg").exists()
    return read_rows(tmp_path / "out" / "contest.csv")


def test_contestants_take_turns_each_in_a_process_of_its_own(tmp_path):
    rows = run(tmp_path, "", 2)
    assert [(row["round"], row["contestant"]) for row in rows] == [
        (0, "first"), (0, "second"), (1, "first"), (1, "second"),
    ]  # fmt: skip
    assert {row["calls"] for row in rows} == {2}  # to warm up, and for the record
    assert [row["more"] for row in rows] == ["", "yes"] * 2
    assert all(row["seconds"] >= 0 and row["peak_memory_mib"] > 1 for row in rows)


def test_a_whole_process_is_timed_from_the_start_of_python(tmp_path):
    rows = run(tmp_path, "whole_process=True,", 1)
    assert [row["round"] for row in rows] == [0, 0]  # the round before is not recorded
    assert {row["calls"] for row in rows} == {1}
    assert all(row["seconds"] > 0.01 for row in rows)  # no Python starts faster


def test_the_original_starts_without_what_importing_the_package_sets():
    code = f"""
        import os, sys
        sys.path.insert(0, {str(BENCHMARKS)!r})
        os.environ.clear()  # of all, lest one that the list lacks was there before
        import d2l_deeprnn, turns
        assert os.environ
        turns.ENVIRONMENT = {{}}
        turns.as_installed()
        assert not os.environ, os.environ
    """
    python(code)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_can_be_imported_and_says_how_it_is_run(name):
    module = importlib.import_module(name)
    assert f"python benchmarks/{name}.py" in module.__doc__
    if hasattr(module, "CONTEST"):
        assert set(module.CONTEST.variables) <= set(module.CONTEST.contestants)
        assert Path(module.CONTEST.script).stem == name


def test_trainings_over_seeds_are_stored_as_they_are_printed(capsys):
    seeds = importlib.import_module("seeds")
    settings = replace(
        book.CHAPTER, num_epochs=6, num_hiddens=8, num_steps=5, batch_size=4, prefixes=("the",)
    )
    printed = replace(
        book.LECTURE,
        settings=settings,
        printed=tuple(book.PrintedLine(epoch, 1.0) for epoch in (2, 4, 6)),
        predictions={epoch: ("the",) for epoch in (2, 4, 6)},
        period=2,
    )
    indices, vocab = d2l.load_corpus("the_tide_tables", 400)
    seeds.train(d2l, indices, vocab, 0, settings.num_epochs, printed)
    output = capsys.readouterr().out
    assert re.findall(r"^(epoch \d+| - the)", output, re.M) == [
        "epoch 2", " - the", "epoch 4", " - the", "epoch 6", " - the",
    ]  # fmt: skip
    stored = {"seed": 3, "num_epochs": 6, "predictions": ["a", "b", "c"]}
    losses = [0.0] * 8 + [1.0] * 8 + [0.5] * 32
    for per_loss, stored_losses in [(1, losses), (8, [0.0, 1.0, 0.5, 0.5, 0.5, 0.5])]:
        training = {**stored, "losses": stored_losses, "minibatches_per_loss": per_loss}
        rows = seeds.at_printed_epochs([training, {**training, "num_epochs": 5}], printed)
        assert [row["prediction_1"] for row in rows] == ["a", "b", "c"]
        assert [(row["seed"], row["epoch"]) for row in rows] == [(3, 2), (3, 4), (3, 6)]
        assert [row["perplexity"] for row in rows] == pytest.approx(
            [math.e, math.e**0.5, math.e**0.5]
        )
        curve = seeds.curves([training], printed, every=2)
        assert [row["perplexity"] for row in curve] == ["2.718282", "1.648721", "1.648721"]


def test_a_stored_training_is_refused_only_if_it_is_reported_wrongly():
    """The verdict on right trainings, on another seed's losses, and on two wrong reports."""
    broken = importlib.import_module("broken_trainings")
    stored = json.loads((BENCHMARKS.parent / "results" / "seeds" / "ours-0.json").read_text())
    losses = stored["losses"]
    epochs = [losses[i : i + book.MINIBATCHES] for i in range(0, len(losses), book.MINIBATCHES)]
    predictions = dict(zip(book.CHAPTER.prefixes, stored["predictions"][-2:]))

    def refusals(report, seed, predict=predictions.get):
        judged = broken.Judged(seed)
        for value in broken.REPORTS[report](epochs):
            judged.add(value, predict)
        row = judged.row()
        return tuple(
            row[f"{name}{losses}"]
            for losses in ("", "_without_losses")
            for name in ("test", "epoch")
        )

    first = "first losses", 1
    assert refusals(broken.RIGHT, 0) == ("", "", "", "")
    assert refusals(broken.RIGHT, 1) == ("first losses", 2, "", "")
    assert refusals(broken.RIGHT, 1000) == ("", "", "", "")
    assert refusals("mean of perplexities", 0) == (*first, "", "")
    assert refusals("counter 10 epochs late", 0) == (*first, "", "")
    assert refusals(broken.RIGHT, 0, lambda prefix: prefix) == ("predictions", 500) * 2
    judged = broken.Judged(0)
    for _ in range(125):
        judged.add(19.8, str)
    assert judged.refusals == {"known": (1, "first losses"), "unknown": (125, "perplexity")}
    judged = broken.Judged(0)
    judged.diverge()
    assert judged.refusals == dict.fromkeys(["known", "unknown"], (1, "error"))


def test_every_broken_training_differs_from_the_right_one():
    broken = importlib.import_module("broken_trainings")
    indices, vocab = d2l.load_corpus("the_tide_tables", 2000)
    chapter = {"num_steps": 5, "batch_size": 4, "num_hiddens": 8, "clipping_theta": 0.1, "lr": 1.0}

    def losses(training):
        settings = replace(book.BOOK.train_settings(), seed=0, **chapter)
        settings = replace(settings, **broken.SETTINGS.get(training, {}))
        learner = broken.new_learner(settings, indices, len(vocab))
        broken.CODE.get(training, lambda learner: None)(learner)
        return next(broken.trained(learner))

    right = losses(broken.RIGHT)
    assert losses(broken.RIGHT) == right
    for training in broken.TRAININGS[1:]:
        if training != "9,000 characters":  # the text is cut before
            assert losses(training) != right, training


def test_a_script_that_is_repeated_computes_only_missing_rows(tmp_path):
    script = tmp_path / "squares.py"
    script.write_text(
        """
import os
from turns import parser, resume


def square(number):
    open("squared", "a").write(f"{number} ")
    return [{"number": number, "square": number**2, "threads": os.environ["OMP_NUM_THREADS"]}]


if __name__ == "__main__":
    options = parser("Squares.")
    options.add_argument("--numbers", nargs="+", type=int)
    arguments = options.parse_args()
    tasks = [{"number": number} for number in arguments.numbers]
    resume(arguments, __file__, "square", tasks)
"""
    )
    paths = os.pathsep.join([str(BENCHMARKS), os.environ.get("PYTHONPATH", "")])
    for numbers in ["2", "3"], ["3", "2", "4"]:
        words = [sys.executable, str(script), "--numbers", *numbers, "--out", str(tmp_path)]
        subprocess.run(words, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths})
    assert (tmp_path / "squared").read_text() == "2 3 4 "
    rows = read_rows(tmp_path / "squares.csv")
    assert [(row["number"], row["square"]) for row in rows] == [(2, 4), (3, 9), (4, 16)]
    assert {row["threads"] for row in rows} == {1}
    described = json.loads((tmp_path / "squares.json").read_text())
    assert described["machine"]["threads"] == "1"
    assert described["command"] == "python benchmarks/squares.py --numbers 3 2 4"


def test_the_bounds_of_a_minibatch_are_products_of_its_size():
    minibatch = importlib.import_module("minibatch")
    rows, units = 35 * 32, 256
    forward = 2 * rows * (units * 4 * units * 3 + units * book.VOCAB_SIZE)
    assert minibatch.operations(minibatch.products()) == 3 * forward
    for library in ["MXNet", "NumPy"]:
        for shape in (2, 3, 4), (4, 3, 2):
            out = minibatch.LIBRARIES[library](*shape)()
            assert out.shape == (shape[0], shape[2])
            assert (
                (out == shape[1]).all() if library == "NumPy" else (out.asnumpy() == shape[1]).all()
            )


def test_exported_models_are_scored_in_each_library(tmp_path):
    for needed in ("onnx", "onnxruntime", "safetensors", "torch"):
        pytest.importorskip(needed, reason="needs the extras 'onnx', 'safetensors' and 'bench'")
    from d2l_deeprnn.training import runs
    from d2l_deeprnn.training.settings import TrainSettings

    settings = TrainSettings(
        corpus=("the_tide_tables",), num_examples=3000, num_hiddens=8, batch_size=8, num_steps=10,
        num_epochs=1, optimizer="adam", lr=0.01,
    )  # fmt: skip
    result = runs.train(settings, tmp_path / "run")
    rows = list(importlib.import_module("exports").losses(tmp_path / "run"))
    assert [row["library"] for row in rows] == ["MXNet", "ONNX Runtime", "PyTorch"]
    assert rows[0]["nats"] == pytest.approx(result.history[0].valid_loss, abs=1e-5)
    for row in rows:
        assert row["run"] == "run" and row["num_chars"] == 299
        assert row["difference_nats"] == pytest.approx(0, abs=1e-5)
        assert row["nats"] - row["difference_nats"] == pytest.approx(rows[0]["nats"], abs=1e-12)


def test_what_lets_the_library_of_2019_start_stands_in_one_place():
    root = BENCHMARKS.parent
    found = [
        path.relative_to(root)
        for folder in ("benchmarks", "tests", "notebooks", "scripts")
        for path in (root / folder).rglob("*")
        if path.suffix in (".py", ".ipynb") and path.name != Path(__file__).name
        if "display.set_matplotlib_formats" in path.read_text(encoding="utf-8")
    ]
    assert found == [Path("benchmarks/original.py")]
