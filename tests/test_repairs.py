"""MXNet can be imported, quietly, and with a thread for each core that may be used."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from d2l_deeprnn import _repairs


def python(code, *options, **environment):
    """Run code in a fresh interpreter and return what it printed."""
    ours = (_repairs.THREADS_VARIABLE, _repairs.COPY_VARIABLE)
    env = {k: v for k, v in os.environ.items() if k not in ours}
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        env={**env, **environment}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


TRAIN_A_LITTLE = """
    layer = mx.gluon.rnn.LSTM(3)
    layer.initialize()
    assert layer(mx.nd.ones((2, 1, 3))).shape == (2, 1, 3)
"""


def test_mxnet_is_usable_after_import_and_nothing_is_said():
    code = "import d2l_deeprnn, sys\nassert 'mxnet' not in sys.modules\nimport mxnet as mx"
    assert python(code + textwrap.dedent(TRAIN_A_LITTLE)) == ("", "")


def test_no_warning_even_where_warnings_are_errors():
    python("import d2l_deeprnn as d2l\nd2l.try_gpu()", "-W", "error")


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) >= "1.24.0" or sys.version_info >= (3, 12),
    reason="this NumPy or Python does not let MXNet be imported first",
)
def test_mxnet_may_come_first():
    code = "import mxnet as mx\nimport d2l_deeprnn as d2l\nd2l.try_gpu()"
    python(code + textwrap.dedent(TRAIN_A_LITTLE))


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.parametrize("size, threads_more", [(None, 0), ("1000", 1)], ids=["ours", "the user's"])
def test_threads_that_copy_are_not_in_the_way_of_those_that_compute(size, threads_more):
    code = """
        import os
        import numpy as np
        import d2l_deeprnn as d2l
        d2l.try_gpu()
        from mxnet import nd
        nd.zeros((512, 1024)).wait_to_read()  # starts the threads that compute
        before = len(os.listdir("/proc/self/task"))
        nd.array(np.ones((512, 1024))).asnumpy()
        print(len(os.listdir("/proc/self/task")) - before)
    """
    environment = {} if size is None else {_repairs.COPY_VARIABLE: size}
    assert python(code, OMP_NUM_THREADS="2", **environment)[0] == str(threads_more)


THREADS = """
    import ctypes, os
    import d2l_deeprnn as d2l
    d2l.try_gpu()
    print(os.environ["OMP_NUM_THREADS"])
"""


def test_the_users_number_of_threads_is_left_alone():
    assert python(THREADS, OMP_NUM_THREADS="3")[0] == "3"


def test_otherwise_every_available_core_has_a_thread():
    assert python(THREADS)[0] == str(_repairs.available_cores())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no processor affinity here")
def test_affinity_is_respected():
    one = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    assert python(one + textwrap.dedent(THREADS))[0] == "1"


def test_mxnet_imported_first_gets_its_threads_through_its_own_interface():
    # A stand-in for MXNet's library notes the call; the real one has no way to be asked.
    code = """
        import numpy as np
        if "bool" not in vars(np):
            np.bool = bool
        import mxnet as mx
        calls = []
        class Library:
            def MXSetNumOMPThreads(self, number):
                calls.append(number.value)
            def __getattr__(self, name, library=mx.base._LIB):
                return getattr(library, name)
        mx.base._LIB = Library()
        import d2l_deeprnn
        print(calls, d2l_deeprnn._repairs.available_cores())
    """
    assert python(code)[0] == "[{0}] {0}".format(_repairs.available_cores())
    assert python(code, OMP_NUM_THREADS="1")[0].startswith("[] ")


# The container's quota ---------------------------------------------------------------------


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, None),
        ({"box/cpu.max": "max 100000\n"}, None),
        ({"box/cpu.max": "150000 100000\n"}, 1.5),
        # the tightest group on the way up counts
        ({"cpu.max": "400000 100000\n", "box/cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "50000 100000\n", "box/cpu.max": "max 100000\n"}, 0.5),
        ({"cpu.max": "300000 100000\n"}, 3.0),  # the group itself is not mounted here
        ({"box/cpu.max": "nonsense\n"}, None),
    ],
)
def test_quota_of_control_groups_version_2(tmp_path, files, expected):
    write(tmp_path / "cgroup", "0::/box\n")
    for name, text in files.items():
        write(tmp_path / "fs" / name, text)
    assert _repairs._container_quota(tmp_path / "cgroup", tmp_path / "fs") == expected


@pytest.mark.parametrize("quota, expected", [("-1", None), ("250000", 2.5)])
def test_quota_of_control_groups_version_1(tmp_path, quota, expected):
    write(tmp_path / "cgroup", "5:memory:/box\n4:cpu,cpuacct:/box\n0::/\n")
    folder = tmp_path / "fs" / "cpu,cpuacct" / "box"
    write(folder / "cpu.cfs_quota_us", quota)
    write(folder / "cpu.cfs_period_us", "100000")
    assert _repairs._container_quota(tmp_path / "cgroup", tmp_path / "fs") == expected


def test_no_control_groups(tmp_path):
    assert _repairs._container_quota(tmp_path / "missing", tmp_path) is None


@pytest.mark.parametrize("quota", [None, 0.5, 1.5, 1000.0])
def test_available_cores_take_the_smaller(monkeypatch, quota):
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
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(_repairs.Path, "read_text", fail)
    assert _repairs._cores_in_affinity() == 3
