"""A first look at many feature arrays in closed form, to search only the promising ones in full."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import softmax

from heads.linear import one_hot
from heads.reduction import Fold

# a row that no other row resembles has H_ii near 1: without it nothing is known of it
ALONE = 1e-9
ALPHAS = tuple(10.0**power for power in range(0, 8))
SCALES = tuple(2.0**power for power in range(-1, 5))


def screen_features(X: np.ndarray, y: np.ndarray, *, alphas: Sequence[float] = ALPHAS) -> float:
    """Leave-one-out accuracy of ridge regression on one array of features, the best over `alphas`.

    One eigendecomposition of size min(n, d) serves all rows and alphas: with H the hat matrix,
    intercept included, row i is predicted without row i as (f_i - H_ii y_i) / (1 - H_ii). The
    features are standardised by all rows.

    Parameters
    ----------
    X : array of shape (n, d)
    y : array of shape (n,)
    alphas : sequence of float
        Ridge penalties to try.

    Returns
    -------
    float
        Between 0 and 1. It ranks arrays against each other; being a maximum, it flatters each a
        little.

    References
    ----------
    Allen (1974), "The relationship between variable selection and data augmentation and a method
    for prediction": the PRESS statistic.

    Examples
    --------
    >>> import numpy as np
    >>> screen_features(np.array([[0.0], [0.1], [1.0], [1.1]]), ["cat", "cat", "dog", "dog"])
    1.0
    """
    _, codes = np.unique(y, return_inverse=True)
    return max(
        float(np.mean(scores.argmax(axis=1) == codes)) for scores in _left_out(X, codes, alphas)
    )


def screen_probabilities(
    X: np.ndarray,
    y: np.ndarray,
    *,
    alphas: Sequence[float] = ALPHAS,
    groups: Sequence | np.ndarray | None = None,
) -> np.ndarray:
    """Leave-one-out probabilities of ridge regression, of the penalty of the least log loss.

    Each row's scores, as in `screen_features`, go through a softmax of the temperature of the least
    log loss, and as much as one row of every class is added.

    Parameters
    ----------
    X : array of shape (n, d)
    y : array of shape (n,)
    alphas : sequence of float
        Ridge penalties to try.
    groups : array of shape (n,), optional
        Each row is predicted without its whole group: with H_gg the group's block of the hat matrix
        the rows of it are y_g - (I - H_gg)^-1 (y_g - f_g).

    Returns
    -------
    array of shape (n, classes)
        Being of the best penalty and temperature, they flatter the features a little.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [0.1], [1.0], [1.1]])
    >>> screen_probabilities(X, ["cat", "cat", "dog", "dog"]).argmax(axis=1)
    array([0, 0, 1, 1])
    """
    _, codes = np.unique(y, return_inverse=True)
    least, best = np.inf, np.empty(0)
    for scores in _left_out(X, codes, alphas, groups):
        for scale in SCALES:
            shares = softmax(scores * scale, axis=1)
            # what is sure and wrong costs no more than one row can
            shares = (len(shares) * shares + 1 / shares.shape[1]) / (len(shares) + 1)
            loss = -np.log(shares[np.arange(len(codes)), codes]).mean()
            if loss < least - 1e-12:
                least, best = loss, shares
    return best


def _left_out(
    X: np.ndarray,
    codes: np.ndarray,
    alphas: Sequence[float],
    groups: Sequence | np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """By penalty, (n, classes) what a ridge regression without the row, or its group, says of it.

    Rows that are groups of their own go by the diagonal of the hat matrix alone.
    """
    Y = 2 * one_hot(codes) - 1
    # of all rows, none held out
    whole = Fold(X, np.arange(len(X)), np.arange(0))
    squares, vectors = whole.spectrum
    U = whole.train @ (vectors / np.sqrt(squares))
    projected = U.T @ Y
    leverage = U * U
    together = _rows_together(groups)
    for alpha in alphas:
        shrink = squares / (squares + alpha)
        # the intercept adds 1 / n
        own = (leverage @ shrink + 1 / len(U))[:, None]
        fitted = U @ (shrink[:, None] * projected) + Y.mean(axis=0)
        left_out = (fitted - own * Y) / np.maximum(1 - own, ALONE)
        for rows in together:
            block = (1 - ALONE) * ((U[rows] * shrink) @ U[rows].T + 1 / len(U))
            left_out[rows] = Y[rows] - np.linalg.solve(
                np.eye(len(rows)) - block, Y[rows] - fitted[rows]
            )
        yield left_out


def _rows_together(groups: Sequence | np.ndarray | None) -> list[np.ndarray]:
    """The rows of each group of two or more."""
    if groups is None:
        return []
    _, group_of, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    order = np.argsort(group_of, kind="stable")
    parts = np.split(order, np.cumsum(counts)[:-1])
    return [rows for rows in parts if len(rows) > 1]
