"""Which images to label first: typical ones of every kind while labels are few, then unsure ones.

Works on arrays alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.exploration.clusters import find_clusters
from pipelines.exploration.copies import Copies, group_copies

# an image's typicality is of its distances to so many others of its group
NEAR = 20
# labels for each class from which on unsure images teach more than typical ones: measured on three
# sets, where of 25 labels for 10 classes typical ones did, of 25 for 5 or 6 and of more unsure ones
ENOUGH = 4
# rows of a block: distances of them to all others are in memory at once
BLOCK = 1024
LEAST = 1e-6  # distance below which two images are one: a copy is no denser than another


@dataclass(frozen=True)
class Typical:
    """Images to label, the first first.

    Attributes
    ----------
    rows : ndarray of shape (m,), int
    alike : ndarray of shape (m,), int
        How many images each stands for: those of its group, itself among them.
    """

    rows: np.ndarray
    alike: np.ndarray


def find_typicality(places: np.ndarray, k: int = NEAR) -> np.ndarray:
    """How densely others lie around each image.

    Parameters
    ----------
    places : ndarray of shape (n, d)
        As of `find_places`.
    k : int, default=20
        How many of the nearest are asked; all others where these are fewer.

    Returns
    -------
    ndarray of shape (n,), float
        One by the mean distance to them; 0 for an image that is alone.

    Examples
    --------
    >>> find_typicality(np.array([[0.0], [1.0], [3.0]]), k=1).tolist()
    [1.0, 1.0, 0.5]
    """
    n, k = len(places), min(k, len(places) - 1)
    found = np.zeros(n)
    if k < 1:
        return found
    places = places.astype(np.float64)
    squares = (places**2).sum(axis=1)
    for start in range(0, n, BLOCK):
        rows = np.arange(start, min(start + BLOCK, n))
        apart = squares[rows, None] + squares - 2 * places[rows] @ places.T
        apart[rows - start, rows] = np.inf  # an image is no neighbour of its own
        nearest = np.partition(apart, k - 1, axis=1)[:, :k]
        found[rows] = np.sqrt(np.maximum(nearest, 0)).mean(axis=1)
    return 1 / np.maximum(found, LEAST)


def find_askable(
    n: int, pairs: Sequence[Copies], flat: np.ndarray, labelled: np.ndarray
) -> np.ndarray:
    """The images that a label may be asked for: one of all that show the same, and no flat one.

    Parameters
    ----------
    n : int
        Number of images.
    pairs : sequence of Copies
        As of `find_copies`; mirrored ones are pictures of their own.
    flat : ndarray of int
        Rows in which nothing is to be seen.
    labelled : ndarray of int
        Rows that have a label: neither they nor their copies are asked for.

    Returns
    -------
    ndarray of shape (m,), int
        In order.

    Examples
    --------
    >>> find_askable(5, [Copies(0, 3, "copy", 1.0)], np.array([1]), np.array([3])).tolist()
    [2, 4]
    """
    groups = group_copies(n, pairs)
    first = np.unique(groups, return_index=True)[1]
    is_known = np.isin(groups, groups[labelled])
    rows = np.setdiff1d(first, flat)
    return rows[~is_known[rows]]


def choose_typical(
    places: np.ndarray, n: int, labelled: np.ndarray | None = None, seed: int = 0
) -> Typical:
    """The images to label first, while there are few labels or none: TypiClust.

    As many clusters are made as there will be labels; of each that has none yet, the largest first,
    the image that lies densest among its own is taken [1]_. So every kind is asked for once, by an
    image that is like many, where a draw takes the frequent kinds again and again and strange
    images too.

    Parameters
    ----------
    places : ndarray of shape (m, d)
        As of `find_places`.
    n : int
        How many at most; of images that show the same one is taken.
    labelled : ndarray of shape (l,), int, optional
        Rows that have a label.
    seed : int, default=0
        Of the first centres.

    Returns
    -------
    Typical
        Those of the largest clusters first.

    References
    ----------
    .. [1] Hacohen, Dekel & Weinshall (2022), "Active learning on a budget: opposite strategies suit
       high and low budgets".

    Examples
    --------
    >>> places = np.array([[0.0], [0.1], [0.3], [5.0], [5.1]])
    >>> choose_typical(places, 2).rows.tolist()
    [1, 3]
    >>> choose_typical(places, 1, labelled=np.array([0])).rows.tolist()
    [3]
    """
    known = np.zeros(len(places), bool)
    known[[] if labelled is None else labelled] = True
    if n < 1 or known.all():
        return Typical(np.empty(0, int), np.empty(0, int))
    clusters = find_clusters(places, min(n + int(known.sum()), len(places)), seed)
    rows, alike = [], []
    for number in range(clusters.max() + 1):  # the largest come first
        own = np.flatnonzero(clusters == number)
        if not known[own].any():
            rows.append(own[find_typicality(places[own]).argmax()])
            alike.append(len(own))
    return Typical(np.array(rows[:n], int), np.array(alike[:n], int))
