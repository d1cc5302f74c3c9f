"""How well predicted regions cover true ones: intersection over union, with intervals."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from pipelines.evaluation.intervals import DRAWS, LEVEL, percentiles


@dataclass(frozen=True)
class Overlap:
    """Intersection over union of a class, or its mean over classes, with its interval.

    All three are NaN where neither the truth nor a prediction has a pixel of it, and the ends where
    fewer than two images have one.
    """

    value: float
    low: float
    high: float


def count_overlap(
    truth: np.ndarray, predicted: np.ndarray, classes: np.ndarray, ignore: int | None = None
) -> np.ndarray:
    """Pixels of each class that are right, and that the truth or the prediction has.

    Parameters
    ----------
    truth, predicted : (h, w) class numbers
    classes : (k,) sorted class numbers
    ignore : int, optional
        A number of the truth whose pixels do not count.

    Returns
    -------
    (k, 2) int
        Of each class the intersection and the union, in pixels.

    Examples
    --------
    >>> count_overlap(np.array([[0, 1, 1, 9]]), np.array([[0, 0, 1, 1]]), np.array([0, 1]), 9)
    array([[1, 2],
           [1, 2]])
    """
    known = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    truth, predicted = truth[known], predicted[known]
    counts = np.zeros((len(classes), 2), int)
    for place, number in enumerate(classes):
        own, said = truth == number, predicted == number
        counts[place] = np.sum(own & said), np.sum(own | said)
    return counts


def mean_overlap(counts: np.ndarray) -> float:
    """The mean over the classes that occur of their intersections over unions.

    counts : (n, k, 2) of each image. NaN where nothing occurs.

    >>> mean_overlap(np.array([[[1, 2], [3, 4], [0, 0]]]))
    0.625
    """
    return float(_mean(_ratios(counts.sum(axis=0))))


def measure_overlap(
    counts: np.ndarray, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> tuple[list[Overlap], Overlap]:
    """Intersection over union of each class over all images, and the mean over classes.

    The intervals are percentiles of the Bayesian bootstrap over images (Rubin, 1981), as pixels of
    one image are alike; deviations are widened as t is against the normal, by how many images have
    the class. One image says nothing of others: a class that a single one has gets no interval, and
    the mean none where this holds of every class. Where every image is covered to the same share
    they have no width.

    Parameters
    ----------
    counts : (n, k, 2) int
        As of `count_overlap`, of each image.
    draws, seed : int
        Of the bootstrap.
    level : float

    Returns
    -------
    by_class : list of k Overlap
    mean : Overlap

    Examples
    --------
    >>> counts = np.array([[[8, 10]], [[9, 10]], [[10, 10]]])
    >>> by_class, mean = measure_overlap(counts)
    >>> mean.value, mean.low < 0.9 < mean.high
    (0.9, True)
    """
    rng = np.random.default_rng(seed)
    drawn = np.tensordot(rng.standard_exponential((draws, len(counts))), counts.astype(float), 1)
    ratios, found = _ratios(drawn), _ratios(counts.sum(axis=0))
    there = (counts[..., 1] > 0).sum(axis=0)
    by_class = [
        _within(float(found[i]), ratios[:, i], int(there[i]), level) for i in range(len(found))
    ]
    n = len(counts) if there.max(initial=0) > 1 else 1
    return by_class, _within(float(_mean(found)), _mean(ratios), n, level)


def _ratios(counts: np.ndarray) -> np.ndarray:
    """(..., k, 2) -> (..., k); NaN where the union has no pixel."""
    union = counts[..., 1]
    return np.divide(counts[..., 0], union, out=np.full(union.shape, np.nan), where=union > 0)


def _mean(ratios: np.ndarray) -> np.ndarray:
    """Over the classes that occur; NaN where none does."""
    there = np.isfinite(ratios)
    n = there.sum(axis=-1)
    total = np.where(there, ratios, 0).sum(axis=-1)
    return np.divide(total, n, out=np.full(np.shape(n), np.nan), where=n > 0)


def _within(value: float, drawn: np.ndarray, n: int, level: float) -> Overlap:
    if not np.isfinite(value) or n < 2:
        return Overlap(value, np.nan, np.nan)
    low, high = percentiles(drawn, level)
    tail = (1 + level) / 2
    wider = t.ppf(tail, n - 1) / norm.ppf(tail)
    ends = value + wider * (low - value), value + wider * (high - value)
    low, high = np.clip([min(value, ends[0]), max(value, ends[1])], 0, 1)
    return Overlap(value, float(low), float(high))
