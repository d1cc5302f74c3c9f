"""Passes that serve every fold give what each fold computes by itself."""

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from heads.fold_passes import CHUNK, share_crosses, share_grams, share_moments
from heads.reduction import Fold


def test_a_column_nearly_constant_in_a_fold_and_far_from_the_other_rows_keeps_its_digits(
    feature_rows,
):
    X = feature_rows(40, 100).astype(np.float64)
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
def test_shared_crosses_equal_those_of_the_gram(n_jobs, feature_rows):
    X = feature_rows(40, CHUNK + 100)
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
def test_shared_products_equal_each_folds_own(n_jobs, feature_rows):
    X = feature_rows(40, CHUNK + 100)
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
        # float32 products, added in another order by each processor's kernels
        assert one.gram == pytest.approx(other.gram, abs=1e-7 * np.abs(other.gram).max())
        assert one.train.shape == other.train.shape
