"""`make` on made-up machines: which Python it takes, and which problems it reports.

Only one directory of programs is on the path. Its Pythons are shell scripts that answer for
diagnosis.py and record calls of venv and pip.
"""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from d2l_deeprnn._mxnet import diagnosis

ROOT = Path(__file__).parents[1]
TOOLS = ["sh", "make", "rm", "touch", "cat", "cp", "mkdir", "sleep"]
FILES = ["Makefile", "setup.py", "pyproject.toml", "d2l_deeprnn/_version.py", "scripts/set_up.py"]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

# facts: what diagnosis.py prints; says, status, seconds: of pip.
PYTHON = """#!{sh}
case "$*" in
*diagnosis.py*) printf '%s' '{facts}' ;;
*set_up.py*) echo $$ >pid; exec '{real}' -c '
import sys
sys.argv, sys.executable = sys.argv[1:], "{bin}/{name}"
exec(open(sys.argv[0]).read().replace("PROGRESS = 20", "PROGRESS = 0.2"))' "$@" ;;
"-m venv"*) echo {name} venv >>events; mkdir -p .venv/bin; cp "{bin}/{name}" .venv/bin/python ;;
"-m pip"*) echo "pip $*" >>events; printf '%s\\n' '{says}'; sleep {seconds}; exit {status} ;;
-c*) exit {runs} ;;
*) echo "{name} $*" >>events ;;
esac
"""
INSTALL = ["--upgrade pip", "--editable .", "--no-deps mxnet==1.9.1"]
REPRODUCE = "-m d2l_deeprnn reproduce --corpus auto --resume --out reproduction"


class Machine:
    """A machine with a clone of the project."""

    def __init__(self, folder):
        self.bin, self.clone = folder / "its programs", folder / "its clone"
        for name in FILES:
            (self.clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(ROOT / name), str(self.clone / name))
        self.bin.mkdir()
        for name in TOOLS:
            os.symlink(shutil.which(name), str(self.bin / name))

        self.python("python3", "")  # runs the set-up, and is of no other use

    def python(self, name, version, problems="", place=None, **facts):
        place = place or self.bin
        given = {"says": "", "status": 0, "seconds": 0, "runs": 0, **facts}
        text = PYTHON.format(
            sh=shutil.which("sh"), real=sys.executable, bin=place, name=name,
            facts=f"{version}\n{problems}\n" if version else "", **given,
        )  # fmt: skip
        (place / name).write_text(text)
        (place / name).chmod(0o755)

    def start(self, *words, **environment):
        environment = {"PATH": str(self.bin), **environment}
        return subprocess.Popen(
            ["make", *(words or ["reproduce"])], cwd=str(self.clone), env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def make(self, *words, **environment):
        """Run make; return its exit status, its output, and the recorded calls."""
        events = self.clone / "events"
        events.write_text("")
        process = self.start(*words, **environment)
        said, _ = process.communicate()
        return process.returncode, said, events.read_text().splitlines()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def taken(name):
    """Return the calls of a set-up with one Python and of the command."""
    installed = [f"pip -m pip install {words}" for words in INSTALL]
    return [f"{name} venv", *installed, f"{name} {REPRODUCE}"]


# Which Python ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "versions, best",
    [
        ({"python3.8": "3.8", "python3.14": "3.14", "python3": "3.12"}, "python3.14"),
        ({"python3": "3.13", "python3.11": "3.11"}, "python3"),
        ({"python3": "3.16", "python3.8": "3.8"}, "python3.8"),
        ({"python3": "3.15", "python3.9": ""}, "python3"),  # such as a version manager's
        ({"python": "3.10", "python3": "3.7 with a problem"}, "python"),
    ],
)
def test_the_newest_with_wheels_is_taken(machine, versions, best):
    for name, version in versions.items():
        machine.python(name, version.split()[0] if version else "", version[4:].strip())
    status, said, events = machine.make()
    assert (status, events) == (0, taken(best)), said
    assert ("may not support Python 3.15" in said) == (versions[best] == "3.15")
    assert machine.make()[::2] == (0, [f"{best} {REPRODUCE}"])


def test_the_one_that_is_named_is_taken_or_refused(machine):
    machine.python("python3.7", "3.7", "python3.7 is Python 3.7.1\nMXNet needs libgomp")
    for name, words in [
        ("", "make: python3.7 is Python 3.7.1\n"),  # the only one
        ("python3.6", "make: there is no python3.6. Install python3-venv (Debian, Ubuntu) or"),
        ("python3.7", "make: python3.7 is Python 3.7.1\nmake: MXNet needs libgomp\n"),
    ]:
        status, said, events = machine.make("test", f"PYTHON={name}")
        assert (status, events) == (2, []) and words in said
        assert not (machine.clone / ".venv").exists()
    machine.python("python3.8", "3.8")
    machine.python("python3.12", "3.12")
    named = str(machine.bin / "python3.8")
    assert machine.make("reproduce", f"PYTHON={named}")[::2] == (0, taken("python3.8"))


# The environment ---------------------------------------------------------------------------


def test_an_environment_is_checked_and_kept(machine):
    machine.python("python3.9", "3.9")
    assert machine.make()[0] == 0
    machine.python("python3.12", "3.12")
    *installed, tests = machine.make("test")[2][1:]
    assert installed == [
        "pip -m pip install --editable .[test]",
        "pip -m pip install --no-deps mxnet==1.9.1",
    ]
    assert tests.startswith("python3.9 -m pytest")
    os.utime(str(machine.clone / "setup.py"), (2**32, 2**32))
    assert machine.make()[::2] == (0, taken("python3.9")[1:])
    os.remove(str(machine.bin / "python3.12"))
    place = machine.clone / ".venv" / "bin"
    (machine.clone / ".venv" / "installed-test").unlink()
    machine.python("python", "3.9", "MXNet needs libgomp.so.1", place=place)
    status, said, events = machine.make("test")
    assert (status, events) == (2, []) and "make: MXNet needs libgomp.so.1\n" in said
    machine.python("python", "", place=place, runs=127)  # its base is gone
    assert machine.make()[::2] == (0, taken("python3.9"))


# pip ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "says, words",
    [
        (
            "WARNING: Retrying\nERROR: No matching distribution found for onnxruntime>=1.19",
            "make: pip found no wheel of onnxruntime>=1.19 for this Python. Check the network",
        ),
        ("Collecting\nERROR: No space left", "make: pip failed:\nERROR: No space left\n"),
    ],
)
def test_pips_failure_is_explained(machine, says, words):
    machine.python("python3", "3.15", says=says, status=1)
    status, said, events = machine.make()
    assert status == 2 and events[1:] == ["pip -m pip install --upgrade pip"]
    assert words in said and "output is in .venv/set-up.log" in said
    assert "WARNING" not in said and "Collecting" not in said
    assert says in (machine.clone / ".venv" / "set-up.log").read_text()


def test_a_long_installation_shows_progress(machine):
    machine.python("python3", "3.13", seconds=0.5)
    status, said, _ = machine.make()
    assert status == 0 and said.count(" s so far\n") >= 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_pip_too(machine, number):
    machine.python("python3", "3.13", seconds=60)
    process = machine.start()
    log = machine.clone / "events"
    while not (log.exists() and "pip" in log.read_text()):
        time.sleep(0.05)
    os.kill(int((machine.clone / "pid").read_text()), number)
    assert f"Error {128 + number}" in process.communicate()[0]
    machine.python("python", "3.13", place=machine.clone / ".venv" / "bin")
    assert machine.make()[2] == taken("python")[1:]  # the next one continues


# The same everywhere -----------------------------------------------------------------------


def test_the_readme_names_the_packages_of_both_systems():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    debian, fedora = zip(*diagnosis.LIBRARIES["Linux", "x86_64"].values())
    (apt,), (dnf,) = (re.findall(rf"{c} install ([^`]*)`", readme) for c in ("apt-get", "dnf"))
    assert set(apt.split()) == {"make", "python3-venv", *debian}
    assert set(dnf.split()) == {"make", *fedora}


@pytest.mark.parametrize(
    "name, minor", [("d2l_deeprnn/_mxnet/diagnosis.py", 5), ("scripts/set_up.py", 6)]
)
def test_old_pythons_can_read_it(name, minor):
    ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, minor))
