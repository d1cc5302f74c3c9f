"""Any file becomes RGB pixels by one rule, or an ImageError with a reason."""

import contextlib
import io
import os
import pickle
import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from data import ImageError, dct_scale, decode, decode_noted, find_images, open_image, read_bytes


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name, body, flip=0):
    return (
        struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", zlib.crc32(name + body) ^ flip)
    )


def png(depth, colour, rows, size, *more, flip=()):
    """A PNG of raw rows; the checksums of the chunks in `flip` are wrong."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *more, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, text, name in flip) for name, text in chunks)


def pixels(image):
    assert image.mode == "RGB"
    return np.asarray(image)


GRAY = Image.fromarray(np.array([[0, 51, 255]], np.uint8))
SIXTEEN = np.array([[0, 13107, 65535]], np.uint16)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(GRAY, "PNG"), [0, 51, 255]),
        (encoded(GRAY.convert("1"), "PNG"), [0, 0, 255]),
        (encoded(Image.fromarray(SIXTEEN), "PNG"), [0, 51, 255]),
        (encoded(Image.fromarray(SIXTEEN), "TIFF"), [0, 51, 255]),
        (encoded(Image.fromarray(SIXTEEN.astype(np.int32)), "TIFF"), [0, 51, 255]),
        (b"P5 3 1 65535 " + SIXTEEN.astype(">u2").tobytes(), [0, 51, 255]),
        (encoded(Image.fromarray(np.array([[0, 0.2, 1]], np.float32)), "TIFF"), [0, 51, 255]),
        (encoded(Image.fromarray(np.array([[0, 51, 255]], np.float32)), "TIFF"), [0, 51, 255]),
        (encoded(Image.fromarray(SIXTEEN.astype(np.float32)), "TIFF"), [0, 51, 255]),
        (encoded(Image.fromarray(np.array([[-5, np.nan, 1]], np.float32)), "TIFF"), [0, 0, 255]),
        (encoded(GRAY.convert("P"), "GIF"), [0, 51, 255]),
        (encoded(GRAY.convert("YCbCr"), "TIFF", compression=None), [0, 51, 255]),
        (encoded(GRAY.convert("CMYK"), "TIFF"), [0, 51, 255]),
        (encoded(GRAY.convert("RGB").convert("LAB"), "TIFF"), [0, 51, 255]),
        # what is transparent is white
        (encoded(Image.merge("LA", (GRAY, GRAY)), "PNG"), [255, 214, 255]),
        (encoded(GRAY, "PNG", transparency=51), [0, 255, 255]),
        (encoded(GRAY.convert("RGB"), "PNG", transparency=(51, 51, 51)), [0, 255, 255]),
        (encoded(GRAY.convert("P"), "PNG", transparency=0), [255, 51, 255]),
        (encoded(GRAY.convert("P"), "PNG", transparency=bytes(255)), [255, 255, 255]),
        (
            png(16, 0, [SIXTEEN.astype(">u2").tobytes()], (3, 1), (b"tRNS", b"\x33\x33")),
            [0, 255, 255],
        ),
        (png(8, 6, [bytes([9, 9, 9, 0] * 3)], (3, 1)), [255, 255, 255]),
    ],
)
def test_every_kind_of_pixel_is_rgb(data, expected):
    got = pixels(decode(data))[0].astype(int)
    tolerance = 1 if Image.open(io.BytesIO(data)).mode == "LAB" else 0
    assert np.abs(got - np.array(expected)[:, None]).max() <= tolerance


@pytest.mark.parametrize("mode", ["RGBX", "RGBa", "PA", "HSV", "I;16B"])
def test_pil_images_in_modes_no_file_has(mode):
    step = {"RGBa": "RGBA", "PA": "P", "I;16B": "I"}.get(mode, "RGB")
    image = Image.new("L", (2, 2), 51).convert("RGB").convert("L" if step == "I" else step)
    if step == "I":
        image = Image.frombytes("I;16B", (2, 2), b"\x33\x33" * 4)
    assert (pixels(open_image(image if step == "I" else image.convert(mode))) == 51).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("orientation", "corners"),
    [
        (1, "rgby"),
        (2, "gryb"),
        (3, "ybgr"),
        (4, "byrg"),
        (5, "rbgy"),
        (6, "bryg"),
        (7, "ygbr"),
        (8, "gyrb"),
        (9, "rgby"),
    ],
)
@pytest.mark.parametrize(("kind", "prefix"), [("JPEG", b"Exif\0\0"), ("PNG", b""), ("WEBP", b"")])
def test_exif_orientation(quadrants, order, orientation, corners, kind, prefix):
    tiff = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, 1)
    exif = prefix + tiff + struct.pack(order + "HHIHHI", 0x0112, 3, 1, orientation, 0, 0)
    image = decode(encoded(quadrants, kind, exif=exif))
    assert image.size == ((32, 24) if orientation in (1, 2, 3, 4, 9) else (24, 32))
    colours = {"r": (220, 40, 40), "g": (40, 200, 60), "b": (50, 70, 220), "y": (230, 210, 50)}
    w, h = image.size
    for place, name in zip([(3, 3), (w - 4, 3), (3, h - 4), (w - 4, h - 4)], corners, strict=True):
        assert np.abs(np.subtract(image.getpixel(place), colours[name])).max() < 40
    assert image.getexif().get(0x0112) is None


def test_tiff_orientation_is_applied_once(quadrants):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(
        pixels(decode(encoded(quadrants, "TIFF", exif=exif))), np.rot90(quadrants, 3)
    )


@pytest.mark.parametrize(
    "exif",
    [
        b"II*\0",
        b"MM\0*\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"junk" * 9,
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_broken_exif_block_does_not_cost_the_image(quadrants, kind, exif):
    prefix = b"Exif\0\0" if kind == "JPEG" else b""
    assert decode(encoded(quadrants, kind, exif=prefix + exif)).size == (32, 24)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_frame_is_taken(kind):
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(red, kind, save_all=True, append_images=[blue], **options)
    assert pixels(decode(data))[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("width", "height", "at_least", "scale"),
    [
        (4000, 3000, None, 1),
        (4000, 3000, 224, 8),
        (1792, 1792, 224, 8),
        (1785, 1785, 224, 8),  # 1785 / 8 = 223.1 is rounded up
        (1784, 1784, 224, 4),
        (448, 3000, 224, 2),
        (446, 3000, 224, 1),
        (100, 100, 224, 1),
        (3, 4000, 1, 8),
        (1, 1, 1, 8),
    ],
)
def test_dct_scale(width, height, at_least, scale):
    assert dct_scale(width, height, at_least) == scale
    assert dct_scale(height, width, at_least) == scale


def test_jpegs_come_out_at_exactly_our_scale():
    for width, height in [
        (1, 1),
        (3, 50),
        (7, 9),
        (15, 17),
        (16, 64),
        (63, 65),
        (100, 41),
        (449, 447),
    ]:
        data = encoded(Image.new("RGB", (width, height)), "JPEG")
        for at_least in (1, 2, 5, 8, 30, 224):
            scale = dct_scale(width, height, at_least)
            assert decode(data, at_least=at_least).size == (-(-width // scale), -(-height // scale))


@pytest.mark.parametrize(("at_least", "scale"), [(64, 1), (32, 2)])
def test_scaling_keeps_the_accurate_dct(at_least, scale):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG")

    def by_pillow(fast):
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (96 // scale, 64 // scale))
        image.decoderconfig = (scale, fast)
        return pixels(image)

    got = pixels(decode(data, at_least=at_least))
    assert np.array_equal(got, by_pillow(fast=0))
    assert not np.array_equal(got, by_pillow(fast=1))


def test_other_formats_are_decoded_whole(quadrants):
    assert decode(encoded(quadrants, "PNG"), at_least=1).size == (32, 24)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_a_file_cut_short_is_an_error(kind):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    assert decode(data).size == (40, 40)
    for keep in (0.1, 0.5, 0.9):
        with pytest.raises(ImageError, match=r"^some/file: not a readable "):
            decode(data[: int(keep * len(data))], "some/file")


@pytest.mark.parametrize("name", [b"IHDR", b"IDAT", b"PLTE"])
def test_a_wrong_png_checksum_is_an_error(name):
    with pytest.raises(ImageError, match=f"wrong checksum in chunk {name.decode()}"):
        decode(png(8, 2, [bytes(6)] * 2, (2, 2), (b"PLTE", bytes(3)), flip=(name,)))


@pytest.mark.parametrize("name", ["tEXt", "IEND", "tRNS", "iCCP"])
def test_a_wrong_checksum_of_what_is_no_pixel_is_noted(name):
    more = [(b"tEXt", b"a\0b"), (b"tRNS", bytes(6)), (b"iCCP", b"junk")]
    data = png(8, 2, [bytes(6)] * 2, (2, 2), *more, flip=(name.encode(),))
    image, notes = decode_noted(data)
    assert notes == (f"wrong checksum in chunk {name}",)
    # a transparent colour that can't be trusted is none
    assert image.getpixel((0, 0)) == ((0, 0, 0) if name == "tRNS" else (255, 255, 255))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "begins with b''; expected one of JPEG, PNG"),
        (b"<!DOCTYPE html>", "begins with b'<!DOCTYPE ht'"),
        (b"\xff\xd8\xff\xd9", "not a readable JPEG"),
        (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(40), "not a readable WebP"),
        (png(8, 2, [b""], (60000, 60000)), "60000 x 60000 is over the limit of 178,956,970 pixels"),
    ],
)
def test_what_is_not_an_image(data, reason):
    with pytest.raises(ImageError, match=reason) as caught:
        decode(data, "x")
    assert caught.value.path == "x"
    assert "\n" not in str(caught.value)


def test_the_limit_counts_before_decoding(quadrants):
    data = encoded(quadrants, "JPEG")
    assert decode(data, max_pixels=32 * 24).size == (32, 24)
    with pytest.raises(ImageError, match="32 x 24 is over the limit of 767 pixels"):
        decode(data, at_least=1, max_pixels=32 * 24 - 1)


def test_large_images_below_the_limit_do_not_warn(quadrants):
    # a header that claims 90 million pixels, where Pillow warns, over a small picture's data
    data = bytearray(encoded(quadrants, "JPEG"))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, 3_000, 30_000)
    assert decode(bytes(data), at_least=1).size == (3750, 375)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.touch(), "the file is empty"),
        (lambda path: path.mkdir(), "is a directory"),
        (os.mkfifo, "is a named pipe"),
        (lambda path: path.symlink_to("gone"), "is a link to a missing file"),
        (lambda path: path.symlink_to(path), "is a link that leads back to itself"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    ],
)
def test_what_is_not_a_file(tmp_path, make, reason):
    make(tmp_path / "x.jpg")
    with pytest.raises(ImageError) as caught:
        read_bytes(tmp_path / "x.jpg")
    assert (caught.value.path, caught.value.reason) == (str(tmp_path / "x.jpg"), reason)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_names_no_file_can_have(name):
    with pytest.raises(ImageError, match=r"not a file name|can't be read"):
        open_image(name)


def test_open_image_takes_paths_images_and_arrays(tmp_path, quadrants):
    quadrants.save(tmp_path / "x.png")
    array = np.asarray(quadrants)
    for source in (
        tmp_path / "x.png",
        str(tmp_path / "x.png"),
        quadrants,
        array,
        array[:, ::-1][:, ::-1],
    ):
        assert np.array_equal(pixels(open_image(source)), array)
    assert pixels(open_image(np.full((2, 3), 7, np.uint8))).tolist() == [[[7, 7, 7]] * 3] * 2


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (np.zeros((2, 2)), r"an array float64 \(2, 2\) came; expected uint8"),
        (np.zeros((3, 2, 2), np.uint8), r"an array uint8 \(3, 2, 2\) came"),
        (np.zeros((0, 2), np.uint8), "expected at least one pixel"),
        (7, "a int came; expected a path, a PIL image or a uint8 array"),
    ],
)
def test_open_image_refuses(source, reason):
    with pytest.raises(ImageError, match=reason):
        open_image(source)


def test_damage_of_any_kind_is_an_image_error(quadrants, capfd):
    exif = Image.Exif()
    exif[0x0112] = 6
    dice = random.Random(0)
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"):
        whole = encoded(
            quadrants, kind, **({} if kind in ("GIF", "BMP", "PPM") else {"exif": exif})
        )
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(dice.randint(1, 5)):
                data[dice.randrange(min(len(data), 300))] = dice.randrange(256)
            with contextlib.suppress(ImageError):
                assert decode(bytes(data)).mode == "RGB"
    capfd.readouterr()  # libtiff writes to stderr by itself


def test_odd_tiff_tags_do_not_warn_from_any_thread(quadrants):
    data = bytearray(encoded(quadrants, "TIFF"))
    entry = data.index(struct.pack("<HHI", 284, 3, 1))
    struct.pack_into("<I", data, entry + 4, 2)  # two values where PlanarConfiguration has one
    with pytest.warns(UserWarning, match="too many entries"):
        Image.open(io.BytesIO(data))
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(decode, [bytes(data)] * 16))
    assert {image.size for image in images} == {(32, 24)}


def test_many_threads_agree(quadrants):
    files = [
        encoded(quadrants, kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
    ] * 20
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: pixels(decode(data)).tobytes(), files))
    assert together == [pixels(decode(data)).tobytes() for data in files]


def test_image_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(ImageError("x.jpg", "is a directory")))
    assert (error.path, error.reason, str(error)) == (
        "x.jpg",
        "is a directory",
        "x.jpg: is a directory",
    )


def test_the_awkward_files(badzoo):
    folder, expected = badzoo
    colours = []
    for row in expected:
        path = str(folder / row["path"])
        if row["should"] == "fail":
            with pytest.raises(ImageError):
                open_image(path)
            continue
        image = open_image(path)
        assert list(image.size) == row["size_after_exif"], path
        if "quadrants_rgb" in row:
            colours.append((path, _means(pixels(image)), row["quadrants_rgb"]))
    for path, got, wanted in colours:
        assert np.abs(np.subtract(got, wanted)).max() < 12, path
    found, problems = find_images(folder / "bad")
    assert {os.path.basename(path) for path, _ in problems} == {"x.jpg", "y.jpg", "loop.jpg"}
    assert len(found) == sum(row["should"] == "fail" for row in expected) - 3


def test_sixteen_bit_files_are_scaled_not_clipped(badzoo):
    for name in ("gray16.png", "gray16.tif"):
        row = pixels(open_image(badzoo[0] / "good" / name))[0, :, 0]
        assert row.tolist() == (np.linspace(0, 65535, 96).astype(np.uint16) >> 8).tolist()


def _means(image):
    """Mean colours of the middles of the four quadrants."""
    h, w = image.shape[:2]
    corners = [(y, x) for y in (h // 8, 5 * h // 8) for x in (w // 8, 5 * w // 8)]
    return [image[y : y + h // 4, x : x + w // 4].mean((0, 1)) for y, x in corners]
