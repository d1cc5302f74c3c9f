"""A first look at many feature arrays in closed form, to search only the promising ones in full."""

import numpy as np

from heads.reduction import Fold
from heads.fold_scores import one_hot

ALPHAS = tuple(10.0**power for power in range(0, 8))


def screen_features(X, y, *, alphas=ALPHAS):
    """Leave-one-out accuracy of ridge regression on one array of features, the best over `alphas`.

    One eigendecomposition of size min(n, d) serves all rows and alphas: with H the hat matrix, intercept
    included, row i is predicted without row i as (f_i - H_ii y_i) / (1 - H_ii) (Allen's PRESS, 1974). The
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
        Between 0 and 1. It ranks arrays against each other; being a maximum, it flatters each a little.
    """
    _, codes = np.unique(y, return_inverse=True)
    Y = 2 * one_hot(codes) - 1
    fold = Fold(X, np.arange(len(X)), np.arange(0))
    squares, vectors = fold.spectrum
    U = fold.train @ (vectors / np.sqrt(squares))
    projected, leverage = U.T @ Y, U * U
    return max(
        _left_out_accuracy(U, projected, leverage, squares / (squares + a), Y, codes)
        for a in alphas
    )


def _left_out_accuracy(U, projected, leverage, shrink, Y, codes):
    own = (leverage @ shrink + 1 / len(U))[:, None]
    fitted = U @ (shrink[:, None] * projected) + Y.mean(axis=0)
    left_out = (fitted - own * Y) / np.maximum(1 - own, 1e-9)
    return float(np.mean(left_out.argmax(axis=1) == codes))
