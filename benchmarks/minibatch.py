"""How long does one minibatch of the chapter take? Programs in turn, and two lower bounds.

The programs are ``d2l`` 0.9.1 as installed and with all threads, this package with all threads and
with one, and PyTorch as installed and with the same setting of the allocator. The bounds are times
of matrix products alone, with nothing between them, in the fastest of MXNet (oneDNN), NumPy
(OpenBLAS) and PyTorch (MKL):

- *recurrence*: the minibatch's products one after the other, in their order and shapes, which an
  implementation that goes step by step cannot avoid;
- *arithmetic*: as many operations in the shape of product that is fastest.

The product with the one-hot inputs, and everything but products, is left out. Writes
``results/minibatch.csv``, ``.json`` and ``.svg``.

    python benchmarks/minibatch.py

Needs the extras ``test`` and ``bench``. The text is random. Seconds are for 120 minibatches.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Sequence, Tuple

import original
from turns import (
    ONE_THREAD,
    Contest,
    as_installed,
    in_a_process,
    random_text,
    ratio,
    train_chapter,
)

from d2l_deeprnn._mxnet.repairs import available_cores
from d2l_deeprnn.chapter.book import CHAPTER, VOCAB_SIZE

EPOCHS = 15  # so many that the new model of each call hardly matters
MINIBATCHES = 8 * EPOCHS
TRIALS = 3  # of each library and shape, to find the fastest
Shape = Tuple[int, int, int]  # of a product: (m, k) times (k, n)


def theirs(epochs=EPOCHS):
    as_installed()
    d2l, train = original.load()
    return chapter(d2l.RNNModel, train.train_and_predict_rnn_gluon, epochs)


def ours(epochs=EPOCHS):
    import d2l_deeprnn as d2l

    return chapter(d2l.RNNModel, d2l.train_and_predict_rnn_gluon, epochs)


def chapter(model_class, train, epochs):
    from mxnet.gluon import rnn

    text, vocab = random_text(CHAPTER.num_examples), range(VOCAB_SIZE)
    model = model_class(rnn.LSTM(CHAPTER.num_hiddens, CHAPTER.num_layers), VOCAB_SIZE)
    return lambda round_: train_chapter(train, model, text, vocab, epochs) and None


def pytorch(epochs=EPOCHS):
    as_installed()
    from pytorch_chapter import train

    text = random_text(CHAPTER.num_examples)
    return lambda round_: train(text, VOCAB_SIZE, epochs)


def pytorch_that_keeps_memory():
    from d2l_deeprnn._mxnet import keep_freed_memory

    keep_freed_memory()
    return pytorch()


def products() -> List[Shape]:
    """Return the shapes of a minibatch's matrix products, in their order."""
    units, gates, batch_size = CHAPTER.num_hiddens, 4 * CHAPTER.num_hiddens, CHAPTER.batch_size
    rows = CHAPTER.num_steps * batch_size
    steps = [(batch_size, units, gates)] * CHAPTER.num_steps
    # the gradients of the states step by step, then that of the recurrent weights
    back = [*[(batch_size, gates, units)] * CHAPTER.num_steps, (gates, rows, units)]
    return [
        *steps,  # layer 1; its products with the one-hot inputs are left out
        (rows, units, gates),  # the inputs of layer 2
        *steps,
        (rows, units, VOCAB_SIZE),  # the output layer
        (rows, VOCAB_SIZE, units),
        (VOCAB_SIZE, rows, units),
        *back,
        (rows, gates, units),  # what layer 2 reads
        (gates, rows, units),
        *back,
    ]


def operations(shapes: Sequence[Shape]) -> int:
    return sum(2 * m * k * n for m, k, n in shapes)


def in_mxnet(m: int, k: int, n: int) -> Callable[[], Any]:
    from d2l_deeprnn._mxnet import nd

    a, b, out = nd.ones((m, k)), nd.ones((n, k)), nd.zeros((m, n))
    # oneDNN computes dense layers; nd.dot would take OpenBLAS.
    return lambda: nd.FullyConnected(a, b, num_hidden=n, no_bias=True, out=out)


def in_numpy(m: int, k: int, n: int) -> Callable[[], Any]:
    import numpy as np

    a, b, out = (np.ones(shape, np.float32) for shape in [(m, k), (k, n), (m, n)])
    return lambda: np.dot(a, b, out=out)


def in_pytorch(m: int, k: int, n: int) -> Callable[[], Any]:
    import torch

    a, b, out = torch.ones(m, k), torch.ones(k, n), torch.zeros(m, n)
    return lambda: torch.mm(a, b, out=out)


LIBRARIES = {"MXNet": in_mxnet, "NumPy": in_numpy, "PyTorch": in_pytorch}
BOUNDS: Dict[str, List[List[Shape]]] = {  # name -> the products among which the fastest counts
    "recurrence": [products()],
    "arithmetic": [[(32, 256, 1024)], [(1120, 256, 1024)], [(2048, 2048, 2048)]],
}


def multiply(library: str, shapes: Sequence[Shape], num_operations: float) -> Callable[[], None]:
    """Return a function that repeats products in a library up to a number of operations."""
    if library != "MXNet":
        as_installed()
    product = {shape: LIBRARIES[library](*shape) for shape in map(tuple, shapes)}
    repeated = [product[tuple(shape)] for shape in shapes]
    times = max(1, round(num_operations / operations(shapes)))

    def work() -> None:
        for _ in range(times):
            for each in repeated:
                each()
        if library == "MXNet":
            from d2l_deeprnn._mxnet import nd

            nd.waitall()

    return work


def seconds_of(library: str, shapes: Sequence[Shape]) -> float:
    """Return the least time that a minibatch's operations take in a library."""
    work = multiply(library, shapes, 10 * operations(products()))
    work()
    times = []
    for _ in range(TRIALS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def bound(name: str) -> Callable[[], Callable[[int], List[str]]]:
    """Return the contestant that does the products of a bound in the fastest library."""

    def prepare() -> Callable[[int], List[str]]:
        candidates = [(library, shapes) for library in LIBRARIES for shapes in BOUNDS[name]]
        times = [in_a_process(__file__, "seconds_of", *each) for each in candidates]
        library, shapes = candidates[times.index(min(times))]
        work = multiply(library, shapes, MINIBATCHES * operations(products()))
        shape = f", {' x '.join(map(str, shapes[0]))}" if len(shapes) == 1 else ""
        return lambda round_: work() or [library + shape]

    return prepare


def milliseconds(row):
    return 1000 * row["seconds"] / MINIBATCHES


CONTEST = Contest(
    __file__,
    {
        "d2l_deeprnn": ours,
        "d2l_deeprnn, one thread": ours,
        "d2l 0.9.1 as installed": theirs,
        "d2l 0.9.1, all threads": theirs,
        "PyTorch as installed": pytorch,
        "PyTorch, same allocator": pytorch_that_keeps_memory,
        **{f"lower bound: {name}": bound(name) for name in BOUNDS},
    },
    columns=["products"],
    xlabel="milliseconds per minibatch (shorter is better)",
    title=lambda rows: (
        f"A minibatch takes {ratio(rows, 'd2l_deeprnn', 'd2l 0.9.1 as installed'):.0%} of the time "
        "that it takes in the library of 2019"
    ),
    shown=milliseconds,
    variables={
        "d2l_deeprnn, one thread": ONE_THREAD,
        "d2l 0.9.1, all threads": {"OMP_NUM_THREADS": str(available_cores())},
    },
    packages=["d2l", "torch"],
    settings={"minibatches": MINIBATCHES, "gflop": round(operations(products()) / 1e9, 2)},
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
