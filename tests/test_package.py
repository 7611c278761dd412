"""The package as a whole: what ``import d2l_deeprnn as d2l`` gives."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from interpreter import python

import d2l_deeprnn as d2l

# The functions that the chapter's cells call, and those behind them.
CHAPTERS_NAMES = [
    "load_data_time_machine", "Vocab", "data_iter_consecutive", "data_iter_random", "try_gpu",
    "try_all_gpus", "RNNModel", "grad_clipping", "grad_clipping_gluon", "sgd", "to_onehot",
    "predict_rnn", "predict_rnn_gluon", "train_and_predict_rnn", "train_and_predict_rnn_gluon",
    "use_svg_display",
]  # fmt: skip


def test_every_name_of_the_chapter_is_there():
    for name in CHAPTERS_NAMES:
        assert name in d2l.__all__ and name in dir(d2l), name
        assert callable(getattr(d2l, name)), name


def test_every_public_name_exists():
    for name in d2l.__all__:
        assert getattr(d2l, name), name


def test_positional_signatures_are_the_chapters(original, original_train):
    import inspect

    for name in CHAPTERS_NAMES:
        theirs = getattr(original, name, None) or getattr(original_train, name)
        if not callable(theirs) or isinstance(theirs, type):
            continue
        positional = [
            parameter.name
            for parameter in inspect.signature(getattr(d2l, name)).parameters.values()
            if parameter.kind is not parameter.KEYWORD_ONLY
        ]
        assert positional == list(inspect.signature(theirs).parameters), name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="d2l_deeprnn' has no attribute 'resnet18'"):
        d2l.resnet18  # noqa: B018


def test_importing_loads_neither_mxnet_nor_matplotlib():
    code = (
        "import sys, d2l_deeprnn, d2l_deeprnn.cli\n"
        "assert not {'mxnet', 'matplotlib', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_the_package_ships_is_found_in_a_zip_file(tmp_path):
    root = Path(d2l.__file__).parents[1]
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", root, "d2l_deeprnn")
    code = f"""
        import sys
        sys.path.insert(0, {archive!r})
        from d2l_deeprnn import cli
        from d2l_deeprnn.cli import report
        report.LENGTH = 20
        assert cli.__file__.startswith({archive!r})
        run = {str(tmp_path / "run")!r}
        train = "train --corpus the_tide_tables --num-examples 500 --num-hiddens 4 --num-epochs 1"
        assert cli.main([*train.split(), "--batch-size", "2", "--out", run]) == 0
        assert cli.main(["report", run, "--output", run + "/report.html"]) == 0
        assert cli.main(["export", run, "--format", "html", "--output", run + "/page.html"]) == 0
    """
    python(code)
    pages = [(tmp_path / "run" / name).read_text() for name in ("report.html", "page.html")]
    assert all("<style>" in page and "color-scheme" in page for page in pages)


def test_the_chapters_cells_run_from_any_directory(book_dir, tmp_path):
    """The three cells, cut down to one epoch; only the import is not the chapter's."""
    cells = """
import d2l_deeprnn as d2l
from mxnet import nd
from mxnet.gluon import rnn

corpus_indices, vocab = d2l.load_data_time_machine()

num_inputs, num_hiddens, num_layers, num_outputs = len(vocab), 256, 2, len(vocab)
ctx = d2l.try_gpu()
num_epochs, num_steps, batch_size, lr, clipping_theta = 1, 35, 32, 5, 1
prefixes = ['traveller', 'time traveller']

lstm_layer = rnn.LSTM(hidden_size=num_hiddens, num_layers=num_layers)
model = d2l.RNNModel(lstm_layer, len(vocab))
d2l.train_and_predict_rnn_gluon(model, num_hiddens, corpus_indices, vocab, ctx,
                                num_epochs, num_steps, lr, clipping_theta,
                                batch_size, prefixes)
"""
    import os

    done = subprocess.run(
        [sys.executable, "-c", cells], cwd=str(tmp_path), stdout=subprocess.PIPE, text=True,
        check=True, env={**os.environ, "D2L_DEEPRNN_DATA": str(book_dir.resolve())},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].startswith("epoch 1, perplexity ")
    assert [len(line) for line in lines[1:]] == [3 + 9 + 50, 3 + 14 + 50]


def test_every_error_class_is_a_d2l_error():
    """So that callers and the command can tell them from faults."""
    package = Path(d2l.__file__).parent
    classes = []
    for path in package.rglob("*.py"):
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for name in re.findall(r"^class ([A-Z]\w*Error|Diverged|InUse)\b", path.read_text(), re.M):
            classes.append(getattr(import_module(module.replace(".__init__", "")), name))
    assert len(classes) > 10
    assert [found for found in classes if not issubclass(found, d2l.D2LError)] == []
