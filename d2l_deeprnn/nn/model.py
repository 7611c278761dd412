"""The chapter's model: recurrent layers of Gluon with an output layer on top."""

from __future__ import annotations

import numbers
import reprlib
import warnings
from typing import Any, List, Mapping, Optional, Sized, Tuple

from .._checks import whole_number
from .._mxnet import gluon, nd
from .._mxnet.library import blocks_in, describe

State = List[nd.NDArray]


class RNNModel(gluon.Block):
    """A character-level language model around a recurrent layer.

    Args:
        rnn_layer: a fused layer (``rnn.LSTM``, ``rnn.GRU``, ``rnn.RNN``, with any number of
            layers), a ``StackedRNN``, a cell or a stack of cells (``rnn.SequentialRNNCell``), or
            your own layer with the same call and the same ``begin_state``. A bidirectional layer
            reads the characters that it should predict; a warning points this out.
        vocab_size: number of inputs and of outputs, ``len(vocab)``.

    Raises:
        ValueError: if ``vocab_size`` is not positive, or the layer's layout is not ``'TNC'``.
        TypeError: if ``rnn_layer`` is not a recurrent layer or cell.

    Source: ``d2l.RNNModel`` of the chapter.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import nd
        >>> from mxnet.gluon import rnn
        >>> model = d2l.RNNModel(rnn.LSTM(hidden_size=8, num_layers=2), vocab_size=5)
        >>> model.initialize()
        >>> scores, state = model(nd.array([[0, 1, 2]]), model.begin_state(batch_size=1))
        >>> scores.shape, [s.shape for s in state]
        ((3, 5), [(2, 1, 8), (2, 1, 8)])
    """

    def __init__(self, rnn_layer: gluon.Block, vocab_size: int, **kwargs: Any) -> None:
        _check_layer(rnn_layer)
        whole_number("vocab_size", vocab_size)
        super().__init__(**kwargs)
        self.rnn = rnn_layer
        self.vocab_size = vocab_size
        self.dense = gluon.nn.Dense(vocab_size)

    def forward(self, inputs: nd.NDArray, state: State) -> Tuple[nd.NDArray, State]:
        """Predict the character after each of the inputs.

        Args:
            inputs: token indices, (batch_size, num_steps).
            state: the recurrent layer's state before the first step.

        Returns:
            Scores (before the softmax), (num_steps * batch_size, vocab_size), time step by time
            step; and the state after the last step.
        """
        return self.hybrid_forward(nd, inputs, state)

    def hybrid_forward(self, F: Any, inputs: Any, state: Any) -> Tuple[Any, Any]:
        """Compute ``forward`` on arrays (``F`` is ``nd``) or on symbols (``sym``)."""
        X = F.one_hot(F.transpose(inputs), self.vocab_size)  # (num_steps, batch_size, vocab_size)
        if isinstance(self.rnn, gluon.rnn.RecurrentCell):
            num_steps = inputs.shape[1]
            Y, state = self.rnn.unroll(num_steps, X, state, layout="TNC", merge_outputs=True)
        else:
            Y, state = self.rnn(X, state)
        # (num_steps, batch_size, num_hiddens) -> (num_steps * batch_size, num_hiddens)
        return self.dense(F.reshape(Y, shape=(-1, 0), reverse=True)), state

    def begin_state(self, *args: Any, **kwargs: Any) -> State:
        """Return the recurrent layer's state of zeros; takes ``batch_size`` and ``ctx``."""
        if isinstance(self.rnn, gluon.rnn.RecurrentCell):
            # Some cells take keywords only. Without func, modifier cells return symbols.
            named = dict(zip(("batch_size", "func"), args))
            return self.rnn.begin_state(**{"func": nd.zeros, **named, **kwargs})
        return self.rnn.begin_state(*args, **kwargs)

    def hybridize(self, active: bool = True, **kwargs: Any) -> None:
        """Compile the fused layer and the output layer, but not cells.

        Some cells keep values from step to step in attributes; zoneout keeps its last output. A
        compiled cell would see the first step's attributes in all steps.
        """
        super().hybridize(active, **kwargs)
        if isinstance(self.rnn, gluon.rnn.RecurrentCell):
            self.rnn.hybridize(False)


def declared_vocab_size(model: Any) -> Optional[int]:
    """Return the vocabulary size that a model declares in ``vocab_size``, or None."""
    size = getattr(model, "vocab_size", None)
    return int(size) if isinstance(size, numbers.Integral) else None


def check_vocab(model: Any, vocab: Sized) -> None:
    """Raise a ValueError if the model declares a different vocabulary size.

    Raise a TypeError if ``vocab`` is not a vocabulary.
    """
    # Differs: the original did not compare the two.
    if isinstance(vocab, (str, Mapping)) or not hasattr(vocab, "__len__"):
        raise TypeError(f"vocab must be a Vocab, not {reprlib.repr(vocab)}")
    size = declared_vocab_size(model)
    if size is None:
        return
    # A model of another kind may have more outputs than there are tokens.
    if size < len(vocab) or (size > len(vocab) and isinstance(model, RNNModel)):
        raise ValueError(
            f"the model was made for {size} characters, but the vocabulary has {len(vocab)}"
        )


def _check_layer(layer: Any) -> None:
    # Differs: the original took any layer, and no cells.
    if not (callable(layer) and callable(getattr(layer, "begin_state", None))):
        raise TypeError(
            "rnn_layer must be a recurrent layer or cell of gluon.rnn, or your own with a "
            f"begin_state, not {type(layer).__name__}"
        )
    layout = describe(layer).layout
    if layout != "TNC":
        raise ValueError(f"rnn_layer must have the layout 'TNC', not {layout!r}")
    for part in blocks_in(layer):
        # Differs: the original did not warn.
        if isinstance(part, gluon.rnn.BidirectionalCell) or describe(part).bidirectional:
            warnings.warn(
                "rnn_layer is bidirectional: it reads the characters that the model is to predict. "
                "Its perplexity will look too good, and its predictions will make no sense; "
                "for a language model use bidirectional=False",
                stacklevel=3,
            )
            break
