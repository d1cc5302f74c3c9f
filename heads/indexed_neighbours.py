"""Near rows by an index that skips most of the others: faiss's, where `knn` is asked for it."""

from collections.abc import Iterator
from functools import cache, cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np

from heads.blocks import Blocks
from heads.streamed_folds import StreamedFold

# cells for so many times the root of the rows, of which so many are looked into; each cell's centre
# is found by so many rows
CELLS, PROBES, ROWS_OF_A_CELL = 2, 32, 64


def check_faiss() -> None:
    """Refuse to search by an index where there is no library for it.

    Raises
    ------
    ValueError
        faiss is not installed.
    """
    if find_spec("faiss") is None:
        raise ValueError(
            "algorithm 'faiss' needs faiss, which is not installed; pip install 'permafrost[knn]', "
            "or leave the algorithm out: the search is exact then"
        )


class Index:
    """The training rows of a fold in cells, each value in eight bits, by metric.

    Johnson, Douze and Jegou (2019), "Billion-scale similarity search with GPUs"; a row's distances
    are the index's own affair, those that count are taken of the rows themselves.

    Parameters
    ----------
    blocks : Blocks
    fold : StreamedFold
    """

    def __init__(self, blocks: Blocks, fold: StreamedFold) -> None:
        self.blocks = blocks
        self.fold = fold
        self.of = cache(self._build)

    @cached_property
    def _trained(self) -> np.ndarray:
        return np.flatnonzero(self.fold.counts)

    def find(self, queries: np.ndarray, metric: str, kept: int) -> np.ndarray:
        """Numbers (m, kept) of rows near queries (m, d), -1 where the cells had too few."""
        asked = _as_compared(queries, metric)
        return self.of(metric == "cosine").search(asked, min(kept, len(self._trained)))[1]

    def _build(self, cosine: bool) -> Any:
        import faiss

        faiss.omp_set_num_threads(self.blocks.n_jobs or 1)
        metric = "cosine" if cosine else "euclidean"
        cells = max(1, int(CELLS * np.sqrt(len(self._trained))))
        index: Any = faiss.index_factory(self.blocks.d, f"IVF{cells},SQ8")
        # few rows are no reason to warn: every cell is looked into then
        index.cp.min_points_per_centroid = 1
        index.nprobe = PROBES
        some = self._trained[:: max(1, len(self._trained) // (ROWS_OF_A_CELL * cells))]
        index.train(np.concatenate([rows for _, rows in self._rows(some, metric)]))
        for numbers, rows in self._rows(self._trained, metric):
            index.add_with_ids(rows, numbers)
        return index

    def _rows(self, wanted: np.ndarray, metric: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """These rows, ascending, block by block, with their numbers."""
        for place in self.blocks.slices():
            first, last = np.searchsorted(wanted, [place.start, place.stop])
            numbers = wanted[first:last]
            if len(numbers):
                rows = np.asarray(self.blocks.rows[place])[numbers - place.start]
                yield numbers, _as_compared(self.fold.standardise(rows), metric)


def _as_compared(rows: np.ndarray, metric: str) -> np.ndarray:
    """Rows in whose squared distances the metric's order is."""
    if metric == "cosine":
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.maximum(lengths, np.finfo(np.float64).tiny)
    return np.ascontiguousarray(rows, dtype=np.float32)
