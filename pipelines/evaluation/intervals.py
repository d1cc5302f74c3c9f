"""Intervals at 95 % of a proportion, of fold scores, and of values drawn by a bootstrap."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm, t

LEVEL = 0.95
DRAWS = 1000


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
