"""Fixtures of all tests: seeds, no network, an empty cache, and the library of 2019."""

import ipaddress
import os
import random
import signal
import socket
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# The first use of MXNet takes seconds, so the time of a single example says nothing.
settings.register_profile("d2l_deeprnn", deadline=None)
settings.load_profile("d2l_deeprnn")

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # for the reason given in export.onnx.runtime
# One thread for each process, whatever else the machine is doing: OpenMP's threads wait for each
# other at every step, and where one of them has to wait for a processor, all do. Tests that are
# about threads set the number for a process of their own.
os.environ["OMP_NUM_THREADS"] = "1"
# Started in the background or under nohup, a process ignores these, and so do its children. Those
# of the tests, to which they are sent, are to take them as they come.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(
            _number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        )

DATA_VARIABLE = "D2L_DEEPRNN_DATA"
SEED_VARIABLE = "D2L_DEEPRNN_TEST_SEED"
# One number for the whole run, so that a test run alone repeats what it did among others. It is the
# same in every run unless another is asked for: in float32 there are seeds with which rounding
# grows beyond any limit that would still show a fault, and somebody who changed something else
# should not come upon one.
SEED = os.environ.get(SEED_VARIABLE) or "0"
SEED = random.SystemRandom().randrange(2**31) if SEED == "random" else int(SEED)


def pytest_report_header():
    return f"seed: {SEED_VARIABLE}={SEED}"


def pytest_collection_modifyitems(items):
    # The longest test first, so that no processor waits for it at the end.
    items.sort(key=lambda item: item.name != "test_the_chapter_in_full")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if report.failed:
        command = f"{SEED_VARIABLE}={SEED} python -m pytest '{item.nodeid}'"
        report.sections.append(("To repeat it with the same seed", command))


@pytest.fixture(autouse=True)
def seeded():
    """Seed Python, NumPy and, if the test's module has imported it, MXNet; return the number."""
    random.seed(SEED)
    np.random.seed(SEED)
    if "mxnet" in sys.modules:
        from d2l_deeprnn._mxnet.library import set_seed

        set_seed(SEED)
    return SEED


def _is_loopback(address):
    if not isinstance(address, tuple):  # a Unix socket
        return True
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return address[0] in ("", "localhost")


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path_factory):
    """Refuse connections to other machines, and give the test a cache of its own."""

    def guarded(name):
        connect = getattr(socket.socket, name)

        def guard(self, address):
            if not _is_loopback(address):
                raise OSError(f"tests have no network: tried to connect to {address}")
            return connect(self, address)

        return guard

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, guarded(name))
    # Child processes are out of reach of the above: they get a proxy that nobody listens at.
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "localhost,127.0.0.1,::1")
    # Not tmp_path_factory.mktemp, which lists the directories that it has made before. In a
    # directory of their own, they are not listed for tmp_path either.
    caches = tmp_path_factory.getbasetemp() / "caches"
    caches.mkdir(exist_ok=True)
    monkeypatch.setenv("XDG_CACHE_HOME", tempfile.mkdtemp(dir=caches))
    # Programs that draw share Matplotlib's list of fonts.
    monkeypatch.setenv("MPLCONFIGDIR", str(caches / "matplotlib"))


@pytest.fixture
def small_chapter(monkeypatch):
    """The chapter's trainings with a small network."""
    from chapters import small_trainings

    from d2l_deeprnn.chapter import book

    for name, training in small_trainings().items():
        monkeypatch.setitem(book.TRAININGS, name, training)


@pytest.fixture(scope="session")
def book_dir():
    """The directory of real books, as a Path; the test is skipped where there is none."""
    directory = os.environ.get(DATA_VARIABLE)
    if not directory:
        pytest.skip(f"needs real books: {DATA_VARIABLE} names no directory")
    if not Path(directory).is_dir():
        pytest.fail(f"{DATA_VARIABLE} is {directory!r}, and there is no such directory")
    return Path(directory)


@pytest.fixture(scope="session")
def original():
    """The library of 2019, ``d2l`` 0.9.1, repaired for today; skipped where it is missing."""
    import d2l_deeprnn._mxnet  # noqa: F401  makes ``import mxnet`` work

    pytest.importorskip("IPython.display", reason="needs d2l 0.9.1, and that IPython")
    sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
    from original import repair

    repair()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        d2l = pytest.importorskip("d2l", reason="needs d2l 0.9.1: pip install -e '.[test]'")
    if d2l.__version__ != "0.9.1":
        pytest.skip(f"needs d2l 0.9.1, found {d2l.__version__}")
    return d2l


@pytest.fixture(scope="session")
def original_train(original):
    """Its module ``d2l.train``, which the function ``d2l.train`` hides."""
    import importlib

    return importlib.import_module("d2l.train")


@pytest.fixture
def minibatch_losses(monkeypatch):
    """Call it for the mean loss of each minibatch trained on since it was last called."""
    import numpy as np

    from d2l_deeprnn._mxnet import nd

    recorded = []
    backward = nd.NDArray.backward

    def record_and_go_backward(loss, *args, **kwargs):
        recorded.append(loss)
        return backward(loss, *args, **kwargs)

    def take():
        losses = np.array([loss.asscalar() for loss in recorded])
        recorded.clear()
        return losses

    # Both libraries call this one, so it sees the minibatches of either.
    monkeypatch.setattr(nd.NDArray, "backward", record_and_go_backward)
    return take


@pytest.fixture
def joins(monkeypatch):
    """Return a list with an entry for each time that a fused layer joins its parameters."""
    from d2l_deeprnn._mxnet import nd

    found = []
    concat = nd._internal._rnn_param_concat

    def count(*params, **kwargs):
        found.append(len(params))
        return concat(*params, **kwargs)

    monkeypatch.setattr(nd._internal, "_rnn_param_concat", count)
    return found
