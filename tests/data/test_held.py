"""Tests of data/held.py and of what reads the file that a PIL image holds."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from data import ImageError, open_image
from data.images import held_bytes
from data.intensity import settle_reading
from extract import FeatureExtractor

SUFFIXES = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WebP": "webp", "BMP": "bmp",
            "TIFF": "tif", "PPM": "ppm"}  # fmt: skip


def picture(width=768, height=512):
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    return Image.fromarray(
        (np.dstack([rows % 190, columns % 190, (rows + columns) % 190]) + noise).astype(np.uint8)
    )


@pytest.fixture
def held():
    """`Image.open`, closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda path: stack.enter_context(Image.open(path))


@pytest.fixture
def photo(tmp_path):
    """A JPEG that is decoded at half its scale, lying on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(tmp_path / "photo.jpg", exif=exif)
    return tmp_path / "photo.jpg"


@pytest.fixture
def extractor():
    return FeatureExtractor(
        "features.4", backbone="mobilenet_v2", weights="random", size=224, cache=False
    )


def test_a_path_and_an_opened_image_have_one_feature(photo, extractor, held):
    """They differed by an eighth in norm: only the path was decoded at a smaller scale."""
    opened = held(photo)
    expected = extractor.transform([photo])
    assert np.array_equal(extractor.transform([opened]), expected)
    assert extractor.extraction_.computed == 0  # one image, under one id
    fresh = FeatureExtractor(**extractor.get_params())
    assert np.array_equal(fresh.transform([opened, io_copy(photo)]), np.vstack([expected] * 2))
    assert np.asarray(opened).shape == (512, 768, 3)  # it can still be read


def io_copy(path):
    return Image.open(io.BytesIO(path.read_bytes()))


def test_what_was_decoded_is_taken_as_it_is(photo, held):
    whole = held(photo)
    whole.load()
    drafted = held(photo)
    drafted.draft("RGB", (96, 64))
    assert [held_bytes(whole), held_bytes(drafted), held_bytes(picture())] == [None] * 3
    assert open_image(whole).size == (768, 512)
    assert open_image(drafted).size == drafted.size != (768, 512)


@pytest.mark.parametrize("format", SUFFIXES)
def test_each_format_is_held_until_it_is_read(tmp_path, format, held):
    path = tmp_path / f"picture.{SUFFIXES[format]}"
    picture(64, 48).save(path, format)
    image = held(path)
    place = image.fp.tell()
    assert held_bytes(image) == path.read_bytes()
    assert image.fp.tell() == place
    assert np.array_equal(np.asarray(open_image(image)), np.asarray(open_image(path)))
    image.load()
    assert held_bytes(image) is None


def test_another_page_that_was_sought_is_the_callers_choice(tmp_path, held):
    pages = [Image.new("L", (8, 8), value) for value in (10, 200)]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    image = held(tmp_path / "two.tif")
    image.seek(1)
    assert open_image(image).getpixel((0, 0)) == (200, 200, 200)


def test_a_format_that_is_not_read_here_is_taken_as_pixels(tmp_path, held):
    picture(64, 48).save(tmp_path / "old.tga")
    image = held(tmp_path / "old.tga")
    assert held_bytes(image) is None
    assert open_image(image).size == (64, 48)


def test_a_broken_file_is_named_as_by_its_path(photo, held):
    photo.write_bytes(photo.read_bytes()[:5000])
    with pytest.raises(ImageError) as by_path:
        open_image(photo)
    with pytest.raises(ImageError) as opened:
        open_image(held(photo))
    assert str(opened.value) == str(by_path.value)


def test_a_closed_file_can_not_be_read(photo):
    with Image.open(photo) as image:
        pass
    with pytest.raises(ImageError, match="not a readable image"):
        open_image(image)


def test_a_range_is_found_over_the_files_that_images_hold(tmp_path, held):
    paths = [tmp_path / f"{value}.tif" for value in (100, 4000)]
    for path, value in zip(paths, (100, 4000), strict=True):
        Image.fromarray(np.full((8, 8), value, np.uint16)).save(path)
    found = settle_reading("auto", inputs=[held(path) for path in paths])
    assert found == settle_reading("auto", inputs=paths)
    assert found.intensity is not None
