"""Every figure in the README comes from a file under results/, and every command in it works."""

from __future__ import annotations

import csv
import importlib
import json
import math
import re
import shlex
import statistics
from pathlib import Path

import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn import cli
from d2l_deeprnn.chapter import book
from d2l_deeprnn.evidence.records import read_files
from d2l_deeprnn.exercises import EXERCISES
from d2l_deeprnn.text import corpora

ROOT = Path(__file__).parents[1]
SKEWED = ("simulated, gamma", "simulated, log-normal")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def rows(name):
    with open(ROOT / "results" / name, newline="") as file:
        return list(csv.DictReader(file))


def perplexities(name, epoch):
    """The ten seeds' perplexities at an epoch, in order of the seeds."""
    found = [float(row["perplexity"]) for row in rows(name) if int(row["epoch"]) == epoch]
    assert len(found) == 10
    return found


def pairs():
    """The losses of all minibatches, ours and the original's, of each seed in order."""
    found = []
    for seed in range(len(list((ROOT / "results/seeds").glob("original-*.json")))):
        ours, theirs = (
            json.loads((ROOT / f"results/seeds/{library}-{seed}.json").read_text())["losses"]
            for library in ("ours", "original")
        )
        assert len(ours) == len(theirs) == 8 * 500
        found.append((ours, theirs))
    return found


def agreement():
    """How far our losses are off the original's, up to some minibatches."""
    errors = [[abs(a - b) / b for a, b in zip(*pair)] for pair in pairs()]
    seeds = f"the seeds 0 {'to' if len(errors) > 2 else 'and'} {len(errors) - 1}"
    first = min(next(i + 1 for i, error in enumerate(e) if error) for e in errors)
    greatest = [max(max(e[:n]) for e in errors) for n in (100, 200, 300, 500, 1000)]
    assert greatest[0] < 3e-7  # a unit in the last place of float32 is up to 1.2e-7
    return (
        f"of their losses on {seeds}, the first that differs at all is that of minibatch {first}. "
        "Up to minibatch 100 the greatest relative error is {:.1g}, a unit or two in the last "
        "place of float32; up to 200, 300, 500 and 1,000 it is {:.1g}, {:.1g}, {:.1g} and "
        "{:.1g}".format(*greatest)
    )


def six_digits():
    """The perplexities at epoch 125, as the original prints it."""
    printed = [
        [f"{math.exp(statistics.mean(losses[8 * 124 : 8 * 125])):.6f}" for losses in pair]
        for pair in pairs()
    ]
    equal = sum(ours == theirs for ours, theirs in printed)
    return (
        f"{equal} of {len(printed)} perplexities at epoch 125 are the original's in all six digits"
    )


def kernels_table():
    """Ours beside the original, and the original beside itself, by the kernels they used."""
    lines = []
    for kernels in dict.fromkeys(row["kernels"] for row in rows("first_minibatches.csv")):
        cells = [kernels]
        found = {r["a"]: r for r in rows("first_minibatches.csv") if r["kernels"] == kernels}
        for a in "ours", "arrays":
            cells += [found[a]["first_difference"], found[a]["error_up_to_100"]]
        itself = found.get("original", {"first_difference": "", "error_up_to_100": ""})
        cells += [itself["first_difference"], itself["error_up_to_100"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def simulated():
    """The shares of further runs in their interval: simulated with skewness, and measured."""
    found = rows("interval_coverage.csv")
    skewed = [100 * float(r["coverage"]) for r in found if r["what"] in SKEWED]
    left_out = {r["epochs"]: 100 * float(r["coverage"]) for r in found if r["what"] == "left out"}
    return (
        f"Drawn with the skewness of the ten, {min(skewed):.1f} to {max(skewed):.1f} % of further "
        f"runs lie in their interval; each of the ten held against the other nine, "
        f"{left_out['200 to 500']:.1f} % at the epochs 200 to 500, and "
        f"{left_out['100 to 150']:.1f} % at 100 to 150"
    )


def unigram():
    assert book.BANDS[125].high == book.UNIGRAM_PERPLEXITY
    return f"the least that gives is {book.UNIGRAM_PERPLEXITY}"


def seeds_table():
    lines = []
    for printed in book.PRINTED:
        cells = [str(printed.epoch), f"{printed.perplexity:.3f}"]
        for name in "chapter_seeds.csv", "original_seeds.csv":
            found = perplexities(name, printed.epoch)
            cells += [f"{f(found):.3f}" for f in (min, statistics.median, max)]
        band = book.BANDS[printed.epoch]
        lines.append("| " + " | ".join([*cells, f"{band.low:.3f} to {band.high:.3f}"]) + " |")
    return "\n".join(lines)


def ranks():
    """Where the book's figures fall: of our ten, how many are below each."""
    below = [
        sum(p < line.perplexity for p in perplexities("chapter_seeds.csv", line.epoch))
        for line in book.PRINTED
    ]
    return (
        "Of our ten, {}, {}, {} and {} lie below the book's figure ".format(*below)
        + "at epochs 125, 250, 375 and 500"
    )


def within_106():
    """How many seeds reach 1.06, at the epochs where the book did: ours and the original's."""
    counts = [
        [sum(p <= 1.06 for p in perplexities(name, epoch)) for epoch in (250, 375, 500)]
        for name in ("chapter_seeds.csv", "original_seeds.csv")
    ]
    ours, theirs = ("{}, {} and {}".format(*count) for count in counts)
    return (
        f"1.06 or less at epochs 250, 375 and 500: {ours} of our ten, {theirs} of the original's."
    )


def predictions():
    found = [row[f"prediction_{i}"] for row in rows("chapter_seeds.csv") for i in (1, 2)]
    return [text for text in found if text]


def sentences():
    """How many predictions are the book's sentence, stand in the text, and do neither."""
    indices, vocab = d2l.load_data_time_machine()
    text = "".join(vocab.to_tokens(indices))
    found = predictions()
    books = sum(prediction in book.PREDICTIONS[250] for prediction in found)
    verbatim = sum(prediction in text for prediction in found) - books
    others = len(found) - books
    return (
        f"{books} of the {len(found)} predictions are the book's own sentence, \"traveller smiled. "
        f"'are you sure we can move freely in space\"; of the other {others}, {verbatim} stand in "
        "the text word for word"
    )


def whole_process_table():
    lines, seconds = [], {}
    for row in rows("whole_process.csv"):
        seconds.setdefault(row["program"], []).append(row)
    for program, measured in seconds.items():
        times = [float(row["seconds"]) for row in measured]
        memory = statistics.median(float(row["peak_memory_mib"]) for row in measured)
        lines.append(
            f"| {program} | {statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f}) "
            f"| {memory:.0f} MiB |"
        )
    theirs, ours = ([float(row["seconds"]) for row in measured] for measured in seconds.values())
    ratios = [mine / its for mine, its in zip(ours, theirs)]
    return "\n".join(lines), (
        f"Ours takes {statistics.median(ratios):.2f} of the original's time "
        f"(median of the rounds, {min(ratios):.2f} to {max(ratios):.2f})"
    )


def minibatch_table():
    found = {}
    for row in rows("minibatch.csv"):
        found.setdefault(row["contestant"], []).append(float(row["seconds"]))
    made_with = json.loads((ROOT / "results/minibatch.json").read_text())
    scale = 1000 / made_with["settings"]["minibatches"]
    ours = found["d2l_deeprnn"]
    lines = []
    for name, seconds in found.items():
        assert len(seconds) >= 7
        times = [scale * f(seconds) for f in (statistics.median, min, max)]
        ratios = [mine / its for mine, its in zip(ours, seconds)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        ratio = ratio if name != "d2l_deeprnn" else "1"
        lines.append("| {} | {:.1f} ({:.1f} to {:.1f}) | {} |".format(name, *times, ratio))
    return "\n".join(lines)


def time_to_perplexity_table():
    found = {}
    for row in rows("time_to_perplexity.csv"):
        assert float(row["perplexity"]) <= 1.05, row  # reached, and not given up
        found.setdefault(row["contestant"], []).append(row)
    ours = [float(row["seconds"]) for row in found["d2l_deeprnn"]]
    lines = []
    for name, measured in found.items():
        seconds = [float(row["seconds"]) for row in measured]
        epochs = [int(row["epochs"]) for row in measured]
        ratios = [mine / its for mine, its in zip(ours, seconds)]
        cells = [name]
        for values in seconds, epochs:
            middle = statistics.median(values)
            cells.append(f"{middle:.0f} ({min(values):.0f} to {max(values):.0f})")
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        cells.append(ratio if name != "d2l_deeprnn" else "1")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def copying():
    found = {}
    for row in rows("copying.csv"):
        found.setdefault(row["contestant"], []).append(float(row["seconds"]))
    one, several = found["one thread copies"], found["several threads copy"]
    ratios = [its / mine for mine, its in zip(one, several)]
    return (
        f"a minibatch takes {statistics.median(ratios):.2f} times as long "
        f"(median of {len(ratios)} rounds, {min(ratios):.2f} to {max(ratios):.2f};"
    )


def large_text():
    found = [row for row in rows("scaling_texts.csv") if row["characters"] == "100000000"]
    seconds = statistics.median(float(row["reading_seconds"]) for row in found)
    memory = max(float(row["peak_memory_mib"]) for row in found)
    return f"{seconds:.1f} s, and its first minibatch is done with at most {memory:.0f} MiB in use"


def run_time():
    """The time of the run in the picture."""
    last = rows("chapter/metrics.csv")[-1]
    assert last["epoch"] == "500"
    return f"the 500 epochs of the run in the picture took {float(last['seconds']):.0f} s"


def scratch():
    """The chapter's network from scratch, beside Gluon's."""
    figures = []
    both = rows("scratch_chapter.csv")
    for found in (
        [row for row in both if row["network"] == "scratch"],
        rows("two_biases/scratch_chapter.csv"),
        [row for row in both if row["network"] == "gluon"],
    ):
        seconds = [0.0] + [float(row["seconds"]) for row in found]
        # The median: some epochs were disturbed by other work on the machine.
        an_epoch = statistics.median(b - a for a, b in zip(seconds, seconds[1:]))
        figures += [float(found[-1]["perplexity"]), an_epoch]
        assert found[-1]["epoch"] == "500"
    return (
        "the network from scratch ends at perplexity {:.3f} and takes {:.2f} s an epoch (median), "
        "with two biases for each gate at {:.3f} and {:.2f} s; "
        "Gluon's ends at {:.3f} and takes {:.2f} s".format(*figures)
    )


def tinyshakespeare():
    """The rows of the run on tinyshakespeare, and of the n-gram model beside it."""
    found = json.loads((ROOT / "results/tinyshakespeare/evaluation.json").read_text())
    (last,) = [r for r in rows("tinyshakespeare/metrics.csv") if r["epoch"] == "10"]
    assert found["best_epoch"] == 10 and float(last["valid_loss"]) == found["nats_32_rows"]
    assert abs(found["nats_1_row"] - found["nats_32_rows"]) < 5e-8
    assert f"All {found['num_chars']:,} characters" in README
    minutes = float(last["seconds"]) / 60
    return (
        f"after 10 epochs, {minutes:.0f} minutes | {found['nats_1_row']:.4f} |\n"
        f"| n-gram of order {found['ngram_order']}, Witten-Bell, same split | "
        f"{found['ngram_nats']:.4f} |"
    )


def tinyshakespeare_settings():
    """What one changed setting gives after the last epoch."""
    found = [r for r in rows("tinyshakespeare_settings.csv") if r["epoch"] == "4"]
    assert len(found) == 8
    return "\n".join(
        f"| {r['setting']} | {float(r['train_loss']):.3f} | {float(r['valid_loss']):.3f} |"
        for r in found
    )


def no_dropout():
    last = rows("tinyshakespeare_no_dropout/metrics.csv")[-1]
    with_, without = (
        json.loads((ROOT / f"results/{name}/config.json").read_text())["settings"]
        for name in ("tinyshakespeare", "tinyshakespeare_no_dropout")
    )
    assert without == {**with_, "dropout": 0.0} and last["epoch"] == "10"
    held_out, training = float(last["valid_loss"]), float(last["train_loss"])
    return f"ends at {held_out:.4f} held-out and {training:.4f} training nats"


def memory():
    found = {r["minibatches"]: r["resident_mib"] for r in rows("memory.csv")}
    return (
        f"{found['500']} MiB after 500, {found['1500']} after 1,500 and {found['5000']} after 5,000"
    )


def generation():
    """Characters a second of each contestant."""
    speeds = {}
    for row in rows("generation.csv"):
        speed = int(row["characters"]) / float(row["seconds"])
        speeds.setdefault(row["contestant"], []).append(speed)
    assert all(len(found) >= 7 for found in speeds.values())
    return "\n".join(
        f"| {name} | {statistics.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f}) |"
        for name, found in speeds.items()
    )


def test_the_command_in_the_readme_is_that_of_the_run():
    words = README.split("d2l-deeprnn train --corpus tinyshakespeare")[1].split("--out")[0].split()
    given = {"corpus": ["tinyshakespeare"]}
    for name in (word for word in words if word.startswith("--")):
        value = words[words.index(name) + 1]
        given[name[2:].replace("-", "_")] = True if value.startswith("--") else value
    settings = json.loads((ROOT / "results/tinyshakespeare/config.json").read_text())["settings"]
    for name, value in given.items():
        assert settings[name] == type(settings[name])(value), name


def folded(text):
    return " ".join(text.split())


@pytest.mark.parametrize(
    "claim",
    [
        seeds_table,
        ranks,
        within_106,
        agreement,
        six_digits,
        kernels_table,
        simulated,
        unigram,
        run_time,
        scratch,
        tinyshakespeare,
        tinyshakespeare_settings,
        no_dropout,
        memory,
        generation,
        minibatch_table,
        time_to_perplexity_table,
        copying,
        large_text,
        lambda: whole_process_table()[0],
        lambda: whole_process_table()[1],
    ],
    ids=[
        "seeds",
        "ranks",
        "1.06",
        "agreement",
        "six digits",
        "kernels",
        "coverage",
        "unigram",
        "run time",
        "scratch",
        "tinyshakespeare",
        "tinyshakespeare settings",
        "no dropout",
        "memory",
        "generation",
        "minibatch",
        "time to perplexity",
        "copying",
        "large text",
        "whole process",
        "ratio",
    ],
)
def test_figures_come_from_results(claim):
    assert folded(claim()) in folded(README)


def test_predictions_are_counted(book_dir):
    assert folded(sentences()) in folded(README)


def test_the_picture_is_of_a_run_on_the_books_text():
    assert (ROOT / "results" / "chapter" / "perplexity.svg").exists()
    assert '"is_the_books_text": true' in (ROOT / "results/chapter/config.json").read_text()


def test_every_function_in_the_table_of_differences_exists():
    table = README.split("## Where this differs")[1].split("\n## ")[0]
    names = {
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert len(names) >= 8
    assert names <= set(d2l.__all__)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


# Its commands and its cells, shortened.

# Of the system, which a test must not change.
NOT_HERE = {"sudo", "apt-get", "dnf"}
SMALL = ["--num-layers=1", "--num-hiddens=8", "--batch-size=8", "--num-steps=10"]
# A training that goes on is to have an epoch left.
MOST_EPOCHS = {"reproduce": 1, "train": 2, "resume": 3}


def without_cells():
    return re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)


def commands():
    """The lines of the README's indented blocks, in order, each as words."""
    lines = re.findall(r"^ {4}(\S.*)$", without_cells().replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def cells():
    assert set(re.findall(r"^```(.+)$", README, re.MULTILINE)) == {"python"}
    return re.findall(r"^```python\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


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
    return [*words, "--num-examples=4000", *SMALL] if command == "train" and not resume else words


def run_command(words):
    program, *rest = words
    if program == "make":
        (target,) = rest
        makefile = (ROOT / "Makefile").read_text()
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        if target == "reproduce":
            recipe = re.search(r"-m d2l_deeprnn (reproduce .*?) \$\(ARGS\)", makefile).group(1)
            for _ in range(2):  # it may be called again
                run_command(["d2l-deeprnn", *shlex.split(recipe), "--num-epochs", "1"])
    elif program == "d2l-deeprnn":
        assert cli.main(shortened(rest)) == 0, words
    elif program not in NOT_HERE:
        pytest.fail(f"no test runs this command of the README: {shlex.join(words)}")


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """An empty directory with a novel; books are samples, and studies are done."""
    sample = corpora.find_text(corpora.SAMPLE_TEXT)
    monkeypatch.setattr(corpora, "find_text", lambda name: sample)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_novel.txt").write_text(sample.read_text())
    for name in EXERCISES.values():
        module = importlib.import_module(f"d2l_deeprnn.exercises.{name}")
        rows = read_files(module.FILES, ROOT / "results" / "exercises")
        monkeypatch.setattr(module, "study", lambda rows=rows, **how: rows)
    return tmp_path


def test_its_commands_work_one_after_the_other(elsewhere, capsys):
    found = commands()
    assert {words[1] for words in found if words[0] == "d2l-deeprnn"} >= {
        "reproduce", "train", "evaluate", "generate", "plot", "exercise", "corpora",
    }  # fmt: skip
    for words in found:
        run_command(words)
    assert (elsewhere / "curves.svg").exists() and (elsewhere / "reproduction").is_dir()


def test_its_cells_work_one_after_the_other(elsewhere, capsys):
    names = {}
    for cell in cells():
        short = re.sub(r"\b500\b", "1", re.sub(r"\b256\b", "8", cell))
        small = "TrainSettings(num_epochs=1, num_hiddens=8, num_examples=9000, "
        exec(short.replace("TrainSettings(", small), names)
    printed = capsys.readouterr().out
    assert printed.count("epoch 1, perplexity ") == 2 and "TrainRecord(epoch=1" in printed
