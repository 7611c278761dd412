"""Time a minibatch of the chapter after large arrays were copied with one or several threads.

Before training, an array of a million numbers is copied to the device, as when parameters or a
checkpoint are loaded: with one thread, as in this package, or with several, as in MXNet. Writes
``results/copying.csv``, ``.json`` and ``.svg``.

    python benchmarks/copying.py

Needs the extras ``test`` and ``bench``. Seconds are for 120 minibatches.
"""

from __future__ import annotations

import minibatch
import numpy as np
from turns import Contest, ratio

MXNETS_OWN = 200_000  # from this many numbers on, MXNet copies with several threads


def train():
    from mxnet import nd

    work = minibatch.ours()
    nd.array(np.zeros(10**6)).wait_to_read()
    return work


CONTEST = Contest(
    __file__,
    {"one thread copies": train, "several threads copy": train},
    xlabel="milliseconds per minibatch (shorter is better)",
    title=lambda rows: (
        "After a copy by several threads, a minibatch takes "
        f"{ratio(rows, 'several threads copy', 'one thread copies'):.1f} times as long"
    ),
    shown=minibatch.milliseconds,
    variables={"several threads copy": {"MXNET_CPU_PARALLEL_SIZE": str(MXNETS_OWN)}},
    settings={"minibatches": minibatch.MINIBATCHES},
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
