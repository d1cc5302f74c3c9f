"""Screening: the closed form equals leaving every row out in turn."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.preprocessing import StandardScaler

from heads import screen_features


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
