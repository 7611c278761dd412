"""``d2l-deeprnn train``: a model trained on any text."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import shlex
import textwrap
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

from .._perplexity import perplexity
from ..chapter import book
from ..evidence.live import ProgressBar, duration
from ..files import parse_json, printable, read_text
from ..training.launcher import TIMEOUT, world_size
from ..training.settings import (
    SOURCES,
    SettingsError,
    TrainSettings,
    as_arguments,
    as_dict,
    base_rate,
    fields,
)
from .console import (
    BOLD,
    DIM,
    DONE,
    StopRequest,
    exit_status,
    print_line,
    print_paragraph,
    stop_on_signals,
    text_width,
)
from .generate import clean_prefix
from .options import add_device, add_path, add_setting, device, from_args, number, whole_number

if TYPE_CHECKING:
    from ..training.learner import Learner
    from ..training.ranks import Ranks
    from ..training.runs import Result, TextParts
    from ..training.trainer import Progress, TrainRecord

STOPPING = "Stopping: writing a checkpoint ..."


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``train``."""
    parser.usage = """\
%(prog)s --corpus NAME|FILE [NAME|FILE ...] --out DIR [options]
       %(prog)s (--preset NAME | --config FILE) --out DIR [options]
       %(prog)s --resume --out DIR [options]"""
    # Options without defaults, so that --resume sees which ones were given.
    parser.argument_default = argparse.SUPPRESS
    add_settings(parser, TrainSettings)


def add_settings(parser: argparse.ArgumentParser, settings: Any) -> None:
    """Add an option for each setting, in groups, and the other options of the run.

    Args:
        parser: the parser of the command.
        settings: the class that declares the settings.
    """
    groups: Dict[str, Any] = {}
    for name, setting in fields(settings).items():
        if setting.group not in groups:
            groups[setting.group] = parser.add_argument_group(setting.group)
        add_setting(groups[setting.group], name, setting)
    start = groups["run"].add_mutually_exclusive_group()
    start.add_argument(
        "--preset",
        choices=book.TRAININGS,
        help="start from printed settings: chapter (the beginning of its text, nothing held out, "
        "500 epochs) or lecture (the same, but 3000 epochs, lr 100 and clipping_theta 0.01); other "
        "options override them (default: no preset)",
    )
    what = (
        "start from the settings in the config.json of a run, or in another JSON object; other "
        "options override them (default: no file)"
    )
    add_path(start, "--config", what, "FILE", argparse.SUPPRESS)
    add = groups["run"].add_argument
    add_path(groups["run"], "--out", "directory of the run")
    what = (
        "start with the weights of the best epoch of another run with the same cell and sizes; "
        "characters that its text lacks start at random (default: random weights)"
    )
    add_path(groups["run"], "--init-from", what, "RUN")
    add(
        "--resume",
        action="store_true",
        default=False,
        help="resume the run in DIR; its settings need not be repeated (default: no)",
    )
    add(
        "--checkpoint-minutes",
        type=number("a number above 0, such as 10"),
        default=None,
        metavar="M",
        help="write a checkpoint every M minutes, even in the middle of an epoch (default: only "
        "after epochs)",
    )
    add(
        "--sample-every",
        type=whole_number(1),
        default=None,
        metavar="N",
        help="show a generated sample after every N epochs (default: never)",
    )
    add(
        "--prefix",
        default=None,
        metavar="TEXT",
        help="start of the samples (default: the beginning of the held-out text)",
    )
    add(
        "--log",
        choices=["tensorboard"],
        default=None,
        help="also write losses, perplexities, learning rate and speed for TensorBoard, into "
        "DIR/tensorboard (default: only metrics.csv)",
    )
    add_device(groups["run"])
    add(
        "--rank-timeout",
        type=number("a number above 0, such as 60"),
        default=TIMEOUT,
        metavar="SECONDS",
        help="with mpiexec, end all processes if one does not answer within this time (default: "
        "%(default)g)",
    )


def run_train(arguments: argparse.Namespace) -> int:
    """Train a character-level language model on any text.

    A checkpoint is written after an epoch if the last one is at least five seconds
    old, and at the end. The defaults are the chapter's settings, except that the
    whole text is used, a tenth of it is held out, and there are 50 epochs. Where
    an option accepts none, it means the default that is shown. Several processes of mpiexec train
    one model together or, if D2L_DEEPRNN_RANKS=1 is in the environment, one model
    each.

    examples:
      d2l-deeprnn train --corpus my_novel.txt --out runs/novel
      d2l-deeprnn train --resume --num-epochs 80 --log tensorboard --out runs/novel
      d2l-deeprnn train --preset chapter --seed 1 --out runs/chapter
      d2l-deeprnn train --config runs/novel/config.json --cell gru --out runs/gru
      d2l-deeprnn train --corpus letters.txt --init-from runs/novel --out runs/mine
      d2l-deeprnn train --corpus tinyshakespeare --keep-case --keep-whitespace \\
          --cell gru --num-hiddens 512 --dropout 0.5 --optimizer adam --lr 0.002 \\
          --schedule cosine --out runs/shakespeare
      mpiexec -n 4 d2l-deeprnn train --corpus my_novel.txt --out runs/novel
    """
    from ..training import runs
    from ..training.ranks import distributed

    out = arguments.out
    with distributed(arguments.rank_timeout) as ranks, contextlib.ExitStack() as stack:
        chosen = _chosen(arguments)
        missing = []
        if "corpus" not in chosen and not arguments.resume:
            missing.append("--corpus is missing: give a known text or a file")
        if out is None:
            missing.append("--out is missing: give a directory for the run")
        if missing:
            raise SettingsError("; ".join(missing))
        settings = _settings(chosen, out, arguments.resume, ranks)
        display = stack.enter_context(_Display(_Samples(arguments.sample_every, arguments.prefix)))
        watchers: List[Any] = [display]
        if arguments.log is not None:
            from ..training.tensorboard import DIRECTORY, TensorBoard

            watchers.append(stack.enter_context(TensorBoard(out / DIRECTORY)))
        stop = StopRequest()
        # Before training starts, there is nothing to save, but several processes stop together.
        if world_size() > 1:
            stack.enter_context(stop_on_signals(STOPPING, stop))

        def start(learner: Learner, text: TextParts) -> None:
            if arguments.init_from is not None and not (learner.history or learner.position):
                print_line(f"Starting with the weights of {arguments.init_from}")
            if world_size() == 1:
                stack.enter_context(stop_on_signals(STOPPING, stop))
            for watcher in watchers:
                watcher.start(learner, text)

        result = runs.train(
            settings,
            out,
            resume=arguments.resume,
            init_from=arguments.init_from,
            on_start=start,
            on_minibatch=display.minibatch,
            on_epoch=lambda record: [watcher.epoch(record) for watcher in watchers],
            should_stop=stop.is_set,
            checkpoint_minutes=arguments.checkpoint_minutes,
            rank_timeout=arguments.rank_timeout,
            ctx=device(arguments),
        )
    display.end(result, out)
    return exit_status(stop.number) if result.stopped and stop.number is not None else DONE


def _chosen(arguments: argparse.Namespace) -> Dict[str, Any]:
    """Return the settings of a preset or a file, overridden by those given as options."""
    stored: Dict[str, Any] = {}
    if "preset" in arguments:
        stored = as_arguments(as_dict(book.TRAININGS[arguments.preset].train_settings()))
    elif "config" in arguments:
        stored = _read_settings(arguments.config)
    given = from_args(arguments, fields(TrainSettings))
    options = {**stored.get("optimizer_options", {}), **given.get("optimizer_options", {})}
    return {**stored, **given, **({"optimizer_options": options} if options else {})}


def _read_settings(path: Path) -> Dict[str, Any]:
    """Read settings from the configuration of a run of ``train`` or from another JSON object."""
    from ..training.run_directory import resolve_paths
    from ..training.upgrades import upgraded_config

    if path.is_dir():
        raise SettingsError(f"--config {path} is a directory: give a file, as {path}/config.json")
    try:
        config = parse_json(read_text(path))
        if not isinstance(config, dict) or "settings" not in config:
            return as_arguments(config)
        config = upgraded_config(config)
        settings = as_arguments(config["settings"])
        SOURCES.check("corpus", settings["corpus"])
        if "init_from" in config:
            warnings.warn(
                f"the run of {path} started with the weights of another run; for the same, add "
                f"--init-from {config['init_from']['directory']}",
                stacklevel=2,
            )
        # The texts are found from any working directory.
        return {**settings, "corpus": resolve_paths(settings["corpus"], config.get("text", {}))}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise SettingsError(f"--config {path} cannot be used: {reason}") from None


def _settings(
    chosen: Dict[str, Any], out: Path, resume: bool, ranks: Ranks
) -> Optional[TrainSettings]:
    """Return the settings of a new or changed run; None if a stored run decides."""
    from ..training.run_directory import RunError, nothing_to_resume, read_config
    from ..training.runs import settings_of

    # Only rank 0 needs the directory.
    config = ranks.on_root(lambda: read_config(out) if resume else None)
    if resume:
        if config is not None:
            return dataclasses.replace(settings_of(config), **chosen) if chosen else None
        if "corpus" not in chosen:
            raise RunError(f"{nothing_to_resume(out)}; to start one, give its text with --corpus")
        print_line(f"{nothing_to_resume(out)}, so a new one starts")
    return TrainSettings(**chosen)


class _Samples:
    """Texts that the model generates during training.

    Args:
        every: number of epochs from one sample to the next; None for no samples.
        prefix: start of the samples; None for the beginning of the held-out text.
    """

    LENGTH, TEMPERATURE, MARGIN = 130, 0.8, "    \u2502 "
    OF_THE_TEXT = 16  # characters

    def __init__(self, every: Optional[int], prefix: Optional[str]) -> None:
        if prefix is not None and every is None:
            raise SettingsError("--prefix needs --sample-every N")
        self._every = every
        self._prefix = prefix

    def start(self, settings: TrainSettings, text: TextParts) -> None:
        """Choose the start of the samples, and check that the vocabulary contains it."""
        self._vocab = text.vocab
        if self._prefix is None:
            part = text.valid if len(text.valid) else text.train
            tokens = text.vocab.to_tokens(part[: self.OF_THE_TEXT].tolist())
            self._beginning = "".join(tokens)
        else:
            self._beginning = clean_prefix(self._prefix, settings, text.vocab)

    def after_epoch(self, learner: Learner) -> None:
        """Print a sample if one is due after an epoch."""
        from ..generation.generate import generate

        if self._every is None or len(learner.history) % self._every:
            return
        (sample,) = generate(
            learner.model, self._vocab, [self._beginning], self.LENGTH,
            temperature=self.TEMPERATURE, seed=learner.settings.seed, ctx=learner.ctx,
        )  # fmt: skip
        given = len(self._beginning)
        for paragraph in sample.split("\n"):
            for line in textwrap.wrap(paragraph, text_width() - len(self.MARGIN)) or [""]:
                print_line(line[given:], lead=self.MARGIN + line[:given], style=DIM)
                given = max(0, given - len(line) - 1)  # 1 for the white space after the line


class _Display:
    """Shows what is trained, a row for each epoch, the progress within it, samples, and the end.

    In a narrow terminal, the least important columns are left out.
    """

    # Column -> its width and importance.
    COLUMNS = {
        "epoch": (9, 0),
        "train": (7, 4),
        "held out": (8, 2),
        "perplexity": (11, 1),
        "chars/s": (7, 5),
        "time": (7, 3),
    }

    def __init__(self, samples: _Samples) -> None:
        self._samples = samples
        self._stack = contextlib.ExitStack()
        self._learner: Any = None  # until the training starts
        self._bar: Optional[ProgressBar] = None

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def start(self, learner: Learner, text: TextParts) -> None:
        self._learner = learner
        self._samples.start(learner.settings, text)
        self._minibatch_chars = learner.settings.batch_size * learner.settings.num_steps
        self._chars, self._began = 0, time.perf_counter()
        self._best = min((record.loss for record in learner.history), default=math.inf)
        self._had_finished = learner.finished is not None
        for line in _summary(learner, text):
            print_paragraph(line)
        if (learner.history or learner.position) and not self._had_finished:
            place = f", after minibatch {learner.position}" if learner.position else ""
            print_line(f"Resuming in epoch {learner.epoch}{place}")

    def minibatch(self, progress: Progress) -> None:
        done = progress.epoch - 1 + progress.minibatch / progress.num_minibatches
        done /= self._learner.settings.num_epochs
        bar = self._open_bar(done)
        self._chars += self._minibatch_chars
        loss = "" if progress.loss is None else f", train {progress.loss:.3f}"
        bar.update(done, f"epoch {self._of(progress.epoch)}{loss}{bar.time_left(done)}")

    def _open_bar(self, done: float) -> ProgressBar:
        """Return the progress bar; show it and the header above it when there is progress."""
        if self._bar is None:
            headings = {**{name: name for name in self.COLUMNS}, "perplexity": "perplexity "}
            print_paragraph("Losses in nats per character; * marks the best epoch so far")
            print_line(self._row(headings), style=BOLD)
            self._bar = self._stack.enter_context(ProgressBar(print_line, done))
        return self._bar

    def epoch(self, record: TrainRecord) -> None:
        is_best = record.loss < self._best
        self._best = min(record.loss, self._best)
        # The mean of this call, because the device receives minibatches in bursts.
        # A run that was killed while it was scored has no minibatch left in its epoch.
        speed = self._chars / (time.perf_counter() - self._began)
        row = {
            "epoch": self._of(record.epoch),
            "train": f"{record.train_loss:.4f}",
            "held out": "" if record.valid_loss is None else f"{record.valid_loss:.4f}",
            "perplexity": _rounded(perplexity(record.loss)) + ("*" if is_best else " "),
            "chars/s": f"{speed / 1000:.0f}k" if speed >= 9_999.5 else f"{speed:.0f}",
            "time": duration(record.seconds),
        }
        self._open_bar(record.epoch / self._learner.settings.num_epochs).line(self._row(row))
        self._samples.after_epoch(self._learner)

    def _row(self, cells: Dict[str, str]) -> str:
        """Return the columns that fit the terminal."""
        widths = {name: width for name, (width, _) in self.COLUMNS.items()}
        widths["epoch"] = max(5, len(self._of(self._learner.settings.num_epochs)))
        if not self._learner.settings.valid_fraction:
            del widths["held out"]
        while sum(widths.values()) + 2 * (len(widths) - 1) > text_width() and len(widths) > 1:
            del widths[max(widths, key=lambda name: self.COLUMNS[name][1])]
        return "  ".join(cells[name].rjust(width) for name, width in widths.items())

    def _of(self, epoch: int) -> str:
        return f"{epoch}/{self._learner.settings.num_epochs}"

    def end(self, result: Result, out: Path) -> None:
        """Show how the training ended, its best epoch, and what to do next."""
        if self._learner is None:  # not rank 0
            return
        history, reason = result.history, result.reason
        if result.stopped:
            message = f"{reason[0].upper()}{reason[1:]}; everything is saved in {out}"
        else:
            all_done = len(history) == self._learner.settings.num_epochs
            epochs = "1 epoch" if len(history) == 1 else f"{len(history)} epochs"
            message = f"Done: {epochs} in {duration(history[-1].seconds)}"
            message += f"{'' if all_done else f' ({reason})'}. Saved in {out}"
            if self._had_finished:
                option = "--num-epochs" if all_done else "--patience"
                message = f"Nothing left to do: {reason}. To train further, raise {option}"
        print_paragraph(message)
        if history:
            best = min(history, key=lambda record: record.loss)
            kind = "training" if best.valid_loss is None else "held-out"
            value = _rounded(perplexity(best.loss))
            print_paragraph(f"Best: epoch {best.epoch}, {kind} perplexity {value}")
        command = "train --resume --out {}" if result.stopped else "generate {} --temperature 0.7"
        command = f"d2l-deeprnn {command.format(shlex.quote(str(out)))}"
        print_line(f"{'To resume' if result.stopped else 'Next'}: {command}")


def _summary(learner: Learner, text: TextParts) -> Iterator[str]:
    """Yield lines about what is trained: text, model, and optimization."""
    settings = learner.settings
    name = " + ".join(printable(Path(source).name or source) for source in settings.corpus)
    held_out = f", {len(text.valid):,} held out" if len(text.valid) else ""
    test = f", {len(text.test):,} for testing" if len(text.test) else ""
    different = len(text.vocab) - 1  # without <unk>
    yield (
        f"{name}: {len(text.train):,} characters for training{held_out}{test}, "
        f"{different:,} different"
    )
    num_params = sum(p.data().size for p in learner.model.collect_params().values())
    layers = "1 layer" if settings.num_layers == 1 else f"{settings.num_layers} layers"
    dropout = f", dropout {settings.dropout:g}" if settings.dropout else ""
    yield (
        f"{settings.cell}, {layers} of {settings.num_hiddens:,} units{dropout}, "
        f"{num_params:,} parameters"
    )
    rate = "" if settings.optimizer == "adadelta" else f", lr {base_rate(settings):g}"
    device = "cpu" if learner.ctx.device_type == "cpu" else str(learner.ctx)
    processes = f", {world_size()} processes" if world_size() > 1 else ""
    yield f"{settings.optimizer}{rate}, seed {settings.seed}, {device}{processes}"


def _rounded(value: float) -> str:
    """Return a perplexity with three decimals, or as a whole number if it is large."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"
