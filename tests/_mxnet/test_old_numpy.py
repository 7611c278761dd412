"""MXNet works with NumPy 1 and with NumPy 2, and other code sees NumPy unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from interpreter import python

from d2l_deeprnn._mxnet import gluon, init, mx, nd, old_numpy


def graph(n):
    x = mx.sym.var("x", shape=(n(2), n(3)), init=init.Constant(0.5), __sizes__=[n(2), {"a": n(3)}])
    y = mx.sym.FullyConnected(x, num_hidden=n(4), name="dense")
    return mx.sym.reshape(y, shape=(n(4), n(2)), name="reshaped")


def parameter(n):
    param = gluon.Parameter("weight", shape=(n(2), n(3)), init=init.Normal(0.1))
    param.initialize()
    return param.var().attr("__shape__"), param.data().shape


def fused_layer(n):
    layer = gluon.rnn.LSTM(n(3), n(2), input_size=n(4))
    layer.initialize()
    return [s.shape for s in layer(nd.zeros((n(5), n(2), n(4))), layer.begin_state(n(2)))[1]]


def convolution(n):
    layer = gluon.nn.Conv2D(n(3), (n(2), n(2)), in_channels=n(1))
    layer.initialize()
    layer.hybridize()
    return layer(nd.zeros((n(1), n(1), n(4), n(4)))).shape


def updated(n):
    weight = nd.ones(2)
    nd.multi_sgd_update(weight, nd.ones(2), lrs=[n(3)], wds=[n(0)], num_weights=n(1), out=weight)
    return weight.asnumpy().tolist()


def loaded(tmp_path, n):
    graph(n).save(str(tmp_path / "graph.json"))
    return mx.sym.load(str(tmp_path / "graph.json")).tojson()


ATTRIBUTES = {
    "an operator's shape": lambda path, n: nd.zeros((n(2), n(3))).shape,
    "an operator's numbers": lambda path, n: nd.clip(nd.arange(5), n(1), n(3)).asnumpy().tolist(),
    "a slice": lambda path, n: nd.zeros((3, 4))[n(1) :, n(0) : n(2)].shape,
    "axes": lambda path, n: nd.transpose(nd.zeros((2, 3)), axes=(n(1), n(0))).shape,
    "a moved axis": lambda path, n: nd.moveaxis(nd.zeros((2, 3, 4)), n(0), n(2)).shape,
    "random numbers": lambda path, n: nd.random.uniform(n(0), n(1), shape=(n(2), n(3))).shape,
    "learning rates": lambda path, n: updated(n),
    "a variable": lambda path, n: mx.sym.var("x", shape=(n(2), n(3))).list_attr(),
    "inferred shapes": lambda path, n: graph(n).infer_shape(x=(n(2), n(3))),
    "partly inferred shapes": lambda path, n: graph(n).infer_shape_partial(),
    "JSON": lambda path, n: mx.sym.load_json(graph(n).tojson()).tojson(),
    "a saved graph": loaded,
    "a parameter": lambda path, n: parameter(n),
    "an initializer": lambda path, n: init.Constant(float(n(1))).dumps(),
    "a fused layer": lambda path, n: fused_layer(n),
    "a convolution": lambda path, n: convolution(n),
    "mx.np": lambda path, n: mx.np.pad(mx.np.ones((n(2), n(3))), ((n(1), n(2)),) * 2).shape,
}  # fmt: skip


@pytest.mark.parametrize("kind", [np.int64, np.int32])
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_numpy_integers_work_as_python_integers_do(name, kind, tmp_path):
    assert ATTRIBUTES[name](tmp_path, kind) == ATTRIBUTES[name](tmp_path, int)


def test_an_iterator_takes_a_shape_of_numpy_integers(tmp_path):
    (tmp_path / "numbers.csv").write_text("1,2,3,4\n")
    shape = (np.int64(2), np.int64(2))
    (batch,) = mx.io.CSVIter(data_csv=str(tmp_path / "numbers.csv"), data_shape=shape, batch_size=1)
    assert batch.data[0].asnumpy().tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(
    "value, text",
    [
        ((np.float32(0.1), np.float64("inf"), np.float16(2)), "(0.1, inf, 2.0)"),
        ([np.bool_(True), np.str_("np.int64(8)")], "[True, 'np.int64(8)']"),
        ("(np.int64(8), 8)", "(np.int64(8), 8)"),
    ],
    ids=["floats", "others", "a string"],
)
def test_scalars_are_printed_as_numpy_1_does_and_strings_stay_as_they_are(value, text):
    assert mx.sym.var("x", __value__=value).attr("__value__") == text


def test_mxnet_still_recognizes_a_string():
    with pytest.raises(AssertionError):
        mx.sym.var("x").optimize_for(b"a name")
    mx.sym.var("x").optimize_for("a name")


def test_a_metric_sums_in_double_precision():
    metric = mx.metric.Loss()
    for loss in [2.0**24, 1.0, 1.0]:
        metric.update(None, [nd.array([loss])])
    assert metric.sum_metric == 2**24 + 2


def test_the_import_leaves_numpy_unchanged():
    code = """
        import numpy as np
        before = dict(vars(np))
        import d2l_deeprnn
        import mxnet as mx
        from d2l_deeprnn._mxnet.old_numpy import removed
        assert [n for n in removed() if before.get(n) is not vars(np).get(n)] == []
        assert mx.ndarray.ndarray.np.bool and mx.np.ones((2,))[0] == 1
    """
    assert python(code, "-W", "error") == ("", "")


def test_mxnet_can_be_imported_after_an_import_that_failed():
    code = """
        try:
            import mxnet
        except AttributeError:
            pass
        import d2l_deeprnn as d2l
        import numpy as np
        d2l.try_gpu()
        import mxnet as mx
        layer = mx.gluon.rnn.LSTM(3)
        layer.initialize()
        with mx.autograd.record():
            outputs = layer(mx.nd.ones((np.int64(2), 1, 3)))
        outputs.backward()
        assert outputs.shape == (2, 1, 3)
    """
    python(code)


def test_an_existing_name_is_kept(monkeypatch):
    monkeypatch.setitem(vars(np), "bool", "the user's")
    with old_numpy.names():
        assert np.bool == "the user's"
    assert np.bool == "the user's"
