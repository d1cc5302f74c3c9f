"""What unlabelled rows say of labels: spread over a graph of neighbours, or taught to oneself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from heads.calibration import LEAST
from heads.catalog import make_head

NEAR = 15  # neighbours that a row is linked to
POWER = 3  # of a cosine: what is half as like weighs an eighth
SPREAD = 0.8  # share of what a row's neighbours say that it passes on
# Of the largest residual a column may be left with: what lies ten links from any label has about
# 1e-7 of the weight that a labelled row has, and is told by the ratio of such numbers.
PRECISION = 1e-12
MOST_STEPS = 200  # the condition number is 9 at most, for which about 40 do
SURE = 0.9  # probability from which on self-training believes itself
ROUNDS = 5


def join_taps(taps: Sequence[np.ndarray]) -> np.ndarray:
    """Features of one layer or several side by side, of the same weight, as rows of length one.

    Each column gets mean 0 and deviation 1, and each tap is divided by the root of its width, so
    that a wide layer does not outvote a narrow one.

    Parameters
    ----------
    taps : sequence of ndarray of shape (n, d_i)
        Of all rows, labelled or not: means and deviations are theirs together.

    Returns
    -------
    ndarray of shape (n, sum of d_i), float32
        Zeros for a row that is the mean of all.

    Examples
    --------
    >>> import numpy as np
    >>> join_taps([np.array([[0.0], [2.0]]), np.array([[1.0, 5.0], [1.0, 3.0]])]).round(2)
    array([[-0.82,  0.  ,  0.58],
           [ 0.82,  0.  , -0.58]], dtype=float32)
    """
    joined = np.hstack([_even(np.asarray(own)) for own in taps])
    length = np.linalg.norm(joined, axis=1, keepdims=True)
    return np.divide(joined, length, out=np.zeros_like(joined), where=length > 0)


def _even(tap: np.ndarray) -> np.ndarray:
    mean, deviation = tap.mean(axis=0, dtype=np.float64), tap.std(axis=0, dtype=np.float64)
    # a column of one value tells nothing, and its deviation may be rounding alone
    tells = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-30)
    scale = np.where(tells, 1 / np.where(tells, deviation, 1) / np.sqrt(tap.shape[1]), 0)
    return ((tap - mean) * scale).astype(np.float32)


def link_neighbours(cosines: np.ndarray, rows: np.ndarray) -> csr_array:
    """The graph of neighbours, as the matrix that spreads labels over it.

    W holds the cubes of positive cosines between a row and its neighbours, in both directions;
    returned is S = D^-1/2 W D^-1/2 with D the row sums of W [1]_.

    Parameters
    ----------
    cosines : ndarray of shape (n, k)
        Of each row and its nearest others; `NEAR` of them were found to do.
    rows : ndarray of shape (n, k), int
        Which others.

    Returns
    -------
    scipy.sparse.csr_array of shape (n, n), float64
        Symmetric, with eigenvalues from -1 to 1. A row without a link is empty.

    References
    ----------
    .. [1] Iscen, Tolias, Avrithis & Chum (2019), "Label propagation for deep semi-supervised
       learning".

    Examples
    --------
    >>> import numpy as np
    >>> cosines, rows = np.array([[1.0], [1.0], [0.5]]), np.array([[1], [0], [1]])
    >>> link_neighbours(cosines, rows).toarray().round(2)
    array([[0.  , 0.94, 0.  ],
           [0.94, 0.  , 0.33],
           [0.  , 0.33, 0.  ]])
    """
    n, k = cosines.shape
    weights = np.maximum(cosines, 0).astype(np.float64).ravel() ** POWER
    directed = csr_array((weights, (np.repeat(np.arange(n), k), rows.ravel())), shape=(n, n))
    both = directed.maximum(directed.T).tocoo()
    sums = np.bincount(both.row, both.data, minlength=n)
    scale = np.divide(1, np.sqrt(sums), out=np.zeros(n), where=sums > 0)
    # both scales first: their product is the same from either side, to the last bit
    scaled = both.data * (scale[both.row] * scale[both.col])
    graph = csr_array((scaled, (both.row, both.col)), shape=(n, n))
    graph.eliminate_zeros()
    return graph


def spread_labels(graph: csr_array, codes: np.ndarray, n_classes: int) -> np.ndarray:
    """How much of each class reaches each row over the graph: Z = (I - 0.8 S)^-1 Y [1]_.

    Y has 1 / (rows of the class) for each labelled row in the column of its class, so that a class
    of many labels does not outvote one of few. It is solved by conjugate gradients, one product
    with the sparse S a step: 20,000 rows of ten classes took 0.1 s on two cores, where the inverse
    would take 3 GB.

    Parameters
    ----------
    graph : scipy.sparse.csr_array of shape (n, n)
        As of `link_neighbours`.
    codes : ndarray of shape (n,), int
        Class of each labelled row, and -1 of those without a label.
    n_classes : int

    Returns
    -------
    ndarray of shape (n, n_classes), float64
        0 or more; all 0 for a row that no label reaches.

    References
    ----------
    .. [1] Zhou, Bousquet, Lal, Weston & Schölkopf (2004), "Learning with local and global
       consistency".

    Examples
    --------
    >>> import numpy as np
    >>> line = link_neighbours(np.ones((4, 1)), np.array([[1], [0], [3], [2]]))
    >>> spread_labels(line, np.array([0, -1, 1, -1]), 2).round(2)
    array([[2.78, 0.  ],
           [2.22, 0.  ],
           [0.  , 2.78],
           [0.  , 2.22]])
    """
    labelled = np.flatnonzero(codes >= 0)
    counts = np.bincount(codes[labelled], minlength=n_classes)
    targets = np.zeros((len(codes), n_classes))
    targets[labelled, codes[labelled]] = 1 / counts[codes[labelled]]
    return np.maximum(_solve(graph, targets), 0)


def _solve(graph: csr_array, targets: np.ndarray) -> np.ndarray:
    """(I - SPREAD S)^-1 targets by conjugate gradients, each column with steps of its own."""
    found, residual = np.zeros_like(targets), targets.copy()
    direction, size = residual.copy(), (residual**2).sum(axis=0)
    enough = PRECISION**2 * size
    for _ in range(MOST_STEPS):
        if (size <= enough).all():
            break
        moved = direction - SPREAD * (graph @ direction)
        curvature = (direction * moved).sum(axis=0)
        # a column that is solved, or of a class without a label, stands still
        step = np.divide(size, curvature, out=np.zeros_like(size), where=size > enough)
        found += step * direction
        residual -= step * moved
        before, size = size, (residual**2).sum(axis=0)
        turn = np.divide(size, before, out=np.zeros_like(size), where=before > enough)
        direction = residual + turn * direction
    return found


def shares_of(spread: np.ndarray) -> np.ndarray:
    """What the graph alone answers: the classes' shares of what reaches a row.

    Parameters
    ----------
    spread : ndarray of shape (n, classes)
        As of `spread_labels`.

    Returns
    -------
    ndarray of shape (n, classes), float64
        Rows sum to 1, each share at least 1e-6; equal for a row that no label reaches.

    Examples
    --------
    >>> import numpy as np
    >>> shares_of(np.array([[3.0, 1.0], [0.0, 0.0]]))
    array([[0.75, 0.25],
           [0.5 , 0.5 ]])
    """
    total = spread.sum(axis=1, keepdims=True)
    even = np.full_like(spread, 1 / spread.shape[1])
    shares = np.maximum(np.divide(spread, total, out=even, where=total > 0), LEAST)
    return shares / shares.sum(axis=1, keepdims=True)


def multiply(probabilities: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """A head's probabilities times the root of what the graph says, √Z · p, as probabilities.

    The root, since both sides saw the same labels: two opinions that are not independent count as
    less than two.

    Parameters
    ----------
    probabilities : ndarray of shape (n, classes)
    spread : ndarray of shape (n, classes)
        As of `spread_labels`.

    Returns
    -------
    ndarray of shape (n, classes), float64
        Rows sum to 1; the probabilities as they were for a row that no label reaches.

    Examples
    --------
    >>> import numpy as np
    >>> multiply(np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([[4.0, 1.0], [0.0, 0.0]])).round(2)
    array([[0.67, 0.33],
           [0.9 , 0.1 ]])
    """
    product = np.sqrt(shares_of(spread)) * probabilities
    return product / product.sum(axis=1, keepdims=True)


def self_train(features: np.ndarray, codes: np.ndarray, **params: Any) -> Any:
    """The logistic head on labels and on those that it gives itself [1]_: look at figures first.

    At five labels a class it was better than its own head on one of three sets of images, and worse
    by six points on another (docs/unlabelled.md): a wrong answer that is believed is learnt. It is
    here to be compared with, and no run takes it.

    Parameters
    ----------
    features : ndarray of shape (n, d)
    codes : ndarray of shape (n,), int
        Class of each labelled row, and -1 of those without a label.
    **params
        Of the head, as in `make_head`.

    Returns
    -------
    sklearn.semi_supervised.SelfTrainingClassifier
        Fitted in up to five rounds, each of which adds the answers of probability 0.9 or more.

    References
    ----------
    .. [1] Yarowsky (1995), "Unsupervised word sense disambiguation rivaling supervised methods".

    Examples
    --------
    >>> import numpy as np
    >>> features = np.array([[0.0], [1.0], [9.0], [10.0]])
    >>> self_train(features, np.array([0, -1, -1, 1])).predict(features).tolist()
    [0, 0, 1, 1]
    """
    # here: nothing but a comparison needs it
    from sklearn.semi_supervised import SelfTrainingClassifier

    head = SelfTrainingClassifier(make_head("logistic", **params), threshold=SURE, max_iter=ROUNDS)
    return head.fit(features, codes)
