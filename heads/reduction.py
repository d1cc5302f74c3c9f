"""One fold's features, standardised, and reduced exactly to as few dimensions as rows span."""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dpstrf

from heads.bases import ROUNDING, Columns, Products
from heads.fold_passes import SLAB, share_crosses, share_moments

if TYPE_CHECKING:  # `linear` imports this file
    from heads.linear import Fitted

# a chunk has at least so many columns: of narrower ones the interpreter takes the time
NARROWEST = 256
# what follows from `gram`, and is computed anew where that is
FROM_GRAM = frozenset({"gram", "distances", "_reduced", "train", "others", "spectrum", "columns"})


class Fold:
    """Training and other rows of a feature array, standardised by the training rows.

    L2-regularised linear heads, kernels and neighbours see features through inner products alone.
    With the standardised training rows B = Z Q^T, the columns of Q orthonormal, the head on Z
    (n x r, r at most min(n, d)) has the optimum of the head on B, and its coefficients come back
    by Q. All is computed on first use, in float64.

    Parameters
    ----------
    X : array of shape (n_all, d), float32 or float64
    train, others : index arrays of shape (n,) and (m,)
        `others` are the held-out rows; none where all rows are trained on.

    Attributes
    ----------
    n, m, d : int
        Training rows, other rows, features.
    rows : array of shape (n + m,)
        Numbers of the training rows in X, then of the others.
    mean, var, scale : arrays of shape (d,)
        As StandardScaler's `mean_`, `var_`, `scale_`.
    gram : array of shape (n + m, n + m)
        Inner products of the standardised rows, training rows first.
    distances : array of shape (n + m, n)
        Squared Euclidean distances to the training rows.
    other_distances, cosines : arrays of shape (m, n)
        Squared distances and cosines of the other rows to the training rows, alone cheaper than
        `gram`.
    train, others : arrays of shape (n, r) and (m, r)
        The reduced rows, their columns centred; at d <= n the standardised rows themselves.
    starts : dict
        C -> (coef, intercept) from where the logistic head's solution starts, in the columns of
        `train`.
    solved : dict
        Name of a linear head -> its solutions, where many folds were solved together.
    refined : bool
        Whether the products are this fold's own, see `refine`.
    """

    def __init__(self, X: np.ndarray, train: np.ndarray, others: np.ndarray) -> None:
        self.X = X
        self.rows = np.concatenate([train, others])
        self.n = len(train)
        self.m = len(others)
        self.d = X.shape[1]
        self.starts: dict[float, tuple[np.ndarray, np.ndarray]] = {}
        self.solved: dict[str, Fitted] = {}
        self.refined = False

    def _chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Column slices with their standardised rows, (n + m, chunk).

        There is never a float64 copy of all of X.
        """
        width = max(SLAB // len(self.rows), NARROWEST)
        for start in range(0, self.d, width):
            columns = slice(start, start + width)
            B = self.X[self.rows, columns].astype(np.float64)
            B -= self.mean[columns]
            B /= self.scale[columns]
            yield columns, B

    # moments, crosses and the gram are set from outside where many folds share a pass over X

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean, var)."""
        return share_moments(self.X, [self])[0]

    @property
    def mean(self) -> np.ndarray:
        return self.moments[0]

    @property
    def var(self) -> np.ndarray:
        return self.moments[1]

    @cached_property
    def varying(self) -> np.ndarray:
        """Which columns are not constant, by StandardScaler's own rule (`_is_constant_feature`)."""
        eps = np.finfo(np.float64).eps
        return self.var > self.n * eps * self.var + (self.n * self.mean * eps) ** 2

    @cached_property
    def scale(self) -> np.ndarray:
        return np.where(self.varying, np.sqrt(self.var), 1.0)

    def weights(self, columns: slice = slice(None)) -> np.ndarray:
        """1 / scale^2 of some columns: what a product of centred features counts by."""
        return self.scale[columns] ** -2.0

    @cached_property
    def gram(self) -> np.ndarray:
        K = np.zeros((len(self.rows), len(self.rows)))
        for _, B in self._chunks():
            K += B @ B.T
        return K

    @cached_property
    def crosses(self) -> tuple[np.ndarray, np.ndarray]:
        """Products (m, n) of other and training rows, and squared lengths (n + m,) of all.

        Where `gram` is there they are taken from it; else the rest of it is not computed.
        """
        if "gram" in vars(self):
            return self.gram[self.n :, : self.n], np.diag(self.gram)
        return share_crosses(self.X, [self])[0]

    @property
    def cosines(self) -> np.ndarray:
        products, lengths = self.crosses
        lengths = np.sqrt(np.maximum(lengths, np.finfo(np.float64).tiny))
        return products / (lengths[self.n :, None] * lengths[: self.n])

    @property
    def other_distances(self) -> np.ndarray:
        products, lengths = self.crosses
        return squared_distances(products, lengths[self.n :, None], lengths[: self.n])

    def refine(self) -> None:
        """Take the products of this fold's rows in float64, and what follows from them anew.

        Where rows lack rank, the rounding of shared products leaves solutions by them too few
        digits.
        """
        self.refined = True
        for name in FROM_GRAM & vars(self).keys():
            del vars(self)[name]

    def center_gram(self, K: np.ndarray) -> None:
        """Set `gram` from inner products (n_all, n_all), scaled as here but centred anywhere.

        (z_i - c) (z_j - c) for c the training rows' mean: K less its means over them, by rows and
        by columns, plus the mean of all.
        """
        K = K[np.ix_(self.rows, self.rows)]
        means = K[:, : self.n].mean(axis=1)
        self.gram = K - means[:, None] - means + means[: self.n].mean()

    @cached_property
    def distances(self) -> np.ndarray:
        lengths = np.diag(self.gram)
        return squared_distances(self.gram[:, : self.n], lengths[:, None], lengths[: self.n])

    @cached_property
    def _reduced(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows (n + m, r), pivots (r,), factor (r, r)), for d > n.

        Cholesky's factor L of the training products K = L L^T, pivoted until what is left is
        rounding: r rows span the others, and L's rows are all rows in an orthonormal basis (their
        own Gram-Schmidt). It takes a tenth of the time of the eigenvectors. The other rows follow
        from L_r x = their products with the r rows.
        """
        K = self.gram[: self.n, : self.n]
        factor, pivots, rank, _ = dpstrf(K, tol=10 * ROUNDING * K.diagonal().max(), lower=1)
        pivots = pivots - 1  # LAPACK counts from 1
        factor = np.tril(factor)[:, :rank]
        rows = np.empty((self.n + self.m, rank))
        rows[pivots] = factor
        pivots = pivots[:rank]
        factor = factor[:rank]
        rows[self.n :] = solve_triangular(factor, self.gram[self.n :, pivots].T, lower=True).T
        return rows, pivots, factor

    @property
    def reduced(self) -> bool:
        return self.d > self.n

    def _standardised(self, rows: np.ndarray) -> np.ndarray:
        B = self.X[rows].astype(np.float64)
        B -= self.mean
        B /= self.scale
        return B

    @cached_property
    def train(self) -> np.ndarray:
        if self.reduced:
            return self._reduced[0][: self.n]
        return self._standardised(self.rows[: self.n])

    @cached_property
    def others(self) -> np.ndarray:
        if self.reduced:
            return self._reduced[0][self.n :]
        return self._standardised(self.rows[self.n :])

    @cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (r,) of `train.T @ train` above rounding, and eigenvectors as columns.

        What lies below is rank that the rows do not have.
        """
        values, vectors = np.linalg.eigh(self.train.T @ self.train)
        above = values > values.max(initial=0) * ROUNDING
        return values[above], vectors[:, above]

    @cached_property
    def columns(self) -> Columns:
        """The training rows by their columns, as `solvers.solve` takes them."""
        return Columns(self.train)

    @cached_property
    def products(self) -> Products:
        """The training rows by their inner products, as `solvers.solve` takes them."""
        return Products(self.gram[: self.n, : self.n])

    def products_among(self, n: int) -> Products:
        """`products` beside those of folds of up to n training rows: padded by rows of zero."""
        if n == self.n:
            return self.products
        return Products(np.pad(self.gram[: self.n, : self.n], (0, n - self.n)))

    def class_means(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means (classes, r) of the classes, and the proportion (classes,) of rows in each.

        codes : array of shape (n,), of the training rows
        """
        counts = np.bincount(codes)
        members = np.eye(len(counts))[codes]
        return members.T @ self.train / counts[:, None], counts / len(codes)

    def coefficients(self, reduced: np.ndarray, by_rows: bool = False) -> np.ndarray:
        """Coefficients as (k, d) of the standardised features.

        Parameters
        ----------
        reduced : array of shape (k, r), of the columns of `train`, or (k, n) where `by_rows`
        by_rows : bool
            Whether they are combinations of the training rows.
        """
        if by_rows:
            return np.hstack([reduced @ B[: self.n] for _, B in self._chunks()])
        if not self.reduced:
            return reduced
        # Q = B_r^T L_r^-T for the r rows that span the others, so coef Q^T = (coef L_r^-1) B_r
        _, pivots, factor = self._reduced
        back = solve_triangular(factor, reduced.T, lower=True, trans="T").T
        return np.hstack([back @ B[pivots] for _, B in self._chunks()])


def squared_distances(products: np.ndarray, lengths: np.ndarray, others: np.ndarray) -> np.ndarray:
    """|a|^2 + |b|^2 - 2 a b, of rows by their products and squared lengths (m, 1) and (n,)."""
    found = lengths + others - 2 * products
    # equal rows are at distance zero, not at the rounding error of their lengths
    found[found < 10 * ROUNDING * (lengths + others)] = 0
    return found
