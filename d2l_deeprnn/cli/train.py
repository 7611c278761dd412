"""``d2l-deeprnn train``: a model of any text."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional

from ..chapter import book
from ..files import read_text
from ..training.settings import SOURCES, SettingsError, TrainSettings, as_dict, declared, explicit
from .console import DONE, Pace, exit_status, print_line, stop_on_signals
from .options import add_setting, given

if TYPE_CHECKING:
    from ..training.learner import Learner
    from ..training.runs import TextParts
    from ..training.state import TrainRecord
    from ..training.trainer import Progress

EXAMPLES = """\
  d2l-deeprnn train --corpus my_novel.txt --out runs/novel
  d2l-deeprnn train --resume --num-epochs 80 --out runs/novel
  d2l-deeprnn train --preset chapter --seed 1 --out runs/chapter
  d2l-deeprnn train --config runs/novel/config.json --cell gru --out runs/gru
  d2l-deeprnn train --corpus tinyshakespeare --keep-case --keep-whitespace \\
      --cell gru --num-hiddens 512 --dropout 0.5 --optimizer adam --lr 0.002 \\
      --schedule cosine --out runs/shakespeare"""
PRESETS = {"chapter": book.train_settings}
STOPPING = "Stopping: a checkpoint is being written ..."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = """\
Train a character-level language model on any text, with a checkpoint after each
epoch. The defaults are the chapter's settings, but for the whole text in place
of its first 10,000 characters, a tenth of it held out, and 50 epochs. Where an
option also takes none, that is its default."""
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
    for name, setting in declared(settings).items():
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
        type=Path,
        metavar="FILE",
        help="start from the settings in the config.json of a run, or in a JSON object of "
        "settings; options given beside it override them (default: none)",
    )
    add = groups["run"].add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="directory of the run")
    add(
        "--resume",
        action="store_true",
        default=False,
        help="go on with the run in DIR; its settings need not be repeated (default: no)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on training, and show how it goes; gives the exit status."""
    from ..training import runs

    out = arguments.out
    settings = _settings(_chosen(arguments), out, arguments.resume)
    with _Display() as display, stop_on_signals(STOPPING) as stop:
        result = runs.train(
            settings,
            out,
            resume=arguments.resume,
            on_start=display.start,
            on_minibatch=display.minibatch,
            on_epoch=display.epoch,
            should_stop=stop.asked_for,
        )
    print(f"Ended: {result.reason}. Checkpoints and history: {out}")
    if result.stopped:
        print(f"To go on: d2l-deeprnn train --resume --out {out}")
    return exit_status(stop.number) if result.stopped and stop.number is not None else DONE


def _chosen(arguments: argparse.Namespace) -> Dict[str, Any]:
    """The settings of a preset or a file, and those given as options, which override them."""
    there: Dict[str, Any] = {}
    if "preset" in arguments:
        there = explicit(as_dict(PRESETS[arguments.preset]()))
    elif "config" in arguments:
        there = _read_settings(arguments.config)
    here = given(arguments, declared(TrainSettings))
    options = {**there.get("optimizer_options", {}), **here.get("optimizer_options", {})}
    return {**there, **here, **({"optimizer_options": options} if options else {})}


def _read_settings(path: Path) -> Dict[str, Any]:
    """The settings in the configuration of a run of ``train``, or in an object of their own."""
    from ..training.run_directory import TRAIN, command_of, located

    try:
        config = json.loads(read_text(path))
        if not isinstance(config, dict) or "settings" not in config:
            return explicit(config)
        if command_of(config) != TRAIN:
            raise SettingsError("it belongs to a run of `reproduce`; use --preset chapter")
        settings = explicit(config["settings"])
        SOURCES.check("corpus", settings["corpus"])
        # Where the run's texts are now, from whatever directory this is called.
        return {**settings, "corpus": located(settings["corpus"], config.get("text", {}))}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise SettingsError(f"--config {path} cannot be used: {reason}") from None


def _settings(chosen: Dict[str, Any], out: Path, resume: bool) -> Optional[TrainSettings]:
    """The settings of a new run; or those of the one that is there, with what is to change."""
    from ..training.run_directory import TRAIN, command_of, read_config
    from ..training.runs import settings_of

    if resume:
        config = read_config(out)
        if config is not None and (not chosen or command_of(config) != TRAIN):
            return None
        if config is not None:
            return dataclasses.replace(settings_of(config), **chosen)
    if "corpus" not in chosen:
        raise SettingsError("--corpus is missing: give a known name or a file")
    return TrainSettings(**chosen)


class _Display:
    """A progress bar on a terminal, and a line an epoch in either case."""

    def __enter__(self) -> _Display:
        self._bar: Any = None
        self._tokens = 0
        self._pace = Pace()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def start(self, learner: Learner, text: TextParts) -> None:
        from tqdm import tqdm

        settings = learner.settings
        self._minibatch_tokens = settings.batch_size * settings.num_steps
        num_params = sum(p.data().size for p in learner.model.collect_params().values())
        print_line(
            f"{len(text.train)} characters to train on, {len(text.valid)} for validation, "
            f"{len(text.test)} for the test; vocabulary {len(text.vocab)}; {num_params} parameters"
        )
        if learner.history:
            print_line(f"resuming after epoch {len(learner.history)}")
        self._started = time.perf_counter()
        # Disabled where standard error is no terminal; the lines below are there in any case.
        self._bar = tqdm(unit="tok", unit_scale=self._minibatch_tokens, disable=None, leave=False)

    def minibatch(self, progress: Progress) -> None:
        self._tokens += self._minibatch_tokens
        if progress.minibatch == 1:
            self._pace.pause()  # the epoch before was scored and saved in between
        slow = self._pace.note()
        if slow:
            print_line(slow)
        if self._bar.disable:
            return
        if progress.num_minibatches != self._bar.total or progress.minibatch < self._bar.n:
            self._bar.reset(progress.num_minibatches)
        self._bar.set_description_str(f"epoch {progress.epoch}", refresh=False)
        if progress.loss is not None:
            self._bar.set_postfix_str(f"loss {progress.loss:.3f}{self._pace}", refresh=False)
        self._bar.update(progress.minibatch - self._bar.n)

    def epoch(self, record: TrainRecord) -> None:
        from ..training.evaluate import perplexity

        seconds = time.perf_counter() - self._started
        held_out = ""
        if record.valid_loss is not None:
            reached = perplexity(record.valid_loss)
            held_out = f", held out {record.valid_loss:.4f} (perplexity {reached:.3f})"
        print_line(
            f"epoch {record.epoch}, train {record.train_loss:.4f} nats{held_out}, "
            f"learning rate {record.learning_rate:.3g}, {self._tokens / seconds:.0f} tok/s, "
            f"{record.seconds:.0f} sec"
        )
