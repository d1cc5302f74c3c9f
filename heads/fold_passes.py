"""Passes over all features that serve every fold of a search: moments and inner products."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from joblib import Parallel, delayed

if TYPE_CHECKING:  # `reduction` imports this file
    from heads.reduction import Fold

Found = TypeVar("Found")

# at most so many columns at a time in the Gram products
CHUNK = 2048
# values of a slab that is worked on in a core's cache
SLAB = 2**20
# slabs of one array at least, so that two threads end together
SLABS = 4
# of so few values of X threads would wait for one another, and a slab is hardly any work
FEW_VALUES = 1 << 18
# above this many rows the folds' square matrices are made one at a time
MOST_SHARED_ROWS = 2000
# a fold's mean so many of its standard deviations away from that of all rows costs too many digits
FAR = 1e3
# weights that differ by more cost a float32 product too many digits
UNLIKE = 4


def _over_slabs(
    work: Callable[[slice], Found], X: np.ndarray, width: int, n_jobs: int | None
) -> Iterator[Found]:
    """`work(columns)` of every slab of columns, in their order, by `n_jobs` threads."""
    slabs = [slice(start, start + width) for start in range(0, X.shape[1], width)]
    return Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
        delayed(work)(slab) for slab in slabs
    )


def _slab_width(X: np.ndarray) -> int:
    return max(min(SLAB // len(X), -(-X.shape[1] // SLABS)), 1)


def share_moments(
    X: np.ndarray, folds: Sequence["Fold"], n_jobs: int | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Set and return `moments` of folds of one array, (mean, var), from one pass over X.

    Each is a product of the folds' row counts (folds, n_all) with the values and their squares,
    less the mean of all rows so that the squares keep their digits.
    """
    counts = np.stack([np.bincount(fold.rows[: fold.n], minlength=len(X)) for fold in folds])
    counts = counts.astype(np.float64)
    n = counts.sum(axis=1, keepdims=True)

    def work(columns: slice) -> tuple[np.ndarray, np.ndarray]:
        B = X[:, columns].astype(np.float64)
        center = B.mean(axis=0)
        B -= center
        shift = counts @ B / n
        B *= B
        var = counts @ B / n - shift**2
        # nearly constant in this fold, far from the other rows: the difference has lost its digits
        for i, j in np.argwhere(var <= FAR**-2 * shift**2):
            column = X[folds[i].rows[: folds[i].n], columns.start + j].astype(np.float64)
            mean = column.mean()
            shift[i, j] = mean - center[j]
            var[i, j] = np.mean((column - mean) ** 2)
        return center + shift, var

    means = []
    variances = []
    for mean, var in _over_slabs(work, X, _slab_width(X), n_jobs):
        means.append(mean)
        variances.append(var)
    moments = list(zip(np.hstack(means), np.hstack(variances), strict=True))
    for fold, of_fold in zip(folds, moments, strict=True):
        fold.moments = of_fold
    return moments


def share_crosses(
    X: np.ndarray, folds: Sequence["Fold"], n_jobs: int | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Set and return `crosses` of folds of one array, from one pass over X."""

    def work(columns: slice) -> list[tuple[np.ndarray, np.ndarray]]:
        parts = []
        for fold in folds:
            rows = X[fold.rows, columns].astype(np.float64)
            weights = fold.weights(columns)
            rows -= fold.mean[columns]
            products = (rows[fold.n :] * weights) @ rows[: fold.n].T
            rows *= rows
            parts.append((products, rows @ weights))
        return parts

    totals = [(np.zeros((fold.m, fold.n)), np.zeros(fold.n + fold.m)) for fold in folds]
    for parts in _over_slabs(work, X, _slab_width(X), n_jobs):
        for (products, lengths), (more_products, more_lengths) in zip(totals, parts, strict=True):
            products += more_products
            lengths += more_lengths
    for fold, total in zip(folds, totals, strict=True):
        fold.crosses = total
    return totals


def share_grams(X: np.ndarray, folds: Sequence["Fold"], n_jobs: int | None = None) -> None:
    """Set `gram` of folds of one array, n < 2 d, from one float64 product and a float32 one each.

    The folds' Gram matrices differ by the weights 1 / scale^2 of their columns alone, and these by
    a few per cent: the smallest weights make the float64 product that all share, what a fold has
    above them the float32 one, whose rounding is so much the smaller. Columns whose weights differ
    by more than 4 times (nearly constant ones) are multiplied in float64 for each fold. Slabs of
    columns go to `n_jobs` threads.
    """
    if 2 * X.shape[1] <= len(X) or len(X) > MOST_SHARED_ROWS:
        return
    # of folds that use few of the rows each has less work with its own
    if sum(len(fold.rows) ** 2 for fold in folds) < (1 + len(folds) / 2) * len(X) ** 2:
        return
    weights = np.stack([fold.weights() for fold in folds])

    def work(columns: slice) -> tuple[np.ndarray, np.ndarray]:
        means = [fold.mean[columns] for fold in folds]
        return _slab_products(X[:, columns], weights[:, columns], means)

    base = np.zeros((len(X), len(X)))
    above = np.zeros((len(folds), len(X), len(X)))
    n_slabs = 1 if X.size <= FEW_VALUES else SLABS
    for shared, own in _over_slabs(work, X, min(CHUNK, -(-X.shape[1] // n_slabs)), n_jobs):
        base += shared
        above += own
    for fold, own in zip(folds, above, strict=True):
        fold.center_gram(base + own)


def _slab_products(
    X: np.ndarray, weights: np.ndarray, means: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Products (n, n) of a slab's rows by the smallest weights, and (folds, n, n) above them."""
    B = X.astype(np.float64)
    center = B.mean(axis=0)
    B -= center
    low = weights.min(axis=0)
    alike = weights.max(axis=0) <= UNLIKE * low
    for weight, mean in zip(weights, means, strict=True):
        alike &= weight * (mean - center) ** 2 < FAR**2
    shared = B[:, alike] * np.sqrt(low[alike])
    B32 = B[:, alike].astype(np.float32)
    others = B[:, ~alike]
    # where no column asks for float64, half the memory
    kind = np.float32 if alike.all() else np.float64
    own = np.empty((len(weights), len(X), len(X)), dtype=kind)
    for product, weight, mean in zip(own, weights, means, strict=True):
        above = B32 * np.sqrt(weight[alike] - low[alike]).astype(np.float32)
        product[:] = above @ above.T
        if not alike.all():
            # centred by the fold: weights this large would magnify what centring takes off later
            apart = (others - (mean - center)[~alike]) * np.sqrt(weight[~alike])
            product += apart @ apart.T
    return shared @ shared.T, own
