"""Which unlabelled images a label would be worth most for: unsure answers, and no two alike.

Works on arrays alone.
"""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

# times as many of the least sure answers are looked at as images are asked for
LOOKED_AT = 5
# squared distance, of squared lengths, below which two images show the same
SAME = 1e-6
LEAST_WEIGHT = 1e-3  # a sure answer's: k-means takes no weights of 0 alone


@dataclass(frozen=True)
class Review:
    """Images worth a label, the first first.

    Attributes
    ----------
    rows : ndarray of shape (m,), int
    margin : ndarray of shape (m,), float
        Probability of the most probable class less that of the next.
    alike : ndarray of shape (m,), int
        How many of the least sure answers each stands for, itself among them.
    """

    rows: np.ndarray
    margin: np.ndarray
    alike: np.ndarray


def margins(probabilities: np.ndarray) -> np.ndarray:
    """Probability of the most probable class less that of the next, by image.

    Parameters
    ----------
    probabilities : ndarray of shape (n, classes)

    Returns
    -------
    ndarray of shape (n,), float

    Examples
    --------
    >>> margins(np.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])).round(1).tolist()
    [0.2, 1.0]
    """
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def choose_for_review(margin: np.ndarray, places: np.ndarray, n: int, seed: int = 0) -> Review:
    """The images to label next, so that the labels teach most.

    Of the answers with the smallest margins, five times as many as are asked for, k-means weighted
    by one less the margin makes n groups, and the image nearest to each centre is asked for [1]_:
    labels go where the classifier is unsure, and of images alike one is asked for.

    Parameters
    ----------
    margin : ndarray of shape (m,)
        As of `margins`.
    places : ndarray of shape (m, d)
        What is near shows the like.
    n : int
        How many at most; of images that show the same one is taken.
    seed : int, default=0
        Of the first centres.

    Returns
    -------
    Review
        The least sure first.

    References
    ----------
    .. [1] Zhdanov (2019), "Diverse mini-batch active learning".

    Examples
    --------
    >>> margin = np.array([0.1, 0.11, 0.3, 0.9])
    >>> places = np.array([[0.0, 1.0], [0.0, 1.1], [5.0, 0.0], [5.2, 0.1]])
    >>> choose_for_review(margin, places, 2).rows.tolist()
    [0, 2]
    """
    order = np.argsort(margin, kind="stable")[: LOOKED_AT * n]
    group = _groups(places[order].astype(np.float64), 1 - margin[order], n, seed)
    rows, counts = [], []
    for number in np.unique(group):
        own = order[group == number]
        weights = np.maximum(1 - margin[own], LEAST_WEIGHT)
        centre = np.average(places[own], axis=0, weights=weights)
        rows.append(own[((places[own] - centre) ** 2).sum(axis=1).argmin()])
        counts.append(len(own))
    chosen = np.array(rows, int)
    first = np.lexsort((chosen, margin[chosen])) if len(chosen) else chosen
    return Review(chosen[first], margin[chosen[first]], np.array(counts, int)[first])


def _groups(places: np.ndarray, weights: np.ndarray, n: int, seed: int) -> np.ndarray:
    """(m,) number of the group of each image: n of them, or fewer where fewer differ."""
    # here: who predicts without a review needs none of it
    from sklearn.cluster import KMeans

    if not len(places):
        return np.empty(0, int)
    scale = np.sqrt(np.maximum((places**2).sum(axis=1).mean(), 1e-30) * SAME)
    kinds, of_kind = np.unique(np.round(places / scale), axis=0, return_inverse=True)
    of_kind = of_kind.ravel()
    if len(kinds) <= n:
        return of_kind
    with threadpool_limits(1):  # so that sums, and groups, are the same on any machine
        found = KMeans(n, n_init=1, random_state=seed)
        return found.fit_predict(places, sample_weight=np.maximum(weights, LEAST_WEIGHT))
