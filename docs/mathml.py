"""Repairs of the MathML that docutils makes of formulas."""

from __future__ import annotations

import re
from html import unescape
from xml.etree import ElementTree

SPACE = "http://www.w3.org/1998/Math/MathML"
ACCENTS = "~˜ˉ_¯ˆ^ˇ˙¨→⃗´`˘"
ElementTree.register_namespace("", SPACE)


def subscripts_beside_accents(mathml: str) -> str:
    r"""Put the subscript of an accented letter, as in ``\tilde{H}_t``, beside it.

    docutils takes the accent for an operator with limits, and puts the subscript below the letter.
    """
    # XML has no names for characters such as &nbsp;.
    mathml = re.sub(r"&(?!amp;|lt;|gt;|#)\w+;", lambda name: unescape(name[0]), mathml)
    root = ElementTree.fromstring(mathml)
    for element in root.iter(f"{{{SPACE}}}munderover"):
        letter, subscript, accent = element
        if accent.tag == f"{{{SPACE}}}mo" and accent.text and accent.text in ACCENTS:
            element.tag = f"{{{SPACE}}}msub"
            accented = ElementTree.Element(f"{{{SPACE}}}mover", accent="true")
            accented.extend([letter, accent])
            element[:] = [accented, subscript]
    return ElementTree.tostring(root, encoding="unicode")
