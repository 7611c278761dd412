"""One run of a study: training to the end, with held-out texts scored once there."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .._mxnet import gluon
from .._mxnet.context import try_gpu
from ..evidence.records import Row
from ..files import remove
from ..training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ..training.evaluate import evaluate
from ..training.learner import Diverged, Learner
from ..training.settings import TrainSettings, as_dict
from ..training.state import as_numpy, parameters_of, set_parameters
from .how_low import Average
from .study import StudyError, Watch, Watched

# How the training text is scored, without dropout: up to so many of its characters.
SCORED = 100_000
# The loss counts as a plateau after so many minibatches, in whole epochs, without a better one.
PLATEAU = 300
MOST_EPOCHS = 400  # none of the trainings comes near

State = Tuple[Dict[str, np.ndarray], Dict[str, Any]]  # what ``Learner.state_dict`` returns


def common_settings(quick: bool) -> Dict[str, Any]:
    """What all networks have in common that are trained to the end.

    The learning rate falls to a quarter whenever the validation loss has not become better for a
    while, and training ends when it has done so twice in vain.

    Args:
        quick: a small network for two epochs, to see that it works.
    """
    common: Dict[str, Any] = {"num_layers": 2, "num_steps": 35, "init": "xavier"}
    common.update(optimizer="adam", schedule="plateau", lr_decay=0.25, warmup_epochs=0.5)
    common.update(batch_size=8 if quick else 32, num_epochs=2 if quick else MOST_EPOCHS)
    return common


def settings_for(quick: bool, num_chars: int) -> Dict[str, Any]:
    """``common_settings``, and after how many epochs of a text the loss counts as a plateau.

    Args:
        num_chars: of the text trained on.
    """
    common = common_settings(quick)
    num_minibatches = num_chars // (common["batch_size"] * common["num_steps"])
    plateau = math.ceil(PLATEAU / max(1, num_minibatches))
    return {**common, "decay_epochs": plateau, "patience": 2 * plateau + 1}


def train_to_the_end(
    settings: TrainSettings,
    model: gluon.Block,
    train_indices: np.ndarray,
    valid_indices: np.ndarray,
    held_out: Mapping[str, np.ndarray],
    *,
    unscored: Tuple[int, ...] = (),
    watch: Optional[Watch] = None,
    file: Optional[Path] = None,
    keep: bool = False,
    average: bool = False,
) -> List[Row]:
    """Train until the settings say that it is enough; the model ends as it was at its best.

    Args:
        settings: of the run; its texts and fractions are not looked at.
        model: initialized.
        train_indices: to learn from.
        valid_indices: to choose the epoch on, and to know when it is enough.
        held_out: names and indices of texts to score at the end, once.
        unscored: indices that are read and not scored there.
        watch: is told of each minibatch.
        file: where the training is kept after each epoch, so that one that was interrupted goes
            on from there; nowhere if None.
        keep: leave the file there at the end, with the parameters: what has ended is only read
            when it is trained once more.
        average: also score the mean of the parameters after each epoch from the first in which the
            learning rate has fallen, under the names of the texts with "averaged_" before them.

    Returns:
        A row for each epoch: epoch; learning rate; train, with dropout acting, and valid in nats a
        character; seconds, and those of the process on all its processors, from the start. That of
        the best epoch also has the losses of ``held_out``, and as "known" that of the text trained
        on, without dropout. Training that diverges ends with the epoch before.

    Raises:
        StudyError: if the file is of other settings, or damaged.
    """
    ctx, watch = try_gpu(), watch or Watch()
    learner = Learner(settings, model, train_indices, valid_indices, ctx)
    rows: List[Row] = []
    best: Dict[str, np.ndarray] = {}
    mean = Average({}, 0)
    if file is not None and file.exists():
        rows, best, mean, state = _read(file, settings)
        if state is None:
            set_parameters(model, best, ctx)
            return rows
        learner.load_state_dict(*state)
    used = rows[-1]["processor_seconds"] if rows else 0.0
    started = time.process_time()
    while learner.finished is None:
        try:
            record = learner.train_epoch([Watched(watch)])
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
        if average and record.learning_rate < (settings.lr or 0.0) / 2:
            mean.add(as_numpy(parameters_of(model)))
        if file is not None:
            _write(file, settings, rows, best, mean, learner.state_dict())
    if not rows:
        failed: Row = {"epoch": 1, "lr_then": settings.lr, "train": math.inf, "valid": math.inf}
        scores = dict.fromkeys([*held_out, "known"], math.inf)
        return [{**failed, "seconds": 0.0, "processor_seconds": 0.0, **scores}]
    row = min(rows, key=lambda row: row["valid"])
    if mean.count:
        set_parameters(model, mean.mean(), ctx)
        for name, indices in {"valid": valid_indices, **held_out}.items():
            row[f"averaged_{name}"] = evaluate(model, indices, ctx, unscored=unscored).nats
    set_parameters(model, best, ctx)
    for name, indices in {**held_out, "known": train_indices[:SCORED]}.items():
        row[name] = evaluate(model, indices, ctx, unscored=unscored).nats
    if file is not None:
        if keep:
            _write(file, settings, rows, best, Average({}, 0), None)
        else:
            remove(file)
    return rows


def best(rows: Sequence[Row]) -> Row:
    """The row of the epoch that was best on the validation part, of one run."""
    return min(rows, key=lambda row: row["valid"])


def _write(
    file: Path,
    settings: TrainSettings,
    rows: List[Row],
    best: Mapping[str, np.ndarray],
    mean: Average,
    state: Optional[State],
) -> None:
    arrays, data = ({}, None) if state is None else state
    arrays.update({f"best/{name}": array for name, array in best.items()})
    arrays.update({f"sums/{name}": array for name, array in mean.sums.items()})
    file.parent.mkdir(parents=True, exist_ok=True)
    described = {"settings": as_dict(settings), "rows": rows, "averaged": mean.count}
    save_checkpoint(file, arrays, {**described, "state": data})


def _read(
    file: Path, settings: TrainSettings
) -> Tuple[List[Row], Dict[str, np.ndarray], Average, Optional[State]]:
    try:
        arrays, data = load_checkpoint(file)
        if data["settings"] != as_dict(settings):
            raise StudyError(f"{file} has other settings: choose another directory, or remove it")
        state = data["state"] and (arrays, data["state"])
        found, sums = (
            {n[len(group) :]: a for n, a in arrays.items() if n.startswith(group)}
            for group in ("best/", "sums/")
        )
        return list(data["rows"]), found, Average(sums, data["averaged"]), state
    except (OSError, CheckpointError, KeyError, TypeError) as error:
        raise StudyError(f"{file} cannot be used: {error}; remove it") from error
