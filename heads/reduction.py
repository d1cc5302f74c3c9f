"""One fold's features, standardised, and their exact reduction to as few dimensions as the rows span."""

from functools import cached_property

import numpy as np

CHUNK = 2048


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
    def distances(self):
        norms = np.diag(self.gram)
        found = norms[:, None] + norms[: self.n] - 2 * self.gram[:, : self.n]
        # equal rows are at distance zero, not at the rounding error of their norms
        found[found < 1e-12 * (norms[:, None] + norms[: self.n])] = 0
        return found

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

    def standardised(self, rows):
        """Some training rows, (len(rows), d), by their place among them."""
        return (self._X[self._rows[rows]] - self.mean) / self.scale

    def coefficients(self, reduced):
        """Coefficients (k, r) of the reduced columns as (k, d) of the standardised features."""
        _, basis = self._reduced
        back = reduced @ basis.T
        if self.d <= self.n:
            return back
        return np.hstack([back @ B[: self.n] for _, B in self._chunks()])


def _eigen(S):
    """Eigenvalues above rounding and their vectors: what lies below is rank that the rows do not have."""
    values, vectors = np.linalg.eigh(S)
    kept = values > max(values[-1], 0) * len(S) * np.finfo(np.float64).eps
    return values[kept], vectors[:, kept]
