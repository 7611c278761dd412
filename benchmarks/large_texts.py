"""How do time and memory of reading, training and scoring grow with the text?

Writes texts of 10^6 to 10^9 characters to a temporary directory, which takes 2 bytes of disk per
character. For each text, new processes measure the seconds to read it at the first start and at the
second, to train the first minibatch and a hundred more, and to score 10^5 characters. They also
measure the peak memory without the page cache (``RssAnon`` in ``/proc/self/status``, read every 10
milliseconds; Linux only). The results are ``results/large_texts.csv`` and ``.json``; with several
ranks, they are ``large_texts_ranks``, and the peak memory is that of the largest rank.

    python benchmarks/large_texts.py
    python benchmarks/large_texts.py --lengths 1000000000 --rounds 1 --ranks 2
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Optional

from ranks import MPIEXEC
from turns import in_a_process, parser, write

from d2l_deeprnn.training import runs
from d2l_deeprnn.training.evaluate import evaluate
from d2l_deeprnn.training.ranks import distributed
from d2l_deeprnn.training.settings import TrainSettings, as_dict

MINIBATCHES = 100
SCORED = 10**5
STARTS = "first", "second"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--lengths", type=int, nargs="+", default=[10**n for n in range(6, 10)])
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--ranks", type=int, help="processes that train together (default: one)")
    arguments = options.parse_args()
    launcher = () if arguments.ranks is None else (MPIEXEC, "-n", str(arguments.ranks))
    rows = []
    for length in arguments.lengths:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "text"
            _write_text(path, length)
            time.sleep(3)  # a file that has just changed would be read again at the next start
            for round_ in range(arguments.rounds):
                variables = {"XDG_CACHE_HOME": str(Path(directory) / "cache")}
                for start in STARTS:
                    out = str(Path(directory) / f"run {round_} {start}")
                    measured = in_a_process(
                        __file__, "one_start", str(path), out,
                        variables=variables, launcher=launcher,
                    )  # fmt: skip
                    row = {"characters": length, "round": round_, "start": start}
                    rows.append({**row, **measured})
                    print(rows[-1], file=sys.stderr, flush=True)
                for file in Path(directory, "cache", "d2l_deeprnn").rglob("*.npy"):
                    file.unlink()
    settings = {"minibatches": MINIBATCHES, "scored": SCORED, **as_dict(_settings("text"))}
    name = "large_texts" if arguments.ranks is None else "large_texts_ranks"
    write(arguments, rows, name=name, settings=settings)


def _write_text(path: Path, length: int) -> None:
    """Write random words, as long as those of a book, and a few characters outside ASCII."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(1, 9))) for _ in range(999)]
    lines = [" ".join(draw.choices(words, k=12)) + ".\n" for _ in range(9999)]
    with open(path, "w", encoding="utf-8") as file:
        left = length
        while left:
            draw.shuffle(lines)
            left -= file.write(("".join(lines) + "\u2014 The end.\n")[:left])


def _settings(path: str) -> TrainSettings:
    return TrainSettings(corpus=(path,), num_epochs=1)


def one_start(path: str, out: str) -> Optional[dict]:
    start, times = [], []
    started = time.perf_counter()

    def seconds() -> float:
        return time.perf_counter() - started

    with _Memory() as memory:
        runs.train(
            _settings(path),
            Path(out),
            on_start=lambda *given: start.extend([seconds(), memory.peak]),
            on_minibatch=lambda progress: times.append(seconds()),
            should_stop=lambda: len(times) > MINIBATCHES,
        )
        with distributed() as ranks:
            run = runs.load_run(Path(out), checkpoint="last")
            part = runs.read_own_text(Path(out)).valid[:SCORED]
            loaded = seconds()
            scored = evaluate(run.model, part, run.ctx, ranks=ranks).num_chars
            scoring = seconds() - loaded
            peaks = ranks.allgather(memory.peak)
        if ranks.rank > 0:  # rank 0 reports
            return None
        reading, reading_peak = start
    return {
        "reading_seconds": round(reading, 4),
        "reading_mib": round(reading_peak),
        "first_minibatch_seconds": round(times[0], 4),
        "minibatches_seconds": round(times[-1] - times[0], 4),
        "scored": scored,
        "scoring_seconds": round(scoring, 4),
        "peak_mib": round(max(peaks)),
    }


class _Memory:
    """A context that measures this process's peak memory without files, in MiB."""

    def __enter__(self):
        self.peak = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._measure)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ended.set()
        self._thread.join()

    def _measure(self):
        while not self._ended.wait(0.01):
            status = Path("/proc/self/status").read_text()
            kib = int(status.partition("RssAnon:")[2].split()[0])
            self.peak = max(self.peak, kib / 2**10)


if __name__ == "__main__":
    main()
