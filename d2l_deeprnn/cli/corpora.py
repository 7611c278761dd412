"""``d2l-deeprnn corpora``: the known texts."""

from __future__ import annotations

import argparse

from .console import DONE, show


def add_corpora(parser: argparse.ArgumentParser) -> None:
    """Add the command ``fetch``."""
    parser.set_defaults(name=None)
    fetch = parser.add_subparsers(metavar="fetch").add_parser(
        "fetch",
        help="find or download a text",
        description="Find a text on this machine or download it, and print its path.",
        epilog=parser.epilog,
    )
    fetch.add_argument("name", metavar="NAME", help="a name from the list of `d2l-deeprnn corpora`")


def run_corpora(arguments: argparse.Namespace) -> int:
    """List the known texts with their locations, or fetch one into the cache.

    examples:
      d2l-deeprnn corpora
      d2l-deeprnn corpora fetch time_machine
    """
    from ..errors import CorpusError
    from ..text.known_texts import KNOWN_TEXTS, find_text, locate_text

    if arguments.name is not None:
        show(str(find_text(arguments.name)))
        return DONE
    for name, text in KNOWN_TEXTS.items():
        try:
            place = locate_text(name) or "not on this machine"
        except CorpusError as error:
            place = f"unusable: {error}"
        show(f"{name}\n    {text.title}, {text.author}\n    {text.source}\n    {place}")
    return DONE
