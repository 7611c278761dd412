"""Models that can be exported, models that cannot, and the files."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
from exported import ALL, HIDDENS, VOCAB, fused, model_of, scores_of, some_tokens, stacked
from recurrent import assert_close

import d2l_deeprnn as d2l
from d2l_deeprnn import export
from d2l_deeprnn._mxnet import gluon, nd
from d2l_deeprnn.export import ExportError, network
from d2l_deeprnn.export.network import Export, compare, read_network


def stack_of(*cells, kind=gluon.rnn.SequentialRNNCell):
    stack = kind()
    for cell in cells:
        stack.add(cell)
    return stack


def mixed_cells():
    """Every cell that can be exported, on top of each other."""
    return stack_of(
        gluon.rnn.LSTMCell(HIDDENS),
        gluon.rnn.DropoutCell(0.5),
        gluon.rnn.ResidualCell(gluon.rnn.GRUCell(HIDDENS)),
        gluon.rnn.ZoneoutCell(gluon.rnn.RNNCell(4), 0.5, 0.5),
        stack_of(gluon.rnn.RNNCell(5, activation="relu"), kind=gluon.rnn.HybridSequentialRNNCell),
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
def test_the_network_computes_the_same_as_the_model(name):
    model = MODELS[name]()
    tokens, read = some_tokens(3, 4), read_network(model)
    scores, _ = read.forward(tokens, [np.zeros((3, size)) for size in read.states.values()])
    assert_close({"scores": scores}, {"scores": scores_of(model, tokens)[0]}, 1e-5)
    Export.of(model, VOCAB, True, True)  # compares, with random states too


def test_states_are_named_by_layer():
    states = read_network(MODELS["cells"]()).states
    assert list(states.items()) == [
        ("l0_h", 6), ("l0_c", 6), ("l1_h", 6), ("l2_h", 4), ("l3_h", 5),
    ]  # fmt: skip


# Models that cannot be exported ----------------------------------------------------------------


class Mine(d2l.RNNModel):
    """The same as its parent, but nothing shows that."""


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


def around(layer):
    """A model without values."""
    return d2l.RNNModel(layer, len(VOCAB))


REJECTED = {
    "a subclass": (
        lambda: Mine(gluon.rnn.LSTM(HIDDENS), len(VOCAB)),
        "the model has the class Mine",
    ),
    "not a model": (lambda: gluon.rnn.LSTM(HIDDENS), "the model has the class LSTM, but only RNNM"),
    "a layer's subclass": (lambda: model_of(MyLSTM(HIDDENS)), "model.rnn is a MyLSTM, which"),
    "a dense subclass": (lambda: with_dense(MyDense(len(VOCAB))), "model.dense has .* MyDense"),
    "an activation": (
        lambda: with_dense(gluon.nn.Dense(len(VOCAB), activation="relu")),
        "model.dense has an activation",
    ),
    "a hook": (lambda: changed(hooked), "the model has hooks or replaced methods"),
    "a layer's hook": (lambda: changed(lambda m: hooked(m.rnn)), "model.rnn has hooks"),
    "a dense hook": (lambda: changed(lambda m: hooked(m.dense)), "model.dense has hooks"),
    "a cell's hook": (
        lambda: changed(
            lambda m: hooked(m.rnn.base_cell),
            model_of(gluon.rnn.ZoneoutCell(gluon.rnn.GRUCell(3))),
        ),
        "the base cell of model.rnn has hooks",
    ),
    "a method": (lambda: changed(lambda m: setattr(m, "begin_state", max)), "the model has hooks"),
    "a kernel": (
        lambda: changed(lambda m: setattr(m.rnn, "_forward_kernel", max)),
        "rnn has hooks",
    ),
    "a projection": (
        lambda: around(gluon.rnn.LSTM(HIDDENS, projection_size=3)),
        "model.rnn cannot be exported: .* projection_size",
    ),
    "a clipped state": (
        lambda: around(gluon.rnn.LSTM(HIDDENS, state_clip_min=-1, state_clip_max=1)),
        "model.rnn cannot be exported: .* clips its state",
    ),
    "two directions": (
        lambda: around(gluon.rnn.LSTM(HIDDENS, bidirectional=True)),
        "model.rnn cannot be exported: it is bidirectional",
    ),
    "other activations": (
        lambda: model_of(gluon.rnn.LSTMCell(HIDDENS, activation="relu")),
        r"model.rnn is a LSTMCell with the activations \['relu', 'sigmoid'\]",
    ),
    "a deep gate": (
        lambda: model_of(stack_of(d2l.DeepGateLSTMCell(HIDDENS, gate_depth=2))),
        r"model.rnn\[0\] is a DeepGateLSTMCell, which cannot be exported",
    ),
    "a residual stack": (
        lambda: model_of(
            gluon.rnn.ResidualCell(
                stack_of(
                    *(gluon.rnn.GRUCell(size) for size in (3, len(VOCAB))),
                    kind=gluon.rnn.HybridSequentialRNNCell,
                )
            )
        ),
        "ResidualCell around several cells",
    ),
    "not recurrent": (lambda: model_of(stack_of(gluon.rnn.DropoutCell(0.5))), "has no recurrent"),
    "no values": (lambda: around(gluon.rnn.LSTM(HIDDENS)), "has no values yet: initialize"),
    "NaN": (
        lambda: changed(lambda m: m.dense.bias.set_data(nd.full(len(VOCAB), np.nan))),
        "bias has values that are not finite",
    ),
    "float64": (lambda: changed(lambda m: m.cast("float64")), "must be float32 .*, not float64"),
    "another size": (
        lambda: changed(lambda m: setattr(m, "vocab_size", len(VOCAB) - 1)),
        r"weight of shape \(\d+, 6\), but a model of \d+ characters and 6 hidden units needs",
    ),
}


@pytest.mark.filterwarnings("ignore:rnn_layer is bidirectional")
@pytest.mark.parametrize("name", REJECTED)
def test_other_models_are_rejected(name):
    make, message = REJECTED[name]
    model = make()
    with pytest.raises(ExportError, match=message):
        read_network(model)


def test_another_vocabulary_is_rejected():
    model = fused("gru", 1)
    with pytest.raises(ValueError, match="the model was made for"):
        Export.of(model, d2l.Vocab("abc"), True, True)
    numbers = d2l.Vocab(range(len(VOCAB) - 1))
    with pytest.raises(
        ExportError, match="the vocabulary must contain only strings to be exported"
    ):
        Export.of(model, numbers, True, True)


def test_a_changed_class_is_noticed(monkeypatch):
    """No attribute of the model shows the change, but its scores do."""
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
    model = MODELS[name]()
    read = read_network(model)
    compare(model, read, read.forward)
    changed = []
    for i, layer in enumerate(read.layers):
        for weight in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias"):
            array = getattr(layer, weight).copy()
            # A relu unit may be dead: then change all units.
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


def test_the_callers_random_numbers_are_not_used():
    model = fused("lstm", 1)
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    Export.of(model, VOCAB, True, True)
    assert np.random.random() == expected


# Files ----------------------------------------------------------------------------------------


@pytest.fixture
def fake(monkeypatch):
    """A format that writes a few bytes, then raises its error if it has one."""
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


def test_a_format_is_a_module_with_one_function(fake, tmp_path):
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


@pytest.mark.parametrize("error", [ExportError("no"), OSError(28, "full"), KeyboardInterrupt()])
def test_a_failed_export_leaves_nothing_behind(fake, tmp_path, error):
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
    with pytest.raises(ExportError, match="there is no directory .*none; create it, or choose"):
        d2l.export_model(model, VOCAB, tmp_path / "none" / "a", format="fake")
    with pytest.raises(ValueError, match="format must be one of onnx, safetensors, .*not 'pickle'"):
        d2l.export_model(model, VOCAB, tmp_path / "a", format="pickle")
    assert sorted(os.listdir(tmp_path)) == ["link", "there"]
    assert (tmp_path / "there").read_text() == "kept"
