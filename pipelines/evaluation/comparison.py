"""The best of many: what it is worth once its luck is taken out, and which rows tie with it."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import norm

from pipelines.evaluation.intervals import (
    DRAWS,
    LEVEL,
    area_interval,
    draw_counts,
    draw_within_classes,
    effective_images,
    f1_interval,
    loss_interval,
    percentiles,
    recall_interval,
    wilson_interval,
)
from pipelines.evaluation.metrics import log_losses_if_other
from pipelines.evaluation.scoring import ACCURACY, SCORINGS, Scoring, best_first

# float32 products of some thousand rows are exact to about this: a lead below it is none
ROUNDING = 1e-6
Folds = Sequence[tuple[np.ndarray, np.ndarray]]


def corrected_score(
    facts: np.ndarray,
    scoring: Scoring = ACCURACY,
    labels: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float, float]:
    """Score of the best of many candidates, corrected for the choice -> (mean, low, high).

    Bootstrap bias-corrected cross-validation (Tsamardinos et al., 2018): in each draw of images the
    best candidate is chosen on the images drawn and scored on those left out. The interval is their
    percentile interval, never narrower about the mean than `score_interval` is about the best
    candidate's own score: where every draw is right it would have no width.

    facts : (candidates, n), of accuracy whether each candidate's out-of-fold prediction of each
        image is right.
    labels : (n,) class numbers, for scorings other than accuracy.
    """
    n = facts.shape[1]
    counts = draw_counts(n, draws, seed)
    left_out = np.asarray(counts == 0, np.float32)
    values = scoring.weighted(labels, facts, counts)
    best = np.where(np.isnan(values), -np.inf, values).argmax(axis=1)
    scores = np.full(draws, np.nan)
    # by candidate, not by draw: few candidates are ever the best, and each takes one product
    for candidate in np.unique(best):
        own = np.flatnonzero((best == candidate) & left_out.any(axis=1))
        if len(own):
            scores[own] = scoring.weighted(labels, facts[[candidate]], left_out[own])[:, 0]
    scores = scores[np.isfinite(scores)]
    mean = float(scores.mean())
    low, high = percentiles(scores, level)
    if scoring is ACCURACY:
        least_low, least_high = wilson_interval(mean * n, n, level)
    else:
        alone = facts[best_first(scoring.values(labels, facts))]
        shift = mean - float(scoring.values(labels, alone[None])[0])
        ends = score_interval(alone, scoring, labels, seed, level)
        least_low, least_high = ends[0] + shift, min(ends[1] + shift, scoring.perfect)
    return mean, min(low, least_low), max(high, least_high)


def score_interval(
    facts: np.ndarray,
    scoring: Scoring,
    labels: np.ndarray | None,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Interval of one candidate's score from its facts (n,) -> (low, high), as `measure` has it.

    labels : (n,) class numbers.
    """
    return _SCORE_INTERVALS[scoring.name](facts, labels, seed, level)


def _of_log_loss(
    facts: np.ndarray, labels: np.ndarray, seed: int, level: float
) -> tuple[float, float]:
    if_other = log_losses_if_other(np.exp(facts))
    low, high = loss_interval(-facts, if_other, seed=seed, level=level)
    return -high, -low


def _of_area(facts: np.ndarray, labels: np.ndarray, seed: int, level: float) -> tuple[float, float]:
    area = float(SCORINGS["roc_auc"].values(labels, facts[None])[0])
    return area_interval(area, int((labels == 0).sum()), int((labels == 1).sum()), level)


_SCORE_INTERVALS: dict[str, Callable[..., tuple[float, float]]] = {
    "accuracy": lambda facts, labels, seed, level: wilson_interval(facts.sum(), len(facts), level),
    "balanced_accuracy": lambda facts, labels, seed, level: recall_interval(labels, facts, level),
    "f1_macro": lambda facts, labels, seed, level: f1_interval(labels, facts, level),
    "neg_log_loss": _of_log_loss,
    "roc_auc": _of_area,
}


def paired_interval(
    differences: np.ndarray, level: float = LEVEL, more_variance: float = 0.0
) -> tuple[float, float]:
    """Interval of the mean of what one row gets right beyond another, image by image.

    Agresti & Min (2005): half an image is added to each of the four outcomes, right or wrong by
    right or wrong, so it has a width where the rows never differ, too; it goes beyond their right
    and wrong by taking any differences between -1 and 1.

    differences : (n,) first less second. more_variance : of the mean, by what is not in the images.
    """
    n = len(differences) + 2
    mean = differences.sum() / n
    variance = ((differences**2).sum() + 1) / n - mean**2
    half = norm.ppf((1 + level) / 2) * np.sqrt(variance / n + more_variance)
    return float(max(mean - half, -1)), float(min(mean + half, 1))


def difference_interval(
    facts: np.ndarray,
    scoring: Scoring,
    labels: np.ndarray,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float, float]:
    """Score of one row less another's on the same images -> (difference, low, high).

    Of accuracy by `paired_interval`; else normal, by the standard deviation over a bootstrap that
    draws images within classes and scores both rows on them, and the variance that half an image in
    each outcome has where no image differs: it is never of zero width.

    facts : (2, n) of the first and the second row. labels : (n,) class numbers.
    """
    values = scoring.values(labels, facts)
    difference = float(values[0] - values[1])
    if scoring is ACCURACY:
        return (difference, *paired_interval(facts[0].astype(float) - facts[1], level))
    drawn = draw_within_classes(labels, DRAWS, seed)
    counts = np.array([np.bincount(rows, minlength=len(labels)) for rows in drawn], np.float32)
    scores = scoring.weighted(labels, facts, counts)
    least = 1 / (effective_images(np.bincount(labels)) + 2)
    spread = np.sqrt((scores[:, 0] - scores[:, 1]).var() + least**2)
    half = norm.ppf((1 + level) / 2) * spread
    return difference, float(difference - half), float(difference + half)


def choose_without_fold(
    facts: np.ndarray, codes: np.ndarray, folds: Folds, scoring: Scoring
) -> np.ndarray:
    """(n,) facts of the row that is best without a fold, on that fold; of equals the earlier row.

    facts : (rows, n), best row first. folds : (training, validation) rows.
    """
    chosen = facts[0].copy()
    for _, val in folds:
        others = np.setdiff1d(np.arange(len(codes)), val)
        best = best_first(scoring.values(codes[others], facts[:, others]))
        chosen[val] = facts[best, val]
    return chosen


def tied_with_best(
    facts: np.ndarray,
    scoring: Scoring = ACCURACY,
    labels: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> np.ndarray:
    """(rows,) bool: which rows the best one does not beat beyond chance; the best is among them.

    Multiple comparisons with the best (Hsu, 1981), by a bootstrap of the images: a row is left out
    where the best leads it by more than the largest lead of any row over it, each less its own
    score, reaches in `level` of the draws. All rows are compared at once, so the luck of being the
    best of many counts for nothing. Rows left out are then no longer compared with, until none is
    left out (step-down, as Hansen, Lunde & Nason, 2011, do): a poor row's large chance errors would
    otherwise excuse the others.
    It speaks of the heads as trained in the folds: what other training images would do is not in
    it.

    facts, labels : as in `corrected_score`.
    """
    means = scoring.values(labels, facts)
    drawn = scoring.weighted(labels, facts, draw_counts(facts.shape[1], draws, seed))
    # each draw's chance error of each row; a draw that misses a class may have no score
    errors = drawn[np.isfinite(drawn).all(axis=1)] - means
    tied = np.ones(len(means), bool)
    while True:
        places = np.flatnonzero(tied)
        leads_by_chance = np.array(
            [
                np.quantile((errors[:, places] - errors[:, [place]]).max(axis=1), level)
                for place in places
            ]
        )
        left_out = places[means.max() - means[places] > leads_by_chance + ROUNDING]
        if not len(left_out):
            return tied
        tied[left_out] = False
