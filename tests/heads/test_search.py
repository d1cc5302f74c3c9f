"""The search: GridSearchCV's manners over all heads at once."""

import warnings
from threading import Barrier, get_ident

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.datasets import make_classification
from sklearn.model_selection import GroupKFold, RepeatedStratifiedKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from heads import HEADS, HeadSearchCV, fold_passes, head_scores, linear, make_head
from heads import search as search_module

SMALL = {
    "logistic": {"logisticregression__C": [0.01, 1.0]},
    "knn": {"kneighborsclassifier__n_neighbors": [3, 1]},
}


def photos(n=90, d=30, k=3, seed=0):
    X, y = make_classification(n, d, n_informative=6, n_classes=k, random_state=seed, class_sep=1.5)
    return X.astype(np.float32), np.array([f"class{i}" for i in range(k)])[y]


@parametrize_with_checks(
    [
        HeadSearchCV(heads, cv=2)
        for heads in (SMALL, ["linear_svm"], {"rbf_svm": {"svc__C": [0.1, 1.0]}})
    ],
    expected_failed_checks=lambda search: (
        {"check_class_weight_classifiers": "knn takes no class weights"}
        if "knn" in search.heads
        else {}
    ),
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_candidates_keep_a_documented_order():
    X, y = photos()
    search = HeadSearchCV(SMALL, cv=3).fit(X, y)
    assert search.cv_results_["params"] == [
        {"head": "logistic", "logisticregression__C": 0.01},
        {"head": "logistic", "logisticregression__C": 1.0},
        {"head": "knn", "kneighborsclassifier__n_neighbors": 3},
        {"head": "knn", "kneighborsclassifier__n_neighbors": 1},
    ]
    assert search.best_params_ == search.cv_results_["params"][search.best_index_]
    assert search.cv_results_["rank_test_score"][search.best_index_] == 1


def test_ties_go_to_the_earlier_candidate():
    X, y = photos(k=2)
    search = HeadSearchCV(
        {"prior": [{}], "logistic": {"logisticregression__C": [1e-12]}}, cv=3
    ).fit(X, y)
    assert search.best_params_ == {"head": "prior"} or search.best_score_ > 0.6
    tied = HeadSearchCV({"logistic": {"logisticregression__C": [1.0, 1.0]}}, cv=3).fit(X, y)
    assert tied.best_index_ == 0


def test_threads_and_repeats_change_nothing():
    X, y = photos(d=200)
    searches = [HeadSearchCV(cv=3, n_jobs=n_jobs).fit(X, y) for n_jobs in (1, 1, 2)]
    for other in searches[1:]:
        assert other.best_params_ == searches[0].best_params_
        assert (other.oof_scores_ == searches[0].oof_scores_).all()


class Meeting:
    """Accuracy as a scorer whose first call in every thread waits for the other threads."""

    def __init__(self, threads):
        self.seen, self.barrier = set(), Barrier(threads)

    def __call__(self, estimator, X, y):
        if get_ident() not in self.seen:
            self.seen.add(get_ident())
            self.barrier.wait(timeout=60)
        return estimator.score(X, y)


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_:UserWarning")
@pytest.mark.parametrize(("n", "d"), [(300, 900), (1100, 240)])
def test_another_number_of_threads_gives_the_same_choice_and_scores(n, d):
    X, y = photos(n=n, d=d)
    assert X.size > 2**18
    heads = {name: {} for name in HEADS} | SMALL
    searches = []
    for n_jobs in (1, 2):
        meeting = Meeting(n_jobs)
        searches.append(HeadSearchCV(heads, cv=3, n_jobs=n_jobs, scoring=meeting).fit(X, y))
        assert len(meeting.seen - {get_ident()}) == (n_jobs if n_jobs > 1 else 0)
    for other in searches[1:]:
        assert other.best_params_ == searches[0].best_params_
        assert (other.oof_scores_ == searches[0].oof_scores_).all()
        assert (
            other.cv_results_["mean_test_score"] == searches[0].cv_results_["mean_test_score"]
        ).all()
        assert np.array_equal(
            other.cv_results_["certificate"], searches[0].cv_results_["certificate"], equal_nan=True
        )
        assert (
            head_scores(other.best_estimator_, X) == head_scores(searches[0].best_estimator_, X)
        ).all()


@pytest.mark.parametrize("k", [2, 3])
def test_out_of_fold_scores_reproduce_the_fold_scores(k):
    X, y = photos(k=k)
    folds = list(StratifiedKFold(3).split(X, y))
    search = HeadSearchCV(cv=folds).fit(X, y)
    assert search.oof_scores_.shape == (len(search.cv_results_["params"]), len(y), k)
    assert np.isfinite(search.oof_scores_).all()
    for i, scores in enumerate(search.oof_scores_):
        right = search.classes_[scores.argmax(axis=1)] == y
        means = [right[val].mean() for _, val in folds]
        assert means == pytest.approx(
            [search.cv_results_[f"split{j}_test_score"][i] for j in range(3)], abs=0.05
        )


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_head_scores_of_every_head_agree_with_its_prediction(name, k):
    X, y = photos(k=k)
    head = make_head(name).fit(X[:60], y[:60])
    scores = head_scores(head, X[60:])
    assert (head.classes_[scores.argmax(axis=1)] == head.predict(X[60:])).mean() > 0.95
    if HEADS[name].scores != "margins":
        own = softmax(scores, axis=1) if HEADS[name].scores == "logits" else scores
        assert own == pytest.approx(head.predict_proba(X[60:]), abs=1e-6)


def test_rows_in_no_validation_fold_are_nan():
    X, y = photos()
    half = np.arange(len(y)) % 2 == 0
    search = HeadSearchCV(["logistic"], cv=[(np.flatnonzero(half), np.flatnonzero(~half))]).fit(
        X, y
    )
    assert np.isnan(search.oof_scores_[:, half]).all()
    assert np.isfinite(search.oof_scores_[:, ~half]).all()


def test_repeats_are_averaged():
    X, y = photos()
    folds = list(RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0).split(X, y))
    both = HeadSearchCV(["logistic"], cv=folds).fit(X, y).oof_scores_
    first, second = (
        HeadSearchCV(["logistic"], cv=part).fit(X, y).oof_scores_ for part in (folds[:3], folds[3:])
    )
    assert both == pytest.approx((first + second) / 2, abs=1e-3 * np.abs(both).max())


def test_a_class_missing_from_a_training_fold_comes_last():
    X, y = photos()
    rare = np.flatnonzero(y == "class2")
    others = np.flatnonzero(y != "class2")
    folds = [(others[::2], np.r_[others[1::2], rare]), (np.r_[others[1::2], rare], others[::2])]
    search = HeadSearchCV(cv=folds).fit(X, y)
    assert np.isfinite(search.oof_scores_).all()
    assert (search.oof_scores_[:, rare].argmax(axis=2) != 2).all()


def test_best_estimator_is_an_ordinary_pipeline():
    X, y = photos()
    search = HeadSearchCV(SMALL, cv=3).fit(X, y)
    assert type(search.best_estimator_) is Pipeline
    assert search.n_features_in_ == X.shape[1]
    assert search.predict(X).tolist() == search.best_estimator_.predict(X).tolist()
    assert search.predict_proba(X).shape == (len(X), 3)
    assert search.score(X, y) == (search.predict(X) == y).mean()


def test_offers_only_what_the_best_head_has():
    X, y = photos()
    assert not hasattr(HeadSearchCV(["linear_svm"], cv=2).fit(X, y), "predict_proba")
    assert hasattr(HeadSearchCV(["linear_svm"], cv=2).fit(X, y), "decision_function")


@pytest.mark.parametrize("d", [80, 200])
def test_more_rows_than_are_shared_give_the_same_scores(d, monkeypatch):
    X, y = photos(d=d)  # 90 rows, 60 in a fold: fewer or more than the features
    search = HeadSearchCV(["logistic", "linear_svm"], cv=3)
    expected = search.fit(X, y).cv_results_["mean_test_score"]
    for module in (linear, fold_passes, search_module):
        monkeypatch.setattr(module, "MOST_SHARED_ROWS", 10)
    assert search.fit(X, y).cv_results_["mean_test_score"] == pytest.approx(expected, abs=1e-9)


def logistic_at(X, y, C):
    head = make_head("logistic", solver="newton-cg", tol=1e-8 / max(C, 1), max_iter=10_000, C=C)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at the end of its digits it says so
        return head.fit(X.astype(np.float64), y)


@pytest.mark.parametrize("d", [8, 200])
def test_a_row_drawn_twice_counts_twice(d):
    X, y = photos(d=d)
    rng = np.random.default_rng(0)
    folds = [(np.r_[rng.choice(60, 80), :30], np.arange(60, 90)) for _ in range(2)]
    search = HeadSearchCV(
        {"logistic": {"logisticregression__C": [1.0]}}, cv=folds, refit=False
    ).fit(X, y)
    expected = np.mean(
        [head_scores(logistic_at(X[train], y[train], 1.0), X[val]) for train, val in folds], axis=0
    )
    assert search.oof_scores_[0, 60:] == pytest.approx(expected, abs=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("C", [1e4, 1e6])
def test_a_huge_strength_is_fitted_as_well(C):
    X, y = photos(120, 8)
    best = (
        HeadSearchCV({"logistic": {"logisticregression__C": [C]}}, cv=3).fit(X, y).best_estimator_
    )
    expected = head_scores(logistic_at(X, y, C), X)
    assert head_scores(best, X) == pytest.approx(expected, abs=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("far", [1, 30, 130])
def test_folds_far_from_the_other_rows_keep_their_certificate(far):
    X, y = photos(300, 10, k=2, seed=1)
    X, group = X.astype(np.float64), np.arange(300) % 5
    X[group == 0] += far
    folds = list(GroupKFold(5).split(X, y, group))
    search = HeadSearchCV(
        {"logistic": {"logisticregression__C": [0.01]}}, cv=folds, refit=False
    ).fit(X, y)
    for train, val in folds:
        expected = head_scores(logistic_at(X[train], y[train], 0.01), X[val])
        assert search.oof_scores_[0, val] == pytest.approx(
            expected, abs=2e-3 * np.abs(expected).max()
        )


def test_columns_that_never_vary_leave_the_shares_without_a_warning():
    search = HeadSearchCV(["logistic", "linear_svm"], cv=2).fit(
        np.ones((60, 4)), np.tile([0, 1, 2], 20)
    )
    assert np.isfinite(search.oof_scores_).all()


def test_a_splitter_is_given_the_rows():
    X, y = photos()
    seen = []

    class Looking(StratifiedKFold):
        def split(self, X, y=None, groups=None):
            seen.append(X)
            return super().split(X, y, groups)

    HeadSearchCV(["prior"], cv=Looking(3, shuffle=True, random_state=0)).fit(X, y)
    assert np.array_equal(seen[0], X)


def test_groups_stay_together():
    X, y = photos()
    groups = np.arange(len(y)) // 5
    given = HeadSearchCV(["knn"], cv=GroupKFold(3)).fit(X, y, groups=groups)
    folds = list(GroupKFold(3).split(X, y, groups))
    assert (given.oof_scores_ == HeadSearchCV(["knn"], cv=folds).fit(X, y).oof_scores_).all()
    assert HeadSearchCV(["knn"], cv=3).fit(X, y, groups=groups).n_splits_ == 3


def test_class_weight_reaches_the_heads_that_take_it():
    X, y = photos(k=2)
    kept = np.r_[np.flatnonzero(y == "class0"), np.flatnonzero(y == "class1")[:8]]
    weighted = HeadSearchCV(["logistic"], cv=3, class_weight="balanced").fit(X[kept], y[kept])
    assert weighted.best_estimator_[-1].class_weight == "balanced"
    HeadSearchCV(["knn"], cv=3, class_weight="balanced").fit(X[kept], y[kept])


def test_neighbours_never_exceed_the_training_fold():
    X, y = photos(n=12, d=20)
    grid = {"knn": {"kneighborsclassifier__n_neighbors": [50, 3]}}
    assert len(HeadSearchCV(grid, cv=2).fit(X, y).cv_results_["params"]) == 1


def test_other_scorings():
    X, y = photos(k=2)
    assert HeadSearchCV(SMALL, cv=3, scoring="roc_auc").fit(X, y).best_score_ > 0.7
    assert HeadSearchCV(SMALL, cv=3, scoring="neg_log_loss").fit(X, y).best_score_ < 0


@pytest.mark.parametrize(
    ("search", "y", "message"),
    [
        (HeadSearchCV(["logistik"]), [0, 1] * 10, "did you mean logistic"),
        (HeadSearchCV([]), [0, 1] * 10, "give no candidate"),
        (HeadSearchCV(), [1] * 20, r"one class only .1., expected"),
    ],
)
def test_wrong_calls_say_what_was_expected(search, y, message):
    with pytest.raises(ValueError, match=message):
        search.fit(np.random.default_rng(0).normal(size=(20, 3)), y)


@pytest.mark.parametrize(("n", "d"), [(90, 30), (60, 300)])
def test_held_out_rows_change_no_scores_but_their_own(n, d):
    X, y = photos(n=n, d=d)
    folds = list(StratifiedKFold(3).split(X, y))
    kept, changed = folds[0][1], X.copy()
    changed[kept[1:]] += 5 * np.random.default_rng(0).normal(size=(len(kept) - 1, d))
    one, other = (
        HeadSearchCV(cv=folds[:1]).fit(part, y).oof_scores_[:, kept[0]] for part in (X, changed)
    )
    assert other == pytest.approx(one, abs=2e-3 * np.abs(one).max())


@pytest.mark.parametrize("d", [30, 300])
def test_solutions_are_certified_by_their_gradient(d):
    X, y = photos(d=d)
    results = HeadSearchCV(["logistic", "linear_svm", "ridge", "knn"], cv=3).fit(X, y).cv_results_
    heads = np.array([params["head"] for params in results["params"]])
    iterated = np.isin(heads, ["logistic", "linear_svm"])
    assert (results["certificate"][iterated] > 0).all()
    assert (results["certificate"][iterated] <= 2e-4).all()
    assert (results["certificate"][heads == "ridge"] == 0).all()
    assert np.isnan(results["certificate"][heads == "knn"]).all()
