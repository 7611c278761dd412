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
from turns import main

from d2l_deeprnn._mxnet.repairs import COPY_VARIABLE

MXNETS_OWN = 200_000  # from this many numbers on, MXNet copies by several threads


def train():
    from mxnet import nd

    work = minibatch.ours()
    nd.array(np.zeros(10**6)).wait_to_read()
    return work


if __name__ == "__main__":
    main(
        __doc__.splitlines()[0],
        {"one thread copies": train, "several threads copy": train},
        [],
        "copying",
        xlabel="milliseconds a minibatch",
        shown=lambda row: 1000 * row[2] / (8 * minibatch.EPOCHS),
        variables={"several threads copy": {COPY_VARIABLE: str(MXNETS_OWN)}},
        settings={"minibatches": 8 * minibatch.EPOCHS},
    )
