"""Blending: a few candidates averaged, chosen greedily on out-of-fold probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_OF_A_KIND = 0.1

# (class numbers (n,), averages (candidates, n, classes)) -> scores (candidates,)
Scoring = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Blend:
    """Weights of the candidates in the average, and what the blend is worth.

    Attributes
    ----------
    weights : array of shape (candidates,)
        Summing to 1, zero for most.
    score : float
        Nested accuracy: the mean over folds of a blend chosen on the other folds and scored on this
        one.
    probabilities : array of shape (n, classes)
        The nested blend's: each row by the weights chosen without its fold; NaN for rows in no
        fold.
    """

    weights: np.ndarray
    score: float
    probabilities: np.ndarray


def blend_candidates(
    probabilities: Sequence[np.ndarray] | np.ndarray,
    y: np.ndarray,
    validation: Sequence[np.ndarray],
    *,
    rounds: int = 20,
    scoring: Scoring | None = None,
    kinds: Sequence | None = None,
) -> Blend:
    """Choose a blend of candidates by greedy forward selection with replacement.

    In each round the candidate is added whose addition gives the averaged probabilities the lowest
    log loss, or the best `scoring` and among equals the lowest log loss; then the earlier one
    (Caruana et al., 2004, "Ensemble selection from libraries of models"). By log loss, not by the
    share of right answers: this counts every row that is nearly right, and on sets of a few hundred
    images the blend is right more often for it. The weights are chosen on all rows; the score is
    nested, or the blend would win by being chosen.

    Parameters
    ----------
    probabilities : array of shape (candidates, n, classes)
        Out of fold; rows with a NaN (in no validation fold) are passed over.
    y : array of shape (n,)
        Class numbers, 0 to classes - 1, in the order of the columns.
    validation : sequence of index arrays
        The rows that each fold leaves out.
    rounds : int
        How many candidates, repeats included, are averaged.
    scoring : callable or None
        (labels (n,), averages (candidates, n, classes)) -> (candidates,) scores, more is better;
        None goes by log loss alone.
    kinds : sequence of length candidates, optional
        What each candidate needs, such as a pass over the images: kinds that weigh less than
        LEAST_OF_A_KIND together are dropped, and the rest is chosen from again.

    Returns
    -------
    Blend

    Raises
    ------
    ValueError
        Shapes that do not belong together, or fewer than two folds.

    Examples
    --------
    Two candidates that err on different rows are right together:

    >>> y = np.array([0, 0, 1, 1])
    >>> first = np.array([[0.9, 0.1], [0.4, 0.6], [0.1, 0.9], [0.2, 0.8]])
    >>> second = np.array([[0.8, 0.2], [0.9, 0.1], [0.6, 0.4], [0.1, 0.9]])
    >>> found = blend_candidates([first, second], y, [[0, 2], [1, 3]], rounds=4)
    >>> found.weights.tolist()
    [0.5, 0.5]
    """
    P, y = np.asarray(probabilities, dtype=np.float64), np.asarray(y)
    _check(P, y, validation)
    known = np.isfinite(P).all(axis=(0, 2))
    nested = np.full(P.shape[1:], np.nan)
    kind_of = np.unique([0] * len(P) if kinds is None else list(kinds), return_inverse=True)[1]

    def choose(own: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return _choose_kinds(
            own, labels, kind_of, lambda P, y: choose_weights(P, y, rounds, scoring)
        )

    for val in validation:
        others = np.array(known)
        others[val] = False
        weights = choose(P[:, others], y[others])
        nested[val] = np.tensordot(weights, P[:, val], 1)
    score = np.mean([np.mean(nested[val].argmax(axis=1) == y[val]) for val in validation])
    return Blend(choose(P[:, known], y[known]), float(score), nested)


def _check(P: np.ndarray, y: np.ndarray, validation: Sequence[np.ndarray]) -> None:
    if P.ndim != 3 or P.shape[1] != len(y) or len(validation) < 2:
        raise ValueError(
            f"probabilities have shape {P.shape} with {len(y)} labels and {len(validation)} folds; "
            "expected (candidates, labels, classes) and two folds or more"
        )


def _choose_kinds(
    P: np.ndarray,
    y: np.ndarray,
    kind_of: np.ndarray,
    choose: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Weights (candidates,) where every kind that has any has enough to be worth what it needs."""
    left = np.arange(len(P))
    while True:
        weights = np.zeros(len(P))
        weights[left] = choose(P[left], y)
        by_kind = np.bincount(kind_of, weights)
        # a count of rounds over their number is exact but for its last bits
        enough = (by_kind == 0) | (by_kind > LEAST_OF_A_KIND - 1e-9)
        if enough.all():
            return weights
        left = left[enough[kind_of[left]]]


def choose_weights(
    P: np.ndarray, y: np.ndarray, rounds: int, scoring: Scoring | None = None
) -> np.ndarray:
    """Weights (candidates,): counts of a greedy selection with replacement."""
    counts = np.zeros(len(P))
    total = np.zeros(P.shape[1:])
    of_label = np.take_along_axis(P, y[None, :, None], axis=2)[:, :, 0]
    for taken in range(1, rounds + 1):
        score = np.zeros(len(P))
        if scoring is not None:
            # last bits dropped: what is equal but for them goes by log loss
            score = scoring(y, (total + P) / taken).round(9)
        of_label_now = (total[np.arange(len(y)), y] + of_label) / taken
        loss = -np.mean(np.log(np.maximum(of_label_now, 1e-12)), axis=1).round(9)
        best = np.lexsort((loss, -score))[0]
        counts[best] += 1
        total += P[best]
    return counts / rounds
