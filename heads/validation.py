"""All candidates on one fold: the score of each, and what it says of the rows left out."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.metaestimators import available_if

from heads.candidates import Candidate
from heads.catalog import find_head
from heads.fold_scores import FOLD_SCORERS
from heads.reduction import Fold
from heads.refit import weights_of
from heads.scores import head_scores

Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """What a search has to do, checked and laid out.

    splits : (training, validation) rows of each fold.
    settings, candidates : by candidate, what `cv_results_["params"]` says, and how it is fitted.
    whole, folds : all rows as training rows, and each split.
    scorer : (fitted estimator, X, y) -> float, more is better.
    """

    X: np.ndarray
    y: np.ndarray
    splits: list[Split]
    settings: list[dict[str, Any]]
    candidates: list[Candidate]
    class_weight: Any
    scorer: Callable[[Any, np.ndarray, np.ndarray], float]
    n_jobs: int | None
    whole: Fold
    folds: list[Fold]

    @property
    def heads(self) -> list[str]:
        """The candidates' heads, each once, in their order."""
        return list(dict.fromkeys(candidate.head for candidate in self.candidates))

    def known_values(self, name: str) -> list[dict[str, Any]]:
        """The parameters of the candidates of a head that the shared work knows."""
        own = [candidate.values for candidate in self.candidates if candidate.head == name]
        return [values for values in own if values is not None]


class Validated(NamedTuple):
    """A candidate on one fold.

    scores : (rows left out, classes of the training rows), in the layout of `head_scores`.
    certificate : bound on the relative error of a linear head's coefficients, else NaN.
    """

    test_score: float
    fit_time: float
    score_time: float
    scores: np.ndarray
    classes: np.ndarray
    certificate: float


class FoldAnswers(ClassifierMixin, BaseEstimator):
    """What the shared work found for the rows left out, as a scorer asks a classifier for it."""

    def __init__(
        self,
        classes: np.ndarray,
        kind: str,
        scores: np.ndarray,
        codes: np.ndarray,
        certificate: float = np.nan,
    ) -> None:
        self.classes_ = classes
        self.kind = kind
        self.scores = scores
        self.codes = codes
        self.certificate = certificate

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.codes]

    @available_if(lambda self: self.kind != "probabilities")
    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return self.scores if len(self.classes_) > 2 else self.scores[:, 1] - self.scores[:, 0]

    @available_if(lambda self: self.kind != "margins")
    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return softmax(self.scores, axis=1) if self.kind == "logits" else self.scores


def validate_candidates(
    task: Task, number: int, seconds_before: dict[str, float]
) -> list[Validated]:
    """Every candidate of the task on one of its folds.

    What heads share is timed with the first that needs it, what candidates share evenly among them.

    number : of the fold. seconds_before : spent on a fold for a head, when all were solved at once.
    """
    train, val = task.splits[number]
    classes, codes = np.unique(task.y[train], return_inverse=True)
    answered: dict[int, tuple[FoldAnswers, float]] = {}
    for name in task.heads:
        seconds = seconds_before.get(name, 0.0)
        answered |= _answer_shared(task, number, name, classes, codes, seconds)
    X_val, y_val = task.X[val], task.y[val]
    found = []
    for place, candidate in enumerate(task.candidates):
        estimator, seconds = answered.get(place) or _fit_ordinary(
            candidate, task.X[train], task.y[train]
        )
        found.append(_score_candidate(estimator, seconds, X_val, y_val, task.scorer))
    return found


def _answer_shared(
    task: Task,
    number: int,
    name: str,
    classes: np.ndarray,
    codes: np.ndarray,
    seconds_before: float,
) -> dict[int, tuple[FoldAnswers, float]]:
    """Answers and seconds, by place, of the candidates of a head that the shared work knows."""
    places = [
        place
        for place, candidate in enumerate(task.candidates)
        if candidate.head == name and candidate.values is not None
    ]
    if not places:
        return {}
    started = time.perf_counter()
    head = find_head(name)
    train, _ = task.splits[number]
    weights = weights_of(task.class_weight if head.weighted else None, task.y[train])
    found = FOLD_SCORERS[name].score(task.folds[number], codes, task.known_values(name), weights)
    seconds = (time.perf_counter() - started + seconds_before) / len(places)
    return {
        place: (FoldAnswers(classes, head.scores, *answer), seconds)
        for place, answer in zip(places, found, strict=True)
    }


def _fit_ordinary(candidate: Candidate, X: np.ndarray, y: np.ndarray) -> tuple[Any, float]:
    """A candidate that the shared work does not know, fitted by scikit-learn, and the seconds."""
    started = time.perf_counter()
    return candidate.pipeline().fit(X, y), time.perf_counter() - started


def _score_candidate(
    estimator: Any, fit_time: float, X: np.ndarray, y: np.ndarray, scorer: Callable
) -> Validated:
    started = time.perf_counter()
    score = scorer(estimator, X, y)
    score_time = time.perf_counter() - started
    if isinstance(estimator, FoldAnswers):
        scores, certificate = estimator.scores, estimator.certificate
    else:
        scores, certificate = head_scores(estimator, X), np.nan
    return Validated(score, fit_time, score_time, scores, estimator.classes_, certificate)
