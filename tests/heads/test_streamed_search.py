"""A search over rows that are read in blocks finds what the search in memory finds."""

import numpy as np
import pytest

from heads import HEADS, HeadSearchCV
from heads.fitted import check_fitted
from heads.streamed_search import ANSWERS


def photos(n=240, d=20, k=3, seed=0):
    """Rectified features of k overlapping classes."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % k)
    X = np.maximum(0.6 * rng.normal(size=(k, d))[y] + rng.normal(size=(n, d)), 0)
    return X.astype(np.float32), np.array([f"class{i}" for i in range(k)])[y]


def same(one, two, rel=1e-3):
    """Scores, but for a number added to all of a row: margins are compared with one another."""
    one = one - one.mean(axis=-1, keepdims=True)
    two = two - two.mean(axis=-1, keepdims=True)
    assert one == pytest.approx(two, abs=rel * float(np.abs(two).max()) + 1e-9)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("head", ANSWERS)
def test_finds_what_the_search_in_memory_finds(head, k, class_weight, in_slices):
    X, y = photos(k=k)
    settings = {"cv": 3, "class_weight": class_weight}
    rows = in_slices(X)
    found = HeadSearchCV([head], n_jobs=2, **settings).fit(rows, y)
    expected = HeadSearchCV([head], **settings).fit(X, y)
    assert rows.largest == 75
    assert found.cv_results_["params"] == expected.cv_results_["params"]
    for one, two in zip(found.oof_scores_, expected.oof_scores_, strict=True):
        same(one, two)
    assert found.best_params_ == expected.best_params_
    assert found.best_score_ == pytest.approx(expected.best_score_, abs=1e-12)
    if HEADS[head].is_linear:
        assert (found.cv_results_["certificate"] <= 2e-4).all()


@pytest.mark.parametrize("head", ANSWERS)
def test_the_best_is_an_ordinary_pipeline(head, in_slices):
    X, y = photos()
    found = HeadSearchCV([head], cv=3).fit(in_slices(X), y).best_estimator_
    expected = HeadSearchCV([head], cv=3).fit(X, y).best_estimator_
    check_fitted(found, X.shape[1], np.unique(y).tolist())
    assert vars(found[-1]).keys() >= {key for key in vars(expected[-1]) if key.endswith("_")}
    assert (found.predict(X) == expected.predict(X)).all()
    if hasattr(expected, "predict_proba"):
        assert found.predict_proba(X) == pytest.approx(expected.predict_proba(X), abs=1e-3)


@pytest.mark.parametrize("head", [head for head in ANSWERS if head != "knn"])
def test_a_fold_far_from_all_rows_and_one_without_a_class_are_searched_too(head, in_slices):
    X, y = photos()
    y = np.sort(y)
    X[:60, 5] = 1e4 + X[:60, 5]  # in the first fold's training rows there are none of these
    splits = [
        (np.arange(60, 240), np.arange(60)),
        (np.arange(0, 240, 2), np.arange(1, 240, 2)),
        (np.arange(150), np.arange(150, 240)),  # without class2
    ]
    found = HeadSearchCV([head], cv=splits, refit=False).fit(in_slices(X), y)
    expected = HeadSearchCV([head], cv=splits, refit=False).fit(X, y)
    held_out = np.unique(np.concatenate([val for _, val in splits]))
    for one, two in zip(found.oof_scores_, expected.oof_scores_, strict=True):
        same(one[held_out], two[held_out], 3e-3)


def test_the_number_of_threads_changes_no_bit(in_slices):
    X, y = photos(n=3000, d=100)
    heads = {
        "logistic": {"logisticregression__C": [0.01]},
        "knn": {"kneighborsclassifier__n_neighbors": [5]},
    }
    one, two = (HeadSearchCV(heads, cv=3, n_jobs=n).fit(in_slices(X), y) for n in (1, 2))
    assert (one.oof_scores_ == two.oof_scores_).all()


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (["knn", "rbf_svm"], "head 'rbf_svm' needs all rows in memory and X is read in blocks"),
        (
            {"logistic": {"logisticregression__solver": ["liblinear"]}},
            "head 'logistic' with .* is scikit-learn's alone, which needs all rows in memory",
        ),
    ],
)
def test_what_needs_all_rows_is_refused_before_any_is_read(heads, message, in_slices):
    X, y = photos()
    rows = in_slices(X)
    with pytest.raises(ValueError, match=message):
        HeadSearchCV(heads).fit(rows, y)
    assert rows.largest == 0


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_the_search_answers_for_rows_in_slices_too(method, in_slices):
    X, y = photos()
    search = HeadSearchCV({"logistic": {"logisticregression__C": [0.1]}}, cv=3).fit(X, y)
    rows = in_slices(X)
    expected = getattr(search, method)(X)
    found = getattr(search, method)(rows)
    assert rows.largest == 75
    if method == "predict":
        assert (found == expected).all()
    else:
        assert found == pytest.approx(expected, abs=1e-12)


def test_score_says_that_it_takes_arrays(in_slices):
    X, y = photos()
    search = HeadSearchCV(["prior"], cv=3).fit(X, y)
    with pytest.raises(ValueError, match=r"^score takes an array, and X gives slices"):
        search.score(in_slices(X), y)


def test_a_scorer_sees_the_answers(in_slices):
    X, y = photos()
    scored = {"scoring": "balanced_accuracy", "cv": 3}
    found = HeadSearchCV(["ridge"], **scored).fit(in_slices(X), y)
    expected = HeadSearchCV(["ridge"], **scored).fit(X, y)
    assert found.best_score_ == pytest.approx(expected.best_score_, abs=1e-12)
