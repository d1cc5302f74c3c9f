"""One resize of a centred box, the same for every size and shape of image."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from extract import ExtractError, Preprocessing
from extract.preprocessing import (
    NAMED_VIEWS,
    PLAIN,
    VIEWS,
    WITH_FLIPS,
    View,
    name_of,
    named_view,
    parse_view,
)


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def triangle_weights(length, start, stop, out):
    """(out, length) weights of the antialiased bilinear filter over [start, stop) of a line of
    pixels."""
    scale = (stop - start) / out
    support = max(scale, 1.0)
    centres = start + (np.arange(out) + 0.5) * scale
    distance = (np.arange(length) + 0.5)[None] - centres[:, None]
    weights = np.clip(1 - np.abs(distance) / support, 0, None)
    return weights / weights.sum(1, keepdims=True)


def reference(image, preprocessing):
    """The resize of the largest centred box, written out with numpy."""
    height, width = preprocessing.shape
    scale = min(image.width / width, image.height / height) * preprocessing.crop
    spans = [
        (side / 2 - n * scale / 2, side / 2 + n * scale / 2)
        for side, n in zip(image.size, (width, height), strict=True)
    ]
    across = triangle_weights(image.width, *spans[0], width)
    down = triangle_weights(image.height, *spans[1], height)
    return np.einsum("yh,hwc,xw->yxc", down, np.asarray(image, float), across)


@pytest.mark.parametrize("size", [32, (24, 48), (48, 24)])
@pytest.mark.parametrize("crop", [1.0, 0.875, 0.3])
@pytest.mark.parametrize("image_size", [(100, 60), (61, 97), (7, 5), (33, 33), (32, 32), (1, 1)])
def test_it_is_the_resize_of_the_largest_centred_box(image_size, crop, size):
    preprocessing, image = Preprocessing(size=size, crop=crop), noise(*image_size)
    made = preprocessing(image)
    assert made.dtype == np.uint8
    assert made.shape == (*preprocessing.shape, 3)
    assert (
        np.abs(made - reference(image, preprocessing)).max() <= 1.01
    )  # Pillow rounds once per direction


@pytest.mark.parametrize("image_size", [(1, 4000), (4000, 3), (4000, 1)])
def test_a_sliver_is_cut_to_its_middle(image_size):
    preprocessing = Preprocessing(size=16, crop=1.0)
    image = noise(*image_size)
    side, middle = min(image_size), [(s - min(image_size)) / 2 for s in image_size]
    box = (*middle, *(m + side for m in middle))
    assert np.array_equal(
        preprocessing(image), np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR, box=box))
    )


def test_the_usual_preset_is_a_centre_crop_at_256():
    image = noise(256, 256)
    assert np.array_equal(Preprocessing()(image), np.asarray(image)[16:240, 16:240])


def test_a_whole_square_is_pillows_resize():
    image = noise(77, 77)
    made = Preprocessing(size=20, crop=1.0, interpolation="bicubic")(image)
    assert np.array_equal(made, np.asarray(image.resize((20, 20), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize(
    "change",
    [
        {"size": 192},
        {"size": (224, 192)},
        {"crop": 0.9},
        {"interpolation": "bicubic"},
        {"mean": (0.5, 0.456, 0.406)},
        {"std": (0.229, 0.224, 0.5)},
    ],
)
def test_every_field_changes_the_transform_id(change):
    assert replace(Preprocessing(), **change).transform_id != Preprocessing().transform_id


def test_a_side_and_its_square_are_the_same_transform():
    assert Preprocessing(size=64).transform_id == Preprocessing(size=(64, 64)).transform_id


@pytest.mark.parametrize("size", [96, (96, 64)])
def test_to_dict_goes_through_json_and_back(size):
    preprocessing = Preprocessing(size, 0.9, "lanczos", (0.5, 0.5, 0.5), (1, 1, 1))
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


@pytest.mark.parametrize(
    ("size", "crop", "at_least"), [(224, 0.875, 256), (64, 1.0, 64), ((32, 48), 0.5, 96)]
)
def test_at_least_is_the_side_before_the_crop(size, crop, at_least):
    assert Preprocessing(size=size, crop=crop).at_least == at_least


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"size": 0}, "size=0"),
        ({"size": (32, 0)}, "size="),
        ({"size": "big"}, "size='big'"),
        ({"size": (1, 2, 3)}, "size="),
        ({"size": 64.5}, "size=64.5"),
        ({"crop": 0}, "crop=0"),
        ({"crop": 1.2}, "crop=1.2"),
        ({"interpolation": "area"}, "interpolation='area'"),
    ],
)
def test_what_can_not_be_is_refused_in_one_line(arguments, said):
    with pytest.raises(ExtractError, match=said) as caught:
        Preprocessing(**arguments)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [("plain", ("plain",)), ("flipped", ("flipped",)), ("plain+flipped", ("plain", "flipped"))],
)
def test_a_view_is_written_as_it_is_read(text, parts):
    view = parse_view(text)
    assert view == View(parts)
    assert str(view) == text
    assert view.is_averaged == (len(parts) > 1)


def test_the_views_that_are_asked_for_are_in_the_table():
    assert str(PLAIN) == "plain"
    assert str(WITH_FLIPS) == "plain+flipped"
    assert {part for view in NAMED_VIEWS.values() for part in view.parts} <= set(VIEWS)
    for name in NAMED_VIEWS:
        assert name_of(str(named_view(name))) == name
    assert name_of(str(named_view("light-0-3"))) == "light-0-3"
    with pytest.raises(ExtractError, match="view='light-0-03': expected one of plain"):
        named_view("light-0-03")
    with pytest.raises(ExtractError, match="view='turned': expected one of plain, flipped, whole"):
        named_view("turned")
    with pytest.raises(ExtractError, match="unknown view 'flipped': expected one of plain"):
        name_of("flipped")  # in a recipe it is the mirror image alone


@pytest.mark.parametrize("text", ["", "crop", "plain+crop", "plain+", "plain,flipped"])
def test_an_unknown_view_is_refused_with_the_known_ones(text):
    with pytest.raises(ExtractError, match=r"unknown view .*: expected plain, flipped, whole"):
        parse_view(text)


def test_a_flipped_view_sees_the_mirror_image():
    preprocessing, image = Preprocessing(size=8, crop=1.0), noise(8, 8)
    assert np.array_equal(VIEWS["flipped"](preprocessing)(image), np.asarray(image)[:, ::-1])
    assert VIEWS["plain"](preprocessing) is preprocessing


def test_the_whole_image_is_seen_to_its_edges():
    """A wide image's ends are outside of the crop, and inside of the whole."""
    pixels = np.zeros((40, 120, 3), np.uint8)
    pixels[:, :20], pixels[:, -20:] = 255, 255
    preprocessing, image = Preprocessing(size=12, crop=0.5), Image.fromarray(pixels)
    assert preprocessing(image).max() == 0
    whole = VIEWS["whole"](preprocessing)(image)
    assert whole.shape == (12, 12, 3)
    assert whole[:, 0].min() == whole[:, -1].min() == 255
    assert whole[:, 6].max() == 0


def test_every_view_is_of_the_same_decode():
    preprocessing = Preprocessing(size=224, crop=0.875)
    assert {make(preprocessing).at_least for make in VIEWS.values()} == {256}


def test_whole_needs_to_know_the_size():
    with pytest.raises(ExtractError, match=r"`whole` needs extract.Preprocessing.*: got function"):
        VIEWS["whole"](lambda image: np.asarray(image))


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": (0.5,)},
        {"mean": 5},
        {"mean": "abc"},
        {"std": (0, 1, 1)},
        {"std": (float("nan"),) * 3},
    ],
)
def test_three_numbers_are_expected_of_each_colour(wrong):
    with pytest.raises(ExtractError, match="expected three numbers"):
        Preprocessing(**wrong)


def test_the_fits_of_other_libraries_make_what_is_asked():
    """To the pixel they are held against timm and Hugging Face in tests of those."""
    image = noise(90, 61)
    for fit in ("shorter", "squash", "border"):
        made = Preprocessing((40, 48), 0.875, fit=fit, mean=(0.25, 0.5, 0.75))
        assert made(image).shape == (40, 48, 3)
        assert made.transform_id.startswith(f"{fit}-bilinear:40x48:crop0.875:")
        assert Preprocessing.from_dict(made.to_dict()) == made
    bordered = Preprocessing(64, 1.0, fit="border", mean=(0.25, 0.5, 0.75))(image)
    assert bordered[0, 0].tolist() == [64, 128, 191]
    # a line of pixels is cropped before it is resized
    assert Preprocessing(64, 1.0, fit="shorter")(noise(20_000, 2)).shape == (64, 64, 3)
    with pytest.raises(ExtractError, match="fit='tight': expected one of box, shorter"):
        Preprocessing(fit="tight")
    with pytest.raises(ExtractError, match="a resize of Pillow's"):
        Preprocessing(resampler="torchvision")
