"""The reduction: inner products, distances and coefficients are those of the standardised
features."""

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances
from sklearn.preprocessing import StandardScaler

from heads.fold_passes import CHUNK, share_crosses, share_grams, share_moments
from heads.reduction import Fold


def rows(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = np.maximum(rng.normal(size=(n, 8)) @ rng.normal(size=(8, d)) + rng.normal(size=(n, d)), 0)
    X[:, 1] = 3.0
    X[:, 2] = 1e8 + 1e-9 * X[:, 0]
    return (X * np.exp(2 * rng.normal(size=d))).astype(np.float32)


CASES = {
    "wide": (50, 300),
    "tall": (50, 12),
    "chunks": (40, CHUNK + 100),
    "more columns than rows by one": (41, 31),
}


@pytest.mark.parametrize("shape", CASES.values(), ids=CASES)
def test_all_is_as_of_the_standardised_features(shape):
    X = rows(*shape)
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
def test_coefficients_come_back_to_the_features(shape):
    X = rows(*shape)
    fold = Fold(X, np.arange(30), np.arange(30, len(X)))
    reduced = np.random.default_rng(1).normal(size=(3, fold.train.shape[1]))
    B = (X[:30] - fold.mean) / fold.scale
    margins = fold.coefficients(reduced) @ B.T
    assert margins == pytest.approx(reduced @ fold.train.T, abs=1e-6 * shape[1])


def test_equal_rows_have_distance_zero_and_no_rank():
    X = rows(20, 200)
    X = np.vstack([X, X])
    fold = Fold(X, np.arange(40), np.arange(0))
    assert (np.diag(fold.distances[:20, 20:]) == 0).all()
    assert fold.train.shape[1] == 19


@pytest.mark.parametrize("d", [5, 50])
def test_features_that_are_all_constant_have_no_dimension(d):
    fold = Fold(np.ones((10, d)), np.arange(8), np.arange(8, 10))
    assert fold.spectrum[0].shape == (0,)
    assert not fold.train.any()


def test_a_column_nearly_constant_in_a_fold_and_far_from_the_other_rows_keeps_its_digits():
    X = rows(40, 100).astype(np.float64)
    X[:30, 5] = 1e6 + 1e-3 * np.random.default_rng(0).normal(size=30)
    X[30:, 5] = 0.0
    whole, fold = Fold(X, np.arange(40), np.arange(0)), Fold(X, np.arange(30), np.arange(30, 40))
    share_moments(X, [whole, fold])
    assert fold.mean == pytest.approx(X[:30].mean(axis=0), rel=1e-12)
    assert fold.var == pytest.approx(X[:30].var(axis=0), rel=1e-9, abs=1e-30)
    share_grams(X, [whole, fold])
    assert fold.train @ fold.train.T == pytest.approx(
        Fold(X, *[np.arange(30), np.arange(30, 40)]).gram[:30, :30], abs=1e-4
    )


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_shared_crosses_equal_those_of_the_gram(n_jobs):
    X = rows(40, CHUNK + 100)
    folds = [Fold(X, np.arange(10, 40), np.arange(10)), Fold(X, np.arange(30), np.arange(30, 40))]
    share_crosses(X, folds, n_jobs)
    for fold in folds:
        B = (X - fold.mean) / fold.scale
        train, others = B[fold.rows[: fold.n]], B[fold.rows[fold.n :]]
        assert fold.other_distances == pytest.approx(
            pairwise_distances(others, train) ** 2, rel=1e-9
        )
        assert 1 - fold.cosines == pytest.approx(
            pairwise_distances(others, train, metric="cosine"), abs=1e-9
        )


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_shared_products_equal_each_folds_own(n_jobs):
    X = rows(40, CHUNK + 100)
    X[:38, 5] = 0  # constant in the first fold, not in the second
    parts = [
        (np.arange(38), np.arange(38, 40)),
        (np.arange(10, 40), np.arange(10)),
        (np.arange(40), np.arange(0)),
    ]
    shared, own = ([Fold(X, *part) for part in parts] for _ in range(2))
    share_grams(X, shared, n_jobs)
    for one, other in zip(shared, own, strict=True):
        assert "gram" in vars(one)
        assert one.gram == pytest.approx(other.gram, abs=3e-8 * np.abs(other.gram).max())
        assert one.train.shape == other.train.shape
