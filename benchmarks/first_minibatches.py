"""From which minibatch on do this package's losses and the original's differ, and why?

Both libraries train the chapter's first minibatches with the same seed. This package also does so
without its fast path, clipping and updating each parameter by itself. MXNet's arithmetic libraries,
oneDNN and OpenBLAS, choose their kernels by the processor; environment variables make them choose
those of older processors. Writes ``results/first_minibatches.csv`` and ``.json``: the first
minibatch whose losses differ, and the greatest relative error of a loss up to several minibatches.

    python benchmarks/first_minibatches.py
    python benchmarks/first_minibatches.py --num-epochs 13     # 104 minibatches: minutes

Needs the extra ``test`` and the book's text in ``$D2L_DEEPRNN_DATA``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Sequence

import seeds
from turns import in_a_process, parser, write

# Kernels -> environment variables, besides one thread
KERNELS: Dict[str, Dict[str, str]] = {
    "the processor's own": {},
    "oneDNN: AVX": {"DNNL_MAX_CPU_ISA": "AVX"},
    "oneDNN: SSE4.1": {"DNNL_MAX_CPU_ISA": "SSE41"},
    "OpenBLAS: Sandybridge, no FMA": {"OPENBLAS_CORETYPE": "Sandybridge"},
    "oneDNN: AVX; OpenBLAS: Sandybridge": {
        "DNNL_MAX_CPU_ISA": "AVX",
        "OPENBLAS_CORETYPE": "Sandybridge",
    },
    "the processor's own, two threads": {"OMP_NUM_THREADS": "2"},
}
UP_TO = (10, 100, 300, 1000)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--num-epochs", type=int, default=125)
    options.add_argument("--side-by-side", type=int, default=1, help="trainings at a time")
    arguments = options.parse_args()
    with ThreadPoolExecutor(arguments.side_by_side) as pool:
        trainings = {
            (kernels, library): pool.submit(
                in_a_process,
                seeds.__file__,
                "record",
                library,
                arguments.seed,
                arguments.num_epochs,
                variables={"OMP_NUM_THREADS": "1", **variables},
            )
            for kernels, variables in KERNELS.items()
            for library in ("original", "ours", "arrays")
        }
        results = {key: training.result() for key, training in trainings.items()}
    losses = {key: result["losses"] for key, result in results.items()}
    first_kernels = next(iter(KERNELS))

    rows = []
    for kernels in KERNELS:
        for a, b in [
            ((kernels, "ours"), (kernels, "original")),
            ((kernels, "arrays"), (kernels, "original")),
            ((kernels, "original"), (first_kernels, "original")),
        ]:
            if a != b:
                errors = relative_errors(losses[a], losses[b])
                other = " of the first kernels" if b[0] != kernels else ""
                pair = {"kernels": kernels, "a": a[1], "b": b[1] + other}
                rows.append({**pair, "minibatches": len(errors), **summary(errors)})
    ours, original = (results[first_kernels, library] for library in ("ours", "original"))
    write(
        arguments,
        rows,
        kernels=KERNELS,
        versions={**ours["versions"], **original["versions"]},
        machine={**ours["machine"], "instructions": instructions()},
    )


def relative_errors(ours: Sequence[float], theirs: Sequence[float]) -> List[float]:
    return [abs(a - b) / b for a, b in zip(ours, theirs)]


def summary(errors: Sequence[float]) -> Dict[str, str]:
    """Return the first minibatch that differs (1, 2, ...), and the greatest errors of losses."""
    first = next((str(i + 1) for i, error in enumerate(errors) if error), "none")
    greatest = {
        f"error_up_to_{n}": f"{max(errors[:n]):.2g}" if n <= len(errors) else "" for n in UP_TO
    }
    return {"first_difference": first, **greatest}


def instructions() -> List[str]:
    """Return the processor's instruction sets that decide which kernels are used."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:  # not Linux
        return []
    return [name for name in ("sse4_1", "avx", "avx2", "fma", "avx512f") if name in flags]


if __name__ == "__main__":
    main()
