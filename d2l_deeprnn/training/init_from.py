"""Start a run with the weights of another one, for another text or other settings."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Dict

import numpy as np

from .._mxnet import gluon, mx, nd
from .._mxnet.blocks import describe
from ..nn.model import RNNModel
from ..nn.stacked import StackedRNN
from ..text.vocab import Vocab
from .settings import SettingsError, TrainSettings

if TYPE_CHECKING:
    from .runs import LoadedRun

# Settings of the model in which the two runs must be equal.
SHAPE = ("cell", "num_layers", "num_hiddens")
# The axis of the characters, in the arrays that have one.
AXES = {"l0_i2h_weight": 1, "output_weight": 0, "output_bias": 0}
SHOWN = 10  # characters that a message lists


def initialize_from(
    there: LoadedRun, model: RNNModel, settings: TrainSettings, vocab: Vocab, ctx: mx.Context
) -> None:
    """Give a new model the weights of a trained one.

    The weights of a character follow the character, whose index may be another one here. A
    character that is new here keeps its initial weights, and a warning lists it.

    Args:
        there: the run with the weights.
        model: what ``new_model`` makes of the settings.
        settings: of the new run.
        vocab: of its text.
        ctx: device of the model.

    Raises:
        SettingsError: If the two models have another shape, or their vocabularies no character in
            common.
    """
    for name in SHAPE:
        own, other = getattr(settings, name), getattr(there.settings, name)
        if own != other:
            raise SettingsError(
                f"init_from: {name} is {other} in that run and {own} here; choose the same"
            )
    known = [token for token in vocab.idx_to_token[1:] if token in there.vocab.token_to_idx]
    if not known:
        raise SettingsError(
            "init_from: the text of that run has no character in common with this one"
        )
    new = [token for token in vocab.idx_to_token if token not in there.vocab.token_to_idx]
    if new:
        shown = " ".join(map(repr, new[:SHOWN])) + (" ..." if len(new) > SHOWN else "")
        warnings.warn(
            f"{len(new)} of {len(vocab)} characters are not in the vocabulary of the run whose weights "
            f"this one starts with; their weights start at random: {shown}",
            stacklevel=2,
        )
    here, source = [vocab.unk, *vocab[known]], [there.vocab.unk, *there.vocab[known]]
    theirs = _by_level(there.model)
    for name, param in _by_level(model).items():
        value = theirs[name].data().asnumpy()
        if name in AXES:
            other, value = value, param.data().asnumpy()
            np.moveaxis(value, AXES[name], 0)[here] = np.moveaxis(other, AXES[name], 0)[source]
        param.set_data(nd.array(value, ctx=ctx))


def _by_level(model: RNNModel) -> Dict[str, gluon.Parameter]:
    """Return the parameters of a model by names that do not depend on its kind of layer."""
    layers = model.rnn.levels if type(model.rnn) is StackedRNN else [model.rnn]
    named, level = {}, 0
    for layer in layers:
        for i in range(describe(layer).num_layers):
            for kind in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias"):
                named[f"l{level}_{kind}"] = getattr(layer, f"l{i}_{kind}")
            level += 1
    return {**named, "output_weight": model.dense.weight, "output_bias": model.dense.bias}
