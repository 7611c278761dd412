"""``d2l-deeprnn evaluate``: the loss of a run's model on held-out text."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from ..files import printable
from ..training.settings import SettingsError, TrainSettings, fields
from .console import DONE, print_paragraph, show_json, show_table
from .options import (
    add_checkpoint,
    add_device,
    add_json,
    add_path,
    add_setting,
    device,
)

if TYPE_CHECKING:
    from ..training.evaluate import Evaluation
    from ..training.ranks import Ranks
    from ..training.runs import LoadedRun, TextParts


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate``."""
    add_path(parser, "directory", "directory of the run")
    parser.add_argument(
        "--corpus",
        nargs="+",
        metavar="NAME|FILE",
        help="known texts, files (.gz is unpacked) or directories of files to score, joined and "
        "cleaned like the run's text (default: the held-out parts of the run's text)",
    )
    declarations = fields(TrainSettings)
    add_setting(parser, "encoding", declarations["encoding"])
    help_text = "number of rows that are read in parallel; 1 reads the text in one pass"
    add_setting(parser, "batch_size", declarations["batch_size"]._replace(help=help_text))
    add_baseline(parser)
    add_checkpoint(parser)
    add_device(parser)
    add_json(parser, "a list of scores")


def add_baseline(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses a baseline."""
    parser.add_argument(
        "--baseline",
        choices=["ngram"],
        help="also score an interpolated n-gram model of the run's text, which takes a few hundred "
        "bytes of memory per character (default: none)",
    )


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Score the held-out parts of a run's text, or another text.

    Print nats per character, bits per character, and perplexity. Every character
    except the first is scored once.

    examples:
      d2l-deeprnn evaluate runs/novel --baseline ngram
      d2l-deeprnn evaluate runs/novel --corpus another_novel.txt
      d2l-deeprnn evaluate runs/novel --json
    """
    from ..training.ranks import distributed

    if arguments.encoding is not None and arguments.corpus is None:
        raise SettingsError("--encoding is only for files given with --corpus: give both")
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
        parts = [(" + ".join(Path(name).name or name for name in arguments.corpus), corpus.indices)]
        sha256 = corpus.sha256
    else:
        assert text is not None
        sha256 = text.sha256
        parts = list(runs.held_out_parts(text))
        if not parts:
            raise SettingsError("the run has no held-out text: give a text with --corpus")
    check_same(ranks, arguments, run, **{"text (by its SHA-256)": sha256})
    scores: List[Dict[str, Any]] = []
    unknowns: List[int] = []
    for name, indices in parts:
        result = evaluate(run.model, indices, run.ctx, batch_size=arguments.batch_size, ranks=ranks)
        unknown = count_tokens(indices, [run.vocab.unk])
        unknowns.append(unknown)
        scores.append({**_score_of(printable(name), "network", result), "unknown": unknown})
        if arguments.baseline:
            assert text is not None
            with ranks.working():
                order, counted = baseline(text, indices, len(run.vocab))
            model = f"n-gram of order {order}"
            scores.append({**_score_of(printable(name), model, counted), "unknown": unknown})
    if arguments.json:
        show_json(scores)
    else:
        _print_scores(scores)
        for (name, indices), unknown in zip(parts, unknowns):
            if unknown:
                print_paragraph(
                    f"{unknown:,} of the {len(indices):,} characters of {printable(name)} are "
                    f"unknown to the model{_unknown(arguments, run)}"
                )


def _score_of(text: str, model: str, result: Evaluation) -> Dict[str, Any]:
    return {
        "text": text,
        "model": model,
        "nats": result.nats,
        "bits": result.bits,
        "perplexity": result.perplexity,
        "characters": result.num_chars,
    }


def _print_scores(scores: List[Dict[str, Any]]) -> None:
    """Print a table of scores per character, and which model is better on each text."""
    rows = [["", "nats", "bits", "perplexity", "scored"]]
    by_text: Dict[str, List[Dict[str, Any]]] = {}
    for score in scores:
        models = by_text.setdefault(score["text"], [])
        models.append(score)
        label = f"  {score['model']}" if len(models) > 1 else score["text"]
        numbers = [f"{score[name]:.4f}" for name in ("nats", "bits", "perplexity")]
        rows.append([label, *numbers, f"{score['characters']:,}"])
    show_table(rows)
    for text, models in by_text.items():
        if len(models) > 1:
            better, worse = sorted(models, key=lambda score: score["nats"])
            lead = worse["nats"] - better["nats"]
            print_paragraph(
                f"{text}: the {better['model']} is better, by {lead:.4f} nats per character"
            )


def check_same(ranks: Ranks, arguments: argparse.Namespace, run: LoadedRun, **values: Any) -> None:
    """Check that all ranks have the same options, model and other values.

    On machines without a shared disk, the run or the text of one may be an older copy.

    Raises:
        RanksError: if they have not.
    """
    from ..training.optimization import parameters_of
    from ..training.ranks import digest_of

    if ranks.size == 1:
        return
    of_machine = ("run", "directory", "corpus", "encoding", "device")  # may differ
    options = {
        f"--{name.replace('_', '-')}": repr(value)
        for name, value in vars(arguments).items()
        if name not in of_machine
    }
    model = {
        "model (by its hash)": digest_of(parameters_of(run.model)),
        "vocabulary": run.vocab.idx_to_token,
    }
    ranks.check_same({**options, **model, **values})


def _unknown(arguments: argparse.Namespace, run: LoadedRun) -> str:
    """Read a text again to list the characters that are not in the run's vocabulary."""
    from ..text.corpora import text_chunks, text_files
    from ..text.vocab import FORMS, unknown_characters

    files = text_files(arguments.corpus, arguments.encoding) if arguments.corpus else []
    if not files or any(file.is_pipe for file in files):
        return ""
    keep = run.settings
    chunks = text_chunks(files, lower=not keep.keep_case, fold_whitespace=not keep.keep_whitespace)
    unknown = unknown_characters(chunks, run.vocab)
    form = unknown.form
    advice = form and (
        f"; the run's text has {FORMS[form]}: convert this text, for instance with "
        f"`uconv -x {form.lower()}`"
    )
    return f": {unknown}{advice or ''}"


def baseline(text: TextParts, indices: Any, vocab_size: int) -> Tuple[int, Evaluation]:
    """Score an n-gram model of the training part; return its order and the result."""
    from ..training.evaluate import Evaluation
    from ..training.ngram import NGramModel, choose_order

    if not len(text.valid):
        raise SettingsError(
            "--baseline needs a run with a validation part, on which the order is chosen"
        )
    order, _ = choose_order(text.train, text.valid, vocab_size)
    nats = NGramModel(text.train, order, vocab_size).loss(indices)
    return order, Evaluation(nats, len(indices) - 1)
