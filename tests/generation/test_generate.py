"""Greedy decoding and sampling: exact, with a model that scores by a table."""

import math
import random
import warnings

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import gluon, mx, nd
from d2l_deeprnn.generation.generate import generate
from d2l_deeprnn.text.vocab import Vocab

VOCAB = Vocab("aaaabbbccd")  # <unk> a b c d
# Probabilities of the next character after each; <unk> is likely, and never to be written.
TABLE = np.array(
    [
        [0.2, 0.2, 0.2, 0.2, 0.2],
        [0.50, 0.05, 0.30, 0.10, 0.05],
        [0.10, 0.10, 0.10, 0.60, 0.10],
        [0.05, 0.05, 0.05, 0.05, 0.80],
        [0.10, 0.40, 0.30, 0.15, 0.05],
    ]
)


class TableModel:
    """Scores by the table; its state counts the characters that it was given."""

    def __call__(self, inputs, state):
        scores = np.log(TABLE)[inputs.asnumpy().astype(int)[:, -1]]
        return nd.array(scores), [state[0] + inputs.shape[1]]

    def begin_state(self, batch_size, ctx):
        return [nd.zeros((1, batch_size, 1))]


def written(prefixes, num_chars, **options):
    return generate(TableModel(), VOCAB, prefixes, num_chars, **options)


def real(layer, seed=0):
    d2l.set_seed(seed)
    vocab = Vocab("abcdefghij")
    model = d2l.RNNModel(layer, len(vocab))
    model.initialize(mx.init.Normal(1))
    return model, vocab


def cells():
    stack = gluon.rnn.SequentialRNNCell()
    stack.add(gluon.rnn.LSTMCell(6))
    stack.add(gluon.rnn.GRUCell(6))
    return stack


LAYERS = {
    "lstm": lambda: gluon.rnn.LSTM(6, num_layers=2),
    "gru": lambda: gluon.rnn.GRU(6),
    "cells": cells,
    "stacked": lambda: d2l.StackedRNN("lstm", 6, 2, 0.5, 11),
}


def test_greedy_takes_the_most_likely_character():
    assert written(["a", "bc"], 6) == ["abcdabc", "bcdabcda"]


@pytest.mark.parametrize("kind", LAYERS)
def test_greedy_is_the_chapters_prediction(kind):
    for seed in range(5):
        model, vocab = real(LAYERS[kind](), seed)
        model.hybridize(static_alloc=True, static_shape=True)
        expected = d2l.predict_rnn_gluon("abc", 40, model, vocab, mx.cpu())
        if "<unk>" not in expected:
            assert generate(model, vocab, ["abc"], 40) == [expected]
            return
    pytest.fail("no seed without <unk>")


@pytest.mark.parametrize("kind", [tuple, iter, dict.fromkeys])
def test_prefixes_may_be_any_iterable(kind):
    assert written(kind(["a", "bc"]), 6) == ["abcdabc", "bcdabcda"]


def test_scores_for_another_vocabulary_are_an_error():
    vocab = Vocab("abcdef")
    with pytest.raises(ValueError, match=r"scores of shape \(1, 5\) .* vocabulary has 7"):
        generate(TableModel(), vocab, ["a"], 5)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("hybridized", [False, True])
def test_a_batch_is_each_prefix_alone(kind, hybridized):
    model, vocab = real(LAYERS[kind]())
    if hybridized:
        model.hybridize(static_alloc=True, static_shape=True)
    prefixes = ["a", "bcdef", "gh"]
    together = generate(model, vocab, prefixes, 30)
    assert together == [generate(model, vocab, [prefix], 30)[0] for prefix in prefixes]
    drawn = generate(model, vocab, prefixes, 30, temperature=1, seed=3)
    assert drawn[0] == generate(model, vocab, prefixes[:1], 30, temperature=1, seed=3)[0]


def counted(**options):
    """Count which characters follow an a, in 4,000 characters."""
    texts = written(["a"] * 40, 100, seed=0, **options)
    after = [b for text in texts for a, b in zip(text, text[1:]) if a == "a"]
    return np.array([after.count(token) for token in VOCAB.idx_to_token[1:]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_characters_are_drawn_with_their_probabilities(temperature):
    p = TABLE[1, 1:] ** (1 / temperature)
    p /= p.sum()
    found = counted(temperature=temperature)
    expected = p * found.sum()
    # 3 degrees of freedom: a value above 16.3 has a probability of 0.001, and the seed is fixed
    assert ((found - expected) ** 2 / expected).sum() < 16.3


@pytest.mark.parametrize(
    "options, allowed",
    [
        ({"top_k": 1}, "b"),
        ({"top_k": 2}, "bc"),
        ({"top_k": 99}, "abcd"),
        ({"top_p": 0.01}, "b"),
        ({"top_p": 0.59}, "b"),  # b alone has 0.6 of what is not <unk>
        ({"top_p": 0.61}, "bc"),
        ({"top_p": 1.0}, "abcd"),
        ({"top_k": 2, "top_p": 0.74}, "b"),  # of b and c together, b has 0.75
    ],
)
def test_only_the_most_likely_are_drawn(options, allowed):
    found = counted(temperature=1.0, **options)
    assert {token for token, n in zip("abcd", found) if n} == set(allowed)


def test_a_seed_gives_the_same_text_and_touches_no_other_generator():
    random.seed(1), np.random.seed(1), mx.random.seed(1)
    expected = random.random(), np.random.rand(), nd.random.uniform().asscalar()
    random.seed(1), np.random.seed(1), mx.random.seed(1)
    texts = {written(["a"], 50, temperature=1, seed=5)[0] for _ in range(3)}
    assert len(texts) == 1
    assert texts != set(written(["a"], 50, temperature=1, seed=6))
    assert (random.random(), np.random.rand(), nd.random.uniform().asscalar()) == expected
    assert len({written(["a"], 50, temperature=1)[0] for _ in range(3)}) == 3


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 0}])
@pytest.mark.parametrize("num_chars", [0, 1, 15, 16, 17, 40])
def test_on_text_gets_all_parts_in_order(options, num_chars):
    pieces = {0: "a", 1: "bc"}

    def add(row, piece):
        pieces[row] += piece

    texts = written(["a", "bc"], num_chars, on_text=add, **options)
    assert texts == [pieces[0], pieces[1]]
    assert [len(text) for text in texts] == [1 + num_chars, 2 + num_chars]


def test_numbers_too_small_are_no_error_even_if_numpy_raises_errors():
    with np.errstate(all="raise"):
        written(["a"], 5, temperature=0.001, seed=0)


def test_a_small_temperature_is_nearly_greedy():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for temperature in [1e-6, 1e-307, 5e-324]:
            assert written(["a"], 20, temperature=temperature, seed=0) == written(["a"], 20)


def test_each_row_draws_for_itself():
    rows = written(["a"] * 10, 20, temperature=1, seed=0)
    assert len(set(rows)) == 10


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_an_error(options, value):
    model, vocab = real(gluon.rnn.LSTM(6))
    generate(model, vocab, ["a"], 1)  # shapes are known after this
    single = nd.zeros(len(vocab))
    single[5] = value
    for bias in (nd.full(len(vocab), value), single):
        model.dense.bias.set_data(bias)
        with pytest.raises(ValueError, match="not finite: training diverged"):
            generate(model, vocab, ["a"], 40, **options)


def test_another_vocabulary_is_an_error():
    model, _ = real(gluon.rnn.LSTM(6))
    with pytest.raises(ValueError, match="made for 11 characters, but the vocabulary has 5"):
        generate(model, VOCAB, ["a"], 1)


@pytest.mark.parametrize(
    "prefixes, num_chars, options, error, words",
    [
        ("a", 1, {}, TypeError, r"prefixes must be a list of strings: \['a'\], not 'a'"),
        ([], 1, {}, ValueError, "prefixes is empty"),
        ([""], 1, {}, ValueError, r"prefixes contains an empty string: \[''\]"),
        (["aé%"], 1, {}, ValueError, r"not in the vocabulary: \['%', 'é' .*\] in prefix 'aé%'"),
        (["a"], -1, {}, ValueError, "num_chars must be a whole number of at least 0, not -1"),
        (["a"], 1, {"temperature": -1}, ValueError, "temperature .* at least 0, not -1"),
        (["a"], 1, {"temperature": math.nan}, ValueError, "temperature .* not nan"),
        (["a"], 1, {"temperature": math.inf}, ValueError, "temperature .* not inf"),
        (["a"], 1, {"temperature": 1, "top_k": 0}, ValueError, "top_k .* not 0"),
        (["a"], 1, {"temperature": 1, "top_p": 0}, ValueError, "top_p .* not 0"),
        (["a"], 1, {"temperature": 1, "top_p": 1.5}, ValueError, "top_p .* not 1.5"),
        (["a"], 1, {"top_k": 3}, ValueError, "need a temperature above 0"),
        (["a"], 1, {"temperature": "1"}, ValueError, "temperature .* not '1'"),
        (["a"], 1, {"temperature": True}, ValueError, "temperature .* not True"),
        (["a"], 1, {"temperature": 1, "top_p": "1"}, ValueError, "top_p .* not '1'"),
        (["a"], 1, {"temperature": 1, "seed": -1}, ValueError, "seed .* not -1"),
        (["a"], 1, {"temperature": 1, "seed": True}, ValueError, "seed .* not True"),
        ([1], 1, {}, TypeError, "prefixes must contain only strings, not 1"),
        ([["a", "b"]], 1, {}, TypeError, r"prefixes must contain only strings, not \['a', 'b'\]"),
        (None, 1, {}, TypeError, "prefixes must be a list of strings, not None"),
        (["a"], 1, {"stop": None}, TypeError, "stop must be a list of strings, not None"),
        ([None], 1, {}, TypeError, "prefixes must contain only strings, not None"),
    ],
)
def test_errors_name_the_argument(prefixes, num_chars, options, error, words):
    with pytest.raises(error, match=words):
        written(prefixes, num_chars, **options)


def test_a_row_ends_with_the_first_stop_text_that_was_added_to_it():
    # The prefixes hold the stop texts too: only what was added counts.
    prefixes, whole = ["a", "cd", "dab"], ["abcdabcdabcd", "cdabcdabcdabc", "dabcdabcdabcda"]
    assert written(prefixes, 11) == whole
    for stop, expected in [
        ("d", ["abcd", "cdabcd", "dabcd"]),
        ("cda", ["abcda", "cdabcda", "dabcda"]),
        (["cdabcd", "bcda"], ["abcda", "cdabcda", "dabcdabcd"]),
        (("bb", "da"), ["abcda", "cdabcda", "dabcda"]),
        ("bb", whole),
    ]:
        assert written(prefixes, 11, stop=stop) == expected


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_stop_text_changes_nothing_before_it_and_ends_decoding(temperature, monkeypatch):
    steps, shown, step = [], {0: "", 1: ""}, TableModel.__call__
    monkeypatch.setattr(TableModel, "__call__", lambda *given: steps.append(1) or step(*given))
    drawn = {"temperature": temperature, "seed": 2}
    whole = written(["a", "cd"], 500, **drawn)
    assert len(steps) == 501

    def show(row, piece):
        shown[row] += piece

    steps.clear()
    texts = written(["a", "cd"], 500, stop="dab", on_text=show, **drawn)
    assert len(steps) < 100
    for row, prefix in enumerate(["a", "cd"]):
        end = whole[row].index("dab", len(prefix)) + 3
        assert texts[row] == whole[row][:end] == prefix + shown[row]


@pytest.mark.parametrize(
    "stop, error, words",
    [
        ("\n", ValueError, r"not in the vocabulary: \['\\n'\] in stop text '\\n'"),
        (["a", ""], ValueError, r"stop contains an empty string: \['a', ''\]"),
        ([1], TypeError, "stop must contain only strings, not 1"),
    ],
)
def test_impossible_stop_texts_are_errors(stop, error, words):
    with pytest.raises(error, match=words):
        written(["a"], 5, stop=stop)
