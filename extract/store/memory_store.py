"""A store that keeps nothing on disk, for predicting without writing."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from extract.pooling import Tap, stored_type
from extract.recipe import Recipe
from extract.store.part_writer import as_stored
from extract.store.parts import DamagedPart


class MemoryStore:
    """The FeatureStore's calls on a dictionary, gone with the object.

    Rows pass through the stored type, as on the disk.

    Examples
    --------
    >>> import numpy as np
    >>> from extract import MemoryStore, Recipe, Tap
    >>> store, tap = MemoryStore(), Tap("features.14", "avg")
    >>> recipe = Recipe("net", "digest", "preprocessing", "float32")
    >>> ids = np.zeros((1, 16), np.uint8)
    >>> with store.writer(recipe) as writer:
    ...     writer.add(ids, {tap: np.float32([[1, 2]])})
    >>> store.read(recipe, [tap], ids)
    array([[1., 2.]], dtype=float32)
    >>> len(store)
    1
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, bytes], np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def missing(self, recipe: Recipe, taps: Sequence[Tap], ids: np.ndarray) -> np.ndarray:
        """(n, 16) uint8 ids -> (n, taps) bool, True where a row isn't kept."""
        name = recipe.id
        gone = [[(name, str(tap), i.tobytes()) not in self._rows for tap in taps] for i in ids]
        return np.array(gone, bool).reshape(len(ids), len(taps))

    def read(self, recipe: Recipe, taps: Sequence[Tap], ids: np.ndarray) -> np.ndarray:
        """(n, d) float32 rows in the order of `ids`, the taps' columns side by side.

        Raises DamagedPart for a row that isn't kept.
        """
        name = recipe.id
        try:
            columns = [
                np.stack([self._rows[name, str(tap), i.tobytes()] for i in ids]) for tap in taps
            ]
        except KeyError as error:
            raise DamagedPart("a row is not kept") from error
        return np.concatenate(columns, axis=1).astype(np.float32)

    def prepare(self, recipe: Recipe) -> None:
        """Nothing to make ready."""

    @contextlib.contextmanager
    def writer(
        self,
        recipe: Recipe,
        stored: type = np.float32,
        provenance: Mapping[str, Any] | None = None,
    ) -> Iterator["MemoryWriter"]:
        """A context into which rows of this recipe are added; provenance is not kept."""
        yield MemoryWriter(self._rows, recipe.id, stored)


class MemoryWriter:
    """What a MemoryStore's `writer` gives; `seconds` as a PartWriter has them."""

    seconds = 0.0

    def __init__(
        self, kept: dict[tuple[str, str, bytes], np.ndarray], recipe_id: str, stored: type
    ) -> None:
        self._kept = kept
        self._recipe_id = recipe_id
        self._stored = stored

    def add(self, ids: np.ndarray, rows: Mapping[Tap, np.ndarray]) -> None:
        """(n, 16) uint8 ids and (n, d) float32 rows for each tap."""
        for tap, values in rows.items():
            stored = as_stored(values, stored_type(tap, self._stored))
            for one_id, row in zip(ids, stored, strict=True):
                self._kept[self._recipe_id, str(tap), one_id.tobytes()] = row
