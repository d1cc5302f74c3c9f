"""Which part and row each image id has, over all the parts that hold a tap."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from extract.store.parts import Part
from extract.store.rows_on_disk import gather


class RowIndex:
    """Which part and row each id has; the first part that has an id counts."""

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self.parts = parts
        self.keys = np.concatenate([part.keys for part in parts])
        self.starts = np.cumsum([0, *(len(part.keys) for part in parts)])
        self._order = np.argsort(self.keys, kind="stable")
        self._sorted = self.keys[self._order]
        self._heads = _heads(self._sorted)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """(n,) S16 ids -> (n,) place among the parts' rows, one part's after another's; -1 if not there."""
        if not len(self._sorted):
            return np.full(len(keys), -1)
        last = len(self._sorted) - 1
        near = np.minimum(np.searchsorted(self._heads, _heads(keys)), last)
        # not there, or not the only one with this head
        unsure = np.flatnonzero(self._sorted[near] != keys)
        near[unsure] = np.minimum(np.searchsorted(self._sorted, keys[unsure]), last)
        return np.where(self._sorted[near] == keys, self._order[near], -1)

    def split(self, places: np.ndarray) -> Iterator[tuple[Part, np.ndarray, np.ndarray]]:
        """(n,) places -> by part: (part, its rows, ascending, where in `places` they stand)."""
        where = np.argsort(places)
        cuts = np.searchsorted(places[where], self.starts)
        for part, start, at, end in zip(self.parts, self.starts, cuts, cuts[1:], strict=False):
            if at < end:
                yield part, places[where[at:end]] - start, where[at:end]


@lru_cache(maxsize=4)
def row_index(parts: tuple[Part, ...]) -> RowIndex:
    """The index of these parts, the same for every tap that they hold."""
    return RowIndex(parts)


def _heads(keys: np.ndarray) -> np.ndarray:
    """The first halves of (n,) S16 ids as numbers in the same order: found in a third of the time."""
    return keys.view(">u8")[::2].astype(np.uint64)


class JoinedRows:
    """One tap's rows of several parts as one array-like (n, d), read when they are asked for."""

    def __init__(self, index: RowIndex, name: str, places: np.ndarray) -> None:
        self._index = index
        self._name = name
        self._places = places
        columns = [part.column(name) for part in index.parts]
        self.dtype = np.result_type(*(column.dtype for column in columns))
        self.shape = (len(places), columns[0].shape[1])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: slice) -> np.ndarray:
        places = self._places[rows]
        out = np.empty((len(places), self.shape[1]), self.dtype)
        gather(
            (part.column(self._name), here, where, out)
            for part, here, where in self._index.split(places)
        )
        return out
