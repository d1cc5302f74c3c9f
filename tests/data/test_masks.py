"""Tests of data/masks.py: masks of PNG files, and the images that they are of."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data import DataError, ImageError, read_mask, read_mask_folder, write_mask
from data.masks import mask_palette
from tests.data.pictures import chunk

NUMBERS = np.array([[0, 1, 2], [7, 200, 255]], np.uint8)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize("numbers", [NUMBERS, NUMBERS.astype(np.uint16) * 257], ids=["8", "16"])
def test_a_mask_that_was_written_is_read_as_it_was(tmp_path, numbers):
    write_mask(tmp_path / "m.png", numbers)
    found = read_mask(tmp_path / "m.png")
    assert found.dtype == numbers.dtype
    assert np.array_equal(found, numbers)


def test_a_palette_gives_its_numbers_and_gray_its_values(tmp_path):
    write_mask(tmp_path / "palette.png", NUMBERS)
    assert Image.open(tmp_path / "palette.png").convert("RGB").getpixel((1, 0)) == (128, 0, 0)
    Image.fromarray(NUMBERS).save(tmp_path / "gray.png")
    Image.fromarray(NUMBERS > 1).save(tmp_path / "bits.png")
    assert np.array_equal(read_mask(tmp_path / "gray.png"), NUMBERS)
    assert np.array_equal(read_mask(tmp_path / "bits.png"), NUMBERS > 1)


@pytest.mark.parametrize(
    ("colour", "depth"),
    [*((0, depth) for depth in (1, 2, 4, 8, 16)), *((3, depth) for depth in (1, 2, 4, 8))],
)
def test_numbers_of_every_depth_are_read_as_they_are_written(tmp_path, colour, depth):
    """Bit by bit, as other programs write them: Pillow writes no gray of 2 and 4 bits."""
    numbers = np.arange(256) % 2**depth * (257 if depth == 16 else 1)
    bits = "".join(f"{own:0{depth}b}" for own in numbers)
    pixels = b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    head = struct.pack(">IIBB3x", len(numbers), 1, depth, colour)
    palette = [(b"PLTE", bytes(3 * 2**depth))] if colour else []
    chunks = [(b"IHDR", head), *palette, (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)
    (tmp_path / "m.png").write_bytes(data)
    assert read_mask(tmp_path / "m.png").tolist() == [numbers.tolist()]


@pytest.mark.parametrize(
    ("name", "image", "reason"),
    [
        ("rgb.png", Image.new("RGB", (2, 2)), "holds colours; expected a PNG with a palette"),
        ("alpha.png", Image.new("LA", (2, 2)), "holds colours"),
        ("m.jpg", Image.new("L", (2, 2)), "not a readable mask: it is JPEG; expected a PNG"),
    ],
)
def test_what_holds_no_class_numbers_is_refused(tmp_path, name, image, reason):
    image.save(tmp_path / name)
    with pytest.raises(ImageError, match=reason):
        read_mask(tmp_path / name)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2)), np.zeros((2, 2, 3), int), np.zeros((0, 2), int)]
)
def test_an_array_that_is_no_mask_is_refused(array):
    with pytest.raises(DataError, match=r"expected whole numbers of shape \(h, w\)"):
        read_mask(array)


def test_an_array_of_numbers_out_of_range_is_refused():
    with pytest.raises(DataError, match="holds the numbers -1 to 3: expected 0 to 65535"):
        read_mask(np.array([[-1, 3]]))


def test_images_find_their_masks_by_name_at_any_depth(tmp_path):
    touch(tmp_path / "images", "b.jpg", "a/1.jpeg", "a/2.png")
    touch(tmp_path / "masks", "a/1.png", "a/2.png", "b.png", "without_image.png")
    images, masks = read_mask_folder(tmp_path / "images", tmp_path / "masks")
    assert [path.removeprefix(f"{tmp_path}/images/") for path in images] == [
        "a/1.jpeg",
        "a/2.png",
        "b.jpg",
    ]
    assert [path.removeprefix(f"{tmp_path}/masks/") for path in masks] == [
        "a/1.png",
        "a/2.png",
        "b.png",
    ]


@pytest.mark.parametrize(
    ("images", "masks", "reason"),
    [
        ((), ("a.png",), "images is no folder"),
        (("a.txt",), ("a.png",), "no images found"),
        (("a.jpg", "b.jpg"), ("a.png",), r"b.jpg has no mask \(1 of 2 images have none\): .*b.png"),
        (("a.jpg", "a.jpeg"), ("a.png",), "would share the mask .*a.png: rename one"),
    ],
)
def test_folders_that_do_not_pair_are_refused(tmp_path, images, masks, reason):
    touch(tmp_path / "images", *images)
    touch(tmp_path / "masks", *masks)
    with pytest.raises(DataError, match=reason):
        read_mask_folder(tmp_path / "images", tmp_path / "masks")


def test_the_palette_is_that_of_pascal_voc():
    assert mask_palette()[[1, 15, 255]].tolist() == [[128, 0, 0], [192, 128, 128], [224, 224, 192]]
