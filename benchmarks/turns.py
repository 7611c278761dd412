"""Programs that are timed in turn: each in a process of its own, one at work at a time.

A benchmark script runs itself again for each contestant and round, with the
contestant's name behind ``--contestant``. That process prepares its work, and
does it: once to warm up, and once for the record. So no contestant shares
libraries or threads with another, a machine that grows slower or faster does
so for all, and where a process's arrays happen to lie in memory, which is worth
up to a fifth of the time, is drawn anew in each round.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

# As it is before anything changes it: importing d2l_deeprnn does.
ENVIRONMENT = dict(os.environ)
RESULTS = Path(__file__).resolve().parent.parent / "results"


def main(
    description: str,
    contestants: Mapping[str, Callable[[], Callable[[int], Any]]],
    columns: Sequence[str],
    name: str,
    *,
    xlabel: str,
    shown: Callable[[Sequence[Any]], float],
    variables: Optional[Mapping[str, Mapping[str, str]]] = None,
    settings: Optional[Mapping[str, Any]] = None,
    rounds: int = 7,
    warm_up: bool = True,
) -> None:
    """Time contestants in turn; write ``results/NAME.csv``, ``.json``, ``.svg``; print ratios.

    Args:
        description: of the script, for ``--help``.
        contestants: for each its function, which prepares and returns what is
            to be timed; that one takes the number of the round, from 0 on, and
            may return figures, a value for each of ``columns``.
        columns: names of these figures.
        name: of the files.
        xlabel: of the picture.
        shown: what the picture shows of a row: (round, contestant, seconds,
            peak_memory_mib, *columns).
        variables: environment variables of some contestants.
        settings: what was measured, for the JSON file.
        rounds: how often.
        warm_up: whether each process does its work once before it is timed.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--contestant", choices=list(contestants), help=argparse.SUPPRESS)
    parser.add_argument("--round", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant is not None:
        _work(contestants[arguments.contestant], arguments.round, warm_up)
        return
    rows = _take_turns(list(contestants), variables or {}, arguments.rounds)
    header = ["round", "contestant", "seconds", "peak_memory_mib", *columns]
    _write(arguments, header, rows, name, settings or {})
    summarize(rows)
    _draw(arguments.out / f"{name}.svg", rows, xlabel, shown)


def _work(prepare: Callable[[], Callable[[int], Any]], round_: int, warm_up: bool) -> None:
    """Be a contestant."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    work = prepare()
    if warm_up:
        work(round_)
    started = time.perf_counter()
    figures = work(round_)
    seconds = time.perf_counter() - started
    # KiB on Linux, bytes on macOS
    scale = 2**20 if sys.platform == "darwin" else 2**10
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    print(json.dumps([seconds, memory, *(figures or ())]), file=answer, flush=True)


def _take_turns(
    names: Sequence[str], variables: Mapping[str, Mapping[str, str]], rounds: int
) -> List[List[Any]]:
    rows: List[List[Any]] = []
    for round_ in range(rounds):
        for name in names:
            command = [sys.executable, sys.argv[0], "--contestant", name, "--round", str(round_)]
            environment = {**ENVIRONMENT, **variables.get(name, {})}
            answer = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
            seconds, memory, *figures = json.loads(answer.stdout)
            rows.append([round_, name, round(seconds, 5), round(memory), *figures])
        print(f"round {round_ + 1} of {rounds}", file=sys.stderr, flush=True)
    return rows


def medians(rows: Sequence[Sequence[Any]]) -> Dict[str, float]:
    """The median seconds of each contestant."""
    names = dict.fromkeys(row[1] for row in rows)
    return {name: statistics.median(float(r[2]) for r in rows if r[1] == name) for name in names}


def summarize(rows: Sequence[Sequence[Any]]) -> None:
    """Print medians, and the ratio of each contestant to each other, round by round."""
    seconds = {name: [float(r[2]) for r in rows if r[1] == name] for name in medians(rows)}
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name}: median {median:.4f} s ({min(values):.4f} to {max(values):.4f})")
    first, *others = seconds
    for name in others:
        ratios = [b / a for a, b in zip(seconds[first], seconds[name])]
        print(
            f"{name} / {first}: median {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f})"
        )


def _write(
    arguments: argparse.Namespace,
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    name: str,
    settings: Mapping[str, Any],
) -> None:
    from d2l_deeprnn.evidence.provenance import machine, versions

    arguments.out.mkdir(parents=True, exist_ok=True)
    with open(arguments.out / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    made_with = {
        "command": f"python benchmarks/{name}.py --rounds {arguments.rounds}",
        "settings": settings,
        "versions": {**versions(), "d2l": version("d2l"), "torch": version("torch")},
        "machine": machine(),
    }
    text = json.dumps(made_with, indent=2) + "\n"
    (arguments.out / f"{name}.json").write_text(text, encoding="utf-8")


def as_installed() -> None:
    """Undo, before a library starts, what importing ``d2l_deeprnn`` sets."""
    from d2l_deeprnn._mxnet import repairs as _repairs

    for name in _repairs.THREADS_VARIABLE, _repairs.COPY_VARIABLE:
        if name not in ENVIRONMENT:
            os.environ.pop(name, None)


def _draw(
    path: Path, rows: Sequence[Sequence[Any]], xlabel: str, shown: Callable[[Sequence[Any]], float]
) -> None:
    from d2l_deeprnn.evidence.figures import points_figure, save_figure

    names = dict.fromkeys(row[1] for row in rows)
    values = {name: [shown(r) for r in rows if r[1] == name] for name in names}
    save_figure(points_figure({"": values}, xlabel), path)


def repair() -> None:
    """Let ``mxnet`` 1.9.1 and ``d2l`` 0.9.1 be imported today, and change nothing else."""
    import numpy
    from IPython import display

    as_installed()
    numpy.bool = bool
    display.set_matplotlib_formats = lambda *formats: None
