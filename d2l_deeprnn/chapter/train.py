"""The chapter's train functions, which print perplexities and predictions."""

from __future__ import annotations

import functools
import time
from typing import Any, Callable, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .._checks import positive_number, string_list, token_indices, whole_number
from .._mxnet import gluon, init, mx, nd
from .._mxnet.library import check_ctx, describe
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
from ..training.optimization import TrainableArrays, TrainableModel
from ..training.trainer import Trainer, TrainRecord
from .predict import predict_rnn, predict_rnn_gluon

PREDICTED_CHARS = 50  # characters added to a prefix, as in the chapter


class EpochRecord(NamedTuple):
    """The results of one epoch of training.

    Attributes:
        epoch: number of the epoch, from 1 on.
        perplexity: exp of the mean negative log-likelihood, in nats per character, over the epoch's
            minibatches, each computed before its update.
        seconds: wall-clock time from the start of training to the end of this epoch.
        predictions: one text per prefix; empty in most epochs.

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
    """Train a network from scratch, and print perplexities and predictions.

    Args:
        rnn: ``rnn(inputs, state, params) -> (outputs, state)``; inputs and outputs are lists of
            num_steps arrays of shape (batch_size, len(vocab)).
        get_params: returns the initial parameters, with gradients attached. They are updated in
            place: keep a reference to use them afterwards.
        init_rnn_state: ``init_rnn_state(batch_size, num_hiddens, ctx)``.
        num_hiddens: number of hidden units, for ``init_rnn_state``.
        is_random_iter: use random instead of adjacent sampling.
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
    prefixes = string_list("prefixes", prefixes)
    check_vocab(rnn, vocab)
    indices = _checked_indices(corpus_indices, vocab, ctx, num_epochs, lr, clipping_theta, on_epoch)
    check_length(len(indices), batch_size, num_steps, adjacent=not is_random_iter)
    data_iter = data_iter_random if is_random_iter else data_iter_consecutive
    params = get_params()

    def forward(X: nd.NDArray, state: Any) -> Tuple[nd.NDArray, Any]:
        outputs, state = rnn(to_onehot(X, len(vocab)), state, params)
        # num_steps arrays (batch_size, q) -> (num_steps * batch_size, q)
        return nd.concat(*outputs, dim=0), state

    predict = functools.partial(
        predict_rnn,
        num_chars=PREDICTED_CHARS,
        rnn=rnn,
        params=params,
        init_rnn_state=init_rnn_state,
        num_hiddens=num_hiddens,
        vocab=vocab,
        ctx=ctx,
    )
    trainer = Trainer(
        TrainableArrays(forward, params, lr),
        lambda: data_iter(indices, batch_size, num_steps, ctx),
        lambda: init_rnn_state(batch_size, num_hiddens, ctx),
        clipping_theta,
        num_scores=int(indices.max()) + 1,
        carry_state=not is_random_iter,
    )
    printer = Printer(predict, num_epochs, prefixes, on_epoch, log)
    while len(printer.history) < num_epochs:
        printer.after_epoch(trainer.train_epoch())
    return printer.history


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
    """Train a Gluon model by plain SGD, and print perplexities and predictions.

    Prints the perplexity after every quarter of the epochs and the predictions after every half, in
    the chapter's format.

    Args:
        model: an ``RNNModel``, or any Gluon model with the same interface, ``begin_state``
            included. Its own methods, layers, hooks and parameters are used.
        num_hiddens: number of hidden units of the model's recurrent layer.
        corpus_indices: token indices of the text, in order: a list, a tuple, or an array of NumPy
            or MXNet.
        vocab: its vocabulary.
        ctx: a single device to train on.
        num_epochs: number of passes over the text.
        num_steps: number of characters through which gradients flow back.
        lr: learning rate.
        clipping_theta: maximum L2 norm of all gradients together; infinite for no clipping.
        batch_size: number of rows in a minibatch.
        prefixes: beginnings of texts, which the model continues by 50 characters.
        initialize: draw new parameters from Normal(0.01), as the chapter does; if False, keep
            those of the model.
        history: records of the epochs so far, to resume an interrupted training. The model's
            parameters and Python's random generator must be in the state after the last of them.
            The rest is then equal to the bit if it is the same model object, and up to rounding
            if it is another with loaded parameters.
        on_epoch: called with the ``EpochRecord`` of each epoch.
        log: receives the printed lines.

    Returns:
        One ``EpochRecord`` per epoch.

    Raises:
        ValueError: if a number is out of its range, the text is too short for one minibatch or has
            an index outside the vocabulary, ``num_hiddens`` is not that of the layer, the model was
            made for another vocabulary, or there is a ``history`` but ``initialize`` is True.
        TypeError: if ``prefixes`` is not a list of strings, ``vocab`` not a ``Vocab``, ``on_epoch``
            not a function, or ``ctx`` not one device.

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
    prefixes = string_list("prefixes", prefixes)
    check_vocab(model, vocab)
    indices = _checked_indices(corpus_indices, vocab, ctx, num_epochs, lr, clipping_theta, on_epoch)
    check_length(len(indices), batch_size, num_steps, adjacent=True)
    # Differs: the original ignored num_hiddens. The width of custom layers may be unknown.
    width = describe(getattr(model, "rnn", None)).num_hiddens
    if width not in (None, num_hiddens):
        raise ValueError(
            f"num_hiddens is {num_hiddens}, but the model's recurrent layer has {width} units"
        )
    if history and initialize:
        raise ValueError(
            "history resumes a training, but new parameters would be drawn: pass initialize=False"
        )
    # Differs: the original always drew new parameters, even if some were loaded.
    if initialize:
        model.initialize(ctx=ctx, force_reinit=True, init=init.Normal(0.01))
        flatten_parameters(model)
    chapters_sgd = {"learning_rate": lr, "momentum": 0, "wd": 0}

    def with_sgd() -> TrainableModel:
        gluon_trainer = gluon.Trainer(model.collect_params(), "sgd", chapters_sgd)
        return TrainableModel(model, ctx, gluon_trainer)

    network = with_sgd()
    trainer = Trainer(
        network,
        lambda: data_iter_consecutive(indices, batch_size, num_steps, ctx),
        lambda: model.begin_state(batch_size=batch_size, ctx=ctx),
        clipping_theta,
        num_scores=int(indices.max()) + 1,
    )
    predict = functools.partial(
        predict_rnn_gluon, num_chars=PREDICTED_CHARS, model=model, vocab=vocab, ctx=ctx
    )
    printer = Printer(predict, num_epochs, prefixes, on_epoch, log, history)
    while len(printer.history) < num_epochs:
        printer.after_epoch(trainer.train_epoch())
        # on_epoch may have changed the model.
        if on_epoch is not None and not network.is_current():
            trainer.network = network = with_sgd()
    return printer.history


class Printer:
    """Prints perplexities and predictions after the same epochs as the authors; records them.

    Args:
        predict: returns the text that the model predicts after a prefix.
        num_epochs: number of epochs of the training.
        prefixes: beginnings of the predicted texts.
        on_epoch: called with the record of each epoch, if it is not None.
        log: receives the printed lines.
        done: records of earlier epochs, if the training resumes.
        period: number of epochs between two printed results; by default, perplexities are printed
            after every quarter of the epochs and predictions after every half.

    Attributes:
        history: the records of all epochs.
    """

    def __init__(
        self,
        predict: Callable[[str], str],
        num_epochs: int,
        prefixes: Sequence[str],
        on_epoch: Optional[Callable[[EpochRecord], Any]],
        log: Callable[[str], Any],
        done: Sequence[EpochRecord] = (),
        period: Optional[int] = None,
    ) -> None:
        self._predict, self._prefixes = predict, prefixes
        self._on_epoch, self._log = on_epoch, log
        # Differs: below 4 epochs the original divided by zero here.
        self._print_every = period or max(1, num_epochs // 4)
        self._predict_every = period or max(1, num_epochs // 2)
        self.history: History = list(done)  # Differs: the original returned nothing.
        # If a training resumes, so does the clock.
        self._start = time.perf_counter() - (done[-1].seconds if done else 0)
        printed = [record.seconds for record in done if record.epoch % self._print_every == 0]
        self._last_print = self._start + (printed[-1] if printed else 0)

    def after_epoch(self, record: TrainRecord) -> None:
        """Print what the chapter prints after an epoch, and record it."""
        epoch = len(self.history) + 1
        # Differs: if the perplexity is too large for a float, the original raised an error.
        value, now = perplexity(record.train_loss), time.perf_counter()
        if epoch % self._print_every == 0:
            seconds = now - self._last_print
            self._log("epoch %d, perplexity %f, time %.2f sec" % (epoch, value, seconds))
            self._last_print = time.perf_counter()
        predictions = self.predictions(epoch)
        self.history.append(EpochRecord(epoch, value, now - self._start, predictions))
        if self._on_epoch is not None:
            self._on_epoch(self.history[-1])

    def predictions(self, epoch: int) -> Tuple[str, ...]:
        """Print and return the predictions after an epoch; there are none after most epochs."""
        if epoch % self._predict_every:
            return ()
        predictions = tuple(map(self._predict, self._prefixes))
        for prediction in predictions:
            self._log(" - " + prediction)
        return predictions


def _checked_indices(
    corpus_indices: Indices,
    vocab: Vocab,
    ctx: mx.Context,
    num_epochs: int,
    lr: float,
    clipping_theta: float,
    on_epoch: Any,
) -> np.ndarray:
    """Return the indices as an array, after a check of these arguments."""
    # Differs: the original accepted any value, and failed later or not at all.
    check_ctx(ctx)
    indices = token_indices("corpus_indices", corpus_indices, len(vocab))
    whole_number("num_epochs", num_epochs)
    positive_number("lr", lr)
    positive_number("clipping_theta", clipping_theta, or_infinite=True)
    if on_epoch is not None and not callable(on_epoch):
        raise TypeError(f"on_epoch must be a function or None, not {on_epoch!r}")
    return indices
