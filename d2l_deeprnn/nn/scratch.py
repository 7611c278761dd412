"""Deep recurrent networks written with nothing but array operations.

The book writes a network of one hidden layer as three functions: the first returns the parameters,
the second the state before the first step, and the third computes the outputs. This module has the
same three functions for any number of hidden layers::

    get_params, init_lstm_state, lstm = deep_lstm(len(vocab), 256, len(vocab), num_layers=2)
    train_and_predict_rnn(lstm, get_params, init_lstm_state, 256, corpus_indices, ...)

For a minibatch X_t of shape (batch_size, num_inputs), layer l = 1, ..., L reads the output of the
layer below at the same step, and its own output at the step before. The output layer reads the
uppermost one::

    H_t^(1) = f_1(X_t, H_{t-1}^(1))
    H_t^(l) = f_l(H_t^(l-1), H_{t-1}^(l))      for l = 2, ..., L
    O_t = g(H_t^(L)) = H_t^(L) W_hq + b_q

f_l is the body of the single-layer network's loop: ``rnn_step``, ``gru_step``,
``gru_step_reset_after`` or ``lstm_step``. One more loop makes the network deep: the loop over the
layers inside the loop over the steps, in ``deep_network``. ``two_layer_rnn`` shows two layers
without that loop.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from .._checks import positive_number, whole_number
from .._mxnet import gluon, mx, nd
from .._mxnet.library import check_ctx

Arrays = Sequence[nd.NDArray]
Shapes = Dict[str, Tuple[int, ...]]
Activation = Union[str, Callable[[nd.NDArray], nd.NDArray]]

ACTIVATIONS = {"tanh": nd.tanh, "relu": nd.relu}


class Network(NamedTuple):
    """The three functions that ``train_and_predict_rnn`` and ``predict_rnn`` take.

    Attributes:
        get_params: ``get_params()`` draws the initial parameters and attaches gradients. The list
            has those of layer 1, of layer 2 and so on, then W_hq and b_q of the output layer.
        init_state: ``init_state(batch_size, num_hiddens, ctx)`` returns the state before the first
            step: zeros, (batch_size, num_hiddens), for H^(1), ..., H^(L), or for H^(1), C^(1), ...,
            H^(L), C^(L).
        forward: ``forward(inputs, state, params)`` returns the outputs, one array (batch_size,
            num_outputs) per input (batch_size, num_inputs), and the state after the last step.
    """

    get_params: Callable[[], List[nd.NDArray]]
    init_state: Callable[..., Tuple[nd.NDArray, ...]]
    forward: Callable[[Arrays, Arrays, Arrays], Tuple[List[nd.NDArray], Tuple[nd.NDArray, ...]]]


class Layer(NamedTuple):
    """A hidden layer, to be stacked by ``deep_network``.

    Attributes:
        step: ``step(X, state, params)`` returns the layer's state after one time step, its hidden
            state H first. X is the layer's input, (batch_size, inputs of the layer).
        param_shapes: ``param_shapes(num_inputs, num_hiddens)`` returns the names and shapes of the
            layer's parameters, in the order of ``params``.
        num_states: arrays in the layer's state: 1 for H, 2 for H and C.
    """

    step: Callable[[nd.NDArray, Arrays, Arrays], Tuple[nd.NDArray, ...]]
    param_shapes: Callable[[int, int], Shapes]
    num_states: int


# One time step of one layer -----------------------------------------------------------------
#
# X is H_t^(l-1), the output of the layer below (for layer 1, the input X_t), of shape (batch_size,
# inputs of the layer). H is H_{t-1}^(l), the layer's own output at the step before.


def rnn_step(
    X: nd.NDArray, state: Arrays, params: Arrays, activation: Callable[..., nd.NDArray] = nd.tanh
) -> Tuple[nd.NDArray]:
    """Take one step in a layer of a plain recurrent network.

    Args:
        X: the layer's input, (batch_size, inputs of the layer).
        state: H, (batch_size, num_hiddens).
        params: W_xh, W_hh, b_h.
        activation: the layer's own.

    Returns:
        The new state, H.

    Source: the loop body of ``rnn`` in the book's "Recurrent Neural Networks from Scratch".
    """
    W_xh, W_hh, b_h = params
    (H,) = state
    H = activation(nd.dot(X, W_xh) + nd.dot(H, W_hh) + b_h)
    return (H,)


def gru_step(X: nd.NDArray, state: Arrays, params: Arrays) -> Tuple[nd.NDArray]:
    """Take one step in a layer of gated recurrent units, in the book's form.

    The reset gate acts on the hidden state, before the product with W_hh.

    Args:
        X: the layer's input, (batch_size, inputs of the layer).
        state: H, (batch_size, num_hiddens).
        params: W_x, W_h and b of the update gate Z, of the reset gate R and of the candidate
            hidden state.

    Returns:
        The new state, H.

    Source: the loop body of ``gru`` in the book's "Gated Recurrent Units".
    """
    W_xz, W_hz, b_z, W_xr, W_hr, b_r, W_xh, W_hh, b_h = params
    (H,) = state
    Z = nd.sigmoid(nd.dot(X, W_xz) + nd.dot(H, W_hz) + b_z)
    R = nd.sigmoid(nd.dot(X, W_xr) + nd.dot(H, W_hr) + b_r)
    H_tilda = nd.tanh(nd.dot(X, W_xh) + nd.dot(R * H, W_hh) + b_h)
    H = Z * H + (1 - Z) * H_tilda
    return (H,)


def gru_step_reset_after(X: nd.NDArray, state: Arrays, params: Arrays) -> Tuple[nd.NDArray]:
    """Take one step in a layer of gated recurrent units, in Gluon's form.

    The reset gate acts after the product with W_hh, on the product and a bias of its own. All
    products of a step can then be computed at once.

    Args, Returns: as ``gru_step``, with that bias, b_hh, as last parameter.
    """
    W_xz, W_hz, b_z, W_xr, W_hr, b_r, W_xh, W_hh, b_h, b_hh = params
    (H,) = state
    Z = nd.sigmoid(nd.dot(X, W_xz) + nd.dot(H, W_hz) + b_z)
    R = nd.sigmoid(nd.dot(X, W_xr) + nd.dot(H, W_hr) + b_r)
    H_tilda = nd.tanh(nd.dot(X, W_xh) + R * (nd.dot(H, W_hh) + b_hh) + b_h)
    H = Z * H + (1 - Z) * H_tilda
    return (H,)


def lstm_step(X: nd.NDArray, state: Arrays, params: Arrays) -> Tuple[nd.NDArray, nd.NDArray]:
    """Take one step in a layer of long short-term memory.

    Args:
        X: the layer's input, (batch_size, inputs of the layer).
        state: H and the memory cell C, both (batch_size, num_hiddens).
        params: W_x, W_h and b of the input gate I, of the forget gate F, of the output gate O and
            of the candidate memory cell.

    Returns:
        The new state, H and C.

    Source: the loop body of ``lstm`` in the book's "Long Short-Term Memory".
    """
    W_xi, W_hi, b_i, W_xf, W_hf, b_f, W_xo, W_ho, b_o, W_xc, W_hc, b_c = params
    H, C = state
    I = nd.sigmoid(nd.dot(X, W_xi) + nd.dot(H, W_hi) + b_i)
    F = nd.sigmoid(nd.dot(X, W_xf) + nd.dot(H, W_hf) + b_f)
    O = nd.sigmoid(nd.dot(X, W_xo) + nd.dot(H, W_ho) + b_o)
    C_tilda = nd.tanh(nd.dot(X, W_xc) + nd.dot(H, W_hc) + b_c)
    C = F * C + I * C_tilda
    H = O * nd.tanh(C)
    return H, C


# The layers of these steps ------------------------------------------------------------------


def _shapes(gates: str, num_inputs: int, num_hiddens: int, *, second_bias: bool = False) -> Shapes:
    shapes: Shapes = {}
    for g in gates:
        shapes[f"W_x{g}"] = (num_inputs, num_hiddens)
        shapes[f"W_h{g}"] = (num_hiddens, num_hiddens)
        shapes[f"b_{g}"] = (num_hiddens,)
    return {**shapes, "b_hh": (num_hiddens,)} if second_bias else shapes


RNN_LAYER = Layer(rnn_step, partial(_shapes, "h"), num_states=1)
GRU_LAYER = Layer(gru_step, partial(_shapes, "zrh"), num_states=1)
GRU_RESET_AFTER_LAYER = Layer(
    gru_step_reset_after, partial(_shapes, "zrh", second_bias=True), num_states=1
)
LSTM_LAYER = Layer(lstm_step, partial(_shapes, "ifoc"), num_states=2)


def with_two_biases(layer: Layer) -> Layer:
    """Return a layer whose biases are sums of two, b_g + b_hg for gate g, as Gluon's are.

    The output is the same but training differs: each bias receives the full gradient, so their sum
    moves twice as far, and the clipped norm counts it twice.
    """
    names = list(layer.param_shapes(1, 1))
    # Gluon's form of the GRU already has two biases for its candidate, b_h and b_hh.
    biases = [name for name in names if name.startswith("b_") and name != "b_hh"]
    second = {b: b.replace("b_", "b_h") for b in biases if b.replace("b_", "b_h") not in names}

    def param_shapes(num_inputs: int, num_hiddens: int) -> Shapes:
        shapes = layer.param_shapes(num_inputs, num_hiddens)
        return {**shapes, **{added: shapes[b] for b, added in second.items()}}

    def step(X: nd.NDArray, state: Arrays, params: Arrays) -> Tuple[nd.NDArray, ...]:
        values = dict(zip(names, params))
        for b, added in zip(second, params[len(names) :]):
            values[b] = values[b] + added
        return layer.step(X, state, list(values.values()))

    return Layer(step, param_shapes, layer.num_states)


# From layers to a network -------------------------------------------------------------------


def deep_network(
    layers: Sequence[Layer],
    num_inputs: int,
    num_hiddens: int,
    num_outputs: int,
    *,
    ctx: Optional[mx.Context] = None,
    scale: float = 0.01,
) -> Network:
    """Stack hidden layers and put an output layer on top.

    Args:
        layers: the hidden layers; the first one reads the inputs.
        num_inputs: length of an input vector, ``len(vocab)``.
        num_hiddens: hidden units of every layer.
        num_outputs: length of an output vector, ``len(vocab)``.
        ctx: device of the parameters; the current one if None.
        scale: standard deviation of the initial weights, which are drawn from a normal distribution
            around 0. Biases start at 0.

    Returns:
        The network's three functions. They raise a ValueError if their arguments do not fit the
        network.

    Raises:
        ValueError: if a number is out of its range, or if there is no layer.
        TypeError: if ``ctx`` is not one device.
    """
    whole_number("num_inputs", num_inputs)
    whole_number("num_hiddens", num_hiddens)
    whole_number("num_outputs", num_outputs)
    positive_number("scale", scale)
    check_ctx(ctx)
    if len(layers) == 0:
        raise ValueError("layers is empty: a deep network has at least one hidden layer")
    param_shapes = network_param_shapes(layers, num_inputs, num_hiddens, num_outputs)
    num_params = [len(layer.param_shapes(1, 1)) for layer in layers]
    num_states = [layer.num_states for layer in layers]
    own_num_hiddens = num_hiddens  # init_state has an argument of this name, too

    def get_params() -> List[nd.NDArray]:
        params = []
        for name, shape in param_shapes.items():
            if name.startswith("b_"):
                params.append(nd.zeros(shape, ctx=ctx))
            else:
                params.append(nd.random.normal(scale=scale, shape=shape, ctx=ctx))
        for param in params:
            param.attach_grad()
        return params

    def init_state(
        batch_size: int, num_hiddens: int, ctx: Optional[mx.Context] = None
    ) -> Tuple[nd.NDArray, ...]:
        whole_number("batch_size", batch_size)
        check_ctx(ctx)
        if num_hiddens != own_num_hiddens:
            raise ValueError(f"num_hiddens is {num_hiddens}, but the network has {own_num_hiddens}")
        return tuple(nd.zeros((batch_size, num_hiddens), ctx=ctx) for _ in range(sum(num_states)))

    def forward(
        inputs: Arrays, state: Arrays, params: Arrays
    ) -> Tuple[List[nd.NDArray], Tuple[nd.NDArray, ...]]:
        check_params(params, param_shapes)
        _check_inputs_and_state(inputs, state, num_inputs, num_hiddens, sum(num_states))
        *layer_params, (W_hq, b_q) = _split(params, [*num_params, 2])  # one list per layer
        layer_states = _split(state, num_states)
        outputs = []
        for X in inputs:
            for l, layer in enumerate(layers):
                layer_states[l] = layer.step(X, layer_states[l], layer_params[l])
                X = layer_states[l][0]  # H_t^(l), which the layer above reads
            outputs.append(nd.dot(X, W_hq) + b_q)
        return outputs, tuple(array for state in layer_states for array in state)

    return Network(get_params, init_state, forward)


def deep_rnn(
    num_inputs: int,
    num_hiddens: int,
    num_outputs: int,
    num_layers: int = 2,
    *,
    activations: Union[Activation, Sequence[Activation]] = "tanh",
    two_biases: bool = False,
    ctx: Optional[mx.Context] = None,
    scale: float = 0.01,
) -> Network:
    """Make a deep plain recurrent network; a layer's step is ``rnn_step``.

    Args:
        num_layers: hidden layers, L. One gives the book's single-layer network.
        activations: ``'tanh'``, ``'relu'`` or a function of an array, for all layers; or a list of
            them, one f_l for each layer l.
        two_biases: as in ``deep_lstm``.
        num_inputs, num_hiddens, num_outputs, ctx, scale: as in ``deep_network``.

    Returns, Raises: as ``deep_network``; a ValueError also for an unknown activation, and if their
    number is not the number of layers.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> network = d2l.deep_rnn(num_inputs=5, num_hiddens=8, num_outputs=5, num_layers=3)
        >>> len(network.init_state(1, 8))  # H of each layer
        3
    """
    whole_number("num_layers", num_layers)
    each: Sequence[Any] = (
        activations if isinstance(activations, (list, tuple)) else [activations] * num_layers
    )
    if len(each) != num_layers:
        raise ValueError(f"activations has {len(each)} entries, but num_layers is {num_layers}")
    layers = [RNN_LAYER._replace(step=partial(rnn_step, activation=_activation(f))) for f in each]
    if two_biases:
        layers = [with_two_biases(layer) for layer in layers]
    return deep_network(layers, num_inputs, num_hiddens, num_outputs, ctx=ctx, scale=scale)


def deep_gru(
    num_inputs: int,
    num_hiddens: int,
    num_outputs: int,
    num_layers: int = 2,
    *,
    reset: str = "before",
    two_biases: bool = False,
    ctx: Optional[mx.Context] = None,
    scale: float = 0.01,
) -> Network:
    """Make a deep network of gated recurrent units.

    Args:
        num_layers: hidden layers, L. One gives the book's single-layer network.
        reset: ``'before'``: the reset gate acts before the product with W_hh, as in the book
            (``gru_step``). ``'after'``: it acts after it, as in Gluon (``gru_step_reset_after``).
            The two do not compute the same.
        two_biases: as in ``deep_lstm``.
        num_inputs, num_hiddens, num_outputs, ctx, scale: as in ``deep_network``.

    Returns, Raises: as ``deep_network``; a ValueError also for another ``reset``.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> network = d2l.deep_gru(5, 8, 5, num_layers=1, reset="after")
        >>> [param.shape for param in network.get_params()][-2:]  # W_hq and b_q
        [(8, 5), (5,)]
    """
    whole_number("num_layers", num_layers)
    forms = {"before": GRU_LAYER, "after": GRU_RESET_AFTER_LAYER}
    if reset not in forms:
        raise ValueError(f"reset must be 'before' (the book's) or 'after' (Gluon's), not {reset!r}")
    layer = with_two_biases(forms[reset]) if two_biases else forms[reset]
    layers = [layer] * num_layers
    return deep_network(layers, num_inputs, num_hiddens, num_outputs, ctx=ctx, scale=scale)


def deep_lstm(
    num_inputs: int,
    num_hiddens: int,
    num_outputs: int,
    num_layers: int = 2,
    *,
    two_biases: bool = False,
    ctx: Optional[mx.Context] = None,
    scale: float = 0.01,
) -> Network:
    """Make a deep network of long short-term memory; a layer's step is ``lstm_step``.

    Args:
        num_layers: hidden layers, L. One gives the book's single-layer network.
        two_biases: keep each bias as a sum of two, as Gluon does (``with_two_biases``). Training
            then follows Gluon's step by step.
        num_inputs, num_hiddens, num_outputs, ctx, scale: as in ``deep_network``.

    Returns, Raises: as ``deep_network``.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import nd
        >>> get_params, init_lstm_state, lstm = d2l.deep_lstm(5, 8, 5, num_layers=2)
        >>> inputs = d2l.to_onehot(nd.array([[0, 1, 2]]), 5)
        >>> outputs, state = lstm(inputs, init_lstm_state(1, 8), get_params())
        >>> len(outputs), outputs[0].shape, len(state)  # H and C of each layer
        (3, (1, 5), 4)
    """
    whole_number("num_layers", num_layers)
    layer = with_two_biases(LSTM_LAYER) if two_biases else LSTM_LAYER
    layers = [layer] * num_layers
    return deep_network(layers, num_inputs, num_hiddens, num_outputs, ctx=ctx, scale=scale)


def two_layer_rnn(
    inputs: Arrays, state: Arrays, params: Arrays
) -> Tuple[List[nd.NDArray], Tuple[nd.NDArray, nd.NDArray]]:
    """Compute a plain recurrent network of two hidden layers, without a loop over the layers.

    This answers the chapter's first exercise: the single-layer network, and one more line. It
    computes the same as ``forward`` of ``deep_rnn(..., num_layers=2)``, with the same parameters
    and state.

    Args:
        inputs: num_steps arrays (batch_size, num_inputs).
        state: H1 and H2, both (batch_size, num_hiddens).
        params: W_xh, W_hh and b_h of layer 1, the same of layer 2, W_hq, b_q.

    Returns:
        num_steps outputs (batch_size, num_outputs), and the new state.

    Source: ``rnn`` in the book's "Recurrent Neural Networks from Scratch".

    Example:
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import nd
        >>> get_params, init_state, forward = d2l.deep_rnn(5, 8, 5, num_layers=2)
        >>> inputs, params = d2l.to_onehot(nd.array([[0, 1, 2]]), 5), get_params()
        >>> outputs, _ = d2l.two_layer_rnn(inputs, init_state(1, 8), params)
        >>> expected, _ = forward(inputs, init_state(1, 8), params)
        >>> all((a == b).asnumpy().all() for a, b in zip(outputs, expected))
        True
    """
    W_xh1, W_hh1, b_h1, W_xh2, W_hh2, b_h2, W_hq, b_q = params
    H1, H2 = state
    outputs = []
    for X in inputs:
        H1 = nd.tanh(nd.dot(X, W_xh1) + nd.dot(H1, W_hh1) + b_h1)
        H2 = nd.tanh(nd.dot(H1, W_xh2) + nd.dot(H2, W_hh2) + b_h2)
        outputs.append(nd.dot(H2, W_hq) + b_q)
    return outputs, (H1, H2)


# Checks of arguments ------------------------------------------------------------------------


def network_param_shapes(
    layers: Sequence[Layer], num_inputs: int, num_hiddens: int, num_outputs: int
) -> Shapes:
    """Return the shapes of all parameters by names such as "W_xh of layer 1".

    Args: as ``deep_network``.
    """
    shapes: Shapes = {}
    for l, layer in enumerate(layers, start=1):
        num_below = num_inputs if l == 1 else num_hiddens
        for name, shape in layer.param_shapes(num_below, num_hiddens).items():
            shapes[f"{name} of layer {l}"] = shape
    shapes["W_hq of the output layer"] = (num_hiddens, num_outputs)
    shapes["b_q of the output layer"] = (num_outputs,)
    return shapes


def check_params(params: Arrays, shapes: Shapes) -> None:
    """Raise a ValueError unless the parameters have the shapes of ``network_param_shapes``."""
    if len(params) != len(shapes):
        raise ValueError(f"params has {len(params)} arrays, but the network has {len(shapes)}")
    for i, (param, (name, shape)) in enumerate(zip(params, shapes.items())):
        if param.shape != shape:
            raise ValueError(
                f"params[{i}], {name}, has the shape {param.shape}, but the network needs {shape}"
            )


def _check_inputs_and_state(
    inputs: Arrays, state: Arrays, num_inputs: int, num_hiddens: int, num_states: int
) -> None:
    if len(inputs) == 0:
        raise ValueError("inputs is empty: give one array for each time step")
    if len(state) != num_states:
        raise ValueError(f"state has {len(state)} arrays, but the network has {num_states}")
    batch_size = inputs[0].shape[0]
    # MXNet would repeat a state of one row for every row of the minibatch.
    for name, arrays, width in (("inputs", inputs, num_inputs), ("state", state, num_hiddens)):
        for array in arrays:
            if array.shape != (batch_size, width):
                raise ValueError(
                    f"{name} has an array of shape {array.shape}, but the network needs "
                    f"{(batch_size, width)}"
                )


def _activation(activation: Any) -> Callable[[nd.NDArray], nd.NDArray]:
    if callable(activation):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activations must be functions or in {sorted(ACTIVATIONS)}, not {activation!r}"
        )
    return ACTIVATIONS[activation]


def _split(arrays: Arrays, lengths: Sequence[int]) -> List[Arrays]:
    """Split a list into lists of the given lengths."""
    remaining = iter(arrays)
    return [[next(remaining) for _ in range(length)] for length in lengths]


class ScratchModel(gluon.Block):
    """A network from scratch as a Gluon model, to train and evaluate it like any other.

    Args:
        network: result of ``deep_rnn``, ``deep_gru`` or ``deep_lstm``; draws its parameters.
        num_hiddens: the network's number of hidden units.
        vocab_size: the network's number of inputs and of outputs.
    """

    def __init__(self, network: Network, num_hiddens: int, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self._network, self._num_hiddens = network, num_hiddens
        self._values = []
        for i, array in enumerate(network.get_params()):
            param = self.params.get(f"{i}_weight", shape=array.shape, init="zeros")
            param.initialize(ctx=array.context)
            param.set_data(array)
            self._values.append(param)

    def begin_state(self, batch_size: int, ctx: Optional[mx.Context] = None) -> Arrays:
        """Return the network's state of zeros."""
        return self._network.init_state(batch_size, self._num_hiddens, ctx)

    def forward(self, inputs: nd.NDArray, state: Arrays) -> Tuple[nd.NDArray, Arrays]:
        """Return the scores and the new state, with the shapes of ``RNNModel.forward``."""
        params = [param.data() for param in self._values]
        X = [nd.one_hot(x, self.vocab_size) for x in inputs.T]  # (batch_size, vocab_size) per step
        outputs, state = self._network.forward(X, state, params)
        return nd.concat(*outputs, dim=0), state
