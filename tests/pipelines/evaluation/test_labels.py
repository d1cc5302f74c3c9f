"""Suspect labels: what is planted ranks first, and nothing else is suspected."""

import doctest

import numpy as np
import pytest

from pipelines.evaluation import labels
from pipelines.evaluation.labels import rank_labels


def test_planted_label_errors_rank_first():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, 400)
    shares = rng.dirichlet(np.ones(4), 400) * 0.5
    shares[np.arange(400), codes] += 0.5
    classes = np.array(["a", "b", "c", "d"])
    labels, wrong = classes[codes], rng.permutation(400)[:20]
    labels[wrong] = classes[(codes[wrong] + 1) % 4]
    ranked = rank_labels(shares, labels, classes)
    assert set(ranked.order[:20]) == set(wrong)
    assert list(ranked.proposed[wrong]) == list(classes[codes[wrong]])
    assert ranked.suspected[wrong].mean() >= 0.3
    assert not np.delete(ranked.suspected, wrong).any()
    assert (ranked.quality[wrong] < 0).all()


def test_a_class_without_images_is_never_proposed_confidently():
    shares = np.array([[0.2, 0.1, 0.7], [0.1, 0.8, 0.1], [0.9, 0.05, 0.05]])
    assert not rank_labels(shares, np.array(["a", "b", "a"]), ["a", "b", "c"]).suspected.any()


def test_probabilities_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"probabilities \(3, 2\): expected 2 labels x 2 classes"):
        rank_labels(np.ones((3, 2)), ["a", "b"], ["a", "b"])


def test_a_label_that_is_no_class_is_refused():
    with pytest.raises(ValueError, match="label 'aa' is no class"):
        rank_labels(np.full((2, 2), 0.5), ["aa", "b"], ["a", "b"])


def calibrated(n, n_classes, strength, seed=0):
    """(n, classes) probabilities that are right about classes drawn by them, and these classes."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(n_classes, strength), n)
    return shares, (shares.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


@pytest.mark.parametrize(("n", "n_classes"), [(47, 10), (300, 10), (300, 2)])
def test_weak_heads_suspect_nothing_and_it_is_known_that_they_are(n, n_classes):
    shares, codes = calibrated(n, n_classes, strength=0.35 if n_classes > 2 else 1.0)
    classes = np.array([str(i) for i in range(n_classes)])
    ranked = rank_labels(shares, classes[codes], classes)
    assert ranked.agreement < 0.8
    assert ranked.too_weak
    assert not ranked.suspected.any()


def test_heads_of_the_largest_class_alone_suspect_none_of_the_others():
    shares = np.tile([0.95, 0.05], (100, 1))
    ranked = rank_labels(shares, np.repeat(["a", "b"], [95, 5]), ["a", "b"])
    assert (ranked.agreement, ranked.by_chance) == (0.95, 0.95)
    assert ranked.too_weak
    assert not ranked.suspected.any()


def test_of_fair_heads_few_right_labels_are_suspected_and_most_planted_errors_are():
    """Right of seven in ten: a wrong answer is no wrong label."""
    shares, codes = calibrated(1000, 10, strength=0.08)
    classes = np.array([str(i) for i in range(10)])
    labels, wrong = classes[codes], np.arange(0, 1000, 25)
    labels[wrong] = classes[(codes[wrong] + 1) % 10]
    ranked = rank_labels(shares, labels, classes)
    assert 0.6 < ranked.agreement < 0.8
    assert not ranked.too_weak
    right = np.delete(ranked.suspected, wrong)
    # confidence above the class's average alone would suspect 0.151
    assert right.mean() < 0.08
    assert ranked.suspected[wrong].mean() > 0.5


@pytest.mark.parametrize("n", [0, 1])
def test_few_labels_are_no_trouble(n):
    ranked = rank_labels(np.full((n, 2), 0.5), ["a"] * n, ["a", "b"])
    arrays = [value for value in vars(ranked).values() if isinstance(value, np.ndarray)]
    assert [len(values) for values in arrays] == [n] * 4
    assert not ranked.suspected.any()


def test_labels_that_nothing_speaks_against_are_in_their_order():
    ranked = rank_labels(np.full((4, 2), 0.5), list("abab"), ["a", "b"])
    assert ranked.order.tolist() == [0, 1, 2, 3]
    assert not ranked.suspected.any()


def test_docstrings():
    assert doctest.testmod(labels).failed == 0
