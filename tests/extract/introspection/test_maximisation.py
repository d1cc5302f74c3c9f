"""An image made to excite a channel excites it many times as much as noise does."""

import numpy as np
import pytest

from extract import ExtractError, load_backbone
from extract.introspection.maximisation import maximise


def test_a_made_image_excites_far_more_than_noise(detector):
    red, green = maximise(detector, "relu", [0, 2])
    for own in (red, green):
        assert own.after > 20 * max(own.before, 0.01)
    assert red.image.mean(axis=(0, 1)).argmax() == 0
    assert green.image.mean(axis=(0, 1)).argmax() == 1


def test_it_repeats_with_its_seed_whatever_stands_beside(detector):
    (alone,) = maximise(detector, "conv", [1], seed=3)
    _, beside = maximise(detector, "conv", [0, 1], seed=3)
    np.testing.assert_allclose(alone.image.astype(int), beside.image, atol=2)
    (again,), (other,) = (maximise(detector, "conv", [1], seed=seed) for seed in (3, 4))
    np.testing.assert_array_equal(alone.image, again.image)
    assert (alone.image != other.image).any()


def test_a_preprocessing_of_ones_own_is_refused(tiny_net):
    def own(image):
        return np.zeros((3, 32, 32), np.float32)

    own.transform_id = "own"
    backbone = load_backbone(tiny_net(), preprocessing=own)
    with pytest.raises(ExtractError, match="has a preprocessing of its own, which says no mean"):
        maximise(backbone, "layer1", [0])
