"""The minibatch iterators equal the original's and follow their definition."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import d2l_deeprnn as d2l
from d2l_deeprnn.text import minibatches
from d2l_deeprnn.text.minibatches import check_length

NAMES = ["data_iter_consecutive", "data_iter_random"]


def run(library, name, seed, indices, batch_size, num_steps, **kwargs):
    random.seed(seed)
    batches = getattr(library, name)(indices, batch_size, num_steps, **kwargs)
    return [(X.asnumpy(), Y.asnumpy()) for X, Y in batches]


@pytest.mark.parametrize("name", NAMES)
def test_equal_to_the_original(original, name):
    for seed in range(5):
        indices = list(np.random.randint(0, 44, size=333))
        theirs = run(original, name, seed, indices, 4, 7)
        drawn = random.random()  # the next epoch's offset depends on it
        ours = run(d2l, name, seed, indices, 4, 7)
        assert random.random() == drawn
        assert len(ours) == len(theirs) > 5
        np.testing.assert_array_equal(ours, theirs)


sizes = dict(
    length=st.integers(1, 400),
    batch_size=st.integers(1, 9),
    num_steps=st.integers(1, 9),
    seed=st.integers(0, 10**6),
)


@settings(max_examples=60)
@given(**sizes)
def test_consecutive_minibatches_spell_the_text(length, batch_size, num_steps, seed):
    text = list(range(length))  # each index is its own position
    try:
        batches = run(d2l, "data_iter_consecutive", seed, text, batch_size, num_steps)
    except ValueError as error:
        assert f"the text to train on has {length:,} characters" in str(error)
        assert length < batch_size * (num_steps + 1) + num_steps - 1
        return
    for X, Y in batches:
        assert X.shape == Y.shape == (batch_size, num_steps)
        np.testing.assert_array_equal(Y, X + 1)
    rows = np.concatenate([X for X, _ in batches], axis=1)
    # Row by row the text itself; every row continues the one above.
    np.testing.assert_array_equal(rows, rows[:, :1] + np.arange(rows.shape[1]))
    row_starts = rows[:, 0]
    assert 0 <= row_starts[0] < num_steps
    assert len(set(np.diff(row_starts))) <= 1
    # Only the offset, the end of each row, and the rest of the text are dropped.
    row_length = (length - int(row_starts[0])) // batch_size
    assert rows.shape[1] > row_length - 1 - num_steps


@settings(max_examples=60)
@given(**sizes)
def test_random_minibatches_have_examples_of_the_text(length, batch_size, num_steps, seed):
    text = list(range(length))
    try:
        batches = run(d2l, "data_iter_random", seed, text, batch_size, num_steps)
    except ValueError as error:
        assert f"the text to train on has {length:,} characters" in str(error)
        assert length < (batch_size + 2) * num_steps
        return
    starts = []
    for X, Y in batches:
        np.testing.assert_array_equal(Y, X + 1)
        np.testing.assert_array_equal(X, X[:, :1] + np.arange(num_steps))
        starts += [int(start) for start in X[:, 0]]
    assert len(set(starts)) == len(starts)  # no example twice
    assert len({start % num_steps for start in starts}) == 1  # one grid, one offset


@pytest.mark.parametrize("name, needed", [(NAMES[0], 4 * 8), (NAMES[1], 5 * 7 + 1)])
def test_shortest_text_for_every_offset(name, needed):
    """At the length that check_length names there is one minibatch; one less is an error."""
    for seed in range(30):
        random.seed(seed)
        offset = int(random.uniform(0, 7))
        assert len(run(d2l, name, seed, list(range(needed + offset)), 4, 7)) == 1
        with pytest.raises(ValueError, match=f"need at least {needed + offset}: give"):
            run(d2l, name, seed, list(range(needed + offset - 1)), 4, 7)
    check_length(needed + 6, 4, 7, adjacent=name == NAMES[0])
    with pytest.raises(ValueError):
        check_length(needed + 5, 4, 7, adjacent=name == NAMES[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes, named", [((0, 5), "batch_size"), ((4, -1), "num_steps")])
def test_bad_sizes_are_named(name, sizes, named):
    with pytest.raises(ValueError, match=f"{named} must be a whole number of at least 1"):
        getattr(d2l, name)(list(range(100)), *sizes)


@pytest.mark.parametrize("block", [1, 12, 13, 60, 2**22])
def test_text_copied_block_by_block_is_the_same(original, monkeypatch, block):
    """A block has one minibatch, several, or all, and the last one may have fewer."""
    monkeypatch.setattr(minibatches, "BLOCK", block)
    theirs = run(original, NAMES[0], 1, list(range(333)), 3, 4)
    np.testing.assert_array_equal(run(d2l, NAMES[0], 1, range(333), 3, 4), theirs)
    random.seed(1)
    batches = d2l.data_iter_consecutive(range(333), 3, 4)
    batches.position = 7  # into the middle of a block, as a resumed run does
    np.testing.assert_array_equal([X.asnumpy() for X, _ in batches], [X for X, _ in theirs[7:]])


def test_large_text_is_not_copied_to_the_device_at_once(monkeypatch):
    monkeypatch.setattr(minibatches, "BLOCK", 100)
    sizes = []
    array = minibatches.nd.array

    def record_size(values, **kwargs):
        sizes.append(np.size(values))
        return array(values, **kwargs)

    monkeypatch.setattr(minibatches.nd, "array", record_size)
    assert len(run(d2l, NAMES[0], 0, range(10**4), 4, 5)) > 490
    assert max(sizes) <= 4 * (25 + 1) and len(sizes) == -(-499 // 5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("block", [1, 30])
def test_processes_share_the_rows_of_a_minibatch(monkeypatch, name, block):
    monkeypatch.setattr(minibatches, "BLOCK", block)
    whole = run(d2l, name, 5, range(300), 5, 4)
    drawn = random.random()
    parts = []
    for rows in range(2), range(2, 3), range(3, 5):
        parts.append(run(d2l, name, 5, range(300), 5, 4, rows=rows))
        assert random.random() == drawn
        assert parts[-1][0][0].shape == parts[-1][0][1].shape == (len(rows), 4)
    assert len(whole) > 10
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), whole)


@pytest.mark.parametrize("name", NAMES)
def test_invalid_rows(name):
    before = random.getstate()
    for rows in range(0), range(4, 6), range(-1, 2), range(0, 4, 2), [0, 1], 2, True:
        error = ValueError if isinstance(rows, range) else TypeError
        with pytest.raises(error, match=r"rows must be a range within range\(5\), such as .*, not"):
            getattr(d2l, name)(range(300), 5, 4, rows=rows)
    assert random.getstate() == before


def test_to_onehot_equals_the_original(original_train):
    from d2l_deeprnn._mxnet import nd

    X = nd.array([[0, 2, 1], [3, 3, 0]])
    ours, theirs = d2l.to_onehot(X, 4), original_train.to_onehot(X, 4)
    assert [x.shape for x in ours] == [(2, 4)] * 3
    for our_x, their_x in zip(ours, theirs):
        np.testing.assert_array_equal(our_x.asnumpy(), their_x.asnumpy())
    np.testing.assert_array_equal(ours[1].asnumpy(), [[0, 0, 1, 0], [0, 0, 0, 1]])
