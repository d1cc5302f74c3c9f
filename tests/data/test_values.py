"""Numbers of every type become pixels by one range: declared, the set's, or the file's own."""

import numpy as np
import pytest
from PIL import Image

from data import ImageError, Reading, decode, is_flat, open_image
from data.images import DEFAULT
from data.values import Values, render, robust_range, sample
from tests.data.pictures import GRAY, RGB, WIDTH, as_rgb, bare_tiff, png16, saved, sixteen, tiff

LEVELS = len(np.unique(GRAY))
RAMP = GRAY / 255


def gray_of(data, reading=DEFAULT):
    pixels = np.asarray(decode(data, reading=reading))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].astype(int)


def off(pixels, wanted):
    return np.abs(pixels.astype(float) - wanted).mean()


@pytest.mark.parametrize(
    "numbers",
    [
        GRAY.astype(np.uint16),
        GRAY.astype(np.uint16) * 16,
        GRAY.astype(np.uint16) + 300,
        GRAY.astype(np.int16) * 12 - 1000,
        GRAY.astype(np.int16) - 30_000,
        GRAY.astype(np.int32),
        GRAY.astype(np.uint32) * 70_000,
        GRAY.astype(np.uint64),
        RAMP.astype(np.float16),
        RAMP.astype(np.float32) * 1.04,
        RAMP.astype(np.float32) * 25 - 25,
        RAMP.astype(np.float32) * 2 - 1,
        RAMP.astype(np.float64) * 1e-9,
        RAMP.astype(np.float64) * 1e20,
    ],
    ids=lambda numbers: f"{numbers.dtype} {numbers.min():g} to {numbers.max():g}",
)
def test_a_file_alone_keeps_its_levels(numbers):
    got = gray_of(tiff(numbers, photometric="minisblack"))
    assert len(np.unique(got)) == LEVELS
    assert off(got, GRAY) < 4


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan, 3.4028235e38, -3.4e38, -9999])
def test_what_is_no_measurement_does_not_decide_the_range(odd):
    numbers = (RAMP * 25 - 25).astype(np.float32)
    numbers[:2, :20] = odd
    got = gray_of(tiff(numbers, photometric="minisblack"))
    assert off(got[2:], GRAY[2:]) < 4
    assert set(np.unique(got[:2, :20])) <= ({255} if odd == np.inf else {0})


def test_nodata_is_black_and_out_of_the_range():
    numbers = GRAY.astype(np.int16) * 12 - 1000
    numbers[:, :40] = 12345
    data = tiff(numbers, photometric="minisblack", extratags=[(42113, "s", 0, "12345", True)])
    got = gray_of(data)
    assert (got[:, :40] == 0).all()
    assert got[:, 40:].min() == 0
    assert got[:, 40:].max() == 255
    assert len(np.unique(got[:, 40:])) == WIDTH - 40


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_declared_bits_are_the_range(bits):
    dark = GRAY.astype(np.uint16)  # a dark picture stays dark
    assert np.array_equal(
        gray_of(b"P5 84 48 %d\n" % (2**bits - 1) + dark.astype(">u2").tobytes()),
        dark >> bits - 8,
    )
    assert np.array_equal(gray_of(bare_tiff(dark, bits)), dark >> bits - 8)
    assert np.array_equal(
        gray_of(bare_tiff(dark, 16, (281, 3, 2**bits - 1), order=">")), dark >> bits - 8
    )
    assert np.array_equal(gray_of(png16(dark, (b"sBIT", bytes([bits])))), dark >> bits - 8)
    spread = dark.astype(int) << 16 - bits
    spread[0, 0] = 65535
    assert np.array_equal(gray_of(png16(spread, (b"sBIT", bytes([bits])))), spread >> 8)


@pytest.mark.parametrize("most", [0, 3871, 65535])
def test_a_highest_value_that_is_no_number_of_bits_declares_nothing(most):
    got = gray_of(bare_tiff(GRAY.astype(np.uint16), 16, (281, 3, most), order=">"))
    assert len(np.unique(got)) == LEVELS


def test_the_range_of_a_set_holds_for_each_of_its_images():
    reading = Reading((0, 1000))
    dark, bright = GRAY.astype(np.uint16), GRAY.astype(np.uint16) + 700
    assert gray_of(tiff(dark, photometric="minisblack"), reading).max() == 63
    assert gray_of(tiff(bright, photometric="minisblack"), reading).min() == 179
    assert gray_of(png16(dark), reading).max() == 63
    assert (
        gray_of(tiff(RAMP.astype(np.float32) * 500, photometric="minisblack"), reading).max() < 126
    )
    # files of 8 bits, and those that declare their bits, are as they are
    assert np.array_equal(gray_of(saved(GRAY, "PNG"), reading), GRAY)
    assert np.array_equal(gray_of(bare_tiff(dark * 16, 12), reading), GRAY)


def test_full_is_the_whole_range_of_the_type():
    full = Reading("full")
    assert np.array_equal(gray_of(tiff(sixteen(GRAY), photometric="minisblack"), full), GRAY)
    assert gray_of(tiff(GRAY.astype(np.uint16), photometric="minisblack"), full).max() == 0
    assert gray_of(tiff(np.full((4, 4), 0, np.int16), photometric="minisblack"), full).max() == 128


@pytest.mark.parametrize("wide", ["shifted", "repeated"])
def test_eight_bits_that_were_widened_come_back(wide):
    every = np.arange(256, dtype=np.uint16).reshape(8, 32)
    numbers = every << 8 if wide == "shifted" else every * 257
    assert np.array_equal(gray_of(png16(numbers)), every)


def test_colour_has_one_range_for_its_bands():
    got = np.asarray(decode(tiff(RGB.astype(np.uint16), photometric="rgb")))
    assert off(got, RGB) < 4
    assert len(np.unique(got[..., 2])) == 1


@pytest.mark.parametrize("numbers", [sixteen(GRAY), GRAY.astype(np.uint16), GRAY.astype(np.int16)])
def test_white_is_zero_is_turned_round(numbers):
    top = 65535 if numbers.max() > 9999 else 255
    got = gray_of(tiff((top - numbers).astype(numbers.dtype), photometric="miniswhite"))
    assert off(got, GRAY) < 4


def test_one_value_keeps_its_place_in_the_type():
    assert set(np.unique(gray_of(png16(np.full((3, 3), 0x3333))))) == {0x33}


def test_images_in_memory_are_their_own_set_too():
    image = Image.fromarray(GRAY.astype(np.uint16))
    assert off(np.asarray(open_image(image)), as_rgb(GRAY)) < 4
    assert np.asarray(open_image(image, reading=Reading("full"))).max() == 0


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int8])
@pytest.mark.parametrize("limits", [(0, 4095), (-1000.5, 3000), (5, 90)])
def test_large_images_are_scaled_as_small_ones(dtype, limits):
    limit = np.iinfo(dtype)
    array = np.random.default_rng(0).integers(
        limit.min, limit.max, (500, 600), dtype, endpoint=True
    )
    whole = np.asarray(render(Values(array, limits), DEFAULT))
    parts = [
        np.asarray(render(Values(array[at : at + 100], limits), DEFAULT))
        for at in range(0, 500, 100)
    ]
    assert np.array_equal(whole, np.concatenate(parts))


def test_large_images_are_sampled_evenly():
    values = Values(np.arange(1_000_000, dtype=np.float32).reshape(1000, 1000))
    some = sample(values, Reading(), at_most=10_000)
    assert 5_000 < some.size <= 10_000
    low, high = robust_range(some)
    assert low < 20_000
    assert high > 970_000


def test_channels_choose_bands():
    stack = np.stack([GRAY] * 4 + [255 - GRAY], -1)
    data = tiff(stack, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageError, match=r"5 bands of 8 bits; expected 1 or 3 \(--channels 0,2,1"):
        decode(data)
    got = np.asarray(decode(data, reading=Reading(channels=(4, 0, 1))))
    assert np.array_equal(got, np.stack([255 - GRAY, GRAY, GRAY], -1))
    assert np.array_equal(gray_of(data, Reading(channels=(4,))), 255 - GRAY)
    with pytest.raises(ImageError, match="5 bands; channels 0,1,5 asks for"):
        decode(data, reading=Reading(channels=(0, 1, 5)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "PPM"])
def test_channels_of_ordinary_files(kind):
    data = saved(RGB, kind)
    whole = np.asarray(decode(data))
    assert np.array_equal(
        np.asarray(decode(data, reading=Reading(channels=(2, 1, 0)))), whole[..., ::-1]
    )
    with pytest.raises(ImageError, match="3 bands; channels 3 asks for"):
        decode(data, reading=Reading(channels=(3,)))


def test_flat():
    assert is_flat(np.zeros((32, 32), np.uint8))
    assert is_flat(Image.new("RGB", (9, 9), (10, 200, 30)))
    hot = np.zeros((32, 32, 3), np.uint8)
    hot[3, 4] = 255
    assert is_flat(hot)
    assert not is_flat(RGB)
    colours = np.zeros((8, 8, 3), np.uint8)
    colours[:4, :, 1] = 9
    assert not is_flat(colours)


def test_complex_numbers_are_refused():
    with pytest.raises(ValueError, match="complex64; expected integers or floats"):
        render(Values(np.zeros((2, 2), np.complex64)), Reading())
