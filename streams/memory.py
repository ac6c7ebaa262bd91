"""Memory: how a worker's process takes it, gives it back, and looks for what is left over."""

from __future__ import annotations

import ctypes
import gc

GC_THRESHOLD = 100_000
"""After how many new containers the garbage collector looks for cycles; Python's own is 700."""

KEPT_BYTES_MAX = 128 * 1_048_576
"""How much freed memory the process keeps for what comes next, in bytes."""

BLOCK_BYTES_MAX = 32 * 1_048_576
"""How large a block may be to come from memory that is kept, in bytes: the most that glibc takes.
What is larger is asked of the system, and given back to it."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h


def collect_less() -> None:
    """Have the garbage collector look rarely, and never at what was here from the start.

    Nearly all objects of the hot path go by their reference count, and the state is made of
    structs and strings, which the collector need not visit: what it would find is little.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 50)


def keep_freed() -> bool:
    """Have glibc keep what is freed, in one heap for all threads; False where it is another libc.

    Else each fetch's megabytes come fresh from the system, which clears them page by page, and go
    back to it: about a tenth of the processor time that a worker takes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {
        _M_TRIM_THRESHOLD: KEPT_BYTES_MAX,
        _M_MMAP_THRESHOLD: BLOCK_BYTES_MAX,
        _M_ARENA_MAX: 1,
    }
    done = [mallopt(name, value) for name, value in settings.items()]  # each, whatever fails
    return all(done)
