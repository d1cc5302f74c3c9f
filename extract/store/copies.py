"""Which images come more than once, among millions of ids without a Python object for each."""

import numpy as np

from extract.store.parts import as_keys
from extract.store.sorted_ids import is_first, sorted_run


def group_ids(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows with equal ids, side by side.

    Parameters
    ----------
    ids : (n, 16) uint8

    Returns
    -------
    order : (n,) int
        The rows; those of one id follow one another, ascending.
    starts : (m,) int
        Where in `order` the rows of each of m ids start.

    Examples
    --------
    >>> ids = np.repeat(np.uint8([[2], [1], [2]]), 16, axis=1)
    >>> order, starts = group_ids(ids)
    >>> [rows.tolist() for rows in np.split(order, starts[1:])]
    [[1], [0, 2]]
    """
    keys, order = sorted_run(as_keys(ids))
    return order, np.flatnonzero(is_first(keys))


def first_of_each(ids: np.ndarray) -> np.ndarray:
    """(n, 16) uint8 -> (m,) rows in their order, of each id the first."""
    order, starts = group_ids(ids)
    return np.sort(order[starts])
