"""Neighbours are those of the whole table of cosines."""

import numpy as np
import pytest

from pipelines.exploration import neighbours
from pipelines.exploration.neighbours import find_neighbours, pair_cosines, unit_rows


@pytest.fixture(scope="module")
def looks():
    return np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 7, 512])
@pytest.mark.parametrize("group", [1, 3, 8, 10, 64])
def test_neighbours_are_the_same_for_any_block(monkeypatch, looks, block, group):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    monkeypatch.setattr(neighbours, "GROUP", group)
    units = looks / np.linalg.norm(looks, axis=1, keepdims=True)
    full = units @ units.T
    np.fill_diagonal(full, -np.inf)
    cosines, rows = find_neighbours(units, 4)
    assert np.array_equal(rows, np.argsort(-full, axis=1)[:, :4])
    np.testing.assert_allclose(cosines, np.take_along_axis(full, rows, axis=1), rtol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_rows_have_all_others_as_neighbours(looks, n):
    cosines, rows = find_neighbours(unit_rows(looks[:n]), 10)
    expected = max(0, n - 1)
    assert cosines.shape == rows.shape == (n, expected)
    for own in range(n):
        assert sorted(rows[own]) == [row for row in range(n) if row != own]


def test_equal_rows_are_neighbours_in_their_order():
    cosines, rows = find_neighbours(unit_rows(np.ones((4, 5))), 3)
    assert rows.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    np.testing.assert_allclose(cosines, 1, rtol=1e-6)


def test_neighbours_among_others_leave_the_own_row_out(looks):
    units = unit_rows(looks)
    _, rows = find_neighbours(units, 3, units[::-1].copy())
    assert (rows != np.arange(40)[:, None]).all()
    assert (rows[:, 0] == np.arange(40)[::-1]).all()  # the row itself, at its other place


@pytest.mark.parametrize("block", [1, 7, 512])
@pytest.mark.parametrize("n_pairs", [0, 1, 20])
def test_pairs_have_their_inner_products(monkeypatch, looks, block, n_pairs):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    rows, other_rows = np.random.default_rng(1).integers(0, 40, (2, n_pairs))
    got = pair_cosines(looks, rows, -looks, other_rows)
    expected = -(looks[rows] * looks[other_rows]).sum(axis=1)
    assert got.shape == (n_pairs,)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_rows_of_nothing_stay_zeros():
    units = unit_rows(np.array([[3, 4], [0, 0], [0.5, 0]]), least=1.0)
    np.testing.assert_allclose(units, [[0.6, 0.8], [0, 0], [0, 0]], rtol=1e-6)
    assert units.dtype == np.float32
