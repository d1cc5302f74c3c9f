"""Parity of the search's solvers with scikit-learn's heads, run to convergence on the same folds."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold

from heads import HEADS, HeadSearchCV, head_scores, make_head, shared

# scikit-learn run to convergence
CONVERGED = {
    "logistic": {"solver": "newton-cg", "tol": 1e-8, "max_iter": 10_000},
    "linear_svm": {"tol": 1e-9, "max_iter": 100_000},
}
GRIDS = {
    "logistic": {"C": [1e-4, 1e-2, 1.0]},
    "linear_svm": {"C": [1e-5, 1e-3, 1e-1]},
    "rbf_svm": {"C": [0.3, 10.0], "gamma": ["scale", 0.02]},
    "knn": {"metric": ["euclidean", "cosine"], "n_neighbors": [7, 1], "weights": ["uniform", "distance"]},
    "ridge": {"alpha": [1e4, 10.0]},
    "lda": {"shrinkage": [0.9, 0.1]},
    "centroid": {},
    "prior": {},
}


def classes_of(n, d, k, seed=0, spread=1.0, shares=None):
    """Rectified projections of a latent cloud per class: correlated columns, some of them constant."""
    rng = np.random.default_rng(seed)
    y = np.sort(rng.choice(k, n, p=shares)) if shares else np.arange(n) % k
    latent = 2 * rng.normal(size=(k, 12))[y] + rng.normal(size=(n, 12))
    X = latent @ rng.normal(size=(12, d)) / 3 + rng.normal(size=(n, d)) + rng.normal(size=d) - 1
    return np.maximum(X, 0) * np.exp(spread * rng.normal(size=d)), y


def with_duplicates():
    X, y = classes_of(80, 150, 3)
    return np.vstack([X, X[:40]]), np.r_[y, y[:30], (y[30:40] + 1) % 3]


def of_low_rank():
    X, y = classes_of(120, 200, 3)
    return X[:, :15] @ np.random.default_rng(1).normal(size=(15, 200)), y


def with_dead_columns():
    X, y = classes_of(100, 60, 4)
    X[:, ::3] = 7.5
    return np.c_[X, X[:, 1], 1e-9 * X[:, 2], 1e6 + X[:, 4]], y


CASES = {
    "wide": classes_of(120, 400, 5),
    "tall": classes_of(300, 20, 4),
    "square": classes_of(120, 96, 3),
    "two classes": classes_of(120, 200, 2),
    "two classes, tall": classes_of(200, 10, 2),
    "scales apart": classes_of(120, 200, 3, spread=5.0),
    "imbalance": classes_of(200, 100, 3, shares=[0.85, 0.1, 0.05]),
    "many classes": classes_of(300, 30, 100),
    "duplicates": with_duplicates(),
    "low rank": of_low_rank(),
    "dead columns": with_dead_columns(),
}


def check_parity(name, X, y, class_weight=None):
    prefix = HEADS[name].prefix
    grid = {prefix + key: values for key, values in GRIDS[name].items()}
    folds = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))
    ours = HeadSearchCV({name: grid}, cv=folds, class_weight=class_weight).fit(X, y)
    weighted = {"class_weight": class_weight} if HEADS[name].weighted else {}
    reference = make_head(name, **CONVERGED.get(name, {}), **weighted)
    for i, row in enumerate(ours.cv_results_["params"]):
        params = {key: value for key, value in row.items() if key != "head"}
        for j, (train, val) in enumerate(folds):
            head = clone(reference).set_params(**params).fit(X[train], y[train])
            scores = head_scores(head, X[val])
            check_scores(name, ours.oof_scores_[i, val], scores, row)
            best, second = np.sort(scores, axis=1)[:, -1], np.sort(scores, axis=1)[:, -2]
            tied = np.mean(best - second <= 2e-3 * np.abs(scores).max())
            accuracy = head.score(X[val], y[val])
            assert abs(ours.cv_results_[f"split{j}_test_score"][i] - accuracy) <= 0.002 + tied, row


def check_scores(name, found, expected, row):
    if name == "centroid":  # a constant per row is free: it moves no class ahead of another
        found, expected = (part - part.mean(axis=1, keepdims=True) for part in (found, expected))
    close = np.abs(found - expected) <= 1e-3 * np.abs(expected).max()
    # which of two equally distant rows is the k-th neighbour, rounding decides
    assert close.mean() > 0.98 if name == "knn" else close.all(), row


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_:UserWarning")
@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("case", CASES)
def test_scores_and_decisions_equal_scikit_learn(case, name):
    if case == "many classes" and name in ("linear_svm", "rbf_svm"):
        pytest.skip("scikit-learn takes long")
    check_parity(name, *CASES[case])


@pytest.mark.parametrize("weights", ["balanced", {0: 1.0, 1: 5.0, 2: 0.5}])
@pytest.mark.parametrize("name", [name for name in HEADS if HEADS[name].weighted])
def test_class_weights_count_as_in_scikit_learn(name, weights):
    check_parity(name, *CASES["imbalance"], class_weight=weights)


@pytest.mark.parametrize("name", [name for name in HEADS if HEADS[name].weighted])
def test_class_weights_of_two_classes_count_as_in_scikit_learn(name):
    check_parity(name, *CASES["two classes"], class_weight={0: 3.0, 1: 0.5})


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
    one, two = (HeadSearchCV(cv=3).fit(part, y) for part in (X.astype(np.float32), X.astype(np.float32).astype(float)))
    assert one.oof_scores_ == pytest.approx(two.oof_scores_, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("weights", [None, {0: 3.0, 1: 0.5, 2: 1.0}])
def test_strengths_beyond_every_bound_share_one_svm(weights, monkeypatch):
    X, y = CASES["square"]
    fitted = []
    made = shared.precomputed_svc
    monkeypatch.setattr(shared, "precomputed_svc", lambda C, w: fitted.append(C) or made(C, w))
    grid = {"rbf_svm": {"svc__C": [1e4, 0.1, 1e3, 1e2, 1.0], "svc__gamma": [0.02]}}
    folds = list(StratifiedKFold(3).split(X, y))
    found = HeadSearchCV(grid, cv=folds, class_weight=weights, refit=False).fit(X, y)
    assert 0.1 in fitted
    assert len(fitted) < 15
    for j, (train, val) in enumerate(folds):
        for i, C in enumerate(grid["rbf_svm"]["svc__C"]):
            svc = make_head("rbf_svm", C=C, gamma=0.02, class_weight=weights).fit(X[train], y[train])
            scores = head_scores(svc, X[val])
            assert found.oof_scores_[i, val] == pytest.approx(scores, abs=1e-3 * np.abs(scores).max())
            assert found.cv_results_[f"split{j}_test_score"][i] == svc.score(X[val], y[val])
