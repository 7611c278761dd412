"""Networks for the studies, and their training. No other module of a study imports ``training``."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .._mxnet import gluon, nd
from .._mxnet.library import device_of, try_gpu
from .._perplexity import perplexity
from ..evidence.records import Row
from ..files import remove
from ..text.minibatches import Minibatches
from ..training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ..training.evaluate import evaluate
from ..training.learner import Diverged, Learner, build_model, new_model
from ..training.ngram import NGramModel, choose_order
from ..training.optimization import (
    TrainableModel,
    as_numpy,
    parameters_of,
    set_parameters,
)
from ..training.settings import TrainSettings, as_dict
from ..training.trainer import Callback, Progress, Trainer
from .study import StudyError

# Number of characters of the training text that are scored at the end, without dropout.
SCORED = 100_000
# The learning rate falls after this many minibatches (in whole epochs) without a better loss.
PLATEAU = 300
MOST_EPOCHS = 400  # never reached, since training ends before
NUM_STEPS = 256  # characters read at once; a larger number takes more memory, with equal results
ADAPTING_STEPS = 20  # characters between two updates of dynamic evaluation

OnMinibatch = Callable[[Progress], Any]
State = Tuple[Dict[str, np.ndarray], Dict[str, Any]]  # as ``Learner.state_dict`` returns it


class _Report(Callback):
    """Calls a function after each minibatch."""

    def __init__(self, on_minibatch: OnMinibatch) -> None:
        self._on_minibatch = on_minibatch

    def after_step(self, trainer: Trainer, progress: Progress) -> None:
        self._on_minibatch(progress)


def common_settings(quick: bool) -> Dict[str, Any]:
    """Return the settings of all networks that are trained to the end.

    The learning rate falls to a quarter when the validation loss reaches a plateau. Training ends
    after two such reductions without an improvement.
    """
    common: Dict[str, Any] = {"num_layers": 2, "num_steps": 35, "init": "xavier"}
    common.update(optimizer="adam", schedule="plateau", lr_decay=0.25, warmup_epochs=0.5)
    common.update(batch_size=8 if quick else 32, num_epochs=2 if quick else MOST_EPOCHS)
    return common


def settings_for(quick: bool, num_chars: int) -> Dict[str, Any]:
    """Return ``common_settings`` with the plateau in epochs, for a text of ``num_chars``."""
    common = common_settings(quick)
    num_minibatches = num_chars // (common["batch_size"] * common["num_steps"])
    plateau = math.ceil(PLATEAU / max(1, num_minibatches))
    return {**common, "decay_epochs": plateau, "patience": 2 * plateau + 1}


def cosine_settings(quick: bool, num_epochs: int) -> Dict[str, Any]:
    """Return ``common_settings`` with a learning rate that falls to 0 along half a cosine."""
    common = {**common_settings(quick), "schedule": "cosine"}
    del common["lr_decay"]
    return common if quick else {**common, "num_epochs": num_epochs}


def new_network(settings: TrainSettings, vocab_size: int) -> gluon.Block:
    """Return an initialized model with these settings."""
    return new_model(settings, vocab_size, try_gpu())


def num_params(settings: TrainSettings, vocab_size: int) -> int:
    """Return the number of parameters of a model with these settings."""
    params = build_model(settings, vocab_size).collect_params().values()
    return sum(math.prod(param.shape) for param in params)


def train_to_the_end(
    settings: TrainSettings,
    model: gluon.Block,
    train_indices: np.ndarray,
    valid_indices: np.ndarray,
    held_out: Mapping[str, np.ndarray],
    *,
    unscored: Tuple[int, ...] = (),
    on_minibatch: OnMinibatch = lambda progress: None,
    file: Optional[Path] = None,
    keep: bool = False,
) -> List[Row]:
    """Train a model until the settings end the training; leave it with its best parameters.

    Args:
        settings: settings of the training; their texts and fractions are ignored.
        model: an initialized model.
        train_indices, valid_indices: token indices of the training text, and of the part that
            decides which epoch is best and when training ends.
        held_out: name -> token indices of a text that is scored once, at the end.
        unscored: token indices that are read but not scored there.
        on_minibatch: called after each minibatch.
        file: file for the state after each epoch, from which training can resume; or None.
        keep: keep the file at the end. The next call then only reads rows and parameters from it.

    Returns:
        One row per epoch: epoch, learning rate, loss of the training text with dropout and of the
        validation text in nats per character, and seconds and processor seconds since the start.
        The row of the best epoch also has the losses of ``held_out``, and as "known" the loss of
        the training text without dropout. If training diverges, the last row is the epoch before.

    Raises:
        StudyError: if the file has other settings or is damaged.
    """
    ctx = try_gpu()
    learner = Learner(settings, model, train_indices, valid_indices, ctx)
    rows: List[Row] = []
    best: Dict[str, np.ndarray] = {}
    if file is not None and file.exists():
        rows, best, state = _read(file, settings)
        if state is None:
            set_parameters(model, best, ctx)
            return rows
        learner.load_state_dict(*state)
    used = rows[-1]["processor_seconds"] if rows else 0.0
    started = time.process_time()
    while learner.finished is None:
        try:
            record = learner.train_epoch([_Report(on_minibatch)])
        except Diverged:
            break
        row: Row = {
            "epoch": record.epoch,
            "lr_then": record.learning_rate,
            "train": record.train_loss,
        }
        row.update(valid=record.valid_loss, seconds=record.seconds)
        row["processor_seconds"] = used + time.process_time() - started
        rows.append(row)
        if record is learner.best:
            best = as_numpy(parameters_of(model))
        if file is not None:
            _write(file, settings, rows, best, learner.state_dict())
    if not rows:
        failed: Row = {"epoch": 1, "lr_then": settings.lr, "train": math.inf, "valid": math.inf}
        scores = dict.fromkeys([*held_out, "known"], math.inf)
        return [{**failed, "seconds": 0.0, "processor_seconds": 0.0, **scores}]
    row = best_epoch(rows)
    set_parameters(model, best, ctx)
    for name, indices in {**held_out, "known": train_indices[:SCORED]}.items():
        row[name] = evaluate(model, indices, ctx, unscored=unscored).nats
    if file is not None:
        if keep:
            _write(file, settings, rows, best, None)
        else:
            remove(file)
    return rows


def best_epoch(rows: Sequence[Row]) -> Row:
    """Return the row with the lowest validation loss."""
    return min(rows, key=lambda row: row["valid"])


def _write(
    file: Path,
    settings: TrainSettings,
    rows: List[Row],
    best: Mapping[str, np.ndarray],
    state: Optional[State],
) -> None:
    arrays, data = ({}, None) if state is None else state
    arrays.update({f"best/{name}": array for name, array in best.items()})
    file.parent.mkdir(parents=True, exist_ok=True)
    described = {"settings": as_dict(settings), "rows": rows}
    save_checkpoint(file, arrays, {**described, "state": data})


def _read(
    file: Path, settings: TrainSettings
) -> Tuple[List[Row], Dict[str, np.ndarray], Optional[State]]:
    try:
        arrays, data = load_checkpoint(file)
        if data["settings"] != as_dict(settings):
            raise StudyError(f"{file} has other settings: choose another directory, or remove it")
        state = data["state"] and (arrays, data["state"])
        best = {n[len("best/") :]: a for n, a in arrays.items() if n.startswith("best/")}
        return list(data["rows"]), best, state
    except (OSError, CheckpointError, KeyError, TypeError) as error:
        raise StudyError(f"{file} cannot be used: {error}; remove it") from error


def train_until(
    settings: TrainSettings,
    model: gluon.Block,
    indices: np.ndarray,
    goal: float,
    *,
    before_epoch: Callable[[], Row] = dict,
    on_minibatch: OnMinibatch = lambda progress: None,
) -> List[Row]:
    """Train until an epoch's training perplexity is at most ``goal`` or infinite.

    Args:
        before_epoch: called before each epoch; returns further columns of its row.

    Returns:
        One row per epoch: epoch, training loss in nats per character, seconds since the start.
    """
    learner = Learner(settings, model, indices, np.array([], np.int32), try_gpu())
    rows: List[Row] = []
    loss = 0.0
    while learner.finished is None and (not rows or goal < perplexity(loss) < math.inf):
        measured = before_epoch()
        try:
            loss = learner.train_epoch([_Report(on_minibatch)]).train_loss
        except Diverged:
            loss = math.inf
        seconds = learner.history[-1].seconds if learner.history else 0.0
        rows.append({"epoch": len(rows) + 1, "train": loss, **measured, "seconds": seconds})
    return rows


def character_losses(model: Any, indices: np.ndarray) -> np.ndarray:
    """Return the loss of each character of a text after the first, in nats."""
    ctx = device_of(model)
    state = model.begin_state(batch_size=1, ctx=ctx)
    losses = []
    for start in range(0, len(indices) - 1, NUM_STEPS):
        end = min(start + NUM_STEPS, len(indices) - 1)
        scores, state = model(nd.array(indices[None, start:end], ctx=ctx), state)
        labels = nd.array(indices[start + 1 : end + 1], ctx=ctx)
        losses.append(-nd.pick(nd.log_softmax(scores), labels).asnumpy())
    return np.concatenate(losses)


def ensemble_losses(models: Sequence[Any], indices: np.ndarray) -> np.ndarray:
    """Return the losses of the mean of several models' probabilities, as ``character_losses``."""
    losses = [character_losses(model, indices).astype(np.float64) for model in models]
    return np.log(len(models)) - np.logaddexp.reduce([-one for one in losses], axis=0)


def without_dropout(settings: TrainSettings, model: gluon.Block, vocab_size: int) -> gluon.Block:
    """Return a copy without dropout of a model that was trained with it."""
    copy = build_model(dataclasses.replace(settings, dropout=0.0), vocab_size, stacked=True)
    set_parameters(copy, as_numpy(parameters_of(model)), try_gpu())
    return copy


def dynamic_evaluation(model: gluon.Block, indices: np.ndarray, lr: float) -> np.ndarray:
    """Return the losses of a network that learns from a text while reading it, in nats.

    There is one for each character after the first, the mean of those that are read together.
    After every 20 characters, which are scored first, it takes a step of gradient descent. At the
    end, its original parameters are restored. The model must not have dropout.

    Source: Krause, Kahembwe, Murray and Renals, Dynamic Evaluation of Neural Sequence Models, 2018;
        here with plain gradient descent.
    """
    ctx = device_of(model)
    before = as_numpy(parameters_of(model))
    optimizer = gluon.Trainer(
        model.collect_params(), "sgd", {"learning_rate": lr, "wd": 0}, kvstore=None
    )
    starts = range(0, len(indices) - 1, ADAPTING_STEPS)

    def chunk(number: int) -> Tuple[nd.NDArray, nd.NDArray]:
        start = starts[number]
        end = min(start + ADAPTING_STEPS, len(indices) - 1)
        X, Y = indices[None, start:end], indices[None, start + 1 : end + 1]
        return nd.array(X, ctx=ctx), nd.array(Y, ctx=ctx)

    trainer = Trainer(
        TrainableModel(model, ctx, optimizer),
        lambda: Minibatches(len(starts), chunk),
        lambda: model.begin_state(batch_size=1, ctx=ctx),
        clipping_theta=1.0,
    )
    losses = _Losses()
    trainer.train_epoch([losses])
    set_parameters(model, before, ctx)
    widths = np.minimum(ADAPTING_STEPS, len(indices) - 1 - np.array(starts))
    return np.repeat(losses.values, widths)


class _Losses(Callback):
    """Keeps the losses of an epoch's minibatches."""

    def before_scoring(self, trainer: Trainer) -> None:
        self.values = trainer.losses


def ngram_losses(
    train: np.ndarray, valid: np.ndarray, test: np.ndarray, vocab_size: int
) -> Tuple[int, float, np.ndarray]:
    """Count a text with the n-gram order that is best on ``valid``.

    Returns:
        The order, the mean loss of ``train``, and the loss of each character of ``test``, in nats.
    """
    order, _ = choose_order(train, valid, vocab_size)
    model = NGramModel(train, order, vocab_size)
    return order, model.loss(train), -model.log_probabilities(test)
