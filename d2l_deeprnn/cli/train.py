"""``d2l-deeprnn train``: a model of any text."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import shutil
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from .._perplexity import perplexity
from ..chapter import book
from ..evidence.live import ProgressBar, duration
from ..files import parse_json, read_text, user_path
from ..training.launcher import TIMEOUT, world_size
from ..training.settings import SOURCES, SettingsError, TrainSettings, as_dict, fields, user_set
from .console import DONE, StopRequest, exit_status, print_line, stop_on_signals
from .generate import clean_prefix
from .options import add_device, add_setting, device, given, whole_number

if TYPE_CHECKING:
    from ..training.learner import Learner
    from ..training.ranks import Ranks
    from ..training.runs import TextParts
    from ..training.state import TrainRecord
    from ..training.trainer import Progress

EXAMPLES = """\
  d2l-deeprnn train --corpus my_novel.txt --out runs/novel
  d2l-deeprnn train --resume --num-epochs 80 --log tensorboard --out runs/novel
  d2l-deeprnn train --preset chapter --seed 1 --out runs/chapter
  d2l-deeprnn train --config runs/novel/config.json --cell gru --out runs/gru
  d2l-deeprnn train --corpus letters.txt --init-from runs/novel --lr 0.5 --out runs/letters
  d2l-deeprnn train --corpus tinyshakespeare --keep-case --keep-whitespace \\
      --cell gru --num-hiddens 512 --dropout 0.5 --optimizer adam --lr 0.002 \\
      --schedule cosine --out runs/shakespeare
  mpiexec -n 4 d2l-deeprnn train --corpus my_novel.txt --out runs/novel"""
PRESETS = {"chapter": book.train_settings}
STOPPING = "Stopping: a checkpoint is being written ..."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = """\
Train a character-level language model on any text, with a checkpoint after each
epoch. The defaults are the chapter's settings, but for the whole text in place
of its first 10,000 characters, a tenth of it held out, and 50 epochs. Where an
option also takes none, that is its default. Started several times by mpiexec,
it trains one model with all of these processes; with D2L_DEEPRNN_RANKS=1 in the
environment, each process trains a model of its own."""
    parser.usage = """\
%(prog)s --corpus NAME|FILE [NAME|FILE ...] --out DIR [options]
       %(prog)s (--preset NAME | --config FILE) --out DIR [options]
       %(prog)s --resume --out DIR [options]"""
    # What is not given stays out, so that --resume can tell it from what is.
    parser.argument_default = argparse.SUPPRESS
    add_settings(parser, TrainSettings)


def add_settings(parser: argparse.ArgumentParser, settings: Any) -> None:
    """Add an option for each setting, in groups, and those of the run beside them.

    Args:
        parser: of the command.
        settings: the class that declares them.
    """
    groups: Dict[str, Any] = {}
    for name, setting in fields(settings).items():
        if setting.group not in groups:
            groups[setting.group] = parser.add_argument_group(setting.group)
        add_setting(groups[setting.group], name, setting)
    start = groups["run"].add_mutually_exclusive_group()
    start.add_argument(
        "--preset",
        choices=PRESETS,
        help="start from the chapter's settings: the beginning of its text, nothing held out, 500 "
        "epochs; options given beside it override them (default: none)",
    )
    start.add_argument(
        "--config",
        type=user_path,
        metavar="FILE",
        help="start from the settings in the config.json of a run, or in a JSON object of "
        "settings; options given beside it override them (default: none)",
    )
    add = groups["run"].add_argument
    add("--out", type=user_path, required=True, metavar="DIR", help="directory of the run")
    add(
        "--init-from",
        type=user_path,
        default=None,
        metavar="RUN",
        help="start with the weights of the best epoch of a run, whose cell and sizes are the "
        "same; characters that its text lacks start at random (default: random weights)",
    )
    add(
        "--resume",
        action="store_true",
        default=False,
        help="go on with the run in DIR; its settings need not be repeated (default: no)",
    )
    add(
        "--checkpoint-minutes",
        type=float,
        default=None,
        metavar="M",
        help="write a checkpoint every M minutes, in the middle of an epoch too (default: after "
        "each epoch only)",
    )
    add(
        "--sample-every",
        type=whole_number(1),
        default=None,
        metavar="N",
        help="let the model write a line after every N epochs (default: never)",
    )
    add(
        "--prefix",
        default=None,
        metavar="TEXT",
        help="what such a line begins with (default: the beginning of the held-out text)",
    )
    add(
        "--log",
        choices=["tensorboard"],
        default=None,
        help="write losses, perplexities, learning rate and speed for TensorBoard too, into "
        "DIR/tensorboard (default: metrics.csv only)",
    )
    add_device(groups["run"])
    add(
        "--rank-timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="with mpiexec, end all processes if one does not answer for so long (default: "
        "%(default)g)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on training, and show how it goes; gives the exit status."""
    from ..training import runs
    from ..training.ranks import distributed

    out = arguments.out
    with distributed(arguments.rank_timeout) as ranks, contextlib.ExitStack() as stack:
        settings = _settings(_chosen(arguments), out, arguments.resume, ranks)
        display = stack.enter_context(_Display(_Samples(arguments.sample_every, arguments.prefix)))
        watchers: List[Any] = [display]
        if arguments.log is not None:
            from ..training.tensorboard import DIRECTORY, TensorBoard

            watchers.append(stack.enter_context(TensorBoard(out / DIRECTORY)))
        stop = StopRequest()
        # Until training begins, there is nothing to save. Several processes have to stop together.
        if world_size() > 1:
            stack.enter_context(stop_on_signals(STOPPING, stop))

        def start(learner: Learner, text: TextParts) -> None:
            if arguments.init_from is not None:
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
    print_line(f"Ended: {result.reason}. Checkpoints and history: {out}")
    if result.stopped:
        print_line(f"To go on: d2l-deeprnn train --resume --out {out}")
    return exit_status(stop.number) if result.stopped and stop.number is not None else DONE


def _chosen(arguments: argparse.Namespace) -> Dict[str, Any]:
    """The settings of a preset or a file, and those given as options, which override them."""
    there: Dict[str, Any] = {}
    if "preset" in arguments:
        there = user_set(as_dict(PRESETS[arguments.preset]()))
    elif "config" in arguments:
        there = _read_settings(arguments.config)
    here = given(arguments, fields(TrainSettings))
    options = {**there.get("optimizer_options", {}), **here.get("optimizer_options", {})}
    return {**there, **here, **({"optimizer_options": options} if options else {})}


def _read_settings(path: Path) -> Dict[str, Any]:
    """The settings in the configuration of a run of ``train``, or in an object of their own."""
    from ..training.run_directory import TRAIN, command_of, resolve_paths

    try:
        config = parse_json(read_text(path))
        if not isinstance(config, dict) or "settings" not in config:
            return user_set(config)
        if command_of(config) != TRAIN:
            raise SettingsError("it belongs to a run of `reproduce`; use --preset chapter")
        settings = user_set(config["settings"])
        SOURCES.check("corpus", settings["corpus"])
        # Where the run's texts are now, from whatever directory this is called.
        return {**settings, "corpus": resolve_paths(settings["corpus"], config.get("text", {}))}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise SettingsError(f"--config {path} cannot be used: {reason}") from None


def _settings(
    chosen: Dict[str, Any], out: Path, resume: bool, ranks: Ranks
) -> Optional[TrainSettings]:
    """The settings of a new run; or those of the one that is there, with what is to change."""
    from ..training.run_directory import (
        TRAIN,
        RunError,
        command_of,
        nothing_to_resume,
        read_config,
    )
    from ..training.runs import settings_of

    # Only rank 0 needs the directory.
    config = ranks.on_root(lambda: read_config(out) if resume else None)
    if resume:
        if config is not None and (not chosen or command_of(config) != TRAIN):
            return None
        if config is not None:
            return dataclasses.replace(settings_of(config), **chosen)
        if "corpus" not in chosen:
            raise RunError(f"{nothing_to_resume(out)}; to begin one, name its text with --corpus")
        print_line(f"{nothing_to_resume(out)}: it begins")
    if "corpus" not in chosen:
        raise SettingsError("--corpus is missing: give a known name or a file")
    return TrainSettings(**chosen)


def _thousands(number: float) -> str:
    return f"{number / 1000:.0f}k" if number >= 9_999.5 else f"{number:.0f}"


class _Samples:
    """What the model writes after some of the epochs.

    Args:
        every: number of epochs from one time to the next; None for never.
        prefix: what it goes on from; None for the beginning of the held-out text.
    """

    LENGTH, TEMPERATURE = 130, 0.8
    OF_THE_TEXT = 16  # characters

    def __init__(self, every: Optional[int], prefix: Optional[str]) -> None:
        if prefix is not None and every is None:
            raise SettingsError("--prefix goes with --sample-every N, which says when to write")
        self._every = every
        self._prefix = prefix

    def start(self, settings: TrainSettings, text: TextParts) -> None:
        """Take the beginning of what is written; refuse one that is not of the vocabulary."""
        self._vocab = text.vocab
        if self._prefix is None:
            part = text.valid if len(text.valid) else text.train
            tokens = text.vocab.to_tokens(part[: self.OF_THE_TEXT].tolist())
            self._beginning = "".join(tokens)
        else:
            self._beginning = clean_prefix(self._prefix, settings, text.vocab)

    def after_epoch(self, learner: Learner) -> List[str]:
        """Lines to show now."""
        from ..generation.generate import generate

        if self._every is None or len(learner.history) % self._every:
            return []
        (written,) = generate(
            learner.model, self._vocab, [self._beginning], self.LENGTH,
            temperature=self.TEMPERATURE, seed=learner.settings.seed, ctx=learner.ctx,
        )  # fmt: skip
        width = min(80, shutil.get_terminal_size().columns) - 4
        lines = [textwrap.wrap(line, width) or [""] for line in written.split("\n")]
        return [f"  | {line}" for wrapped in lines for line in wrapped]


class _Display:
    """A row for each epoch, and the progress within it.

    Args:
        samples: what the model is to write after some epochs.
    """

    ROW = "{:>9}  {:>13}  {:>13}  {:>10}  {:>7}  {:>8}"

    def __init__(self, samples: _Samples) -> None:
        self._samples = samples
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def start(self, learner: Learner, text: TextParts) -> None:
        settings = learner.settings
        self._learner = learner
        self._samples.start(settings, text)
        self._minibatch_chars = settings.batch_size * settings.num_steps
        self._chars, self._began = 0, time.perf_counter()
        num_params = sum(p.data().size for p in learner.model.collect_params().values())
        held_out = f", {len(text.valid):,} for validation" if len(text.valid) else ""
        test = f", {len(text.test):,} for the test" if len(text.test) else ""
        print_line(f"{len(text.train):,} characters to train on{held_out}{test}")
        print_line(f"{len(text.vocab):,} different characters, {num_params:,} parameters")
        if (learner.history or learner.position) and learner.finished is None:
            place = f", after minibatch {learner.position}" if learner.position else ""
            print_line(f"Resuming in epoch {learner.epoch}{place}")
        self._best = min((record.loss for record in learner.history), default=math.inf)
        self._bar: Optional[ProgressBar] = None

    def minibatch(self, progress: Progress) -> None:
        done = progress.epoch - 1 + progress.minibatch / progress.num_minibatches
        done /= self._learner.settings.num_epochs
        if self._bar is None:
            header = "epoch", "training loss", "held-out loss", "perplexity", "chars/s", "time"
            print_line(self.ROW.format(*header))
            self._bar = self._stack.enter_context(ProgressBar(print_line, done))
        self._chars += self._minibatch_chars
        loss = "" if progress.loss is None else f", loss {progress.loss:.3f}"
        message = f"epoch {self._of(progress.epoch)}{loss}{self._bar.time_left(done)}"
        self._bar.update(done, message)

    def epoch(self, record: TrainRecord) -> None:
        held_out = "" if record.valid_loss is None else f"{record.valid_loss:.4f}"
        best = "*" if record.loss < self._best else " "
        self._best = min(record.loss, self._best)
        # Of this call as a whole: the device is handed minibatches in bursts.
        speed = _thousands(self._chars / (time.perf_counter() - self._began))
        assert self._bar is not None
        self._bar.line(
            self.ROW.format(
                self._of(record.epoch), f"{record.train_loss:.4f}", held_out,
                f"{perplexity(record.loss):#.4g}{best}", speed, duration(record.seconds),
            )
        )  # fmt: skip
        for line in self._samples.after_epoch(self._learner):
            print_line(line)

    def _of(self, epoch: int) -> str:
        return f"{epoch}/{self._learner.settings.num_epochs}"
