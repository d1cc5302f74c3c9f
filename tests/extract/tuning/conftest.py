"""A small network, images whose class can be seen, and a layer to begin with."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from extract import (
    FeatureExtractor,
    FeatureStore,
    MemoryStore,
    NewLayer,
    Tap,
    Tuning,
    load_backbone,
    tune_network,
)

TAP = Tap("features.12", "avg")
WIDTH, CLASSES = 576, 3
# few steps, and every one of them seen: no rate of a warm-up, no dropped input
PLAIN = Tuning(
    unfreeze=3,
    rates=(3, 3),
    epochs=2,
    batch=4,
    augment="light",
    views=2,
    warmup=0.0,
    dropout=0.0,
    average=False,
    precision="float32",
)


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """mobilenet_v3_small on 32 px: 13 blocks, batch norms, squeezed channels; random weights, and
    norms with the averages of noise, without which nothing would be left of an image."""
    made = load_backbone("mobilenet_v3_small", "random", size=32)
    network = copy.deepcopy(made.network).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean of what is seen
    noise = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network(noise)
    file = tmp_path_factory.mktemp("network") / "weights.safetensors"
    save_file(network.state_dict(), file)
    return load_backbone("mobilenet_v3_small", str(file), size=32)


@pytest.fixture(scope="session")
def labelled():
    """18 images of 3 classes, red, green or blue on noise -> (images, targets, validation)."""
    targets = np.arange(18) % CLASSES
    images = np.random.default_rng(0).integers(0, 120, (18, 40, 36, 3), np.uint8)
    for image, target in zip(images, targets, strict=True):
        image[..., target] += 90
    return images, targets, np.arange(18) >= 12


@pytest.fixture(scope="session")
def start(network, labelled):
    """A layer that knows nothing yet, of features standardised as a head would."""
    extractor = FeatureExtractor(str(TAP), backbone=network, cache=False, numerics="float32")
    features = extractor.transform(labelled[0])
    weight = np.random.default_rng(1).normal(0, 0.01, (CLASSES, WIDTH))
    scale = features.std(0)
    scale[scale == 0] = 1  # a channel that is dead
    return NewLayer(TAP, features.mean(0), scale, weight, np.zeros(CLASSES))


@dataclass(frozen=True)
class Call:
    """What `tune_network` is called with; a call returns what it does."""

    images: Any
    targets: Any
    validation: Any
    backbone: Any
    layer: Any
    folder: Any
    store: Any
    tuning: Tuning = PLAIN

    def __call__(self, **changed):
        """Tune, with some fields of Tuning changed."""
        return tune_network(
            self.images,
            self.targets,
            self.validation,
            self.backbone,
            self.layer,
            replace(self.tuning, **changed),
            folder=self.folder,
            store=self.store,
            numerics="float32",
            device="cpu",
        )


@pytest.fixture
def call(network, labelled, start, tmp_path):
    """A call on the images, with a folder and a store of its own."""
    return Call(*labelled, network, start, tmp_path / "tuned", MemoryStore())


@pytest.fixture
def on_disk(call, tmp_path):
    """The same with a store on the disk."""
    return replace(call, store=FeatureStore(tmp_path / "cache"))
