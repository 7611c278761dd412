"""``d2l-deeprnn evaluate``: the loss of a run's model on held-out text."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Tuple

from ..files import printable, user_path
from ..training.settings import SettingsError, TrainSettings, fields
from .console import DONE, show
from .options import add_checkpoint, add_device, add_setting, device

if TYPE_CHECKING:
    from ..training.evaluate import Evaluation
    from ..training.ranks import Ranks
    from ..training.runs import LoadedRun, TextParts

EXAMPLES = """\
  d2l-deeprnn evaluate runs/novel --baseline ngram
  d2l-deeprnn evaluate runs/novel --corpus another_novel.txt"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = """\
Score the held-out parts of a run's text, or another text: nats and bits per
character, perplexity. Every character but the first is scored once."""
    add = parser.add_argument
    add("directory", type=user_path, metavar="DIR", help="directory of the run")
    add(
        "--corpus",
        nargs="+",
        metavar="NAME|FILE",
        help="known texts, files (.gz is unpacked) or directories of files to score, joined, and "
        "cleaned as the run's text was (default: the held-out parts of that text)",
    )
    add_setting(parser, "encoding", fields(TrainSettings)["encoding"])
    batch_size = fields(TrainSettings)["batch_size"]
    words = "number of rows that read the text side by side; 1 reads it in one go"
    add_setting(parser, "batch_size", batch_size._replace(help=words))
    add_baseline(parser)
    add_checkpoint(parser)
    add_device(parser)


def add_baseline(parser: argparse.ArgumentParser) -> None:
    """Add the option that asks for a model to compare a run's with."""
    parser.add_argument(
        "--baseline",
        choices=["ngram"],
        help="score an interpolated n-gram model of the run's text too, which takes a few hundred "
        "bytes of memory a character (default: none)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Score the held-out parts of a run's text, or another text; gives the exit status."""
    from ..training.ranks import distributed

    if arguments.encoding is not None and arguments.corpus is None:
        raise SettingsError("--encoding is that of the files given with --corpus: give one")
    with distributed() as ranks:
        _score(arguments, ranks)
    return DONE


def _score(arguments: argparse.Namespace, ranks: Ranks) -> None:
    from ..text.token_files import read_tokens
    from ..training import runs
    from ..training.evaluate import count_tokens, evaluate

    ctx = device(arguments) or ranks.device()
    run = runs.load_run(arguments.directory, checkpoint=arguments.checkpoint, ctx=ctx)
    text = None
    if arguments.corpus is None or arguments.baseline:
        text = ranks.root_first(lambda: runs.read_own_text(arguments.directory, run.vocab))
    if arguments.corpus is not None:
        corpus = ranks.root_first(
            lambda: read_tokens(
                arguments.corpus,
                lower=not run.settings.keep_case,
                fold_whitespace=not run.settings.keep_whitespace,
                encoding=arguments.encoding,
                vocab=run.vocab,
            )
        )
        parts = [(" + ".join(arguments.corpus), corpus.indices)]
    else:
        assert text is not None
        parts = list(runs.held_out_parts(text))
        if not parts:
            raise SettingsError("the run held nothing out: name a text with --corpus")
    for name, indices in parts:
        result = evaluate(run.model, indices, run.ctx, batch_size=arguments.batch_size, ranks=ranks)
        show(f"{printable(name)}: {_words(result)}")
        unknown = count_tokens(indices, [run.vocab.unk])
        if unknown:
            show(
                f"    {unknown} characters of it are not in the run's vocabulary"
                f"{_unknown(arguments, run)}"
            )
        if arguments.baseline:
            assert text is not None
            with ranks.working():
                order, counted = baseline(text, indices, len(run.vocab))
            show(f"    n-gram of order {order}: {_words(counted)}")


def _unknown(arguments: argparse.Namespace, run: LoadedRun) -> str:
    """Read a text again to name the characters that are not in the run's vocabulary."""
    from ..text.corpora import text_files, text_pieces
    from ..text.vocab import FORMS, unknown_characters

    files = text_files(arguments.corpus, arguments.encoding) if arguments.corpus else []
    if not files or any(file.is_pipe for file in files):
        return ""
    cleaning = {
        "lower": not run.settings.keep_case,
        "fold_whitespace": not run.settings.keep_whitespace,
    }
    unknown = unknown_characters(text_pieces(files, **cleaning), run.vocab)
    words = f": {unknown.listed}{unknown.names}"
    if unknown.form is None:
        return words
    return (
        f"{words}; the run's text has {FORMS[unknown.form]}: convert this one, for instance "
        f"with `uconv -x {unknown.form.lower()}`"
    )


def _words(result: Evaluation) -> str:
    return (
        f"{result.nats:.4f} nats, {result.bits:.4f} bits per character, "
        f"perplexity {result.perplexity:.4f}, {result.num_chars} characters scored"
    )


def baseline(text: TextParts, indices: Any, vocab_size: int) -> Tuple[int, Evaluation]:
    """Score an n-gram model, counted on what the run was trained on; gives its order too."""
    from ..training.evaluate import Evaluation
    from ..training.ngram import NGramModel, choose_order

    if not len(text.valid):
        raise SettingsError("--baseline chooses its order on the validation part: the run has none")
    order, _ = choose_order(text.train, text.valid, vocab_size)
    nats = NGramModel(text.train, order, vocab_size).loss(indices)
    return order, Evaluation(nats, len(indices) - 1)
