"""Texts are read, cleaned and joined, or refused."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2l_deeprnn.text import cleaning, corpora, encoding
from d2l_deeprnn.text.corpora import CorpusError, load_corpus, load_data_time_machine, load_text


@pytest.fixture
def book_dir(book_dir, monkeypatch):
    monkeypatch.setenv("D2L_DEEPRNN_DATA", str(book_dir))
    return book_dir


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def loaded_text(*args, **kwargs):
    indices, vocab = load_corpus(*args, **kwargs)
    return "".join(vocab.to_tokens(indices))


def kept_text(texts):
    """The text of files with its case and white space."""
    return load_text(texts, lower=False, fold_whitespace=False)


# Real books.


@pytest.mark.parametrize("num_examples", [1, 10_000, 10**7])
def test_time_machine_equals_the_originals(original, book_dir, tmp_path, monkeypatch, num_examples):
    (tmp_path / "data").mkdir()
    (tmp_path / "x").mkdir()
    shutil.copy(str(book_dir / "timemachine.txt"), str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path / "x")
    theirs, their_vocab = original.load_data_time_machine(num_examples)
    ours, vocab = load_data_time_machine(num_examples)
    assert ours == theirs
    assert vars(vocab) == vars(their_vocab)


def test_time_machine_has_the_books_sizes(book_dir):
    indices, vocab = load_data_time_machine()
    assert (len(indices), len(vocab)) == (10_000, 44)
    assert "".join(vocab.to_tokens(indices[:16])) == "the time machine"
    whole, _ = load_data_time_machine(None)
    assert whole == load_data_time_machine(10**9)[0] and len(whole) > 170_000


@pytest.mark.parametrize(
    "name, first, last",
    [
        ("war_of_the_worlds", "\nI.\nTHE EVE OF THE WAR.\n", "among the dead.\n"),
        ("pride_and_prejudice", "PRIDE AND PREJUDICE\n\nBy Jane Austen\n", "of uniting them.\n"),
        ("tinyshakespeare", "First Citizen:\n", "Whiles thou art waking.\n"),
    ],
)
def test_real_books_begin_and_end_with_the_book(book_dir, name, first, last):
    text = kept_text(name)
    assert text.startswith(first) and text.endswith(last)
    assert "\r" not in text and "\ufeff" not in text and "Gutenberg" not in text


# Reading.

# Printable characters, some white space, letters outside ASCII; never a Gutenberg line.
PLAIN = st.text("aB \t\n.*\u00e9\u4e2d", min_size=1).filter(str.strip)


@given(texts=st.lists(PLAIN, min_size=1, max_size=4), num_examples=st.integers(1, 60))
def test_corpus_is_the_beginning_of_the_joined_texts(texts, num_examples):
    with tempfile.TemporaryDirectory() as directory:
        paths = [write(Path(directory, str(i)), text) for i, text in enumerate(texts)]
        folded = " ".join(" ".join(text.lower().split()) for text in texts)
        assert loaded_text(paths) == folded
        assert loaded_text(tuple(map(str, paths)), num_examples) == folded[:num_examples]
        kept = loaded_text(paths, lower=False, fold_whitespace=False)
        assert kept == "\n".join(texts)


@given(PLAIN)
def test_reading_changes_only_byte_order_mark_and_line_breaks(text):
    with tempfile.TemporaryDirectory() as directory:
        for mark in ("", "\ufeff"):
            for line_break in ("\n", "\r\n", "\r"):
                path = write(Path(directory, "t"), mark + text.replace("\n", line_break))
                assert kept_text(path) == text


def test_vocabulary_is_that_of_the_loaded_part(tmp_path):
    indices, vocab = load_corpus(write(tmp_path / "t", "aab cd"), 3)
    assert vocab.idx_to_token == ["<unk>", "a", "b"] and indices.tolist() == [1, 1, 2]


def test_directory_stands_for_its_files_in_order(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("2", "10", "a/0", ".hidden/3", ".4", "b"):
        write(tmp_path / name, f"Of {name}.")
    assert load_text(tmp_path) == "of 10. of 2. of b. of a/0."
    assert load_text([str(tmp_path / "b"), tmp_path / "a"]) == "of b. of a/0."
    assert kept_text(tmp_path) == "Of 10.\nOf 2.\nOf b.\nOf a/0."


def test_compressed_file_is_unpacked(tmp_path):
    text = "\ufeffTitle: X\n\n" + START + "One caf\u00e9.\r\nTwo.\n" + END
    path = write(tmp_path / "T.GZ", gzip.compress(text.encode()))
    assert load_text(path) == "one caf\u00e9. two."
    assert load_text([path, path], 24) == "one caf\u00e9. two. one caf\u00e9."
    path = write(tmp_path / "t.gz", gzip.compress("caf\u00e9 noir".encode("cp1252")))
    assert load_text(path, encoding="cp1252") == "caf\u00e9 noir"
    with pytest.raises(CorpusError, match="t.gz is not UTF-8 text: byte 0xe9 at offset 3"):
        load_text(path)


def test_no_more_is_read_than_necessary(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK", 50)
    monkeypatch.setattr(cleaning, "LONGEST_BOOK", 100)
    path = write(tmp_path / "t", b"A text. " * 2000 + b"\xff")
    assert load_text([path, write(tmp_path / "u", b"\xff")], 20) == "a text. a text. a te"
    with pytest.raises(CorpusError, match="byte 0xff at offset 16000"):
        load_text(path, 16_000)
    with pytest.raises(CorpusError, match="neither a known text nor a file"):
        load_text([path, tmp_path / "none"], 20)


# Project Gutenberg.

START = "*** START OF THE PROJECT GUTENBERG EBOOK A BOOK ***\n"
END = "*** END OF THE PROJECT GUTENBERG EBOOK A BOOK ***\n"
OLD_START = "***START OF THIS PROJECT GUTENBERG EBOOK A BOOK WITH\nA LONG TITLE***\n"
LICENCE = "\nCreated for you.\n\n*** START: FULL LICENSE ***\n\nTHE LICENSE\n"


@pytest.mark.parametrize(
    "text, kept",
    [
        ("Title: X\n\n" + START + "\n\nOne.\n\nTwo.\n\n\n" + END + LICENCE, "One.\n\nTwo.\n"),
        ("Title: X\n\n" + OLD_START + "One.\n" + END.replace("THE P", "THIS P"), "One.\n"),
        ("Title: X\n\n" + START + "\nOne.\n", "One.\n"),
        ("One.\n\n" + END + LICENCE, "One.\n"),
        (START + "\nProduced by A. N. Other\nand friends\n\n\nOne.\n" + END, "One.\n"),
        (START + "One.\n\nProduced by hand.\n" + END, "One.\n\nProduced by hand.\n"),
        (START + "One.\n\nEnd of the Project Gutenberg EBook of\nA Book, by X\n\n" + END, "One.\n"),
        (START + "One.\n \nEnd of Project Gutenberg's A Book, by X\n" + END, "One.\n"),
        (START + "One.\n" + END + LICENCE + START + "Two.\n" + END + LICENCE, "One.\n\nTwo.\n"),
        ("One.\n" + END + LICENCE + START + "Two.\n", "One.\n\nTwo.\n"),
    ],
    ids=[
        "both",
        "old style, two lines",
        "no end",
        "no start",
        "credits",
        "not credits",
        "closing lines",
        "closing line",
        "two books",
        "two books, first without start",
    ],
)
def test_gutenberg_header_and_footer_are_removed(tmp_path, text, kept):
    for line_break in "\n", "\r\n":
        path = write(tmp_path / "t", "\ufeff" + text.replace("\n", line_break))
        assert kept_text(path) == kept


def test_text_without_gutenberg_lines_is_not_changed(tmp_path):
    for text in (
        "One.\n\n*** START: FULL LICENSE ***\n\nTwo.\n",
        "Produced by me.\n\nOne.\n\nEnd of the Project Gutenberg EBook of nothing\n",
        "He read: *** START OF THE PROJECT GUTENBERG EBOOK X *** and put it down.\n",
        "*** START OF THE PROJECT GUTENBERG EBOOK without an end\n\nOne. ***\n",
        "***\n\nSTART OF THE PROJECT\n***\n",
    ):
        assert kept_text(write(tmp_path / "t", text)) == text


# Refused.


def test_unknown_name_gives_the_known_ones_and_the_nearest():
    for name in "time_machin", "TimeMachine", "time machine":
        with pytest.raises(CorpusError, match=r"\(did you mean 'time_machine'\?\)") as caught:
            load_corpus(name)
        assert repr(name) in str(caught.value)
        assert all(known in str(caught.value) for known in corpora.KNOWN_TEXTS)
    for name in "", "zzz", "no/such.txt", "nul\0", "A text, not a name. " * 999:
        with pytest.raises(CorpusError, match="neither a known text nor a file; known") as caught:
            load_corpus(name)
        assert len(str(caught.value)) < 500


def test_path_object_is_never_a_known_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match="neither a known text nor a file"):
        load_corpus(Path("time_machine"))
    write(tmp_path / "time_machine", "mine")
    assert loaded_text(Path("time_machine")) == loaded_text("./time_machine") == "mine"


def test_file_without_text(tmp_path):
    path = tmp_path / "t"
    for content, message in (
        (b"", "contains no text"),
        (b" \r\n\t", "contains no text"),
        ((START + "\n\n" + END).encode(), "contains no text"),
        (b"\xef\xbb\xbfcaf\xe9 noir", "byte 0xe9 at offset 6. Most of it is utf-8: it is damaged"),
        (b"caf\xe9 noir", "byte 0xe9 at offset 3. Its encoding cannot be determined"),
        (b"abc\0def", "character 3 would be U.0000, .* seems to be a binary file"),
        ("text".encode("utf-16"), "byte 0xff at offset 0. It looks like utf-16: "),
    ):
        with pytest.raises(CorpusError, match=message) as caught:
            load_corpus(write(path, content))
        assert str(path) in str(caught.value)


def denied(*args, **kwargs):
    """Stands for ``open`` and ``os.scandir``, since root may read everything."""
    raise PermissionError(errno.EACCES, "Permission denied", str(args[0]))


def test_unusable_directory(tmp_path, monkeypatch):
    with pytest.raises(CorpusError, match="contains no files: put texts in it"):
        load_corpus(tmp_path)
    (tmp_path / "run").mkdir()
    for name in ".lock", "config.json":
        write(tmp_path / "run" / name, "")
    with pytest.raises(CorpusError, match="contains only runs of d2l-deeprnn, no texts: put texts"):
        load_corpus(tmp_path)
    write(tmp_path / "a", "text")
    advice = "; .* must contain only texts: remove the file, or name the text files$"
    for make, message in (
        (lambda path: path.write_bytes(b"%PDF-1.7"), f"/b is a PDF document, .*{advice}"),
        (lambda path: write(path, ""), r"b contains no text \(it is empty"),
        (lambda path: path.symlink_to("none"), "b cannot be read: No such file"),
        (os.mkfifo, "b' is a pipe: remove it"),
    ):
        make(tmp_path / "b")
        with pytest.raises(CorpusError, match=message):
            load_corpus(tmp_path)
        os.remove(tmp_path / "b")
    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(CorpusError, match=f"{tmp_path} cannot be read: Permission denied"):
        load_corpus(tmp_path)


def test_unreadable_file(tmp_path, monkeypatch):
    path = write(tmp_path / "t", "text")
    monkeypatch.setattr(corpora, "open", denied, raising=False)
    with pytest.raises(CorpusError, match=f"{path} cannot be read: Permission denied"):
        load_corpus(path)


PACKED = gzip.compress(b"A text of some length. " * 99)
UNPACKED = "cannot be unpacked: it is damaged, incomplete or no gzip file. Get it again, or leave"


def test_unusable_compressed_file(tmp_path):
    path = tmp_path / "t.gz"
    for content, message in (
        (b"A text.", UNPACKED),
        (b"", "contains no text"),
        (gzip.compress(b""), "contains no text"),
        (PACKED[:-9], UNPACKED),
        (PACKED[:30] + b"\0" + PACKED[31:], UNPACKED),
        (PACKED[:-6] + b"\0\0" + PACKED[-4:], UNPACKED),
        (gzip.compress(b"%PDF-1.7"), "is a PDF document, not text"),
    ):
        with pytest.raises(CorpusError, match=message) as caught:
            load_text(write(path, content))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_num_examples_must_be_a_positive_integer():
    for num_examples in 0, -1, True, False, 10000.0, "10":
        for load in (
            load_data_time_machine,
            lambda number: load_corpus("the_tide_tables", number),
        ):
            with pytest.raises(ValueError, match="^num_examples must be .*, not ") as caught:
                load(num_examples)
            assert str(caught.value).endswith(repr(num_examples))


def test_wrong_types_are_refused():
    for texts in None, 1, b"time_machine", {"time_machine"}, iter(()), [None], [["time_machine"]]:
        with pytest.raises(TypeError, match="a text is the name of a known text, a path, or a"):
            load_corpus(texts)
    for texts in [], ():
        with pytest.raises(ValueError, match="the list of texts is empty"):
            load_corpus(texts)
