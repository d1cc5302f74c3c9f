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
        return sum(v.weight * probabilities(v.head, v.calibration, X[:, slice(*v.columns)]) for v in self.voters)

    def predict(self, X) -> np.ndarray:
        """(n,) labels: the most probable."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def probabilities(head, calibration: Calibration | None, features: np.ndarray) -> np.ndarray:
    """(n, d) features -> (n, classes) probabilities by the head itself, or by the calibration of its scores."""
    if calibration is None:
        return head.predict_proba(features)
    return calibration.probabilities(head_scores(head, features))
