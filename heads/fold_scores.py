"""Each head scored on one fold, for all values of its grid at once, on work that heads share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from sklearn.svm import SVC

from heads.bases import ROUNDING
from heads.calibration import as_columns
from heads.closed_forms import fit_lda, fit_ridge
from heads.linear import PROBLEMS, Grid, HeadFit, fit_iterative, one_hot
from heads.reduction import Fold
from heads.svm import one_against_rest, pair_decisions

# libsvm leaves a coefficient at its bound this near to it
AT_BOUND = 1e-6

LINEAR: dict[str, HeadFit] = {
    **{name: fit_iterative(name) for name in PROBLEMS},
    "ridge": fit_ridge,
    "lda": fit_lda,
}


class Scored(NamedTuple):
    """What a candidate answers on the m held-out rows of a fold.

    Attributes
    ----------
    scores : array of shape (m, classes)
    labels : array of shape (m,)
        Class numbers.
    certificate : float
        As `Fitted.certificate`; NaN for heads that are not linear.
    """

    scores: np.ndarray
    labels: np.ndarray
    certificate: float = np.nan


def _by_largest(scores: np.ndarray, certificate: float = np.nan) -> Scored:
    return Scored(scores, scores.argmax(axis=1), certificate)


# (fold, codes of its training rows, grid, class weights or None) -> an answer for every candidate
Score = Callable[[Fold, np.ndarray, Grid, np.ndarray | None], list[Scored]]


def _score_linear(name: str) -> Score:
    def score(
        fold: Fold, codes: np.ndarray, grid: Grid, class_weights: np.ndarray | None
    ) -> list[Scored]:
        found = fold.solved.get(name) or LINEAR[name](fold, codes, grid, class_weights)
        others = fold.gram[fold.n :, : fold.n] if found.by_rows else fold.others
        answers = []
        for coef, intercept, certificate in zip(
            found.coef, found.intercept, found.certificate, strict=True
        ):
            answers.append(_by_largest(as_columns(others @ coef.T + intercept), certificate))
        return answers

    return score


def rbf_gamma(gamma: float | str, fold: Fold) -> float:
    """SVC's gamma as a number: "scale" is 1 / (d * variance of all standardised values).

    That variance is the proportion of varying columns.
    """
    if isinstance(gamma, str):
        return 1 / max(fold.varying.sum(), 1)
    return gamma


def _score_rbf_svm(
    fold: Fold, codes: np.ndarray, grid: Grid, class_weights: np.ndarray | None
) -> list[Scored]:
    answers = {}
    for gamma in dict.fromkeys(params["gamma"] for params in grid):
        K = np.exp(-rbf_gamma(gamma, fold) * fold.distances)
        strengths = [(params["C"], i) for i, params in enumerate(grid) if params["gamma"] == gamma]
        free = False
        for C, i in sorted(strengths):
            if not free:
                svc = precomputed_svc(C, class_weights).fit(K[: fold.n], codes)
                last = _svc_answers(svc, K[fold.n :])
                free = _is_free(svc, codes, class_weights)
            answers[i] = last
    return [answers[i] for i in range(len(grid))]


def precomputed_svc(C: float, class_weights: np.ndarray | None) -> SVC:
    """An SVC for kernel matrices, classes by their numbers."""
    weights = None if class_weights is None else dict(enumerate(class_weights))
    # at scikit-learn's 1e-3 decision values are off by as much; 1e-4 takes no longer
    return SVC(C=C, kernel="precomputed", tol=1e-4, class_weight=weights)


def _is_free(svc: SVC, codes: np.ndarray, class_weights: np.ndarray | None) -> bool:
    """Whether no dual coefficient is at its bound: then every larger C has the same optimum."""
    bounds = svc.C * (1.0 if class_weights is None else class_weights[codes[svc.support_]])
    return bool((np.abs(svc.dual_coef_) < (1 - AT_BOUND) * bounds).all())


def _svc_answers(svc: SVC, K: np.ndarray) -> Scored:
    """What SVC's `decision_function` and `predict` give."""
    pairs = pair_decisions(svc, K[:, svc.support_])
    if len(svc.classes_) == 2:
        return Scored(as_columns(pairs[:, 0]), (pairs[:, 0] > 0).astype(int))
    found, votes = one_against_rest(pairs, len(svc.classes_))
    return Scored(found, votes.argmax(axis=1))


class Neighbours(NamedTuple):
    """Distances to the nearest training rows and their numbers, (m, most), nearest first."""

    distances: np.ndarray
    numbers: np.ndarray


def _score_knn(
    fold: Fold, codes: np.ndarray, grid: Grid, class_weights: np.ndarray | None
) -> list[Scored]:
    def find(metric: str, most: int) -> Neighbours:
        return Neighbours(*nearest_rows(DISTANCES[metric](fold), most))

    return answer_neighbours(find, codes, grid)


def answer_neighbours(
    find: Callable[[str, int], Neighbours], codes: np.ndarray, grid: Grid
) -> list[Scored]:
    """What every candidate of a grid answers, by the votes of the neighbours.

    find : (metric, how many) -> the neighbours. codes : class numbers of the rows they are among.
    """
    # the votes (m, most, classes) of the first 1, 2, ... neighbours, by metric and weights
    votes = {}
    for metric in dict.fromkeys(params["metric"] for params in grid):
        same = [params for params in grid if params["metric"] == metric]
        distances, numbers = find(metric, max(params["n_neighbors"] for params in same))
        for weights in dict.fromkeys(params["weights"] for params in same):
            each = np.ones_like(distances) if weights == "uniform" else _closeness(distances)
            of_class = each[:, :, None] * one_hot(codes)[numbers]
            votes[metric, weights] = np.cumsum(of_class, axis=1)
    answers = []
    for params in grid:
        counts = votes[params["metric"], params["weights"]][:, params["n_neighbors"] - 1]
        answers.append(_by_largest(counts / counts.sum(axis=1, keepdims=True)))
    return answers


def _cosine(fold: Fold) -> np.ndarray:
    return cosine_distances(fold.cosines)


def cosine_distances(cosines: np.ndarray) -> np.ndarray:
    """1 - cosine, from 0 to 2."""
    found = np.clip(1 - cosines, 0, 2)
    # equal directions are at distance zero, not at rounding
    found[found < 10 * ROUNDING] = 0
    return found


def _euclidean(fold: Fold) -> np.ndarray:
    return np.sqrt(fold.other_distances)


DISTANCES = {"minkowski": _euclidean, "euclidean": _euclidean, "cosine": _cosine}


def nearest_rows(distances: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The `most` nearest training rows of each row of distances (m, n), nearest first.

    Returns their distances and numbers, (m, most); of equally near ones the earlier comes first.
    """
    found = np.argpartition(distances, most - 1, axis=1)[:, :most]
    # by number first, so that the stable sort by distance leaves equals in that order
    found = np.sort(found, axis=1)
    order = np.take_along_axis(distances, found, 1).argsort(axis=1, kind="stable")
    found = np.take_along_axis(found, order, 1)
    return np.take_along_axis(distances, found, axis=1), found


def _closeness(distances: np.ndarray) -> np.ndarray:
    """1 / distance; where a neighbour is at distance zero, such neighbours alone count."""
    same = distances == 0
    with np.errstate(divide="ignore"):
        return np.where(same.any(axis=1, keepdims=True), same, 1 / distances)


def _score_centroid(
    fold: Fold, codes: np.ndarray, grid: Grid, class_weights: np.ndarray | None
) -> list[Scored]:
    # distances within the training rows' span: what lies outside it is the same for every class
    means, _ = fold.class_means(codes)
    scores = (
        2 * fold.others @ means.T
        - np.sum(means**2, axis=1)
        - np.sum(fold.others**2, axis=1, keepdims=True)
    )
    return [_by_largest(scores)] * len(grid)


def _score_prior(
    fold: Fold, codes: np.ndarray, grid: Grid, class_weights: np.ndarray | None
) -> list[Scored]:
    proportions = np.bincount(codes) / len(codes)
    return [_by_largest(np.tile(proportions, (fold.m, 1)))] * len(grid)


class FoldScorer(NamedTuple):
    """How a head is scored on the work that all heads of a fold share.

    Attributes
    ----------
    score : callable
        (fold, codes, grid, class weights or None) -> the answers of every candidate.
    handled : dict
        The parameters it knows and which of their values; with any other, scikit-learn fits the
        candidate.
    gram : bool
        Whether it needs the inner products of all rows.
    """

    score: Score
    handled: Mapping[str, Callable[[Any], Any]]
    gram: bool = True


def _is_gamma(value: Any) -> bool:
    return value == "scale" or isinstance(value, float)


def _is_knn_weighting(value: Any) -> bool:
    return value in ("uniform", "distance")


def _is_knn_algorithm(value: Any) -> bool:
    # what is exact is one to us; the index is for rows that are read in blocks
    return value in ("auto", "brute", "faiss")


def _is_metric(value: Any) -> bool:
    return value in DISTANCES


def _is_one_number(value: Any) -> bool:
    return np.ndim(value) == 0


def _is_shrinkage(value: Any) -> bool:
    return isinstance(value, float) and 0 < value <= 1


FOLD_SCORERS = {
    "logistic": FoldScorer(_score_linear("logistic"), {"C": np.isfinite}),
    "linear_svm": FoldScorer(_score_linear("linear_svm"), {"C": np.isfinite}),
    "rbf_svm": FoldScorer(_score_rbf_svm, {"C": np.isfinite, "gamma": _is_gamma}),
    "knn": FoldScorer(
        _score_knn,
        {
            "n_neighbors": np.isfinite,
            "weights": _is_knn_weighting,
            "metric": _is_metric,
            "algorithm": _is_knn_algorithm,
        },
        gram=False,
    ),
    "ridge": FoldScorer(_score_linear("ridge"), {"alpha": _is_one_number}),
    "lda": FoldScorer(_score_linear("lda"), {"shrinkage": _is_shrinkage}),
    "centroid": FoldScorer(_score_centroid, {}),
    "prior": FoldScorer(_score_prior, {}, gram=False),
}


def known_parameters(
    name: str, defaults: Mapping[str, Any], changed: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The parameters of a candidate as its `FoldScorer` takes them.

    Parameters
    ----------
    name : str
        The head.
    defaults : dict
        All parameters of its classifier.
    changed : dict
        Those that the candidate sets.

    Returns
    -------
    dict or None
        None where scikit-learn has to fit it.
    """
    handled = FOLD_SCORERS[name].handled
    if not changed.keys() <= handled.keys():
        return None
    values = {key: changed.get(key, defaults[key]) for key in handled}
    for key, accepts in handled.items():
        if not accepts(values[key]):
            return None
    return values
