"""Receptive fields against those that arithmetic gives."""

import pytest
import torch
from torch import nn

from extract import Preprocessing, load_backbone
from extract.introspection.fields import Axis, find_field


class Gated(nn.Module):
    """A convolution times a gate that averages over all of the map."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.squeeze = nn.Conv2d(4, 4, 1)
        self.last = nn.Identity()

    def forward(self, x):
        x = self.conv(x)
        gate = torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True)))
        return self.last(x * gate).mean((2, 3))


@pytest.mark.parametrize(
    ("layer", "stride", "size", "start"),
    [
        ("conv1", 2, 3, -1),
        ("layer1", 2, 11, -5),  # two convolutions of 3, two pixels apart
        ("down2", 4, 13, -5),
        ("layer2", 4, 29, -13),
    ],
)
def test_a_field_is_what_arithmetic_says(backbone, layer, stride, size, start):
    field = find_field(backbone, layer)
    assert (field.across.stride, field.across.size, field.across.start) == (stride, size, start)
    assert field.down == field.across


def test_sides_of_other_lengths_have_fields_of_their_own(tiny_net):
    """The core that is shown alone is measured by chance on each."""
    oblong = load_backbone(tiny_net(), preprocessing=Preprocessing(size=(32, 64), crop=1.0))
    field = find_field(oblong, "layer1")
    assert (field.down.length, field.across.length) == (32, 64)
    assert (field.down.size, field.across.size) == (11, 11)
    assert field.box(0, 31) == (57, 0, 64, 6)


def test_a_place_that_sees_all_is_narrowed_to_its_core(backbone):
    field = find_field(backbone, "layer3")
    assert field.box(0, 0) == (0, 0, 32, 32)
    left, top, right, bottom = field.shown(0, 3)
    assert right == 1
    assert 0 < left < 1
    assert top == 0
    assert 0 < bottom < 1


def test_a_gate_sees_no_further(small):
    assert find_field(load_backbone(Gated(), preprocessing=small), "last").across.size == 3


def test_cores_are_moved_inside():
    axis = Axis(length=32, places=4, start=0, stride=0, size=32, core=8)
    assert [axis.shown(place) for place in range(4)] == [(0, 8), (8, 16), (16, 24), (24, 32)]
