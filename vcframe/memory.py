"""What this process does with memory that it has freed."""

from __future__ import annotations

import ctypes
import os

KEPT_BYTES = 1 << 30
"""More than this much free memory at the end of the heap goes back to the system."""
LARGEST_FROM_HEAP_BYTES = 1 << 25
"""Larger blocks are mapped one by one: the most that every glibc allows on 64-bit systems."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt(3)`."""


def keep_freed_memory() -> bool:
    """Keep freed memory for the next layer, where the C library can be told so; returns whether it was.

    glibc gives the megabytes of a feature map back to the system as soon as they are free, and the next layer
    asks for them anew, page by page: a seventh of the time of training and of restoring. It holds for the
    whole process, so programs call this, not the library. What the environment says of malloc goes first.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    # Setting one ends the automatic choice of both.
    return bool(
        mallopt(_M_MMAP_THRESHOLD, LARGEST_FROM_HEAP_BYTES) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    )
