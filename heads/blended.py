"""A fitted blend: several heads whose probabilities are averaged, each on its own features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heads.calibration import Calibration, as_logits
from heads.catalog import steps_of
from heads.scores import head_logits


@dataclass(frozen=True, eq=False)
class Member:
    """One head of a leaderboard row: a row has one, a blend several.

    Attributes
    ----------
    head : str
        A name of the catalogue; empty where a loaded estimator is none of its heads.
    params : dict
        Parameters that it sets, by their names in the pipeline.
    weight : float
        Its share in the blend; the members' weights sum to 1.
    source : int
        The number of the features that it takes, where there are several arrays.
    oof : array of shape (n, classes), or None
        Its out-of-fold scores.
    estimator : fitted estimator, or None before it is fitted
    calibration : Calibration or None
        Of its scores; None takes the probabilities of the estimator itself.
    columns : (int, int) or None
        Where its features begin and end among those of all sources joined.
    rows : array of shape (m, d), or None
        The training rows that it keeps, as `training_rows` gives them.

    Examples
    --------
    >>> Member("logistic", {"logisticregression__C": 0.1}, weight=0.4).head
    'logistic'
    """

    head: str
    params: dict
    weight: float = 1.0
    source: int = 0
    oof: Any = None
    estimator: Any = None
    calibration: Calibration | None = None
    columns: Any = None
    rows: np.ndarray | None = None


class BlendedHead:
    """A fitted classifier: the weighted mean of its members' probabilities.

    Parameters
    ----------
    members : sequence of Member
        Fitted, each with the columns it takes; classes are the same for all.

    Attributes
    ----------
    members : tuple of Member
    classes_ : array of shape (classes,)
    n_features_in_ : int
        Features of all sources joined.

    Examples
    --------
    >>> from heads import make_head
    >>> X, y = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.8], [0.9, 0.3]]), ["a", "b", "a", "b"]
    >>> heads = [make_head("logistic").fit(X[:, [i]], y) for i in (0, 1)]
    >>> blend = BlendedHead(
    ...     [
    ...         Member("logistic", {}, 0.5, estimator=head, columns=(i, i + 1))
    ...         for i, head in enumerate(heads)
    ...     ]
    ... )
    >>> blend.predict(X).tolist()
    ['a', 'b', 'a', 'b']
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self.classes_ = self.members[0].estimator.classes_
        self.n_features_in_ = max(_columns_of(member).stop for member in self.members)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities of (n, d) features, (n, classes)."""
        weighted = [
            member.weight
            * probabilities(member.estimator, member.calibration, X[:, _columns_of(member)])
            for member in self.members
        ]
        return sum(weighted[1:], start=weighted[0])

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Labels of (n, d) features, (n,): the most probable."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def _columns_of(member: Member) -> slice:
    if member.columns is None:
        raise ValueError(
            f"member {member.head!r} has no columns; give (start, stop) of its features"
        )
    return slice(*member.columns)


def answers(
    estimator: Any, calibration: Calibration | None, features: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of a fitted head: the label is the most probable class.

    So it is everywhere, for heads and blends alike: what a head's own `predict` says may be another
    class where its votes or margins and its probabilities disagree. Of equals it is the first.

    Parameters
    ----------
    estimator : fitted head or BlendedHead
    calibration : Calibration or None
        Of the head's scores, or of a blend's log probabilities.
    features : array of shape (n, d)

    Returns
    -------
    labels : array of shape (n,)
    probabilities : array of shape (n, classes)

    Examples
    --------
    >>> from heads import make_head
    >>> X = np.array([[0.0], [1.0], [0.1], [0.9]])
    >>> labels, found = answers(make_head("logistic").fit(X, [0, 1, 0, 1]), None, X)
    >>> labels.tolist(), found.shape
    ([0, 1, 0, 1], (4, 2))
    """
    found = probabilities(estimator, calibration, features)
    return estimator.classes_[found.argmax(axis=1)], found


def probabilities(
    estimator: Any, calibration: Calibration | None, features: np.ndarray
) -> np.ndarray:
    """Probabilities of a fitted head: those of the calibration of its scores, or its own.

    Averaging members that err in different places gives probabilities nearer to even than the
    average is right: a blend's calibration is of their logarithms.

    Parameters
    ----------
    estimator, calibration, features
        As for `answers`.

    Returns
    -------
    array of shape (n, classes)

    Raises
    ------
    ValueError
        A head without probabilities and without a calibration.

    Examples
    --------
    >>> from heads import make_head
    >>> head = make_head("linear_svm").fit([[0.0], [1.0]], ["a", "b"])
    >>> sure = Calibration(2.0, (0.0, 0.0), ("a", "b"))
    >>> probabilities(head, sure, np.array([[0.5]])).round(2).tolist()
    [[0.5, 0.5]]
    """
    check_probable(estimator, calibration)
    if calibration is None:
        return estimator.predict_proba(features)
    if isinstance(estimator, BlendedHead):
        mean = estimator.predict_proba(features)
        return calibration.probabilities(as_logits(mean, "probabilities"))
    return calibration.probabilities(head_logits(estimator, features))


def check_probable(estimator: Any, calibration: Calibration | None) -> None:
    """Refuse a head that no probability comes of.

    Parameters
    ----------
    estimator, calibration
        As for `answers`.

    Raises
    ------
    ValueError
        It has neither probabilities of its own nor a calibration.

    Examples
    --------
    >>> from heads import make_head
    >>> check_probable(make_head("linear_svm"), None)
    Traceback (most recent call last):
    ValueError: LinearSVC gives no probabilities and has no calibration: expected one of them
    """
    if calibration is None and not hasattr(estimator, "predict_proba"):
        kind = type(steps_of(estimator)[-1]).__name__
        raise ValueError(
            f"{kind} gives no probabilities and has no calibration: expected one of them"
        )
