"""A Python of its own, for what is decided when a process starts."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from d2l_deeprnn._mxnet import repairs


def clean_environment():
    """The environment, without what importing the package has set in it."""
    return {k: v for k, v in os.environ.items() if k not in repairs.VARIABLES}


def python(code, *options, **environment):
    """Run code in a fresh interpreter and return what it printed, on standard output and error."""
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        env={**clean_environment(), **environment}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr
