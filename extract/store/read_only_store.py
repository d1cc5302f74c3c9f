"""The kept features for who must not write: read from the disk, and what they lack in memory."""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from extract.files import read_only
from extract.pooling import Tap
from extract.recipe import Recipe
from extract.store.feature_store import FeatureStore
from extract.store.memory_store import MemoryStore, MemoryWriter

MEMORY_ROWS = 4096  # above which `forget_many` forgets


class ReadOnlyStore:
    """A FeatureStore's rows, none of which changes, beside rows of its own that are in memory.

    Parameters
    ----------
    cache : path or None
        As a FeatureStore's. Nothing is written there: no row, no mark of use, and a damaged part
        stays where it is, its rows counting as missing.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from extract import FeatureStore, ReadOnlyStore, Recipe, Tap
    >>> folder, tap = tempfile.mkdtemp(), Tap("features.14", "avg")
    >>> recipe = Recipe("net", "digest", "preprocessing", "float32")
    >>> ids = np.arange(32, dtype=np.uint8).reshape(2, 16)
    >>> with FeatureStore(folder).writer(recipe) as writer:
    ...     writer.add(ids[:1], {tap: np.float32([[1, 2]])})
    >>> store = ReadOnlyStore(folder)
    >>> with store.writer(recipe) as writer:
    ...     writer.add(ids[1:], {tap: np.float32([[3, 4]])})
    >>> store.read(recipe, [tap], ids)
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    >>> FeatureStore(folder).missing(recipe, [tap], ids).ravel()
    array([False,  True])
    """

    def __init__(self, cache: str | os.PathLike | None = None) -> None:
        self._kept = FeatureStore(cache)
        self._memory = MemoryStore()

    @property
    def cache(self) -> Path:
        """The folder that is read."""
        return self._kept.cache

    def __getstate__(self) -> dict:
        return {"_kept": self._kept, "_memory": MemoryStore()}

    def missing(self, recipe: Recipe, taps: Sequence[Tap], ids: np.ndarray) -> np.ndarray:
        """(n, 16) uint8 ids -> (n, taps) bool, True where a row is in neither."""
        with read_only():
            gone = self._kept.missing(recipe, taps, ids)
        return gone & self._memory.missing(recipe, taps, ids)

    def read(self, recipe: Recipe, taps: Sequence[Tap], ids: np.ndarray) -> np.ndarray:
        """(n, d) float32 rows in the order of `ids`, the taps' columns side by side.

        Raises DamagedPart for a row that is in neither.
        """
        return np.hstack([self._read_tap(recipe, tap, ids) for tap in taps])

    def _read_tap(self, recipe: Recipe, tap: Tap, ids: np.ndarray) -> np.ndarray:
        in_memory = ~self._memory.missing(recipe, [tap], ids)[:, 0]
        parts = {}
        if in_memory.any():
            parts[True] = self._memory.read(recipe, [tap], ids[in_memory])
        if not in_memory.all():
            with read_only():
                parts[False] = self._kept.read(recipe, [tap], ids[~in_memory])
        rows = np.empty((len(ids), next(iter(parts.values())).shape[1]), np.float32)
        for here, own in parts.items():
            rows[in_memory == here] = own
        return rows

    def prepare(self, recipe: Recipe) -> None:
        """Nothing to make ready."""

    def writer(
        self,
        recipe: Recipe,
        stored: type = np.float32,
        provenance: Mapping[str, Any] | None = None,
    ) -> AbstractContextManager[MemoryWriter]:
        """A context into which rows are added, in memory; provenance is not kept."""
        return self._memory.writer(recipe, stored, provenance)

    def forget_many(self) -> None:
        """Forget the rows in memory where there are many."""
        if len(self._memory) > MEMORY_ROWS:
            self._memory = MemoryStore()
