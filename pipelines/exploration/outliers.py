"""Images unlike all others, by the distance of their features to the nearest ones."""

from dataclasses import dataclass

import numpy as np

from pipelines.exploration.neighbours import find_neighbours, unit_rows

# robust standard deviations above the median from which an image counts as outlying
OUTLYING = 3.0
# median absolute deviation -> standard deviation, for normally distributed values
TO_DEVIATION = 1.4826
# among images that are nearly all equal the deviation is 0, and rounding would be outlying
LEAST_ABOVE = 1e-3


@dataclass(frozen=True)
class Outliers:
    """Images ranked by how far they are from their nearest ones.

    Attributes
    ----------
    order : ndarray of shape (n,), int
        Rows, the farthest first.
    distance : ndarray of shape (n,), float
        Mean distance to the nearest rows, from 0 to 2.
    outlying : ndarray of shape (n,), bool
        Which rows are farther than chance explains.
    """

    order: np.ndarray
    distance: np.ndarray
    outlying: np.ndarray


def rank_outliers(features: np.ndarray, k: int = 5) -> Outliers:
    """Rank images by the mean Euclidean distance to their k nearest rows of length one.

    Of features of a network's last layer, averaged, the distance to near neighbours tells foreign
    images best [1]_. Outlying are those more than 3 robust standard deviations (1.4826 median
    absolute deviations) above the median [2]_.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        As they are: not standardised, whose rare directions would drown the others.
    k : int, default=5
        How many neighbours the distance is averaged over.

    Returns
    -------
    Outliers
        Of fewer than three images none is outlying, and all distances are 0.

    References
    ----------
    .. [1] Sun, Ming, Zhu & Li (2022), "Out-of-distribution detection with deep nearest neighbors".
    .. [2] Leys, Ley, Klein, Bernard & Licata (2013), "Detecting outliers: do not use standard
       deviation around the mean, use absolute deviation around the median".

    Examples
    --------
    >>> import numpy as np
    >>> rank_outliers(np.array([[1, 0.1], [1, 0.2], [0, 1], [1, 0.15]]), k=2).order[0]
    np.int64(2)
    """
    n = len(features)
    if n < 3:
        return Outliers(np.arange(n), np.zeros(n), np.zeros(n, bool))
    cosines, _ = find_neighbours(unit_rows(np.asarray(features, np.float32)), min(k, n - 1))
    # |a - b|^2 = 2 - 2 a.b for unit rows; rounding may bring it below 0
    distance = np.sqrt(np.maximum(2 - 2 * cosines, 0)).mean(axis=1)
    above = distance - np.median(distance)
    limit = OUTLYING * TO_DEVIATION * np.median(np.abs(above))
    outlying = above > np.maximum(limit, LEAST_ABOVE)
    return Outliers(np.argsort(-distance, kind="stable"), distance, outlying)
