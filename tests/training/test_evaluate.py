"""The loss of a text equals its closed form; each character is scored once."""

from __future__ import annotations

import math

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import gluon, init, mx, nd
from d2l_deeprnn.generation.generate import generate
from d2l_deeprnn.training import evaluate as module
from d2l_deeprnn.training.evaluate import NUM_STEPS, WARM_UP, Evaluation, evaluate

BATCH_SIZES = [1, 2, 3, 7, 32, 1000]
# Around the lengths at which the number of minibatches or rows changes.
LENGTHS = [2, 3, 256, 257, 258, 512, 513, 514, 1025, 1026, 1537, 1539, 3700]
VOCAB_SIZE = 11


class Known:
    """A model with known probabilities; its state is one number per row.

    ``follow(state, char)`` gives the state after a character, ``score(state, char)`` the
    logarithms of the probabilities after it, by the state before it.
    """

    def __init__(self, score, follow=lambda state, char: state, layout="NC"):
        self.score, self.follow, self.rnn, self.layout = score, follow, self, layout

    def state_info(self, batch_size=0):
        shape = tuple({"N": batch_size, "L": 1, "C": 1}[axis] for axis in self.layout)
        return [{"shape": shape, "__layout__": self.layout}]

    def begin_state(self, batch_size, ctx):
        return [nd.zeros(self.state_info(batch_size)[0]["shape"], ctx=ctx)]

    def __call__(self, inputs, state):
        (numbers,) = state
        assert numbers.shape == self.state_info(len(inputs))[0]["shape"]
        current, scores = numbers.asnumpy().reshape(-1).astype(int), []
        for column in inputs.asnumpy().astype(int).T:
            scores.append(self.score(current, column))
            current = self.follow(current, column)
        # (columns * rows, vocab_size)
        return nd.array(np.concatenate(scores)), [nd.array(current).reshape(numbers.shape)]

    def loss(self, text):
        """Return the sum over all characters except the first."""
        states = [np.zeros(1, dtype=int)]
        for char in text[:-2, None]:
            states.append(self.follow(states[-1], char))
        scores = self.score(np.concatenate(states), text[:-1])
        return -scores[np.arange(len(scores)), text[1:]].sum()


def assert_exact(model, text, batch_sizes=BATCH_SIZES):
    loss = model.loss(text)
    for batch_size in batch_sizes:
        nats, num_chars = evaluate(model, text, batch_size=batch_size)
        assert num_chars == len(text) - 1
        # Less than the loss of any character; more than MXNet's rounding errors.
        assert abs(nats * num_chars - loss) < 0.1, batch_size


def random_text(length, least=0):
    return np.random.RandomState(length).randint(least, VOCAB_SIZE, length)


def random_table(*shape):
    """Return logarithms of probabilities, all different."""
    table = np.random.RandomState(0).uniform(0, 3, shape)
    return table - np.log(np.exp(table).sum(axis=-1, keepdims=True))


def bigrams():
    table = random_table(VOCAB_SIZE, VOCAB_SIZE)
    return Known(lambda state, char: table[char])


def trigrams(layout="NC"):
    """The state is the previous character, or 0, which does not occur in the texts."""
    table = random_table(VOCAB_SIZE, VOCAB_SIZE, VOCAB_SIZE)
    return Known(lambda state, char: table[state, char], lambda state, char: char, layout)


def counter(period, layout="NC"):
    """Predict the next character of a cycle with a certainty that depends on the state.

    The state counts the characters read. It stops at the length of the warm-up, after which a
    row that did not begin at the text's beginning knows as much as one that did.
    """
    most = module.WARM_UP
    certainty = np.linspace(0.2, 0.8, most + 1)

    def score(state, char):
        p = certainty[state]
        others = np.log((1 - p) / (period - 1))
        scores = np.repeat(others[:, None], period, axis=1)
        scores[np.arange(len(char)), (char + 1) % period] = np.log(p)
        return scores

    return Known(score, lambda state, char: np.minimum(state + 1, most), layout)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_uniform_model_loses_log_vocab_size(length):
    model = Known(lambda state, char: np.zeros((len(char), VOCAB_SIZE)))
    for batch_size in BATCH_SIZES:
        result = evaluate(model, random_text(length), batch_size=batch_size)
        assert result.num_chars == length - 1
        assert result.nats == pytest.approx(math.log(VOCAB_SIZE), rel=1e-5)
        assert result.perplexity == pytest.approx(VOCAB_SIZE, rel=1e-4)


@pytest.mark.parametrize("length", LENGTHS)
def test_each_character_is_scored_once_by_the_one_before(length):
    assert_exact(bigrams(), random_text(length))


@pytest.mark.parametrize("layout", ["NC", "LNC"])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_state_is_carried_through(length, layout):
    assert_exact(trigrams(layout), random_text(length, least=1))


@pytest.mark.parametrize("length", LENGTHS)
def test_the_state_is_that_of_all_characters_or_of_512(length):
    assert_exact(counter(5), np.arange(length) % 5)


@pytest.mark.parametrize("warm_up, num_steps", [(1, 2), (2, 3), (3, 2)])
def test_every_division_into_rows_and_minibatches_scores_each_once(monkeypatch, warm_up, num_steps):
    monkeypatch.setattr(module, "WARM_UP", warm_up)
    monkeypatch.setattr(module, "NUM_STEPS", num_steps)
    for length in (2, 3, 4, 5, 7, 8, 11, 12, 16, 17, 23):
        assert_exact(trigrams("LNC"), random_text(length, least=1), [1, 2, 5, 8])
        assert_exact(counter(3), np.arange(length) % 3, [1, 2, 5, 8])


@pytest.mark.parametrize("vocab_size", [None, VOCAB_SIZE])
def test_a_large_vocabulary_gets_fewer_columns_and_the_same_loss(monkeypatch, vocab_size):
    text, model, shapes = random_text(5000), bigrams(), []
    expected = evaluate(model, text)
    monkeypatch.setattr(module, "NUM_SCORES", 8 * 5 * VOCAB_SIZE)
    monkeypatch.setattr(Known, "vocab_size", vocab_size, raising=False)
    call = Known.__call__

    def note(self, inputs, state):
        shapes.append(inputs.shape)
        return call(self, inputs, state)

    monkeypatch.setattr(Known, "__call__", note)
    found = evaluate(model, text, batch_size=8)
    assert found.num_chars == expected.num_chars
    assert found.nats == pytest.approx(expected.nats, rel=1e-5)
    assert max(rows * columns for rows, columns in shapes) == 8 * 5


def test_rows_that_would_begin_beyond_the_end():
    """530 rows with one character more than the warm-up would exceed the text."""
    model, text = bigrams(), random_text(530 * WARM_UP + 2)
    result = evaluate(model, text, batch_size=530)
    assert result.nats == pytest.approx(model.loss(text) / (len(text) - 1), rel=1e-5)


def test_a_short_text_gets_fewer_rows():
    seen = []
    model = bigrams()
    begin = model.begin_state
    model.begin_state = lambda batch_size, ctx: seen.append(batch_size) or begin(batch_size, ctx)
    for length in 2, 2 * WARM_UP, 2 * WARM_UP + 1, 5 * WARM_UP + 1, 9 * WARM_UP:
        evaluate(model, random_text(length), batch_size=5)
    assert seen == [1, 1, 2, 5, 5]


def small_model():
    d2l.set_seed(1)
    model = d2l.RNNModel(gluon.rnn.LSTM(8, 2), VOCAB_SIZE)
    model.initialize(init.Normal(0.7), ctx=mx.cpu())
    return model


def test_one_row_is_a_plain_loop():
    model, text = small_model(), random_text(NUM_STEPS + 50)
    state, total = model.begin_state(batch_size=1, ctx=mx.cpu()), 0.0
    for char, target in zip(text[:-1], text[1:]):
        scores, state = model(nd.array([[char]]), state)
        total -= nd.log_softmax(scores)[0, int(target)].asscalar()
    result = evaluate(model, text, batch_size=1)
    assert result.nats == pytest.approx(total / (len(text) - 1), rel=1e-5)


def cells():
    stack = gluon.rnn.SequentialRNNCell()
    stack.add(gluon.rnn.LSTMCell(5))
    stack.add(gluon.rnn.GRUCell(4))
    return stack


@pytest.mark.parametrize(
    "layer, length",
    [
        (lambda: gluon.rnn.LSTM(8, 2), 8 * WARM_UP + 3),
        (lambda: gluon.rnn.GRU(8), 8 * WARM_UP + 3),
        (lambda: d2l.StackedRNN("lstm", 8, 2, 0.5, VOCAB_SIZE), 8 * WARM_UP + 3),
        (cells, 2 * WARM_UP + 3),
    ],
)
def test_several_rows_change_little(layer, length):
    d2l.set_seed(1)
    model = d2l.RNNModel(layer(), VOCAB_SIZE)
    model.initialize(init.Normal(0.7), ctx=mx.cpu())
    text = random_text(length)
    alone = evaluate(model, text, mx.cpu(), batch_size=1)
    assert evaluate(model, text, mx.cpu(), batch_size=8).nats == pytest.approx(alone.nats, rel=1e-3)


def test_a_list_and_an_array_are_the_same():
    text = random_text(300)
    assert evaluate(small_model(), text.tolist()) == evaluate(small_model(), text)


def test_bits_and_perplexity():
    assert Evaluation(math.log(8), 5).bits == pytest.approx(3)
    assert Evaluation(math.log(8), 5).perplexity == pytest.approx(8)
    assert Evaluation(1e4, 5).perplexity == math.inf


@pytest.mark.parametrize("text", [[], [3]])
def test_a_text_too_short_to_score(text):
    message = f"the text has {len(text)} characters, but scoring needs at least 2"
    with pytest.raises(ValueError, match=message):
        evaluate(bigrams(), text)


@pytest.mark.parametrize("batch_size", [0, 1.0])
def test_batch_size_must_be_positive(batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be .* at least 1, not {batch_size}"):
        evaluate(bigrams(), [1, 2, 3], batch_size=batch_size)


class Scores:
    """A model that always returns the same scores."""

    def __init__(self, scores, dtype="float32"):
        self.scores = np.array(scores, dtype)

    def begin_state(self, batch_size, ctx):
        return []

    def __call__(self, inputs, state):
        return nd.array(np.tile(self.scores, (inputs.size, 1)), dtype=self.scores.dtype), state


@pytest.mark.parametrize("batch_size", [1, 32])
def test_scores_of_half_precision_are_summed_in_single_precision(batch_size):
    indices = np.arange(3000)
    result = evaluate(Scores(np.zeros(3000), "float16"), indices, batch_size=batch_size)
    assert result.perplexity == pytest.approx(3000, rel=1e-5)


def test_an_unscored_character_may_be_impossible():
    model = Scores([-math.inf, 0.0, 0.0])
    assert evaluate(model, [1, 0, 2, 1], unscored=[0]).perplexity == pytest.approx(2, rel=1e-5)
    assert evaluate(model, [1, 0, 2, 1]).nats == math.inf


def test_greedy_decoding_of_half_precision_reaches_every_character():
    vocab = d2l.Vocab.from_tokens(["<unk>", *map(chr, range(1000, 4000))])
    for index in (2047, 2049, 2999):
        scores = np.zeros(len(vocab))
        scores[index] = 1
        expected = vocab.to_tokens(2047) + 2 * vocab.to_tokens(index)
        model, beginning = Scores(scores, "float16"), vocab.to_tokens(2047)
        assert d2l.predict_rnn_gluon(beginning, 2, model, vocab, mx.cpu()) == expected
        assert generate(model, vocab, [beginning], 2, ctx=mx.cpu()) == [expected]
