"""The training loop, for any model and any way of stepping."""

from __future__ import annotations

import math
from typing import Any, Callable, List, NamedTuple, Optional

from ..nn.fast import LateLosses
from ..text.minibatches import Minibatches
from .step import Step


class Progress(NamedTuple):
    """Where a running epoch is.

    Attributes:
        epoch: from 1 on.
        minibatch: minibatches of this epoch that were handed to the device.
        num_minibatches: of this epoch.
        loss: of the last minibatch that the device has finished, in nats;
            None before the first.
    """

    epoch: int
    minibatch: int
    num_minibatches: int
    loss: Optional[float]


class Stopped(Exception):
    """Training was asked to stop, and did so between two minibatches."""


class Trainer:
    """Trains epoch by epoch; between two minibatches it can be stopped, and goes on from there.

    Args:
        step: what is done with a minibatch.
        minibatches: called at the beginning of an epoch, gives its minibatches.
        begin_state: gives the hidden state that a text begins with.
        carry_state: whether each minibatch goes on from the state after the one before it
            (adjacent sampling), or begins anew (random sampling).
        before_step: called before each step with the number of epochs done, with fractions.
        on_loss: called with the loss of each minibatch, in nats, a little later.

    Attributes:
        epoch: the running one, from 1 on.
        position: minibatches of it that are done.
        losses: of these, in nats a character; the last few once the device has finished them.
        state: hidden state after them; None before the first.
    """

    def __init__(
        self,
        step: Step,
        minibatches: Callable[[], Minibatches],
        begin_state: Callable[[], Any],
        *,
        carry_state: bool = True,
        before_step: Callable[[float], Any] = lambda epochs_done: None,
        on_loss: Callable[[float], Any] = lambda loss: None,
    ) -> None:
        self.step = step
        self._minibatches = minibatches
        self._begin_state = begin_state
        self._carry_state = carry_state
        self._before_step = before_step
        self._on_loss = on_loss
        self.epoch = 1
        self.position = 0
        self.losses: List[float] = []
        self.state: Any = None

    def train_epoch(self) -> float:
        """Train to the end of the running epoch; return the mean loss of its minibatches."""
        mean = self.train_minibatches()
        self.end_epoch()
        return mean

    def train_minibatches(
        self,
        on_minibatch: Callable[[Progress], Any] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> float:
        """Train on the rest of the running epoch's minibatches; ``end_epoch`` then ends it.

        Args:
            on_minibatch: called after each minibatch.
            should_stop: asked after each minibatch.

        Returns:
            The mean loss of the epoch's minibatches, each before its update.

        Raises:
            Stopped: if ``should_stop`` said so in the middle of the epoch.
        """
        batches = self._minibatches()
        batches.skip(self.position)
        # Differs: the original read every loss at once, and to read one is to wait for it.
        with LateLosses(self._take_loss) as late:
            for X, Y in batches:
                if self.state is None or not self._carry_state:
                    self.state = self._begin_state()
                self._before_step(self.epoch - 1 + self.position / len(batches))
                loss, self.state = self.step(X, Y, self.state)
                self.position += 1
                late.add(loss)
                last = self.losses[-1] if self.losses else None
                on_minibatch(Progress(self.epoch, self.position, len(batches), last))
                if should_stop() and self.position < len(batches):
                    raise Stopped(f"in epoch {self.epoch}, after minibatch {self.position}")
        self.step.parameters.finish()
        return math.fsum(self.losses) / len(self.losses)

    def end_epoch(self) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch += 1
        self.position, self.losses, self.state = 0, [], None

    def _take_loss(self, loss: float) -> None:
        self.losses.append(loss)
        self._on_loss(loss)
