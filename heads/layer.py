"""A linear layer on standardised features: out of a fitted logistic head, and back into one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from heads.catalog import make_head


def layer_of(head: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What a fitted logistic head computes its scores by.

    Parameters
    ----------
    head : Pipeline
        Fitted, as `make_head("logistic")` makes it.

    Returns
    -------
    mean, scale : arrays of shape (d,)
    weight : array of shape (classes, d)
        Of two classes the head has one row, which becomes half of it for the second class and minus
        half of it for the first: the softmax of both is its sigmoid.
    bias : array of shape (classes,)

    Examples
    --------
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.8], [0.9, 0.3]])
    >>> mean, scale, weight, bias = layer_of(make_head("logistic").fit(X, [*"abab"]))
    >>> (((X - mean) / scale) @ weight.T + bias).argmax(axis=1).tolist()
    [0, 1, 0, 1]
    """
    scaler, classifier = head[0], head[-1]
    weight, bias = classifier.coef_, classifier.intercept_
    if len(weight) == 1:
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return scaler.mean_, scaler.scale_, weight, bias


def head_of(
    mean: np.ndarray,
    scale: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    classes: Sequence | np.ndarray,
) -> Any:
    """The fitted logistic head that has these scores: the reverse of `layer_of`.

    Parameters
    ----------
    mean, scale : arrays of shape (d,)
    weight : array of shape (classes, d)
    bias : array of shape (classes,)
    classes : sequence of length classes
        Sorted labels.

    Returns
    -------
    Pipeline
        As scikit-learn would have fitted it, had this been the optimum; of two classes it has the
        difference of both rows.

    Examples
    --------
    >>> ones = np.ones(2)
    >>> head = head_of(0 * ones, ones, np.eye(2), 0 * ones, ["a", "b"])
    >>> head.predict(np.array([[3.0, 1.0], [0.0, 2.0]])).tolist()
    ['a', 'b']
    """
    weight, bias = np.asarray(weight, float), np.asarray(bias, float)
    if len(weight) == 2:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    head = make_head("logistic")
    scaler, classifier = head[0], head[-1]
    scaler.mean_, scaler.scale_ = np.asarray(mean, float), np.asarray(scale, float)
    scaler.var_ = scaler.scale_**2
    # of how many images the layer was made no prediction depends on
    scaler.n_samples_seen_ = np.int64(0)
    scaler.n_features_in_ = classifier.n_features_in_ = len(scaler.mean_)
    classifier.classes_ = np.asarray(classes)
    classifier.coef_, classifier.intercept_ = weight, bias
    classifier.n_iter_ = np.zeros(len(bias), np.int32)
    return head
