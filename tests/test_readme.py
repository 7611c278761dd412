"""README.md, results/README.md and docs/: their figures are generated, and what they name works."""

from __future__ import annotations

import importlib
import json
import math
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import mpi
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn import cli
from d2l_deeprnn.chapter import book
from d2l_deeprnn.evidence.records import read_files, write_record
from d2l_deeprnn.exercises import EXERCISES
from d2l_deeprnn.text import corpora, known_texts
from d2l_deeprnn.training import runs

ROOT = Path(__file__).parents[1]
# In the order in which their cells and commands work one after the other.
PAGES = ["README.md", "docs/from-scratch.md", "docs/training.md", "docs/texts.md"]
PAGES += ["docs/several-machines.md", "docs/export.md", "docs/web-page.md", "docs/features.md"]
PAGES += ["results/README.md"]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
README = TEXTS["README.md"]


# Figures ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "scripts" / "results.py"))


@pytest.fixture
def generate(script, monkeypatch, tmp_path):
    """A copy of the pages and results, and what writes the figures anew in it."""
    shutil.copytree(ROOT / "results", tmp_path / "results")
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / script["BANDS"]).parent.mkdir(parents=True)
    shutil.copy(ROOT / script["BANDS"], tmp_path / script["BANDS"])
    monkeypatch.setattr("sys.argv", ["results.py", str(tmp_path)])
    return tmp_path, script["main"]


def test_generating_the_figures_changes_nothing(script, generate):
    copy, main = generate
    main()
    for name in (*script["PAGES"], script["BANDS"]):
        there = (ROOT / name).read_text(encoding="utf-8")
        assert (copy / name).read_text(encoding="utf-8") == there, "run: make results"


def test_figures_follow_their_files(generate):
    copy, main = generate
    path = copy / "results" / "minibatch.csv"
    path.write_text(re.sub(r"(d2l_deeprnn),[\d.]+", r"\1,12.0", path.read_text()))
    for training in (copy / "results" / "seeds").glob("*.json"):
        if not training.stem.endswith("-1"):
            training.unlink()
    main()
    page = (copy / "results" / "README.md").read_text(encoding="utf-8")
    assert "| d2l_deeprnn | 100.0 (100.0 to 100.0) | 1 |" in page
    assert "with one thread on the seed 1 " in page


def test_ranges_follow_from_ten_seeds_of_each_library(script, generate):
    copy, main = generate
    files = "lecture_seeds", "lecture_original_seeds"
    for name, seeds in [(files[0], 9), (files[1], 10), (files[0], 10)]:
        write_record(
            copy / "results" / name,
            [
                {
                    "seed": seed,
                    "epoch": epoch,
                    "perplexity": 1.04,
                    "judged": 1.02 + seed / 1000,
                    "prediction_1": "traveller",
                    "prediction_2": book.LECTURE.predictions[epoch][1],
                }
                for seed in range(seeds)
                for epoch in range(500, 3001, 500)
            ],
            command="made up",
        )
        main()
        page = (copy / "results" / "README.md").read_text(encoding="utf-8")
        table = page[page.index("begin lecture -->") : page.index("end lecture -->")]
        bands = runpy.run_path(str(copy / script["BANDS"]))["BANDS"]
        assert ("expected of one run" in table) == bool(bands["lecture"])
        assert bool(bands["lecture"]) == (name == files[0] and seeds == 10)
    # of log(log(x)) for x = 1.020, 1.021, ..., 1.029, each twice: mean -3.72816, deviation 0.12000
    ends = [math.exp(math.exp(-3.72816 + side * 3.8834 * 0.12 * 1.05**0.5)) for side in (-1, 1)]
    assert bands["lecture"][3000] == pytest.approx(ends, abs=0.0002)
    assert bands["chapter"] == book.BOOK.bands
    assert "{:.4f} to {:.4f} |".format(*bands["lecture"][3000]) in table
    assert "Of our 120 predictions, 60 are the lecture's own sentence." in page
    assert "lecture.svg" in page and "has not been measured" not in page


def test_every_part_is_shown(script):
    shown = re.findall(r"<!-- begin (\w+) -->", "".join(TEXTS.values()))
    writers = script["parts"](script["Results"](ROOT / "results"))
    assert set(shown) == set(writers)


@pytest.mark.parametrize(
    "page, message",
    [
        ("<!-- begin none -->\n<!-- end none -->", "nothing writes none: choose from seeds"),
        ("<!-- begin seeds -->\n", "has no end"),
        ("<!-- begin seeds -->\n<!-- end kernels -->", "has no end"),
    ],
)
def test_a_part_that_cannot_be_written_is_an_error(script, page, message):
    with pytest.raises(ValueError, match=message):
        script["rewrite"](page, {"seeds": str})


def test_every_result_says_what_made_it():
    results = ROOT / "results"
    for path in results.glob("**/*.csv"):
        if path.name == "metrics.csv":  # a run's, with its config.json
            continue
        described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert described["command"] and described["versions"], path


def test_the_picture_is_of_a_run_on_the_books_text():
    assert (ROOT / "results" / "chapter" / "perplexity.svg").exists()
    assert '"is_the_books_text": true' in (ROOT / "results/chapter/config.json").read_text()


def settings_of(run):
    return json.loads((ROOT / f"results/{run}/config.json").read_text())["settings"]


def changes(one, other):
    return {name for name in one if one[name] != other[name]}


def test_the_commands_beside_tinyshakespeare_are_those_of_the_runs():
    page = TEXTS["results/README.md"]
    settings = settings_of("tinyshakespeare")
    longer = settings_of("tinyshakespeare_longer")
    decay = settings_of("tinyshakespeare_decay")
    changed = changes(settings, longer)
    assert changed == {"batch_size", "num_epochs", "lr"}
    changed_again = changes(longer, decay)
    assert changed_again == {"num_epochs", "dropout", "optimizer_options"}
    for run, beginning, given, changed_in_it in [
        (settings, "--corpus tinyshakespeare", {"corpus": ["tinyshakespeare"]}, changed),
        (longer, "--config tinyshakespeare/config.json", {}, changed),
        (decay, "--config tinyshakespeare_longer/config.json", {}, changed_again),
    ]:
        words = page.split(f"d2l-deeprnn train {beginning}")[1].split("--out")[0].split()
        for name in (word for word in words if word.startswith("--")):
            value = words[words.index(name) + 1]
            given[name[2:].replace("-", "_")] = True if value.startswith("--") else value
        if "optimizer_option" in given:
            option, number = given.pop("optimizer_option").split("=")
            given["optimizer_options"] = {option: float(number)}
        assert changed_in_it <= given.keys()
        for name, value in given.items():
            assert run[name] == type(run[name])(value), name
    assert settings_of("tinyshakespeare_no_dropout") == {**settings, "dropout": 0.0}
    for seed in (1, 2):
        assert settings_of(f"tinyshakespeare_longer_{seed}") == {**longer, "seed": seed}
        assert settings_of(f"tinyshakespeare_decay_{seed}") == {**decay, "seed": seed}


# Words -----------------------------------------------------------------------------------------


def test_the_readme_is_short():
    assert len(README.split()) <= 1600


def test_the_readme_says_how_long_the_epochs_take_and_shows_the_page():
    *_, last = (ROOT / "results" / "chapter" / "metrics.csv").read_text().splitlines()
    epochs, _, seconds, *_ = last.split(",")
    took = f"its {epochs} epochs took [{float(seconds):.0f} seconds]"
    assert took in " ".join(README.split())
    assert "](docs/page.png)" in README and (ROOT / "docs" / "page.png").exists()


def test_every_function_in_the_table_of_differences_exists():
    table = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
    names = {
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert len(names) >= 8
    assert names <= set(d2l.__all__)


def test_the_features_are_there_or_have_a_reason_why_not():
    table = TEXTS["docs/features.md"].split("| --- | --- | --- |\n")[1].strip().splitlines()
    options = {option for name in cli.COMMANDS for option in options_of(name)}
    functions = runs.train.__kwdefaults__
    for line in table:
        _, feature, peer, here, _ = (cell.strip() for cell in line.split("|"))
        assert re.match(r"yes\b|no: .{40}", here), feature
        assert "](https://" in peer or feature.startswith("samples of text"), feature
        assert set(re.findall(r"`(--[\w-]+)", here)) <= options, feature
        assert set(re.findall(r"`((?:on|should)_\w+)`", here)) <= set(functions), feature


def options_of(command):
    parser = cli._parser([command])._subparsers._group_actions[0].choices[command]
    return {option for action in parser._actions for option in action.option_strings}


def anchors(page):
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "name", [*PAGES, "docs/installing.md", "docs/differences.md", "CONTRIBUTING.md", "CHANGELOG.md"]
)
def test_links_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_map_names_every_room():
    rooms = {path.parent.name for path in (ROOT / "d2l_deeprnn").glob("*/__init__.py")}
    found = re.findall(r"`d2l_deeprnn/(\w+)`", README.split("## Where things are")[1])
    assert set(found) == rooms and len(found) == len(rooms)


def test_files_that_contributing_names_exist():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r"`((?:d2l_deeprnn|benchmarks|scripts|docs|tests)/[\w/.]+)`", page)
    assert len(found) > 10
    for name in found:
        assert (ROOT / name).exists(), name


# Commands and cells, shortened -------------------------------------------------------------------

# Of the system, which a test must not change, or with a place for the repository's address.
NOT_HERE = {"sudo", "apt-get", "dnf", "git", "cd"}
SMALL = ["--num-layers=1", "--num-hiddens=8", "--batch-size=8", "--num-steps=10"]
# Programs that commands with these words need, and that not everybody has.
NEEDS = {
    "onnx": ["onnx", "onnxruntime"],
    "safetensors": ["safetensors"],
    "import": ["safetensors"],
    "tensorboard": ["tensorboardX"],
    "runs/novel-again": ["safetensors"],  # what is imported
    "examples/onnx_generate.py": ["onnxruntime"],
    "examples/pytorch_generate.py": ["torch", "safetensors"],
}
# A training that goes on is to have an epoch left.
MOST_EPOCHS = {"reproduce": 1, "train": 2, "resume": 3}


ALL = "\n".join(TEXTS.values())


def commands():
    """The lines of the pages' indented blocks, in order, each as words."""
    without_cells = re.sub(r"^```.*?^```$", "", ALL, flags=re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^ {4}(\S.*)$", without_cells.replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def cells():
    assert set(re.findall(r"^```(.+)$", ALL, re.MULTILINE)) == {"python"}
    found = re.findall(r"^```python\n(.*?)^```$", ALL, flags=re.DOTALL | re.MULTILINE)
    # scripts/hosted_notebook.py executes the cell that installs the package.
    return [cell for cell in found if not cell.startswith("%pip")]


def shortened(words):
    command = words[0]
    if command not in ("train", "reproduce"):
        return words
    resume = "--resume" in words
    most = MOST_EPOCHS["resume" if resume and command == "train" else command]
    if "--num-epochs" in words:
        place = words.index("--num-epochs") + 1
        words = [*words[:place], str(min(int(words[place]), most)), *words[place + 1 :]]
    elif not resume:
        words = [*words, f"--num-epochs={most}"]
    # Of an option that stands twice, the last counts.
    return [*words, "--num-examples=1500", *SMALL] if command == "train" and not resume else words


def run_command(words, launched):
    """Run a command of a page; ``launched`` has the one that ``mpiexec`` has started.

    Others that it starts on the pages run in this process.
    """
    program, *rest = words
    if any(find_spec(needed) is None for word in words for needed in NEEDS.get(word, [])):
        return
    if program == "make":
        (target,) = rest
        makefile = (ROOT / "Makefile").read_text()
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        if target == "reproduce":
            recipe = re.search(r"-m d2l_deeprnn (reproduce .*?) \$\(ARGS\)", makefile).group(1)
            for _ in range(2):  # it may be called again
                words = ["d2l-deeprnn", *shlex.split(recipe), "--num-epochs", "1"]
                run_command(words, launched)
    elif program == "d2l-deeprnn":
        assert cli.main(shortened(rest)) == 0, words
    elif program == "mpiexec":
        _, _, d2l_deeprnn, *rest = rest
        assert d2l_deeprnn == "d2l-deeprnn" and rest[-2] == "--out"
        if mpi.is_installed() and not launched:
            mpi.mpiexec(2, mpi.COMMAND, *shortened(rest))
            launched.append(rest)
        else:
            run_command(["d2l-deeprnn", *rest], launched)
    elif program == "python":
        subprocess.run([sys.executable, str(ROOT / rest[0]), *rest[1:]], check=True)
    elif program not in NOT_HERE:
        pytest.fail(f"no test runs this command of the pages: {shlex.join(words)}")


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """An empty directory with a novel; books are samples, and studies are done."""
    sample = corpora.find_text(corpora.SAMPLE_TEXT)
    for module in (corpora, known_texts):
        monkeypatch.setattr(module, "find_text", lambda name: sample)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_novel.txt").write_text(sample.read_text())
    for name in EXERCISES.values():
        module = importlib.import_module(f"d2l_deeprnn.exercises.{name}")
        rows = read_files(module.FILES, ROOT / "results" / "exercises")
        monkeypatch.setattr(module, "study", lambda rows=rows, **how: rows)
    return tmp_path


def test_its_commands_work_one_after_the_other(small_chapter, elsewhere, capsys):
    found = commands()
    assert {words[1] for words in found if words[0] == "d2l-deeprnn"} >= {
        "reproduce", "train", "evaluate", "generate", "plot", "exercise", "corpora",
    }  # fmt: skip
    launched = []
    for words in found:
        run_command(words, launched)
    assert (elsewhere / "curves.svg").exists() and (elsewhere / "reproduction").is_dir()


def test_its_cells_work_one_after_the_other(elsewhere, capsys):
    names, trainings = {}, 0
    for cell in cells():
        if "safetensors" in cell and find_spec("safetensors") is None:
            continue
        trainings += "train_and_predict_rnn" in cell
        short = re.sub(r"\b500\b", "1", re.sub(r"\b256\b", "8", cell))
        small = "TrainSettings(num_epochs=1, num_hiddens=8, num_examples=2000, "
        exec(short.replace("TrainSettings(", small), names)
    printed = capsys.readouterr().out
    assert (
        printed.count("epoch 1, perplexity ") == trainings >= 2 and "TrainRecord(epoch=1" in printed
    )
