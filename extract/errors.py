"""The one exception the extract room raises for a wrong call."""

from typing import Any


class ExtractError(ValueError):
    """A backbone, layer, pooling, weights source or cache that can't be used; one clear line."""


def unwritable(cache: Any, error: OSError) -> ExtractError:
    """The error for a cache that can't be written."""
    return ExtractError(
        f"can't write to the cache {cache}: {error.strerror or error}; "
        'choose another with cache="DIR"'
    )


def unreadable(cache: Any, error: OSError) -> ExtractError:
    """The error for a cache that can't be read."""
    return ExtractError(
        f'can\'t read the cache {cache}: {error.strerror or error}; choose another with cache="DIR"'
    )
