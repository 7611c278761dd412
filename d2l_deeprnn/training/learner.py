"""Training according to settings: optimizer, schedule, validation part and seed."""

from __future__ import annotations

import math
import random
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .._checks import expected_arrays, token_indices
from .._mxnet import gluon, mx, nd, optimizers
from .._mxnet.blocks import blocks_in, learn_shapes
from .._mxnet.context import (
    check_ctx,
    exclusive_generators,
    random_state,
    set_random_state,
    set_seed,
)
from ..errors import D2LError
from ..evidence.provenance import physical_memory
from ..nn.fast import draws_nothing
from ..nn.initialize import initialize
from ..nn.model import RNNModel
from ..nn.stacked import LAYERS, StackedRNN
from ..text.minibatches import Minibatches, check_length, data_iter_consecutive, data_iter_random
from .evaluate import evaluate
from .optimization import ModelParameters
from .ranks import SINGLE_PROCESS, Ranks
from .settings import SettingsError, TrainSettings, base_rate, learning_rate, why_finished
from .state import (
    TrainRecord,
    arrays_in,
    history_in,
    map_leaves,
    parameters_of,
    with_prefix,
    without_prefix,
)
from .trainer import Callback, Stopped, Trainer


class Diverged(D2LError, ArithmeticError):
    """A loss or a parameter is not finite."""


class Learner(Trainer):
    """A trainer that follows ``TrainSettings`` and can be saved and resumed exactly.

    All random generators start from the settings' seed. They are global to the process, so only
    one thread may train at a time.

    ``fit`` trains for the epochs that it is given; ``EarlyStopping`` ends it by ``patience``.

    Args:
        settings: of the training; those of the model are ignored.
        model: any initialized Gluon model with the ``forward`` and ``begin_state`` of ``RNNModel``,
            such as the result of ``new_model``.
        train_indices: token indices to learn from.
        valid_indices: held-out token indices; may be empty.
        ctx: device.
        ranks: the processes that train together; each computes some rows of every minibatch.

    Raises:
        ValueError: if a part of the text is too short or has an index outside the vocabulary, or
            if the optimizer or one of its options is unknown.
        TypeError: if ``ctx`` is not one device.
        GeneratorsInUse: if another thread is training.
    """

    @exclusive_generators()
    def __init__(
        self,
        settings: TrainSettings,
        model: gluon.Block,
        train_indices: np.ndarray,
        valid_indices: np.ndarray,
        ctx: mx.Context,
        *,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        check_ctx(ctx)
        batch_size, num_steps = settings.batch_size, settings.num_steps
        rows = ranks.part(batch_size)
        if batch_size < ranks.size:
            raise SettingsError(
                f"batch_size {batch_size} is too small for {ranks.size} ranks, which need a row "
                "each: start fewer, or increase batch_size"
            )
        size = getattr(model, "vocab_size", None)
        train_indices = token_indices("train_indices", train_indices, size)
        valid_indices = token_indices("valid_indices", valid_indices, size)
        adjacent = settings.sampling == "adjacent"
        check_length(len(train_indices), batch_size, num_steps, adjacent=adjacent)
        data_iter = data_iter_consecutive if adjacent else data_iter_random
        set_seed(settings.seed)
        learn_shapes(model, ctx)
        if ranks.size > 1:
            ranks.broadcast(list(parameters_of(model).values()))
            for block in blocks_in(model):
                if type(block) is StackedRNN:
                    block.share_rows(rows, batch_size)
        self.settings, self.model, self.ctx = settings, model, ctx
        self._rows, self._valid_indices = rows, valid_indices
        self._model_parameters = ModelParameters(model, ctx, _optimizer(model, settings))
        self._generators = _Generators(settings, model)
        super().__init__(
            self._model_parameters,
            lambda: self._generators.draw(
                lambda: data_iter(train_indices, batch_size, num_steps, ctx, rows=rows)
            ),
            lambda: model.begin_state(batch_size=len(rows), ctx=ctx),
            settings.clipping_theta,
            num_scores=int(train_indices.max()) + 1,
            carry_state=adjacent,
            validate=self._score,
            callbacks=[self._generators, _LearningRate(settings), _StopIfDiverged(settings)],
            ranks=ranks,
            weight=len(rows) / batch_size,
        )

    @property
    def best(self) -> Optional[TrainRecord]:
        """The record of the epoch with the lowest loss; of several, the first."""
        return min(self.history, key=lambda record: record.loss) if self.history else None

    @property
    def finished(self) -> Optional[str]:
        """The reason why the training is finished; None if it is not."""
        return why_finished(self.settings, [record.loss for record in self.history])

    @exclusive_generators()
    def train_epoch(self, callbacks: Sequence[Callback] = ()) -> TrainRecord:
        """Train to the end of the current epoch, and score the validation part.

        Args, Returns: as in ``Trainer``.

        Raises:
            Stopped: if a callback ends the training; ``state_dict`` then has the state to resume.
            Diverged: if a loss or a parameter is not finite.
            ValueError: if the model has other parameters than when the learner was made.
        """
        if not self._model_parameters.belong_to(self.model):
            raise ValueError(
                "the model has other parameters than when the learner was made, and they would not "
                "be trained: make a new learner"
            )
        return super().train_epoch(callbacks)

    def state_dict(self) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Return everything that is needed to resume, as arrays and JSON values.

        It may be called between any two minibatches. With several ranks, all have to call it, and
        rank 0 gets the hidden state of all rows.

        Raises:
            Diverged: if a parameter is not finite, so that training cannot resume.
            TypeError: if the hidden state contains something other than arrays.
        """
        self._late_losses.read()
        self._check_parameters()
        arrays, numbers = self._model_parameters.state_dict()
        hidden = self._gather_hidden_state()
        arrays.update(with_prefix("state", {str(i): array for i, array in enumerate(hidden)}))
        data = {
            "optimizer": numbers,
            "history": [list(record) for record in self.history],
            "position": self.position,
            "losses": list(self.losses),
            "seconds": self.seconds,
            "random": random_state(self._generators.state),
        }
        return arrays, data

    @exclusive_generators()
    def load_state_dict(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> None:
        """Restore the result of ``state_dict``.

        Raises:
            KeyError, TypeError, ValueError: if a part is missing, unexpected, or has the wrong
                shape; names it. The learner is then unusable.
        """
        self._model_parameters.load_state_dict(arrays, data["optimizer"])
        self.history = history_in(data)
        self.position, self.seconds = int(data["position"]), float(data["seconds"])
        self.losses = [float(loss) for loss in data["losses"]]
        self.state = None
        if self.position and self.settings.sampling == "adjacent":
            self.state = self._scatter_hidden_state(without_prefix("state", arrays))
        set_random_state(data["random"])
        self._generators.state = random.getstate()

    def _gather_hidden_state(self) -> List[np.ndarray]:
        """Return the hidden state of all rows on rank 0, and of this rank's rows elsewhere."""
        arrays = [array.asnumpy() for array in arrays_in(self.state)]
        if self._ranks.size == 1 or not arrays:
            return arrays
        return [self._ranks.gather(*each) for each in zip(arrays, self._row_axes())]

    def _scatter_hidden_state(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """Return the hidden state of this rank's rows, given that of all rows."""
        initial = self.model.begin_state(batch_size=self.settings.batch_size, ctx=self.ctx)
        shapes = {str(i): array.shape for i, array in enumerate(arrays_in(initial))}
        hidden = list(expected_arrays("state/", arrays, shapes).values())
        if self._ranks.size > 1:
            hidden = [a.take(self._rows, axis) for a, axis in zip(hidden, self._row_axes())]
        own = iter(hidden)

        def load(leaf: Any) -> Any:
            if leaf is None:
                return None
            array = next(own)
            return nd.array(array, ctx=self.ctx, dtype=array.dtype)

        return map_leaves(load, initial)

    def _row_axes(self) -> List[int]:
        """Return, for each array of the hidden state, the axis of the minibatch's rows."""
        # It is the second axis in a fused layer, the first in a cell.
        one, two = (self.model.begin_state(batch_size=n, ctx=self.ctx) for n in (1, 2))
        return [
            next((i for i, (m, n) in enumerate(zip(a.shape, b.shape)) if m != n), 0)
            for a, b in zip(arrays_in(one), arrays_in(two))
        ]

    def _score(self) -> Optional[float]:
        self._ranks.check_equal(parameters_of(self.model), f"after epoch {self.epoch}")
        self._check_parameters()
        if not len(self._valid_indices):
            return None
        return evaluate(self.model, self._valid_indices, self.ctx, ranks=self._ranks).nats

    def _check_parameters(self) -> None:
        name = self._model_parameters.not_finite()
        if name is not None:
            raise _diverged(self.settings, self.epoch, f"the parameter {name} is not finite")


class _Generators(Callback):
    """Makes random numbers independent of interruptions, and of what callbacks draw."""

    def __init__(self, settings: TrainSettings, model: gluon.Block) -> None:
        self._seed = settings.seed
        self._reseeds = settings.optimizer == "sgld" or not draws_nothing(model)
        # Python's generator draws an epoch's minibatches. Its state at the beginning of the epoch
        # is saved, so that a resumed training draws the same ones.
        self.state = self._next = random.getstate()

    def draw(self, minibatches: Callable[[], Minibatches]) -> Minibatches:
        """Draw the minibatches of the current epoch."""
        random.setstate(self.state)
        drawn = minibatches()
        self._next = random.getstate()
        return drawn

    def on_step(self, trainer: Trainer, epochs_done: float) -> None:
        if self._reseeds:
            # The state of MXNet's generator cannot be read, so seed it for each minibatch. That
            # takes a millisecond.
            entropy = [self._seed, trainer.epoch, trainer.position]
            seed = int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)
            mx.random.seed(seed)  # 31 bits

    def on_epoch(self, trainer: Trainer, record: TrainRecord) -> None:
        self.state = self._next


class _LearningRate(Callback):
    """Sets the learning rate before each step."""

    def __init__(self, settings: TrainSettings) -> None:
        self._settings = settings

    def on_step(self, trainer: Trainer, epochs_done: float) -> None:
        losses = (record.loss for record in trainer.history)
        trainer.parameters.learning_rate = learning_rate(self._settings, epochs_done, losses)


class _StopIfDiverged(Callback):
    """Ends the training if a loss is not finite."""

    def __init__(self, settings: TrainSettings) -> None:
        self._settings = settings

    def on_loss(self, trainer: Trainer, loss: float) -> None:
        if not math.isfinite(loss):
            reason = f"the loss of minibatch {len(trainer.losses)} is {loss}"
            raise _diverged(self._settings, trainer.epoch, reason)


class EarlyStopping(Callback):
    """Ends the training when it is finished according to its settings (``patience``)."""

    def __init__(self, settings: TrainSettings) -> None:
        self._settings = settings

    def on_start(self, trainer: Trainer) -> None:
        reason = why_finished(self._settings, [record.loss for record in trainer.history])
        if reason is not None:
            raise Stopped(reason)

    def on_epoch(self, trainer: Trainer, record: TrainRecord) -> None:
        self.on_start(trainer)


def _diverged(settings: TrainSettings, epoch: int, reason: str) -> Diverged:
    return Diverged(
        f"training diverged in epoch {epoch}: {reason}. Lower the learning rate (lr, now "
        f"{base_rate(settings):g}) or clipping_theta (now {settings.clipping_theta:g}), or warm up "
        "for longer (warmup_epochs)"
    )


@exclusive_generators()
def new_model(
    settings: TrainSettings, vocab_size: int, ctx: mx.Context, *, stacked: bool = False
) -> RNNModel:
    """Return a model with initial parameters; see ``build_model``."""
    set_seed(settings.seed)
    model = build_model(settings, vocab_size, stacked=stacked)
    initialize(model, settings.init, ctx, forget_bias=settings.forget_bias)
    return model


def build_model(settings: TrainSettings, vocab_size: int, *, stacked: bool = False) -> RNNModel:
    """Return the model for some settings, uninitialized.

    It is the chapter's model with a fused Gluon layer or, if there is dropout, a ``StackedRNN``,
    because dropout in a fused layer has no effect on a CPU.

    Args:
        settings: of the model.
        vocab_size: number of tokens in the vocabulary.
        stacked: use a ``StackedRNN`` in any case, as versions before 0.3 did.

    Raises:
        SettingsError: if its parameters alone need more memory than the machine has.
    """
    if settings.dropout or stacked:
        layer: gluon.Block = StackedRNN(
            settings.cell, settings.num_hiddens, settings.num_layers, settings.dropout, vocab_size
        )
    else:
        layer = LAYERS[settings.cell](
            settings.num_hiddens, num_layers=settings.num_layers, input_size=vocab_size
        )
    model = RNNModel(layer, vocab_size)
    # RNNModel leaves this shape open, as in the chapter. Set it, so that all shapes are known.
    model.dense.weight.shape = (vocab_size, settings.num_hiddens)
    num_params = sum(math.prod(param.shape) for param in model.collect_params().values())
    num_bytes, memory = 4 * num_params, physical_memory()
    if num_bytes > memory:
        raise SettingsError(
            f"a model with num_hiddens {settings.num_hiddens} and num_layers {settings.num_layers} "
            f"has {num_params:,} parameters, which need {num_bytes / 2**30:,.1f} GiB, but this "
            f"machine has {memory / 2**30:,.1f} GiB: choose smaller values"
        )
    return model


@exclusive_generators()
def initial_state(
    settings: TrainSettings, model: gluon.Block, ctx: mx.Context, history: List[TrainRecord]
) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
    """Return a ``Learner.state_dict`` for a model that was trained elsewhere.

    Args:
        settings: of the training; the random generators start from their seed.
        model: with its parameters; the optimizer is new.
        ctx: its device.
        history: of the epochs in which the model was trained.
    """
    set_seed(settings.seed)
    arrays, numbers = ModelParameters(model, ctx, _optimizer(model, settings)).state_dict()
    data = {
        "optimizer": numbers,
        "history": [list(record) for record in history],
        "position": 0,
        "losses": [],
        "seconds": history[-1].seconds if history else 0.0,
        "random": random_state(),
    }
    return arrays, data


def _optimizer(model: gluon.Block, settings: TrainSettings) -> gluon.Trainer:
    try:
        # Settings from an earlier version may have options that are not valid.
        optimizers.check_options(settings.optimizer, settings.optimizer_options)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    options = {
        "wd": 0,
        **optimizers.arguments(settings.optimizer, settings.optimizer_options),
        "learning_rate": base_rate(settings),
    }
    return gluon.Trainer(model.collect_params(), settings.optimizer, options, kvstore=None)
