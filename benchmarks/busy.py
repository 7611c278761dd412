"""How long does a minibatch of the chapter take while other programs compute?

This package, as it is, with one thread, and with threads that wait as GNU's
OpenMP has them wait; and PyTorch as installed. Each by itself and beside two
processes that do nothing but keep a processor busy. Writes
``results/busy.csv``, ``.json`` and ``.svg``.

    python benchmarks/busy.py

It needs the extra ``bench``. Seconds are those of 16 minibatches.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import time

from minibatch import ours, pytorch
from turns import Contest

from d2l_deeprnn._mxnet.repairs import available_cores
from d2l_deeprnn._mxnet.waiting import SPIN_VARIABLE, SPINS

BESIDE = (0, 2)
EPOCHS = 2
MINIBATCHES = 8 * EPOCHS
# It ends with the process that started it, however that ends.
BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    sum(range(100_000))
"""
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# What libgomp does unless it is told otherwise.
UNBOUNDED = {SPIN_VARIABLE: str(SPINS)}
PROGRAMS = {
    "d2l_deeprnn": (ours, {}),
    "d2l_deeprnn, one thread": (ours, ONE_THREAD),
    "d2l_deeprnn, OpenMP's own waiting": (ours, UNBOUNDED),
    "PyTorch as installed": (pytorch, {}),
}


def beside(number, program):
    """A contestant beside a number of busy processes, which begin when it has warmed up."""
    work = program(EPOCHS)
    work(0)
    for _ in range(number):
        subprocess.Popen([sys.executable, "-c", BUSY])
    time.sleep(1)

    def timed(round_):
        work(round_)
        return (number,)

    return timed


def name_of(program, number):
    """How a contestant is called in the results."""
    return f"{program}, beside {number}"


def milliseconds(row):
    return 1000 * row["seconds"] / MINIBATCHES


CONTEST = Contest(
    __file__,
    {
        name_of(program, number): functools.partial(beside, number, start)
        for number in BESIDE
        for program, (start, _) in PROGRAMS.items()
    },
    xlabel="milliseconds a minibatch",
    shown=milliseconds,
    columns=["busy_processes"],
    variables={
        name_of(program, number): variables
        for number in BESIDE
        for program, (_, variables) in PROGRAMS.items()
    },
    packages=["torch"],
    settings={"minibatches": MINIBATCHES, "processors": available_cores()},
    warm_up=False,
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
