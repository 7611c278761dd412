"""Deep recurrent networks written out, with nothing but array operations.

The book writes a network of a single hidden layer as three functions: one
gives the parameters, one the state before the first step, and one computes
the outputs. Here are the same three for any number of hidden layers::

    get_params, init_lstm_state, lstm = deep_lstm(len(vocab), 256, len(vocab), num_layers=2)
    train_and_predict_rnn(lstm, get_params, init_lstm_state, 256, corpus_indices, ...)

For a minibatch X_t of shape (batch_size, num_inputs), layer l = 1, ..., L
reads what the layer below it gives at the same step, and what it gave itself
at the step before; the output layer reads the last of them::

    H_t^(1) = f_1(X_t, H_{t-1}^(1))
    H_t^(l) = f_l(H_t^(l-1), H_{t-1}^(l))      for l = 2, ..., L
    O_t = g(H_t^(L)) = H_t^(L) W_hq + b_q

f_l is the body of the single-layer network's loop: ``rnn_step``, ``gru_step``,
``gru_step_reset_after`` or ``lstm_step`` below. What makes the network deep
is one more loop, over the layers, inside the loop over the steps:
``deep_network``. ``two_layer_rnn`` is the same without that loop.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from .._checks import positive_int, positive_number
from .._mxnet import gluon, mx, nd
from .._mxnet.context import check_ctx

Arrays = Sequence[nd.NDArray]
Shapes = Dict[str, Tuple[int, ...]]
Activation = Union[str, Callable[[nd.NDArray], nd.NDArray]]

ACTIVATIONS = {"tanh": nd.tanh, "relu": nd.relu}


class Network(NamedTuple):
    """The three functions that ``train_and_predict_rnn`` and ``predict_rnn`` take.

    Attributes:
        get_params: ``get_params()`` draws the initial parameters, gradients
            attached: those of layer 1, of layer 2 and so on, and of the
            output layer, W_hq and b_q, as one list.
        init_state: ``init_state(batch_size, num_hiddens, ctx)`` gives the
            state before the first step: zeros, (batch_size, num_hiddens), for
            H^(1), ..., H^(L), or for H^(1), C^(1), ..., H^(L), C^(L).
        forward: ``forward(inputs, state, params)`` gives the outputs, one
            array (batch_size, num_outputs) for each of the inputs (batch_size,
            num_inputs), and the state after the last step.
    """

    get_params: Callable[[], List[nd.NDArray]]
    init_state: Callable[..., Tuple[nd.NDArray, ...]]
    forward: Callable[[Arrays, Arrays, Arrays], Tuple[List[nd.NDArray], Tuple[nd.NDArray, ...]]]


class Layer(NamedTuple):
    """A hidden layer: what ``deep_network`` stacks.

    Attributes:
        step: ``step(X, state, params)`` gives the layer's state after one
            time step, its hidden state H first. X is what the layer reads.
        param_shapes: ``param_shapes(num_inputs, num_hiddens)`` names the
            layer's parameters and their shapes, in the order of ``params``.
        num_states: arrays in the layer's state: 1 for H, 2 for H and C.
    """

    step: Callable[[nd.NDArray, Arrays, Arrays], Tuple[nd.NDArray, ...]]
    param_shapes: Callable[[int, int], Shapes]
    num_states: int


# One time step of one layer -----------------------------------------------------------------
#
# X is H_t^(l-1), what the layer below gives (for layer 1, the input X_t), and
# H is H_{t-1}^(l), what the layer itself gave at the step before.


def rnn_step(
    X: nd.NDArray, state: Arrays, params: Arrays, activation: Callable[..., nd.NDArray] = nd.tanh
) -> Tuple[nd.NDArray]:
    """Take one step in a layer of a plain recurrent network.

    Args:
        X: what the layer reads, (batch_size, inputs of the layer).
        state: H, (batch_size, num_hiddens).
        params: W_xh, W_hh, b_h.
        activation: the layer's own.

    Returns:
        The new state, H.

    Source: the loop body of ``rnn`` in the book's "Recurrent Neural Networks
    from Scratch".
    """
    W_xh, W_hh, b_h = params
    (H,) = state
    H = activation(nd.dot(X, W_xh) + nd.dot(H, W_hh) + b_h)
    return (H,)


def gru_step(X: nd.NDArray, state: Arrays, params: Arrays) -> Tuple[nd.NDArray]:
    """Take one step in a layer of gated recurrent units, in the book's form.

    The reset gate acts on the hidden state, before the product with W_hh.

    Args:
        X: what the layer reads, (batch_size, inputs of the layer).
        state: H, (batch_size, num_hiddens).
        params: W_x, W_h and b of the update gate Z, of the reset gate R and
            of the candidate hidden state.

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

    The reset gate acts after the product with W_hh, on the product and a bias
    of its own: all products of a step can then be computed at once.

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
        X: what the layer reads, (batch_size, inputs of the layer).
        state: H and the memory cell C, both (batch_size, num_hiddens).
        params: W_x, W_h and b of the input gate I, of the forget gate F, of
            the output gate O and of the candidate memory cell.

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


# The layers that these steps make, with the shapes of their parameters -----------------------


def _three(gate: str, num_inputs: int, num_hiddens: int) -> Shapes:
    return {
        f"W_x{gate}": (num_inputs, num_hiddens),
        f"W_h{gate}": (num_hiddens, num_hiddens),
        f"b_{gate}": (num_hiddens,),
    }


def _rnn_shapes(num_inputs: int, num_hiddens: int) -> Shapes:
    return _three("h", num_inputs, num_hiddens)


def _gru_shapes(num_inputs: int, num_hiddens: int) -> Shapes:
    return {
        **_three("z", num_inputs, num_hiddens),
        **_three("r", num_inputs, num_hiddens),
        **_three("h", num_inputs, num_hiddens),
    }


def _gru_reset_after_shapes(num_inputs: int, num_hiddens: int) -> Shapes:
    return {**_gru_shapes(num_inputs, num_hiddens), "b_hh": (num_hiddens,)}


def _lstm_shapes(num_inputs: int, num_hiddens: int) -> Shapes:
    return {
        **_three("i", num_inputs, num_hiddens),
        **_three("f", num_inputs, num_hiddens),
        **_three("o", num_inputs, num_hiddens),
        **_three("c", num_inputs, num_hiddens),
    }


RNN_LAYER = Layer(rnn_step, _rnn_shapes, num_states=1)
GRU_LAYER = Layer(gru_step, _gru_shapes, num_states=1)
GRU_RESET_AFTER_LAYER = Layer(gru_step_reset_after, _gru_reset_after_shapes, num_states=1)
LSTM_LAYER = Layer(lstm_step, _lstm_shapes, num_states=2)


def with_two_biases(layer: Layer) -> Layer:
    """Keep every bias of a layer as a sum of two, b_g + b_hg for gate g, as Gluon does.

    It computes the same, but is trained in another way: both get the gradient
    of their sum, which so takes twice the step and counts twice in the norm
    that is clipped.
    """
    one = layer.param_shapes(1, 1)
    # Gluon's form of the GRU has two biases for its candidate already.
    doubled = [b for b in one if b.startswith("b_") and _second(b) not in one and len(b) == 3]

    def param_shapes(num_inputs: int, num_hiddens: int) -> Shapes:
        shapes = layer.param_shapes(num_inputs, num_hiddens)
        return {**shapes, **{_second(b): shapes[b] for b in doubled}}

    def step(X: nd.NDArray, state: Arrays, params: Arrays) -> Tuple[nd.NDArray, ...]:
        named = dict(zip(one, params))
        for b, second in zip(doubled, params[len(one) :]):
            named[b] = named[b] + second
        return layer.step(X, state, list(named.values()))

    return Layer(step, param_shapes, layer.num_states)


def _second(bias: str) -> str:
    return bias.replace("b_", "b_h")  # stands beside W_h, as b_i does beside W_xi and W_hi


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
        layers: the hidden layers, the one that reads the inputs first.
        num_inputs: length of an input vector, ``len(vocab)``.
        num_hiddens: hidden units of every layer.
        num_outputs: length of an output vector, ``len(vocab)``.
        ctx: device of the parameters; the current one if None.
        scale: standard deviation of the initial weights, which are drawn from
            a normal distribution around 0. Biases start at 0.

    Returns:
        The network's three functions. They raise a ValueError where their
        arguments do not fit the network.

    Raises:
        ValueError: if a number is out of its range, or if there is no layer.
        TypeError: if ``ctx`` is not one device.
    """
    positive_int("num_inputs", num_inputs)
    positive_int("num_hiddens", num_hiddens)
    positive_int("num_outputs", num_outputs)
    positive_number("scale", scale)
    check_ctx(ctx)
    if len(layers) == 0:
        raise ValueError("layers is empty: a deep network has at least one hidden layer")
    param_shapes = network_param_shapes(layers, num_inputs, num_hiddens, num_outputs)
    num_states = [layer.num_states for layer in layers]
    made_with = num_hiddens  # init_state has an argument of this name, too

    def get_params() -> List[nd.NDArray]:
        params = []
        for shapes in param_shapes:
            for name, shape in shapes.items():
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
        positive_int("batch_size", batch_size)
        check_ctx(ctx)
        if num_hiddens != made_with:
            raise ValueError(f"num_hiddens is {num_hiddens}, but the network has {made_with}")
        return tuple(nd.zeros((batch_size, num_hiddens), ctx=ctx) for _ in range(sum(num_states)))

    def forward(
        inputs: Arrays, state: Arrays, params: Arrays
    ) -> Tuple[List[nd.NDArray], Tuple[nd.NDArray, ...]]:
        check_params(params, param_shapes)
        _check_inputs_and_state(inputs, state, num_inputs, num_hiddens, sum(num_states))
        # One list for each layer, the output layer's last.
        *layer_params, (W_hq, b_q) = _cut(params, [len(shapes) for shapes in param_shapes])
        layer_states = _cut(state, num_states)
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
        activations: ``'tanh'``, ``'relu'`` or a function of an array, for all
            layers; or a list of them, one f_l for each layer l.
        two_biases: as in ``deep_lstm``.
        num_inputs, num_hiddens, num_outputs, ctx, scale: as in ``deep_network``.

    Returns, Raises: as ``deep_network``; a ValueError also for an activation
    that is not known, and if their number is not the number of layers.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> network = d2l.deep_rnn(num_inputs=5, num_hiddens=8, num_outputs=5, num_layers=3)
        >>> len(network.init_state(1, 8))  # H of each layer
        3
    """
    positive_int("num_layers", num_layers)
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
        reset: where the reset gate acts: ``'before'`` the product with W_hh,
            the book's form (``gru_step``), or ``'after'`` it, Gluon's form
            (``gru_step_reset_after``). The two do not compute the same.
        two_biases: as in ``deep_lstm``.
        num_inputs, num_hiddens, num_outputs, ctx, scale: as in ``deep_network``.

    Returns, Raises: as ``deep_network``; a ValueError also for another ``reset``.

    Example:
        >>> import d2l_deeprnn as d2l
        >>> network = d2l.deep_gru(5, 8, 5, num_layers=1, reset="after")
        >>> [param.shape for param in network.get_params()][-2:]  # W_hq and b_q
        [(8, 5), (5,)]
    """
    positive_int("num_layers", num_layers)
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
        two_biases: keep each bias as a sum of two, as Gluon does
            (``with_two_biases``): training then follows Gluon's step by step.
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
    positive_int("num_layers", num_layers)
    layer = with_two_biases(LSTM_LAYER) if two_biases else LSTM_LAYER
    layers = [layer] * num_layers
    return deep_network(layers, num_inputs, num_hiddens, num_outputs, ctx=ctx, scale=scale)


def two_layer_rnn(
    inputs: Arrays, state: Arrays, params: Arrays
) -> Tuple[List[nd.NDArray], Tuple[nd.NDArray, nd.NDArray]]:
    """Compute a plain recurrent network of two hidden layers, with no loop over the layers.

    The answer to the chapter's first exercise: the single-layer network, and
    one more line. It is the ``forward`` of ``deep_rnn(..., num_layers=2)``,
    and takes its parameters and its state.

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


# What the arguments have to be --------------------------------------------------------------


def network_param_shapes(
    layers: Sequence[Layer], num_inputs: int, num_hiddens: int, num_outputs: int
) -> List[Shapes]:
    """Name all parameters of a network and their shapes, layer by layer.

    Args: as ``deep_network``.

    Returns:
        A dictionary for each hidden layer, and one for the output layer.
    """
    # Layer 1 reads the inputs, every other one the layer below it.
    num_below = [num_inputs] + [num_hiddens] * (len(layers) - 1)
    hidden = [layer.param_shapes(d, num_hiddens) for layer, d in zip(layers, num_below)]
    return [*hidden, {"W_hq": (num_hiddens, num_outputs), "b_q": (num_outputs,)}]


def check_params(params: Arrays, param_shapes: Sequence[Shapes]) -> None:
    """Raise a ValueError if parameters have not the shapes of ``network_param_shapes``."""
    wanted = [
        (name, l, shape)
        for l, shapes in enumerate(param_shapes, start=1)
        for name, shape in shapes.items()
    ]
    if len(params) != len(wanted):
        raise ValueError(f"params has {len(params)} arrays, but the network has {len(wanted)}")
    for i, (param, (name, l, shape)) in enumerate(zip(params, wanted)):
        if param.shape != shape:
            layer = "the output layer" if l == len(param_shapes) else f"layer {l}"
            raise ValueError(
                f"params[{i}], {name} of {layer}, has the shape {param.shape}, "
                f"but the network needs {shape}"
            )


def _check_inputs_and_state(
    inputs: Arrays, state: Arrays, num_inputs: int, num_hiddens: int, num_states: int
) -> None:
    if len(inputs) == 0:
        raise ValueError("inputs is empty: give one array for each time step")
    batch_size = inputs[0].shape[0]
    for X in inputs:
        if X.shape != (batch_size, num_inputs):
            raise ValueError(
                f"inputs holds an array of shape {X.shape}, "
                f"but the network needs {(batch_size, num_inputs)}"
            )
    if len(state) != num_states:
        raise ValueError(f"state has {len(state)} arrays, but the network has {num_states}")
    for array in state:
        # MXNet would repeat a state of one row for every row of the minibatch.
        if array.shape != (batch_size, num_hiddens):
            raise ValueError(
                f"state holds an array of shape {array.shape}, but the inputs and the network "
                f"need {(batch_size, num_hiddens)}"
            )


def _activation(activation: Any) -> Callable[[nd.NDArray], nd.NDArray]:
    if callable(activation):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activations must be functions or in {sorted(ACTIVATIONS)}, not {activation!r}"
        )
    return ACTIVATIONS[activation]


def _cut(arrays: Arrays, lengths: Sequence[int]) -> List[Arrays]:
    """Cut a list into lists of the given lengths."""
    pieces, start = [], 0
    for length in lengths:
        pieces.append(arrays[start : start + length])
        start += length
    return pieces


class ScratchModel(gluon.Block):
    """A network from scratch as a model of Gluon, to be trained and scored like any other.

    Args:
        network: of ``deep_rnn``, ``deep_gru`` or ``deep_lstm``; its parameters are drawn here.
        num_hiddens: hidden units, as given to it.
        vocab_size: number of inputs and outputs, as given to it.
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
        """The network's state of zeros."""
        return self._network.init_state(batch_size, self._num_hiddens, ctx)

    def forward(self, inputs: nd.NDArray, state: Arrays) -> Tuple[nd.NDArray, Arrays]:
        """As ``RNNModel.forward``: scores of shape (num_steps * batch_size, vocab_size), state."""
        params = [param.data() for param in self._values]
        X = [nd.one_hot(x, self.vocab_size) for x in inputs.T]  # (batch_size, vocab_size) a step
        outputs, state = self._network.forward(X, state, params)
        return nd.concat(*outputs, dim=0), state
