"""Screening: the closed form equals leaving every row out in turn."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.preprocessing import StandardScaler

from heads import screen_features, screen_probabilities
from heads.screen import _left_out


def cloud(n, d, k, signal, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    return signal * rng.normal(size=(k, d))[y] + rng.normal(size=(n, d)), y


@pytest.mark.parametrize("alpha", [1.0, 100.0])
@pytest.mark.parametrize(("n", "d", "k"), [(40, 90, 3), (60, 10, 4), (40, 30, 2)])
def test_equals_leaving_every_row_out(n, d, k, alpha):
    X, y = cloud(n, d, k, signal=0.4)
    # the scaler sees all rows, in the closed form as here
    expected = cross_val_score(
        RidgeClassifier(alpha), StandardScaler().fit_transform(X), y, cv=LeaveOneOut()
    )
    assert screen_features(X, y, alphas=[alpha]) == pytest.approx(expected.mean())


def test_ranks_features_by_their_signal():
    scores = [screen_features(*cloud(120, 50, 4, signal)) for signal in (0.0, 0.2, 0.6)]
    assert scores == sorted(scores)
    assert scores[0] < 0.4 < 0.9 < scores[2]


def test_duplicate_rows_and_dead_columns_do_no_harm():
    X, y = cloud(60, 100, 3, signal=0.5)
    X[:, :5] = 1.0
    assert 0 <= screen_features(np.vstack([X, X[:20]]).astype(np.float32), np.r_[y, y[:20]]) <= 1


@pytest.mark.parametrize(("n", "d"), [(40, 90), (60, 10)])
def test_groups_are_left_out_as_a_whole(n, d):
    X, y = cloud(n, d, 3, signal=0.4)
    groups = np.r_[np.arange(n // 2) // 3, 100 + np.arange(n - n // 2)]  # some are of one row
    (found,) = _left_out(X, y, [10.0], groups)
    scaled = StandardScaler().fit_transform(X)
    for group in np.unique(groups):
        rest = groups != group
        model = Ridge(10.0).fit(scaled[rest], 2.0 * np.eye(3)[y[rest]] - 1)
        assert found[~rest] == pytest.approx(model.predict(scaled[~rest]), abs=1e-6)


def test_copies_in_one_group_say_nothing_of_each_other():
    X, _ = cloud(60, 100, 3, signal=0.0)
    y = np.random.default_rng(3).integers(0, 3, 60)
    X, y, groups = np.vstack([X, X]), np.r_[y, y], np.r_[np.arange(60), np.arange(60)]

    def right(**given):
        return (screen_probabilities(X, y, **given).argmax(axis=1) == y).mean()

    assert right() > 0.9
    assert right(groups=groups) < 0.6


def test_one_group_of_all_rows_says_nothing():
    X, y = cloud(30, 5, 3, signal=1.0)
    assert np.isfinite(screen_probabilities(X, y, groups=np.zeros(30))).all()
