"""What a fitted linear head's scores are sums of: weights of features, the scaler folded in."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from heads.catalog import HEADS, steps_of


@dataclass(frozen=True, eq=False)
class LinearScores:
    """Scores that are `(X - centre) @ weights.T + bias`.

    Attributes
    ----------
    weights : array of shape (classes, d), float64
        Of the features as they come, before any scaler.
    centre : array of shape (d,)
        The features of the average training image; zeros where nothing was centred.
    bias : array of shape (classes,)
        The scores at the centre.

    Examples
    --------
    >>> LinearScores(np.array([[1.0], [-1.0]]), np.array([2.0]), np.zeros(2)).of([[3.0]]).tolist()
    [[1.0, -1.0]]
    """

    weights: np.ndarray
    centre: np.ndarray
    bias: np.ndarray

    def of(self, X: Any) -> np.ndarray:
        """Scores (n, classes) of (n, d) features."""
        return (np.asarray(X, np.float64) - self.centre) @ self.weights.T + self.bias


def linear_scores(estimator: Any) -> LinearScores | None:
    """The scores of a fitted head as a weighted sum of its features.

    Parameters
    ----------
    estimator : fitted classifier
        Alone or behind a StandardScaler in a pipeline.

    Returns
    -------
    LinearScores or None
        As `head_scores` gives them: margins s of two classes are the columns (-s/2, s/2). None for
        a head whose scores are no such sum.

    Examples
    --------
    >>> from heads import head_scores, make_head
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.8], [0.9, 0.3]])
    >>> head = make_head("ridge").fit(X, ["a", "b", "a", "b"])
    >>> bool(np.allclose(linear_scores(head).of(X), head_scores(head, X)))
    True
    >>> linear_scores(make_head("knn", n_neighbors=1).fit(X, ["a", "b", "a", "b"]))
    """
    *scalers, classifier = steps_of(estimator)
    if not _is_linear(classifier) or len(scalers) > 1:
        return None
    weights = np.array(classifier.coef_, np.float64)
    weights = weights.reshape(-1, weights.shape[-1])
    bias = np.broadcast_to(np.asarray(classifier.intercept_, np.float64), len(weights)).copy()
    if len(weights) == 1:
        weights, bias = np.vstack([-weights / 2, weights / 2]), np.r_[-bias / 2, bias / 2]
    centre = np.zeros(weights.shape[1])
    for scaler in scalers:
        from sklearn.preprocessing import StandardScaler

        if type(scaler) is not StandardScaler:
            return None
        if scaler.scale_ is not None:
            weights = weights / scaler.scale_
        if scaler.with_mean:
            centre = np.asarray(scaler.mean_, np.float64)
    return LinearScores(weights, centre, bias)


def _is_linear(classifier: Any) -> bool:
    return any(
        # the name first: only the one class that it may be is imported
        head.is_linear
        and head.class_name == type(classifier).__name__
        and head.load_class() is type(classifier)
        for head in HEADS.values()
    )
