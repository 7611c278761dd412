"""The training loop, for any network and any update rule."""

from __future__ import annotations

import math
import time
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

from .._checks import whole_number
from .._mxnet import autograd, gluon, keep_freed_memory, nd
from .._mxnet.context import queueing
from ..nn.fast import LateLosses
from ..text.minibatches import Minibatches
from .optimization import ArrayParameters, ModelParameters, clipping_factor
from .ranks import SINGLE_PROCESS, Ranks
from .state import TrainRecord, detach


class Progress(NamedTuple):
    """The progress within an epoch.

    Attributes:
        epoch: from 1 on.
        minibatch: number of minibatches of this epoch so far.
        num_minibatches: minibatches in this epoch.
        loss: the latest known loss of this epoch, in nats per character, or None.
    """

    epoch: int
    minibatch: int
    num_minibatches: int
    loss: Optional[float]


class Stopped(Exception):
    """Raised by a callback to end the training; the message gives the reason."""


class Callback:
    """Actions during training, such as saving it. This base class does nothing.

    Any method may raise ``Stopped`` to end ``Trainer.fit``.
    """

    def on_start(self, trainer: Trainer) -> None:
        """Act at the beginning of ``fit``."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Act before the first minibatch of an epoch, or the first after a resume."""

    def on_step(self, trainer: Trainer, epochs_done: float) -> None:
        """Act before a step; ``epochs_done`` is counted from the start of training."""

    def on_loss(self, trainer: Trainer, loss: float) -> None:
        """Act when the loss of a minibatch becomes known, a few minibatches later."""

    def on_minibatch(self, trainer: Trainer, progress: Progress) -> None:
        """Act after a step."""

    def on_scoring(self, trainer: Trainer) -> None:
        """Act after an epoch's last minibatch, before the validation part is scored."""

    def on_epoch(self, trainer: Trainer, record: TrainRecord) -> None:
        """Act after an epoch."""


class Trainer:
    """Trains a network epoch by epoch. It can be stopped between any two minibatches.

    Args:
        parameters: the network's forward pass and parameters, and their update rule.
        minibatches: returns the minibatches of an epoch.
        begin_state: returns the initial hidden state.
        clipping_theta: maximum L2 norm of all gradients together; infinite for no clipping.
        num_scores: the least number of characters that the network must have scores for.
        carry_state: whether to carry the hidden state from one minibatch to the next, as for
            adjacent sampling.
        validate: returns the loss on the validation part, in nats per character, or None.
        callbacks: called before those of ``fit``.
        ranks: the processes that share each minibatch.
        weight: this process's share of a minibatch's rows.

    Attributes:
        history: a record for each finished epoch.
        position: number of minibatches of the current epoch so far.
        losses: their losses, in nats per character; the last few are added later.
        state: the hidden state after them; None before the first.
        seconds: spent on training and scoring so far.
    """

    def __init__(
        self,
        parameters: ModelParameters | ArrayParameters,
        minibatches: Callable[[], Minibatches],
        begin_state: Callable[[], Any],
        clipping_theta: float,
        *,
        num_scores: int = 1,
        carry_state: bool = True,
        validate: Callable[[], Optional[float]] = lambda: None,
        callbacks: Sequence[Callback] = (),
        ranks: Ranks = SINGLE_PROCESS,
        weight: float = 1.0,
    ) -> None:
        keep_freed_memory()
        self.parameters = parameters
        self._minibatches = minibatches
        self._begin_state = begin_state
        self._clipping_theta = clipping_theta
        self._num_scores = num_scores
        self._carry_state = carry_state
        self._validate = validate
        self._callbacks = self._active = list(callbacks)
        self._ranks = ranks
        self._loss = _MeanLoss(weight)
        self._loss.hybridize()
        # Differs: the original read each loss immediately, which waits for the device.
        self._late_losses = LateLosses(self._add_loss)
        self.history: List[TrainRecord] = []
        self.position = 0
        self.losses: List[float] = []
        self.state: Any = None
        self.seconds = 0.0

    @property
    def epoch(self) -> int:
        """The current epoch, from 1 on."""
        return len(self.history) + 1

    def fit(self, num_epochs: int, callbacks: Sequence[Callback] = ()) -> str:
        """Train until ``history`` has a number of epochs, or until a callback ends the training.

        Args:
            num_epochs: including those already in ``history``.
            callbacks: called in this order.

        Returns:
            The reason why the training ended.

        Raises:
            ValueError: If ``num_epochs`` is not a whole number of at least 0.
            TypeError: If ``callbacks`` is not a list of ``Callback`` objects.
        """
        whole_number("num_epochs", num_epochs, 0)
        _check_callbacks(callbacks)
        try:
            for callback in callbacks:
                callback.on_start(self)
            while len(self.history) < num_epochs:
                self.train_epoch(callbacks)
        except Stopped as stopped:
            return str(stopped)
        return f"all {num_epochs} epochs are done"

    def train_epoch(self, callbacks: Sequence[Callback] = ()) -> TrainRecord:
        """Train to the end of the current epoch.

        Args:
            callbacks: called in this order.

        Returns:
            The epoch's record, which is also in ``history``.

        Raises:
            Stopped: If a callback ends the training.
            TypeError: If ``callbacks`` is not a list of ``Callback`` objects.
        """
        _check_callbacks(callbacks)
        callbacks = self._active = [*self._callbacks, *callbacks]
        self._train_minibatches(callbacks)
        for callback in callbacks:
            callback.on_scoring(self)
        started = time.perf_counter()
        valid_loss = self._validate()
        self.seconds += time.perf_counter() - started
        train_loss = math.fsum(self.losses) / len(self.losses)
        rate = self.parameters.learning_rate
        record = TrainRecord(self.epoch, train_loss, valid_loss, rate, self.seconds)
        self.history.append(record)
        self.position, self.losses, self.state = 0, [], None
        for callback in callbacks:
            callback.on_epoch(self, record)
        return record

    def _train_minibatches(self, callbacks: Sequence[Callback]) -> None:
        started = time.perf_counter()
        self._late_losses.read()  # losses still unread after an exception
        for callback in callbacks:
            callback.on_epoch_start(self)
        batches = self._minibatches()
        batches.skip(self.position)
        for X, Y in batches:
            if self.state is None or not self._carry_state:
                self.state = self._begin_state()
            for callback in callbacks:
                callback.on_step(self, self.epoch - 1 + self.position / len(batches))
            with queueing:  # other threads may predict with the model meanwhile
                loss, self.state = self.train_step(X, Y, self.state)
            self.position += 1
            self._late_losses.add(loss)
            last = self.losses[-1] if self.losses else None
            progress = Progress(self.epoch, self.position, len(batches), last)
            self.seconds += time.perf_counter() - started
            for callback in callbacks:
                callback.on_minibatch(self, progress)
            started = time.perf_counter()
        self._late_losses.read()
        self.parameters.finish()
        self.seconds += time.perf_counter() - started

    def train_step(self, X: nd.NDArray, Y: nd.NDArray, state: Any) -> Tuple[nd.NDArray, Any]:
        """Train on one minibatch.

        Args:
            X: indices of the inputs, (batch_size, num_steps); with several ranks, this rank's rows.
            Y: indices of the characters that follow them, of the same shape.
            state: the hidden state after the previous minibatch.

        Returns:
            The mean loss over all rows, in nats per character, of shape (1,), and the new hidden
            state. The device may still be computing both.
        """
        state = detach(state)
        with autograd.record():
            scores, state = self.parameters.forward(X, state)
            self._check_scores(scores)
            loss = self._loss(scores, Y)
        loss.backward()
        gradients = self.parameters.gradients()
        self._ranks.sum([*gradients, loss])
        factor = clipping_factor(gradients, self._clipping_theta)
        self._ranks.broadcast([factor])  # another machine may round it differently
        self.parameters.update(factor)
        return loss, state

    def _check_scores(self, scores: nd.NDArray) -> None:
        # Differs: the original counted a missing score as that of another character.
        if scores.shape[-1] < self._num_scores:
            raise ValueError(
                f"the model returns scores for {scores.shape[-1]} characters, but the text has "
                f"token indices up to {self._num_scores - 1}: give its output layer len(vocab) "
                "units"
            )

    def _add_loss(self, loss: float) -> None:
        self.losses.append(loss)
        for callback in self._active:
            callback.on_loss(self, loss)


def _check_callbacks(callbacks: Any) -> None:
    is_list = isinstance(callbacks, (list, tuple))
    if not is_list or not all(isinstance(callback, Callback) for callback in callbacks):
        raise TypeError(f"callbacks must be a list of Callback objects, not {callbacks!r}")


class _MeanLoss(gluon.HybridBlock):
    """The mean cross-entropy of scores (num_steps * batch_size, vocab_size), times a weight."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.of_each = gluon.loss.SoftmaxCrossEntropyLoss()
        self._weight = weight

    def hybrid_forward(self, F: Any, scores: Any, Y: Any) -> Any:
        # (batch_size, num_steps) -> (num_steps * batch_size,), rows as in scores
        mean = self.of_each(scores, F.reshape(F.transpose(Y), shape=(-1,))).mean()
        return mean if self._weight == 1 else mean * self._weight
