"""How long do two ranks take on this machine, compared with one process with two threads?

Writes three files, each with ``.json``:

- ``results/ranks.csv``: minibatches with two layers of 256, 512 and 1024 hidden units and with 32
  and 64 rows, in one process with two threads and in two ranks with one thread each, alone and
  beside two busy processes;
- ``results/ranks_apart.csv``: the same in two independent processes with half of the rows each,
  which is the lower bound for two ranks;
- ``results/ranks_sum.csv``: sums of gradients.

    python benchmarks/ranks.py
    python benchmarks/ranks.py --only ranks_apart

Needs the extra ``mpi``. The text is random.
"""

from __future__ import annotations

import concurrent.futures
import functools
import statistics
import subprocess
import sys
import time
from pathlib import Path

import busy
from turns import in_a_process, parser, random_text, write

from d2l_deeprnn.chapter.book import VOCAB_SIZE

# Number of ranks (None without mpiexec), and threads of each rank
ALONE, ONE, TWO, ONE_THREAD = (None, 2), (1, 2), (2, 1), (None, 1)
# Ranks and threads, hidden units, rows of a minibatch, busy processes, minibatches
CONTESTANTS = [
    *((how, 256, 32, 0, 32) for how in (ALONE, ONE, TWO)),
    *((how, 256, 64, 0, 32) for how in (ALONE, TWO)),
    *((how, 512, 32, 0, 16) for how in (ALONE, TWO)),
    *((how, 1024, 32, 0, 8) for how in (ALONE, TWO)),
    *((how, 256, 32, 2, 32) for how in (ALONE, TWO)),
    *((how, 512, 32, 2, 16) for how in (ALONE, TWO)),
    *((ONE_THREAD, num_hiddens, n, 0, 8) for num_hiddens in (256, 1024) for n in (16, 32)),
]
APART = "apart"  # instead of ranks and threads: two processes of one thread, without MPI
LEAST = [
    *((how, 256, 64, 0, 48) for how in (ALONE, TWO, APART)),
    *((how, 512, 32, 0, 24) for how in (ALONE, TWO, APART)),
]
MILLIONS = (0.85, 3.3, 13, 52)  # parameters of networks with 256, 512, 1024 and 2048 units
MPIEXEC = str(Path(sys.executable).parent / "mpiexec")


def seconds(num_hiddens, batch_size, busy_processes, minibatches):
    """Return the seconds per minibatch on rank 0, after some minibatches to warm up."""
    import numpy as np

    from d2l_deeprnn.training.learner import Learner, new_model
    from d2l_deeprnn.training.ranks import distributed
    from d2l_deeprnn.training.settings import TrainSettings
    from d2l_deeprnn.training.trainer import Callback

    class Count(Callback):
        minibatches = 0

        def after_step(self, trainer, progress):
            self.minibatches += 1

    text = np.array(random_text(35 * batch_size * 9))
    settings = TrainSettings(
        corpus=("random",), num_hiddens=num_hiddens, batch_size=batch_size, num_epochs=10**6,
        optimizer="adam", lr=0.001,
    )  # fmt: skip
    with distributed() as ranks:
        ctx = ranks.device()
        model = new_model(settings, VOCAB_SIZE, ctx)
        learner = Learner(settings, model, text, text[:0], ctx, ranks=ranks)

        def train(number):
            done = Count()
            while done.minibatches < number:
                learner.train_epoch([done])
            return done.minibatches

        train(8)
        if ranks.rank == 0:
            for _ in range(busy_processes):
                subprocess.Popen([sys.executable, "-c", busy.BUSY])
        time.sleep(1)
        started = time.perf_counter()
        done = train(minibatches)
        took = (time.perf_counter() - started) / done
        return took if ranks.rank == 0 else None


def seconds_to_sum(millions):
    """Return the median seconds to sum arrays of so many million numbers, on rank 0."""
    from d2l_deeprnn._mxnet import nd
    from d2l_deeprnn.training.ranks import distributed

    with distributed() as ranks:
        gradient = nd.ones(int(1e6 * millions))
        times = []
        for _ in range(22):
            started = time.perf_counter()
            ranks.sum([gradient])
            times.append(time.perf_counter() - started)
            gradient[:] = 1
        return statistics.median(times[2:]) if ranks.rank == 0 else None


def seconds_apart(num_hiddens, batch_size, *work):
    """Return the mean time of two processes side by side, with half of the rows each."""
    arguments = (num_hiddens, batch_size // 2, *work)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        started = [pool.submit(measure, ONE_THREAD, "seconds", *arguments) for _ in range(2)]
        return statistics.mean(process.result() for process in started)


def measure(how, function, *arguments):
    """Start the processes; return the result of rank 0."""
    ranks, threads = how
    launcher = () if ranks is None else (MPIEXEC, "-n", str(ranks))
    variables = {"OMP_NUM_THREADS": str(threads)}
    return in_a_process(__file__, function, *arguments, variables=variables, launcher=launcher)


def minibatches(contestants, round_):
    """Return one row for each of some contestants."""
    rows = []
    for how, *work in contestants:
        num_hiddens, batch_size, busy_processes, _ = work
        took = seconds_apart(*work) if how == APART else measure(how, "seconds", *work)
        ranks, threads = ONE_THREAD if how == APART else how
        rows.append(
            {
                "round": round_,
                "mpiexec": ranks is not None,
                "ranks": ranks or 1,
                "threads": threads,
                **({"processes": 2 if how != ALONE else 1} if contestants is LEAST else {}),
                "num_hiddens": num_hiddens,
                "batch_size": batch_size,
                "busy_processes": busy_processes,
                "milliseconds": round(1000 * took, 3),
            }
        )
    return rows


def sums(round_):
    """Return one row for each number of parameters."""
    rows = []
    for millions in MILLIONS:
        took = round(1000 * measure(TWO, "seconds_to_sum", millions), 3)
        rows.append({"round": round_, "million_parameters": millions, "milliseconds": took})
    return rows


# Name of the file -> function that returns the rows of a round, and settings
MEASURED = {
    "ranks": (functools.partial(minibatches, CONTESTANTS), {"vocab_size": VOCAB_SIZE}),
    "ranks_apart": (functools.partial(minibatches, LEAST), {"vocab_size": VOCAB_SIZE}),
    "ranks_sum": (sums, {"ranks": 2}),
}


def main():
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--only", choices=MEASURED, help="one of the files (default: all)")
    arguments = options.parse_args()
    rows = {name: [] for name in MEASURED if arguments.only in (None, name)}
    for round_ in range(arguments.rounds):
        for name in rows:
            measure_round, _ = MEASURED[name]
            rows[name] += measure_round(round_)
        print(f"round {round_ + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
    for name in rows:
        _, settings = MEASURED[name]
        write(arguments, rows[name], name=name, packages=["mpi4py"], settings=settings)


if __name__ == "__main__":
    main()
