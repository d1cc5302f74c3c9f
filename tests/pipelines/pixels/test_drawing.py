"""Tests of pipelines/pixels/drawing.py."""

import numpy as np

from pipelines.pixels.drawing import count_classes, draw_pixels

MASK = np.zeros((20, 30), np.uint8)
MASK[:2] = 4
MASK[10, 10] = 9
MASK[19] = 255


def draw(n, seed=0, **how):
    return draw_pixels(MASK, n, np.random.default_rng(seed), **how)


def test_classes_are_drawn_alike_as_far_as_they_go():
    numbers, counts = np.unique(draw(60, ignore=255).classes, return_counts=True)
    assert dict(zip(numbers.tolist(), counts.tolist(), strict=True)) == {0: 20, 4: 20, 9: 1}
    assert 255 in draw(60).classes


def test_each_pixel_is_one_of_its_class_and_comes_once():
    drawn = draw(200)
    rows, columns = (drawn.down * 20).astype(int), (drawn.across * 30).astype(int)
    assert np.array_equal(MASK[rows, columns], drawn.classes)
    assert len(set(zip(rows, columns, strict=True))) == len(rows)
    assert np.allclose(drawn.down * 20 - rows, 0.5)


def test_the_seed_decides_the_pixels():
    assert np.array_equal(draw(20).down, draw(20).down)
    assert not np.array_equal(draw(20).down, draw(20, seed=1).down)


def test_a_mask_of_ignored_pixels_alone_gives_none():
    drawn = draw_pixels(np.full((2, 2), 255), 5, np.random.default_rng(0), ignore=255)
    assert len(drawn.classes) == len(drawn.down) == 0


def test_numbers_that_are_no_class_are_not_counted():
    found = count_classes(np.array([1, 4, 255]), np.array([0, 1, 4]), np.array([2, 3, 9]))
    assert found.tolist() == [0, 2, 3]
