"""Tests of pipelines/pixels/grids.py: bilinear values as torch gives them."""

import numpy as np
import pytest
import torch

from pipelines.pixels.grids import enlarge, middles, values_at

CELLS = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("size", [(4, 5), (9, 7), (2, 3), (1, 1), (64, 50)])
def test_enlarging_is_bilinear_interpolation(size):
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(CELLS)[None], size, mode="bilinear", align_corners=False
    )[0]
    found = enlarge(CELLS, *map(middles, size))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_single_places_have_the_values_of_the_whole():
    down, across = middles(6), middles(8)
    whole = enlarge(CELLS, down, across)
    rows, columns = np.array([0, 5, 3, 3]), np.array([7, 0, 4, 4])
    found = values_at(CELLS, down[rows], across[columns])
    np.testing.assert_allclose(found, whole[:, rows, columns].T, rtol=1e-5, atol=1e-6)


def test_a_map_of_one_cell_is_that_everywhere():
    one = CELLS[:, :1, :1]
    assert (enlarge(one, middles(3), middles(2)) == one).all()
