"""Each head on one fold, for all values of its grid at once, from inner products that all heads share."""

from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed
from sklearn.svm import SVC

from heads.calibration import as_columns
from heads.reduction import MOST_SHARED_ROWS, ROUNDING
from heads.solvers import solve

# how near the optimum the start of other solutions has to be
START = 1e-2
# the certificate that solutions reach
TOL = 2e-4
# steps by products before columns are tried
PATIENCE = 300
# so many of a fold's standard deviations its means may lie away from those of all rows, to share their columns
NEAR = 30


def one_hot(codes):
    """(n,) class numbers as (n, classes) of 0 and 1."""
    return np.eye(codes.max() + 1)[codes]


class Fitted(NamedTuple):
    """A linear head on one fold, for every row of parameters.

    coef : (rows, k, r), k being 1 for two classes as in scikit-learn; on the columns of `fold.train`, or
        combinations of the fold's training rows where `by_rows`
    intercept : (rows, k)
    n_iter, certificate : (rows,), zero for closed forms
    """

    coef: np.ndarray
    intercept: np.ndarray
    n_iter: np.ndarray
    certificate: np.ndarray
    by_rows: bool = False


def _closed_form(coef, intercept):
    return Fitted(coef, intercept, np.zeros(len(coef), dtype=int), np.zeros(len(coef)))


# Linear heads: (fold, codes, rows of parameters, class weights or None) -> Fitted.


def fit_logistic(fold, codes, rows, class_weights, tol=TOL):
    """LogisticRegression: softmax for several classes, sigmoid for two."""
    weights = np.ones(len(codes)) if class_weights is None else class_weights[codes]
    targets = one_hot(codes).T
    loss, targets = ("softmax", targets) if len(targets) > 2 else ("sigmoid", targets[1:])
    C = [row["C"] for row in rows]
    if all(strength in fold.solved for strength in C):
        return Fitted(*_centred(loss, *map(np.stack, zip(*map(fold.solved.get, C), strict=True))))
    starts = [fold.starts.get(strength) for strength in C]
    usable = all(start is not None and len(start[1]) == len(targets) for start in starts)
    start = [np.stack(part) for part in zip(*starts, strict=True)] if usable else None
    found, by_rows = _solve_on(
        fold, fold.by_products, loss, targets[None], weights[None, None], C, start=start, tol=tol
    )
    return Fitted(*_centred(loss, *found), by_rows)


def _solve_on(fold, by_rows, loss, *problems, tol=TOL, **options):
    """(solution, whether by rows): by products where `by_rows`, unless rows of low rank leave them too few digits."""
    if by_rows:
        found = solve(loss, fold.products, *problems, tol=tol, max_iter=PATIENCE, quiet=True, **options)
        if (found.certificate <= tol).all():
            return found, True
        fold.refine()
    return solve(loss, fold.columns, *problems, tol=tol, **options), False


def _centred(loss, coef, intercept, certificate, n_iter):
    """A number added to all intercepts of a softmax changes nothing; scikit-learn's sum to zero."""
    return coef, intercept - (intercept.mean(axis=1, keepdims=True) if loss == "softmax" else 0), n_iter, certificate


def solve_folds(whole, folds, codes, rows, class_weights, n_jobs=None):
    """Solve the logistic head of folds at d <= n together: sets `solved` of the folds, `starts` of all.

    First on all rows, roughly, where the folds start from: half their work. Then all folds of one C as a batch
    over the columns of all rows, held-out ones of weight 0, each fold's scale as factors: one wide product takes
    half the time of as many narrow ones. Each solution is certified by its own gradient, so neither moves it
    by more than the certificate allows. The batches are the same for every `n_jobs`: it changes no bit.

    Parameters
    ----------
    whole, folds : Fold and list of Fold
    codes : array of shape (n_all,)
    rows : list of dict
    class_weights : list of arrays (classes,) or None
        Of all rows, then of every fold.
    """
    ordered = sorted({row["C"]: row for row in rows}.values(), key=lambda row: -row["C"])
    halves = [part for part in (ordered[::4] + ordered[3::4], ordered[1::4] + ordered[2::4]) if part]
    parallel = Parallel(n_jobs=n_jobs, prefer="threads")
    solved = parallel(delayed(fit_logistic)(whole, codes, part, class_weights[0], START) for part in halves)
    for part, found in zip(halves, solved, strict=True):
        for row, coef, intercept in zip(part, found.coef, found.intercept, strict=True):
            for fold in [whole, *folds]:
                shift = (fold.mean - whole.mean) / whole.scale
                fold.starts[row["C"]] = coef * (fold.scale / whole.scale), intercept + coef @ shift
    together = [
        (fold, weights)
        for fold, weights in zip(folds, class_weights[1:], strict=True)
        if len(np.unique(codes[fold.rows[: fold.n]])) == codes.max() + 1 and np.abs(_offsets(whole, fold)).max() < NEAR
    ]
    if together:
        parallel(delayed(_solve_together)(whole, together, codes, row["C"]) for row in ordered)


def _offsets(whole, fold):
    return (fold.mean - whole.mean) / fold.scale


def _solve_together(whole, folds, codes, C):
    """Set `solved` at C of some of the folds, given with their class weights."""
    targets = one_hot(codes).T
    loss, targets = ("softmax", targets) if len(targets) > 2 else ("sigmoid", targets[1:])
    weights, factors, starts = np.zeros((len(folds), 1, whole.n)), np.ones((len(folds), 1, whole.d + 1)), []
    for (fold, class_weights), weight, factor in zip(folds, weights[:, 0], factors[:, 0], strict=True):
        train = fold.rows[: fold.n]
        weight[train] = 1 if class_weights is None else class_weights[codes[train]]
        # a column that does not vary in the fold is zero there
        factor[:-1] = np.where(fold.varying, whole.scale / fold.scale, 0)
        coef, intercept = fold.starts[C]
        starts.append((coef, intercept - coef @ _offsets(whole, fold)))
    start = [np.stack(part) for part in zip(*starts, strict=True)]
    found = solve(loss, whole.columns.scaled(factors), targets[None], weights, np.full(len(folds), C), start=start)
    for i, (fold, _) in enumerate(folds):
        intercept = found.intercept[i] + found.coef[i] @ _offsets(whole, fold)
        fold.solved[C] = found.coef[i], intercept, found.certificate[i], found.n_iter[i]


def fit_linear_svm(fold, codes, rows, class_weights):
    """LinearSVC: squared hinge, one class against the rest, the intercept penalised as a coefficient.

    As in LIBLINEAR, the weight of a class counts for its own rows against the rest, not for the rest.
    """
    k = codes.max() + 1
    signs = 2 * one_hot(codes).T - 1
    weights = np.ones(signs.shape)
    if class_weights is not None:
        weights = np.where(signs > 0, class_weights[:, None], 1.0 if k > 2 else class_weights[codes])
    if k == 2:
        signs, weights = signs[1:], weights[1:]
    # products pay from fewer columns on than for the logistic head: few rows bend, and these are solved directly
    by_rows = fold.n <= MOST_SHARED_ROWS and fold.n < 2 * fold.d
    # one batch of every class at every C, a solution for the next smaller C beside
    C = np.array([row["C"] for row in rows])
    order, before = np.argsort(C, kind="stable"), np.full(len(C), -1)
    before[order[1:]] = order[:-1]
    follows = (before[:, None] * len(signs) + np.arange(len(signs))).ravel()
    C, signs, weights = np.repeat(C, len(signs)), *(np.tile(part, (len(C), 1))[:, None] for part in (signs, weights))
    problems = "squared_hinge", signs, weights, C
    found, by_rows = _solve_on(fold, by_rows, *problems, penalize_intercept=True, follows=follows)
    coef, intercept, certificate, n_iter = (part.reshape(len(rows), -1, *part.shape[2:]) for part in found)
    return Fitted(coef, intercept, n_iter.max(axis=1), certificate.max(axis=1), by_rows)


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
    coef = np.stack([(vectors @ (turned / (np.maximum(values, 0) + row["alpha"])[:, None])).T for row in rows])
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


LINEAR = {"logistic": fit_logistic, "linear_svm": fit_linear_svm, "ridge": fit_ridge, "lda": fit_lda}


def _score_linear(name):
    def score(fold, codes, rows, class_weights):
        found = LINEAR[name](fold, codes, rows, class_weights)
        others = fold.gram[fold.n :, : fold.n] if found.by_rows else fold.others
        scores = [as_columns(others @ w.T + b) for w, b in zip(found.coef, found.intercept, strict=True)]
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
    """What SVC's `decision_function` and `predict` give, from one evaluation of its pairs of classes."""
    pairs = svc.set_params(decision_function_shape="ovo").decision_function(K)
    if len(svc.classes_) == 2:
        return as_columns(pairs), (pairs > 0).astype(int)
    first, second = np.triu_indices(len(svc.classes_), 1)
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
    near = np.take_along_axis(near, np.take_along_axis(distances, near, 1).argsort(axis=1, kind="stable"), 1)
    return np.take_along_axis(distances, near, axis=1), near


def _closeness(distances):
    """1 / distance; where a neighbour is at distance zero, such neighbours alone count."""
    same = distances == 0
    with np.errstate(divide="ignore"):
        return np.where(same.any(axis=1, keepdims=True), same, 1 / distances)


def _score_centroid(fold, codes, rows, class_weights):
    # distances within the training rows' span: what lies outside it is the same for every class
    means, _ = class_means(fold.train, codes)
    scores = 2 * fold.others @ means.T - np.sum(means**2, axis=1) - np.sum(fold.others**2, axis=1, keepdims=True)
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
    "lda": Shared(_score_linear("lda"), {"shrinkage": lambda value: isinstance(value, float) and 0 < value <= 1}),
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
    known = changed.keys() <= handled.keys() and all(check(values[key]) for key, check in handled.items())
    return values if known else None
