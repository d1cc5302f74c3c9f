"""Thumbnails are the same from any source."""

import io

import numpy as np
import pytest
from PIL import Image

from data import ImageError, make_picture, make_thumbnail, open_image, read_thumbnails
from data.thumbnails import PICTURE_BYTES


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        read_thumbnails([tmp_path / "gone.jpg"])


@pytest.fixture
def photo(tmp_path):
    """The path of a JPEG of 200 x 120, large enough to be scaled while it is decoded."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    path = tmp_path / "noise.jpg"
    Image.fromarray(noise).save(path)
    return path


def test_a_thumbnail_is_the_gray_picture_squeezed(photo):
    by_pillow = open_image(photo, 64).convert("L").resize((32, 32), Image.Resampling.BILINEAR)
    got = make_thumbnail(photo)
    assert (got.shape, got.dtype) == ((32, 32), np.uint8)
    assert np.array_equal(got, np.asarray(by_pillow))


def test_a_file_and_its_bytes_give_one_thumbnail(photo):
    assert np.array_equal(make_thumbnail(photo.read_bytes()), make_thumbnail(photo))


def test_bytes_that_are_no_image_are_refused():
    with pytest.raises(ImageError, match="begins with b'junk'"):
        make_thumbnail(b"junk")


def test_many_are_those_of_each_in_order(photo):
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    inputs = [photo, Image.fromarray(pixels), pixels, pixels[..., 0], photo.read_bytes()]
    for threads in (None, 1, 3):
        got = read_thumbnails(inputs, threads)
        assert got.dtype == np.float32
        assert np.array_equal(got, np.stack([make_thumbnail(one) for one in inputs]))


def test_no_images_have_no_thumbnails():
    assert read_thumbnails([]).shape == (0, 32, 32)


@pytest.mark.parametrize("size", [(400, 200), (20, 30), (3, 900)])
def test_a_picture_is_small_and_of_the_image_own_shape(size):
    noise = np.random.default_rng(0).integers(0, 2, (size[1], size[0], 3), np.uint8) * 255
    made = make_picture(noise)
    assert len(made) <= PICTURE_BYTES
    shown = Image.open(io.BytesIO(made))
    assert max(shown.size) == min(96, max(size))
    assert shown.format == "JPEG"


def test_a_picture_that_does_not_fit_is_halved():
    noise = np.random.default_rng(0).integers(0, 2, (96, 96, 3), np.uint8) * 255
    made = make_picture(noise)
    assert len(made) <= PICTURE_BYTES
    assert Image.open(io.BytesIO(made)).size == (48, 48)


def test_a_picture_has_the_image_colours(tmp_path):
    red = np.zeros((300, 200, 3), np.uint8)
    red[:150, :, 0] = 255
    Image.fromarray(red).save(tmp_path / "red.png")
    shown = np.asarray(Image.open(io.BytesIO(make_picture(tmp_path / "red.png"))), int)
    assert shown.shape == (96, 64, 3)
    assert np.abs(shown[:40] - [255, 0, 0]).max() <= 3
    assert shown[56:].max() <= 3
