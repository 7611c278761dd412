"""Log the metrics of a run for TensorBoard, with tensorboardX."""

from __future__ import annotations

import math
import time
from typing import Any

from .._checks import LARGEST_FLOAT
from .._perplexity import perplexity
from ..errors import D2LError
from ..files import PathLike, user_path
from .learner import Learner
from .runs import TextParts
from .trainer import TrainRecord

DIRECTORY = "tensorboard"  # within the run's directory


class TensorBoard:
    """Writes losses, perplexities, learning rate and speed of a run after each epoch.

    Pass the methods ``start`` and ``epoch`` as ``on_start`` and ``on_epoch`` to ``runs.train``.
    ``start`` rewrites the events from the history. So a resumed run has each epoch once, even those
    trained without this.

    Args:
        directory: directory for the event files; created when the training starts.

    Raises:
        ImportError: if tensorboardX is missing.
    """

    def __init__(self, directory: PathLike) -> None:
        # Not SummaryWriter: it writes in a thread, which ends if the disk is full, and the training
        # would then wait for it forever.
        try:
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event
            from tensorboardX.proto.summary_pb2 import Summary
        except ImportError as error:
            raise ImportError(
                f"--log tensorboard needs tensorboardX ({error}): "
                "pip install 'd2l_deeprnn[tensorboard]'"
            ) from error
        self._new_writer, self._event, self._summary = EventsWriter, Event, Summary
        self._directory = user_path(directory)
        self._writer: Any = None

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._writer is not None:
            self._writer.close()

    def start(self, learner: Learner, text: TextParts) -> None:
        """Write the epochs in the history."""
        if self._directory.is_symlink():  # the events of another run would be removed
            raise D2LError(
                f"{self._directory} is a link: remove it, or leave out --log tensorboard"
            )
        self._directory.mkdir(exist_ok=True)
        for events in self._directory.glob("events.out.tfevents.*"):
            events.unlink()
        self._writer = self._new_writer(str(self._directory.absolute() / "events"))
        self._num_chars = len(text.train)
        self._seconds = 0.0
        # So that TensorBoard's relative time is the time of training, as in metrics.csv.
        done = learner.history[-1].seconds if learner.history else 0.0
        self._start = time.time() - done
        for record in learner.history:
            self._add(record)
        self._writer.flush()

    def epoch(self, record: TrainRecord) -> None:
        """Write an epoch."""
        self._add(record)
        self._writer.flush()

    def _add(self, record: TrainRecord) -> None:
        seconds = record.seconds - self._seconds
        self._seconds = record.seconds
        metrics = {
            "loss/train": record.train_loss,
            "perplexity/train": perplexity(record.train_loss),
            "learning_rate": record.learning_rate,
        }
        if record.valid_loss is not None:
            metrics["loss/validation"] = record.valid_loss
            metrics["perplexity/validation"] = perplexity(record.valid_loss)
        if seconds > 0:  # an imported history has no seconds
            metrics["tokens_per_second"] = self._num_chars / seconds
        values = [
            self._summary.Value(tag=tag, simple_value=value if value < LARGEST_FLOAT else math.inf)
            for tag, value in metrics.items()
        ]
        self._writer.write_event(
            self._event(
                wall_time=self._start + record.seconds,
                step=record.epoch,
                summary=self._summary(value=values),
            )
        )
