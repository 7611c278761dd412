"""Large texts: read once into a file, which is found again, and never trusted in silence."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import d2l_deeprnn as d2l
from d2l_deeprnn import files
from d2l_deeprnn.text import cleaning, corpora, encoding, token_files
from d2l_deeprnn.text import vocab as vocab_module
from d2l_deeprnn.text.corpora import CorpusError
from d2l_deeprnn.text.token_files import read_tokens
from d2l_deeprnn.text.vocab import Vocab

TEXT = "It was a long text; it had more than ten characters. \u2014 \u03a3\u03a3 \U0001f600\n" * 3


@pytest.fixture(autouse=True)
def _every_text_is_large(monkeypatch):
    monkeypatch.setattr(token_files, "IN_MEMORY", 10)
    monkeypatch.setattr(token_files, "GRAIN_SECONDS", -10)  # files made just now are old enough


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "text"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def made(monkeypatch):
    """The token files that were made, as a list that grows."""
    found = []
    make = token_files._make

    def count(path, *args):
        found.append(path)
        return make(path, *args)

    monkeypatch.setattr(token_files, "_make", count)
    return found


def assert_is(tokens, texts, *args, **kwargs):
    """The tokens are those that a text has which is read, cleaned and encoded as a whole."""
    text = corpora.load_text(texts, *args, **kwargs)
    vocab = Vocab(text)
    assert tokens.vocab.idx_to_token == vocab.idx_to_token
    np.testing.assert_array_equal(tokens.indices, vocab.encode(text))
    assert tokens.indices.dtype == np.min_scalar_type(len(vocab) - 1)
    assert tokens.sha256 == hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# Case, white space, lines of Project Gutenberg's, and enough kinds for one byte, and for two.
NASTY = st.lists(
    st.sampled_from(["\u03a3", "A", "a'", " ", "\n", "\r", "\r\n", "\t", "\u2003", "\u0130", "b."])
    | st.sampled_from(["\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n", "\n***"])
    | st.sampled_from(["\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\n", "\ufeff"])
    | st.integers(0, 3).map(lambda k: "".join(map(chr, range(256 + k * 90, 256 + k * 90 + 90))))
    | st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\x1b"),
    max_size=20,
).map("".join)


@settings(deadline=None)  # it writes files
@given(
    texts=st.lists(NASTY, min_size=1, max_size=3),
    num_examples=st.none() | st.integers(1, 100),
    lower=st.booleans(),
    fold=st.booleans(),
    piece=st.sampled_from([1, 2, 3, 7, 50]),
)
def test_a_text_in_pieces_is_the_text(texts, num_examples, lower, fold, piece):
    options = dict(lower=lower, fold_whitespace=fold)
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        paths = [Path(directory, str(i)) for i in range(len(texts))]
        for path, text in zip(paths, texts):
            path.write_bytes(text.encode())
        try:
            expected = corpora.load_text(paths, num_examples, **options)
        except CorpusError as error:
            expected = str(error)
        for module, name in (
            (cleaning, "PIECE"),
            (vocab_module, "PIECE"),
            (token_files, "IN_MEMORY"),
        ):
            patch.setattr(module, name, piece)
        patch.setattr(encoding, "PIECE", max(piece, 20))
        patch.setenv("XDG_CACHE_HOME", directory)
        try:
            tokens = read_tokens(paths, num_examples, **options)
        except CorpusError as error:
            assert str(error) == expected
            return
        found = "".join(tokens.vocab.to_tokens(tokens.indices))
        assert found == expected == corpora.load_text(paths, num_examples, **options)
        assert_is(tokens, paths, num_examples, **options)
        indices, vocab = d2l.load_corpus(paths, num_examples, **options)
        assert indices.dtype == np.int32 and vocab.idx_to_token == tokens.vocab.idx_to_token
        np.testing.assert_array_equal(indices, tokens.indices)


@pytest.mark.parametrize("kinds, piece", [(200, 1000), (300, 2**20), (66_000, 1000)])
def test_any_number_of_kinds(tmp_path, monkeypatch, kinds, piece):
    monkeypatch.setattr(cleaning, "PIECE", piece)
    monkeypatch.setattr(cleaning, "WHOLE", 100)  # less is held back, so there are several pieces
    monkeypatch.setattr(cleaning, "FOOTER", 100)
    monkeypatch.setattr(vocab_module, "PIECE", piece // 3)
    path = tmp_path / "text"
    characters = [chr(i) for i in range(0x100, 0x100 + kinds + 2048) if not 0xD800 <= i < 0xE000]
    path.write_text("ab" * 3000 + "".join(characters) + "ab" * 3000, encoding="utf-8")
    assert_is(read_tokens(path, lower=False), path, lower=False)


def test_the_file_is_found_the_next_time(path, made):
    first = read_tokens(path)
    again = read_tokens(str(path), encoding=None)
    assert len(made) == 1 and made[0].parent == corpora.cache_directory() / "tokens"
    assert_is(first, path)
    assert_is(again, path)
    # What is cleaned in another way, or is another part or list, has a file of its own.
    for kwargs in (
        dict(lower=False),
        dict(fold_whitespace=False),
        dict(num_examples=20),
        dict(encoding="utf-8"),
        dict(vocab=Vocab("abc")),
    ):
        read_tokens(path, **kwargs)
    assert_is(read_tokens([path, path]), [path, path])
    assert len(set(made)) == len(made) == 7


def test_a_small_text_is_kept_in_memory(tmp_path, made):
    path = tmp_path / "text"
    path.write_text("Ten chars.")
    assert_is(read_tokens(path), path)
    assert not made and not corpora.cache_directory().exists()


def test_a_vocabulary_of_another_text(path, made):
    vocab = Vocab(["a", "text"] + list("It xyz\u2014"))
    for _ in range(2):
        tokens = read_tokens(path, lower=False, vocab=vocab)
        assert tokens.vocab is vocab and tokens.indices.dtype == np.uint8
        expected = vocab.encode(corpora.load_text(path, lower=False))
        np.testing.assert_array_equal(tokens.indices, expected)
        assert 0 < (tokens.indices == vocab.unk).sum() < len(expected)
    assert len(made) == 1


def test_several_files_directories_and_compressed_ones(path, tmp_path, made):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "2.gz").write_bytes(gzip.compress(b"Packed.\n"))
    (tmp_path / "d" / "1").write_bytes(b"Plain.")
    texts = [path, tmp_path / "d", "the_tide_tables"]
    assert_is(read_tokens(texts), texts)
    assert_is(read_tokens(texts), texts)
    assert len(made) == 1
    (tmp_path / "d" / "0").write_bytes(b"Another.")
    assert_is(read_tokens(texts), texts)
    assert len(made) == 2


# A text that has changed.


def test_a_changed_text_of_the_same_size_is_noticed(path, made):
    before = read_tokens(path)
    stat = os.stat(path)
    path.write_text(TEXT.replace("long", "tall"), encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as some programs do
    after = read_tokens(path)
    assert len(made) == 2 and made[0] == made[1]  # in the place of the other
    assert before.sha256 != after.sha256
    assert_is(after, path)
    assert "l" in before.vocab.to_tokens(before.indices)  # the map of the file before is intact


def test_a_text_that_was_changed_just_now_is_read_again(path, made, monkeypatch):
    monkeypatch.setattr(token_files, "GRAIN_SECONDS", 1000)
    for _ in range(2):
        assert_is(read_tokens(path), path)
    assert len(made) == 2


def test_a_text_that_changes_while_it_is_read_is_refused(path, made, monkeypatch):
    text_pieces = token_files.text_pieces

    def changing_to(changed):
        def changing(*args, **kwargs):
            yield from text_pieces(*args, **kwargs)
            if made:  # the characters were counted, or they were encoded
                path.write_text(changed, encoding="utf-8")

        return changing

    for changed in (TEXT.replace("long", "tall"), TEXT * 2, TEXT[:60]):
        with monkeypatch.context() as patch:
            patch.setattr(token_files, "text_pieces", changing_to(changed))
            with pytest.raises(CorpusError, match="text changed while being read: wait until"):
                read_tokens(path)
        assert len(made) == 1 and not tokens_in_the_cache()
        assert_is(read_tokens(path), path)
        for file in tokens_in_the_cache():
            file.unlink()
        made.clear()


def tokens_in_the_cache():
    return [file for file in corpora.cache_directory().rglob("*") if file.suffix in FILES]


# A file in the cache that is not what was written.

FILES = ".npy", ".json"


def damage(content):
    for place in (3, len(content) // 2, -30, -3):
        changed = bytearray(content)
        changed[place] ^= 1
        yield bytes(changed)
    yield from (content[:size] for size in (0, 1, 15, 16, 40, len(content) - 1))
    yield content[:20] + b"\0" + content[20:]
    yield from (b"another file", b"\0" * 99, content[:16] + b"\xff" * 99)
    yield from (b"{}", b"[1]", b"[" * 100_000)


@pytest.mark.parametrize("suffix", FILES)
def test_a_damaged_file_is_made_anew(path, made, suffix):
    read_tokens(path)
    file = made[0].with_suffix(suffix)
    content = file.read_bytes()
    for number, damaged in enumerate(damage(content), 2):
        file.write_bytes(damaged)
        assert_is(read_tokens(path), path)
        assert len(made) == number
        assert file.read_bytes() == content
    file.unlink()
    os.mkfifo(file, 0o600)  # nobody writes to it
    assert_is(read_tokens(path), path)
    assert file.read_bytes() == content


def test_every_byte_of_the_files_counts(path, made):
    tokens = read_tokens(path)
    description = json.loads(made[0].with_suffix(".json").read_bytes())
    for suffix in FILES:
        file = made[0].with_suffix(suffix)
        content = file.read_bytes()
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1 << place % 8
            file.write_bytes(changed)
            found = token_files._read(made[0], description["request"], description["state"], None)
            # NumPy reads its header as Python, where some bytes do not matter.
            if found is not None:
                assert suffix == ".npy" and place < 128
                np.testing.assert_array_equal(found.indices, tokens.indices)
        file.write_bytes(content)
    assert token_files._read(made[0], description["request"], description["state"], None)


def test_an_array_of_objects_is_not_loaded(path, made):
    read_tokens(path)
    np.save(made[0], np.array([Unpickled()], object), allow_pickle=True)
    assert_is(read_tokens(path), path)
    assert len(made) == 2 and not Unpickled.done


class Unpickled:
    done = False

    def __reduce__(self):
        return setattr, (Unpickled, "done", True)


def test_the_file_of_another_text_is_not_taken(path, made):
    read_tokens(path), read_tokens(path, lower=False)
    for suffix in FILES:
        made[1].with_suffix(suffix).replace(made[0].with_suffix(suffix))
    assert_is(read_tokens(path), path)
    assert len(made) == 3


def test_what_killed_processes_left_is_removed(path, made):
    read_tokens(path)
    left = made[0].with_name(f".{made[0].name}.0123456789abcdef.part")
    left.write_bytes(b"half")
    made[0].unlink()
    read_tokens(path)
    assert not left.exists() and made[0].exists()


# A cache that others can read or write.


def modes(directory):
    return {entry.stat().st_mode & 0o777 for entry in [directory, *directory.rglob("*")]}


def test_the_cache_is_its_users_alone(path, made, monkeypatch):
    fsync, seen = os.fsync, set()

    def note_modes_and_sync(file):
        seen.update(modes(corpora.cache_directory()))  # the temporary file is being written
        return fsync(file)

    monkeypatch.setattr(os, "fsync", note_modes_and_sync)
    read_tokens(path)
    assert seen == modes(corpora.cache_directory()) == {0o600, 0o700}
    # An earlier version made it as the umask gave it.
    for place in (corpora.cache_directory(), made[0].parent):
        place.chmod(0o775)
    assert_is(read_tokens(path), path)
    assert len(made) == 1 and modes(corpora.cache_directory()) == {0o600, 0o700}


@pytest.mark.parametrize("kind", ["file", "description", "writable", "tokens", "cache"])
def test_tokens_that_another_user_may_have_written_are_not_believed(path, made, monkeypatch, kind):
    read_tokens(path)
    places = {
        "file": made[0],
        "description": made[0].with_suffix(".json"),
        "tokens": made[0].parent,
        "cache": corpora.cache_directory(),
    }
    if kind == "writable":
        made[0].chmod(0o666)
    elif kind == "cache":
        monkeypatch.setattr(os, "getuid", lambda: os.stat(path).st_uid + 1)
    elif os.getuid() == 0:
        os.chown(places[kind], 12345, -1)
    else:
        pytest.skip("only root can give a file to another user")
    if kind in ("file", "description", "writable"):
        assert_is(read_tokens(path), path)
        assert len(made) == 2 and made[0].stat().st_uid == os.getuid()
        assert made[0].stat().st_mode & 0o777 == 0o600
    else:
        words = f"{places[kind]} belongs to another user.* kept in memory .*: set XDG_CACHE_HOME"
        with pytest.warns(UserWarning, match=words):
            assert_is(read_tokens(path), path)
        assert len(made) == 1


# A cache that cannot be written.


def fails(error):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.mark.parametrize("place", ["write", "replace", "directory", "home"])
def test_without_a_cache_the_text_is_kept_in_memory(path, monkeypatch, place):
    full = OSError(errno.ENOSPC, "No space left on device")
    reason = "No space left on device"
    if place == "write":
        monkeypatch.setattr(files.os, "fsync", fails(full))
    elif place == "replace":
        monkeypatch.setattr(files.os, "replace", fails(full))
    elif place == "directory":
        corpora.cache_directory().parent.mkdir(exist_ok=True)
        corpora.cache_directory().write_text("a file where the directory should be")
        reason = "tokens cannot be written to .(Not a directory|File exists)"
    else:
        monkeypatch.setattr(token_files, "cache_directory", lambda: None)
        reason = "there is no home directory"
    words = f"{reason}.* kept in memory .*: set XDG_CACHE_HOME to a directory with room"
    with pytest.warns(UserWarning, match=words):
        assert_is(read_tokens(path), path)
    if place in ("write", "replace"):
        assert [file.suffix for file in (corpora.cache_directory() / "tokens").iterdir()] == [
            ".lock"
        ]


def test_a_text_that_cannot_be_used_leaves_nothing(path, monkeypatch):
    monkeypatch.setattr(encoding, "PIECE", 10)
    path.write_bytes(b"A text that is damaged later on: \xff")
    with pytest.raises(CorpusError, match="byte 0xff at offset 33"):
        read_tokens(path)
    assert not corpora.cache_directory().exists() or not tokens_in_the_cache()


def test_pipes_are_read_into_memory(made):
    reading, writing = os.pipe()
    os.write(writing, TEXT.encode())
    os.close(writing)
    try:
        tokens = read_tokens(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
    assert "".join(tokens.vocab.to_tokens(tokens.indices)) == " ".join(TEXT.lower().split())
    assert not made


@pytest.mark.parametrize("num_examples", [0, -1, 1.5, True])
def test_bad_arguments_are_named(path, num_examples):
    with pytest.raises(ValueError, match="num_examples must be a whole number of at least 1"):
        read_tokens(path, num_examples)


# Several processes at once.


def test_processes_at_once_read_the_text_once(path, made):
    together, found = threading.Barrier(4), []

    def read():
        together.wait()
        found.append(read_tokens(path))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(found) == 4
    for tokens in found:
        assert_is(tokens, path)


def test_another_process_finds_the_file(path, made):
    tokens = read_tokens(path)
    code = (
        "import sys; from d2l_deeprnn.text import token_files as t; t.IN_MEMORY = 10\n"
        "t._make = None; found = t.read_tokens(sys.argv[1])\n"
        "print(found.sha256, found.indices.sum())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(d2l.__file__).parents[1])}
    output = subprocess.check_output([sys.executable, "-c", code, path], env=environment, text=True)
    assert output.split() == [tokens.sha256, str(tokens.indices.sum())]
