"""What a file's bytes are: text in which encoding, or what else.

UTF-8 can be told from everything else; other encodings can only be guessed, by how common the
characters are that the bytes would then be. A guess is shown to the user and never acted on.
"""

from __future__ import annotations

import codecs
import itertools
import re
import warnings
from typing import BinaryIO, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from ..errors import D2LError

# A file of up to so many bytes is decoded at once, a longer one in pieces. What is said of bytes
# that cannot be decoded is founded on so many of them.
WHOLE_BYTES = 2**24
PIECE_BYTES = 2**20
# Python decodes these only at once, or did in one of its versions.
_ONLY_WHOLE = {"idna", "punycode", "raw-unicode-escape", "unicode-escape"}
# Bytes that a guess looks at, from the first one on that is not ASCII.
SAMPLE_BYTES = 2**16
# Fewer bytes outside ASCII are not enough to doubt what the user says.
ENOUGH_TO_DOUBT = 100

# How files begin that people take for texts (regular expressions), and what to do with them.
_SIGNATURES = (
    (rb"\x1f\x8b", "compressed with gzip, not text: unpack it, or let its name end in .gz"),
    (
        rb"PK\x03\x04",
        "a ZIP archive (so are .docx, .odt and .epub), not text: unpack it first",
    ),
    (rb"BZh[1-9]1AY&SY", "compressed with bzip2, not text: unpack it first (bunzip2)"),
    (rb"\xfd7zXZ\0", "compressed with xz, not text: unpack it first (unxz)"),
    (rb"%PDF-", "a PDF document, not text: extract its text first (pdftotext)"),
    (rb"\xd0\xcf\x11\xe0", "a Microsoft Office document, not text: save it as plain text first"),
    (rb"\x89PNG\r\n", "a picture (PNG), not text"),
    (rb"\xff\xd8\xff", "a picture (JPEG), not text"),
)


class NotText(D2LError, ValueError):
    """A file is not text in the encoding; the message names it."""


def decode_file(file: BinaryIO, encoding: Optional[str], name: str) -> Iterator[str]:
    """Decode a file piece by piece, strictly.

    Args:
        file: any that can be sought in; it is read from its beginning.
        encoding, name: as for ``decode``.

    Raises:
        NotText: as ``decode``. Of a file of more than 16 MiB the message is founded on the part
            around the place that is wrong.
    """
    whole = encoding is not None and _only_whole(encoding)
    beginning = file.read(-1 if whole else WHOLE_BYTES + 1)
    if whole or len(beginning) <= WHOLE_BYTES:
        yield decode(beginning, encoding, name)
        return
    _check_beginning(beginning, encoding, name)
    if encoding is not None:
        _doubt(beginning, encoding, name)
    shown = encoding or "UTF-8"
    decoder = codecs.getincrementaldecoder(shown)()
    offset = chars = 0  # how many bytes, and characters of them, came before
    before = b""  # the last bytes before the piece, where an escape sequence may begin
    cuts = range(0, len(beginning), PIECE_BYTES)
    pieces = itertools.chain(
        (beginning[cut : cut + PIECE_BYTES] for cut in cuts),
        iter(lambda: file.read(PIECE_BYTES), b""),
        [b""],
    )
    for piece in pieces:
        try:
            text = decoder.decode(piece, final=not piece)
            odd = ""
        except UnicodeDecodeError as error:
            at = offset + len(piece) - len(error.object) + error.start
            text, odd = "", f": byte 0x{error.object[error.start]:02x} at offset {at}"
        except UnicodeError as error:
            text, odd = "", f": {error}"
        if encoding is not None:
            odd = odd or _control_character(text, encoding, chars)
        elif b"\0" in piece:
            odd = f": it has a NUL byte at offset {offset + piece.index(0)}"
        elif _ISO_2022_JP.search(before + piece):
            odd = ": it has escape characters"
        if odd:
            file.seek(offset)
            around = file.read(WHOLE_BYTES + 1)
            raise NotText(f"{name} is not {shown} text{odd}{_advice(around)}")
        yield text
        offset, chars = offset + len(piece), chars + len(text)
        before = (before + piece)[-2:]


def decode(raw: bytes, encoding: Optional[str], name: str) -> str:
    """Decode the bytes of a file, strictly.

    Args:
        raw: all of them.
        name: that of the file, for messages.
        encoding: that of the file; None for UTF-8, in which case text that only looks like UTF-8
            is refused, too.

    Raises:
        NotText: says what the bytes are instead, where that can be told.
    """
    _check_beginning(raw, encoding, name)
    if encoding is None:
        return _decode_utf8(raw, name)
    try:
        text = raw.decode(encoding)
    except UnicodeError as error:
        raise NotText(f"{name} is not {encoding} text{_where(error, raw)}{_advice(raw)}") from None
    odd = _control_character(text, encoding)
    if odd:
        raise NotText(f"{name} is not {encoding} text{odd}{_advice(raw)}")
    _doubt(raw, encoding, name)
    return text


def _only_whole(encoding: str) -> bool:
    known = codecs.lookup(encoding)
    return known.name.replace("_", "-") in _ONLY_WHOLE or known.incrementaldecoder is None


def _check_beginning(raw: bytes, encoding: Optional[str], name: str) -> None:
    """Refuse a file that by its beginning is known not to be text in an encoding."""
    for signature, description in _SIGNATURES:
        if re.match(signature, raw):
            raise NotText(f"{name} is {description}")
    if encoding in ("utf-16", "utf-32") and _encoding_of_mark(raw) != encoding:
        raise NotText(
            f"{name} has no byte order mark, and {encoding} does not say which byte comes first: "
            f"use {encoding}-le or {encoding}-be"
        )


def _decode_utf8(raw: bytes, name: str) -> str:
    if b"\0" in raw:
        advice = _advice(raw) if guess(raw) else ", so it is binary"
        raise NotText(
            f"{name} is not UTF-8 text: it has a NUL byte at offset {raw.index(0)}{advice}"
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotText(f"{name} is not UTF-8 text{_where(error, raw)}{_advice(raw)}") from None
    if _ISO_2022_JP.search(raw):  # ASCII, if one does not look at the escape characters
        raise NotText(f"{name} is not UTF-8 text: it has escape characters{_advice(raw)}")
    return text


def _where(error: UnicodeError, raw: bytes) -> str:
    if isinstance(error, UnicodeDecodeError) and error.start < len(raw):
        return f": byte 0x{raw[error.start]:02x} at offset {error.start}"
    return f": {error}"


def _advice(raw: bytes) -> str:
    """What to do with bytes that are not UTF-8."""
    likely = guess(raw)
    if likely:
        return (
            f". It looks like {likely}: read it with --encoding {likely}, in Python "
            f"encoding={likely!r}, and see whether the characters come out right"
        )
    if _mostly_utf8(raw):
        return ". The rest of it is UTF-8: it is damaged, or pieces in another encoding are in it"
    return (
        ". Its encoding cannot be told from its bytes: find out which it is, and read it with "
        "--encoding NAME, in Python encoding=NAME"
    )


def _control_character(text: str, encoding: str, before: int = 0) -> str:
    """Say where a text has a control character that shows that its encoding is another one.

    Args:
        text: as it was decoded with the encoding that the user gave.
        before: how many characters came before it.
    """
    position = text.find("\0")
    if position < 0 and not encoding.startswith("utf"):
        control = _CONTROL.search(text)
        position = control.start() if control else -1
    if position < 0:
        return ""
    char = f"U+{ord(text[position]):04X}"
    return f": character {before + position} would be the control character {char}"


def _doubt(raw: bytes, encoding: str, name: str) -> None:
    """Warn where bytes look as if their encoding were another one than the user gave."""
    sample = raw[_first_other(raw) :][:SAMPLE_BYTES]
    likely = guess(raw)
    if likely and sum(byte >= 0x80 for byte in sample) >= ENOUGH_TO_DOUBT:
        read, better = (_decode_beginning(sample, e) for e in (encoding, likely))
        if read != better:
            warnings.warn(f"{name} is read as {encoding}, but looks like {likely}", stacklevel=2)


# Guessing.

_ISO_2022_JP = re.compile(rb"\x1b\$[@B]")
# Characters that encodings of the ISO 8859 family have where others have letters or quotation
# marks. U+0085, a line break, is among Unicode's white space.
_CONTROL = re.compile("[\x80-\x84\x86-\x9f]")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# A language's text is nearly all in these letters, as far as it is not in ASCII.
_WESTERN = (
    "àâæçéèêëîïôœùûüÿ",  # French
    "äöüßé",  # German
    "áéíóúüñªº",  # Spanish
    "áâãàçéêíóôõúüªº",  # Portuguese
    "àèéìíîòóùú",  # Italian
    "åäöæøéü",  # Danish, Finnish, Norwegian, Swedish
    "áäèéêëïóöúü",  # Dutch
    "àâäæçèéêëîïñôöœü",  # English, which has words of all of them
)
_OPENING, _CLOSING, _ANYWHERE = "“‘„‚«‹¿¡", "”»›…½¼¾²³™", "’–—°§©®·†•№\xa0"
# The most common characters of a language: from a fifth to two thirds of its text.
_CHINESE = set(
    "的一是不了在人有我他这這个個们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子"
    "那得于於着著下自之年过過发發后後作里裡其曰者所与與天道无無多去好小"
    "，。、：；！？“”‘’《》「」『』（）…—\u3000"
)
_KANA = {chr(code) for code in range(0x3041, 0x30FF)} | set("、。「」『』\u3000")
_KOREAN = set("이다는을에의고가하지은로도기사리어나를한그서대시인자아정일있것들")
_RUSSIAN = set("оеаинтсрвл")
_WORD = re.compile(r"[^\W\d_]+")


def _share_of(common: Set[str]) -> Callable[[str], float]:
    def share(text: str) -> float:
        others = [c for c in text if c >= "\x80"]
        return sum(c in common for c in others) / max(len(others), 1)

    return share


def _russian(text: str) -> float:
    """The share of the most common letters, in words that are Cyrillic throughout."""
    common = 0
    for word in _WORD.findall(text):
        # One letter by itself may be anything, such as the French word à.
        if len(word) > 1 and _cased_like_a_word(word) and not any(c < "\x80" for c in word):
            common += sum(c in _RUSSIAN for c in word)
    total, odd = _others(text)
    return (common - 2 * odd) / max(total, 1)


def _western(text: str) -> float:
    """The share of what is plausible in a text of one language, of that which fits best."""
    counts: Dict[str, int] = {}
    for word in _WORD.findall(text):
        # A word of other alphabets has no letters of ASCII in it.
        mixed = len(word) == 1 or any(c < "\x80" for c in word)
        if mixed and _cased_like_a_word(word):
            for c in word.lower():
                counts[c] = counts.get(c, 0) + (c >= "\x80")
    letters = max(sum(counts.get(c, 0) for c in language) for language in _WESTERN)
    total, odd = _others(text)
    marks = total - odd - sum(c >= "\x80" and c.isalpha() for c in text)
    return (letters + marks - odd) / max(total, 1)


def _cased_like_a_word(word: str) -> bool:
    return word.islower() or word[1:].islower() or word.isupper()


def _others(text: str) -> Tuple[int, int]:
    """Count the characters outside ASCII, and those that neither are letters nor stand right."""
    total = odd = 0
    for before, c, after in zip(" " + text, text, text[1:] + " "):
        if c >= "\x80":
            total += 1
            odd += not (
                c.isalpha()
                or (c in _OPENING and not before.isalnum())
                or (c in _CLOSING and not after.isalnum())
                or (c in "£€" and not before.isalpha())
                or c in _ANYWHERE
            )
    return total, odd


def _unicode(text: str) -> float:
    """The share of characters of alphabets, and of common ones of other scripts."""
    if "\0" in text:
        return 0.0
    common = _CHINESE | _KANA | _KOREAN
    plausible = sum(
        c in common or c in "\t\n\r" or (c < "\u0e80" and c.isprintable()) for c in text
    )
    return plausible / max(len(text), 1)


class _Candidate(NamedTuple):
    """An encoding, how plausible a text is in it, and from where on that counts."""

    encoding: str
    score: Callable[[str], float]
    least: float


# Of those that read a text alike the first is named: a part stands before the whole.
_CANDIDATES: List[_Candidate] = [
    *(_Candidate(f"utf-{n}-{end}", _unicode, 0.25) for n in (32, 16) for end in ("le", "be")),
    *(_Candidate(e, _western, 0.9) for e in ("cp1252", "iso8859-15")),
    # Rare today: where one of them is only as plausible as the first, it is not likely.
    *(_Candidate(e, _western, 0.901) for e in ("mac-roman", "cp850")),
    *(_Candidate(e, _russian, 0.45) for e in ("cp1251", "koi8-r", "koi8-u", "cp866")),
    *(_Candidate(e, _russian, 0.45) for e in ("iso8859-5", "mac-cyrillic")),
    _Candidate("gb18030", _share_of(_CHINESE), 0.2),
    *(_Candidate(e, _share_of(_CHINESE), 0.2) for e in ("big5", "cp950")),
    *(_Candidate(e, _share_of(_KANA), 0.3) for e in ("shift_jis", "cp932", "euc_jp")),
    *(_Candidate(e, _share_of(_KOREAN), 0.2) for e in ("euc_kr", "cp949")),
]


def guess(raw: bytes) -> Optional[str]:
    """Name the encoding that bytes are likely to be text in, if they are not UTF-8.

    Args:
        raw: all bytes of a file.

    Returns:
        Python's name of an encoding in which they can be decoded, or None where none is likely.
    """
    marked = _encoding_of_mark(raw)
    if marked:
        return marked if _decodes(raw, marked) else None
    if _ISO_2022_JP.search(raw) and _decodes(raw, "iso2022_jp"):
        return "iso2022_jp"
    if _mostly_utf8(raw):
        return None
    first = _first_other(raw)
    start = max(first - 32, 0)  # a word's beginning in ASCII tells something, too
    best: Dict[str, str] = {}  # the sample's text -> the encoding
    highest = 1.0
    for candidate in _CANDIDATES:
        wide = candidate.score is _unicode
        if not wide and (b"\0" in raw or first == len(raw)):
            continue
        text = _decode_beginning(raw[0 if wide else start :][:SAMPLE_BYTES], candidate.encoding)
        score = candidate.score(text) / candidate.least if text else 0.0
        if score >= highest and _decodes(raw, candidate.encoding):
            if score > highest:
                best.clear()
            best.setdefault(str(text), candidate.encoding)
            highest = score
    # Where two readings are as plausible, neither is likely.
    return next(iter(best.values())) if len(best) == 1 else None


def _encoding_of_mark(raw: bytes) -> Optional[str]:
    return next((encoding for mark, encoding in _MARKS if raw.startswith(mark)), None)


def _first_other(raw: bytes) -> int:
    """Where the first byte is that is not ASCII's; the length if there is none."""
    other = re.search(rb"[\x80-\xff]", raw)
    return other.start() if other else len(raw)


def _decode_beginning(sample: bytes, encoding: str) -> Optional[str]:
    """Decode bytes that may end within a character; None where that fails."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeError:
        return None


def _decodes(raw: bytes, encoding: str) -> bool:
    """Whether bytes can be decoded; of a large file they may end within a character."""
    if len(raw) > WHOLE_BYTES:
        return _decode_beginning(raw, encoding) is not None
    try:
        raw.decode(encoding)
    except UnicodeError:
        return False
    return True


def _mostly_utf8(raw: bytes) -> bool:
    """Whether most of what is not ASCII is valid UTF-8, or the file says that it is."""
    if raw.startswith(codecs.BOM_UTF8):
        return True
    sample = raw[_first_other(raw) :][:SAMPLE_BYTES]
    text = sample.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    return sum(c >= "\x80" for c in text) - broken > 2 * broken
