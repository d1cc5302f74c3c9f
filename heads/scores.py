"""Scores of fitted heads in one layout for all of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from heads.calibration import as_columns, as_logits
from heads.catalog import HEADS, find_name
from heads.svm import rbf_decisions


def head_scores(estimator: Any, X: np.ndarray) -> np.ndarray:
    """Scores of a fitted head in the layout of `HeadSearchCV.oof_scores_`.

    Parameters
    ----------
    estimator : fitted pipeline, as `make_head` makes
    X : array of shape (n, d)

    Returns
    -------
    array of shape (n, classes), float64
        Decision values, or probabilities where the head has no decision function
        (`HEADS[...].scores` says which). Margins s of two classes are the columns (-s/2, s/2).
        `centroid`: minus the squared distance.

    Examples
    --------
    >>> from heads import make_head
    >>> head = make_head("centroid").fit([[0.0], [1.0], [5.0], [6.0]], ["a", "a", "b", "b"])
    >>> head_scores(head, np.array([[3.0]])).round(2).tolist()
    [[-0.96, -0.96]]
    """
    own = OWN_SCORES.get(find_name(estimator) or "")
    if own is not None:
        return own(estimator, X)
    answer = getattr(estimator, "decision_function", None) or estimator.predict_proba
    return as_columns(answer(X))


def _centroid_scores(estimator: Any, X: np.ndarray) -> np.ndarray:
    # here: it takes a tenth of a second to import, and no other head needs it
    from sklearn.metrics.pairwise import euclidean_distances

    centroids = estimator[-1].centroids_
    return -euclidean_distances(estimator[:-1].transform(X), centroids, squared=True)


def _svm_scores(estimator: Any, X: np.ndarray) -> np.ndarray:
    svc = estimator[-1]
    if svc.kernel != "rbf" or svc.decision_function_shape != "ovr":
        return as_columns(estimator.decision_function(X))
    return as_columns(rbf_decisions(svc, estimator[:-1].transform(X)))


# heads whose decision function is not what `predict` goes by, or takes long
OWN_SCORES: dict[str, Callable[[Any, np.ndarray], np.ndarray]] = {
    "centroid": _centroid_scores,
    "rbf_svm": _svm_scores,
}


def head_logits(estimator: Any, X: np.ndarray) -> np.ndarray:
    """Scores of a fitted head as its calibration takes them.

    Parameters
    ----------
    estimator : fitted classifier
    X : array of shape (n, d)

    Returns
    -------
    array of shape (n, classes), float64
        As `head_scores`; of probabilities the logarithms.

    Examples
    --------
    >>> from heads import make_head
    >>> head = make_head("knn", n_neighbors=1).fit([[0.0], [1.0]], ["a", "b"])
    >>> head_logits(head, np.array([[0.9]])).round(2).tolist()
    [[-13.82, 0.0]]
    """
    name = find_name(estimator)
    if name is not None:
        kind = HEADS[name].scores
    else:
        kind = "margins" if hasattr(estimator, "decision_function") else "probabilities"
    return as_logits(head_scores(estimator, X), kind)
