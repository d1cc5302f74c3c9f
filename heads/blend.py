"""Blending: a few candidates averaged, chosen greedily on out-of-fold probabilities."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Blend:
    """Weights of the candidates in the average, and what the blend is worth.

    Attributes
    ----------
    weights : array of shape (candidates,)
        Summing to 1, zero for most.
    score : float
        Nested accuracy: the mean over folds of a blend chosen on the other folds and scored on this one.
    probabilities : array of shape (n, classes)
        The nested blend's: each row by the weights chosen without its fold; NaN for rows in no fold.
    """

    weights: np.ndarray
    score: float
    probabilities: np.ndarray


def blend_candidates(probabilities, y, folds, *, rounds=20, scoring=None):
    """Choose a blend of candidates by greedy forward selection with replacement.

    In each round the candidate is added whose addition makes the averaged probabilities right most often, or
    of the best `scoring`; among equals the one of the lowest log loss, then the earlier one. Caruana et al.
    (2004), "Ensemble selection from libraries of models". The weights are chosen on all rows; the score is
    nested, or the blend would win by being chosen.

    Parameters
    ----------
    probabilities : array of shape (candidates, n, classes)
        Out of fold; rows with a NaN (in no validation fold) are passed over.
    y : array of shape (n,)
        Class numbers, 0 to classes - 1, in the order of the columns.
    folds : sequence of index arrays
        The validation rows of each fold.
    rounds : int
        How many candidates, repeats included, are averaged.
    scoring : callable or None
        (labels (n,), averages (candidates, n, classes)) -> (candidates,) scores, more is better; None is accuracy.

    Returns
    -------
    Blend
    """
    probabilities, y = np.asarray(probabilities, dtype=np.float64), np.asarray(y)
    if probabilities.ndim != 3 or probabilities.shape[1] != len(y) or len(folds) < 2:
        raise ValueError(
            f"probabilities have shape {probabilities.shape} with {len(y)} labels and {len(folds)} folds; "
            "expected (candidates, labels, classes) and two folds or more"
        )
    known = np.isfinite(probabilities).all(axis=(0, 2))
    nested, scores = np.full(probabilities.shape[1:], np.nan), []
    for val in folds:
        others = known.copy()
        others[val] = False
        nested[val] = np.tensordot(
            _choose(probabilities[:, others], y[others], rounds, scoring), probabilities[:, val], 1
        )
        scores.append(np.mean(nested[val].argmax(axis=1) == y[val]))
    weights = _choose(probabilities[:, known], y[known], rounds, scoring)
    return Blend(weights, float(np.mean(scores)), nested)


def _choose(probabilities, y, rounds, scoring):
    """Weights (candidates,): counts of a greedy selection with replacement."""
    counts, total = np.zeros(len(probabilities)), np.zeros(probabilities.shape[1:])
    own = np.take_along_axis(probabilities, y[None, :, None], axis=2)[:, :, 0]
    for taken in range(1, rounds + 1):
        added = total + probabilities
        score = (
            np.mean(added.argmax(axis=2) == y, axis=1)
            if scoring is None
            else scoring(y, added / taken).round(9)
        )
        loss = -np.mean(
            np.log(np.maximum((total[np.arange(len(y)), y] + own) / taken, 1e-12)), axis=1
        )
        best = np.lexsort((loss, -score))[0]
        counts[best] += 1
        total = added[best]
    return counts / rounds
