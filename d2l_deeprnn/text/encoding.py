"""Decoding of files, and what to say of those that are not text in the encoding.

UTF-8 can be told from everything else. Other encodings can only be guessed, which chardet does. A
guess is shown to the user and never acted on.
"""

from __future__ import annotations

import codecs
import io
import re
import warnings
from typing import BinaryIO, Iterator, Optional

from ..errors import D2LError

# Characters of a piece.
PIECE = 2**20
# Bytes at the beginning of a file that are compared with the encoding that the user names.
BEGINNING_BYTES = 2**20
# Bytes that a guess looks at.
SAMPLE_BYTES = 2**16
# Least confidence of chardet in a guess. With fewer than ten bytes outside ASCII it is often
# wrong, unless it is sure.
ENOUGH_TO_GUESS = 10
LIKELY, SURE = 0.1, 0.9
# The user's encoding is doubted only from so many bytes outside ASCII, and this confidence on.
ENOUGH_TO_DOUBT, DOUBT = 100, 0.2

# How files begin that people take for texts (regular expressions), and what to do with them.
_SIGNATURES = (
    (rb"\x1f\x8b", "compressed with gzip, not text: unpack it, or give it a name that ends in .gz"),
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
# Text in ISO-2022-JP is valid UTF-8: ASCII with escape characters.
_ISO_2022_JP = re.compile(r"\x1b\$[@B]")
# The bytes of a character in UTF-8 after its first.
_CONTINUATION = bytes(range(0x80, 0xC0))
# Characters that encodings of the ISO 8859 family have where others have letters or quotation
# marks. U+0085, a line break, is among Unicode's white space.
_CONTROL = re.compile("[\x80-\x84\x86-\x9f]")
# How a text in UTF-16 or UTF-32 begins that has a byte order mark.
_MARKS = {
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),  # begins as UTF-16's mark does
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


class NotText(D2LError, ValueError):
    """A file is not text in the encoding; the message names it."""


def decode_file(file: BinaryIO, encoding: Optional[str], name: str) -> Iterator[str]:
    """Decode a file piece by piece, strictly.

    Args:
        file: Any file that supports ``seek``; it is read from its beginning, and closed.
        encoding: That of the file. None for UTF-8; then text that only looks like UTF-8 is refused
            too.
        name: The name of the file, for messages.

    Returns:
        The text, without byte order marks at the beginning and with LF for every line break.

    Raises:
        NotText: Says what the bytes are instead, if that can be told.
    """
    shown, tried = encoding or "UTF-8", encoding or "utf-8"
    beginning = file.read(BEGINNING_BYTES)
    _check_beginning(beginning, encoding, name)
    if encoding is not None:
        _warn_if_unlikely(beginning, encoding, name)
    file.seek(0)
    chars, before = 0, ""
    with io.TextIOWrapper(file, tried) as text:
        while True:
            position = file.tell()
            try:
                piece = text.read(PIECE)
                at = _control_character(piece, tried)
                escape = _ISO_2022_JP.search(before + piece) if encoding is None else None
                problem = ""
                if at is not None:
                    position += at
                    char = f"U+{ord(piece[at]):04X}"
                    problem = f": character {chars + at} would be the control character {char}"
                elif escape:
                    position += escape.start()
                    problem = ": it contains escape characters"
            except UnicodeDecodeError as error:
                position = file.tell() - len(error.object) + error.start
                problem = f": byte 0x{error.object[error.start]:02x} at offset {position}"
            except UnicodeError as error:
                problem = f": {error}"
            if problem:
                raise NotText(
                    f"{name} is not {shown} text{problem}{_advice(file, position, tried)}"
                )
            if not piece:
                return
            if not chars and piece[0] == "\ufffe":
                raise NotText(
                    f"{name} is not {shown} text: its byte order mark is for the other byte order, "
                    "so use utf-16 or utf-32 as the encoding"
                )
            yield piece if chars else piece.lstrip("\ufeff")
            chars, before = chars + len(piece), (before + piece)[-2:]


def _check_beginning(raw: bytes, encoding: Optional[str], name: str) -> None:
    """Refuse a file that by its beginning is known not to be text in an encoding."""
    for signature, description in _SIGNATURES:
        if re.match(signature, raw):
            raise NotText(f"{name} is {description}")
    if encoding in _MARKS and not raw.startswith(_MARKS[encoding]):
        raise NotText(
            f"{name} has no byte order mark, and {encoding} does not specify the byte order: "
            f"use {encoding}-le or {encoding}-be"
        )


def _advice(file: BinaryIO, position: int, tried: str) -> str:
    """Return advice for a file that is not text in the encoding that was tried.

    Args:
        position: An offset near the place that is wrong.
    """
    start = max(position // 4 * 4 - SAMPLE_BYTES, 0)
    file.seek(start)
    raw = file.read(2 * SAMPLE_BYTES)
    if start and tried == "utf-8":  # what came before was UTF-8, so it may begin in a character
        raw = raw.lstrip(_CONTINUATION)
    sample = _sample(raw)
    likely = guess(sample)
    if likely == tried:
        return f". Most of it is {tried}: it is damaged, or parts of it are in another encoding"
    if likely and _decode_beginning(sample, likely) is not None:
        return (
            f". It looks like {likely}: read it with --encoding {likely}, in Python "
            f"encoding={likely!r}, and check that the characters are right"
        )
    if b"\0" in sample:
        return ". It seems to be a binary file"
    return (
        ". Its encoding cannot be determined from its bytes: find out its encoding, and read it "
        "with --encoding NAME, in Python encoding=NAME"
    )


def _control_character(text: str, encoding: str) -> Optional[int]:
    """Find a control character that shows that a text is in another encoding; None without."""
    position = text.find("\0")
    if position < 0 and not encoding.startswith("utf"):
        control = _CONTROL.search(text)
        position = control.start() if control else -1
    return None if position < 0 else position


def _warn_if_unlikely(raw: bytes, encoding: str, name: str) -> None:
    """Warn where bytes look as if their encoding were another one than the user gave."""
    sample = _sample(raw)
    if sum(byte >= 0x80 for byte in sample) < ENOUGH_TO_DOUBT:
        return
    likely = guess(sample, DOUBT)
    better = likely and _decode_beginning(sample, likely)
    if better and better != _decode_beginning(sample, encoding):
        warnings.warn(f"{name} is read as {encoding}, but looks like {likely}", stacklevel=2)


def guess(raw: bytes, least: float = LIKELY) -> Optional[str]:
    """Name the encoding of a text, if it can be told from some of its bytes.

    Args:
        raw: A part of the text that is not all ASCII.
        least: The confidence that chardet must have.

    Returns:
        Python's name of the encoding, "utf-8" also if a few bytes are damaged. None if no encoding
        is likely. Without chardet, which needs Python 3.10, only these and byte order marks are
        recognized.
    """
    for marked, marks in _MARKS.items():
        if raw.startswith(marks):
            return marked
    if _mostly_utf8(raw):  # chardet takes it for another encoding after one wrong byte
        return "utf-8"
    try:
        import chardet

        found = chardet.detect(raw, compat_names=False)
    except (ImportError, TypeError):  # chardet 6 and older, without compat_names, is often wrong
        return None
    encoding = found["encoding"]
    few = sum(byte >= 0x80 for byte in raw) < ENOUGH_TO_GUESS
    if encoding is None or found["confidence"] < (SURE if few else least):
        return None
    if b"\0" in raw and not encoding.startswith(("utf-16", "utf-32")):
        return None
    return encoding


def _mostly_utf8(raw: bytes) -> bool:
    """Whether most of what is not ASCII is valid UTF-8, or begins as a UTF-8 file may."""
    text = raw.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    return text.startswith("\ufeff") or sum(c >= "\x80" for c in text) > 3 * broken


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
