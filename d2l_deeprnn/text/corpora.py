"""Read, clean and join known texts and files, and turn them into token indices."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import os
import stat
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from .._checks import text_encoding, whole_number
from ..errors import CorpusError
from ..files import package_data
from .cleaning import clean, cut_gutenberg
from .encoding import decode_file
from .known_texts import (
    BOOK_TEXT,
    KNOWN_TEXTS,
    SAMPLE_TEXT,
    TextNotAvailable,
    find_text,
    unknown_text,
)
from .vocab import Vocab, count_characters

# The size of a pipe is not known before it has been read.
PIPE_LIMIT_BYTES = 2**30
LOCK, CONFIG = ".lock", "config.json"  # files in the directory of each run

Source = Union[str, "os.PathLike[str]"]


def load_data_time_machine(num_examples: Optional[int] = 10000) -> Tuple[List[int], Vocab]:
    """Load the beginning of The Time Machine, as the chapter does.

    Args:
        num_examples: number of characters; None, or more than there are, takes the whole book.

    Returns:
        The index of each character, and the vocabulary of these characters.

    Raises:
        TextNotAvailable: if the book is not on this machine and cannot be downloaded.
        WrongTextError: if the contents of the file are not the book's.
        ValueError: if ``num_examples`` is not a positive integer.

    Source:
        ``d2l.load_data_time_machine`` of d2l 0.9.1.
    """
    # Differs: the original opened ../data/timemachine.txt, which depends on the working directory.
    try:
        indices, vocab = load_corpus(BOOK_TEXT, num_examples)
    except CorpusError as error:
        # Drop the internal traceback; the message is all that the caller needs.
        raise error.with_traceback(None) from None
    return indices.tolist(), vocab


def load_corpus(
    texts: Union[Source, Sequence[Source]],
    num_examples: Optional[int] = None,
    *,
    lower: bool = True,
    fold_whitespace: bool = True,
    encoding: Optional[str] = None,
) -> Tuple[np.ndarray, Vocab]:
    """Load a text, or several as one, as indices of its characters.

    Args:
        texts: name of a known text, path of a file or of a directory, or a list or tuple of these.
            A string that is a known name means that text, even if there is such a file; a path
            object always means the file. A file whose name ends in ``.gz`` is unpacked. A directory
            stands for its files in the order of their names, followed by those of its
            subdirectories; hidden ones (``.name``) are left out. ``"-"`` is standard input.
            Standard input and other pipes are read once, into memory.
        num_examples: number of characters to take from the beginning, after cleaning and joining;
            None takes all. The rest of the texts is not read.
        lower: whether to turn the text into lower case.
        fold_whitespace: whether to turn line breaks and runs of white space into one space.
        encoding: encoding of the files, by any of its names in Python; None for UTF-8. Known texts
            are in UTF-8.

    Returns:
        The index of each character, an int32 array, and one vocabulary over all of them. Several
        texts are joined by a space if white space is folded, otherwise by a line break.

    Raises:
        CorpusError: if a text cannot be found or used.
        TypeError: if ``texts`` is none of the above.
        ValueError: if ``num_examples`` is not a positive integer, ``texts`` is an empty list, or
            ``encoding`` is unknown or given without any file.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> indices, vocab = d2l.load_corpus("the_tide_tables", 40)
        >>> "".join(vocab.to_tokens(indices))
        'the tide tables there is a kind of error'
    """
    text = load_text(
        texts, num_examples, lower=lower, fold_whitespace=fold_whitespace, encoding=encoding
    )
    vocab = Vocab(count_characters([text]))
    return vocab.encode(text), vocab


def load_text(
    texts: Union[Source, Sequence[Source]],
    num_examples: Optional[int] = None,
    *,
    lower: bool = True,
    fold_whitespace: bool = True,
    encoding: Optional[str] = None,
) -> str:
    """Read, clean and join texts as ``load_corpus`` does, but return characters, not indices.

    Args, Raises: As ``load_corpus``.
    """
    if num_examples is not None:
        # Differs: the original took any number. A negative one cut off the end, and 0 took nothing.
        whole_number("num_examples", num_examples)
    files = text_files(texts, encoding)
    return "".join(text_chunks(files, num_examples, lower=lower, fold_whitespace=fold_whitespace))


def resolve_auto() -> Tuple[str, Optional[str]]:
    """Return the text that ``auto`` stands for: the book's if it is available, or a sample text.

    Returns:
        The name of the text, and the reason why it is not the book's text, or None if it is.
        Callers must say when results are not for the book's text.

    Raises:
        CorpusError: if the book's file or the data directory is wrong.
    """
    try:
        find_text(BOOK_TEXT)
    except TextNotAvailable as error:
        return SAMPLE_TEXT, str(error)
    return BOOK_TEXT, None


class TextFile(NamedTuple):
    """A file that is read as text.

    Attributes:
        name: name for messages.
        path: path; None for standard input.
        encoding: encoding; None for UTF-8.
        is_pipe: whether the file can be read only once.
        data: contents of a sample text of this package; None for other files.
        directory: the directory that was given instead of the file, if it was one.
    """

    name: str
    path: Optional[str]
    encoding: Optional[str]
    is_pipe: bool = False
    data: Optional[bytes] = None
    directory: Optional[str] = None


def text_files(
    texts: Union[Source, Sequence[Source]], encoding: Optional[str] = None
) -> List[TextFile]:
    """Find the files of texts without reading them.

    Args, Raises: As ``load_corpus``.
    """
    sources: Sequence[Any] = texts if isinstance(texts, (list, tuple)) else [texts]
    if not sources:
        raise ValueError("the list of texts is empty: name at least one text")
    for source in sources:
        if not isinstance(source, (str, os.PathLike)):
            raise TypeError(
                "a text is the name of a known text, a path, or a list or tuple of these, not "
                f"{repr(source)[:200]} of type {type(source).__name__}"
            )
    if encoding is not None:
        encoding = text_encoding("encoding", encoding)
        if all(map(_is_known, sources)):
            raise ValueError(
                f"encoding {encoding!r} is only for files: the encoding of {', '.join(sources)} "
                "is known, so leave it out"
            )
    return [file for source in sources for file in _files_of(source, encoding)]


def text_chunks(
    files: Sequence[TextFile],
    num_examples: Optional[int] = None,
    *,
    lower: bool = True,
    fold_whitespace: bool = True,
) -> Iterator[str]:
    """Read, clean and join files, chunk by chunk.

    Args:
        files: the result of ``text_files``.
        num_examples, lower, fold_whitespace: as for ``load_corpus``.

    Raises:
        CorpusError: if a file cannot be used.
    """
    remaining = num_examples
    for number, file in enumerate(files):
        separator = [" " if fold_whitespace else "\n"] if number else []
        cleaned = clean(_read_file(file), lower=lower, fold_whitespace=fold_whitespace)
        for chunk in itertools.chain(separator, cleaned):
            yield chunk[:remaining]
            if remaining is not None:
                remaining -= len(chunk)
                if remaining <= 0:
                    return


def check_rereadable(texts: Sequence[Source]) -> None:
    """Raise a CorpusError if a text is a pipe: a run reads its text again when it is resumed."""
    for source in texts:
        if _is_known(source):
            continue
        path = _path(source)
        if source == "-" or path.startswith(("/dev/", "/proc/")) or Path(path).is_fifo():
            raise CorpusError(
                f"{path!r} can be read only once, but a run needs its text again when it is "
                "resumed or evaluated: save the text in a file"
            )


def _is_known(source: Any) -> bool:
    return isinstance(source, str) and source in KNOWN_TEXTS


def _path(source: Source) -> str:
    return os.path.expanduser(os.fsdecode(source))


def _files_of(source: Source, encoding: Optional[str]) -> List[TextFile]:
    """Return the files of a text, in order."""
    if _is_known(source):
        text, path = KNOWN_TEXTS[str(source)], str(find_text(str(source)))
        # The package may have been imported from a zip file, in which the path does not exist.
        data = package_data(f"text/samples/{text.filename}") if text.shipped else None
        return [TextFile(path, path, None, data=data)]
    if source == "-":
        return [TextFile("standard input", None, encoding, is_pipe=True)]
    path = _path(source)
    if not os.path.exists(path):
        raise unknown_text(path)
    if not os.path.isdir(path):
        return [_file(path, encoding)]
    files = [_file(name, encoding)._replace(directory=path) for name in _names_in(path)]
    if not files:
        has_runs = any((lock.parent / CONFIG).exists() for lock in Path(path).rglob(LOCK))
        content = "only runs of d2l-deeprnn, no texts" if has_runs else "no files"
        raise CorpusError(
            f"{path!r} contains {content}: put texts in it, or choose another directory"
        )
    for file in files:
        if file.is_pipe:
            raise CorpusError(
                f"{file.name!r} is a pipe: remove it, since a directory must contain only files"
            )
    return files


def _names_in(directory: str) -> Iterator[str]:
    """Return all files below a directory; its own come before those of its subdirectories.

    Hidden files are left out, and the directories of runs.
    """

    def fail(error: OSError) -> None:
        raise CorpusError(f"{error.filename} cannot be read: {error.strerror}") from None

    for folder, folders, names in os.walk(directory, onerror=fail):
        if LOCK in names and CONFIG in names:  # the directory of a run, perhaps of this one
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(folder, name) for name in sorted(names) if name[0] != ".")


def _file(path: str, encoding: Optional[str]) -> TextFile:
    with _naming_file(path):
        mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):  # a device may never end
        raise CorpusError(f"{path!r} is not a regular file: choose a text file")
    return TextFile(path, path, encoding, is_pipe=stat.S_ISFIFO(mode))


def _read_file(file: TextFile) -> Iterator[str]:
    """Read a file chunk by chunk, without Project Gutenberg's header and footer."""
    is_text = False
    with _naming_file(file.name), _naming_directory(file.directory):
        for chunk in cut_gutenberg(decode_file(_open(file), file.encoding, file.name)):
            is_text = is_text or bool(chunk.strip())
            yield chunk
        if not is_text:
            raise CorpusError(
                f"{file.name} contains no text (it is empty, or nothing is left after cleaning): "
                "choose another file"
            )


def _open(file: TextFile) -> BinaryIO:
    if file.data is not None:
        return io.BytesIO(file.data)
    if file.path is None or file.is_pipe:
        with open(file.path or 0, "rb", closefd=file.path is not None) as pipe:
            return io.BytesIO(_read_pipe(pipe, file.name))
    if file.path.lower().endswith(".gz"):
        return gzip.open(file.path)  # type: ignore[return-value]
    return open(file.path, "rb")


def _read_pipe(pipe: BinaryIO, name: str) -> bytes:
    content = bytearray()
    for chunk in iter(lambda: pipe.read(2**20), b""):
        content += chunk
        if len(content) > PIPE_LIMIT_BYTES:
            raise CorpusError(
                f"{name} has more than {PIPE_LIMIT_BYTES} bytes: save the text in a file"
            )
    return bytes(content)


@contextlib.contextmanager
def _naming_directory(path: Optional[str]) -> Iterator[None]:
    """Add to a CorpusError that the file is one of a directory, if it is."""
    try:
        yield
    except CorpusError as error:
        if path is None:
            raise
        raise CorpusError(
            f"{error}; {path!r} must contain only texts: remove the file, or name the text files"
        ) from None


@contextlib.contextmanager
def _naming_file(name: str) -> Iterator[None]:
    """Turn read errors into a CorpusError that names the file."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error):  # the first is an OSError, too
        raise CorpusError(
            f"{name} cannot be unpacked: it is damaged, incomplete or no gzip file. Get it again, "
            "or leave out .gz if it is plain text"
        ) from None
    except OSError as error:
        raise CorpusError(f"{name} cannot be read: {error.strerror or error}") from None
