"""A baseline for a network's perplexity: an interpolated n-gram model."""

from __future__ import annotations

import math
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple, Union

import numpy as np

from .._checks import token_indices, whole_number

Indices = Union[Sequence[int], np.ndarray]


class _Counts(NamedTuple):
    """The counts of one order, after discounting.

    Attributes:
        kept: the count of each n-gram less its discount. Index -1 is an unknown n-gram, with 0.
        freed: the sum of the discounts after each context. Index -1 is an unknown context, with 0.
        totals: the sum of the counts after each context; the same.
    """

    kept: np.ndarray
    freed: np.ndarray
    totals: np.ndarray


class _Table(NamedTuple):
    """The n-grams of one order in the training text.

    An n-gram has a key: the id of its context (the n-gram without its last token) times the
    stride, plus the rank of its last token. Its id is the position of its key among the sorted
    keys. So nothing is hashed, and no number grows with the order: ids and ranks are below the
    length of the text.

    Attributes:
        keys: the keys of all n-grams, ascending, and a last one that no n-gram has.
        occurrences: how often each occurs, for a model of this order.
        continuations: how many different tokens it follows, for a model of a higher order.
    """

    keys: np.ndarray
    occurrences: _Counts
    continuations: _Counts


class NGramModel:
    """A language model of token indices: n-grams with modified Kneser-Ney smoothing, interpolated.

    The probability that a token c follows the k - 1 tokens h is ::

        p_k(c | h) = (count(hc) - d(count(hc)) + freed(h) * p_{k-1}(c | h')) / total(h)

    where h' is h without its first token, ``total(h)`` is the sum of ``count(hc)`` over all tokens
    c, and ``freed(h)`` that of ``d(count(hc))``. ``p_0`` is ``1 / vocab_size``. If ``total(h)`` is
    0, ``p_k`` is ``p_{k-1}``. For the highest order, ``count(hc)`` is how often hc occurs in the
    training text; for the others, how many different tokens occur before it. The discount ``d`` of
    counts of 1, of 2, and of 3 and more is ::

        1 - 2 y n_2 / n_1,  2 - 3 y n_3 / n_2,  3 - 4 y n_4 / n_3  with  y = n_1 / (n_1 + 2 n_2)

    where ``n_i`` is the number of n-grams of the same order with a count of i. In a text too short
    for these, it is 0.5, 1 and 1.5. So every token has a probability above 0, and only the order
    has to be chosen.

    Source: S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language
    modeling" (1999), who found no better smoothing. The discounts of short texts are those that
    KenLM falls back to.

    Unlike a network, it needs memory in proportion to the text: a few hundred bytes per character.

    Args:
        corpus_indices: token indices of the training text, in order: a list or an array.
        order: length of the longest n-grams, including the predicted token: 1 counts single tokens
            without context, 5 uses the 4 tokens before.
        vocab_size: number of tokens in the vocabulary, ``len(vocab)``.

    Attributes:
        order, vocab_size: as given.

    Raises:
        ValueError: if the text has fewer than two tokens or an index that is not a whole number
            from 0 to ``vocab_size - 1``, or if ``order`` or ``vocab_size`` is not a positive
            integer.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> model = d2l.NGramModel([0, 1, 0, 1, 0, 1], order=2, vocab_size=2)
        >>> model.log_probabilities([0, 1]).round(2)  # 1 has always followed 0
        array([-0.29])
    """

    def __init__(self, corpus_indices: Indices, order: int, vocab_size: int) -> None:
        whole_number("order", order)
        whole_number("vocab_size", vocab_size)
        self.order = order
        self.vocab_size = vocab_size
        text = _indices("corpus_indices", corpus_indices, vocab_size, 2)
        self._tokens, ranks = np.unique(text, return_inverse=True)
        # One more than there are ranks, so that the rank -1 of an unknown token makes no valid key.
        self._stride = len(self._tokens) + 1
        self._tables: List[_Table] = []
        contexts, num_contexts = np.zeros(len(text), dtype=np.int64), 1
        for context_length in range(order):
            keys, ids, occurrences = np.unique(
                contexts * self._stride + ranks[context_length:],
                return_inverse=True,
                return_counts=True,
            )
            after_token = np.unique(ids[1:] * self._stride + ranks[: len(ids[1:])])
            continuations = np.bincount(after_token // self._stride, minlength=len(keys))
            before = keys // self._stride, num_contexts
            counts = _discount(occurrences, *before), _discount(continuations, *before)
            self._tables.append(_Table(_with_sentinel(keys), *counts))
            contexts, num_contexts = ids[:-1], len(keys)  # no token follows the last n-gram

    def log_probabilities(self, corpus_indices: Indices) -> np.ndarray:
        """Score every token of a text except the first.

        Args:
            corpus_indices: token indices of the text, in order; two or more.

        Returns:
            Natural logarithm of the probability of each token, given those before it in this text:
            float64 of shape (length - 1,). The first contexts are shorter.

        Raises:
            ValueError: as for the training text.
        """
        *_, log_p = self._log_probabilities_by_order(corpus_indices)
        return log_p

    def loss(self, corpus_indices: Indices) -> float:
        """Return the mean negative log-likelihood of a text, in nats per token.

        Its exponential is the perplexity. Args, Raises: as ``log_probabilities``.
        """
        return float(np.mean(-self.log_probabilities(corpus_indices)))

    def probabilities(self, context: Indices) -> np.ndarray:
        """Return the probability of each token of the vocabulary after a context.

        Args:
            context: token indices, in order, of any length; the last ``order - 1`` matter.

        Returns:
            float64 of shape (vocab_size,).

        Raises:
            ValueError: if an index is not a whole number below ``vocab_size``.
        """
        indices = _indices("context", context, self.vocab_size, 0)
        p = np.full(self.vocab_size, 1 / self.vocab_size)
        walk = self._walk(indices[max(0, len(indices) + 1 - self.order) :])
        for order, (table, contexts, _) in enumerate(walk, 1):
            counts = table.occurrences if order == self.order else table.continuations
            last = contexts[-1]
            if counts.totals[last] > 0:
                low, high = last * self._stride, (last + 1) * self._stride
                after = slice(*np.searchsorted(table.keys, [low, high]))
                p *= counts.freed[last]
                p[self._tokens[table.keys[after] - low]] += counts.kept[after]
                p /= counts.totals[last]
        return p

    def _log_probabilities_by_order(self, corpus_indices: Indices) -> Iterator[np.ndarray]:
        """Yield the result of ``log_probabilities`` for each order from 1 to ``order``."""
        indices = _indices("corpus_indices", corpus_indices, self.vocab_size, 2)
        lower = np.full(len(indices) - 1, -math.log(self.vocab_size))
        for table, contexts, ids in self._walk(indices):
            where = contexts[1:-1], ids[1:]
            yield _interpolate(table.occurrences, *where, lower)
            lower = _interpolate(table.continuations, *where, lower)

    def _walk(self, indices: np.ndarray) -> Iterator[Tuple[_Table, np.ndarray, np.ndarray]]:
        """Yield, for each order, the table and the ids of a text's contexts and n-grams in it.

        Context i is the one before token i or, for the last, before the end. N-gram i is that
        context with token i. An id is -1 if the training text does not have the n-gram, or there
        are too few tokens before it.
        """
        ranks = _positions(_with_sentinel(self._tokens), indices)
        contexts = np.zeros(len(indices) + 1, dtype=np.int64)
        for table in self._tables:
            ids = _positions(table.keys, contexts[:-1] * self._stride + ranks)
            yield table, contexts, ids
            contexts = np.append(-1, ids)  # the first token has no longer context


def _discount(counts: np.ndarray, contexts: np.ndarray, num_contexts: int) -> _Counts:
    """Return the counts of the n-grams of one order, given the context of each."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)[1:5]
    discounts = np.array([0, 0.5, 1, 1.5])
    if n.all():
        y = n[0] / (n[0] + 2 * n[1])
        estimated = np.arange(1, 4) - np.arange(2, 5) * y * n[1:] / n[:3]
        if (estimated > 0).all():
            discounts[1:] = estimated
    taken = discounts[np.minimum(counts, 3)]
    sums = [np.bincount(contexts, weights, num_contexts + 1) for weights in (taken, counts)]
    return _Counts(np.append(counts - taken, 0), *sums)


def _interpolate(
    counts: _Counts, contexts: np.ndarray, ids: np.ndarray, lower: np.ndarray
) -> np.ndarray:
    """Return the log-probabilities of one order, given those of the order below."""
    # In logarithms: at a high order, the product may be too small for a float.
    with np.errstate(divide="ignore", invalid="ignore"):  # log(0), also for unknown contexts
        log_p = np.logaddexp(np.log(counts.kept[ids]), np.log(counts.freed[contexts]) + lower)
        log_p -= np.log(counts.totals[contexts])
    return np.where(counts.totals[contexts] > 0, log_p, lower)


def choose_order(
    train_indices: Indices,
    valid_indices: Indices,
    vocab_size: int,
    max_order: int = 10,
) -> Tuple[int, List[Tuple[int, float]]]:
    """Choose the order of an ``NGramModel`` by its loss on a validation text.

    Args:
        train_indices: token indices of the training text, in order.
        valid_indices: token indices of the validation text, in order.
        vocab_size: number of tokens, ``len(vocab)``.
        max_order: the highest order to try.

    Returns:
        The order with the lowest loss (the lowest order of equals), and ``(order, loss)`` for each
        order from 1 to ``max_order``.

    Raises:
        ValueError: as ``NGramModel``.
    """
    whole_number("max_order", max_order)
    whole_number("vocab_size", vocab_size)
    train = _indices("train_indices", train_indices, vocab_size, 2)
    valid = _indices("valid_indices", valid_indices, vocab_size, 2)
    # The model of the highest order has the tables of all lower ones.
    by_order = NGramModel(train, max_order, vocab_size)._log_probabilities_by_order(valid)
    losses = [(order, float(np.mean(-log_p))) for order, log_p in enumerate(by_order, 1)]
    return min(losses, key=lambda row: row[1])[0], losses


def _with_sentinel(ascending: np.ndarray) -> np.ndarray:
    """Append a number that is never looked up, so that ``_positions`` stays within bounds."""
    return np.append(ascending, np.iinfo(np.int64).max)


def _positions(ascending: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the position of each value among ascending numbers, or -1."""
    positions = np.searchsorted(ascending, values)
    return np.where(ascending[positions] == values, positions, -1)


def _indices(name: str, indices: Any, vocab_size: int, least: int) -> np.ndarray:
    """Return token indices as int64, or raise a ValueError that names the argument."""
    array = token_indices(name, indices, vocab_size)
    if len(array) < least:
        raise ValueError(f"{name} must have at least {least} tokens, not {len(array)}")
    return np.array(array, np.int64)
