"""The exceptions of the extract room: a wrong call, and a disk that fails."""

import errno
from typing import Any


class ExtractError(ValueError):
    """A backbone, layer, pooling, weights source or cache that can't be used; one clear line."""


class StoreError(ExtractError):
    """A cache that could be used and whose disk is full, or fails; the call was right."""


class ClusterError(ExtractError):
    """Workers on other processes or machines that do not answer or gave up; the call was right."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed: NumPy's and Python's, or torch's on a processor or a GPU."""
    if isinstance(error, MemoryError):
        return True
    # on the processor torch raises a plain RuntimeError
    said = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in said or "out of memory" in said
    )


def too_large(height: int, width: int) -> ExtractError:
    """The error for images of a size that this machine has no memory for."""
    size = f"{height}" if height == width else f"({height}, {width})"
    return ExtractError(
        f"size={size} is too large for this machine: its memory doesn't hold one image's "
        "activations; choose a smaller one, such as 224"
    )


# the disk's own, where others say that this cache was not a good choice
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def unwritable(cache: Any, error: OSError, begun: bool = False) -> ExtractError:
    """The error for a cache that can't be written; `begun` where it could be, before."""
    said = f"can't write to the cache {cache}: {error.strerror or error}"
    if begun or error.errno in DISK_ERRORS:
        return StoreError(
            f"{said}; what it holds stays: make room there and run again, "
            'or choose another with cache="DIR"'
        )
    return ExtractError(f'{said}; choose another with cache="DIR"')


def unreadable(cache: Any, error: OSError) -> ExtractError:
    """The error for a cache that can't be read."""
    return ExtractError(
        f'can\'t read the cache {cache}: {error.strerror or error}; choose another with cache="DIR"'
    )
