"""``d2l-deeprnn corpora``: which texts are known."""

from __future__ import annotations

import argparse

from .console import DONE, show

EXAMPLES = """\
  d2l-deeprnn corpora
  d2l-deeprnn corpora fetch time_machine"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = "List the known texts and where they are, or fetch one into the cache."
    parser.set_defaults(name=None)
    actions = parser.add_subparsers(metavar="fetch")
    fetch = actions.add_parser("fetch", help="find or download a text")
    fetch.description = "Find a text on this machine or download it, and print its path."
    fetch.epilog = parser.epilog
    fetch.add_argument("name", metavar="NAME", help="one of those that `d2l-deeprnn corpora` lists")


def run(arguments: argparse.Namespace) -> int:
    """List the known texts, or find one; gives the exit status."""
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
