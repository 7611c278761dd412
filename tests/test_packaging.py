"""Installed files, requirements and metadata agree with each other."""

import re
import runpy
import shutil
import subprocess
import sys
import types
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from d2l_deeprnn._mxnet import diagnosis

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture
def metadata(monkeypatch):
    """Return the arguments that setup.py passes to setuptools."""
    handed_over = {}
    stand_in = types.SimpleNamespace(
        setup=handed_over.update, find_packages=lambda **arguments: arguments
    )
    monkeypatch.setitem(sys.modules, "setuptools", stand_in)
    build = types.SimpleNamespace(build_py=object)
    monkeypatch.setitem(sys.modules, "setuptools.command.build_py", build)
    runpy.run_path(str(ROOT / "setup.py"))
    return handed_over


def parsed(lines):
    """Requirements by name and marker; the same twice must ask for the same."""
    requirements = {}
    for requirement in map(Requirement, lines):
        key = requirement.name, str(requirement.marker)
        assert requirements.setdefault(key, requirement) == requirement
    return requirements


def environment_lines():
    """The conda requirements and pip's, of environment.yml: all items of ``dependencies``."""
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    _, dependencies = text.split("\ndependencies:\n")
    conda = re.findall(r"^  - (.*[^:])$", dependencies, re.MULTILINE)
    pip = re.findall(r"^      - (.*)$", dependencies, re.MULTILINE)
    assert len(conda) + len(pip) + 1 == len(dependencies.splitlines())  # 1: "- pip:"
    return conda, pip


def test_conda_environment_is_setup_py(metadata):
    extras = metadata["extras_require"]
    for_conda = [*extras["notebooks"], *extras["test"], *extras["onnx"], *extras["safetensors"]]
    wanted = parsed(metadata["install_requires"] + for_conda)
    _, pip = environment_lines()
    assert parsed(line for line in pip if line != "-e .") == wanted
    assert pip[-1] == "-e ."


def test_conda_environment_has_a_python_for_which_pip_installs_mxnet(metadata):
    conda, _ = environment_lines()
    python, pip = conda
    assert pip == "pip"
    (mxnet,) = (Requirement(r) for r in metadata["install_requires"] if r.startswith("mxnet"))
    system = {"sys_platform": "linux", "platform_machine": "x86_64"}
    assert mxnet.marker.evaluate({**system, "python_version": python.split("=")[1]})
    assert not mxnet.marker.evaluate({**system, "python_version": "3.13"})
    assert not mxnet.marker.evaluate({"sys_platform": "win32", "python_version": "3.12"})


def test_nothing_else_that_mxnet_asks_for_is_missing(metadata):
    """It is installed without its requirements. graphviz only draws networks."""
    asked = {Requirement(line).name for line in distribution("mxnet").requires}
    assert asked - {"graphviz"} <= {Requirement(r).name for r in metadata["install_requires"]}


def test_uv_overrides_what_is_in_pips_way(metadata):
    overrides = eval(re.search(r"override-dependencies = (.*)", PYPROJECT)[1])
    mxnet, numpy = (r for r in metadata["install_requires"] if r.startswith(("mxnet", "numpy")))
    # Without a marker, so that MXNet is there with Python 3.13 too.
    assert overrides == [mxnet.partition(";")[0], numpy]


def test_classifiers_list_the_supported_pythons(metadata):
    listed = [
        line.rpartition(" ")[2]
        for line in metadata["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", line)
    ]
    first, last = (int(version.split(".")[1]) for version in (listed[0], listed[-1]))
    assert listed == [f"3.{minor}" for minor in range(first, last + 1)]
    assert (3, first) == diagnosis.OLDEST
    assert f'requires-python = ">=3.{first}"' in PYPROJECT


def test_version_is_everywhere_the_same(metadata):
    from d2l_deeprnn import __version__

    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\d\S*)", changelog, re.MULTILINE).group(1)
    assert metadata["version"] == newest == __version__


def test_what_needs_packages_has_an_extra_of_its_name(metadata):
    extras = metadata["extras_require"]
    assert {"onnx", "safetensors", "tensorboard"} <= extras.keys()
    tested = parsed(extras["test"])
    # The extra for tests has the same requirements.
    assert all(tested[name] == r for e in ("onnx", "safetensors", "tensorboard") for name, r in
               parsed(extras[e]).items())  # fmt: skip


def test_command_exists(metadata):
    (script,) = metadata["entry_points"]["console_scripts"]
    name, _, target = script.partition(" = ")
    assert (name, target) == ("d2l-deeprnn", "d2l_deeprnn.cli:main")
    from d2l_deeprnn.cli import main

    assert callable(main)


def test_all_data_files_are_packaged(metadata):
    package = ROOT / "d2l_deeprnn"
    patterns = metadata["package_data"]["d2l_deeprnn"]
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    present = {path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {path for path in present if path.suffix != ".py"} == packaged
    assert package / "py.typed" in packaged
    assert any(path.parent.name == "samples" for path in packaged)
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    assert "recursive-include d2l_deeprnn/text/samples *.txt" in manifest


# Files that commands and tools left in this checkout; .gitignore names them.
LEFTOVERS = shutil.ignore_patterns(
    ".git", ".venv*", "venv", "build", "dist", "reproduction", "*.egg-info", "__pycache__",
    ".*_cache", ".hypothesis", ".ipynb_checkpoints", "networks", ".*.lock", "exercise_*.svg",
    "initialisation_*.svg",
)  # fmt: skip


@pytest.fixture
def checkout(tmp_path):
    """A copy of the project in a folder called as the package is, as a clone would be."""
    return Path(shutil.copytree(ROOT, tmp_path / "d2l_deeprnn", ignore=LEFTOVERS))


def build(folder, *words):
    """Call setup.py; what setuptools has to say about itself is not looked at."""
    pytest.importorskip("setuptools", reason="builds with this environment's setuptools")
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", *map(str, words)]
    subprocess.run(command, cwd=str(folder), check=True, capture_output=True)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    build(
        shutil.copytree(ROOT, folder / "clone", ignore=LEFTOVERS),
        *("sdist", "--formats", "zip", "--dist-dir", folder),
    )
    (archive,) = folder.glob("*.zip")
    shutil.unpack_archive(str(archive), str(folder / "unpacked"))
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


def test_all_that_the_makefile_and_ci_call_is_in_the_sdist(checkout, sdist):
    def matching(word):
        is_inside = word.strip("./*") and not word.startswith("/") and ".." not in word
        return checkout.glob(word) if is_inside else []

    called = set()
    for name in ["Makefile", ".ci/run", "scripts/set_up.py"]:
        words = re.findall(r"[\w./*-]*[\w/*]", (ROOT / name).read_text(encoding="utf-8"))
        called |= {path.relative_to(checkout) for word in words for path in matching(word)}
    assert {Path("notebooks/execute.py"), Path("d2l_deeprnn/_mxnet/diagnosis.py")} <= called
    assert [path for path in sorted(called) if not (sdist / path).exists()] == []


def test_the_sdist_is_the_repository(sdist):
    for path in tracked_files():
        name = path.relative_to(ROOT)
        if not name.name.startswith(".git"):
            assert (sdist / name).read_bytes() == path.read_bytes(), name


def test_what_an_earlier_build_left_does_not_get_into_the_next(checkout):
    build(checkout, "build")
    (stale,) = (checkout / "build").rglob("d2l_deeprnn")
    assert (stale / "files.py").exists()
    (stale / "gone.py").write_text("")
    (stale / "exercises" / "gone.py").write_text("")
    build(checkout, "build")
    assert (stale / "files.py").exists()
    assert not list(stale.rglob("gone.py"))


def test_a_folder_called_as_the_package_is_does_not_hide_it(tmp_path):
    """From the folder above a clone, whichever way the package was installed."""
    (tmp_path / "d2l_deeprnn" / "d2l_deeprnn").mkdir(parents=True)
    code = "import d2l_deeprnn as d2l; d2l.Vocab; print(d2l.__version__)"
    subprocess.run([sys.executable, "-c", code], cwd=str(tmp_path), check=True)


def test_an_editable_install_puts_the_clone_on_the_path(checkout, tmp_path):
    """Not an import hook: what is found on the path comes before one."""
    setuptools = pytest.importorskip("setuptools", reason="builds with this environment's")
    major, minor = map(int, setuptools.__version__.split(".")[:2])
    if (major, minor) < (70, 1):
        pytest.skip("needs setuptools 70.1 or later, which can build wheels by itself")
    code = f"from setuptools.build_meta import build_editable as b; b({str(tmp_path)!r})"
    command = [sys.executable, "-W", "ignore", "-c", code]
    subprocess.run(command, cwd=str(checkout), check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        lines = [
            archive.read(name).decode() for name in archive.namelist() if name.endswith(".pth")
        ]
    assert [Path(line.strip()).resolve() for line in lines] == [checkout.resolve()]


def tracked_files():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout")
    command = ["git", "ls-files", "-z"]
    listing = subprocess.run(command, cwd=str(ROOT), stdout=subprocess.PIPE, check=True).stdout
    paths = [ROOT / name for name in listing.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_file_names_somebodys_home_directory():
    home = re.compile(rb"(?<![\w.])/(?:root|(?:home|Users)/(?!me\b|you\b)\w)")
    files = tracked_files()
    assert files
    assert [path for path in files if home.search(path.read_bytes())] == []
