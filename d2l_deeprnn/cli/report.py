"""``d2l-deeprnn report`` and ``plot``: runs as a web page and as curves."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Tuple

from .._perplexity import perplexity
from ..evidence.live import duration
from ..training.settings import SettingsError, TrainSettings, as_dict, fields
from .console import DONE, print_line
from .evaluate import add_baseline, baseline
from .generate import clean_prefix, default_prefix
from .options import (
    add_checkpoint,
    add_device,
    add_path,
    add_setting,
    device,
    non_defaults,
    to_argv,
)

if TYPE_CHECKING:
    from ..training.runs import LoadedRun

NAME = "report.html"
# The most likely characters, cautious draws, and draws from the model's own distribution.
TEMPERATURES = (0.0, 0.5, 1.0)
LENGTH = 400
# Labels for the sizes in a run's configuration.
SIZES = {
    "vocab_size": "Vocabulary size (with <unk>)",
    "train_chars": "Training characters",
    "valid_chars": "Validation characters",
    "test_chars": "Test characters",
}


def add_plot(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``plot``."""
    add_path(parser, "directories", "directory of a run", nargs="+")
    what = (
        "plot to write, in the format of its ending, such as .svg, .png, .pdf or .jpg (default: "
        "%(default)s)"
    )
    add_path(parser, "--output", what, "FILE", Path("perplexity.svg"))


def run_plot(arguments: argparse.Namespace) -> int:
    """Plot the training and held-out perplexity of one or several runs.

    The last value of each curve is beside it, also in nats. A circle marks the best
    epoch.

    examples:
      d2l-deeprnn plot runs/novel
      d2l-deeprnn plot runs/lstm runs/gru --output cells.png
    """
    from ..chapter.reproduce import printed_training
    from ..evidence.figures import save_figure, training_figure
    from ..training.run_directory import RunError, read_config
    from ..training.runs import read_history

    _check_output(arguments.output)
    histories = {str(path): read_history(path) for path in arguments.directories}
    for path, history in histories.items():
        if not history:
            raise RunError(f"the run in {path} has no finished epoch yet, so there is no curve")
    end = max(row["epoch"] for history in histories.values() for row in history)
    marks = {}
    for training in filter(None, map(printed_training, arguments.directories)):
        for label, points in training.marks.items():
            reached = [point for point in zip(*points) if point[0] <= end]
            marks.update({label: tuple(zip(*reached))} if reached else {})
    configs = [read_config(path) or {} for path in arguments.directories]
    texts = [config.get("text", {}) for config in configs]
    # Perplexities of different texts cannot be compared, so the plot names no lowest one.
    title = ""
    if len({text.get("sha256") for text in texts}) > 1:
        title = "Runs on different texts"
    elif len({(text.get("valid_chars"), text.get("test_chars")) for text in texts}) > 1:
        title = "Runs with different held-out parts"
    written = _written(arguments.output)
    save_figure(training_figure(histories, marks=marks, title=title), arguments.output)
    print_line(written)
    return DONE


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``report``."""
    add_path(parser, "directory", "directory of the run")
    add_path(parser, "--output", f"page to write (default: {NAME} in DIR)", "FILE")
    add_baseline(parser)
    parser.add_argument(
        "--prefix",
        default=None,
        metavar="TEXT",
        help="start of the generated texts, cleaned like the run's text (default: a line break, or "
        "a space if the run's text has none)",
    )
    seed = fields(TrainSettings)["seed"]._replace(help="seed of the generated texts")
    add_setting(parser, "seed", seed)
    add_checkpoint(parser)
    add_device(parser)


def run_report(arguments: argparse.Namespace) -> int:
    """Write a report of a run as one HTML file, which can be read without a network.

    It has curves, held-out loss, generated texts, settings, machine, versions and
    command. For a run of `reproduce`, it is the comparison with the book.

    examples:
      d2l-deeprnn report runs/novel
      d2l-deeprnn report runs/novel --baseline ngram --output novel.html
    """
    from ..chapter import reproduce
    from ..files import write_text
    from ..training.run_directory import no_run, read_config

    directory = arguments.directory
    output = directory / NAME if arguments.output is None else arguments.output
    config = read_config(directory)
    if config is None:
        raise no_run(directory)
    _check_output(output)
    written = _written(output)
    if reproduce.is_reproduction(directory):
        _compare_with_the_book(arguments, config, output)
    else:
        write_text(output, _page(arguments, config))
    print_line(written)
    return DONE


def _check_output(path: Path) -> None:
    from ..training.run_directory import RunError

    if not path.parent.is_dir():
        raise RunError(
            f"--output {path} cannot be written: there is no directory {path.parent}; create it"
        )


def _written(path: Path) -> str:
    """Return the message for a file that will be written."""
    return f"Written{' over the old file' if path.exists() else ''}: {path}"


def _compare_with_the_book(
    arguments: argparse.Namespace, config: Mapping[str, Any], output: Path
) -> None:
    from ..chapter import report, reproduce
    from ..files import write_text
    from ..training.run_directory import RunError

    directory = arguments.directory
    if arguments.baseline or arguments.prefix is not None:
        raise SettingsError(
            f"--baseline and --prefix need a run of `train`, but {directory} is one of `reproduce`"
        )
    run = reproduce.load(directory)
    if not run.history:
        raise RunError(f"the run in {directory} has no finished epoch yet")
    if output == directory / report.REPORT:
        report.save(run, directory, device(arguments))
    else:
        write_text(output, report.html(run, config))


def _page(arguments: argparse.Namespace, config: Mapping[str, Any]) -> str:
    """Return the report of a run of ``train``."""
    from ..evidence import pages
    from ..evidence.figures import training_figure
    from ..training import runs

    directory = arguments.directory
    loaded = runs.load_run(directory, checkpoint=arguments.checkpoint, ctx=device(arguments))
    settings = loaded.settings
    # An imported model may have no history.
    history = runs.read_history(directory) if loaded.history else []
    source = f"{arguments.checkpoint} checkpoint"
    lead = f"{_model(loaded)}, after {len(history)} of {settings.num_epochs} epochs"
    if loaded.history:
        record = loaded.history[-1]
        source += f", epoch {record.epoch}"
        if record.valid_loss is not None:
            lead += (
                f": held-out perplexity {perplexity(record.valid_loss):.4g}, "
                f"{record.valid_loss:.4f} nats per character ({source})"
            )
    rows, comparisons, text_error = _held_out(arguments, loaded, source)
    prefix = default_prefix(loaded.vocab)
    if arguments.prefix is not None:
        prefix = clean_prefix(arguments.prefix, settings, loaded.vocab)
    shown = {"\n": "a line break", " ": "a space"}.get(prefix, repr(prefix))
    chosen = non_defaults(settings)
    declarations = fields(settings)
    values = {
        name: declarations[name].none_means if x is None else x
        for name, x in as_dict(settings).items()
    }
    return pages.render(
        "cli/report.html",
        title=f"A training run on {_texts(settings)}",
        lead=lead,
        plot=pages.svg(training_figure({"this run": history})) if history else "",
        rows=rows,
        dropout=settings.dropout,
        comparisons=comparisons,
        text_error=text_error,
        samples_note=f"{LENGTH} characters after {shown}, by the {source}; seed {arguments.seed}.",
        samples=_samples(loaded, prefix, arguments.seed),
        own_settings={name: value for name, value in values.items() if name in chosen},
        default_settings={name: value for name, value in values.items() if name not in chosen},
        page_command=shlex.join(
            ["d2l-deeprnn", "export", str(directory), "--format", "html", "--output", "model.html"]
        ),
        command=_command(config, settings, history),
        work=_work(config, history),
        config=config,
    )


def _texts(settings: TrainSettings) -> str:
    from ..text.known_texts import title_of

    return " + ".join(map(title_of, settings.corpus))


def _model(run: LoadedRun) -> str:
    settings = run.settings
    size = sum(param.data().size for param in run.model.collect_params().values())
    units = f"{settings.num_hiddens} hidden units per layer"
    return f"{settings.num_layers}-layer {settings.cell.upper()} with {units}, {size:,} parameters"


def _held_out(
    arguments: argparse.Namespace, run: LoadedRun, source: str
) -> Tuple[List[Tuple[str, ...]], List[str], str]:
    """Score the held-out parts.

    Returns:
        Rows of a table; sentences that compare the model with the n-gram model; and, if there is
        no text, the reason.
    """
    from ..text.corpora import CorpusError
    from ..training import runs
    from ..training.evaluate import Evaluation, evaluate

    rows: List[Tuple[str, ...]] = []
    comparisons: List[str] = []

    def add(part: str, by: str, scored: Evaluation) -> None:
        values = [f"{x:.4f}" for x in (scored.nats, scored.bits, scored.perplexity)]
        rows.append((part, by, *values, f"{scored.num_chars:,}" if scored.num_chars else ""))

    try:
        text = runs.read_own_text(arguments.directory, run.vocab)
    except (CorpusError, runs.RunError) as error:
        if arguments.baseline:
            raise
        valid_loss = run.history[-1].valid_loss if run.history else None
        if valid_loss is not None:
            add("validation", source, Evaluation(valid_loss, 0))
        return rows, comparisons, str(error)
    for name, indices in runs.held_out_parts(text):
        scored = evaluate(run.model, indices, run.ctx)
        add(name, source, scored)
        if arguments.baseline:
            order, counted = baseline(text, indices, len(run.vocab))
            add(name, f"n-gram of order {order}", counted)
            lead = counted.nats - scored.nats
            comparisons.append(
                f"On the {name} text, the network is better than the n-gram model, by {lead:.3f} "
                "nats: it has learnt more than which characters follow each other."
                if lead > 0
                else f"On the {name} text, the n-gram model is better than the network, by "
                f"{-lead:.3f} nats: train longer, on more text, or a larger network."
            )
    return rows, comparisons, ""


def _samples(run: LoadedRun, prefix: str, seed: int) -> Iterator[Tuple[str, str]]:
    """Yield titles and generated texts at several temperatures."""
    from ..generation.generate import generate

    for temperature in TEMPERATURES:
        (text,) = generate(
            run.model, run.vocab, [prefix], LENGTH, temperature=temperature, seed=seed, ctx=run.ctx
        )
        title = f"Temperature {temperature:g}"
        if temperature == 0:
            title += ": the most likely character each time"
        if not text[len(prefix) :].strip():
            title += " (only white space)"
        yield title, text


def _command(
    config: Mapping[str, Any], settings: TrainSettings, history: List[Dict[str, float]]
) -> str:
    """Return the command that repeats a run, or the commands for an imported model."""
    from ..training.runs import CHANGEABLE

    out = ["--out", "repeated"]
    if "imported" in config:
        imported = config["imported"]
        commands = [["d2l-deeprnn", "import", imported["file"], *out]]
        epochs = imported.get("epochs")
        if isinstance(epochs, int) and len(history) > epochs:  # it was trained further
            changed = {name for change in config.get("changes", []) for name in change}
            changes = to_argv(settings, [name for name in CHANGEABLE if name in changed])
            commands.append(["d2l-deeprnn", "train", "--resume", *changes, *out])
    else:
        words = to_argv(settings)
        if "init_from" in config:
            words += ["--init-from", config["init_from"]["directory"]]
        commands = [["d2l-deeprnn", "train", *words, *out]]
    if config.get("ranks", 1) > 1:
        commands[-1] = ["mpiexec", "-n", str(config["ranks"]), *commands[-1]]
    return " && ".join(map(shlex.join, commands))


def _work(config: Mapping[str, Any], history: List[Dict[str, float]]) -> List[Tuple[str, str]]:
    """Return labels and values: training time, sizes, origin."""
    seconds = history[-1].get("seconds", math.nan) if history else math.nan
    rows = [("Training time", duration(seconds))] if math.isfinite(seconds) else []
    text = config["text"]
    rows += [
        (label, f"{text[n]:,}")
        for n, label in SIZES.items()
        if type(text.get(n)) is int and text[n]
    ]
    if "imported" in config:
        rows.append(("Imported from", str(config["imported"]["file"])))
    return rows
