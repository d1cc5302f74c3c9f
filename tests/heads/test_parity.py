"""Parity of the solvers with scikit-learn's heads, run to convergence on the same folds."""

import warnings
from itertools import product

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold

from heads import HEADS, HeadSearchCV, fold_scores, head_scores, make_head

# decision values: relative to the largest of a fold
BAR = 1e-3
# what cv_results_ certifies; refitted coefficients are rounded once more
CERTIFIED = 2e-4

# scikit-learn run to convergence. Its newton-cg stops by the gradient of the mean loss, whose
# curvature is 1 / (n C) where the classes are apart: see `converged` for large C
CONVERGED = {
    "logistic": {"solver": "newton-cg", "tol": 1e-8, "max_iter": 10_000},
    "linear_svm": {"tol": 1e-9},
    "rbf_svm": {"tol": 1e-8},
}
GRIDS = {
    "logistic": {"C": [1e-4, 1e-2, 1.0]},
    "linear_svm": {"C": [1e-5, 1e-3, 1e-2]},
    "rbf_svm": {"C": [10.0], "gamma": ["scale", 0.002]},
    "knn": {
        "metric": ["euclidean", "cosine"],
        "n_neighbors": [7, 1],
        "weights": ["uniform", "distance"],
    },
    "ridge": {"alpha": [1e6, 1e3, 1.0]},
    "lda": {"shrinkage": [0.9, 0.01]},
    "centroid": {},
    "prior": {},
}


def classes_of(n, d, k, seed=0, spread=1.0, counts=None):
    """Rectified projections of a latent cloud per class: correlated columns, some of them constant.

    `counts` are the rows per class instead of n and k.
    """
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k if counts is None else np.repeat(np.arange(len(counts)), counts)
    latent = 2 * rng.normal(size=(y.max() + 1, 12))[y] + rng.normal(size=(len(y), 12))
    X = (
        latent @ rng.normal(size=(12, d)) / 3
        + rng.normal(size=(len(y), d))
        + rng.normal(size=d)
        - 1
    )
    return np.maximum(X, 0) * np.exp(spread * rng.normal(size=d)), y


def with_scales(n, d):
    """Columns from 1e-3 to 1e6."""
    X, y = classes_of(n, d, 3, spread=0)
    return X * np.random.default_rng(1).permutation(np.geomspace(1e-3, 1e6, d)), y


def with_duplicates(n, d):
    """A third of the rows repeat others, ten of them with another label."""
    X, y = classes_of(n, d, 3)
    again = y[: n // 2].copy()
    again[-10:] = (again[-10:] + 1) % 3
    return np.vstack([X, X[: n // 2]]), np.r_[y, again]


def of_low_rank(n, d):
    X, y = classes_of(n, 15, 3)
    return X @ np.random.default_rng(1).normal(size=(15, d)), y


def with_dead_columns(n, d):
    X, y = classes_of(n, d, 4)
    X[:, ::3] = 7.5
    return np.c_[X, X[:, 1], 1e-9 * X[:, 2], 1e6 + X[:, 4]], y


def with_offset(n, d):
    """float32 whose mean is 10,000 times the deviation."""
    X, y = classes_of(n, d, 3, spread=0.3)
    return (X + 1e4).astype(np.float32), y


CASES = {
    "wide": classes_of(120, 400, 5),
    "tall": classes_of(300, 20, 4),
    "square": classes_of(120, 96, 3),
    "twelve rows": classes_of(12, 60, 2),
    "two classes": classes_of(120, 200, 2),
    "two classes, tall": classes_of(200, 10, 2),
    "scales apart": with_scales(120, 200),
    "scales apart, tall": with_scales(150, 30),
    # 1 to 50, the smallest class with as many rows as there are folds
    "imbalance": classes_of(0, 250, 0, counts=[150, 30, 3]),
    "imbalance, tall": classes_of(0, 20, 0, counts=[150, 30, 3]),
    "imbalance of two": classes_of(0, 250, 0, counts=[150, 3]),
    "imbalance of two, tall": classes_of(0, 10, 0, counts=[150, 3]),
    "many classes": classes_of(120, 130, 40),
    "100 classes": classes_of(300, 30, 100),
    "duplicates": with_duplicates(80, 150),
    "duplicates, tall": with_duplicates(120, 20),
    "low rank": of_low_rank(120, 200),
    "low rank, tall": of_low_rank(120, 60),
    "dead columns": with_dead_columns(80, 150),
    "dead columns, tall": with_dead_columns(100, 60),
    "offset": with_offset(120, 200),
    "offset, tall": with_offset(150, 30),
}


def converged(name, params, X, y, class_weight=None):
    """scikit-learn's head, at its optimum."""
    weighted = {"class_weight": class_weight} if HEADS[name].weighted else {}
    head = make_head(name, **CONVERGED.get(name, {}), **weighted).set_params(**params)
    X = X.astype(np.float64)
    classifier = head[-1]
    if name == "logistic":
        classifier.tol /= max(classifier.C, 1)
    return _converged_linear_svm(head, X, y) if name == "linear_svm" else head.fit(X, y)


def _converged_linear_svm(head, X, y, max_iter=1000):
    """The primal or the dual of LIBLINEAR, whichever ends; at large C neither may."""
    svm = head[-1].set_params(max_iter=max_iter)
    wide = X.shape[1] > len(X)
    for dual in (wide, not wide):
        svm.set_params(dual=dual)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            head.fit(X, y)
        if svm.n_iter_ < max_iter:
            return head
    assert svm.class_weight is None
    # the dual of the squared hinge: least squares in coefficients that are not negative
    Z = np.c_[head[0].transform(X), np.ones(len(X))]
    for i, label in enumerate(svm.classes_[-len(svm.coef_) :]):
        rows = np.where(y == label, 1.0, -1.0)[:, None] * Z
        factor = np.linalg.cholesky(rows @ rows.T + np.eye(len(X)) / (2 * svm.C))
        found = nnls(factor.T, np.linalg.solve(factor, np.ones(len(X))), maxiter=10_000)[0] @ rows
        svm.coef_[i], svm.intercept_[i] = found[:-1], found[-1]
    return head


def slack(name, head, X):
    """By how much scores (n, classes) may differ where rounding decides.

    Votes of pairs, and neighbours that are equally near.
    """
    free = np.zeros((len(X), len(head.classes_)))
    if name == "rbf_svm" and len(head.classes_) > 2:
        pairs = (
            head[-1]
            .set_params(decision_function_shape="ovo")
            .decision_function(head[0].transform(X))
        )
        head[-1].set_params(decision_function_shape="ovr")
        level = np.abs(pairs) <= BAR * np.abs(pairs).max()
        for pair, classes in enumerate(zip(*np.triu_indices(len(head.classes_), 1), strict=True)):
            free[:, classes] += level[:, pair, None]
    if name == "knn":
        k = head[-1].n_neighbors
        if k < head[-1].n_samples_fit_:
            distances = head[-1].kneighbors(head[0].transform(X), k + 1)[0]
            free[distances[:, k] - distances[:, k - 1] <= 1e-9 * distances[:, k]] = 1
    return free


def check_scores(name, head, found, X, row):
    """Scores (n, classes) against those of the converged head.

    Returns the fraction of rows with another winner.
    """
    expected, free = head_scores(head, X), slack(name, head, X)
    if name == "centroid":  # a constant per row is free: it moves no class ahead of another
        found, expected = (part - part.mean(axis=1, keepdims=True) for part in (found, expected))
    assert (np.abs(found - expected) <= BAR * np.abs(expected).max() + free).all(), row
    assert free.mean() < 0.4 * np.abs(expected).max(), row
    return np.mean(found.argmax(axis=1) != expected.argmax(axis=1))


def check_certificate(name, head, X, y):
    """The gradient of a refitted linear head, computed afresh, bounds the error.

    See `solvers.Solution`.
    """
    Z, model = head[0].transform(X), head[-1]
    labels = model.classes_[-len(model.coef_) :]
    margins, of_class = Z @ model.coef_.T + model.intercept_, y[:, None] == labels
    if name == "linear_svm":
        signs = np.where(of_class, 1, -1)
        slope = -2 * signs * np.maximum(1 - signs * margins, 0)
        curvature = 1 / model.C
    else:
        chances = softmax(margins, axis=1) if len(labels) > 1 else expit(margins)
        slope = chances - of_class
        k = len(model.classes_)
        curvature = (chances * (1 - chances)).sum(axis=0) * (k / (k - 1) if k > 2 else 1)
    above = model.coef_ + model.C * slope.T @ Z
    aside = (slope.sum(axis=0) + (name == "linear_svm") * model.intercept_ / model.C) / curvature
    unit = np.mean(np.sum(Z**2, axis=1))
    error = np.sqrt(unit * np.sum(above**2) + np.sum(aside**2))
    assert error <= 1.2 * CERTIFIED * np.sqrt(
        unit * np.sum(model.coef_**2) + np.sum(model.intercept_**2)
    )


def check_parity(X, y, heads, class_weight=None):
    folds = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))
    ours = HeadSearchCV(heads, cv=folds, class_weight=class_weight).fit(X, y)
    table, X = ours.cv_results_, X.astype(np.float64)
    means = []
    for i, row in enumerate(table["params"]):
        params, accuracies = dict(row), []
        name = params.pop("head")
        for j, (train, val) in enumerate(folds):
            head = converged(name, params, X[train], y[train], class_weight)
            others = check_scores(name, head, ours.oof_scores_[i, val], X[val], row)
            accuracies.append(head.score(X[val], y[val]))
            assert abs(table[f"split{j}_test_score"][i] - accuracies[-1]) <= 0.002 + others, row
        means.append(np.mean(accuracies))
        if name in ("logistic", "linear_svm"):
            assert 0 <= table["certificate"][i] <= CERTIFIED, row
        elif name in ("ridge", "lda"):
            assert table["certificate"][i] == 0
        else:
            assert np.isnan(table["certificate"][i])
    best = int(np.argmax(np.round(means, 12)))
    assert ours.best_index_ == best or means[best] - means[ours.best_index_] <= 1e-6
    params = dict(ours.best_params_)
    name = params.pop("head")
    head = converged(name, params, X, y, class_weight)
    check_scores(name, head, head_scores(ours.best_estimator_, X), X, ours.best_params_)
    if name in ("logistic", "linear_svm") and class_weight is None:
        check_certificate(name, ours.best_estimator_, X, y)


def grid_of(name, grid=None):
    return {
        name: {HEADS[name].prefix + key: values for key, values in (grid or GRIDS[name]).items()}
    }


def but_for(pairs, **known):
    """Pairs (case, head) as parameters; `known` (head -> cases -> reason) are expected to fail."""
    return [
        pytest.param(case, name, marks=pytest.mark.xfail(reason=known[name][case], strict=True))
        if case in known.get(name, {})
        else (case, name)
        for case, name in pairs
    ]


REPEATED = "4,000 steps do not do from C=100 on where rows repeat with other labels"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_:UserWarning")
@pytest.mark.parametrize(("case", "name"), list(product(CASES, HEADS)))
def test_equals_scikit_learn(case, name):
    check_parity(*CASES[case], grid_of(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "name"),
    but_for(
        product(
            ["wide", "tall", "duplicates", "duplicates, tall", "low rank", "imbalance of two"],
            ["logistic", "linear_svm"],
        ),
        logistic={"duplicates": REPEATED},
    ),
)
def test_every_strength_equals_scikit_learn(case, name):
    check_parity(*CASES[case], grid_of(name, {"C": list(np.logspace(-5, 3, 9))}))


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_:UserWarning")
@pytest.mark.parametrize("case", ["tall", "imbalance"])
def test_default_grids_choose_as_scikit_learn_would(case):
    check_parity(*CASES[case], list(HEADS))


@pytest.mark.parametrize("weights", ["balanced", {0: 1.0, 1: 5.0, 2: 0.5}])
@pytest.mark.parametrize("name", [name for name in HEADS if HEADS[name].weighted])
def test_class_weights_count_as_in_scikit_learn(name, weights):
    check_parity(*CASES["imbalance"], grid_of(name), class_weight=weights)


@pytest.mark.parametrize("name", [name for name in HEADS if HEADS[name].weighted])
def test_class_weights_of_two_classes_count_as_in_scikit_learn(name):
    check_parity(*CASES["two classes"], grid_of(name), class_weight={0: 3.0, 1: 0.5})


def test_parameters_beyond_the_shared_work_are_fitted_by_scikit_learn():
    X, y = CASES["two classes"]
    grid = {"rbf_svm": {"svc__kernel": ["poly"], "svc__C": [1.0]}}
    folds = list(StratifiedKFold(3).split(X, y))
    found = HeadSearchCV(grid, cv=folds).fit(X, y)
    for j, (train, val) in enumerate(folds):
        expected = make_head("rbf_svm", kernel="poly").fit(X[train], y[train]).score(X[val], y[val])
        assert found.cv_results_[f"split{j}_test_score"][0] == expected


def test_float32_features_give_the_scores_of_float64():
    X, y = CASES["wide"]
    one, two = (
        HeadSearchCV(cv=3).fit(part, y)
        for part in (X.astype(np.float32), X.astype(np.float32).astype(float))
    )
    assert one.oof_scores_ == pytest.approx(two.oof_scores_, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("weights", [None, {0: 3.0, 1: 0.5, 2: 1.0}])
def test_strengths_beyond_every_bound_share_one_svm(weights, monkeypatch):
    X, y = CASES["square"]
    fitted = []
    made = fold_scores.precomputed_svc
    monkeypatch.setattr(fold_scores, "precomputed_svc", lambda C, w: fitted.append(C) or made(C, w))
    grid = {"rbf_svm": {"svc__C": [1e4, 0.1, 1e3, 1e2, 1.0], "svc__gamma": [0.02]}}
    folds = list(StratifiedKFold(3).split(X, y))
    found = HeadSearchCV(grid, cv=folds, class_weight=weights, refit=False).fit(X, y)
    assert 0.1 in fitted
    assert len(fitted) < 15
    for j, (train, val) in enumerate(folds):
        for i, C in enumerate(grid["rbf_svm"]["svc__C"]):
            svc = make_head("rbf_svm", C=C, gamma=0.02, class_weight=weights).fit(
                X[train], y[train]
            )
            scores = head_scores(svc, X[val])
            assert found.oof_scores_[i, val] == pytest.approx(
                scores, abs=1e-3 * np.abs(scores).max()
            )
            assert found.cv_results_[f"split{j}_test_score"][i] == svc.score(X[val], y[val])
