"""Several processes that train together, as ``mpiexec`` starts them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import pytest
from interpreter import clean_environment

from d2l_deeprnn._mxnet import repairs

# The one beside this Python belongs to mpi4py's MPI.
MPIEXEC = shutil.which(
    "mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
)


def is_installed():
    return MPIEXEC is not None and importlib.util.find_spec("mpi4py") is not None


needs_mpi = pytest.mark.skipif(
    not is_installed(),
    reason="mpiexec or mpi4py is not installed (the extra mpi)",
)
COMMAND = "import sys; from d2l_deeprnn.cli import main; sys.exit(main(sys.argv[1:]))"


class Job:
    """Some processes started by ``mpiexec``; they can be found as long as one lives.

    Args:
        number: how many.
        code: Python's, for each of them.
        arguments: ``sys.argv[1:]``.
        environment: further variables.
    """

    def __init__(self, number, code, *arguments, **environment):
        self._mark = f"D2L_DEEPRNN_TEST={uuid.uuid4().hex}"
        env = clean_environment()
        name, _, value = self._mark.partition("=")
        env.update({repairs.THREADS_VARIABLE: "1", name: value, **environment})
        words = [MPIEXEC, "-n", str(number), sys.executable, "-c", textwrap.dedent(code)]
        # A session of its own, as from a terminal of its own.
        self.process = subprocess.Popen(
            [*words, *map(str, arguments)], env=env, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def wait(self):
        """Wait for the end; gives the exit status, standard output, and standard error."""
        output, errors = self.process.communicate()
        return self.process.returncode, output, errors

    def ranks(self):
        """Number of a rank -> its process, for those that live."""
        return {
            int(variables["PMI_RANK"]): process
            for process, variables in self._processes()
            if "PMI_RANK" in variables
        }

    def wait_until_gone(self):
        """Wait until no process of the job is left."""
        while list(self._processes()):
            time.sleep(0.05)

    def _processes(self):
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                words = path.read_bytes().decode(errors="replace").split("\0")
            except OSError:  # it has ended, or is another user's
                continue
            if self._mark in words:
                yield int(path.parent.name), dict(word.partition("=")[::2] for word in words)


def mpiexec(number, code, *arguments, **environment):
    """Run code in several processes; gives what they printed on standard output."""
    status, output, errors = Job(number, code, *arguments, **environment).wait()
    assert status == 0, errors
    return output
