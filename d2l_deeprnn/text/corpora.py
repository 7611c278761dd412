"""The texts: which ones are known, where they come from, and how a text becomes indices.

A known text is looked for in the directory that ``$D2L_DEEPRNN_DATA`` names, then in the user's
cache directory, and is then downloaded into the cache. Wherever it comes from, its SHA-1 is
checked, so that figures are never computed on another text without anybody noticing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import gzip
import hashlib
import io
import os
import re
import stat
import sys
import time
import zlib
from pathlib import Path
from typing import (
    Any,
    BinaryIO,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np

from .._checks import positive_int, text_encoding
from ..errors import D2LError
from ..files import atomic_file, package_data, private_directory, user_path
from .cleaning import clean, cut_gutenberg
from .encoding import NotText, decode_file
from .vocab import Vocab, count_characters

DATA_VARIABLE = "D2L_DEEPRNN_DATA"
# Seconds for connecting, for each wait on the server, and for a whole download.
CONNECT_TIMEOUT, READ_TIMEOUT, DOWNLOAD_TIMEOUT = 10.0, 20.0, 300.0
# Small, since a chunk is waited for however slowly it comes.
CHUNK_BYTES = 64
SET_CACHE = "set XDG_CACHE_HOME to the absolute path of a writable directory"
# More than ten times the largest known text: a server that never stops must not fill the disk.
DOWNLOAD_LIMIT_BYTES = 16 * 2**20
# What comes through a pipe has no length that could be looked at first.
PIPE_LIMIT_BYTES = 2**30
PIPE_PIECE_BYTES = 2**20

_SHIPPED_DIRECTORY = Path(__file__).resolve().parent / "samples"
_SHIPPED_AUTHOR = "d2l_deeprnn (original sample text)"
_GUTENBERG = "https://www.gutenberg.org/ebooks/"


class CorpusError(D2LError, RuntimeError):
    """A text cannot be used; the message says which, why, and what to do."""


class WrongTextError(CorpusError):
    """A file that goes by the name of a known text holds something else."""


class TextNotAvailable(CorpusError):
    """A known text is not on this machine and cannot be downloaded.

    Attributes:
        lines: the message, in parts that can stand on lines of their own.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(" ".join(lines))
        self.lines = lines


class _TransferFailed(Exception):
    """A download broke off; the message says why, in a few words."""


@dataclasses.dataclass(frozen=True)
class KnownText:
    """A text that can be asked for by name.

    Attributes:
        name: What ``load_corpus`` calls it.
        title: Its title.
        author: Who wrote it.
        source: Where it comes from: a page or a few words, for people to read.
        filename: What its file is called.
        sha1: SHA-1 of the file's bytes, in hexadecimal; None for a shipped text.
        url: Where the very file with this sum can be downloaded; None if it is no longer served.
        shipped: Whether the file is part of this package.
    """

    name: str
    title: str
    author: str
    source: str
    filename: str
    sha1: Optional[str] = None
    url: Optional[str] = None
    shipped: bool = False


def _shipped_text(name: str, title: str) -> KnownText:
    return KnownText(
        name, title, _SHIPPED_AUTHOR, "part of d2l_deeprnn", name + ".txt", shipped=True
    )


KNOWN_TEXTS: Dict[str, KnownText] = {
    text.name: text
    for text in (
        KnownText(
            "time_machine",
            "The Time Machine",
            "H. G. Wells",
            "the file of the book, from the d2l data bucket",
            "timemachine.txt",
            sha1="090b5e7e70c295757f55df93cb0a180b9691891a",
            url="https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
        ),
        KnownText(
            "war_of_the_worlds",
            "The War of the Worlds",
            "H. G. Wells",
            _GUTENBERG + "36",
            "war_of_the_worlds.txt",
            sha1="4203ebecc5e4ce9541c3c24fc590443e9a31bef1",
        ),
        KnownText(
            "pride_and_prejudice",
            "Pride and Prejudice",
            "Jane Austen",
            _GUTENBERG + "1342",
            "pride_and_prejudice.txt",
            sha1="c44aa6526d26ef310f634c0d90e4b1f42207e498",
        ),
        KnownText(
            "tinyshakespeare",
            "Tiny Shakespeare",
            "William Shakespeare",
            "https://github.com/karpathy/char-rnn",
            "tinyshakespeare.txt",
            sha1="04486597058d11dcc2c556b1d0433891eb639d2e",
            url=(
                "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
                "tinyshakespeare/input.txt"
            ),
        ),
        _shipped_text("the_clockmakers_guest", "The Clockmaker's Guest"),
        _shipped_text("the_tide_tables", "The Tide Tables"),
        _shipped_text("letters_from_a_cousin", "Letters from a Cousin"),
    )
}
BOOK_TEXT = "time_machine"
SAMPLE_TEXT = "the_clockmakers_guest"

Source = Union[str, "os.PathLike[str]"]


# Loading: text -> cleaned text -> vocabulary and indices.


def load_data_time_machine(num_examples: Optional[int] = 10000) -> Tuple[List[int], Vocab]:
    """Load the beginning of The Time Machine, as the chapter does.

    Args:
        num_examples: How many characters to take; None, or more than there are, takes the book.

    Returns:
        The index of each character, and the vocabulary of these characters.

    Raises:
        TextNotAvailable: If the book is not on this machine and cannot be downloaded.
        WrongTextError: If the file found is not the book's.
        ValueError: If ``num_examples`` is not a positive integer.

    Source:
        ``d2l.load_data_time_machine`` of d2l 0.9.1.
    """
    # Differs: the original opened ../data/timemachine.txt, which is another file, or none, in
    # every working directory.
    try:
        indices, vocab = load_corpus(BOOK_TEXT, num_examples)
    # Whoever calls this reads the error, and not the way through this module that led to it.
    except TextNotAvailable as error:
        raise TextNotAvailable("\n".join(error.lines)) from None
    except CorpusError as error:
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
        texts: Name of a known text, path of a file or of a directory, or a list or tuple of these.
            A string that is a known name means that text, even where a file is called the same; a
            path object always means the file. A file whose name ends in ``.gz`` is unpacked. Of a
            directory, all files are taken in the order of their names, then those of its
            subdirectories; what is hidden (``.name``) is left out. ``"-"`` is standard input. That
            and any other pipe is read once, to its end, and is kept in memory meanwhile.
        num_examples: How many characters to take from the beginning, after cleaning and joining;
            None takes all of them. The texts are read as far as that takes.
        lower: Whether to turn the text into lower case.
        fold_whitespace: Whether to turn line breaks and runs of white space into one space.
        encoding: That of the files, by any name that Python knows; None for UTF-8. Known texts
            are in UTF-8.

    Returns:
        The index of each character, an int32 array, and one vocabulary over all of them. Several
        texts are joined by a space where white space is folded, otherwise by a line break.

    Raises:
        CorpusError: If a text cannot be found or used.
        TypeError: If ``texts`` is none of the above.
        ValueError: If ``num_examples`` is not a positive integer, ``texts`` is an empty list, or
            ``encoding`` is unknown or no file is there to be read in it.

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
    """Read, clean and join texts: ``load_corpus`` before the characters become indices.

    Args, Raises: As ``load_corpus``.
    """
    return "".join(_pieces(texts, num_examples, lower, fold_whitespace, encoding))


class TextFile(NamedTuple):
    """A file that is read as a text.

    Attributes:
        name: For messages.
        path: None for standard input.
        encoding: None for UTF-8.
        is_pipe: Whether it can be read only once.
        data: The bytes of a sample text of this package; None for a file.
    """

    name: str
    path: Optional[str]
    encoding: Optional[str]
    is_pipe: bool = False
    data: Optional[bytes] = None


def text_files(
    texts: Union[Source, Sequence[Source]], encoding: Optional[str] = None
) -> List[TextFile]:
    """Find the files of texts, without reading them.

    Args, Raises: As ``load_corpus``.
    """
    sources: Sequence[Any] = texts if isinstance(texts, (list, tuple)) else [texts]
    if not sources:
        raise ValueError("no text to load: the list of texts is empty")
    for source in sources:
        _check_source(source)
    if encoding is not None:
        encoding = text_encoding("encoding", encoding)
        if all(map(_is_known, sources)):
            raise ValueError(
                f"encoding {encoding!r} is for files: the encoding of {', '.join(sources)} is "
                "known, so leave it out"
            )
    return [file for source in sources for file in _files_of(source, encoding)]


def text_pieces(
    files: Sequence[TextFile],
    num_examples: Optional[int] = None,
    *,
    lower: bool = True,
    fold_whitespace: bool = True,
) -> Iterator[str]:
    """Read, clean and join files, piece by piece.

    Args:
        files: As ``text_files`` gives them.
        num_examples, lower, fold_whitespace: As for ``load_corpus``.

    Raises:
        CorpusError: If a file cannot be used.
    """

    def joined() -> Iterator[str]:
        for number, file in enumerate(files):
            if number:
                yield " " if fold_whitespace else "\n"
            yield from clean(_read_file(file), lower=lower, fold_whitespace=fold_whitespace)

    pieces = filter(None, joined())
    if num_examples is None:
        yield from pieces
        return
    left, is_text = num_examples, False
    for piece in pieces:
        if left:
            yield piece[:left]
        left = max(left - len(piece), 0)
        # Whether a file holds a text at all is known when some of it was read.
        is_text = is_text or bool(piece.strip())
        if not left and is_text:
            return


def check_kept(texts: Sequence[Source]) -> None:
    """Make sure that texts can be read again later, as resuming a run requires.

    Raises:
        CorpusError: If one of them is standard input, another pipe or the like.
    """
    for source in texts:
        if _is_known(source):
            continue
        name = _path(source)
        if source == "-" or name.startswith(("/dev/", "/proc/")) or _is_pipe(name):
            raise CorpusError(
                f"{name!r} can be read only once, but a run needs its text again when it is "
                "resumed or evaluated: save the text in a file"
            )


def _pieces(
    texts: Union[Source, Sequence[Source]],
    num_examples: Optional[int],
    lower: bool,
    fold_whitespace: bool,
    encoding: Optional[str],
) -> Iterator[str]:
    if num_examples is not None:
        # Differs: the original cut with any number: a negative one from the end, 0 to nothing.
        positive_int("num_examples", num_examples)
    files = text_files(texts, encoding)
    return text_pieces(files, num_examples, lower=lower, fold_whitespace=fold_whitespace)


def resolve_auto() -> Tuple[str, Optional[str]]:
    """Choose the text that ``auto`` means: the book's, or a shipped sample in its place.

    Returns:
        The name of the text, and None for the book's text, or the reason why it is another one.
        Whoever prints figures of another text has to say that they are not the book's.

    Raises:
        CorpusError: If the book's text is there but wrong, or the data directory is.
    """
    try:
        find_text(BOOK_TEXT)
    except TextNotAvailable as error:
        return SAMPLE_TEXT, str(error)
    return BOOK_TEXT, None


# Finding: which file holds a known text.


def find_text(name: str) -> Path:
    """Find the file of a known text; download it into the cache where it is not on this machine.

    Args:
        name: Name of a known text.

    Returns:
        Path of the file, its SHA-1 checked.

    Raises:
        TextNotAvailable: If it is not on this machine and cannot be downloaded.
        WrongTextError: If the file found is another text.
        CorpusError: If the name is unknown, or the data directory does not exist.
    """
    return locate_text(name) or _download(KNOWN_TEXTS[name])


def locate_text(name: str) -> Optional[Path]:
    """Find the file of a known text on this machine, without the network.

    Args:
        name: Name of a known text.

    Returns:
        Path of the file, its SHA-1 checked, or None where it is not on this machine.

    Raises:
        WrongTextError: If the file found is another text.
        CorpusError: If the name is unknown, or the data directory does not exist.
    """
    if name not in KNOWN_TEXTS:
        raise _unknown(name)
    text = KNOWN_TEXTS[name]
    if text.shipped:
        return _SHIPPED_DIRECTORY / text.filename
    for directory in (data_directory(), cache_directory()):
        if directory is not None and os.path.isfile(directory / text.filename):
            path = directory / text.filename
            found = hashlib.sha1(_read_bytes(path)).hexdigest()
            if found != text.sha1:
                raise WrongTextError(
                    f"{path} is not the known text {name!r}: its SHA-1 should be {text.sha1} but "
                    f"is {found}; delete the file if it is damaged, or pass its path to use it "
                    f"anyway: load_corpus({str(path)!r}). {' '.join(_ways_on(text))}"
                )
            return path
    return None


def data_directory() -> Optional[Path]:
    """Return the directory that ``$D2L_DEEPRNN_DATA`` names.

    Returns:
        Path of the directory, or None where the variable is not set or empty.

    Raises:
        CorpusError: If it is not a directory that can be read.
    """
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        return None
    path = user_path(value)
    if not path.is_dir():
        raise CorpusError(
            f"{DATA_VARIABLE} is set to {value!r}, which is not a directory: set it to the "
            "directory that holds the texts, or unset it"
        )
    # A directory that may not be entered looks as if it held nothing.
    if not os.access(path, os.R_OK | os.X_OK):
        raise CorpusError(f"{DATA_VARIABLE} is set to {value!r}, a directory that cannot be read")
    return path


def cache_directory() -> Optional[Path]:
    """Return the directory into which texts are downloaded; it may not exist yet.

    Returns:
        ``$XDG_CACHE_HOME/d2l_deeprnn`` or else ``~/.cache/d2l_deeprnn``, on macOS
        ``~/Library/Caches/d2l_deeprnn``; None where the user has no home directory.
    """
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):  # the XDG specification has a relative one ignored
        return Path(chosen) / "d2l_deeprnn"
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        return None
    caches = ("Library", "Caches") if sys.platform == "darwin" else (".cache",)
    return Path(home, *caches, "d2l_deeprnn")


# Downloading.


def _download(text: KnownText) -> Path:
    """Download a text into the cache: checked first, then put in place in one step."""
    if text.url is None:
        raise _not_available(text, "no server is known to have this exact file")
    directory = cache_directory()
    if directory is None:
        raise _not_available(
            text, f"not downloaded: there is no home directory for the cache; {SET_CACHE}"
        )
    target = directory / text.filename
    try:
        private_directory(directory)
        content = _fetch(text.url)
        found = hashlib.sha1(content).hexdigest()
        if found == text.sha1:
            with atomic_file(target, mode=0o600) as file:
                file.write(content)
            return target
    except _TransferFailed as error:
        raise _not_available(text, f"{text.url} ({error})") from None
    except OSError as error:
        raise _not_available(
            text, f"{text.url} into {directory} ({error.strerror or error}; {SET_CACHE})"
        ) from None
    # Unlike a wrong file on this machine, nobody put it there: the text is not available.
    problem = f"it sent {len(content)} bytes, which are not this text: their SHA-1 is {found}"
    if content.lstrip().startswith(b"<"):
        problem = (
            "it sent a web page instead of the text; if this network has a login page (captive "
            "portal), log in with a browser and try again"
        )
    raise _not_available(text, f"{text.url} ({problem})")


def _fetch(url: str) -> bytes:
    """Return what a server sends, within the limits of time and size."""
    import requests

    deadline = time.monotonic() + DOWNLOAD_TIMEOUT
    content = bytearray()
    try:
        with requests.get(url, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as response:
            if response.status_code != 200:
                raise _TransferFailed(f"HTTP status {response.status_code}")
            for chunk in response.iter_content(CHUNK_BYTES):
                content += chunk
                if time.monotonic() > deadline:
                    raise _TransferFailed(f"not complete after {DOWNLOAD_TIMEOUT:g} s")
                if len(content) > DOWNLOAD_LIMIT_BYTES:
                    raise _TransferFailed(f"more than {DOWNLOAD_LIMIT_BYTES} bytes")
    # Requests' errors are OSErrors; urllib3's, of a proxy that makes no sense, are ValueErrors.
    except (OSError, ValueError) as error:
        raise _TransferFailed(f"{type(error).__name__}: {_cause(error)}") from None
    return bytes(content)


def _cause(error: BaseException) -> str:
    """The point of an error of Requests, which wraps those of urllib3."""
    while True:
        inside = [getattr(error, "reason", None), *reversed(error.args)]
        wrapped = [e for e in inside if isinstance(e, BaseException)]
        if not wrapped:
            break
        error = wrapped[0]
    # Without the connection, as an object.
    return _shortened(re.sub(r"^(<[^>]*>|\w*Connection(Pool)?\([^)]*\)): ", "", str(error)))


def _not_available(text: KnownText, tried: str) -> TextNotAvailable:
    """Say in one line what was tried for a text, and the ways on."""
    data, cache = data_directory(), cache_directory()
    places = [
        f"{DATA_VARIABLE} (not set)" if data is None else f"{data / text.filename} (not there)",
        *([] if cache is None else [f"{cache / text.filename} (not there)"]),
        tried,
    ]
    return TextNotAvailable(
        f"{text.title} ({text.filename}) is not available; tried: {'; '.join(places)}.",
        *_ways_on(text),
    )


def _ways_on(text: KnownText) -> Tuple[str, str, str]:
    """Say how to get on without, or with another copy of, a text."""
    if text.url is None:
        second = f"save any edition, such as {text.source}, and pass the path of its file"
    else:
        second = f"run this again with network access, to download {text.url}"
    return (
        f"You can (1) put a copy with SHA-1 {text.sha1}, called {text.filename}, into a directory "
        f"and set {DATA_VARIABLE} to that directory;",
        f"(2) {second};",
        "(3) use a text of your own by its path, or a bundled sample: "
        f"load_corpus({SAMPLE_TEXT!r})",
    )


# Reading: bytes -> text.


def _check_source(source: Any) -> None:
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            "a text is the name of a known text, a path, or a list or tuple of these, not "
            f"{_shortened(repr(source))} of type {type(source).__name__}"
        )


def _is_known(source: Any) -> bool:
    return isinstance(source, str) and source in KNOWN_TEXTS


def _path(source: Source) -> str:
    return os.path.expanduser(os.fsdecode(source))


def _files_of(source: Source, encoding: Optional[str]) -> List[TextFile]:
    """The files of a text, in order."""
    if _is_known(source):
        text, path = KNOWN_TEXTS[str(source)], str(find_text(str(source)))
        data = package_data(f"text/samples/{text.filename}") if text.shipped else None
        return [TextFile(path, path, None, data=data)]
    if source == "-":
        return [TextFile("standard input", None, encoding, is_pipe=True)]
    name = _path(source)
    mode = _mode(name)
    if mode is None:
        raise _unknown(name)
    if not stat.S_ISDIR(mode):
        return [_file(name, mode, encoding)]
    paths = list(_paths_in(name))
    if not paths:
        raise CorpusError(f"{name!r} contains no files: put texts in it, or choose another")
    files = [_file(path, _mode(path), encoding) for path in paths]
    for file in files:
        if file.is_pipe:
            raise CorpusError(f"{file.name!r} is a pipe: a directory must contain only files")
    return files


def _paths_in(directory: str) -> Iterator[str]:
    """The files in a directory, each directory's before those of its subdirectories."""

    def refuse(error: OSError) -> None:
        raise CorpusError(f"{error.filename} cannot be read: {error.strerror or error}") from None

    for place, directories, names in os.walk(directory, onerror=refuse):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        yield from (os.path.join(place, name) for name in sorted(names) if name[0] != ".")


def _file(name: str, mode: Optional[int], encoding: Optional[str]) -> TextFile:
    if mode is None:
        raise CorpusError(f"{name!r} cannot be read: it is a broken link")
    if stat.S_ISREG(mode) or stat.S_ISFIFO(mode):
        return TextFile(name, name, encoding, is_pipe=stat.S_ISFIFO(mode))
    # A device may never come to an end.
    raise CorpusError(f"{name!r} is not a regular file: choose a text file")


def _read_file(file: TextFile) -> Iterator[str]:
    """Read a file piece by piece, without what is not part of the text."""
    is_text = False
    try:
        with _reading(file.name), _opened(file) as raw:
            for piece in cut_gutenberg(decode_file(raw, file.encoding, file.name)):
                is_text = is_text or bool(piece.strip())
                yield piece
    except NotText as error:
        raise CorpusError(str(error)) from None
    if not is_text:
        raise CorpusError(
            f"{file.name} contains no text: it is empty, or nothing is left after cleaning"
        )


@contextlib.contextmanager
def _opened(file: TextFile) -> Iterator[BinaryIO]:
    """Open a file, unpacked; what comes through a pipe is read first."""
    if file.path is None:
        yield io.BytesIO(_read_standard_input())
        return
    if file.data is not None:
        yield io.BytesIO(file.data)
        return
    with open(file.path, "rb") as raw:
        if file.is_pipe:
            yield io.BytesIO(_read_pipe(raw, file.name))
        elif not file.path.lower().endswith(".gz"):
            yield raw
        elif raw.read(2) != b"\x1f\x8b":
            raise CorpusError(
                f"{file.name} is not compressed with gzip, although its name ends in .gz: rename it"
            )
        else:
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked  # type: ignore[misc]


def _read_standard_input() -> bytes:
    try:
        os.fstat(0)
    except OSError:
        raise CorpusError("standard input (-) is closed: there is nothing to read") from None
    with _reading("standard input"), open(0, "rb", closefd=False) as pipe:
        return _read_pipe(pipe, "standard input")


def _read_pipe(pipe: BinaryIO, name: str) -> bytes:
    raw = bytearray()
    for piece in iter(lambda: pipe.read(PIPE_PIECE_BYTES), b""):
        raw += piece
        if len(raw) > PIPE_LIMIT_BYTES:
            raise CorpusError(
                f"more than {PIPE_LIMIT_BYTES} bytes came through {name}: save the text in a file"
            )
    return bytes(raw)


def _is_pipe(name: str) -> bool:
    mode = _mode(name)
    return mode is not None and stat.S_ISFIFO(mode)


def _mode(name: str) -> Optional[int]:
    """What kind of file has a name; None if there is none."""
    try:
        return os.stat(name).st_mode
    except ValueError:  # a NUL in it
        return None
    except OSError as error:
        # A text passed by mistake is too long for a name.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise CorpusError(f"{name} cannot be read: {error.strerror or error}") from None


def _unknown(name: str) -> CorpusError:
    """Say that a name means nothing, and what could have been meant."""
    close = difflib.get_close_matches(name[:100].lower(), KNOWN_TEXTS)
    hint = f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
    return CorpusError(
        f"{_shortened(repr(name))} is neither a known text nor a file{hint}; known texts: "
        f"{', '.join(KNOWN_TEXTS)}"
    )


def _read_bytes(path: Path) -> bytes:
    with _reading(path):
        return path.read_bytes()


@contextlib.contextmanager
def _reading(name: Union[str, Path]) -> Iterator[None]:
    """Say of whatever goes wrong which file it is about."""
    try:
        yield
    except OSError as error:
        raise CorpusError(f"{name} cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error) as error:  # of a compressed file
        raise CorpusError(f"{name} is damaged or incomplete: {error}") from None
    except (MemoryError, OverflowError):
        raise CorpusError(f"{name} cannot be read: it does not fit in memory") from None


def _shortened(words: str) -> str:
    """Fit words of unknown length into a message of one line."""
    words = " ".join(words.split())
    return words if len(words) <= 200 else words[:200] + "..."
