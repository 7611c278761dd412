"""Training with any settings: the model, its optimizer, and how far they have come."""

from __future__ import annotations

import math
import random
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from .._checks import token_indices
from .._mxnet import autograd, gluon, mx, nd, optimizers
from .._mxnet.allocator import keep_freed_memory
from .._mxnet.context import check_ctx, random_state, set_random_state, set_seed
from .._mxnet.losses import LateLosses
from ..nn.initialize import initialize
from ..nn.model import RNNModel
from ..nn.stacked import StackedRNN
from ..text.minibatches import Minibatches, check_length, data_iter_consecutive, data_iter_random
from .evaluate import evaluate
from .settings import SettingsError, TrainSettings, learning_rate
from .step import grad_clipping


class TrainRecord(NamedTuple):
    """What one epoch of training gave.

    Attributes:
        epoch: from 1 on.
        train_loss: mean over the epoch's minibatches, each before its update,
            in nats a character, with dropout acting.
        valid_loss: of the validation part after the epoch; None without one.
        learning_rate: of the epoch's last minibatch.
        seconds: of work, from the start of training to the end of the epoch.
    """

    epoch: int
    train_loss: float
    valid_loss: Optional[float]
    learning_rate: float
    seconds: float

    @property
    def loss(self) -> float:
        """What is to become small: validation loss, or training loss without one."""
        return self.train_loss if self.valid_loss is None else self.valid_loss


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


class Diverged(ArithmeticError):
    """The loss is no number any more, or infinite."""


class Stopped(Exception):
    """Training was asked to stop, and did so between two minibatches."""


class Learner:
    """A model that is being trained, and everything that its training goes on from.

    Args:
        settings: of the run. All random generators start from its seed.
        vocab_size: number of inputs and outputs.
        train_indices: token indices to learn from.
        valid_indices: token indices held out; empty for none.
        ctx: device.

    Attributes:
        model: the ``RNNModel``.
        history: a record for each finished epoch.

    Raises:
        ValueError: if a part of the text is too short or holds an index that
            is not in the vocabulary, or the optimizer or one of its options
            is unknown.
        TypeError: if ``ctx`` is not one device.
    """

    def __init__(
        self,
        settings: TrainSettings,
        vocab_size: int,
        train_indices: np.ndarray,
        valid_indices: np.ndarray,
        ctx: mx.Context,
    ) -> None:
        check_ctx(ctx)
        train_indices = token_indices("train_indices", train_indices, vocab_size)
        valid_indices = token_indices("valid_indices", valid_indices, vocab_size)
        adjacent = settings.sampling == "adjacent"
        check_length(len(train_indices), settings.batch_size, settings.num_steps, adjacent=adjacent)
        self.settings = settings
        self.ctx = ctx
        self._train_indices = train_indices
        self._valid_indices = valid_indices
        keep_freed_memory()
        set_seed(settings.seed)
        self.model = build_model(settings, vocab_size)
        initialize(self.model, settings.init, ctx, forget_bias=settings.forget_bias)
        # Not with static_shape, which gains nothing here: MXNet 1.9.1 then evaluates
        # a fused layer in one of two ways, by chance, that round differently.
        self.model.hybridize(static_alloc=True)
        self._loss = gluon.loss.SoftmaxCrossEntropyLoss()
        self._loss.hybridize(static_alloc=True)
        self._trainer = _trainer(self.model, settings)
        self.history: List[TrainRecord] = []
        self._seconds = 0.0
        self._state: List[nd.NDArray] = []  # hidden state, in the middle of an epoch
        self._begin_epoch()

    @property
    def epoch(self) -> int:
        """The running epoch, from 1 on."""
        return len(self.history) + 1

    @property
    def best(self) -> Optional[TrainRecord]:
        """The record of the epoch with the smallest loss, the earliest of these."""
        return min(self.history, key=lambda record: record.loss) if self.history else None

    @property
    def finished(self) -> Optional[str]:
        """Why there is no further epoch, if there is none."""
        if len(self.history) >= self.settings.num_epochs:
            return f"all {self.settings.num_epochs} epochs are done"
        patience = self.settings.patience
        if patience is not None and self.best is not None:
            waited = len(self.history) - self.best.epoch
            if waited >= patience:
                return f"no better validation loss for {waited} epochs"
        return None

    def train_epoch(
        self,
        on_minibatch: Callable[[Progress], Any] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> TrainRecord:
        """Train to the end of the running epoch, and evaluate.

        Args:
            on_minibatch: called after each minibatch.
            should_stop: asked after each minibatch.

        Raises:
            Stopped: if ``should_stop`` said so; ``capture`` then gives the
                place between two minibatches from which to go on.
            Diverged: if a loss is not finite.
        """
        started = time.perf_counter()
        settings = self.settings
        random.setstate(self._random_state)
        data_iter: Callable[..., Minibatches]
        adjacent = settings.sampling == "adjacent"
        data_iter = data_iter_consecutive if adjacent else data_iter_random
        batches = data_iter(self._train_indices, settings.batch_size, settings.num_steps, self.ctx)
        batches.skip(self._position)
        state = self._state
        late = LateLosses(self._take_loss)
        for X, Y in batches:
            epochs_done = len(self.history) + self._position / len(batches)
            rate = learning_rate(settings, epochs_done)
            if not state or not adjacent:
                state = self.model.begin_state(batch_size=settings.batch_size, ctx=self.ctx)
            state, loss = self._train_minibatch(X, Y, state, rate)
            self._position += 1
            late.add(loss)
            last = self._losses[-1] if self._losses else None
            on_minibatch(Progress(self.epoch, self._position, len(batches), last))
            if should_stop() and self._position < len(batches):
                late.finish()
                self._state = state
                self._seconds += time.perf_counter() - started
                raise Stopped(f"in epoch {self.epoch}, after minibatch {self._position}")
        late.finish()
        self._check_parameters()
        valid_loss = None
        if len(self._valid_indices):
            valid_loss = evaluate(self.model, self._valid_indices, self.ctx).nats
        self._seconds += time.perf_counter() - started
        train_loss = math.fsum(self._losses) / len(self._losses)
        record = TrainRecord(self.epoch, train_loss, valid_loss, rate, self._seconds)
        self.history.append(record)
        self._begin_epoch()
        return record

    def _begin_epoch(self) -> None:
        # Python's generator gives the epoch's minibatches. Its state here is
        # what a run that goes on in the middle draws them from again.
        self._random_state = random.getstate()
        self._position = 0  # minibatches done
        self._losses: List[float] = []  # of these minibatches
        self._state = []

    def _train_minibatch(
        self, X: nd.NDArray, Y: nd.NDArray, state: List[nd.NDArray], rate: float
    ) -> Tuple[List[nd.NDArray], nd.NDArray]:
        """Forward, backward, clip, update; gives the new state and the loss."""
        if self.settings.dropout or self.settings.optimizer == "sgld":
            # The state of MXNet's generator cannot be read. It is made known by
            # starting it from a number of its own in each minibatch.
            mx.random.seed(self._minibatch_seed())
        state = [s.detach() for s in state]
        with autograd.record():
            output, state = self.model(X, state)
            # (batch_size, num_steps) -> (num_steps * batch_size,), rows as in output
            loss = self._loss(output, Y.T.reshape((-1,))).mean()
        loss.backward()
        params = [param.data(self.ctx) for param in self._trainer._params]
        grad_clipping(params, self.settings.clipping_theta, self.ctx)
        self._trainer.set_learning_rate(rate)
        self._trainer.step(1)  # the loss is a mean already
        return state, loss

    def _minibatch_seed(self) -> int:
        place = np.random.SeedSequence([self.settings.seed, self.epoch, self._position])
        return int(place.generate_state(1)[0] >> 1)  # MXNet takes 31 bits

    def _take_loss(self, loss: float) -> None:
        self._losses.append(loss)
        if not math.isfinite(loss):
            self._diverged(f"the loss of minibatch {len(self._losses)} is {loss}")

    def _check_parameters(self) -> None:
        for name, param in self.model._collect_params_with_prefix().items():
            # Any value that is not finite makes the sum of squares so too.
            if not math.isfinite(float(param.data(self.ctx).square().sum().asscalar())):
                self._diverged(f"the parameter {name} is not finite")

    def _diverged(self, what: str) -> None:
        settings = self.settings
        raise Diverged(
            f"training diverged in epoch {self.epoch}: {what}. Lower the learning rate "
            f"(lr, now {settings.lr:g}) or clipping_theta (now {settings.clipping_theta:g}), "
            "or warm up for longer (warmup_epochs)"
        )

    # What a checkpoint holds.

    def capture(self) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Everything that the training goes on from: arrays, and values that JSON can hold.

        Raises:
            Diverged: if a parameter is not finite: that is nothing to go on from.
        """
        self._check_parameters()
        arrays = {f"state/{i}": s.asnumpy() for i, s in enumerate(self._state)}
        for name, param in self.model._collect_params_with_prefix().items():
            arrays[f"params/{name}"] = param.data(self.ctx).asnumpy()
        for name, array in _optimizer_arrays(self._trainer).items():
            arrays[f"optimizer/{name}"] = array.asnumpy()
        data = {
            "history": [list(record) for record in self.history],
            "position": self._position,
            "losses": self._losses,
            "seconds": self._seconds,
            "optimizer": _optimizer_numbers(self._trainer),
            "random": random_state(self._random_state),
        }
        return arrays, data

    def restore(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> None:
        """Go on from what ``capture`` gave.

        Raises:
            ValueError: if a part is missing, too many, or has another shape;
                it is named. The learner is then of no use.
        """
        load_params(self.model, arrays, self.ctx)
        _restore_optimizer(self._trainer, arrays, data["optimizer"])
        self.history = [TrainRecord(*record) for record in data["history"]]
        self._position = data["position"]
        self._losses = list(data["losses"])
        self._seconds = data["seconds"]
        self._state = []
        if self._position and self.settings.sampling == "adjacent":
            shapes = self.model.begin_state(batch_size=self.settings.batch_size, ctx=self.ctx)
            expected = {f"state/{i}": s.shape for i, s in enumerate(shapes)}
            found = _checked(arrays, "state/", expected)
            self._state = [nd.array(array, ctx=self.ctx) for array in found.values()]
        set_random_state(data["random"])
        self._random_state = random.getstate()


def build_model(settings: TrainSettings, vocab_size: int) -> RNNModel:
    """The model of some settings, without parameters."""
    layer = StackedRNN(
        settings.cell, settings.num_hiddens, settings.num_layers, settings.dropout, vocab_size
    )
    model = RNNModel(layer, vocab_size)
    # RNNModel leaves it open, as the chapter does; known, parameters have shapes at once.
    model.dense.weight.shape = (vocab_size, settings.num_hiddens)
    return model


def load_params(model: RNNModel, arrays: Mapping[str, np.ndarray], ctx: mx.Context) -> None:
    """Give a model the parameters of a checkpoint.

    Raises:
        ValueError: if one is missing, too many, or has another shape.
    """
    params = model._collect_params_with_prefix()
    expected = {f"params/{name}": param.shape for name, param in params.items()}
    found = _checked(arrays, "params/", expected)
    model.initialize(ctx=ctx, force_reinit=True)
    for name, param in params.items():
        param.set_data(nd.array(found[f"params/{name}"]))


def _checked(
    arrays: Mapping[str, np.ndarray], group: str, expected: Mapping[str, Tuple[int, ...]]
) -> Dict[str, np.ndarray]:
    """The arrays of a group, if they are those expected, in the expected order."""
    found = {name: array for name, array in arrays.items() if name.startswith(group)}
    for name in sorted(set(expected) | set(found)):
        if name not in found:
            raise ValueError(f"{name} is missing")
        if name not in expected:
            raise ValueError(f"{name} is too many: these settings have no such part")
        if found[name].shape != tuple(expected[name]):
            raise ValueError(
                f"{name} has the shape {found[name].shape}, these settings need "
                f"{tuple(expected[name])}"
            )
    return {name: found[name] for name in expected}


# Gluon saves a trainer's state by pickling it, and would run whatever a
# stranger's file holds. So its parts are taken out and put back here.


def _trainer(model: RNNModel, settings: TrainSettings) -> gluon.Trainer:
    try:
        # Settings that an earlier version wrote may hold any.
        optimizers.check_options(settings.optimizer, settings.optimizer_options)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    options = {
        "wd": 0,
        **optimizers.arguments(settings.optimizer, settings.optimizer_options),
        "learning_rate": settings.lr,
    }
    return gluon.Trainer(model.collect_params(), settings.optimizer, options, kvstore=None)


def _optimizer_states(trainer: gluon.Trainer) -> Dict[int, Any]:
    """For each parameter's index: None, an array, or a tuple of these."""
    (updater,) = trainer._updaters
    for i, param in enumerate(trainer._params):
        if i not in updater.states:  # made when the parameter is first updated
            updater.states[i] = trainer._optimizer.create_state_multi_precision(i, param.data())
            updater.states_synced[i] = True
    return updater.states


def _optimizer_arrays(trainer: gluon.Trainer) -> Dict[str, nd.NDArray]:
    arrays: Dict[str, nd.NDArray] = {}

    def collect(name: str, state: Any) -> None:
        if isinstance(state, (list, tuple)):
            for i, part in enumerate(state):
                collect(f"{name}/{i}", part)
        elif state is not None:
            arrays[name] = state

    for i, state in sorted(_optimizer_states(trainer).items()):
        collect(str(i), state)
    return arrays


def _optimizer_numbers(trainer: gluon.Trainer) -> Dict[str, Any]:
    """The optimizer's own counters and numbers, for instance how many updates there were."""
    optimizer = trainer._optimizer
    numbers = {
        name: value
        for name, value in vars(optimizer).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    counts = {str(i): count for i, count in optimizer._index_update_count.items()}
    return {"numbers": numbers, "update_counts": counts}


def _restore_optimizer(
    trainer: gluon.Trainer, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]
) -> None:
    own = _optimizer_arrays(trainer)
    expected = {f"optimizer/{name}": array.shape for name, array in own.items()}
    found = _checked(arrays, "optimizer/", expected)
    for name, array in own.items():
        array[:] = found[f"optimizer/{name}"]
    optimizer = trainer._optimizer
    if set(data["numbers"]) != set(_optimizer_numbers(trainer)["numbers"]):
        raise ValueError("the optimizer's numbers are those of another optimizer")
    for name, value in data["numbers"].items():
        setattr(optimizer, name, value)
    for i, count in data["update_counts"].items():
        optimizer._index_update_count[int(i)] = count
