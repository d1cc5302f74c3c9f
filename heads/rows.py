"""The training rows that a fitted head keeps: which they are, taken out of it and put back."""

import copy
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from heads.catalog import HEADS, find_name, steps_of

TREES = {"kd_tree": "KDTree", "ball_tree": "BallTree"}


def training_rows(head: Any, features: np.ndarray) -> np.ndarray | None:
    """The training rows that a fitted head keeps.

    Parameters
    ----------
    head : fitted estimator
    features : array of shape (n, d)
        What it was fitted on.

    Returns
    -------
    array of shape (m, d), or None
        Support vectors, or all rows for kNN, as they are in `features`; None for a head that keeps
        no rows, is not of the catalogue, or holds them in a search tree.

    Examples
    --------
    >>> from heads import make_head
    >>> X = np.array([[0.0], [1.0], [9.0]])
    >>> training_rows(make_head("rbf_svm").fit(X, [0, 0, 1]), X).shape
    (3, 1)
    >>> training_rows(make_head("logistic").fit(X, [0, 0, 1]), X)
    """
    if _row_attribute(head) is None:
        return None
    classifier = head[-1]
    # a tree has a copy of the rows inside, which can't be taken out
    if getattr(classifier, "_fit_method", "brute") != "brute":
        return None
    support = getattr(classifier, "support_", None)
    return features if support is None else features[support]


def take_rows(head: Any, rows: np.ndarray | None) -> tuple[Any, np.ndarray | None]:
    """Take the training rows out of a fitted head, so that they can be kept unscaled and narrow.

    Kept features are float16 or float32 before the scaler and float32 or float64 behind it. They
    are taken only where scaling them again gives the very same numbers.

    Parameters
    ----------
    head : fitted estimator
    rows : array of shape (m, d), or None
        What `training_rows` gave.

    Returns
    -------
    head
        A copy without its rows, or the head itself where there are none to take.
    rows : array of shape (m, d), or None
        float16 where that is exact; None where the head is whole.

    Raises
    ------
    ValueError
        Rows of a head that keeps none.

    Examples
    --------
    >>> from heads import make_head
    >>> X = np.eye(20, dtype=np.float32)
    >>> head = make_head("knn", n_neighbors=1).fit(X, np.arange(20) % 2)
    >>> slim, rows = take_rows(head, training_rows(head, X))
    >>> rows.dtype
    dtype('float16')
    >>> put_rows(slim, rows)
    >>> bool((slim.predict(X) == head.predict(X)).all())
    True
    """
    if rows is None:
        return head, None
    attribute = _needed_attribute(head)
    scaled = getattr(head[-1], attribute)
    with np.errstate(over="ignore"):  # what is too large for float16 is found unequal
        half = rows.astype(np.float16)
    narrow = half if np.array_equal(half, rows) else rows
    if not np.array_equal(_scale(head, narrow, scaled.dtype), scaled):
        return head, None
    classifier = copy.copy(head[-1])
    setattr(classifier, attribute, np.empty((0, rows.shape[1]), scaled.dtype))
    return Pipeline([head.steps[0], (head.steps[1][0], classifier)]), narrow


def put_rows(head: Any, rows: np.ndarray) -> None:
    """Give a head its training rows back, scaled; it is changed in place.

    Parameters
    ----------
    head : fitted estimator
        What `take_rows` gave.
    rows : array of shape (m, d)
        Its rows as `take_rows` gave them, in any precision that holds them.

    Raises
    ------
    ValueError
        Rows for a head that keeps none, or of another number of features.
    """
    attribute = _needed_attribute(head)
    dtype = getattr(head[-1], attribute).dtype
    setattr(head[-1], attribute, _scale(head, rows, dtype))


def without_tree(head: Any) -> Any:
    """A copy of a head without the search tree that kNN of few features has, or the head itself.

    Parameters
    ----------
    head : fitted estimator

    Returns
    -------
    estimator
        What `grow_tree` makes whole again; a tree is compiled code's own memory, and one that comes
        from elsewhere can't be checked.

    Examples
    --------
    >>> from heads import make_head
    >>> head = make_head("knn", n_neighbors=1).fit(np.eye(9), np.arange(9) % 3)
    >>> without_tree(head)[-1]._tree is None, head[-1]._tree is None
    (True, False)
    """
    steps = getattr(head, "steps", [("", head)])
    if getattr(steps[-1][1], "_tree", None) is None:
        return head
    classifier = copy.copy(steps[-1][1])
    classifier._tree = None
    return Pipeline([*steps[:-1], (steps[-1][0], classifier)]) if steps[-1][0] else classifier


def grow_tree(head: Any) -> None:
    """Give a head the search tree that it has by its own account; it is changed in place.

    Parameters
    ----------
    head : fitted estimator
        With its training rows; the same rows give the same tree.

    Raises
    ------
    ValueError
        Of a tree that can't be.

    Examples
    --------
    >>> from heads import make_head
    >>> head = make_head("knn", n_neighbors=1).fit(np.eye(9), np.arange(9) % 3)
    >>> slim = without_tree(head)
    >>> grow_tree(slim)
    >>> slim.predict(np.eye(9)[:3]).tolist()
    [0, 1, 2]
    """
    classifier = steps_of(head)[-1]
    method = getattr(classifier, "_fit_method", "brute")
    if method == "brute":
        return
    if method not in TREES:
        raise ValueError(f"got search {method!r}, expected brute, {', '.join(TREES)}")
    import sklearn.neighbors

    classifier._tree = getattr(sklearn.neighbors, TREES[method])(
        classifier._fit_X,
        classifier.leaf_size,
        metric=classifier.effective_metric_,
        **classifier.effective_metric_params_,
    )


def _row_attribute(head: Any) -> str | None:
    """The fitted attribute that holds the rows of a scaler and a classifier of the catalogue."""
    name = find_name(head)
    return HEADS[name].keeps_rows if name is not None and len(head.steps) == 2 else None


def _needed_attribute(head: Any) -> str:
    attribute = _row_attribute(head)
    if attribute is None:
        raise ValueError(
            f"got training rows for {type(head).__name__} that keeps none; "
            "give those of a head whose row in the catalogue has `keeps_rows`"
        )
    return attribute


def _scale(head: Any, rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    # float32 is what the head was trained on: the scaler's arithmetic follows its input
    return np.ascontiguousarray(head[0].transform(rows.astype(np.float32)), dtype=dtype)
