"""The best of many: what it is worth once its luck is taken out, and which rows tie with it."""

import numpy as np

from pipelines.evaluation.intervals import (
    DRAWS,
    LEVEL,
    draw_counts,
    draw_within_classes,
    percentiles,
    wilson_interval,
)
from pipelines.evaluation.scoring import ACCURACY, Scoring

# float32 products of some thousand rows are exact to about this: a lead below it is none
ROUNDING = 1e-6


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
    percentile interval, of a share of right answers never narrower than Wilson's of the mean: where
    every draw is right it would have no width.

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
    level: float = LEVEL,
) -> tuple[float, float]:
    """Interval of one candidate's score from its facts (n,) -> (low, high).

    Wilson's of accuracy, else the bootstrap's percentiles (Efron & Tibshirani, 1993), images drawn
    within each class.
    """
    if scoring is ACCURACY:
        return wilson_interval(facts.sum(), len(facts), level)
    drawn = draw_within_classes(labels, draws, seed)
    counts = np.array([np.bincount(rows, minlength=len(labels)) for rows in drawn], np.float32)
    return percentiles(scoring.weighted(labels, facts[None], counts)[:, 0], level)


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
