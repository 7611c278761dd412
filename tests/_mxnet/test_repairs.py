"""MXNet is imported without warnings, and with a thread for each usable core."""

from __future__ import annotations

import json
import math
import os
import sys
import textwrap

import numpy as np
import pytest
from interpreter import python

from d2l_deeprnn._mxnet import repairs as _repairs

counted = pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")

TRAIN_A_LITTLE = """
    layer = mx.gluon.rnn.LSTM(3)
    layer.initialize()
    assert layer(mx.nd.ones((2, 1, 3))).shape == (2, 1, 3)
"""


# pytest resets the filters for each test.
RESET = """
import warnings
warnings.resetwarnings()
warnings.simplefilter('error')
"""


def test_mxnet_is_usable_after_the_import_and_nothing_is_printed():
    """Even if warnings are errors."""
    code = "import d2l_deeprnn, sys\nassert 'mxnet' not in sys.modules\n" + RESET
    code += "import mxnet as mx\n" + textwrap.dedent(TRAIN_A_LITTLE)
    assert python(code, "-W", "error") == ("", "")


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) >= "1.24.0" or sys.version_info >= (3, 12),
    reason="this NumPy or Python does not let MXNet be imported first",
)
def test_mxnet_may_come_first():
    code = "import mxnet as mx\nimport d2l_deeprnn as d2l\nd2l.try_gpu()"
    python(code + textwrap.dedent(TRAIN_A_LITTLE))


def test_copying_starts_no_second_team_and_large_weights_may_be_views():
    """Views such as parameters in one vector. Without the repair, MXNet crashes.

    Here a function of the package is what imports MXNet, without a warning too.
    """
    code = """
        d2l.try_gpu()
        import os, sys
        import numpy as np
        from mxnet import nd

        nd.zeros((512, 1024)).wait_to_read()  # starts the threads that compute
        threads = lambda: len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 0
        before = threads()
        nd.array(np.ones((512, 1024))).asnumpy()
        assert threads() == before

        n, rows = 1024, 16384
        vector = nd.random.normal(shape=(2 * n * n,))
        weights, before = vector[n * n :].reshape((n, n)), vector.asnumpy()
        inputs = nd.random.normal(shape=(rows, n))
        for _ in range(2):
            outputs = nd.FullyConnected(inputs, weights, no_bias=True, num_hidden=n)
            expected = nd.FullyConnected(inputs[:4], weights, no_bias=True, num_hidden=n)
            assert np.allclose(outputs[:4].asnumpy(), expected.asnumpy(), atol=1e-3)
        assert (vector.asnumpy() == before).all()
    """
    code = "import d2l_deeprnn as d2l\n" + RESET + textwrap.dedent(code)
    assert python(code, "-W", "error", OMP_NUM_THREADS="2") == ("", "")


# Counts the threads that appear with the first matrix product, besides MXNet's own thread.
THREADS = """
    import os
    from d2l_deeprnn.evidence.provenance import machine
    from mxnet import nd
    def count():
        return len(os.listdir("/proc/self/task"))
    before = count()
    nd.dot(nd.ones((600, 600)), nd.ones((600, 600))).wait_to_read()
    print(machine()["threads"], 1 + count() - before)
"""
FIRST = {
    "ours first": "import d2l_deeprnn",
    "MXNet first": """
        import warnings
        import numpy as np
        if "bool" not in vars(np):
            np.bool = bool
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                import mxnet
            except AttributeError:  # beside NumPy 2, but its library has been loaded
                pass
        import d2l_deeprnn
    """,
    "OpenMP first": "import ctypes\nctypes.CDLL('libgomp.so.1')\nimport d2l_deeprnn",
    "changed in between": """
        import os
        import d2l_deeprnn
        wish = os.environ.pop("WISH", None)
        if wish:
            os.environ["OMP_NUM_THREADS"] = wish
    """,
}


def threads(first="ours first", **environment):
    """Return the threads recorded and those counted, as strings, and standard error."""
    code = textwrap.dedent(FIRST[first]) + textwrap.dedent(THREADS)
    printed, said = python(code, **environment)
    recorded, found = printed.split()
    return recorded, found, said


@counted
@pytest.mark.parametrize("first", sorted(set(FIRST) - {"changed in between"}))
def test_every_available_core_has_a_thread(first):
    cores = str(_repairs.available_cores())
    assert threads(first) == (cores, cores, "")


@counted
@pytest.mark.parametrize("first, value", [("ours first", " 3 , 1"), ("MXNet first", "3")])
def test_the_users_number_of_threads_is_kept(first, value):
    assert threads(first, OMP_NUM_THREADS=value) == ("3", "3", "")


@counted
def test_a_number_that_is_set_after_the_import_counts_and_threads_spin_less():
    *found, said = threads("changed in between", WISH="3,1", OMP_DISPLAY_ENV="VERBOSE")
    assert found == ["3", "3"]
    assert "GOMP_SPINCOUNT = '3000'" in said  # according to OpenMP itself


def variables(before="", **environment):
    """Return what importing the package sets for MXNet, and what it prints on standard error."""
    code = f"""
        import json, os
        {before}
        import d2l_deeprnn
        print(json.dumps(dict(os.environ)))
    """
    printed, said = python(code, **environment)
    return json.loads(printed), said


@pytest.mark.parametrize("value", ["all", "4.0", "0", "99999999999", ",2", "\u0663"])
def test_an_invalid_number_of_threads_is_ignored_with_a_warning(value):
    found, said = variables(OMP_NUM_THREADS=value)
    assert found["OMP_NUM_THREADS"] == str(_repairs.available_cores())
    assert f"OMP_NUM_THREADS is {value!r}, which is not a number of threads" in said
    assert said.count("RuntimeWarning") == 1


@pytest.mark.parametrize("value, number", [("+2", "2"), ("  ", None)])
def test_other_spellings_are_understood(value, number):
    found, said = variables(OMP_NUM_THREADS=value)
    assert found["OMP_NUM_THREADS"] == (number or str(_repairs.available_cores()))
    assert said == ""


def test_tests_compute_with_one_thread():
    from d2l_deeprnn.evidence.provenance import machine

    assert machine()["threads"] == os.environ["OMP_NUM_THREADS"] == "1"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no processor affinity here")
def test_affinity_is_respected():
    one = "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
    assert variables(one)[0]["OMP_NUM_THREADS"] == "1"


def test_the_users_size_of_arrays_that_are_copied_by_several_threads_is_kept():
    assert variables(**{_repairs.COPY_VARIABLE: "1000"})[0][_repairs.COPY_VARIABLE] == "1000"


@pytest.mark.parametrize("name, value", [("SPIN", "77"), ("POLICY", "active")])
def test_the_users_choice_of_spinning_is_kept(name, value):
    chosen = {getattr(_repairs, f"{name}_VARIABLE"): value}
    assert variables(**chosen)[0].get(_repairs.SPIN_VARIABLE) == (value if name == "SPIN" else None)


# The container's quota ---------------------------------------------------------------------


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, None),
        ({"box/cpu.max": "max 100000\n"}, None),
        ({"box/cpu.max": "150000 100000\n"}, 1.5),
        # the smallest quota on the way up counts
        ({"cpu.max": "400000 100000\n", "box/cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "50000 100000\n", "box/cpu.max": "max 100000\n"}, 0.5),
        ({"cpu.max": "300000 100000\n"}, 3.0),  # the group itself is not mounted here
        # invalid ones are ignored, but not their parents
        ({"cpu.max": "300000 100000\n", "box/cpu.max": "100000 0\n"}, 3.0),
        ({"box/cpu.max": "100000 -100000\n"}, None),
        ({"box/cpu.max": "9" * 400 + " 1\n"}, None),
        ({"box/cpu.max": b"\xff\xfe 1\n"}, None),
    ],
)
def test_quota_of_control_groups_version_2(tmp_path, files, expected):
    write(tmp_path / "cgroup", "0::/box\n")
    for name, text in files.items():
        write(tmp_path / "fs" / name, text)
    assert _repairs._container_quota(tmp_path / "cgroup", tmp_path / "fs") == expected


@pytest.mark.parametrize(
    "text",
    [b"", b"nonsense\n", b"0::/\xff\xfe\n", b"0::/a\0b\n", b"0::/../../..\n", b"1:cpu:/box\n"],
)
def test_unusual_lists_of_control_groups_are_ignored(tmp_path, text):
    write(tmp_path / "cgroup", text)
    assert _repairs._container_quota(tmp_path / "cgroup", tmp_path / "fs") is None


def test_no_control_groups(tmp_path):
    assert _repairs._container_quota(tmp_path / "missing", tmp_path) is None


@pytest.mark.parametrize("quota", [None, 0.5, 1000.0])
def test_the_quota_limits_the_cores(monkeypatch, quota):
    monkeypatch.setattr(_repairs, "_cores_in_affinity", lambda: 4)
    monkeypatch.setattr(_repairs, "_container_quota", lambda: quota)
    assert _repairs.available_cores() == (4 if quota is None else min(4, math.ceil(quota)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's topology")
def test_two_hardware_threads_of_a_core_count_once(monkeypatch):
    siblings = {"cpu0": "0,2", "cpu1": "1,3", "cpu2": "0,2", "cpu3": "1,3"}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 3})
    monkeypatch.setattr(
        _repairs.Path, "read_text", lambda self: siblings[self.parent.parent.name] + "\n"
    )
    assert _repairs._cores_in_affinity() == 2


def test_no_topology_counts_processors(monkeypatch):
    def fail(self):
        raise OSError

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 5}, raising=False)
    monkeypatch.setattr(_repairs.Path, "read_text", fail)
    assert _repairs._cores_in_affinity() == 3
