"""What the leaderboard is ordered by: a score of out-of-fold answers, for many heads at once."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from heads import HEADS, oof_probabilities

# in float32 a product may miss the class count 0 by rounding; a class with none is passed over
LEAST_COUNT = 1e-9


@dataclass(frozen=True)
class Scoring:
    """A score of which more is better, under scikit-learn's name for it.

    words : as printed.
    metric, sign : the score is sign times this one of `metrics.METRICS`.
    facts : (labels (n,), answers (n,), probabilities (n, classes)), class numbers -> (n,): all of
        an image that the score is made of.
    weighted : (labels (n,), facts (candidates, n), weights (k, n)) -> (k, candidates) scores, each
        image counted as often as its weight says; NaN where what is weighted gives none.
    perfect : the most it can be.
    proportion : whether it is a share of right answers, whose interval has a least width.
    needs_probabilities : whether `facts` are made of the probabilities, not of the answers alone.
    """

    name: str
    words: str
    metric: str
    facts: Callable
    weighted: Callable
    sign: int = 1
    perfect: float = 1.0
    proportion: bool = False
    needs_probabilities: bool = False

    def values(self, labels: np.ndarray | None, facts: np.ndarray) -> np.ndarray:
        """(candidates,) scores of all images."""
        return self.weighted(labels, facts, np.ones((1, facts.shape[1])))[0]


# facts: (labels (n,), answers (n,), probabilities (n, classes)) -> (n,)


def _is_right(labels: np.ndarray, answers: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return answers == labels


def _answer(labels: np.ndarray, answers: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return answers


def _log_of_own(labels: np.ndarray, answers: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    own = probabilities[np.arange(len(labels)), labels]
    return np.log(np.maximum(own, 1e-15))  # as metrics.log_loss


def _of_second(labels: np.ndarray, answers: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return probabilities[:, 1]


# weighted: (labels (n,), facts (candidates, n), weights (k, n)) -> (k, candidates)


def _mean(labels: np.ndarray, facts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ np.asarray(facts.T, weights.dtype) / weights.sum(axis=1, keepdims=True)


def _mean_recall(labels: np.ndarray, facts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    recalls: Any = 0
    present: Any = 0
    for code in np.unique(labels):
        own = labels == code
        counts = weights[:, own].sum(axis=1, keepdims=True)
        right = weights[:, own] @ np.asarray(facts[:, own].T, weights.dtype)
        recalls = recalls + right / np.maximum(counts, LEAST_COUNT)
        present = present + (counts > 0)
    return recalls / np.maximum(present, 1)


def _mean_f1(labels: np.ndarray, facts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total: Any = 0
    present: Any = 0
    for code in np.union1d(labels, facts):
        own = labels == code
        said = np.asarray(facts == code, weights.dtype)
        true_positives = weights[:, own] @ said[:, own].T
        counts = weights[:, own].sum(axis=1, keepdims=True) + weights @ said.T
        total = total + 2 * true_positives / np.maximum(counts, LEAST_COUNT)
        present = present + (counts > 0)
    return total / np.maximum(present, 1)


def _area(labels: np.ndarray, facts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The area under the ROC curve by weighted ranks; images of equal probability count half."""
    second = np.asarray(labels == 1, weights.dtype)
    areas = np.empty((len(weights), len(facts)))
    for i, probabilities in enumerate(facts):
        values, ties = np.unique(probabilities, return_inverse=True)
        order = np.argsort(ties, kind="stable")
        starts = np.searchsorted(ties[order], np.arange(len(values)))
        # weights of each class at every distinct probability, in float64: ranks are sums over all
        # images
        ups = np.add.reduceat((weights * second)[:, order], starts, axis=1, dtype=float)
        downs = np.add.reduceat((weights * (1 - second))[:, order], starts, axis=1, dtype=float)
        below = np.cumsum(downs, axis=1) - downs / 2
        with np.errstate(invalid="ignore"):  # a draw without one of the classes has no area
            areas[:, i] = (ups * below).sum(axis=1) / (ups.sum(axis=1) * downs.sum(axis=1))
    return areas


ACCURACY = Scoring("accuracy", "accuracy", "accuracy", _is_right, _mean, proportion=True)
SCORINGS = {
    scoring.name: scoring
    for scoring in (
        ACCURACY,
        Scoring(
            "balanced_accuracy",
            "balanced accuracy",
            "balanced_accuracy",
            _is_right,
            _mean_recall,
            proportion=True,
        ),
        Scoring("f1_macro", "macro F1", "macro_f1", _answer, _mean_f1, proportion=True),
        Scoring(
            "neg_log_loss",
            "minus log loss",
            "log_loss",
            _log_of_own,
            _mean,
            sign=-1,
            perfect=0.0,
            needs_probabilities=True,
        ),
        Scoring("roc_auc", "AUC", "roc_auc", _of_second, _area, needs_probabilities=True),
    )
}

SHARES = ("accuracy", "balanced_accuracy")  # scorings that are told as per cent


def find_scoring(name: str, n_classes: int | None = None) -> Scoring:
    """The scoring of a name; ValueError for one unknown, or not defined for so many classes."""
    if name not in SCORINGS:
        near = get_close_matches(str(name), SCORINGS, n=1) or list(SCORINGS)
        raise ValueError(f"unknown scoring {name!r}: expected {' or '.join(near)}")
    if name == "roc_auc" and n_classes not in (None, 2):
        raise ValueError(
            f"scoring 'roc_auc' is of two classes and there are {n_classes}: "
            "take neg_log_loss instead"
        )
    return SCORINGS[name]


def head_facts(
    scoring: Scoring, head: str, oof: np.ndarray, labels: np.ndarray, class_weight: Any = None
) -> np.ndarray:
    """(n,) facts of a head's out-of-fold scores (n, classes); labels: (n,) class names."""
    classes, codes = np.unique(labels, return_inverse=True)
    probabilities = None
    if scoring.needs_probabilities:  # a calibration for each candidate: not made in vain
        probabilities = oof_probabilities(
            oof, HEADS[head].scores, labels, classes, class_weight=class_weight
        )
    return scoring.facts(codes, oof.argmax(axis=1), probabilities)


def best_first(values: np.ndarray) -> int:
    """The place of the best score: last bits dropped, of equals the first, NaN last."""
    return int(np.where(np.isnan(values), -np.inf, np.round(values, 9)).argmax())


def no_score(estimator: Any, X: np.ndarray, y: np.ndarray) -> float:
    """In place of scikit-learn's scorer, which takes longer than small heads take to train."""
    return 0.0
