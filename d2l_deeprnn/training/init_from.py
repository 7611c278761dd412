"""Initialize a model with the weights of another run."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Dict

import numpy as np

from .._mxnet import gluon, mx, nd
from .._mxnet.library import describe
from ..nn.model import RNNModel
from ..nn.stacked import StackedRNN
from ..text.vocab import Vocab
from .settings import SettingsError, TrainSettings

if TYPE_CHECKING:
    from .runs import LoadedRun

SHAPE = ("cell", "num_layers", "num_hiddens")  # settings in which the two runs must agree
# Parameters with an axis of characters, and that axis.
AXES = {"l0_i2h_weight": 1, "output_weight": 0, "output_bias": 0}
SHOWN = 10  # characters that a message lists


def initialize_from(
    source: LoadedRun, model: RNNModel, settings: TrainSettings, vocab: Vocab, ctx: mx.Context
) -> None:
    """Copy the weights of a trained model to a new model.

    Characters are matched by character, not by index. A character that is not in the vocabulary of
    the trained model keeps its initial weights, and a warning lists it.

    Args:
        source: the run with the weights.
        model: the new model, from ``new_model``.
        settings: the new run's settings.
        vocab: the new run's vocabulary.
        ctx: the new model's device.

    Raises:
        SettingsError: if the two models have different shapes, or their vocabularies have no
            character in common.
    """
    unequal = [
        f"{name} is {getattr(settings, name)}, but {getattr(source.settings, name)} in that run"
        for name in SHAPE
        if getattr(settings, name) != getattr(source.settings, name)
    ]
    if unequal:
        raise SettingsError(f"init_from: {'; '.join(unequal)}: choose the same values")
    known = [token for token in vocab.idx_to_token[1:] if token in source.vocab.token_to_idx]
    if not known:
        raise SettingsError("init_from: that run's text has no character in common with this text")
    new = [token for token in vocab.idx_to_token if token not in source.vocab.token_to_idx]
    if new:
        shown = " ".join(map(repr, new[:SHOWN])) + (" ..." if len(new) > SHOWN else "")
        warnings.warn(
            f"{len(new)} of {len(vocab)} characters are not in the vocabulary of the initial "
            f"weights, so their weights start at random: {shown}",
            stacklevel=2,
        )
    to, origin = [vocab.unk, *vocab[known]], [source.vocab.unk, *source.vocab[known]]
    weights = _by_level(source.model)
    for name, param in _by_level(model).items():
        value = weights[name].data().asnumpy()
        if name in AXES:
            trained, value = value, param.data().asnumpy()
            np.moveaxis(value, AXES[name], 0)[to] = np.moveaxis(trained, AXES[name], 0)[origin]
        param.set_data(nd.array(value, ctx=ctx))


def _by_level(model: RNNModel) -> Dict[str, gluon.Parameter]:
    """Return the parameters of a model by names that do not depend on the type of its layer."""
    layers = model.rnn.levels if type(model.rnn) is StackedRNN else [model.rnn]
    named, level = {}, 0
    for layer in layers:
        for i in range(describe(layer).num_layers):
            for kind in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias"):
                named[f"l{level}_{kind}"] = getattr(layer, f"l{i}_{kind}")
            level += 1
    return {**named, "output_weight": model.dense.weight, "output_bias": model.dense.bias}
