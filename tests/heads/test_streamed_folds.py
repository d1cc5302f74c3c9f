"""Folds of rows that are read in blocks know what a fold in memory knows."""

import numpy as np
import pytest

from heads.blocks import Blocks
from heads.reduction import Fold
from heads.streamed_folds import StreamedFold, share_moments


def both(X, in_slices, train, others):
    blocks = Blocks(in_slices(X))
    fold = StreamedFold(blocks, train, others)
    whole = StreamedFold(blocks, np.arange(len(X)), np.arange(0))
    share_moments(blocks, [whole, fold])
    return fold, Fold(X, train, others)


def test_moments_are_those_of_a_fold_in_memory(feature_rows, in_slices):
    X = feature_rows(200, 12)
    # a row is drawn twice
    fold, expected = both(X, in_slices, np.r_[np.arange(150), 149], np.arange(150, 200))
    assert fold.mean == pytest.approx(expected.mean, rel=1e-12)
    assert fold.var == pytest.approx(expected.var, rel=1e-9, abs=1e-30)
    assert (fold.varying == expected.varying).all()


def test_a_column_nearly_constant_in_a_fold_and_far_from_the_others_keeps_its_digits(in_slices):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    X[:60, 1] = 1e9 + 1e-3 * rng.normal(size=60)
    mixed = rng.permutation(120)
    X = X[mixed]
    fold, _ = both(X, in_slices, np.flatnonzero(mixed < 60), np.flatnonzero(mixed >= 60))
    assert fold.var == pytest.approx(X[mixed < 60].var(axis=0), rel=1e-6)


def test_a_column_that_is_zero_but_in_rows_held_out_does_not_vary(in_slices):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 3)).astype(np.float32)
    X[:, 1] = 0
    X[[3, 700, 701], 1] = [0.7, 0.2, 1.3]
    others = np.array([3, 20, 700, 701])
    fold, _ = both(X, in_slices, np.delete(np.arange(1000), others), others)
    assert (fold.mean[1], fold.var[1], fold.scale[1]) == (0, 0, 1)


def test_class_means_and_spectrum_are_those_of_a_fold_in_memory(feature_rows, in_slices):
    X = feature_rows(200, 12)[:, 3:]
    codes = np.arange(150) % 3
    fold, expected = both(X, in_slices, np.arange(150), np.arange(150, 200))
    for found, known in zip(fold.class_means(codes), expected.class_means(codes), strict=True):
        assert found == pytest.approx(known, abs=1e-12)
    assert fold.spectrum[0] == pytest.approx(expected.spectrum[0], rel=1e-9)


def test_held_out_rows_are_found_in_their_block_and_their_order(in_slices):
    fold, _ = both(np.eye(9), in_slices, np.arange(5), np.array([8, 5, 7]))
    among, inside = fold.held_out(slice(6, 9))
    assert (among.tolist(), inside.tolist()) == ([0, 2], [2, 1])


def test_a_row_that_holds_no_number_is_named(in_slices):
    X = np.ones((500, 8))
    X[417, 3] = np.nan
    blocks = Blocks(in_slices(X))
    with pytest.raises(ValueError, match="row 417 of X holds NaN or infinity, expected finite"):
        share_moments(blocks, [StreamedFold(blocks, np.arange(500), np.arange(0))])
