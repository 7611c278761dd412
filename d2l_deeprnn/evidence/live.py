"""Progress of a training: a bar on a terminal, lines in a log, curves in a notebook."""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any, Callable, Dict, List, Optional

from .._perplexity import perplexity

# Time between two lines of progress if there is neither a plot nor a bar.
SILENCE_SECONDS = 20.0


def duration(seconds: float) -> str:
    """Return a time as a clock shows it: ``4:05``, or ``1:04:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class ProgressBar:
    """A progress bar on a terminal; elsewhere, a line every twenty seconds.

    A percentage is always that of all the work, such as all epochs, and is labelled "done".

    Args:
        print_line: prints a line above the bar.
        done: the completed fraction, if a training is resumed.
    """

    # The message comes first, so that it is seen in a narrow terminal.
    FORMAT = "{desc}, {percentage:.0f}% done |{bar}|"

    def __init__(self, print_line: Callable[[str], None], done: float = 0.0) -> None:
        from tqdm import tqdm

        self._print_line = print_line
        # Disabled if standard error is not a terminal.
        self._bar = tqdm(
            total=1.0, initial=done, desc="starting", bar_format="{desc} ...",
            disable=None, leave=False, dynamic_ncols=True, miniters=0,
        )  # fmt: skip
        shape = getattr(self._bar, "dynamic_ncols", None)
        if shape is not None:  # there is a terminal, which may show ^C after the bar
            self._bar.dynamic_ncols = lambda stream: [n and n - 3 for n in shape(stream)]
            self._bar.bar_format = self.FORMAT
        self._began = self._spoke = time.monotonic()
        self._done_before = done

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.close()

    def update(self, done: float, message: str) -> None:
        """Show a message and the completed fraction."""
        if not self._bar.disable:
            self._bar.set_description_str(message, refresh=False)
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._spoke >= SILENCE_SECONDS:
            self.line(f"{message}, {done:.0%} done")

    def line(self, line: str) -> None:
        """Print a line; the next line of progress is due twenty seconds later."""
        self._spoke = time.monotonic()
        self._print_line(line)

    def time_left(self, done: float) -> str:
        """Return the remaining time, to be appended to a message; empty if it is not known."""
        done_here = done - self._done_before
        if done_here <= 0:
            return ""
        return f", {duration((time.monotonic() - self._began) / done_here * (1 - done))} left"


class LivePlot:
    """A plot of training and held-out perplexity in a notebook, drawn while a model is trained.

    Pass it as ``on_epoch`` to the chapter's train functions or to ``runs.train``. Each cell that
    trains has one plot, which is redrawn every few seconds and when the cell ends. Its title has
    the epoch, the latest perplexity (of the held-out text, if there is one) and the time left;
    below it is the latest prediction. If training starts again, so does its curve. Outside a
    notebook, a line every twenty seconds reports the progress. If epochs take long, also pass its
    method ``minibatch`` as ``on_minibatch``.

    Args:
        seconds: minimum time between two drawings.
        label: the training's name in the plot.
        num_epochs: the training's number of epochs, for the horizontal axis and the time left.

    Attributes:
        rows: one dictionary of values per epoch of the latest training.

    Raises:
        ValueError: if ``seconds`` is not a number above 0, or ``num_epochs`` not a whole one.

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

    def __init__(
        self, *, seconds: float = 2.0, label: str = "run", num_epochs: Optional[int] = None
    ) -> None:
        from .._checks import positive_number  # needs NumPy, which `doctor` does without

        positive_number("seconds", seconds)
        self._seconds = seconds
        self._num_epochs = 0
        self._histories: Dict[str, List[Dict[str, float]]] = {}
        self._shell: Any = None  # the notebook's shell, from the first use in a cell to its end
        self._start_cell()
        self._begin(label, num_epochs)
        if _notebook() is not None:
            # So that the first plot does not wait for it; the first import takes seconds.
            importlib.import_module(".figures", __package__)

    def begin(self, label: str, *, num_epochs: Optional[int] = None) -> None:
        """Start another curve in the same plot, for the epochs of another training.

        Args:
            label: the training's name in the plot. A curve of the same name is replaced.
            num_epochs: its number of epochs, if it is not the last training's.

        Raises:
            ValueError: if ``num_epochs`` is not a whole number above 0.

        Example:
            >>> import d2l_deeprnn as d2l
            >>> plot = d2l.LivePlot(label="LSTM")
            >>> plot(d2l.EpochRecord(1, 9.5, 0.1, ()))
            >>> plot.begin("GRU")
            >>> plot.rows
            []
        """
        self._begin(label, num_epochs)
        if self._in_notebook() and self._is_due("plot"):
            self._draw()

    def _begin(self, label: str, num_epochs: Optional[int]) -> None:
        if num_epochs is not None:
            from .._checks import whole_number

            whole_number("num_epochs", num_epochs)
            self._num_epochs = num_epochs
        self._label, self._prediction = label, ""
        self.rows: List[Dict[str, float]] = []
        self._histories[label] = self.rows
        self._spoke = time.monotonic()

    def __call__(self, record: Any) -> None:
        """Add an epoch to the curve, and redraw the plot if the last drawing is old enough.

        Args:
            record: the epoch's record, as ``on_epoch`` receives it.
        """
        values = zip(record._fields, record)
        row = {name: x for name, x in values if isinstance(x, (int, float))}
        if self.rows and row["epoch"] <= self.rows[-1]["epoch"]:  # training restarted or resumed
            earlier = [old for old in self.rows if old["epoch"] < row["epoch"]]
            self._begin(self._label, None)
            self.rows += earlier
        self.rows.append(row)
        if getattr(record, "predictions", ()):
            self._prediction = f"epoch {row['epoch']}: {record.predictions[0]}"
        self._is_drawn = False
        if not self._in_notebook():
            perplexities = "".join(f", {name} {x:.3f}" for name, x in _perplexities(row))
            self._say(f"epoch {row['epoch']}{perplexities}")
        elif self._is_due("plot"):
            self._draw()

    def minibatch(self, progress: Any) -> None:
        """Report the progress within an epoch, in a line that is updated every few seconds.

        Pass it as ``on_minibatch`` to ``runs.train``, and the plot itself as ``on_epoch``.

        Args:
            progress: the epoch's progress, as ``on_minibatch`` receives it.
        """
        of_all = f"{progress.minibatch} of {progress.num_minibatches}"
        message = f"epoch {progress.epoch}, minibatch {of_all}"
        if not self._in_notebook():
            self._say(message)
        elif self._is_due("line"):
            self._write(message)

    def _start_cell(self) -> None:
        """Forget the outputs of the last cell; the next cell gets its own."""
        self._handles: Dict[str, Any] = {}
        self._due: Dict[str, float] = {}
        self._is_drawn = True  # the plot has all epochs so far

    def _in_notebook(self) -> bool:
        """Return whether this is a notebook; if so, have it call ``_finish`` after the cell."""
        shell = _notebook()
        if shell is not None and self._shell is None:
            self._shell = shell
            shell.events.register("post_run_cell", self._finish)
        return shell is not None

    def _say(self, message: str) -> None:
        """Print the progress, unless the last line is less than twenty seconds old."""
        if time.monotonic() - self._spoke >= SILENCE_SECONDS:
            self._spoke = time.monotonic()
            print(f"{self._label}: {message}", flush=True)

    def _finish(self, *result: Any) -> None:
        """Draw the last epochs at the end of a cell."""
        self._shell.events.unregister("post_run_cell", self._finish)
        self._shell = None
        if not self._is_drawn:
            self._draw()
        if "line" in self._handles and self.rows:
            self._write(f"{self.rows[-1]['epoch']} epochs are done")
        self._start_cell()

    def _draw(self) -> None:
        from .figures import training_figure

        histories = {label: rows for label, rows in self._histories.items() if rows}
        plot = training_figure(
            histories, num_epochs=self._num_epochs, title=self._title(), note=self._prediction
        )
        self._show("plot", plot)
        self._is_drawn = True

    def _title(self) -> str:
        """Return the epoch, the latest perplexity, and the time left or taken."""
        words = [self._label] if len(self._histories) > 1 else []
        if not self.rows:
            return " \N{MIDDLE DOT} ".join([*words, "waiting for the first epoch"])
        first, last = self.rows[0], self.rows[-1]
        epoch, seconds = int(last["epoch"]), last.get("seconds", 0.0)
        of_all = f" of {self._num_epochs}" if epoch <= self._num_epochs else ""
        *_, (_, latest) = _perplexities(last)
        words += [f"epoch {epoch}{of_all}", f"perplexity {latest:.4g}"]
        if epoch < self._num_epochs and len(self.rows) > 1:
            pace = (seconds - first["seconds"]) / (epoch - first["epoch"])
            words.append(f"{duration(pace * (self._num_epochs - epoch))} left")
        elif epoch >= self._num_epochs:
            words.append(f"in {duration(seconds)}")
        return " \N{MIDDLE DOT} ".join(words)

    def _write(self, message: str) -> None:
        self._show("line", {"text/plain": f"{self._label}: {message}"}, raw=True)

    def _is_due(self, output: str) -> bool:
        return time.monotonic() >= self._due.get(output, 0)

    def _show(self, output: str, content: Any, **options: Any) -> None:
        """Show an output of the cell, in place of the previous one."""
        from IPython.display import display

        if output in self._handles:
            self._handles[output].update(content, **options)
        else:
            self._handles[output] = display(content, display_id=True, **options)
        # Counted from the end of the drawing, so that slow drawing leaves time for training.
        self._due[output] = time.monotonic() + self._seconds


def _perplexities(row: Dict[str, float]) -> Any:
    """Yield the names and values of an epoch's perplexities."""
    if "perplexity" in row:
        yield "training perplexity", row["perplexity"]
    for column, name in ("train_loss", "training perplexity"), ("valid_loss", "held out"):
        if column in row:
            yield name, perplexity(row[column])


def _notebook() -> Any:
    """Return the IPython shell if this is a notebook, else None."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return shell if hasattr(shell, "kernel") else None
