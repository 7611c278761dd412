"""MXNet -> ONNX -> ONNX Runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported import ALL, HIDDENS, VOCAB, fused, model_of, scores_of, some_tokens, stacked
from recurrent import NUM_STATES, assert_close, fused_layer, random_array
from test_export import mixed_cells

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import gluon, init, nd
from d2l_deeprnn._mxnet.library import set_seed
from d2l_deeprnn.export import ExportError

onnx = pytest.importorskip("onnx", reason="needs the extra 'onnx'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")


def exported(model, tmp_path, **options):
    path = tmp_path / "model.onnx"
    d2l.export_model(model, VOCAB, path, format="onnx", **options)
    return path


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run(session, tokens, state):
    return session.run(None, {"tokens": tokens, **state})


def zeros(session, num_rows):
    return {
        given.name: np.zeros((num_rows, given.shape[1]), np.float32)
        for given in session.get_inputs()[1:]
    }


@pytest.mark.parametrize("mode, num_layers", ALL)
def test_it_computes_the_same_as_the_fused_layer(mode, num_layers, tmp_path):
    model = fused(mode, num_layers)
    session = session_of(exported(model, tmp_path))
    # The state is carried over between chunks of any size.
    for num_rows in (1, 4):
        state, ours = zeros(session, num_rows), None
        for num_steps in (1, 5, 2):
            tokens = some_tokens(num_rows, num_steps)
            scores, *new = run(session, tokens, state)
            expected, ours = scores_of(model, tokens, ours)
            assert_close({"scores": scores}, {"scores": expected}, 1e-5)
            state = dict(zip(state, new))
            kinds = NUM_STATES[mode]  # (num_layers, num_rows, HIDDENS) each
            by_layer = [array[i] for i in range(num_layers) for array in ours]
            assert len(new) == len(by_layer) == num_layers * kinds
            for name, array in zip(state, by_layer):
                assert_close({name: state[name]}, {name: array}, 1e-5)
            ours = [nd.array(array) for array in ours]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", None])
def test_it_computes_the_same_as_stacks_and_cells(cell, tmp_path):
    model = stacked(cell, 2) if cell else model_of(mixed_cells())
    session = session_of(exported(model, tmp_path))
    tokens = some_tokens(3, 6)
    scores, *new = run(session, tokens, zeros(session, 3))
    expected, state = scores_of(model, tokens)
    assert_close({"scores": scores}, {"scores": expected}, 1e-5)
    if cell is None:
        names = list(zeros(session, 1))
        assert_close(dict(zip(names, new)), dict(zip(names, state)), 1e-5)


EXPORT = """
from exported import VOCAB, fused
import d2l_deeprnn as d2l
d2l.export_model(fused("gru", 1), VOCAB, {path!r} + "2", format="onnx")
"""
EXAMPLE = """
import runpy, sys
sys.argv = [{example!r}, {path!r}, "the"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("code", [EXPORT, EXAMPLE], ids=["export", "example"])
def test_telemetry_is_off(code, tmp_path):
    """ONNX Runtime stores its reports in the home directory before it sends them."""
    example = str(Path(__file__).parents[2] / "examples/onnx_generate.py")
    path = exported(fused("gru", 1), tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    code = code.format(example=example, path=str(path))
    # No other variables: some would mark this as a CI machine, from which it never reports.
    env = {"HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    assert [file for file in home.rglob("*") if "onnxruntime" in str(file)] == []


def test_names_shapes_and_metadata_of_the_graph(tmp_path):
    model = onnx.load(str(exported(fused("lstm", 2), tmp_path, fold_whitespace=False)))
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert model.ir_version == 8 and model.producer_name == "d2l_deeprnn"
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("LSTM") == 2
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    states = {f"l{i}_{name}": ["batch_size", HIDDENS] for i in (0, 1) for name in "hc"}
    assert shapes == {
        "tokens": ["batch_size", "num_steps"],
        "scores": ["batch_size", "num_steps", len(VOCAB)],
        **states,
        **{f"new_{name}": shape for name, shape in states.items()},
    }
    facts = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(facts["vocab"]) == VOCAB.idx_to_token
    assert json.loads(facts["cleaning"]) == {"lower": True, "fold_whitespace": False}


def test_a_gru_has_gluons_form(tmp_path):
    gru = onnx.load(str(exported(fused("gru", 1), tmp_path)))
    (node,) = [node for node in gru.graph.node if node.op_type == "GRU"]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert attributes == {"hidden_size": HIDDENS, "linear_before_reset": 1}


def small_network(seed, scale):
    """Three layers of two to four units, with weights of one size."""
    set_seed(seed)
    model = d2l.RNNModel(fused_layer("rnn_tanh", 3, len(VOCAB), 2 + seed % 3), len(VOCAB))
    model.initialize(init.Normal(scale))
    model(nd.array([[1]]), model.begin_state(batch_size=1))
    for param in model.collect_params().values():
        param.set_data(random_array(*param.shape, scale=scale))
    return model


@pytest.mark.parametrize("scale", [0.01, 10])
def test_rounding_is_not_an_error(tmp_path, scale):
    """Values may be smaller than the errors of tanh, and large weights amplify rounding."""
    for seed in range(6):
        (tmp_path / str(seed)).mkdir()
        assert exported(small_network(seed, scale), tmp_path / str(seed)).stat().st_size


@pytest.mark.parametrize("scale", [0.01, 1, 10])
@pytest.mark.parametrize("wrong", ["layers", "bias"])
def test_a_wrong_small_graph_is_an_error(tmp_path, monkeypatch, scale, wrong):
    from d2l_deeprnn.export import onnx as module

    right = module._model

    def other(network):
        first, second, third = network.layers
        if wrong == "layers":
            return right(network._replace(layers=[first, third, second]))
        second = second._replace(i2h_bias=np.zeros_like(second.i2h_bias))
        return right(network._replace(layers=[first, second, third]))

    monkeypatch.setattr(module, "_model", other)
    for seed in range(3):
        with pytest.raises(ExportError, match="the ONNX graph does not compute"):
            exported(small_network(seed, scale), tmp_path)


@pytest.mark.parametrize("wrong", ["gates", "residual", "dense"])
def test_a_wrong_graph_is_not_written(tmp_path, monkeypatch, wrong):
    from d2l_deeprnn.export import onnx as module

    model = model_of(gluon.rnn.ResidualCell(gluon.rnn.LSTMCell(len(VOCAB))))
    add_layer = module._add_layer
    if wrong == "gates":
        monkeypatch.setitem(module.GATES, "lstm", (0, 1, 2, 3))
    elif wrong == "residual":
        monkeypatch.setattr(
            module, "_add_layer", lambda graph, prefix, layer, inputs: add_layer(
                graph, prefix, layer._replace(residual=False), inputs))  # fmt: skip
    else:
        constant = module._Graph.constant

        def other(self, name, value):
            constant(self, name, value * 1.001 if name == "dense_bias" else value)

        monkeypatch.setattr(module._Graph, "constant", other)
    with pytest.raises(ExportError, match="the ONNX graph does not compute the same"):
        exported(model, tmp_path)
    assert os.listdir(tmp_path) == []
