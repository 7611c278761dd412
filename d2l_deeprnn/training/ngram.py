"""A baseline for a network's perplexity: an interpolated n-gram model."""

from __future__ import annotations

import math
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple, Union

import numpy as np

from .._checks import token_indices, whole_number

Indices = Union[Sequence[int], np.ndarray]


class _Table(NamedTuple):
    """The n-grams of one order in the training text.

    An n-gram has a key: the id of its context (the n-gram without its last token) times the
    stride, plus the rank of its last token. Its id is the position of its key among the sorted
    keys. So nothing is hashed, and no number grows with the order: ids and ranks are below the
    length of the text.

    Attributes:
        keys: the keys of all n-grams, ascending; then one that no n-gram has.
        counts: how often each n-gram occurs.
        totals: how often each context occurs before a token; then 0, for the unknown context -1.
        kinds: how many different tokens occur after each context; then 0.
    """

    keys: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray


class NGramModel:
    """A language model of token indices: n-grams interpolated as by Witten and Bell.

    The probability that a token c follows the k - 1 tokens h is ::

        p_k(c | h) = (count(hc) + kinds(h) * p_{k-1}(c | h')) / (count(h) + kinds(h))

    where h' is h without its first token, ``count(h)`` is how often h occurs before a token in the
    training text, and ``kinds(h)`` is how many different tokens follow it there. ``p_0`` is
    ``1 / vocab_size``. If a context never occurs, ``p_k`` is ``p_{k-1}``. So every token always
    has a probability above 0, and only the order has to be chosen. This is method C of Witten and
    Bell, "The zero-frequency problem" (1991). It is a plain baseline: Kneser-Ney smoothing predicts
    English better.

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
        array([-0.13])
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
            keys, ids, counts = np.unique(
                contexts * self._stride + ranks[context_length:],
                return_inverse=True,
                return_counts=True,
            )
            before = keys // self._stride
            totals = np.bincount(before, weights=counts, minlength=num_contexts + 1)
            kinds = np.bincount(before, minlength=num_contexts + 1)
            self._tables.append(_Table(_with_sentinel(keys), counts, totals, kinds))
            contexts, num_contexts = ids[:-1], len(counts)  # no token follows the last n-gram

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
        for table, contexts, _ in self._walk(indices[max(0, len(indices) + 1 - self.order) :]):
            last = contexts[-1]
            if table.totals[last] > 0:
                low, high = last * self._stride, (last + 1) * self._stride
                after = slice(*np.searchsorted(table.keys, [low, high]))
                p *= table.kinds[last]
                p[self._tokens[table.keys[after] - low]] += table.counts[after]
                p /= table.totals[last] + table.kinds[last]
        return p

    def _log_probabilities_by_order(self, corpus_indices: Indices) -> Iterator[np.ndarray]:
        """Yield the result of ``log_probabilities`` for each order from 1 to ``order``.

        It is always the same array, which the next iteration overwrites.
        """
        indices = _indices("corpus_indices", corpus_indices, self.vocab_size, 2)
        log_p = np.full(len(indices) - 1, -math.log(self.vocab_size))
        for table, contexts, ids in self._walk(indices):
            contexts, ids = contexts[1:-1], ids[1:]
            totals, kinds = table.totals[contexts], table.kinds[contexts]
            known = ids >= 0
            p = table.counts[ids[known]] + kinds[known] * np.exp(log_p[known])
            log_p[known] = np.log(p / (totals + kinds)[known])
            # In logarithms: at a high order, the product may be too small for a float.
            unknown = ~known & (totals > 0)
            log_p[unknown] += np.log(kinds[unknown] / (totals + kinds)[unknown])
            yield log_p

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
