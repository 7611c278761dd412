"""Shared by the tests of export: models with random weights, and their results."""

from __future__ import annotations

import numpy as np
from recurrent import MODES, fused_layer, random_array

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import nd
from d2l_deeprnn.nn.stacked import StackedRNN

VOCAB = d2l.Vocab("the quick brown fox, and a \U0001f98a")
HIDDENS = 6
LAYERS = [1, 2, 3]
ALL = [(mode, num_layers) for mode in MODES for num_layers in LAYERS]


def given_values(model):
    """Return the model with random values in all its parameters."""
    model.initialize(force_reinit=True)
    model(nd.array([[1]]), model.begin_state(batch_size=1))  # infers their shapes
    for param in model.collect_params().values():
        param.set_data(random_array(*param.shape))
    return model


def model_of(layer):
    return given_values(d2l.RNNModel(layer, len(VOCAB)))


def fused(mode, num_layers, **options):
    return model_of(fused_layer(mode, num_layers, len(VOCAB), HIDDENS, **options))


def stacked(cell, num_layers):
    return model_of(StackedRNN(cell, HIDDENS, num_layers, 0.5, len(VOCAB)))


def some_tokens(num_rows, num_steps):
    return np.random.randint(len(VOCAB), size=(num_rows, num_steps))


def scores_of(model, tokens, state=None):
    """Return scores (num_rows, num_steps, vocab_size) and the new state, as NumPy arrays."""
    state = model.begin_state(batch_size=len(tokens)) if state is None else state
    scores, new = model(nd.array(tokens), state)
    by_step = scores.asnumpy().reshape(tokens.shape[1], len(tokens), -1)
    return by_step.swapaxes(0, 1), [array.asnumpy() for array in new]
