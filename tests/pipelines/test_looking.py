"""All that is shown of a layer belongs together, and what can't be shown is said."""

import numpy as np
import pytest
from PIL import Image
from torch import nn

from extract import ExtractError, load_backbone
from pipelines.looking import look_at
from pipelines.report.page import make_look_page
from tests.extract.encoders import write_encoder
from tests.extract.introspection.conftest import SIDE, load_detector

RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.fixture(scope="module")
def detector():
    return load_detector()


@pytest.fixture(scope="module")
def spotted():
    images = np.full((5, SIDE, SIDE, 3), 128, np.uint8)
    images[1, 8:12, 20:24], images[3, 28:32, 0:4] = RED, GREEN
    return images


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr("extract.introspection.maximisation.STEPS", 2)


@pytest.fixture(scope="module")
def look(detector, spotted):
    return look_at(detector, "relu", spotted, [2, 0])


def test_patches_views_and_made_images_are_of_their_channel(look):
    assert (look.layer, look.shape, look.field, look.sides) == (
        *("relu", (3, 8, 8), (4, 4), (SIDE, SIDE)),
    )
    assert [own.channel for own in look.channels] == [2, 0]
    for own, colour in zip(look.channels, (GREEN, RED), strict=True):
        first = own.patches[0]
        assert (np.asarray(first.picture) == colour).all()
        assert [patch.back is not None for patch in own.patches] == [True] * 3 + [False] * 2
        back = np.asarray(first.back).astype(int)
        assert back.shape == (4, 4, 3)
        # what excites is more of its own colour and less of the others
        brighter = colour.index(255)
        assert (back[..., brighter] > 127).all()
        assert (np.delete(back, brighter, axis=2) < 127).all()
        np.testing.assert_allclose(np.asarray(first.through, int), [[colour] * 4] * 4, atol=8)
        made = np.asarray(own.made).reshape(-1, 3).mean(axis=0)
        assert made.argmax() == brighter
        assert own.after > own.before


def test_channels_that_tell_the_classes_apart_come_first(detector, few_steps):
    """Every second of eight images has a green spot, and the first four have an edge."""
    images = np.random.default_rng(0).integers(118, 138, (8, SIDE, SIDE, 3)).astype(np.uint8)
    images[::2, :4, :4] = GREEN
    images[:4, 16:20, 4:6], images[:4, 16:20, 6:8] = 255, 0
    of_spots, of_edges = np.array(["with", "without"] * 4), np.repeat(["with", "without"], 4)
    for labels, channel in ((of_spots, 2), (of_edges, 1)):
        look = look_at(detector, "relu", images, 1, labels=labels)
        assert [own.channel for own in look.channels] == [channel]
        assert "those in whose average the classes lie farthest apart" in make_look_page(look)


def test_an_image_that_cant_be_read_is_not_counted(detector, spotted, few_steps, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    images = [tmp_path / "a.png", *map(Image.fromarray, spotted)]
    for channels in ([2], 1):
        look = look_at(detector, "relu", images, channels)
        assert look.n_images == 5
        assert list(look.notes) == ["1 image of 6 can't be read, and left out"]


def test_it_is_the_same_again(detector, spotted, look):
    assert make_look_page(look_at(detector, "relu", spotted, [2, 0])) == make_look_page(look)


def test_without_images_there_are_images_made_alone(detector):
    look = look_at(detector, "relu", channels=2)
    assert [(own.channel, list(own.patches)) for own in look.channels] == [(0, []), (2, [])]
    assert all(own.made for own in look.channels)
    page = make_look_page(look)
    assert "patch of" not in page


NO_VIEWS, NONE_MADE = "no views back", "no images were made"
# of `TINY`, with the layer that is looked at, and what can't be shown of it
KINDS = {
    "resnet": ("encoder.stages.1", []),
    # its processor is not undone, and it gates by a sigmoid
    "efficientnet": ("encoder.blocks.1", [NONE_MADE, NO_VIEWS]),
    "convnext": ("encoder.stages.1", [NO_VIEWS]),
    "vit": ("layers.1", [NO_VIEWS]),
    "swin": ("encoder.layers.0", [NO_VIEWS]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_network_shows_what_it_can(spotted, few_steps, tmp_path, kind):
    layer, lacking = KINDS[kind]
    backbone = load_backbone(write_encoder(tmp_path / "folder", kind), cache=tmp_path / "cache")
    look = look_at(backbone, layer, spotted, [1])
    (own,) = look.channels
    assert len(own.patches) == 5
    assert (own.made is None) == (NONE_MADE in lacking)
    assert (own.patches[0].back is None) == (NO_VIEWS in lacking)
    assert [note.split(":")[0] for note in look.notes] == lacking
    page = make_look_page(look)
    assert [f"{said.capitalize()}: " in page for said in (NO_VIEWS, NONE_MADE)] == [
        said in lacking for said in (NO_VIEWS, NONE_MADE)
    ]


class Strided(nn.Module):
    """One convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 4, stride=4)

    def forward(self, x):
        return self.conv(x).mean((2, 3))


class Scaled:
    """A preprocessing of one's own."""

    transform_id = "scaled"

    def __call__(self, image):
        return np.asarray(image.resize((SIDE, SIDE)), np.float32).transpose(2, 0, 1) / 255


def test_a_preprocessing_of_ones_own_makes_no_images(spotted):
    backbone = load_backbone(Strided(), preprocessing=Scaled())
    look = look_at(backbone, "conv", spotted, [0])
    (own,) = look.channels
    assert own.made is None
    assert own.patches[0].back is not None
    assert [note.split(":")[0] for note in look.notes] == [NONE_MADE]
    with pytest.raises(ExtractError, match="has a preprocessing of its own"):
        look_at(backbone, "conv")
