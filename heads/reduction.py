"""One fold's features, standardised, and their exact reduction to as few dimensions as the rows span."""

from functools import cached_property

import numpy as np
from joblib import Parallel, delayed

CHUNK = 2048
# above this many rows the folds' square matrices are made one at a time
MOST_SHARED_ROWS = 2000
# inner products are exact to about this share of the largest: what is smaller is rounding
ROUNDING = 1e-9


class Fold:
    """Training and other rows of a feature array, standardised by the training rows.

    L2-regularised linear heads, kernels and neighbours see features through inner products alone. With the
    standardised training rows B = U S V^T, the head on `U S` (n x r, r at most min(n, d)) has the optimum of
    the head on B, and its coefficients come back by V. All is computed on first use, in float64.

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
        The reduced rows; the columns of `train` are centred and orthogonal.
    """

    def __init__(self, X, train, others):
        self._X, self._rows = X, np.concatenate([train, others])
        self.n, self.m, self.d = len(train), len(others), X.shape[1]

    def _chunks(self):
        """Column slices with their standardised rows, (n + m, chunk): never a float64 copy of all of X."""
        for start in range(0, self.d, CHUNK):
            columns = slice(start, start + CHUNK)
            B = self._X[self._rows, columns].astype(np.float64)
            yield columns, (B - self.mean[columns]) / self.scale[columns]

    @cached_property
    def _moments(self):
        mean, var = np.empty(self.d), np.empty(self.d)
        for start in range(0, self.d, CHUNK):
            columns = slice(start, start + CHUNK)
            B = self._X[self._rows[: self.n], columns].astype(np.float64)
            mean[columns] = B.mean(axis=0)
            B -= mean[columns]
            var[columns] = np.einsum("ij,ij->j", B, B) / self.n
        return mean, var

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

    @cached_property
    def gram(self):
        K = np.zeros((len(self._rows), len(self._rows)))
        for _, B in self._chunks():
            K += B @ B.T
        return K

    @cached_property
    def _cross(self):
        """(products of other and training rows, squared lengths of all) without the rest of the gram."""
        if "gram" in vars(self):
            return self.gram[self.n :, : self.n], np.diag(self.gram)
        products, lengths = np.zeros((self.m, self.n)), np.zeros(self.n + self.m)
        for _, B in self._chunks():
            products += B[self.n :] @ B[: self.n].T
            lengths += np.einsum("ij,ij->i", B, B)
        return products, lengths

    @property
    def cosines(self):
        products, lengths = self._cross
        lengths = np.sqrt(np.maximum(lengths, np.finfo(np.float64).tiny))
        return products / (lengths[self.n :, None] * lengths[: self.n])

    @property
    def other_distances(self):
        products, lengths = self._cross
        return _squared_distances(products, lengths[self.n :], lengths[: self.n])

    def center_gram(self, K):
        """Set `gram` from inner products (n_all, n_all) of all rows, scaled as here but centred anywhere."""
        K = K[np.ix_(self._rows, self._rows)]
        means = K[:, : self.n].mean(axis=1)
        self.gram = K - means[:, None] - means + means[: self.n].mean()

    @cached_property
    def distances(self):
        lengths = np.diag(self.gram)
        return _squared_distances(self.gram[:, : self.n], lengths, lengths[: self.n])

    @cached_property
    def _reduced(self):
        """(rows reduced (n + m, r), basis): by the smaller of the two square matrices' eigenvectors."""
        if self.d <= self.n:
            B = np.hstack([chunk for _, chunk in self._chunks()])
            _, basis = _eigen(B[: self.n].T @ B[: self.n])
            return B @ basis, basis
        values, vectors = _eigen(self.gram[: self.n, : self.n])
        basis = vectors / np.sqrt(values)
        return np.vstack([vectors * np.sqrt(values), self.gram[self.n :, : self.n] @ basis]), basis

    @property
    def train(self):
        return self._reduced[0][: self.n]

    @property
    def others(self):
        return self._reduced[0][self.n :]

    def coefficients(self, reduced):
        """Coefficients (k, r) of the reduced columns as (k, d) of the standardised features."""
        _, basis = self._reduced
        back = reduced @ basis.T
        if self.d <= self.n:
            return back
        return np.hstack([back @ B[: self.n] for _, B in self._chunks()])


def _squared_distances(products, lengths, others):
    found = lengths[:, None] + others - 2 * products
    # equal rows are at distance zero, not at the rounding error of their lengths
    found[found < 10 * ROUNDING * (lengths[:, None] + others)] = 0
    return found


def _eigen(S):
    """Eigenvalues above rounding and their vectors: what lies below is rank that the rows do not have."""
    values, vectors = np.linalg.eigh(S)
    kept = values > max(values[-1], 0) * ROUNDING
    return values[kept], vectors[:, kept]


def share_grams(X, folds, n_jobs=None):
    """Set `gram` of folds of one array, d > n, from one float64 product for all and a float32 one for each.

    The folds' Gram matrices differ by the weights 1 / scale^2 of their columns alone, and these by a few per
    cent: the smallest weights make the float64 product, what a fold has above them the float32 one, whose
    rounding is so much the smaller. Columns whose weights differ by more than 4 times (nearly constant ones)
    are multiplied in float64 for each fold. Slabs of columns go to `n_jobs` threads.
    """
    if X.shape[1] <= len(X) or len(X) > MOST_SHARED_ROWS:
        return
    width = min(CHUNK, -(-X.shape[1] // 4))
    slabs = [slice(start, start + width) for start in range(0, X.shape[1], width)]
    base, above = np.zeros((len(X), len(X))), np.zeros((len(folds), len(X), len(X)))
    scales = np.stack([fold.scale for fold in folds])
    products = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
        delayed(_slab_products)(X[:, columns], scales[:, columns] ** -2.0) for columns in slabs
    )
    for shared, own in products:
        base += shared
        above += own
    for fold, own in zip(folds, above, strict=True):
        fold.center_gram(base + own)


def _slab_products(X, weights):
    B = X.astype(np.float64)
    B -= B.mean(axis=0)
    low = weights.min(axis=0)
    near = weights.max(axis=0) <= 4 * low
    shared = B[:, near] * np.sqrt(low[near])
    B32, far = B[:, near].astype(np.float32), B[:, ~near]
    own = np.empty((len(weights), len(X), len(X)), dtype=np.float32 if near.all() else np.float64)
    for product, weight in zip(own, weights, strict=True):
        above = B32 * np.sqrt(weight[near] - low[near]).astype(np.float32)
        product[:] = above @ above.T
        if not near.all():
            apart = far * np.sqrt(weight[~near])
            product += apart @ apart.T
    return shared @ shared.T, own
