"""Read the runs of earlier versions.

Up to 0.3, ``reproduce`` had settings and checkpoints of a form of its own, and its predictions were
in ``metrics.csv``.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from ..files import read_text, write_text
from .settings import SGD_LR

TRAIN = "train"  # the command in a configuration; versions up to 0.3 also had "reproduce"


def upgraded_config(config: Dict[str, Any]) -> Dict[str, Any]:
    """Return a configuration in today's form; one of ``train`` is returned as it is.

    Raises:
        ValueError: if it belongs to a command of a later version.
    """
    if "is_the_books_text" not in config:
        if config.get("command", TRAIN) != TRAIN:
            raise ValueError(
                f"it belongs to an unknown command, {config['command']!r}: update d2l_deeprnn"
            )
        return config
    settings = {
        **config["settings"],
        "corpus": [config["corpus"]],
        "encoding": config.get("encoding"),
        "seed": config["seed"],
        "valid_fraction": 0.0,
    }
    del settings["prefixes"]
    outdated = ("corpus", "encoding", "seed", "is_the_books_text", "missing", "command")
    kept = {name: value for name, value in config.items() if name not in outdated}
    return {**kept, "settings": settings, "stacked": False}


def upgraded_state(data: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the state in a checkpoint of ``reproduce`` in today's form, but for the optimizer."""
    history = [
        [epoch, math.log(perplexity), None, SGD_LR, seconds]
        for epoch, perplexity, seconds, _ in data["history"]
    ]
    seconds = history[-1][-1] if history else 0.0
    return {
        "history": history, "position": 0, "losses": [], "seconds": seconds,
        "random": data["random"],
    }  # fmt: skip


def keep_predictions(metrics: Path, predictions: Path) -> None:
    """Copy the predictions of ``reproduce`` from the history, which is written again without them.

    Args:
        metrics, predictions: paths of the two files.
    """
    if metrics.is_file() and not predictions.exists():
        with contextlib.suppress(OSError, ValueError):  # read_history says what is wrong
            history = read_text(metrics)
            if "prediction_1" in history.partition("\n")[0]:
                write_text(predictions, history)


def is_stacked(config: Optional[Mapping[str, Any]]) -> bool:
    """Return whether a run was started by a version that always used a ``StackedRNN``."""
    if config is None:
        return False
    return bool(config.get("stacked", _version(config).startswith(("0.1.", "0.2."))))


def had_other_weights(config: Optional[Mapping[str, Any]]) -> bool:
    """Return whether a run started with other weights than the chapter's function draws.

    Up to 0.3, ``train`` drew others with the same seed; ``reproduce`` did not.
    """
    if config is None:
        return False
    return "stacked" not in config and _version(config).startswith(("0.1.", "0.2.", "0.3."))


def _version(config: Mapping[str, Any]) -> str:
    return str(config.get("versions", {}).get("d2l_deeprnn", "0.1.0"))
