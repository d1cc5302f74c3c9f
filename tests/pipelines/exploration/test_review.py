"""Tests of pipelines/exploration/review.py: unsure answers are asked for, and no two alike."""

import numpy as np
import pytest

from pipelines.exploration.review import LOOKED_AT, choose_for_review, margins


def test_margins_are_of_the_two_most_probable():
    shares = np.random.default_rng(0).dirichlet(np.ones(5), 20)
    two = np.sort(shares, axis=1)
    assert np.allclose(margins(shares), two[:, -1] - two[:, -2])


def test_sure_answers_are_not_asked_for():
    rng = np.random.default_rng(0)
    margin, places = rng.uniform(size=200), rng.normal(size=(200, 4))
    found = choose_for_review(margin, places, 10)
    assert len(np.unique(found.rows)) == 10
    assert (margin[found.rows] <= np.sort(margin)[10 * LOOKED_AT - 1]).all()
    assert (np.diff(found.margin) >= 0).all()
    assert found.alike.sum() == 10 * LOOKED_AT


def test_of_near_copies_one_is_asked_for():
    rng = np.random.default_rng(1)
    kinds = rng.normal(size=(6, 8)) * 5
    places = np.repeat(kinds, 30, axis=0) + rng.normal(0, 1e-3, (180, 8))
    found = choose_for_review(rng.uniform(0, 0.5, 180), places, 6)
    assert len(np.unique(found.rows // 30)) == len(found.rows)


@pytest.mark.parametrize(
    ("n_images", "n", "expected"), [(0, 3, 0), (1, 3, 1), (5, 9, 3), (5, 2, 2)]
)
def test_few_images_and_copies(n_images, n, expected):
    places = np.array([[0.0, 1.0], [0.0, 1.0], [5.0, 2.0], [9.0, 1.0], [9.0, 1.0]])[:n_images]
    found = choose_for_review(np.linspace(0, 0.4, 5)[:n_images], places, n)
    assert len(found.rows) == expected
    assert len(np.unique(places[found.rows], axis=0)) == expected


def test_the_same_images_give_the_same_table():
    rng = np.random.default_rng(3)
    margin, places = rng.uniform(size=300), rng.normal(size=(300, 6)).astype(np.float32)
    one, two = (choose_for_review(margin, places, 20) for _ in range(2))
    assert one.rows.tolist() == two.rows.tolist()
