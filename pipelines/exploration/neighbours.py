"""Nearest neighbours of unit rows by cosine, exact and in blocks of rows."""

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from threadpoolctl import threadpool_limits

# rows of a block: its products with all other rows are in memory at once
BLOCK = 512
MOST_THREADS = 4
# products whose largest one is looked at first: to order all of them took most of the time
GROUP = 64


def find_neighbours(
    units: np.ndarray, k: int, others: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of highest cosine for each row, never itself.

    Works through blocks of rows: never an n x n matrix at once. Neighbours that are equally near
    are in the order of their rows; which of more than k such rows are taken is left open.

    Parameters
    ----------
    units : ndarray of shape (n, d), float32
        Rows of length one, as of `unit_rows`.
    k : int
        How many neighbours; all n - 1 others where these are fewer.
    others : ndarray of shape (n, d), float32, optional
        The rows among which neighbours are looked for; `others[i]` shows the same image as
        `units[i]` and is no neighbour of it. By default `units`.

    Returns
    -------
    cosines : ndarray of shape (n, k), float32
        From -1 to 1, the highest first.
    rows : ndarray of shape (n, k), int
        The neighbours' rows in `others`.

    Examples
    --------
    >>> import numpy as np
    >>> cosines, rows = find_neighbours(unit_rows(np.array([[1, 0], [0, 1], [1, 1]])), k=1)
    >>> rows.ravel().tolist()
    [2, 2, 0]
    """
    if others is None:
        others = units
    n = len(units)
    k = max(0, min(k, n - 1))
    cosines = np.empty((n, k), np.float32)
    rows = np.empty((n, k), int)

    def fill(start: int) -> None:
        block = slice(start, start + BLOCK)
        products = units[block] @ others.T
        own = np.arange(len(products))
        products[own, start + own] = -np.inf
        # argpartition leaves ties in any order: sorted rows and a stable sort settle them
        near = np.sort(_largest(products, k), axis=1)
        values = np.take_along_axis(products, near, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        cosines[block] = np.take_along_axis(values, order, axis=1)
        rows[block] = np.take_along_axis(near, order, axis=1)

    # a block a thread: those of BLAS would wait for one another by spinning
    with threadpool_limits(1):
        # each thread holds a block's products: a few of them, whatever the machine
        n_jobs = min(effective_n_jobs(-1), MOST_THREADS) if n > BLOCK else 1
        Parallel(n_jobs=n_jobs, prefer="threads")(
            delayed(fill)(start) for start in range(0, n, BLOCK)
        )
    return cosines, rows


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """(m, k) places of the k largest of each row (m, n), in any order.

    They lie in the k groups whose largest ones are largest: any other group has k values above it.
    """
    m, n = values.shape
    whole = n // GROUP * GROUP
    if whole // GROUP <= k:
        return np.argpartition(-values, k - 1, axis=1)[:, :k]
    tops = values[:, :whole].reshape(m, -1, GROUP).max(axis=2)
    groups = np.argpartition(-tops, k - 1, axis=1)[:, :k]
    places = (groups[:, :, None] * GROUP + np.arange(GROUP)).reshape(m, -1)
    places = np.hstack([places, np.broadcast_to(np.arange(whole, n), (m, n - whole))])
    found = np.take_along_axis(values, places, axis=1)
    return np.take_along_axis(places, np.argpartition(-found, k - 1, axis=1)[:, :k], axis=1)


def pair_cosines(
    units: np.ndarray, rows: np.ndarray, others: np.ndarray, other_rows: np.ndarray
) -> np.ndarray:
    """Cosines of given pairs of unit rows, in blocks of pairs.

    Parameters
    ----------
    units : ndarray of shape (n, d), float32
        Rows of length one.
    rows : ndarray of shape (n_pairs,), int
        Pair i is `units[rows[i]]` and `others[other_rows[i]]`.
    others : ndarray of shape (m, d), float32
        Rows of length one.
    other_rows : ndarray of shape (n_pairs,), int
        As `rows`, of `others`.

    Returns
    -------
    ndarray of shape (n_pairs,), float32
        From -1 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> units = unit_rows(np.array([[1, 0], [3, 4]]))
    >>> pair_cosines(units, np.array([0, 1]), units, np.array([1, 1]))
    array([0.6, 1. ], dtype=float32)
    """
    cosines = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        cosines[block] = np.einsum("ij,ij->i", units[rows[block]], others[other_rows[block]])
    return cosines


def unit_rows(rows: np.ndarray, least: float = 1e-12) -> np.ndarray:
    """Rows scaled to length one.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Any numbers.
    least : float
        A row that is no longer than this tells no direction.

    Returns
    -------
    ndarray of shape (n, d), float32
        Zeros for a row that tells none.

    Examples
    --------
    >>> import numpy as np
    >>> unit_rows(np.array([[3, 4], [0, 0]]))
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(length > least, rows / np.maximum(length, least), 0).astype(np.float32)
