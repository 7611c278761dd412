"""Exercise 1: a recurrent network of two layers from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from .._mxnet import autograd, gluon, init, nd
from .._mxnet.library import set_seed, try_gpu
from ..chapter.book import CHAPTER
from ..chapter.train import train_and_predict_rnn, train_and_predict_rnn_gluon
from ..evidence.figures import Line, lines_figure, lowest
from ..evidence.records import (
    Row,
    Table,
    column,
    group_by,
    select,
    spread,
    summary_table,
)
from ..nn.convert import params_from_gluon, params_to_gluon
from ..nn.deepgates import deep_gate_lstm
from ..nn.model import RNNModel
from ..nn.scratch import Network, deep_gru, deep_lstm, deep_rnn
from ..text.corpora import load_corpus
from .study import Observer, Rows, Study, library

NOTEBOOK = "exercise-1-from-scratch.ipynb"
HOURS = 0.7
FILES = {  # kind of rows -> file
    "equality": "exercise_1_equality",
    "training": "exercise_1",
}
GATES, FUSED = "one layer, gates of two layers", "two layers, Gluon's"
NETWORKS = {"one layer": 1, "two layers": 2, GATES: 1, FUSED: 2}  # name -> number of layers
# Standard deviation of the initial weights; with the chapter's 0.01, training starts on a plateau
SCALE = 0.1
KINDS: Dict[str, Tuple[Callable[..., Any], Callable[..., Network]]] = {
    "plain RNN": (
        lambda width, layers: gluon.rnn.RNN(width, layers, activation="tanh"),
        deep_rnn,
    ),
    "GRU": (
        lambda width, layers: gluon.rnn.GRU(width, layers),
        lambda *sizes, **options: deep_gru(*sizes, reset="after", **options),
    ),
    "LSTM": (lambda width, layers: gluon.rnn.LSTM(width, layers), deep_lstm),
}


def study(
    *, quick: bool = False, out: Optional[Path] = None, observer: Optional[Observer] = None
) -> Rows:
    """Compare networks from scratch with Gluon's layers, and train them.

    Returns:
        "equality": largest relative differences with the same parameters. "training": one row per
        epoch for one layer, two layers, deeper gates, and Gluon's two layers, which start with the
        parameters of the two layers from scratch.
    """
    name = library(quick).first[0]
    corpus_indices, vocab = load_corpus(name, 2000 if quick else CHAPTER.num_examples)
    width, epochs = (16, 4) if quick else (128, 150)
    batch_size = 4 if quick else CHAPTER.batch_size
    settings = {
        "text": name,
        "characters": len(corpus_indices),
        "num_hiddens": width,
        "num_epochs": epochs,
        "batch_size": batch_size,
        "scale": SCALE,
    }
    study = Study("1", FILES, settings, quick=quick, out=out, observer=observer)
    equality = study.collect(
        "equality",
        [{"kind": kind, "num_layers": layers} for kind in KINDS for layers in (1, 2, 3)],
        lambda run: [largest_differences(run["kind"], run["num_layers"])],
    )

    def train(run: Row) -> List[Row]:
        network, size, ctx = run["network"], len(vocab), try_gpu()
        set_seed(run["seed"])
        make = deep_gate_lstm if network == GATES else deep_lstm
        scratch = make(size, width, size, NETWORKS[network], scale=SCALE, ctx=ctx)
        params = scratch.get_params()
        arguments: Tuple[Any, ...]
        before: Tuple[Any, ...] = (width, corpus_indices, vocab, ctx)
        after: Tuple[Any, ...] = (epochs, CHAPTER.num_steps, CHAPTER.lr, CHAPTER.clipping_theta)
        after = (*after, batch_size, [])
        quiet: Dict[str, Any] = {"log": lambda line: None}
        set_seed(run["seed"])  # the same minibatches, however many numbers a network has drawn
        if network == FUSED:
            model = RNNModel(gluon.rnn.LSTM(width, 2), size)
            model.initialize(init.Zero(), ctx=ctx)
            model(nd.zeros((1, 1), ctx=ctx), model.begin_state(batch_size=1, ctx=ctx))
            params_to_gluon(params, model.rnn, model.dense)
            arguments = (*before, *after)
            history = train_and_predict_rnn_gluon(model, *arguments, initialize=False, **quiet)
        else:
            arguments = (scratch.forward, lambda: params, scratch.init_state)
            arguments = (*arguments, *before, False, *after)
            history = train_and_predict_rnn(*arguments, **quiet)
        num_params = sum(param.size for param in params)
        return [
            {
                "num_params": num_params,
                "epoch": record.epoch,
                "perplexity": record.perplexity,
                "seconds": record.seconds,
            }
            for record in history
        ]

    training = study.collect(
        "training",
        [{"network": n, "seed": seed} for seed in range(1, 2 if quick else 6) for n in NETWORKS],
        train,
    )
    return {"equality": equality, "training": training}


def largest_differences(kind: str, num_layers: int, *, seed: int = 0) -> Row:
    """Compare a network from scratch with Gluon's fused layer on the same random parameters.

    Returns:
        The largest difference, relative to the largest value, of the outputs, of the final states
        and of the gradients of the inputs.
    """
    width, size, num_steps, batch_size = 32, 20, 12, 4
    make_layer, make_network = KINDS[kind]
    set_seed(seed)
    layer, dense = make_layer(width, num_layers), gluon.nn.Dense(size, flatten=False)
    for block in (layer, dense):
        block.initialize(init.Normal(0.3))
    X = nd.random.normal(shape=(num_steps, batch_size, size))
    state = [nd.random.normal(shape=s.shape) for s in layer.begin_state(batch_size=batch_size)]
    # The loss is the sum of the outputs with these weights.
    weights = nd.random.normal(shape=(num_steps, batch_size, size))

    def compute_gluon() -> Tuple[Any, List[Any]]:
        outputs, end = layer(X, state)
        return dense(outputs), end

    def compute_scratch() -> Tuple[Any, List[Any]]:
        # From scratch: H^(1), C^(1), H^(2), ...; in Gluon: all H, then all C.
        start = [array[l] for l in range(num_layers) for array in state]
        outputs, end = network.forward(list(X), start, params)
        return nd.stack(*outputs), [nd.stack(*end[i :: len(state)]) for i in range(len(state))]

    expected = _outputs_and_gradients(compute_gluon, X, weights)
    network = make_network(size, width, size, num_layers)
    params = params_from_gluon(layer, dense)
    actual = _outputs_and_gradients(compute_scratch, X, weights)
    return {
        name: max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(ours, gluons))
        for name, ours, gluons in zip(("outputs", "states", "gradients"), actual, expected)
    }


def _outputs_and_gradients(
    compute: Callable[[], Tuple[Any, List[Any]]], X: nd.NDArray, weights: nd.NDArray
) -> List[List[np.ndarray]]:
    X.attach_grad()
    with autograd.record():
        outputs, state = compute()
        loss = (outputs * weights).sum()
    loss.backward()
    return [[outputs.asnumpy()], [s.asnumpy() for s in state], [X.grad.asnumpy()]]


def tables(rows: Rows) -> List[Table]:
    """Return tables of the differences from Gluon's layers, and of the results of training."""
    training = rows["training"]
    last = max(column(training, "epoch"))

    def runs(ends: List[Row]) -> List[List[Row]]:
        """Return the rows of each seed of the same network."""
        return list(group_by(select(training, network=ends[0]["network"]), "seed").values())

    def epochs_to_2(ends: List[Row]) -> str:
        """Return the spread over seeds of the first epoch with a perplexity of at most 2."""
        firsts = [[r["epoch"] for r in run if r["perplexity"] <= 2] for run in runs(ends)]
        return spread([first[0] for first in firsts], 0) if all(firsts) else "not all seeds"

    def lowest(ends: List[Row]) -> str:
        """Return the spread over seeds of the lowest perplexity; the last may be in a jump."""
        return spread([min(column(run, "perplexity")) for run in runs(ends)])

    return [
        Table(
            "Largest relative difference between the network from scratch and Gluon's layer",
            ["network", "layers", "outputs", "states", "gradients of the inputs"],
            [
                [
                    row["kind"],
                    str(row["num_layers"]),
                    *(f"{row[name]:.1e}" for name in ("outputs", "states", "gradients")),
                ]
                for row in rows["equality"]
            ],
        ),
        summary_table(
            f"LSTM, {last} epochs: median (lowest to highest) of the seeds",
            ["network"],
            group_by(select(training, epoch=last), "network"),
            {
                "parameters": lambda ends: f"{ends[0]['num_params']:,}",
                "lowest training perplexity": lowest,
                "epochs to perplexity 2": epochs_to_2,
                "seconds per epoch": lambda ends: spread([r["seconds"] / last for r in ends], 2),
            },
        ),
    ]


def figures(rows: Rows) -> Dict[str, Any]:
    """Plot training perplexity over epochs."""
    lines = {}
    for network, training in group_by(rows["training"], "network").items():
        by_epoch = group_by(training, "epoch")
        values = [column(runs, "perplexity") for runs in by_epoch.values()]
        lines[network] = Line.of_runs(list(by_epoch), values, "--" if network == FUSED else "-")
    best = lowest({network: line.y[-1:] for network, line in lines.items()})
    last = lines[best]
    title = f"LSTM: lowest after {last.x[-1]} epochs: {best}, at {last.y[-1]:.2f}"
    ylabel = "training perplexity per character"
    return {"exercise_1": lines_figure({"": lines}, "epoch", ylabel, log_y=True, title=title)}
