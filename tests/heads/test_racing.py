"""A race stops what is beaten beyond chance, and what is left is searched on as before."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from heads import HeadSearchCV
from heads.racing import CHANCE, beaten, grids_of

TRIES = 2000


def test_a_leader_that_is_right_wherever_others_are_stops_them_by_the_sign_test():
    right = np.ones((4, 30), dtype=bool)
    right[1, :6] = False  # 1/64 > 0.01 of chance
    right[2, :7] = False  # 1/128
    right[3, :30] = False
    assert beaten(right, 0).tolist() == [False, False, True, True]
    assert beaten(right, 0, chance=0.02).tolist() == [False, True, True, True]


def test_whoever_is_ahead_or_equal_is_not_beaten():
    right = np.array([[True, False] * 20, [False, True] * 20, [True, True] * 20])
    assert not beaten(right, 0).any()
    assert beaten(right, 2).tolist() == [True, True, False]


def test_a_candidate_as_good_as_the_leader_is_stopped_as_seldom_as_chance_says():
    rng = np.random.default_rng(0)
    stopped = [beaten(rng.random((2, 60)) < 0.8, 0)[1] for _ in range(TRIES)]
    assert 0 < np.mean(stopped) < CHANCE


def test_without_rows_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="no rows"):
        beaten(np.empty((2, 0), dtype=bool), 0)


def test_settings_left_have_the_scores_of_a_search_of_all():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = rng.normal(size=(3, 8))[y] + rng.normal(size=(90, 8))
    folds = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))
    heads = ["logistic", "linear_svm", "rbf_svm", "knn", "centroid"]
    full = HeadSearchCV(heads, cv=folds, refit=False).fit(X, y)
    first = HeadSearchCV(heads, cv=folds[:1], refit=False).fit(X, y)
    kept = np.flatnonzero(np.arange(len(full.oof_scores_)) % 3 != 1)
    left = [first.cv_results_["params"][i] for i in kept]
    rest = HeadSearchCV(grids_of(left), cv=folds[1:], refit=False).fit(X, y)
    assert rest.cv_results_["params"] == left
    for search, own in ((first, folds[:1]), (rest, folds[1:])):
        rows = np.concatenate([val for _, val in own])
        of_all = full.oof_scores_ if search is first else full.oof_scores_[kept]
        assert search.oof_scores_[:, rows] == pytest.approx(of_all[:, rows], rel=5e-3, abs=5e-3)
        assert np.isnan(search.oof_scores_[:, np.setdiff1d(np.arange(90), rows)]).all()
