"""Tests of heads/propagation.py: graphs whose answers are known, and two moons with two labels."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from heads import make_head
from heads.propagation import (
    SPREAD,
    join_taps,
    link_neighbours,
    multiply,
    self_train,
    shares_of,
    spread_labels,
)


def neighbours(units, k):
    """By all cosines at once."""
    cosines = units @ units.T
    np.fill_diagonal(cosines, -2)
    rows = np.argsort(-cosines, axis=1)[:, :k]
    return np.take_along_axis(cosines, rows, axis=1), rows


def draw(n=60, d=8, classes=3, apart=2.0, seed=0):
    """Rows around the corners of a simplex, and their classes."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    return rng.normal(size=(n, d)) + apart * np.eye(classes, d)[codes], codes


def test_the_spread_is_that_of_the_inverse():
    features, codes = draw()
    graph = link_neighbours(*neighbours(join_taps([features]), 5))
    known = np.where(np.arange(60) < 9, codes, -1)
    targets = np.zeros((60, 3))
    targets[np.arange(9), codes[:9]] = 1 / 3
    expected = np.linalg.inv(np.eye(60) - SPREAD * graph.toarray()) @ targets
    np.testing.assert_allclose(spread_labels(graph, known, 3), expected, rtol=1e-8, atol=1e-14)


def test_the_graph_is_symmetric_and_its_eigenvalues_are_at_most_one():
    graph = link_neighbours(*neighbours(join_taps([draw()[0]]), 5))
    assert (abs(graph - graph.T) > 0).nnz == 0
    values = np.linalg.eigvalsh(graph.toarray())
    assert values.min() >= -1 - 1e-12
    assert values.max() == pytest.approx(1, abs=1e-12)


def test_a_link_is_the_cube_of_its_cosine_and_none_where_that_is_negative():
    graph = link_neighbours(np.array([[0.5], [0.5], [-0.5]]), np.array([[1], [0], [0]]))
    np.testing.assert_allclose(graph.toarray(), [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert graph.nnz == 2


def test_many_labels_of_a_class_do_not_outvote_one():
    """A row between two groups, alike to both, of which one has all its labels."""
    cosines = np.ones((5, 2))
    rows = np.array([[1, 2], [0, 2], [1, 3], [2, 4], [3, 2]])
    spread = spread_labels(link_neighbours(cosines, rows), np.array([0, 0, -1, 1, -1]), 2)
    once = spread_labels(link_neighbours(cosines, rows), np.array([0, -1, -1, 1, -1]), 2)
    assert spread[:, 1].tolist() == once[:, 1].tolist()
    assert spread[:2, 0].sum() < 1.5 * once[:2, 0].sum()


def test_what_no_label_reaches_keeps_its_probabilities():
    graph = link_neighbours(np.ones((4, 1)), np.array([[1], [0], [3], [2]]))
    spread = spread_labels(graph, np.array([0, -1, -1, -1]), 2)
    assert spread[2:].tolist() == [[0, 0], [0, 0]]
    assert shares_of(spread)[2:].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    probabilities = np.array([[0.5, 0.5], [0.5, 0.5], [0.7, 0.3], [0.2, 0.8]])
    np.testing.assert_allclose(multiply(probabilities, spread)[2:], probabilities[2:])


def test_a_class_without_a_label_is_possible_still():
    graph = link_neighbours(np.ones((2, 1)), np.array([[1], [0]]))
    product = multiply(np.full((2, 3), 1 / 3), spread_labels(graph, np.array([0, -1]), 3))
    assert (product > 0).all()
    np.testing.assert_allclose(product.sum(axis=1), 1)


def test_an_empty_graph_spreads_nothing():
    empty = link_neighbours(np.empty((3, 0)), np.empty((3, 0), int))
    assert isinstance(empty, csr_array)
    expected = [[1, 0], [0, 0], [0, 1]]
    assert spread_labels(empty, np.array([0, -1, 1]), 2).tolist() == expected


def test_the_product_follows_the_groups_that_the_labels_alone_cant_see():
    """Two rings side by side, one label each, at the ends that lie next to one another."""
    turn = np.linspace(0, np.pi, 60)
    upper = np.column_stack([np.cos(turn), np.sin(turn)])
    lower = np.column_stack([1 - np.cos(turn), 0.5 - np.sin(turn)])
    places = np.vstack([upper, lower])
    codes = np.repeat([0, 1], 60)
    # neighbours by distance, as cosines near one
    gaps = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(gaps, np.inf)
    rows = np.argsort(gaps, axis=1)[:, :4]
    graph = link_neighbours(1 - np.take_along_axis(gaps, rows, axis=1) ** 2, rows)
    known = np.full(120, -1)
    known[[30, 90]] = codes[[30, 90]]
    head = make_head("logistic").fit(places[[30, 90]], [0, 1])
    alone = head.predict_proba(places)
    product = multiply(alone, spread_labels(graph, known, 2))
    assert (alone.argmax(axis=1) == codes).mean() < 0.95
    assert (product.argmax(axis=1) == codes).mean() == 1


@pytest.mark.parametrize("wide", [1, 40])
def test_a_wide_tap_does_not_outvote_a_narrow_one(wide):
    rng = np.random.default_rng(0)
    narrow = rng.normal(size=(50, 4))
    units = join_taps([narrow, np.tile(rng.normal(size=(50, 4)), wide)])
    np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1, rtol=1e-5)
    assert np.square(units[:, :4]).sum() == pytest.approx(np.square(units[:, 4:]).sum(), rel=0.25)


def test_a_column_of_one_value_tells_nothing():
    units = join_taps([np.array([[0.0, 0.1], [1.0, 0.1], [3.0, 0.1]])])
    assert units[:, 1].tolist() == [0, 0, 0]
    assert join_taps([np.full((3, 2), 7.0)]).tolist() == [[0, 0]] * 3


def test_self_training_learns_from_what_it_is_sure_of():
    features, codes = draw(apart=8.0)
    known = np.where(np.arange(60) < 12, codes, -1)
    taught = self_train(features, known)
    assert (taught.predict(features) == codes).all()
    assert (taught.transduction_ >= 0).sum() > 12
