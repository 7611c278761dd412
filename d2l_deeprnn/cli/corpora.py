"""``d2l-deeprnn corpora``: the known texts."""

from __future__ import annotations

import argparse
from typing import Dict, List, Optional

from .console import BOLD, DONE, show, show_json
from .options import add_json


def add_corpora(parser: argparse.ArgumentParser) -> None:
    """Add the command ``fetch``."""
    parser.set_defaults(name=None)
    parser.usage = "%(prog)s [--json]\n       %(prog)s fetch NAME"
    add_json(parser, "the list")
    summary = "find a text on this machine or download it, and print its path"
    commands = parser.add_subparsers(metavar="fetch NAME", prog=parser.prog, help=summary)
    fetch = commands.add_parser(
        "fetch", description=f"{summary.capitalize()}.", epilog=parser.epilog
    )
    fetch.add_argument("name", metavar="NAME", help="a name from the list of `d2l-deeprnn corpora`")


def run_corpora(arguments: argparse.Namespace) -> int:
    """List the known texts with their locations, or fetch one into the cache.

    examples:
      d2l-deeprnn corpora
      d2l-deeprnn corpora --json
      d2l-deeprnn corpora fetch time_machine
    """
    from ..errors import CorpusError
    from ..text.known_texts import KNOWN_TEXTS, find_text, locate_text

    if arguments.name is not None:
        show(str(find_text(arguments.name)))
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
        show(f"    {one['title']}, {one['author']}\n    {one['source']}")
        show(f"    {one['path'] or unusable or 'not on this machine'}")
    return DONE
