"""``d2l-deeprnn report``: a run as a page for a browser."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Tuple

from .._perplexity import perplexity
from ..evidence.live import duration
from ..files import user_path
from ..training.settings import SettingsError, TrainSettings, as_dict, fields
from .console import DONE, print_line
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
    "train_chars": "Training characters",
    "valid_chars": "Validation characters",
    "test_chars": "Test characters",
}
BLANKS = {"\n": "a line break", " ": "a space"}


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
    seed = fields(TrainSettings)["seed"]._replace(help="seed of the model's texts")
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
    from ..evidence import pages
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
            write_text(output, report.html(run, config, plot=pages.svg(report.figure(run))))


def _page(arguments: argparse.Namespace, config: Mapping[str, Any]) -> str:
    """Return the page of a run of ``train``."""
    from ..evidence import pages
    from ..evidence.figures import training_figure
    from ..training import runs

    directory = arguments.directory
    loaded = runs.load_run(directory, checkpoint=arguments.checkpoint, ctx=device(arguments))
    settings = loaded.settings
    # A model from another program may come without one.
    history = runs.read_history(directory) if loaded.history else []
    record = loaded.history[-1] if loaded.history else None
    which = f"{arguments.checkpoint} checkpoint"
    if record is not None:
        which += f", epoch {record.epoch}"
    lead = f"{_model(loaded)}, after {len(history)} of {settings.num_epochs} epochs"
    if record is not None and record.valid_loss is not None:
        lead += (
            f": held-out perplexity {perplexity(record.valid_loss):.4g}, "
            f"{record.valid_loss:.4f} nats per character ({which})"
        )
    rows, text_error = _held_out(arguments, loaded, which)
    prefix = start(loaded.vocab)
    if arguments.prefix is not None:
        prefix = clean_prefix(arguments.prefix, settings, loaded.vocab)
    own = changed(settings)
    none_means = {name: one.none_means for name, one in fields(settings).items()}
    values = {name: none_means[name] if x is None else x for name, x in as_dict(settings).items()}
    return pages.render(
        "cli/report.html",
        title=f"A training run on {_texts(settings)}",
        lead=lead,
        plot=pages.svg(training_figure({"this run": history})) if history else "",
        rows=rows,
        text_error=text_error,
        samples_note=f"{LENGTH} characters after {BLANKS.get(prefix, repr(prefix))}, by the model "
        f"of the {which}; seed {arguments.seed}.",
        samples=_samples(loaded, prefix, arguments.seed),
        own_settings={name: value for name, value in values.items() if name in own},
        default_settings={name: value for name, value in values.items() if name not in own},
        command=_command(config, settings, directory),
        work=_work(config, history),
        config=config,
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


def _held_out(
    arguments: argparse.Namespace, run: LoadedRun, which: str
) -> Tuple[List[Tuple[str, ...]], str]:
    """Score the held-out parts; return rows of a table, and why the text could not be scored."""
    from ..text.corpora import CorpusError
    from ..training import runs
    from ..training.evaluate import Evaluation, evaluate

    rows: List[Tuple[str, ...]] = []

    def add(part: str, by: str, scored: Evaluation) -> None:
        values = [f"{x:.4f}" for x in (scored.nats, scored.bits, scored.perplexity)]
        rows.append((part, by, *values, f"{scored.num_chars:,}" if scored.num_chars else ""))

    try:
        text: TextParts = runs.read_own_text(arguments.directory, run.vocab)
    except (CorpusError, runs.RunError) as error:
        if arguments.baseline:
            raise
        valid_loss = run.history[-1].valid_loss if run.history else None
        if valid_loss is not None:
            add("validation", which, Evaluation(valid_loss, 0))
        return rows, str(error)
    for name, indices in runs.held_out_parts(text):
        add(name, which, evaluate(run.model, indices, run.ctx))
        if arguments.baseline:
            order, counted = baseline(text, indices, len(run.vocab))
            add(name, f"n-gram of order {order}", counted)
    return rows, ""


def _samples(run: LoadedRun, prefix: str, seed: int) -> Iterator[Tuple[str, str]]:
    """Let the model write at several temperatures; yield titles and texts."""
    from ..generation.generate import generate

    for temperature in TEMPERATURES:
        (text,) = generate(
            run.model, run.vocab, [prefix], LENGTH, temperature=temperature, seed=seed, ctx=run.ctx
        )
        title = f"Temperature {temperature:g}"
        if temperature == 0:
            title += ": the most likely character each time"
        if not text.strip():
            title += " (here, white space only)"
        yield title, text


def _command(config: Mapping[str, Any], settings: TrainSettings, directory: Path) -> str:
    """The command that makes such a run."""
    words = ["d2l-deeprnn", "train", *as_words(settings), "--out", str(directory)]
    if "imported" in config:
        words = ["d2l-deeprnn", "import", config["imported"]["file"], "--out", str(directory)]
    elif config.get("ranks", 1) > 1:
        words = ["mpiexec", "-n", str(config["ranks"]), *words]
    return shlex.join(words)


def _work(config: Mapping[str, Any], history: List[Dict[str, float]]) -> List[Tuple[str, str]]:
    seconds = history[-1].get("seconds", math.nan) if history else math.nan
    rows = [("Training time", duration(seconds))] if math.isfinite(seconds) else []
    text = config["text"]
    for name, words in TEXT.items():
        if isinstance(text.get(name), int):
            rows.append((words, f"{text[name]:,}"))
    if "imported" in config:
        rows.append(("Imported from", str(config["imported"]["file"])))
    return rows
