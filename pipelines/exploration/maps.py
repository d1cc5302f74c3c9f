"""Images as points of a plane: those with like features lie side by side."""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

COMPONENTS = 50
PERPLEXITY = 30.0
# of scikit-learn's 1,000: neighbourhoods are the same, and 1,800 images take 5 s of one core
ITERATIONS = 400
LEAST = 6  # of fewer images there are no neighbourhoods to keep
MOST = 5000
DECIMALS = 3
# spread of the first places, by which the first steps of t-SNE are small
START = 1e-4


@dataclass(frozen=True)
class ImageMap:
    """Places of images in a plane.

    Attributes
    ----------
    places : ndarray of shape (n, 2), float
    method : str
        How they came about, in words.
    """

    places: np.ndarray
    method: str


def even_order(strata: np.ndarray, seed: int = 0) -> np.ndarray:
    """All rows in a drawn order of which every beginning holds each stratum by its share.

    Parameters
    ----------
    strata : ndarray of shape (n,)
        What is to be represented as it is in all rows, such as the label.
    seed : int, default=0

    Returns
    -------
    ndarray of shape (n,), int
        The first of every stratum come first, so that none is left out of a few rows.

    Examples
    --------
    >>> import numpy as np
    >>> strata = np.repeat(["ant", "bee"], [30, 10])
    >>> np.unique(strata[even_order(strata)[:8]], return_counts=True)[1]
    array([6, 2])
    """
    rng = np.random.default_rng(seed)
    codes = np.unique(strata, return_inverse=True)[1]
    shares = np.empty(len(codes))
    for code in np.unique(codes):
        own = np.flatnonzero(codes == code)
        shares[own] = rng.permutation(len(own)) / len(own)
    return np.argsort(shares, kind="stable")


def map_images(features: np.ndarray, seed: int = 0) -> ImageMap:
    """Places of images by their features: principal components, and t-SNE of these.

    t-SNE keeps neighbourhoods [1]_; it begins at the first two components, which keeps what is far
    apart in its place [2]_. In one thread: several would only wait for one another where other work
    goes on, and add in another order. Of features that are all alike, all images lie in one place.

    Parameters
    ----------
    features : ndarray of shape (n, d)
    seed : int, default=0

    Returns
    -------
    ImageMap

    References
    ----------
    .. [1] van der Maaten & Hinton (2008), "Visualizing data using t-SNE", Journal of Machine
       Learning Research 9.
    .. [2] Kobak & Berens (2019), "The art of using t-SNE for single-cell transcriptomics", Nature
       Communications 10.

    Examples
    --------
    >>> import numpy as np
    >>> map_images(np.eye(4)).places.shape
    (4, 2)
    """
    with threadpool_limits(1):
        components, n_components = _principal_components(np.asarray(features, np.float32), seed)
        first = _first_two(components)
        words = f"the first two of {n_components} principal components"
        if len(features) < LEAST or not first.any():
            return ImageMap(np.round(first, DECIMALS), words)
        # a third of the others at most: of more, all are neighbours
        perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
        places = _tsne(components, START * first / first[:, 0].std(), perplexity, seed)
    return ImageMap(
        np.round(places.astype(float), DECIMALS),
        f"t-SNE of {n_components} principal components, perplexity {perplexity:.3g}, "
        f"{ITERATIONS} steps",
    )


def _principal_components(features: np.ndarray, seed: int) -> tuple[np.ndarray, int]:
    """(n, k) float32 components of features brought to a spread of about 1, and k."""
    from sklearn.decomposition import PCA

    centred = features - features.mean(axis=0)
    largest = np.abs(centred).max(initial=0)
    k = min(COMPONENTS, *features.shape)
    # rounding alone is no difference
    if k < 1 or largest <= 1e-6 * np.abs(features).max(initial=0):
        return np.zeros((len(features), 1), np.float32), 1
    pca = PCA(k, svd_solver="randomized", random_state=seed)
    return pca.fit_transform(centred / largest), k


def _first_two(components: np.ndarray) -> np.ndarray:
    """(n, 2) float32, the second 0 where there is one component."""
    places = np.zeros((len(components), 2), np.float32)
    places[:, : components.shape[1]] = components[:, :2]
    return places


def _tsne(components: np.ndarray, first: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    method = TSNE(
        perplexity=perplexity,
        learning_rate="auto",
        max_iter=ITERATIONS,
        init=first,
        random_state=seed,
        n_jobs=1,
    )
    return method.fit_transform(components)
