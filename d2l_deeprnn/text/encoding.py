"""Strict decoding of files, and advice for files that cannot be decoded.

The advice names the encoding that chardet guesses. Only the user can choose to use it.
"""

from __future__ import annotations

import codecs
import io
import re
from typing import BinaryIO, Iterator, Optional

from ..errors import CorpusError

CHUNK = 2**20  # characters
# A guess is based on this many bytes on each side of an invalid byte.
SAMPLE_BYTES = 2**15
# With fewer non-ASCII bytes or less confidence than this, chardet is often wrong.
MIN_BYTES, MIN_CONFIDENCE = 10, 0.1

# First bytes of file types that users take for text, as regular expressions, with advice for each.
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
    (rb"\x89PNG\r\n", "a PNG image, not text: choose another file"),
    (rb"\xff\xd8\xff", "a JPEG image, not text: choose another file"),
)
# Signs of a wrong encoding: NUL, the escape sequences of ISO-2022-JP (which are valid UTF-8), the
# byte order mark of the other byte order, and C1 control characters except the line break U+0085.
_NUL, _ESCAPE, _SWAPPED_MARK = re.compile("\0"), re.compile("\x1b\\$[@B]"), re.compile("\ufffe")
_C1_CONTROL = re.compile("[\x80-\x84\x86-\x9f]")
_BYTE_ORDER_MARKS = {
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),  # before UTF-16, whose mark is shorter
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


def decode_file(file: BinaryIO, encoding: Optional[str], name: str) -> Iterator[str]:
    """Decode a file chunk by chunk, strictly.

    Args:
        file: a seekable file at its beginning; it is closed at the end.
        encoding: Python's name of its encoding; None for UTF-8.
        name: name of the file, for messages.

    Returns:
        The text, with LF for each line break and without a byte order mark at the beginning.

    Raises:
        CorpusError: if the file is not text in this encoding. The message names the encoding or
            file type that it seems to have.
    """
    codec = encoding or "utf-8"
    other = _SWAPPED_MARK if codec.startswith("utf") else _C1_CONTROL
    other = _ESCAPE if codec == "utf-8" else other

    def not_text(problem: str, position: int) -> CorpusError:
        advice = _advice(file, position, codec)
        return CorpusError(f"{name} is not {encoding or 'UTF-8'} text: {problem}. {advice}")

    with io.TextIOWrapper(file, codec) as text:
        beginning = file.read(16)
        for signature, description in _SIGNATURES:
            if re.match(signature, beginning):
                raise CorpusError(f"{name} is {description}")
        file.seek(0)
        num_chars = 0
        while True:
            position = file.tell()
            try:
                chunk = text.read(CHUNK)
            except UnicodeDecodeError as error:
                position = file.tell() - len(error.object) + error.start
                problem = f"byte 0x{error.object[error.start]:02x} at offset {position}"
                raise not_text(problem, position) from None
            except UnicodeError as error:
                raise not_text(str(error), position) from None
            match = _NUL.search(chunk) or other.search(chunk)
            if match:
                code = f"U+{ord(match[0][0]):04X}"
                character = num_chars + match.start()
                problem = f"character {character} would be {code}, which does not occur in text"
                raise not_text(problem, position + match.start())
            if not chunk:
                return
            yield chunk if num_chars else chunk.lstrip("\ufeff")
            num_chars += len(chunk)


def _advice(file: BinaryIO, position: int, codec: str) -> str:
    """Return advice for a file that is not valid near an offset."""
    # Multiples of 4, so that UTF-16 and UTF-32 are not cut within a character.
    file.seek(max(position // 4 * 4 - SAMPLE_BYTES, 0))
    sample = file.read(2 * SAMPLE_BYTES)
    ascii_only = re.split(rb"[\0\x1b\x80-\xff]", sample, maxsplit=1)[0]
    likely = guess(sample[max(len(ascii_only) // 4 * 4 - 32, 0) :])
    if likely == codec:
        return (
            f"Most of it is {codec}: it is damaged, or parts of it are in another encoding. Get an "
            "undamaged copy, or convert those parts"
        )
    if likely:
        return (
            f"It looks like {likely}: read it with --encoding {likely}, in Python "
            f"encoding={likely!r}, and check that the characters are right"
        )
    if b"\0" in sample:
        return "It seems to be a binary file: choose a text file"
    return (
        "Its encoding cannot be determined from its bytes: find out which one it is, and read the "
        "file with --encoding NAME, in Python encoding=NAME"
    )


def guess(raw: bytes) -> Optional[str]:
    """Guess the encoding of a text from a part of it that is not all ASCII.

    Returns:
        Python's name of the encoding, or None if no encoding is likely. A few damaged bytes do not
        prevent "utf-8". Chardet needs Python 3.10; without it, only UTF-8 and byte order marks are
        recognized.
    """
    for marked, marks in _BYTE_ORDER_MARKS.items():
        if raw.startswith(marks):
            return marked
    text = raw.decode("utf-8", "replace")
    # A single wrong byte is enough for chardet to take UTF-8 for another encoding.
    if text.startswith("\ufeff") or sum(c >= "\x80" for c in text) > 3 * text.count("\ufffd"):
        return "utf-8"
    # ISO-2022-JP has no bytes outside ASCII.
    if sum(byte >= 0x80 for byte in raw) < MIN_BYTES and b"\x1b" not in raw and b"\0" not in raw:
        return None
    try:
        import chardet

        result = chardet.detect(raw, compat_names=False)
    except (ImportError, TypeError):  # chardet 6 and older, which is often wrong
        return None
    encoding = result["encoding"]
    if encoding is None or result["confidence"] < MIN_CONFIDENCE:
        return None
    if b"\0" in raw and not encoding.startswith(("utf-16", "utf-32")):
        return None
    try:  # the sample may end within a character
        codecs.getincrementaldecoder(encoding)().decode(raw)
    except UnicodeError:
        return None
    return encoding
