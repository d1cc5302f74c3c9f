"""Losses of the linear heads on margins, with the derivatives that the solver takes of them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import expit


class Loss(NamedTuple):
    """A loss on margins of shape (problems, columns, n), with its derivatives by the margins.

    Attributes
    ----------
    slope : callable
        (margins, targets, weights) -> first derivative and `state`, which holds the second.
    bend : callable
        (state, weights, direction) -> second derivative times a direction.
    curvature : callable
        (state, weights) -> the second derivative's diagonal, its mean over the rows, of shape
        (problems, columns).
    coupling : callable
        (state, weights) -> the second derivative's mean over the rows as a matrix, of shape
        (problems, columns, columns).
    piecewise : bool
        Whether it is piecewise quadratic: Newton's step on the rows that bend is the optimum of
        their piece.
    sums_to_zero : bool
        Whether derivatives sum to zero over the columns: a number added to all changes nothing.
    """

    slope: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    bend: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    curvature: Callable[[np.ndarray, np.ndarray], np.ndarray]
    coupling: Callable[[np.ndarray, np.ndarray], np.ndarray]
    piecewise: bool = False
    sums_to_zero: bool = False


def _softmax_slope(
    margins: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of -log p_y: p - y, where p = softmax(margins) over the columns; the state is p."""
    chances = margins - margins.max(axis=1, keepdims=True)
    np.exp(chances, out=chances)
    chances /= chances.sum(axis=1, keepdims=True)
    # p_y - 1 as minus the sum of the others: the difference has too few digits in float32
    slope = chances * (1 - targets)
    slope -= targets * slope.sum(axis=1, keepdims=True)
    slope *= weights
    return slope, chances


def _softmax_bend(chances: np.ndarray, weights: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(diag(p) - p p^T) u, row by row."""
    pushed = chances * direction
    pushed -= chances * pushed.sum(axis=1, keepdims=True)
    pushed *= weights
    return pushed


def _softmax_curvature(chances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    k = chances.shape[1]
    # at equal chances the second derivative is 1/k on the directions that sum to zero, which are
    # all that count, not the diagonal's 1/k (1 - 1/k)
    return np.mean(weights * chances * (1 - chances), axis=2) * k / (k - 1)


def _softmax_coupling(chances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """diag(p) - p p^T: nothing bends where a number is added to all columns."""
    weighted = weights * chances
    found = -(weighted @ chances.transpose(0, 2, 1)) / chances.shape[2]
    k = np.arange(chances.shape[1])
    # each row sums to zero: the difference from p itself would leave rounding there
    found[:, k, k] = 0
    found[:, k, k] = -found.sum(axis=2)
    return found


def _sigmoid_slope(
    margins: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of log(1 + exp(-s m)), s = -1 or 1: -s q and q (1 - q), where q = sigmoid(-s m)."""
    signs = 2 * targets - 1
    wrong = expit(-signs * margins)
    return -signs * weights * wrong, weights * wrong * (1 - wrong)


def _hinge_slope(
    margins: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of max(1 - y m, 0)^2: -2 y max(1 - y m, 0), and 2 where that is not zero."""
    short = np.maximum(1 - targets * margins, 0)
    return -2 * weights * targets * short, 2 * weights * (short > 0)


def _diagonal_bend(state: np.ndarray, _: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The state holds the second derivatives themselves, weights included."""
    return state * direction


def _diagonal_curvature(state: np.ndarray, _: np.ndarray) -> np.ndarray:
    return state.mean(axis=2)


def _diagonal_coupling(state: np.ndarray, _: np.ndarray) -> np.ndarray:
    return state.mean(axis=2)[:, :, None] * np.eye(state.shape[1], dtype=state.dtype)


LOSSES = {
    "softmax": Loss(
        _softmax_slope,
        _softmax_bend,
        _softmax_curvature,
        _softmax_coupling,
        sums_to_zero=True,
    ),
    "sigmoid": Loss(_sigmoid_slope, _diagonal_bend, _diagonal_curvature, _diagonal_coupling),
    "squared_hinge": Loss(
        _hinge_slope, _diagonal_bend, _diagonal_curvature, _diagonal_coupling, piecewise=True
    ),
}
