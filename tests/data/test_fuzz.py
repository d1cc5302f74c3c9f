"""Damaged files of every kind: an image or an ImageError, in little time and memory."""

import random
import resource
import time

import pytest

from data import ImageError, Reading, decode
from tests.data import test_other_formats, test_tiff
from tests.data.pictures import GRAY, RGB, png16, saved, sixteen, tiff

TRIES = 1500  # a benchmark raises it
READINGS = [Reading(), Reading(), Reading(page=1), Reading(channels=(0,)), Reading((0, 100))]


def corpus():
    files = [saved(RGB, kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM", "TIFF")]
    files += [saved(RGB, "JPEG", progressive=True), png16(sixteen(RGB)), png16(sixteen(GRAY))]
    files += [data for data, _ in test_other_formats.NETPBM.values()]
    for array, _, options in test_tiff.PICTURES.values():
        for layout in test_tiff.LAYOUTS.values():
            files.append(tiff(array, **options, **layout))
    for kind in ("tiff_lzw", "jpeg", "group4", "zstd", "lzma"):
        image = saved(RGB, "PNG") and test_tiff.Image.fromarray(GRAY)
        image = image.convert("1") if kind == "group4" else image
        files.append(saved(image, "TIFF", compression=kind))
    return files


def damaged(data, dice):
    data = bytearray(data)
    if dice.random() < 0.1:
        return bytes(data[: dice.randrange(len(data))])
    reach = dice.choice([40, 300, len(data)])
    from_end = dice.random() < 0.4
    for _ in range(dice.randint(1, 8)):
        at = dice.randrange(min(len(data), reach))
        at = len(data) - 1 - at if from_end else at
        data[at] = dice.choice(
            [0, 1, 127, 255, dice.randrange(256), data[at] ^ 1 << dice.randrange(8)]
        )
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_damaged_files(seed, capfd):
    files, dice = corpus(), random.Random(seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(TRIES):
        data = damaged(dice.choice(files), dice)
        started = time.perf_counter()
        try:
            assert decode(data, reading=dice.choice(READINGS)).mode == "RGB"
        except ImageError as error:
            assert "\n" not in str(error)  # noqa: PT017
        assert time.perf_counter() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    assert capfd.readouterr().err == ""
