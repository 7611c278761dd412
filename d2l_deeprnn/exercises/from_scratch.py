"""Exercise 1: a recurrent network of two layers from scratch."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from .._mxnet import autograd, gluon, init, nd
from .._mxnet.context import set_seed, try_gpu
from ..chapter.book import CHAPTER
from ..chapter.train import train_and_predict_rnn, train_and_predict_rnn_gluon
from ..evidence.figures import Line, lines_figure
from ..evidence.records import Row, Table, column, select, spread
from ..files import user_path
from ..nn.convert import params_from_gluon, params_to_gluon
from ..nn.deepgates import deep_gate_lstm
from ..nn.model import RNNModel
from ..nn.scratch import Network, deep_gru, deep_lstm, deep_rnn
from ..text.corpora import load_corpus
from .study import Watch, collect
from .texts import library

Rows = Dict[str, List[Row]]
FILES = {  # kind of rows -> file
    "equality": "exercise_1_equality",
    "training": "exercise_1",
}
ONE, TWO = "one layer", "two layers"
GATES, FUSED = "one layer, gates of two layers", "two layers, Gluon's"
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
    *, quick: bool = False, out: Optional[Path] = None, watch: Optional[Watch] = None
) -> Rows:
    """Hold networks from scratch against Gluon's layers, and train them.

    Args:
        quick: two minutes on a sample text, to see that it works.
        out: directory of ``exercise_1*.csv``.
        watch: is told how far it is.

    Returns:
        "equality": largest relative differences on the same parameters;
        "training": a row an epoch of one layer, two layers, deeper gates, and
        Gluon's two layers from the parameters that the two began with.
    """
    out = out and user_path(out)
    name = library(quick).first[0]
    corpus_indices, vocab = load_corpus(name, 2000 if quick else CHAPTER.num_examples)
    width, epochs = (16, 4) if quick else (128, 150)
    batch_size = 4 if quick else CHAPTER.batch_size
    seeds = [1] if quick else [1, 2]
    described = {
        "command": "d2l-deeprnn exercise 1" + (" --quick" if quick else ""),
        "text": name,
        "characters": len(corpus_indices),
        "num_hiddens": width,
        "num_epochs": epochs,
        "batch_size": batch_size,
        "scale": SCALE,
    }
    equality = collect(
        FILES["equality"],
        described,
        [{"kind": kind, "num_layers": layers} for kind in KINDS for layers in (1, 2, 3)],
        lambda r: [differences(r["kind"], r["num_layers"])],
        out=out,
        watch=watch,
    )
    networks = {
        ONE: lambda size: deep_lstm(size, width, size, 1, scale=SCALE, ctx=try_gpu()),
        TWO: lambda size: deep_lstm(size, width, size, 2, scale=SCALE, ctx=try_gpu()),
        GATES: lambda size: deep_gate_lstm(size, width, size, 1, scale=SCALE, ctx=try_gpu()),
    }

    def run(network: str, seed: int) -> List[Row]:
        set_seed(seed)
        size, ctx = len(vocab), try_gpu()
        made = networks[TWO if network == FUSED else network](size)
        params = made.get_params()
        common: Tuple[Any, ...] = (epochs, CHAPTER.num_steps, CHAPTER.lr, CHAPTER.clipping_theta)
        common = (*common, batch_size, [])
        set_seed(seed)  # the same offsets for all, however many numbers were drawn
        if network == FUSED:
            model = RNNModel(gluon.rnn.LSTM(width, 2), size)
            model.initialize(init.Zero(), ctx=ctx)
            model(nd.zeros((1, 1), ctx=ctx), model.begin_state(batch_size=1, ctx=ctx))
            params_to_gluon(params, model.rnn, model.dense)
            history = train_and_predict_rnn_gluon(
                model, width, corpus_indices, vocab, ctx, *common, initialize=False, log=_silent
            )
        else:
            history = train_and_predict_rnn(
                made.forward,
                lambda: params,
                made.init_state,
                width,
                corpus_indices,
                vocab,
                ctx,
                False,
                *common,
                log=_silent,
            )
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

    training = collect(
        FILES["training"],
        described,
        [{"network": network, "seed": seed} for seed in seeds for network in (*networks, FUSED)],
        lambda r: run(r["network"], r["seed"]),
        out=out,
        watch=watch,
    )
    return {"equality": equality, "training": training}


SCALE = 0.1  # of the initial parameters: the chapter's 0.01 begins with a long plateau


def differences(kind: str, num_layers: int, *, seed: int = 0) -> Row:
    """Compare a network from scratch with Gluon's fused layer on the same random parameters.

    Returns:
        The largest difference relative to the largest value, of the outputs,
        of the final states and of the gradients of the inputs.
    """
    width, size, num_steps, rows = 32, 20, 12, 4
    make_layer, make_network = KINDS[kind]
    set_seed(seed)
    layer, dense = make_layer(width, num_layers), gluon.nn.Dense(size, flatten=False)
    for block in (layer, dense):
        block.initialize(init.Normal(0.3))
    X = nd.random.normal(shape=(num_steps, rows, size))
    start = [nd.random.normal(shape=s.shape) for s in layer.begin_state(batch_size=rows)]
    weights = nd.random.normal(shape=(num_steps, rows, size))  # of the outputs, in the loss

    def gluons() -> Tuple[Any, List[Any]]:
        outputs, state = layer(X, start)
        return dense(outputs), state

    theirs = _outputs_and_gradients(gluons, X, weights)
    network = make_network(size, width, size, num_layers)
    params = params_from_gluon(layer, dense)

    def scratch() -> Tuple[Any, List[Any]]:
        # H^(1), C^(1), H^(2), ... where Gluon has all H and then all C
        before = [kind[l] for l in range(num_layers) for kind in start]
        outputs, after = network.forward(list(X), before, params)
        kinds = [nd.stack(*after[i :: len(start)]) for i in range(len(start))]
        return nd.stack(*outputs), kinds

    ours = _outputs_and_gradients(scratch, X, weights)
    return {
        name: max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(mine, its))
        for name, mine, its in zip(("outputs", "states", "gradients"), ours, theirs)
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
    """Differences from Gluon's layers, and what training gives."""
    last = max(column(rows["training"], "epoch"))
    names = list(dict.fromkeys(column(rows["training"], "network")))
    training = []
    for network in names:
        found = select(rows["training"], network=network, epoch=last)
        training.append(
            [
                network,
                f"{found[0]['num_params']:,}",
                spread(column(found, "perplexity")),
                ", ".join(str(n) for n in _epochs_to(rows, network, 2.0)),
                spread([row["seconds"] / last for row in found], 2),
            ]
        )
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
        Table(
            f"LSTM after {last} epochs: median (lowest to highest) of the seeds",
            [
                "network",
                "parameters",
                "training perplexity",
                "epochs to perplexity 2, each seed",
                "seconds an epoch",
            ],
            training,
        ),
    ]


def figures(rows: Rows) -> Dict[str, Any]:
    """Training perplexity over epochs."""
    lines = {}
    for network in dict.fromkeys(column(rows["training"], "network")):
        found = select(rows["training"], network=network)
        epochs = sorted(set(column(found, "epoch")))
        values = [column(select(found, epoch=epoch), "perplexity") for epoch in epochs]
        middle = [statistics.median(v) for v in values]
        style = "--" if network == FUSED else "-"
        lines[network] = Line(
            epochs, middle, [min(v) for v in values], [max(v) for v in values], style
        )
    panels = {"LSTM, from scratch and Gluon's": lines}
    ylabel = "training perplexity per character"
    return {"exercise_1": lines_figure(panels, "epoch", ylabel, log_y=True)}


def _epochs_to(rows: Rows, network: str, goal: float) -> List[Any]:
    """For each seed the first epoch with at most this perplexity."""
    found = select(rows["training"], network=network)
    return [
        next((r["epoch"] for r in select(found, seed=seed) if r["perplexity"] <= goal), "never")
        for seed in sorted(set(column(found, "seed")))
    ]


def _silent(line: str) -> None:
    """The lines of the train functions are not wanted in a study."""
