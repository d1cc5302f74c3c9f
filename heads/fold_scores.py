"""Each head on one fold, for all values of its grid at once, from inner products that all heads share."""

from typing import NamedTuple

import numpy as np
from sklearn.svm import SVC

from heads.calibration import as_columns
from heads.linear import PROBLEMS, Fitted, fit_iterative, one_hot
from heads.bases import ROUNDING

# pairs of classes at a time: of hundreds of classes all pairs' coefficients would fill memory
PAIRS = 500


def _closed_form(coef, intercept):
    return Fitted(coef, intercept, np.zeros(len(coef)), np.zeros(len(coef), dtype=int))


# Linear heads: (fold, codes, rows of parameters, class weights or None) -> Fitted.


def fit_ridge(fold, codes, rows, class_weights):
    """RidgeClassifier: least squares on -1 and 1, in closed form for every alpha."""
    Z, Y = fold.train, 2 * one_hot(codes) - 1
    if Y.shape[1] == 2:
        Y = Y[:, 1:]
    weights = np.ones(len(codes)) if class_weights is None else class_weights[codes]
    center, middle = np.average(Z, axis=0, weights=weights), np.average(Y, axis=0, weights=weights)
    if class_weights is None:
        values, vectors = fold.spectrum
    else:
        root = np.sqrt(weights)[:, None]
        values, vectors = np.linalg.eigh((root * (Z - center)).T @ (root * (Z - center)))
    turned = vectors.T @ ((Z - center).T @ (weights[:, None] * (Y - middle)))
    coef = np.stack(
        [(vectors @ (turned / (np.maximum(values, 0) + row["alpha"])[:, None])).T for row in rows]
    )
    return _closed_form(coef, middle - coef @ center)


def fit_lda(fold, codes, rows, class_weights):
    """LinearDiscriminantAnalysis with a shrunk covariance; its classifier takes no class weights.

    The within-class covariance in the eigenvectors' basis is diagonal less one rank per class, so its inverse is
    a system of the classes' size (Woodbury's identity).
    """
    means, shares = class_means(fold.train, codes)
    values, vectors = fold.spectrum
    means, squares = means @ vectors, values / len(codes)
    spread = (squares.sum() - np.sum(shares[:, None] * means**2)) / fold.d
    coefs, intercepts = [], []
    for row in rows:
        shrunk = row["shrinkage"]
        diagonal = (1 - shrunk) * squares + shrunk * spread
        U = np.sqrt((1 - shrunk) * shares)[:, None] * means
        inner = np.eye(len(U)) - (U / diagonal) @ U.T
        coef = means / diagonal
        coef += (coef @ U.T) @ np.linalg.solve(inner, U / diagonal)
        intercept = np.log(shares) - np.einsum("ij,ij->i", means, coef) / 2
        if len(shares) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        coefs.append(coef @ vectors.T)
        intercepts.append(intercept)
    return _closed_form(np.stack(coefs), np.stack(intercepts))


def class_means(Z, codes):
    """Means (classes, r) and shares (classes,) of the classes."""
    counts = np.bincount(codes)
    return one_hot(codes).T @ Z / counts[:, None], counts / len(codes)


LINEAR = {name: fit_iterative(name) for name in PROBLEMS} | {"ridge": fit_ridge, "lda": fit_lda}


def _score_linear(name):
    def score(fold, codes, rows, class_weights):
        found = fold.solved.get(name) or LINEAR[name](fold, codes, rows, class_weights)
        others = fold.gram[fold.n :, : fold.n] if found.by_rows else fold.others
        scores = [
            as_columns(others @ w.T + b) for w, b in zip(found.coef, found.intercept, strict=True)
        ]
        return [
            (part, part.argmax(axis=1), certificate)
            for part, certificate in zip(scores, found.certificate, strict=True)
        ]

    return score


def rbf_gamma(gamma, fold):
    """SVC's gamma as a number: the variance of all standardised values is the share of varying columns."""
    return 1 / max(fold.varying.sum(), 1) if gamma == "scale" else gamma


def _score_rbf_svm(fold, codes, rows, class_weights):
    answers = {}
    for gamma in dict.fromkeys(row["gamma"] for row in rows):
        K = np.exp(-rbf_gamma(gamma, fold) * fold.distances)
        same = sorted((row["C"], i) for i, row in enumerate(rows) if row["gamma"] == gamma)
        free = False
        for C, i in same:
            if not free:
                svc = precomputed_svc(C, class_weights).fit(K[: fold.n], codes)
                last = _svc_answers(svc, K[fold.n :])
                free = _is_free(svc, codes, class_weights)
            answers[i] = last
    return [answers[i] for i in range(len(rows))]


def _is_free(svc, codes, class_weights):
    """Whether no dual coefficient is at its bound: then every larger C has the same optimum."""
    bounds = svc.C * (1.0 if class_weights is None else class_weights[codes[svc.support_]])
    return bool((np.abs(svc.dual_coef_) < (1 - 1e-6) * bounds).all())


def _svc_answers(svc, K):
    """What SVC's `decision_function` and `predict` give, from products for many of its pairs of classes."""
    support = K[:, svc.support_]
    if len(svc.classes_) == 2:
        margins = support @ svc.dual_coef_[0] + svc.intercept_[0]
        return as_columns(margins), (margins > 0).astype(int)
    first, second = np.triu_indices(len(svc.classes_), 1)
    # a row's coefficients against the classes other than its own, in their order
    own, against = (
        np.repeat(np.arange(len(svc.classes_)), svc.n_support_)[:, None],
        svc.dual_coef_.T,
    )
    pairs = [
        support @ np.where(own == i, against[:, j - 1], (own == j) * against[:, i])
        for i, j in (
            (first[at : at + PAIRS], second[at : at + PAIRS]) for at in range(0, len(first), PAIRS)
        )
    ]
    pairs = np.hstack(pairs) + svc.intercept_
    won = pairs > 0
    votes, sums = np.zeros((2, len(K), len(svc.classes_)))
    for pair, (i, j) in enumerate(zip(first, second, strict=True)):
        votes[:, i] += won[:, pair]
        votes[:, j] += ~won[:, pair]
        sums[:, i] += pairs[:, pair]
        sums[:, j] -= pairs[:, pair]
    # votes are whole; the sums of the pairs' values move them by less than half, scikit-learn's own rule
    return votes + sums / (3 * (np.abs(sums) + 1)), votes.argmax(axis=1)


def precomputed_svc(C, class_weights):
    """An SVC for kernel matrices, classes by their numbers."""
    weights = None if class_weights is None else dict(enumerate(class_weights))
    # at scikit-learn's 1e-3 decision values are off by as much; 1e-4 takes no longer
    return SVC(C=C, kernel="precomputed", tol=1e-4, class_weight=weights)


def _score_knn(fold, codes, rows, class_weights):
    votes = {}
    for metric in dict.fromkeys(row["metric"] for row in rows):
        most = max(row["n_neighbors"] for row in rows if row["metric"] == metric)
        distances, near = nearest(METRICS[metric](fold), most)
        for weights in dict.fromkeys(row["weights"] for row in rows if row["metric"] == metric):
            each = np.ones_like(distances) if weights == "uniform" else _closeness(distances)
            votes[metric, weights] = np.cumsum(each[:, :, None] * one_hot(codes)[near], axis=1)
    scores = [votes[row["metric"], row["weights"]][:, row["n_neighbors"] - 1] for row in rows]
    shares = [part / part.sum(axis=1, keepdims=True) for part in scores]
    return [(part, part.argmax(axis=1)) for part in shares]


def _cosine(fold):
    found = np.clip(1 - fold.cosines, 0, 2)
    found[found < 10 * ROUNDING] = 0
    return found


def _euclidean(fold):
    return np.sqrt(fold.other_distances)


METRICS = {"minkowski": _euclidean, "euclidean": _euclidean, "cosine": _cosine}


def nearest(distances, most):
    """The `most` nearest of each row, nearest first: distances (m, most) and column numbers (m, most)."""
    near = np.sort(np.argpartition(distances, most - 1, axis=1)[:, :most], axis=1)
    near = np.take_along_axis(
        near, np.take_along_axis(distances, near, 1).argsort(axis=1, kind="stable"), 1
    )
    return np.take_along_axis(distances, near, axis=1), near


def _closeness(distances):
    """1 / distance; where a neighbour is at distance zero, such neighbours alone count."""
    same = distances == 0
    with np.errstate(divide="ignore"):
        return np.where(same.any(axis=1, keepdims=True), same, 1 / distances)


def _score_centroid(fold, codes, rows, class_weights):
    # distances within the training rows' span: what lies outside it is the same for every class
    means, _ = class_means(fold.train, codes)
    scores = (
        2 * fold.others @ means.T
        - np.sum(means**2, axis=1)
        - np.sum(fold.others**2, axis=1, keepdims=True)
    )
    return [(scores, scores.argmax(axis=1))] * len(rows)


def _score_prior(fold, codes, rows, class_weights):
    shares = np.bincount(codes) / len(codes)
    scores = np.tile(shares, (fold.m, 1))
    return [(scores, scores.argmax(axis=1))] * len(rows)


class Shared(NamedTuple):
    """How a head is scored on shared work.

    score : (fold, codes, rows, class weights) -> for every row its scores (m, classes) and class numbers (m,), and
        for linear heads the certificate of the solution
    handled : the parameters it knows and which of their values; with any other, scikit-learn fits the row
    gram : whether it needs the inner products of all rows
    """

    score: callable
    handled: dict
    gram: bool = True


SHARED = {
    "logistic": Shared(_score_linear("logistic"), {"C": np.isfinite}),
    "linear_svm": Shared(_score_linear("linear_svm"), {"C": np.isfinite}),
    "rbf_svm": Shared(
        _score_rbf_svm,
        {"C": np.isfinite, "gamma": lambda value: value == "scale" or isinstance(value, float)},
    ),
    "knn": Shared(
        _score_knn,
        {
            "n_neighbors": np.isfinite,
            "weights": lambda value: value in ("uniform", "distance"),
            "metric": lambda value: value in METRICS,
        },
        gram=False,
    ),
    "ridge": Shared(_score_linear("ridge"), {"alpha": lambda value: np.ndim(value) == 0}),
    "lda": Shared(
        _score_linear("lda"),
        {"shrinkage": lambda value: isinstance(value, float) and 0 < value <= 1},
    ),
    "centroid": Shared(_score_centroid, {}),
    "prior": Shared(_score_prior, {}, gram=False),
}


def known_parameters(name, defaults, changed):
    """The parameters of a candidate as the shared work takes them, or None where scikit-learn has to fit it.

    Parameters
    ----------
    name : str
        The head.
    defaults : dict
        All parameters of its classifier.
    changed : dict
        Those that the candidate sets.
    """
    handled = SHARED[name].handled
    values = {key: changed.get(key, defaults[key]) for key in handled}
    known = changed.keys() <= handled.keys() and all(
        check(values[key]) for key, check in handled.items()
    )
    return values if known else None
