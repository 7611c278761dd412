"""What `make` does on machines of all kinds: which Python it takes, and what it says is missing.

The machines are made up: a folder of programs is all that is on the path. Their Pythons are this
one under another version number, whose venv and pip only note that they were called.
"""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ["sh", "make", "mkdir", "rm", "touch", "sed", "grep", "tail", "tr", "cat", "ls"]
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="needs make")

FAKE_PYTHON = """
import json, os, pathlib, runpy, sys, time
facts, words = json.loads(sys.argv[1]), sys.argv[2:]
here = pathlib.Path(__file__).parent

def note(*event):
    with open(here / "events", "a") as file:
        file.write(" ".join([facts["name"], *event]) + "\\n")

def check():
    import ctypes, platform, sysconfig
    sysconfig.get_paths = lambda: {"include": str(here / "no header files")}
    sys.version_info = (*facts["version"], 1, "final", 0)
    sys.executable, sys.maxsize = "/somewhere/" + facts["name"], 2**63 - 1
    platform.python_version = lambda: "%d.%d.1" % tuple(facts["version"])
    platform.system, platform.machine = lambda: facts["system"], lambda: facts["machine"]
    def load(name):
        if name in facts["lacks"]:
            raise OSError(name)
    ctypes.CDLL = load
    for module in ["venv", "ensurepip"]:
        sys.modules[module] = None if "venv" in facts["lacks"] else os
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")

def make_venv(folder):
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    program = (here / facts["name"]).read_text().replace("exec ", "IN_VENV=1 exec ", 1)
    (folder / "bin" / "python").write_text(program)
    (folder / "bin" / "python").chmod(0o755)

def pip(words):
    if words[0] == "cache":
        print(facts["cached"])
    elif "uv" in words:
        note("pip install uv")
        if not facts["index_has_uv"]:
            sys.exit("ERROR: No matching distribution found for uv")
        target = pathlib.Path(words[words.index("--target") + 1]) if "--target" in words else None
        target = target or pathlib.Path(os.environ["FAKE_VENV"])
        (target / "bin").mkdir(parents=True, exist_ok=True)
        (target / "bin" / "uv").write_text((here / "uv of the index").read_text())
        (target / "bin" / "uv").chmod(0o755)
    else:
        said = (here / "said").read_text()
        note("pip", *words, "| told of compiling" if "going to be compiled" in said else "")
        print(facts["pip_says"])
        if facts["pip_waits"]:
            sleeps = here / "sleeps"
            before = sleeps.stat().st_size
            while sleeps.stat().st_size < before + 3:
                time.sleep(0.01)
        sys.exit(facts["pip_status"])

if words[0] == "-c":
    sys.exit(1 if "numpy" in words[1] else 0)
elif words[0].endswith("check_python.py"):
    check()
elif words[:2] == ["-m", "venv"]:
    note("venv", words[-1])
    make_venv(pathlib.Path(words[-1]))
elif words[:2] == ["-m", "pip"] and words[2] == "--version":
    sys.exit(not facts["pip"])
elif words[:2] == ["-m", "pip"]:
    pip(words[2:])
else:
    note(*words)
"""


class Machine:
    """A machine with a clone of the project, of which ``make`` is run."""

    def __init__(self, folder):
        self.folder, self.bin, self.clone = folder, folder / "its programs", folder / "its clone"
        for path in (self.bin, self.clone / "scripts", self.clone / "d2l_deeprnn"):
            path.mkdir(parents=True)
        for name in ["Makefile", "setup.py", "pyproject.toml", "d2l_deeprnn/_version.py"]:
            shutil.copy(str(ROOT / name), str(self.clone / name))
        for path in (ROOT / "scripts").glob("*.*"):
            shutil.copy(str(path), str(self.clone / "scripts"))
        for name in TOOLS:
            os.symlink(shutil.which(name), str(self.bin / name))
        (self.bin / "fake.py").write_text(FAKE_PYTHON)
        self.program(
            "sleep", f"printf . >>'{self.bin}/sleeps'; exec '{shutil.which('sleep')}' 0.05"
        )

    def program(self, name, text, place=None):
        path = (place or self.bin) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{shutil.which('sh')}\n{text}\n")
        path.chmod(0o755)
        return path

    def python(self, name, version, **facts):
        given = dict(
            name=name, version=version, system="Linux", machine="x86_64", lacks=[], pip=False,
            index_has_uv=False, cached="No locally built wheels cached.", pip_says="", pip_status=0,
            pip_waits=False,
        )  # fmt: skip
        assert facts.keys() <= given.keys()
        words = json.dumps({**given, **facts})
        self.program(
            name,
            "FAKE_VENV=${0%/bin/*}\nexport FAKE_VENV\n"
            f"exec '{sys.executable}' '{self.bin}/fake.py' {shlex.quote(words)} \"$@\"",
        )

    def uv(self, brings=None, name="uv"):
        """A uv that brings a Python, or that fails as it does without a network."""
        if brings:
            act = f'"python install 3.12") ;; "python find"*) echo "{self.bin}/{brings}" ;;'
        else:
            act = (
                '"python install 3.12") printf "error: x\\n  Caused by: no route\\n" >&2; exit 1 ;;'
            )
        self.program(
            name,
            'if [ -n "$UV_PYTHON_INSTALL_DIR" ]; then mkdir -p "$UV_PYTHON_INSTALL_DIR"; fi\n'
            f'echo "uv $*" in "$UV_PYTHON_INSTALL_DIR" >>"{self.bin}/events"\n'
            f'case "$*" in --version) ;; {act} *) exit 9 ;; esac',
        )

    def compilers(self, cc=True, cxx=True, headers=True):
        """Compilers: each makes its output, unless it is told to fail."""
        for name, works in [("cc", cc), ("c++", cxx)]:
            if works:
                self.program(
                    name,
                    'case "$*" in --version) echo "fake-$0" | sed "s/-.*\\//-/"; exit ;; esac\n'
                    + ("" if headers else "if grep -q Python.h try.*; then exit 1; fi\n")
                    + "printf x >try",
                )

    def make(self, *words, **environment):
        """Run make; gives its exit status, what it said, and which programs did what."""
        for name in ("events", "sleeps"):
            (self.bin / name).write_text("")
        with open(str(self.bin / "said"), "w") as said:
            status = subprocess.call(
                ["make", *(words or ["reproduce"])],
                cwd=str(self.clone),
                env={"PATH": str(self.bin), "HOME": str(self.folder), **environment},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        events = (self.bin / "events").read_text().splitlines()
        return status, (self.bin / "said").read_text(), [event.strip() for event in events]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def refused(machine, *words, downloads=(), **environment):
    """Make is run, says what is wrong and leaves nothing behind; gives what it said."""
    status, said, events = machine.make(*words, **environment)
    assert status == 2 and "Traceback" not in said and "not found" not in said, said
    assert [event for event in events if "pip" in event] == list(downloads)
    assert [path.name for path in machine.clone.glob(".venv*")] == []
    return said


def commands(said):
    """The packages that the one message asks for, of Debian and of Fedora."""
    (debian,) = re.findall(r"^Debian, Ubuntu: apt-get install (.*)$", said, re.MULTILINE)
    (fedora,) = re.findall(r"^Fedora: dnf install (.*)$", said, re.MULTILINE)
    return debian.split(), fedora.split()


REPRODUCE = "-m d2l_deeprnn reproduce --corpus auto --resume --out reproduction"
INSTALL = ["pip install --upgrade pip", "pip install --editable ."]


def taken(name, more=()):
    """The events of a set-up with one Python, up to the command itself."""
    return [f"{name} {event}" for event in ["venv .venv", *INSTALL]] + [f"{name} {REPRODUCE}"]


# Which Python ------------------------------------------------------------------------------


def test_the_newest_that_numpy_has_a_wheel_for_is_taken(machine):
    for minor in (8, 11, 12, 13, 14):
        machine.python(f"python3.{minor}", [3, minor])
    machine.python("python3", [3, 13])
    assert machine.make()[::2] == (0, taken("python3.12"))


@pytest.mark.parametrize("minor", range(8, 13))
def test_the_systems_own_is_taken_if_it_will_do(machine, minor):
    machine.python("python3", [3, minor])
    assert machine.make()[::2] == (0, taken("python3"))
    # and for good: the second time there is nothing to set up
    assert machine.make()[::2] == (0, [f"python3 {REPRODUCE}"])


def test_each_target_is_installed_with_what_it_needs(machine):
    machine.python("python3", [3, 11])
    events = machine.make("test")[2]
    assert events[-2:] == ["python3 pip install --editable .[test]", "python3 -m pytest"]
    events = machine.make("notebooks")[2]
    assert "python3 pip install --editable .[notebooks]" in events
    assert "python3 venv .venv" not in events
    assert machine.make()[2] == [f"python3 {REPRODUCE}"]


def test_one_that_does_not_run_is_passed_over(machine):
    shim = "echo 'pyenv: python3.12: command not found' >&2; exit 127"
    machine.program("python3.12", shim)
    machine.program("python3.11", "exit 0")
    machine.python("python3.9", [3, 9])
    assert machine.make()[::2] == (0, taken("python3.9"))


def test_one_behind_another_of_the_same_name_is_found(machine, tmp_path):
    machine.python("python3.11", [3, 11])
    shims = tmp_path / "shims of a manager"
    machine.program("python3.11", "exit 127", shims)
    path = os.pathsep.join([str(shims), str(machine.bin)])
    assert machine.make(PATH=path)[::2] == (0, taken("python3.11"))


@pytest.mark.parametrize("by_path", [False, True])
def test_the_one_that_is_named_is_taken(machine, by_path):
    for minor in (8, 12):
        machine.python(f"python3.{minor}", [3, minor])
    named = str(machine.bin / "python3.8") if by_path else "python3.8"
    assert machine.make("reproduce", f"PYTHON={named}")[::2] == (0, taken("python3.8"))


@pytest.mark.parametrize(
    "name, words",
    [
        ("python3.7", "there is no python3.7"),
        ("python3.10", "python3.10 does not run: no such version"),
        ("python3.14", "python3.14 is Python 3.14.1; MXNet 1.9.1 works on 3.8 to 3.13"),
        ("python3.6", "python3.6 is Python 3.6.1; MXNet 1.9.1 works on 3.8 to 3.13"),
    ],
)
def test_the_one_that_is_named_and_will_not_do_is_no_reason_to_take_another(machine, name, words):
    machine.python("python3.12", [3, 12])
    machine.python("python3.14", [3, 14])
    machine.python("python3.6", [3, 6])
    machine.program("python3.10", "echo 'no such version' >&2; exit 127")
    machine.uv(brings="python3.12")
    assert words in refused(machine, "test", f"PYTHON={name}")


def test_an_environment_that_is_there_is_kept(machine):
    machine.python("python3.12", [3, 12])
    machine.python("python3.9", [3, 9])
    assert machine.make(PYTHON="python3.9")[0] == 0
    (machine.clone / "setup.py").touch()
    os.utime(str(machine.clone / "setup.py"), (2**32, 2**32))
    events = machine.make()[2]
    assert events == [f"python3.9 {event}" for event in INSTALL] + [f"python3.9 {REPRODUCE}"]


def test_an_environment_whose_python_is_gone_is_made_anew(machine):
    machine.python("python3.9", [3, 9])
    assert machine.make()[0] == 0
    (machine.bin / "python3.9").unlink()
    machine.program("python", "exit 127", machine.clone / ".venv" / "bin")
    machine.python("python3.12", [3, 12])
    assert machine.make()[::2] == (0, taken("python3.12"))


# uv ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [[3, 13], [3, 14], [3, 7], None], ids=str)
def test_where_no_python_will_do_uv_brings_one(machine, version):
    if version:
        machine.python("python3", version)
    machine.python("managed", [3, 12])
    machine.uv(brings="managed")
    status, _, events = machine.make()
    assert status == 0 and events[-4:] == taken("managed")
    assert "uv python install 3.12 in" in events  # where uv keeps them


@pytest.mark.parametrize("version", [[3, 13], [3, 14]], ids=str)
@pytest.mark.parametrize("way", ["venv", "pip"])
def test_uv_itself_is_taken_from_the_package_index(machine, version, way):
    lacks = ["venv"] if way == "pip" else []
    machine.python("python3", version, index_has_uv=True, pip=way == "pip", lacks=lacks)
    machine.python("managed", [3, 12])
    machine.uv(brings="managed", name="uv of the index")
    status, said, events = machine.make()
    assert status == 0 and events[-4:] == taken("managed"), said
    # its Python lies in the clone, and nothing else of it is left
    assert f"uv python install 3.12 in {machine.clone}/.venv-python" in events
    assert {path.name for path in machine.clone.glob(".venv*")} == {".venv", ".venv-python"}


def test_a_python_without_venv_gives_way_to_uvs(machine):
    machine.python("python3", [3, 11], lacks=["venv"])
    machine.python("managed", [3, 12])
    machine.uv(brings="managed")
    assert machine.make()[2][-4:] == taken("managed")


def test_where_uv_brings_none_the_reason_is_one_line_and_the_next_way_is_gone(machine):
    machine.python("python3", [3, 13])
    machine.uv()
    machine.compilers()
    status, said, events = machine.make()
    assert status == 0
    assert "make: uv could not bring one: no route\n" in said
    assert events[-1] == f"python3 {REPRODUCE}"


def test_where_a_uv_of_the_package_index_brings_none_nothing_of_it_is_left(machine):
    machine.python("python3", [3, 14], index_has_uv=True)
    machine.uv(name="uv of the index")
    said = refused(machine, downloads=["python3 pip install uv"])
    assert "make: uv could not bring one: no route\n" in said


# NumPy is compiled -------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_it_is_said_before_anything_of_it_is_downloaded(machine, named):
    machine.python("python3.13", [3, 13])
    machine.compilers()
    words = ["reproduce", *(["PYTHON=python3.13"] if named else [])]
    status, said, events = machine.make(*words)
    assert status == 0
    installs = [event for event in events if "pip" in event and "uv" not in event]
    assert installs == [f"python3.13 {event} | told of compiling" for event in INSTALL]
    (words,) = re.findall(
        r"for Python 3.13, NumPy is going to be compiled.*?wheel. (.*?)\.", said, re.DOTALL
    )
    assert words.replace("\n", " ") == (
        "With fake-cc and fake-c++, this takes about 5 to 10 minutes on two cores, once: pip keeps "
        "the result"
    )


def test_it_is_not_said_where_pip_has_kept_the_result(machine):
    kept = " - numpy-1.26.4-cp313-cp313-linux_x86_64.whl (11.2 MB)"
    machine.python("python3.13", [3, 13], cached=kept)
    machine.compilers()
    status, said, _ = machine.make()
    assert status == 0 and "compiled" not in said


def test_what_takes_long_shows_that_it_is_going_on(machine):
    machine.python("python3", [3, 13], pip_waits=True)
    machine.compilers()
    status, said, _ = machine.make()
    assert status == 0
    assert "    installing, and compiling NumPy, 20 s so far\n" in said
    assert "    installing, and compiling NumPy, 40 s so far\n" in said


# What is missing ---------------------------------------------------------------------------

LIBRARIES = ["libquadmath.so.0", "libgomp.so.1"]


def test_all_that_is_missing_is_named_at_once(machine):
    machine.python("python3", [3, 13], lacks=["venv", *LIBRARIES])
    said = refused(machine)
    assert commands(said) == (
        ["python3-venv", "libquadmath0", "libgomp1", "gcc", "libc6-dev", "g++", "python3-dev"],
        ["python3-libs", "libquadmath", "libgomp", "gcc", "gcc-c++", "python3-devel"],
    )
    assert (
        "lacks Python's modules venv and ensurepip, the library libquadmath.so.0, the library"
        in said
    )


@pytest.mark.parametrize(
    "compilers, packages",
    [
        # Without a compiler, header files are looked for where this Python has its own.
        ({"cc": False}, ["gcc", "libc6-dev", "python3-dev"]),
        ({"cxx": False}, ["g++"]),
        ({"headers": False}, ["python3-dev"]),
        ({"cxx": False, "headers": False}, ["g++", "python3-dev"]),
    ],
    ids=str,
)
def test_each_part_of_a_compiler_is_tried(machine, compilers, packages):
    machine.python("python3", [3, 13])
    machine.compilers(**compilers)
    said = refused(machine, downloads=["python3 pip install uv"])
    debian, _ = commands(said)
    assert debian == packages


@pytest.mark.parametrize("version", [[3, 11], [3, 13], [3, 14]], ids=str)
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_asked_for_before_any_download(machine, version, library):
    machine.python("python3", version, lacks=[library], index_has_uv=True, pip=True)
    machine.compilers()
    machine.uv(brings="python3")
    debian, fedora = commands(refused(machine))
    package = {"libgomp.so.1": "libgomp1", "libquadmath.so.0": "libquadmath0"}[library]
    assert debian == [package] and fedora == [package[:-1]]


def test_a_library_that_went_missing_later_is_asked_for(machine):
    machine.python("python3", [3, 11])
    assert machine.make()[0] == 0
    python = machine.clone / ".venv" / "bin" / "python"
    python.write_text(python.read_text().replace('"lacks": []', '"lacks": ["libgomp.so.1"]'))
    status, said, _ = machine.make("test")
    assert status == 2 and commands(said) == (["libgomp1"], ["libgomp"])


def test_a_python_without_venv_is_told_which_package_has_it(machine):
    machine.python("python3", [3, 11], lacks=["venv"])
    assert commands(refused(machine)) == (["python3-venv"], ["python3-libs"])


def test_a_python_that_is_too_new_and_no_way_to_another(machine):
    machine.python("python3", [3, 14])
    said = refused(machine, downloads=["python3 pip install uv"])
    assert "make: uv could not be installed.\n" in said
    assert "python3 is Python 3.14.1; MXNet 1.9.1 works on 3.8 to 3.13" in said
    assert "make PYTHON=/path/to/python3.12" in said


def test_a_python_that_is_too_new_and_lacks_what_uv_needs(machine):
    machine.python("python3", [3, 14], lacks=["venv", "libgomp.so.1"])
    said = refused(machine)
    assert "python3 is Python 3.14.1; MXNet 1.9.1 works on 3.8 to 3.13" in said
    assert commands(said) == (["python3-venv", "libgomp1"], ["python3-libs", "libgomp"])


def test_no_python_at_all(machine):
    said = refused(machine)
    assert "make: no Python was found." in said
    debian, _ = commands(said)
    assert {"python3-venv", "libgomp1", "libquadmath0", "g++", "python3-dev"} == set(debian)


def test_a_system_that_mxnet_was_never_built_for(machine):
    machine.python("python3", [3, 11], system="Darwin", machine="arm64")
    machine.uv(brings="python3")
    said = refused(machine)
    assert "there is no MXNet 1.9.1 for Python on Darwin arm64" in said and "Rosetta" in said


def test_a_folder_that_cannot_be_written_to(machine):
    machine.python("python3", [3, 11])
    (machine.clone / ".venv-tmp").write_text("in the way, for root too")
    status, said, events = machine.make()
    assert status == 2 and events == []
    assert f"make: the folder {machine.clone} cannot be written to" in said


# pip fails ---------------------------------------------------------------------------------


def test_no_network_is_said_in_one_line(machine):
    retry = "after connection broken by 'NewConnectionError(no name)': /simple/pip/"
    says = f"WARNING: Retrying {retry}\nERROR: No matching distribution found for mxnet==1.9.1"
    machine.python("python3", [3, 11], pip_says=says, pip_status=1)
    status, said, events = machine.make()
    assert status == 2 and events[-1] == "python3 pip install --upgrade pip"
    assert "make: the package index cannot be reached: NewConnectionError(no name)\n" in said
    assert "WARNING" not in said and "All that pip said is in .venv/set-up.log" in said


def test_another_failure_of_pip_is_shown_as_it_is(machine):
    machine.python("python3", [3, 11], pip_says="Collecting\nERROR: No space left", pip_status=1)
    status, said, _ = machine.make()
    assert status == 2 and said.count("ERROR: No space left\n") == 1 and "Collecting" not in said
    assert "Collecting" in (machine.clone / ".venv" / "set-up.log").read_text()


# The same everywhere -----------------------------------------------------------------------


def test_the_readme_names_the_packages_of_both_systems():
    parts = runpy.run_path(str(ROOT / "scripts" / "check_python.py"))["PARTS"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (debian,) = re.findall(r"apt-get install ([^`]*)`", readme)
    (fedora,) = re.findall(r"dnf install ([^`]*)`", readme)
    # g++ brings gcc and libc6-dev; the packages of Fedora's python3 are one
    assert set(debian.split()) == {"make", "python3-venv", "python3-dev", "g++"} | {
        parts[library][1] for library in LIBRARIES
    }
    assert set(fedora.split()) == {"make", "python3-devel", "gcc-c++"} | {
        parts[library][2] for library in LIBRARIES
    }


def test_the_package_names_the_same_libraries():
    from d2l_deeprnn._mxnet.repairs import LIBRARIES as table

    parts = runpy.run_path(str(ROOT / "scripts" / "check_python.py"))["PARTS"]
    assert table == {name: parts[name][1:] for name in LIBRARIES}


def test_the_script_is_plain_sh():
    """Nothing that only bash knows, as far as another shell of this machine can tell."""
    shells = [shell for shell in ("dash", "busybox", "ksh", "bash") if shutil.which(shell)]
    for shell in shells:
        words = [shell, "sh"] if shell == "busybox" else [shell]
        script = str(ROOT / "scripts" / "set_up.sh")
        subprocess.run([*words, "-n", script], check=True)
    text = (ROOT / "scripts" / "set_up.sh").read_text(encoding="utf-8")
    assert not re.search(textwrap.dedent(r"\[\[|\blocal\b|<<<|\bfunction\b|\$'|&>"), text)
