"""Blending: a greedy choice on out-of-fold probabilities, whose score choosing does not flatter."""

import numpy as np
import pytest

from heads import blend_candidates


def voters(n=600, accuracies=(0.7, 0.7, 0.7), k=3, seed=0):
    """Candidates that err independently of one another."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    said = [np.where(rng.random(n) < a, y, (y + rng.integers(1, k, n)) % k) for a in accuracies]
    sure = rng.uniform(0.4, 0.7, (len(said), n, 1))
    return sure * np.eye(k)[said] + (1 - sure) / k, y


def folds_of(n, k=5):
    return np.array_split(np.random.default_rng(1).permutation(n), k)


def test_independent_voters_beat_each_of_them():
    P, y = voters()
    found = blend_candidates(P, y, folds_of(len(y)))
    assert (found.weights > 0.1).all()
    assert found.weights.sum() == pytest.approx(1)
    assert found.score > max(np.mean(p.argmax(axis=1) == y) for p in P) + 0.05


def test_a_perfect_candidate_stands_alone():
    P, y = voters(accuracies=(0.6, 1.0, 0.6))
    found = blend_candidates(P, y, folds_of(len(y)))
    assert found.score == 1
    assert found.weights.argmax() == 1


def test_choosing_among_noise_wins_nothing():
    P, y = voters(n=200, accuracies=[1 / 3] * 50)
    found = blend_candidates(P, y, folds_of(len(y)))
    on_the_same_rows = np.tensordot(found.weights, P, 1)

    def loss(probabilities):
        return -np.mean(np.log(probabilities[np.arange(len(y)), y]))

    assert found.score < 0.42
    assert loss(on_the_same_rows) < np.log(3) < loss(found.probabilities)


def test_the_nested_probabilities_give_the_score():
    P, y = voters()
    folds = folds_of(len(y))
    found = blend_candidates(P, y, folds)
    assert found.probabilities.sum(axis=1) == pytest.approx(1)
    right = [np.mean(found.probabilities[val].argmax(axis=1) == y[val]) for val in folds]
    assert found.score == pytest.approx(np.mean(right))


def test_a_kind_that_weighs_little_is_dropped_and_the_rest_weighed_again():
    P, y = voters(accuracies=(0.8, 0.8, 0.7))
    folds = folds_of(len(y))
    free = blend_candidates(P, y, folds, rounds=40)
    assert 0 < free.weights[2] < 0.1
    found = blend_candidates(P, y, folds, rounds=40, kinds=["plain", "plain", "whole"])
    without = blend_candidates(P[:2], y, folds, rounds=40)
    assert found.weights.tolist() == [*without.weights, 0]
    # a kind that weighs enough together stays, however little each of it does
    shared = blend_candidates(P, y, folds, rounds=40, kinds=["plain", "whole", "whole"])
    assert shared.weights.tolist() == free.weights.tolist()


def test_rows_in_no_fold_are_passed_over():
    P, y = voters()
    padded = np.concatenate([P, np.full((3, 7, 3), np.nan)], axis=1)
    found = blend_candidates(padded, np.r_[y, np.zeros(7, dtype=int)], folds_of(len(y)))
    assert found.weights.tolist() == blend_candidates(P, y, folds_of(len(y))).weights.tolist()
    assert np.isnan(found.probabilities[-7:]).all()


def test_equal_candidates_go_to_the_earlier():
    P, y = voters(accuracies=(0.7,))
    assert blend_candidates(np.concatenate([P, P]), y, folds_of(len(y))).weights.tolist() == [1, 0]


def test_wrong_shapes_say_what_was_expected():
    with pytest.raises(ValueError, match="expected \\(candidates, labels, classes\\)"):
        blend_candidates(np.zeros((2, 3)), np.zeros(3, dtype=int), [[0], [1]])
