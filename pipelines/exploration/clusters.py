"""Groups of images that look alike, found without labels, and how far another draw repeats them.

Works on arrays alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from pipelines.exploration.neighbours import unit_rows

COMPONENTS = 50
MOST_CLUSTERS = 30
# what clusters by density are looked for in, and how many images one has at least
DENSE_COMPONENTS, DENSE_LEAST = 20, 5
ROUNDING = 1e-6
# images that stability is measured on: more would change its second decimal, and take minutes
MOST_ROWS = 2000
# clusterings that are compared, each of so large a share of the images
DRAWS, SHARE = 12, 0.8
# first centres of which the best are kept: one alone may split a group and join two
STARTS = 4
CHANCE = 0.05  # how often points without groups may be told to have some


@dataclass(frozen=True)
class Stability:
    """How far clusterings of other draws of the images agree, for one number of clusters.

    Attributes
    ----------
    k : int
        Number of clusters.
    agreement : float
        Mean adjusted Rand index of pairs of clusterings, 1 at most, about 0 by chance.
    error : float
        Standard error of this mean.
    reference : float
        The same of points without groups, of the same spread in every direction.
    excess : float
        How far the agreement lies above that of such points, in standard deviations of one cloud of
        them, both by Fisher's transformation.
    """

    k: int
    agreement: float
    error: float
    reference: float
    excess: float

    @property
    def corrected(self) -> float:
        """The agreement on a scale where that of points without groups is 0, and 1 the most."""
        return (self.agreement - self.reference) / self._room

    @property
    def corrected_error(self) -> float:
        """The standard error on this scale."""
        return self.error / self._room

    @property
    def _room(self) -> float:
        # where points without groups agree wholly, as one cluster does, nothing can be more stable
        return max(1 - self.reference, ROUNDING)


def find_places(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """Where images lie, in numbers of which distances tell what is alike.

    Square roots, with their sign, so that a few strong channels do not drown the others [1]_; rows
    of length one; and of these at most 50 principal components.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Of a late layer, averaged.
    seed : int, default=0

    Returns
    -------
    ndarray of shape (n, k), float32

    References
    ----------
    .. [1] Perronnin, Sánchez & Mensink (2010), "Improving the Fisher kernel for large-scale image
       classification".

    Examples
    --------
    >>> find_places(np.array([[4.0, 0.0], [0.0, 9.0], [1.0, 0.0]])).shape
    (3, 2)
    """
    from sklearn.decomposition import PCA

    features = np.asarray(features, np.float32)
    roots = unit_rows(np.sign(features) * np.sqrt(np.abs(features)))
    # of one image, or of images all alike but for rounding, nothing can be told apart
    if np.ptp(roots, axis=0).max(initial=0) <= ROUNDING:
        return np.zeros((len(features), 1), np.float32)
    k = min(COMPONENTS, *roots.shape)
    with threadpool_limits(1):  # so that sums, and clusters, are the same on any machine
        pca = PCA(k, svd_solver="randomized", random_state=seed)
        return pca.fit_transform(roots)


def find_clusters(places: np.ndarray, k: int, seed: int = 0, starts: int = STARTS) -> np.ndarray:
    """Clusters by k-means, the largest first.

    Parameters
    ----------
    places : ndarray of shape (n, d)
        As of `find_places`.
    k : int
        How many; of fewer images that differ as many as these.
    seed : int, default=0
        Of the first centres.
    starts : int, default=4
        How many draws of first centres; the one with the least distances is kept.

    Returns
    -------
    ndarray of shape (n,), int
        The number of each image's cluster, 0 for the largest.

    Examples
    --------
    >>> find_clusters(np.array([[0.0], [0.1], [5.0], [0.2]]), 2).tolist()
    [0, 0, 1, 0]
    """
    from sklearn.cluster import KMeans

    k = min(k, len(np.unique(places, axis=0)))
    with threadpool_limits(1):
        found = KMeans(k, n_init=starts, random_state=seed).fit_predict(places)
    return _largest_first(found)


def find_dense(places: np.ndarray) -> np.ndarray:
    """Clusters where images lie densest, by HDBSCAN [1]_; most images may be in none.

    Over the first 20 components: with more, all are about as far from one another. A cluster has
    five images, or a hundredth of all. In one thread.

    Parameters
    ----------
    places : ndarray of shape (n, d)
        As of `find_places`: along principal axes.

    Returns
    -------
    ndarray of shape (n,), int
        The number of each image's cluster, 0 for the largest; -1 for those in none.

    References
    ----------
    .. [1] Campello, Moulavi & Sander (2013), "Density-based clustering based on hierarchical
       density estimates".

    Examples
    --------
    >>> line = np.arange(6)[:, None] / 100
    >>> find_dense(np.vstack([line, line + 5, [[99.0]]])).tolist()
    [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, -1]
    """
    from sklearn.cluster import HDBSCAN

    least = max(DENSE_LEAST, len(places) // 100)
    if len(places) < 2 * least:
        return np.full(len(places), -1)
    own = places[:, :DENSE_COMPONENTS].astype(np.float64)
    with threadpool_limits(1):
        found = HDBSCAN(min_cluster_size=least, n_jobs=1, copy=True).fit_predict(own)
    found[found >= 0] = _largest_first(found[found >= 0])
    return found


def _largest_first(clusters: np.ndarray) -> np.ndarray:
    """The same clusters, numbered by their size."""
    sizes = np.bincount(clusters)
    rank = np.empty(len(sizes), int)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return rank[clusters]


def numbers_to_try(n: int) -> list[int]:
    """Numbers of clusters that n images are tried with, each about a sixth above the one before.

    Parameters
    ----------
    n : int

    Returns
    -------
    list of int
        From 2 to the square root of n, 30 at most.

    Examples
    --------
    >>> numbers_to_try(600)
    [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 19, 22]
    """
    most, found = min(MOST_CLUSTERS, int(n**0.5)), []
    k = 2
    while k <= most:
        found.append(k)
        k = max(k + 1, round(k * 7 / 6))
    return found


def measure_stability(places: np.ndarray, numbers: Sequence[int], seed: int = 0) -> list[Stability]:
    """How far clusters come again where other images of the same kind are drawn.

    Draws of four in five images are clustered each for itself, and each clustering is compared with
    the next on the images that both have [1]_. Since k-means repeats few clusters more easily than
    many, and cuts even a shapeless cloud much the same way each time, the same is done with points
    drawn from a normal distribution of the same variances, and counts as nothing [2]_.

    Parameters
    ----------
    places : ndarray of shape (n, d)
        As of `find_places`: along principal axes.
    numbers : sequence of int
        Of clusters, as of `numbers_to_try`.
    seed : int, default=0
        Of the draws.

    Returns
    -------
    list of Stability
        One for each number.

    References
    ----------
    .. [1] Ben-Hur, Elisseeff & Guyon (2002), "A stability based method for discovering structure in
       clustered data".
    .. [2] von Luxburg (2010), "Clustering stability: an overview".

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> places = np.repeat(np.eye(3), 30, axis=0) + rng.normal(0, 0.1, (90, 3))
    >>> found = measure_stability(places, [2, 3, 4])
    >>> choose_number(found)
    3
    """
    rng = np.random.default_rng(seed)
    n = min(len(places), MOST_ROWS)
    real = places[rng.permutation(len(places))[:n]]
    draws = [np.sort(rng.permutation(n)[: max(2, round(SHARE * n))]) for _ in range(DRAWS)]
    # how a cloud is cut hangs on its own chance shape: each pair of draws has another one
    spread = real.std(axis=0)
    clouds = [rng.normal(0, spread, real.shape).astype(places.dtype) for _ in draws]
    found = []
    for k in numbers:
        clustered = [_cluster_draw(real, rows, k, seed + i) for i, rows in enumerate(draws)]
        own = np.array([_agreement(*pair) for pair in _pairs(clustered)])
        reference = [
            _agreement(*(_cluster_draw(cloud, rows, k, seed + i) for i, rows in enumerate(pair)))
            for cloud, pair in zip(clouds, _pairs(draws), strict=True)
        ]
        error = own.std(ddof=1) / len(own) ** 0.5
        means = float(own.mean()), float(error), float(np.mean(reference))
        found.append(Stability(k, *means, _excess(own, np.array(reference), n)))
    return found


def choose_number(stability: Sequence[Stability]) -> int:
    """The number of clusters to take: the largest that is as stable as the most stable one.

    As stable is one whose corrected agreement is at most a standard error below the highest. Of
    such numbers the largest serves best: clusters are joined by one name, and split by none.

    Parameters
    ----------
    stability : sequence of Stability
        As of `measure_stability`.

    Returns
    -------
    int
        1 where nothing was measured.

    Examples
    --------
    >>> rows = [(2, 0.8, 0.01, 0.7), (3, 0.9, 0.03, 0.5), (4, 0.83, 0.03, 0.2), (5, 0.5, 0.0, 0.2)]
    >>> choose_number([Stability(*row, excess=3.0) for row in rows])
    4
    """
    if not stability:
        return 1
    best = max(stability, key=lambda own: own.corrected)
    least = best.corrected - best.corrected_error
    return max(own.k for own in stability if own.corrected >= least)


def has_groups(stability: Sequence[Stability]) -> bool:
    """Whether some number of clusters comes again more often than chance lets those of a cloud.

    The images are one cloud more beside those without groups, and what its clusterings agree by is
    held against theirs as one further observation, by Student's t; any number may tell, so that
    each is allowed its part of the error (Bonferroni). The standard error of the agreement does not
    serve: all draws share the one shape that the images happen to have.

    Parameters
    ----------
    stability : sequence of Stability
        As of `measure_stability`.

    Returns
    -------
    bool

    Examples
    --------
    >>> has_groups([Stability(2, 0.9, 0.01, 0.8, 0.5), Stability(3, 0.9, 0.01, 0.5, 3.0)])
    True
    >>> has_groups([Stability(2, 0.9, 0.01, 0.8, 0.5), Stability(3, 0.6, 0.01, 0.5, 2.0)])
    False
    """
    from scipy.stats import t

    most = t.ppf(1 - CHANCE / max(len(stability), 1), DRAWS - 1) * (1 + 1 / DRAWS) ** 0.5
    return any(own.excess > most for own in stability)


def _pairs(draws: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each with the next, and the last with the first."""
    return list(zip(draws, [*draws[1:], draws[0]], strict=True))


def _cluster_draw(places: np.ndarray, rows: np.ndarray, k: int, seed: int) -> np.ndarray:
    """(n,) clusters of the rows of a draw, -1 elsewhere."""
    clusters = np.full(len(places), -1)
    clusters[rows] = find_clusters(places[rows], k, seed)
    return clusters


def _excess(own: np.ndarray, reference: np.ndarray, n: int) -> float:
    """How far the agreements of pairs lie above those of pairs of one cloud each.

    own, reference : (DRAWS,) indices over SHARE² of n images. -> In deviations of the reference.
    """
    # an index near 1 varies little: the transformation makes deviations alike all along its scale;
    # it would be infinite for 1, which counts as all images but half of one, and few say little
    most = 1 - 0.5 / (SHARE**2 * n)
    own, reference = (np.arctanh(np.minimum(each, most)) for each in (own, reference))
    return float((own.mean() - reference.mean()) / max(reference.std(ddof=1), ROUNDING))


def _agreement(one: np.ndarray, two: np.ndarray) -> float:
    """The adjusted Rand index of two clusterings, over the images that both have."""
    from sklearn.metrics import adjusted_rand_score

    known = (one >= 0) & (two >= 0)
    return adjusted_rand_score(one[known], two[known])
