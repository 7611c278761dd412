"""Files in other encodings, files that are not text, pipes and devices."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import re
import socket
import subprocess
import sys
import threading
import types
import zipfile
from pathlib import Path

import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn import cli
from d2l_deeprnn.text import corpora
from d2l_deeprnn.text import encoding as encodings
from d2l_deeprnn.text.corpora import CorpusError, load_text

TEXTS = {
    "French": "Le vieil homme, déjà fatigué, répétait qu’à l’école on l’avait appelé « le rêveur "
    "». Où était passée la clé ? Il l’avait cachée près du cœur de la forêt, sans être sûr qu'on "
    "la retrouverait un jour d’été.",
    "Russian": "Старик повторял, что в школе его называли мечтателем. Где ключ? Он спрятал его за "
    "окном, не зная, найдут ли его когда-нибудь. «Всё равно», сказал он и пошёл домой.",
    "Chinese": "老人反复说，在学校里人们叫他梦想家。钥匙在哪里？他把它藏在窗户后面，"
    "靠近森林的中心，不知道有没有人会找到它。",
    "Japanese": "老人は、学校では夢想家と呼ばれていたと繰り返した。"
    "鍵はどこにあるのか。彼はそれを窓の後ろに隠した。",
    "Korean": "노인은 학교에서 자신이 몽상가로 불렸다고 되풀이했다. "
    "열쇠는 어디에 있는가? 그는 그것을 창문 뒤에 숨겼다.",
    "Polish": "Stary człowiek powtarzał, że w szkole nazywano go marzycielem. Gdzie podział się "
    "klucz? Schował go pod progiem, w głębi lasu, nie będąc pewnym, czy ktoś go znajdzie.",
    "Greek": "Ο γέρος επαναλάμβανε ότι στο σχολείο τον έλεγαν ονειροπόλο. Πού είναι το κλειδί;",
}
ENCODED = [
    ("French", "cp1252"),
    ("French", "mac-roman"),
    *(("Russian", e) for e in ("cp1251", "koi8-r", "cp866", "iso8859-5", "utf-16-le")),
    ("Chinese", "gb18030"),
    *(("Japanese", e) for e in ("shift_jis", "euc_jp", "iso2022_jp")),
    ("Korean", "euc_kr"),
    *(("Polish", e) for e in ("cp1250", "iso8859_2")),
    ("Greek", "cp1253"),
    *((language, e) for language in ("French", "Chinese") for e in ("utf-16", "utf-32-be")),
]


def write(path, content):
    path.write_bytes(content)
    return path


def kept(path, **kwargs):
    """The text of a file with its case and white space."""
    return load_text(path, lower=False, fold_whitespace=False, **kwargs)


def refused(path, **kwargs):
    """The message of the error, which is one line that names the file."""
    with pytest.raises(CorpusError) as caught:
        load_text(path, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


needs_chardet = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="chardet 7, which guesses encodings, needs Python 3.10"
)
UNDETERMINED = "Its encoding cannot be determined from its bytes"


# Other encodings.


@needs_chardet
@pytest.mark.parametrize("language, encoding", ENCODED)
def test_likely_encoding_is_named_and_reads_the_text(tmp_path, language, encoding):
    # Not all encodings have each quotation mark.
    raw = (TEXTS[language] * 2).encode(encoding, "ignore")
    path = write(tmp_path / "t", raw)
    message = refused(path)
    likely = re.search(r"It looks like (\S+): read it with --encoding \1, in Python", message)
    assert likely, message
    assert kept(path, encoding=likely[1]) == kept(path, encoding=encoding) == raw.decode(encoding)


@needs_chardet
def test_likely_encoding_of_a_large_file_is_named(tmp_path):
    russian = TEXTS["Russian"].encode("koi8-r", "ignore") * 40
    path = write(tmp_path / "t", b"Plain text. " * 20_000 + russian)
    assert "byte 0xf3 at offset 240000. It looks like koi8-r" in refused(path)


def test_a_few_words_are_not_enough(tmp_path):
    """For "café noir" in cp1252, chardet suggests Greek."""
    for text in ("café noir", "à la carte", "£5"):
        path = write(tmp_path / "t", text.encode("cp1252"))
        assert UNDETERMINED in refused(path)
        assert kept(path, encoding="cp1252") == text


@pytest.mark.parametrize("version", ["none", "5"])
def test_without_chardet_the_advice_is_general(tmp_path, monkeypatch, version):
    def detect(raw):  # chardet 5 has no other argument, and is often wrong
        return {"encoding": "cp1253", "confidence": 0.99}

    chardet = None if version == "none" else types.SimpleNamespace(detect=detect)
    monkeypatch.setitem(sys.modules, "chardet", chardet)
    path = write(tmp_path / "t", TEXTS["French"].encode("cp1252"))
    assert UNDETERMINED in refused(path)


def test_damaged_utf_8_is_not_taken_for_another_encoding(tmp_path):
    raw = TEXTS["French"].encode()
    for broken in (
        raw[:-3] + "é".encode()[:1],
        raw + "é".encode("cp1252") + b"t",
        b"\xef\xbb\xbf" + TEXTS["French"].encode("cp1252"),
        TEXTS["Chinese"].encode() * 3000 + b"\xff",
    ):
        assert "Most of it is utf-8: it is damaged" in refused(write(tmp_path / "t", broken))


def test_any_name_of_an_encoding_that_python_knows(tmp_path):
    path = write(tmp_path / "t", TEXTS["French"].encode("cp1252"))
    for encoding in ("cp1252", "CP1252", "windows-1252"):
        assert "déjà fatigué" in load_text(path, encoding=encoding)
        assert d2l.load_corpus(path, encoding=encoding)[1]["é"] > 0
    for encoding in ("cp1", "hex", "", "nul\0", 8, "idna", "punycode", "unicode_escape"):
        with pytest.raises(ValueError, match="^encoding must be an encoding that Python knows"):
            load_text(path, encoding=encoding)


def test_decoding_is_strict(tmp_path):
    quotes = "“It’s the café,” she said — ten…".encode("cp1252")
    chinese = TEXTS["Chinese"].encode("gb18030")[:-1]
    swapped = "\ufeffA text."
    for raw, encoding, message in (
        (quotes, "latin-1", "character 0 would be U+0093, which does not occur in text. Its"),
        (quotes, "ascii", "is not ascii text: byte 0x93 at offset 0"),
        (quotes, "utf-8", "is not utf-8 text: byte 0x93"),
        (b"a\x81b", "cp1252", "is not cp1252 text: byte 0x81 at offset 1"),
        (b"a\0b", "cp1252", "character 1 would be U+0000"),
        (chinese, "gb18030", "is not gb18030 text"),
        (b"a\0b", "utf-16le", "is not utf-16-le text"),
        (b"a\0b\0", "utf-16", "is not utf-16 text: "),
        (b"a\0\0\0", "utf-32", "is not utf-32 text: "),
        (
            swapped.encode("utf-16-le"),
            "utf-16-be",
            "U+FFFE, which does not occur in text. It looks like utf-16",
        ),
        (swapped.encode("utf-32-le"), "utf-32-be", "is not utf-32-be text"),
    ):
        assert message in refused(write(tmp_path / "t", raw), encoding=encoding)


GUTENBERG = (
    "\ufeffTitle: X\n\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n{}\n"
    "*** END OF THE PROJECT GUTENBERG EBOOK X ***\nLicence\n"
)


def test_cleaning_is_the_same_in_every_encoding(tmp_path):
    for language, encoding in ("Chinese", "gb18030"), ("French", "utf-16-be"), ("French", "utf-8"):
        for line_break in "\n", "\r\n", "\r":
            text = GUTENBERG.format(TEXTS[language]).replace("\n", line_break)
            path = write(tmp_path / "t", text.encode(encoding))
            assert kept(path, encoding=encoding) == TEXTS[language] + "\n"


def test_encoding_is_for_files(tmp_path):
    path = write(tmp_path / "t", TEXTS["French"].encode("cp1252"))
    shipped = corpora.SAMPLE_TEXT
    both = load_text([shipped, path], encoding="cp1252")
    assert both == load_text(shipped) + " " + load_text(path, encoding="cp1252")
    with pytest.raises(ValueError, match=f"encoding .*is only for files: .*{shipped}.* known"):
        load_text(shipped, encoding="utf-8")


# Large files, which are decoded in chunks.


@pytest.fixture(params=[7, 1000])
def in_chunks(request, monkeypatch):
    monkeypatch.setattr(encodings, "CHUNK", request.param)
    monkeypatch.setattr(encodings, "SAMPLE_BYTES", 400)


@pytest.mark.parametrize("encoding", [None, "utf-16", "utf-32-be", "gb18030", "utf-7"])
def test_file_decoded_in_chunks_is_the_same(tmp_path, in_chunks, encoding):
    text = "".join(TEXTS[language] for language in ("French", "Russian", "Chinese")) * 30
    text = text.replace(" ", "\n") + "\U0001f600"
    path = write(tmp_path / "t", text.replace("\n", "\r\n").encode(encoding or "utf-8"))
    assert kept(path, encoding=encoding) == text


def test_the_first_invalid_place_is_named(tmp_path, in_chunks):
    for raw, encoding, message in (
        (b"a" * 20_000 + b"\xff" + b"a" * 90, None, "UTF-8 text: byte 0xff at offset 20000"),
        ("caf\u00e9 ".encode() * 20 + b"\xe9", None, "UTF-8 text: byte 0xe9 at offset 120"),
        (b"a" * 9000 + b"\0" + b"a" * 9, None, "character 9000 would be U+0000"),
        (b"a" * 90 + b"\x81" + b"a" * 9, "cp1252", "cp1252 text: byte 0x81 at offset 90"),
        (b"a" * 90 + b"\x81" + b"a" * 9, "latin-1", "character 90 would be U+0081"),
    ):
        assert message in refused(write(tmp_path / "t", raw), encoding=encoding)


# Files that are not text.


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zip_file:
        zip_file.writestr("a", "text")
    return file.getvalue()


@pytest.mark.parametrize(
    "raw, description",
    [
        (gzip.compress(b"text"), "compressed with gzip, not text: unpack it, or give it a name"),
        (archive(), "a ZIP archive (so are .docx, .odt and .epub), not text: unpack it"),
        (bz2.compress(b"text"), "compressed with bzip2, not text"),
        (lzma.compress(b"text"), "compressed with xz, not text"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document, not text: extract its text first"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a Microsoft Office document, not text: save it"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image, not text"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image, not text"),
    ],
    ids=["gzip", "zip", "bzip2", "xz", "pdf", "ole", "png", "jpeg"],
)
def test_known_kinds_of_files_are_named(tmp_path, raw, description):
    path = write(tmp_path / "t", raw)
    for encoding in (None, "cp1252", "utf-16-le"):
        assert f"{path} is {description}" in refused(path, encoding=encoding)


def test_other_binary_files_are_refused(tmp_path):
    draw = random.Random(0)
    for size in (100, 1000, 10_000):
        path = write(tmp_path / "t", bytes(draw.randrange(256) for _ in range(size)))
        assert "seems to be a binary file" in refused(path) or UNDETERMINED in refused(path)
    path = write(tmp_path / "t", b"a\0" + b"\xee\xe5" * 99)
    assert "byte 0xee at offset 2. It seems to be a binary file" in refused(path)


def test_texts_with_odd_beginnings_are_texts(tmp_path):
    for text in ("PK is a name.\n", "BZh, said he.\n", "%PDF, said he.\n"):
        assert kept(write(tmp_path / "t", text.encode())) == text


# Pipes and devices.


def load_standard_input(code="", **kwargs):
    code = f"import d2l_deeprnn as d2l\n{code}\nprint(len(d2l.load_corpus('-')[0]))"
    environment = {**os.environ, "PYTHONPATH": str(Path(d2l.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, **kwargs
    )


def test_pipe_is_read_once_to_its_end(tmp_path, monkeypatch):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    raw = TEXTS["French"].encode("cp1252")
    writer = threading.Thread(target=fifo.write_bytes, args=(raw,))
    writer.start()
    text = load_text(fifo, encoding="cp1252")
    writer.join()
    assert text == " ".join(TEXTS["French"].lower().split())
    for limit in 2**30, 100:
        monkeypatch.setattr(corpora, "PIPE_LIMIT_BYTES", limit)
        reading, writing = os.pipe()  # as a shell's process substitution gives it
        os.write(writing, b"y\n" * 200)
        os.close(writing)
        with open(reading, "rb"):
            if limit > 100:
                assert load_text(f"/dev/fd/{reading}") == "y " * 199 + "y"
            else:
                assert f"/dev/fd/{reading} has more than 100 bytes" in refused(f"/dev/fd/{reading}")


def test_standard_input(tmp_path):
    assert load_standard_input(input=b"A text.\n").stdout == b"7\n"
    limit = "from d2l_deeprnn.text import corpora; corpora.PIPE_LIMIT_BYTES = 100"
    for code, device, message in (
        (limit, "/dev/zero", "standard input has more than 100 bytes: save the text"),
        ("", "/dev/null", "standard input contains no text"),
        ("import os; os.close(0)", "/dev/null", "standard input cannot be read"),
    ):
        with open(device, "rb") as stdin:
            result = load_standard_input(code, stdin=stdin)
        assert result.returncode == 1
        assert f"CorpusError: {message}" in result.stderr.decode()


def test_devices_and_sockets_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for name in "/dev/zero", "/dev/null", "socket":
            assert "is not a regular file: choose a text file" in refused(name)


# On the command line.

SMALL = ["--num-layers", "1", "--num-hiddens", "4", "--batch-size", "4", "--num-steps", "10"]


def test_run_remembers_the_encoding_of_its_text(tmp_path, capsys):
    text = TEXTS["French"] * 3
    path = str(write(tmp_path / "t", text.encode("cp1252")))
    utf_8 = str(write(tmp_path / "u", text.encode()))
    out = str(tmp_path / "run")
    train = ["train", "--corpus", path, "--num-epochs", "1", "--out", out, *SMALL]
    assert cli.main(train) == 2
    assert "is not UTF-8 text: byte 0xe9 at offset" in capsys.readouterr().err
    assert cli.main([*train, "--encoding", "Windows-1252"]) == 0
    assert cli.main(["train", "--resume", "--out", out]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", out, "--corpus", utf_8]) == 0
    nats = capsys.readouterr().out.split()[-4:]
    assert cli.main(["evaluate", out, "--corpus", path, "--encoding", "cp1252"]) == 0
    assert capsys.readouterr().out.split()[-4:] == nats
    assert cli.main(["evaluate", out, "--encoding", "cp1252"]) == 2
    assert cli.main(["evaluate", out, "--corpus", path]) == 2


@pytest.mark.parametrize("command", [["train", *SMALL], ["reproduce"]], ids=["train", "reproduce"])
def test_run_continues_with_its_text_in_another_encoding(small_chapter, tmp_path, capsys, command):
    text = TEXTS["French"] * 10
    path = str(write(tmp_path / "t", text.encode("cp1252")))
    utf_8 = str(write(tmp_path / "u", text.encode()))
    out = str(tmp_path / "run")
    begin = [*command, "--corpus", path, "--encoding", "cp1252", "--out", out]
    assert cli.main([*begin, "--num-epochs", "1"]) == 0
    os.remove(path)
    resume = [command[0], "--resume", "--out", out, "--num-epochs", "2", "--corpus", utf_8]
    capsys.readouterr()
    assert cli.main(resume) == 2  # read as cp1252, it is another text
    assert "has changed" in capsys.readouterr().err
    assert cli.main([*resume, "--encoding", "utf-8"]) == 0
    # The run has recorded it.
    assert cli.main([command[0], "--resume", "--out", out, "--num-epochs", "3"]) == 0


@pytest.mark.parametrize("command", ["train", "reproduce"])
def test_run_needs_a_text_that_can_be_read_again(tmp_path, capsys, command):
    os.mkfifo(tmp_path / "fifo")
    for corpus in ("-", "/dev/stdin", str(tmp_path / "fifo")):
        assert cli.main([command, "--corpus", corpus, "--out", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err
        assert f"{corpus!r} can be read only once" in error and "save the text in a file" in error
        assert not (tmp_path / "run" / "config.json").exists()
