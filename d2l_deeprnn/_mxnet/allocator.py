"""How the C library gives memory to the arrays of a training.

A minibatch allocates and frees the same large buffers again and again. glibc
hands each back to the kernel when it is freed and asks for it anew, and the
kernel clears every page: thousands of page faults a minibatch, and up to a
fifth of the time. Told to keep what was freed, it does not.

This concerns the process as a whole: what was freed stays with it, for its own
later use. No result depends on it. It happens when a training begins, on
glibc only, and not if ``D2L_DEEPRNN_ALLOCATOR`` is ``default``.
"""

from __future__ import annotations

import ctypes
import os
import platform

VARIABLE = "D2L_DEEPRNN_ALLOCATOR"
# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory; gives whether it was told.

    Raises:
        ValueError: if ``D2L_DEEPRNN_ALLOCATOR`` is set to an unknown word.
    """
    wish = os.environ.get(VARIABLE, "keep")
    if wish not in ("keep", "default"):
        raise ValueError(f"{VARIABLE} must be keep or default, not {wish!r}")
    if wish == "default" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # No buffer by mmap, which would be unmapped when it is freed; nothing given
    # back from the top of the heap; and the heap grown by 256 MiB at a time.
    settings = [(_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28)]
    return all([mallopt(name, value) == 1 for name, value in settings])
