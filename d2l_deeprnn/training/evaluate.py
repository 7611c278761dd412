"""Held-out loss: how well a model predicts a text that it need not have seen."""

from __future__ import annotations

import math
from array import array
from typing import Any, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from .._checks import positive_int, token_indices
from .._mxnet import mx, nd
from .._mxnet.context import check_ctx, device_of, serialize_calls
from .._perplexity import perplexity
from .ranks import SINGLE_PROCESS, Ranks

# Characters that a row reads, unscored, to get into the text, where it does
# not begin at the text's beginning.
WARM_UP = 512
# Columns of a minibatch, at most, and scores in one. They decide memory, not results.
NUM_STEPS, NUM_SCORES = 256, 2**24
# Characters that are looked at at a time, where a whole text is counted.
PIECE = 2**20


class Evaluation(NamedTuple):
    """The mean negative log-likelihood of a text.

    Attributes:
        nats: for each character.
        num_chars: how many characters were scored: all but the first.
    """

    nats: float
    num_chars: int

    @property
    def bits(self) -> float:
        """Bits per character."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(nats); infinite where that is too large for a float."""
        return perplexity(self.nats)


def evaluate(
    model: Any,
    corpus_indices: Union[Sequence[int], np.ndarray],
    ctx: Optional[mx.Context] = None,
    *,
    batch_size: int = 32,
    unscored: Sequence[int] = (),
    ranks: Ranks = SINGLE_PROCESS,
) -> Evaluation:
    """Score every character of a text but the first, each once.

    The hidden state starts at the text's beginning as the model begins it, and is
    carried through. With one row (``batch_size=1``) that is all there is to it.
    With several, each works on its own part of the text, and all but the first
    start 512 characters earlier, unscored, to have the state that reading on
    would have given; what a model remembers for longer than that is lost: the
    loss of the network in ``results/tinyshakespeare`` changes in the eighth digit.

    Beside the text, which may be a map of a file, it takes the same memory for any length.

    Args:
        model: an ``RNNModel``, or what takes and returns the same.
        corpus_indices: token indices of the text, in order.
        ctx: device of the model; that of its parameters if None.
        batch_size: rows, at most. A short text gets fewer.
        unscored: tokens that are read and not scored, for instance marks that
            tell the model something about the text.
        ranks: those that share the rows; each gets the loss of all.

    Raises:
        ValueError: if the text has fewer than two characters, an index in it is
            not one of the model's, nothing of it is to be scored, or
            ``batch_size`` is not positive.
        TypeError: if ``ctx`` is not one device.
    """
    positive_int("batch_size", batch_size)
    check_ctx(ctx)
    checked = token_indices("corpus_indices", corpus_indices)
    indices = np.asarray(checked)
    num_chars = len(indices) - 1
    if num_chars < 1:
        raise ValueError(
            f"the text has {num_chars + 1} characters; to score one, it takes at least 2"
        )
    ctx = ctx or device_of(model)
    skipped = np.asarray(token_indices("unscored", list(unscored)))
    num_scored = num_chars - count_tokens(indices[1:], skipped)
    if not num_scored:
        raise ValueError(f"all of the text's tokens are among unscored: {list(unscored)}")
    # Each row but the first reads WARM_UP characters before its own part.
    rows = max(1, min(batch_size, num_chars // WARM_UP))
    warm_up = WARM_UP if rows > 1 else 0
    length = -(-(num_chars - warm_up) // rows)
    rows = -(-(num_chars - warm_up) // length)  # fewer where rounding up left nothing for the last
    starts = np.arange(rows) * length
    own = np.full((rows, 1), warm_up)  # the column at which a row's own part begins
    own[0] = 0
    part = ranks.part(rows)
    starts, own = starts[part.start : part.stop], own[part.start : part.stop]
    state = model.begin_state(batch_size=len(part), ctx=ctx) if part else None
    sums: List[nd.NDArray] = []
    losses = array("d")
    forward = serialize_calls(model)
    vocab_size = getattr(model, "vocab_size", None)
    step, end = 0, warm_up + length if part else 0
    with ranks.working():
        while step < end:
            # A first minibatch of one column shows the vocabulary's size of a model of any kind.
            width = 1 if vocab_size is None else max(1, NUM_SCORES // (len(part) * vocab_size))
            columns = np.arange(step, min(step + min(width, NUM_STEPS), end))
            positions = starts[:, None] + columns  # (rows, columns)
            # The last row may be shorter: what stands beyond the end is not counted.
            counted = (columns >= own) & (positions < num_chars)
            positions = np.minimum(positions, num_chars - 1)
            followers = indices[positions + 1]
            if len(skipped):
                counted &= ~np.isin(followers, skipped)
            scores, state = forward(nd.array(indices[positions], ctx=ctx), state)
            if step == 0:
                vocab_size = scores.shape[-1]
                token_indices("corpus_indices", checked, vocab_size)
            step = columns[-1] + 1
            # scores go time step by time step: (columns * rows, vocab_size)
            targets = nd.array(followers.T.reshape(-1), ctx=ctx)
            log_likelihood = nd.pick(nd.log_softmax(scores), targets)
            weights = nd.array(counted.T.reshape(-1), ctx=ctx, dtype=scores.dtype)  # 0 or 1
            sums.append((log_likelihood * weights).sum())
            if len(sums) > 4:  # not to fill the device's queue; see train
                losses.append(sums.pop(0).asscalar())
        losses.extend(s.asscalar() for s in sums)
    (total,) = ranks.sum_numbers(np.array([math.fsum(losses)]))
    nats = -float(total) / num_scored
    return Evaluation(nats, num_scored)


def count_tokens(indices: np.ndarray, tokens: Union[Sequence[int], np.ndarray]) -> int:
    """Count the places of a text, of any length, at which one of some tokens stands."""
    if not len(tokens):
        return 0
    cuts = range(0, len(indices), PIECE)
    return sum(int(np.isin(indices[cut : cut + PIECE], tokens).sum()) for cut in cuts)
