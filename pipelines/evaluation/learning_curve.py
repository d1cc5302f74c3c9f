"""The learning curve: accuracy against training images per class, from features that are there."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from joblib import delayed

from heads import HEADS, HeadSearchCV, oof_probabilities
from heads.blended import Member
from heads.catalog import find_head
from pipelines.evaluation.comparison import paired_interval
from pipelines.evaluation.intervals import wilson_interval
from pipelines.evaluation.random_views import folds_of, labels_of
from pipelines.evaluation.scoring import no_score
from pipelines.evaluation.search import Search, in_parallel
from pipelines.evaluation.workers import compute

POINTS, DRAWS, LEAST = 6, 3, 2
Splits = Sequence[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Point:
    """One size of training set, images and per class on average; accuracy, interval at 95 %."""

    images: float
    per_class: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """Points from few images to all; `gain`: what the last doubling brought, interval at 95 %.

    The gain is None where there is one point alone.
    """

    points: tuple[Point, ...]
    gain: float | None
    gain_low: float | None
    gain_high: float | None


def learning_curve(
    members: Iterable[tuple[np.ndarray, Sequence[Member]]], labels: np.ndarray, search: Search
) -> LearningCurve:
    """Accuracy of a leaderboard row with all, half, a quarter, … of the training images, to two a
    class.

    The smaller sets are drawn within each class, three times, each inside the next larger one. Of a
    blend every member is trained on them, and their probabilities are averaged by its weights. An
    accuracy is the mean over draws and validation images. Its variance is that of the images' means
    plus that of the draws' means, each over its count (images crossed with draws: Owen, 2007, "The
    pigeonhole bootstrap"), made an interval by Wilson's with the number of images that would give
    it. The gain's interval is that of a paired difference (Agresti & Min, 2005). All images are one
    draw: what other training images would have done is not in the last interval.

    members : features (n, d), or with random views of the n images below, with the row's members
        that take them, each features once; parameters that a head bounds by the number of its
        training rows (neighbours) are no more than there are. Out-of-fold scores that they have are
        those over the folds of `search`: of all training images nothing is computed again.
    labels : (n,) class names.
    search : its folds are (training, validation) rows of a cross-validation, or one pair of
        training and test rows; its heads are not asked for.

    Raises ValueError for an unknown head.
    """
    labels = np.asarray(labels)
    classes, codes = np.unique(labels, return_inverse=True)
    tested = np.unique(np.concatenate([val for _, val in search.folds]))
    drawn = _draw(labels, search)
    means = [[np.zeros((len(labels), len(classes))) for _ in draws] for draws in drawn]
    # the largest first, dealt out in turn so that all parts take as long
    places = [(i, j) for i in reversed(range(len(drawn))) for j in range(len(drawn[i]))]
    n_parts = max(1, search.n_jobs or 1)
    parts = [places[first::n_parts] for first in range(n_parts) if places[first:]]

    def jobs() -> Iterator:
        for features, own in members:
            for part in parts:
                yield delayed(_of_part)(features, labels, own, search, drawn, part)

    for part, found in zip(
        itertools.cycle(parts), in_parallel(jobs(), search.n_jobs), strict=False
    ):
        for (i, j), of_place in zip(part, found, strict=True):
            means[i][j] += of_place
    points, right_means, draw_variances = [], [], []
    for of_size, draws in zip(means, drawn, strict=True):
        right = np.array([mean[tested].argmax(axis=1) == codes[tested] for mean in of_size], float)
        images = np.mean([len(train) for reduced in draws for train, _ in reduced])
        points.append(_point(float(images), len(classes), right))
        right_means.append(right.mean(axis=0))
        draw_variances.append(_draw_variance(right))
    if len(points) == 1:
        return LearningCurve(tuple(points), None, None, None)
    difference = right_means[-1] - right_means[-2]
    low, high = paired_interval(difference, more_variance=draw_variances[-2])
    return LearningCurve(tuple(points), float(difference.mean()), low, high)


def _draw(labels: np.ndarray, search: Search) -> list[list[Splits]]:
    """For each share of the training images its draws of them: one of all, else DRAWS."""
    splits = search.folds
    rngs = [np.random.default_rng([search.seed or 0, draw]) for draw in range(DRAWS)]
    ranks = [_draw_ranks(labels, splits, rng) for rng in rngs]
    return [
        [
            [
                (_first(labels, train, own, share), val)
                for (train, val), own in zip(splits, ranks_by_split, strict=True)
            ]
            for ranks_by_split in (ranks if share < 1 else ranks[:1])
        ]
        for share in _fractions(labels, splits)
    ]


def _fractions(labels: np.ndarray, splits: Splits) -> list[float]:
    """Shares of the training images, small to 1: halves while a class keeps LEAST images."""
    largest = min(np.unique(labels[train], return_counts=True)[1].max() for train, _ in splits)
    halvings = min(POINTS - 1, int(np.log2(max(largest / LEAST, 1))))
    return [0.5**power for power in range(halvings, -1, -1)]


def _draw_ranks(labels: np.ndarray, splits: Splits, rng: np.random.Generator) -> list[np.ndarray]:
    """For each split the place of every training row in a random order of its class, 0 first."""
    ranks = []
    for train, _ in splits:
        own = np.empty(len(train), int)
        for name in np.unique(labels[train]):
            of_class = np.flatnonzero(labels[train] == name)
            own[rng.permutation(of_class)] = np.arange(len(of_class))
        ranks.append(own)
    return ranks


def _first(labels: np.ndarray, train: np.ndarray, ranks: np.ndarray, share: float) -> np.ndarray:
    """The rows of `train` among the first `share` of their class, LEAST where there are as many."""
    _, codes, counts = np.unique(labels[train], return_inverse=True, return_counts=True)
    return train[ranks < np.maximum(np.round(share * counts), LEAST)[codes]]


def _of_part(
    features: np.ndarray,
    labels: np.ndarray,
    members: Sequence[Member],
    search: Search,
    drawn: Sequence[Sequence[Splits]],
    places: Sequence[tuple[int, int]],
) -> list[np.ndarray]:
    """`_probabilities` of the draws at some places, from a worker."""
    unknown = [replace(member, oof=None) for member in members]
    tasks = [
        (
            list(members) if i == len(drawn) - 1 else unknown,
            replace(search.alone(), folds=drawn[i][j]),
        )
        for i, j in places
    ]
    return compute(search.workers, _all_probabilities, lambda: (features, labels, tasks))


def _all_probabilities(
    features: np.ndarray,
    labels: np.ndarray,
    tasks: Sequence[tuple[Sequence[Member], Search]],
) -> list[np.ndarray]:
    return [_probabilities(features, labels, members, search) for members, search in tasks]


def _probabilities(
    features: np.ndarray, labels: np.ndarray, members: Sequence[Member], search: Search
) -> np.ndarray:
    """(n, classes) the members' share of the averaged out-of-fold probabilities; 0 where none."""
    # as the leaderboard judges: each fold by the calibration of the others, where there are others
    validation = [val for _, val in search.folds] if len(search.folds) > 1 else None
    classes = np.unique(labels)
    weighted = [
        member.weight
        * oof_probabilities(
            scores,
            HEADS[member.head].scores,
            labels,
            classes,
            validation,
            search.class_weight,
        )
        for member, scores in zip(members, _scores(features, labels, members, search), strict=True)
    ]
    return np.nan_to_num(np.sum(weighted, axis=0))


def _scores(
    features: np.ndarray, labels: np.ndarray, members: Sequence[Member], search: Search
) -> Sequence[np.ndarray]:
    """Each member's (n, classes) out-of-fold scores: those that it has, else computed."""
    known = [member.oof for member in members if member.oof is not None]
    if len(known) == len(members):
        return known
    n = len(labels)
    folds = folds_of(features, n, search.folds)
    fewest = min(len(train) for train, _ in folds)
    found = HeadSearchCV(
        {member.head: _grid(member.head, member.params, fewest) for member in members},
        cv=folds,
        refit=False,
        scoring=no_score,
        class_weight=search.class_weight,
        n_jobs=search.n_jobs,
    ).fit(features, labels_of(features, labels))
    return found.oof_scores_[:, :n]


def _grid(name: str, params: dict, n_train: int) -> dict[str, list]:
    """A grid of the one setting, held to what a training set of this size allows."""
    head = find_head(name)
    bounded = {head.prefix + parameter for parameter in head.bounded_by_rows}
    return {
        parameter: [min(value, n_train) if parameter in bounded else value]
        for parameter, value in params.items()
    }


def _draw_variance(right: np.ndarray) -> float:
    """Variance of the mean by the draws: theirs, less what the images make of it by chance."""
    if len(right) < 2:
        return 0.0
    by_chance = right.var(axis=0, ddof=1).mean() / right.shape[1]
    return max(float(right.mean(axis=1).var(ddof=1) - by_chance), 0.0) / len(right)


def _point(images: float, classes: int, right: np.ndarray) -> Point:
    accuracy = float(right.mean())
    n = right.shape[1]
    variance = right.mean(axis=0).var() / n + _draw_variance(right)
    # so many images would have this variance by chance alone
    effective = accuracy * (1 - accuracy) / variance if variance > 0 else n
    low, high = wilson_interval(accuracy * effective, effective)
    return Point(images, images / classes, accuracy, low, high)
