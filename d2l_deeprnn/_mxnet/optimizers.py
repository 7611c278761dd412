"""Gluon's optimizers: their options, and their state as arrays and numbers."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, Dict, Mapping

import numpy as np

from .._checks import expected_arrays
from ..errors import did_you_mean

if TYPE_CHECKING:
    from . import gluon, nd

# Left out: `test`, MXNet's own; `groupadagrad`, for matrices only; `lars`, whose state a checkpoint
# would miss; `adamax`, which divides by a gradient of 0, as of a character that a minibatch lacks.
OPTIMIZERS = (
    *("adadelta", "adagrad", "adam", "ccsgd", "dcasgd", "ftml", "ftrl", "lamb", "lbsgd", "nadam"),
    *("nag", "rmsprop", "sgd", "sgld", "signum"),
)
# Arguments of Gluon's classes that are not options here.
_NOT_OPTIONS = {
    *("self", "args", "kwargs"),
    *("lr_scheduler", "param_idx2name", "param_dict", "sym", "warmup_strategy"),  # not numbers
    "learning_rate",  # the setting lr
    "begin_num_update",  # a run counts its updates itself
    "batch_scale",  # sums gradients up where a checkpoint would miss them
}

_CHANGING = ("lr", "num_update", "m_schedule")  # attributes that change during training


def check_name(optimizer: Any) -> None:
    """Raise a ValueError unless this is the name of a supported optimizer, in any case."""
    if not isinstance(optimizer, str) or optimizer.lower() not in OPTIMIZERS:
        hint = did_you_mean(str(optimizer).lower(), OPTIMIZERS)
        raise ValueError(
            f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {optimizer!r}{hint}"
        )


def options_of(optimizer: str) -> Dict[str, Any]:
    """Return the options of an optimizer and their defaults, from Gluon's signatures."""
    from . import mx

    return {
        name: parameter.default
        for cls in reversed(mx.optimizer.Optimizer.opt_registry[optimizer].__mro__[:-1])
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if name not in _NOT_OPTIONS
    }


def check_options(optimizer: str, options: Mapping[str, float]) -> None:
    """Raise a ValueError if Gluon has no such option, or fails with its value.

    Args:
        optimizer: a name in ``OPTIMIZERS``.
        options: numbers by name.
    """
    if not options:  # MXNet need not be loaded
        return
    from . import mx, nd

    known = options_of(optimizer)
    for name in options:
        if name in ("learning_rate", "lr"):
            raise ValueError(f"optimizer option {name!r}: set the learning rate with lr")
        if name not in known:
            raise ValueError(
                f"optimizer {optimizer} has no option {name!r}: it has {', '.join(sorted(known))}"
            )
    # Gluon checks most values only when it uses them.
    try:
        trial = mx.optimizer.create(optimizer, learning_rate=1, **arguments(optimizer, options))
        weight, gradient = nd.ones((2, 2)), nd.ones((2, 2))
        state = trial.create_state_multi_precision(0, weight)
        trial.update_multi_precision(0, weight, gradient, state)
        weight.wait_to_read()
    except Exception as error:  # a ZeroDivisionError, an AssertionError, an MXNetError, ...
        reason = str(error).strip().splitlines() or [""]
        raise ValueError(
            f"optimizer {optimizer} fails with the options {dict(options)}: "
            f"{type(error).__name__}: {reason[-1]}"
        ) from None


def arguments(optimizer: str, options: Mapping[str, float]) -> Dict[str, Any]:
    """Return the options as Gluon expects them: flags as booleans."""
    known = options_of(optimizer) if options else {}
    return {
        name: bool(value) if isinstance(known[name], bool) else value
        for name, value in options.items()
    }


# Gluon pickles the state of an optimizer, and would run code in a stranger's file. So the state is
# read and written here, part by part.


def state_arrays(trainer: gluon.Trainer) -> Dict[str, nd.NDArray]:
    """Return an optimizer's arrays for all parameters, by names such as ``3/1``."""
    arrays: Dict[str, nd.NDArray] = {}

    def collect(name: str, state: Any) -> None:
        if isinstance(state, (list, tuple)):
            for i, part in enumerate(state):
                collect(f"{name}/{i}", part)
        elif state is not None:
            arrays[name] = state

    (updater,) = trainer._updaters
    for i, param in enumerate(trainer._params):
        if i not in updater.states:  # Gluon creates it at the first update
            updater.states[i] = trainer._optimizer.create_state_multi_precision(i, param.data())
            updater.states_synced[i] = True
    for i, state in sorted(updater.states.items()):
        collect(str(i), state)
    return arrays


def state_numbers(trainer: gluon.Trainer) -> Dict[str, Any]:
    """Return an optimizer's counters and other numbers, such as the number of updates."""
    optimizer = trainer._optimizer
    numbers = {
        name: value
        for name, value in vars(optimizer).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    counts = {str(i): count for i, count in optimizer._index_update_count.items()}
    return {"numbers": numbers, "update_counts": counts}


def restore_state(
    trainer: gluon.Trainer, arrays: Mapping[str, np.ndarray], numbers: Mapping[str, Any]
) -> None:
    """Restore a state that ``state_arrays`` and ``state_numbers`` returned.

    Raises:
        ValueError: if it belongs to another optimizer or to other parameters.
    """
    present = state_arrays(trainer)
    stored = expected_arrays("optimizer/", arrays, {name: a.shape for name, a in present.items()})
    for name, array in present.items():
        array[:] = stored[name]
    optimizer = trainer._optimizer
    expected = state_numbers(trainer)["numbers"]
    if _types(numbers["numbers"]) != _types(expected):
        raise ValueError("the optimizer state belongs to another optimizer")
    for name, value in numbers["numbers"].items():
        # All others are options, and the settings have them.
        if not math.isfinite(value) or (name not in _CHANGING and value != expected[name]):
            raise ValueError(
                f"the optimizer state has the {name} {value!r}, not {expected[name]!r}"
            )
        setattr(optimizer, name, value)
    for i, count in numbers["update_counts"].items():
        if type(count) is not int or not 0 <= count < 2**31:
            raise ValueError(f"the optimizer has an invalid number of updates, {count!r}")
        optimizer._index_update_count[int(i)] = count


def _types(numbers: Mapping[str, Any]) -> Dict[str, Any]:
    # A learning rate may be an instance of a subclass of float.
    return {name: [isinstance(value, t) for t in (int, float)] for name, value in numbers.items()}
