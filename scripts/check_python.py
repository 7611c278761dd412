"""Can this Python, on this system, run MXNet 1.9.1, and what is missing?

    PYTHON scripts/check_python.py              # one line, which set_up.sh reads
    PYTHON scripts/check_python.py --explain    # what to do, for people

Runs on any Python, also on those that are too old or too new, and needs no package.
"""

import ctypes
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile

OLDEST, NEWEST = (3, 8), (3, 13)
COMPILES = (3, 13)  # from here on NumPy 1.26, the last that MXNet works with, has no wheel
PLATFORMS = [("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "x86_64")]

VERSION = "%d.%d" % sys.version_info[:2]
# A second Python of the system has packages named after its version.
_SECOND = os.path.dirname(sys.executable or "") == "/usr/bin" and os.path.realpath(
    sys.executable
) != os.path.realpath("/usr/bin/python3")
_PYTHON = "python" + VERSION if _SECOND else "python3"

# What may be missing: in words, and the packages of Debian and Ubuntu, and of Fedora.
PARTS = {
    "venv": ("Python's modules venv and ensurepip", _PYTHON + "-venv", _PYTHON + "-libs"),
    "libquadmath.so.0": ("the library libquadmath.so.0", "libquadmath0", "libquadmath"),
    "libgomp.so.1": ("the library libgomp.so.1", "libgomp1", "libgomp"),
    "c-compiler": ("a C compiler", "gcc libc6-dev", "gcc"),
    "c++-compiler": ("a C++ compiler", "g++", "gcc-c++"),
    "headers": ("Python's header files", _PYTHON + "-dev", _PYTHON + "-devel"),
}
COMPILERS = {
    "c-compiler": ("CC", ["cc", "gcc", "clang"], ".c", "#include <stdio.h>\n"),
    "c++-compiler": ("CXX", ["c++", "g++", "clang++"], ".cpp", "#include <vector>\n"),
}


def verdict():
    """Whether this Python will do: "good", "compile", "version" or "platform"."""
    if sys.maxsize < 2**32 or (platform.system(), platform.machine()) not in PLATFORMS:
        return "platform"
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        return "version"
    return "compile" if sys.version_info[:2] >= COMPILES else "good"


def missing():
    """The parts that are missing, in the order of the table."""
    lacks = []
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        lacks.append("venv")
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        for library in ["libquadmath.so.0", "libgomp.so.1"]:
            try:
                ctypes.CDLL(library)
            except OSError:
                lacks.append(library)
    if verdict() == "compile":
        lacks += [part for part in COMPILERS if not compiler(part)]
        if not _compiles(compiler("c-compiler"), ".c", "#include <Python.h>\n"):
            lacks.append("headers")
    return lacks


def compiler(part):
    """The command of the compiler that the build will find, as a list; empty if none works."""
    variable, names, suffix, include = COMPILERS[part]
    wish = shlex.split(os.environ.get(variable, ""))
    for command in [wish] if wish else [[name] for name in names]:
        if _compiles(command, suffix, include):
            return command
    return []


def _compiles(command, suffix, include):
    if not command:  # without a compiler nothing can be tried, but a file can be looked for
        return os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h"))
    folder = tempfile.mkdtemp()
    try:
        with open(os.path.join(folder, "try" + suffix), "w") as source:
            source.write(include + "int main(void) {\nreturn 0; }\n")
        words = ["-I" + sysconfig.get_paths()["include"], "try" + suffix, "-o", "try"]
        with open(os.devnull, "r+") as nothing:
            status = subprocess.call(
                command + words, cwd=folder, stdin=nothing, stdout=nothing, stderr=nothing
            )
        return status == 0 and os.path.exists(os.path.join(folder, "try"))
    except OSError:
        return False
    finally:
        shutil.rmtree(folder)


def explanation():
    """What is wrong and what to do about it, in a few lines; what will be compiled, if all is."""
    if verdict() == "platform":
        return (
            "there is no MXNet 1.9.1 for Python on %s %s. Use 64-bit Linux or macOS on x86-64\n"
            "(on Apple silicon an x86-64 Python under Rosetta)."
        ) % (platform.system(), platform.machine())
    lacks = missing()
    lines = []
    purpose = "for MXNet on Python " + VERSION
    if verdict() == "version":
        lines.append(
            "%s is Python %s; MXNet 1.9.1 works on 3.8 to 3.13. Name another one, as in\n"
            "make PYTHON=/path/to/python3.12" % (sys.executable, platform.python_version())
        )
        purpose = "for uv to bring another Python, and for MXNet"
    if lacks:
        words = [PARTS[part][0] for part in lacks]
        lines += [
            "%s, this system lacks %s." % (purpose, ", ".join(words)),
            "Debian, Ubuntu: apt-get install " + " ".join(PARTS[part][1] for part in lacks),
            "Fedora: dnf install " + " ".join(PARTS[part][2] for part in lacks),
        ]
    elif verdict() == "compile":
        lines.append(
            "for Python %s, NumPy is going to be compiled: of 1.26, the last that MXNet works\n"
            "with, there is no wheel. With %s\nand %s, this takes about\n"
            "5 to 10 minutes on two cores, once: pip keeps the result.\n"
            "Python 3.8 to 3.12 do not need it."
            % (VERSION, _name(compiler("c-compiler")), _name(compiler("c++-compiler")))
        )
    return "\n".join(lines)


def _name(command):
    try:
        said = subprocess.check_output(command + ["--version"]).decode("utf-8", "replace")
    except (OSError, subprocess.CalledProcessError):
        said = ""
    return said.partition("\n")[0] or " ".join(command)


if __name__ == "__main__":
    if sys.argv[1:] == ["--explain"]:
        print(explanation())
    else:
        print(" ".join(["facts:", verdict(), VERSION, ",".join(missing()) or "-"]))
