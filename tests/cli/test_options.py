"""Options of commands, the settings they give, and help pages."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from dataclasses import MISSING, asdict, dataclass, replace
from pathlib import Path

import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn.chapter import book, reproduce
from d2l_deeprnn.cli import COMMANDS, GROUPS, _parser, main
from d2l_deeprnn.cli.options import non_defaults, to_argv
from d2l_deeprnn.cli.train import add_settings
from d2l_deeprnn.text.corpora import BOOK_TEXT, SAMPLE_TEXT
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.settings import (
    COUNT,
    FRACTION,
    SettingsError,
    TrainSettings,
    as_dict,
    base_rate,
    field,
    fields,
    from_dict,
)

RESULTS = Path(__file__).parents[2] / "results"
OTHER_OPTIONS = {"--out", "--resume", "--preset", "--config"}
# Each setting except ``cell`` has another value than its default.
CHANGED = TrainSettings(
    corpus=("a.txt", "b c"), num_examples=300, keep_case=True, keep_whitespace=True,
    valid_fraction=0.25, test_fraction=0.2, num_layers=3, num_hiddens=8, dropout=0.5,
    init="xavier", forget_bias=-1.5, batch_size=4, num_steps=9, sampling="random", num_epochs=7,
    optimizer="nag", optimizer_options={"wd": 1e-4, "momentum": 0.9}, lr=0.5, schedule="cosine",
    lr_decay=0.25, decay_epochs=3, warmup_epochs=1.5, clipping_theta=0.25, patience=2, seed=5,
    encoding="cp1252",
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """A function that returns the settings that `train` would use, or its exit status."""
    seen = []

    def train(settings, out, **how):
        seen.append(settings)
        return runs.Result([], "nothing was done", False)

    monkeypatch.setattr(runs, "train", train)

    def ask(*words):
        status = main(["train", "--out", "nowhere", *map(str, words)])
        return seen.pop() if status == 0 else status

    return ask


def page(capsys, *words):
    """Return a help page."""
    with pytest.raises(SystemExit) as exit:
        main([*words, "--help"])
    assert exit.value.code == 0
    return capsys.readouterr().out


def refused(capsys, *words):
    """Return the error line for arguments that are refused with status 2."""
    status = main(list(words))
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert status == 2 and out == ""
    return line


# Options from the declarations of settings.


def test_every_setting_is_an_option_in_its_group_with_help_and_default(capsys):
    text = page(capsys, "train")
    groups = re.split(r"^(\w+):\n", text, flags=re.MULTILINE)
    groups = dict(zip(groups[1::2], groups[2::2]))
    for name, one in fields(TrainSettings).items():
        assert one.help and one.group in ("data", "model", "optimization", "run"), name
        group = " ".join(groups[one.group].split())
        option = f"--{name.replace('_', '-')}".replace("-options", "-option")
        assert option in group and one.description in group, name
        assert one.default is MISSING or "(default: " in one.description
    titles = [title for title in groups if title not in ("options", "examples")]
    assert titles == ["data", "model", "optimization", "run"]
    assert all(option in groups["run"] for option in OTHER_OPTIONS)


def test_a_new_setting_needs_only_its_declaration():
    @dataclass(frozen=True)
    class More(TrainSettings):
        zoneout: float = field(0.25, "model", FRACTION, "fraction of 100% of the states kept")
        num_heads: int = field(None, "attention", COUNT, "number of heads", "one a layer")

    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    add_settings(parser, More)
    words = ["--out", "a", "--zoneout", "0.5", "--num-heads", "3"]
    assert vars(parser.parse_args(words))["zoneout"] == 0.5
    assert parser.parse_args(words).num_heads == 3
    text = " ".join(parser.format_help().split())
    assert "--zoneout F fraction of 100% of the states kept (default: 0.25)" in text
    assert "attention: --num-heads N|none number of heads (default: one a layer)" in text
    assert More(corpus=("a",)).zoneout == 0.25 and More(corpus=("a",), num_heads=2).num_heads == 2
    with pytest.raises(SettingsError, match="zoneout must be at least 0 and below 1, not 1"):
        More(corpus=("a",), zoneout=1)
    with pytest.raises(SettingsError, match="num_heads must be a whole number of at least 1"):
        More(corpus=("a",), num_heads=0)


def test_every_option_reaches_the_settings(asked):
    assert non_defaults(CHANGED).keys() == fields(TrainSettings).keys() - {"cell"}
    for settings in (
        CHANGED,
        TrainSettings(corpus=("a",), cell="gru"),
        TrainSettings(corpus=("a",), optimizer="adadelta"),
        TrainSettings(corpus=("a",), forget_bias=-1e-5),
        TrainSettings(
            corpus=("a",), optimizer="rmsprop", lr=0.1, optimizer_options={"centered": True}
        ),
    ):
        assert asked(*to_argv(settings)) == settings


@pytest.mark.parametrize(
    "words, message",
    [
        (["--num-layers", "0"], "--num-layers: must be a whole number from 1 to 1000, not '0'"),
        (["--seed", str(2**31)], "--seed: must be a whole number from 0 to 2147483647, not '"),
        (["--cell", "lstn"], "--cell: invalid choice: 'lstn'; did you mean lstm? (see "),
        (["--cell", "x"], "--cell: invalid choice: 'x'; choose lstm, gru, rnn (see "),
        (["--lr", "fast"], "--lr: must be a number above 0, such as 0.5, not 'fast' (see "),
        (["--dropout", "0,5"], "--dropout: must be at least 0 and below 1, such as 0.1, not '0,5'"),
        (["--warmup-epochs", "x"], ": must be from 0 to the number of epochs, such as 1.5, not"),
        (
            ["--rank-timeout", "1h"],
            "--rank-timeout: must be a number above 0, such as 60, not '1h'",
        ),
        (["--optimizer-option", "a"], ": must be NAME=NUMBER, such as momentum=0.9, not 'a'"),
        (["--num-epochs", "none"], "--num-epochs: must be a whole number of at least 1"),
        (["--num-epochs", str(2**54)], "--num-epochs must be at most 9007199254740992, not 180"),
        (["--dropout", "1"], " --dropout must be at least 0 and below 1, not 1.0"),
        (
            ["--patience", "3", "--valid-fraction", "0"],
            " --patience needs a validation part: set --valid-fraction above 0",
        ),
        (
            ["--optimizer", "adadelta", "--lr", "3"],
            "--optimizer adadelta has no learning rate: leave out --lr, --schedule and --warmup",
        ),
        (["--optimizer-option", "wd=nan"], "--optimizer-option wd must be a finite number"),
        (["--optimizer", "Adma", "--lr", "1"], "signum, not 'Adma'; did you mean adam?"),
        (["--out", ""], "argument --out: is empty; the current directory is ."),
        (["--encoding", "seed"], " --encoding must be an encoding that Python knows, such as"),
        (["--encoding", "seed"], "not 'seed'"),
        (["--device", "lr"], " --device must be cpu, gpu or one GPU such as gpu(1), not 'lr'"),
        (["--preset", "book"], "--preset: invalid choice: 'book'"),
        (["--preset", "chapter", "--config", "a"], "--config: not allowed with argument --preset"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(capsys, words, message):
    assert message in refused(capsys, "train", "--corpus", "a", "--out", "nowhere", *words)


@pytest.mark.parametrize("words", [["train", "--out", "a"], []])
def test_an_error_names_the_help_page_of_its_command(capsys, words):
    command = " ".join(["d2l-deeprnn", *words[:1]])
    line = refused(capsys, *words, "--colour=red")
    assert line.startswith("d2l-deeprnn: error: ") and line.endswith(f" (see {command} --help)")
    assert not words or "unrecognized arguments: --colour=red" in line


@pytest.mark.parametrize(
    "words, message",
    [
        (["exercise"], "EXERCISE is missing: choose 1, 2, 3, 4, initialisation"),
        (["generate", "--length", "5"], "DIR is missing: directory of the run"),
        (["import"], "FILE is missing: file to read; --out is missing: directory of the run; it "),
        (["export", "a", "--output=b"], "--format is missing: choose onnx, safetensors, html"),
        (["exercise", "7"], "EXERCISE: invalid choice: '7'; choose 1, 2, 3, 4, initialisation"),
        (
            ["generate", "a", "--length=0"],
            "--length: must be a whole number of at least 1, not '0'",
        ),
        (["--hepl"], "unrecognized arguments: --hepl; did you mean --help?"),
        (["-v"], "unrecognized arguments: -v"),
        (["generate", "--temperature", "-1"], "DIR is missing: "),
        (["generate", "--hepl"], "unrecognized arguments: --hepl; did you mean --help?"),
    ],
)
def test_what_is_missing_or_unknown_is_described(capsys, words, message):
    assert f"d2l-deeprnn: error: {message}" in refused(capsys, *words).replace("argument ", "")


def test_train_names_all_that_is_missing_at_once(capsys):
    line = refused(capsys, "train", "--cell", "gru")
    corpus, out = (f"--{name} is missing: give a" for name in ("corpus", "out"))
    assert f"error: {corpus} known text or a file; {out} directory for the run" in line
    assert out in refused(capsys, "train", "--corpus", "a")
    assert out in refused(capsys, "train", "--resume")
    assert out not in refused(capsys, "train", "--out", "nowhere")


def test_the_version_has_two_names(capsys):
    for option in "-V", "--version":
        with pytest.raises(SystemExit):
            main([option])
        assert capsys.readouterr().out == f"d2l-deeprnn {d2l.__version__}\n"


def test_a_mistyped_command_is_told_the_right_one(capsys):
    line = refused(capsys, "trian", "--out", "a")
    assert line.endswith(": invalid choice: 'trian'; did you mean train? (see d2l-deeprnn --help)")
    line = refused(capsys, "draw")
    assert "'draw'; choose reproduce, exercise," in line and "did you mean" not in line


@pytest.mark.parametrize("words", [["nosuch"], ["time_machine"], ["fetch"], ["fetch", "a", "b"]])
def test_fetching_a_text_is_explained(capsys, words):
    line = refused(capsys, "corpora", *words)
    assert line.startswith(f"d2l-deeprnn: error: `corpora {' '.join(words)}` is not a command: ")
    assert "run `d2l-deeprnn corpora fetch NAME`, with one of time_machine, " in line


# Pages of help.


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_page_explains_each_option(monkeypatch, capsys, command):
    monkeypatch.setenv("COLUMNS", "300")
    text = page(capsys, command)
    assert max(map(len, text.splitlines())) <= 80
    parser = _parser([command]).commands.choices[command]
    assert parser.description
    for action in parser._actions:
        if action.option_strings and action.dest != "help":
            named = action.required or (command == "train" and action.dest in ("corpus", "out"))
            assert named or re.search(r"\(default: .+\)", action.help), action
        assert action.help and action.type is not Path, action  # user_path expands ~
    examples = text.split("\nexamples:\n")[1].replace("\\\n", " ").splitlines()
    for line in examples:
        program, name, *words = shlex.split(line.replace("mpiexec -n 4 ", ""))
        assert (program, name) == ("d2l-deeprnn", command)
        assert _parser().parse_args([name, *words]).run


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_a_help_page_fits_a_narrow_terminal(monkeypatch, capsys, command):
    words = [command] if command else []
    wide = page(capsys, *words)
    monkeypatch.setenv("COLUMNS", "40")
    narrow = page(capsys, *words)
    assert max(map(len, narrow.splitlines())) <= 40
    assert re.sub(r"[\\\s]", "", narrow) == re.sub(r"[\\\s]", "", wide)  # but for line breaks


def test_help_is_a_command_too(capsys):
    pages = []
    for words in ["help", "train"], ["train", "--help"]:
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0
        pages.append(capsys.readouterr().out)
    assert pages[0] == pages[1]


def test_without_a_command_all_are_listed(capsys):
    with pytest.raises(SystemExit) as exit:
        main([])
    text = capsys.readouterr().out
    assert exit.value.code == 0 and max(map(len, text.splitlines())) <= 80
    groups = dict(block.split(":\n", 1) for block in text.split("\n\n") if ":\n" in block)
    for title, commands in GROUPS.items():
        listed = [line.split()[0] for line in groups[title].splitlines()]
        assert listed == list(commands), title
    for line in groups["examples"].splitlines():
        assert _parser().parse_args(shlex.split(line)[1:]).run


def test_help_loads_nothing_that_takes_long(tmp_path):
    code = (
        "import sys\nfrom d2l_deeprnn.cli import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "slow = {'mxnet', 'matplotlib', 'requests', 'tqdm', 'd2l_deeprnn.text.corpora'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


# Presets and configuration files.


def test_the_preset_is_the_chapter(asked):
    made = asked("--preset", "chapter")
    assert made == book.BOOK.train_settings()
    chapter = asdict(book.CHAPTER)
    del chapter["prefixes"]
    assert {name: as_dict(made)[name] for name in chapter} == chapter
    assert made.corpus == (BOOK_TEXT,) and made.valid_fraction == made.test_fraction == 0
    assert (made.cell, made.init, made.optimizer) == ("lstm", "normal", "sgd")
    assert (made.sampling, made.schedule, made.dropout) == ("adjacent", "constant", 0)
    assert not made.keep_case and not made.keep_whitespace and not made.optimizer_options


@pytest.mark.parametrize("name", book.TRAININGS)
def test_a_run_with_a_preset_gets_the_printed_points(tmp_path, asked, name):
    training = book.TRAININGS[name]
    for words, expected in [
        ([], training),
        (["--seed", "3", "--num-epochs", "600"], training),
        (["--num-hiddens", "255"], None),
        (["--corpus", "war_of_the_worlds"], None),
    ]:
        settings = as_dict(asked("--preset", name, *words))
        config = {"run": "1", "text": {"sha256": None}, "settings": settings}
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert reproduce.printed_training(tmp_path) is expected


def test_options_override_a_preset(asked, capsys):
    made = asked("--preset", "chapter", "--num-examples", "none", "--seed", "3", "--keep-case")
    expected = replace(book.BOOK.train_settings(), num_examples=None, seed=3, keep_case=True)
    assert made == expected
    assert asked("--preset", "chapter", "--optimizer", "adam") == 2
    assert "--lr must be given with --optimizer 'adam'" in capsys.readouterr().err
    assert base_rate(asked("--preset", "chapter", "--optimizer", "adadelta")) == 1


def test_the_configuration_of_a_run_gives_its_settings(tmp_path, monkeypatch, capsys):
    text = tmp_path / "text.txt"
    text.write_text("some words and more of them. " * 100)
    words = ["--num-hiddens=8", "--batch-size=4", "--num-epochs=1", "--keep-case"]
    words += ["--optimizer-option=momentum=0.5", "--optimizer-option=wd=0.25", "--lr=1"]
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--corpus", "text.txt", *words, "--out", "first"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = ["--config", "../first/config.json"]
    assert main(["train", *config, "--out", "again"]) == 0
    more = ["--no-keep-case", "--optimizer-option=momentum=0", "--patience=2", "--lr=none"]
    assert main(["train", *config, *more, "--out", "more"]) == 0
    first, again, more = (
        from_dict(json.loads(Path(run, "config.json").read_text())["settings"])
        for run in ("../first", "again", "more")
    )
    assert again == replace(first, corpus=(str(text),))
    options = {"momentum": 0, "wd": 0.25}
    assert more == replace(again, keep_case=False, optimizer_options=options, patience=2, lr=None)
    # A file of settings resumes a run, as options do, if the settings are the run's own.
    assert main(["train", "--resume", *config, "--out", "again"]) == 0
    capsys.readouterr()
    assert main(["train", "--resume", *config, "--out", "more"]) == 2
    assert "--keep-case: False in the run, True requested" in capsys.readouterr().err


def test_a_file_may_hold_some_settings_only(tmp_path, asked):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"optimizer": "adam", "num_hiddens": 8, "patience": 3}))
    made = asked("--config", path, "--corpus", "a", "--lr", "0.5", "--patience", "none")
    assert made == TrainSettings(corpus=("a",), optimizer="adam", lr=0.5, num_hiddens=8)
    path.write_text(json.dumps({"settings": {"corpus": ["a"], "num_hiddens": 8}}))
    assert asked("--config", path) == TrainSettings(corpus=("a",), num_hiddens=8)


@pytest.mark.parametrize(
    "path", sorted(RESULTS.glob("*/config.json")), ids=lambda path: path.parent.name
)
def test_configurations_of_older_runs(asked, path):
    config = json.loads(path.read_text())
    made = asked("--config", path)
    if "is_the_books_text" in config:
        assert made == book.BOOK.train_settings()
    else:
        assert made == from_dict(config["settings"])
        assert {**as_dict(made), **config["settings"]} == as_dict(made)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"corpus": ["a"], "num_hidens": 8}', "unknown settings: 'num_hidens'"),
        ('{"corpus": ["a"]', "cannot be used: it is not JSON: Expecting ','"),
        ("[1]", "settings must map names to values, not [1]"),
        ('{"settings": 8}', "settings must map names to values, not 8"),
        ('{"settings": {"lr": 8}}', "cannot be used: 'corpus' is missing"),
        ('{"settings": {"corpus": ["a"]}, "text": 3}', "cannot be used: "),
        ('{"settings": {"corpus": ["a"]}, "command": "export"}', "update d2l_deeprnn"),
        ('{"corpus": ["a"], "num_layers": "2"}', "--num-layers must be a whole number"),
        ('{"num_layers": 2}', "--corpus is missing"),
        (b"\xff\xfe", "cannot be used: 'utf-8' codec can't decode"),
    ],
)
def test_a_file_of_settings_that_cannot_be_used(tmp_path, capsys, text, message):
    path = tmp_path / "settings.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    line = refused(capsys, "train", "--config", str(path), "--out", str(tmp_path / "run"))
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_a_file_of_settings(tmp_path, capsys):
    line = refused(capsys, "train", "--config", str(tmp_path), "--out", str(tmp_path / "run"))
    assert f"give a file, as {tmp_path}/config.json" in line


def test_a_file_of_settings_that_is_not_there(tmp_path, capsys):
    path = tmp_path / "none.json"
    line = refused(capsys, "train", "--config", str(path), "--out", str(tmp_path / "run"))
    assert line.startswith(f"d2l-deeprnn: error: {path}: ")


def test_an_abbreviated_option_is_refused(capsys):
    line = refused(capsys, "train", "--corpus", "a", "--out", "b", "--cel", "gru")
    assert "unrecognized arguments: --cel gru; did you mean --cell? (see " in line


def test_reproduce_shares_the_options_of_train(capsys):
    text = " ".join(page(capsys, "reproduce").split())
    for name in ("encoding", "seed"):
        assert fields(TrainSettings)[name].description in text
    assert "(default: 500 or 3000, by the settings)" in text
    line = refused(capsys, "reproduce", "--corpus", SAMPLE_TEXT, "--encoding", "hex")
    assert "encoding must be an encoding that Python knows" in line


def test_a_tilde_is_the_home_directory_in_every_path(small_chapter, tmp_path, monkeypatch, capsys):
    home = tmp_path / "home"
    home.mkdir()
    (home / "book.txt").write_text("time traveller and more words. " * 100)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(home))
    words = ["--num-hiddens=8", "--batch-size=4", "--num-epochs=1", "--out=~/run"]
    assert main(["train", "--corpus", "~/book.txt", *words]) == 0
    assert f"Saved in {home}/run\n" in capsys.readouterr().out
    assert main(["evaluate", "~/run", "--corpus", "~/book.txt"]) == 0
    assert main(["train", "--config=~/run/config.json", "--out=~/again"]) == 0
    assert main(["plot", "~/run", "~/again", "--output=~/curves.svg"]) == 0
    assert main(["reproduce", "--corpus=~/book.txt", "--num-epochs=1", "--out=~/chapter"]) == 0
    assert main(["reproduce", "--corpus=~/book.txt", "--resume", "--out=~/chapter"]) == 0
    # From Python, where no shell expands it either.
    settings = TrainSettings(("~/book.txt",), num_hiddens=8, batch_size=4, num_epochs=1)
    runs.train(settings, "~/third")
    loaded = d2l.load_run("~/third")
    assert runs.read_own_text("~/third").vocab.idx_to_token == loaded.vocab.idx_to_token
    assert len(d2l.load_corpus(Path("~/book.txt"))[0]) == len(d2l.load_corpus(["~/book.txt"])[0])
    assert len(runs.read_history("~/third")) == 1
    d2l.export_model(loaded.model, loaded.vocab, "~/model.html", format="html")
    monkeypatch.setenv("D2L_DEEPRNN_DATA", "~/run")
    assert main(["corpora"]) == 0
    assert sorted(path.name for path in home.iterdir() if path.name[0] != ".") == [
        "again", "book.txt", "chapter", "curves.svg", "model.html", "run", "third"
    ]  # fmt: skip
    assert list(Path().iterdir()) == []
