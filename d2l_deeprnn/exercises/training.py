"""One run of a study: training, with held-out texts scored after each epoch."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from .._mxnet import gluon
from .._mxnet.context import try_gpu
from ..evidence.records import Row
from ..training.evaluate import evaluate
from ..training.learner import Diverged, Learner
from ..training.settings import TrainSettings
from .study import Watch


def train_and_score(
    settings: TrainSettings,
    model: gluon.Block,
    train_indices: np.ndarray,
    held_out: Mapping[str, np.ndarray],
    *,
    unscored: Tuple[int, ...] = (),
    watch: Optional[Watch] = None,
) -> List[Row]:
    """Train a network and score it after each epoch.

    Args:
        settings: of the run; its texts and fractions are not looked at.
        model: initialized.
        train_indices: to learn from.
        held_out: names and indices of texts to score.
        unscored: indices that are read and not scored.
        watch: is told of each minibatch.

    Returns:
        A row for each epoch: epoch, train and each of the names of
        ``held_out`` in nats a character, seconds of training.
        A run that diverges ends with the epoch before.
    """
    ctx, watch = try_gpu(), watch or Watch()
    learner = Learner(settings, model, train_indices, np.array([], np.int32), ctx)
    rows: List[Row] = []
    while learner.finished is None:
        try:
            record = learner.train_epoch(watch.minibatch)
        except Diverged:
            break
        scores = {
            name: evaluate(model, indices, ctx, unscored=unscored).nats
            for name, indices in held_out.items()
        }
        rows.append(
            {
                "epoch": record.epoch,
                "train": record.train_loss,
                **scores,
                "seconds": record.seconds,
            }
        )
    return rows


def lstm_settings(quick: bool) -> Dict[str, Any]:
    """Settings of the studies that compare texts and not networks."""
    return {
        "num_layers": 2,
        "num_hiddens": 32 if quick else 128,
        "batch_size": 8 if quick else 32,
        "num_steps": 35,
        "init": "xavier",
        "forget_bias": 1.0,
        "optimizer": "adam",
        "lr": 0.01 if quick else 0.004,
        "schedule": "cosine",
        "warmup_epochs": 0.5,
    }


def epochs_for(
    num_minibatches: int, num_chars: int, settings: Mapping[str, Any], least: int = 1
) -> int:
    """How many epochs of a text make so many minibatches, about."""
    rows, steps = settings["batch_size"], settings["num_steps"]
    return max(least, round(num_minibatches / max(1, num_chars // (rows * steps))))


def best(rows: List[Row], name: str = "valid") -> Dict[str, Any]:
    """The row of the epoch that scores best on a held-out text."""
    return min(rows, key=lambda row: row[name])
