"""What is exported, what is refused, and where it is written."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from exported import ALL, HIDDENS, VOCAB, fused, model_of, scores_of, some_tokens, stacked
from recurrent import assert_close, randomize

import d2l_deeprnn as d2l
from d2l_deeprnn import export
from d2l_deeprnn._mxnet import gluon, nd
from d2l_deeprnn.export import ExportError, network
from d2l_deeprnn.export.network import Export, compare, read_network


def stack_of(*cells):
    stack = gluon.rnn.SequentialRNNCell()
    for cell in cells:
        stack.add(cell)
    return stack


def hybrid_stack_of(*cells):
    stack = gluon.rnn.HybridSequentialRNNCell()
    for cell in cells:
        stack.add(cell)
    return stack


def mixed_cells():
    """Every cell that can be exported, one on the other."""
    return stack_of(
        gluon.rnn.LSTMCell(HIDDENS),
        gluon.rnn.DropoutCell(0.5),
        gluon.rnn.ResidualCell(gluon.rnn.GRUCell(HIDDENS)),
        gluon.rnn.ZoneoutCell(gluon.rnn.RNNCell(4), 0.5, 0.5),
        d2l.DeepGateLSTMCell(3, gate_depth=1),
        hybrid_stack_of(gluon.rnn.RNNCell(5, activation="relu"), gluon.rnn.GRUCell(5)),
    )


MODELS = {f"{mode} {n}": lambda mode=mode, n=n: fused(mode, n) for mode, n in ALL}
MODELS.update(
    {f"stacked {cell} {n}": lambda c=cell, n=n: stacked(c, n) for cell in ("lstm", "gru", "rnn")
     for n in (1, 2)}
)  # fmt: skip
MODELS["cells"] = lambda: model_of(mixed_cells())
MODELS["one cell"] = lambda: model_of(gluon.rnn.LSTMCell(HIDDENS))
MODELS["compiled"] = lambda: compiled(fused("lstm", 2))


def compiled(model):
    model.hybridize(static_alloc=True)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_what_is_read_computes_what_the_model_does(name):
    model = MODELS[name]()
    tokens = some_tokens(3, 4)
    found, state = read_network(model).forward(
        tokens, [np.zeros((3, size)) for size in read_network(model).states.values()]
    )
    scores, new = scores_of(model, tokens)
    assert_close({"scores": found}, {"scores": scores}, 1e-5)
    assert sum(array.size for array in state) == sum(array.size for array in new)
    Export.of(model, VOCAB, True, True)  # compares, with random states too


def test_states_are_named_by_layer():
    states = read_network(MODELS["cells"]()).states
    assert list(states.items()) == [
        ("l0_h", 6), ("l0_c", 6), ("l1_h", 6), ("l2_h", 4), ("l3_h", 3), ("l3_c", 3),
        ("l4_h", 5), ("l5_h", 5),
    ]  # fmt: skip


# What is refused.


class Mine(d2l.RNNModel):
    """The same as its parent; but who would know?"""


class MyLSTM(gluon.rnn.LSTM):
    pass


class MyDense(gluon.nn.Dense):
    pass


def with_dense(dense):
    model = d2l.RNNModel(gluon.rnn.GRU(HIDDENS), len(VOCAB))
    model.dense = dense
    model.initialize()
    model(nd.array([[1]]), model.begin_state(batch_size=1))
    return model


def changed(change, model=None):
    model = model or fused("lstm", 2)
    change(model)
    return model


def hooked(block):
    block.register_forward_hook(lambda *args: None)


def always_seven(*args, **kwargs):
    return 7


REFUSED = {
    "a subclass": (
        lambda: Mine(gluon.rnn.LSTM(HIDDENS), len(VOCAB)),
        "the model has the class Mine, but only RNNModel itself can be exported",
    ),
    "no model": (lambda: gluon.rnn.LSTM(HIDDENS), "the model has the class LSTM, but only"),
    "a layer's subclass": (lambda: model_of(MyLSTM(HIDDENS)), "model.rnn is a MyLSTM, which"),
    "an output layer's": (lambda: with_dense(MyDense(len(VOCAB))), "model.dense has .* MyDense"),
    "an activation": (
        lambda: with_dense(gluon.nn.Dense(len(VOCAB), activation="relu")),
        "model.dense has an activation",
    ),
    "a hook": (lambda: changed(hooked), "the model has hooks or replaced methods"),
    "a layer's hook": (lambda: changed(lambda m: hooked(m.rnn)), "model.rnn has hooks"),
    "an output layer's hook": (lambda: changed(lambda m: hooked(m.dense)), "model.dense has hooks"),
    "a cell's hook": (
        lambda: changed(lambda m: hooked(m.rnn.base_cell), model_of(
            gluon.rnn.ZoneoutCell(gluon.rnn.GRUCell(3)))),
        "the base cell of model.rnn has hooks",
    ),
    "a method": (
        lambda: changed(lambda m: setattr(m, "begin_state", always_seven)), "the model has hooks or"
    ),
    "a kernel": (
        lambda: changed(lambda m: setattr(m.rnn, "_forward_kernel", always_seven)), "model.rnn has"
    ),
    "a projection": (
        lambda: d2l.RNNModel(gluon.rnn.LSTM(HIDDENS, projection_size=3), len(VOCAB)),
        "model.rnn has a projection_size",
    ),
    "a clipped state": (
        lambda: d2l.RNNModel(
            gluon.rnn.LSTM(HIDDENS, state_clip_min=-1, state_clip_max=1), len(VOCAB)
        ),
        "model.rnn clips its state",
    ),
    "other activations": (
        lambda: model_of(gluon.rnn.LSTMCell(HIDDENS, activation="relu")),
        r"model.rnn is a LSTMCell with the activations \['relu', 'sigmoid'\]",
    ),
    "a deep gate": (
        lambda: model_of(stack_of(d2l.DeepGateLSTMCell(HIDDENS, gate_depth=2))),
        r"model.rnn\[0\] is a DeepGateLSTMCell with gate_depth above 1",
    ),
    "a residual stack": (
        lambda: model_of(gluon.rnn.ResidualCell(hybrid_stack_of(*map(
            gluon.rnn.GRUCell, [3, len(VOCAB)])))),
        "ResidualCell around several cells",
    ),
    "nothing recurrent": (
        lambda: model_of(stack_of(gluon.rnn.DropoutCell(0.5))), "has no recurrent layer"
    ),
    "no values": (
        lambda: d2l.RNNModel(gluon.rnn.LSTM(HIDDENS), len(VOCAB)), "has no values yet: initialize"
    ),
    "NaN": (
        lambda: changed(lambda m: m.dense.bias.set_data(nd.full(len(VOCAB), np.nan))),
        "dense0_bias has values that are not finite|bias has values that are not finite",
    ),
    "float64": (lambda: changed(lambda m: m.cast("float64")), "must be float32 .*, not float64"),
    "another size": (
        lambda: changed(lambda m: setattr(m, "vocab_size", len(VOCAB) - 1)),
        r"weight of shape \(\d+, 6\), but a model of \d+ characters and 6 hidden units needs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_compute_something_else_is_refused_by_name(name):
    make, message = REFUSED[name]
    model = make()
    with pytest.raises(ExportError, match=message):
        read_network(model)


@pytest.mark.filterwarnings("ignore:rnn_layer is bidirectional")
def test_two_directions_are_refused():
    model = d2l.RNNModel(gluon.rnn.LSTM(HIDDENS, bidirectional=True), len(VOCAB))
    with pytest.raises(ExportError, match="model.rnn is bidirectional"):
        read_network(model)


def test_another_vocabulary_is_refused():
    model = fused("gru", 1)
    with pytest.raises(ValueError, match="the model was made for"):
        Export.of(model, d2l.Vocab("abc"), True, True)
    words = d2l.Vocab(range(len(VOCAB) - 1))
    with pytest.raises(ExportError, match="the vocabulary must hold strings to be exported, not 0"):
        Export.of(model, words, True, True)


def test_a_class_that_somebody_has_changed_is_noticed(monkeypatch):
    """Nothing of the instances shows it: what is computed does."""
    model = fused("lstm", 2)
    forward = d2l.RNNModel.forward

    def doubled(self, inputs, state):
        scores, state = forward(self, inputs, state)
        return 2 * scores, state

    monkeypatch.setattr(d2l.RNNModel, "forward", doubled)
    with pytest.raises(
        ExportError, match="the exported network does not compute .*: its scores differ"
    ):
        Export.of(model, VOCAB, True, True)
    monkeypatch.undo()
    begin_state = gluon.rnn.LSTM.begin_state

    def ones(self, *args, **kwargs):
        return [s + 1 for s in begin_state(self, *args, **kwargs)]

    monkeypatch.setattr(gluon.rnn.LSTM, "begin_state", ones)
    with pytest.raises(ExportError, match="the model's begin_state must be all zeros"):
        Export.of(model, VOCAB, True, True)


@pytest.mark.parametrize("name", ["lstm 2", "gru 2", "rnn_tanh 2", "cells"])
def test_the_comparison_sees_a_change_in_any_parameter(name):
    """In its smallest part, too: each array, and each row and column of one."""
    model = MODELS[name]()
    read = read_network(model)
    compare(model, read, read.forward)
    changed = []
    for i, layer in enumerate(read.layers):
        for weight in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias"):
            array = getattr(layer, weight).copy()
            # A unit of relus may be dead: then it is one of all that changes.
            array[... if layer.mode == "rnn_relu" else np.random.randint(len(array))] += 0.01
            layers = list(read.layers)
            layers[i] = layer._replace(**{weight: array})
            changed.append(read._replace(layers=layers))
    for weight in ("dense_weight", "dense_bias"):
        array = getattr(read, weight).copy()
        array[-1] += 0.01
        changed.append(read._replace(**{weight: array}))
    if name == "cells":
        changed.append(
            read._replace(layers=[layer._replace(residual=False) for layer in read.layers])
        )
    for other in changed:
        with pytest.raises(ExportError, match="does not compute the same as the model"):
            compare(model, read, other.forward)


def test_the_callers_random_numbers_stay_as_they_are():
    model = fused("lstm", 1)
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    Export.of(model, VOCAB, True, True)
    assert np.random.random() == expected


# Files.


@pytest.fixture
def fake(monkeypatch):
    """A format that writes a few bytes, then fails if it is told to."""
    import types

    module = types.SimpleNamespace(error=None)

    def write(given, file):
        file.write(b"some bytes")
        module.given = given
        if module.error:
            raise module.error

    module.write = write
    monkeypatch.setitem(export.FORMATS, "fake", "for tests")
    monkeypatch.setitem(sys.modules, "d2l_deeprnn.export.fake", module)
    return module


def test_a_format_is_a_file_with_one_function(fake, tmp_path):
    path = tmp_path / "a"
    d2l.export_model(fused("gru", 2), VOCAB, path, format="fake", lower=False)
    assert path.read_bytes() == b"some bytes"
    given = fake.given
    assert (given.lower, given.fold_whitespace, given.vocab) == (False, True, VOCAB)
    facts = {name: value for name, value in given.metadata().items()}
    assert json.loads(facts["cleaning"]) == {"lower": False, "fold_whitespace": True}
    assert json.loads(facts["vocab"]) == VOCAB.idx_to_token and facts["vocab"].isascii()
    layer = {"cell": "gru", "num_inputs": len(VOCAB), "num_hiddens": HIDDENS, "residual": False}
    assert json.loads(facts["layers"]) == [layer, {**layer, "num_inputs": HIDDENS}]
    assert json.loads(facts["source"])["d2l_deeprnn"] == d2l.__version__
    assert facts["d2l_deeprnn_format"] == network.FORMAT_VERSION


def test_every_format_is_a_file_with_one_function():
    for name in export.FORMATS:
        source = Path(export.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        # Options, which the page has, are not needed to call it.
        given = r"export: Export,\s+file: BinaryIO(,\s+\*(,\s+\w+: [^,]+ = [^,]+)+,\s+)?"
        assert re.search(rf"^def write\(\s*{given}\) -> None:$", source, re.MULTILINE)


@pytest.mark.parametrize("error", [ExportError("no"), OSError(28, "full"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing_behind(fake, tmp_path, error):
    fake.error = error
    with pytest.raises(type(error)):
        d2l.export_model(fused("gru", 1), VOCAB, tmp_path / "a", format="fake")
    assert os.listdir(tmp_path) == []


def test_nothing_is_overwritten(fake, tmp_path):
    model = fused("gru", 1)
    (tmp_path / "there").write_text("kept")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("there", "link", "."):
        with pytest.raises(ExportError, match="already exists: choose another file"):
            d2l.export_model(model, VOCAB, tmp_path / name, format="fake")
    with pytest.raises(ExportError, match="there is no directory .*none; make it, or choose"):
        d2l.export_model(model, VOCAB, tmp_path / "none" / "a", format="fake")
    with pytest.raises(ValueError, match="format must be one of onnx, safetensors, .*not 'pickle'"):
        d2l.export_model(model, VOCAB, tmp_path / "a", format="pickle")
    assert sorted(os.listdir(tmp_path)) == ["link", "there"]
    assert (tmp_path / "there").read_text() == "kept"


@pytest.mark.parametrize(
    "format, package, extra",
    [
        ("onnx", "onnx", "onnx"),
        ("onnx", "onnxruntime", "onnx"),
        ("safetensors", "safetensors", "safetensors"),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_command(
    tmp_path, monkeypatch, format, package, extra
):
    if package == "onnxruntime":
        pytest.importorskip("onnx", reason="needs the extra 'onnx'")
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.numpy", None)
    with pytest.raises(ImportError) as caught:
        d2l.export_model(fused("gru", 1), VOCAB, tmp_path / "a", format=format)
    words = str(caught.value)
    assert f"the format {format} needs the package" in words and "\n" not in words
    assert words.endswith(f"pip install 'd2l_deeprnn[{extra}]'")
    assert os.listdir(tmp_path) == []


def test_a_model_that_the_chapters_function_has_trained(tmp_path):
    """As in the README: the model, its vocabulary, and nothing else."""
    pytest.importorskip("safetensors", reason="needs the extra 'safetensors'")
    indices, vocab = d2l.load_corpus("the_tide_tables", 2000)
    model = d2l.RNNModel(gluon.rnn.LSTM(8, num_layers=2), len(vocab))
    d2l.train_and_predict_rnn_gluon(
        model, 8, indices.tolist(), vocab, d2l.try_gpu(), 2, 10, 1, 1, 8, ["the"], log=str
    )
    path = tmp_path / "chapter.safetensors"
    d2l.export_model(model, vocab, path, format="safetensors")
    again = d2l.import_model(path)
    tokens = np.array([vocab["the"[:1]], vocab["h"]])[None]
    assert np.array_equal(scores_of(again.model, tokens)[0], scores_of(model, tokens)[0])


def test_the_tests_helpers_compare():
    """That two models with other weights are not close, or all of the above would show nothing."""
    model, tokens = fused("lstm", 1), some_tokens(2, 3)
    before, _ = scores_of(model, tokens)
    randomize(model)
    with pytest.raises(AssertionError):
        assert_close({"scores": scores_of(model, tokens)[0]}, {"scores": before}, 1e-5)
