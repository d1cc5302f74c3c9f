"""The linear heads with a closed form, on one fold for all values of their grids."""

import numpy as np

from heads.linear import Fitted, Grid, one_hot
from heads.reduction import Fold


def fit_ridge(
    fold: Fold, codes: np.ndarray, grid: Grid, class_weights: np.ndarray | None
) -> Fitted:
    """RidgeClassifier: least squares on -1 and 1, in closed form for every alpha.

    With V diag(s) V^T the eigenvectors and values of Z^T W Z, centred, the coefficients are
    V diag(1 / (s + alpha)) V^T Z^T W y: one eigendecomposition serves the grid.
    """
    Z = fold.train
    Y = 2 * one_hot(codes) - 1
    if Y.shape[1] == 2:
        Y = Y[:, 1:]
    weights = np.ones(len(codes)) if class_weights is None else class_weights[codes]
    center = np.average(Z, axis=0, weights=weights)
    middle = np.average(Y, axis=0, weights=weights)
    centred = Z - center
    if class_weights is None:
        values, vectors = fold.spectrum
    else:
        root = np.sqrt(weights)[:, None]
        values, vectors = np.linalg.eigh((root * centred).T @ (root * centred))
    right = centred.T @ (weights[:, None] * (Y - middle))
    coef = solve_ridge(values, vectors, right, grid)
    return without_error(coef, middle - coef @ center)


def solve_ridge(
    values: np.ndarray, vectors: np.ndarray, right: np.ndarray, grid: Grid
) -> np.ndarray:
    """Coefficients (candidates, k, d) by an eigendecomposition and right-hand sides (d, k)."""
    turned = vectors.T @ right
    coefs = []
    for params in grid:
        shrunk = turned / (np.maximum(values, 0) + params["alpha"])[:, None]
        coefs.append((vectors @ shrunk).T)
    return np.stack(coefs)


def fit_lda(fold: Fold, codes: np.ndarray, grid: Grid, class_weights: np.ndarray | None) -> Fitted:
    """LinearDiscriminantAnalysis with a shrunk covariance; its classifier takes no class weights.

    The within-class covariance in the eigenvectors' basis is diagonal less one rank per class,
    D - U^T U, so its inverse is a system of the classes' size (Woodbury's identity):
    D^-1 + D^-1 U^T (I - U D^-1 U^T)^-1 U D^-1.
    """
    means, proportions = fold.class_means(codes)
    values, vectors = fold.spectrum
    means = means @ vectors
    squares = values / len(codes)
    # the covariance's trace, over all d features: what Ledoit and Wolf shrink towards
    spread = (squares.sum() - np.sum(proportions[:, None] * means**2)) / fold.d
    coefs = []
    intercepts = []
    for params in grid:
        shrunk = params["shrinkage"]
        diagonal = (1 - shrunk) * squares + shrunk * spread
        U = np.sqrt((1 - shrunk) * proportions)[:, None] * means
        inner = np.eye(len(U)) - (U / diagonal) @ U.T
        coef = means / diagonal
        coef += (coef @ U.T) @ np.linalg.solve(inner, U / diagonal)
        intercept = np.log(proportions) - np.einsum("ij,ij->i", means, coef) / 2
        if len(proportions) == 2:
            coef = coef[1:] - coef[:1]
            intercept = intercept[1:] - intercept[:1]
        coefs.append(coef @ vectors.T)
        intercepts.append(intercept)
    return without_error(np.stack(coefs), np.stack(intercepts))


def without_error(coef: np.ndarray, intercept: np.ndarray) -> Fitted:
    """A closed form's solution: nothing is left over."""
    return Fitted(coef, intercept, np.zeros(len(coef)), np.zeros(len(coef), dtype=int))
