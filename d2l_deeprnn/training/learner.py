"""Training with settings: a model, its optimizer, its text, and how far they have come."""

from __future__ import annotations

import math
import random
import time
from typing import Any, Callable, List, Optional

import numpy as np

from .._checks import expected_arrays, token_indices
from .._mxnet import gluon, keep_freed_memory, mx, nd, optimizers
from .._mxnet.blocks import blocks_in, learn_shapes, named_parameters
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
from ..text.minibatches import check_length, data_iter_consecutive, data_iter_random
from .evaluate import evaluate
from .ranks import ALONE, Ranks
from .settings import SettingsError, TrainSettings, learning_rate, why_finished
from .state import TrainingState, TrainRecord, as_numpy, parameters_of, set_parameters
from .step import ModelParameters, Step, arrays_in, map_arrays
from .trainer import Progress, Trainer


class Diverged(D2LError, ArithmeticError):
    """The loss is no number any more, or infinite."""


class Learner:
    """A model that is being trained, and everything that its training goes on from.

    All random generators start from the settings' seed. As a process has them only once, only one
    thread at a time may train.

    Args:
        settings: of the training; what they say of the model is not looked at.
        model: any Gluon model, initialized, that is called and has a ``begin_state`` as
            ``RNNModel`` is; ``new_model`` makes the one of some settings.
        train_indices: token indices to learn from.
        valid_indices: token indices held out; empty for none.
        ctx: device.
        ranks: those that train together; each has rows of every minibatch.

    Attributes:
        model: what was given.
        history: a record for each finished epoch.

    Raises:
        ValueError: if a part of the text is too short or holds an index that
            is not in the vocabulary, or the optimizer or one of its options
            is unknown.
        TypeError: if ``ctx`` is not one device.
        GeneratorsInUse: if a training is running in another thread.
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
        ranks: Ranks = ALONE,
    ) -> None:
        check_ctx(ctx)
        rows = ranks.part(settings.batch_size)
        if settings.batch_size < ranks.size:
            raise SettingsError(
                f"batch_size is {settings.batch_size}, and there are {ranks.size} ranks: each "
                "needs a row, so start fewer, or choose a larger batch_size"
            )
        size = getattr(model, "vocab_size", None)
        train_indices = token_indices("train_indices", train_indices, size)
        self._valid_indices = token_indices("valid_indices", valid_indices, size)
        adjacent = settings.sampling == "adjacent"
        check_length(len(train_indices), settings.batch_size, settings.num_steps, adjacent=adjacent)
        data_iter = data_iter_consecutive if adjacent else data_iter_random
        keep_freed_memory()
        set_seed(settings.seed)
        learn_shapes(model, ctx)
        self.settings, self.model, self.ctx = settings, model, ctx
        self._ranks, self._rows = ranks, rows
        if ranks.size > 1:
            ranks.take_first(list(parameters_of(model).values()))
            for block in blocks_in(model):
                if type(block) is StackedRNN:
                    block.share_rows(rows, settings.batch_size)
        self._optimizer = _optimizer(model, settings)
        parameters = ModelParameters(model, ctx, self._optimizer)
        self._trainer = Trainer(
            Step(
                parameters.forward,
                parameters,
                settings.clipping_theta,
                ranks=ranks,
                weight=len(rows) / settings.batch_size,
            ),
            lambda: data_iter(
                train_indices, settings.batch_size, settings.num_steps, ctx, rows=rows
            ),
            lambda: model.begin_state(batch_size=len(rows), ctx=ctx),
            carry_state=adjacent,
            before_step=self._before_step,
            on_loss=self._check_loss,
        )
        self.history: List[TrainRecord] = []
        self._seconds = 0.0
        self._draws = settings.optimizer == "sgld" or not draws_nothing(model)
        # Python's generator gives an epoch's minibatches. Its state at the beginning is what a
        # run that goes on in the middle draws them from again.
        self._random_state = random.getstate()

    @property
    def epoch(self) -> int:
        """The running epoch, from 1 on."""
        return len(self.history) + 1

    @property
    def position(self) -> int:
        """Minibatches of the running epoch that are done."""
        return self._trainer.position

    @property
    def best(self) -> Optional[TrainRecord]:
        """The record of the epoch with the smallest loss, the earliest of these."""
        return min(self.history, key=lambda record: record.loss) if self.history else None

    @property
    def finished(self) -> Optional[str]:
        """Why there is no further epoch, if there is none."""
        return why_finished(self.settings, [record.loss for record in self.history])

    @exclusive_generators()
    def train_epoch(
        self,
        on_minibatch: Callable[[Progress], Any] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
        before_scoring: Callable[[], Any] = lambda: None,
    ) -> TrainRecord:
        """Train to the end of the running epoch, and score the validation part.

        Args:
            on_minibatch: called after each minibatch.
            should_stop: asked after each minibatch.
            before_scoring: called after the last minibatch, if there is a validation part. What
                ``capture`` then returns resumes with the scoring.

        Raises:
            Stopped: if ``should_stop`` said so; ``capture`` then gives the
                place between two minibatches from which to go on.
            Diverged: if a loss is not finite.
        """
        started = time.perf_counter()
        random.setstate(self._random_state)
        try:
            train_loss = self._trainer.train_minibatches(on_minibatch, should_stop)
            self._ranks.check_equal(parameters_of(self.model), f"after epoch {self.epoch}")
            self._check_parameters()
            valid_loss = None
            if len(self._valid_indices):
                self._seconds += time.perf_counter() - started
                before_scoring()
                started = time.perf_counter()
                scored = evaluate(self.model, self._valid_indices, self.ctx, ranks=self._ranks)
                valid_loss = scored.nats
        finally:
            self._seconds += time.perf_counter() - started
        self._trainer.end_epoch()
        rate = self._optimizer.learning_rate
        record = TrainRecord(self.epoch, train_loss, valid_loss, rate, self._seconds)
        self.history.append(record)
        self._random_state = random.getstate()
        return record

    def capture(self) -> TrainingState:
        """Everything that the training goes on from, on rank 0 the state of all rows.

        Raises:
            Diverged: If a parameter is not finite, so that training cannot resume.
            TypeError: If the hidden state within an epoch has something other than arrays in it.
        """
        self._check_parameters()
        return TrainingState(
            parameters=as_numpy(parameters_of(self.model)),
            optimizer_arrays=as_numpy(optimizers.state_arrays(self._optimizer)),
            optimizer_numbers=optimizers.state_numbers(self._optimizer),
            hidden_state=self._gathered(self._trainer.state),
            history=list(self.history),
            position=self._trainer.position,
            losses=list(self._trainer.losses),
            seconds=self._seconds,
            random=random_state(self._random_state),
        )

    @exclusive_generators()
    def restore(self, state: TrainingState) -> None:
        """Go on from what ``capture`` gave.

        Raises:
            ValueError: if a part is missing, unexpected, or has another shape;
                it is named. The learner is then of no use.
        """
        set_parameters(self.model, state.parameters, self.ctx)
        optimizers.restore_state(self._optimizer, state.optimizer_arrays, state.optimizer_numbers)
        self.history = list(state.history)
        self._seconds = state.seconds
        trainer = self._trainer
        trainer.epoch, trainer.position = self.epoch, state.position
        trainer.losses, trainer.state = list(state.losses), None
        if state.position and self.settings.sampling == "adjacent":
            begun = self.model.begin_state(batch_size=self.settings.batch_size, ctx=self.ctx)
            hidden = expected_arrays(
                "state/",
                {str(i): s for i, s in enumerate(state.hidden_state)},
                {str(i): s.shape for i, s in enumerate(arrays_in(begun))},
            )
            own = iter(self._own_rows(list(hidden.values())))

            def loaded(_: nd.NDArray) -> nd.NDArray:
                array = next(own)
                return nd.array(array, ctx=self.ctx, dtype=array.dtype)

            trainer.state = map_arrays(loaded, begun)
        set_random_state(state.random)
        self._random_state = random.getstate()

    def _gathered(self, state: Any) -> List[np.ndarray]:
        """The arrays of the hidden state of all rows on rank 0; elsewhere of this rank's rows."""
        arrays = [array.asnumpy() for array in arrays_in(state)]
        if self._ranks.size == 1 or not arrays:
            return arrays
        return [self._ranks.gather(*each) for each in zip(arrays, self._row_axes())]

    def _own_rows(self, state: List[np.ndarray]) -> List[np.ndarray]:
        """The part of the hidden state of all rows that belongs to this rank's rows."""
        if self._ranks.size == 1:
            return state
        return [array.take(self._rows, axis) for array, axis in zip(state, self._row_axes())]

    def _row_axes(self) -> List[int]:
        """For each array of the hidden state, the axis of the minibatch's rows."""
        # That of a fused layer has it second, that of a cell first.
        one, two = (self.model.begin_state(batch_size=n, ctx=self.ctx) for n in (1, 2))
        return [
            next((i for i, (m, n) in enumerate(zip(a.shape, b.shape)) if m != n), 0)
            for a, b in zip(arrays_in(one), arrays_in(two))
        ]

    def _before_step(self, epochs_done: float) -> None:
        settings = self.settings
        losses = (record.loss for record in self.history)
        self._optimizer.set_learning_rate(learning_rate(settings, epochs_done, losses))
        if self._draws:
            # The state of MXNet's generator cannot be read. It is made known by
            # starting it from a number of its own in each minibatch, which takes a millisecond.
            place = [settings.seed, self.epoch, self._trainer.position]
            seed = int(np.random.SeedSequence(place).generate_state(1)[0] >> 1)
            mx.random.seed(seed)  # which takes 31 bits

    def _check_loss(self, loss: float) -> None:
        if not math.isfinite(loss):
            self._diverged(f"the loss of minibatch {len(self._trainer.losses)} is {loss}")

    def _check_parameters(self) -> None:
        # A value that is not finite makes the sum of squares infinite too, and so does one near the
        # end of the range. Unlike nd.sum, nd.dot adds with all threads.
        sums, still = {}, {}
        for name, param in named_parameters(self.model).items():
            array = param.data()
            if param.grad_req == "null":  # a constant, which may be large, or of integers
                still[name] = array
            else:
                vector = array.astype(np.promote_types(array.dtype, "float32"), copy=False)
                vector = vector.reshape((-1,))
                sums[name] = nd.dot(vector, vector)
        for name, array in {**sums, **still}.items():
            if not np.isfinite(array.asnumpy()).all():
                self._diverged(f"the parameter {name} is not finite")

    def _diverged(self, what: str) -> None:
        settings = self.settings
        raise Diverged(
            f"training diverged in epoch {self.epoch}: {what}. Lower the learning rate "
            f"(lr, now {settings.lr:g}) or clipping_theta (now {settings.clipping_theta:g}), "
            "or warm up for longer (warmup_epochs)"
        )


@exclusive_generators()
def new_model(
    settings: TrainSettings, vocab_size: int, ctx: mx.Context, *, stacked: bool = False
) -> RNNModel:
    """The model of some settings, as it starts; see ``build_model``."""
    set_seed(settings.seed)
    model = build_model(settings, vocab_size, stacked=stacked)
    initialize(model, settings.init, ctx, forget_bias=settings.forget_bias)
    return model


def build_model(settings: TrainSettings, vocab_size: int, *, stacked: bool = False) -> RNNModel:
    """The model of some settings, without parameters.

    It is the chapter's, around a fused layer of Gluon, whose dropout however does nothing on a
    CPU: with dropout, the layer is a ``StackedRNN``.

    Args:
        stacked: always take a ``StackedRNN``, as versions before 0.3 did.

    Raises:
        SettingsError: if its parameters alone take more memory than the machine has.
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
    # RNNModel leaves it open, as the chapter does; known, parameters have shapes at once.
    model.dense.weight.shape = (vocab_size, settings.num_hiddens)
    num_params = sum(math.prod(param.shape) for param in model.collect_params().values())
    num_bytes, memory = 4 * num_params, physical_memory()
    if num_bytes > memory:
        raise SettingsError(
            f"num_hiddens {settings.num_hiddens} and num_layers {settings.num_layers} make a model "
            f"of {num_params:,} parameters, which take {num_bytes / 2**30:,.1f} GiB; this machine "
            f"has {memory / 2**30:,.1f} GiB: choose smaller ones"
        )
    return model


@exclusive_generators()
def untrained_state(
    settings: TrainSettings, model: gluon.Block, history: List[TrainRecord]
) -> TrainingState:
    """What a training goes on from with the parameters of a model, and an optimizer that is new.

    Args:
        settings: of the training; its seed starts the random generators.
        model: with the parameters.
        history: of the epochs in which they were trained.
    """
    set_seed(settings.seed)
    optimizer = _optimizer(model, settings)
    return TrainingState(
        parameters=as_numpy(parameters_of(model)),
        optimizer_arrays=as_numpy(optimizers.state_arrays(optimizer)),
        optimizer_numbers=optimizers.state_numbers(optimizer),
        hidden_state=[],
        history=list(history),
        position=0,
        losses=[],
        seconds=history[-1].seconds if history else 0.0,
        random=random_state(),
    )


def _optimizer(model: gluon.Block, settings: TrainSettings) -> gluon.Trainer:
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
