"""A store that keeps nothing on disk, for predicting without writing."""

import contextlib

import numpy as np

from extract.pooling import Tap


class MemoryStore:
    """The FeatureStore's calls on a dictionary, gone with the object; rows pass through the stored type too."""

    def __init__(self):
        self._rows = {}
        self.seconds = 0.0

    def __len__(self):
        return len(self._rows)

    def missing(self, recipe, taps: list[Tap], ids: np.ndarray) -> np.ndarray:
        """(n, 16) uint8 ids -> (n, taps) bool, True where a row isn't kept."""
        return np.array(
            [[(recipe.id, str(tap), i.tobytes()) not in self._rows for tap in taps] for i in ids],
            bool,
        ).reshape(len(ids), len(taps))

    def read(self, recipe, taps: list[Tap], ids: np.ndarray) -> np.ndarray:
        """(n, d) float32 rows in the order of `ids`, the taps' columns side by side."""
        return np.concatenate(
            [np.stack([self._rows[recipe.id, str(tap), i.tobytes()] for i in ids]) for tap in taps],
            axis=1,
        ).astype(np.float32)

    def prepare(self, recipe) -> None:
        """Nothing to make ready."""

    @contextlib.contextmanager
    def writer(self, recipe, stored=np.float32, provenance=None):
        """A context into which rows of this recipe are added."""
        self._recipe, self._stored = recipe, stored
        yield self

    def add(self, ids: np.ndarray, rows: dict[Tap, np.ndarray]) -> None:
        """(n, 16) uint8 ids and (n, d) float32 rows for each tap."""
        from extract.store import as_stored

        for tap, values in rows.items():
            for one_id, row in zip(ids, as_stored(values, self._stored), strict=True):
                self._rows[self._recipe.id, str(tap), one_id.tobytes()] = row
