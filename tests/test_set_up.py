"""What `make` does on machines of all kinds: which Python it takes, and what it says is missing.

The machines are made up: a folder of programs is all that is on the path. Their Pythons are shell
scripts that answer for diagnosis.py, and only note that venv and pip were called.
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
FILES = ["Makefile", "setup.py", "pyproject.toml", "d2l_deeprnn/_version.py", "scripts/set_up.sh"]
FILES += ["scripts/set_up.py"]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

# What diagnosis.py prints, what pip prints, its exit status and the seconds that it takes.
PYTHON = """#!{sh}
case "$*" in
*diagnosis.py*) printf '%s' '{facts}' ;;
*set_up.py*) echo $$ >pid; exec '{real}' -c '
import runpy, sys
sys.argv, sys.executable = sys.argv[1:], "{bin}/{name}"
module = runpy.run_path(sys.argv[0])
module["main"].__globals__["PROGRESS"] = 0.2
for number in (2, 15):
    module["signal"].signal(number, module["stop"])
module["main"](*sys.argv[1:])' "$@" ;;
"-m venv"*) echo "{name} venv" >>events; mkdir -p .venv/bin; cp "{bin}/{name}" .venv/bin/python ;;
"-m pip"*) echo "pip $*" >>events; printf '%s\\n' '{says}'; sleep {seconds}; exit {status} ;;
-c*) exit {runs} ;;
*) echo "{name} $*" >>events ;;
esac
"""
INSTALL = ["--upgrade pip", "--editable .", "--no-deps mxnet==1.9.1"]
REPRODUCE = "-m d2l_deeprnn reproduce --corpus auto --resume --out reproduction"


class Machine:
    """A machine with a clone of the project, of which ``make`` is run."""

    def __init__(self, folder):
        self.bin, self.clone = folder / "its programs", folder / "its clone"
        for name in FILES:
            (self.clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(ROOT / name), str(self.clone / name))
        self.bin.mkdir()
        for name in TOOLS:
            os.symlink(shutil.which(name), str(self.bin / name))

    def python(self, name, version, problems="", place=None, **facts):
        given = {"says": "", "status": 0, "seconds": 0, "runs": 0, **facts}
        place = place or self.bin
        place.mkdir(exist_ok=True)
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
        """Run make; return its exit status, what it printed, and which programs did what."""
        events = self.clone / "events"
        events.write_text("")
        process = self.start(*words, **environment)
        said, _ = process.communicate()
        return process.returncode, said, events.read_text().splitlines()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def taken(name, install=INSTALL):
    """The events of a set-up with one Python, up to the command itself."""
    return [f"{name} venv", *(f"pip -m pip install {words}" for words in install)] + [
        f"{name} {REPRODUCE}"
    ]


# Which Python ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "versions, best",
    [
        ({"python3.8": "3.8", "python3.14": "3.14", "python3": "3.12"}, "python3.14"),
        ({"python3": "3.13", "python3.11": "3.11"}, "python3"),
        ({"python3": "3.16", "python3.8": "3.8"}, "python3.8"),  # not everything has wheels
        ({"python3": "3.15", "python3.9": ""}, "python3"),  # such as a version manager's
        ({"python": "3.10", "python3": "3.7 with a problem"}, "python"),
    ],
)
def test_the_newest_that_has_wheels_is_taken(machine, versions, best):
    for name, version in versions.items():
        machine.python(name, version.split()[0] if version else "", version[4:].strip())
    status, said, events = machine.make()
    assert (status, events) == (0, taken(best)), said
    assert ("not everything has been tried" in said) == (versions[best] == "3.15")
    # And for good: the second time there is nothing to set up.
    assert machine.make()[::2] == (0, [f"{best} {REPRODUCE}"])


def test_one_behind_another_of_the_same_name_is_found(machine, tmp_path):
    machine.python("python3.11", "3.11")
    machine.python("python3.11", "", place=tmp_path / "shims of a manager", runs=127)
    path = os.pathsep.join([str(tmp_path / "shims of a manager"), str(machine.bin)])
    assert machine.make(PATH=path)[::2] == (0, taken("python3.11"))


def test_the_one_that_is_named_is_taken_or_refused(machine):
    machine.python("python3.12", "3.12")
    machine.python("python3.7", "3.7", "python3.7 is Python 3.7.1\nMXNet needs libgomp")
    machine.python("python3.10", "", runs=127)
    for name, words in [
        ("python3.6", "make: there is no python3.6. Name a Python: make PYTHON="),
        ("python3.10", "make: python3.10 does not run"),
        ("python3.7", "make: python3.7 is Python 3.7.1\nmake: MXNet needs libgomp\n"),
    ]:
        status, said, events = machine.make("test", f"PYTHON={name}")
        assert (status, events) == (2, []) and words in said
        assert not (machine.clone / ".venv").exists()
    machine.python("python3.8", "3.8")
    named = str(machine.bin / "python3.8")
    assert machine.make("reproduce", f"PYTHON={named}")[::2] == (0, taken("python3.8"))


def test_no_python_at_all(machine):
    status, said, events = machine.make()
    assert (status, events) == (2, []) and "no Python 3.8 or later was found" in said
    for packages in zip(*diagnosis.LIBRARIES["Linux", "x86_64"].values()):
        assert all(package in said for package in packages)


def test_what_is_wrong_with_the_best_is_said_before_any_download(machine):
    machine.python("python3", "3.6", "too old")
    machine.python("python3.11", "3.11", "MXNet needs libgomp.so.1")
    status, said, events = machine.make()
    assert (status, events) == (2, []) and "\nmake: MXNet needs libgomp.so.1\n" in "\n" + said


# The environment ---------------------------------------------------------------------------


def test_an_environment_that_is_there_is_kept_and_gets_what_each_target_needs(machine):
    machine.python("python3.9", "3.9")
    assert machine.make()[0] == 0
    machine.python("python3.12", "3.12")
    for target, extra in [("test", "test"), ("notebooks", "notebooks"), ("reproduce", "")]:
        if not extra:
            os.utime(str(machine.clone / "setup.py"), (2**32, 2**32))
        events = machine.make(target)[2]
        project = f".[{extra}]" if extra else "."
        assert events[:-1] == taken("", [w.replace(".", project) if "edit" in w else w
                                         for w in INSTALL])[1:-1]  # fmt: skip
        assert events[-1].startswith("python3.9 ")


def test_an_environment_that_lost_a_library_is_told_so(machine):
    machine.python("python3.9", "3.9")
    assert machine.make()[0] == 0
    python = machine.clone / ".venv" / "bin" / "python"
    python.write_text(python.read_text().replace("3.9\n", "3.9\nMXNet needs libgomp.so.1"))
    status, said, events = machine.make("test")
    assert (status, events) == (2, []) and said.startswith("make: MXNet needs libgomp.so.1\n")


def test_an_environment_whose_python_is_gone_is_made_anew(machine):
    machine.python("python3.9", "3.9")
    assert machine.make()[0] == 0
    machine.python("python", "", place=machine.clone / ".venv" / "bin", runs=127)
    assert machine.make()[::2] == (0, taken("python3.9"))


def test_a_folder_that_cannot_be_written_to_is_one_line(machine):
    machine.python("python3", "3.12")
    text = (machine.bin / "python3").read_text()
    fail = '"-m venv"*) echo "Error: [Errno 30] Read-only file system: .venv"; exit 1 ;;'
    (machine.bin / "python3").write_text(re.sub('"-m venv".*', lambda found: fail, text))
    status, said, events = machine.make()
    assert (status, events) == (2, [])
    assert "cannot make a virtual environment: Error: [Errno 30] Read-only file system" in said


# pip ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "says, words",
    [
        (
            "WARNING: Retrying after connection broken by |NewConnectionError(no name)|: /simple/\n"
            "ERROR: No matching distribution found for mxnet==1.9.1",
            "make: the package index cannot be reached: NewConnectionError(no name)\n",
        ),
        (
            "ERROR: No matching distribution found for setuptools>=64",
            "it lists no setuptools. If this network has a login page, open any page in a browser",
        ),
        (
            "ERROR: No matching distribution found for onnxruntime>=1.19",
            "there is no wheel of onnxruntime>=1.19 for this Python. Name an older one, after make",
        ),
        ("Collecting\nERROR: No space left", "make: pip failed:\nERROR: No space left\n"),
    ],
    ids=["unreachable", "captive", "no wheel", "other"],
)
def test_why_pip_failed_is_said_in_a_sentence(machine, says, words):
    machine.python("python3", "3.15", says=says.replace("|", "'\\''"), status=1)
    status, said, events = machine.make()
    assert status == 2 and events[1:] == ["pip -m pip install --upgrade pip"]
    assert words in said and "All that pip said is in .venv/set-up.log" in said
    assert "WARNING" not in said and "Collecting" not in said
    assert says.split("|")[0] in (machine.clone / ".venv" / "set-up.log").read_text()


def test_what_takes_long_shows_that_it_goes_on(machine):
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
    said, _ = process.communicate()
    assert process.returncode == 2 and f"Error {128 + number}" in said
    machine.python("python", "3.13", place=machine.clone / ".venv" / "bin")
    assert machine.make()[2] == taken("python")[1:]  # the next one goes on from there


# The same everywhere -----------------------------------------------------------------------


def test_the_readme_names_the_packages_of_both_systems():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    packages = [*zip(*diagnosis.LIBRARIES["Linux", "x86_64"].values())]
    (debian,) = re.findall(r"apt-get install ([^`]*)`", readme)
    (fedora,) = re.findall(r"dnf install ([^`]*)`", readme)
    assert set(debian.split()) == {"make", "python3-venv", *packages[0]}
    assert set(fedora.split()) == {"make", *packages[1]}


@pytest.mark.parametrize(
    "name, minor", [("d2l_deeprnn/_mxnet/diagnosis.py", 5), ("scripts/set_up.py", 6)]
)
def test_old_pythons_can_read_it(name, minor):
    ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, minor))
