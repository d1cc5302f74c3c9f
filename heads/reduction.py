"""One fold's features, standardised, and their exact reduction to as few dimensions as the rows span."""

from functools import cached_property

import numpy as np
from joblib import Parallel, delayed
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dpstrf

from heads.bases import ROUNDING, Columns, Products

CHUNK = 2048
# values of a slab that is worked on in a core's cache
SLAB = 2**20
# above this many rows the folds' square matrices are made one at a time
MOST_SHARED_ROWS = 2000
# a fold's mean so many of its standard deviations away from that of all rows costs too many digits
FAR = 1e3


class Fold:
    """Training and other rows of a feature array, standardised by the training rows.

    L2-regularised linear heads, kernels and neighbours see features through inner products alone. With the
    standardised training rows B = Z Q^T, the columns of Q orthonormal, the head on Z (n x r, r at most min(n, d))
    has the optimum of the head on B, and its coefficients come back by Q. All is computed on first use, in float64.

    Parameters
    ----------
    X : array of shape (n_all, d), float32 or float64
    train, others : index arrays of shape (n,) and (m,)

    Attributes
    ----------
    n, m, d : int
        Training rows, other rows, features.
    mean, var, scale : arrays of shape (d,)
        As StandardScaler's `mean_`, `var_`, `scale_`.
    gram : array of shape (n + m, n + m)
        Inner products of the standardised rows, training rows first.
    distances : array of shape (n + m, n)
        Squared Euclidean distances to the training rows.
    other_distances, cosines : arrays of shape (m, n)
        Squared distances and cosines of the other rows to the training rows, alone cheaper than `gram`.
    train, others : arrays of shape (n, r) and (m, r)
        The reduced rows, their columns centred; at d <= n the standardised rows themselves.
    starts : dict
        C -> (coef, intercept) from where the logistic head's solution starts, in the columns of `train`.
    solved : dict
        Name of a linear head -> its solutions, where many folds were solved together.
    """

    def __init__(self, X, train, others):
        self._X, self.rows = X, np.concatenate([train, others])
        self.n, self.m, self.d = len(train), len(others), X.shape[1]
        self.starts, self.solved, self.refined = {}, {}, False

    def _chunks(self):
        """Column slices with their standardised rows, (n + m, chunk): never a float64 copy of all of X."""
        width = max(SLAB // len(self.rows), 256)
        for start in range(0, self.d, width):
            columns = slice(start, start + width)
            B = self._X[self.rows, columns].astype(np.float64)
            B -= self.mean[columns]
            B /= self.scale[columns]
            yield columns, B

    @cached_property
    def _moments(self):
        return share_moments(self._X, [self])[0]

    @property
    def mean(self):
        return self._moments[0]

    @property
    def var(self):
        return self._moments[1]

    @cached_property
    def varying(self):
        """Which columns are not constant, by StandardScaler's own rule."""
        eps = np.finfo(np.float64).eps
        return self.var > self.n * eps * self.var + (self.n * self.mean * eps) ** 2

    @cached_property
    def scale(self):
        return np.where(self.varying, np.sqrt(self.var), 1.0)

    def weights(self, columns=slice(None)):
        """1 / scale^2 of some columns: what a product of centred features counts by."""
        return self.scale[columns] ** -2.0

    @cached_property
    def gram(self):
        K = np.zeros((len(self.rows), len(self.rows)))
        for _, B in self._chunks():
            K += B @ B.T
        return K

    @cached_property
    def _cross(self):
        """(products of other and training rows, squared lengths of all) without the rest of the gram."""
        if "gram" in vars(self):
            return self.gram[self.n :, : self.n], np.diag(self.gram)
        return share_crosses(self._X, [self])[0]

    @property
    def cosines(self):
        products, lengths = self._cross
        lengths = np.sqrt(np.maximum(lengths, np.finfo(np.float64).tiny))
        return products / (lengths[self.n :, None] * lengths[: self.n])

    @property
    def other_distances(self):
        products, lengths = self._cross
        return _squared_distances(products, lengths[self.n :], lengths[: self.n])

    def refine(self):
        """Take the products of this fold's rows in float64, and what follows from them anew.

        Where rows lack rank, the rounding of shared products leaves solutions by them too few digits.
        """
        self.refined = True
        for name in {
            "gram",
            "distances",
            "_reduced",
            "train",
            "others",
            "spectrum",
            "columns",
        } & vars(self).keys():
            del vars(self)[name]

    def center_gram(self, K):
        """Set `gram` from inner products (n_all, n_all) of all rows, scaled as here but centred anywhere."""
        K = K[np.ix_(self.rows, self.rows)]
        means = K[:, : self.n].mean(axis=1)
        self.gram = K - means[:, None] - means + means[: self.n].mean()

    @cached_property
    def distances(self):
        lengths = np.diag(self.gram)
        return _squared_distances(self.gram[:, : self.n], lengths, lengths[: self.n])

    @cached_property
    def _reduced(self):
        """(rows (n + m, r), pivots (r,), factor (r, r)), at d > n by Cholesky's factors of the training products.

        Pivoted, the factor L of the products of r rows that span the others is a basis (the rows' own Gram-Schmidt):
        it takes a tenth of the time of the eigenvectors.
        """
        K = self.gram[: self.n, : self.n]
        factor, pivots, rank, _ = dpstrf(K, tol=10 * ROUNDING * K.diagonal().max(), lower=1)
        pivots, factor = pivots - 1, np.tril(factor)[:, :rank]
        rows = np.empty((self.n + self.m, rank))
        rows[pivots] = factor
        pivots, factor = pivots[:rank], factor[:rank]
        rows[self.n :] = solve_triangular(factor, self.gram[self.n :, pivots].T, lower=True).T
        return rows, pivots, factor

    @property
    def reduced(self):
        return self.d > self.n

    def _standardised(self, rows):
        B = self._X[rows].astype(np.float64)
        B -= self.mean
        B /= self.scale
        return B

    @cached_property
    def train(self):
        return (
            self._reduced[0][: self.n] if self.reduced else self._standardised(self.rows[: self.n])
        )

    @cached_property
    def others(self):
        return (
            self._reduced[0][self.n :] if self.reduced else self._standardised(self.rows[self.n :])
        )

    @cached_property
    def spectrum(self):
        """Eigenvalues (r,) of `train.T @ train` above rounding, and eigenvectors as columns."""
        return _eigen(self.train.T @ self.train)

    @cached_property
    def columns(self):
        """The training rows by their columns, as `solvers.solve` takes them."""
        return Columns(self.train)

    @cached_property
    def products(self):
        """The training rows by their inner products, as `solvers.solve` takes them."""
        return Products(self.gram[: self.n, : self.n])

    def products_among(self, n):
        """`products` as one of several folds, of n training rows at most: padded by rows that are zero."""
        return (
            self.products
            if n == self.n
            else Products(np.pad(self.gram[: self.n, : self.n], (0, n - self.n)))
        )

    def coefficients(self, reduced, by_rows=False):
        """Coefficients (k, columns of `train`), or (k, n) of the rows, as (k, d) of the standardised features."""
        if by_rows:
            return np.hstack([reduced @ B[: self.n] for _, B in self._chunks()])
        if not self.reduced:
            return reduced
        _, pivots, factor = self._reduced
        back = solve_triangular(factor, reduced.T, lower=True, trans="T").T
        return np.hstack([back @ B[pivots] for _, B in self._chunks()])


def _squared_distances(products, lengths, others):
    found = lengths[:, None] + others - 2 * products
    # equal rows are at distance zero, not at the rounding error of their lengths
    found[found < 10 * ROUNDING * (lengths[:, None] + others)] = 0
    return found


def _eigen(S):
    """Eigenvalues above rounding and their vectors: what lies below is rank that the rows do not have."""
    values, vectors = np.linalg.eigh(S)
    kept = values > values.max(initial=0) * ROUNDING
    return values[kept], vectors[:, kept]


def _over_slabs(work, X, width, n_jobs):
    """`work(columns)` of every slab of columns, in their order, by `n_jobs` threads."""
    slabs = [slice(start, start + width) for start in range(0, X.shape[1], width)]
    return Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
        delayed(work)(slab) for slab in slabs
    )


def _slab_width(X):
    return max(min(SLAB // len(X), -(-X.shape[1] // 4)), 1)


def share_moments(X, folds, n_jobs=None):
    """Set and return (mean, var) of the training rows of folds of one array, from one pass over X."""
    counts = np.stack(
        [np.bincount(fold.rows[: fold.n], minlength=len(X)) for fold in folds]
    ).astype(np.float64)

    def work(columns):
        B = X[:, columns].astype(np.float64)
        center = B.mean(axis=0)
        B -= center
        n = counts.sum(axis=1, keepdims=True)
        shift = counts @ B / n
        B *= B
        var = counts @ B / n - shift**2
        # nearly constant in this fold, far from the other rows: the difference has lost its digits
        for i, j in np.argwhere(var <= FAR**-2 * shift**2):
            column = X[folds[i].rows[: folds[i].n], columns.start + j].astype(np.float64)
            mean = column.mean()
            shift[i, j], var[i, j] = mean - center[j], np.mean((column - mean) ** 2)
        return center + shift, var

    means, variances = (
        np.hstack(parts)
        for parts in zip(*_over_slabs(work, X, _slab_width(X), n_jobs), strict=True)
    )
    for fold, mean, var in zip(folds, means, variances, strict=True):
        fold._moments = mean, var
    return list(zip(means, variances, strict=True))


def share_crosses(X, folds, n_jobs=None):
    """Set and return (products of other and training rows, squared lengths of all) of folds of one array."""

    def work(columns):
        parts = []
        for fold in folds:
            rows, weights = X[fold.rows, columns].astype(np.float64), fold.weights(columns)
            rows -= fold.mean[columns]
            products = (rows[fold.n :] * weights) @ rows[: fold.n].T
            rows *= rows
            parts.append((products, rows @ weights))
        return parts

    totals = None
    for parts in _over_slabs(work, X, _slab_width(X), n_jobs):
        totals = totals or [
            (np.zeros_like(products), np.zeros_like(lengths)) for products, lengths in parts
        ]
        for total, part in zip(totals, parts, strict=True):
            total[0][:] += part[0]
            total[1][:] += part[1]
    for fold, total in zip(folds, totals, strict=True):
        fold._cross = total
    return totals


def share_grams(X, folds, n_jobs=None):
    """Set `gram` of folds of one array, n < 2 d, from one float64 product for all and a float32 one for each.

    The folds' Gram matrices differ by the weights 1 / scale^2 of their columns alone, and these by a few per
    cent: the smallest weights make the float64 product, what a fold has above them the float32 one, whose
    rounding is so much the smaller. Columns whose weights differ by more than 4 times (nearly constant ones)
    are multiplied in float64 for each fold. Slabs of columns go to `n_jobs` threads.
    """
    if 2 * X.shape[1] <= len(X) or len(X) > MOST_SHARED_ROWS:
        return
    # of folds that use few of the rows each has less work with its own
    if sum(len(fold.rows) ** 2 for fold in folds) < (1 + len(folds) / 2) * len(X) ** 2:
        return
    weights = np.stack([fold.weights() for fold in folds])
    base, above = np.zeros((len(X), len(X))), np.zeros((len(folds), len(X), len(X)))

    def work(columns):
        return _slab_products(
            X[:, columns], weights[:, columns], [fold.mean[columns] for fold in folds]
        )

    for shared, own in _over_slabs(work, X, min(CHUNK, -(-X.shape[1] // 4)), n_jobs):
        base += shared
        above += own
    for fold, own in zip(folds, above, strict=True):
        fold.center_gram(base + own)


def _slab_products(X, weights, means):
    B = X.astype(np.float64)
    center = B.mean(axis=0)
    B -= center
    low = weights.min(axis=0)
    near = weights.max(axis=0) <= 4 * low
    for weight, mean in zip(weights, means, strict=True):
        near &= weight * (mean - center) ** 2 < FAR**2
    shared = B[:, near] * np.sqrt(low[near])
    B32, far = B[:, near].astype(np.float32), B[:, ~near]
    own = np.empty((len(weights), len(X), len(X)), dtype=np.float32 if near.all() else np.float64)
    for product, weight, mean in zip(own, weights, means, strict=True):
        above = B32 * np.sqrt(weight[near] - low[near]).astype(np.float32)
        product[:] = above @ above.T
        if not near.all():
            apart = (far - (mean - center)[~near]) * np.sqrt(weight[~near])
            product += apart @ apart.T
    return shared @ shared.T, own
