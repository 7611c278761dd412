"""The vocabulary, by itself and side by side with the original library."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2l_deeprnn.text.vocab import Vocab, describe_unknown, unknown_characters

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]
WORDS = st.lists(st.text(max_size=3) | st.sampled_from(SPECIAL), max_size=60)
TOKENS = st.text(max_size=200) | st.text("ab \u00e9\n", max_size=200) | WORDS


@settings(deadline=None)  # the original's first call is slow
@given(tokens=TOKENS, min_freq=st.integers(0, 4), use_special_tokens=st.booleans(), asked=WORDS)
def test_is_the_original_in_every_attribute(original, tokens, min_freq, use_special_tokens, asked):
    ours = Vocab(tokens, min_freq, use_special_tokens)
    theirs = original.Vocab(tokens, min_freq, use_special_tokens)
    assert vars(ours) == vars(theirs)
    assert len(ours) == len(theirs)
    question = [*tokens, asked, tuple(asked)]
    assert ours[question] == theirs[question]
    every_index = list(range(len(theirs)))
    assert ours.to_tokens(every_index) == theirs.to_tokens(every_index)


def test_tokens_stand_by_falling_frequency_then_by_token():
    assert Vocab("cabcbbdd").idx_to_token == ["<unk>", "b", "c", "d", "a"]


def test_token_to_idx_is_the_inverse_of_idx_to_token():
    vocab = Vocab("hello world")
    assert [vocab.token_to_idx[token] for token in vocab.idx_to_token] == list(range(len(vocab)))


def test_special_tokens_have_the_chapters_indices():
    vocab = Vocab("a", use_special_tokens=True)
    assert (vocab.pad, vocab.bos, vocab.eos, vocab.unk) == (0, 1, 2, 3)
    assert vocab.idx_to_token == [*SPECIAL, "a"]


def test_without_special_tokens_there_is_unk_alone():
    vocab = Vocab("")
    assert vocab.unk == 0 and vocab.idx_to_token == ["<unk>"]
    assert not any(hasattr(vocab, name) for name in ("pad", "bos", "eos"))


def test_special_token_in_the_text_is_not_taken_up_twice():
    assert Vocab(["<unk>", "<unk>", "a"]).idx_to_token == ["<unk>", "a"]
    assert Vocab(["<pad>", "a"]).idx_to_token == ["<unk>", "<pad>", "a"]
    assert Vocab(["<pad>", "a"], use_special_tokens=True).idx_to_token == [*SPECIAL, "a"]


def test_min_freq_leaves_out_what_is_rarer():
    vocab = Vocab("aaabbc", min_freq=2)
    assert vocab.idx_to_token == ["<unk>", "a", "b"]
    assert vocab["c"] == vocab.unk


def test_lookup_keeps_nesting_and_maps_the_unknown_to_unk():
    vocab = Vocab("aab", use_special_tokens=True)
    assert vocab["a"] == 4
    assert vocab[["a", ("b", "z"), []]] == [4, [5, 3], []]


@given(st.text(max_size=200))
def test_indices_spell_the_text_again(text):
    vocab = Vocab(text)
    assert "".join(vocab.to_tokens(vocab[list(text)])) == text


@pytest.mark.parametrize("min_freq", [-1, 1.0, 2.5, "1", None, True, float("nan")])
def test_min_freq_must_be_a_non_negative_integer(min_freq):
    with pytest.raises(
        ValueError, match="min_freq must be a whole number of at least 0, not "
    ) as caught:
        Vocab("abc", min_freq=min_freq)
    assert repr(min_freq) in str(caught.value)


@pytest.mark.parametrize("indices, named", [(3, 3), (-1, -1), ([0, 1, 99], 99), ((-4,), -4)])
def test_to_tokens_refuses_an_index_outside_the_table(indices, named):
    with pytest.raises(IndexError, match=f"^index {named} is outside .*: valid are 0 to 2$"):
        Vocab("ab").to_tokens(indices)


def test_to_tokens_refuses_what_is_no_integer():
    with pytest.raises(TypeError, match="float"):
        Vocab("ab").to_tokens(1.0)


@given(tokens=TOKENS, min_freq=st.integers(0, 4))
def test_from_tokens_is_the_vocabulary_again(tokens, min_freq):
    vocab = Vocab(tokens, min_freq)
    assert vars(Vocab.from_tokens(vocab.idx_to_token)) == vars(vocab)


def test_from_tokens_keeps_its_own_list():
    tokens = ["<unk>", "b", "a"]
    vocab = Vocab.from_tokens(tokens)
    tokens.append("c")
    assert vocab.idx_to_token == ["<unk>", "b", "a"] and vocab["c"] == vocab.unk


@pytest.mark.parametrize("tokens", [[], ["a", "<unk>"], SPECIAL])
def test_from_tokens_begins_with_unk(tokens):
    with pytest.raises(ValueError, match="idx_to_token must begin with '<unk>'"):
        Vocab.from_tokens(tokens)


@pytest.mark.parametrize("tokens", [["<unk>", "a", "b", "a"], ["<unk>", "<unk>"]])
def test_from_tokens_refuses_a_token_that_stands_there_twice(tokens):
    with pytest.raises(ValueError, match="idx_to_token contains a token twice"):
        Vocab.from_tokens(tokens)


@pytest.mark.parametrize(
    "known, text, words",
    [
        ("cafe", "cafes", "['s'] in prefix 'cafes'"),
        (
            "caf\u00e9",
            "cafe\u0301",
            r"['e', '\u0301'] in prefix 'cafe" + "\u0301' (U+0301 COMBINING ACUTE ACCENT); the "
            r"vocabulary has composed characters (NFC): write 'caf\u00e9', in a shell $'caf\u00e9'",
        ),
        (
            "cafe\u0301",
            "\u00e9\n",
            "['\\n', '\u00e9'] in prefix '\u00e9\\n' (U+00E9 LATIN SMALL LETTER E WITH ACUTE); the "
            r"vocabulary has decomposed characters (NFD): write 'e\u0301\u000a', in a shell "
            r"$'e\u0301\u000a'",
        ),
        ("cafe", "c\u0430fe", "['\u0430'] in prefix 'c\u0430fe' (U+0430 CYRILLIC SMALL LETTER A)"),
    ],
)
def test_characters_that_look_alike_are_told_apart(known, text, words):
    vocab = Vocab(known)
    assert describe_unknown("prefix", text, vocab) == words
    assert describe_unknown("prefix", known, vocab) == ""


def test_of_many_unknown_characters_some_are_named():
    unknown = unknown_characters([chr(0x4E00 + i) for i in range(100)], Vocab("a"))
    assert unknown.listed.endswith(" and 80 more]") and unknown.names.endswith(" and 95 more)")


ANY_TEXT = st.text(st.characters(), max_size=60) | st.text("ab\0\ud800\uffff\U0001f600\U0010ffff")


@pytest.mark.parametrize("piece", [1, 7, 2**20])
@given(known=ANY_TEXT | WORDS, text=ANY_TEXT, special=st.booleans())
def test_encode_is_the_lookup_of_each_character(piece, known, text, special):
    vocab = Vocab(known, use_special_tokens=special)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("d2l_deeprnn.text.vocab.PIECE", piece)
        assert_encoded(vocab, known, text)


def assert_encoded(vocab, known, text):
    for asked in text, "".join(known) + text:
        indices = vocab.encode(asked)
        assert indices.dtype == np.int32 and indices.shape == (len(asked),)
        assert indices.tolist() == vocab[list(asked)]
