"""``d2l-deeprnn generate``: text written by a trained model."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, List

from ..training.settings import SettingsError, TrainSettings, fields
from .console import BOLD, DONE, GrowingText, print_error, show
from .options import (
    add_checkpoint,
    add_device,
    add_path,
    add_setting,
    device,
    number,
    whole_number,
)

if TYPE_CHECKING:
    from ..text.vocab import Vocab
    from ..training.ranks import Ranks
    from ..training.runs import LoadedRun


def add_generate(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``generate``."""
    add = parser.add_argument
    add_path(parser, "directory", "directory of the run")
    add(
        "--prefix",
        action="append",
        metavar="TEXT",
        help="text to continue, cleaned like the run's text; may be repeated (default: a line "
        "break, or a space if the run's text has none)",
    )
    add(
        "--length",
        type=whole_number(1),
        default=200,
        metavar="N",
        help="number of characters to write; with --stop, the maximum (default: %(default)s)",
    )
    add(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end the text as soon as TEXT has been added to it; may be repeated; in a shell, a "
        "line break is $'\\n' (default: write all characters)",
    )
    add(
        "--temperature",
        type=number("at least 0, such as 0.7"),
        default=0.0,
        metavar="T",
        help="0 takes the most likely character each time; above 0, characters are drawn at "
        "random, and higher values give more variety (default: 0)",
    )
    add(
        "--top-k",
        type=whole_number(1),
        metavar="K",
        help="draw only from the K most likely characters (default: from all)",
    )
    add(
        "--top-p",
        type=number("above 0 and at most 1, such as 0.95"),
        metavar="P",
        help="draw only from the most likely characters with a total probability of P "
        "(default: from all)",
    )
    seed = fields(TrainSettings)["seed"]
    seed = seed._replace(default=None, help="seed of the draws", none_means="a new one each time")
    add_setting(parser, "seed", seed)
    add_checkpoint(parser)
    add_device(parser)


def run_generate(arguments: argparse.Namespace) -> int:
    """Continue a prefix with the model of a run.

    By default, the most likely character is taken each time, as in the book.

    examples:
      d2l-deeprnn generate runs/novel --prefix 'It was'
      d2l-deeprnn generate runs/novel --temperature 0.8 --top-p 0.95 --seed 1
      d2l-deeprnn generate runs/novel --prefix 'It was' --stop . --stop '?'
    """
    from ..training.ranks import distributed
    from ..training.runs import load_run
    from .evaluate import check_same

    with distributed() as ranks:
        run = load_run(
            arguments.directory,
            checkpoint=arguments.checkpoint,
            ctx=device(arguments) or ranks.device(),
        )
        given = arguments.prefix or [default_prefix(run.vocab)]
        prefixes = [clean_prefix(prefix, run.settings, run.vocab) for prefix in given]
        check_same(ranks, arguments, run)
        _continue(prefixes, run, arguments, ranks)
    return DONE


def _continue(
    prefixes: List[str], run: LoadedRun, arguments: argparse.Namespace, ranks: Ranks
) -> None:
    from ..generation.generate import generate

    shown = GrowingText()
    started = False

    def show_chunk(row: int, chunk: str) -> None:
        nonlocal started
        if not started:
            shown.write(prefixes[row], BOLD)
        started = True
        shown.write(chunk)

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
            on_text=show_chunk if len(prefixes) == 1 else None,
            rows=ranks.part(len(prefixes)),
        )
    texts = [text for part in ranks.allgather(texts) for text in part]
    for i, (prefix, text) in enumerate(zip(prefixes, texts)):
        if not started:
            shown.write("\n\n" if i else "")
            shown.write(prefix, BOLD)
            shown.write(text[len(prefix) :])
    show()
    added = "".join(text[len(prefix) :] for prefix, text in zip(prefixes, texts))
    if arguments.temperature == 0 and not added.strip():
        print_error("The most likely text is only white space; try --temperature 0.7")


def default_prefix(vocab: Vocab) -> str:
    """Return a line break, or a space, or else the most frequent character of a run's text."""
    for char in "\n ":
        if char in vocab.token_to_idx:
            return char
    return vocab.idx_to_token[1]  # index 0 is <unk>


def clean_prefix(prefix: str, settings: TrainSettings, vocab: Vocab) -> str:
    """Clean a prefix like the text of a run, but keep spaces at its ends.

    Raises:
        SettingsError: if it is empty.
        ValueError: if one of its characters is not in the run's vocabulary.
    """
    from ..generation.generate import check_known

    cleaned = prefix
    if not settings.keep_whitespace:
        cleaned = re.sub(r"\s+", " ", cleaned)
    if not settings.keep_case:
        cleaned = cleaned.lower()
    if cleaned != prefix:
        print_error(f"the prefix {prefix!r} is cleaned like the run's text: {cleaned!r}")
    if not cleaned:
        raise SettingsError("a prefix is empty: give at least one character to start from")
    check_known("prefix", cleaned, vocab)
    return cleaned
