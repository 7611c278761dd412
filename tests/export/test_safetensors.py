"""MXNet -> safetensors -> PyTorch -> safetensors -> MXNet, equal to the bit."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
from exported import ALL, HIDDENS, VOCAB, fused, model_of, scores_of, some_tokens, stacked
from recurrent import assert_close

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import gluon
from d2l_deeprnn.export import ExportError
from d2l_deeprnn.export.network import read_network

pytest.importorskip("safetensors", reason="needs the extra 'safetensors'")
from safetensors import safe_open  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"


def exported(model, path, **options):
    d2l.export_model(model, VOCAB, path, format="safetensors", **options)
    return path


def metadata_of(path):
    with safe_open(str(path), framework="numpy") as file:
        return file.metadata()


def assert_same_parameters(a, b):
    for one, other in zip(read_network(a).layers, read_network(b).layers):
        assert one.mode == other.mode
        for found, expected in zip(one[1:5], other[1:5]):
            assert found.dtype == expected.dtype and np.array_equal(found, expected)
    for found, expected in zip(read_network(a)[1:], read_network(b)[1:]):
        assert np.array_equal(found, expected)


@pytest.fixture
def example():
    """The module examples/pytorch_generate.py."""
    pytest.importorskip("torch", reason="needs torch: the extra 'bench'")
    spec = importlib.util.spec_from_file_location("example", EXAMPLES / "pytorch_generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("mode, num_layers", ALL)
def test_there_and_back_through_pytorch(mode, num_layers, tmp_path, example):
    import torch

    model = fused(mode, num_layers)
    there = exported(model, tmp_path / "there.safetensors", lower=False)
    theirs, facts = example.load(str(there))  # strictly
    names = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    assert type(theirs.rnn) is names.get(mode, torch.nn.RNN)
    tokens = some_tokens(3, 5)
    with torch.no_grad():
        scores, state = theirs(torch.as_tensor(tokens))
    state = [array.numpy() for array in (state if mode == "lstm" else [state])]
    expected, ours = scores_of(model, tokens)
    assert_close({"scores": scores.numpy()}, {"scores": expected}, 1e-5)
    for found, array in zip(state, ours):
        assert_close({"state": found}, {"state": array}, 1e-5)
    back = tmp_path / "back.safetensors"
    example.save(theirs, facts, str(back))
    again = d2l.import_model(back)
    assert_same_parameters(again.model, model)
    assert np.array_equal(scores_of(again.model, tokens)[0], expected)
    assert again.vocab.idx_to_token == VOCAB.idx_to_token
    assert (again.lower, again.fold_whitespace) == (False, True)


@pytest.mark.parametrize("mode, num_layers", ALL)
def test_there_and_back(mode, num_layers, tmp_path):
    model = fused(mode, num_layers)
    path = exported(model, tmp_path / "model.safetensors")
    again = d2l.import_model(path).model
    assert_same_parameters(again, model)
    twice = exported(again, tmp_path / "twice.safetensors")
    first, second = load_file(str(path)), load_file(str(twice))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert metadata_of(twice) == metadata_of(path)


def test_parameters_have_pytorchs_names(tmp_path):
    model = fused("lstm", 2)
    path = exported(model, tmp_path / "a")
    arrays = load_file(str(path))
    of_layer = {"weight_ih": "i2h_weight", "weight_hh": "h2h_weight"}
    of_layer.update(bias_ih="i2h_bias", bias_hh="h2h_bias")
    expected = {
        f"rnn.{theirs}_l{i}": getattr(model.rnn, f"l{i}_{ours}").data().asnumpy()
        for i in (0, 1)
        for theirs, ours in of_layer.items()
    }
    expected["dense.weight"] = model.dense.weight.data().asnumpy()
    expected["dense.bias"] = model.dense.bias.data().asnumpy()
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(arrays[name], array), name
    facts = metadata_of(path)
    assert facts["format"] == "pt" and json.loads(facts["vocab"]) == VOCAB.idx_to_token


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_stack_with_dropout_becomes_a_fused_layer(cell, tmp_path):
    model = stacked(cell, 3)
    again = d2l.import_model(exported(model, tmp_path / "a")).model
    assert type(again.rnn) in (gluon.rnn.LSTM, gluon.rnn.GRU, gluon.rnn.RNN)
    assert_same_parameters(again, model)
    tokens = some_tokens(2, 4)
    scores, expected = scores_of(again, tokens)[0], scores_of(model, tokens)[0]
    assert_close({"scores": scores}, {"scores": expected}, 1e-5)


def stack_of(*cells):
    stack = gluon.rnn.SequentialRNNCell()
    for cell in cells:
        stack.add(cell)
    return stack


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: gluon.rnn.ResidualCell(gluon.rnn.GRUCell(len(VOCAB))), "has a ResidualCell"),
        (lambda: stack_of(gluon.rnn.GRUCell(3), gluon.rnn.GRUCell(4)), "layers differ .gru with 3"),
        (lambda: stack_of(gluon.rnn.GRUCell(3), gluon.rnn.LSTMCell(3)), "gru with 3 units, lstm"),
    ],
)
def test_layers_that_torch_lacks_are_rejected(make, message, tmp_path):
    with pytest.raises(ExportError, match=f"{message}.*onnx"):
        exported(model_of(make()), tmp_path / "a")
    assert os.listdir(tmp_path) == []


# Invalid files ---------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    return exported(fused("gru", 2), tmp_path / "model.safetensors")


def refusal(path):
    """Return the message with which a file is rejected."""
    with pytest.raises(ExportError) as caught:
        d2l.import_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be imported: ") and "\n" not in message
    return message


def test_truncated_and_changed_files(file):
    whole = file.read_bytes()
    for content in [whole[:n] for n in (0, 8, 100, len(whole) - 1)] + [whole + b"x", b"PK\x03\x04"]:
        file.write_bytes(content)
        assert refusal(file).endswith(
            ": it is not a safetensors file, or it is damaged: export the model again, with "
            "--format safetensors"
        )
    end = 8 + int.from_bytes(whole[:8], "little")
    # A change in the header, which is JSON, is an error or still valid.
    rejected = 0
    for place in range(0, end, 37):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            d2l.import_model(file)
        except ExportError:
            rejected += 1
    assert rejected > 10


def test_paths_that_are_not_files(tmp_path):
    assert "there is no such file" in refusal(tmp_path / "none")
    assert "it is not a file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "it is not a file" in refusal(tmp_path / "pipe")


def rewritten(path, change):
    """Rewrite a file with other arrays or metadata; return the message."""
    arrays, facts = load_file(str(path)), metadata_of(path)
    change(arrays, facts)
    save_file(arrays, str(path), metadata=facts)
    return refusal(path)


def set_json(name, value):
    def change(arrays, facts):
        facts[name] = json.dumps(value)

    return change


def set_array(name, value):
    def change(arrays, facts):
        arrays[name] = value

    return change


V, H = len(VOCAB), HIDDENS
LAYER = {"cell": "gru", "num_inputs": V, "num_hiddens": H, "residual": False}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda arrays, facts: facts.clear(), "it has no metadata of a model"),
        (lambda arrays, facts: facts.update(d2l_deeprnn_format="2"), "version '2', not 1: update"),
        (lambda arrays, facts: facts.pop("vocab"), "'vocab' is missing in its metadata"),
        (lambda arrays, facts: facts.update(vocab="[" * 10**5), ""),
        (set_json("vocab", ["<unk>"] + ["a"] * (V - 1)), "contains a token twice"),
        (
            set_json("vocab", [*VOCAB.idx_to_token, "§"]),
            f"({V},), but these settings need ({V + 1},)",
        ),
        (set_json("cleaning", {"lower": 1, "fold_whitespace": True}), "must be true or false"),
        (set_json("source", []), "not []"),
        (set_json("layers", []), "lists no layers"),
        (set_json("layers", [LAYER] * 3), "rnn.bias_hh_l2 is missing"),
        (set_json("layers", [LAYER, {**LAYER, "cell": "lstm"}]), "its layers must be alike"),
        (set_json("layers", [{**LAYER, "residual": True}] * 2), "its layers must be alike"),
        (set_json("layers", [{**LAYER, "cell": "mgu"}] * 2), "rnn_relu, not 'mgu'"),
        (set_json("layers", [{**LAYER, "num_hiddens": "6"}] * 2), ""),
        (set_array("odd", np.zeros(1, np.float32)), "odd is unexpected"),
        (
            set_array("dense.bias", np.zeros(V)),
            "dense.bias must contain 32-bit floats (F32), not F64",
        ),
        (set_array("dense.bias", np.full(V, np.nan, np.float32)), "dense.bias has values that are"),
    ],
)
def test_contents_that_do_not_fit(file, change, message):
    assert message in rewritten(file, change)
