"""The network of a model as NumPy arrays, from which all formats are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .._mxnet import autograd, gluon, nd
from .._mxnet.library import FUSED, activations, describe, device_of, is_unmodified
from .._version import __version__
from ..nn.model import RNNModel, check_vocab
from ..nn.stacked import StackedRNN
from ..text.vocab import Vocab
from ..training.run_directory import read_config
from ..training.runs import LoadedRun
from . import ExportError

FORMAT_VERSION = "1"  # version of the metadata
# Largest difference from the model, relative to the largest value.
TOLERANCE = 1e-5
# Relative error of the parameters. It changes the results of any network about ten times as much as
# computing in float32 does.
PERTURBATION = 2.0**-17
# Number of scores compared at a time, to limit memory.
NUM_SCORES = 2**22
STACKS = (gluon.rnn.SequentialRNNCell, gluon.rnn.HybridSequentialRNNCell)
WEIGHTS = ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
# Cells with their activations: of the output, then of the gates.
CELLS = {
    (gluon.rnn.LSTMCell, "tanh", "sigmoid"): "lstm",
    (gluon.rnn.GRUCell,): "gru",
    (gluon.rnn.RNNCell, "tanh"): "rnn_tanh",
    (gluon.rnn.RNNCell, "relu"): "rnn_relu",
}
Outputs = Tuple[np.ndarray, Sequence[np.ndarray]]  # scores and the new state
Compute = Callable[[np.ndarray, Sequence[np.ndarray]], Outputs]  # as Network.forward


class Layer(NamedTuple):
    """A recurrent layer, with Gluon's parameters.

    Attributes:
        mode: ``lstm``, ``gru`` (the reset gate acts after the product with h2h_weight),
            ``rnn_tanh`` or ``rnn_relu``.
        i2h_weight: (gates * num_hiddens, inputs of the layer). The order of the gates is i, f, c, o
            in an LSTM and r, z, h in a GRU.
        h2h_weight: (gates * num_hiddens, num_hiddens).
        i2h_bias, h2h_bias: (gates * num_hiddens,).
        residual: whether the layer's inputs are added to its outputs.
    """

    mode: str
    i2h_weight: np.ndarray
    h2h_weight: np.ndarray
    i2h_bias: np.ndarray
    h2h_bias: np.ndarray
    residual: bool = False

    @property
    def num_hiddens(self) -> int:
        """Number of hidden units."""
        return int(self.h2h_weight.shape[1])

    @property
    def state_names(self) -> Tuple[str, ...]:
        """Names of the arrays in the layer's state."""
        return ("h", "c") if self.mode == "lstm" else ("h",)

    def step(self, products: np.ndarray, state: Sequence[np.ndarray]) -> Tuple[np.ndarray, ...]:
        """Return the state after one time step.

        Args:
            products: the inputs times ``i2h_weight``, (batch_size, gates * num_hiddens).
            state: arrays (batch_size, num_hiddens), in the order of ``state_names``.
        """
        of_inputs = products + self.i2h_bias
        of_state = state[0] @ self.h2h_weight.T + self.h2h_bias
        if self.mode == "lstm":
            i, f, c, o = np.split(of_inputs + of_state, 4, axis=1)
            C = _sigmoid(f) * state[1] + _sigmoid(i) * np.tanh(c)
            return _sigmoid(o) * np.tanh(C), C
        if self.mode == "gru":
            (r, z, h), (of_r, of_z, of_h) = (np.split(a, 3, axis=1) for a in (of_inputs, of_state))
            Z = _sigmoid(z + of_z)
            return (Z * state[0] + (1 - Z) * np.tanh(h + _sigmoid(r + of_r) * of_h),)
        A = of_inputs + of_state
        return (np.tanh(A) if self.mode == "rnn_tanh" else np.maximum(A, 0),)


class Network(NamedTuple):
    """The parameters of an ``RNNModel``.

    Attributes:
        layers: recurrent layers; the first one reads the characters.
        dense_weight: weight of the output layer, (vocab_size, num_hiddens).
        dense_bias: bias of the output layer, (vocab_size,).
    """

    layers: List[Layer]
    dense_weight: np.ndarray
    dense_bias: np.ndarray

    @property
    def vocab_size(self) -> int:
        """Number of inputs and of outputs."""
        return len(self.dense_bias)

    @property
    def states(self) -> Dict[str, int]:
        """Names of the arrays in the state, layer by layer, with their numbers of units."""
        return {
            f"l{i}_{name}": layer.num_hiddens
            for i, layer in enumerate(self.layers)
            for name in layer.state_names
        }

    def forward(
        self, tokens: np.ndarray, state: Sequence[np.ndarray]
    ) -> Tuple[np.ndarray, List[np.ndarray]]:
        """Compute the model's results step by step, in float64.

        Args:
            tokens: indices, (batch_size, num_steps).
            state: arrays (batch_size, num_hiddens), in the order of ``states``.

        Returns:
            Scores (batch_size, num_steps, vocab_size), and the new state.
        """
        new = [array.astype(np.float64) for array in state]
        outputs = []
        for column in tokens.T:
            X, begin = np.empty(0), 0
            for layer in self.layers:
                end = begin + len(layer.state_names)
                # The first layer's inputs are one-hot: they select columns of its weight.
                products = X @ layer.i2h_weight.T if begin else layer.i2h_weight.T[column]
                new[begin:end] = layer.step(products, new[begin:end])
                if layer.residual:
                    X = X if begin else np.equal.outer(column, np.arange(self.vocab_size))
                    X = new[begin] + X
                else:
                    X = new[begin]
                begin = end
            outputs.append(X)
        # All steps at once, because NumPy copies the weight in float64 for each product.
        scores = np.concatenate(outputs) @ self.dense_weight.T
        scores += self.dense_bias
        return scores.reshape(*tokens.T.shape, self.vocab_size).swapaxes(0, 1), new

    def perturbed(self, random: np.random.RandomState) -> Network:
        """Return the network with errors in its parameters that exceed those of float32.

        The error of a weight is relative to its value. The error of a layer's bias is relative to
        1, like that of an activation function: ONNX Runtime's tanh is wrong by up to 1e-7, even if
        its value is small.
        """

        def change(array: np.ndarray, least: float = 0.0) -> np.ndarray:
            signs = random.choice(np.array([-1, 1], np.float32), array.shape)
            return array + PERTURBATION * signs * np.maximum(np.abs(array), np.float32(least))

        layers = [
            layer._replace(
                i2h_weight=change(layer.i2h_weight),
                h2h_weight=change(layer.h2h_weight),
                i2h_bias=change(layer.i2h_bias, 1.0),
            )
            for layer in self.layers
        ]
        return Network(layers, change(self.dense_weight), change(self.dense_bias))


class Export(NamedTuple):
    """A model to be written in a format.

    Attributes:
        model: the model itself, for comparisons; see ``compare``.
        network: the network that it computes.
        vocab: the vocabulary that it was trained with.
        lower: whether its text was converted to lower case.
        fold_whitespace: whether runs of white space in the text were replaced with single spaces.
        source: the model's origin, if known, as JSON values.
    """

    model: RNNModel
    network: Network
    vocab: Vocab
    lower: bool
    fold_whitespace: bool
    source: Dict[str, Any]

    @classmethod
    def of(
        cls,
        model: RNNModel,
        vocab: Vocab,
        lower: bool,
        fold_whitespace: bool,
        source: Optional[Mapping[str, Any]] = None,
    ) -> Export:
        """Read a model, and check that the network computes the same."""
        network = read_network(model)
        check_vocab(model, vocab)
        for token in vocab.idx_to_token:
            if not isinstance(token, str):
                raise ExportError(
                    f"the vocabulary must contain only strings to be exported, not {token!r}"
                )
        compare(model, network, network.forward)
        return cls(model, network, vocab, lower, fold_whitespace, dict(source or {}))

    def metadata(self) -> Dict[str, str]:
        """Return everything in the file but the parameters: names and JSON, in ASCII."""
        layers = [
            {
                "cell": layer.mode,
                "num_inputs": layer.i2h_weight.shape[1],
                "num_hiddens": layer.num_hiddens,
                "residual": layer.residual,
            }
            for layer in self.network.layers
        ]
        values = {
            "layers": layers,
            "vocab": self.vocab.idx_to_token,
            "cleaning": {"lower": self.lower, "fold_whitespace": self.fold_whitespace},
            "source": {"d2l_deeprnn": __version__, **self.source},
        }
        as_json = {name: json.dumps(value) for name, value in values.items()}
        return {"d2l_deeprnn_format": FORMAT_VERSION, **as_json}


def source_of_run(directory: Path, run: LoadedRun, checkpoint: str) -> Dict[str, Any]:
    """Return the origin of a run's model: its settings, its text and its history.

    The absolute paths of its texts are private, and left out.
    """
    config = read_config(directory)
    assert config is not None
    return {
        "run": config["run"],
        "checkpoint": checkpoint,
        "settings": config["settings"],
        "text": {name: value for name, value in config["text"].items() if name != "paths"},
        "history": [list(record) for record in run.history],
    }


# Reading a model ------------------------------------------------------------------------------


def read_network(model: Any) -> Network:
    """Return the network that a model computes.

    Raises:
        ExportError: if the model may compute something else, if no format supports it, or if a
            parameter has no value yet, is not finite or is not float32.
    """
    _check_type(model, RNNModel, "the model")
    dense = model.dense
    _check_type(dense, gluon.nn.Dense, "model.dense")
    if dense.act is not None:
        raise ExportError("model.dense has an activation, but scores must not have one: remove it")
    layers = _layers(model.rnn, "model.rnn")
    if not layers:
        raise ExportError("model.rnn has no recurrent layer: there is nothing to export")
    weight = _value(dense.weight)
    bias = np.zeros(len(weight), np.float32) if dense.bias is None else _value(dense.bias)
    if weight.shape != (model.vocab_size, layers[-1].num_hiddens):
        raise ExportError(
            f"model.dense has a weight of shape {weight.shape}, but a model of "
            f"{model.vocab_size} characters and {layers[-1].num_hiddens} hidden units needs "
            f"{(model.vocab_size, layers[-1].num_hiddens)}"
        )
    return Network(layers, weight, bias)


def recurrent_parameters(rnn: Any) -> List[Dict[str, gluon.Parameter]]:
    """Return the parameters of a fused layer or a ``StackedRNN``, level by level."""
    if type(rnn) is StackedRNN:
        return [recurrent_parameters(level)[0] for level in rnn.levels]
    return [
        {name: getattr(rnn, f"l{i}_{name}") for name in WEIGHTS}
        for i in range(describe(rnn).num_layers)
    ]


def _check_type(block: Any, expected: type, what: str) -> None:
    if type(block) is not expected:
        raise ExportError(
            f"{what} has the class {type(block).__name__}, but only {expected.__name__} itself can "
            "be exported: a subclass may compute anything"
        )
    _check_unmodified(block, what)


def _check_unmodified(block: Any, what: str) -> None:
    if not is_unmodified(block):
        raise ExportError(
            f"{what} has hooks or replaced methods, which the export would lose: remove them first"
        )


def _layers(rnn: Any, what: str) -> List[Layer]:
    """Return the layers of a recurrent layer or cell; ``what`` names it in errors."""
    kind = type(rnn)
    _check_unmodified(rnn, what)
    if kind is StackedRNN:
        return [layer for level in rnn.levels for layer in _layers(level, what)]
    if kind in FUSED:
        described = describe(rnn)
        if described.bidirectional or described.projected or described.clipped:
            raise ExportError(
                f"{what} cannot be exported: it is bidirectional, has a projection_size, or clips "
                "its state"
            )
        return [_layer(described.mode, parameters) for parameters in recurrent_parameters(rnn)]
    if kind in STACKS:
        cells = [_layers(rnn[i], f"{what}[{i}]") for i in range(len(rnn))]
        return [layer for layers in cells for layer in layers]
    if kind is gluon.rnn.DropoutCell:  # acts in training only, as ZoneoutCell does
        return []
    if kind is gluon.rnn.ZoneoutCell:
        return _layers(rnn.base_cell, f"the base cell of {what}")
    if kind is gluon.rnn.ResidualCell:
        base = _layers(rnn.base_cell, f"the base cell of {what}")
        if len(base) != 1 or base[0].residual:
            raise ExportError(
                f"{what} is a ResidualCell around several cells; only one around a single cell can "
                "be exported"
            )
        return [base[0]._replace(residual=True)]
    acts = activations(rnn)
    mode = CELLS.get((kind, *acts))
    if mode is None:
        with_acts = f" with the activations {acts}" if acts else ""
        raise ExportError(
            f"{what} is a {kind.__name__}{with_acts}, which cannot be exported. These can: LSTM, "
            "GRU and RNN of gluon.rnn, StackedRNN, LSTMCell, GRUCell and RNNCell with tanh and "
            "sigmoid, RNNCell with relu, and stacks, DropoutCell, ZoneoutCell and ResidualCell of "
            "such cells"
        )
    return [_layer(mode, {name: getattr(rnn, name) for name in WEIGHTS})]


def _layer(mode: str, parameters: Mapping[str, gluon.Parameter]) -> Layer:
    values: Dict[str, Any] = {name: _value(param) for name, param in parameters.items()}
    return Layer(mode, **values)


def _value(param: Any) -> np.ndarray:
    try:
        array = param.data(param.list_ctx()[0])
    except RuntimeError as error:
        raise ExportError(
            f"{param.name} has no values yet: initialize the model, then train it or call it once"
        ) from error
    # Outside, because this also raises the errors of earlier operations on other arrays.
    value: np.ndarray = array.asnumpy()
    if value.dtype != np.float32:
        raise ExportError(f"{param.name} must be float32 to be exported, not {value.dtype}")
    if not np.isfinite(value).all():
        raise ExportError(
            f"{param.name} has values that are not finite: training diverged, or the values are "
            "damaged; use an earlier checkpoint"
        )
    return value


def _sigmoid(a: np.ndarray) -> np.ndarray:
    result: np.ndarray = 0.5 * (np.tanh(0.5 * a) + 1)
    return result


# Comparing ------------------------------------------------------------------------------------


def compare(
    model: RNNModel, network: Network, compute: Compute, what: str = "the exported network"
) -> None:
    """Check that a computation gives the same results as a model, on random tokens and states.

    Every token of the vocabulary is read at least once.

    Args:
        model: the model.
        network: the network that was read from it, with the names and sizes of its states.
        compute: the computation, with the arguments and results of ``network.forward``.
        what: name of the computation in the error.

    Raises:
        ExportError: if the results differ by more than rounding can explain in this network.
    """
    random = np.random.RandomState(0)
    initial_state = _by_layer(network, model.begin_state(batch_size=2, ctx=device_of(model)))
    if any(array.any() for array in initial_state):
        raise ExportError("the model's begin_state must be all zeros: export formats have no other")
    perturbed = network.perturbed(random)
    # Two steps are enough to check the state; with more, some networks amplify rounding errors.
    # With many rows, not all values of a state are small by chance.
    for num_rows, num_steps in ((32, 1), (max(32, -(-network.vocab_size // 2)), 2)):
        tokens = np.resize(random.permutation(network.vocab_size), (num_rows, num_steps))
        state = [
            random.uniform(-1, 1, (num_rows, size)).astype(np.float32)
            for size in network.states.values()
        ]
        at_a_time = max(1, NUM_SCORES // (num_steps * network.vocab_size))
        for begin in range(0, num_rows, at_a_time):
            rows = slice(begin, begin + at_a_time)
            arguments = tokens[rows], [array[rows] for array in state]
            results = [
                compute(*arguments),
                _call(model, network, *arguments),
                network.forward(*arguments),
                perturbed.forward(*arguments),
            ]
            # The perturbed network shows how much rounding can change the results.
            for name, found, expected, exact, inexact in zip(
                ["scores", *network.states], *([scores, *new] for scores, new in results)
            ):
                same_shape = found.shape == expected.shape
                difference = np.abs(found - expected).max() if same_shape else np.inf
                largest = np.abs(expected).max()
                if not difference <= TOLERANCE * largest + np.abs(inexact - exact).max():
                    raise ExportError(
                        f"{what} does not compute the same as the model: its {name} differ by up "
                        f"to {difference:.2g}, and the largest are {largest:.2g}; nothing was "
                        "written"
                    )


def _call(
    model: RNNModel, network: Network, tokens: np.ndarray, state: Sequence[np.ndarray]
) -> Tuple[np.ndarray, List[np.ndarray]]:
    """Call a model with the arguments and results of ``network.forward``."""
    ctx = device_of(model)
    arrays = [nd.array(array, ctx=ctx) for array in state]
    if not isinstance(model.rnn, gluon.rnn.RecurrentCell):
        # One array (num_layers, ...) for H of all layers, and another for C
        kinds = len(network.layers[0].state_names)
        arrays = [nd.stack(*arrays[kind::kinds], axis=0) for kind in range(kinds)]
    with autograd.pause(train_mode=False):
        scores, new = model(nd.array(tokens, ctx=ctx), arrays)
    # (num_steps * batch_size, vocab_size), time step by time step
    by_step = scores.asnumpy().reshape(*tokens.T.shape, -1)
    return by_step.swapaxes(0, 1), _by_layer(network, new)


def _by_layer(network: Network, state: Sequence[nd.NDArray]) -> List[np.ndarray]:
    """Return the arrays of a model's state in the order of ``network.states``."""
    arrays = [array.asnumpy() for array in state]
    if len(arrays) == len(network.states) and arrays[0].ndim == 2:
        return arrays
    return [array[i] for i in range(len(network.layers)) for array in arrays]
