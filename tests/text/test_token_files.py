"""Large texts are read once into a token file, which is checked each time it is used."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import d2l_deeprnn as d2l
from d2l_deeprnn.text import cleaning, corpora, encoding, known_texts, token_files
from d2l_deeprnn.text import vocab as vocab_module
from d2l_deeprnn.text.corpora import CorpusError
from d2l_deeprnn.text.token_files import read_tokens
from d2l_deeprnn.text.vocab import Vocab

TEXT = "It was a long text; it had more than ten characters. \u2014 \u03a3\u03a3 \U0001f600\n" * 3


@pytest.fixture(autouse=True)
def _every_text_is_large(monkeypatch):
    monkeypatch.setattr(token_files, "IN_MEMORY", 10)
    monkeypatch.setattr(token_files, "GRAIN_SECONDS", -10)  # new files are old enough


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "text"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def written(monkeypatch):
    """The paths of the token files that were written, as a list that grows."""
    paths = []
    write = token_files._write

    def count(path, *args):
        paths.append(path)
        return write(path, *args)

    monkeypatch.setattr(token_files, "_write", count)
    return paths


def assert_is(tokens, texts, *args, **kwargs):
    """The tokens are those of the text when it is read, cleaned and encoded as a whole."""
    text = corpora.load_text(texts, *args, **kwargs)
    vocab = Vocab(text)
    assert tokens.vocab.idx_to_token == vocab.idx_to_token
    np.testing.assert_array_equal(tokens.indices, vocab.encode(text))
    assert tokens.indices.dtype == np.min_scalar_type(len(vocab) - 1)
    assert tokens.sha256 == hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# Case, white space, Project Gutenberg's lines, and characters for one byte and for two.
NASTY = st.lists(
    st.sampled_from(["\u03a3", "A", "a'", " ", "\n", "\r", "\r\n", "\t", "\u2003", "\u0130", "b."])
    | st.sampled_from(["\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n", "\n***"])
    | st.sampled_from(["\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\n", "\ufeff"])
    | st.integers(0, 3).map(lambda k: "".join(map(chr, range(256 + k * 90, 256 + k * 90 + 90))))
    | st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\x1b"),
    max_size=20,
).map("".join)


@given(
    texts=st.lists(NASTY, min_size=1, max_size=3),
    num_examples=st.none() | st.integers(1, 100),
    lower=st.booleans(),
    fold=st.booleans(),
    chunk=st.sampled_from([1, 2, 3, 7, 50]),
)
def test_text_in_chunks_is_the_text(texts, num_examples, lower, fold, chunk):
    options = dict(lower=lower, fold_whitespace=fold)
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        paths = [Path(directory, str(i)) for i in range(len(texts))]
        for path, text in zip(paths, texts):
            path.write_bytes(text.encode())
        try:
            expected = corpora.load_text(paths, num_examples, **options)
        except CorpusError as error:
            expected = str(error)
        patch.setattr(cleaning, "CHUNK", chunk)
        patch.setattr(vocab_module, "CHUNK", chunk)
        patch.setattr(token_files, "IN_MEMORY", chunk)
        patch.setattr(encoding, "CHUNK", max(chunk, 20))
        patch.setenv("XDG_CACHE_HOME", directory)
        try:
            tokens = read_tokens(paths, num_examples, **options)
        except CorpusError as error:
            assert str(error) == expected
            return
        assert "".join(tokens.vocab.to_tokens(tokens.indices)) == expected
        assert_is(tokens, paths, num_examples, **options)
        indices, vocab = d2l.load_corpus(paths, num_examples, **options)
        assert indices.dtype == np.int32 and vocab.idx_to_token == tokens.vocab.idx_to_token
        np.testing.assert_array_equal(indices, tokens.indices)


@pytest.mark.parametrize("num_characters, chunk", [(200, 1000), (300, 2**20), (66_000, 1000)])
def test_any_number_of_characters(tmp_path, monkeypatch, num_characters, chunk):
    """Indices take one, two or four bytes."""
    monkeypatch.setattr(cleaning, "CHUNK", chunk)
    monkeypatch.setattr(vocab_module, "CHUNK", chunk // 3)
    path = tmp_path / "text"
    codes = range(0x100, 0x100 + num_characters + 2048)
    characters = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]
    path.write_text("ab" * 3000 + "".join(characters) + "ab" * 3000, encoding="utf-8")
    assert_is(read_tokens(path, lower=False), path, lower=False)


def test_file_is_used_the_next_time(path, written):
    first = read_tokens(path)
    again = read_tokens(str(path), encoding=None)
    assert len(written) == 1 and written[0].parent == known_texts.cache_directory() / "tokens"
    assert_is(first, path)
    assert_is(again, path)
    # Other settings and other texts have other files.
    for kwargs in (
        dict(lower=False),
        dict(fold_whitespace=False),
        dict(num_examples=20),
        dict(encoding="utf-8"),
        dict(vocab=Vocab("abc")),
    ):
        read_tokens(path, **kwargs)
    assert_is(read_tokens([path, path]), [path, path])
    assert len(set(written)) == len(written) == 7


def test_small_text_is_kept_in_memory(tmp_path, written):
    path = tmp_path / "text"
    path.write_text("Ten chars.")
    assert_is(read_tokens(path), path)
    assert not written and not known_texts.cache_directory().exists()


def test_vocabulary_of_another_text(path, written):
    vocab = Vocab(["a", "text"] + list("It xyz\u2014"))
    for _ in range(2):
        tokens = read_tokens(path, lower=False, vocab=vocab)
        assert tokens.vocab is vocab and tokens.indices.dtype == np.uint8
        expected = vocab.encode(corpora.load_text(path, lower=False))
        np.testing.assert_array_equal(tokens.indices, expected)
        assert 0 < (tokens.indices == vocab.unk).sum() < len(expected)
    assert len(written) == 1


def test_several_files_directories_and_compressed_files(path, tmp_path, written):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "2.gz").write_bytes(gzip.compress(b"Packed.\n"))
    (tmp_path / "d" / "1").write_bytes(b"Plain.")
    texts = [path, tmp_path / "d", "the_tide_tables"]
    assert_is(read_tokens(texts), texts)
    assert_is(read_tokens(texts), texts)
    assert len(written) == 1
    (tmp_path / "d" / "0").write_bytes(b"Another.")
    assert_is(read_tokens(texts), texts)
    assert len(written) == 2


# Changed texts.


def test_changed_text_of_the_same_size_is_noticed(path, written):
    before = read_tokens(path)
    stat = os.stat(path)
    path.write_text(TEXT.replace("long", "tall"), encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as some programs do
    after = read_tokens(path)
    assert len(written) == 2 and written[0] == written[1]
    assert before.sha256 != after.sha256
    assert_is(after, path)
    assert "l" in before.vocab.to_tokens(before.indices)  # its map is intact


def test_text_that_was_changed_just_now_is_read_again(path, written, monkeypatch):
    monkeypatch.setattr(token_files, "GRAIN_SECONDS", 1000)
    for _ in range(2):
        assert_is(read_tokens(path), path)
    assert len(written) == 2


@pytest.mark.parametrize("changed", [TEXT.replace("long", "tall"), TEXT * 2, TEXT[:60]])
def test_text_that_changes_while_it_is_read_is_refused(path, written, monkeypatch, changed):
    text_chunks = token_files.text_chunks

    def changing(*args, **kwargs):
        yield from text_chunks(*args, **kwargs)
        if written:  # the characters were counted, or they were encoded
            path.write_text(changed, encoding="utf-8")

    with monkeypatch.context() as patch:
        patch.setattr(token_files, "text_chunks", changing)
        with pytest.raises(CorpusError, match="text changed while being read: wait until"):
            read_tokens(path)
    assert len(written) == 1 and not token_files_in_cache()
    assert_is(read_tokens(path), path)


def token_files_in_cache():
    return [file for file in known_texts.cache_directory().rglob("*") if file.suffix in FILES]


# Damaged files.

FILES = ".npy", ".json"


def damage(content):
    yield from (content[:size] for size in (0, 1, 16, len(content) - 1))
    yield content[:20] + b"\0" + content[20:]
    yield from (b"another file", content[:16] + b"\xff" * 99, b"{}", b"[1]", b"[" * 100_000)


@pytest.mark.parametrize("suffix", FILES)
def test_damaged_file_is_rebuilt(path, written, suffix):
    read_tokens(path)
    file = written[0].with_suffix(suffix)
    content = file.read_bytes()
    for number, damaged in enumerate(damage(content), 2):
        file.write_bytes(damaged)
        assert_is(read_tokens(path), path)
        assert len(written) == number
        assert file.read_bytes() == content
    file.unlink()
    os.mkfifo(file, 0o600)
    assert_is(read_tokens(path), path)
    assert file.read_bytes() == content


def test_every_byte_of_the_files_counts(path, written):
    tokens = read_tokens(path)
    description = json.loads(written[0].with_suffix(".json").read_bytes())
    for suffix in FILES:
        file = written[0].with_suffix(suffix)
        content = file.read_bytes()
        for position in range(len(content)):
            changed = bytearray(content)
            changed[position] ^= 1 << position % 8
            file.write_bytes(changed)
            read = token_files._read(written[0], description["request"], None)
            # NumPy parses its header as Python, in which some bytes do not matter.
            if read is not None:
                assert suffix == ".npy" and position < 128
                np.testing.assert_array_equal(read.indices, tokens.indices)
        file.write_bytes(content)
    assert token_files._read(written[0], description["request"], None)


def test_array_of_objects_is_not_loaded(path, written):
    read_tokens(path)
    np.save(written[0], np.array([Unpickled()], object), allow_pickle=True)
    assert_is(read_tokens(path), path)
    assert len(written) == 2 and not Unpickled.done


class Unpickled:
    done = False

    def __reduce__(self):
        return setattr, (Unpickled, "done", True)


def test_file_of_another_text_is_not_used(path, written):
    read_tokens(path), read_tokens(path, lower=False)
    for suffix in FILES:
        written[1].with_suffix(suffix).replace(written[0].with_suffix(suffix))
    assert_is(read_tokens(path), path)
    assert len(written) == 3


def test_leftovers_of_killed_processes_are_removed(path, written):
    read_tokens(path)
    leftover = written[0].with_name(f".{written[0].name}.0123456789abcdef.part")
    leftover.write_bytes(b"half")
    written[0].unlink()
    read_tokens(path)
    assert not leftover.exists() and written[0].exists()


# Other users.


def modes(directory):
    return {entry.stat().st_mode & 0o777 for entry in [directory, *directory.rglob("*")]}


def test_other_users_cannot_read_the_cache(path, written, monkeypatch):
    fsync, seen = os.fsync, set()

    def record_modes_and_sync(file):
        seen.update(modes(known_texts.cache_directory()))  # also of the temporary file
        return fsync(file)

    monkeypatch.setattr(os, "fsync", record_modes_and_sync)
    read_tokens(path)
    assert seen == modes(known_texts.cache_directory()) == {0o600, 0o700}
    # Earlier versions used the umask.
    for directory in (known_texts.cache_directory(), written[0].parent):
        directory.chmod(0o775)
    assert_is(read_tokens(path), path)
    assert len(written) == 1 and modes(known_texts.cache_directory()) == {0o600, 0o700}


def other_owner(path):
    if os.getuid() != 0:
        pytest.skip("only root can give a file to another user")
    os.chown(path, 12345, -1)


@pytest.mark.parametrize(
    "suffix, change", [(".npy", other_owner), (".json", other_owner), (".npy", os.chmod)]
)
def test_file_that_another_user_may_have_written_is_rebuilt(path, written, suffix, change):
    read_tokens(path)
    change(written[0].with_suffix(suffix), *([0o666] if change is os.chmod else []))
    assert_is(read_tokens(path), path)
    assert len(written) == 2 and written[0].stat().st_uid == os.getuid()
    assert written[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["", "tokens"])
def test_directory_of_another_user_is_not_used(path, written, name):
    read_tokens(path)
    directory = known_texts.cache_directory() / name
    other_owner(directory)
    message = f"{directory} belongs to another user.* kept in memory .*: set XDG_CACHE_HOME"
    with pytest.warns(UserWarning, match=message):
        assert_is(read_tokens(path), path)
    assert len(written) == 1


# A cache that cannot be written.


@pytest.mark.parametrize("failing", ["fsync", "replace", "directory", "home"])
def test_without_a_cache_the_text_is_kept_in_memory(path, monkeypatch, failing):
    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    reason = "tokens cannot be written to .No space left on device"
    if failing == "home":
        monkeypatch.setattr(token_files, "cache_directory", lambda: None)
        reason = "there is no home directory"
    elif failing == "directory":
        known_texts.cache_directory().write_text("a file instead of the directory")
        reason = "tokens cannot be written to .(Not a directory|File exists)"
    else:
        monkeypatch.setattr(os, failing, fail)
    message = f"{reason}.* kept in memory .*: set XDG_CACHE_HOME to a directory with space"
    with pytest.warns(UserWarning, match=message):
        assert_is(read_tokens(path), path)
    if failing in ("fsync", "replace"):
        (file,) = (known_texts.cache_directory() / "tokens").iterdir()
        assert file.suffix == ".lock"


def test_unusable_text_leaves_nothing(path, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK", 10)
    path.write_bytes(b"A text that is damaged later on: \xff")
    with pytest.raises(CorpusError, match="byte 0xff at offset 33"):
        read_tokens(path)
    assert not known_texts.cache_directory().exists() or not token_files_in_cache()


def test_pipe_is_read_into_memory(written):
    reading, writing = os.pipe()
    os.write(writing, TEXT.encode())
    os.close(writing)
    with open(reading, "rb"):
        tokens = read_tokens(f"/dev/fd/{reading}")
    assert "".join(tokens.vocab.to_tokens(tokens.indices)) == " ".join(TEXT.lower().split())
    assert not written


def test_num_examples_must_be_a_positive_integer(path):
    with pytest.raises(ValueError, match="num_examples must be a whole number of at least 1"):
        read_tokens(path, 0)


# Several processes at once.


def test_concurrent_readers_write_the_file_once(path, written):
    barrier, results = threading.Barrier(4), []

    def read():
        barrier.wait()
        results.append(read_tokens(path))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1 and len(results) == 4
    for tokens in results:
        assert_is(tokens, path)
