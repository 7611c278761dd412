"""Known texts: found, verified, and downloaded from a server on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from d2l_deeprnn import cli
from d2l_deeprnn.text import corpora, known_texts
from d2l_deeprnn.text.corpora import load_data_time_machine, load_text, resolve_auto
from d2l_deeprnn.text.known_texts import (
    CorpusError,
    TextNotAvailable,
    WrongTextError,
    find_text,
    locate_text,
)

BODY = b"A text that no one wrote.\n" * 400
OTHER = b"another edition"
PAGE = b" \n<!DOCTYPE html>\n<html><title>Welcome</title>Please log in</html>"


@pytest.fixture(autouse=True)
def _no_data_directory(monkeypatch):
    monkeypatch.delenv("D2L_DEEPRNN_DATA", raising=False)


@pytest.fixture
def cache():
    return Path(os.environ["XDG_CACHE_HOME"], "d2l_deeprnn")


@pytest.fixture
def server():
    """A web server in a thread; a test sets ``answer`` to a function of the request handler."""
    released = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append(self.path)
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
    """The book's entry among the known texts, with BODY as the book on the server."""
    return replace_book(
        monkeypatch,
        url=f"http://127.0.0.1:{server.server_port}/timemachine.txt",
        sha1=hashlib.sha1(BODY).hexdigest(),
    )


def replace_book(monkeypatch, **changes):
    text = dataclasses.replace(known_texts.KNOWN_TEXTS["time_machine"], **changes)
    monkeypatch.setitem(known_texts.KNOWN_TEXTS, "time_machine", text)
    return text


def whole_answer(body, status=200, length=None):
    """Answer with this body, and announce ``length`` bytes (None for the right number)."""

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def listing(directory):
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


# Finding.


def test_known_texts_can_be_verified():
    for name, text in known_texts.KNOWN_TEXTS.items():
        assert text.name == name
        assert text.shipped or len(text.sha1) == 40
        assert (text.url or "https:").startswith("https:")


def test_data_directory_comes_before_the_cache(book, cache, tmp_path, monkeypatch):
    cache.mkdir(parents=True)
    (cache / book.filename).write_bytes(BODY)
    assert find_text("time_machine") == cache / book.filename
    (tmp_path / book.filename).write_bytes(BODY)
    monkeypatch.setenv("D2L_DEEPRNN_DATA", str(tmp_path))
    assert find_text("time_machine") == tmp_path / book.filename


@pytest.mark.parametrize("place", ["data", "cache"])
def test_file_with_other_contents_is_refused(book, cache, server, tmp_path, monkeypatch, place):
    directory = tmp_path if place == "data" else cache
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / book.filename
    path.write_bytes(OTHER)
    if place == "data":
        monkeypatch.setenv("D2L_DEEPRNN_DATA", str(tmp_path))
    for find in load_data_time_machine, resolve_auto:
        with pytest.raises(WrongTextError, match="is not the known text 'time_machine'") as caught:
            find()
        sha1 = hashlib.sha1(OTHER).hexdigest()
        for part in (str(path), book.sha1, sha1, f"load_corpus({str(path)!r})"):
            assert part in str(caught.value)
    assert server.requests == [] and path.read_bytes() == OTHER
    assert load_text(str(path)) == OTHER.decode()  # as the message recommends


def test_data_directory_must_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("D2L_DEEPRNN_DATA", str(tmp_path / "none"))
    for find in (lambda: find_text("time_machine"), resolve_auto):
        with pytest.raises(CorpusError, match="D2L_DEEPRNN_DATA is set to .* not a dir") as caught:
            find()
        assert str(tmp_path) in str(caught.value)
        assert not isinstance(caught.value, TextNotAvailable)
    assert len(load_text("the_tide_tables")) > 1000  # needs no directory


@pytest.mark.parametrize(
    "platform, xdg, expected",
    [
        ("linux", "/c", "/c/d2l_deeprnn"),
        ("linux", "not/absolute", "/users/me/.cache/d2l_deeprnn"),
        ("darwin", "", "/users/me/Library/Caches/d2l_deeprnn"),
    ],
)
def test_cache_directory_follows_the_platform(monkeypatch, platform, xdg, expected):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("HOME", "/users/me")
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert known_texts.cache_directory() == Path(expected)


def test_without_a_home_directory_nothing_is_downloaded(book, server, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TextNotAvailable, match="no home directory for the cache; set XDG_CACHE"):
        find_text("time_machine")
    assert server.requests == [] and listing(tmp_path) == []


def test_text_without_url_names_its_origin():
    with pytest.raises(TextNotAvailable, match="no server is known") as caught:
        load_text("war_of_the_worlds")
    for part in (
        "https://www.gutenberg.org/ebooks/36",
        "war_of_the_worlds.txt",
        "4203ebecc5e4ce9541c3c24fc590443e9a31bef1",
    ):
        assert part in str(caught.value)


# Downloading.


def test_download_is_verified_and_not_repeated(book, cache, server):
    assert locate_text("time_machine") is None
    path = find_text("time_machine")
    assert path == cache / "timemachine.txt" and path.read_bytes() == BODY
    assert listing(cache) == ["timemachine.txt"]
    assert [place.stat().st_mode & 0o777 for place in (cache, path)] == [0o700, 0o600]
    assert find_text("time_machine") == locate_text("time_machine") == path
    assert len(server.requests) == 1
    assert resolve_auto() == ("time_machine", None)


def assert_not_available(cache, reason):
    """One line lists all places that were tried, and nothing is left behind."""
    with pytest.raises(TextNotAvailable, match=reason) as caught:
        find_text("time_machine")
    message, book = str(caught.value), known_texts.KNOWN_TEXTS["time_machine"]
    assert "\n" not in message
    for part in (
        "D2L_DEEPRNN_DATA (not set)",
        f"{cache / book.filename} (missing)",
        book.url,
        f"(1) put a copy with SHA-1 {book.sha1}, named timemachine.txt",
        "(2) run this again",
        "(3) use a text of your own",
        "a sample text by its name, such as the_clockmakers_guest",
    ):
        assert part in message
    assert listing(cache) == []
    assert resolve_auto()[0] == "the_clockmakers_guest"
    return message


@pytest.mark.parametrize(
    "answer, reason",
    [
        (whole_answer(BODY, 404), "HTTP status 404"),
        (whole_answer(b"", 204), "HTTP status 204"),
        # urllib3 before 2.0 does not notice that bytes are missing.
        (whole_answer(BODY[:5000], length=len(BODY)), "5000 bytes read|sent 5000 bytes"),
        (whole_answer(OTHER), f"15 bytes, .* SHA-1 is {hashlib.sha1(OTHER).hexdigest()}"),
        (whole_answer(PAGE), r"a web page instead of the text; .* \(captive portal\), log in"),
    ],
)
def test_wrong_answer(book, cache, server, answer, reason):
    server.answer = answer
    assert_not_available(cache, reason)


def test_no_connection(book, cache, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        replace_book(monkeypatch, url=f"http://127.0.0.1:{port}/timemachine.txt")
        message = assert_not_available(cache, "ConnectionError: .*refused")
    assert " object at " not in message and "Max retries" not in message


@pytest.mark.parametrize("sent", [None, BODY[:5000]], ids=["nothing", "a part"])
def test_server_that_stops(book, cache, server, monkeypatch, sent):
    def answer(handler):
        if sent is not None:
            whole_answer(sent, length=len(BODY))(handler)
        server.released.wait(10)

    monkeypatch.setattr(known_texts, "READ_TIMEOUT", 0.1)
    server.answer = answer
    assert_not_available(cache, "(?i)timed out")


@pytest.mark.parametrize("chunk, pause", [(b"slow", 0.001), (b"A", 0.005)])
def test_server_that_does_not_end(book, cache, server, monkeypatch, chunk, pause):
    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        while not server.released.wait(pause):
            handler.wfile.write(chunk)

    server.answer = answer
    monkeypatch.setattr(known_texts, "DOWNLOAD_TIMEOUT", 0.2)
    assert_not_available(cache, "not complete after 0.2 s")
    monkeypatch.setattr(known_texts, "DOWNLOAD_TIMEOUT", 60.0)
    monkeypatch.setattr(known_texts, "DOWNLOAD_LIMIT_BYTES", 200)
    assert_not_available(cache, "more than 200 bytes")


@pytest.mark.parametrize(
    "variable, value, reason",
    [
        ("https_proxy", "http://127.0.0.1:{port}", "ProxyError: .*403 Forbidden"),
        ("https_proxy", "http://[", "Failed to parse"),
        ("REQUESTS_CA_BUNDLE", "/none", "OSError: Could not find a suitable TLS CA certificate"),
    ],
)
def test_wrong_network_settings(cache, server, monkeypatch, variable, value, reason):
    server.RequestHandlerClass.do_CONNECT = lambda handler: handler.send_error(403)
    monkeypatch.setenv(variable, value.format(port=server.server_port))
    assert_not_available(cache, reason)


@pytest.mark.parametrize("operation", ["fsync", "replace", "open"])
def test_cache_that_cannot_be_written(book, cache, monkeypatch, operation):
    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, operation, fail)
    reason = "No space left on device; set XDG_CACHE_HOME to"
    assert_not_available(cache, f"into {re.escape(str(cache))} .{reason}")


def test_cache_directory_that_cannot_be_made(book, cache, server):
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file instead of the directory")
    with pytest.raises(TextNotAvailable, match=f"into {re.escape(str(cache))} .*set XDG_CACHE"):
        find_text("time_machine")
    assert server.requests == []


def test_concurrent_downloads(book, cache, server):
    barrier = threading.Barrier(4)

    def answer(handler):
        barrier.wait(10)  # all four have started before any of them gets a byte
        whole_answer(BODY)(handler)

    server.answer = answer
    results = []

    def download():
        results.append(find_text("time_machine").read_bytes())

    threads = [threading.Thread(target=download) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [BODY] * 4
    assert listing(cache) == ["timemachine.txt"]


# Messages that users see.


def test_chapters_first_cell_without_the_text():
    """One short error, and no other error behind it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(corpora.__file__).parents[2])}
    code = "import d2l_deeprnn as d2l\nd2l.load_data_time_machine()"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True
    )
    lines = result.stderr.splitlines()
    assert result.returncode == 1 and len(lines) <= 12
    assert sum("Traceback" in line for line in lines) == 1
    assert re.match(
        r"\S+\.TextNotAvailable: The Time Machine .* \(1\) .* \(2\) .* \(3\)", lines[-1]
    )


def test_command_without_the_text(book, cache, server, capsys):
    server.answer = whole_answer(PAGE)
    for command in ["corpora", "fetch"], ["reproduce", "--corpus"]:
        assert cli.main([*command, "time_machine"]) == 3
        output = capsys.readouterr()
        (line,) = output.err.splitlines()
        assert line.startswith("d2l-deeprnn: error: The Time Machine (timemachine.txt) is not av")
        assert output.out == ""
    (cache / book.filename).write_bytes(OTHER)
    for command in ["corpora", "fetch", "time_machine"], ["reproduce", "--num-epochs", "1"]:
        assert cli.main(command) == 2
        assert "is not the known text 'time_machine'" in capsys.readouterr().err
