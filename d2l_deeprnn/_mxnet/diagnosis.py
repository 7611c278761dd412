"""Requirements of MXNet 1.9.1 on the system and on Python, and remedies if one is missing.

Each function returns one line: what is wrong, then what to do; or None if nothing is. The set-up,
a failed import and ``d2l-deeprnn doctor`` all show these lines.

The set-up runs this file by itself, with every Python it finds. So it imports only the standard
library, and has nothing in it that Python 3.5 would not read::

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
# metadata asks for a NumPy that has no wheels from Python 3.13 on. Without it nothing is missing:
# this package requires all that MXNet imports.
INSTALL = {
    "mxnet": ("MXNet is not installed", "mxnet==1.9.1", "--no-deps "),
    "numpy": ("NumPy is not installed", "numpy>=1.20,<3", ""),
    "distutils": ("MXNet needs distutils, which setuptools provides", "setuptools>=68,<85", ""),
}

# System libraries that MXNet's wheels do not contain, with their packages: those of Debian and
# Ubuntu, and those of Fedora.
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
# MXNet's wheel for ARM was linked to Arm's Performance Libraries, which no package index has. All
# that it takes from them is in these libraries, of Debian or of Fedora. It looks for them in its
# own directory, where links lead to them.
ARM_LINKS = {
    "libarmpl_lp64_mp.so": ["liblapacke.so.3", "libopenblaso.so.0"],
    "libamath.so": ["libm.so.6"],
    "libastring.so": ["libc.so.6"],
}
_FOLDERS = ["/lib/%s-linux-gnu", "/usr/lib/%s-linux-gnu", "/usr/lib64", "/usr/lib"]

NVIDIA = {"libcuda": "NVIDIA's driver", "libcudnn": "cuDNN 8", "libnccl": "NCCL 2"}
_NVIDIA_LIBRARY = re.compile(r"\b(lib(?:cu[a-z]+|nccl|nvrtc|nvToolsExt))[a-zA-Z-]*\.so[.\d]*")


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
    if sys.maxsize < 2**32:
        return "MXNet 1.9.1 needs a 64-bit Python, but %s has 32 bits" % sys.executable
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
    """Return that this Python is too old, or None."""
    if sys.version_info[:2] >= OLDEST:
        return None
    words = "%s is Python %s, but this package needs 3.8 or later: make PYTHON=/path/to/python3"
    return words % (sys.executable, platform.python_version())


def processor_problem() -> Optional[str]:
    """Return that the processor lacks instructions that MXNet uses without asking, or None."""
    if platform.machine() != "x86_64" or _has_avx():
        return None
    return (
        "This processor has no AVX, so MXNet stops with an illegal instruction. In a virtual "
        "machine, choose the host's processor model; under Rosetta, use macOS 15 or later"
    )


def _has_avx() -> bool:
    try:
        if sys.platform == "darwin":
            words = ["/usr/sbin/sysctl", "-n", "hw.optional.avx1_0"]
            return subprocess.check_output(words).strip() != b"0"
        with open("/proc/cpuinfo") as file:
            flags = re.search(r"^flags\s*:.*$", file.read(8192), re.MULTILINE)
        return not flags or "avx" in flags.group().split()
    except (OSError, ValueError, subprocess.CalledProcessError):  # nobody knows
        return True


def missing_libraries() -> List[str]:
    """Return the libraries of ``LIBRARIES`` that seem to be missing; loading MXNet decides."""
    machine = platform.machine()
    names = LIBRARIES.get((platform.system(), machine), {})
    return [name for name in names if not _has_library(name, machine)]


def _has_library(name: str, machine: str) -> bool:
    # Look at the usual places first. Once OpenMP is loaded, it does not read its variables again,
    # and a program may still want to set them.
    if _path_of(name.split(" or "), machine):
        return True
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _path_of(names: List[str], machine: str) -> Optional[str]:
    folders = [folder % machine if "%" in folder else folder for folder in _FOLDERS]
    paths = ["%s/%s" % (folder, name) for name in names for folder in folders]
    return next((path for path in paths if os.path.exists(path)), None)


def link_libraries() -> None:
    """Make the links that MXNet's wheel for ARM needs; on other machines, do nothing."""
    mxnet = find_spec("mxnet")
    if (platform.system(), platform.machine()) != ("Linux", "aarch64") or not mxnet:
        return
    for link, names in ARM_LINKS.items():
        path = os.path.join(os.path.dirname(mxnet.origin or ""), link)
        library = _path_of(names, "aarch64")
        if library and not os.path.exists(path):
            if os.path.islink(path):  # the library was somewhere else before
                os.remove(path)
            os.symlink(library, path)


def package_problem(with_venv: bool = False) -> Optional[str]:
    """Return which packages of the system are missing (libraries, perhaps venv), or None."""
    found = missing_libraries()
    brings = [LIBRARIES[platform.system(), platform.machine()][name] for name in found]
    if with_venv and not _has_venv():
        found.insert(0, "Python's module venv")
        brings.insert(0, ("python%d.%d-venv" % sys.version_info[:2], "python3-libs"))
    if not found:
        return None
    words = (" and ".join(found),) + tuple(" ".join(packages) for packages in zip(*brings))
    return "MXNet needs %s. Debian, Ubuntu: apt-get install %s; Fedora: dnf install %s" % words


def _has_venv() -> bool:
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def obstacles(with_venv: bool = False) -> List[str]:
    """Return all that stands in the way of MXNet with this Python, whatever is installed."""
    found = [system_problem(), python_problem(), package_problem(with_venv), processor_problem()]
    return [problem for problem in found if problem]


def pip_install(requirement: str) -> str:
    """Return the command that installs something into this Python, wherever pip's own is."""
    return "%s -m pip install %s" % (shlex.quote(sys.executable or "python3"), requirement)


def _again() -> str:
    return pip_install("--no-deps --force-reinstall mxnet==1.9.1")


def not_installed(module: str) -> str:
    """Say how to install one of the modules in ``INSTALL`` into this Python."""
    problem, requirement, options = INSTALL[module]
    words = problem + ": " + pip_install(options + shlex.quote(requirement))
    if "ipykernel" in sys.modules:
        words += (
            ". Or choose the kernel of the environment where it is installed. To create that "
            "kernel, run there: python -m ipykernel install --user --name d2l_deeprnn"
        )
    return words


def explain(error: BaseException) -> str:
    """Say in one line why ``import mxnet`` failed, and what to do."""
    text, name, problem = " ".join(str(error).split()), getattr(error, "name", None), None
    if name in INSTALL:
        problem = (system_problem() if name == "mxnet" else None) or not_installed(name)
    elif isinstance(error, OSError):
        problem = system_problem() or package_problem() or _arm_problem(text)
        problem = problem or _nvidia_problem(text)
    return problem or "MXNet cannot be imported: " + text


def _arm_problem(text: str) -> Optional[str]:
    if not any(link in text for link in ARM_LINKS):
        return None
    return (
        "MXNet's wheel for ARM needs links to system libraries in its own directory. To create "
        "them, run: %s %s --link"
    ) % (shlex.quote(sys.executable or "python3"), shlex.quote(os.path.abspath(__file__)))


def _nvidia_problem(text: str) -> Optional[str]:
    found = _NVIDIA_LIBRARY.search(text)
    if not found:
        return None
    return (
        "MXNet's GPU build needs %s, which is missing. It comes with %s. The last builds are for "
        "CUDA 11, which can be installed beside CUDA 12 or later. Or uninstall this build, whose "
        "name begins with mxnet-cu, and install the one for CPUs: %s"
    ) % (found.group(), NVIDIA.get(found.group(1), "the CUDA version in its name"), _again())


def crashed(status: int) -> str:
    """Say why a process that used MXNet ended with a signal, from its negative exit status."""
    if -status == signal.SIGILL:
        return processor_problem() or (
            "MXNet stopped at an instruction that this processor or emulator lacks. Use another "
            "machine"
        )
    return "MXNet crashed (signal %d). Reinstall it: %s" % (-status, _again())


if __name__ == "__main__" and "--link" in sys.argv:
    link_libraries()
elif __name__ == "__main__":
    print("%d.%d" % sys.version_info[:2])
    print("\n".join(obstacles(with_venv="--venv" in sys.argv)))
