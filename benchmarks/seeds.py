"""Which results do this package and the original library give, seed by seed?

Trains the chapter on the book's text with this package and with ``d2l`` 0.9.1, with the same seeds.
Each training runs in a new process with one thread. It writes the losses, the predictions, versions
and machine to ``results/seeds/LIBRARY-SEED.json``. If that file exists, the training is skipped, so
the script can be interrupted and repeated. ``results/chapter_seeds.csv`` (this package) and
``original_seeds.csv`` have the perplexities at the printed epochs and the predictions.
``results/chapter_curves.csv`` has this package's perplexities at all epochs.

    python benchmarks/seeds.py
    python benchmarks/seeds.py --library ours --first 10 --seeds 20 --num-epochs 125
    python benchmarks/seeds.py --settings lecture

The second command trains twenty more runs up to the book's first epoch, which are not in the
tables. The third one trains with the settings of the authors' lecture; its files are
``results/seeds/lecture/LIBRARY-SEED.json``, ``lecture_seeds.csv``, ``lecture_original_seeds.csv``
and ``lecture_curves.csv``, which has every tenth epoch. ``make results`` computes the bands in
``d2l_deeprnn.chapter.bands`` from the tables. Needs the extra ``test`` and the book's text in
``$D2L_DEEPRNN_DATA``.
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
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence

import original
from tqdm import tqdm
from turns import (
    ONE_THREAD,
    RESULTS,
    as_installed,
    in_a_process,
    parser,
    set_seed,
    train_chapter,
    write,
)

from d2l_deeprnn.chapter.book import (
    MINIBATCHES,
    TRAININGS,
    PrintedTraining,
    comparable_perplexity,
    perplexities_of_epochs,
)
from d2l_deeprnn.files import write_text


class Files(NamedTuple):
    """The names of the files for trainings with the same settings, and how much they store.

    Attributes:
        folder: directory with one file per training.
        ours, original, curves: names of the tables.
        minibatches: number of minibatches per stored loss.
        every: number of epochs per row of the curves.
    """

    folder: str
    ours: str
    original: str
    curves: str
    minibatches: int = 1
    every: int = 1


FILES = {
    "chapter": Files("seeds", "chapter_seeds", "original_seeds", "chapter_curves"),
    # The losses of all minibatches of the lecture's twenty trainings would take 5 MB.
    "lecture": Files(
        "seeds/lecture",
        "lecture_seeds",
        "lecture_original_seeds",
        "lecture_curves",
        minibatches=MINIBATCHES,
        every=10,
    ),
}


class Epochs(int):
    """A number of epochs, after each ``period`` of which results are printed.

    Both libraries print perplexities every ``num_epochs // 4`` epochs and predictions every
    ``num_epochs // 2``. The lecture's function took the period as an argument.
    """

    period: int

    def __floordiv__(self, parts: int) -> int:
        return self.period


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--first", type=int, default=0, help="the first seed")
    options.add_argument("--seeds", type=int, default=10, help="number of seeds")
    options.add_argument("--library", choices=["ours", "original"], help="train only with this one")
    options.add_argument("--settings", choices=FILES, default="chapter")
    options.add_argument("--num-epochs", type=int, help="default: those of the settings")
    options.add_argument("--side-by-side", type=int, default=1, help="trainings at a time")
    arguments = options.parse_args()
    printed, files = TRAININGS[arguments.settings], FILES[arguments.settings]
    num_epochs = arguments.num_epochs or printed.settings.num_epochs
    folder = arguments.out / files.folder
    folder.mkdir(parents=True, exist_ok=True)

    def train_and_keep(library: str, seed: int) -> None:
        path = folder / f"{library}-{seed}.json"
        if not path.exists():
            training = in_a_process(
                __file__, "record", library, seed, num_epochs, printed.name, variables=ONE_THREAD
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
    trainings = load(folder)
    ours, originals = (
        [t for t in trainings if t["library"] == library] for library in ("ours", "original")
    )
    for runs, rows, name in [
        (ours, at_printed_epochs(ours, printed), files.ours),
        (originals, at_printed_epochs(originals, printed), files.original),
        (ours, curves(ours, printed, files.every), files.curves),
    ]:
        if not rows:
            continue  # no training has reached the last epoch yet
        # The trainings may come from other machines or versions than this process's.
        made_with = {name: distinct(runs, name) for name in ("versions", "machine")}
        write(arguments, rows, name=name, **made_with)


def distinct(trainings: Sequence[Mapping[str, Any]], name: str) -> List[Any]:
    """Return each value of a field once."""
    values: List[Any] = []
    for training in trainings:
        values += [training[name]] if training[name] not in values else []
    return values


def load(folder: Path = RESULTS / "seeds") -> List[Dict[str, Any]]:
    """Read all trainings in a directory, in order of their seeds."""
    trainings = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sorted(trainings, key=lambda training: training["seed"])


def curve_of(training: Mapping[str, Any]) -> Dict[int, float]:
    """Return the perplexities of a training by epoch."""
    per_epoch = MINIBATCHES // training.get("minibatches_per_loss", 1)
    return perplexities_of_epochs(training["losses"], per_epoch)


def at_printed_epochs(
    trainings: Sequence[Mapping[str, Any]], printed: PrintedTraining
) -> List[Dict[str, Any]]:
    """Return results at the printed epochs, for the trainings that reached all of them."""
    rows = []
    for training in trainings:
        if training["num_epochs"] < printed.settings.num_epochs:
            continue
        curve = curve_of(training)
        predictions = iter(training["predictions"])
        for epoch in (line.epoch for line in printed.printed):
            row = {
                "seed": training["seed"],
                "epoch": epoch,
                "perplexity": curve[epoch],
                "judged": comparable_perplexity(curve, epoch),
            }
            for i, _ in enumerate(printed.settings.prefixes, start=1):
                has_one = epoch in printed.predictions
                row[f"prediction_{i}"] = next(predictions) if has_one else ""
            rows.append(row)
    return rows


def curves(
    trainings: Sequence[Mapping[str, Any]], printed: PrintedTraining, every: int = 1
) -> List[Dict[str, Any]]:
    """Return perplexities by epoch, for the trainings that reached the last printed epoch."""
    rows = []
    for training in trainings:
        if training["num_epochs"] == printed.settings.num_epochs:
            curve = curve_of(training)
            for epoch in range(every, len(curve) + 1, every):
                values = {
                    "perplexity": curve[epoch],
                    "judged": comparable_perplexity(curve, epoch),
                }
                values = {name: f"{value:.6f}" for name, value in values.items()}
                rows.append({"seed": training["seed"], "epoch": epoch, **values})
    return rows


def record(library: str, seed: int, num_epochs: int, name: str = "chapter") -> Dict[str, Any]:
    """Train with printed settings in this process, and return the training as it is stored."""
    printed, minibatches = TRAININGS[name], FILES[name].minibatches
    prepare = {"ours": prepare_ours, "arrays": prepare_arrays, "original": prepare_original}
    train = prepare[library]()
    losses = record_losses()
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()) as output:
        train(seed, num_epochs, printed)
    seconds = time.perf_counter() - started

    from d2l_deeprnn.evidence.provenance import machine, versions

    used = versions()
    if library == "original":
        del used["d2l_deeprnn"]
        used["d2l"] = importlib.import_module("d2l").__version__
    # str: the fewest digits that give the same float32
    shown = [float(str(loss)) for loss in losses]
    if minibatches > 1:
        starts = range(0, len(shown), minibatches)
        shown = [round(fmean(shown[start : start + minibatches]), 8) for start in starts]
    return {
        "library": library,
        "settings": name,
        "seed": seed,
        "num_epochs": num_epochs,
        "versions": used,
        "machine": machine(),
        "seconds": round(seconds, 1),
        "printed": re.findall(r"epoch (\d+), perplexity ([\d.]+)", output.getvalue()),
        "predictions": re.findall(r"^ - +(.*)$", output.getvalue(), re.MULTILINE),
        "minibatches_per_loss": minibatches,
        "losses": shown,
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


def prepare_ours() -> Callable[[int, int, PrintedTraining], None]:
    import d2l_deeprnn

    corpus_indices, vocab = d2l_deeprnn.load_data_time_machine()
    return partial(train, d2l_deeprnn, corpus_indices, vocab)


def prepare_arrays() -> Callable[[int, int, PrintedTraining], None]:
    """Prepare this package without its fast path: it clips and updates array by array."""
    from d2l_deeprnn.nn import fast

    fast.is_chapter_model = lambda model: False
    return prepare_ours()


def prepare_original() -> Callable[[int, int, PrintedTraining], None]:
    as_installed()
    d2l, _ = original.load()
    here = os.getcwd()
    original.enter_notebook_directory(Path(os.environ["D2L_DEEPRNN_DATA"]))
    corpus_indices, vocab = d2l.load_data_time_machine()
    os.chdir(here)
    return partial(train, d2l, corpus_indices, vocab)


def train(
    library: Any,
    corpus_indices: Any,
    vocab: Any,
    seed: int,
    num_epochs: int,
    printed: PrintedTraining,
) -> None:
    """Run the chapter's cells with printed settings."""
    from mxnet.gluon import rnn

    if printed.period is not None:
        num_epochs = Epochs(num_epochs)
        num_epochs.period = printed.period
    settings = printed.settings
    set_seed(seed)
    model = library.RNNModel(rnn.LSTM(settings.num_hiddens, settings.num_layers), len(vocab))
    train_chapter(
        library.train_and_predict_rnn_gluon,
        model,
        corpus_indices,
        vocab,
        num_epochs,
        settings=settings,
        prefixes=settings.prefixes,
    )


if __name__ == "__main__":
    main()
