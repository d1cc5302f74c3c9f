"""Heads that are trained on random views of images beside the images: whose rows train on what.

Where features have more rows than there are images, the first n are the images as they are, then
come those of each random view, in the images' order.
"""

from typing import Any

import numpy as np


def labels_of(X: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels of all rows of X from those (n,) of the images.

    Examples
    --------
    >>> labels_of(np.zeros((4, 1)), np.array(["a", "b"])).tolist()
    ['a', 'b', 'a', 'b']
    """
    return np.tile(labels, len(X) // len(labels))


def folds_of(X: np.ndarray, n: int, folds: Any) -> Any:
    """The folds of n images over the rows of X: all views of an image train where it does.

    Images are judged as they are, so that no view is in a validation part, and the out-of-fold
    scores are those of the first n rows.

    folds : (train, validation) index pairs; of images without random views they stay as they are.

    Examples
    --------
    >>> [(train, validation)] = folds_of(np.zeros((6, 1)), 3, [(np.array([0, 2]), np.array([1]))])
    >>> train.tolist(), validation.tolist()
    ([0, 2, 3, 5], [1])
    """
    if len(X) == n:
        return folds
    starts = range(0, len(X), n)
    return [
        (np.concatenate([np.asarray(train) + start for start in starts]), validation)
        for train, validation in folds
    ]
