"""Vision encoders of transformers: their own numbers, their own files, and faults in one line."""

import json
import pickle
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from extract import ExtractError, FeatureExtractor, MemoryStore, Preprocessing, load_backbone
from extract.backbones import huggingface, image_processors, named_backbone
from extract.backbones import names as names_file
from extract.backbones.huggingface import ENCODERS
from tests.extract.encoders import (
    MAIN,
    TINY,
    TOKENS,
    make_encoder,
    processor_of,
    write_encoder,
    write_pictures,
)

CLOSE = 1e-5
QUICK = ("vit", "resnet")
REST = sorted(set(ENCODERS) - set(QUICK) - {"clip_vision_model", "siglip_vision_model"})
ALL = [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in REST)]


@pytest.fixture(autouse=True)
def _forget_shared(monkeypatch):
    monkeypatch.setattr(names_file, "_shared", type(names_file._shared)())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """folders(kind) -> the folder of a small encoder, written once."""
    made = {}

    def write(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            write_encoder(made[kind], kind)
        return made[kind]

    return write


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def own_values(folder, kind, paths):
    """What transformers itself makes of the files: its output, with all hidden states."""
    import transformers

    network = getattr(transformers, ENCODERS[kind].network).from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    images = [Image.open(path).convert("RGB") for path in paths]
    with torch.no_grad():
        return network(**processor(images, return_tensors="pt"), output_hidden_states=True)


def pooled_of(output, prefix):
    """The pooled output, or what a classifier on top would take of the last state."""
    found = getattr(output, "pooler_output", None)
    if found is None:
        last = output.last_hidden_state
        found = last[:, 0] if prefix else last.flatten(2).mean(2 if last.dim() == 4 else 1)
        if last.dim() == 3 and not prefix:
            found = last.mean(1)
    return found.flatten(1).numpy()


def taps_of(backbone, layers, paths):
    extractor = FeatureExtractor("+".join(layers), backbone=backbone, numerics="float32")
    extractor.cache = False
    rows = extractor.transform(paths)
    widths = [backbone.card.width(tap) for tap in extractor.taps()]
    return np.split(rows, np.cumsum(widths)[:-1], axis=1)


def assert_close(found, wanted):
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape
    assert np.linalg.norm(found - wanted) <= CLOSE * np.linalg.norm(wanted)


@pytest.mark.parametrize("kind", ALL)
def test_taps_are_the_librarys_own_values(kind, folders, pictures):
    backbone = load_backbone(f"hf:{folders(kind)}")
    blocks = backbone.card.choose_layers("all")
    assert len(blocks) >= 3
    encoder, tiny = ENCODERS[kind], TINY[kind]
    own = own_values(folders(kind), kind, pictures)
    prefix = encoder.prefix and encoder.prefix + tiny.settings.get("num_register_tokens", 0)
    (pooled,) = taps_of(backbone, ["pooled"], pictures)
    assert_close(pooled, pooled_of(own, prefix) if kind != "clip" else clip_pooled(folders, pictures))
    for number, state in enumerate(own.hidden_states[tiny.first :]):
        if tiny.states is None or tiny.states.format(number) not in backbone.card.activations:
            continue
        layer = tiny.states.format(number)
        assert backbone.card.activations[layer].kind == ("map" if state.dim() == 4 else "tokens")
        maps = state.flatten(2).mT if state.dim() == 4 else state[:, prefix or 0 :]
        found = taps_of(backbone, [f"{layer}:avg", f"{layer}:max"], pictures)
        assert_close(found[0], maps.mean(1))
        assert_close(found[1], maps.amax(1))
        if prefix:
            (found,) = taps_of(backbone, [f"{layer}:cls"], pictures)
            assert_close(found, state[:, 0])


def clip_pooled(folders, pictures):
    import transformers

    network = transformers.CLIPVisionModel.from_pretrained(folders("clip")).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folders("clip"))
    images = [Image.open(path).convert("RGB") for path in pictures]
    with torch.no_grad():
        return network(**processor(images, return_tensors="pt")).pooler_output.numpy()


def test_every_type_is_tried():
    assert set(TINY) | {"clip_vision_model", "siglip_vision_model"} == set(ENCODERS)
    assert set(MAIN) <= set(TINY)
