"""Studies: rows that are kept, fair comparisons, and tables that follow from the rows."""

import dataclasses
import fcntl
import importlib
import json
import math
import os
import signal
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from d2l_deeprnn import cli, exercises
from d2l_deeprnn._mxnet import mx
from d2l_deeprnn._perplexity import perplexity
from d2l_deeprnn.cli import exercise
from d2l_deeprnn.evidence import figures
from d2l_deeprnn.evidence.figures import to_svg
from d2l_deeprnn.evidence.records import RecordError, read_files, read_rows, select
from d2l_deeprnn.exercises import (
    EXERCISES,
    authors,
    from_scratch,
    gru,
    initialisation,
    more_books,
    networks,
)
from d2l_deeprnn.exercises import study as studies
from d2l_deeprnn.exercises.study import Observer, Study, StudyError
from d2l_deeprnn.files import Moved
from d2l_deeprnn.text.corpora import load_corpus, load_text
from d2l_deeprnn.text.vocab import Vocab
from d2l_deeprnn.training.evaluate import evaluate
from d2l_deeprnn.training.learner import new_model
from d2l_deeprnn.training.optimization import parameters_of
from d2l_deeprnn.training.settings import TrainSettings

RUNS = [{"kind": kind, "lr": lr} for kind in ("a", "b") for lr in (0.5, 2.0)]

CTX = mx.cpu()
RESULTS = Path(__file__).parents[2] / "results" / "exercises"


def compute(run):
    return [{"epoch": epoch, "loss": run["lr"] / epoch} for epoch in (1, 2)]


def collect(settings, runs, compute, *, out=None, observer=None, **options):
    study = Study("1", {"rows": "study"}, settings, out=out, observer=observer)
    return study.collect("rows", runs, compute, **options)


def test_the_template_is_a_complete_study(tmp_path):
    code = exercises.__doc__.partition("::\n")[2].partition("\nRegister")[0]
    template = {"__package__": "d2l_deeprnn.exercises"}
    exec(textwrap.dedent(code), template)
    rows = template["study"](quick=True, out=tmp_path)
    assert read_files(template["FILES"], tmp_path) == rows
    (table,) = template["tables"](rows)
    assert table.rows == [[str(r["num_hiddens"]), f"{r['test']:.3f}"] for r in rows["runs"]]
    assert [row["num_hiddens"] for row in rows["runs"]] == [16, 32]
    assert "16 units" in template["figures"](rows)["exercise_5"].alt


def test_rows_are_kept_and_none_is_computed_twice(tmp_path):
    calls = []

    def interrupted(run):
        calls.append(run)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(run)

    with pytest.raises(KeyboardInterrupt):
        collect({"a": 1}, RUNS, interrupted, out=tmp_path)
    rows = collect({"a": 1}, RUNS, interrupted, out=tmp_path)
    assert calls == [*RUNS[:3], *RUNS[2:]]
    assert rows == [{**run, **row} for run in RUNS for row in compute(run)]
    assert read_rows(tmp_path / "study.csv") == rows
    described = json.loads((tmp_path / "study.json").read_text())
    assert described["command"] == "d2l-deeprnn exercise 1" and described["settings"] == {"a": 1}
    assert described["versions"] and described["machine"]


def test_other_settings_are_refused(tmp_path):
    collect({"a": 1, "b": (1, 2)}, RUNS, compute, out=tmp_path)
    before = (tmp_path / "study.csv").read_bytes()
    with pytest.raises(StudyError, match=r"other settings \(a\)"):
        collect({"a": 2, "b": (1, 2)}, RUNS, compute, out=tmp_path)
    assert (tmp_path / "study.csv").read_bytes() == before


@pytest.mark.parametrize(
    "name, content", [("csv", ""), ("csv", 'a,b\n"'), ("json", "{"), ("json", '{"settings": 3}')]
)
def test_damaged_files_are_named(tmp_path, name, content):
    collect({}, RUNS, compute, out=tmp_path)
    (tmp_path / f"study.{name}").write_text(content)
    with pytest.raises(RecordError, match=f"study.{name}"):
        collect({}, RUNS, compute, out=tmp_path)


def test_two_processes_do_not_write_the_same_rows(tmp_path):
    collect({}, RUNS, compute, out=tmp_path)
    before = (tmp_path / "study.csv").read_bytes()
    with open(tmp_path / ".study.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StudyError, match="another process"):
            collect({}, RUNS, compute, out=tmp_path)
    assert (tmp_path / "study.csv").read_bytes() == before


def test_nothing_is_written_if_the_directory_is_replaced(tmp_path):
    out, moved = tmp_path / "out", tmp_path / "moved"

    def compute_elsewhere(run):
        out.rename(moved)
        out.mkdir()
        return compute(run)

    collect({}, RUNS[:2], compute, out=out)
    with pytest.raises(Moved):
        collect({}, RUNS, compute_elsewhere, out=out)
    assert not list(out.iterdir())
    assert len(collect({}, RUNS, compute, out=moved)) == 8


def test_temporary_files_of_a_killed_study_are_removed(tmp_path):
    left = tmp_path / ".study.csv.0123456789abcdef.part"
    left.touch()
    collect({}, RUNS, compute, out=tmp_path)
    assert not left.exists()


def test_nothing_is_written_without_a_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(collect({}, RUNS, compute)) == 8
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("writes", [True, False])
def test_a_second_call_computes_only_what_is_missing(tmp_path, writes):
    calls = []

    def counted(run):
        calls.append(run)
        return compute(run)

    study = Study("1", {"rows": "study"}, {}, out=tmp_path if writes else None)
    first = study.collect("rows", RUNS[:2], counted)
    assert study.collect("rows", RUNS, counted)[: len(first)] == first
    assert calls == RUNS


def test_the_time_left_follows_from_the_work():
    reports = []

    class Reports(Observer):
        def run(self, done, total, run, seconds_left, kind):
            reports.append((done, total, seconds_left))
            assert kind == "rows"

    def work(run):
        return {0.5: 1.0, 2.0: 3.0}[run["lr"]]

    rows = collect({}, RUNS, lambda r: [{"seconds": 10 * work(r)}], observer=Reports(), work=work)
    assert len(rows) == 4
    assert reports == [(0, 4, None), (1, 4, 70.0), (2, 4, 40.0), (3, 4, 30.0)]


def test_rows_without_seconds_do_not_count_for_the_time_left(tmp_path):
    """Rows in files have an empty cell if they have no seconds, but others have."""
    reports = []

    class Reports(Observer):
        def run(self, done, total, run, seconds_left, kind):
            reports.append(seconds_left)

    def with_seconds_only_at_2(run):
        return [{"seconds": 10.0} if run["lr"] == 2.0 else {"loss": 1.0}]

    collect({}, RUNS[:2], with_seconds_only_at_2, out=tmp_path)
    collect({}, RUNS, with_seconds_only_at_2, out=tmp_path, observer=Reports())
    assert reports == [20.0, 10.0]


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_out_must_be_a_directory(tmp_path, capsys, name):
    (tmp_path / "file").write_text("kept")
    assert cli.main(["exercise", "1", "--quick", "--out", str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert str(tmp_path / name) in line and "a directory" in line


@pytest.fixture
def short_studies(monkeypatch):
    """Shorten every run of a study: less text, two epochs."""

    def two_epochs(**chosen):
        return TrainSettings(**{**chosen, "num_epochs": 2})

    for module in (authors, gru, initialisation, more_books):
        monkeypatch.setattr(module, "TrainSettings", two_epochs)
    # Only the first of more books is divided into parts.
    for module, first, others in [
        (authors, 1000, 1000),
        (gru, 500, 500),
        (more_books, 4100, 500),
    ]:

        def read(names, first=first, others=others):
            return [load_text(name, others if i else first) for i, name in enumerate(names)]

        monkeypatch.setattr(module, "read", read)
    monkeypatch.setattr(initialisation, "load_text", lambda name, _: load_text(name, 600))
    monkeypatch.setattr(from_scratch, "load_corpus", lambda name, _: load_corpus(name, 300))
    for module in (authors, more_books):
        monkeypatch.setattr(module, "SAMPLE", 20)
    monkeypatch.setattr(networks, "ADAPTING_STEPS", 100)


def leave_undrawn(monkeypatch):
    """Do not draw figures, which takes longer than a short study. One study's are drawn."""
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: path.write_text(figure.alt))


def do_a_quick_study_twice(name, out, capsys):
    """The command names the texts; the second time it only reads the rows."""
    arguments = ["exercise", name, "--quick", "--out", str(out)]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert studies.SAMPLES.note in shown and "run 1 of " in shown
    csvs = {path.name: path.read_bytes() for path in out.glob("*.csv")}
    assert csvs and list(out.glob("*.svg"))
    assert cli.main(arguments) == 0
    again = capsys.readouterr().out
    assert "run 1 of " not in again
    assert {path.name: path.read_bytes() for path in out.glob("*.csv")} == csvs
    module = importlib.import_module(f"d2l_deeprnn.exercises.{EXERCISES[name]}")
    assert f"notebooks/{module.NOTEBOOK}" in again
    # Rows that were read and rows that were computed give the same output.
    assert again.split("\n\n", 1)[1] in shown


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_keeps_the_rows_that_are_done(
    short_studies, tmp_path, monkeypatch, capsys, number, status
):
    begins = exercise._Progress.run

    def run(display, done, *rest):
        begins(display, done, *rest)
        if done == 2:
            os.kill(os.getpid(), number)
            time.sleep(10)

    monkeypatch.setattr(exercise._Progress, "run", run)
    assert cli.main(["exercise", "2", "--quick", "--out", str(tmp_path)]) == status
    shown, errors = capsys.readouterr()
    assert "run 3 of" in shown and f"the same --out {tmp_path}" in shown
    assert errors == "d2l-deeprnn: interrupted\n"
    (csv,) = tmp_path.glob("*.csv")
    assert len(read_rows(csv)) == 2 and not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("name", sorted(set(EXERCISES) - {"3"}))  # for 3, see further down
def test_a_quick_study_names_its_texts_and_resumes(
    short_studies, name, tmp_path, capsys, monkeypatch
):
    if name != "1":
        leave_undrawn(monkeypatch)
    do_a_quick_study_twice(name, tmp_path, capsys)


@pytest.mark.parametrize("name", EXERCISES)
def test_a_full_study_says_at_the_start_how_long_it_takes(name, monkeypatch, capsys):
    module = importlib.import_module(f"d2l_deeprnn.exercises.{EXERCISES[name]}")
    seconds = 0.0
    for rows in read_files(module.FILES, RESULTS).values():
        for row, after in zip(rows, [*rows[1:], {}]):
            if after.get("epoch") != (row.get("epoch") or 0) + 1:  # a run's last row
                seconds += row.get("seconds") or 0.0
    assert seconds / 3600 == pytest.approx(module.HOURS, rel=0.2)

    def stop(**how):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "study", stop)
    for words, is_shown in ([], True), (["--quick"], False):
        with pytest.raises(KeyboardInterrupt):
            exercise.run_exercise(cli._parser(["exercise"]).parse_args(["exercise", name, *words]))
        shown = capsys.readouterr().out
        assert (f"takes about {module.HOURS:g} hours" in shown) is is_shown


def test_real_books_are_read_if_they_are_available(book_dir):
    assert studies.library(quick=False) == studies.BOOKS
    assert studies.library(quick=True) == studies.SAMPLES


def test_samples_stand_in_for_a_missing_book(monkeypatch, tmp_path):
    monkeypatch.setenv("D2L_DEEPRNN_DATA", str(tmp_path))
    books = studies.library(quick=False)
    assert books.first == studies.SAMPLES.first
    assert books.note.startswith(studies.SAMPLES.note) and "The Time Machine" in books.note


def test_a_text_is_split_without_loss():
    text = "".join(chr(97 + i % 26) for i in range(1003))
    parts = studies.split(text, 0.2)
    assert "".join(parts) == text and [len(part) for part in parts] == [802, 100, 101]


def test_unscored_tokens_do_not_count():
    vocab = Vocab("ab")
    settings = TrainSettings(corpus=("a",), num_hiddens=4, num_epochs=1, batch_size=1, num_steps=5)
    indices = vocab.encode("abba" * 30)
    model = new_model(settings, len(vocab), CTX)
    networks.train_to_the_end(settings, model, indices[:60], indices[60:], {})
    a, b = vocab["a"], vocab["b"]
    all_, only_b, only_a = (evaluate(model, indices, unscored=u) for u in ((), (a,), (b,)))
    assert (all_.num_chars, only_b.num_chars, only_a.num_chars) == (119, 60, 59)
    together = (only_b.nats * 60 + only_a.nats * 59) / 119
    assert all_.nats == pytest.approx(together, rel=1e-6)
    with pytest.raises(ValueError, match="all of the text's tokens are among unscored"):
        evaluate(model, indices, unscored=(a, b))


def short_text(length=3000):
    text = studies.read(["the_tide_tables"])[0][:length]
    vocab = Vocab(text)
    return vocab, vocab.encode(text)


def to_the_end(**changed):
    common = {
        **networks.settings_for(False, 10_000),
        "corpus": ("a",),
        "num_hiddens": 16,
        "lr": 0.01,
    }
    return TrainSettings(**{**common, "num_layers": 1, "batch_size": 4, **changed})


def test_the_books_gru_is_trained_like_the_others():
    """The two forms differ in the reset gate only, so their losses are similar."""
    vocab, indices = short_text()
    settings = to_the_end(cell="gru", num_epochs=2, batch_size=8)
    ours, theirs = (
        networks.train_to_the_end(
            settings,
            make(settings, len(vocab)),
            indices[:2400],
            indices[2400:2700],
            {"test": indices[2700:]},
        )
        for make in (gru._reset_before, networks.new_network)
    )
    for name in ("train", "valid", "test", "known"):
        assert ours[-1][name] == pytest.approx(theirs[-1][name], rel=0.1), name
    assert ours[-1]["train"] < ours[0]["train"] - 0.2


def test_training_ends_after_a_plateau_and_keeps_the_best_parameters():
    vocab, indices = short_text(1500)
    settings = to_the_end(lr=0.1, decay_epochs=2, patience=5, num_epochs=60, num_hiddens=32)
    model = new_model(settings, len(vocab), CTX)
    held_out = {"test": indices[1300:], "other": indices[1000:1200]}
    rows = networks.train_to_the_end(settings, model, indices[:1200], indices[1200:1350], held_out)
    best = networks.best_epoch(rows)
    assert len(rows) < 60 and len(rows) - best["epoch"] == 5
    rates = [row["lr_then"] for row in rows[best["epoch"] :]]
    assert rates[0] == rates[1] == pytest.approx(4 * rates[2])
    # Scored once, at the best epoch, whose parameters the model has.
    assert [row for row in rows if "test" in row] == [best]
    for name, part in {**held_out, "known": indices[:1200]}.items():
        assert evaluate(model, part, CTX).nats == pytest.approx(best[name], rel=1e-6), name
    assert evaluate(model, indices[1200:1350], CTX).nats == pytest.approx(best["valid"], rel=1e-6)


class Killed(Exception):
    pass


def test_a_killed_training_resumes_in_its_epoch(tmp_path):
    vocab, indices = short_text(2000)
    settings = to_the_end(dropout=0.3, num_epochs=5)

    def trained(**options):
        model = new_model(settings, len(vocab), CTX)
        parts = (indices[:1500], indices[1500:1750], {"test": indices[1750:]})
        rows = networks.train_to_the_end(settings, model, *parts, **options)
        without_times = [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]
        return without_times, model, rows

    epochs = []

    def kill(progress):
        epochs.append(progress.epoch)
        if progress.epoch in (3, 4) and epochs.count(progress.epoch) == 2:
            raise Killed

    whole, _, _ = trained()
    file = tmp_path / "networks" / "one"
    for _ in range(2):
        with pytest.raises(Killed):
            trained(on_minibatch=kill, file=file)
    found, model, rows = trained(file=file, keep=True)
    assert found == whole
    assert [epochs.count(epoch) > 2 for epoch in (1, 2)] == [True, True]
    times = [row["processor_seconds"] for row in rows]
    assert times == sorted(times) and times[0] > 0
    # Repeated, it only reads its rows and parameters.
    _, again, its_rows = trained(file=file, keep=True)
    assert its_rows == rows
    for name, array in parameters_of(model).items():
        assert (parameters_of(again)[name] == array).asnumpy().all()
    settings = to_the_end(dropout=0.2, num_epochs=5)
    with pytest.raises(StudyError, match="has other settings"):
        trained(file=file)
    settings = to_the_end(dropout=0.3, num_epochs=5)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(StudyError, match="cannot be used: .*; remove it"):
        trained(file=file)
    file.unlink()
    trained(file=file)
    assert not file.exists()


def test_a_training_that_diverges_at_once_has_a_row(monkeypatch):
    vocab, indices = short_text(1500)
    settings = to_the_end()

    def diverges(*_):
        raise networks.Diverged("no")

    monkeypatch.setattr(networks.Learner, "train_epoch", diverges)
    model = new_model(settings, len(vocab), CTX)
    (row,) = networks.train_to_the_end(
        settings, model, indices[:1000], indices[1000:], {"test": indices[1000:]}
    )
    assert row["valid"] == row["test"] == row["known"] == float("inf")
    assert perplexity(row["valid"]) == float("inf")


def test_the_same_number_of_parameters_is_the_nearest():
    size = gru._num_params("lstm", 32, 30)
    width = gru._width_for(size, "gru", 30, 32)
    gaps = {w: abs(gru._num_params("gru", w, 30) - size) for w in range(20, 60)}
    assert width == min(gaps, key=gaps.get)


def test_mixtures_contain_both_texts_as_named():
    one, two = "a" * 3000, "b" * 5000
    mixtures = authors._mixtures({"A": one, "B": two})
    counts = {name: (text.count("a"), text.count("b")) for name, text in mixtures.items()}
    assert counts == {
        "A only": (3000, 0),
        "B only, cut to the other's length": (0, 3000),
        "B only": (0, 5000),
        authors.HALVES: (1500, 1500),
        authors.ALL: (3000, 5000),
        f"{authors.HALVES}, with author marks": (1500, 1500),
        f"{authors.ALL}, with author marks": (3000, 5000),
        "both, a tenth of A": (300, 3000),
        "both, a tenth of A, repeated": (3000, 3000),
    }
    marked = mixtures[f"{authors.ALL}, with author marks"]
    assert [marked.count(mark) for mark in authors.MARKS] == [6, 10]
    assert marked.startswith(authors.MARKS[0] + "a" * 500 + authors.MARKS[0])
    assert mixtures["both, a tenth of A, repeated"].startswith("a" * 3000)
    # The longer text is cut, whichever comes first.
    mixtures = authors._mixtures({"B": two, "A": one})
    assert mixtures["B only, cut to the other's length"] == "b" * 3000
    # A share has passages from all parts of the text.
    text = "".join(chr(97 + i // 200) for i in range(5000))
    cut = authors._mixtures({"A": text, "B": one})["A only, cut to the other's length"]
    assert [cut.count(letter) for letter in sorted(set(text))] == [120] * 25
    assert list(cut) == sorted(cut)
    assert mixtures["A only"] == one and "A only, cut to the other's length" not in mixtures


def test_only_authors_in_the_text_choose_the_epoch(monkeypatch):
    seen = {}

    def train(settings, model, train_indices, valid_indices, held_out, **how):
        if held_out:  # otherwise, settings are tried
            seen[len(seen)] = (train_indices, valid_indices, held_out, how["unscored"])
        scores = {"epoch": 1, "valid": 1.0, "seconds": 1.0, **dict.fromkeys(held_out, 1.0)}
        return [scores]

    monkeypatch.setattr(authors, "train_to_the_end", train)
    rows = authors.study(quick=True)
    parts = [
        [" ".join(p) for p in zip(*(studies.split(text, 0.1) for text in studies.read(names)))]
        for names in (studies.SAMPLES.first, studies.SAMPLES.second)
    ]
    lengths = [len(part[1]) for part in parts]
    by_mixture = dict(zip([row["mixture"] for row in rows["runs"]], seen.values()))
    assert len(by_mixture) == 9
    for mixture, (_, valid, held_out, unscored) in by_mixture.items():
        number = 0 if "tales only" in mixture else 1 if "letters only" in mixture else None
        marks = np.isin(valid, unscored).sum()
        assert len(valid) - marks == (sum(lengths) if number is None else lengths[number]), mixture
        assert bool(marks) == ("marks" in mixture)
        assert [len(p) - np.isin(p, unscored).sum() for p in held_out.values()] == [
            len(part[2]) for part in parts
        ]
        assert all(np.isin(p, unscored).any() == bool(marks) for p in held_out.values())


def rows_of_authors(losses):
    """Return rows of mixtures, with each seed's losses on A and on B."""
    return {
        "runs": [
            {
                **{"mixture": mixture, "seed": seed, "A": a, "B": b, "characters": 10},
                **{"epoch": 3, "dropout": 0.2, "lr": 0.01},
            }
            for mixture, of_seeds in losses.items()
            for seed, (a, b) in enumerate(of_seeds)
        ],
        "recipes": [{"mixture": authors.ALL, "dropout": 0.2, "lr": 0.01, "valid": 1.0}],
        "characters": [{"author": author, "character": "U+0061"} for author in "AB"],
        "words": [],
    }


def test_mixtures_are_compared_seed_by_seed():
    # B is longer. Seeds differ a lot, mixtures by little.
    seeds = [(1.0, 2.0), (1.5, 2.5), (1.2, 2.1)]

    def shifted(a, b):
        return [(x + a + 0.001 * (i == 1), y + b) for i, (x, y) in enumerate(seeds)]

    both, tenth = [authors.HALVES, authors.ALL], "both, a tenth of A"
    rows = rows_of_authors(
        {
            "A only": seeds,
            "B only, cut to the other's length": shifted(0.8, 0.1),
            "B only": shifted(0.7, 0.0),
            both[0]: shifted(0.2, 0.2),
            both[1]: shifted(-0.1, -0.2),
            f"{both[0]}, with author marks": shifted(0.2, 0.2),
            f"{both[1]}, with author marks": shifted(-0.2, -0.2),
            tenth: shifted(0.5, 0.1),
            f"{tenth}, repeated": shifted(0.4, 0.3),
        }
    )
    found = authors.differences(rows)
    expected = [
        (both[0], "A only", "A", 0.2),
        (both[0], "B only, cut to the other's length", "B", 0.1),
        (both[1], "A only", "A", -0.1),
        (both[1], "B only", "B", -0.2),
        (f"{both[0]}, with author marks", both[0], "A", 0.0),
        (f"{both[0]}, with author marks", both[0], "B", 0.0),
        (f"{both[1]}, with author marks", both[1], "A", -0.1),
        (f"{both[1]}, with author marks", both[1], "B", 0.0),
        (tenth, "B only, cut to the other's length", "A", -0.3),
        (tenth, "B only, cut to the other's length", "B", 0.0),
        (f"{tenth}, repeated", tenth, "A", -0.1),
        (f"{tenth}, repeated", tenth, "B", 0.2),
    ]
    assert [row.labels for row in found] == [row[:3] for row in expected]
    for row, (*_, mean) in zip(found, expected):
        assert row.mean == pytest.approx(mean, abs=1e-3)
        assert row.interval.contains(0) is (abs(mean) < 0.01)


def test_each_network_of_more_books_is_trained_once(short_studies, tmp_path, monkeypatch, capsys):
    leave_undrawn(monkeypatch)
    trained, train = [], networks.train_to_the_end

    def counting(settings, model, *args, **how):
        if not how["file"].exists():
            trained.append((how["file"].name, settings))
        return train(settings, model, *args, **how)

    monkeypatch.setattr(more_books, "train_to_the_end", counting)
    do_a_quick_study_twice("3", tmp_path, capsys)
    rows = more_books.study(quick=True, out=tmp_path)
    names = [name for name, _ in trained]
    tried = names.count("exercise_3_tried")
    assert tried == 10 and len(names) == 10 + 10 + 2  # settings, two seeds, going on
    assert len(set(names[-4:])) == 4 and all("further" in name for name in names[-2:])
    assert not list((tmp_path / "networks").iterdir())
    # Each amount has the best of its own settings, and other seeds than those that chose them.
    for amount in AMOUNTS:
        best = networks.best_epoch(select(rows["recipes"], amount=amount))
        runs = select(rows["amounts"], amount=amount)
        assert [run["seed"] for run in runs] == [1, 2] and best["seed"] == 0
        assert {run[name] == best[name] for run in runs for name in more_books.RECIPE} == {True}
    assert not any("test" in row for row in rows["recipes"])  # only compared networks have one
    # What goes on starts from the trained network, so it is better.
    on, before = rows["lowest"][0], select(rows["amounts"], amount="three books", seed=1)[0]
    assert on["train"] < before["train"]
    blocks = [float(block) for block in str(before["blocks"]).split()]
    assert np.mean(blocks) == pytest.approx(before["test"], rel=0.01)


AMOUNTS = dict(zip(more_books.PARTS + more_books.BOOKS, (1e3, 3e3, 1e4, 4e4, 1e5)))


def rows_of_books(losses, shifts=(0.0, 0.01, 0.02)):
    """Return rows of amounts, with losses of the first seed, and shifts of all seeds."""
    recipe = dict(zip(more_books.RECIPE, (8, 0.2, 0.01, 0.0)))

    def ended(loss, shift, **row):
        losses = dict.fromkeys(("train", "valid", "known", "test"), loss + shift)
        samples = {"sample_0": "a", "sample_1": "b"}
        return {**row, "epoch": 2, **losses, **samples, "blocks": blocks(loss + shift)}

    def blocks(loss):
        return " ".join(f"{loss + 0.1 * (i % 3 - 1):.3f}" for i in range(30))

    return {
        "ngrams": [
            {
                "amount": a,
                "characters": n,
                "order": 3,
                "known": 1.0,
                "test": 1.5,
                "blocks": blocks(1.5),
            }
            for a, n in AMOUNTS.items()
        ],
        "recipes": [{"amount": a, **recipe, "valid": 1.0} for a in AMOUNTS],
        "amounts": [
            ended(loss, shift, amount=amount, characters=n, **recipe, seed=seed)
            for (amount, n), loss in zip(AMOUNTS.items(), losses)
            for seed, shift in enumerate(shifts)
        ],
        "lowest": [
            ended(loss, shift, way=way, lr=0.1, seed=seed)
            for way, loss in [(more_books.GOING_ON, 1.0), (more_books.ADAPTING, 0.9)]
            for seed, shift in enumerate(shifts)
        ],
    }


def test_steps_to_more_text_have_their_powers():
    losses = [3 * n**-0.1 for n in AMOUNTS.values()]
    rows = rows_of_books([*losses[:-1], 7.0], shifts=(0.0,))  # the last is not by the first author
    table = more_books.tables(rows)[3]
    assert [row[1] for row in table.rows] == ["3.0", "3.3", "4.0"]
    assert [row[2] for row in table.rows] == [f"{b - a:+.3f}" for a, b in zip(losses, losses[1:4])]
    assert [row[3] for row in table.rows] == ["-0.100"] * 3


def test_amounts_and_ways_are_compared_seed_by_seed():
    differences = more_books.differences(rows_of_books([5, 4, 3, 2, 1.2]))
    found = {difference.labels: difference.interval for difference in differences}
    lower = {pair: interval.middle for pair, interval in found.items()}
    assert lower == {
        **{
            (f"network, {a}", f"n-gram, {a}"): pytest.approx(loss + 0.01 - 1.5)
            for a, loss in zip(AMOUNTS, [5, 4, 3, 2, 1.2])
        },
        ("network, three books", "network, two books"): pytest.approx(-0.8),
        (more_books.GOING_ON, more_books.AS_TRAINED): pytest.approx(-0.2),
        (more_books.ADAPTING, more_books.GOING_ON): pytest.approx(-0.1),
    }
    # The networks' seeds shift alike. The n-gram has no seeds, so the shifts are noise.
    assert found[more_books.GOING_ON, more_books.AS_TRAINED].high < -0.199
    assert found["network, one book", "n-gram, one book"].low < 1.49


def trained_networks(text, seeds=(1, 2)):
    vocab, indices = text
    settings = to_the_end(num_epochs=4, num_hiddens=12)
    trained = []
    for seed in seeds:
        of_seed = dataclasses.replace(settings, seed=seed)
        trained.append(new_model(of_seed, len(vocab), CTX))
        networks.train_to_the_end(of_seed, trained[-1], indices[:2000], indices[2000:2300], {})
    return trained


def test_an_ensemble_is_the_mean_of_probabilities():
    vocab, indices = short_text()
    trained, test = trained_networks((vocab, indices)), indices[2300:3000]
    said = [networks.character_losses(network, test) for network in trained]
    for network, losses in zip(trained, said):
        assert losses.shape == (699,)
        alone = evaluate(network, test, CTX, batch_size=1).nats
        assert losses.mean() == pytest.approx(alone, rel=1e-6)
        assert networks.ensemble_losses([network], test) == pytest.approx(losses)
    expected = -np.log((np.exp(-said[0]) + np.exp(-said[1])) / 2)
    assert networks.ensemble_losses(trained, test) == pytest.approx(expected, rel=1e-5)


def test_dynamic_evaluation_scores_before_it_learns():
    vocab, indices = short_text()
    (network,), test = trained_networks((vocab, indices), [1]), indices[2300:3000]
    before = {name: array.asnumpy() for name, array in parameters_of(network).items()}
    alone = networks.character_losses(network, test)
    losses = networks.dynamic_evaluation(network, test, 1e-9)
    assert losses.shape == alone.shape and losses.mean() == pytest.approx(alone.mean(), rel=1e-5)
    assert networks.dynamic_evaluation(network, test, 0.3).mean() < alone.mean() - 1e-3
    # The first characters are scored before the first step.
    steps = networks.ADAPTING_STEPS
    first = networks.dynamic_evaluation(network, test, 0.3)[:steps]
    assert first == pytest.approx([alone[:steps].mean()] * steps, rel=1e-5)
    for name, array in parameters_of(network).items():
        assert (array.asnumpy() == before[name]).all(), name


def test_from_scratch_equals_gluon_and_a_fault_shows(monkeypatch):
    row = from_scratch.largest_differences("LSTM", 2)
    assert max(row.values()) < 1e-5
    forward = from_scratch.params_from_gluon

    def faulty(*args):
        params = forward(*args)
        params[3] += 0.01
        return params

    monkeypatch.setattr(from_scratch, "params_from_gluon", faulty)
    assert max(from_scratch.largest_differences("LSTM", 2).values()) > 1e-3


def test_differences_are_taken_seed_by_seed():
    pairs = {(c, k) for pair in gru.PAIRS for c, k in (pair[:2], pair[2:])}
    rows = [
        {"comparison": c, "kind": k, "seed": seed, "test": test}
        for c, k in pairs
        for seed in (1, 2, 3)
        # Seeds differ a lot; the LSTM is a little worse with each.
        for test in (seed + (0.1 if k == "LSTM" else 0.0) + 0.001 * (seed == 2), "")
    ]
    for row in gru.differences({"runs": rows}):
        is_less = row.labels[1] == "LSTM"
        assert row.mean == pytest.approx(-0.1 if is_less else 0)
        assert row.interval.contains(0) is not is_less


def rows_of_initialisation(epochs):
    """Return rows of cells; ``epochs`` has each seed's epochs by learning rate."""
    line = {"epoch": 1, "train": 2.0, "spread": 0.1}
    return {
        "grid": [
            {
                **{"init": init, "num_layers": 2, "clipping_theta": theta, "lr": lr},
                **{"seed": seed, "epochs": of_seed},
            }
            for lr, of_seeds in epochs.items()
            for theta in (10.0, 1.0)
            for seed, of_seed in enumerate(of_seeds)
            for init in initialisation.INITS
        ],
        "plateau": [{"init": init, **line} for init in initialisation.INITS],
        "fast": [{"setting": setting, "seed": 0, **line} for setting in initialisation.FAST],
        "unigram": [{"perplexity": 20.0}],
    }


def test_the_axes_of_the_heat_map_are_sorted():
    rows = rows_of_initialisation({50.0: [500], 5.0: [50], 15.0: [150]})
    svg = to_svg(initialisation.figures(rows)["initialisation_grid"])
    numbers = [svg.index(f"<!-- {number} -->") for number in (50, 150, 500)]
    assert numbers == sorted(numbers)


def test_a_cell_of_the_heat_map_summarizes_its_seeds():
    # 0 epochs means never.
    rows = rows_of_initialisation({5.0: [0, 111, 133], 15.0: [0, 0, 99], 50.0: [87, 88, 92]})
    figures = initialisation.figures(rows)
    median = to_svg(figures["initialisation_grid"])
    assert {n for n in ("111", "133", "99", "88") if f"<!-- {n} -->" in median} == {"133", "88"}
    share = to_svg(figures["initialisation_share"])
    assert {n for n in range(101) if f"<!-- {n} -->" in share} >= {67, 33, 100}
    agreement, best, *_ = initialisation.tables(rows)
    assert [row[1:] for row in agreement.rows] == [["2", "2", "4", "0"]] * 3
    assert [row[1:] for row in best.rows] == [["2", "50", "1", "87, 88, 92", "88"]] * 3


def test_if_most_seeds_never_reach_the_goal_the_best_setting_has_the_most_that_do():
    rows = rows_of_initialisation({5.0: [0, 0, 0], 15.0: [0, 99, 0]})
    assert initialisation.tables(rows)[1].rows[0][2:] == ["15", "1", "never, 99, never", "never"]
    rows = rows_of_initialisation({5.0: [0, 0, 0]})
    assert initialisation.tables(rows)[0].rows[0][2:] == ["0", "0", "2"]
    assert initialisation.tables(rows)[1].rows[0][2:] == ["any", "any", "never", "never"]


def test_the_end_of_the_plateau_is_the_first_epoch_within_each_limit():
    rows = rows_of_initialisation({5.0: [50]})
    losses = enumerate([25.0, 19.0, 17.0, 12.0, 9.0], start=1)
    rows["plateau"] = [
        {"init": "normal", "epoch": epoch, "train": math.log(p), "spread": epoch / 100}
        for epoch, p in losses
    ]
    table = initialisation.tables(
        {**rows, "grid": [{**r, "init": "normal"} for r in rows["grid"]]}
    )[2]
    assert list(table.columns[2:]) == [
        "the frequencies' 20.00",
        "nine tenths of it",
        "half of it",
        "2",
    ]
    assert list(table.rows) == [["normal", "0.01", "2", "3", "5", "not within 5"]]


def test_the_epochs_to_the_books_perplexity_are_those_of_each_seed():
    low, high = math.log(1.03), math.log(1.1)
    ends = {0: (70, low), 1: (200, high), 2: (80, low)}
    rows = [
        {"setting": "fast", "seed": seed, "epoch": epoch, "train": train}
        for seed, (last, end) in ends.items()
        for epoch, train in ((1, 2.0), (last, end))
    ]
    found = initialisation._epochs_to_the_books(rows)
    assert found == ["70, not within 200, 80", "80"]
    lost = [row for row in rows if row["seed"] == 1]
    assert initialisation._epochs_to_the_books(lost) == ["not within 200"] * 2
