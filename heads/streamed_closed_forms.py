"""The heads with a closed form on rows read in blocks: sums over the rows are all they need."""

from collections.abc import Sequence

import numpy as np

from heads.blocks import Blocks
from heads.closed_forms import solve_ridge, without_error
from heads.fold_scores import Scored
from heads.linear import Fitted, Grid
from heads.streamed_folds import StreamedFold


def fit_ridge(
    fold: StreamedFold, codes: np.ndarray, grid: Grid, class_weights: np.ndarray | None
) -> Fitted:
    """As `closed_forms.fit_ridge`: the targets being the classes', their means are enough."""
    means, proportions = fold.class_means(codes)
    own = proportions * fold.n * (1.0 if class_weights is None else class_weights)
    Y = 2 * np.eye(len(own)) - 1
    if len(own) == 2:
        Y = Y[:, 1:]
    center = np.average(means, axis=0, weights=own)
    middle = np.average(Y, axis=0, weights=own)
    if class_weights is None:
        values, vectors = fold.spectrum
    else:
        weights = fold.counts.copy()
        weights[fold.rows[: fold.n]] *= class_weights[codes]
        values, vectors = np.linalg.eigh(fold.weighted_gram(weights, center))
    right = (means - center).T @ (own[:, None] * (Y - middle))
    coef = solve_ridge(values, vectors, right, grid)
    return without_error(coef, middle - coef @ center)


def score_centroid(
    blocks: Blocks, folds: Sequence[StreamedFold], means: Sequence[np.ndarray]
) -> list[Scored]:
    """What NearestCentroid answers on every fold's held-out rows, in one pass.

    means : (classes, d) of every fold.
    """
    scores = [np.empty((fold.m, len(own))) for fold, own in zip(folds, means, strict=True)]

    def work(place: slice, rows: np.ndarray) -> None:
        for fold, own, answers in zip(folds, means, scores, strict=True):
            among, inside = fold.held_out(place)
            Z = fold.standardise(rows[inside])
            lengths = np.einsum("ij,ij->i", Z, Z)[:, None]
            answers[among] = 2 * Z @ own.T - np.sum(own**2, axis=1) - lengths

    blocks.run(work)
    return [Scored(own, own.argmax(axis=1)) for own in scores]
