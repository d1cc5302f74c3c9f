"""Freed memory kept for the next batch: glibc would give large blocks back and pay anew."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST = 2**31 - 1
# where glibc's own moving thresholds end up in a process that uses large blocks
USUAL = {MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20}


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Inside, freed blocks stay with the process; on leaving they go back. glibc only."""
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    for option in USUAL:
        libc.mallopt(option, LARGEST)
    try:
        yield
    finally:
        for option, value in USUAL.items():
            libc.mallopt(option, value)
        libc.malloc_trim(0)
