"""Files that are not UTF-8: other encodings, other kinds of files, pipes and devices."""

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
import warnings
import zipfile
from pathlib import Path

import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn import cli
from d2l_deeprnn.text import corpora
from d2l_deeprnn.text import encoding as encodings
from d2l_deeprnn.text.corpora import CorpusError

TEXTS = {
    "English": "“It’s the café on the corner,” she said — “the one with the paintings.” He didn’t "
    "answer; the clock struck ten…",
    "French": "Le vieil homme, déjà fatigué, répétait qu’à l’école on l’avait appelé « le rêveur "
    "». Où était passée la clé ? Il l’avait cachée près du cœur de la forêt, sans être sûr qu'on "
    "la retrouverait un jour d’été.",
    "German": "„Wo ist der Schlüssel?“, fragte das Mädchen. Die Großmutter öffnete die Tür und "
    "blickte über die Straße; später gab es süße Äpfel.",
    "Spanish": "¿Dónde está la llave? —preguntó la niña—. El señor abrió la puerta y miró hacia la "
    "montaña; después de un año, nadie recordaba el camino. ¡Qué extraño!",
    "Portuguese": "Não há razão para não irmos até à praia; o coração da cidade está sempre à "
    "espera. Depois de três manhãs, o pão ainda não tinha chegado às mãos do avô.",
    "Swedish": "Då gick hon över bron och såg på de små båtarna. När våren kom var älven öppen.",
    "Russian": "Старик повторял, что в школе его называли мечтателем. Где ключ? Он спрятал его за "
    "окном, не зная, найдут ли его когда-нибудь. «Всё равно», сказал он и пошёл домой.",
    "Chinese": "老人反复说，在学校里人们叫他梦想家。钥匙在哪里？他把它藏在窗户后面，"
    "靠近森林的中心，不知道有没有人会找到它。",
    "Chinese, traditional": "老人反覆說，在學校裡人們叫他夢想家。鑰匙在哪裡？"
    "他把它藏在窗戶後面，不知道有沒有人會找到它。",
    "Japanese": "老人は、学校では夢想家と呼ばれていたと繰り返した。"
    "鍵はどこにあるのか。彼はそれを窓の後ろに隠した。",
    "Korean": "노인은 학교에서 자신이 몽상가로 불렸다고 되풀이했다. "
    "열쇠는 어디에 있는가? 그는 그것을 창문 뒤에 숨겼다.",
}
OTHERS = {
    "Polish": "Stary człowiek powtarzał, że w szkole nazywano go marzycielem. Gdzie podział się "
    "klucz? Schował go pod progiem, w głębi lasu, nie będąc pewnym, czy ktoś go znajdzie.",
    "Czech": "Starý muž opakoval, že ve škole mu říkali snílek. Kde je klíč? Schoval jej za oknem, "
    "aniž si byl jistý, že jej někdo někdy najde.",
    "Hungarian": "Az öregember azt mondta, hogy az iskolában álmodozónak hívták. Hol van a kulcs? "
    "Az ablak mögé rejtette, közel az erdő szívéhez, és hűvös szél fújt.",
    "Turkish": "Yaşlı adam okulda kendisine hayalperest denildiğini söylüyordu. Anahtar nerede? "
    "Onu pencerenin arkasına saklamıştı; bir gün bulunacağından emin değildi.",
    "Greek": "Ο γέρος επαναλάμβανε ότι στο σχολείο τον έλεγαν ονειροπόλο. Πού είναι το κλειδί;",
    "Hebrew": "הזקן חזר ואמר שבבית הספר קראו לו חולם. איפה המפתח? הוא החביא אותו מאחורי החלון.",
    "Arabic": "كان الرجل العجوز يكرر أنهم في المدرسة كانوا يسمونه الحالم. أين المفتاح؟",
    "Thai": "ชายชราพูดซ้ำว่าที่โรงเรียนเขาถูกเรียกว่านักฝัน กุญแจอยู่ที่ไหน เขาซ่อนมันไว้หลังหน้าต่าง",
}
TOLD = [
    *((language, "cp1252") for language in list(TEXTS)[:6]),
    *((language, "mac-roman") for language in list(TEXTS)[:5]),
    ("German", "cp850"),
    ("French", "iso8859-15"),
    *(("Russian", e) for e in ("cp1251", "koi8-r", "cp866", "iso8859-5", "mac-cyrillic")),
    ("Chinese", "gb18030"),
    ("Chinese, traditional", "big5"),
    *(("Japanese", e) for e in ("shift_jis", "euc_jp", "iso2022_jp")),
    ("Korean", "euc_kr"),
    *((language, e) for language in list(OTHERS)[:3] for e in ("cp1250", "iso8859_2")),
    ("Turkish", "cp1254"),
    *(("Greek", e) for e in ("cp1253", "iso8859_7")),
    ("Hebrew", "cp1255"),
    ("Arabic", "cp1256"),
    ("Thai", "cp874"),
    ("Korean", "johab"),
    *((language, e) for language in TEXTS for e in ("utf-16", "utf-32", "utf-32-be")),
    *((language, "utf-16-le") for language in list(TEXTS)[:7]),
]


def write(path, content):
    path.write_bytes(content)
    return path


def kept(path, **kwargs):
    """The text of a file with its case and white space."""
    return corpora.load_text(path, lower=False, fold_whitespace=False, **kwargs)


def refused(path, **kwargs):
    """The message of the error with which a file is refused; one line that names it."""
    with pytest.raises(CorpusError) as caught:
        corpora.load_text(path, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def named(message):
    found = re.search(r"It looks like (\S+): read it with --encoding \1, in Python", message)
    return found and found[1]


needs_chardet = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="chardet 7, which guesses encodings, needs Python 3.10"
)


@needs_chardet
def test_a_likely_encoding_is_named_and_reads_the_text(tmp_path):
    for language, encoding in TOLD:
        text = {**TEXTS, **OTHERS}[language]
        raw = (text * 2).encode(encoding, "ignore")  # not all encodings have each quotation mark
        path = write(tmp_path / "t", raw)
        likely = named(refused(path))
        assert likely, (language, encoding)
        expected = " ".join(raw.decode(encoding).split())
        assert corpora.load_text(path, lower=False, encoding=likely) == expected
        assert corpora.load_text(path, lower=False, encoding=encoding) == expected


def test_a_few_words_are_not_enough(tmp_path):
    """Of "café noir" in cp1252, chardet says that it is Greek."""
    for text in ("café noir", "à la carte", "Größe", "£5"):
        path = write(tmp_path / "t", text.encode("cp1252"))
        assert "Its encoding cannot be determined from its bytes" in refused(path)
        assert kept(path, encoding="cp1252") == text


@pytest.mark.parametrize("version", ["none", "5"])
def test_without_chardet_the_advice_is_general(tmp_path, monkeypatch, version):
    def detect(raw):  # chardet 5 knows no other argument, and is often wrong
        return {"encoding": "cp1253", "confidence": 0.99}

    chardet = None if version == "none" else types.SimpleNamespace(detect=detect)
    monkeypatch.setitem(sys.modules, "chardet", chardet)
    path = write(tmp_path / "t", TEXTS["French"].encode("cp1252"))
    assert "Its encoding cannot be determined from its bytes" in refused(path)
    assert "déjà" in corpora.load_text(path, encoding="cp1252")


def test_any_name_of_an_encoding_that_python_knows(tmp_path):
    path = write(tmp_path / "t", TEXTS["French"].encode("cp1252"))
    for encoding in ("cp1252", "CP1252", "windows-1252"):
        assert "déjà fatigué" in corpora.load_text(path, encoding=encoding)
        assert d2l.load_corpus(path, encoding=encoding)[1]["é"] > 0
    for encoding in ("cp1", "hex", "", "nul\0", 8, "idna", "punycode", "unicode_escape"):
        with pytest.raises(ValueError, match="^encoding must be an encoding that Python knows"):
            corpora.load_text(path, encoding=encoding)


def test_decoding_is_strict(tmp_path):
    quotes = write(tmp_path / "quotes", TEXTS["English"].encode("cp1252"))
    message = refused(quotes, encoding="latin-1")
    assert "character 0 would be the control character U+0093. Its encoding cannot" in message
    assert "is not ascii text: byte 0x93 at offset 0" in refused(quotes, encoding="ascii")
    assert "is not utf-8 text: byte 0x93" in refused(quotes, encoding="utf-8")
    undefined = write(tmp_path / "undefined", b"a\x81b")
    assert "is not cp1252 text: byte 0x81 at offset 1" in refused(undefined, encoding="cp1252")
    cut = write(tmp_path / "cut", TEXTS["Chinese"].encode("gb18030")[:-1])
    assert "is not gb18030 text" in refused(cut, encoding="gb18030")
    assert "is not utf-16-le text" in refused(write(tmp_path / "odd", b"a\0b"), encoding="utf-16le")
    nul = write(tmp_path / "nul", b"a\0b")
    assert "control character U+0000" in refused(nul, encoding="cp1252")


def test_utf_16_without_a_mark_does_not_say_which_byte_comes_first(tmp_path):
    for encoding in ("utf-16", "utf-32"):
        path = write(tmp_path / "t", "A text.".encode(encoding + "-be"))
        assert f"use {encoding}-le or {encoding}-be" in refused(path, encoding=encoding)
        for end in ("", "-le", "-be"):
            marked = "\ufeffA text.".encode(encoding + (end or "-be"))
            path = write(tmp_path / "t", marked)
            assert kept(path, encoding=encoding + (end or "")) == "A text."
        path = write(tmp_path / "t", "\ufeffA text.".encode(encoding + "-le"))
        # In UTF-32, the swapped mark is no character at all.
        words = "mark is for the other byte order" if encoding == "utf-16" else "is not utf-32"
        assert words in refused(path, encoding=encoding + "-be")


@needs_chardet
def test_a_text_that_looks_like_another_encoding_is_read_with_a_warning(tmp_path):
    path = write(tmp_path / "t", TEXTS["Chinese"].encode("gb2312") * 3)
    with pytest.warns(UserWarning, match="t is read as cp1251, but looks like gb18030"):
        corpora.load_text(path, encoding="cp1251")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for encoding in ("gb18030", "gb2312", "gbk"):
            assert corpora.load_text(path, encoding=encoding).startswith("老人")
        for language, encoding in TOLD:
            write(path, {**TEXTS, **OTHERS}[language].encode(encoding, "ignore") * 3)
            assert corpora.load_text(path, encoding=encoding)


def test_a_text_in_a_rare_encoding_gives_no_warning(tmp_path):
    """Here chardet names others, but is not sure."""
    for language, encoding in (
        ("French", "gb18030"),
        ("German", "euc_jp"),
        ("Polish", "euc_jp"),
        ("Russian", "shift_jis"),
        ("Russian", "euc_kr"),
    ):
        text = {**TEXTS, **OTHERS}[language].encode(encoding, "ignore") * 20
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert corpora.load_text(write(tmp_path / "t", text), encoding=encoding)


def test_damaged_utf_8_is_not_taken_for_another_encoding(tmp_path):
    raw = TEXTS["French"].encode()
    for broken in (raw[:-3] + "é".encode()[:1], raw + "é".encode("cp1252") + b"t"):
        assert "Most of it is utf-8: it is damaged" in refused(write(tmp_path / "t", broken))
    marked = b"\xef\xbb\xbf" + TEXTS["French"].encode("cp1252")
    assert "Most of it is utf-8" in refused(write(tmp_path / "t", marked))


GUTENBERG = (
    "\ufeffTitle: X\n\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n{}\n"
    "*** END OF THE PROJECT GUTENBERG EBOOK X ***\nLicence\n"
)


def test_clean_up_is_the_same_in_every_encoding(tmp_path):
    for language, encoding in ("Chinese", "gb18030"), ("French", "utf-16-be"), ("French", "utf-8"):
        for line_break in "\n", "\r\n", "\r":
            text = GUTENBERG.format(TEXTS[language]).replace("\n", line_break)
            path = write(tmp_path / "t", text.encode(encoding))
            assert kept(path, encoding=encoding) == TEXTS[language] + "\n"


def test_an_encoding_is_for_files(tmp_path):
    path = write(tmp_path / "t", TEXTS["French"].encode("cp1252"))
    shipped = corpora.SAMPLE_TEXT
    both = corpora.load_text([shipped, path], encoding="cp1252")
    assert both == corpora.load_text(shipped) + " " + corpora.load_text(path, encoding="cp1252")
    for read in (corpora.load_text, corpora.load_corpus):
        with pytest.raises(ValueError, match=f"encoding .*is for files: .*{shipped}.* known"):
            read(shipped, encoding="utf-8")


# What is no text.


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a", "text")
    return file.getvalue()


SIGNATURES = [
    (gzip.compress(b"text"), "compressed with gzip, not text: unpack it, or give it a name"),
    (archive(), "a ZIP archive (so are .docx, .odt and .epub), not text: unpack it"),
    (bz2.compress(b"text"), "compressed with bzip2, not text"),
    (lzma.compress(b"text"), "compressed with xz, not text"),
    (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document, not text: extract its text first"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a Microsoft Office document, not text: save it as"),
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a picture (PNG), not text"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF", "a picture (JPEG), not text"),
]


def test_files_that_are_known_not_to_be_text_are_named(tmp_path):
    for raw, words in SIGNATURES:
        for encoding in (None, "cp1252", "utf-16-le"):
            path = write(tmp_path / "t", raw)
            assert f"{path} is {words}" in refused(path, encoding=encoding)


def test_other_binary_files_are_refused(tmp_path):
    draw = random.Random(0)
    for size in (100, 1000, 10_000):
        path = write(tmp_path / "t", bytes(draw.randrange(256) for _ in range(size)))
        assert "looks like" not in refused(path)
    path = write(tmp_path / "t", b"a\0" + b"\xee\xe5" * 99)
    assert "byte 0xee at offset 2. It seems to be a binary file" in refused(path)


def test_texts_with_odd_beginnings_are_texts(tmp_path):
    for text in ("PK is a name.\n", "BZh, said he.\n", "%PDF, said he.\n"):
        assert kept(write(tmp_path / "t", text.encode())) == text


# Pipes and devices.


def run(code, **kwargs):
    environment = {**os.environ, "PYTHONPATH": str(Path(d2l.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-c", "import d2l_deeprnn as d2l, sys\n" + code],
        env=environment,
        capture_output=True,
        **kwargs,
    )


def test_pipes_are_read_once_to_their_end(tmp_path):
    raw = TEXTS["French"].encode("cp1252")
    named = tmp_path / "fifo"
    os.mkfifo(named)
    writer = threading.Thread(target=named.write_bytes, args=(raw,))
    writer.start()
    text = corpora.load_text(named, encoding="cp1252")
    writer.join()
    assert text == " ".join(TEXTS["French"].lower().split())
    reading, writing = os.pipe()  # as a shell's process substitution gives it
    os.write(writing, b"A text.")
    os.close(writing)
    try:
        assert corpora.load_text(f"/dev/fd/{reading}") == "a text."
    finally:
        os.close(reading)


def test_standard_input_is_read_where_it_is_asked_for(tmp_path):
    code = "print(len(d2l.load_corpus('-')[0]))"
    assert run(code, input=b"A text.\n").stdout == b"7\n"
    with open(write(tmp_path / "t", b"A text from a file.\n"), "rb") as file:
        assert run(code, stdin=file).stdout == b"19\n"


def test_standard_input_that_never_ends_or_is_not_there():
    limited = "from d2l_deeprnn.text import corpora; corpora.PIPE_LIMIT_BYTES = 100\n"
    for code, device, words in (
        (limited, "/dev/zero", "more than 100 bytes came through standard input: save the text"),
        ("", "/dev/null", "standard input contains no text"),
        ("import os; os.close(0)\n", "/dev/null", "standard input (-) is closed"),
    ):
        with open(device, "rb") as stdin:
            result = run(code + "d2l.load_corpus('-')", stdin=stdin)
        assert result.returncode == 1
        assert f"CorpusError: {words}" in result.stderr.decode()


def test_what_is_neither_file_nor_pipe_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an address must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for name in "/dev/zero", "/dev/null", "/dev/urandom", "socket":
            assert "is not a regular file: choose a text file" in refused(name)


def test_a_pipe_that_does_not_end_is_left(monkeypatch):
    monkeypatch.setattr(corpora, "PIPE_LIMIT_BYTES", 100)
    reading, writing = os.pipe()
    os.write(writing, b"y\n" * 200)
    os.close(writing)
    try:
        with pytest.raises(CorpusError, match="more than 100 bytes came through /dev/fd/"):
            corpora.load_text(f"/dev/fd/{reading}")
    finally:
        os.close(reading)


def test_a_file_that_is_larger_than_the_memory(tmp_path, monkeypatch):
    def decode_file(*args):
        raise MemoryError

    path = write(tmp_path / "t", b"text")
    monkeypatch.setattr(corpora, "decode_file", decode_file)
    assert "cannot be read: it does not fit in memory" in refused(path)


# Large files, which are decoded piece by piece.


@pytest.fixture(params=[7, 1000])
def in_pieces(request, monkeypatch):
    monkeypatch.setattr(encodings, "PIECE", request.param)
    monkeypatch.setattr(encodings, "SAMPLE_BYTES", 400)


@pytest.mark.parametrize("encoding", [None, "utf-16", "utf-32-be", "gb18030", "utf-7"])
def test_a_file_decoded_in_pieces_is_the_same(tmp_path, in_pieces, encoding):
    text = "".join(TEXTS[language] for language in ("French", "Russian", "Chinese")) * 30
    text = text.replace(" ", "\n") + "\U0001f600"
    path = write(tmp_path / "t", text.replace("\n", "\r\n").encode(encoding or "utf-8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so mixed a text looks like anything
        assert kept(path, encoding=encoding) == text


def test_what_is_wrong_in_a_large_file_is_named(tmp_path, in_pieces):
    for raw, encoding, words in (
        (b"a" * 20_000 + b"\xff" + b"a" * 90, None, "UTF-8 text: byte 0xff at offset 20000"),
        ("caf\u00e9 ".encode() * 20 + b"\xe9", None, "UTF-8 text: byte 0xe9 at offset 120"),
        (b"a" * 9000 + b"\0" + b"a" * 9, None, "character 9000 would be the control character U"),
        (b"a" * 90 + b"\x1b$B" + b"!" * 9, None, "UTF-8 text: it contains escape characters"),
        (b"a" * 90 + b"\x81" + b"a" * 9, "cp1252", "cp1252 text: byte 0x81 at offset 90"),
        (b"a" * 90 + b"\x81" + b"a" * 9, "latin-1", "character 90 would be the control"),
        (b"a" * 90 + b"\0" + b"a" * 9, "cp1252", "character 90 would be the control character U"),
        (b"%PDF-1.7" + b"a" * 90, "cp1252", "is a PDF document, not text"),
        ("text".encode("utf-16-le") * 9, "utf-16", "has no byte order mark"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert words in refused(write(tmp_path / "t", raw), encoding=encoding)


@needs_chardet
def test_a_likely_encoding_of_a_large_file_is_named(tmp_path):
    russian = TEXTS["Russian"].encode("koi8-r", "ignore") * 40
    path = write(tmp_path / "t", b"Plain text. " * 20_000 + russian)
    assert "byte 0xf3 at offset 240000. It looks like koi8-r" in refused(path)
    with pytest.warns(UserWarning, match="read as cp1251, but looks like koi8-r"):
        corpora.load_text(path, encoding="cp1251")
    damaged = write(tmp_path / "u", TEXTS["Chinese"].encode() * 3000 + b"\xff")
    assert "Most of it is utf-8: it is damaged" in refused(damaged)


# On the command line.

SMALL = ["--num-layers", "1", "--num-hiddens", "4", "--batch-size", "4", "--num-steps", "10"]


def test_a_run_keeps_the_encoding_of_its_text(tmp_path, capsys):
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
    nats = capsys.readouterr().out.partition(": ")[2]
    assert cli.main(["evaluate", out, "--corpus", path, "--encoding", "cp1252"]) == 0
    assert capsys.readouterr().out.partition(": ")[2] == nats
    assert cli.main(["evaluate", out, "--encoding", "cp1252"]) == 2
    assert "--encoding is only for files given with --corpus" in capsys.readouterr().err
    assert cli.main(["evaluate", out, "--corpus", path]) == 2


def test_the_chapter_on_a_text_in_another_encoding(tmp_path, capsys):
    path = str(write(tmp_path / "t", (TEXTS["French"] * 10).encode("utf-16")))
    assert cli.main(["reproduce", "--num-epochs", "1", "--corpus", path]) == 2
    assert "It looks like utf-16: " in capsys.readouterr().err
    command = ["reproduce", "--num-epochs", "1", "--corpus", path, "--encoding", "utf-16"]
    assert cli.main(command) == 0


@pytest.mark.parametrize("command", [["train", *SMALL], ["reproduce"]], ids=["train", "reproduce"])
def test_a_run_goes_on_with_its_text_in_another_encoding(tmp_path, capsys, command):
    text = TEXTS["French"] * 10
    path = str(write(tmp_path / "t", text.encode("cp1252")))
    utf_8 = str(write(tmp_path / "u", text.encode()))
    out = str(tmp_path / "run")
    begin = [*command, "--corpus", path, "--encoding", "cp1252", "--out", out]
    assert cli.main([*begin, "--num-epochs", "1"]) == 0
    os.remove(path)
    go_on = [command[0], "--resume", "--out", out, "--num-epochs", "2", "--corpus", utf_8]
    capsys.readouterr()
    with pytest.warns(UserWarning, match="u is read as cp1252, but looks like utf-8"):
        assert cli.main(go_on) == 2  # read as cp1252, it is another text
    assert "has changed" in capsys.readouterr().err
    assert cli.main([*go_on, "--encoding", "utf-8"]) == 0
    # From then on it is known.
    assert cli.main([command[0], "--resume", "--out", out, "--num-epochs", "3"]) == 0


@pytest.mark.parametrize("command", ["train", "reproduce"])
def test_a_run_needs_a_text_that_it_can_read_again(tmp_path, capsys, command):
    os.mkfifo(tmp_path / "fifo")
    for corpus in ("-", "/dev/stdin", str(tmp_path / "fifo")):
        assert cli.main([command, "--corpus", corpus, "--out", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err
        assert f"{corpus!r} can be read only once" in error and "save the text in a file" in error
        assert not (tmp_path / "run" / "config.json").exists()
