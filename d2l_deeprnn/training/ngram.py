"""The baseline that a network's perplexity stands beside: counts of n-grams, interpolated."""

from __future__ import annotations

import math
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple, Union

import numpy as np

from .._checks import positive_int, token_indices

Indices = Union[Sequence[int], np.ndarray]


class _Table(NamedTuple):
    """The n-grams of one order in the training text.

    An n-gram is spelt by one number: the id of its context, which is the n-gram one shorter that
    it starts with, times the stride, plus the rank of its last token. The id of an n-gram is the
    place of its spelling among the sorted ones. So nothing is hashed, and no number grows with
    the order: ids and ranks are below the length of the text.

    Attributes:
        spellings: Of each n-gram, ascending; then a last one that no n-gram has.
        counts: How often each n-gram occurs.
        totals: How often each context occurs before a token; then 0, so that the context -1,
            which is none of them, has 0 too.
        kinds: How many different tokens occur after each context; then 0.
    """

    spellings: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray


class NGramModel:
    """A language model of token indices: n-grams interpolated as by Witten and Bell.

    The probability that a token c follows the k - 1 tokens h, of which h' are all but the first,
    is ::

        p_k(c | h) = (count(hc) + kinds(h) * p_{k-1}(c | h')) / (count(h) + kinds(h))

    where ``count(h)`` is how often h stands before a token in the training text and ``kinds(h)``
    how many different tokens follow it there. ``p_0`` is ``1 / vocab_size``; a context that never
    occurs passes ``p_{k-1}`` on. So every token has a probability above 0 everywhere, and there is
    nothing to tune but the order. It is method C of Witten and Bell, "The zero-frequency problem"
    (1991), a plain baseline: smoothing as by Kneser and Ney predicts English better.

    Unlike a network's training it takes memory for the whole text: a few hundred bytes a character.

    Args:
        corpus_indices: Token indices of the training text, in order: a list or an array.
        order: Length of the longest n-grams, the predicted token included: 1 counts single tokens
            and looks at no context, 5 looks at the 4 tokens before.
        vocab_size: Number of tokens that ``p_0`` is spread over, ``len(vocab)``.

    Attributes:
        order, vocab_size: As given.

    Raises:
        ValueError: If the text has fewer than two tokens or holds anything but whole numbers from
            0 to ``vocab_size - 1``, or if ``order`` or ``vocab_size`` is not a positive integer.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> model = d2l.NGramModel([0, 1, 0, 1, 0, 1], order=2, vocab_size=2)
        >>> model.log_probabilities([0, 1]).round(2)  # 1 has always followed 0
        array([-0.13])
    """

    def __init__(self, corpus_indices: Indices, order: int, vocab_size: int) -> None:
        positive_int("order", order)
        positive_int("vocab_size", vocab_size)
        self.order = order
        self.vocab_size = vocab_size
        text = _indices("corpus_indices", corpus_indices, vocab_size, 2)
        self._tokens, ranks = np.unique(text, return_inverse=True)
        # One more than there are ranks, so that the rank -1, of a token that does not occur in
        # the training text, spells no n-gram.
        self._stride = len(self._tokens) + 1
        self._tables: List[_Table] = []
        contexts, num_contexts = np.zeros(len(text), dtype=np.int64), 1
        for context_length in range(order):
            spellings, ids, counts = np.unique(
                contexts * self._stride + ranks[context_length:],
                return_inverse=True,
                return_counts=True,
            )
            before = spellings // self._stride
            totals = np.bincount(before, weights=counts, minlength=num_contexts + 1)
            kinds = np.bincount(before, minlength=num_contexts + 1)
            self._tables.append(_Table(_closed(spellings), counts, totals, kinds))
            contexts, num_contexts = ids[:-1], len(counts)  # no token follows the last n-gram

    def log_probabilities(self, corpus_indices: Indices) -> np.ndarray:
        """Score a text.

        Args:
            corpus_indices: Token indices of the text, in order; two or more.

        Returns:
            Natural logarithm of the probability of every token but the first, given those before
            it in this text, float64 of shape (length - 1,). At the start of the text the contexts
            are shorter.

        Raises:
            ValueError: As for the training text.
        """
        *_, log_p = self._log_probabilities_by_order(corpus_indices)
        return log_p

    def loss(self, corpus_indices: Indices) -> float:
        """Score a text with one number; its exponential is the perplexity.

        Args, Raises: as ``log_probabilities``.

        Returns:
            Mean negative log-likelihood, in nats for a token, of every token but the first.
        """
        return float(np.mean(-self.log_probabilities(corpus_indices)))

    def probabilities(self, context: Indices) -> np.ndarray:
        """Predict the token after a context.

        Args:
            context: Token indices of what stands before, in order, of any length; the last
                ``order - 1`` count.

        Returns:
            Probability of each token of the vocabulary, float64 of shape (vocab_size,).

        Raises:
            ValueError: If the context holds anything but whole numbers below ``vocab_size``.
        """
        indices = _indices("context", context, self.vocab_size, 0)
        p = np.full(self.vocab_size, 1 / self.vocab_size)
        for table, contexts, _ in self._walk(indices[max(0, len(indices) + 1 - self.order) :]):
            last = contexts[-1]
            if table.totals[last] > 0:
                low, high = last * self._stride, (last + 1) * self._stride
                after = slice(*np.searchsorted(table.spellings, [low, high]))
                p *= table.kinds[last]
                p[self._tokens[table.spellings[after] - low]] += table.counts[after]
                p /= table.totals[last] + table.kinds[last]
        return p

    def _log_probabilities_by_order(self, corpus_indices: Indices) -> Iterator[np.ndarray]:
        """Yield what ``log_probabilities`` returns, of order 1, 2, ..., ``order``.

        It is the same array each time: use it before asking for the next.
        """
        indices = _indices("corpus_indices", corpus_indices, self.vocab_size, 2)
        log_p = np.full(len(indices) - 1, -math.log(self.vocab_size))
        for table, contexts, ids in self._walk(indices):
            contexts, ids = contexts[1:-1], ids[1:]
            totals, kinds = table.totals[contexts], table.kinds[contexts]
            found = ids >= 0
            p = table.counts[ids[found]] + kinds[found] * np.exp(log_p[found])
            log_p[found] = np.log(p / (totals + kinds)[found])
            # In logarithms, for at a high order such a product may be too small for a float.
            missed = ~found & (totals > 0)
            log_p[missed] += np.log(kinds[missed] / (totals + kinds)[missed])
            yield log_p

    def _walk(self, indices: np.ndarray) -> Iterator[Tuple[_Table, np.ndarray, np.ndarray]]:
        """Yield, of order 1, 2, ..., the table and a text's contexts and n-grams in it.

        The context at i is the id of what stands before token i, up to the end of the text, and
        the n-gram at i is the id of that context and token i. An id is -1 where the training text
        does not have it, or the text has too few tokens before.
        """
        ranks = _places(_closed(self._tokens), indices)
        contexts = np.zeros(len(indices) + 1, dtype=np.int64)
        for table in self._tables:
            ids = _places(table.spellings, contexts[:-1] * self._stride + ranks)
            yield table, contexts, ids
            contexts = np.append(-1, ids)  # before the first token there is no longer context


def choose_order(
    train_indices: Indices,
    valid_indices: Indices,
    vocab_size: int,
    max_order: int = 10,
) -> Tuple[int, List[Tuple[int, float]]]:
    """Choose the order of an ``NGramModel`` by its loss on a text that it was not trained on.

    Args:
        train_indices: Token indices of the training text, in order.
        valid_indices: Token indices of the text to score, in order.
        vocab_size: Number of tokens, ``len(vocab)``.
        max_order: The highest order to try.

    Returns:
        The order of the least loss, the lowest one of equals, and ``(order, loss)`` of the orders
        1 to ``max_order``.

    Raises:
        ValueError: As ``NGramModel`` does.
    """
    positive_int("max_order", max_order)
    positive_int("vocab_size", vocab_size)
    train = _indices("train_indices", train_indices, vocab_size, 2)
    valid = _indices("valid_indices", valid_indices, vocab_size, 2)
    # The tables of the highest order hold those of every lower one.
    by_order = NGramModel(train, max_order, vocab_size)._log_probabilities_by_order(valid)
    losses = [(order, float(np.mean(-log_p))) for order, log_p in enumerate(by_order, 1)]
    return min(losses, key=lambda row: row[1])[0], losses


def _closed(ascending: np.ndarray) -> np.ndarray:
    """Append a number that is never looked up, so that ``_places`` finds no place past the end."""
    return np.append(ascending, np.iinfo(np.int64).max)


def _places(closed: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return where each number stands among ascending ones, -1 where it does not."""
    places = np.searchsorted(closed, wanted)
    return np.where(closed[places] == wanted, places, -1)


def _indices(name: str, indices: Any, vocab_size: int, least: int) -> np.ndarray:
    """Return token indices as int64, or raise a ValueError that names the argument."""
    array = token_indices(name, indices, vocab_size)
    if len(array) < least:
        raise ValueError(f"{name} must hold at least {least} tokens, not {len(array)}")
    return np.array(array, np.int64)
