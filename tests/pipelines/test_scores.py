"""Tests of pipelines/scores.py."""

import numpy as np
import pytest
from scipy.stats import binomtest

from pipelines.scores import balanced_accuracy, corrected_accuracy, wilson_interval


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (145, 153), (1, 1000), (500, 1000)])
def test_wilson_interval_is_scipys(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson_interval(right, n) == pytest.approx((expected.low, expected.high))


def test_corrected_accuracy_takes_the_luck_out_of_random_guesses():
    rng = np.random.default_rng(0)
    gaps, bests = [], []
    for seed in range(20):
        right = rng.random((200, 100)) < 0.5
        gaps.append(corrected_accuracy(right, draws=300, seed=seed)[0] - 0.5)
        bests.append(right.mean(axis=1).max() - 0.5)
    assert np.mean(bests) > 0.1
    assert abs(np.mean(gaps)) < 0.035


def test_corrected_accuracy_of_one_candidate_is_its_own():
    right = np.arange(100)[None] < 80
    mean, low, high = corrected_accuracy(right, draws=4000)
    assert mean == pytest.approx(0.8, abs=0.005)
    assert low < 0.8 < high


def test_corrected_accuracy_is_seeded():
    right = np.random.default_rng(1).random((10, 50)) < 0.7
    assert corrected_accuracy(right, seed=3) == corrected_accuracy(right, seed=3)


def test_balanced_accuracy_weighs_classes_alike():
    labels = np.array(["a"] * 8 + ["b"] * 2)
    assert balanced_accuracy(labels, np.array(["a"] * 10)) == 0.5
