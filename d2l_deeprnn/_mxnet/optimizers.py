"""Gluon's optimizers that training can be done with, and the options that each of them takes.

An option is offered only if it acts, and if a run that is stopped and resumed ends with the same
parameters, to the bit, as one that never was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, NamedTuple

import numpy as np

from .._checks import expected_arrays, float32

if TYPE_CHECKING:
    from . import gluon, nd


class Range(NamedTuple):
    """What an option can be: in words, and as a condition."""

    words: str
    holds: Callable[[Any], bool]


_ABOVE_0 = Range("above 0", lambda value: value > 0)
_FROM_0 = Range("at least 0", lambda value: value >= 0)
_BELOW_1 = Range("at least 0 and below 1", lambda value: 0 <= value < 1)
_FLAG = Range("0 or 1", lambda value: value in (0, 1))

_BETAS = {"beta1": _BELOW_1, "beta2": _BELOW_1, "epsilon": _ABOVE_0}
_MOMENTUM = {"momentum": _BELOW_1}
# rescale_grad multiplies the gradient after the clipping of its norm; clip_gradient then limits
# each number of it.
_COMMON = {"wd": _FROM_0, "clip_gradient": _ABOVE_0, "rescale_grad": _ABOVE_0}

# Not among them: `test`, MXNet's own tool for tests; `groupadagrad`, which takes matrices only;
# `lars`, which keeps numbers where a checkpoint would miss them; `adamax`, which divides by 0
# where a gradient is 0, as it is for a character that a minibatch lacks.
_OWN: Dict[str, Dict[str, Range]] = {
    "adadelta": {"rho": _BELOW_1, "epsilon": _ABOVE_0},
    "adagrad": {"eps": _ABOVE_0},
    "adam": _BETAS,
    "ccsgd": _MOMENTUM,
    "dcasgd": {"lamda": _FROM_0},
    "ftml": _BETAS,
    "ftrl": {"lamda1": _FROM_0, "beta": _ABOVE_0},
    "lamb": {
        **_BETAS,
        "lower_bound": _ABOVE_0,
        "upper_bound": _ABOVE_0,
        "bias_correction": _FLAG,
    },
    "lbsgd": _MOMENTUM,
    "nadam": {**_BETAS, "schedule_decay": _FROM_0},
    "nag": _MOMENTUM,
    "rmsprop": {
        "gamma1": _BELOW_1,
        "gamma2": _BELOW_1,
        "epsilon": _ABOVE_0,
        "centered": _FLAG,
        "clip_weights": _ABOVE_0,
    },
    "sgd": _MOMENTUM,
    "sgld": {},
    "signum": {"momentum": _BELOW_1, "wd_lh": _FROM_0},
}
OPTIMIZERS = {name: {**_COMMON, **own} for name, own in _OWN.items()}

# Options that Gluon has and training does not take, with the reason.
_RATE = "the learning rate is the setting lr (--lr), and how it falls is schedule"
_REFUSED = {
    "learning_rate": _RATE,
    "lr": _RATE,
    "lr_scheduler": _RATE,
    "begin_num_update": "a run counts its updates itself, from 0",
    "multi_precision": "it acts on 16-bit floats only, and parameters have 32 bits",
    "lazy_update": "it acts on sparse gradients only, and there are none",
    "param_idx2name": "it is not a number, and which parameter is which is known",
    "param_dict": "it is not a number, and which parameter is which is known",
    "sym": "it is not a number, and a Gluon model has none",
}
_LBSGD = "it acts together with batch_scale only"
_REFUSED_OF = {
    # It sums gradients up outside of its state, and of the first one it sees only what the next
    # minibatch wrote over it.
    ("lbsgd", "batch_scale"): "MXNet 1.9.1 loses the first gradient with it, and a resumed run "
    "would differ from one that was never stopped; choose a larger batch_size",
    ("lbsgd", "warmup_strategy"): _LBSGD,
    ("lbsgd", "warmup_epochs"): _LBSGD,
    ("lbsgd", "updates_per_epoch"): _LBSGD,
    ("lbsgd", "begin_epoch"): _LBSGD,
    ("lbsgd", "num_epochs"): _LBSGD,
    ("dcasgd", "momentum"): "MXNet 1.9.1 fails with it",
}


def check_name(optimizer: Any) -> None:
    """Raise a ValueError unless this is an optimizer that can be used; capitals do not matter."""
    if not isinstance(optimizer, str) or optimizer.lower() not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {optimizer!r}")


def check_options(optimizer: str, options: Mapping[str, float]) -> None:
    """Raise a ValueError that names the first option that the optimizer cannot take.

    Args:
        optimizer: one of ``OPTIMIZERS``.
        options: numbers by name.
    """
    known = OPTIMIZERS[optimizer]
    for name, value in options.items():
        if name not in known:
            reason = _REFUSED_OF.get((optimizer, name)) or _REFUSED.get(name)
            if reason:
                raise ValueError(
                    f"optimizer {optimizer} cannot be used with the option {name}: {reason}"
                )
            raise ValueError(
                f"optimizer {optimizer} has no option {name!r}: it has {', '.join(sorted(known))}"
            )
        if isinstance(value, bool) and known[name] is not _FLAG:
            raise ValueError(f"optimizer option {name} must be a number, not {value}")
        if not known[name].holds(value):
            raise ValueError(
                f"optimizer option {name} must be {known[name].words} for {optimizer}, "
                f"not {value!r}"
            )
        float32(f"optimizer option {name}", value)
    if "gamma2" in options and not options.get("centered"):
        raise ValueError("optimizer option gamma2 acts only together with centered=1")
    if options.get("wd_lh") and options.get("momentum") == 0:
        raise ValueError("optimizer option wd_lh acts only with a momentum above 0")
    if options.get("lower_bound", 0) > options.get("upper_bound", float("inf")):
        raise ValueError("optimizer option lower_bound must not be larger than upper_bound")


def arguments(optimizer: str, options: Mapping[str, float]) -> Dict[str, Any]:
    """The options as Gluon takes them: some kernels take no number for a flag."""
    known = OPTIMIZERS[optimizer]
    return {name: bool(value) if known[name] is _FLAG else value for name, value in options.items()}


# Gluon saves the state of an optimizer by pickling it, and would run whatever a stranger's file
# holds. So its parts are taken out and put back here.


def state_arrays(trainer: gluon.Trainer) -> Dict[str, nd.NDArray]:
    """What an optimizer keeps for each parameter, by names such as ``3/1``."""
    arrays: Dict[str, nd.NDArray] = {}

    def collect(name: str, state: Any) -> None:
        if isinstance(state, (list, tuple)):
            for i, part in enumerate(state):
                collect(f"{name}/{i}", part)
        elif state is not None:
            arrays[name] = state

    (updater,) = trainer._updaters
    for i, param in enumerate(trainer._params):
        if i not in updater.states:  # made when the parameter is first updated
            updater.states[i] = trainer._optimizer.create_state_multi_precision(i, param.data())
            updater.states_synced[i] = True
    for i, state in sorted(updater.states.items()):
        collect(str(i), state)
    return arrays


def state_numbers(trainer: gluon.Trainer) -> Dict[str, Any]:
    """An optimizer's own counters and numbers, for instance how many updates there were."""
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
    """Give an optimizer the state that ``state_arrays`` and ``state_numbers`` told.

    Raises:
        ValueError: if it is that of another optimizer, or of other parameters.
    """
    own = state_arrays(trainer)
    found = expected_arrays("optimizer/", arrays, {name: a.shape for name, a in own.items()})
    for name, array in own.items():
        array[:] = found[name]
    optimizer = trainer._optimizer
    if set(numbers["numbers"]) != set(state_numbers(trainer)["numbers"]):
        raise ValueError("the optimizer's numbers are those of another optimizer")
    for name, value in numbers["numbers"].items():
        setattr(optimizer, name, value)
    for i, count in numbers["update_counts"].items():
        optimizer._index_update_count[int(i)] = count


def parameters(trainer: gluon.Trainer) -> List[gluon.Parameter]:
    """The parameters that an optimizer updates."""
    return trainer._params


def is_plain_sgd(trainer: gluon.Trainer) -> bool:
    """Return whether a step only subtracts the gradients times the learning rate."""
    from . import mx

    optimizer = trainer._optimizer
    return (
        type(optimizer) is mx.optimizer.SGD
        and optimizer.momentum == optimizer.wd == 0
        and optimizer.clip_gradient is None
        and trainer._scale == 1
        and all(param.lr_mult == 1 for param in trainer._params)
    )
