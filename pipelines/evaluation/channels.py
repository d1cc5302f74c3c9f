"""Which channels of a layer a fitted head goes by most, of arrays alone."""

from typing import Any

import numpy as np

from heads.linear_scores import linear_scores

WEIGHTS, DIFFERENCES = "weights", "differences"
EVERY = slice(None)


def by_channel(columns: np.ndarray, n_channels: int, n_parts: int = 1) -> np.ndarray:
    """Columns of pooled features beside the channel that they are of.

    Parameters
    ----------
    columns : array of shape (..., d)
        Cells of a grid follow each other, channel after channel.
    n_channels : int
    n_parts : int
        How many poolings of all channels follow each other: 2 of `avgmax`.

    Returns
    -------
    array of shape (..., n_channels, d / n_channels)

    Examples
    --------
    >>> columns = np.array([1, 2, 3, 4])
    >>> by_channel(columns, 2).tolist(), by_channel(columns, 2, n_parts=2).tolist()
    ([[1, 2], [3, 4]], [[1, 3], [2, 4]])
    """
    lead = columns.shape[:-1]
    split = columns.reshape(*lead, n_parts, n_channels, -1)
    return np.moveaxis(split, -3, -2).reshape(*lead, n_channels, -1)


def channel_use(
    head: Any,
    features: np.ndarray,
    labels: np.ndarray,
    n_channels: int,
    n_parts: int = 1,
    columns: slice = EVERY,
) -> tuple[np.ndarray, str]:
    """How much each channel of a layer counts in a head's answers.

    Of a linear head it is the channel's share in the sum of `mean over classes |weight| · standard
    deviation` over all columns: what the column moves the scores by. The weights of other heads
    say no such thing: of these it is how far the classes lie apart in the channel, averaged over
    its cells, by the F-statistic of the analysis of variance (Fisher, 1925).

    Parameters
    ----------
    head : fitted classifier
    features : array of shape (n, d)
        That it was fitted on.
    labels : array of shape (n,)
    n_channels, n_parts : int
        As of `by_channel`.
    columns : slice
        Which of the features are the layer's, by one pooling.

    Returns
    -------
    use : array of shape (n_channels,)
    by : str
        `weights` or `differences`.

    Examples
    --------
    >>> from heads import make_head
    >>> X = np.array([[0.0, 5.0], [1.0, 5.0], [0.1, 5.0], [0.9, 5.0]])
    >>> head = make_head("logistic").fit(X, ["a", "b", "a", "b"])
    >>> use, by = channel_use(head, X, np.array(["a", "b", "a", "b"]), 2)
    >>> use.tolist(), by
    ([1.0, 0.0], 'weights')
    """
    linear = linear_scores(head)
    features = features[:, columns]
    if linear is None:
        pooled = by_channel(features, n_channels, n_parts).mean(axis=2, dtype=np.float64)
        return f_statistic(pooled, labels), DIFFERENCES
    weights = np.abs(linear.weights[:, columns]).mean(axis=0)
    moved = weights * features.std(axis=0, dtype=np.float64)
    of_channel = by_channel(moved, n_channels, n_parts).sum(axis=1)
    return of_channel / (of_channel.sum() or 1.0), WEIGHTS


def f_statistic(columns: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Variance between classes over that within them, by degrees of freedom (Fisher, 1925).

    Parameters
    ----------
    columns : array of shape (n, d)
    labels : array of shape (n,)

    Returns
    -------
    array of shape (d,)
        0 where a column does not vary within classes: it says nothing, or too much to be compared.

    Examples
    --------
    >>> columns = np.array([[0.0, 3.0], [2.0, 3.0], [4.0, 3.0], [6.0, 3.0]])
    >>> f_statistic(columns, np.array(["a", "a", "b", "b"]))
    array([8., 0.])
    """
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.stack([columns[codes == code].mean(axis=0) for code in range(len(classes))])
    between = counts @ (means - columns.mean(axis=0)) ** 2 / max(len(classes) - 1, 1)
    within = ((columns - means[codes]) ** 2).sum(axis=0) / max(len(columns) - len(classes), 1)
    return np.divide(between, within, out=np.zeros_like(between), where=within > 0)
