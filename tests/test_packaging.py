"""What is installed, from where, and that the files which say so agree."""

import re
import runpy
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]


@pytest.fixture
def metadata(monkeypatch):
    """What setup.py hands to setuptools, as a dict."""
    handed_over = {}
    stand_in = types.SimpleNamespace(
        setup=handed_over.update, find_packages=lambda **arguments: arguments
    )
    monkeypatch.setitem(sys.modules, "setuptools", stand_in)
    runpy.run_path(str(ROOT / "setup.py"))
    return handed_over


def parsed(lines):
    """Requirements by name; a name twice must ask for the same."""
    requirements = {}
    for requirement in map(Requirement, lines):
        assert requirements.setdefault(requirement.name, requirement) == requirement
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
    wanted = parsed(metadata["install_requires"] + extras["notebooks"] + extras["test"])
    _, pip = environment_lines()
    assert parsed(line for line in pip if line != "-e .") == wanted
    assert pip[-1] == "-e ."


def test_conda_environment_has_a_supported_python(metadata):
    conda, _ = environment_lines()
    python, pip = conda
    assert pip == "pip"
    assert SpecifierSet(metadata["python_requires"]).contains(python.split("=")[1])


def test_classifiers_list_the_supported_pythons(metadata):
    listed = [
        line.rpartition(" ")[2]
        for line in metadata["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", line)
    ]
    supported = SpecifierSet(metadata["python_requires"])
    assert listed == [f"3.{minor}" for minor in range(30) if supported.contains(f"3.{minor}")]


def test_makefile_accepts_the_supported_pythons(metadata):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (bounds,) = re.findall(r"\(3, (\d+)\) <= sys\.version_info\[:2\] <= \(3, (\d+)\)", makefile)
    first, last = map(int, bounds)
    assert metadata["python_requires"] == f">=3.{first},<3.{last + 1}"


def test_version_is_everywhere_the_same(metadata):
    from d2l_deeprnn import __version__

    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE).group(1)
    assert metadata["version"] == newest == __version__


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
    assert any(path.parent.name == "texts" for path in packaged)
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    assert "recursive-include d2l_deeprnn/texts *.txt" in manifest


def test_no_file_names_somebodys_home_directory():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=str(ROOT), stdout=subprocess.PIPE, check=True).stdout
    files = [ROOT / name for name in listing.decode().split("\0") if name]
    home = re.compile(rb"(?<![\w.])/(?:root|(?:home|Users)/(?!me\b|you\b)\w)")
    assert files
    assert [path for path in files if path.is_file() and home.search(path.read_bytes())] == []
