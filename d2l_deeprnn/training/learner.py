"""Training according to settings: optimizer, schedule, validation part and seed."""

from __future__ import annotations

import math
import random
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .._checks import expected_arrays, token_indices
from .._mxnet import at_least_float32, gluon, mx, nd, optimizers
from .._mxnet.library import (
    blocks_in,
    check_ctx,
    exclusive_generators,
    has_sparse_gradient,
    learn_shapes,
    named_parameters,
    python_state,
    random_state,
    set_random_state,
    set_seed,
)
from .._perplexity import perplexity
from ..errors import D2LError
from ..evidence.provenance import physical_memory
from ..nn.fast import draws_nothing
from ..nn.initialize import initialize
from ..nn.model import RNNModel, declared_vocab_size
from ..nn.stacked import LAYERS, StackedRNN
from ..text.minibatches import Minibatches, check_length, data_iter_consecutive, data_iter_random
from .evaluate import evaluate
from .optimization import TrainableModel, parameters_of, with_prefix, without_prefix
from .ranks import SINGLE_PROCESS, Ranks
from .settings import (
    SettingsError,
    TrainSettings,
    base_rate,
    check_settings,
    learning_rate,
    why_finished,
)
from .trainer import (
    Callback,
    Stopped,
    Trainer,
    TrainRecord,
    arrays_in,
    history_in,
    map_leaves,
)


class Diverged(D2LError, ArithmeticError):
    """A loss or a parameter is not finite."""


class Learner(Trainer):
    """A trainer that follows ``TrainSettings`` and can be saved and resumed exactly.

    All random generators start from the settings' seed. They are global to the process, so only
    one thread may train at a time, and no other may draw from them meanwhile. The learning rate is
    that of the settings' schedule before each minibatch, whatever a callback sets.

    ``fit`` ignores ``patience``; to apply it, pass the callback ``EarlyStopping``.

    Args:
        settings: the run's settings; those of the model, such as ``num_hiddens``, are ignored.
        model: any initialized Gluon model with the ``forward`` and ``begin_state`` of ``RNNModel``,
            such as the result of ``new_model``.
        train_indices: token indices to learn from.
        valid_indices: held-out token indices; may be empty.
        ctx: the model's device.
        ranks: the processes that train together; each computes some rows of every minibatch.

    Raises:
        ValueError: if a part of the text is too short or has an index outside the vocabulary, the
            optimizer or one of its options is unknown, or a parameter adds up its gradients.
        TypeError: if ``ctx`` is not one device, or ``settings`` not a ``TrainSettings``.
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
        check_settings(settings)
        batch_size, num_steps = settings.batch_size, settings.num_steps
        rows = ranks.part(batch_size)
        if batch_size < ranks.size:
            raise SettingsError(
                f"batch_size {batch_size} is too small for {ranks.size} ranks, which need a row "
                "each: start fewer, or increase batch_size"
            )
        size = declared_vocab_size(model)
        train_indices = token_indices("train_indices", train_indices, size)
        valid_indices = token_indices("valid_indices", valid_indices, size)
        adjacent = settings.sampling == "adjacent"
        check_length(len(train_indices), batch_size, num_steps, adjacent=adjacent)
        if len(valid_indices) == 1:
            raise ValueError("valid_indices has 1 character, but scoring needs at least 2, or none")
        data_iter = data_iter_consecutive if adjacent else data_iter_random
        set_seed(settings.seed)  # again, whatever numbers were drawn to make the model
        learn_shapes(model, ctx)
        for name, param in named_parameters(model).items():
            if param.grad_req == "add":
                raise SettingsError(
                    f"{name} adds up its gradients (grad_req), which no checkpoint has: set its "
                    "grad_req to write"
                )
            if ranks.size > 1 and has_sparse_gradient(param):
                raise SettingsError(
                    f"the gradient of {name} is sparse, and several ranks cannot sum it: give "
                    "its layer a dense one (sparse_grad=False), or use one process"
                )
        if ranks.size > 1:
            ranks.broadcast(list(parameters_of(model).values()))
            for block in blocks_in(model):
                if type(block) is StackedRNN:
                    block.share_rows(rows, batch_size)
        self.settings, self.model, self.ctx = settings, model, ctx
        self._rows, self._valid_indices = rows, valid_indices
        self._network = TrainableModel(model, ctx, _gluon_trainer(model, settings))
        # Draw each epoch's minibatches from a stored state of Python's generator. A resumed epoch
        # then has the same ones, even if the model or a callback draws numbers, too.
        self._states_before = {1: random.getstate()}
        self._num_minibatches = 1  # per epoch; known when one has begun
        self._reseeds = settings.optimizer == "sgld" or not draws_nothing(model)

        def draw_minibatches() -> Minibatches:
            others, before = random.getstate(), self._states_before[self.epoch]
            random.setstate(before)
            drawn = data_iter(train_indices, batch_size, num_steps, ctx, rows=rows)
            self._states_before = {self.epoch: before, self.epoch + 1: random.getstate()}
            random.setstate(others)  # for a model or a callback that draws from it
            self._num_minibatches = len(drawn)
            return drawn

        super().__init__(
            self._network,
            draw_minibatches,
            lambda: model.begin_state(batch_size=len(rows), ctx=ctx),
            settings.clipping_theta,
            num_scores=int(train_indices.max()) + 1,
            carry_state=adjacent,
            validate=self._score,
            ranks=ranks,
            weight=None if len(rows) == batch_size else len(rows) / batch_size,
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
            ValueError: if the model has other parameters than when the learner was made, or the
                cosine schedule has ended.
        """
        if not self._network.is_current():
            raise ValueError(
                "the model has other parameters than when the learner was made, and they would not "
                "be trained: make a new learner"
            )
        if self.settings.schedule == "cosine" and self.epoch > self.settings.num_epochs:
            raise ValueError(
                f"the cosine schedule ends after {self.settings.num_epochs} epochs (num_epochs of "
                "the settings), so there is no learning rate for another epoch"
            )
        return super().train_epoch(callbacks)

    def train_step(self, X: nd.NDArray, Y: nd.NDArray, state: Any) -> Tuple[nd.NDArray, Any]:
        """Train on one minibatch, at the learning rate of the schedule.

        Args, Returns: as in ``Trainer``.
        """
        epochs_done = self.epoch - 1 + self.position / self._num_minibatches
        losses = (record.loss for record in self.history)
        self._network.learning_rate = learning_rate(self.settings, epochs_done, losses)
        if self._reseeds:
            # The state of MXNet's generator cannot be read, so seed it for each minibatch. That
            # takes a millisecond.
            entropy = [self.settings.seed, self.epoch, self.position]
            seed = int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)
            mx.random.seed(seed)  # 31 bits
        return super().train_step(X, Y, state)

    def read_losses(self, num_unread: int = 0) -> None:
        """Read losses, as in ``Trainer``; raise Diverged if a perplexity is not finite."""
        known = len(self.losses)
        super().read_losses(num_unread)
        for number, loss in enumerate(self.losses[known:], known + 1):
            if not math.isfinite(perplexity(loss)):
                raise self._diverged(f"the loss of minibatch {number} is {loss:g}")

    def state_dict(self) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Return everything that is needed to resume, as arrays and JSON values.

        It may be called between any two minibatches. With several ranks, all have to call it, and
        rank 0 gets the hidden state of all rows.

        Raises:
            Diverged: if a parameter is not finite, so that training cannot resume.
            TypeError: if the hidden state contains something other than arrays.
            RuntimeError: if training was interrupted during an update of the parameters.
        """
        self.check_between_minibatches()
        self.read_losses()
        self._check_parameters()
        arrays, numbers = self._network.state_dict()
        hidden = self._gather_hidden_state()
        arrays.update(with_prefix("state", {str(i): array for i, array in enumerate(hidden)}))
        data = {
            "optimizer": numbers,
            "history": [list(record) for record in self.history],
            "position": self.position,
            "losses": list(self.losses),
            "seconds": self.seconds,
            "random": random_state(),
            "minibatches": list(self._states_before[self.epoch]),
        }
        return arrays, data

    @exclusive_generators()
    def load_state_dict(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> None:
        """Restore the result of ``state_dict``.

        Raises:
            KeyError, TypeError, ValueError: if a part is missing, unexpected, or has the wrong
                shape; names it. The learner is then unusable.
        """
        self._network.load_state_dict(arrays, data["optimizer"])
        self.history = history_in(data)
        self.position, self.seconds = data["position"], float(data["seconds"])
        self.losses = [float(loss) for loss in data["losses"]]
        if self.position is True or self.position != len(self.losses):
            raise ValueError(f"its position {self.position!r} is not its number of losses")
        if not all(map(math.isfinite, [self.seconds, *map(perplexity, self.losses)])):
            raise ValueError("a perplexity or its number of seconds is not finite")
        self._unread_losses.clear()
        self._in_update = False
        self.state = None
        if self.position and self.settings.sampling == "adjacent":
            self.state = self._scatter_hidden_state(without_prefix("state", arrays))
        set_random_state(data["random"])
        # Checkpoints up to 0.3 have one state for both.
        before = data.get("minibatches", data["random"]["python"])
        self._states_before = {self.epoch: python_state(before)}

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
            if array.dtype.kind != np.dtype(leaf.dtype).kind or not array.dtype.isnative:
                raise ValueError(f"its hidden state has the type {array.dtype}")
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
        # Batch normalization collects different statistics on each rank. Use those of rank 0.
        params = named_parameters(self.model).values()
        self._ranks.broadcast([param.data() for param in params if param.grad_req == "null"])
        self._ranks.check_equal(parameters_of(self.model), f"after epoch {self.epoch}")
        self._check_parameters()
        if not len(self._valid_indices):
            return None
        loss = evaluate(self.model, self._valid_indices, self.ctx, ranks=self._ranks).nats
        if not math.isfinite(perplexity(loss)):
            raise self._diverged(f"the loss of the validation part is {loss:g}")
        return loss

    def _check_parameters(self) -> None:
        """Raise Diverged if a parameter is not finite."""
        # If a value is not finite, or near the limit of its type, the sum of squares is not finite.
        # Use nd.dot, which is multithreaded; nd.sum is not.
        checked = {}
        for name, param in named_parameters(self.model).items():
            checked[name] = array = param.data()
            if param.grad_req != "null":  # constants may be large, or integers
                vector = at_least_float32(array).reshape((-1,))
                checked[name] = nd.dot(vector, vector)
        for name, array in checked.items():
            if not np.isfinite(array.asnumpy()).all():
                raise self._diverged(f"the parameter {name} is not finite")

    def _diverged(self, reason: str) -> Diverged:
        return Diverged(
            f"training diverged in epoch {self.epoch}: {reason}. Lower the learning rate (lr, now "
            f"{base_rate(self.settings):g}) or clipping_theta (now "
            f"{self.settings.clipping_theta:g}), or warm up for longer (warmup_epochs)"
        )


class EarlyStopping(Callback):
    """Ends the training when it is finished according to its settings (``patience``)."""

    def __init__(self, settings: TrainSettings) -> None:
        self._settings = settings

    def before_epoch(self, trainer: Trainer) -> None:
        reason = why_finished(self._settings, [record.loss for record in trainer.history])
        if reason is not None:
            raise Stopped(reason)


@exclusive_generators()
def new_model(
    settings: TrainSettings, vocab_size: int, ctx: mx.Context, *, stacked: bool = False
) -> RNNModel:
    """Return a model with initial parameters; see ``build_model``."""
    check_settings(settings)
    set_seed(settings.seed)
    model = build_model(settings, vocab_size, stacked=stacked)
    initialize(model, settings.init, ctx, forget_bias=settings.forget_bias)
    return model


def build_model(settings: TrainSettings, vocab_size: int, *, stacked: bool = False) -> RNNModel:
    """Return the model for some settings, uninitialized.

    It is the chapter's model with a fused Gluon layer or, if there is dropout, a ``StackedRNN``,
    because dropout in a fused layer has no effect on a CPU.

    Args:
        settings: the run's settings; those of training, such as ``lr``, are ignored.
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
        settings: the settings of the training; the random generators start from their seed.
        model: the trained model; the state of its optimizer is new.
        ctx: the model's device.
        history: a record of each epoch in which the model was trained.
    """
    set_seed(settings.seed)
    arrays, numbers = TrainableModel(model, ctx, _gluon_trainer(model, settings)).state_dict()
    data = {
        "optimizer": numbers,
        "history": [list(record) for record in history],
        "position": 0,
        "losses": [],
        "seconds": history[-1].seconds if history else 0.0,
        "random": random_state(),
    }
    return arrays, data


def _gluon_trainer(model: gluon.Block, settings: TrainSettings) -> gluon.Trainer:
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
