"""Outliers: what is planted ranks first, and nothing else is outlying."""

import numpy as np
import pytest

from pipelines.exploration.outliers import rank_outliers


def test_an_image_unlike_all_others_is_the_first_and_outlying():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 20)) * 0.2 + 3
    features[17] = rng.normal(size=20) * 3
    ranked = rank_outliers(features)
    assert ranked.order[0] == 17
    assert np.flatnonzero(ranked.outlying).tolist() == [17]


def test_equal_images_are_not_outlying():
    assert not rank_outliers(np.ones((10, 3))).outlying.any()


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_pictures_are_no_trouble(n):
    looks = np.random.default_rng(0).normal(size=(n, 50)).astype(np.float32)
    assert len(rank_outliers(looks[:n]).order) == n


def test_two_kinds_of_images_are_not_outlying_among_their_own():
    rng = np.random.default_rng(0)
    kinds = np.repeat(10 * np.eye(2, 20), [20, 40], axis=0)
    assert not rank_outliers(kinds + rng.normal(size=(60, 20))).outlying.any()


def test_more_neighbours_than_images_are_all_the_others():
    looks = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    few, many = rank_outliers(looks, k=3), rank_outliers(looks, k=50)
    assert np.array_equal(few.distance, many.distance)


def test_features_of_nothing_but_zeros_are_far_from_all_others_alike():
    ranked = rank_outliers(np.zeros((5, 3)))
    assert np.ptp(ranked.distance) == 0
    assert not ranked.outlying.any()
