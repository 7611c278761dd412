"""Minibatches (X, Y) of token indices."""

from __future__ import annotations

import random
from array import array
from typing import Callable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from .._checks import token_indices, whole_number
from .._mxnet import mx, nd
from .._mxnet.library import check_ctx

Batch = Tuple[nd.NDArray, nd.NDArray]
Indices = Union[Sequence[int], np.ndarray, nd.NDArray]

# Maximum number of characters (four bytes each) that adjacent sampling keeps on the device.
BLOCK = 2**22


class Minibatches(Iterator[Batch]):
    """The minibatches of one epoch, made one at a time.

    Args:
        num_batches: number of minibatches, which ``len()`` returns.
        batch: function that returns a minibatch by its index, from 0.

    Attributes:
        position: index of the next minibatch. If it is set, minibatches are skipped.
    """

    def __init__(self, num_batches: int, batch: Callable[[int], Batch]) -> None:
        self._num_batches = num_batches
        self._batch = batch
        self.position = 0

    def __len__(self) -> int:
        return self._num_batches

    def __next__(self) -> Batch:
        if self.position >= self._num_batches:
            raise StopIteration
        self.position += 1
        return self._batch(self.position - 1)


def data_iter_consecutive(
    corpus_indices: Indices,
    batch_size: int,
    num_steps: int,
    ctx: Optional[mx.Context] = None,
    *,
    rows: Optional[range] = None,
) -> Minibatches:
    """Cut a text into consecutive minibatches (adjacent sampling).

    The text, after a random offset below ``num_steps``, is folded into ``batch_size`` rows. Row i
    of a minibatch continues row i of the minibatch before, so the hidden state can be carried over.

    Args:
        corpus_indices: token indices of the text, in order: a list, a tuple, or an array of NumPy
            or MXNet.
        batch_size: rows of a minibatch.
        num_steps: columns of a minibatch, in characters.
        ctx: device of the minibatches; the current one if None.
        rows: rows of each minibatch to return, such as ``range(0, 16)``; all if None. The random
            numbers drawn do not depend on it, so processes with the same seed can share a
            minibatch.

    Returns:
        An iterator over X and Y, both (batch_size, num_steps) or, with ``rows``,
        (len(rows), num_steps); Y is X shifted by one character. It has a length.

    Raises:
        ValueError: if a size is not positive, the text is shorter than one minibatch, an index is
            not a whole number of at least 0, or ``rows`` exceeds the rows of a minibatch.
        TypeError: if ``ctx`` is not one device, or ``rows`` not a range.

    Source: ``d2l.data_iter_consecutive`` of the chapter.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> minibatches = d2l.data_iter_consecutive(list(range(30)), batch_size=2, num_steps=4)
        >>> len(minibatches)
        3
        >>> X, Y = next(minibatches)
        >>> X.shape, bool((Y == X + 1).asnumpy().all())
        ((2, 4), True)
    """
    check_ctx(ctx)
    text = np.asarray(token_indices("corpus_indices", corpus_indices))
    whole_number("batch_size", batch_size)
    whole_number("num_steps", num_steps)
    rows = range(batch_size) if rows is None else _checked_rows(rows, batch_size)
    offset = int(random.uniform(0, num_steps))  # drawn as in the original, for equal seeds
    check_length(len(text), batch_size, num_steps, adjacent=True, offset=offset)
    # Every row has the same length; the rest of the text is dropped.
    row_length = (len(text) - offset) // batch_size
    folded = text[offset : offset + batch_size * row_length].reshape((batch_size, row_length))
    folded = folded[rows.start : rows.stop]
    num_batches = (row_length - 1) // num_steps  # - 1 for the last target
    # Copying each minibatch separately would block; copying the whole text would take four times
    # its memory. So copy a block at a time.
    block_batches = max(1, BLOCK // (len(rows) * num_steps))
    block_number, block = -1, None

    def batch(k: int) -> Batch:
        nonlocal block_number, block
        number, position = divmod(k, block_batches)
        if number != block_number:
            begin = number * block_batches * num_steps
            end = min(begin + block_batches * num_steps, num_batches * num_steps)
            block = nd.array(np.asarray(folded[:, begin : end + 1], np.float32), ctx=ctx)
            block_number = number
        begin, end = position * num_steps, (position + 1) * num_steps
        # Not block[:, begin:end], which takes four times as long in Python.
        X = nd.slice_axis(block, axis=1, begin=begin, end=end)
        Y = nd.slice_axis(block, axis=1, begin=begin + 1, end=end + 1)
        return X, Y

    return Minibatches(num_batches, batch)


def data_iter_random(
    corpus_indices: Indices,
    batch_size: int,
    num_steps: int,
    ctx: Optional[mx.Context] = None,
    *,
    rows: Optional[range] = None,
) -> Minibatches:
    """Cut a text into examples and shuffle them (random sampling).

    Rows of successive minibatches are unrelated, so the hidden state must be reset for each
    minibatch.

    The order takes 8 bytes and about half a microsecond per example of ``num_steps`` characters.
    For a text of 10^9 characters in examples of 35, that is 230 MB and 15 seconds per epoch.

    Args, Returns, Raises: As ``data_iter_consecutive``.

    Source: ``d2l.data_iter_random`` of the chapter.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> minibatches = d2l.data_iter_random(list(range(32)), batch_size=2, num_steps=4)
        >>> [X.shape for X, Y in minibatches]
        [(2, 4), (2, 4), (2, 4)]
    """
    check_ctx(ctx)
    text = np.asarray(token_indices("corpus_indices", corpus_indices))
    whole_number("batch_size", batch_size)
    whole_number("num_steps", num_steps)
    rows = range(batch_size) if rows is None else _checked_rows(rows, batch_size)
    offset = int(random.uniform(0, num_steps))  # drawn as in the original, for equal seeds
    check_length(len(text), batch_size, num_steps, adjacent=False, offset=offset)
    num_examples = (len(text) - offset - 1) // num_steps - 1
    num_batches = num_examples // batch_size
    # The original shuffled a list, in the same order and with five times the memory.
    example_starts = array("q", range(offset, offset + num_examples * num_steps, num_steps))
    random.shuffle(example_starts)

    def examples(starts: Sequence[int]) -> nd.NDArray:
        return nd.array([text[i : i + num_steps] for i in starts], ctx=ctx)

    def batch(k: int) -> Batch:
        begin, end = k * batch_size + rows.start, k * batch_size + rows.stop
        starts = example_starts[begin:end].tolist()
        return examples(starts), examples([start + 1 for start in starts])

    return Minibatches(num_batches, batch)


def check_length(
    num_tokens: int,
    batch_size: int,
    num_steps: int,
    *,
    adjacent: bool,
    offset: Optional[int] = None,
) -> None:
    """Raise a ValueError if a text is shorter than one minibatch.

    Args:
        num_tokens: length of the text.
        batch_size, num_steps: shape of a minibatch.
        adjacent: whether sampling is adjacent, not random.
        offset: start of the first minibatch. None stands for the largest possible offset, so that
            every epoch has a minibatch.
    """
    whole_number("batch_size", batch_size)
    whole_number("num_steps", num_steps)
    if offset is None:
        offset = num_steps - 1
    # In adjacent sampling, each row needs one more character for its last target. The chapter's
    # random sampling leaves out the last num_steps characters.
    minibatch = batch_size * (num_steps + 1) if adjacent else (batch_size + 1) * num_steps + 1
    # Differs: the original returned no minibatch, and the train function then divided by zero.
    if num_tokens < minibatch + offset:
        raise ValueError(
            f"the text to train on has {num_tokens:,} characters, but batch_size {batch_size} and "
            f"num_steps {num_steps} need at least {minibatch + offset:,}: "
            "give a longer text, or a smaller batch_size or num_steps"
        )


def to_onehot(X: nd.NDArray, size: int) -> List[nd.NDArray]:
    """Turn a minibatch of indices into one-hot vectors, one array per time step.

    Args:
        X: indices, (batch_size, num_steps).
        size: length of a one-hot vector, ``len(vocab)``.

    Returns:
        num_steps arrays of shape (batch_size, size).

    Source: ``d2l.to_onehot`` of the chapter.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import nd
        >>> inputs = d2l.to_onehot(nd.array([[0, 2], [1, 1]]), 3)  # 2 rows, 2 time steps
        >>> inputs[1].asnumpy().tolist()
        [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    return [nd.one_hot(x, size) for x in X.T]


def _checked_rows(rows: range, batch_size: int) -> range:
    expected = f"rows must be a range within range({batch_size}), such as range(1)"
    if not isinstance(rows, range):
        raise TypeError(f"{expected}, not {rows!r}")
    if not len(rows) or rows.step != 1 or rows.start < 0 or rows.stop > batch_size:
        raise ValueError(f"{expected}, with at least one row and step 1, not {rows!r}")
    return rows
