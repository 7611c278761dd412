"""The chapter's model: recurrent layers of Gluon with an output layer on top."""

from __future__ import annotations

from typing import Any, Callable, Iterator, List, Tuple

from ._checks import positive_int
from ._mxnet import gluon, nd
from .stacked import StackedRNN

State = List[nd.NDArray]


class RNNModel(gluon.Block):
    """A character-level language model around a recurrent layer.

    Args:
        rnn_layer: a fused layer (``rnn.LSTM``, ``rnn.GRU``, ``rnn.RNN``, with
            any number of layers), a ``StackedRNN``, or a cell or stack of
            cells (``rnn.SequentialRNNCell`` and what it may hold).
        vocab_size: number of inputs and of outputs, ``len(vocab)``.

    Raises:
        ValueError: if ``vocab_size`` is not positive; if the layer is
            bidirectional, since a language model may not see the characters
            that it is to predict; if the layer's layout is not ``'TNC'``.
        TypeError: if ``rnn_layer`` is not a recurrent layer or cell.

    Source: ``d2l.RNNModel`` of the chapter.
    """

    def __init__(self, rnn_layer: gluon.Block, vocab_size: int, **kwargs: Any) -> None:
        _check_layer(rnn_layer)
        positive_int("vocab_size", vocab_size)
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
            Scores (before the softmax), (num_steps * batch_size, vocab_size),
            time step by time step; and the state after the last step.
        """
        X = nd.one_hot(inputs.T, self.vocab_size)  # (num_steps, batch_size, vocab_size)
        if isinstance(self.rnn, gluon.rnn.RecurrentCell):
            num_steps = inputs.shape[1]
            Y, state = self.rnn.unroll(num_steps, X, state, layout="TNC", merge_outputs=True)
        else:
            Y, state = self.rnn(X, state)
        # (num_steps, batch_size, num_hiddens) -> (num_steps * batch_size, num_hiddens)
        output = self.dense(Y.reshape((-1, Y.shape[-1])))
        return output, state

    def begin_state(
        self, batch_size: int = 0, func: Callable[..., nd.NDArray] = nd.zeros, **kwargs: Any
    ) -> State:
        """The recurrent layer's state of zeros; takes ``batch_size`` and ``ctx``."""
        # func is passed on because Gluon's modifier cells, left to themselves,
        # make symbols and not arrays.
        return self.rnn.begin_state(batch_size=batch_size, func=func, **kwargs)

    def hybridize(self, active: bool = True, **kwargs: Any) -> None:
        """Compile the fused layer and the output layer; cells stay as they are.

        Some cells hand things from step to step in attributes of their own,
        zoneout its last output. A compiled cell is one step, recorded once:
        it would see the first step's attributes in all steps.
        """
        super().hybridize(active, **kwargs)
        if isinstance(self.rnn, gluon.rnn.RecurrentCell):
            self.rnn.hybridize(False)


def _check_layer(layer: gluon.Block) -> None:
    # Differs: the original took any layer, and no cells.
    kinds = (gluon.rnn.RecurrentCell, gluon.rnn.rnn_layer._RNNLayer, StackedRNN)
    if not isinstance(layer, kinds):
        raise TypeError(
            f"rnn_layer must be a recurrent layer or cell of gluon.rnn, not {type(layer).__name__}"
        )
    for part in _with_parts(layer):
        if isinstance(part, gluon.rnn.BidirectionalCell) or getattr(part, "_dir", 1) == 2:
            raise ValueError(
                "rnn_layer is bidirectional: it would read the characters that a language "
                "model is to predict; use bidirectional=False"
            )
    if getattr(layer, "_layout", "TNC") != "TNC":
        raise ValueError(f"rnn_layer must have the layout 'TNC', not {layer._layout!r}")


def _with_parts(block: gluon.Block) -> Iterator[gluon.Block]:
    yield block
    for child in block._children.values():
        yield from _with_parts(child)
