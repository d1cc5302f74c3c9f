"""The range of a set: found over its deep images alone, in any order, and the same for all."""

import random

import numpy as np
import pytest

from data import DataError, Reading, decode, find_intensity, settle_reading
from data.intensity import may_be_deep
from tests.data.pictures import GRAY, RGB, bare_tiff, png16, saved, tiff


def written(folder, files):
    paths = []
    for number, data in enumerate(files):
        paths.append(folder / f"{number:03}")
        paths[-1].write_bytes(data)
    return paths


def deep_tiff(array, **options):
    return tiff(array, photometric="minisblack", **options)


@pytest.mark.parametrize(
    "data",
    [
        saved(RGB, "JPEG"),
        saved(RGB, "PNG"),
        saved(RGB, "WEBP"),
        saved(RGB, "TIFF"),
        saved(GRAY, "BMP"),
        saved(GRAY, "GIF"),
        b"P5 84 48 4095\n" + bytes(84 * 48 * 2),
        bare_tiff(GRAY.astype(int) * 4, 10),
        bare_tiff(GRAY.astype(int), 16, (281, 3, 4095)),
        png16(GRAY.astype(np.uint16), (b"sBIT", b"\x0c")),
        b"no image",
        b"",
    ],
)
def test_most_sets_need_no_range(tmp_path, data):
    assert find_intensity(written(tmp_path, [data] * 3)) is None


@pytest.mark.parametrize(
    "write", [deep_tiff, png16, lambda a: tiff(np.dstack([a] * 3), photometric="rgb")]
)
def test_the_range_of_deep_images(tmp_path, write):
    files = [write(GRAY.astype(np.uint16) * step) for step in (1, 4, 16)]
    paths = written(tmp_path, [*files, saved(RGB, "JPEG"), b"broken"])
    low, high = find_intensity(paths)
    assert low == 0
    assert high == 4000  # 249 * 16, rounded outwards
    reading = Reading((low, high))
    assert np.asarray(decode(files[0], reading=reading)).max() < 20
    assert np.asarray(decode(files[2], reading=reading)).max() >= 250


def test_the_order_of_paths_does_not_matter(tmp_path):
    dice = np.random.default_rng(0)
    paths = written(
        tmp_path, [deep_tiff(dice.integers(0, top, (9, 9), np.int32)) for top in range(2, 200)]
    )
    found = find_intensity(paths)
    for seed in range(3):
        random.Random(seed).shuffle(paths)
        assert find_intensity(paths) == found
        assert find_intensity(map(str, paths)) == found


def test_missing_values_are_left_out(tmp_path):
    decibel = (GRAY / 255 * 25 - 25).astype(np.float32)
    holed = decibel.copy()
    holed[:20] = 3.4028235e38
    holed[20:24], holed[24:28] = np.nan, -9999
    paths = written(tmp_path, [deep_tiff(decibel), deep_tiff(holed)])
    low, high = find_intensity(paths)
    assert (low, high) == (-25, 0)  # of -25 to -0.6


def test_page_and_channels_are_taken(tmp_path):
    stack = np.stack([GRAY, GRAY * 0 + 7, GRAY // 2]).astype(np.uint16)
    paths = written(tmp_path, [deep_tiff(stack)])
    assert find_intensity(paths, Reading(page=1)) is None
    assert find_intensity(paths, Reading(page=2))[1] == 125


def test_names_do_not_matter_and_one_more_image_hardly_does(tmp_path):
    dice = np.random.default_rng(0)
    images = [dice.integers(300, 3900, (40, 40), np.uint16) for _ in range(100)]
    paths = written(tmp_path, [deep_tiff(image) for image in images])
    found = find_intensity(paths)
    assert found == (300, 3900)
    renamed = [path.rename(path.with_name(f"z{100 - n}.tif")) for n, path in enumerate(paths)]
    assert find_intensity(renamed) == found
    assert find_intensity(renamed[1:]) == found


def test_odd_paths_are_passed_over(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    assert not may_be_deep(tmp_path / "pipe")
    assert not may_be_deep(tmp_path)
    assert not may_be_deep("/dev/zero")
    assert find_intensity([tmp_path / "gone", tmp_path / "pipe"]) is None


def test_numbers_of_numpy_are_taken_and_others_refused():
    low, high = np.uint16(0), np.float32(4095)
    asked = Reading((0.0, 4095.0), channels=(1,))
    for intensity in ((low, high), [low, high], np.array([0, 4095]), "0:4095"):
        for channels in (1, np.int64(1), [1], np.array([1]), "1"):
            assert settle_reading(intensity, channels=channels).text == asked.text
    for wrong in (5, [1], np.zeros(3), {"low": 0}, [0, [1, 2]]):
        with pytest.raises(DataError):
            settle_reading(wrong)
