"""The training images as what new ones are compared with: how familiar they are, and which is near.

Works on arrays alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.exploration.neighbours import unit_rows

AXES = 64  # that rows are projected on: what else they differ in is one number, its length
NEAR = 5  # training images whose mean distance says how far an image lies
BLOCK = 512  # images whose distances to all training images are in memory at once


@dataclass(frozen=True, eq=False)
class Reference:
    """Training images in the features of a classifier.

    Rows of length one lie on `axes`, their principal ones, and beside them by one length each: what
    two images have off the axes is taken as having nothing in common.

    Attributes
    ----------
    mean : ndarray of shape (d,), float32
        Of the rows of length one.
    axes : ndarray of shape (d, k), float32
        Orthonormal.
    rows : ndarray of shape (n, k + 1), float32
        The training images on the axes, and their length off them.
    judged : ndarray of shape (n,), float32
        Sorted: how far each training image lies from those of the other folds.
    paths, labels : ndarray of shape (n,), str
        What the training images are called, and what they show.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> known = np.abs(rng.normal([9, 9, 0], 1, (90, 3)))
    >>> folds = [(np.delete(np.arange(90), own), own) for own in np.arange(90).reshape(3, 30)]
    >>> reference = fit_reference(known, folds, np.full(90, ""), np.full(90, "a"))
    >>> reference.familiarity(np.array([[9.0, 9.0, 0.5], [0.0, 1.0, 9.0]])).round(2).tolist()
    [0.98, 0.01]
    >>> rows, distances = reference.nearest(known[:2], k=1)
    >>> rows.ravel().tolist()
    [0, 1]
    """

    mean: np.ndarray
    axes: np.ndarray
    rows: np.ndarray
    judged: np.ndarray
    paths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def nearest(self, features: np.ndarray, k: int = NEAR) -> tuple[np.ndarray, np.ndarray]:
        """The training images nearest to each image.

        Parameters
        ----------
        features : ndarray of shape (m, d)
        k : int, default=5
            How many; all of them where these are fewer.

        Returns
        -------
        rows : ndarray of shape (m, k), int
            Places among the training images, the nearest first.
        distances : ndarray of shape (m, k), float32
            From 0 to about 2.

        Raises
        ------
        ValueError
            Another number of features than it was fitted on.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(
                f"got features of shape {features.shape}, expected {len(self.mean)} a row"
            )
        k = min(k, len(self.rows))
        rows = np.empty((len(features), k), int)
        distances = np.empty((len(features), k), np.float32)
        for start in range(0, len(features), BLOCK):
            block = slice(start, start + BLOCK)
            squares = self._squares(features[block])
            near = np.argpartition(squares, k - 1, axis=1)[:, :k]
            own = np.take_along_axis(squares, near, axis=1)
            order = np.lexsort((near, own), axis=1)
            rows[block] = np.take_along_axis(near, order, axis=1)
            distances[block] = np.sqrt(np.take_along_axis(own, order, axis=1))
        return rows, distances

    def distances(self, features: np.ndarray) -> np.ndarray:
        """How far images lie from the training images.

        Parameters
        ----------
        features : ndarray of shape (m, d)

        Returns
        -------
        ndarray of shape (m,), float32
            The mean distance to the five nearest training images.
        """
        return self.nearest(features)[1].mean(axis=1)

    def familiarity(self, features: np.ndarray) -> np.ndarray:
        """Which share of the training images lies as far from the others as an image, or farther.

        Of images like the training ones 5 % are below 0.05. What is no number is not familiar: 0.

        Parameters
        ----------
        features : ndarray of shape (m, d)

        Returns
        -------
        ndarray of shape (m,), float64
            Above 0 to 1: a conformal p-value [1]_.

        References
        ----------
        .. [1] Bates, Candès, Lei, Romano & Sesia (2023), "Testing for outliers with conformal
           p-values".
        """
        farther = len(self.judged) - np.searchsorted(self.judged, self.distances(features))
        return (1 + farther) / (1 + len(self.judged))

    def _squares(self, features: np.ndarray) -> np.ndarray:
        """(m, n) squared distances to the training images."""
        own = _project(features, self.mean, self.axes)
        k = self.axes.shape[1]
        products = own[:, :k] @ self.rows[:, :k].T
        lengths = (own**2).sum(axis=1)[:, None] + (self.rows**2).sum(axis=1)
        return np.maximum(lengths - 2 * products, 0)


def fit_reference(
    features: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    paths: np.ndarray,
    labels: np.ndarray,
) -> Reference:
    """Make a reference of training images.

    Parameters
    ----------
    features : ndarray of shape (n, d)
    folds : sequence of (train, validation)
        Places among the training images, with what shows one thing on one side; each image is
        judged by those of other folds, as a new one will be by all.
    paths, labels : ndarray of shape (n,), str

    Returns
    -------
    Reference
    """
    features = np.asarray(features, np.float32)
    judged = [
        _fit(features[train], paths[train], labels[train]).distances(features[held])
        for train, held in folds
    ]
    reference = _fit(features, paths, labels)
    return replace(reference, judged=np.sort(np.concatenate(judged)))


def _fit(features: np.ndarray, paths: np.ndarray, labels: np.ndarray) -> Reference:
    """A reference by which nothing is judged yet."""
    units = unit_rows(features)
    mean = units.mean(axis=0)
    axes = _principal_axes(units - mean, AXES)
    rows = _project(features, mean, axes)
    return Reference(mean, axes, rows, np.empty(0, np.float32), paths, labels)


def _principal_axes(centred: np.ndarray, most: int) -> np.ndarray:
    """(d, k) orthonormal axes of the largest variance, by the smaller of the two products."""
    n, d = centred.shape
    k = min(most, n - 1, d)
    if d <= n:
        return np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :k]
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = values[::-1][:k] > values[-1] * 1e-6  # of directions without variance there is no axis
    axes = centred.T @ vectors[:, ::-1][:, :k][:, kept]
    return axes / np.linalg.norm(axes, axis=0)


def _project(features: np.ndarray, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """(m, k + 1): rows of length one on the axes, and their length off them."""
    centred = unit_rows(np.asarray(features, np.float32)) - mean
    on_axes = centred @ axes
    squared = (centred**2).sum(axis=1) - (on_axes**2).sum(axis=1)
    return np.column_stack([on_axes, np.sqrt(np.maximum(squared, 0))])
