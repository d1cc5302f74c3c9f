"""Accuracies with intervals, and what the best of many is worth once its luck is taken out."""

import numpy as np
from scipy.stats import norm


def wilson_interval(right: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion of `right` among `n` (Wilson, 1927) -> (low, high)."""
    z = norm.ppf((1 + level) / 2)
    p, spread = right / n, z * z / n
    centre = (p + spread / 2) / (1 + spread)
    half = z / (1 + spread) * np.sqrt(p * (1 - p) / n + spread / (4 * n))
    return float(np.clip(centre - half, 0, p)), float(np.clip(centre + half, p, 1))


def corrected_accuracy(right: np.ndarray, draws: int = 1000, seed: int = 0, level: float = 0.95):
    """Accuracy of the best of many candidates, corrected for the choice -> (mean, low, high).

    right: (candidates, n) bool, whether each candidate's out-of-fold prediction of each image is right.
    Bootstrap bias-corrected cross-validation (Tsamardinos et al., 2018): in each draw of images the best
    candidate is chosen on the images drawn and scored on those left out.
    """
    rng = np.random.default_rng(seed)
    n = right.shape[1]
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float32)
    values = right.T.astype(np.float32)
    best = (drawn @ values).argmax(axis=1)
    out = drawn == 0
    counts = out.sum(axis=1)
    usable = counts > 0
    scores = (out * right[best]).sum(axis=1)[usable] / counts[usable]
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(scores.mean()), float(low), float(high)


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes of the share of their images that is predicted right."""
    return float(np.mean([(predicted[labels == name] == name).mean() for name in np.unique(labels)]))
