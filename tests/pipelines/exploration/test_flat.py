import numpy as np

from pipelines.exploration.flat import find_flat


def test_a_flat_image_is_told_from_a_faint_one():
    flat, faint, bright = np.zeros((3, 32, 32), np.float32)
    flat += 7
    faint[3, 4] = 5
    bright[:16] = 255
    assert find_flat(np.stack([faint, flat, bright])).tolist() == [1]


def test_of_no_images_none_is_flat():
    assert find_flat(np.empty((0, 32, 32), np.float32)).tolist() == []
