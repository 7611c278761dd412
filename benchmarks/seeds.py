"""Which results do this package and the original library give, seed by seed?

Trains the chapter on the book's text with this package and with ``d2l`` 0.9.1, with the same seeds.
Each training runs in a new process with one thread. It writes the loss of each minibatch, the
predictions, versions and machine to ``results/seeds/LIBRARY-SEED.json``. If that file exists, the
training is skipped, so the script can be interrupted and repeated. ``results/chapter_seeds.csv``
(this package) and ``original_seeds.csv`` have the perplexities at the book's epochs and the
predictions. ``results/chapter_curves.csv`` has this package's perplexities at all epochs.

    python benchmarks/seeds.py
    python benchmarks/seeds.py --library ours --first 10 --seeds 20 --num-epochs 125

The second command trains twenty more runs up to the book's first epoch, which are not in the
tables. The bands in ``d2l_deeprnn.chapter.book`` are computed from the first table. Needs the extra
``test`` and the book's text in ``$D2L_DEEPRNN_DATA``.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence

import original
from tqdm import tqdm
from turns import RESULTS, as_installed, in_a_process, parser, set_seed, train_chapter, write

from d2l_deeprnn.chapter.book import (
    CHAPTER,
    PREDICTIONS,
    PRINTED,
    comparable_perplexity,
    perplexities_of_epochs,
)
from d2l_deeprnn.files import write_text


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--first", type=int, default=0, help="the first seed")
    options.add_argument("--seeds", type=int, default=10, help="number of seeds")
    options.add_argument("--library", choices=["ours", "original"], help="train only with this one")
    options.add_argument("--num-epochs", type=int, default=500)
    options.add_argument("--side-by-side", type=int, default=1, help="trainings at a time")
    arguments = options.parse_args()
    folder = arguments.out / "seeds"
    folder.mkdir(parents=True, exist_ok=True)

    def train_and_keep(library: str, seed: int) -> None:
        path = folder / f"{library}-{seed}.json"
        if not path.exists():
            # With one thread, the order of sums does not depend on the number of processors.
            one = {"OMP_NUM_THREADS": "1"}
            training = in_a_process(
                __file__, "record", library, seed, arguments.num_epochs, variables=one
            )
            write_text(path, json.dumps(training) + "\n")

    with ThreadPoolExecutor(arguments.side_by_side) as pool:
        trainings = [
            pool.submit(train_and_keep, library, seed)
            for seed in range(arguments.first, arguments.first + arguments.seeds)
            for library in ([arguments.library] if arguments.library else ["ours", "original"])
        ]
        for training in tqdm(trainings, unit="training", disable=None):
            training.result()
    trainings = load(arguments.out)
    ours, originals = (
        [t for t in trainings if t["library"] == library] for library in ("ours", "original")
    )
    for runs, rows, name in [
        (ours, at_the_books_epochs(ours), "chapter_seeds"),
        (originals, at_the_books_epochs(originals), "original_seeds"),
        (ours, curves(ours), "chapter_curves"),
    ]:
        # The trainings may come from other machines or versions than this process's.
        made_with = {name: distinct(runs, name) for name in ("versions", "machine")}
        write(arguments, rows, name=name, **made_with)


def distinct(trainings: Sequence[Mapping[str, Any]], name: str) -> List[Any]:
    """Return each value of a field once."""
    values: List[Any] = []
    for training in trainings:
        values += [training[name]] if training[name] not in values else []
    return values


def load(out: Path = RESULTS) -> List[Dict[str, Any]]:
    """Read all trainings, in order of their seeds."""
    trainings = [json.loads(path.read_text()) for path in (out / "seeds").glob("*.json")]
    return sorted(trainings, key=lambda training: training["seed"])


def at_the_books_epochs(trainings: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Return results at the book's epochs, for the trainings that reached all of them."""
    rows = []
    for training in trainings:
        if training["num_epochs"] < CHAPTER.num_epochs:
            continue
        curve = perplexities_of_epochs(training["losses"])
        predictions = iter(training["predictions"])
        for epoch in (line.epoch for line in PRINTED):
            row = {
                "seed": training["seed"],
                "epoch": epoch,
                "perplexity": curve[epoch],
                "judged": comparable_perplexity(curve, epoch),
            }
            for i, _ in enumerate(CHAPTER.prefixes, start=1):
                row[f"prediction_{i}"] = next(predictions) if epoch in PREDICTIONS else ""
            rows.append(row)
    return rows


def curves(trainings: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Return the perplexity of every epoch of the trainings that reached the book's last."""
    rows = []
    for training in trainings:
        if training["num_epochs"] == CHAPTER.num_epochs:
            curve = perplexities_of_epochs(training["losses"])
            for epoch, perplexity in curve.items():
                values = {"perplexity": perplexity, "judged": comparable_perplexity(curve, epoch)}
                values = {name: f"{value:.6f}" for name, value in values.items()}
                rows.append({"seed": training["seed"], "epoch": epoch, **values})
    return rows


def record(library: str, seed: int, num_epochs: int) -> Dict[str, Any]:
    """Train the chapter in this process, and return the training as it is stored."""
    prepare = {"ours": prepare_ours, "arrays": prepare_arrays, "original": prepare_original}
    train_with_seed = prepare[library]()
    losses = record_losses()
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        train_with_seed(seed, num_epochs)
    seconds = time.perf_counter() - started

    from d2l_deeprnn.evidence.provenance import machine, versions

    used = versions()
    if library == "original":
        del used["d2l_deeprnn"]
        used["d2l"] = importlib.import_module("d2l").__version__
    return {
        "library": library,
        "seed": seed,
        "num_epochs": num_epochs,
        "versions": used,
        "machine": machine(),
        "seconds": round(seconds, 1),
        "printed": re.findall(r"epoch (\d+), perplexity ([\d.]+)", printed.getvalue()),
        "predictions": re.findall(r"^ - +(.*)$", printed.getvalue(), re.MULTILINE),
        # str: the fewest digits that give the same float32
        "losses": [float(str(loss)) for loss in losses],
    }


def record_losses() -> List[Any]:
    """Return a list to which the mean loss of each following minibatch is added."""
    from mxnet import nd

    losses = []
    backward = nd.NDArray.backward

    def go_backward_and_record(loss, *args, **kwargs):
        backward(loss, *args, **kwargs)
        losses.append(loss.asscalar())

    # Both libraries call it once per minibatch.
    nd.NDArray.backward = go_backward_and_record
    return losses


def prepare_ours() -> Callable[[int, int], None]:
    import d2l_deeprnn

    corpus_indices, vocab = d2l_deeprnn.load_data_time_machine()
    return lambda seed, num_epochs: train(d2l_deeprnn, corpus_indices, vocab, seed, num_epochs)


def prepare_arrays() -> Callable[[int, int], None]:
    """Prepare this package without its fast path: it clips and updates array by array."""
    from d2l_deeprnn.nn import fast

    fast.is_chapter_model = lambda model: False
    return prepare_ours()


def prepare_original() -> Callable[[int, int], None]:
    as_installed()
    d2l, _ = original.load()
    here = os.getcwd()
    original.enter_notebook_directory(Path(os.environ["D2L_DEEPRNN_DATA"]))
    corpus_indices, vocab = d2l.load_data_time_machine()
    os.chdir(here)
    return lambda seed, num_epochs: train(d2l, corpus_indices, vocab, seed, num_epochs)


def train(library: Any, corpus_indices: Any, vocab: Any, seed: int, num_epochs: int) -> None:
    """Run the chapter's cells."""
    from mxnet.gluon import rnn

    set_seed(seed)
    model = library.RNNModel(rnn.LSTM(CHAPTER.num_hiddens, CHAPTER.num_layers), len(vocab))
    train = library.train_and_predict_rnn_gluon
    train_chapter(train, model, corpus_indices, vocab, num_epochs, prefixes=CHAPTER.prefixes)


if __name__ == "__main__":
    main()
