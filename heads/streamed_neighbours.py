"""The nearest rows among rows read in blocks: found in float32, settled in float64, none missed."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed

from heads.blocks import Blocks
from heads.fold_scores import Neighbours, Scored, answer_neighbours, cosine_distances
from heads.indexed_neighbours import Index
from heads.linear import Grid
from heads.reduction import squared_distances
from heads.streamed_folds import StreamedFold

# values of the held-out rows that are searched for at a time
MOST_QUERIES = 1 << 25
# held-out rows and training rows that one thread compares at a time: their products stay in the
# cache
TILE = 2048
# so many rows are kept beyond those asked for: float32 may have them in another order
SPARE = 8
# a product of d values is exact to about sqrt(d) roundings; with room
ROOM = 8
# products of pairs that are taken in float64 at a time
PAIRS = 2048


class _Kept(NamedTuple):
    """The nearest rows so far of each query: values to order by and row numbers, (m, kept)."""

    values: np.ndarray
    numbers: np.ndarray

    @classmethod
    def none(cls, m: int, kept: int) -> "_Kept":
        return cls(np.full((m, kept), np.inf), np.full((m, kept), -1))

    def take(self, tile: slice, values: np.ndarray, numbers: np.ndarray) -> None:
        """Keep what is nearer among `values` (rows of the tile, len(numbers)) of those rows."""
        own_values = self.values[tile]
        own_numbers = self.numbers[tile]
        farthest = own_values.max(axis=1)
        if np.isinf(farthest).any():  # at first all are nearer
            hit = np.arange(len(values))
            wide = np.hstack([own_values, values])
            named = np.hstack([own_numbers, np.broadcast_to(numbers, values.shape)])
        else:
            hit, wide, named = _nearer(own_values, own_numbers, farthest, values, numbers)
        if len(hit):
            kept = own_values.shape[1]
            best = np.argpartition(wide, kept - 1, axis=1)[:, :kept]
            own_values[hit] = np.take_along_axis(wide, best, axis=1)
            own_numbers[hit] = np.take_along_axis(named, best, axis=1)


def _nearer(
    own_values: np.ndarray,
    own_numbers: np.ndarray,
    farthest: np.ndarray,
    values: np.ndarray,
    numbers: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The queries that have nearer rows than their farthest so far, and all theirs side by side."""
    near = np.flatnonzero(values < farthest.astype(values.dtype)[:, None])
    rows, columns = np.divmod(near, values.shape[1])
    hit, counts = np.unique(rows, return_counts=True)
    kept = own_values.shape[1]
    # ragged lists as an array: what a query has fewer of is at infinity
    wide = np.full((len(hit), kept + counts.max(initial=0)), np.inf)
    named = np.full(wide.shape, -1)
    wide[:, :kept] = own_values[hit]
    named[:, :kept] = own_numbers[hit]
    at = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    place = np.repeat(np.arange(len(hit)), counts), kept + at
    wide[place] = values.ravel()[near]
    named[place] = numbers[columns]
    return hit, wide, named


def _by_distance(products: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Half the squared distances, less half the query's own square."""
    return lengths / 2 - products


def _by_angle(products: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Minus the cosine, times the query's own length."""
    return products * (-1 / np.sqrt(np.maximum(lengths, np.finfo(lengths.dtype).tiny)))


# what orders rows, of their products with the queries and their own squared lengths
ORDERS = {"minkowski": _by_distance, "euclidean": _by_distance, "cosine": _by_angle}


def score_knn(blocks: Blocks, fold: StreamedFold, codes: np.ndarray, grid: Grid) -> list[Scored]:
    """What KNeighborsClassifier answers on a fold's held-out rows, for every candidate.

    Parameters
    ----------
    blocks : Blocks
    fold : StreamedFold
    codes : array of shape (n_all,)
        Class numbers of all rows.
    grid : sequence of dict
    """
    by_algorithm: dict[bool, list[int]] = {}
    for place, params in enumerate(grid):
        by_algorithm.setdefault(params["algorithm"] == "faiss", []).append(place)
    found: dict[int, Scored] = {}
    for indexed, places in by_algorithm.items():
        own = [grid[place] for place in places]
        index = Index(blocks, fold) if indexed else None
        found |= dict(zip(places, _score_some(blocks, fold, codes, own, index), strict=True))
    return [found[place] for place in range(len(grid))]


def _score_some(
    blocks: Blocks, fold: StreamedFold, codes: np.ndarray, grid: Grid, index: Index | None
) -> list[Scored]:
    """The candidates that are searched in one way: by an index, or exactly where there is none."""
    metrics = list(dict.fromkeys(params["metric"] for params in grid))
    most = max(params["n_neighbors"] for params in grid)
    answers = []
    for queries in _queries(blocks, fold, most * (codes.max() + 1)):
        if index is None:
            found = nearest_streamed(blocks, fold, queries, metrics, most)
        else:
            found = _nearest_indexed(index, queries, metrics, most)
        answers.append(answer_neighbours(partial(_found_before, found), codes, grid))
    return [
        Scored(
            np.concatenate([each.scores for each in of_candidate]),
            np.concatenate([each.labels for each in of_candidate]),
        )
        for of_candidate in zip(*answers, strict=True)
    ]


def _found_before(found: dict[str, Neighbours], metric: str, _: int) -> Neighbours:
    return found[metric]


def _queries(blocks: Blocks, fold: StreamedFold, votes: int) -> Iterator[np.ndarray]:
    """The held-out rows (m, d), standardised, so many at a time, in the fold's order.

    votes : values that counting the neighbours of one takes
    """
    size = max(1, MOST_QUERIES // max(blocks.d, votes))
    for start in range(0, fold.m, size):
        stop = min(start + size, fold.m)
        queries = np.empty((stop - start, blocks.d))

        def work(
            place: slice, rows: np.ndarray, start: int = start, queries: np.ndarray = queries
        ) -> None:
            among, inside = fold.held_out(place)
            own = (among >= start) & (among < start + len(queries))
            queries[among[own] - start] = fold.standardise(rows[inside[own]])

        blocks.run(work)
        yield queries


def nearest_streamed(
    blocks: Blocks,
    fold: StreamedFold,
    queries: np.ndarray,
    metrics: Sequence[str],
    most: int,
) -> dict[str, Neighbours]:
    """The `most` nearest training rows of each query, by metric, exactly.

    A pass in float32 keeps `SPARE` more than are asked for; a second one takes the distances to
    these in float64, as in memory. Where the farthest kept may, within float32's rounding, hide
    rows that were not kept, the query is searched for anew in float64.

    Parameters
    ----------
    blocks : Blocks
    fold : StreamedFold
        Its training rows are searched.
    queries : array of shape (m, d), float64
        Standardised by the fold.
    metrics : sequence of str
    most : int

    Returns
    -------
    dict of str to (distances, numbers), each (m, most)
        Nearest first, of equally near ones the earlier row of X.
    """
    kept = _search(blocks, fold, queries, metrics, most, np.float32)
    found = {}
    for metric, near in kept.items():
        nearest, hidden = _settle(blocks, fold, queries, metric, near, most)
        if hidden.any():
            again = _search(blocks, fold, queries[hidden], [metric], most, np.float64)[metric]
            exact, _ = _settle(blocks, fold, queries[hidden], metric, again, most)
            nearest.distances[hidden] = exact.distances
            nearest.numbers[hidden] = exact.numbers
        found[metric] = nearest
    return found


def _nearest_indexed(
    index: Index, queries: np.ndarray, metrics: Sequence[str], most: int
) -> dict[str, Neighbours]:
    """As `nearest_streamed`, of the rows that an index finds; their distances are exact."""
    blocks, fold = index.blocks, index.fold
    found = {}
    for metric in metrics:
        numbers = index.find(queries, metric, most + SPARE)
        lacking = (numbers < 0).any(axis=1)
        # who found too few is searched for anew, and so must not stop here
        numbers[lacking] = fold.rows[0]
        kept = _Kept(np.zeros(numbers.shape), numbers)
        nearest, _ = _settle(blocks, fold, queries, metric, kept, most)
        if lacking.any():
            exact = nearest_streamed(blocks, fold, queries[lacking], [metric], most)[metric]
            nearest.distances[lacking] = exact.distances
            nearest.numbers[lacking] = exact.numbers
        found[metric] = nearest
    return found


def _search(
    blocks: Blocks,
    fold: StreamedFold,
    queries: np.ndarray,
    metrics: Sequence[str],
    most: int,
    kind: type,
) -> dict[str, _Kept]:
    """The rows of the least values by each metric, in the precision of `kind`."""
    m = len(queries)
    kept = {metric: _Kept.none(m, min(most + SPARE, fold.n)) for metric in metrics}
    own: np.ndarray = queries.astype(kind)
    tiles = [slice(start, start + TILE) for start in range(0, m, TILE)]

    def work(tile: slice, rows: np.ndarray, numbers: np.ndarray) -> None:
        for start in range(0, len(rows), TILE):
            some = rows[start : start + TILE]
            lengths = np.einsum("ij,ij->i", some, some)
            products = own[tile] @ some.T
            for metric in metrics:
                values = ORDERS[metric](products, lengths)
                kept[metric].take(tile, values, numbers[start : start + TILE])

    with Parallel(n_jobs=blocks.n_jobs, prefer="threads") as threads:
        for place in blocks.slices():
            numbers = np.repeat(np.arange(place.start, place.stop), fold.counts[place].astype(int))
            if len(numbers):
                rows = np.asarray(blocks.rows[place])[numbers - place.start]
                rows = fold.standardise(rows).astype(kind)
                threads(delayed(work)(tile, rows, numbers) for tile in tiles)
    return kept


def _settle(
    blocks: Blocks,
    fold: StreamedFold,
    queries: np.ndarray,
    metric: str,
    kept: _Kept,
    most: int,
) -> tuple[Neighbours, np.ndarray]:
    """Exact distances to the rows kept, the `most` nearest in order; and where more may hide."""
    products, lengths = _exact_products(blocks, fold, queries, kept.numbers)
    own = np.einsum("ij,ij->i", queries, queries)
    exact = ORDERS[metric](products, lengths)
    # by number first, so that the stable sort by distance leaves equals in that order
    distances = _distances(metric, products, lengths, own)
    by_number = np.argsort(kept.numbers, axis=1, kind="stable")
    order = np.take_along_axis(distances, by_number, 1).argsort(axis=1, kind="stable")
    order = np.take_along_axis(by_number, order, axis=1)[:, :most]
    nearest = Neighbours(
        np.take_along_axis(distances, order, axis=1),
        np.take_along_axis(kept.numbers, order, axis=1),
    )
    farthest = np.take_along_axis(exact, order[:, -1:], axis=1)[:, 0]
    # all that was not kept has at least this value in float32
    error = ROOM * np.sqrt(blocks.d) * np.finfo(np.float32).eps
    size = np.sqrt(own) if metric == "cosine" else own + lengths.max(axis=1)
    hidden = farthest > kept.values.max(axis=1) - error * size
    return nearest, hidden & (kept.numbers.shape[1] < fold.n)


def _distances(
    metric: str, products: np.ndarray, lengths: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Distances (m, kept) from products, the rows' squared lengths and the queries' own (m,)."""
    if metric != "cosine":
        return np.sqrt(squared_distances(products, own[:, None], lengths))
    sizes = np.sqrt(np.maximum(own[:, None] * lengths, np.finfo(np.float64).tiny))
    return cosine_distances(products / sizes)


def _exact_products(
    blocks: Blocks, fold: StreamedFold, queries: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Products of queries and the rows of these numbers (m, kept), and the rows' squared lengths.

    One pass: each block settles the pairs whose row it holds.
    """
    flat = numbers.ravel()
    order = flat.argsort(kind="stable")
    ascending = flat[order]
    products = np.empty(len(flat))
    lengths = np.empty(len(flat))

    def work(place: slice, rows: np.ndarray) -> None:
        first, last = np.searchsorted(ascending, [place.start, place.stop])
        Z = fold.standardise(rows)
        squares = np.einsum("ij,ij->i", Z, Z)
        for start in range(first, last, PAIRS):
            pairs = order[start : min(start + PAIRS, last)]
            inside = flat[pairs] - place.start
            asking = queries[pairs // numbers.shape[1]]
            products[pairs] = np.einsum("ij,ij->i", asking, Z[inside])
            lengths[pairs] = squares[inside]

    blocks.run(work)
    return products.reshape(numbers.shape), lengths.reshape(numbers.shape)
