"""Tiny networks and images for the tests of `extract`; nothing touches the user's own cache."""

import hashlib
import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from extract import Preprocessing, Recipe, load_backbone
from extract.engines import TorchEngine


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    home = str(tmp_path_factory.mktemp("home"))
    for name in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, home)
    monkeypatch.setenv("PERMAFROST_WEIGHTS", f"{home}/weights")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)  # tiny networks wait longer for each other's threads than they compute


class Block(nn.Module):
    """A residual block whose ReLU works in place, as those of torchvision do."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class TinyNet(nn.Module):
    """A ResNet of three blocks on maps of 16, 8 and 4 pixels (of an input of 32), with a
    classifier."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(8)
            self.relu = nn.ReLU(inplace=True)
            self.layer1 = nn.Sequential(Block(8))
            self.down2 = nn.Conv2d(8, 12, 2, stride=2)
            self.layer2 = nn.Sequential(Block(12))
            self.down3 = nn.Conv2d(12, 16, 2, stride=2)
            self.layer3 = nn.Sequential(Block(16))
            self.fc = nn.Sequential(nn.Linear(16, 10), nn.ReLU(inplace=True), nn.Linear(10, 5))
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(std=0.2)
                    module.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = self.layer1(self.relu(self.bn1(self.conv1(x))))
        x = self.layer3(self.down3(self.layer2(self.down2(x))))
        return self.fc(x.mean((2, 3)))


SMALL = Preprocessing(size=32, crop=1.0)


@pytest.fixture
def tiny_net():
    """tiny_net(seed) makes a fresh TinyNet."""
    return TinyNet


@pytest.fixture(scope="session")
def small():
    """A preprocessing at 32 px."""
    return SMALL


@pytest.fixture(scope="session")
def backbone():
    """One TinyNet at 32 px, as a Backbone; examined once for all tests."""
    return load_backbone(TinyNet(), preprocessing=SMALL)


@pytest.fixture
def other_backbone():
    """The same network with other weights."""
    return load_backbone(TinyNet(1), preprocessing=SMALL)


@pytest.fixture(scope="session")
def pixels():
    """(12, 40, 36, 3) uint8, every image different."""
    return np.random.default_rng(0).integers(0, 256, (12, 40, 36, 3), np.uint8)


@pytest.fixture
def photos(tmp_path, pixels):
    """Twelve PNG files, old enough for their ids to be remembered -> their paths."""
    folder = tmp_path / "photos"
    folder.mkdir()
    return [save_image(folder / f"{i:02}.png", image) for i, image in enumerate(pixels)]


@pytest.fixture
def write_image():
    """write_image(path, (h, w, 3) uint8) writes a PNG dated an hour back -> its path as text."""
    return save_image


def save_image(path, image):
    Image.fromarray(image).save(path)
    stamp = os.stat(path).st_mtime - 3600
    os.utime(path, (stamp, stamp))
    return str(path)


@pytest.fixture
def forwarded(monkeypatch):
    """A list that gets, for each batch that runs through a network, the number of its images."""
    sizes, run = [], TorchEngine._run

    def counting(self, batch):
        sizes.append(len(batch))
        return run(self, batch)

    monkeypatch.setattr(TorchEngine, "_run", counting)
    return sizes


@pytest.fixture(scope="session")
def recipe():
    """A recipe of no network in particular."""
    return Recipe("net", "digest", "box", "float32")


@pytest.fixture(scope="session")
def weights_answer(tmp_path_factory):
    """What torchvision's address of shufflenet_v2_x0_5 would answer, with random weights."""
    from torchvision import models

    path = tmp_path_factory.mktemp("file") / "weights.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        torch.save(models.shufflenet_v2_x0_5().state_dict(), path)
    return path.read_bytes()


@pytest.fixture
def served(loopback, weights_answer, monkeypatch):
    """A server that has the weights of a small network, at torchvision's address of them."""
    from torchvision import models

    from extract.backbones import names

    digest = hashlib.sha256(weights_answer).hexdigest()
    loopback.name = "shufflenet_v2_x0_5"
    loopback.path = f"/models/shufflenet_v2_x0_5-{digest[:8]}.pth"
    loopback.serve(loopback.path, weights_answer)
    member = models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1
    monkeypatch.setattr(member.value, "url", loopback.url + loopback.path)
    monkeypatch.setattr(names, "_shared", OrderedDict())  # no network of another test
    return loopback
