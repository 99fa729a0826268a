"""Memory that a program gives back to the system only to ask for it again."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 1 << 25  # what glibc accepts


def keep_freed_memory() -> None:
    """Let freed blocks of up to 32 MB stay with this process; a no-op where the C library is not glibc.

    By default each large tensor gets pages of its own from the system, which clears them when they are first touched, and gives
    them back when it is freed. In a training step on a CPU that is a tenth of the time.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
