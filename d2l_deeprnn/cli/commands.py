"""The commands: reproduce, train, evaluate, generate, plot, exercise."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from tqdm import tqdm

from ..files import printable
from ..text.corpora import load_text
from ..training import runs
from ..training.evaluate import Evaluation
from ..training.evaluate import evaluate as evaluate_model
from ..training.learner import Learner, Progress, TrainRecord
from ..training.run_directory import TRAIN, RunError, command_of, read_config
from ..training.settings import SettingsError, TrainSettings
from .console import DISAGREES, DONE, TEXT_MISSING, Stop, exit_status, stop_on_signals

STOPPING = "Stopping: a checkpoint is being written ..."


def reproduce(given: Dict[str, Any], out: Optional[Path], resume: bool) -> int:
    """Run the chapter, or go on with a run of it, and hold it against the book.

    Args:
        given: corpus, encoding, num_epochs and seed, those that were given.
        out: the run's directory; nothing is written if None.
        resume: go on with the run that is there.

    Raises: as ``reproduce.directory`` and ``reproduce.train``.
    """
    from ..chapter import report
    from ..chapter import reproduce as chapter

    if out is None:
        if resume:
            raise RunError("--resume needs --out DIR, the directory of the run to go on with")
        defaults = {"corpus": chapter.AUTO, "num_epochs": chapter.NUM_EPOCHS, "seed": 0}
        run = chapter.prepare(**{**defaults, **given})
        return _finish(run, None, _reproduce(run, None))
    with chapter.directory(out, resume=resume, **given) as (run, directory):
        stop = _reproduce(run, directory)
        status = _finish(run, out, stop)
        if run.history:
            report.save(run, out)
            print(f"Written: {out / chapter.REPORT} and the figures behind it")
    return status


def _reproduce(run: Any, directory: Any) -> Stop:
    """Train, and show how it goes; gives whether it was stopped."""
    from ..chapter.reproduce import train

    if run.missing:
        print("The book's text is missing: a sample of this package stands in for it.")
        print(run.missing)
    total, done = run.settings.num_epochs, len(run.history)
    if done:
        words = f"resuming after epoch {done}" if done < total else f"all {total} epochs are done"
        print(words)
    with tqdm(total=total, initial=done, unit="epoch", disable=None) as bar:

        def show(record: Any) -> None:
            bar.set_postfix_str(f"perplexity {record.perplexity:.3f}", refresh=False)
            bar.update()

        with stop_on_signals("Stopping after this epoch ...") as stop:
            try:
                train(run, on_epoch=show, log=_print, out=directory, should_stop=stop.asked_for)
            except KeyboardInterrupt:
                stop.ask()
    return stop


def _finish(run: Any, out: Optional[Path], stop: Stop) -> int:
    """Show the comparison with the book; gives the exit status."""
    from ..chapter import report

    print()
    if run.history:
        print("\n".join(report.lines(run)))
    if stop.number is not None and len(run.history) < run.settings.num_epochs:
        go_on = f"; to go on: d2l-deeprnn reproduce --resume --out {out}" if out else ""
        line = f"interrupted after epoch {len(run.history)}{go_on}"
        print(f"d2l-deeprnn: {line}", file=sys.stderr)
        return exit_status(stop.number)
    if run.missing:
        return TEXT_MISSING
    outcome = report.verdict(run)
    return DISAGREES if outcome.compared and not outcome.agrees else DONE


def train(given: Dict[str, Any], out: Path, resume: bool) -> int:
    """Train, or go on training, and show how it goes.

    Args:
        given: settings that were given, by name.
        out: the run's directory.
        resume: go on with the run that is there.

    Raises: as ``runs.train``.
    """
    settings = _settings(given, out, resume)
    with _Display() as display, stop_on_signals(STOPPING) as stop:
        result = runs.train(
            settings,
            out,
            resume=resume,
            on_start=display.start,
            on_minibatch=display.minibatch,
            on_epoch=display.epoch,
            should_stop=stop.asked_for,
        )
    print(f"Ended: {result.reason}. Checkpoints and history: {out}")
    if result.stopped:
        print(f"To go on: d2l-deeprnn train --resume --out {out}")
    return exit_status(stop.number) if result.stopped and stop.number is not None else DONE


def _settings(given: Dict[str, Any], out: Path, resume: bool) -> Optional[TrainSettings]:
    """The settings of a new run; or those of the one that is there, with what is to change."""
    if resume:
        config = read_config(out)
        if config is not None and (not given or command_of(config) != TRAIN):
            return None
        if config is not None:
            return dataclasses.replace(runs.settings_of(config), **given)
    if "corpus" not in given:
        raise SettingsError("--corpus is missing: give a known name or a file")
    return TrainSettings(**given)


class _Display:
    """A progress bar on a terminal, and a line an epoch in either case."""

    def __enter__(self) -> _Display:
        self._bar: Any = None
        self._tokens = 0
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def start(self, learner: Learner, text: runs.Text) -> None:
        settings = learner.settings
        self._minibatch_tokens = settings.batch_size * settings.num_steps
        num_params = sum(p.data().size for p in learner.model.collect_params().values())
        _print(
            f"{len(text.train)} characters to train on, {len(text.valid)} for validation, "
            f"{len(text.test)} for the test; vocabulary {len(text.vocab)}; {num_params} parameters"
        )
        if learner.history:
            _print(f"resuming after epoch {len(learner.history)}")
        self._started = time.perf_counter()
        # Disabled where standard error is no terminal; the lines below are there in any case.
        self._bar = tqdm(unit="tok", unit_scale=self._minibatch_tokens, disable=None, leave=False)

    def minibatch(self, progress: Progress) -> None:
        self._tokens += self._minibatch_tokens
        if self._bar.disable:
            return
        if progress.num_minibatches != self._bar.total or progress.minibatch < self._bar.n:
            self._bar.reset(progress.num_minibatches)
        self._bar.set_description_str(f"epoch {progress.epoch}", refresh=False)
        if progress.loss is not None:
            self._bar.set_postfix_str(f"loss {progress.loss:.3f}", refresh=False)
        self._bar.update(progress.minibatch - self._bar.n)

    def epoch(self, record: TrainRecord) -> None:
        seconds = time.perf_counter() - self._started
        held_out = ""
        if record.valid_loss is not None:
            perplexity = Evaluation(record.valid_loss, 0).perplexity
            held_out = f", held out {record.valid_loss:.4f} (perplexity {perplexity:.3f})"
        _print(
            f"epoch {record.epoch}, train {record.train_loss:.4f} nats{held_out}, "
            f"learning rate {record.learning_rate:.3g}, {self._tokens / seconds:.0f} tok/s, "
            f"{record.seconds:.0f} sec"
        )


def _print(line: str) -> None:
    tqdm.write(line)
    sys.stdout.flush()  # a log file shows each line when it is written


def evaluate(arguments: argparse.Namespace) -> int:
    """Score the held-out parts of a run's text, or another text."""
    if arguments.encoding is not None and arguments.corpus is None:
        raise SettingsError("--encoding is that of the files given with --corpus: give one")
    run = runs.load_run(arguments.directory, checkpoint=arguments.checkpoint)
    text = None
    if arguments.corpus is None or arguments.baseline:
        text = runs.read_own_text(arguments.directory)
    if arguments.corpus is not None:
        corpus = load_text(
            arguments.corpus,
            lower=not run.settings.keep_case,
            fold_whitespace=not run.settings.keep_whitespace,
            encoding=arguments.encoding,
        )
        parts = [(" + ".join(arguments.corpus), run.vocab.encode(corpus))]
    else:
        assert text is not None
        parts = list(runs.text_parts(text))
        if not parts:
            raise SettingsError("the run held nothing out: name a text with --corpus")
    for name, indices in parts:
        result = evaluate_model(run.model, indices, run.ctx, batch_size=arguments.batch_size)
        print(f"{printable(name)}: {_words(result)}")
        unknown = int((indices == run.vocab.unk).sum())
        if unknown:
            print(f"    {unknown} characters of it are not in the run's vocabulary")
        if arguments.baseline:
            assert text is not None
            print(f"    {_baseline(text, indices, len(run.vocab))}")
    return DONE


def _words(result: Evaluation) -> str:
    return (
        f"{result.nats:.4f} nats, {result.bits:.4f} bits per character, "
        f"perplexity {result.perplexity:.4f}, {result.num_chars} characters scored"
    )


def _baseline(text: runs.Text, indices: Any, vocab_size: int) -> str:
    """Score an n-gram model, counted on what the run was trained on."""
    from ..training.ngram import NGramModel, choose_order

    if not len(text.valid):
        raise SettingsError("--baseline chooses its order on the validation part: the run has none")
    order, _ = choose_order(text.train, text.valid, vocab_size)
    nats = NGramModel(text.train, order, vocab_size).loss(indices)
    return f"n-gram of order {order}: {_words(Evaluation(nats, len(indices) - 1))}"


def generate(arguments: argparse.Namespace) -> int:
    """Continue prefixes; one is shown as it comes."""
    from ..generation.generate import generate as generate_texts

    run = runs.load_run(arguments.directory, checkpoint=arguments.checkpoint)
    prefixes = [_clean_prefix(prefix, run) for prefix in arguments.prefix or [_start(run)]]
    streams = len(prefixes) == 1
    begun: List[int] = []

    def show(row: int, piece: str) -> None:
        if not begun:
            print(prefixes[0], end="")
            begun.append(row)
        print(piece, end="", flush=True)

    texts = generate_texts(
        run.model,
        run.vocab,
        prefixes,
        arguments.length,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
        ctx=run.ctx,
        on_text=show if streams else None,
    )
    if begun:
        print()
    else:
        print("\n\n".join(texts))
    return DONE


def _start(run: runs.LoadedRun) -> str:
    """What to start from where nothing is given: a line's beginning, or a word's."""
    for char in "\n ":
        if char in run.vocab.token_to_idx:
            return char
    return run.vocab.idx_to_token[1]  # a text without either; 0 is <unk>


def _clean_prefix(prefix: str, run: runs.LoadedRun) -> str:
    """Clean a prefix as the run's text was, but for blanks at its ends."""
    cleaned = prefix
    if not run.settings.keep_whitespace:
        cleaned = re.sub(r"\s+", " ", cleaned)
    if not run.settings.keep_case:
        cleaned = cleaned.lower()
    if cleaned != prefix:
        print(f"{prefix!r} is read as {cleaned!r}, as the run's text was", file=sys.stderr)
    unknown = sorted(set(cleaned) - set(run.vocab.token_to_idx))
    if unknown:
        known = "".join(token for token in run.vocab.idx_to_token[1:] if token != "<unk>")
        raise SettingsError(
            f"not in the vocabulary: {unknown} in prefix {cleaned!r}; the run's text has "
            f"{_some(known)}"
        )
    return cleaned


def _some(characters: str, most: int = 100) -> str:
    """Characters, most frequent first, in words."""
    more = f" and {len(characters) - most} others" if len(characters) > most else ""
    return f"the characters {characters[:most]!r}{more}"


def plot(arguments: argparse.Namespace) -> int:
    """Draw the curves of runs into a file."""
    from ..chapter.book import MARKS
    from ..chapter.reproduce import is_the_chapters
    from ..evidence.figures import save_figure, training_figure

    if not arguments.output.parent.is_dir():
        raise RunError(
            f"--output {arguments.output} cannot be written: there is no directory "
            f"{arguments.output.parent}; make it, or choose another"
        )
    histories = {str(path): runs.read_history(path) for path in arguments.directories}
    of_the_book = any(is_the_chapters(path) for path in arguments.directories)
    save_figure(training_figure(histories, marks=MARKS if of_the_book else None), arguments.output)
    print(f"Written: {arguments.output}")
    return DONE


def exercise(arguments: argparse.Namespace) -> int:
    """Run the study of an exercise; print its tables and its answer, keep rows and pictures."""
    from ..evidence.figures import save_figure
    from ..exercises import EXERCISES, NOTEBOOKS, texts

    module = importlib.import_module(f"d2l_deeprnn.exercises.{EXERCISES[arguments.name]}")
    books = texts.library(arguments.quick)
    if books.note:
        print(books.note)
    if arguments.out is not None:
        try:
            arguments.out.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise RunError(f"{arguments.out} is not a directory: choose another") from None
    with tqdm(unit="run", disable=None, leave=False) as bar:

        def show(done: int, total: int, run: Dict[str, Any]) -> None:
            bar.total = total
            words = ", ".join(f"{name} {value}" for name, value in run.items())
            _print(f"run {done + 1} of {total}: {words}")
            bar.update(done - bar.n)

        try:
            rows = module.study(quick=arguments.quick, out=arguments.out, on_run=show)
        except KeyboardInterrupt:
            if arguments.out is not None:
                print(f"To go on with the run that was interrupted: the same --out {arguments.out}")
            raise
    for table in module.tables(rows):
        print(f"\n{table}")
    print(f"\nThe answer for real books: the project's notebooks/{NOTEBOOKS[arguments.name]}")
    if books.note:
        print(f"\n{books.note}")
    if arguments.out is not None:
        for name, figure in module.figures(rows).items():
            save_figure(figure, arguments.out / f"{name}.svg")
        print(f"\nRows and pictures: {arguments.out}")
    return DONE
