"""The n-gram baseline agrees with its formula, evaluated in exact fractions."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2l_deeprnn.text.corpora import load_corpus
from d2l_deeprnn.training.ngram import NGramModel, choose_order

VOCAB_SIZE = 5
ORDERS = st.integers(1, 7)
# Few tokens, so that contexts recur; token 4 occurs in no training text.
TRAINING_TEXTS = st.lists(st.integers(0, 3), min_size=2, max_size=40)
CONTEXTS = st.lists(st.integers(0, 4), max_size=9)
TEXTS = st.lists(st.integers(0, 4), min_size=2, max_size=20)


def discounts(counts):
    """Return the discounts of counts of 1, of 2, and of 3 and more."""
    n = [list(counts).count(i) for i in range(1, 5)]
    if all(n):
        y = Fraction(n[0], n[0] + 2 * n[1])
        found = [i - (i + 1) * y * n[i] / n[i - 1] for i in (1, 2, 3)]
        if min(found) > 0:
            return found
    return [Fraction(1, 2), Fraction(1), Fraction(3, 2)]


def exact(training_text, order, vocab_size, context, token):
    """Return the probability of a token after a context by the formula in the class's docstring."""
    p = Fraction(1, vocab_size)
    for length in range(1, min(order, len(context) + 1) + 1):
        places = range(len(training_text) - length + 1)
        grams = [tuple(training_text[i : i + length]) for i in places]
        if length < order:
            pairs = {(training_text[i - 1], grams[i]) for i in places if i > 0}
            grams = [gram for _, gram in pairs]
        counts = Counter(grams)
        d = discounts(counts.values())
        h = tuple(context[len(context) - length + 1 :])
        after = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == h}
        if after:
            freed = sum(d[min(count, 3) - 1] for count in after.values())
            kept = after[token] - d[min(after[token], 3) - 1] if token in after else 0
            p = (kept + freed * p) / sum(after.values())
    return p


def relative_to(wanted):
    return pytest.approx([float(p) for p in wanted], rel=1e-12, abs=0)


@given(training_text=TRAINING_TEXTS, order=ORDERS, context=CONTEXTS)
def test_probabilities_are_the_formulas(training_text, order, context):
    p = NGramModel(training_text, order, VOCAB_SIZE).probabilities(context)
    assert p.dtype == np.float64 and p.shape == (VOCAB_SIZE,)
    wanted = [exact(training_text, order, VOCAB_SIZE, context, c) for c in range(VOCAB_SIZE)]
    assert p == relative_to(wanted)


@given(training_text=TRAINING_TEXTS, order=ORDERS, text=TEXTS)
def test_a_text_is_scored_by_the_formula(training_text, order, text):
    model = NGramModel(training_text, order, VOCAB_SIZE)
    wanted = [
        exact(training_text, order, VOCAB_SIZE, text[:i], text[i]) for i in range(1, len(text))
    ]
    log_p = model.log_probabilities(text)
    assert log_p.dtype == np.float64 and log_p.shape == (len(text) - 1,)
    assert np.exp(log_p) == relative_to(wanted)
    assert model.loss(text) == pytest.approx(-sum(map(math.log, wanted)) / len(wanted))


@given(training_text=TRAINING_TEXTS, text=TEXTS, max_order=ORDERS)
def test_choose_order_is_every_order_by_itself(training_text, text, max_order):
    best, losses = choose_order(training_text, text, VOCAB_SIZE, max_order)
    assert losses == [
        (order, NGramModel(training_text, order, VOCAB_SIZE).loss(text))
        for order in range(1, max_order + 1)
    ]
    least = min(loss for _, loss in losses)
    assert best == min(order for order, loss in losses if loss == least)


def test_by_hand():
    # 0 occurs twice, 1 and 2 once, 3 never; after 0 comes 1 or 2, after 1 always 0
    text, vocab_size = [0, 1, 0, 2], 4
    # The text is short, so the discount of 1 is 0.5, and that of 2 is 1.
    occurrences = [(1 + 2 / 4) / 4, (0.5 + 2 / 4) / 4, (0.5 + 2 / 4) / 4, 2 / 4 / 4]
    assert NGramModel(text, 1, vocab_size).probabilities([0]) == pytest.approx(occurrences)
    # 0 follows only 1; 1 and 2 follow only 0
    continuations = [(0.5 + 1.5 / 4) / 3] * 3 + [1.5 / 4 / 3]
    model = NGramModel(text, 2, vocab_size)
    half = [c / 2 for c in continuations]
    after_0 = [half[0], 0.5 / 2 + half[1], 0.5 / 2 + half[2], half[3]]
    assert model.probabilities([0]) == pytest.approx(after_0)
    assert model.probabilities([3, 1]) == pytest.approx([0.5 + half[0], *half[1:]])
    for unseen in ([], [2], [3]):  # 2 occurs only at the end
        assert model.probabilities(unseen) == pytest.approx(continuations)


def test_discounts_come_from_the_counts():
    # Of the tokens, 5 occur once, 3 twice, 2 three times and 1 four times.
    counts = [1] * 5 + [2] * 3 + [3] * 2 + [4]
    text = [token for token, count in enumerate(counts) for _ in range(count)]
    y = 5 / (5 + 2 * 3)
    d = [1 - 2 * y * 3 / 5, 2 - 3 * y * 2 / 3, 3 - 4 * y * 1 / 2]
    freed = 5 * d[0] + 3 * d[1] + 3 * d[2]
    p = NGramModel(text, 1, 12).probabilities([])
    kept = [count - d[min(count, 3) - 1] for count in counts] + [0]
    assert p == pytest.approx([(k + freed / 12) / len(text) for k in kept])


@given(training_text=TRAINING_TEXTS, order=ORDERS, context=CONTEXTS)
def test_probabilities_sum_to_1(training_text, order, context):
    p = NGramModel(training_text, order, VOCAB_SIZE).probabilities(context)
    assert p.min() > 0 and p.sum() == pytest.approx(1, rel=1e-12)


def test_loss_on_a_periodic_text_falls_toward_0_with_the_order():
    text = [0, 0, 0, 1, 0, 2] * 1000
    losses = [NGramModel(text, order, 3).loss(text) for order in range(1, 7)]
    half, sixth = math.log(2) / 2, math.log(6) / 6
    entropies = [4 / 6 * math.log(6 / 4) + 2 * sixth, 4 / 6 * 3 * half, 2 / 6 * 2 * half, 0, 0, 0]
    assert losses == pytest.approx(entropies, abs=0.01)


def test_probabilities_below_the_smallest_float_have_a_logarithm():
    order, length = 1100, 1200
    log_p = NGramModel([0] * length, order, 2).log_probabilities([0] * order + [1])[-1]
    # In a lower order, each n-gram follows only itself: a count of 1, of which half is kept.
    highest = math.log(1.5 / (length - order + 1))
    wanted = highest - (order - 1) * math.log(2) - math.log(2)
    assert log_p == pytest.approx(wanted) and wanted < math.log(5e-324)


@given(training_text=TRAINING_TEXTS, text=TEXTS)
def test_size_of_the_vocabulary_has_no_limit(training_text, text):
    tokens = [0, 10**6, 10**9, 2**40, 2**53]
    training_text, text = ([tokens[i] for i in indices] for indices in (training_text, text))
    log_p = NGramModel(training_text, 9, 2**60).log_probabilities(text)
    wanted = [exact(training_text, 9, 2**60, text[:i], text[i]) for i in range(1, len(text))]
    assert np.exp(log_p) == relative_to(wanted)


@given(training_text=TRAINING_TEXTS, order=ORDERS, text=TEXTS)
def test_lists_and_arrays_are_alike(training_text, order, text):
    wanted = NGramModel(training_text, order, VOCAB_SIZE)
    for dtype in (np.uint8, np.int32, np.float32):
        model = NGramModel(np.array(training_text, dtype), order, VOCAB_SIZE)
        given_text = np.array(text, dtype)
        assert (model.log_probabilities(given_text) == wanted.log_probabilities(text)).all()
        assert (model.probabilities(given_text) == wanted.probabilities(text)).all()


def test_tinyshakespeare(book_dir):
    indices, vocab = load_corpus(
        str(book_dir / "tinyshakespeare.txt"), lower=False, fold_whitespace=False
    )
    start = len(indices) * 9 // 10
    best, losses = choose_order(indices[:start], indices[start:], len(vocab), max_order=7)
    assert best == 7
    wanted = [3.347306, 2.483522, 2.038116, 1.719051, 1.561163, 1.522623, 1.516504]
    assert [loss for _, loss in losses] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    "given_text, told",
    [
        ([], "must have at least 2 tokens, not 0"),
        ([0, 1, 5], "[2] is 5: it must be a whole number from 0 to 4"),
        ("01", "must be one row of token indices, such as vocab[list(text)], not str"),
    ],
)
def test_invalid_texts_are_refused(given_text, told):
    def refused(call, name):
        with pytest.raises(ValueError) as caught:
            call()
        message = str(caught.value)
        assert message == name + (told if told.startswith("[") else " " + told)

    model = NGramModel([0, 1], 2, 5)
    refused(lambda: NGramModel(given_text, 2, 5), "corpus_indices")
    refused(lambda: model.loss(given_text), "corpus_indices")
    refused(lambda: model.log_probabilities(given_text), "corpus_indices")
    refused(lambda: choose_order(given_text, [0, 1], 5), "train_indices")
    refused(lambda: choose_order([0, 1], given_text, 5), "valid_indices")
    if "at least 2" not in told:  # a context may be short
        refused(lambda: model.probabilities(given_text), "context")


@pytest.mark.parametrize("value", [0, 2.0])
def test_invalid_sizes_are_refused(value):
    def refused(call, name):
        with pytest.raises(ValueError) as caught:
            call()
        wanted = f"{name} must be a whole number of at least 1, not {value!r}"
        assert str(caught.value) == wanted

    refused(lambda: NGramModel([0, 0], value, 1), "order")
    refused(lambda: NGramModel([0, 0], 1, value), "vocab_size")
    refused(lambda: choose_order([0, 0], [0, 0], value), "vocab_size")
    refused(lambda: choose_order([0, 0], [0, 0], 1, value), "max_order")
