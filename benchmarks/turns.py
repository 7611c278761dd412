"""What the benchmarks share: processes of their own, programs timed in turn, files of results.

In a ``Contest`` each contestant and round has a new process, one at work at a
time. It prepares its work, and does it: once to warm up, and once for the
record. So no contestant shares libraries or threads with another, a machine
that grows slower or faster does so for all, and where a process's arrays happen
to lie in memory, which is worth up to a fifth of the time, is drawn anew in
each round.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

# As it is before anything changes it: importing d2l_deeprnn does, so it is imported where needed.
ENVIRONMENT = dict(os.environ)
RESULTS = Path(__file__).resolve().parent.parent / "results"


def parser(description: str) -> argparse.ArgumentParser:
    """The first line of a script's description, and the option that all scripts have."""
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    made.add_argument("--out", type=Path, default=RESULTS, help="directory of the results")
    return made


def write(
    arguments: argparse.Namespace,
    rows: Sequence[Mapping[str, Any]],
    *,
    name: str = "",
    packages: Sequence[str] = (),
    **made_with: Any,
) -> None:
    """Write rows, and the command, versions and machine that they were made with.

    Args:
        arguments: of the script.
        rows: column -> value.
        name: of the files in ``arguments.out``; that of the script if empty.
        packages: whose versions count, beside those of this package.
        made_with: what else belongs into the description.
    """
    from d2l_deeprnn.evidence.provenance import versions
    from d2l_deeprnn.evidence.records import write_record

    described = {"command": command(arguments), "versions": versions(*packages), **made_with}
    write_record(arguments.out / (name or Path(sys.argv[0]).stem), rows, **described)


def command(arguments: argparse.Namespace) -> str:
    """The script's command line with all its options, those by default too, except ``--out``."""
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
    """Call a function of a script in a new process, and return what it returns, by way of JSON.

    Of several processes that a launcher starts, the one counts whose function returns something.

    Args:
        script: its ``__file__``.
        function: a name in the script, which may have dots.
        arguments: what JSON can hold.
        variables: environment variables to set.
        launcher: words that start a program, ``mpiexec -n 2`` for instance.
    """
    words = [*launcher, sys.executable, __file__, script, function, json.dumps(arguments)]
    environment = {**ENVIRONMENT, **(variables or {})}
    answer = subprocess.run(words, stdout=subprocess.PIPE, env=environment, check=True)
    return json.loads(answer.stdout)


def _answer(script: str, function: str, arguments: str) -> None:
    """Be that process."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    sys.path.insert(0, str(Path(script).parent))
    found = attrgetter(function)(importlib.import_module(Path(script).stem))
    answers = found(*json.loads(arguments))
    if answers is not None:
        print(json.dumps(answers), file=answer, flush=True)


@dataclass(frozen=True)
class Contest:
    """Programs that are timed in turn. A script has one, under the name ``CONTEST``.

    Attributes:
        script: its ``__file__``.
        contestants: for each its function, which prepares and returns what is
            to be timed; that one takes the number of the round, from 0 on, and
            may return figures, a value for each of ``columns``.
        columns: names of these figures.
        xlabel: of the picture.
        shown: what the picture shows of a row, which has round, contestant,
            seconds, peak_memory_mib and ``columns``.
        panel: the part of the picture that a row belongs to.
        label: its name there.
        variables: environment variables of some contestants.
        settings: what was measured, for the JSON file.
        packages: whose versions count, beside those of this package.
        rounds: how often, by default.
        warm_up: whether each process does its work once before it is timed.
        whole_process: whether what is timed is all of the process, from the
            start of Python on; a round before the first one then fills the
            caches.
    """

    script: str
    contestants: Mapping[str, Callable[[], Callable[[int], Any]]]
    xlabel: str
    shown: Callable[[Mapping[str, Any]], float]
    panel: Callable[[Mapping[str, Any]], str] = lambda row: ""
    label: Callable[[Mapping[str, Any]], str] = itemgetter("contestant")
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
        """Be a contestant: seconds, peak memory in MiB, and its figures."""
        timed = self.contestants[name]()
        if self.warm_up and not self.whole_process:
            timed(round_)
        started = time.perf_counter()
        figures = timed(round_)
        seconds = time.perf_counter() - started
        # KiB on Linux, bytes on macOS
        scale = 2**20 if sys.platform == "darwin" else 2**10
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
        return [seconds, memory, *(figures or ())]

    def _measure(self, name: str, round_: int) -> Dict[str, Any]:
        started = time.perf_counter()
        seconds, memory, *figures = in_a_process(
            self.script, "CONTEST.work", name, round_, variables=self.variables.get(name)
        )
        if self.whole_process:
            seconds = time.perf_counter() - started
        row = {"round": round_, "contestant": name, "seconds": round(seconds, 5)}
        return {**row, "peak_memory_mib": round(memory), **dict(zip(self.columns, figures))}

    def figure(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        """Draw rows, those just measured or those of the CSV file."""
        from d2l_deeprnn.evidence.figures import points_figure

        panels: Dict[str, Dict[str, List[float]]] = {}
        for row in rows:
            values = panels.setdefault(self.panel(row), {}).setdefault(self.label(row), [])
            values.append(self.shown(row))
        return points_figure(panels, self.xlabel)


def summarize(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print medians, and the ratio of each contestant to the first, round by round."""
    from d2l_deeprnn.evidence.records import spread

    seconds: Dict[str, List[float]] = {}
    for row in rows:
        seconds.setdefault(row["contestant"], []).append(row["seconds"])
    for name, values in seconds.items():
        print(f"{name}: median {spread(values, 4)} s")
    (first, its), *others = seconds.items()
    for name, values in others:
        print(f"{name} / {first}: median {spread([b / a for a, b in zip(its, values)])}")


def as_installed() -> None:
    """Undo, before a library starts, what importing ``d2l_deeprnn`` sets."""
    from d2l_deeprnn._mxnet import repairs

    for name in repairs.VARIABLES:
        if name not in ENVIRONMENT:
            os.environ.pop(name, None)


if __name__ == "__main__":
    _answer(*sys.argv[1:])
