"""The exceptions of the extract room: a wrong call, and a disk that fails."""

import errno
from typing import Any


class ExtractError(ValueError):
    """A backbone, layer, pooling, weights source or cache that can't be used; one clear line."""


class StoreError(ExtractError):
    """A cache that could be used and whose disk is full, or fails; the call was right."""


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
