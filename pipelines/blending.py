"""Several heads as one: their probabilities averaged by weight, each from its own columns of the features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heads import Calibration, head_scores


@dataclass(frozen=True)
class Voter:
    """One fitted head of a blend.

    columns: where its features begin and end among those of all taps. calibration: of its scores where the head has
    no probabilities of its own. rows: training rows that the head keeps, unscaled, or None.
    """

    head: object
    calibration: Calibration | None
    columns: tuple[int, int]
    weight: float
    rows: np.ndarray | None = None


class BlendedHead:
    """A fitted classifier on (n, d) features of several taps joined: the weighted mean of its voters' probabilities.

    Attributes
    ----------
    voters : tuple of Voter. classes_ : (classes,). n_features_in_ : int, d.
    """

    def __init__(self, voters: Sequence[Voter]):
        self.voters = tuple(voters)
        self.classes_ = self.voters[0].head.classes_
        self.n_features_in_ = max(voter.columns[1] for voter in self.voters)

    def predict_proba(self, X) -> np.ndarray:
        """(n, classes) probabilities."""
        return sum(
            v.weight * probabilities(v.head, v.calibration, X[:, slice(*v.columns)])
            for v in self.voters
        )

    def predict(self, X) -> np.ndarray:
        """(n,) labels: the most probable."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def answers(
    head, calibration: Calibration | None, features: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) features -> (labels (n,), probabilities (n, classes)); a blend's members are asked once for both.

    Averaging members that err in different places gives probabilities nearer to even than the average is right: a
    blend's calibration is of their logarithms. Its labels are those before it.
    """
    if not isinstance(head, BlendedHead):
        return head.predict(features), probabilities(head, calibration, features)
    shares = head.predict_proba(features)
    labels = head.classes_[shares.argmax(axis=1)]
    return labels, shares if calibration is None else calibration.probabilities(log_shares(shares))


def probabilities(head, calibration: Calibration | None, features: np.ndarray) -> np.ndarray:
    """(n, d) features -> (n, classes) probabilities by the head itself, or by the calibration of its scores."""
    if calibration is None:
        return head.predict_proba(features)
    if isinstance(head, BlendedHead):
        return answers(head, calibration, features)[1]
    return calibration.probabilities(head_scores(head, features))


def log_shares(shares: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, as the scores that a blend is calibrated on."""
    return np.log(np.maximum(shares, 1e-6))
