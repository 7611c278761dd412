"""Decoding of files, and what to say of those that are not text in the encoding.

UTF-8 can be told from everything else. Other encodings can only be guessed, which chardet does. A
guess is shown to the user and never acted on.
"""

from __future__ import annotations

import codecs
import itertools
import re
import warnings
from typing import BinaryIO, Iterator, Optional

from ..errors import D2LError

# A file of up to so many bytes is decoded at once, a longer one in pieces. What is said of bytes
# that cannot be decoded is founded on so many of them.
WHOLE_BYTES = 2**24
PIECE_BYTES = 2**20
# Python decodes these only at once, or did in one of its versions.
_ONLY_WHOLE = {"idna", "punycode", "raw-unicode-escape", "unicode-escape"}
# Bytes that a guess looks at.
SAMPLE_BYTES = 2**16
# With fewer bytes outside ASCII, chardet is often wrong, unless it is sure of its guess.
ENOUGH_TO_GUESS = 10
LIKELY, SURE = 0.05, 0.9
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
_ISO_2022_JP = re.compile(rb"\x1b\$[@B]")
# Characters that encodings of the ISO 8859 family have where others have letters or quotation
# marks. U+0085, a line break, is among Unicode's white space.
_CONTROL = re.compile("[\x80-\x84\x86-\x9f]")
# How a text in UTF-16 or UTF-32 begins that has a byte order mark.
_MARKS = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}


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
            raise NotText(f"{name} is not {shown} text{odd}{_advice(around, encoding or 'utf-8')}")
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
        raise NotText(
            f"{name} is not {encoding} text{_where(error, raw)}{_advice(raw, encoding)}"
        ) from None
    odd = _control_character(text, encoding)
    if odd:
        raise NotText(f"{name} is not {encoding} text{odd}{_advice(raw, encoding)}")
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
    if encoding in _MARKS and not raw.startswith(_MARKS[encoding]):
        raise NotText(
            f"{name} has no byte order mark, and {encoding} does not say which byte comes first: "
            f"use {encoding}-le or {encoding}-be"
        )


def _decode_utf8(raw: bytes, name: str) -> str:
    if b"\0" in raw:
        odd = f": it has a NUL byte at offset {raw.index(0)}"
        raise NotText(f"{name} is not UTF-8 text{odd}{_advice(raw, 'utf-8')}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotText(
            f"{name} is not UTF-8 text{_where(error, raw)}{_advice(raw, 'utf-8')}"
        ) from None
    if _ISO_2022_JP.search(raw):  # ASCII, if one does not look at the escape characters
        raise NotText(f"{name} is not UTF-8 text: it has escape characters{_advice(raw, 'utf-8')}")
    return text


def _where(error: UnicodeError, raw: bytes) -> str:
    if isinstance(error, UnicodeDecodeError) and error.start < len(raw):
        return f": byte 0x{raw[error.start]:02x} at offset {error.start}"
    return f": {error}"


def _advice(raw: bytes, tried: str) -> str:
    """What to do with bytes that are not text in the encoding that was tried."""
    sample = _sample(raw)
    likely = guess(sample)
    if likely == tried:
        return f". Most of it is {tried}: it is damaged, or parts of it are in another encoding"
    if likely and _decode_beginning(sample, likely) is not None:
        return (
            f". It looks like {likely}: read it with --encoding {likely}, in Python "
            f"encoding={likely!r}, and see whether the characters come out right"
        )
    if b"\0" in sample:
        return ". It seems to be binary"
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
    sample = _sample(raw)
    if sum(byte >= 0x80 for byte in sample) < ENOUGH_TO_DOUBT:
        return
    likely = guess(sample)
    better = likely and _decode_beginning(sample, likely)
    if better and better != _decode_beginning(sample, encoding):
        warnings.warn(f"{name} is read as {encoding}, but looks like {likely}", stacklevel=2)


def guess(raw: bytes) -> Optional[str]:
    """Name the encoding of a text, if it can be told from some of its bytes.

    Args:
        raw: A part of the text that is not all ASCII.

    Returns:
        Python's name of the encoding, "utf-8" also if a few bytes are damaged. None if no encoding
        is likely, or if chardet is missing, which needs Python 3.10.
    """
    if raw.startswith(codecs.BOM_UTF8):
        return "utf-8"
    try:
        import chardet

        found = chardet.detect(raw, compat_names=False)
    except (ImportError, TypeError):  # chardet 6 and older, without compat_names, is often wrong
        return None
    encoding = found["encoding"]
    few = sum(byte >= 0x80 for byte in raw) < ENOUGH_TO_GUESS
    if encoding is None or found["confidence"] < (SURE if few else LIKELY):
        return None
    if b"\0" in raw and not encoding.startswith(("utf-16", "utf-32")):
        return None
    return encoding


def _sample(raw: bytes) -> bytes:
    """The part of a text to guess its encoding from: what surrounds the first byte beyond ASCII."""
    first = re.search(rb"[\0\x1b\x80-\xff]", raw)
    # A multiple of 4, so that UTF-16 and UTF-32 are not cut within a character.
    start = max(first.start() // 4 * 4 - 32, 0) if first else 0
    return raw[start : start + SAMPLE_BYTES]


def _decode_beginning(sample: bytes, encoding: str) -> Optional[str]:
    """Decode bytes that may end within a character; None where that fails."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeError:
        return None
