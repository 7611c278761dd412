"""The chapter's training: clipping, the loop, and what it prints."""

from __future__ import annotations

import math
import time
from typing import Any, Callable, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from .._checks import positive_int, positive_number, prefix_list, token_indices
from .._mxnet import autograd, gluon, init, mx, nd
from .._mxnet.allocator import keep_freed_memory
from .._mxnet.context import check_ctx
from .._mxnet.losses import LateLosses
from ..nn.flat import Flat, clip_and_descend, flatten
from ..nn.model import check_vocab
from ..text.minibatches import (
    Indices,
    check_length,
    data_iter_consecutive,
    data_iter_random,
    to_onehot,
)
from ..text.vocab import Vocab
from ..training.step import grad_clipping
from .predict import predict_rnn, predict_rnn_gluon

PREDICTED_CHARS = 50  # characters added to a prefix, as in the chapter


class EpochRecord(NamedTuple):
    """What one epoch of training gave.

    Attributes:
        epoch: from 1 on.
        perplexity: exp of the mean negative log-likelihood, in nats for a
            character, over the epoch's minibatches, each before its update.
        seconds: wall-clock time from the start of training to the end of
            this epoch.
        predictions: one text for each prefix; empty at most epochs.
    """

    epoch: int
    perplexity: float
    seconds: float
    predictions: Tuple[str, ...]


History = List[EpochRecord]


def grad_clipping_gluon(model: gluon.Block, theta: float, ctx: mx.Context) -> None:
    """Clip the gradients of a Gluon model; see ``grad_clipping``.

    Parameters that are not trained (``grad_req="null"``) have none, and count for nothing.

    Source: ``d2l.grad_clipping_gluon`` of the chapter.
    """
    check_ctx(ctx)
    # Differs: the original failed on a parameter without a gradient.
    params = [p.data(ctx) for p in model.collect_params().values() if p.grad_req != "null"]
    grad_clipping(params, theta, ctx)


def sgd(params: Sequence[nd.NDArray], lr: float, batch_size: int) -> None:
    """Take one step of stochastic gradient descent, in place.

    Args:
        params: arrays with an attached gradient.
        lr: learning rate.
        batch_size: what the gradients are divided by: the number of examples
            if the loss was a sum, 1 if it was a mean.

    Source: ``d2l.sgd`` of the chapter.
    """
    for param in params:
        param[:] = param - lr * param.grad / batch_size


def train_and_predict_rnn(
    rnn: Callable[..., Any],
    get_params: Callable[[], Sequence[nd.NDArray]],
    init_rnn_state: Callable[..., Any],
    num_hiddens: int,
    corpus_indices: Indices,
    vocab: Vocab,
    ctx: mx.Context,
    is_random_iter: bool,
    num_epochs: int,
    num_steps: int,
    lr: float,
    clipping_theta: float,
    batch_size: int,
    prefixes: Iterable[str],
    *,
    on_epoch: Optional[Callable[[EpochRecord], Any]] = None,
    log: Callable[[str], Any] = print,
) -> History:
    """Train a network written from scratch, and show what it predicts.

    Args:
        rnn: ``rnn(inputs, state, params) -> (outputs, state)``; inputs and
            outputs are lists of num_steps arrays (batch_size, len(vocab)).
        get_params: gives the initial parameters, gradients attached. They are
            updated in place: keep a reference to use them afterwards.
        init_rnn_state: ``init_rnn_state(batch_size, num_hiddens, ctx)``.
        num_hiddens: hidden units, handed to ``init_rnn_state``.
        is_random_iter: random sampling, else adjacent sampling.
        corpus_indices, vocab, ctx, num_epochs, num_steps, lr, clipping_theta,
        batch_size, prefixes, on_epoch, log: as in
            ``train_and_predict_rnn_gluon``.

    Returns, Raises: as ``train_and_predict_rnn_gluon``.

    Source: ``d2l.train_and_predict_rnn`` of the chapter.
    """
    prefixes = _prefixes(prefixes)
    check_ctx(ctx)
    indices = token_indices("corpus_indices", corpus_indices, len(vocab))
    _check_settings(
        len(indices),
        num_epochs,
        num_steps,
        lr,
        clipping_theta,
        batch_size,
        adjacent=not is_random_iter,
    )
    data_iter = data_iter_random if is_random_iter else data_iter_consecutive
    params = get_params()
    loss = gluon.loss.SoftmaxCrossEntropyLoss()

    def train_epoch() -> float:
        losses: List[float] = []
        # Differs: the original read every loss at once, and to read one is to wait for it.
        late = LateLosses(losses.append)
        if not is_random_iter:
            state = init_rnn_state(batch_size, num_hiddens, ctx)
        for X, Y in data_iter(indices, batch_size, num_steps, ctx):
            if is_random_iter:  # rows do not go on from the minibatch before
                state = init_rnn_state(batch_size, num_hiddens, ctx)
            with autograd.record():
                outputs, state = rnn(to_onehot(X, len(vocab)), state, params)
                # num_steps arrays (batch_size, q) -> (num_steps * batch_size, q)
                outputs = nd.concat(*outputs, dim=0)
                # (batch_size, num_steps) -> (num_steps * batch_size,), rows as in outputs
                y = Y.T.reshape((-1,))
                l = loss(outputs, y).mean()
            l.backward()
            grad_clipping(params, clipping_theta, ctx)
            sgd(params, lr, 1)  # the loss is a mean already
            state = _detach(state)
            late.add(l)
        late.finish()
        return math.fsum(losses) / len(losses)

    def predict(prefix: str) -> str:
        return predict_rnn(
            prefix, PREDICTED_CHARS, rnn, params, init_rnn_state, num_hiddens, vocab, ctx
        )

    return _run_epochs(train_epoch, predict, num_epochs, prefixes, on_epoch, log)


def train_and_predict_rnn_gluon(
    model: gluon.Block,
    num_hiddens: int,
    corpus_indices: Indices,
    vocab: Vocab,
    ctx: mx.Context,
    num_epochs: int,
    num_steps: int,
    lr: float,
    clipping_theta: float,
    batch_size: int,
    prefixes: Iterable[str],
    *,
    initialize: bool = True,
    history: Sequence[EpochRecord] = (),
    on_epoch: Optional[Callable[[EpochRecord], Any]] = None,
    log: Callable[[str], Any] = print,
) -> History:
    """Train a Gluon model by plain SGD, and show what it predicts.

    Prints the perplexity at every quarter of the epochs and the predictions
    at every half, in the chapter's format.

    Args:
        model: an ``RNNModel``, or any Gluon model of your own with a ``begin_state``
            that takes and returns the same. It is trained as what it is: its
            own methods, layers, hooks and parameters are used.
        num_hiddens: hidden units of the model's recurrent layer.
        corpus_indices: token indices of the text, in order: a list, a tuple, or
            an array of NumPy or MXNet.
        vocab: its vocabulary.
        ctx: device to train on; one, not a list.
        num_epochs: passes over the text.
        num_steps: characters through which gradients flow back.
        lr: learning rate.
        clipping_theta: largest L2 norm of all gradients together; infinite for
            no clipping.
        batch_size: rows of a minibatch.
        prefixes: beginnings of texts to be continued by 50 characters.
        initialize: draw the parameters afresh from Normal(0.01), as the
            chapter does; False keeps those that the model has.
        history: the records of the epochs that are done already, where a
            training that was interrupted goes on. The model needs the
            parameters, and Python's random generator the state, of their end.
        on_epoch: called with the ``EpochRecord`` of every epoch.
        log: receives the printed lines.

    Returns:
        One ``EpochRecord`` for every epoch.

    Raises:
        ValueError: if a number is out of its range, if the text is too short
            for one minibatch or holds an index that is not in the vocabulary,
            if ``num_hiddens`` is not the layer's, or if the model was made for
            another vocabulary.
        TypeError: if ``prefixes`` is a single string, or ``ctx`` not one device.

    Source: ``d2l.train_and_predict_rnn_gluon`` of the chapter.
    """
    prefixes = _prefixes(prefixes)
    check_ctx(ctx)
    indices = token_indices("corpus_indices", corpus_indices, len(vocab))
    _check_settings(
        len(indices),
        num_epochs,
        num_steps,
        lr,
        clipping_theta,
        batch_size,
        adjacent=True,
    )
    _check_num_hiddens(model, num_hiddens)
    check_vocab(model, vocab)
    # Differs: the original always drew new parameters, over any that were loaded.
    if initialize:
        model.initialize(ctx=ctx, force_reinit=True, init=init.Normal(0.01))
    flat: Optional[Flat] = None

    def train_epoch() -> float:
        nonlocal flat
        # Differs: an RNNModel around a fused layer of Gluon, with nothing about them
        # changed, is computed as one compiled graph, and its parameters are clipped
        # and updated as one vector. The original called the model, as is done here
        # with any other, and went from array to array: sums round otherwise.
        if flat is None or not flat.is_still(model, ctx):  # on_epoch may do anything to it
            flat = flatten(model, ctx)
        if flat is not None:
            network, update = flat.network, clip_and_descend(flat.vector, clipping_theta, lr)
        else:
            network, update = _network_and_update(model, lr, clipping_theta, ctx)
        losses: List[float] = []
        late = LateLosses(losses.append)
        state = model.begin_state(batch_size=batch_size, ctx=ctx)
        for X, Y in data_iter_consecutive(indices, batch_size, num_steps, ctx):
            with autograd.record():
                l, state = network(X, Y, state)
            l.backward()
            update()
            state = _detach(state)
            late.add(l)
        late.finish()
        return math.fsum(losses) / len(losses)

    def predict(prefix: str) -> str:
        return predict_rnn_gluon(prefix, PREDICTED_CHARS, model, vocab, ctx)

    return _run_epochs(train_epoch, predict, num_epochs, prefixes, on_epoch, log, history)


def _network_and_update(
    model: gluon.Block, lr: float, theta: float, ctx: mx.Context
) -> Tuple[Callable[..., Any], Callable[[], Any]]:
    """What calls a model for a minibatch's loss and state, and what updates its parameters."""
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(
        model.collect_params(), "sgd", {"learning_rate": lr, "momentum": 0, "wd": 0}
    )

    def network(X: nd.NDArray, Y: nd.NDArray, state: Any) -> Any:
        output, state = model(X, state)
        # (batch_size, num_steps) -> (num_steps * batch_size,), rows as in output
        return loss(output, Y.T.reshape((-1,))).mean(), state

    def update() -> None:
        grad_clipping_gluon(model, theta, ctx)
        trainer.step(1)  # the loss is a mean already

    return network, update


def _run_epochs(
    train_epoch: Callable[[], float],
    predict: Callable[[str], str],
    num_epochs: int,
    prefixes: Sequence[str],
    on_epoch: Optional[Callable[[EpochRecord], Any]],
    log: Callable[[str], Any],
    done: Sequence[EpochRecord] = (),
) -> History:
    """Train, print and predict at the chapter's moments."""
    keep_freed_memory()
    history: History = list(done)  # Differs: the original returned nothing.
    # Differs: below 4 epochs the original divided by zero here.
    quarter, half = max(1, num_epochs // 4), max(1, num_epochs // 2)
    # The clock goes on where it was stopped.
    start = time.perf_counter() - (history[-1].seconds if history else 0)
    printed = [record.seconds for record in history if record.epoch % quarter == 0]
    last_print = start + (printed[-1] if printed else 0)
    for epoch in range(len(history) + 1, num_epochs + 1):
        perplexity = _exp(train_epoch())
        now = time.perf_counter()
        if epoch % quarter == 0:
            log("epoch %d, perplexity %f, time %.2f sec" % (epoch, perplexity, now - last_print))
            last_print = time.perf_counter()
        predictions: Tuple[str, ...] = ()
        if epoch % half == 0:
            predictions = tuple(predict(prefix) for prefix in prefixes)
            for prediction in predictions:
                log(" - " + prediction)
        history.append(EpochRecord(epoch, perplexity, now - start, predictions))
        if on_epoch is not None:
            on_epoch(history[-1])
    return history


def _detach(state: Any) -> Any:
    """Cut a state, of whatever structure, off the minibatch that it comes from."""
    # Differs: the original called detach and kept the array it was called on.
    if isinstance(state, nd.NDArray):
        return state.detach()
    if type(state) in (list, tuple):
        return type(state)(map(_detach, state))
    if type(state) is dict:
        return {key: _detach(value) for key, value in state.items()}
    if isinstance(state, tuple) and hasattr(state, "_make"):  # a named one
        return state._make(map(_detach, state))
    return state


def _exp(nats: float) -> float:
    try:
        return math.exp(nats)
    except OverflowError:
        # Differs: the original let the error through, and a diverging run
        # ended without a word about what it had come to.
        return math.inf


def _prefixes(prefixes: Iterable[str]) -> List[str]:
    prefixes = prefix_list(prefixes)
    for prefix in prefixes:
        if len(prefix) == 0:
            raise ValueError(f"prefixes holds an empty string: {prefixes!r}")
    return prefixes


def _check_settings(
    num_tokens: int,
    num_epochs: int,
    num_steps: int,
    lr: float,
    clipping_theta: float,
    batch_size: int,
    *,
    adjacent: bool,
) -> None:
    # Differs: the original took any value, and failed somewhere inside or not at all.
    positive_int("num_epochs", num_epochs)
    positive_number("lr", lr)
    positive_number("clipping_theta", clipping_theta, or_infinite=True)
    # Every epoch draws another offset: the text must be long enough for all.
    check_length(num_tokens, batch_size, num_steps, adjacent=adjacent)


def _check_num_hiddens(model: gluon.Block, num_hiddens: int) -> None:
    # Differs: the original never looked at num_hiddens. Cells and models of
    # the user's own need not say how wide they are, and then pass.
    layer = getattr(model, "rnn", None)
    width = getattr(layer, "_hidden_size", num_hiddens)
    if width != num_hiddens:
        raise ValueError(
            f"num_hiddens is {num_hiddens}, but the model's recurrent layer has {width} units"
        )
