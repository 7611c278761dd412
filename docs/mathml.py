"""Repairs of the MathML that docutils makes of formulas."""

from __future__ import annotations

import re
from html import unescape
from xml.etree import ElementTree

SPACE = "http://www.w3.org/1998/Math/MathML"
ACCENTS = "~˜ˉ_¯ˆ^ˇ˙¨→⃗´`˘"
ElementTree.register_namespace("", SPACE)


def repaired(mathml: str) -> str:
    r"""Return MathML with two faults of docutils repaired.

    It takes the accent of ``\tilde{H}_t`` for an operator with limits, and puts the subscript below
    the letter instead of beside it. It leaves no space between a function and a letter, as in
    ``\log p``.
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
    for parent in root.iter():
        children = list(parent)
        for i in range(len(children) - 1, 0, -1):
            function, argument = children[i - 1 : i + 1]
            if len(function.text or "") > 1 and {function.tag, argument.tag} == {f"{{{SPACE}}}mi"}:
                parent.insert(i, ElementTree.Element(f"{{{SPACE}}}mspace", width="0.17em"))
    return ElementTree.tostring(root, encoding="unicode")
