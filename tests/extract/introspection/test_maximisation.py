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


def test_many_channels_are_made_in_groups_each_as_it_would_be_alone(detector, monkeypatch):
    together = maximise(detector, "conv", [0, 1, 2])
    monkeypatch.setattr("extract.introspection.maximisation.GROUP", 2)
    steps = []
    apart = maximise(detector, "conv", [0, 1, 2], on_progress=lambda *at: steps.append(at))
    assert steps == [(step + 1, 128) for step in range(128)]
    assert [own.channel for own in apart] == [0, 1, 2]
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one.image.astype(int), other.image, atol=2)
        assert one.after == pytest.approx(other.after, rel=1e-3)


def test_a_preprocessing_of_ones_own_is_refused(tiny_net):
    def own(image):
        return np.zeros((3, 32, 32), np.float32)

    own.transform_id = "own"
    backbone = load_backbone(tiny_net(), preprocessing=own)
    with pytest.raises(ExtractError, match="has a preprocessing of its own, which says no mean"):
        maximise(backbone, "layer1", [0])
