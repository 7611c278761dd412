"""``d2l-deeprnn generate``: a trained model writes."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, List

from ..files import user_path
from ..training.settings import SettingsError, TrainSettings, fields
from .console import DONE, print_error, show
from .options import add_checkpoint, add_device, add_setting, device, whole_number

if TYPE_CHECKING:
    from ..text.vocab import Vocab
    from ..training.ranks import Ranks
    from ..training.runs import LoadedRun

EXAMPLES = """\
  d2l-deeprnn generate runs/novel --prefix 'It was'
  d2l-deeprnn generate runs/novel --temperature 0.8 --top-p 0.95 --seed 1
  d2l-deeprnn generate runs/novel --prefix 'It was' --stop . --stop '?'"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = """\
Continue a prefix with the model of a run; greedily, as the book does, unless a
temperature is given."""
    add = parser.add_argument
    add("directory", type=user_path, metavar="DIR", help="directory of the run")
    add(
        "--prefix",
        action="append",
        metavar="TEXT",
        help="text to continue, cleaned as the run's text was; may be repeated (default: a line "
        "break, or a blank where the text has none)",
    )
    add(
        "--length",
        type=whole_number(0),
        default=200,
        metavar="N",
        help="number of characters to write, at most if --stop is given (default: %(default)s)",
    )
    add(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end a text as soon as this has been added to it, and keep it; may be repeated; in a "
        "shell, a line break is $'\\n' (default: write all characters)",
    )
    add(
        "--temperature",
        type=float,
        default=0.0,
        metavar="T",
        help="0 takes the most likely character each time; from above 0, characters are drawn, "
        "the more freely the higher it is (default: 0)",
    )
    add(
        "--top-k",
        type=whole_number(1),
        metavar="K",
        help="draw from the K most likely characters only (default: from all)",
    )
    add(
        "--top-p",
        type=float,
        metavar="P",
        help="draw from the most likely characters that together have probability P only "
        "(default: from all)",
    )
    seed = fields(TrainSettings)["seed"]
    seed = seed._replace(default=None, help="seed of the draws", none_means="a new one each time")
    add_setting(parser, "seed", seed)
    add_checkpoint(parser)
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Continue prefixes; one is shown as it comes. Gives the exit status."""
    from ..training.ranks import distributed
    from ..training.runs import load_run

    with distributed() as ranks:
        run = load_run(
            arguments.directory,
            checkpoint=arguments.checkpoint,
            ctx=device(arguments) or ranks.device(),
        )
        given = arguments.prefix or [start(run.vocab)]
        prefixes = [clean_prefix(prefix, run.settings, run.vocab) for prefix in given]
        for stop in arguments.stop:
            check_known("stop text", stop, run.vocab)
        _continue(prefixes, run, arguments, ranks)
    return DONE


def _continue(
    prefixes: List[str], run: LoadedRun, arguments: argparse.Namespace, ranks: Ranks
) -> None:
    from ..generation.generate import generate

    streams = len(prefixes) == 1
    begun: List[int] = []

    def show_piece(row: int, piece: str) -> None:
        if not begun:
            show(prefixes[0], end="")
            begun.append(row)
        show(piece, end="")

    with ranks.working():
        texts = generate(
            run.model,
            run.vocab,
            prefixes,
            arguments.length,
            temperature=arguments.temperature,
            top_k=arguments.top_k,
            top_p=arguments.top_p,
            seed=arguments.seed,
            stop=arguments.stop,
            ctx=run.ctx,
            on_text=show_piece if streams else None,
            rows=ranks.part(len(prefixes)),
        )
    texts = [text for part in ranks.allgather(texts) for text in part]
    show("" if begun else "\n\n".join(texts))


def start(vocab: Vocab) -> str:
    """What to start from where nothing is given: a line's beginning, or a word's."""
    for char in "\n ":
        if char in vocab.token_to_idx:
            return char
    return vocab.idx_to_token[1]  # a text without either; 0 is <unk>


def clean_prefix(prefix: str, settings: TrainSettings, vocab: Vocab) -> str:
    """Clean a prefix as a run's text was, but for blanks at its ends.

    Raises:
        SettingsError: if a character of it is not in the run's vocabulary, or there is none.
    """
    cleaned = prefix
    if not settings.keep_whitespace:
        cleaned = re.sub(r"\s+", " ", cleaned)
    if not settings.keep_case:
        cleaned = cleaned.lower()
    if cleaned != prefix:
        print_error(f"{prefix!r} is read as {cleaned!r}, as the run's text was")
    if not cleaned:
        raise SettingsError("a prefix is empty: give at least one character to start from")
    check_known("prefix", cleaned, vocab)
    return cleaned


def check_known(name: str, text: str, vocab: Vocab) -> None:
    """Raise a SettingsError if a character of a text is not in the run's vocabulary."""
    from ..text.vocab import describe_unknown

    unknown = describe_unknown(name, text, vocab)
    if unknown:
        known = "".join(token for token in vocab.idx_to_token[1:] if token != "<unk>")
        raise SettingsError(f"not in the vocabulary: {unknown}; the run's text has {_some(known)}")


def _some(characters: str, most: int = 100) -> str:
    """Characters, most frequent first, in words."""
    more = f" and {len(characters) - most} others" if len(characters) > most else ""
    return f"the characters {characters[:most]!r}{more}"
