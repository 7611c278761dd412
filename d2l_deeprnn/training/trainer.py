"""The training loop, for any network and any update rule."""

from __future__ import annotations

import collections
import copy
import math
import time
from typing import Any, Callable, Deque, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .._checks import whole_number
from .._mxnet import autograd, gluon, keep_freed_memory, nd
from .._mxnet.library import queueing
from ..text.minibatches import Minibatches
from .optimization import TrainableArrays, TrainableModel, clipping_factor
from .ranks import SINGLE_PROCESS, Ranks

IN_FLIGHT = 4  # minibatches that may be in the device's queue


class TrainRecord(NamedTuple):
    """The results of one epoch of training.

    Attributes:
        epoch: number of the epoch, from 1 on.
        train_loss: mean over the epoch's minibatches, in nats per character, each computed before
            its update and with dropout.
        valid_loss: on the validation part after the epoch, or None if there is none.
        learning_rate: the rate of the epoch's last minibatch.
        seconds: time spent on training and scoring until the end of the epoch.
    """

    epoch: int
    train_loss: float
    valid_loss: Optional[float]
    learning_rate: float
    seconds: float

    @property
    def loss(self) -> float:
        """The validation loss, or the training loss if there is none. Lower is better."""
        return self.train_loss if self.valid_loss is None else self.valid_loss


def history_in(data: Mapping[str, Any]) -> List[TrainRecord]:
    """Return the history in a checkpoint's JSON values.

    Raises:
        KeyError, TypeError, ValueError: if it is missing or malformed.
    """
    history = []
    for number, (epoch, train, valid, lr, seconds) in enumerate(data["history"], 1):
        if epoch != number:
            raise ValueError(f"its record of epoch {number} has the number {epoch!r}")
        valid = None if valid is None else float(valid)
        record = TrainRecord(number, float(train), valid, float(lr), float(seconds))
        if not all(math.isfinite(value) for value in record if value is not None):
            raise ValueError(f"its record of epoch {number} has a number that is not finite")
        history.append(record)
    return history


class Progress(NamedTuple):
    """The progress within an epoch.

    Attributes:
        epoch: number of the epoch, from 1 on.
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

    def before_epoch(self, trainer: Trainer) -> None:
        """Act before the first minibatch of an epoch, or the first after a resume."""

    def after_step(self, trainer: Trainer, progress: Progress) -> None:
        """Act after each minibatch."""

    def before_scoring(self, trainer: Trainer) -> None:
        """Act after an epoch's last minibatch, before the validation part is scored."""

    def after_epoch(self, trainer: Trainer, record: TrainRecord) -> None:
        """Act after an epoch, when its record is in the history."""


class Trainer:
    """Trains a network epoch by epoch. It can be stopped between any two minibatches.

    Args:
        network: a network with its parameters and their update rule; both classes have the methods
            ``forward``, ``gradients``, ``update`` and ``clip_last_gradients``, and a
            ``learning_rate``.
        minibatches: a function that returns the minibatches of an epoch.
        begin_state: a function that returns the initial hidden state.
        clipping_theta: maximum L2 norm of all gradients together; infinite for no clipping.
        num_scores: minimum number of scores for each character of a text.
        carry_state: whether to carry the hidden state from one minibatch to the next, as for
            adjacent sampling.
        validate: a function that returns the loss on the validation part, in nats per character,
            or None.
        ranks: the processes that share each minibatch.
        weight: this process's share of a minibatch's rows; None for all of them.

    Attributes:
        history: a record for each finished epoch.
        position: number of minibatches of the current epoch so far.
        losses: losses of these minibatches, in nats per character; the last few are added later.
        state: the hidden state after the last minibatch; None before an epoch's first.
        seconds: time spent on training and scoring so far.
    """

    def __init__(
        self,
        network: TrainableModel | TrainableArrays,
        minibatches: Callable[[], Minibatches],
        begin_state: Callable[[], Any],
        clipping_theta: float,
        *,
        num_scores: int = 1,
        carry_state: bool = True,
        validate: Callable[[], Optional[float]] = lambda: None,
        ranks: Ranks = SINGLE_PROCESS,
        weight: Optional[float] = None,
    ) -> None:
        keep_freed_memory()  # in the whole process; otherwise each minibatch allocates it anew
        self.network = network
        self._minibatches = minibatches
        self._begin_state = begin_state
        self._clipping_theta = clipping_theta
        self._num_scores = num_scores
        self._carry_state = carry_state
        self._validate = validate
        self._ranks = ranks
        self._loss = gluon.loss.SoftmaxCrossEntropyLoss(weight=weight)
        self.history: List[TrainRecord] = []
        self.position = 0
        self.losses: List[float] = []
        self._unread_losses: Deque[nd.NDArray] = collections.deque()
        self.state: Any = None
        self.seconds = 0.0
        self._in_update = False  # from an update until its minibatch is counted

    @property
    def epoch(self) -> int:
        """The current epoch, from 1 on."""
        return len(self.history) + 1

    def fit(self, num_epochs: int, callbacks: Sequence[Callback] = ()) -> str:
        """Train until ``history`` has a number of epochs, or until a callback ends the training.

        Args:
            num_epochs: number of epochs, including those already in ``history``.
            callbacks: actions during training, called in this order.

        Returns:
            The reason why the training ended.

        Raises:
            ValueError: if ``num_epochs`` is not a whole number of at least 0.
            TypeError: if ``callbacks`` is not a list of ``Callback`` objects.
        """
        whole_number("num_epochs", num_epochs, 0)
        try:
            while len(self.history) < num_epochs:
                self.train_epoch(callbacks)
        except Stopped as stopped:
            return str(stopped)
        return "all epochs are done"

    def train_epoch(self, callbacks: Sequence[Callback] = ()) -> TrainRecord:
        """Train to the end of the current epoch.

        Args:
            callbacks: actions during training, called in this order.

        Returns:
            The epoch's record, which is also in ``history``.

        Raises:
            Stopped: if a callback ends the training.
            TypeError: if ``callbacks`` is not a list of ``Callback`` objects.
            RuntimeError: if the last call was interrupted during an update of the parameters.
        """
        is_list = isinstance(callbacks, (list, tuple))
        if not is_list or not all(isinstance(callback, Callback) for callback in callbacks):
            raise TypeError(f"callbacks must be a list of Callback objects, not {callbacks!r}")
        self.check_between_minibatches()
        for callback in callbacks:
            callback.before_epoch(self)
        started = time.perf_counter()
        batches = self._minibatches()
        batches.position = self.position  # after a resume, in the middle of an epoch
        for X, Y in batches:
            if self.state is None or not self._carry_state:
                self.state = self._begin_state()
            with queueing:  # other threads may predict with the model meanwhile
                loss, self.state = self.train_step(X, Y, self.state)
            self.position += 1
            # Differs: the original read each loss immediately. That waits for the device, which is
            # then idle while the next minibatch is prepared.
            self._unread_losses.append(loss)
            self._in_update = False
            self.read_losses(IN_FLIGHT)
            last = self.losses[-1] if self.losses else None
            progress = Progress(self.epoch, self.position, len(batches), last)
            self.seconds += time.perf_counter() - started
            for callback in callbacks:
                callback.after_step(self, progress)
            started = time.perf_counter()
        self.read_losses()
        self.network.clip_last_gradients()
        self.seconds += time.perf_counter() - started
        for callback in callbacks:
            callback.before_scoring(self)
        started = time.perf_counter()
        valid_loss = self._validate()
        self.seconds += time.perf_counter() - started
        train_loss = math.fsum(self.losses) / len(self.losses)
        rate = self.network.learning_rate
        record = TrainRecord(self.epoch, train_loss, valid_loss, rate, self.seconds)
        self.history.append(record)
        self.position, self.losses, self.state = 0, [], None
        for callback in callbacks:
            callback.after_epoch(self, record)
        return record

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
            scores, state = self.network.forward(X, state)
            self._check_scores(scores)
            # (batch_size, num_steps) -> (num_steps * batch_size,), in the order of the scores
            loss = self._loss(scores, Y.T.reshape((-1,))).mean()
        loss.backward()
        gradients = self.network.gradients()
        self._ranks.sum([*gradients, loss])  # nothing to do in a single process
        factor = clipping_factor(gradients, self._clipping_theta)
        self._ranks.broadcast([factor])  # another machine may round it differently
        self._in_update = True
        self.network.update(factor)
        return loss, state

    def check_between_minibatches(self) -> None:
        """Raise a RuntimeError if an interrupt such as Ctrl-C has left a minibatch half done."""
        if self._in_update:
            raise RuntimeError(
                "the training was interrupted during an update of the parameters: load the last "
                "state_dict, or start again"
            )

    def read_losses(self, num_unread: int = 0) -> None:
        """Wait for the losses of all but the last minibatches, and add them to ``losses``."""
        while len(self._unread_losses) > num_unread:
            loss = float(self._unread_losses[0].asscalar())
            self._unread_losses.popleft()
            self.losses.append(loss)

    def _check_scores(self, scores: nd.NDArray) -> None:
        # Differs: if a score was missing, the original used that of another character.
        if scores.shape[-1] < self._num_scores:
            raise ValueError(
                f"the model returns scores for {scores.shape[-1]} characters, but the text has "
                f"token indices up to {self._num_scores - 1}: give its output layer len(vocab) "
                "units"
            )


def detach(state: Any) -> Any:
    """Detach every array of a possibly nested hidden state from the previous minibatch's graph."""
    # Differs: the original called detach and ignored its result.
    return map_leaves(lambda leaf: leaf.detach() if isinstance(leaf, nd.NDArray) else leaf, state)


def map_leaves(function: Callable[[Any], Any], state: Any) -> Any:
    """Apply a function to each leaf of a possibly nested hidden state; return the same structure.

    Args:
        function: takes a leaf, which is anything except a list, tuple or dictionary.
        state: hidden state.
    """
    if isinstance(state, tuple) and hasattr(state, "_make"):  # a named tuple
        return state._make(map_leaves(function, part) for part in state)
    if isinstance(state, (list, tuple)):
        return type(state)(map_leaves(function, part) for part in state)
    if isinstance(state, dict):
        mapped = copy.copy(state)
        # A model may return the parts in another order than begin_state.
        for key in sorted(state, key=repr):
            mapped[key] = map_leaves(function, state[key])
        return mapped
    return function(state)


def arrays_in(state: Any) -> List[nd.NDArray]:
    """Return the arrays of a possibly nested hidden state, in order.

    Raises:
        TypeError: if a leaf is neither an array nor None.
    """
    arrays = []

    def collect(leaf: Any) -> None:
        if isinstance(leaf, nd.NDArray):
            arrays.append(leaf)
        elif leaf is not None:
            raise TypeError(
                f"the hidden state contains a {type(leaf).__name__}, which cannot be saved: "
                "begin_state must return arrays, in lists, tuples or dicts"
            )

    map_leaves(collect, state)
    return arrays
