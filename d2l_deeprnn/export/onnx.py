"""Export to ONNX: a graph from token indices and states to scores and new states.

MXNet's own exporter slices the parameters of deep LSTMs wrongly. So the graph is built here, with
one LSTM, GRU or RNN node per layer. Before it is written, ONNX Runtime runs it, and its results are
compared with the model's.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO, Dict, List, Sequence, Tuple

import numpy as np

from . import missing
from .network import Export, Layer, Network, compare

# Supported since ONNX 1.12 and ONNX Runtime 1.12.
OPSET, IR_VERSION = 17, 8
TOKENS, SCORES, NEW = "tokens", "scores", "new_"  # new_ begins the name of an output state
# Gluon's gates in the order of ONNX: i, o, f, c in an LSTM; z, r, h in a GRU.
GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn_tanh": (0,), "rnn_relu": (0,)}
OPERATORS: Dict[str, Tuple[str, Dict[str, Any]]] = {
    "lstm": ("LSTM", {}),
    # Gluon's form: the reset gate acts after the product with the state's weight.
    "gru": ("GRU", {"linear_before_reset": 1}),
    "rnn_tanh": ("RNN", {"activations": ["Tanh"]}),
    "rnn_relu": ("RNN", {"activations": ["Relu"]}),
}


def runtime() -> Any:
    """Import ONNX Runtime without telemetry.

    Unless this variable is set before the import, versions 1.29 and later report to Microsoft which
    models they open, and store a number that identifies the machine.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def write(export: Export, file: BinaryIO) -> None:
    """Write a model, after checking that ONNX Runtime computes the same from the graph.

    Raises:
        ExportError: if its results differ.
        ImportError: if onnx or onnxruntime is missing.
    """
    try:
        import onnx

        onnxruntime = runtime()
    except ImportError as error:
        raise missing(error, "onnx", "the packages onnx and onnxruntime") from error
    network = export.network
    model = _model(network)
    onnx.helper.set_model_props(model, export.metadata())
    onnx.checker.check_model(model, full_check=True)
    serialized = model.SerializeToString()
    session = onnxruntime.InferenceSession(serialized, providers=["CPUExecutionProvider"])
    names = list(network.states)

    def compute(
        tokens: np.ndarray, state: Sequence[np.ndarray]
    ) -> Tuple[np.ndarray, List[np.ndarray]]:
        scores, *new = session.run(None, {TOKENS: tokens, **dict(zip(names, state))})
        return scores, new

    compare(export.model, network, compute, "the ONNX graph")
    file.write(serialized)


def _model(network: Network) -> Any:
    from onnx import TensorProto, helper

    graph = _Graph()
    graph.constant("vocab_size", np.array(network.vocab_size, np.int64))
    graph.constant("off_and_on", np.array([0, 1], np.float32))
    graph.constant("axis_0", np.array([0], np.int64))
    graph.constant("axis_1", np.array([1], np.int64))
    # (batch_size, num_steps) -> (num_steps, batch_size, vocab_size)
    graph.node("Transpose", [TOKENS], ["tokens_by_step"], perm=[1, 0])
    graph.node("OneHot", ["tokens_by_step", "vocab_size", "off_and_on"], ["one_hot"])
    outputs = "one_hot"
    for i, layer in enumerate(network.layers):
        outputs = _add_layer(graph, f"l{i}", layer, outputs)
    graph.node("Transpose", [outputs], ["outputs_by_row"], perm=[1, 0, 2])
    graph.constant("dense_weight", network.dense_weight.T)
    graph.constant("dense_bias", network.dense_bias)
    graph.node("MatMul", ["outputs_by_row", "dense_weight"], ["products"])
    graph.node("Add", ["products", "dense_bias"], [SCORES])

    def value(name: str, *sizes: Any, of: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, of, ["batch_size", *sizes])

    inputs = [value(TOKENS, "num_steps", of=TensorProto.INT64)]
    results = [value(SCORES, "num_steps", network.vocab_size)]
    for name, num_hiddens in network.states.items():
        inputs.append(value(name, num_hiddens))
        results.append(value(NEW + name, num_hiddens))
    return helper.make_model(
        helper.make_graph(graph.nodes, "RNNModel", inputs, results, graph.constants),
        producer_name="d2l_deeprnn",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def _add_layer(graph: _Graph, prefix: str, layer: Layer, inputs: str) -> str:
    """Add a layer to a graph; return the name of its output."""
    operator, attributes = OPERATORS[layer.mode]
    # The first axis, of length 1, is ONNX's axis of directions.
    graph.constant(f"{prefix}_W", _gates(layer, layer.i2h_weight)[None])
    graph.constant(f"{prefix}_R", _gates(layer, layer.h2h_weight)[None])
    biases = [_gates(layer, layer.i2h_bias), _gates(layer, layer.h2h_bias)]
    graph.constant(f"{prefix}_B", np.concatenate(biases)[None])
    states = [f"{prefix}_{name}" for name in layer.state_names]
    for state in states:
        graph.node("Unsqueeze", [state, "axis_0"], [f"{state}_before"])
    parameters = [f"{prefix}_{name}" for name in ("W", "R", "B")]
    graph.node(
        operator,
        # "": all rows have the same length
        [inputs, *parameters, "", *(f"{state}_before" for state in states)],
        [f"{prefix}_Y", *(f"{state}_after" for state in states)],
        hidden_size=layer.num_hiddens,
        **attributes,
    )
    for state in states:
        graph.node("Squeeze", [f"{state}_after", "axis_0"], [NEW + state])
    outputs = f"{prefix}_outputs"
    graph.node("Squeeze", [f"{prefix}_Y", "axis_1"], [outputs])
    if layer.residual:
        graph.node("Add", [outputs, inputs], [f"{prefix}_sum"])
        outputs = f"{prefix}_sum"
    return outputs


def _gates(layer: Layer, array: np.ndarray) -> np.ndarray:
    """Return the rows of Gluon's gates in the order of ONNX."""
    order = GATES[layer.mode]
    gates = np.split(array, len(order))
    return np.concatenate([gates[i] for i in order])


class _Graph:
    """The nodes and constants of a graph."""

    def __init__(self) -> None:
        self.nodes: List[Any] = []
        self.constants: List[Any] = []

    def constant(self, name: str, value: np.ndarray) -> None:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))

    def node(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, outputs, outputs[0], **attributes))
