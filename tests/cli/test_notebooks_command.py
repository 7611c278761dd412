"""``d2l-deeprnn notebooks``: the copies, in a clone and from a wheel."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from d2l_deeprnn.cli import main, notebooks
from d2l_deeprnn.cli.notebook_files import FOLDER, PATTERNS, notebook_files

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(monkeypatch, tmp_path):
    """Copy the notebooks into the directory ``here``."""
    monkeypatch.chdir(tmp_path)
    assert main(["notebooks", "here"]) == 0
    return Path("here")


def sources(path, kind):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == kind)


def test_the_copy_has_all_notebooks_and_the_rows(copy, capsys):
    """In CI, the copy comes from a wheel that was built from this source distribution."""
    names = notebook_files(ROOT)
    assert notebook_files(copy) == names
    for name in names:
        assert (copy / name).read_bytes() == (ROOT / name).read_bytes(), name
    assert {p.parts[0] for p in names} == {"notebooks", "results", "benchmarks", "docs"}
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        name = path.relative_to(ROOT)
        assert name in names or ".ipynb_checkpoints" in name.parts


def test_what_cells_read_and_links_open_is_in_the_copy(copy):
    read = 0
    for path in copy.glob("notebooks/**/*.ipynb"):
        for place in re.findall(r"['\"](\.\./[\w./-]+)['\"]", sources(path, "code")):
            read += 1
            assert (path.parent / place).exists(), f"{path}: {place}"
        for target in re.findall(r"\]\(([^)#]+)|src=\"([^\"]+)", sources(path, "markdown")):
            target = "".join(target)
            # The source code of the package is where it is installed.
            if not target.startswith("http") and "/d2l_deeprnn/" not in target:
                assert (path.parent / target).exists(), f"{path}: {target}"
    assert read >= 6


def test_a_file_in_place_of_a_folder_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "notebooks").touch()
    assert main(["notebooks", "here"]) == 2
    message = "here/notebooks is not a directory: rename it, or choose another directory"
    assert message in capsys.readouterr().err


def test_a_second_copy_changes_nothing_and_lists_changed_files(copy, capsys):
    changed, gone = copy / "notebooks" / "deep-rnn.ipynb", copy / "results" / "README.md"
    directory, link = copy / "docs" / "studies.md", copy / "benchmarks" / "original.py"
    original = gone.read_bytes()
    changed.write_text("my own")
    gone.unlink()
    for path in (directory, link):
        path.unlink()
    directory.mkdir()
    link.symlink_to("nowhere")
    capsys.readouterr()
    assert main(["notebooks", "here"]) == 0
    printed = capsys.readouterr().out
    assert changed.read_text() == "my own" and gone.read_bytes() == original
    assert directory.is_dir() and os.readlink(link) == "nowhere"
    kept = re.findall(r"^Kept, though it differs from the original: (.*)$", printed, re.MULTILINE)
    assert set(kept) == {str(changed), str(directory), str(link)}
    assert f"Files copied to here: 1; already there: {len(notebook_files(ROOT)) - 1}\n" in printed
    assert "rename or remove yours, then repeat this command" in printed


def test_in_a_clone_there_is_nothing_to_copy(capsys):
    if (notebooks.PACKAGE / FOLDER).is_dir():
        pytest.skip("the package is installed")
    files = notebook_files(ROOT)
    assert main(["notebooks", str(ROOT)]) == 0
    assert f"Files copied to {ROOT}: 0; already there: {len(files)}\n" in capsys.readouterr().out
    assert notebook_files(ROOT) == files


def test_the_copy_is_not_inside_what_is_copied(capsys):
    """It would be copied into itself, and twice as large each time."""
    root = ROOT if not (notebooks.PACKAGE / FOLDER).is_dir() else notebooks.PACKAGE / FOLDER
    assert main(["notebooks", str(root / "notebooks" / "mine")]) == 2
    assert "so it would be copied, too: choose another directory" in capsys.readouterr().err
    assert not (root / "notebooks" / "mine").exists()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_is_not_a_directory(tmp_path, capsys, place):
    (tmp_path / "file").write_text("mine")
    assert main(["notebooks", str(tmp_path / place)]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "file") in error and "ot a directory" in error
    assert (tmp_path / "file").read_text() == "mine"


def test_a_package_without_notebooks_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "PACKAGE", tmp_path / "lib" / "d2l_deeprnn")
    assert main(["notebooks", str(tmp_path / "here")]) == 2
    assert "has no notebooks: install the package again" in capsys.readouterr().err
    assert not (tmp_path / "here").exists()


def test_jupyterlab_starts_with_the_chapter(copy, monkeypatch, capsys):
    started = []
    monkeypatch.setattr("os.execv", lambda *arguments: sys.exit(started.append(arguments)))
    monkeypatch.setattr(notebooks, "find_spec", lambda name: name)
    with pytest.raises(SystemExit):
        main(["notebooks", "here", "--open"])
    [(program, command)] = started
    assert program == sys.executable and command[:3] == [program, "-m", "jupyterlab"]
    assert command[3:] == [
        f"--ServerApp.root_dir={copy.resolve()}",
        "--LabApp.default_url=/lab/tree/notebooks/deep-rnn.ipynb",
    ]
    assert "Starting " in capsys.readouterr().out
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"\n\t    {command[4]} $(ARGS)\n" in makefile  # `make lab` opens the same


@pytest.mark.parametrize("pip, command", [(True, "{} -m pip install"), (False, "uv pip install")])
def test_without_jupyterlab_one_command_is_named(tmp_path, monkeypatch, capsys, pip, command):
    found = {"pip"} if pip else set()
    monkeypatch.setattr(notebooks, "find_spec", lambda name: name if name in found else None)
    monkeypatch.setattr("os.execv", None)
    assert main(["notebooks", str(tmp_path / "here"), "--open"]) == 2
    error = capsys.readouterr().err
    assert "JupyterLab is not installed" in error and "'d2l_deeprnn[notebooks]'" in error
    assert command.format(sys.executable) in error and sys.executable in error
    assert (tmp_path / "here" / "notebooks" / "deep-rnn.ipynb").exists()


def test_a_build_contains_the_notebooks_and_stays_small(tmp_path):
    pytest.importorskip("setuptools", reason="builds with this environment's setuptools")
    clone, built = tmp_path / "clone", tmp_path / "built"
    ignored = shutil.ignore_patterns("__pycache__", "networks")
    for name in ["d2l_deeprnn", "notebooks", "results", "benchmarks", "docs"]:
        shutil.copytree(ROOT / name, clone / name, ignore=ignored)
    for name in ["setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"]:
        shutil.copy(ROOT / name, clone)
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "build", "--build-base", built]
    subprocess.run(command, cwd=clone, check=True, capture_output=True)
    (package,) = built.glob("lib*/d2l_deeprnn")
    shutil.rmtree(clone)

    place = tmp_path / "here"
    copying = (
        f"from d2l_deeprnn.cli import main; raise SystemExit(main(['notebooks', {str(place)!r}]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    subprocess.run(
        [sys.executable, "-c", copying],
        check=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
    )
    names = notebook_files(ROOT)
    assert notebook_files(place) == notebook_files(package / FOLDER) == names
    with zipfile.ZipFile(tmp_path / "wheel.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(place / name)
    assert (tmp_path / "wheel.zip").stat().st_size < 4 * 2**20


def test_hidden_folders_and_caches_are_left_out(tmp_path):
    for name in [".ipynb_checkpoints/a-checkpoint.ipynb", "__pycache__/a.pyc", "a.ipynb"]:
        path = tmp_path / "notebooks" / "reader" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert notebook_files(tmp_path) == [Path("notebooks/reader/a.ipynb")]


def test_every_pattern_names_files():
    assert all(any(ROOT.glob(pattern)) for pattern in PATTERNS)
