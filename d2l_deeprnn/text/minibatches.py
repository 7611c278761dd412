"""From a sequence of token indices to minibatches (X, Y)."""

from __future__ import annotations

import random
from array import array
from typing import Callable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from .._checks import positive_int, token_indices
from .._mxnet import mx, nd
from .._mxnet.context import check_ctx

Batch = Tuple[nd.NDArray, nd.NDArray]
Indices = Union[Sequence[int], np.ndarray, nd.NDArray]

# Characters that adjacent sampling has on the device at a time, at most: four bytes each.
BLOCK = 2**22


class Minibatches(Iterator[Batch]):
    """The minibatches of one epoch, made one at a time; ``len()`` says how many there are.

    Args:
        num_batches: how many.
        batch: gives the minibatch of an index from 0 on.
    """

    def __init__(self, num_batches: int, batch: Callable[[int], Batch]) -> None:
        self._num_batches = num_batches
        self._batch = batch
        self._next = 0

    def __len__(self) -> int:
        return self._num_batches

    def __next__(self) -> Batch:
        if self._next >= self._num_batches:
            raise StopIteration
        self._next += 1
        return self._batch(self._next - 1)

    def skip(self, num_batches: int) -> None:
        """Leave the next minibatches out, without making them."""
        self._next += num_batches


def data_iter_consecutive(
    corpus_indices: Indices,
    batch_size: int,
    num_steps: int,
    ctx: Optional[mx.Context] = None,
    *,
    rows: Optional[range] = None,
) -> Minibatches:
    """Cut a text into minibatches that follow each other (adjacent sampling).

    The text, less a random offset below ``num_steps``, is folded into
    ``batch_size`` rows. Row i of a minibatch goes on where row i of the
    minibatch before ended, so that the hidden state can be carried over.

    Args:
        corpus_indices: token indices of the text, in order: a list, a tuple, or
            an array of NumPy or MXNet.
        batch_size: rows of a minibatch.
        num_steps: columns of a minibatch, in characters.
        ctx: device of the minibatches; the current one if None.
        rows: which rows of each minibatch to give, such as ``range(0, 16)``;
            all if None. What is drawn at random does not depend on it, so that
            processes with the same seed can share the rows of one minibatch.

    Returns:
        An iterator over X and Y, both (batch_size, num_steps) or, with
        ``rows``, (len(rows), num_steps); Y is X shifted by one character.
        ``len()`` tells how many there are.

    Raises:
        ValueError: if a size is not positive, if the text does not hold one
            minibatch, if an index is not a whole number of at least 0, or if
            ``rows`` has a row that a minibatch has not.
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
    first, num_rows = _rows(rows, batch_size)
    offset = _start(len(text), batch_size, num_steps, adjacent=True)
    # Every row has the same length; what is left over at the end is dropped.
    row_length = (len(text) - offset) // batch_size
    folded = text[offset : offset + batch_size * row_length].reshape((batch_size, row_length))
    folded = folded[first : first + num_rows]
    num_batches = (row_length - 1) // num_steps  # - 1: the last target has a successor too
    # To hand NumPy's arrays to the device minibatch by minibatch would wait each time, and all of
    # a large text at once would take four times its memory.
    in_block = max(1, BLOCK // (num_rows * num_steps))
    held, block = -1, None

    def batch(k: int) -> Batch:
        nonlocal held, block
        number, place = divmod(k, in_block)
        if number != held:
            begin = number * in_block * num_steps
            end = min(begin + in_block * num_steps, num_batches * num_steps)
            block = nd.array(np.asarray(folded[:, begin : end + 1], np.float32), ctx=ctx)
            held = number
        begin, end = place * num_steps, (place + 1) * num_steps
        # Not block[:, begin:end], which takes Python four times as long to work out.
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

    Rows of neighbouring minibatches have nothing to do with each other, so
    the hidden state starts afresh in every minibatch.

    The order takes 8 bytes and about half a microsecond for each example of
    ``num_steps`` characters: a text of 10^9 characters in examples of 35 takes
    230 MB and a quarter of a minute an epoch.

    Args, Returns, Raises: as ``data_iter_consecutive``.

    Source: ``d2l.data_iter_random`` of the chapter.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> minibatches = d2l.data_iter_random(list(range(32)), batch_size=2, num_steps=4)
        >>> [X.shape for X, Y in minibatches]
        [(2, 4), (2, 4), (2, 4)]
    """
    check_ctx(ctx)
    text = np.asarray(token_indices("corpus_indices", corpus_indices))
    first, num_rows = _rows(rows, batch_size)
    offset = _start(len(text), batch_size, num_steps, adjacent=False)
    num_examples = (len(text) - offset - 1) // num_steps - 1
    num_batches = num_examples // batch_size
    # Shuffled in the same way as the original's list, which takes five times the memory.
    example_starts = array("q", range(offset, offset + num_examples * num_steps, num_steps))
    random.shuffle(example_starts)

    def pieces(starts: Sequence[int]) -> nd.NDArray:
        return nd.array([text[i : i + num_steps] for i in starts], ctx=ctx)

    def batch(k: int) -> Batch:
        begin = k * batch_size + first
        starts = example_starts[begin : begin + num_rows].tolist()
        return pieces(starts), pieces([start + 1 for start in starts])

    return Minibatches(num_batches, batch)


def check_length(
    num_tokens: int,
    batch_size: int,
    num_steps: int,
    *,
    adjacent: bool,
    offset: Optional[int] = None,
) -> None:
    """Raise a ValueError if a text does not hold one minibatch.

    Args:
        num_tokens: length of the text.
        batch_size, num_steps: shape of a minibatch.
        adjacent: adjacent sampling, else random.
        offset: where the first minibatch starts; the largest possible if
            None, which says whether every epoch has a minibatch.
    """
    positive_int("batch_size", batch_size)
    positive_int("num_steps", num_steps)
    if offset is None:
        offset = num_steps - 1
    # Adjacent sampling drops what does not fill a row, and each row needs one
    # more character, its last target. Random sampling, as the chapter has it,
    # leaves the last num_steps characters out.
    minibatch = batch_size * (num_steps + 1) if adjacent else (batch_size + 1) * num_steps + 1
    # Differs: the original gave no minibatch at all, and the train function
    # then divided by zero.
    if num_tokens < minibatch + offset:
        raise ValueError(
            f"the text has {num_tokens} characters, but one minibatch of batch_size {batch_size} "
            f"and num_steps {num_steps} needs {minibatch + offset}: "
            "give a longer text, or a smaller batch_size or num_steps"
        )


def to_onehot(X: nd.NDArray, size: int) -> List[nd.NDArray]:
    """Turn a minibatch of indices into one-hot vectors, one array a time step.

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


def _start(num_tokens: int, batch_size: int, num_steps: int, *, adjacent: bool) -> int:
    """Draw the offset of an epoch and check that a minibatch follows it."""
    positive_int("num_steps", num_steps)
    # The same draw as in the original, so that a seed gives the same offsets.
    offset = int(random.uniform(0, num_steps))
    check_length(num_tokens, batch_size, num_steps, adjacent=adjacent, offset=offset)
    return offset


def _rows(rows: Optional[range], batch_size: int) -> Tuple[int, int]:
    """The first of the rows that were asked for, and how many they are."""
    positive_int("batch_size", batch_size)
    if rows is None:
        return 0, batch_size
    wanted = f"rows must be a range within range({batch_size}), such as range(1)"
    if not isinstance(rows, range):
        raise TypeError(f"{wanted}, not {rows!r}")
    if not len(rows) or rows.step != 1 or rows.start < 0 or rows.stop > batch_size:
        raise ValueError(f"{wanted}, with at least one row and step 1, not {rows!r}")
    return rows.start, len(rows)
