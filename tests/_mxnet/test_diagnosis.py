"""Each problem of MXNet is one line, with what to do."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
import sysconfig
import textwrap
import types

import pytest

from d2l_deeprnn._mxnet import diagnosis

on_x86_linux = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="about Linux on x86-64"
)


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be another machine; by default, one without problems."""

    def seem(system="Linux", arch="x86_64", triplet="x86_64-linux-gnu", flags="fpu avx", **more):
        monkeypatch.setattr(platform, "system", lambda: system)
        monkeypatch.setattr(platform, "machine", lambda: arch)
        monkeypatch.setattr(sysconfig, "get_config_var", {"HOST_GNU_TYPE": triplet}.get)
        monkeypatch.setattr(sys, "version_info", (*more.get("version", (3, 11)), 1, "final", 0))
        lacks = more.get("lacks", ())
        monkeypatch.setattr(diagnosis, "_has_library", lambda name, arch: name not in lacks)
        monkeypatch.setattr(diagnosis, "_has_venv", lambda: "venv" not in lacks)
        cpuinfo = f"processor : 0\nflags : {flags}\n"
        monkeypatch.setattr(diagnosis, "open", lambda path: io.StringIO(cpuinfo), raising=False)

    return seem


@pytest.mark.parametrize(
    "seems, words",
    [
        ({"system": "Windows", "arch": "AMD64"}, "on Windows. Install WSL (in PowerShell: wsl"),
        ({"system": "Darwin", "arch": "arm64"}, "on Apple silicon. Use Linux in a container"),
        ({"system": "FreeBSD"}, "no MXNet 1.9.1 for FreeBSD on x86_64. Use Linux on x86-64 or ARM"),
        ({"triplet": "x86_64-alpine-linux-musl"}, "as Alpine does. Use Debian, Ubuntu or Fedora"),
        ({"version": (3, 7)}, "but this package needs 3.8 or later"),
        ({"flags": "fpu sse4_2"}, "This processor has no AVX, so MXNet stops with an illegal"),
        (
            {"lacks": ("venv", "libgomp.so.1")},
            "MXNet needs Python's module venv and libgomp.so.1. Debian, Ubuntu: apt-get install "
            "python3.11-venv libgomp1; Fedora: dnf install python3-libs libgomp",
        ),
        (
            {"arch": "aarch64", "lacks": ("liblapacke.so.3 or libopenblaso.so.0",)},
            "install liblapacke libop",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_each_problem_is_one_line_with_what_to_do(machine, seems, words):
    machine(**seems)
    (line,) = diagnosis.obstacles(with_venv=True)
    assert words in line and "\n" not in line and line[-1] != "."


def test_a_machine_without_problems(machine):
    for seems in ({}, {"version": (3, 16)}, {"arch": "aarch64", "flags": ""}, {"system": "Darwin"}):
        machine(**seems)
        assert diagnosis.obstacles(with_venv=True) == []
    machine(lacks=("venv",))  # an existing environment does not need it
    assert diagnosis.obstacles() == []


def test_the_wheel_for_arm_gets_links_to_system_libraries(machine, monkeypatch, tmp_path):
    machine(arch="aarch64")
    mxnet, libraries = tmp_path / "mxnet", tmp_path / "lib"
    mxnet.mkdir(), libraries.mkdir()
    for name in ("liblapacke.so.3", "libm.so.6", "libc.so.6"):
        (libraries / name).write_text(name)
    found = types.SimpleNamespace(origin=str(mxnet / "__init__.py"))
    monkeypatch.setattr(diagnosis, "find_spec", lambda name: found)
    monkeypatch.setattr(diagnosis, "_FOLDERS", [str(libraries)])
    (mxnet / "libamath.so").symlink_to("/gone/libm.so.6")
    for _ in range(2):
        diagnosis.link_libraries()
    leads_to = {path.name: path.read_text() for path in mxnet.iterdir()}
    assert leads_to == {
        "libarmpl_lp64_mp.so": "liblapacke.so.3",
        "libamath.so": "libm.so.6",
        "libastring.so": "libc.so.6",
    }


NO_FILE = ": cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    "error, words",
    [
        (ModuleNotFoundError(name="mxnet"), "pip install --no-deps mxnet==1.9.1"),
        (ModuleNotFoundError(name="numpy"), "pip install 'numpy>=1.20,<3'"),
        (OSError("libnccl.so.2" + NO_FILE), "MXNet's GPU build needs libnccl.so.2, which is"),
        (OSError("libcudart.so.11.0" + NO_FILE), "uninstall this build, whose name begins with mx"),
        (OSError("libamath.so" + NO_FILE), "wheel for ARM needs links to system libraries"),
        (ImportError("two\n words"), "MXNet cannot be imported: two words"),
    ],
    ids=str,
)
def test_a_failed_import_is_explained(machine, error, words):
    machine()
    assert words in diagnosis.explain(error)


def test_an_explanation_depends_on_the_machine(machine, monkeypatch):
    machine(system="Windows")
    assert "WSL" in diagnosis.explain(ModuleNotFoundError(name="mxnet"))
    machine(lacks=("libgomp.so.1",))
    assert "install libgomp1;" in diagnosis.explain(OSError("libgomp.so.1" + NO_FILE))
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    line = diagnosis.explain(ModuleNotFoundError(name="numpy"))
    assert f"{sys.executable} -m pip install" in line and "Or choose the kernel" in line

    machine(flags="fpu")
    assert "no AVX" in diagnosis.crashed(-4)
    machine()
    assert "an instruction that this" in diagnosis.crashed(-4)
    assert "MXNet crashed (signal 11)" in diagnosis.crashed(-11)


# The import and the command report it --------------------------------------------------------

BROKEN = {
    "a library": """
        import ctypes, os
        exists, load = os.path.exists, ctypes.CDLL.__init__
        def fail(self, name, *args, **kwargs):
            if str(name).endswith(("libgomp.so.1", "libmxnet.so")):
                raise OSError("libgomp.so.1: cannot open shared object file: No such file")
            load(self, name, *args, **kwargs)
        ctypes.CDLL.__init__ = fail
        os.path.exists = lambda path: "libgomp.so.1" not in str(path) and exists(path)
    """,
    "NumPy": "import sys\nsys.modules['numpy'] = None",
    "docstrings": "",  # removed by the option
    "crash": """
        import os, sys
        class Finder:
            def find_spec(name, path=None, target=None):
                if name == "mxnet.base":
                    os.kill(os.getpid(), 4)
        sys.meta_path.insert(0, Finder)
    """,
}
REASONS = {
    "a library": "MXNet needs libgomp.so.1. Debian, Ubuntu: apt-get install libgomp1; Fedora: dnf",
    "NumPy": "NumPy is not installed: {} -m pip install 'numpy>=1.20,<3'",
    "docstrings": "MXNet 1.9.1 needs its docstrings, which Python's option -OO removes: use -O,",
    "crash": "MXNet stopped at an instruction",
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=on_x86_linux) for name in BROKEN])
def test_a_failed_import_is_reported_in_one_line(name, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(BROKEN[name]))
    path = os.pathsep.join([str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    level = "2" if name == "docstrings" else ""
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONOPTIMIZE": level}
    reason = REASONS[name].format(sys.executable)

    def run(*words):
        return subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True
        )

    doctor = run("-m", "d2l_deeprnn", "doctor")
    assert f"\nproblem: {reason}" in doctor.stdout
    assert doctor.returncode == 2 and doctor.stderr == ""
    if name == "crash":
        return
    done = run("-c", "import d2l_deeprnn")
    assert done.returncode == 1 and done.stderr.count("Traceback") == 1
    assert f"CannotImportMXNet: {reason}" in done.stderr.splitlines()[-1]
    script = tmp_path / "d2l-deeprnn"  # as pip writes it
    script.write_text("import sys\nfrom d2l_deeprnn.cli import main\nsys.exit(main())\n")
    done = run(str(script), "reproduce", "--corpus", "the_tide_tables", "--num-epochs", "1")
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"d2l-deeprnn: error: {reason}")
    assert run(str(script), "--version").returncode == 0
