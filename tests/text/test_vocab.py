"""The vocabulary, by itself and compared with the original library."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2l_deeprnn.text.vocab import Vocab, describe_unknown, unknown_characters

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]
WORDS = st.lists(st.text(max_size=3) | st.sampled_from(SPECIAL), max_size=60)
TOKENS = st.text(max_size=200) | st.text("ab \u00e9\n", max_size=200) | WORDS


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


def test_tokens_are_sorted_by_falling_frequency():
    vocab = Vocab("cabcbbdd")
    assert vocab.idx_to_token == ["<unk>", "b", "c", "d", "a"]
    assert [vocab.token_to_idx[token] for token in vocab.idx_to_token] == list(range(len(vocab)))


def test_special_tokens_have_the_chapters_indices():
    vocab = Vocab("aab", use_special_tokens=True)
    assert (vocab.pad, vocab.bos, vocab.eos, vocab.unk) == (0, 1, 2, 3)
    assert vocab.idx_to_token == [*SPECIAL, "a", "b"]
    # Lookup keeps nesting and maps unknown tokens to <unk>.
    assert vocab[["a", ("b", "z"), []]] == [4, [5, 3], []]
    vocab = Vocab("")
    assert vocab.unk == 0 and vocab.idx_to_token == ["<unk>"]
    assert not any(hasattr(vocab, name) for name in ("pad", "bos", "eos"))


def test_special_token_in_the_text_is_not_included_twice():
    assert Vocab(["<unk>", "<unk>", "a"]).idx_to_token == ["<unk>", "a"]
    assert Vocab(["<pad>", "a"]).idx_to_token == ["<unk>", "<pad>", "a"]
    assert Vocab(["<pad>", "a"], use_special_tokens=True).idx_to_token == [*SPECIAL, "a"]


def test_min_freq_leaves_out_rarer_tokens():
    vocab = Vocab("aaabbc", min_freq=2)
    assert vocab.idx_to_token == ["<unk>", "a", "b"]
    assert vocab["c"] == vocab.unk


@given(st.text(max_size=200))
def test_indices_spell_the_text_again(text):
    vocab = Vocab(text)
    assert "".join(vocab.to_tokens(vocab[list(text)])) == text


@pytest.mark.parametrize("min_freq", [-1, 1.0, "1", None, True])
def test_min_freq_must_be_a_non_negative_integer(min_freq):
    with pytest.raises(
        ValueError, match="min_freq must be a whole number of at least 0, not "
    ) as caught:
        Vocab("abc", min_freq=min_freq)
    assert repr(min_freq) in str(caught.value)


@pytest.mark.parametrize("indices, named", [(3, 3), (-1, -1), ([0, 1, 99], 99), ((-4,), -4)])
def test_to_tokens_refuses_an_index_outside_the_table(indices, named):
    with pytest.raises(IndexError, match=f"^index {named} is outside .*: use 0 to 2$"):
        Vocab("ab").to_tokens(indices)


def test_to_tokens_refuses_floats():
    with pytest.raises(TypeError, match="float"):
        Vocab("ab").to_tokens(1.0)


@given(tokens=TOKENS, min_freq=st.integers(0, 4))
def test_from_tokens_is_the_vocabulary_again(tokens, min_freq):
    vocab = Vocab(tokens, min_freq)
    assert vars(Vocab.from_tokens(vocab.idx_to_token)) == vars(vocab)


def test_from_tokens_copies_its_list():
    tokens = ["<unk>", "b", "a"]
    vocab = Vocab.from_tokens(tokens)
    tokens.append("c")
    assert vocab.idx_to_token == ["<unk>", "b", "a"] and vocab["c"] == vocab.unk


@pytest.mark.parametrize(
    "tokens, message",
    [
        ([], "idx_to_token must begin with '<unk>'"),
        (SPECIAL, "idx_to_token must begin with '<unk>'"),
        (["<unk>", 1], "must contain only strings"),
        (["<unk>", "a", "b", "a"], "idx_to_token contains a token twice"),
    ],
)
def test_from_tokens_refuses_other_lists(tokens, message):
    with pytest.raises(ValueError, match=message):
        Vocab.from_tokens(tokens)


@pytest.mark.parametrize(
    "known, text, description",
    [
        ("cafe", "cafes", "['s'] in prefix 'cafes'"),
        (
            "caf\u00e9",
            "cafe\u0301",
            r"['e', '\u0301' (U+0301 COMBINING ACUTE ACCENT)] in prefix 'cafe" + "\u0301'; the "
            r"vocabulary has composed characters (NFC): write 'caf\u00e9', in a shell $'caf\u00e9'",
        ),
        (
            "cafe\u0301",
            "\u00e9\n",
            "['\\n', '\u00e9' (U+00E9 LATIN SMALL LETTER E WITH ACUTE)] in prefix '\u00e9\\n'; the "
            r"vocabulary has decomposed characters (NFD): write 'e\u0301\u000a', in a shell "
            r"$'e\u0301\u000a'",
        ),
        ("cafe", "c\u0430fe", "['\u0430' (U+0430 CYRILLIC SMALL LETTER A)] in prefix 'c\u0430fe'"),
    ],
)
def test_characters_that_look_alike_are_told_apart(known, text, description):
    vocab = Vocab(known)
    assert describe_unknown("prefix", text, vocab) == description
    assert describe_unknown("prefix", known, vocab) == ""


def test_of_many_unknown_characters_some_are_listed():
    unknown = unknown_characters([chr(0x4E00 + i) for i in range(100)], Vocab("a"))
    assert str(unknown).endswith(" and 90 more") and str(unknown).count("CJK") == 10


ANY_TEXT = st.text(st.characters(), max_size=60) | st.text("ab\0\ud800\uffff\U0001f600\U0010ffff")


@pytest.mark.parametrize("chunk", [1, 7, 2**20])
@given(known=ANY_TEXT | WORDS, text=ANY_TEXT, special=st.booleans())
def test_encode_is_the_lookup_of_each_character(chunk, known, text, special):
    vocab = Vocab(known, use_special_tokens=special)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("d2l_deeprnn.text.vocab.CHUNK", chunk)
        assert_encoded(vocab, known, text)


def assert_encoded(vocab, known, text):
    for asked in text, "".join(known) + text:
        indices = vocab.encode(asked)
        assert indices.dtype == np.int32 and indices.shape == (len(asked),)
        assert indices.tolist() == vocab[list(asked)]
