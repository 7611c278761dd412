"""``d2l-deeprnn report``: a run as a page for a browser."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from ..files import user_path
from ..training.settings import SettingsError, TrainSettings, declared
from .console import DONE, duration, print_line
from .evaluate import add_baseline, baseline
from .generate import clean_prefix, start
from .options import add_checkpoint, add_device, add_setting, as_words, changed, device

if TYPE_CHECKING:
    from ..training.runs import LoadedRun, TextParts

EXAMPLES = """\
  d2l-deeprnn report runs/novel
  d2l-deeprnn report runs/novel --baseline ngram --output novel.html"""
NAME = "report.html"
# The most likely characters, safer draws, and draws from what the model has learnt.
TEMPERATURES = (0.0, 0.5, 1.0)
LENGTH = 400
# What is shown of the text in a run's configuration.
TEXT = {
    "vocab_size": "Vocabulary size",
    "train_chars": "Characters to train on",
    "valid_chars": "Characters for validation",
    "test_chars": "Characters for the test",
}
BLANKS = {"\n": "a line break", " ": "a blank"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = """\
Write a run into one HTML file that needs no network: curves, held-out loss,
texts that the model writes, settings, machine, versions and command. For a run
of `reproduce`, it is the comparison with the book."""
    add = parser.add_argument
    add("directory", type=user_path, metavar="DIR", help="directory of the run")
    add(
        "--output",
        type=user_path,
        default=None,
        metavar="FILE",
        help=f"page to write (default: {NAME} in DIR)",
    )
    add_baseline(parser)
    add(
        "--prefix",
        default=None,
        metavar="TEXT",
        help="what the model's texts begin with, cleaned as the run's text was (default: a line "
        "break, or a blank where the text has none)",
    )
    seed = declared(TrainSettings)["seed"]._replace(help="seed of the model's texts")
    add_setting(parser, "seed", seed)
    add_checkpoint(parser)
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the page of a run; gives the exit status."""
    from ..files import write_text
    from ..training.run_directory import REPRODUCE, RunError, command_of, no_run, read_config

    directory = arguments.directory
    output = directory / NAME if arguments.output is None else arguments.output
    config = read_config(directory)
    if config is None:
        raise no_run(directory)
    if not output.parent.is_dir():
        raise RunError(
            f"--output {output} cannot be written: there is no directory {output.parent}; make "
            "it, or choose another"
        )
    if command_of(config) == REPRODUCE:
        _compare_with_the_book(arguments, config, output)
    else:
        write_text(output, _page(arguments, config))
    print_line(f"Written: {output}")
    return DONE


def _compare_with_the_book(
    arguments: argparse.Namespace, config: Mapping[str, Any], output: Path
) -> None:
    from ..chapter import report, reproduce
    from ..files import write_text

    directory = arguments.directory
    if arguments.baseline or arguments.prefix is not None:
        raise SettingsError(
            f"--baseline and --prefix are for a run of `train`; {directory} holds one of "
            "`reproduce`"
        )
    own = {"corpus": config["corpus"], "ctx": device(arguments)}
    with reproduce.directory(directory, resume=True, **own) as (run, taken):
        if not run.history:
            raise reproduce.RunError(f"the run in {directory} has no finished epoch yet")
        if output == directory / reproduce.REPORT:
            report.save(run, directory, reproduce.trained_model(run, taken))
        else:
            write_text(output, report.html(run, config, report.curves(run)))


def _page(arguments: argparse.Namespace, config: Mapping[str, Any]) -> str:
    """The page of a run of ``train``."""
    from ..evidence import pages
    from ..training import runs
    from ..training.evaluate import perplexity

    directory = arguments.directory
    loaded = runs.load_run(directory, checkpoint=arguments.checkpoint, ctx=device(arguments))
    # A model from another program may come without one.
    history = runs.read_history(directory) if loaded.history else []
    record = loaded.history[-1] if loaded.history else None
    which = f"{arguments.checkpoint} checkpoint"
    if record is not None:
        which += f", epoch {record.epoch}"
    held_out = _held_out(arguments, loaded, which)
    lead = f"{_model(loaded)}, after {len(history)} of {loaded.settings.num_epochs} epochs"
    if record is not None and record.valid_loss is not None:
        lead += (
            f": held-out perplexity {perplexity(record.valid_loss):.4g}, "
            f"{record.valid_loss:.4f} nats per character ({which})"
        )
    return pages.page(
        f"A training run on {_texts(loaded.settings)}",
        [
            pages.paragraph(f"{lead}.", "verdict"),
            pages.section("Curves", pages.curves(_curves(history))) if history else "",
            held_out,
            pages.section("What the model writes", *_samples(arguments, loaded, which)),
            pages.section("Settings", *_settings(loaded.settings)),
            pages.section(
                "How it was made",
                pages.command(_command(config, loaded.settings, directory)),
                pages.facts(_work(config, history)),
                pages.made_with(config),
            ),
        ],
        notes="Losses are means of the negative log-likelihood per character; perplexity is the "
        "exponential of the loss in nats.",
    )


def _texts(settings: TrainSettings) -> str:
    from ..text.corpora import KNOWN_TEXTS

    names = [KNOWN_TEXTS[t].title if t in KNOWN_TEXTS else Path(t).name for t in settings.corpus]
    return " + ".join(names)


def _model(run: LoadedRun) -> str:
    settings = run.settings
    size = sum(param.data().size for param in run.model.collect_params().values())
    layers = "1 layer" if settings.num_layers == 1 else f"{settings.num_layers} layers"
    cell = {"lstm": "LSTM", "gru": "GRU", "rnn": "plain RNN"}[settings.cell]
    return f"{cell} with {layers} of {settings.num_hiddens} hidden units, {size:,} parameters"


def _curves(history: List[Dict[str, float]]) -> Dict[str, Any]:
    """The curves that a history has: of the held-out text, and of the training."""
    from ..evidence.pages import Curve
    from ..training.evaluate import perplexity

    found = {}
    for legend, column in ("held out", "valid_loss"), ("training", "train_loss"):
        rows = [row for row in history if column in row]
        if rows:
            found[legend] = Curve(
                [row["epoch"] for row in rows],
                [row["seconds"] for row in rows],
                [perplexity(row[column]) for row in rows],
            )
    return found


def _held_out(arguments: argparse.Namespace, run: LoadedRun, which: str) -> str:
    """The section with the loss of the held-out parts."""
    from ..evidence import pages
    from ..text.corpora import CorpusError
    from ..training import runs
    from ..training.evaluate import Evaluation, evaluate

    columns = ("part", "by", "nats", "bits", "perplexity", "characters scored")
    rows = []

    def add(part: str, by: str, nats: float, num_chars: Optional[int]) -> None:
        scored = Evaluation(nats, num_chars or 1)
        numbers = [f"{x:.4f}" for x in (scored.nats, scored.bits, scored.perplexity)]
        rows.append((part, by, *numbers, "" if num_chars is None else f"{num_chars:,}"))

    note = ""
    try:
        text: Optional[TextParts] = runs.read_own_text(arguments.directory, run.vocab)
    except (CorpusError, runs.RunError) as error:
        if arguments.baseline:
            raise
        text, note = None, f"The text could not be scored: {error}."
    if text is None:
        valid_loss = run.history[-1].valid_loss if run.history else None
        if valid_loss is not None:
            add("validation", which, valid_loss, None)
    for name, indices in runs.held_out_parts(text) if text is not None else ():
        scored = evaluate(run.model, indices, run.ctx)
        add(name, which, scored.nats, scored.num_chars)
        if arguments.baseline:
            assert text is not None
            order, counted = baseline(text, indices, len(run.vocab))
            add(name, f"n-gram of order {order}", counted.nats, counted.num_chars)
    if not rows and not note:
        note = "The run held nothing out."
    caption = "Loss per character of text that was not trained on"
    return pages.section(
        "Held-out loss",
        pages.table(columns, rows, caption=caption, text=("part", "by")) if rows else "",
        pages.paragraph(note, "note") if note else "",
    )


def _samples(arguments: argparse.Namespace, run: LoadedRun, which: str) -> List[str]:
    from ..evidence import pages
    from ..generation.generate import generate

    prefix = start(run.vocab)
    if arguments.prefix is not None:
        prefix = clean_prefix(arguments.prefix, run.settings, run.vocab)
    parts = [
        pages.paragraph(
            f"{LENGTH} characters after {BLANKS.get(prefix, repr(prefix))}, by the model of the "
            f"{which}; seed {arguments.seed}.",
            "note",
        )
    ]
    for temperature in TEMPERATURES:
        (text,) = generate(
            run.model, run.vocab, [prefix], LENGTH,
            temperature=temperature, seed=arguments.seed, ctx=run.ctx,
        )  # fmt: skip
        title = f"Temperature {temperature:g}"
        if temperature == 0:
            title += ": the most likely character each time"
        if not text.strip():
            title += " (here, white space only)"
        parts.append(pages.written(title, text))
    return parts


def _settings(settings: TrainSettings) -> List[str]:
    from ..evidence import pages

    other = changed(settings)
    unset = {name: one.unset for name, one in declared(settings).items()}
    groups: Dict[bool, Dict[str, Any]] = {True: {}, False: {}}
    for field in dataclasses.fields(settings):
        name, value = field.name, getattr(settings, field.name)
        groups[name in other][name] = unset[name] if value is None else value
    return [
        pages.heading("Other than the defaults"),
        pages.facts(pages.labelled(groups[True])),
        pages.heading("Defaults"),
        pages.facts(pages.labelled(groups[False])),
    ]


def _command(config: Mapping[str, Any], settings: TrainSettings, directory: Path) -> str:
    """The command that makes such a run."""
    words = ["d2l-deeprnn", "train", *as_words(settings), "--out", str(directory)]
    if "imported" in config:
        words = ["d2l-deeprnn", "import", config["imported"]["file"], "--out", str(directory)]
    elif config.get("ranks", 1) > 1:
        words = ["mpiexec", "-n", str(config["ranks"]), *words]
    return shlex.join(words)


def _work(config: Mapping[str, Any], history: List[Dict[str, float]]) -> Any:
    rows = [("Training time", duration(history[-1]["seconds"]))] if history else []
    text = config["text"]
    for name, words in TEXT.items():
        if isinstance(text.get(name), int):
            rows.append((words, f"{text[name]:,}"))
    if "imported" in config:
        rows.append(("Imported from", str(config["imported"]["file"])))
    return rows
