"""The curve of a training, drawn in a notebook while it runs."""

from __future__ import annotations

import math
import sys
import time
from typing import Any, Dict, List

from .._checks import positive_number

# Between two lines of a training where there is neither a picture nor a bar, as in a log.
SILENCE_SECONDS = 20.0


class LivePlot:
    """Draws training and held-out perplexity in a notebook while a model is trained.

    It is for ``on_epoch`` of the chapter's train functions and of ``runs.train``. There is one
    picture in the cell's output; it is drawn anew every few seconds, and once more when the cell
    ends. Outside a notebook, nothing is drawn, and a line every twenty seconds says how far the
    training is. Where an epoch takes long, ``minibatch`` says so within it, too.

    Args:
        seconds: at least as many lie between two drawings.
        label: what the legend calls the training.

    Attributes:
        rows: the figures of each epoch, by name; those of the training that was begun last.

    Raises:
        ValueError: if ``seconds`` is not a number above 0.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> vocab, ctx = d2l.Vocab("time machine"), d2l.try_gpu()
        >>> indices = vocab[list("time machine " * 20)]
        >>> get_params, init_state, lstm = d2l.deep_lstm(len(vocab), 8, len(vocab), ctx=ctx)
        >>> plot = d2l.LivePlot()
        >>> history = d2l.train_and_predict_rnn(
        ...     lstm, get_params, init_state, 8, indices, vocab, ctx, False,
        ...     2, 5, 1.0, 1.0, 4, ["time"], on_epoch=plot, log=lambda line: None)
        >>> [row["epoch"] for row in plot.rows]
        [1, 2]
    """

    def __init__(self, *, seconds: float = 2.0, label: str = "run") -> None:
        positive_number("seconds", seconds)
        self._seconds = seconds
        self._histories: Dict[str, List[Dict[str, float]]] = {}
        self._due = 0.0
        self._is_drawn = True  # all that was noted
        self._handle: Any = None  # of the picture in the cell's output
        self._line: Any = None  # the handle of the line about an epoch that is not done
        self._line_due = 0.0
        self._shell: Any = None  # as long as it is to say when the cell ends
        self.begin(label)

    def begin(self, label: str) -> None:
        """Begin another curve in the same picture: the epochs from here on are another training's.

        Args:
            label: what the legend calls it. A curve that is called the same gives way.

        Example:
            >>> import d2l_deeprnn as d2l
            >>> plot = d2l.LivePlot(label="LSTM")
            >>> plot(d2l.EpochRecord(1, 9.5, 0.1, ()))
            >>> plot.begin("GRU")
            >>> plot.rows
            []
        """
        self._label = label
        self.rows: List[Dict[str, float]] = []
        self._histories[label] = self.rows
        self._spoke = time.monotonic()

    def __call__(self, record: Any) -> None:
        """Note an epoch, and draw if the last picture is old enough.

        Args:
            record: of an epoch, as ``on_epoch`` gets it.
        """
        values = zip(record._fields, record)
        self.rows.append({name: x for name, x in values if isinstance(x, (int, float))})
        self._is_drawn = False
        if not self._in_notebook():
            figures = "".join(f", {what} {x:.3f}" for what, x in _perplexities(self.rows[-1]))
            self._say(f"epoch {self.rows[-1]['epoch']}{figures}")
        elif time.monotonic() >= self._due:
            self._draw()

    def minibatch(self, progress: Any) -> None:
        """Say how far an epoch is, in a line that is written anew every few seconds.

        It is for ``on_minibatch`` of ``runs.train`` and of ``Learner.train_epoch``.

        Args:
            progress: of an epoch, as ``on_minibatch`` gets it.

        Example:
            >>> from pathlib import Path
            >>> from tempfile import TemporaryDirectory
            >>> import d2l_deeprnn as d2l
            >>> from d2l_deeprnn.training import runs
            >>> plot = d2l.LivePlot()
            >>> settings = d2l.TrainSettings(
            ...     corpus=("the_tide_tables",), num_examples=2000, num_hiddens=8, num_epochs=2,
            ...     batch_size=4)
            >>> with TemporaryDirectory() as out:
            ...     result = runs.train(
            ...         settings, Path(out) / "run", on_epoch=plot, on_minibatch=plot.minibatch)
            >>> [row["epoch"] for row in plot.rows]
            [1, 2]
        """
        words = f"epoch {progress.epoch}, {progress.minibatch / progress.num_minibatches:.0%}"
        if not self._in_notebook():
            self._say(words)
        elif time.monotonic() >= self._line_due:
            self._show(words)
            self._line_due = time.monotonic() + self._seconds

    def _in_notebook(self) -> bool:
        """Whether there is one; if so, be called when its cell ends."""
        shell = _notebook()
        if shell is not None and self._shell is None:
            self._shell = shell
            shell.events.register("post_run_cell", self._finish)
        return shell is not None

    def _say(self, words: str) -> None:
        """Print how far the training is, if nothing has been said for a while."""
        if time.monotonic() - self._spoke >= SILENCE_SECONDS:
            self._spoke = time.monotonic()
            print(f"{self._label}: {words}", flush=True)

    def _show(self, words: str) -> None:
        """Write the line about the epoch."""
        from IPython.display import display

        data = {"text/plain": f"{self._label}: {words}"}
        if self._line is None:
            self._line = display(data, raw=True, display_id=True)
        else:
            self._line.update(data, raw=True)

    def _finish(self, *result: Any) -> None:
        """Draw the epochs since the last picture, and say which is the last: the cell is done."""
        self._shell.events.unregister("post_run_cell", self._finish)
        self._shell = None
        if not self._is_drawn:
            self._draw()
        if self._line is not None and self.rows:
            self._show(f"{self.rows[-1]['epoch']} epochs are done")

    def _draw(self) -> None:
        from IPython.display import display

        from .figures import training_figure

        figure = training_figure({name: rows for name, rows in self._histories.items() if rows})
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)
        self._is_drawn = True
        # From the end of the drawing, so that it never takes most of the time.
        self._due = time.monotonic() + self._seconds


def _perplexities(row: Dict[str, float]) -> Any:
    """Names and values of the perplexities of an epoch."""
    if "perplexity" in row:
        yield "training perplexity", row["perplexity"]
    for column, name in ("train_loss", "training perplexity"), ("valid_loss", "held out"):
        if column in row:
            yield name, math.exp(min(row[column], 700))  # a float holds no more


def _notebook() -> Any:
    """The shell of the notebook that this runs in; None elsewhere, as in a terminal."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return shell if hasattr(shell, "kernel") else None
