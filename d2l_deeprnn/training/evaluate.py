"""Score a text with a model: mean negative log-likelihood per character."""

from __future__ import annotations

import math
from array import array
from typing import Any, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from .._checks import token_indices, whole_number
from .._mxnet import at_least_float32, mx, nd
from .._mxnet.library import check_ctx, device_of, queueing
from .._perplexity import perplexity
from ..nn.fast import is_chapter_model
from ..nn.model import declared_vocab_size
from .ranks import SINGLE_PROCESS, Ranks

# Characters that each row except the first reads, unscored, before its own part.
WARM_UP = 512
# Maximum columns and scores in a minibatch. They affect memory, not results. Python may compute
# models other than the chapter's step by step, and meanwhile other threads wait.
NUM_STEPS, NUM_STEPS_OF_OTHERS, NUM_SCORES = 256, 64, 2**24
CHUNK = 2**20  # characters that are counted at once


class Evaluation(NamedTuple):
    """The mean negative log-likelihood of a text.

    Attributes:
        nats: mean loss, in nats per character.
        num_chars: number of scored characters.
    """

    nats: float
    num_chars: int

    @property
    def bits(self) -> float:
        """Bits per character."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(nats), infinite if that is too large for a float."""
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
    """Score every character of a text except the first, once.

    With one row (``batch_size=1``), the hidden state is carried from the beginning of the text to
    its end. With several rows, each scores its own part of the text. All but the first row start
    512 characters before their part, unscored, to reach the right hidden state. Anything that a
    model remembers for longer is lost: for the network in ``results/tinyshakespeare``, the loss
    changes in the eighth digit.

    Memory use does not depend on the length of the text, which may be a memory map.

    Args:
        model: an ``RNNModel``, or a model with the same interface.
        corpus_indices: token indices of the text, in order.
        ctx: device of the model; by default, that of its parameters.
        batch_size: maximum number of rows. A short text gets fewer.
        unscored: tokens that are read but not scored, such as marks of the author.
        ranks: the processes that share the rows; each gets the loss of the whole text.

    Raises:
        ValueError: if the text has fewer than two characters or none to score, one of its indices
            is outside the model's vocabulary, or ``batch_size`` is not positive.
        TypeError: if ``ctx`` is not one device.
    """
    whole_number("batch_size", batch_size)
    check_ctx(ctx)
    checked = token_indices("corpus_indices", corpus_indices)
    indices = np.asarray(checked)
    num_chars = len(indices) - 1
    if num_chars < 1:
        raise ValueError(f"the text has {num_chars + 1} characters, but scoring needs at least 2")
    ctx = ctx or device_of(model)
    skipped = np.asarray(token_indices("unscored", list(unscored)))
    num_scored = num_chars - count_tokens(indices[1:], skipped)
    if not num_scored:
        raise ValueError(f"all of the text's tokens are among unscored: {list(unscored)}")
    rows = max(1, min(batch_size, num_chars // WARM_UP))
    warm_up = WARM_UP if rows > 1 else 0
    length = -(-(num_chars - warm_up) // rows)
    rows = -(-(num_chars - warm_up) // length)  # fewer if rounding up leaves the last one empty
    starts = np.arange(rows) * length
    own = np.full((rows, 1), warm_up)  # first column of each row's own part
    own[0] = 0
    part = ranks.part(rows)
    starts, own = starts[part.start : part.stop], own[part.start : part.stop]
    state = model.begin_state(batch_size=len(part), ctx=ctx) if part else None
    sums: List[nd.NDArray] = []
    losses = array("d")
    vocab_size = declared_vocab_size(model)
    num_steps = NUM_STEPS if is_chapter_model(model) else NUM_STEPS_OF_OTHERS
    step, end = 0, warm_up + length if part else 0
    with ranks.working():
        while step < end:
            # If the vocabulary's size is unknown, a first minibatch of one column shows it.
            width = 1 if vocab_size is None else max(1, NUM_SCORES // (len(part) * vocab_size))
            columns = np.arange(step, min(step + min(width, num_steps), end))
            positions = starts[:, None] + columns  # (rows, columns)
            # The last row may be shorter; characters beyond the end are not counted.
            counted = (columns >= own) & (positions < num_chars)
            positions = np.minimum(positions, num_chars - 1)
            followers = indices[positions + 1]
            if len(skipped):
                counted &= ~np.isin(followers, skipped)
            with queueing:  # other threads may train or use the model meanwhile
                scores, state = model(nd.array(indices[positions], ctx=ctx), state)
            if step == 0:
                vocab_size = scores.shape[-1]
                token_indices("corpus_indices", checked, vocab_size)
            step = columns[-1] + 1
            # scores are ordered by time step: (columns * rows, vocab_size)
            targets = nd.array(followers.T.reshape(-1), ctx=ctx)
            scores = at_least_float32(scores)  # sums of float16 end at 65504
            log_likelihood = nd.pick(nd.log_softmax(scores), targets)
            weights = nd.array(counted.T.reshape(-1), ctx=ctx, dtype=scores.dtype)  # 0 or 1
            # Not a product: a character that is not counted may have the score -inf.
            sums.append(nd.where(weights, log_likelihood, nd.zeros_like(weights)).sum())
            if len(sums) > 4:  # keep the device's queue short
                losses.append(sums.pop(0).asscalar())
        losses.extend(s.asscalar() for s in sums)
    (total,) = ranks.sum_numbers(np.array([math.fsum(losses)]))
    nats = -float(total) / num_scored
    return Evaluation(nats, num_scored)


def count_tokens(indices: np.ndarray, tokens: Union[Sequence[int], np.ndarray]) -> int:
    """Return how often any of some tokens occurs in a text."""
    if not len(tokens):
        return 0
    starts = range(0, len(indices), CHUNK)
    return sum(int(np.isin(indices[start : start + CHUNK], tokens).sum()) for start in starts)
