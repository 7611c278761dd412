"""The chapter's training: clipping, the loop, and what it prints."""

from __future__ import annotations

import time
from typing import Any, Callable, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from .._checks import positive_int, positive_number, prefix_list, token_indices
from .._mxnet import gluon, init, keep_freed_memory, mx, nd
from .._mxnet.blocks import describe
from .._mxnet.context import check_ctx
from .._perplexity import perplexity
from ..nn.fast import flatten_parameters
from ..nn.model import check_vocab
from ..text.minibatches import (
    Indices,
    check_length,
    data_iter_consecutive,
    data_iter_random,
    to_onehot,
)
from ..text.vocab import Vocab
from ..training.step import Arrays, ModelParameters, Step
from ..training.trainer import Trainer
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

    Example:
        >>> import d2l_deeprnn as d2l
        >>> record = d2l.EpochRecord(epoch=1, perplexity=19.9, seconds=0.3, predictions=())
        >>> record.perplexity
        19.9
    """

    epoch: int
    perplexity: float
    seconds: float
    predictions: Tuple[str, ...]


History = List[EpochRecord]


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
        corpus_indices, vocab, ctx, num_epochs, num_steps, lr: as in
            ``train_and_predict_rnn_gluon``.
        clipping_theta, batch_size, prefixes, on_epoch, log: as there.

    Returns, Raises: as ``train_and_predict_rnn_gluon``.

    Source: ``d2l.train_and_predict_rnn`` of the chapter.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> vocab, ctx = d2l.Vocab("time machine"), d2l.try_gpu()
        >>> indices = vocab[list("time machine " * 20)]
        >>> get_params, init_state, lstm = d2l.deep_lstm(len(vocab), 8, len(vocab), ctx=ctx)
        >>> history = d2l.train_and_predict_rnn(
        ...     lstm, get_params, init_state, 8, indices, vocab, ctx, False,
        ...     2, 5, 1.0, 1.0, 4, ["time"], log=lambda line: None)
        >>> [record.epoch for record in history]
        [1, 2]
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

    def forward(X: nd.NDArray, state: Any) -> Tuple[nd.NDArray, Any]:
        outputs, state = rnn(to_onehot(X, len(vocab)), state, params)
        # num_steps arrays (batch_size, q) -> (num_steps * batch_size, q)
        return nd.concat(*outputs, dim=0), state

    trainer = Trainer(
        Step(forward, Arrays(params, lr), clipping_theta),
        lambda: data_iter(indices, batch_size, num_steps, ctx),
        lambda: init_rnn_state(batch_size, num_hiddens, ctx),
        carry_state=not is_random_iter,
    )

    def predict(prefix: str) -> str:
        return predict_rnn(
            prefix, PREDICTED_CHARS, rnn, params, init_rnn_state, num_hiddens, vocab, ctx
        )

    return _run_epochs(trainer.train_epoch, predict, num_epochs, prefixes, on_epoch, log)


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

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet.gluon import rnn
        >>> vocab = d2l.Vocab("time machine")
        >>> indices = vocab[list("time machine " * 20)]
        >>> model = d2l.RNNModel(rnn.LSTM(8, 2), len(vocab))
        >>> history = d2l.train_and_predict_rnn_gluon(
        ...     model, 8, indices, vocab, d2l.try_gpu(), 2, 5, 1.0, 1.0, 4, ["time"],
        ...     log=lambda line: None)
        >>> [record.epoch for record in history]
        [1, 2]
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
        flatten_parameters(model)
    chapters_sgd = {"learning_rate": lr, "momentum": 0, "wd": 0}

    def parameters_of_model() -> ModelParameters:
        optimizer = gluon.Trainer(model.collect_params(), "sgd", chapters_sgd)
        return ModelParameters(model, ctx, optimizer)

    parameters = parameters_of_model()
    trainer = Trainer(
        Step(parameters.forward, parameters, clipping_theta),
        lambda: data_iter_consecutive(indices, batch_size, num_steps, ctx),
        lambda: model.begin_state(batch_size=batch_size, ctx=ctx),
    )

    def train_epoch() -> float:
        nonlocal parameters
        if not parameters.belong_to(model):  # on_epoch may do anything to it
            parameters = parameters_of_model()
            trainer.step = Step(parameters.forward, parameters, clipping_theta)
        return trainer.train_epoch()

    def predict(prefix: str) -> str:
        return predict_rnn_gluon(prefix, PREDICTED_CHARS, model, vocab, ctx)

    return _run_epochs(train_epoch, predict, num_epochs, prefixes, on_epoch, log, history)


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
        # Differs: where no float holds the perplexity, the original let the error through, and a
        # diverging run ended without a word about what it had come to.
        reached = perplexity(train_epoch())
        now = time.perf_counter()
        if epoch % quarter == 0:
            log("epoch %d, perplexity %f, time %.2f sec" % (epoch, reached, now - last_print))
            last_print = time.perf_counter()
        predictions: Tuple[str, ...] = ()
        if epoch % half == 0:
            predictions = tuple(predict(prefix) for prefix in prefixes)
            for prediction in predictions:
                log(" - " + prediction)
        history.append(EpochRecord(epoch, reached, now - start, predictions))
        if on_epoch is not None:
            on_epoch(history[-1])
    return history


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
    width = describe(getattr(model, "rnn", None)).num_hiddens
    if width not in (None, num_hiddens):
        raise ValueError(
            f"num_hiddens is {num_hiddens}, but the model's recurrent layer has {width} units"
        )
