"""Requirements of MXNet 1.9.1 on the system and on Python, and what to do if one is missing.

A problem is one line: what is wrong, then what to do. The set-up, a failed import and ``d2l-deeprnn
doctor`` all show these lines. The set-up runs this file with every Python it finds. So it imports
the standard library only, and Python 3.5 can read it::

    python3 d2l_deeprnn/_mxnet/diagnosis.py           # prints the version, then each problem
    python3 d2l_deeprnn/_mxnet/diagnosis.py --link    # on ARM, lets MXNet find its libraries
"""

import ctypes
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from typing import List, Optional

OLDEST = (3, 8)
PLATFORMS = [("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "x86_64")]

# For each module: the problem if it is missing, its requirement, and options of pip. MXNet's own
# metadata asks for a NumPy without wheels for Python 3.13; this package requires all that it needs.
INSTALL = {
    "mxnet": ("MXNet is not installed", "mxnet==1.9.1", "--no-deps "),
    "numpy": ("NumPy is not installed", "numpy>=1.20,<3", ""),
    "distutils": ("MXNet needs distutils, which setuptools provides", "setuptools>=68,<85", ""),
}

# System libraries that MXNet's wheels lack: the packages in Debian and Ubuntu, and in Fedora.
LIBRARIES = {
    ("Linux", "x86_64"): {
        "libquadmath.so.0": ("libquadmath0", "libquadmath"),
        "libgomp.so.1": ("libgomp1", "libgomp"),
    },
    ("Linux", "aarch64"): {
        "liblapacke.so.3 or libopenblaso.so.0": (
            "liblapacke libopenblas0-openmp",
            "openblas-openmp",
        ),
    },
}
# MXNet's wheel for ARM is linked against Arm's Performance Libraries, which no package index has.
# These system libraries provide the same functions. MXNet finds them by links in its own directory.
ARM_LINKS = {
    "libarmpl_lp64_mp.so": ["liblapacke.so.3", "libopenblaso.so.0"],
    "libamath.so": ["libm.so.6"],
    "libastring.so": ["libc.so.6"],
}
_FOLDERS = ["/lib/{}-linux-gnu", "/usr/lib/{}-linux-gnu", "/usr/lib64", "/usr/lib"]

_NVIDIA_LIBRARY = re.compile(r"\blib(?:cu|nccl|nvrtc|nvToolsExt)[a-zA-Z-]*\.so[.\d]*")


def system_problem() -> Optional[str]:
    """Return why MXNet cannot run on this system, or None."""
    system, machine = platform.system(), platform.machine()
    if system.startswith(("Windows", "CYGWIN", "MINGW", "MSYS")):
        return (
            "MXNet 1.9.1 does not run on Windows. Install WSL (in PowerShell: wsl --install), then "
            "use this package in its Ubuntu"
        )
    if (system, machine) == ("Darwin", "arm64"):
        return (
            "MXNet 1.9.1 does not run natively on Apple silicon. Use Linux in a container, or an "
            "x86-64 Python under Rosetta"
        )
    if (system, machine) not in PLATFORMS:
        return (
            "There is no MXNet 1.9.1 for %s on %s. Use Linux on x86-64 or ARM, or macOS on x86-64"
            % (system, machine)
        )
    if "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or ""):
        return (
            "MXNet 1.9.1 needs the GNU C library, but this system uses musl, as Alpine does. Use "
            "Debian, Ubuntu or Fedora, or a container with one of them"
        )
    return None


def python_problem() -> Optional[str]:
    """Return why this Python does not do, or None."""
    if sys.version_info[:2] >= OLDEST:
        return None
    message = "%s is Python %s, but this package needs 3.8 or later: make PYTHON=/path/to/python3"
    return message % (sys.executable, platform.python_version())


def processor_problem() -> Optional[str]:
    """Return why MXNet cannot run on this processor, or None."""
    if platform.machine() != "x86_64" or _has_avx():
        return None
    return (
        "This processor has no AVX, so MXNet stops with an illegal instruction. In a virtual "
        "machine, choose the host's processor model; under Rosetta, use macOS 15 or later"
    )


def _has_avx() -> bool:
    try:
        if sys.platform == "darwin":
            command = ["/usr/sbin/sysctl", "-n", "hw.optional.avx1_0"]
            return subprocess.check_output(command).strip() != b"0"
        with open("/proc/cpuinfo") as file:
            flags = re.search(r"^flags\s*:.*$", file.read(8192), re.MULTILINE)
        return not flags or "avx" in flags.group().split()
    except (OSError, ValueError, subprocess.CalledProcessError):  # unknown
        return True


def missing_libraries() -> List[str]:
    """Return the libraries of ``LIBRARIES`` that seem to be missing."""
    machine = platform.machine()
    names = LIBRARIES.get((platform.system(), machine), {})
    return [name for name in names if not _has_library(name, machine)]


def _has_library(name: str, machine: str) -> bool:
    # Look for the file first: loading OpenMP would fix the variables that a program may still set.
    if _path_of(name.split(" or "), machine):
        return True
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _path_of(names: List[str], machine: str) -> Optional[str]:
    paths = ["%s/%s" % (folder.format(machine), name) for name in names for folder in _FOLDERS]
    return next((path for path in paths if os.path.exists(path)), None)


def link_libraries() -> None:
    """Create the links that MXNet's wheel for ARM needs; do nothing on other machines."""
    mxnet = find_spec("mxnet")
    if (platform.system(), platform.machine()) != ("Linux", "aarch64") or not mxnet:
        return
    for link, names in ARM_LINKS.items():
        path = os.path.join(os.path.dirname(mxnet.origin or ""), link)
        library = _path_of(names, "aarch64")
        if library and not os.path.exists(path):
            if os.path.islink(path):  # to a library that is gone
                os.remove(path)
            os.symlink(library, path)


def package_problem(with_venv: bool = False) -> Optional[str]:
    """Return which system packages are missing (libraries, and perhaps venv), or None."""
    missing = missing_libraries()
    packages = [LIBRARIES[platform.system(), platform.machine()][name] for name in missing]
    if with_venv and not _has_venv():
        missing.insert(0, "Python's module venv")
        packages.insert(0, ("python%d.%d-venv" % sys.version_info[:2], "python3-libs"))
    if not missing:
        return None
    debian, fedora = (" ".join(names) for names in zip(*packages))
    message = "MXNet needs %s. Debian, Ubuntu: apt-get install %s; Fedora: dnf install %s"
    return message % (" and ".join(missing), debian, fedora)


def _has_venv() -> bool:
    return find_spec("venv") is not None and find_spec("ensurepip") is not None


def obstacles(with_venv: bool = False) -> List[str]:
    """Return all problems of MXNet with this system and this Python, whatever is installed."""
    checks = [system_problem(), python_problem(), package_problem(with_venv), processor_problem()]
    return [problem for problem in checks if problem]


def _pip_install(arguments: str) -> str:
    return "%s -m pip install %s" % (shlex.quote(sys.executable or "python3"), arguments)


def _reinstall() -> str:
    return _pip_install("--no-deps --force-reinstall mxnet==1.9.1")


def not_installed(module: str) -> str:
    """Return how to install one of the modules in ``INSTALL`` into this Python."""
    problem, requirement, options = INSTALL[module]
    message = problem + ": " + _pip_install(options + shlex.quote(requirement))
    if "ipykernel" in sys.modules:
        message += (
            ". Or choose the kernel of the environment where it is installed. To create that "
            "kernel, run there: python -m ipykernel install --user --name d2l_deeprnn"
        )
    return message


def explain(error: BaseException) -> str:
    """Return why ``import mxnet`` failed, and what to do."""
    text, name = " ".join(str(error).split()), getattr(error, "name", None)
    if name in INSTALL:
        return (system_problem() if name == "mxnet" else None) or not_installed(name)
    problem = None
    if isinstance(error, OSError):
        problem = system_problem() or package_problem() or _library_problem(text)
    return problem or "MXNet cannot be imported: " + text


def _library_problem(text: str) -> Optional[str]:
    if any(link in text for link in ARM_LINKS):
        return (
            "MXNet's wheel for ARM needs links to system libraries in its own directory. To create "
            "them, run: %s %s --link"
        ) % (shlex.quote(sys.executable or "python3"), shlex.quote(os.path.abspath(__file__)))
    library = _NVIDIA_LIBRARY.search(text)
    if library:
        return (
            "MXNet's GPU build needs %s, which is missing. Install CUDA 11 (beside a later one, if "
            "you have it), cuDNN 8 and NCCL 2. Or uninstall this build, whose name begins with "
            "mxnet-cu, and install the one for CPUs: %s"
        ) % (library.group(), _reinstall())
    return None


def crashed(status: int) -> str:
    """Return why a process that used MXNet ended with a signal, from its negative exit status."""
    if -status == signal.SIGILL:
        return processor_problem() or (
            "MXNet stopped at an instruction that this processor or emulator lacks. Use another "
            "machine"
        )
    return "MXNet crashed (signal %d). Reinstall it: %s" % (-status, _reinstall())


if __name__ == "__main__" and "--link" in sys.argv:
    link_libraries()
elif __name__ == "__main__":
    print("%d.%d" % sys.version_info[:2])
    print("\n".join(obstacles(with_venv="--venv" in sys.argv)))
