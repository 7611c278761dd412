"""Helpers for benchmarks: separate processes, programs timed in turn, result files.

In a ``Contest``, each program has a new process in each round, and only one process works at a
time. It prepares its work, does it once to warm up, and is timed when it does it again. So no
program shares libraries or threads with another, and a machine that becomes slower or faster does
so for all. The position of arrays in memory, which can change the time by up to a fifth, differs
from round to round.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import re
import resource
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

# The environment before d2l_deeprnn changes it; so functions here import it only when called.
ENVIRONMENT = dict(os.environ)
RESULTS = Path(__file__).resolve().parent.parent / "results"
# With one thread, the order of sums does not depend on the number of processors.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
OTHERS = "d2l 0|PyTorch|ONNX|several threads|lower bound"  # programs that are not this package
Rows = Sequence[Mapping[str, Any]]


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the first line of a script's description, and the option ``--out``."""
    options = argparse.ArgumentParser(description=description.splitlines()[0])
    options.add_argument("--out", type=Path, default=RESULTS, help="directory of the results")
    return options


def write(
    arguments: argparse.Namespace,
    rows: Rows,
    *,
    name: str = "",
    packages: Sequence[str] = (),
    adding: bool = False,
    **made_with: Any,
) -> None:
    """Write rows with the command, versions and machine that they were made with.

    Args:
        arguments: arguments of the script.
        rows: column -> value.
        name: name of the files in ``arguments.out``, if it is not the script's.
        packages: other packages whose versions matter.
        adding: as in ``write_description``.
        made_with: other entries of the description.
    """
    from d2l_deeprnn.evidence.provenance import versions
    from d2l_deeprnn.evidence.records import write_record

    described = {"command": command(arguments), "versions": versions(*packages), **made_with}
    path = arguments.out / (name or Path(sys.argv[0]).stem)
    write_record(path, rows, adding=adding, **described)


def resume(arguments: argparse.Namespace, script: str, function: str, tasks: Rows) -> None:
    """Write the rows of all tasks, and compute only those that the file lacks.

    Args:
        arguments: as in ``write``.
        script, function: as in ``in_a_process``. The function is called for one task after the
            other, with one thread, and returns the rows of a task.
        tasks: its arguments, by the names that they have as columns of the rows.
    """
    from d2l_deeprnn.evidence.provenance import machine
    from d2l_deeprnn.evidence.records import read_rows, select

    path = arguments.out / f"{Path(script).stem}.csv"
    rows = read_rows(path) if path.exists() else []
    for number, task in enumerate(tasks, start=1):
        if not select(rows, **task):
            print(f"{number} of {len(tasks)}: {task}", file=sys.stderr, flush=True)
            rows += in_a_process(script, function, *task.values(), variables=ONE_THREAD)
            write(arguments, rows, adding=True, machine={**machine(), "threads": "1"})


def command(arguments: argparse.Namespace) -> str:
    """Return the script's command line with all options but ``--out``, defaults included."""
    words = ["python", f"benchmarks/{Path(sys.argv[0]).name}"]
    for name, value in vars(arguments).items():
        if name != "out" and value is not None:
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


def in_a_process(
    script: str,
    function: str,
    *arguments: Any,
    variables: Optional[Mapping[str, str]] = None,
    launcher: Sequence[str] = (),
) -> Any:
    """Call a function of a script in a new process, and return its result.

    If a launcher starts several processes, exactly one of them must return a result.

    Args:
        script: ``__file__`` of the script.
        function: name of the function, which may have dots.
        arguments: its arguments, which go through JSON, like the result.
        variables: environment variables to set.
        launcher: words before the program, such as ``mpiexec -n 2``.
    """
    words = [*launcher, sys.executable, __file__, script, function, json.dumps(arguments)]
    environment = {**ENVIRONMENT, **(variables or {})}
    answer = subprocess.run(words, stdout=subprocess.PIPE, env=environment, check=True)
    return json.loads(answer.stdout)


def _run_in_this_process(script: str, function: str, arguments: str) -> None:
    """Run in the new process: call the function, and print its result."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to standard error, so that only the result is on the pipe
    sys.path.insert(0, str(Path(script).parent))
    called = attrgetter(function)(importlib.import_module(Path(script).stem))
    result = called(*json.loads(arguments))
    if result is not None:
        print(json.dumps(result), file=answer, flush=True)


@dataclass(frozen=True)
class Contest:
    """Programs that are timed in turn. Scripts call theirs ``CONTEST``.

    Attributes:
        script: ``__file__`` of the script.
        contestants: name -> function that prepares the work and returns a function to time. The
            latter gets the number of the round, from 0 on, and may return values for ``columns``.
        columns: names of these values.
        xlabel: label of the plot, with the direction that is better.
        title: returns the plot's title, a sentence about the result.
        shown: returns the value that the plot shows for a row with round, contestant, seconds,
            peak_memory_mib and ``columns``.
        panel: returns the title of the row's part of the plot.
        label: returns the name of the row's program in the plot.
        draw: draws another plot than this one.
        variables: environment variables of some contestants.
        settings: settings for the JSON file.
        packages: other packages whose versions matter.
        rounds: default number of rounds.
        warm_up: whether each process does its work once before it is timed.
        whole_process: whether to time the whole process, from the start of Python. A round that
            does not count then fills the caches.
    """

    script: str
    contestants: Mapping[str, Callable[[], Callable[[int], Any]]]
    xlabel: str = "seconds (shorter is better)"
    shown: Callable[[Mapping[str, Any]], float] = itemgetter("seconds")
    title: Callable[[Rows], str] = lambda rows: ""
    panel: Callable[[Mapping[str, Any]], str] = lambda row: ""
    label: Callable[[Mapping[str, Any]], str] = itemgetter("contestant")
    draw: Optional[Callable[[Rows], Any]] = None
    columns: Sequence[str] = ()
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    packages: Sequence[str] = ()
    rounds: int = 7
    warm_up: bool = True
    whole_process: bool = False

    def main(self, description: str) -> None:
        """Time the contestants; write CSV, JSON and SVG; print medians and ratios."""
        options = parser(description)
        options.add_argument("--rounds", type=int, default=self.rounds)
        arguments = options.parse_args()
        rows = []
        for round_ in range(-1 if self.whole_process else 0, arguments.rounds):
            for name in self.contestants:
                row = self._measure(name, round_)
                rows += [row] if round_ >= 0 else []
            print(f"round {round_ + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
        write(arguments, rows, packages=self.packages, settings=self.settings)
        summarize(rows)
        from d2l_deeprnn.evidence.figures import save_figure

        save_figure(self.figure(rows), arguments.out / f"{Path(self.script).stem}.svg")

    def work(self, name: str, round_: int) -> List[Any]:
        """Run a contestant in its process: return seconds, peak memory in MiB, and its values."""
        timed = self.contestants[name]()
        if self.warm_up and not self.whole_process:
            timed(round_)
        started = time.perf_counter()
        values = timed(round_)
        seconds = time.perf_counter() - started
        # ru_maxrss is in KiB on Linux, in bytes on macOS.
        scale = 2**20 if sys.platform == "darwin" else 2**10
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
        return [seconds, memory, *(values or ())]

    def _measure(self, name: str, round_: int) -> Dict[str, Any]:
        started = time.perf_counter()
        seconds, memory, *values = in_a_process(
            self.script, "CONTEST.work", name, round_, variables=self.variables.get(name)
        )
        if self.whole_process:
            seconds = time.perf_counter() - started
        row = {"round": round_, "contestant": name, "seconds": round(seconds, 5)}
        return {**row, "peak_memory_mib": round(memory), **dict(zip(self.columns, values))}

    def figure(self, rows: Rows) -> Any:
        """Plot rows that were measured or read from the CSV file. This package's are blue."""
        from d2l_deeprnn.evidence.figures import points_figure

        if self.draw:
            return self.draw(rows)
        panels: Dict[str, Dict[str, List[float]]] = {}
        for row in rows:
            values = panels.setdefault(self.panel(row), {}).setdefault(self.label(row), [])
            values.append(self.shown(row))
        ours = [name for rows in panels.values() for name in rows if not re.search(OTHERS, name)]
        title = self.title(rows)
        return points_figure(panels, self.xlabel, ours=ours, from_zero=True, title=title)


def ratio(rows: Rows, one: str, other: str) -> float:
    """Return the median of one contestant's seconds divided by the other's, round by round."""
    from d2l_deeprnn.evidence.records import column, select

    pairs = zip(*(column(select(rows, contestant=name), "seconds") for name in (one, other)))
    return statistics.median(a / b for a, b in pairs)


def summarize(rows: Rows) -> None:
    """Print medians, and the ratio of each contestant to the first, round by round."""
    from d2l_deeprnn.evidence.records import column, group_by, spread

    groups = group_by(rows, "contestant").items()
    (first, baseline), *others = ((name, column(group, "seconds")) for name, group in groups)
    print(f"{first}: median {spread(baseline, 4)} s")
    for name, seconds in others:
        ratios = spread([b / a for a, b in zip(baseline, seconds)])
        print(f"{name}: median {spread(seconds, 4)} s, {ratios} times {first}")


def as_installed() -> None:
    """Unset the variables that importing ``d2l_deeprnn`` set, before another library starts."""
    from d2l_deeprnn._mxnet import repairs

    for name in repairs.VARIABLES:
        if name not in ENVIRONMENT:
            os.environ.pop(name, None)


def set_seed(seed: int) -> None:
    """Seed all random generators that either library uses."""
    import mxnet as mx
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)


def random_text(length: int) -> List[int]:
    """Return random token indices. Training on them takes as long as on a real text."""
    from d2l_deeprnn.chapter.book import VOCAB_SIZE

    random.seed(0)
    return [random.randrange(VOCAB_SIZE) for _ in range(length)]


def train_chapter(
    train: Callable[..., Any],
    model: Any,
    corpus_indices: Sequence[int],
    vocab: Any,
    num_epochs: int,
    *,
    settings: Any = None,
    prefixes: Sequence[str] = (),
    **options: Any,
) -> Any:
    """Call a library's ``train_and_predict_rnn_gluon``.

    Args:
        train: the function.
        model: a model of that library.
        corpus_indices: token indices of the text.
        vocab: its vocabulary.
        num_epochs: number of epochs.
        settings: the other settings, if they are not the chapter's.
        prefixes: prefixes of the predictions.
        options: keyword arguments of the function.
    """
    import mxnet as mx

    from d2l_deeprnn.chapter.book import CHAPTER

    chapter = settings or CHAPTER
    return train(
        model,
        chapter.num_hiddens,
        corpus_indices,
        vocab,
        mx.cpu(),
        num_epochs,
        chapter.num_steps,
        chapter.lr,
        chapter.clipping_theta,
        chapter.batch_size,
        prefixes,
        **options,
    )


if __name__ == "__main__":
    _run_in_this_process(*sys.argv[1:])
