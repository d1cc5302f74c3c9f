"""A first look at many feature arrays in closed form, to search only the promising ones in full."""

from collections.abc import Sequence

import numpy as np

from heads.linear import one_hot
from heads.reduction import Fold

ALPHAS = tuple(10.0**power for power in range(0, 8))


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
    Y = 2 * one_hot(codes) - 1
    # of all rows, none held out
    whole = Fold(X, np.arange(len(X)), np.arange(0))
    squares, vectors = whole.spectrum
    U = whole.train @ (vectors / np.sqrt(squares))
    projected = U.T @ Y
    leverage = U * U
    found = []
    for alpha in alphas:
        shrink = squares / (squares + alpha)
        # the intercept adds 1 / n
        own = (leverage @ shrink + 1 / len(U))[:, None]
        fitted = U @ (shrink[:, None] * projected) + Y.mean(axis=0)
        left_out = (fitted - own * Y) / np.maximum(1 - own, 1e-9)
        found.append(float(np.mean(left_out.argmax(axis=1) == codes)))
    return max(found)
