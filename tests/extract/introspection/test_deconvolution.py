"""A view back shows what a channel answers to, at its place, and nothing elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from extract import ExtractError, load_backbone
from extract.introspection.deconvolution import RULES, view_back
from tests.extract.introspection.conftest import SIDE


@pytest.mark.parametrize("rule", RULES)
def test_of_one_convolution_it_is_the_kernel_at_the_place(detector, spotted, rule):
    red, green = view_back(detector, "relu", spotted[[1, 3]], [0, 2], rule)
    kernels = detector.network.conv.weight.numpy().transpose(0, 2, 3, 1)
    for found, channel in ((red, 0), (green, 2)):
        left, top, right, bottom = found.box
        np.testing.assert_array_equal(found.pixels[top:bottom, left:right], kernels[channel])
        assert np.count_nonzero(found.pixels) == 48
    assert red.box == (20, 8, 24, 12)
    assert red.value == pytest.approx(3, abs=0.05)  # red is 1, green and blue are -1


def test_what_excites_is_drawn_brighter(detector, spotted):
    (found,) = view_back(detector, "relu", spotted[1:2], [0])
    drawn = found.drawn()
    assert drawn[9, 21].tolist() == [255, 0, 0]
    assert (drawn[0, 0] == 128).all()


def test_it_is_strong_where_it_excites_and_nowhere_else(detector, spotted):
    (found,) = view_back(detector, "relu", spotted[1:2], [0])
    strength = found.strength()
    assert (strength[9:11, 21:23] == 255).all()
    strength[7:13, 19:25] = 0  # smoothed by a share of a pixel
    assert not strength.any()


def test_of_an_image_that_excites_nothing_nothing_is_drawn(detector):
    (found,) = view_back(detector, "relu", np.full((1, SIDE, SIDE, 3), 128, np.uint8), [1])
    flat = replace(found, pixels=np.zeros_like(found.pixels))
    assert (flat.drawn() == 128).all()
    assert not flat.strength().any()


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_left_of_what_was_changed_for_a_view(tiny_net, small, pixels, rule):
    """Residual blocks whose rectifiers work in place."""
    backbone = load_backbone(tiny_net(), preprocessing=small)
    network = backbone.network
    (found,) = view_back(backbone, "layer2", pixels[:1], [0], rule)
    left, top, right, bottom = found.box
    outside = found.pixels.copy()
    outside[top:bottom, left:right] = 0
    assert np.any(found.pixels)
    assert not np.any(outside)
    assert not any(module._forward_hooks for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_rules_differ_where_the_image_let_nothing_pass(backbone, spotted):
    views = [view_back(backbone, "layer3", spotted[:1], [0], rule)[0].pixels for rule in RULES]
    assert np.abs(views[0] - views[1]).max() > 0


def test_a_smooth_network_is_refused(small, spotted):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.GELU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    backbone = load_backbone(network, preprocessing=small)
    with pytest.raises(ExtractError, match="has gelu before layer '3', through which there is no"):
        view_back(backbone, "3", spotted[:1], [0])
    view_back(backbone, "0", spotted[:1], [0])


def test_an_unknown_rule_is_refused(detector, spotted):
    with pytest.raises(ExtractError, match="unknown rule 'smooth': expected deconvnet or guided"):
        view_back(detector, "relu", spotted[:1], [0], "smooth")
