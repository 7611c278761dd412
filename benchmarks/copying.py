"""What does it cost that MXNet copies large arrays by several threads? The chapter's minibatch.

Before the training an array of a million numbers is handed to the device, as
loading parameters or a checkpoint does: by one thread, as this package has it,
or by several, as MXNet has it. Writes ``results/copying.csv`` and ``.json``.

    python benchmarks/copying.py

It needs the extras ``test`` and ``bench``. Seconds are those of 120 minibatches.
"""

from __future__ import annotations

import minibatch
import numpy as np
from turns import Contest

MXNETS_OWN = 200_000  # from this many numbers on, MXNet copies by several threads


def train():
    from mxnet import nd

    work = minibatch.ours()
    nd.array(np.zeros(10**6)).wait_to_read()
    return work


CONTEST = Contest(
    __file__,
    {"one thread copies": train, "several threads copy": train},
    xlabel="milliseconds a minibatch",
    shown=minibatch.milliseconds,
    variables={"several threads copy": {"MXNET_CPU_PARALLEL_SIZE": str(MXNETS_OWN)}},
    settings={"minibatches": minibatch.MINIBATCHES},
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
