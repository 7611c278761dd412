"""Train a model for each of several learning rates, in separate processes."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the package is imported
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import d2l_deeprnn as d2l
from d2l_deeprnn.training import runs

RATES = 0.003, 0.01, 0.03


def valid_loss(rate):
    settings = d2l.TrainSettings(
        corpus=("the_tide_tables",), num_examples=8000, num_hiddens=32, batch_size=8, num_epochs=2,
        optimizer="adam", lr=rate,
    )  # fmt: skip
    return runs.train(settings, f"runs/search/lr-{rate}").history[-1].valid_loss


if __name__ == "__main__":
    # Spawn the processes: MXNet's threads do not survive a fork.
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        for rate, loss in zip(RATES, pool.map(valid_loss, RATES)):
            print(f"{rate}: {loss:.4f}")
