"""Neighbours are those of the whole table of cosines."""

import numpy as np
import pytest

from pipelines.exploration import neighbours
from pipelines.exploration.neighbours import find_neighbours


@pytest.fixture(scope="module")
def looks():
    return np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 7, 512])
def test_neighbours_are_the_same_for_any_block(monkeypatch, looks, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    units = looks / np.linalg.norm(looks, axis=1, keepdims=True)
    full = units @ units.T
    np.fill_diagonal(full, -np.inf)
    cosines, rows = find_neighbours(units, 4)
    assert np.array_equal(rows, np.argsort(-full, axis=1)[:, :4])
    np.testing.assert_allclose(cosines, np.take_along_axis(full, rows, axis=1), rtol=1e-5)
