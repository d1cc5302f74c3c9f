"""The training images as what new ones are compared with: how familiar they are, and which is near.

Works on arrays alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.exploration.neighbours import unit_rows

AXES = 64  # that rows are projected on; what else they differ in is one number, its length
MOST_NUMBERS = 1 << 20  # of all axes: those of very wide features are fewer, and a bundle small
NEAR = 5  # training images whose mean distance says how far an image lies
DRAWN = 2000  # training images that the axes are found from, and judged of each fold, at most
BLOCK = 1 << 24  # distances that are in memory at once
UNFAMILIAR = 0.05  # of images like the training ones this share is less familiar


@dataclass(frozen=True, eq=False)
class Names:
    """What the training images are called, and what they show.

    Attributes
    ----------
    paths, labels : ndarray of shape (n,)
    ids : ndarray of shape (n, 16), uint8
        By which features and thumbnails are kept.
    """

    paths: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True, eq=False)
class Reference:
    """Training images in the features of a classifier.

    Rows lie on `axes`, their principal ones, and off them by one length each: what two images have
    off the axes is taken as having nothing in common.

    Attributes
    ----------
    columns : (int, int)
        Where its features begin and end among those of the classifier.
    unit : bool
        Whether rows are scaled to length one: activations behind a ReLU tell by their direction
        alone, those that may be negative by their length too.
    axes : ndarray of shape (d, 1 + k), float16 of unit rows, else float32
        The mean row, and orthonormal axes.
    rows : ndarray of shape (n, k + 1), as `axes`
        The training images on the axes, and their length off them.
    judged : ndarray of shape (m,), float32
        Sorted: how far training images lie from those of the other folds.
    names : Names
        Of the training images.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> known = np.abs(rng.normal([9, 9, 0], 1, (90, 3)))
    >>> folds = [(np.delete(np.arange(90), own), own) for own in np.arange(90).reshape(3, 30)]
    >>> names = Names(np.full(90, ""), np.full(90, "a"), np.zeros((90, 16), np.uint8))
    >>> reference = fit_reference(known, folds, names)
    >>> reference.familiarity(np.array([[9.0, 9.0, 0.5], [0.0, 1.0, 9.0]])).round(2).tolist()
    [0.98, 0.01]
    >>> rows, distances = reference.nearest(known[:2], k=1)
    >>> rows.ravel().tolist()
    [0, 1]
    """

    columns: tuple[int, int]
    unit: bool
    axes: np.ndarray
    rows: np.ndarray
    judged: np.ndarray
    names: Names

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def least(self) -> float:
        """The least familiarity that an image can have."""
        return 1 / (1 + len(self.judged))

    def nearest(self, features: np.ndarray, k: int = NEAR) -> tuple[np.ndarray, np.ndarray]:
        """The training images nearest to each image.

        Parameters
        ----------
        features : ndarray of shape (m, d)
            All those of the classifier.
        k : int, default=5
            How many; all of them where these are fewer.

        Returns
        -------
        rows : ndarray of shape (m, k), int
            Places among the training images, the nearest first.
        distances : ndarray of shape (m, k), float32

        Raises
        ------
        ValueError
            Fewer features than it was fitted on.
        """
        if features.ndim != 2 or features.shape[1] < self.columns[1]:
            raise ValueError(
                f"got features of shape {features.shape}, expected {self.columns[1]} a row or more"
            )
        return self._nearest(features[:, slice(*self.columns)], k)

    def _nearest(self, features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As `nearest`, of its own features alone."""
        k = min(k, len(self))
        own = self._project(features)
        others = self.rows.astype(np.float32)
        rows = np.empty((len(own), k), int)
        distances = np.empty((len(own), k), np.float32)
        step = max(1, BLOCK // len(self))
        for start in range(0, len(own), step):
            block = slice(start, start + step)
            squares = _squares(own[block], others)
            near = np.argpartition(squares, k - 1, axis=1)[:, :k]
            values = np.take_along_axis(squares, near, axis=1)
            order = np.lexsort((near, values), axis=1)
            rows[block] = np.take_along_axis(near, order, axis=1)
            distances[block] = np.sqrt(np.take_along_axis(values, order, axis=1))
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

        Of images like the training ones 5 % are below 0.05.

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
        return self._share_of(self.distances(features))

    def places(self, features: np.ndarray) -> np.ndarray:
        """Where images lie among the training images, in few numbers.

        Parameters
        ----------
        features : ndarray of shape (m, d)
            All those of the classifier.

        Returns
        -------
        ndarray of shape (m, k + 1), float32
            On the principal axes, and their length off them.
        """
        return self._project(features[:, slice(*self.columns)])

    def judge(self, features: np.ndarray) -> np.ndarray:
        """As `familiarity`, of features (m, d) that are its own alone."""
        return self._share_of(self._nearest(features, NEAR)[1].mean(axis=1))

    def _share_of(self, distances: np.ndarray) -> np.ndarray:
        farther = len(self.judged) - np.searchsorted(self.judged, distances)
        return (1 + farther) / (1 + len(self.judged))

    def of_more(self, features: np.ndarray, names: Names) -> "Reference":
        """The same scale of familiarity over other training images, such as all of a run's.

        Parameters
        ----------
        features : ndarray of shape (n, d)
            Its own alone, as it was fitted on.
        names : Names

        Returns
        -------
        Reference
        """
        more = _fit(np.asarray(features, np.float32), names, self.unit)
        return replace(more, columns=self.columns, judged=self.judged)

    def _project(self, features: np.ndarray) -> np.ndarray:
        """(m, k + 1): rows on the axes, and their length off them."""
        mean, axes = self.axes[:, 0].astype(np.float32), self.axes[:, 1:].astype(np.float32)
        centred = _scaled(features, self.unit) - mean
        on_axes = centred @ axes
        squared = (centred**2).sum(axis=1) - (on_axes**2).sum(axis=1)
        return np.column_stack([on_axes, np.sqrt(np.maximum(squared, 0))])


def fit_reference(
    features: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    names: Names,
    start: int = 0,
) -> Reference:
    """Make a reference of training images.

    Parameters
    ----------
    features : ndarray of shape (n, d)
    folds : sequence of (train, validation)
        Places among the training images, with what shows one thing on one side; each image is
        judged by those of other folds, as a new one will be by all.
    names : Names
    start : int
        Where these features begin among those of the classifier.

    Returns
    -------
    Reference
    """
    from threadpoolctl import threadpool_limits

    features = np.asarray(features, np.float32)
    unit = bool(features.min() >= 0)
    judged = []
    # of matrices this small a second thread gains little, and beside other work waits by spinning
    with threadpool_limits(1):
        for train, held in folds:
            others = _fit(features[train], names, unit)
            judged.append(others._nearest(features[_drawn(held)], NEAR)[1].mean(axis=1))
        reference = _fit(features, names, unit)
    columns = start, start + features.shape[1]
    return replace(reference, columns=columns, judged=np.sort(np.concatenate(judged)))


def _fit(features: np.ndarray, names: Names, unit: bool) -> Reference:
    """A reference by which nothing is judged yet."""
    scaled = _scaled(features, unit)
    mean = scaled.mean(axis=0)
    axes = _principal_axes(scaled[_drawn(np.arange(len(scaled)))] - mean)
    # rounded before rows are projected: what a bundle holds is what the distances were judged by
    dtype = np.float16 if unit else np.float32  # which holds numbers of any size
    kept, nothing = np.column_stack([mean, axes]).astype(dtype), np.empty(0, np.float32)
    columns = 0, features.shape[1]
    reference = Reference(columns, unit, kept, np.empty((0, kept.shape[1])), nothing, names)
    return replace(reference, rows=reference._project(features).astype(dtype))


def _drawn(rows: np.ndarray) -> np.ndarray:
    """At most so many of the rows, evenly spread."""
    return rows[:: -(-len(rows) // DRAWN)]


def _scaled(features: np.ndarray, unit: bool) -> np.ndarray:
    return unit_rows(features) if unit else np.asarray(features, np.float32)


def _principal_axes(centred: np.ndarray) -> np.ndarray:
    """(d, k) orthonormal axes of the largest variance."""
    from sklearn.utils.extmath import randomized_svd

    n, d = centred.shape
    k = max(1, min(AXES, n - 1, d, MOST_NUMBERS // d))
    return randomized_svd(centred, k, n_iter=2, random_state=0)[2].T


def _squares(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(m, n) squared distances; of the last column, lengths off the axes, squares add up."""
    lengths = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)
    return np.maximum(lengths - 2 * rows[:, :-1] @ others[:, :-1].T, 0)
