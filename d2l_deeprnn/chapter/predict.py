"""The chapter's predict functions."""

from __future__ import annotations

import functools
import warnings
from typing import Any, Callable, List, Optional, Sequence, Tuple

from .._checks import whole_number
from .._mxnet import at_least_float32, mx, nd
from .._mxnet.library import check_ctx
from ..nn.fast import one_step
from ..nn.model import check_vocab
from ..text.minibatches import to_onehot
from ..text.vocab import Vocab, describe_unknown

# Characters after which to wait for the asynchronous engine, so that a long text does not fill the
# memory with pending steps.
QUEUE_LENGTH = 256


def predict_rnn_gluon(
    prefix: str, num_chars: int, model: Any, vocab: Vocab, ctx: Optional[mx.Context]
) -> str:
    """Continue a prefix with the most likely characters (greedy decoding).

    Args:
        prefix: the beginning of the text, at least one character. As in the chapter, a character
            that is not in the vocabulary is read as ``<unk>``; a warning names it.
        num_chars: number of characters to add, 0 or more.
        model: an ``RNNModel``, or a model with the same interface.
        vocab: the vocabulary that the model was trained with.
        ctx: device of the model.

    Returns:
        The prefix and ``num_chars`` more characters.

    Raises:
        ValueError: if the prefix is empty, ``num_chars`` is negative, or the model was made for
            another vocabulary.
        TypeError: if ``ctx`` is not one device.

    Source: ``d2l.predict_rnn_gluon`` of the chapter.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet.gluon import rnn
        >>> vocab = d2l.Vocab("time machine")
        >>> model = d2l.RNNModel(rnn.LSTM(8), len(vocab))
        >>> model.initialize()
        >>> text = d2l.predict_rnn_gluon("time", 3, model, vocab, d2l.try_gpu())
        >>> text.startswith("time")
        True
    """
    check_ctx(ctx)
    check_vocab(model, vocab)
    begin_state = functools.partial(model.begin_state, batch_size=1, ctx=ctx)
    return _decode_greedily(prefix, num_chars, one_step(model), begin_state, vocab, ctx)


def predict_rnn(
    prefix: str,
    num_chars: int,
    rnn: Callable[..., Any],
    params: Sequence[nd.NDArray],
    init_rnn_state: Callable[..., Any],
    num_hiddens: int,
    vocab: Vocab,
    ctx: Optional[mx.Context],
) -> str:
    """Continue a prefix with a network written from scratch (greedy decoding).

    Args:
        prefix, num_chars, vocab, ctx: as in ``predict_rnn_gluon``.
        rnn: ``rnn(inputs, state, params) -> (outputs, state)``; inputs and outputs are lists with
            one array of shape (batch_size, len(vocab)) per time step. The inputs are one-hot.
        params: the network's parameters, for ``rnn``.
        init_rnn_state: ``init_rnn_state(batch_size, num_hiddens, ctx)``.
        num_hiddens: number of hidden units, for ``init_rnn_state``.

    Returns, Raises: as ``predict_rnn_gluon``.

    Source: ``d2l.predict_rnn`` of the chapter.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> vocab, ctx = d2l.Vocab("time machine"), d2l.try_gpu()
        >>> get_params, init_state, lstm = d2l.deep_lstm(len(vocab), 8, len(vocab), ctx=ctx)
        >>> text = d2l.predict_rnn("time", 3, lstm, get_params(), init_state, 8, vocab, ctx)
        >>> text.startswith("time")
        True
    """
    check_ctx(ctx)
    check_vocab(rnn, vocab)

    def step(inputs: nd.NDArray, state: Any) -> Tuple[nd.NDArray, Any]:
        outputs, state = rnn(to_onehot(inputs, len(vocab)), state, params)
        return outputs[0], state

    begin_state = functools.partial(init_rnn_state, 1, num_hiddens, ctx)
    return _decode_greedily(prefix, num_chars, step, begin_state, vocab, ctx)


def _decode_greedily(
    prefix: str,
    num_chars: int,
    step: Callable[[nd.NDArray, Any], Tuple[nd.NDArray, Any]],
    begin_state: Callable[[], Any],
    vocab: Vocab,
    ctx: Optional[mx.Context],
) -> str:
    """Read the prefix, then feed the most likely character back into the network each time.

    Args:
        prefix, num_chars, vocab, ctx: as in ``predict_rnn_gluon``.
        step: takes an index, of shape (1, 1), and the state. It returns the scores of the next
            character, of shape (1, len(vocab)), and the new state.
        begin_state: returns the initial state.
    """
    # Differs: for an empty prefix, the original raised an IndexError; it read unknown characters as
    # <unk> without a warning.
    if len(prefix) == 0:
        raise ValueError("prefix is empty: give at least one character to start from")
    whole_number("num_chars", num_chars, 0)
    output = vocab[list(prefix)]
    unknown = describe_unknown("prefix", prefix, vocab) if vocab.unk in output else ""
    if unknown:
        warnings.warn(f"not in the vocabulary and read as <unk>: {unknown}", stacklevel=3)
    state = begin_state()
    for index in output[:-1]:
        _, state = step(nd.array([[index]], ctx=ctx), state)
    current = nd.array([output[-1:]], ctx=ctx)
    # Differs: the original waited for the device after each character. Here the index stays on the
    # device.
    queue: List[nd.NDArray] = []
    for i in range(num_chars):
        # Differs: argmax returns its argument's type, and float16 lacks many numbers above 2048.
        scores, state = step(current, state)
        scores = at_least_float32(scores)
        current = scores.argmax(axis=1, keepdims=True).astype("float32", copy=False)
        queue.append(current)
        if len(queue) == QUEUE_LENGTH or i == num_chars - 1:
            output += nd.concat(*queue, dim=0).asnumpy()[:, 0].astype(int).tolist()
            queue = []
    return "".join(vocab.to_tokens(output))
