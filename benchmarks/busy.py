"""How long does a minibatch of the chapter take while other programs compute?

The programs are this package as it is, with one thread, and with threads that spin for different
times before they sleep (the longest is the default of GNU's OpenMP); and ``d2l`` 0.9.1 and PyTorch
as installed. Each runs alone, and beside up to six processes that only keep a processor busy. The
results are ``results/busy.csv``, ``.json`` and ``.svg``.

    python benchmarks/busy.py

Needs the extras ``test`` and ``bench``. Seconds are for 32 minibatches.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import time

from minibatch import ours, pytorch, theirs
from turns import Contest

from d2l_deeprnn._mxnet.repairs import SPIN_VARIABLE, available_cores

EPOCHS = 4  # the fewest that the original trains for
MINIBATCHES = 8 * EPOCHS
# It ends with the process that started it, even if that process is killed.
BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    sum(range(100_000))
"""
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
SPINS = (300, 1000, 3000, 10_000, 300_000)
ALL, SOME = (0, 1, 2, 6), (0, 2)  # numbers of busy processes
PROGRAMS = {
    "d2l_deeprnn": (ours, {}, ALL),
    "d2l_deeprnn, one thread": (ours, ONE_THREAD, ALL),
    **{
        f"d2l_deeprnn, {SPIN_VARIABLE}={spins}": (ours, {SPIN_VARIABLE: str(spins)}, ALL)
        for spins in SPINS
    },
    "d2l 0.9.1 as installed": (theirs, {}, SOME),
    "PyTorch as installed": (pytorch, {}, ALL),
}


def beside(program, number):
    """Prepare a program, and start the busy processes when it has warmed up."""
    start, _, _ = PROGRAMS[program]
    work = start(EPOCHS)
    work(0)
    for _ in range(number):
        subprocess.Popen([sys.executable, "-c", BUSY])
    time.sleep(1)

    def timed(round_):
        work(round_)
        return program, number

    return timed


CONTESTANTS = {
    f"{program}, beside {number}": (program, number)
    for number in ALL
    for program, (_, _, numbers) in PROGRAMS.items()
    if number in numbers
}

SHOWN = {
    "d2l_deeprnn": "d2l_deeprnn",
    "d2l_deeprnn, one thread": "the same, one thread",
    f"d2l_deeprnn, {SPIN_VARIABLE}={SPINS[-1]}": "the same, GNU's own waiting",
    "PyTorch as installed": "PyTorch as installed",
}


def figure(rows):
    """Plot rows that were measured or read from the CSV file: the programs that differ most."""
    from d2l_deeprnn.evidence.figures import Line, lines_figure
    from d2l_deeprnn.evidence.records import column, group_by, select

    lines = {}
    for program, label in SHOWN.items():
        by_number = group_by(select(rows, program=program), "busy_processes")
        times = [[1000 * s / MINIBATCHES for s in column(r, "seconds")] for r in by_number.values()]
        lines[label] = Line.of_runs(list(by_number), times)
    ours, *_, pytorchs = (line.y for line in lines.values())
    share = ours[-1] / pytorchs[-1]
    title = f"Beside six busy processes, a minibatch takes {share:.0%} of PyTorch's time"
    return lines_figure(
        {"": lines},
        "busy processes on two processors",
        "milliseconds per minibatch\n(lower is better)",
        ours=["d2l_deeprnn"],
        title=title,
    )


CONTEST = Contest(
    __file__,
    {name: functools.partial(beside, *arguments) for name, arguments in CONTESTANTS.items()},
    draw=figure,
    columns=["program", "busy_processes"],
    variables={name: PROGRAMS[program][1] for name, (program, _) in CONTESTANTS.items()},
    packages=["d2l", "torch"],
    settings={"minibatches": MINIBATCHES, "processors": available_cores()},
    warm_up=False,
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
