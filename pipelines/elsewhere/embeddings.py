"""Embeddings: the features, names and labels of one table that another program made."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from data import DataError
from data.names import counted
from extract import Recipe, Tap
from extract.store.ids import ID_BYTES
from pipelines.elsewhere.rows import as_labels, check_rows

BLOCK_ROWS = 1 << 14  # compared at a time, so that no second copy of all is made
GIVEN = "given"  # in place of a pooling: the rows are vectors as they came


@dataclass(frozen=True, eq=False, repr=False)
class Embeddings:
    """Rows of features from elsewhere, with what is known of each.

    `embeddings[rows]` with a slice, indices or a boolean mask is again Embeddings.

    Parameters
    ----------
    features : array of shape (n, d)
        Kept as float32 that can't be written to.
    names : sequence of n
        What each row is of, as text, no two alike.
    labels : array of shape (n,) or None
        Class names, empty (or None, or NaN) where a row has none; None where no row has one.
    source : str
        Name of the file or folder that they came from, or of what made them.
    array : str
        Name of the array in it.
    stored : str
        The type that the features had there, such as `float16`.

    Raises
    ------
    DataError
        Lengths that differ, no rows, a name that comes twice, values that are not finite.

    Examples
    --------
    >>> one = Embeddings(np.eye(2), ["a", "b"], None, "one.npy", "features")
    >>> one, one[:1].names
    (Embeddings('one.npy', 'features': 2 rows of 2, no labels), ('a',))
    """

    features: np.ndarray
    names: tuple[str, ...]
    labels: np.ndarray | None
    source: str
    array: str
    stored: str = "float32"

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):  # told as not finite, row by row
            features = np.asarray(self.features, np.float32).view()
        features.setflags(write=False)  # of the view: whoever gave the array may go on with it
        labels = None if self.labels is None else as_labels(self.labels).astype(str)
        if labels is not None and not (labels != "").any():
            labels = None
        self._settle(features=features, names=tuple(map(str, self.names)), labels=labels)
        check_rows(self.source, self.array, self.features, self.names, self.labels)

    def _settle(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        labels = "no labels"
        if self.labels is not None:
            labels = counted(len(np.unique(self.labels[self.labels != ""])), "class")
        n, width = self.features.shape
        rows = counted(n, "row")
        return f"Embeddings({self.source!r}, {self.array!r}: {rows} of {width}, {labels})"

    def __getitem__(self, rows: Any) -> "Embeddings":
        at = np.arange(len(self))[rows]
        if at.ndim != 1:
            raise DataError(
                f"[{rows!r}] of {self.source}: expected a slice, a list of rows or a boolean mask, "
                "such as [:1]"
            )
        return replace(
            self,
            features=self.features[at],
            names=tuple(self.names[row] for row in at),
            labels=None if self.labels is None else self.labels[at],
        )

    @property
    def labelled(self) -> "Embeddings":
        """The rows that have a label; DataError where none has."""
        if self.labels is None:
            raise DataError(
                f"{self.source} has no labels: expected a column such as label, or labels= with a "
                "table of path,label"
            )
        return self[self.labels != ""]

    @property
    def tap(self) -> Tap:
        """What the store and the leaderboard know the array by."""
        # where taps are written + joins them and : ends a layer
        return Tap(self.array.replace("+", "&").replace(":", "."), GIVEN)

    @cached_property
    def recipe(self) -> Recipe:
        """What the rows are kept under: their source by its name, and all values by their digest.

        A row's value follows from it and from the row's name, as the store needs.
        """
        return Recipe(
            f"elsewhere.{self.source}",
            self._digest(),
            "none",
            "float16" if self._fits_float16 else "float32",
            decode="none",
        )

    @property
    def _fits_float16(self) -> bool:
        """Whether float16 loses nothing: the features may have been changed since they came."""
        if self.stored != "float16":
            return False
        with np.errstate(over="ignore"):  # what it doesn't hold is another value then
            return all(
                np.array_equal(rows, rows.astype(np.float16).astype(np.float32))
                for rows in np.array_split(self.features, -(-len(self) // BLOCK_ROWS))
            )

    def _digest(self) -> str:
        digest = hashlib.blake2b(f"{self.features.shape}".encode(), digest_size=ID_BYTES)
        digest.update(self.ids.tobytes())
        digest.update(np.ascontiguousarray(self.features).data)
        return digest.hexdigest()

    @property
    def ids(self) -> np.ndarray:
        """(n, 16) uint8: of each row, from its name."""
        digests = [
            hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=ID_BYTES).digest()
            for name in self.names
        ]
        return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, ID_BYTES)
