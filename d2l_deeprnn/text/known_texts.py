"""Find, download and verify known texts.

A known text is looked up in the directory named by ``$D2L_DEEPRNN_DATA`` and then in the user's
cache directory. If it is in neither, it is downloaded into the cache. Its SHA-1 is always checked,
so that no result is computed from the wrong text.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import os
import re
import sys
import time
from pathlib import Path
from typing import Dict, Optional

from ..errors import CorpusError
from ..files import atomic_file, private_directory, user_path

DATA_VARIABLE = "D2L_DEEPRNN_DATA"
SET_CACHE = "set XDG_CACHE_HOME to the absolute path of a writable directory"
# Limits in seconds: connecting, each wait for the server, and the whole download.
CONNECT_TIMEOUT, READ_TIMEOUT, DOWNLOAD_TIMEOUT = 10.0, 20.0, 300.0
# Small, because the deadline is only checked between chunks, which may come slowly.
CHUNK_BYTES = 64
# An endless response must not fill the memory. Known texts have less than a tenth of this.
DOWNLOAD_LIMIT_BYTES = 16 * 2**20

_SHIPPED_DIRECTORY = Path(__file__).resolve().parent / "samples"
_GUTENBERG = "https://www.gutenberg.org/ebooks/"


class WrongTextError(CorpusError):
    """A file has the name of a known text, but not its contents."""


class TextNotAvailable(CorpusError):
    """A known text is not on this machine and cannot be downloaded."""


class _DownloadFailed(Exception):
    """A download failed; the message gives the reason in a few words."""


@dataclasses.dataclass(frozen=True)
class KnownText:
    """A text with a name.

    Attributes:
        name: name for ``load_corpus``.
        title: title.
        author: author.
        source: origin, as shown to the user: a web page or a few words.
        filename: name of its file.
        sha1: SHA-1 of the file in hexadecimal; None for a sample text of this package.
        url: URL of the file with this checksum, or None if it is no longer available.
        shipped: whether the file is part of this package.
    """

    name: str
    title: str
    author: str
    source: str
    filename: str
    sha1: Optional[str] = None
    url: Optional[str] = None
    shipped: bool = False


def _sample(name: str, title: str) -> KnownText:
    author, source = "written for d2l_deeprnn", "included in d2l_deeprnn"
    return KnownText(name, title, author, source, f"{name}.txt", shipped=True)


KNOWN_TEXTS: Dict[str, KnownText] = {
    text.name: text
    for text in (
        KnownText(
            "time_machine",
            "The Time Machine",
            "H. G. Wells",
            "the book's own file, from the d2l data bucket",
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
        _sample("the_clockmakers_guest", "The Clockmaker's Guest"),
        _sample("the_tide_tables", "The Tide Tables"),
        _sample("letters_from_a_cousin", "Letters from a Cousin"),
    )
}
BOOK_TEXT = "time_machine"
SAMPLE_TEXT = "the_clockmakers_guest"


def title_of(source: str) -> str:
    """Return the title of a known text, or the name of another file or directory."""
    return KNOWN_TEXTS[source].title if source in KNOWN_TEXTS else Path(source).name or source


def find_text(name: str) -> Path:
    """Return the file of a known text, downloaded into the cache if necessary.

    Args:
        name: name of a known text.

    Returns:
        Path of the file, whose SHA-1 has been checked.

    Raises:
        TextNotAvailable: if it is not on this machine and cannot be downloaded.
        WrongTextError: if the file does not have the contents of the text.
        CorpusError: if the name is unknown, or the data directory does not exist.
    """
    return locate_text(name) or _download(KNOWN_TEXTS[name])


def locate_text(name: str) -> Optional[Path]:
    """Return the file of a known text on this machine, or None; never use the network.

    Args, Raises: As ``find_text``.
    """
    if name not in KNOWN_TEXTS:
        raise unknown_text(name)
    text = KNOWN_TEXTS[name]
    if text.shipped:
        return _SHIPPED_DIRECTORY / text.filename
    for directory in (data_directory(), cache_directory()):
        if directory is None or not (directory / text.filename).is_file():
            continue
        path = directory / text.filename
        try:
            sha1 = hashlib.sha1(path.read_bytes()).hexdigest()
        except OSError as error:
            raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from None
        if sha1 != text.sha1:
            raise WrongTextError(
                f"{path} is not the known text {name!r}: its SHA-1 should be {text.sha1} but is "
                f"{sha1}. Delete the file if it is damaged. To use it anyway, pass its path: "
                f"load_corpus({str(path)!r}). {_remedies(text)}"
            )
        return path
    return None


def unknown_text(name: str) -> CorpusError:
    """Return the error for a name that is neither a known text nor a file."""
    close = difflib.get_close_matches(name[:100].lower(), KNOWN_TEXTS)
    hint = f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
    return CorpusError(
        f"{name[:200]!r} is neither a known text nor a file{hint}; known texts: "
        f"{', '.join(KNOWN_TEXTS)}"
    )


def data_directory() -> Optional[Path]:
    """Return the directory named by ``$D2L_DEEPRNN_DATA``; None if that is not set or empty.

    Raises:
        CorpusError: if it is not a directory.
    """
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        return None
    path = user_path(value)
    if not path.is_dir():
        raise CorpusError(
            f"{DATA_VARIABLE} is set to {value!r}, which is not a directory: set it to the "
            "directory that contains the texts, or unset it"
        )
    return path


def cache_directory() -> Optional[Path]:
    """Return the directory into which texts are downloaded, which may not exist yet.

    Returns:
        ``$XDG_CACHE_HOME/d2l_deeprnn`` or else ``~/.cache/d2l_deeprnn``, on macOS
        ``~/Library/Caches/d2l_deeprnn``; None if the user has no home directory.
    """
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):  # the XDG specification says to ignore relative paths
        return Path(chosen) / "d2l_deeprnn"
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        return None
    caches = ("Library", "Caches") if sys.platform == "darwin" else (".cache",)
    return Path(home, *caches, "d2l_deeprnn")


def _download(text: KnownText) -> Path:
    """Download a text into the cache, where it appears only complete and verified."""
    directory = cache_directory()
    if text.url is None:
        raise _not_available(text, "no server is known to have this exact file")
    if directory is None:
        raise _not_available(
            text, f"not downloaded: there is no home directory for the cache; {SET_CACHE}"
        )
    try:
        private_directory(directory)
        content = _fetch(text.url)
        _verify(content, text)
        with atomic_file(directory / text.filename, mode=0o600) as file:
            file.write(content)
    except _DownloadFailed as error:
        raise _not_available(text, f"{text.url} ({error})") from None
    except OSError as error:
        raise _not_available(
            text, f"{text.url} into {directory} ({error.strerror or error}; {SET_CACHE})"
        ) from None
    return directory / text.filename


def _fetch(url: str) -> bytes:
    """Return the body of the server's response; fail if it is too slow or too large."""
    import requests

    deadline = time.monotonic() + DOWNLOAD_TIMEOUT
    content = bytearray()
    try:
        with requests.get(url, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as response:
            if response.status_code != 200:
                raise _DownloadFailed(f"HTTP status {response.status_code}")
            for chunk in response.iter_content(CHUNK_BYTES):
                content += chunk
                if time.monotonic() > deadline:
                    raise _DownloadFailed(f"not complete after {DOWNLOAD_TIMEOUT:g} s")
                if len(content) > DOWNLOAD_LIMIT_BYTES:
                    raise _DownloadFailed(f"more than {DOWNLOAD_LIMIT_BYTES} bytes")
    # Requests' errors are OSErrors; those of urllib3 for a malformed proxy are ValueErrors.
    except (OSError, ValueError) as error:
        # Requests wraps the error of urllib3 that has the reason.
        reason = getattr(error.args[0] if error.args else None, "reason", error)
        parts = reason.args if reason.args and isinstance(reason.args[0], str) else [reason]
        said = ": ".join(map(str, parts))
        message = re.sub(r"^<[^>]*>: ", "", " ".join(said.split()))
        raise _DownloadFailed(f"{type(error).__name__}: {message[:200]}") from None
    return bytes(content)


def _verify(content: bytes, text: KnownText) -> None:
    sha1 = hashlib.sha1(content).hexdigest()
    if sha1 == text.sha1:
        return
    if content.lstrip().startswith(b"<"):
        raise _DownloadFailed(
            "it sent a web page instead of the text; if this network has a login page (captive "
            "portal), log in with a browser and try again"
        )
    raise _DownloadFailed(
        f"it sent {len(content)} bytes, which are not this text: their SHA-1 is {sha1}"
    )


def _not_available(text: KnownText, attempt: str) -> TextNotAvailable:
    """Return an error that lists the places that were tried, and the remedies."""
    data, cache = data_directory(), cache_directory()
    tried = [f"{DATA_VARIABLE} (not set)" if data is None else f"{data / text.filename} (missing)"]
    if cache is not None:
        tried.append(f"{cache / text.filename} (missing)")
    return TextNotAvailable(
        f"{text.title} ({text.filename}) is not available; tried: "
        f"{'; '.join([*tried, attempt])}. {_remedies(text)}"
    )


def _remedies(text: KnownText) -> str:
    """Return advice on how to get a text, or to continue without it."""
    if text.url is None:
        second = f"save any edition, such as {text.source}, and pass the path of its file"
    else:
        second = f"run this again with network access, to download {text.url}"
    return (
        f"You can (1) put a copy with SHA-1 {text.sha1}, named {text.filename}, into a directory "
        f"and set {DATA_VARIABLE} to that directory; (2) {second}; (3) use a text of your own by "
        f"its path, or a sample text by its name, such as {SAMPLE_TEXT}"
    )
