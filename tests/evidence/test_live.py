"""``LivePlot``: one picture a cell, redrawn from time to time; nothing outside a notebook."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn.evidence import figures, live
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.trainer import Progress, TrainRecord


class Notebook:
    """Stands in for IPython: notes the pictures shown, and how many curves each had."""

    def __init__(self):
        self.shown, self.updated, self.callbacks, self.now = [], [], [], 0.0
        self.lines, self.num_lines = [], 0  # texts, and outputs that they were written to
        self.kernel, self.events = object(), self

    def register(self, event, callback):
        assert event == "post_run_cell"
        self.callbacks.append(callback)

    def unregister(self, event, callback):
        self.callbacks.remove(callback)

    def display(self, figure, *, display_id, raw=False):
        assert display_id is True
        if raw:
            self.lines.append(figure["text/plain"])
            self.num_lines += 1
            return SimpleNamespace(update=lambda data, raw: self.lines.append(data["text/plain"]))
        self.shown.append(epochs(figure))
        return SimpleNamespace(update=lambda figure: self.updated.append(epochs(figure)))

    def end_cell(self):
        for callback in list(self.callbacks):
            callback(SimpleNamespace(success=True))


def epochs(figure):
    """Of a picture, or of what stands in for one, the epochs of each curve."""
    if isinstance(figure, dict):
        return {label: [row["epoch"] for row in rows] for label, rows in figure.items()}
    # the last line is the mark at the best epoch
    return [list(line.get_xdata()) for line in figure.axes[0].get_lines()[:-1]]


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures that are the histories they would show."""
    monkeypatch.setattr(figures, "training_figure", lambda rows, **words: copy.deepcopy(rows))


@pytest.fixture
def notebook(monkeypatch):
    stand_in, display = ModuleType("IPython"), ModuleType("IPython.display")
    notebook = Notebook()
    stand_in.get_ipython, display.display = lambda: notebook, notebook.display
    stand_in.version_info = (8, 24)  # matplotlib may look
    core = ModuleType("IPython.core")
    core.pylabtools = None  # an old matplotlib looks, when it draws for the first time
    monkeypatch.setitem(sys.modules, "IPython", stand_in)
    monkeypatch.setitem(sys.modules, "IPython.core", core)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(live.time, "monotonic", lambda: notebook.now)
    return notebook


def train(plot, notebook, times):
    for epoch, notebook.now in enumerate(times, len(plot.rows) + 1):
        plot(d2l.EpochRecord(epoch, 10.0 / epoch, notebook.now, ("a prediction",)))


def test_one_picture_is_drawn_anew_when_it_is_old_enough(notebook, undrawn):
    plot = d2l.LivePlot(seconds=2, label="ours")
    train(plot, notebook, [10, 10.5, 11.9, 12, 13, 14.1, 14.2])
    assert notebook.shown == [{"ours": [1]}]
    assert notebook.updated == [
        {"ours": [1, 2, 3, 4]},
        {"ours": list(range(1, 7))},
    ]
    notebook.end_cell()
    assert notebook.updated[-1] == {"ours": list(range(1, 8))}
    assert len(notebook.shown) == 1 and notebook.callbacks == []


def test_what_is_drawn_is_not_drawn_again(notebook, undrawn):
    plot = d2l.LivePlot(seconds=2)
    train(plot, notebook, [10, 12])
    notebook.end_cell()
    assert len(notebook.updated) == 1


def test_each_cell_has_a_picture_of_its_own(notebook, undrawn):
    plot = d2l.LivePlot(seconds=2)
    plot.minibatch(Progress(1, 1, 5, None))
    train(plot, notebook, [10, 12])
    notebook.end_cell()
    # The next cell resumes the training. It may be the same one, whose output Jupyter clears.
    plot.minibatch(Progress(3, 1, 5, None))
    train(plot, notebook, [12.5])
    notebook.end_cell()
    assert notebook.shown == [{"run": [1]}, {"run": [1, 2, 3]}]
    assert notebook.updated == [{"run": [1, 2]}] and notebook.num_lines == 2


@pytest.mark.parametrize("epochs", [[1, 2], [3]], ids=["from the start", "from a checkpoint"])
def test_a_curve_starts_again_with_its_training(notebook, undrawn, epochs):
    plot = d2l.LivePlot(label="ours")
    train(plot, notebook, [10, 10.1, 10.2, 10.3])
    first = plot.rows
    notebook.end_cell()
    for epoch in epochs:
        plot(d2l.EpochRecord(epoch, 5.0, 0.1, ()))
    notebook.end_cell()
    assert [row["epoch"] for row in plot.rows] == list(range(1, epochs[-1] + 1))
    assert plot.rows[-1]["perplexity"] == 5.0 and notebook.updated[1:] in ([{"ours": [1, 2]}], [])
    assert [row["epoch"] for row in first] == [1, 2, 3, 4]


def test_held_out_perplexity_is_a_curve_of_its_own(notebook):
    plot = d2l.LivePlot()
    plot(TrainRecord(1, 2.5, 2.75, 0.5, 1.0))
    assert notebook.shown == [[[1], [1]]]


def test_it_goes_with_a_run(notebook, tmp_path):
    plot = d2l.LivePlot()
    settings = d2l.TrainSettings(
        corpus=(SAMPLE_TEXT,), num_examples=2000, num_hiddens=4, batch_size=4, num_steps=5,
        num_epochs=2, valid_fraction=0.0,
    )  # fmt: skip
    how = {"on_epoch": plot, "on_minibatch": plot.minibatch}
    history = runs.train(settings, Path(tmp_path), **how).history
    notebook.end_cell()
    assert len(notebook.lines) == 2 and notebook.lines[1] == "run: 2 epochs are done"
    assert [row["train_loss"] for row in plot.rows] == [record.train_loss for record in history]
    assert notebook.shown == [[[1]]] and notebook.updated == [[[1, 2]]]


def test_several_trainings_are_curves_of_one_picture(notebook, undrawn):
    plot = d2l.LivePlot(seconds=2)
    plot.begin("LSTM")
    train(plot, notebook, [10, 11])
    plot.begin("GRU")
    train(plot, notebook, [11.5])
    notebook.end_cell()
    # The first picture comes before the first epoch. A label without epochs is not in the picture.
    assert notebook.shown == [{}]
    assert notebook.updated == [{"LSTM": [1]}, {"LSTM": [1, 2], "GRU": [1]}]
    plot.begin("LSTM")
    assert plot.rows == []
    train(plot, notebook, [11.6])
    notebook.end_cell()
    assert notebook.shown[-1] == {"GRU": [1]}
    assert notebook.updated[-1] == {"LSTM": [1], "GRU": [1]}


def test_the_picture_says_how_far_how_good_and_how_long(notebook, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "training_figure", lambda rows, **words: drawn.append(words))
    monkeypatch.setattr(live.LivePlot, "_show", lambda *content, **options: None)
    plot = d2l.LivePlot(num_epochs=60)
    for epoch in range(1, 11):
        predictions = ("the tide", "a tide") if epoch == 5 else ()
        plot(d2l.EpochRecord(epoch, 200 / epoch, 2.0 + 0.8 * epoch, predictions))
    assert (
        drawn[-1]["title"] == "epoch 10 of 60 \N{MIDDLE DOT} perplexity 20 \N{MIDDLE DOT} 0:40 left"
    )
    assert drawn[-1]["num_epochs"] == 60 and drawn[-1]["note"] == "epoch 5: the tide"
    assert drawn[0]["title"] == "epoch 1 of 60 \N{MIDDLE DOT} perplexity 200"
    plot.begin("GRU", num_epochs=2)
    assert drawn[-1]["title"] == "GRU \N{MIDDLE DOT} waiting for the first epoch"
    for epoch in (1, 2, 3):
        plot(TrainRecord(epoch, 2.0, 1.5, 0.1, 30.0 * epoch))
    titles = [words["title"].split(" \N{MIDDLE DOT} ") for words in drawn[-3:]]
    assert titles[1] == ["GRU", "epoch 2 of 2", "perplexity 4.482", "in 1:00"]
    assert titles[2] == ["GRU", "epoch 3", "perplexity 4.482", "in 1:30"]
    assert drawn[-1]["note"] == ""


@pytest.mark.parametrize("number", [0, 1.5, True, "60"])
def test_num_epochs_must_be_a_whole_number(number):
    with pytest.raises(ValueError, match=f"num_epochs must be a whole number .*{number!r}"):
        d2l.LivePlot(num_epochs=number)


@pytest.mark.parametrize("shell", [None, SimpleNamespace(events=None)], ids=["Python", "terminal"])
def test_outside_a_notebook_it_draws_nothing(monkeypatch, capsys, shell):
    stand_in = ModuleType("IPython")
    stand_in.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", stand_in)
    monkeypatch.setattr(live.LivePlot, "_draw", lambda self: pytest.fail("was drawn"))
    plot = d2l.LivePlot()
    plot(d2l.EpochRecord(1, 10.0, 0.5, ()))
    monkeypatch.delitem(sys.modules, "IPython")
    plot(d2l.EpochRecord(2, 9.0, 1.0, ()))
    assert [row["perplexity"] for row in plot.rows] == [10.0, 9.0]
    assert capsys.readouterr() == ("", "")


def test_a_long_epoch_has_a_line_that_is_written_anew(notebook, undrawn):
    plot = d2l.LivePlot(seconds=2, label="GRU")
    for minibatch, notebook.now in enumerate([10, 11, 12, 12.5, 14.5], 1):
        plot.minibatch(Progress(2, minibatch, 5, None))
    assert notebook.lines == [f"GRU: epoch 2, minibatch {n} of 5" for n in (1, 3, 5)]
    train(plot, notebook, [15, 15.1])
    notebook.end_cell()
    assert notebook.lines[3:] == ["GRU: 2 epochs are done"]


def test_in_a_log_a_long_epoch_is_not_silent(monkeypatch, capsys):
    monkeypatch.setattr(live, "_notebook", lambda: None)
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    plot = d2l.LivePlot(label="GRU")
    for minibatch, now[0] in enumerate([5, 21, 22, 45, 46], 1):
        plot.minibatch(Progress(2, minibatch, 5, None))
    assert capsys.readouterr().out.splitlines() == [
        f"GRU: epoch 2, minibatch {n} of 5" for n in (2, 4)
    ]


def test_outside_a_notebook_a_line_now_and_then_says_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(live, "_notebook", lambda: None)
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    plot = d2l.LivePlot(label="GRU")
    for epoch, now[0] in enumerate([119.0, 121.0, 140.0, 141.5], 1):
        plot(d2l.EpochRecord(epoch, 10.0 / epoch, now[0], ()))
    lines = ["GRU: epoch 2, training perplexity 5.000", "GRU: epoch 4, training perplexity 2.500"]
    assert capsys.readouterr().out.splitlines() == lines
    plot.begin("LSTM")
    now[0] += 21
    plot(TrainRecord(1, 1.0, 2.0, 0.5, 1.0))
    words = "LSTM: epoch 1, training perplexity 2.718, held out 7.389\n"
    assert capsys.readouterr().out == words


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "2"])
def test_seconds_must_be_a_number_above_0(seconds):
    with pytest.raises(ValueError, match=f"seconds must be a number above 0, not {seconds!r}"):
        d2l.LivePlot(seconds=seconds)
