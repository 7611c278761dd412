"""``d2l-deeprnn corpora``: the known texts."""

from __future__ import annotations

import argparse
from typing import Dict, List, Optional

from .console import BOLD, DONE, show, show_json, show_paragraph
from .options import add_json


def add_corpora(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``corpora``."""
    parser.usage = "%(prog)s [--json]\n       %(prog)s fetch NAME"
    add_json(parser, "the list")
    what = "find a text on this machine or download it, and print its path"
    parser.add_argument("words", nargs="*", metavar="fetch NAME", help=what)


def run_corpora(arguments: argparse.Namespace) -> int:
    """List the known texts with their locations, or fetch one into the cache.

    examples:
      d2l-deeprnn corpora
      d2l-deeprnn corpora --json
      d2l-deeprnn corpora fetch time_machine
    """
    from ..errors import CorpusError, D2LError
    from ..text.known_texts import KNOWN_TEXTS, find_text, locate_text

    if arguments.words:
        if len(arguments.words) != 2 or arguments.words[0] != "fetch":
            raise D2LError(
                f"`corpora {' '.join(arguments.words)}` is not a command: to fetch a text, run "
                f"`d2l-deeprnn corpora fetch NAME`, with one of {', '.join(KNOWN_TEXTS)}"
            )
        show(str(find_text(arguments.words[1])))
        return DONE
    texts: List[Dict[str, Optional[str]]] = []
    for name, text in KNOWN_TEXTS.items():
        about = {"name": name, "title": text.title, "author": text.author, "source": text.source}
        try:
            path = locate_text(name)
            texts.append({**about, "path": str(path) if path else None, "error": None})
        except CorpusError as error:
            texts.append({**about, "path": None, "error": str(error)})
    if arguments.json:
        show_json(texts)
        return DONE
    for one in texts:
        unusable = f"unusable: {one['error']}" if one["error"] else ""
        show(str(one["name"]), style=BOLD)
        for line in (
            f"{one['title']}, {one['author']}",
            one["source"],
            one["path"] or unusable or "not on this machine",
        ):
            show_paragraph(f"    {line}", "    ")
    return DONE
