"""Scores with intervals, what the best of many is worth once its luck is taken out, and which rows tie with it."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import norm, rankdata, t

from heads import HEADS
from pipelines.scoring import SCORINGS, Scoring

ACCURACY = SCORINGS["accuracy"]
DRAWS = 1000
BINS = 15


def wilson_interval(right: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion of `right` among `n` (Wilson, 1927) -> (low, high).

    `n` may be an effective number of images, as in surveys (Korn & Graubard, 1998).
    """
    z = norm.ppf((1 + level) / 2)
    p, spread = right / n, z * z / n
    centre = (p + spread / 2) / (1 + spread)
    half = z / (1 + spread) * np.sqrt(p * (1 - p) / n + spread / (4 * n))
    return float(np.clip(centre - half, 0, p)), float(np.clip(centre + half, p, 1))


def nadeau_bengio_interval(
    scores, n_train: float, n_val: float, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean of J fold scores that allows for the overlap of their training sets -> (low, high).

    The variance of the mean is taken as (1/J + n_val/n_train) times that of the scores, with t of J - 1 degrees
    of freedom (Nadeau & Bengio, 2003; for repeated cross-validation Bouckaert & Frank, 2004). Clipped to 0..1.

    scores: (J,) accuracies, two folds or more, repeats one after the other. n_train, n_val: images in a fold's parts.
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(
            f"scores have shape {scores.shape}: expected one of each of two folds or more"
        )
    spread = np.sqrt((1 / len(scores) + n_val / n_train) * scores.var(ddof=1))
    half = t.ppf((1 + level) / 2, len(scores) - 1) * spread
    return float(max(scores.mean() - half, 0)), float(min(scores.mean() + half, 1))


# Each metric: labels (n,) and predicted (n,) as class numbers, probabilities (n, classes) -> a number.


def accuracy(labels, predicted, probabilities=None) -> float:
    """Share of the images that is predicted right."""
    return float(np.mean(labels == predicted))


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray, probabilities=None) -> float:
    """Mean over the classes of their recall: the share of their images that is predicted right."""
    return float(np.mean(list(per_class_recall(labels, predicted).values())))


def per_class_recall(labels: np.ndarray, predicted: np.ndarray) -> dict:
    """{class: share of its images that is predicted right}, for the classes that have images."""
    names, codes = np.unique(labels, return_inverse=True)
    right = np.bincount(codes, np.asarray(labels) == predicted, len(names))
    return dict(zip(names.tolist(), (right / np.bincount(codes)).tolist(), strict=True))


def macro_f1(labels, predicted, probabilities=None) -> float:
    """Mean over the classes, labelled or predicted, of F1 = 2 TP / (2 TP + FP + FN) (van Rijsbergen, 1979)."""
    names, codes = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    own, said = codes[: len(labels)], codes[len(labels) :]
    both = np.bincount(own[own == said], minlength=len(names))
    return float(
        np.mean(
            2
            * both
            / (np.bincount(own, minlength=len(names)) + np.bincount(said, minlength=len(names)))
        )
    )


def log_loss(labels, predicted, probabilities) -> float:
    """Mean of -ln p, p the probability given to the true class, in nats (Good, 1952); p counts as 1e-15 or more."""
    own = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, 1e-15)).mean())


def brier_score(labels, predicted, probabilities) -> float:
    """Mean over images of the squared distance between their probabilities and 0/1 truth, summed over the classes:
    0 is perfect, 2 the worst (Brier, 1950). For two classes it is twice what scikit-learn gives."""
    own = probabilities[np.arange(len(labels)), labels]
    return float(np.mean((probabilities**2).sum(axis=1) - 2 * own + 1))


def calibration_error(labels, predicted, probabilities) -> float:
    """Expected calibration error: |accuracy - mean confidence| in BINS bins of equal width over the top probability,
    weighted by their images (Naeini et al., 2015; Guo et al., 2017, who take 15 bins too). Confident means the
    predicted class's probability. With few images a bin's accuracy is noisy and the figure too high."""
    confidence = probabilities[np.arange(len(labels)), predicted]
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, (labels == predicted) - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def roc_auc(labels, predicted, probabilities) -> float:
    """Two classes: the chance that an image of the second is given a higher probability of it than one of the first,
    ties counting half: the area under the ROC curve (Hanley & McNeil, 1982). NaN where a class has no image."""
    second = np.asarray(labels) == 1
    n_second, n_first = second.sum(), (~second).sum()
    if not n_second or not n_first:
        return float("nan")
    ranks = rankdata(probabilities[:, 1])[second].sum()
    return float((ranks - n_second * (n_second + 1) / 2) / (n_second * n_first))


METRICS: Mapping[str, Callable] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "log_loss": log_loss,
    "brier_score": brier_score,
    "calibration_error": calibration_error,
    "roc_auc": roc_auc,
}


def measure(
    labels,
    predicted,
    probabilities,
    classes: Sequence,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, dict[str, float]]:
    """Every metric with its interval -> {name: {"value", "low", "high"}}; `roc_auc` for two classes alone.

    Accuracy has Wilson's interval. The others have the percentile interval of a bootstrap of the images, drawn
    within each class so that no class goes missing (Efron & Tibshirani, 1993); calibration error, which a draw
    with repeats tends to raise, has the basic one of theirs: twice the value less the percentiles, held around the
    value.

    labels, predicted : (n,) among `classes`. probabilities : (n, classes), columns in the order of `classes`,
    which is sorted.
    """
    classes = np.asarray(classes)
    labels, predicted = (np.searchsorted(classes, values) for values in (labels, predicted))
    names = [name for name in METRICS if name != "roc_auc" or len(classes) == 2]
    found = {name: METRICS[name](labels, predicted, probabilities) for name in names}
    rows = _draws_within_classes(labels, draws, seed)
    resampled = {
        name: [
            METRICS[name](labels[drawn], predicted[drawn], probabilities[drawn]) for drawn in rows
        ]
        for name in names
        if name != "accuracy"
    }
    intervals = {name: percentiles(values, level) for name, values in resampled.items()}
    intervals["accuracy"] = wilson_interval((labels == predicted).sum(), len(labels), level)
    low, high = intervals["calibration_error"]
    value = found["calibration_error"]
    intervals["calibration_error"] = max(2 * value - high, 0.0), max(2 * value - low, value)
    return {
        name: {"value": found[name], "low": intervals[name][0], "high": intervals[name][1]}
        for name in names
    }


def paired_difference(
    metric: str, labels, first, second, draws: int = DRAWS, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """Metric of the first classifier less that of the second on the same images -> (difference, low, high).

    Percentile bootstrap that draws each image with both answers to it (Efron & Tibshirani, 1993).

    labels : (n,) class numbers. first, second : (predicted (n,) class numbers, probabilities (n, classes)).
    """
    score = METRICS[metric]

    def difference(rows):
        own = [
            score(labels[rows], predicted[rows], shares[rows])
            for predicted, shares in (first, second)
        ]
        return own[0] - own[1]

    values = [difference(drawn) for drawn in _draws_within_classes(labels, draws, seed)]
    return difference(np.arange(len(labels))), *percentiles(values, level)


def percentiles(values, level: float = 0.95) -> tuple[float, float]:
    """The (1 - level)/2 and (1 + level)/2 quantiles of bootstrap values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _draws_within_classes(labels, draws, seed):
    """(draws, n) rows: each class as often as it is, its images drawn with replacement."""
    rng = np.random.default_rng(seed)
    parts = [np.flatnonzero(labels == code) for code in np.unique(labels)]
    return np.concatenate(
        [part[rng.integers(len(part), size=(draws, len(part)))] for part in parts], axis=1
    )


def corrected_score(
    facts: np.ndarray,
    scoring: Scoring = ACCURACY,
    labels: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Score of the best of many candidates, corrected for the choice -> (mean, low, high).

    Bootstrap bias-corrected cross-validation (Tsamardinos et al., 2018): in each draw of images the best
    candidate is chosen on the images drawn and scored on those left out. The interval is their percentile interval,
    of a share of right answers never narrower than Wilson's of the mean: where every draw is right it would have
    no width.

    facts : (candidates, n), of accuracy whether each candidate's out-of-fold prediction of each image is right.
    labels : (n,) class numbers, for scorings other than accuracy.
    """
    n, drawn = facts.shape[1], _multinomial(facts.shape[1], draws, seed)
    values, out = scoring.weighted(labels, facts, drawn), np.asarray(drawn == 0, np.float32)
    best = np.where(np.isnan(values), -np.inf, values).argmax(axis=1)
    scores = np.full(draws, np.nan)
    for candidate in np.unique(best):
        own = np.flatnonzero((best == candidate) & out.any(axis=1))
        if len(own):
            scores[own] = scoring.weighted(labels, facts[[candidate]], out[own])[:, 0]
    scores = scores[np.isfinite(scores)]
    mean = float(scores.mean())
    low, high = percentiles(scores, level)
    if not scoring.proportion:
        return mean, low, high
    least_low, least_high = wilson_interval(mean * n, n, level)
    return mean, min(low, least_low), max(high, least_high)


def score_interval(
    facts: np.ndarray,
    scoring: Scoring,
    labels: np.ndarray,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Interval of one candidate's score, facts (n,): Wilson's of accuracy, else the bootstrap's percentiles (Efron &
    Tibshirani, 1993), images drawn within each class."""
    if scoring is ACCURACY:
        return wilson_interval(facts.sum(), len(facts), level)
    rows = _draws_within_classes(labels, draws, seed)
    counts = np.array([np.bincount(row, minlength=len(labels)) for row in rows], np.float32)
    return percentiles(scoring.weighted(labels, facts[None], counts)[:, 0], level)


def _multinomial(n, draws, seed):
    """(draws, n) how often each image is drawn with replacement."""
    return (
        np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float32)
    )


def tied_with_best(
    facts: np.ndarray,
    scoring: Scoring = ACCURACY,
    labels: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> np.ndarray:
    """(rows,) bool: which rows the best one does not beat beyond chance; the best is among them.

    Multiple comparisons with the best (Hsu, 1981), by a bootstrap of the images: a row is left out where the best
    leads it by more than the largest lead of any row over it, each less its own score, reaches in `level` of
    the draws. All rows are compared at once, so the luck of being the best of many counts for nothing. Rows left out
    are then no longer compared with, until none is left out (step-down, as Hansen, Lunde & Nason, 2011, do): a poor
    row's large chance errors would otherwise excuse the others.
    It speaks of the heads as trained in the folds: what other training images would do is not in it.

    facts, labels : as in `corrected_score`.
    """
    means = scoring.values(labels, facts)
    around = scoring.weighted(labels, facts, _multinomial(facts.shape[1], draws, seed))
    around = around[np.isfinite(around).all(axis=1)] - means
    tied = np.ones(len(means), bool)
    while True:
        places = np.flatnonzero(tied)
        reached = [
            np.quantile((around[:, places] - around[:, [row]]).max(axis=1), level) for row in places
        ]
        left_out = places[means.max() - means[places] > np.array(reached) + 1e-6]
        if not len(left_out):
            return tied
        tied[left_out] = False


def simplest(rows: Sequence, tied: np.ndarray) -> int:
    """The place of the simplest leaderboard row among the tied.

    Fewest members (a blend has several, each a head), then a head that keeps no training rows, then the narrowest
    features, then the better score: the earlier row.

    rows : leaderboard rows, best first, with `head`, `dim` and `members`.
    """
    costs = {
        place: (
            len(row.members) if row.head == "blend" else 1,
            HEADS[row.head].cost if row.head in HEADS else 0,
            row.dim,
            place,
        )
        for place, row in enumerate(rows)
        if tied[place]
    }
    return min(costs, key=costs.get)
