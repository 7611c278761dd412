"""A Python of its own, for what is decided when a process starts."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from d2l_deeprnn._mxnet import repairs, waiting


def python(code, *options, **environment):
    """Run code in a fresh interpreter and return what it printed, on standard output and error."""
    ours = (
        *(repairs.THREADS_VARIABLE, repairs.COPY_VARIABLE, repairs.LAYOUT_VARIABLE),
        *waiting.SWITCHED,
    )
    env = {k: v for k, v in os.environ.items() if k not in ours}
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        env={**env, **environment}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr
