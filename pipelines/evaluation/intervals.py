"""Intervals of figures that come of few images, none of zero width where every answer is right."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm, t

LEVEL = 0.95
DRAWS = 1000
# answers of the kind of all that are added to each class before the variance is taken: a class
# without an error is not one that makes none
BORROWED = 1.0
# Jeffreys' prior: half an image
UNSEEN = 0.5
TINY = 1e-9
OFFSETS = 48  # miscalibrations that the calibration error's interval tries, twice


def wilson_interval(right: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a proportion of `right` among `n` (Wilson, 1927) -> (low, high).

    `n` may be an effective number of images, as in surveys (Korn & Graubard, 1998).
    """
    z = norm.ppf((1 + level) / 2)
    p = right / n
    spread = z * z / n
    centre = (p + spread / 2) / (1 + spread)
    half = z / (1 + spread) * np.sqrt(p * (1 - p) / n + spread / (4 * n))
    # at p of 0 and 1 rounding would put the end a last bit beyond p
    return float(np.clip(centre - half, 0, p)), float(np.clip(centre + half, p, 1))


def nadeau_bengio_interval(
    scores: Sequence[float] | np.ndarray, n_train: float, n_val: float, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of the mean of J fold scores, whose training sets overlap -> (low, high).

    The variance of the mean is taken as (1/J + n_val/n_train) times that of the scores, with t of
    J - 1 degrees of freedom (Nadeau & Bengio, 2003; for repeated cross-validation Bouckaert &
    Frank, 2004). Clipped to 0..1.

    scores : (J,) accuracies, two folds or more, repeats one after the other.
    n_train, n_val : images in a fold's parts.

    Raises ValueError for fewer than two folds.
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(
            f"scores have shape {scores.shape}: expected one of each of two folds or more"
        )
    spread = np.sqrt((1 / len(scores) + n_val / n_train) * scores.var(ddof=1))
    half = t.ppf((1 + level) / 2, len(scores) - 1) * spread
    return float(max(scores.mean() - half, 0)), float(min(scores.mean() + half, 1))


def effective_images(sizes: np.ndarray) -> float:
    """So many images, evenly over the classes, tell a mean over the classes as well as these."""
    sizes = sizes[sizes > 0]
    return float(len(sizes) ** 2 / np.sum(1 / sizes))


def recall_interval(
    labels: np.ndarray, right: np.ndarray, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of balanced accuracy, the mean of the classes' recalls -> (low, high).

    Wilson's, with the number of images that would have the variance of that mean (as in surveys:
    Korn & Graubard, 1998). The variance is that of smoothed recalls, so that it is one at all-right
    answers too.

    labels : (n,) class numbers. right : (n,) whether an image is predicted right.
    """
    codes = np.unique(labels, return_inverse=True)[1]
    sizes = np.bincount(codes)
    hits = np.bincount(codes, right)
    recalls = (hits + BORROWED * _kind(hits, sizes)) / (sizes + BORROWED)
    variance = np.sum(recalls * (1 - recalls) / sizes) / len(sizes) ** 2
    value = float(np.mean(hits / sizes))
    return _by_effective_images(value, float(recalls.mean()), float(variance), level)


def f1_interval(
    labels: np.ndarray, predicted: np.ndarray, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of macro F1 -> (low, high).

    The variance by the delta method (Takahashi et al., 2022), images drawn within classes, at
    smoothed shares of the answers; made an interval as that of balanced accuracy.

    labels, predicted : (n,) class numbers.
    """
    codes = np.unique(np.concatenate([labels, predicted]), return_inverse=True)[1]
    n_classes = int(codes.max()) + 1
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (codes[: len(labels)], codes[len(labels) :]), 1)
    sizes = counts.sum(axis=1)
    value = float(np.mean(2 * np.diag(counts) / (sizes + counts.sum(axis=0))))
    right = _kind(np.diag(counts), sizes)
    borrowed = np.full(counts.shape, (1 - right) / max(n_classes - 1, 1))
    np.fill_diagonal(borrowed, right)
    rates = (counts + BORROWED * borrowed) / (sizes + BORROWED)[:, None]
    expected = sizes[:, None] * rates
    total = sizes + expected.sum(axis=0)
    f1 = 2 * np.diag(expected) / total
    # what one more answer k adds to the F1 of k, and adds where it is right
    slopes = np.tile(-f1 / total, (n_classes, 1)) + np.diag(2 / total)
    mean = (rates * slopes).sum(axis=1, keepdims=True)
    variance = np.sum(sizes * (rates * (slopes - mean) ** 2).sum(axis=1)) / n_classes**2
    return _by_effective_images(value, float(f1.mean()), float(variance), level)


def _kind(hits: np.ndarray, sizes: np.ndarray) -> float:
    """Mean recall with two right and two wrong answers added to all (Agresti & Coull, 1998)."""
    there = sizes > 0
    n = effective_images(sizes)
    return float((np.mean(hits[there] / sizes[there]) * n + 2) / (n + 4))


def _by_effective_images(
    value: float, smoothed: float, variance: float, level: float
) -> tuple[float, float]:
    n = max(smoothed * (1 - smoothed) / variance, 1.0) if variance > 0 else 1.0
    return wilson_interval(value * n, n, level)


def area_interval(
    area: float, n_first: int, n_second: int, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of an area under the ROC curve -> (low, high); NaN where a class has no image.

    The areas whose own standard error, that of Hanley & McNeil (1982) with both classes' counts
    replaced by their mean, leaves the one observed within reach (Newcombe, 2006, method 5).
    """
    if not np.isfinite(area):
        return float("nan"), float("nan")
    z = norm.ppf((1 + level) / 2)
    more = (n_first + n_second) / 2 - 1

    def variance(true: float) -> float:
        by_pairs = 1 + more * (1 - true) / (2 - true) + more * true / (1 + true)
        return true * (1 - true) * by_pairs / (n_first * n_second)

    def excess(true: float) -> float:
        return (true - area) ** 2 - z * z * variance(true)

    # at 0 and 1 the area is itself a root, and not the end that is looked for
    low = brentq(excess, 0, min(area, 1 - TINY)) if area > TINY else 0.0
    high = brentq(excess, max(area, TINY), 1) if area < 1 - TINY else 1.0
    return float(min(low, area)), float(max(high, area))


def loss_interval(
    losses: np.ndarray,
    if_other: np.ndarray,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Interval of a mean loss -> (low, high).

    Percentiles of the Bayesian bootstrap (Rubin, 1981), in which half an image more (Jeffreys'
    prior) is what was not seen: one image's loss had its truth been another class, so a right
    answer been wrong. Deviations are widened as t is against the normal.

    losses, if_other : (n,) of every image, and had its truth been another class.
    """
    rng = np.random.default_rng(seed)
    n = len(losses)
    weights = rng.standard_exponential((draws, n))
    unseen = rng.gamma(UNSEEN, size=draws)
    which = rng.integers(n, size=draws)
    drawn = (weights @ losses + unseen * if_other[which]) / (weights.sum(axis=1) + unseen)
    value = float(losses.mean())
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    tail = (1 + level) / 2
    wider = t.ppf(tail, max(n - 1, 1)) / norm.ppf(tail)
    return min(value, value + wider * (low - value)), max(value, value + wider * (high - value))


def calibration_interval(
    confidence: np.ndarray,
    right: np.ndarray,
    bins: np.ndarray,
    draws: int = DRAWS // 4,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Interval of the expected calibration error over bins -> (low, high), the value within.

    By inversion of a test (Carpenter, 1999): calibrations that are off by so much, each bin in the
    direction seen, are in it where a set of this size gives the error observed. So it holds 0 where
    the error is no more than chance makes of perfect calibration. Upwards it holds those too of
    which all bins are overconfident: of few images, all right, nothing else can be seen.

    confidence, right, bins : (n,) of each image.
    """
    rng = np.random.default_rng(seed)
    numbers, own = np.unique(bins, return_inverse=True)
    sizes = np.bincount(own, minlength=len(numbers))
    means = np.bincount(own, confidence) / sizes
    rates = np.bincount(own, right.astype(float)) / sizes
    value = float(np.sum(sizes * np.abs(rates - means)) / len(right))
    low = high = value
    # over all that there can be, finer at the ends, and within four deviations of what is seen
    everywhere = (1 - np.cos(np.pi * np.linspace(0, 1, OFFSETS))) / 2
    near = value + np.linspace(-2, 2, OFFSETS) / np.sqrt(len(right))
    offsets = np.concatenate([everywhere, np.clip(near, 0, 1)])
    seen = np.sign(rates - means)
    for direction in (seen, np.full(len(means), -1.0)):
        true = np.clip(means + offsets[:, None] * direction, 0, 1)
        errors = np.abs(true - means) @ sizes / len(right)
        hits = rng.binomial(sizes, true, size=(draws, *true.shape))
        drawn = np.abs(hits - sizes * means).sum(axis=2) / len(right)
        equal = np.mean(np.abs(drawn - value) <= TINY, axis=0) / 2
        reach_up = np.mean(drawn > value + TINY, axis=0) + equal >= (1 - level) / 2
        reach_down = np.mean(drawn < value - TINY, axis=0) + equal >= (1 - level) / 2
        if direction is seen:
            low = min([low, *errors[reach_up]])
        high = max([high, *errors[reach_down]])
    return float(low), float(high)


def percentiles(values: Sequence[float] | np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Quantiles (1 - level)/2 and (1 + level)/2 of bootstrap values (Efron & Tibshirani, 1993)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def draw_within_classes(labels: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """(draws, n) rows of a bootstrap within classes: each is drawn as often as it is.

    So no class goes missing from a draw, and metrics that average over the classes stay defined.
    """
    rng = np.random.default_rng(seed)
    rows_by_class = [np.flatnonzero(labels == code) for code in np.unique(labels)]
    drawn = [rows[rng.integers(len(rows), size=(draws, len(rows)))] for rows in rows_by_class]
    return np.concatenate(drawn, axis=1)


def draw_counts(n: int, draws: int, seed: int) -> np.ndarray:
    """(draws, n) float32: how often a bootstrap draws each of n images with replacement."""
    rng = np.random.default_rng(seed)
    # float32: the counts are factors of matrix products, and exact in it
    return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float32)
