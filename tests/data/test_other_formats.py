"""Netpbm's formats, and those that need an extra: the ramp, or a refusal that names the extra."""

import numpy as np
import pytest

from data import ImageError, Reading, decode, decode_noted, newer_formats
from data import jpeg as jpeg_reader
from tests.data.pictures import GRAY, HEIGHT, OPAQUE, RGB, WIDTH, as_rgb, saved, sixteen

SIZE = b"%d %d" % (WIDTH, HEIGHT)
GRAY_ALPHA, RGBA = np.dstack([GRAY, OPAQUE]), np.dstack([RGB, OPAQUE])


def big_endian(array):
    return array.astype(array.dtype.newbyteorder(">")).tobytes()


def pam(array, kind, most=255):
    bands = 1 if array.ndim == 2 else array.shape[2]
    head = b"P7\n# by hand\nWIDTH %d\nHEIGHT %d\nDEPTH %d\nMAXVAL %d\nTUPLTYPE %s\nENDHDR\n"
    return head % (WIDTH, HEIGHT, bands, most, kind) + big_endian(array)


def floats(array, order):
    scale = b"-1.0" if order == "<" else b"1.0"
    kind = b"Pf" if array.ndim == 2 else b"PF"
    return (
        kind
        + b"\n"
        + SIZE
        + b"\n"
        + scale
        + b"\n"
        + (array / 255)[::-1].astype(order + "f4").tobytes()
    )


NETPBM = {
    "pgm 16": (b"P5 " + SIZE + b" 65535\n" + big_endian(sixteen(GRAY)), GRAY),
    "ppm 16": (b"P6 " + SIZE + b" 65535\n" + big_endian(sixteen(RGB)), RGB),
    "ppm 10": (b"P6 " + SIZE + b" 1023\n" + big_endian(RGB.astype(np.uint16) * 4), RGB),
    "text 12": (
        b"P2 " + SIZE + b" 4095\n" + b" ".join(b"%d" % value for value in (16.0 * GRAY).flat),
        GRAY,
    ),
    "comments": (
        b"P5 # one\n#two\n " + SIZE + b"\n#" + b"x" * 100_000 + b"\n255\n" + GRAY.tobytes(),
        GRAY,
    ),
    "pfm": (floats(GRAY, "<"), GRAY),
    "big-endian pfm": (floats(GRAY, ">"), GRAY),
    "colour pfm": (floats(RGB, "<"), RGB),
    "pam gray": (pam(GRAY, b"GRAYSCALE"), GRAY),
    "pam rgb": (pam(RGB, b"RGB"), RGB),
    "pam gray alpha": (pam(GRAY_ALPHA, b"GRAYSCALE_ALPHA"), GRAY),
    "pam rgb alpha": (pam(RGBA, b"RGB_ALPHA"), RGB),
    "pam 16": (pam(sixteen(RGBA), b"RGB_ALPHA", 65535), RGB),
    "pam bits": (pam((GRAY > 127).astype(np.uint8), b"BLACKANDWHITE", 1), (GRAY > 127) * 255),
}  # fmt: skip


@pytest.mark.parametrize("name", NETPBM)
def test_netpbm(name):
    data, wanted = NETPBM[name]
    assert np.array_equal(np.asarray(decode(data)), as_rgb(np.asarray(wanted)))
    for cut in (1, 100, len(data) - 20):
        if name != "text 12":
            with pytest.raises(ImageError, match="not a readable PPM"):
                decode(data[:-cut])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pam(np.dstack([RGB, GRAY]), b"X"), r"4 bands; expected 1 or 3 \(--channels 0,2,1 chooses"),
        (b"P7\nWIDTH 1\n", "a head of a PAM that has no end"),
        (b"P7\nWIDTH 1\nENDHDR\n", "the head of a PAM lacks"),
        (b"P6 3 nonsense", "its first line lacks"),
        (b"P5 100000 100000 65535\n", "over the limit"),
        (b"P5 1 1 70000\nxx", "a highest value of 70000; expected 1 to 65535"),
    ],
)
def test_netpbm_that_is_no_picture(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode(data)


def encoded(kind):
    if kind == "avif":
        pytest.importorskip("PIL.AvifImagePlugin")
        return saved(RGB, "AVIF", quality=95), RGB
    if kind == "jp2":
        return saved(RGB, "JPEG2000"), RGB
    if kind == "heic":
        pillow_heif = pytest.importorskip("pillow_heif")
        import io

        from PIL import Image

        buffer = io.BytesIO()
        pillow_heif.from_pillow(Image.fromarray(RGB)).save(buffer, quality=95)
        return buffer.getvalue(), RGB
    codecs = pytest.importorskip("imagecodecs")
    return {
        "jxl": lambda: (codecs.jpegxl_encode(RGB, lossless=True), RGB),
        "jxl 16": lambda: (codecs.jpegxl_encode(sixteen(GRAY), lossless=True), GRAY),
        "jxl float": lambda: (codecs.jpegxl_encode((RGB / 255).astype("f4"), lossless=True), RGB),
        "jxl wide": lambda: (codecs.jpegxl_encode(np.zeros((9, 5000), "u1")), np.zeros((9, 5000))),
        "jp2 16": lambda: (codecs.jpeg2k_encode(sixteen(RGB), level=0), RGB),
        "jp2 12": lambda: (
            codecs.jpeg2k_encode(GRAY.astype("u2") * 16, level=0, bitspersample=12), GRAY
        ),
        "jpeg 12": lambda: (
            codecs.jpeg_encode(GRAY.astype("u2") * 16, bitspersample=12, level=95), GRAY
        ),
        "jpeg without loss": lambda: (codecs.jpeg_encode(RGB, lossless=True), RGB),
        "jpeg of 16": lambda: (
            codecs.jpeg_encode(sixteen(GRAY), lossless=True, bitspersample=16), GRAY
        ),
    }[kind]()  # fmt: skip


EXTRA = ["heic", "jxl", "jxl 16", "jxl float", "jxl wide", "jp2 16", "jp2 12"]
DEEP_JPEG = ["jpeg 12", "jpeg of 16"]


@pytest.mark.parametrize("kind", ["avif", "jp2", "jpeg without loss", *EXTRA, *DEEP_JPEG])
def test_formats_of_the_extra(kind):
    data, wanted = encoded(kind)
    image, notes = decode_noted(data)
    assert np.abs(np.asarray(image).astype(int) - as_rgb(wanted)).mean() < 4
    assert notes == ()
    for part in (data[: len(data) // 2], data[:40], data[:12]):
        with pytest.raises(ImageError):
            decode(part)
    with pytest.raises(ImageError, match="over the limit"):
        decode(data, max_pixels=100)


@pytest.mark.parametrize("kind", [*EXTRA, *DEEP_JPEG])
def test_without_the_extra_the_refusal_names_it(monkeypatch, kind):
    data, _ = encoded(kind)

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(newer_formats, "import_module", missing)
    monkeypatch.setattr(jpeg_reader, "find_spec", lambda name: None)
    with pytest.raises(ImageError, match=r"pip install permafrost\[formats\] reads"):
        decode(data)


def test_channels_of_deep_formats():
    data, _ = encoded("jp2 16")
    got = np.asarray(decode(data, reading=Reading(channels=(1,))))
    assert np.array_equal(got, as_rgb(RGB[..., 1]))
