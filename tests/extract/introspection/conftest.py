"""A network of which it is known what each channel answers to."""

import numpy as np
import pytest
import torch
from torch import nn

from extract import Preprocessing, load_backbone

SIDE = 32


class Detector(nn.Module):
    """Convolutions of 4 pixels every 4: channel 0 answers to red, 1 to an edge, 2 to green."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 4, stride=4, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.next = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.ReLU(inplace=True)
        self.vector = nn.Flatten()
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0], self.conv.weight[0, 1:] = 1 / 16, -1 / 16
            self.conv.weight[1, :, :, :2], self.conv.weight[1, :, :, 2:] = 1 / 24, -1 / 24
            self.conv.weight[2, 1], self.conv.weight[2, ::2] = 1 / 16, -1 / 16

    def forward(self, x):
        return self.vector(self.last(self.next(self.relu(self.conv(x)))).mean((2, 3), True))


def load_detector():
    """The network at 32 px, whose input are pixels from -1 to 1."""
    torch.manual_seed(0)
    half = (0.5, 0.5, 0.5)
    preprocessing = Preprocessing(size=SIDE, crop=1.0, mean=half, std=half)
    return load_backbone(Detector(), preprocessing=preprocessing)


@pytest.fixture(scope="session")
def detector():
    """As of `load_detector`."""
    return load_detector()


@pytest.fixture
def spotted():
    """Five gray images: one with a red spot, one with an edge, one with a green spot."""
    images = np.full((5, SIDE, SIDE, 3), 128, np.uint8)
    images[1, 8:12, 20:24] = 255, 0, 0
    images[2, 16:20, 4:6], images[2, 16:20, 6:8] = 255, 0
    images[3, 28:32, 0:4] = 0, 255, 0
    return images
