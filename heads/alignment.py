"""Features of labelled rows brought to where rows of another place, without labels, lie."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import svd

SUBSPACE = 20  # dimensions that subspaces are aligned in
LEAST = 1e-12  # deviations below are of features that stand still


@dataclass(frozen=True)
class Aligned:
    """Rows of both places, in features that mean the same in both.

    Attributes
    ----------
    source : ndarray of shape (n, k)
        The labelled rows, to fit a head on.
    target : callable
        (m, d) rows of the other place -> (m, k), for that head to answer.
    """

    source: np.ndarray
    target: Callable[[np.ndarray], np.ndarray]


def standardise(source: np.ndarray, target: np.ndarray) -> Aligned:
    """Each place by its own means and deviations: what a batch norm on top would do.

    Parameters
    ----------
    source, target : arrays of shape (n, d) and (m, d)
        Two rows or more each.

    Returns
    -------
    Aligned

    References
    ----------
    .. [1] Li, Wang, Shi, Liu & Hou (2016), "Revisiting batch normalization for practical domain
       adaptation", on the layer that the head stands on.

    Examples
    --------
    >>> aligned = standardise(np.array([[0.0], [2.0]]), np.array([[10.0], [30.0]]))
    >>> aligned.source.ravel(), aligned.target(np.array([[30.0]])).ravel()
    (array([-1.,  1.]), array([1.]))
    """
    (mean, scale), (own_mean, own_scale) = _moments(source), _moments(target)
    return Aligned((source - mean) / scale, lambda rows: (rows - own_mean) / own_scale)


def coral(source: np.ndarray, target: np.ndarray) -> Aligned:
    """Source rows with the means and the covariance of the target's (Sun, Feng & Saenko, 2016).

    Features are first scaled by the source's deviations, so that the identity which is added to
    both covariances [1]_ weighs all alike. Either covariance is known by its few directions and the
    identity elsewhere: no (d, d) matrix is made.

    Parameters
    ----------
    source, target : arrays of shape (n, d) and (m, d)
        Two rows or more each.

    Returns
    -------
    Aligned

    References
    ----------
    .. [1] Sun, Feng & Saenko (2016), "Return of frustratingly easy domain adaptation".

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> source, target = random.normal(0, 1, (500, 2)), random.normal(3, [9, 1], (500, 2))
    >>> deviations = coral(source, target).source.std(axis=0)
    >>> bool(5 < deviations[0] / deviations[1] < 9)  # the identity keeps it below nine
    True
    """
    mean, scale = _moments(source)
    own_mean = target.mean(axis=0)
    rows, others = (source - mean) / scale, (target - own_mean) / scale
    coloured = _times_power(_times_power(rows, rows, -0.5), others, 0.5)
    return Aligned(coloured, lambda new: (new - own_mean) / scale)


def align_subspaces(source: np.ndarray, target: np.ndarray) -> Aligned:
    """Both places in the target's first principal directions, the source's turned onto them.

    Parameters
    ----------
    source, target : arrays of shape (n, d) and (m, d)
        Two rows or more each, standardised each by its own.

    Returns
    -------
    Aligned
        In 20 features, or as many as there are.

    References
    ----------
    .. [1] Fernando, Habrard, Sebban & Tuytelaars (2013), "Unsupervised visual domain adaptation
       using subspace alignment".

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(50, 30))
    >>> align_subspaces(rows, rows).source.shape
    (50, 20)
    """
    own = standardise(source, target)
    k = min(SUBSPACE, len(source) - 1, len(target) - 1, source.shape[1])
    first, second = (
        svd(rows, full_matrices=False)[2][:k].T for rows in (own.source, own.target(target))
    )
    turned = own.source @ first @ (first.T @ second)
    return Aligned(turned, lambda rows: own.target(rows) @ second)


ALIGNMENTS: dict[str, Callable[[np.ndarray, np.ndarray], Aligned]] = {
    "standardised": standardise,
    "coral": coral,
    "subspace": align_subspaces,
}


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = rows.std(axis=0)
    return rows.mean(axis=0), np.where(scale < LEAST, 1.0, scale)


def _times_power(rows: np.ndarray, centred: np.ndarray, power: float) -> np.ndarray:
    """rows @ (covariance of the centred + identity) ** power."""
    _, singular, directions = svd(centred, full_matrices=False)
    # outside of these directions the matrix is the identity, and so is its power
    grown = (singular**2 / (len(centred) - 1) + 1) ** power - 1
    return rows + (rows @ directions.T * grown) @ directions
