"""Does the chapter's network, written from scratch, learn the book's text like Gluon's?

Trains the two-layer LSTM with the chapter's settings, from the same initial parameters and with the
same minibatches:

- ``gluon``: the chapter's own, a fused ``rnn.LSTM`` in an ``RNNModel``
- ``scratch``: ``deep_lstm`` with one bias for each gate, as in the book
- ``scratch_two_biases``: ``deep_lstm`` with Gluon's two biases, which follows Gluon's training step
  by step until rounding errors have grown

Writes perplexity and seconds of every epoch to ``results/scratch_chapter.csv``, and the last
perplexities and predictions to ``.json``.

    python benchmarks/scratch_chapter.py --networks gluon scratch
    python benchmarks/scratch_chapter.py --networks scratch_two_biases --out results/two_biases
"""

from __future__ import annotations

from dataclasses import asdict, replace

from turns import parser, write

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import gluon, init, nd
from d2l_deeprnn.chapter import book
from d2l_deeprnn.nn.convert import params_from_gluon
from d2l_deeprnn.nn.scratch import deep_lstm

NETWORKS = ("gluon", "scratch", "scratch_two_biases")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--num-epochs", type=int, default=book.CHAPTER.num_epochs)
    arguments = options.parse_args()

    settings = replace(book.CHAPTER, num_epochs=arguments.num_epochs)
    text = d2l.load_data_time_machine(settings.num_examples)
    rows, last = [], {}
    for name in arguments.networks:
        print(name, flush=True)
        for record in train(name, settings, text, arguments.seed):
            row = {"perplexity": record.perplexity, "seconds": round(record.seconds, 2)}
            rows.append({"network": name, "epoch": record.epoch, **row})
        last[name] = {**row, "predictions": record.predictions}
    write(arguments, rows, settings=asdict(settings), seed=arguments.seed, last=last)


def train(name, settings, text, seed):
    """Train one of the networks, all from the same start and with the same minibatches."""
    corpus_indices, vocab = text
    ctx = d2l.try_gpu()
    d2l.set_seed(seed)
    layer = gluon.rnn.LSTM(settings.num_hiddens, settings.num_layers)
    model = d2l.RNNModel(layer, len(vocab))
    model.initialize(init.Normal(0.01), ctx=ctx)
    model(nd.zeros((1, 1), ctx=ctx), model.begin_state(1, ctx=ctx))  # sets the shapes

    before = [settings.num_hiddens, corpus_indices, vocab, ctx]
    after = [
        settings.num_epochs,
        settings.num_steps,
        settings.lr,
        settings.clipping_theta,
        settings.batch_size,
        settings.prefixes,
    ]
    d2l.set_seed(seed)
    if name == "gluon":
        return d2l.train_and_predict_rnn_gluon(model, *before, *after, initialize=False, log=show)
    two_biases = name == "scratch_two_biases"
    network = deep_lstm(
        len(vocab),
        settings.num_hiddens,
        len(vocab),
        settings.num_layers,
        two_biases=two_biases,
        ctx=ctx,
    )
    params = params_from_gluon(layer, model.dense, two_biases=two_biases)
    return d2l.train_and_predict_rnn(
        network.forward, lambda: params, network.init_state, *before, False, *after, log=show
    )


def show(line):
    print(line, flush=True)


if __name__ == "__main__":
    main()
