"""TIFFs of every layout give the known picture, or are refused by what came."""

import io
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image

from data import ImageError, Reading, decode, decode_noted
from data import tiff as reader
from tests.data.pictures import GRAY, OPAQUE, RGB, as_rgb, bare_tiff, saved, sixteen, tiff

CMYK = np.dstack([255 - RGB, np.zeros_like(GRAY)])
RGBA = np.dstack([RGB, OPAQUE])
EVERY = np.stack([np.arange(256)] * 3).astype(np.uint16)
PICTURES = {
    "gray8": (GRAY, GRAY, {"photometric": "minisblack"}),
    "gray16": (sixteen(GRAY), GRAY, {"photometric": "minisblack"}),
    "gray32": (GRAY.astype(np.uint32) * 16843009, GRAY, {"photometric": "minisblack"}),
    "int8": ((GRAY.astype(int) - 128).astype(np.int8), GRAY, {"photometric": "minisblack"}),
    "white is zero 8": (255 - GRAY, GRAY, {"photometric": "miniswhite"}),
    "white is zero 16": (65535 - sixteen(GRAY), GRAY, {"photometric": "miniswhite"}),
    "float32": ((GRAY / 255).astype(np.float32), GRAY, {"photometric": "minisblack"}),
    "float64": (GRAY / 255, GRAY, {"photometric": "minisblack"}),
    "rgb8": (RGB, RGB, {"photometric": "rgb"}),
    "rgb16": (sixteen(RGB), RGB, {"photometric": "rgb"}),
    "rgb float": ((RGB / 255).astype(np.float32), RGB, {"photometric": "rgb"}),
    "rgba16": (sixteen(RGBA), RGB, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "cmyk8": (CMYK, RGB, {"photometric": "separated"}),
    "cmyk16": (sixteen(CMYK), RGB, {"photometric": "separated"}),
    "palette": (GRAY, GRAY, {"photometric": "palette", "colormap": EVERY * 257}),
    "palette of 8 bits": (GRAY, GRAY, {"photometric": "palette", "colormap": EVERY}),
}
LAYOUTS = {
    "strips": {},
    "big-endian": {"byteorder": ">"},
    "bigtiff": {"bigtiff": True},
    "big-endian bigtiff": {"bigtiff": True, "byteorder": ">"},
    "tiles": {"tile": (16, 32)},
    "rows": {"rowsperstrip": 5},
    "zlib": {"compression": "zlib"},
    "zlib tiles": {"compression": "zlib", "tile": (16, 32), "byteorder": ">"},
    "packbits": {"compression": "packbits"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("name", "planar"),
    [(name, "contig") for name in PICTURES]
    + [(name, "separate") for name, (array, _, _) in PICTURES.items() if array.ndim == 3],
)
def test_every_layout(name, layout, planar):
    array, wanted, options = PICTURES[name]
    if planar == "separate":
        array = np.moveaxis(array, -1, 0)
    data = tiff(array, **options, **LAYOUTS[layout], planarconfig=planar)
    assert np.array_equal(np.asarray(decode(data)), as_rgb(wanted))


@pytest.mark.parametrize("bits", range(1, 15))
@pytest.mark.parametrize("photometric", [0, 1])
def test_packed_bits(bits, photometric):
    if bits not in (1, 2, 4, 8):
        pytest.importorskip("imagecodecs")
    numbers = np.rint(GRAY / 255 * (2**bits - 1)).astype(int)
    turned = 2**bits - 1 - numbers if photometric == 0 else numbers
    got = np.asarray(decode(bare_tiff(turned, bits, photometric=photometric)))
    assert np.abs(got[..., 0] - numbers * (255 / (2**bits - 1))).max() <= 1


@pytest.mark.parametrize("compression", ["lzw", "zstd", "lzma"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("codecs", [True, False])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize(
    "name", ["gray8", "gray16", "int16", "float32", "rgb8", "rgb16", "rgba16", "rgb float"]
)
def test_compressed_with_imagecodecs_and_without(
    monkeypatch, compression, order, codecs, predictor, name
):
    pytest.importorskip("imagecodecs")
    if name == "int16":
        array = (GRAY.astype(int) * 257 - 32768).astype(np.int16)
        wanted, options = GRAY, {"photometric": "minisblack"}
    else:
        array, wanted, options = PICTURES[name]
    # lzma has none, and floats another
    predictor = predictor and compression != "lzma" and array.dtype.kind != "f"
    data = tiff(array, **options, compression=compression, byteorder=order, predictor=predictor)
    if not codecs:
        monkeypatch.setattr(reader, "find_spec", lambda name: None)
    try:
        got = np.asarray(decode(data))
    except ImageError as error:
        if codecs or "pip install permafrost[formats]" not in error.reason:
            raise
    else:
        assert np.abs(got.astype(int) - as_rgb(wanted)).mean() < 4


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (np.stack([GRAY] * 5), {"photometric": "minisblack"}, "5 bands of 8 bits; expected 1 or 3"),
        (sixteen(np.dstack([RGB, GRAY])), {"photometric": "minisblack", "planarconfig": "contig"},
         "4 bands of 16 bits; expected 1 or 3"),
        (np.stack([GRAY] * 3), {"photometric": "minisblack"}, "3 bands of 8 bits"),
        (GRAY + 1j, {}, "complex numbers of 128 bits; expected integers or floats"),
        (RGB, {"photometric": 32845}, "LogLuv; expected gray, RGB"),
        (GRAY, {"photometric": 32803}, "a camera's raw colour filter; expected gray"),
        (np.stack([GRAY] * 16), {"volumetric": True, "tile": (16, 16, 16)},
         "a volume of 16 planes"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_by_what_came(array, options, reason):
    if array.ndim == 3 and array.shape[0] in (3, 5):
        options = {**options, "planarconfig": "separate"}
    with pytest.raises(ImageError, match=reason):
        decode(tiff(array, **options))


@pytest.mark.parametrize("deep", [False, True])
def test_cmyk_with_alpha(deep):
    array = np.dstack([CMYK, OPAQUE])
    array = sixteen(array) if deep else array
    data = tiff(array, photometric="separated", extrasamples=["unassalpha"])
    assert np.array_equal(np.asarray(decode(data)), RGB)


def test_white_is_one_where_nothing_is_said():
    data = bytearray(bare_tiff(GRAY, 8))
    struct.pack_into("<H", data, data.index(struct.pack("<HHII", 262, 3, 1, 1)), 263)
    assert np.array_equal(np.asarray(decode(bytes(data))), as_rgb(GRAY))


def test_bands_of_no_meaning_are_left_out_of_colour_and_noted():
    data = tiff(RGBA, photometric="rgb", extrasamples=["unspecified"])
    image, notes = decode_noted(data)
    assert np.array_equal(np.asarray(image), RGB)
    assert notes == ("band 4 of 4 left out",)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_transparency_is_white_and_noted(deep, kind):
    half = np.full_like(GRAY, 128)
    colour = RGB // 2 if kind == "assocalpha" else RGB
    array = np.dstack([colour, half])
    array = sixteen(array) if deep else array
    reading = Reading("full")
    image, notes = decode_noted(
        tiff(array, photometric="rgb", extrasamples=[kind]), reading=reading
    )
    assert np.abs(np.asarray(image).astype(int) - (RGB // 2 + 127)).max() <= 3
    assert notes == ("band 4 of 4 is transparency by its tag",)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_gray_with_alpha(deep, kind, photometric):
    gray = 255 - GRAY if photometric == "miniswhite" else GRAY
    array = np.dstack([gray, OPAQUE])
    array = sixteen(array) if deep else array
    data = tiff(array, photometric=photometric, planarconfig="contig", extrasamples=[kind])
    assert np.array_equal(np.asarray(decode(data)), as_rgb(GRAY))


def stack(**options):
    pages = np.stack([GRAY, 255 - GRAY, GRAY // 2])
    return tiff(sixteen(pages), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "minisblack"},
        {"photometric": "minisblack", "bigtiff": True},
        {"imagej": True},
        {"ome": True, "photometric": "minisblack", "metadata": {"axes": "TYX"}},
    ],
    ids=["pages", "bigtiff", "imagej", "ome"],
)
def test_pages(options):
    data = stack(**options)
    image, notes = decode_noted(data)
    assert np.array_equal(np.asarray(image), as_rgb(GRAY))
    assert notes == ("1 of 3 pages",)
    image, notes = decode_noted(data, reading=Reading(page=1))
    assert np.array_equal(np.asarray(image), as_rgb(255 - GRAY))
    assert notes == ()  # it was asked for
    with pytest.raises(ImageError, match="page 4 was asked for; the file has 3"):
        decode(data, reading=Reading(page=3))


def test_pages_of_different_shapes_and_types():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(sixteen(GRAY[:9, :11]), photometric="minisblack", compression="zlib")
    got = decode(buffer.getvalue(), reading=Reading("full", page=1))
    assert np.array_equal(np.asarray(got), as_rgb(GRAY[:9, :11]))


def test_smaller_copies_are_not_pages():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(RGB[::4, ::4].copy(), photometric="rgb", subfiletype=1)
        writer.write(RGB, photometric="rgb", subifds=1)
        writer.write(RGB[::2, ::2].copy(), photometric="rgb", subfiletype=1)
    image, notes = decode_noted(buffer.getvalue())
    assert image.size == (84, 48)
    assert notes == ()


def test_a_preview_is_not_taken_for_a_camera_s_picture():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(RGB[::4, ::4].copy(), photometric="rgb", subfiletype=1, subifds=1)
        writer.write(sixteen(GRAY), photometric=32803, subfiletype=0)
    with pytest.raises(ImageError, match="a preview alone"):
        decode(buffer.getvalue())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_deep_pictures(orientation):
    data = tiff(
        sixteen(GRAY), photometric="minisblack", extratags=[(274, "H", 1, orientation, True)]
    )
    plain = Image.Exif()
    plain[0x0112] = orientation
    assert np.array_equal(
        np.asarray(decode(data)), np.asarray(decode(saved(GRAY, "TIFF", exif=plain)))
    )


def test_lab_of_8_and_16_bits_alike():
    lab = np.dstack([GRAY, np.zeros_like(GRAY), np.zeros_like(GRAY)])
    eight = np.asarray(decode(tiff(lab, photometric="cielab")))
    assert np.array_equal(np.asarray(decode(tiff(sixteen(lab), photometric="cielab"))), eight)
    icc = lab + np.uint8([0, 128, 128])
    assert np.array_equal(np.asarray(decode(tiff(icc, photometric="icclab"))), eight)


def test_a_tiff_cut_short_is_refused_wherever_its_tags_lie():
    noise = np.random.default_rng(0).integers(0, 60000, (40, 40), dtype=np.uint16)
    whole = tiff(noise, photometric="minisblack")
    assert decode(whole).size == (40, 40)
    for keep in range(0, len(whole), 97):
        with pytest.raises(ImageError):
            decode(whole[:keep])


def test_a_directory_that_leads_back_to_itself_ends():
    data = bytearray(bare_tiff(GRAY, 8))
    (start,) = struct.unpack_from("<I", data, 4)
    struct.pack_into("<I", data, len(data) - 4, start)
    assert decode_noted(bytes(data))[1] == ()


def test_more_pixels_than_a_file_can_hold_are_not_asked_for():
    data = tiff(GRAY, photometric="minisblack", compression="zlib")
    for tag, side in ((256, 84), (257, 48), (278, 48)):
        for kind in (3, 4):
            large = struct.pack("<HHII", tag, 4, 1, 6_000)
            data = data.replace(struct.pack("<HHII", tag, kind, 1, side), large)
    with pytest.raises(ImageError, match=r"can't hold its pixels|would need"):
        decode(data)


def test_libtiff_keeps_quiet_from_any_thread(capfd):
    broken = []
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "group4", "jpeg"):
        image = Image.fromarray(GRAY).convert("1" if compression == "group4" else "L")
        data = bytearray(saved(image, "TIFF", compression=compression))
        data[12:40] = bytes(range(100, 128))
        broken.append(bytes(data))

    def attempt(data):
        try:
            decode(data)
        except ImageError:
            return True
        return False

    with ThreadPoolExecutor(4) as pool:
        assert any(pool.map(attempt, broken * 4))
    assert capfd.readouterr().err == ""


def test_tifffile_is_loaded_for_files_that_need_it_alone():
    lines = (
        "import sys, data, io; from PIL import Image; from data.images import decode\n"
        "b = io.BytesIO(); Image.new('RGB', (4, 4)).save(b, 'TIFF'); decode(b.getvalue())\n"
        "assert 'tifffile' not in sys.modules and 'imagecodecs' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", lines], check=True)
