"""The texts: found, downloaded from a server of this machine's own, cleaned, refused."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gzip
import hashlib
import http.server
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2l_deeprnn import cli, files
from d2l_deeprnn.text import cleaning, corpora, encoding
from d2l_deeprnn.text.corpora import CorpusError, TextNotAvailable, WrongTextError

GIVEN_DATA = os.environ.get("D2L_DEEPRNN_DATA")
BODY = b"A text that no one wrote.\n" * 400
SHIPPED = ["the_clockmakers_guest", "the_tide_tables", "letters_from_a_cousin"]


@pytest.fixture(autouse=True)
def _nothing_but_this_machine(monkeypatch, tmp_path):
    """No network, no proxy, no data directory, and a cache of the test's own."""
    connect = socket.socket.connect

    def connect_here(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] != "127.0.0.1":
            raise AssertionError(f"a test asked for the network: {address}")
        return connect(self, address)

    def no_names(host, *args, **kwargs):
        if host != "127.0.0.1":
            raise socket.gaierror(f"a test asked for the address of {host}")
        return lookup(host, *args, **kwargs)

    lookup = socket.getaddrinfo
    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    for name in [*filter(lambda name: name.lower().endswith("_proxy"), os.environ)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("D2L_DEEPRNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def data(monkeypatch):
    """The directory with the real books, as the data directory."""
    if not GIVEN_DATA:
        pytest.skip("D2L_DEEPRNN_DATA is not set: it has to name the directory with the books")
    monkeypatch.setenv("D2L_DEEPRNN_DATA", GIVEN_DATA)
    return Path(GIVEN_DATA)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "d2l_deeprnn"


@pytest.fixture
def server():
    """A web server in a thread; a test sets ``answer`` to a function of the request handler."""
    released = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append(dict(self.headers))
            with contextlib.suppress(ConnectionError):
                server.answer(self)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.requests, server.released = [], released
    server.answer = whole_answer(BODY)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def book(server, monkeypatch):
    """The book's entry among the known texts, with BODY in the book's place on the server."""
    return replace_text(
        monkeypatch,
        url=f"http://127.0.0.1:{server.server_port}/timemachine.txt",
        sha1=hashlib.sha1(BODY).hexdigest(),
    )


def replace_text(monkeypatch, **changes):
    text = dataclasses.replace(corpora.KNOWN_TEXTS["time_machine"], **changes)
    monkeypatch.setitem(corpora.KNOWN_TEXTS, "time_machine", text)
    return text


def whole_answer(body, status=200, length=None):
    """Answer with this body, and announce ``length`` bytes (None: as many as there are)."""

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def listing(directory):
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def loaded_text(*args, **kwargs):
    indices, vocab = corpora.load_corpus(*args, **kwargs)
    return "".join(vocab.to_tokens(indices))


def kept_text(texts):
    """The text of files with its case and white space."""
    return corpora.load_text(texts, lower=False, fold_whitespace=False)


# The chapter's function.


@pytest.mark.parametrize("num_examples", [1, 100, 10_000, 10**7])
def test_time_machine_is_the_originals(original, data, tmp_path, monkeypatch, num_examples):
    (tmp_path / "data").mkdir()
    (tmp_path / "x").mkdir()
    shutil.copy(str(data / "timemachine.txt"), str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path / "x")
    theirs, their_vocab = original.load_data_time_machine(num_examples)
    ours, vocab = corpora.load_data_time_machine(num_examples)
    assert ours == theirs
    assert vars(vocab) == vars(their_vocab)


def test_time_machine_has_the_books_sizes(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no ../data/timemachine.txt from here
    indices, vocab = corpora.load_data_time_machine()
    assert (len(indices), len(vocab)) == (10_000, 44)
    assert "".join(vocab.to_tokens(indices[:16])) == "the time machine"
    whole, _ = corpora.load_data_time_machine(None)
    assert whole == corpora.load_data_time_machine(10**9)[0] and len(whole) > 170_000


# Known texts where the real files are.


@pytest.mark.parametrize(
    "name, first, last",
    [
        ("war_of_the_worlds", "\nI.\nTHE EVE OF THE WAR.\n", "among the dead.\n"),
        ("pride_and_prejudice", "PRIDE AND PREJUDICE\n\nBy Jane Austen\n", "of uniting them.\n"),
        ("tinyshakespeare", "First Citizen:\n", "Whiles thou art waking.\n"),
    ],
)
def test_real_books_begin_and_end_with_the_book(data, name, first, last):
    text = kept_text(name)
    assert text.startswith(first) and text.endswith(last)
    assert "\r" not in text and "\ufeff" not in text and "Gutenberg" not in text


def test_several_texts_become_one_corpus_with_one_vocabulary(data):
    both, vocab = corpora.load_corpus(["time_machine", "war_of_the_worlds"])
    first, second = loaded_text("time_machine"), loaded_text("war_of_the_worlds")
    assert "".join(vocab.to_tokens(both)) == first + " " + second
    assert set(vocab.idx_to_token) == {"<unk>"} | set(first + second)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_text_needs_neither_network_nor_directories(name, tmp_path, monkeypatch):
    monkeypatch.setenv("D2L_DEEPRNN_DATA", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    indices, vocab = corpora.load_corpus(name)
    assert len(indices) > 1000 and vocab.unk not in indices
    assert corpora.KNOWN_TEXTS[name].author == "d2l_deeprnn (original sample text)"


def test_every_known_text_goes_by_its_name_and_can_be_verified():
    for name, text in corpora.KNOWN_TEXTS.items():
        assert text.name == name
        assert text.shipped or len(text.sha1) == 40
        assert not (text.shipped and text.url)


# Where a known text is looked for.


def test_data_directory_comes_before_the_cache(book, cache, tmp_path, monkeypatch):
    cache.mkdir(parents=True)
    in_cache = write(cache / book.filename, BODY)
    assert corpora.find_text("time_machine") == in_cache
    in_data = write(tmp_path / book.filename, BODY)
    monkeypatch.setenv("D2L_DEEPRNN_DATA", str(tmp_path))
    assert corpora.find_text("time_machine") == in_data


@pytest.mark.parametrize("place", ["data", "cache"])
def test_wrong_text_is_refused_wherever_it_is(book, cache, server, tmp_path, monkeypatch, place):
    directory = tmp_path if place == "data" else cache
    directory.mkdir(parents=True, exist_ok=True)
    path = write(directory / book.filename, "another edition")
    if place == "data":
        monkeypatch.setenv("D2L_DEEPRNN_DATA", str(tmp_path))
    found = hashlib.sha1(b"another edition").hexdigest()
    for ask in (corpora.load_data_time_machine, corpora.resolve_auto):
        with pytest.raises(WrongTextError, match="is not the known text 'time_machine'") as caught:
            ask()
        for part in (str(path), book.sha1, found, f"load_corpus({str(path)!r})"):
            assert part in str(caught.value)
    assert server.requests == [] and path.read_text() == "another edition"
    assert loaded_text(str(path)) == "another edition"  # the way on that the message names


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_data_directory_that_is_none_is_an_error(tmp_path, monkeypatch, kind):
    path = tmp_path / "none" if kind == "missing" else write(tmp_path / "file", "x")
    monkeypatch.setenv("D2L_DEEPRNN_DATA", str(path))
    for ask in (lambda: corpora.find_text("time_machine"), corpora.resolve_auto):
        with pytest.raises(CorpusError, match="D2L_DEEPRNN_DATA is set to .* not a dir") as caught:
            ask()
        assert str(path) in str(caught.value) and not isinstance(caught.value, TextNotAvailable)


def test_data_directory_that_may_not_be_entered_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("D2L_DEEPRNN_DATA", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *args: False)  # root may enter any directory
    with pytest.raises(CorpusError, match="a directory that cannot be read"):
        corpora.find_text("time_machine")


@pytest.mark.parametrize(
    "platform, xdg, expected",
    [
        ("linux", "/c", "/c/d2l_deeprnn"),
        ("linux", "", "/users/me/.cache/d2l_deeprnn"),
        ("linux", "not/absolute", "/users/me/.cache/d2l_deeprnn"),
        ("darwin", "", "/users/me/Library/Caches/d2l_deeprnn"),
        ("darwin", "/c", "/c/d2l_deeprnn"),
    ],
)
def test_cache_directory_follows_the_platform(monkeypatch, platform, xdg, expected):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("HOME", "/users/me")
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert corpora.cache_directory() == Path(expected)


def test_without_a_home_directory_nothing_is_downloaded(book, server, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        TextNotAvailable, match="no home directory for the cache; set XDG_CACHE_HOME"
    ):
        corpora.find_text("time_machine")
    assert server.requests == [] and listing(tmp_path) == []


def test_text_without_address_says_where_it_can_be_had():
    with pytest.raises(TextNotAvailable, match="no server is known") as caught:
        corpora.load_corpus("war_of_the_worlds")
    for part in (
        "https://www.gutenberg.org/ebooks/36",
        "called war_of_the_worlds.txt",
        "4203ebecc5e4ce9541c3c24fc590443e9a31bef1",
    ):
        assert part in str(caught.value)


# Downloads.


def test_download_is_verified_kept_and_not_repeated(book, cache, server):
    assert corpora.locate_text("time_machine") is None
    path = corpora.find_text("time_machine")
    assert path == cache / "timemachine.txt" and path.read_bytes() == BODY
    assert listing(cache) == ["timemachine.txt"]
    assert [place.stat().st_mode & 0o777 for place in (cache, path)] == [0o700, 0o600]
    assert corpora.find_text("time_machine") == corpora.locate_text("time_machine") == path
    assert len(server.requests) == 1
    assert corpora.resolve_auto() == ("time_machine", None)


def test_sum_is_checked_and_the_bytes_are_safe_before_the_file_is_in_place(
    book, cache, monkeypatch
):
    happened = []
    replace, fsync = os.replace, os.fsync

    def watched_replace(source, target):
        happened.append(("replace", Path(source).parent, Path(source).read_bytes()))
        replace(source, target)

    def watched_fsync(handle):
        happened.append(("fsync", os.fstat(handle).st_size))
        fsync(handle)

    monkeypatch.setattr(os, "replace", watched_replace)
    monkeypatch.setattr(os, "fsync", watched_fsync)
    corpora.find_text("time_machine")
    # then the directory, so that the new name is safe too
    assert happened[:2] == [("fsync", len(BODY)), ("replace", cache, BODY)]
    assert [what for what, *_ in happened[2:]] == ["fsync"]


def assert_not_available(cache, reason):
    """The book is not available; one line says all that was tried, and nothing is left behind."""
    with pytest.raises(TextNotAvailable, match=reason) as caught:
        corpora.find_text("time_machine")
    message, book = str(caught.value), corpora.KNOWN_TEXTS["time_machine"]
    assert "\n" not in message
    for part in (
        "D2L_DEEPRNN_DATA (not set)",
        f"{cache / book.filename} (not there)",
        book.url,
        f"(1) put a copy with SHA-1 {book.sha1}, called timemachine.txt",
        "(2) run this again with network access",
        "(3) use a text of your own",
        "load_corpus('the_clockmakers_guest')",
    ):
        assert part in message
    assert listing(cache) == []
    assert corpora.resolve_auto()[0] == "the_clockmakers_guest"


@pytest.mark.parametrize("status", [404, 500, 204])
def test_http_status_other_than_200(book, cache, server, status):
    server.answer = whole_answer(b"" if status == 204 else BODY, status)
    assert_not_available(cache, f"HTTP status {status}")


def test_truncated_transfer(book, cache, server):
    server.answer = whole_answer(BODY[:5000], length=len(BODY))
    # urllib3 before 2.0 says nothing.
    assert_not_available(cache, "5000 bytes read|it sent 5000 bytes, which are not this text")


def test_no_connection(book, cache, server, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        replace_text(monkeypatch, url=f"http://127.0.0.1:{port}/timemachine.txt")
        assert_not_available(cache, "ConnectionError: .*refused")


def test_no_name_server(cache):
    assert_not_available(cache, "ConnectionError: .*a test asked for the address of d2l-data")


def test_server_that_never_answers(book, cache, server, monkeypatch):
    monkeypatch.setattr(corpora, "READ_TIMEOUT", 0.1)
    server.answer = lambda handler: server.released.wait(10)
    assert_not_available(cache, "(?i)Timeout.*timed out")


def test_server_that_stops_in_the_middle(book, cache, server, monkeypatch):
    def answer(handler):
        whole_answer(BODY[:5000], length=len(BODY))(handler)
        server.released.wait(10)

    monkeypatch.setattr(corpora, "READ_TIMEOUT", 0.1)
    server.answer = answer
    assert_not_available(cache, "(?i)timed out")


def test_server_that_goes_on_for_ever(book, cache, server, monkeypatch):
    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        while not server.released.wait(0.001):
            handler.wfile.write(b"slow")

    server.answer = answer
    monkeypatch.setattr(corpora, "DOWNLOAD_TIMEOUT", 0.2)
    assert_not_available(cache, "not complete after 0.2 s")
    monkeypatch.setattr(corpora, "DOWNLOAD_TIMEOUT", 60.0)
    monkeypatch.setattr(corpora, "DOWNLOAD_LIMIT_BYTES", 500)
    assert_not_available(cache, "more than 500 bytes")


def test_server_that_sends_a_byte_now_and_then(book, cache, server, monkeypatch):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        while not server.released.wait(0.005):
            handler.wfile.write(BODY[:1])

    server.answer = answer
    monkeypatch.setattr(corpora, "DOWNLOAD_TIMEOUT", 0.4)
    assert_not_available(cache, "not complete after 0.4 s")


def test_no_text_is_asked_for_in_the_clear():
    assert all((text.url or "https:").startswith("https:") for text in corpora.KNOWN_TEXTS.values())


PAGE = b"<!DOCTYPE html>\n<html><title>Welcome</title>Please log in</html>"


@pytest.mark.parametrize("redirected", [True, False])
def test_captive_portal(book, cache, server, redirected):
    """A network that answers with its login page."""

    def answer(handler):
        if redirected and handler.path != "/login":
            handler.send_response(302)
            handler.send_header("Location", "/login")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        whole_answer(b" \n" + PAGE)(handler)

    server.answer = answer
    reason = r"it sent a web page instead of the text; .* \(captive portal\), log in .*"
    assert_not_available(cache, rf"{re.escape(book.url)} \({reason}\)")


def test_downloaded_text_with_another_sum_is_not_available(book, cache, server):
    server.answer = whole_answer(b"another edition")
    found = hashlib.sha1(b"another edition").hexdigest()
    assert_not_available(cache, f"15 bytes, which are not this text: their SHA-1 is {found}")


def test_proxy_that_refuses(cache, server, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass.do_CONNECT = lambda handler: handler.send_error(403)
    reason = re.escape("(ProxyError: Tunnel connection failed: 403 Forbidden)")
    assert_not_available(cache, reason)


@pytest.mark.parametrize(
    "variable, value, reason",
    [
        ("REQUESTS_CA_BUNDLE", "/none", "OSError: Could not find a suitable TLS CA certificate"),
        ("https_proxy", "http://[", "Failed to parse"),
    ],
)
def test_settings_of_the_network_that_make_no_sense(cache, monkeypatch, variable, value, reason):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    assert_not_available(cache, reason)


def test_reasons_are_for_people(book, cache, monkeypatch):
    """Neither objects nor what urllib3 wraps its errors up in."""
    replace_text(monkeypatch, url="http://127.0.0.1:9/timemachine.txt")
    with pytest.raises(TextNotAvailable) as caught:
        corpora.find_text("time_machine")
    reason = (
        "(ConnectionError: Failed to establish a new connection: [Errno 111] Connection refused)"
    )
    if sys.platform == "linux":
        assert f"{corpora.KNOWN_TEXTS['time_machine'].url} {reason}." in str(caught.value)


def without_a_text(code, cache):
    """What a user sees who runs some code where there is neither the text nor a network."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "https_proxy": "http://127.0.0.1:9"}
    environment["PYTHONPATH"] = str(Path(corpora.__file__).parents[1])
    for name in ("NO_PROXY", "no_proxy", "D2L_DEEPRNN_DATA"):
        environment.pop(name, None)
    command = [sys.executable, *code]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_chapters_first_cell_without_the_text(cache):
    """One error of a few lines, with the ways on, each in a line; no other error behind it."""
    code = ["-c", "import d2l_deeprnn as d2l\nd2l.load_data_time_machine()"]
    result = without_a_text(code, cache)
    lines = result.stderr.splitlines()
    assert result.returncode == 1 and len(lines) <= 12
    assert sum("Traceback" in line for line in lines) == 1
    assert (
        sum(line.startswith("d2l_deeprnn.text.corpora.TextNotAvailable: ") for line in lines) == 1
    )
    for number, line in enumerate(lines[-3:], 1):
        assert re.match(rf"(You can )?\({number}\) ", line)
    other = without_a_text(
        [*code[:1], code[1].replace("data_time_machine(", "corpus('time_machine'")], cache
    )
    assert other.stderr.count("Traceback") == 1


@pytest.mark.parametrize(
    "command", [["reproduce", "--corpus", "time_machine"], ["corpora", "fetch", "time_machine"]]
)
def test_a_command_without_the_text_gives_status_3_and_one_line(cache, command):
    result = without_a_text(["-m", "d2l_deeprnn", *command], cache)
    assert result.returncode == 3 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(
        "d2l-deeprnn: error: The Time Machine (timemachine.txt) is not available"
    )


def test_commands_with_a_login_page_in_place_of_the_text(book, server, cache, capsys):
    server.answer = whole_answer(PAGE)
    assert cli.main(["corpora", "fetch", "time_machine"]) == 3
    assert "(captive portal)" in capsys.readouterr().err
    cache.mkdir(parents=True, exist_ok=True)
    write(cache / book.filename, "another edition")
    for command in (["corpora", "fetch", "time_machine"], ["reproduce", "--num-epochs", "1"]):
        assert cli.main(command) == 2
        assert "is not the known text 'time_machine'" in capsys.readouterr().err


def failing(operation, error):
    def fail(*args, **kwargs):
        raise error

    if operation != "write":
        return fail

    class FileThatCannotBeWritten(io.BufferedRandom):
        write = fail

    def open_file(path, mode, opener):
        return FileThatCannotBeWritten(io.FileIO(path, mode.replace("b", ""), opener=opener))

    return open_file


DISK_FULL = OSError(errno.ENOSPC, "No space left on device")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize(
    "place, operation, error, reason",
    [
        (files, "write", DISK_FULL, "No space left on device"),
        (os, "fsync", DISK_FULL, "No space left on device"),
        (os, "replace", READ_ONLY, "Read-only file system"),
        (files, "open", READ_ONLY, "Read-only file system"),
    ],
)
def test_cache_that_cannot_be_written(book, cache, monkeypatch, place, operation, error, reason):
    name = "open" if operation == "write" else operation
    monkeypatch.setattr(place, name, failing(operation, error), raising=place is not files)
    assert_not_available(cache, f"into {re.escape(str(cache))} .{reason}; set XDG_CACHE_HOME to")


def test_cache_directory_that_cannot_be_made(book, cache, server):
    cache.parent.write_text("a file where the directory should be")
    assert_not_available(cache, f"into {re.escape(str(cache))} .(Not a directory|File exists)")
    assert server.requests == []


def test_interrupt_leaves_no_file(book, cache, monkeypatch):
    fails = failing("write", KeyboardInterrupt())
    monkeypatch.setattr(files, "open", fails, raising=False)
    with pytest.raises(KeyboardInterrupt):
        corpora.find_text("time_machine")
    assert cache.is_dir() and listing(cache) == []


def test_downloads_at_once_do_not_harm_each_other(book, cache, server):
    together = threading.Barrier(4)

    def answer(handler):
        together.wait(10)  # all four are under way before any of them gets a byte
        whole_answer(BODY)(handler)

    server.answer = answer
    results = []

    def download():
        results.append(corpora.find_text("time_machine").read_bytes())

    threads = [threading.Thread(target=download) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [BODY] * 4
    assert listing(cache) == ["timemachine.txt"]


def test_auto_gives_a_sample_and_the_reason(book, server):
    server.answer = whole_answer(b"", 404)
    name, reason = corpora.resolve_auto()
    assert name == "the_clockmakers_guest"
    assert "The Time Machine" in reason and "HTTP status 404" in reason


# Clean-up.


@pytest.mark.parametrize("piece", [1, 3, 2**20])
@given(text=st.text(st.sampled_from("aB\u03a3\u0130 \n\u2003\u1680") | st.characters()))
def test_clean_up_is_the_chapters(piece, text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "PIECE", piece)
        assert_cleaned(text)


def assert_cleaned(text):
    assert cleaning.clean_text(text) == " ".join(" ".join(text.split("\n")).lower().split())
    assert cleaning.clean_text(text, lower=False) == " ".join(text.split())
    assert cleaning.clean_text(text, fold_whitespace=False) == text.lower()
    assert cleaning.clean_text(text, lower=False, fold_whitespace=False) == text


# A file's text: printable, some white space, letters outside ASCII; never a Gutenberg line.
PLAIN = st.text("aB \t\n.*\u00e9\u4e2d", min_size=1).filter(str.strip)


@settings(deadline=None)  # it writes files
@given(texts=st.lists(PLAIN, min_size=1, max_size=4), num_examples=st.integers(1, 60))
def test_corpus_is_the_beginning_of_the_joined_texts(texts, num_examples):
    with tempfile.TemporaryDirectory() as directory:
        paths = [write(Path(directory, str(i)), text) for i, text in enumerate(texts)]
        folded = " ".join(" ".join(text.lower().split()) for text in texts)
        assert loaded_text(paths) == folded
        assert loaded_text(tuple(map(str, paths)), num_examples) == folded[:num_examples]
        kept = loaded_text(paths, lower=False, fold_whitespace=False)
        assert kept == "\n".join(texts)


@settings(deadline=None)  # it writes files
@given(PLAIN)
def test_reading_changes_only_mark_and_line_breaks(text):
    with tempfile.TemporaryDirectory() as directory:
        for mark in ("", "\ufeff"):
            for line_break in ("\n", "\r\n", "\r"):
                path = write(Path(directory, "t"), mark + text.replace("\n", line_break))
                assert kept_text(path) == text


def test_vocabulary_is_that_of_the_part_taken(tmp_path):
    path = write(tmp_path / "t", "aab cd")
    indices, vocab = corpora.load_corpus(path, 3)
    assert vocab.idx_to_token == ["<unk>", "a", "b"] and indices.tolist() == [1, 1, 2]


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
        (START + "One.\n\nEnd of Project Gutenberg's A Book, by X\n" + END, "One.\n"),
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
def test_gutenberg_header_and_footer_are_cut(tmp_path, text, kept):
    for line_break in "\n", "\r\n":
        path = write(tmp_path / "t", "\ufeff" + text.replace("\n", line_break))
        assert kept_text(path) == kept


def test_text_without_gutenberg_lines_is_left_alone(tmp_path):
    for text in (
        "One.\n\n*** START: FULL LICENSE ***\n\nTwo.\n",
        "Produced by me.\n\nOne.\n\nEnd of the Project Gutenberg EBook of nothing\n",
        "He read: *** START OF THE PROJECT GUTENBERG EBOOK X *** and put it down.\n",
        "*** START OF THE PROJECT GUTENBERG EBOOK without an end\n\nOne. ***\n",
        "***\n\nSTART OF THE PROJECT\n***\n",
    ):
        assert kept_text(write(tmp_path / "t", text)) == text


# What is refused.


def test_unknown_name_gives_the_known_ones_and_the_nearest():
    for name in "time_machin", "TimeMachine", "time machine":
        with pytest.raises(CorpusError, match=r"\(did you mean 'time_machine'\?\)") as caught:
            corpora.load_corpus(name)
        assert repr(name) in str(caught.value)
        assert all(known in str(caught.value) for known in corpora.KNOWN_TEXTS)


def test_what_is_neither_name_nor_file():
    for name in "", "zzz", "no/such.txt", "nul\0", "A text, not a name. " * 999:
        with pytest.raises(CorpusError, match="neither a known text nor a file; known") as caught:
            corpora.load_corpus(name)
        assert len(str(caught.value)) < 500


def test_path_object_never_means_a_known_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match="neither a known text nor a file"):
        corpora.load_corpus(Path("time_machine"))
    write(tmp_path / "time_machine", "mine")
    assert loaded_text(Path("time_machine")) == "mine"
    assert loaded_text("./time_machine") == "mine"


def test_file_that_holds_no_text(tmp_path):
    path = tmp_path / "t"
    for content, message in (
        (b"", "contains no text"),
        (b" \r\n\t", "contains no text"),
        (b"\xef\xbb\xbf\n", "contains no text"),
        ((START + "\n\n" + END).encode(), "contains no text"),
        (b"\xef\xbb\xbfcaf\xe9 noir", "byte 0xe9 at offset 6. Most of it is utf-8: it is damaged"),
        (b"caf\xe9 noir", "byte 0xe9 at offset 3. Its encoding cannot be determined"),
        (b"abc\0def", "character 3 would be the control character .* It seems to be a binary file"),
        ("text".encode("utf-16"), "byte 0xff at offset 0. It looks like utf-16: "),
    ):
        with pytest.raises(CorpusError, match=message) as caught:
            corpora.load_corpus(write(path, content))
        assert str(path) in str(caught.value)


# Several files: of directories, and compressed.


def test_a_directory_is_the_files_in_it_in_order(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("2", "10", "a/0", ".hidden/3", ".4", "b"):
        write(tmp_path / name, f"Of {name}.")
    assert corpora.load_text(tmp_path) == "of 10. of 2. of b. of a/0."
    assert corpora.load_text([str(tmp_path / "b"), tmp_path / "a"]) == "of b. of a/0."
    assert kept_text(tmp_path) == "Of 10.\nOf 2.\nOf b.\nOf a/0."


def test_a_directory_that_cannot_be_used(tmp_path):
    with pytest.raises(CorpusError, match="contains no files: put texts in it"):
        corpora.load_corpus(tmp_path)
    write(tmp_path / "a", "text")
    for name, words in ("b", "no text: it is empty"), ("c", "it is a broken link"):
        if name == "b":
            write(tmp_path / name, "")
        else:
            os.symlink(tmp_path / "none", tmp_path / name)
        with pytest.raises(CorpusError, match=words) as caught:
            corpora.load_corpus(tmp_path)
        assert str(tmp_path / name) in str(caught.value)
        os.remove(tmp_path / name)
    os.mkfifo(tmp_path / "p")
    with pytest.raises(CorpusError, match="p' is a pipe: a directory must contain only files"):
        corpora.load_corpus(tmp_path)
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path))
    with pytest.MonkeyPatch.context() as patch:  # root may read any directory
        patch.setattr(os, "scandir", failing("scandir", denied))
        with pytest.raises(CorpusError, match="cannot be read: Permission denied") as caught:
            corpora.load_corpus(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_compressed_file_is_unpacked(tmp_path):
    text = "\ufeffTitle: X\n\n" + START + "One caf\u00e9.\r\nTwo.\n" + END
    path = write(tmp_path / "T.GZ", gzip.compress(text.encode()))
    assert corpora.load_text(path) == "one caf\u00e9. two."
    assert corpora.load_text([path, path], 24) == "one caf\u00e9. two. one caf\u00e9."
    path = write(tmp_path / "t.gz", gzip.compress("caf\u00e9 noir".encode("cp1252")))
    assert corpora.load_text(path, encoding="cp1252") == "caf\u00e9 noir"
    with pytest.raises(CorpusError, match="t.gz is not UTF-8 text: byte 0xe9 at offset 3"):
        corpora.load_text(path)


PACKED = gzip.compress(b"A text of some length. " * 99)


def test_a_compressed_file_that_cannot_be_used(tmp_path):
    path = tmp_path / "t.gz"
    for content, words in (
        (b"A text.", "is not compressed with gzip, although its name ends in .gz: rename it"),
        (b"", "is not compressed with gzip"),
        (PACKED[:-9], "is damaged or incomplete: "),
        (PACKED[:30] + b"\0" + PACKED[31:], "is damaged, or a part|cannot be read: "),
        (PACKED[:-6] + b"\0\0" + PACKED[-4:], "cannot be read: CRC check failed"),
        (gzip.compress(b""), "contains no text"),
        (gzip.compress(b"%PDF-1.7"), "is a PDF document, not text"),
    ):
        with pytest.raises(CorpusError, match=words) as caught:
            corpora.load_text(write(path, content))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_text_is_read_as_far_as_it_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "PIECE", 50)
    monkeypatch.setattr(cleaning, "WHOLE", 100)
    monkeypatch.setattr(cleaning, "FOOTER", 20)
    path = write(tmp_path / "t", b"A text. " * 2000 + b"\xff")
    missing = tmp_path / "none"
    assert corpora.load_text([path, write(tmp_path / "u", b"\xff")], 20) == "a text. a text. a te"
    with pytest.raises(CorpusError, match="byte 0xff at offset 16000"):
        corpora.load_text(path, 16_000)
    with pytest.raises(CorpusError, match="neither a known text nor a file"):
        corpora.load_text([path, missing], 20)
    blank = write(tmp_path / "b", b" " * 1000)
    with pytest.raises(CorpusError, match="contains no text"):
        corpora.load_text(blank, 20, fold_whitespace=False)


def test_unreadable_file(tmp_path, monkeypatch):
    path = write(tmp_path / "t", "text")
    error = PermissionError(errno.EACCES, "Permission denied")  # root may read any file
    monkeypatch.setattr(corpora, "open", failing("open", error), raising=False)
    with pytest.raises(CorpusError, match="cannot be read: Permission denied") as caught:
        corpora.load_corpus(path)
    assert str(path) in str(caught.value)


def test_num_examples_must_be_a_positive_integer():
    for num_examples in 0, -1, True, False, 1.0, 10000.0, "10":
        for load in (
            corpora.load_data_time_machine,
            lambda number: corpora.load_corpus("the_tide_tables", number),
        ):
            with pytest.raises(ValueError, match="^num_examples must be .*, not ") as caught:
                load(num_examples)
            assert str(caught.value).endswith(repr(num_examples))


def test_wrong_types_are_refused_before_any_text_is_read():
    again = ["time_machine", ["time_machine"]]
    for texts in None, 1, True, b"time_machine", {"time_machine"}, iter(()), [None], again:
        with pytest.raises(TypeError, match="a text is the name of a known text, a path, or a"):
            corpora.load_corpus(texts)
    for texts in [], ():
        with pytest.raises(ValueError, match="the list of texts is empty"):
            corpora.load_corpus(texts)
