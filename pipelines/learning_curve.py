"""The learning curve: score against number of training images per class, from features that are there already."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from heads import HeadSearchCV, find_head
from pipelines.scores import wilson_interval
from pipelines.scoring import no_score

POINTS, DRAWS, LEAST = 6, 3, 2


@dataclass(frozen=True)
class Point:
    """One size of training set: images and images per class on average, accuracy and its interval at 95 %."""

    images: float
    per_class: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """Points from few images to all; `gain` is what the last doubling brought, with its interval at 95 %.

    The gain is None where there is one point alone.
    """

    points: tuple[Point, ...]
    gain: float | None
    gain_low: float | None
    gain_high: float | None


def learning_curve(
    features: np.ndarray,
    labels: np.ndarray,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    head: str,
    params: dict,
    *,
    class_weight: str | None = None,
    n_jobs: int = 1,
    seed: int = 0,
) -> LearningCurve:
    """Accuracy of one head with all, half, a quarter, … of each split's training images, down to two a class.

    The smaller sets are drawn within each class, three times, each inside the next larger one. An accuracy is the
    mean over draws and validation images. Its variance is that of the images' means plus that of the draws' means,
    each over its count (for images crossed with draws: Owen, 2007, "The pigeonhole bootstrap"; a little too wide),
    made an interval by Wilson's with the number of images that would give it. All images are one
    draw: what other training images would have done is not in the last interval.

    features : (n, d). labels : (n,) class names. splits : (training, validation) rows: folds of a
    cross-validation, or one pair of training and test rows.
    head, params : as in a leaderboard row; neighbours are no more than there are training images.

    Raises ValueError for an unknown head.
    """
    labels = np.asarray(labels)
    tested = np.unique(np.concatenate([rows for _, rows in splits]))
    ranks = [
        _draw_ranks(labels, splits, np.random.default_rng([seed, draw])) for draw in range(DRAWS)
    ]
    points, means, draws = [], [], []
    for share in _shares(labels, splits):
        drawn = [
            [
                (_first(labels, train, own, share), val)
                for (train, val), own in zip(splits, by_split, strict=True)
            ]
            for by_split in (ranks if share < 1 else ranks[:1])
        ]
        right = np.array(
            [
                _right(features, labels, parts, head, params, class_weight, n_jobs)[tested]
                for parts in drawn
            ]
        )
        images = np.mean([len(train) for parts in drawn for train, _ in parts])
        points.append(_point(images, len(np.unique(labels)), right))
        means.append(right.mean(axis=0))
        draws.append(_draw_variance(right))
    if len(points) == 1:
        return LearningCurve(tuple(points), None, None, None)
    difference = means[-1] - means[-2]
    half = norm.ppf(0.975) * np.sqrt(difference.var() / len(difference) + draws[-2])
    gain = float(difference.mean())
    return LearningCurve(tuple(points), gain, float(gain - half), float(gain + half))


def _shares(labels, splits):
    """Shares of the training images, from small to 1: halves while every class that can keeps LEAST images or more."""
    largest = min(np.unique(labels[train], return_counts=True)[1].max() for train, _ in splits)
    halvings = min(POINTS - 1, int(np.log2(max(largest / LEAST, 1))))
    return [0.5**power for power in range(halvings, -1, -1)]


def _draw_ranks(labels, splits, rng):
    """For each split the place of every training row in a random order of its class, 0 first."""
    ranks = []
    for train, _ in splits:
        own = np.empty(len(train), int)
        for name in np.unique(labels[train]):
            mine = np.flatnonzero(labels[train] == name)
            own[rng.permutation(mine)] = np.arange(len(mine))
        ranks.append(own)
    return ranks


def _first(labels, train, ranks, share):
    """The rows of `train` that are among the first `share` of their class, LEAST where there are as many."""
    _, codes, counts = np.unique(labels[train], return_inverse=True, return_counts=True)
    return train[ranks < np.maximum(np.round(share * counts), LEAST)[codes]]


def _right(features, labels, parts, head, params, class_weight, n_jobs):
    """(n,) 1 where the head, trained on the other part, is right; NaN for rows in no validation part."""
    fewest = min(len(train) for train, _ in parts)
    row = find_head(head)
    bounded = {row.prefix + name for name in row.bounded_by_rows}
    grid = {key: [min(value, fewest) if key in bounded else value] for key, value in params.items()}
    search = HeadSearchCV(
        {head: grid},
        cv=parts,
        refit=False,
        scoring=no_score,
        class_weight=class_weight,
        n_jobs=n_jobs,
    )
    scores = search.fit(features, labels).oof_scores_[0]
    known = np.isfinite(scores).all(axis=1)
    predicted = search.classes_[np.where(known[:, None], scores, 0).argmax(axis=1)]
    return np.where(known, predicted == labels, np.nan)


def _draw_variance(right):
    return right.mean(axis=1).var(ddof=1) / len(right) if len(right) > 1 else 0.0


def _point(images, classes, right):
    accuracy, n = float(right.mean()), right.shape[1]
    variance = right.mean(axis=0).var() / n + _draw_variance(right)
    effective = accuracy * (1 - accuracy) / variance if variance > 0 else n
    low, high = wilson_interval(accuracy * effective, effective)
    return Point(float(images), float(images / classes), accuracy, low, high)
