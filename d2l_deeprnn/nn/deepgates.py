"""A network that is deep in the chapter's other way: with more layers inside the gates.

The gates of an ordinary LSTM are perceptrons of a single layer. Here they are multilayer
perceptrons, in an otherwise unchanged LSTM. At gate depth D, each of the gates I, F and O, with
weights of its own, is::

    A^(1) = X_t W_x + H_{t-1} W_h + b
    A^(k) = tanh(A^(k-1)) W_k + b_k      for k = 2, ..., D
    gate  = sigmoid(A^(D))

Depth 1 is the ordinary LSTM. The candidate memory cell is not a gate: it remains
tanh(X_t W_xc + H_{t-1} W_hc + b_c), and C_t and H_t follow as usual.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, List, Optional, Tuple

from .._checks import whole_number
from .._mxnet import gluon, mx, nd
from .scratch import Arrays, Layer, Network, Shapes, deep_network

GATES = "ifo"


def deep_gate_lstm(
    num_inputs: int,
    num_hiddens: int,
    num_outputs: int,
    num_layers: int = 1,
    *,
    gate_depth: int = 2,
    gate_width: Optional[int] = None,
    ctx: Optional[mx.Context] = None,
    scale: float = 0.01,
) -> Network:
    """Make an LSTM with multilayer perceptrons as gates, from scratch.

    Args:
        num_layers: hidden layers; both ways to go deeper can be combined.
        gate_depth: layers of a gate, D.
        gate_width: units of a gate's layers except its last, which has ``num_hiddens``. None:
            also ``num_hiddens``.
        num_inputs, num_hiddens, num_outputs, ctx, scale: as in ``scratch.deep_network``.

    Returns:
        The three functions that ``train_and_predict_rnn`` takes. The parameters of a layer are, for
        each of I, F and O: W_x, W_h, b, W_2, b_2, ..., W_D, b_D; then W_xc, W_hc and b_c.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import nd
        >>> get_params, init_state, forward = d2l.deep_gate_lstm(5, 8, 5, gate_depth=2)
        >>> inputs = d2l.to_onehot(nd.array([[0, 1, 2]]), 5)
        >>> outputs, state = forward(inputs, init_state(1, 8), get_params())
        >>> len(outputs), outputs[0].shape
        (3, (1, 5))
    """
    whole_number("num_layers", num_layers)
    widths = _gate_widths(num_hiddens, gate_depth, gate_width)
    layer = Layer(
        partial(deep_gate_lstm_step, gate_depth=gate_depth),
        partial(_param_shapes, widths=widths),
        num_states=2,
    )
    layers = [layer] * num_layers
    return deep_network(layers, num_inputs, num_hiddens, num_outputs, ctx=ctx, scale=scale)


def deep_gate_lstm_step(
    X: nd.NDArray, state: Arrays, params: Arrays, gate_depth: int
) -> Tuple[nd.NDArray, nd.NDArray]:
    """Take one step in a layer; compare ``scratch.lstm_step``.

    Args:
        X: the layer's input, (batch_size, inputs of the layer).
        state: H and C, both (batch_size, num_hiddens).
        params: the layer's, in the order of ``deep_gate_lstm``.
        gate_depth: layers of a gate.

    Returns:
        The new state, H and C.
    """
    H, C = state
    n = 3 + 2 * (gate_depth - 1)  # parameters of a gate
    I = gate(X, H, params[:n])
    F = gate(X, H, params[n : 2 * n])
    O = gate(X, H, params[2 * n : 3 * n])
    W_xc, W_hc, b_c = params[3 * n :]
    C_tilda = nd.tanh(nd.dot(X, W_xc) + nd.dot(H, W_hc) + b_c)
    C = F * C + I * C_tilda
    H = O * nd.tanh(C)
    return H, C


def gate(X: nd.NDArray, H: nd.NDArray, params: Arrays) -> nd.NDArray:
    """Compute a gate that is a multilayer perceptron.

    Args:
        X: the layer's input, (batch_size, inputs of the layer).
        H: the layer's hidden state, (batch_size, num_hiddens).
        params: W_x, W_h, b, and a W and a b for each further layer of the gate.

    Returns:
        The gate, (batch_size, num_hiddens), between 0 and 1.
    """
    W_x, W_h, b, *deeper = params
    A = nd.dot(X, W_x) + nd.dot(H, W_h) + b
    for W, b in zip(deeper[::2], deeper[1::2]):
        A = nd.dot(nd.tanh(A), W) + b
    return nd.sigmoid(A)


def _param_shapes(num_inputs: int, num_hiddens: int, widths: List[int]) -> Shapes:
    shapes: Shapes = {}
    for g in GATES:
        shapes[f"W_x{g}"] = (num_inputs, widths[0])
        shapes[f"W_h{g}"] = (num_hiddens, widths[0])
        shapes[f"b_{g}"] = (widths[0],)
        for k in range(2, len(widths) + 1):
            shapes[f"W_{g}{k}"] = (widths[k - 2], widths[k - 1])
            shapes[f"b_{g}{k}"] = (widths[k - 1],)
    shapes["W_xc"] = (num_inputs, num_hiddens)
    shapes["W_hc"] = (num_hiddens, num_hiddens)
    shapes["b_c"] = (num_hiddens,)
    return shapes


def _gate_widths(num_hiddens: int, gate_depth: int, gate_width: Optional[int]) -> List[int]:
    """Return the units of each layer of a gate; the last is as wide as the state it acts on."""
    whole_number("gate_depth", gate_depth)
    if gate_width is not None:
        whole_number("gate_width", gate_width)
    return [gate_width or num_hiddens] * (gate_depth - 1) + [num_hiddens]


class DeepGateLSTMCell(gluon.rnn.HybridRecurrentCell):
    """An LSTM cell with multilayer perceptrons as gates, for ``RNNModel``.

    At depth 1 it is ``gluon.rnn.LSTMCell``, with the same parameters. At other depths, ``i2h`` and
    ``h2h`` contain the gates' first layers and the candidate, in the order i, f, c, o. Each further
    layer k of a gate has parameters of its own, such as ``f2_weight`` and ``f2_bias``.

    Args:
        hidden_size: hidden units.
        gate_depth: layers of a gate.
        gate_width: units of a gate's layers except its last; ``hidden_size`` if None.
        input_size: length of an input vector; inferred from the first one if 0.
        prefix, params: as in ``gluon.rnn.LSTMCell``.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import nd
        >>> model = d2l.RNNModel(d2l.DeepGateLSTMCell(8, gate_depth=2), vocab_size=5)
        >>> model.initialize()
        >>> scores, state = model(nd.array([[0, 1, 2]]), model.begin_state(batch_size=1))
        >>> scores.shape
        (3, 5)
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        gate_depth: int = 2,
        gate_width: Optional[int] = None,
        input_size: int = 0,
        prefix: Optional[str] = None,
        params: Optional[gluon.ParameterDict] = None,
    ) -> None:
        whole_number("hidden_size", hidden_size)
        whole_number("input_size", input_size, 0)
        widths = _gate_widths(hidden_size, gate_depth, gate_width)
        super().__init__(prefix=prefix, params=params)
        self._hidden_size, self._widths = hidden_size, widths
        # Rows of i2h and h2h: the first layers of i and f, the candidate, the first layer of o.
        self._rows = [widths[0], widths[0], hidden_size, widths[0]]
        self._parameter("i2h_weight", (sum(self._rows), input_size))
        self._parameter("h2h_weight", (sum(self._rows), hidden_size))
        self._parameter("i2h_bias", (sum(self._rows),))
        self._parameter("h2h_bias", (sum(self._rows),))
        for g in GATES:
            for k in range(2, gate_depth + 1):
                self._parameter(f"{g}{k}_weight", (widths[k - 1], widths[k - 2]))
                self._parameter(f"{g}{k}_bias", (widths[k - 1],))

    def _parameter(self, name: str, shape: Tuple[int, ...]) -> None:
        init = "zeros" if name.endswith("bias") else None  # None: what initialize() is given
        setattr(self, name, self.params.get(name, shape=shape, init=init, allow_deferred_init=True))

    def state_info(self, batch_size: int = 0) -> List[Any]:
        """Return the shapes of the state: H and C, both (batch_size, hidden_size)."""
        shape = (batch_size, self._hidden_size)
        return [{"shape": shape, "__layout__": "NC"}, {"shape": shape, "__layout__": "NC"}]

    def _alias(self) -> str:
        return "deep_gate_lstm"

    def hybrid_forward(
        self,
        F: Any,
        inputs: Any,
        states: Any,
        i2h_weight: Any,
        h2h_weight: Any,
        i2h_bias: Any,
        h2h_bias: Any,
        **deeper: Any,
    ) -> Tuple[Any, List[Any]]:
        """Take one step; see ``gluon.rnn.RecurrentCell.forward``."""
        H, C = states
        i2h = F.FullyConnected(inputs, i2h_weight, i2h_bias, num_hidden=sum(self._rows))
        h2h = F.FullyConnected(H, h2h_weight, h2h_bias, num_hidden=sum(self._rows))
        A = i2h + h2h  # (batch_size, sum of rows)
        i, f, c, o = (
            F.slice_axis(A, axis=1, begin=end - width, end=end)
            for end, width in zip(itertools.accumulate(self._rows), self._rows)
        )

        def gate(g: str, A: Any) -> Any:
            for k, width in enumerate(self._widths[1:], start=2):
                W, b = deeper[f"{g}{k}_weight"], deeper[f"{g}{k}_bias"]
                A = F.FullyConnected(F.tanh(A), W, b, num_hidden=width)
            return F.sigmoid(A)

        C = gate("f", f) * C + gate("i", i) * F.tanh(c)
        H = gate("o", o) * F.tanh(C)
        return H, [H, C]
