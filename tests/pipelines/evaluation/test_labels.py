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
    assert ranked.suspected[wrong].mean() > 0.3
    assert not np.delete(ranked.suspected, wrong).any()
    assert (ranked.quality[wrong] < 0).all()


def test_a_class_without_images_is_never_proposed_confidently():
    shares = np.array([[0.2, 0.1, 0.7], [0.1, 0.8, 0.1], [0.9, 0.05, 0.05]])
    assert not rank_labels(shares, np.array(["a", "b", "a"]), ["a", "b", "c"]).suspected.any()


def test_probabilities_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"probabilities \(3, 2\): expected 2 labels x 2 classes"):
        rank_labels(np.ones((3, 2)), ["a", "b"], ["a", "b"])


@pytest.mark.parametrize("n", [0, 1])
def test_few_labels_are_no_trouble(n):
    ranked = rank_labels(np.full((n, 2), 0.5), ["a"] * n, ["a", "b"])
    assert [len(values) for values in vars(ranked).values()] == [n] * 4
    assert not ranked.suspected.any()


def test_labels_that_nothing_speaks_against_are_in_their_order():
    ranked = rank_labels(np.full((4, 2), 0.5), list("abab"), ["a", "b"])
    assert ranked.order.tolist() == [0, 1, 2, 3]
    assert not ranked.suspected.any()


def test_docstrings():
    assert doctest.testmod(labels).failed == 0
