"""Stacked recurrent layers whose dropout also works on the CPU."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from .._checks import whole_number
from .._mxnet import autograd, gluon, nd

LAYERS = {
    "lstm": gluon.rnn.LSTM,
    "gru": gluon.rnn.GRU,
    "rnn": lambda *args, **kwargs: gluon.rnn.RNN(*args, activation="tanh", **kwargs),
}


class StackedRNN(gluon.HybridBlock):
    """Fused layers on top of each other, each with one level and dropout on its output.

    It takes and returns the same as Gluon's fused layer of several levels, including the state.
    The dropout of Gluon's layer does nothing on a CPU, and acts between the levels only. Here it
    also acts on the uppermost output. A dropped unit is dropped at every time step of a minibatch.
    This regularizes a recurrent network better than a new mask at every step (Gal and Ghahramani,
    2016), and needs fewer random numbers.

    Args:
        cell: "lstm", "gru" or "rnn" (with tanh).
        hidden_size: units of each level.
        num_layers: number of levels.
        dropout: fraction of each level's outputs set to 0 while training.
        input_size: length of the input vectors.

    Raises:
        ValueError: if a size is not positive, the cell is unknown, or the dropout is not from 0 to
            below 1.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import nd
        >>> layer = d2l.StackedRNN("lstm", hidden_size=8, num_layers=2, dropout=0.5, input_size=5)
        >>> layer.initialize()
        >>> outputs, state = layer(nd.zeros((3, 1, 5)), layer.begin_state(batch_size=1))
        >>> outputs.shape  # 3 time steps, 1 row
        (3, 1, 8)
    """

    def __init__(
        self,
        cell: str,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        input_size: int,
        **kwargs: Any,
    ) -> None:
        if cell not in LAYERS:
            raise ValueError(f"cell must be one of {', '.join(LAYERS)}, not {cell!r}")
        whole_number("hidden_size", hidden_size)
        whole_number("num_layers", num_layers)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {dropout!r}")
        super().__init__(**kwargs)
        self._hidden_size = hidden_size
        self._num_layers = num_layers
        self._rows: Optional[Tuple[range, int]] = None
        with self.name_scope():
            self.levels = gluon.nn.HybridSequential(prefix="")
            with self.levels.name_scope():
                for level in range(num_layers):
                    size = hidden_size if level else input_size
                    self.levels.add(LAYERS[cell](hidden_size, input_size=size, prefix=f"l{level}_"))
            # axes=(0,): one mask for all time steps
            self.dropout = gluon.nn.Dropout(dropout, axes=(0,))

    def hybrid_forward(self, F: Any, inputs: Any, states: List[Any]) -> Tuple[Any, List[Any]]:
        """Compute the outputs and the new states.

        Args:
            inputs: (num_steps, batch_size, input_size).
            states: one array (num_layers, batch_size, hidden_size); two with LSTM.
        """
        outputs, new_states = inputs, []
        for i, level in enumerate(self.levels):
            state = [F.slice_axis(s, axis=0, begin=i, end=i + 1) for s in states]
            outputs, state = level(outputs, state)
            outputs = self._drop(F, outputs)
            new_states.append(state)
        # for each kind of state: num_layers arrays (1, batch_size, hidden_size) -> one
        return outputs, [F.concat(*kind, dim=0) for kind in zip(*new_states)]

    def share_rows(self, rows: range, batch_size: int) -> None:
        """Use the dropout mask that these rows would get in the full minibatch.

        Args:
            rows: the rows that this process trains on.
            batch_size: rows of the full minibatch.
        """
        self._rows = rows, batch_size

    def _drop(self, F: Any, outputs: Any) -> Any:
        if self._rows is None or (F is nd and not autograd.is_training()):
            return self.dropout(outputs)
        rows, batch_size = self._rows
        # Dropout applied to ones gives its mask: (1, batch_size, hidden_size).
        one = F.slice(outputs, begin=(0, 0, None), end=(1, 1, None))
        mask = self.dropout(F.broadcast_axis(F.ones_like(one), axis=1, size=batch_size))
        mask = F.slice_axis(mask, axis=1, begin=rows.start, end=rows.stop)
        return F.broadcast_mul(outputs, mask)

    def state_info(self, batch_size: int = 0) -> List[Dict[str, Any]]:
        """Return shape and layout of the states, as Gluon's layers do."""
        shape = (self._num_layers, batch_size, self._hidden_size)
        kinds = len(self.levels[0].state_info())
        return [{"shape": shape, "__layout__": "LNC"} for _ in range(kinds)]

    def begin_state(
        self, batch_size: int = 0, func: Any = nd.zeros, **kwargs: Any
    ) -> List[nd.NDArray]:
        """Return states of zeros; ``func`` gets ``kwargs``, such as ctx and dtype."""
        return [func(shape=info["shape"], **kwargs) for info in self.state_info(batch_size)]
