"""What the leaderboard is ordered by: a score of pooled out-of-fold answers, for many heads and weightings at once."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from heads import HEADS, oof_probabilities


@dataclass(frozen=True)
class Scoring:
    """A score of which more is better, under scikit-learn's name for it.

    words: as printed. metric, sign: the score is sign times this one of `scores.METRICS`. perfect: the most it can be.
    facts: (labels (n,), answers (n,), probabilities (n, classes)), class numbers -> (n,) all of an image that the
        score is made of.
    weighted: (labels (n,), facts (candidates, n), weights (k, n)) -> (k, candidates) scores, each image counted
        as often as its weight says; NaN where what is weighted gives none.
    proportion: whether it is a share of right answers, whose interval has a least width.
    """

    name: str
    words: str
    metric: str
    facts: Callable
    weighted: Callable
    sign: int = 1
    perfect: float = 1.0
    proportion: bool = False

    def values(self, labels: np.ndarray, facts: np.ndarray) -> np.ndarray:
        """(candidates,) scores of all images."""
        return self.weighted(labels, facts, np.ones((1, facts.shape[1])))[0]


def _right(labels, answers, shares):
    return answers == labels


def _mean(labels, facts, weights):
    return weights @ np.asarray(facts.T, weights.dtype) / weights.sum(axis=1, keepdims=True)


def _mean_recall(labels, facts, weights):
    recalls, present = 0, 0
    for code in np.unique(labels):
        own = labels == code
        counts = weights[:, own].sum(axis=1, keepdims=True)
        recalls = recalls + weights[:, own] @ np.asarray(
            facts[:, own].T, weights.dtype
        ) / np.maximum(counts, 1e-9)
        present = present + (counts > 0)
    return recalls / np.maximum(present, 1)


def _mean_f1(labels, facts, weights):
    total, present = 0, 0
    for code in np.union1d(labels, facts):
        own, said = labels == code, np.asarray(facts == code, weights.dtype)
        both = weights[:, own] @ said[:, own].T
        counts = weights[:, own].sum(axis=1, keepdims=True) + weights @ said.T
        total = total + 2 * both / np.maximum(counts, 1e-9)
        present = present + (counts > 0)
    return total / np.maximum(present, 1)


def _area(labels, facts, weights):
    second = np.asarray(labels == 1, weights.dtype)
    areas = np.empty((len(weights), len(facts)))
    for i, shares in enumerate(facts):
        values, ties = np.unique(shares, return_inverse=True)
        order = np.argsort(ties, kind="stable")
        starts = np.searchsorted(ties[order], np.arange(len(values)))
        ups, downs = (
            np.add.reduceat((weights * side)[:, order], starts, axis=1, dtype=float)
            for side in (second, 1 - second)
        )
        below = np.cumsum(downs, axis=1) - downs / 2
        with np.errstate(invalid="ignore"):
            areas[:, i] = (ups * below).sum(axis=1) / (ups.sum(axis=1) * downs.sum(axis=1))
    return areas


SCORINGS = {
    scoring.name: scoring
    for scoring in (
        Scoring("accuracy", "accuracy", "accuracy", _right, _mean, proportion=True),
        Scoring(
            "balanced_accuracy",
            "balanced accuracy",
            "balanced_accuracy",
            _right,
            _mean_recall,
            proportion=True,
        ),
        Scoring(
            "f1_macro",
            "macro F1",
            "macro_f1",
            lambda labels, answers, shares: answers,
            _mean_f1,
            proportion=True,
        ),
        Scoring(
            "neg_log_loss",
            "minus log loss",
            "log_loss",
            lambda labels, answers, shares: np.log(
                np.maximum(shares[np.arange(len(labels)), labels], 1e-15)
            ),
            _mean,
            sign=-1,
            perfect=0.0,
        ),
        Scoring("roc_auc", "AUC", "roc_auc", lambda labels, answers, shares: shares[:, 1], _area),
    )
}


def find_scoring(name: str, n_classes: int | None = None) -> Scoring:
    """The scoring of a name; ValueError for one that is unknown, or that these classes have none of."""
    if name not in SCORINGS:
        near = get_close_matches(str(name), SCORINGS, n=1) or list(SCORINGS)
        raise ValueError(f"unknown scoring {name!r}: expected {' or '.join(near)}")
    if name == "roc_auc" and n_classes not in (None, 2):
        raise ValueError(
            f"scoring 'roc_auc' is of two classes and there are {n_classes}: take neg_log_loss instead"
        )
    return SCORINGS[name]


def head_facts(scoring: Scoring, head: str, oof: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) facts of a head's out-of-fold scores (n, classes); labels: (n,) class names."""
    classes, codes = np.unique(labels, return_inverse=True)
    needs_shares = scoring.name in ("neg_log_loss", "roc_auc")
    shares = oof_probabilities(oof, HEADS[head].scores, labels, classes) if needs_shares else None
    return scoring.facts(codes, oof.argmax(axis=1), shares)


def best_first(values: np.ndarray) -> int:
    """The place of the best score: last bits dropped, of equals the first, NaN last."""
    return int(np.where(np.isnan(values), -np.inf, np.round(values, 9)).argmax())


def no_score(estimator, X, y):
    """In place of scikit-learn's scorer, which takes longer than small heads take to train."""
    return 0.0
