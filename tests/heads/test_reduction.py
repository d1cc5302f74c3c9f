"""The reduction: products, distances and coefficients are those of the standardised features."""

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances
from sklearn.preprocessing import StandardScaler

from heads.fold_passes import CHUNK
from heads.reduction import Fold

CASES = {
    "wide": (50, 300),
    "tall": (50, 12),
    "chunks": (40, CHUNK + 100),
    "more columns than rows by one": (41, 31),
}


@pytest.mark.parametrize("shape", CASES.values(), ids=CASES)
def test_all_is_as_of_the_standardised_features(shape, feature_rows):
    X = feature_rows(*shape)
    train, others = np.arange(30), np.arange(30, len(X))
    fold, scaler = Fold(X, train, others), StandardScaler().fit(X[train].astype(float))
    B = scaler.transform(X.astype(float))
    size = shape[1]
    assert fold.mean == pytest.approx(scaler.mean_)
    assert fold.var == pytest.approx(scaler.var_, rel=1e-6, abs=1e-12)
    assert fold.scale == pytest.approx(scaler.scale_, rel=1e-6)
    assert fold.gram == pytest.approx(B @ B.T, abs=1e-7 * size)
    assert fold.distances == pytest.approx(pairwise_distances(B, B[train]) ** 2, abs=1e-6 * size)
    assert Fold(X, train, others).other_distances == pytest.approx(
        fold.distances[30:], abs=1e-6 * size
    )
    assert fold.train @ fold.train.T == pytest.approx(B[train] @ B[train].T, abs=1e-7 * size)
    assert fold.others @ fold.train.T == pytest.approx(B[others] @ B[train].T, abs=1e-6 * size)
    assert fold.train.mean(axis=0) == pytest.approx(0, abs=1e-9)
    values, vectors = fold.spectrum
    assert (vectors * values) @ vectors.T == pytest.approx(
        fold.train.T @ fold.train, abs=1e-7 * size
    )


@pytest.mark.parametrize("shape", CASES.values(), ids=CASES)
def test_coefficients_come_back_to_the_features(shape, feature_rows):
    X = feature_rows(*shape)
    fold = Fold(X, np.arange(30), np.arange(30, len(X)))
    reduced = np.random.default_rng(1).normal(size=(3, fold.train.shape[1]))
    B = (X[:30] - fold.mean) / fold.scale
    margins = fold.coefficients(reduced) @ B.T
    assert margins == pytest.approx(reduced @ fold.train.T, abs=1e-6 * shape[1])


def test_equal_rows_have_distance_zero_and_no_rank(feature_rows):
    X = feature_rows(20, 200)
    X = np.vstack([X, X])
    fold = Fold(X, np.arange(40), np.arange(0))
    assert (np.diag(fold.distances[:20, 20:]) == 0).all()
    assert fold.train.shape[1] == 19


@pytest.mark.parametrize("d", [5, 50])
def test_features_that_are_all_constant_have_no_dimension(d):
    fold = Fold(np.ones((10, d)), np.arange(8), np.arange(8, 10))
    assert fold.spectrum[0].shape == (0,)
    assert not fold.train.any()
