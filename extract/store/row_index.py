"""Which part and row each image id has, over all the parts that hold a tap."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from extract.store.parts import Part
from extract.store.rows_on_disk import gather
from extract.store.sorted_ids import SortedIds, SortedRun, is_first, merged, sorted_run, starts_of


class RowIndex:
    """Which part and row each id has; of several that have it, one in a file of ids comes first.

    In memory are the ids alone of parts whose ids no file holds.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.starts = starts_of([part.rows for part in parts])
        loose = [i for i, part in enumerate(parts) if part.holding is None]
        # each with where its own parts' rows start among those of all parts, -1 for others' parts
        self._sources: list[tuple[SortedIds | SortedRun, np.ndarray]] = [
            (file, self._starts_of(file)) for file in _files(parts)
        ]
        if loose:
            keys = sorted_run(np.concatenate([parts[i].keys for i in loose]))
            run = SortedRun(*keys, [parts[i].rows for i in loose])
            self._sources.append((run, self.starts[loose]))

    def _starts_of(self, file: SortedIds) -> np.ndarray:
        to = np.full(len(file.held.parts), -1)
        for start, part in zip(self.starts, self.parts, strict=False):
            if part.holding is not None and part.holding.file is file:
                to[part.holding.number] = start
        return to

    def find(self, keys: np.ndarray) -> np.ndarray:
        """(n,) S16 ids -> (n,) places, -1 if not there.

        A place counts the parts' rows, one part's after another's.

        Raises WrongBytes for a file of ids that isn't as it was written, OSError where it is gone.
        """
        found = np.full(len(keys), -1)
        left = np.arange(len(keys))
        for source, to in self._sources:
            found[left] = source.find(keys[left], to)
            left = left[found[left] < 0]
        return found

    def count(self) -> int:
        """How many ids there are; raises as `find`."""
        sources, starts = zip(*self._sources, strict=True)
        return sum(int(is_first(keys).sum()) for keys, _ in merged(sources, starts))

    def split(self, places: np.ndarray) -> Iterator[tuple[Part, np.ndarray, np.ndarray]]:
        """(n,) places -> by part: (part, its rows, ascending, where in `places` they stand)."""
        where = np.argsort(places)
        cuts = np.searchsorted(places[where], self.starts)
        for part, start, at, end in zip(self.parts, self.starts, cuts, cuts[1:], strict=False):
            if at < end:
                yield part, places[where[at:end]] - start, where[at:end]


def _files(parts: Sequence[Part]) -> list[SortedIds]:
    """The files that hold ids of these parts, oldest first."""
    files = {part.holding.file.path: part.holding.file for part in parts if part.holding}
    return [files[path] for path in sorted(files)]


@lru_cache(maxsize=4)
def row_index(parts: tuple[Part, ...]) -> RowIndex:
    """The index of these parts, the same for every tap that they hold."""
    return RowIndex(parts)


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
