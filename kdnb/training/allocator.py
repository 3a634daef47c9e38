"""What one step gives back, the next one takes up again: the C library keeps it.

By itself glibc hands memory that is free at the end of its heap back to the system, and takes it anew a moment later,
page by page, each a fault and filled with zeros.  A training step frees all of its activations at once, and some
cohorts spent four tenths of their time in the system for that; which ones hung on how their blocks came to lie.
No number depends on it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform

#: mallopt's parameters, as malloc.h has them: free memory at the end of the heap that is kept, what is asked for beyond
#: need when the heap grows, and how many blocks may lie outside it.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
EVERYTHING, PAD, NONE = 2**31 - 1, 64 * 2**20, 0
#: Who sets one of these has chosen for themselves.
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@functools.cache
def keep_freed_memory() -> bool:
    """Have this process keep what it frees, once; False where the C library is another, or the environment chooses."""
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in CHOSEN):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((TRIM_THRESHOLD, EVERYTHING), (TOP_PAD, PAD), (MMAP_MAX, NONE))
    return all(mallopt(parameter, value) == 1 for parameter, value in wanted)
