"""What a file is about to cost is told from its head, and what costs too much is refused."""

import contextlib
import io
import os
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data import ImageError, decode, open_image, read_bytes
from data import gate as gate_file
from data.images import read_blocks
from data.limits import MIB, UNKNOWN, Cost, cost_of, largest_file
from data.memory import ORDINARY

MANY = 10**9
NAMES = (
    "JPEG",
    "PNG",
    "GIF",
    "WebP",
    "BMP",
    "TIFF",
    "PPM",
    "HEIC",
    "AVIF",
    "JPEG 2000",
    "?",
)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name, body):
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def png(width, height, colour, body, *more):
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), *more, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, text) for name, text in chunks)


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("kind", "options", "mode", "each"),
    [
        ("JPEG", {}, "RGB", 8),
        ("JPEG", {"progressive": True, "subsampling": 0}, "RGB", 8 + 2 * 3),
        ("JPEG", {"progressive": True, "subsampling": 2}, "RGB", 8 + 2 * 1.5),
        ("PNG", {}, "RGB", 4),
        ("PNG", {}, "L", 5),
        ("PNG", {}, "RGBA", 13),
        ("GIF", {}, "P", 18),
        ("WEBP", {}, "RGB", 16),
        ("WEBP", {"lossless": True}, "RGBA", 25),
        ("BMP", {}, "RGB", 13),
        ("PPM", {}, "RGB", 13 + 4 * 3),
        ("TIFF", {}, "RGB", 13 + 3 * 3),
        ("TIFF", {"big_tiff": True}, "RGB", 13 + 3 * 3),
        ("TIFF", {}, "F", 13 + 3 * 4),
        ("TIFF", {}, "L", 9),
    ],
)
def test_memory_follows_from_the_declared_size(picture, kind, options, mode, each):
    data = encoded(picture.convert(mode), kind, **options)
    cost = cost_of("WebP" if kind == "WEBP" else kind, data, None, MANY)
    assert cost.bytes - len(data) == pytest.approx(300 * 400 * each, rel=0.02)
    assert cost.seconds < 0.1


def test_a_scale_makes_large_photos_cheap(picture):
    data = encoded(picture.resize((3200, 2400)), "JPEG", quality=30)
    whole, scaled = cost_of("JPEG", data, None, MANY), cost_of("JPEG", data, 224, MANY)
    assert (whole.bytes - len(data)) == 64 * (scaled.bytes - len(data)) == 3200 * 2400 * 8


def test_what_is_over_the_limit_of_pixels_is_left_to_the_decoder():
    assert cost_of("PNG", png(60000, 60000, 2, b""), None, 10**6).bytes == 0


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_head_that_tells_nothing_is_unknown(name):
    assert cost_of(name, b"RIFF", None, MANY) == UNKNOWN


@pytest.mark.parametrize("page", [0, 1, 2])
def test_the_page_that_is_asked_for_counts(picture, page):
    pages = [picture.resize((100 * n, 10)) for n in (1, 2, 3)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    cost = cost_of("TIFF", data, None, MANY, page)
    assert cost.bytes == 100 * (page + 1) * 10 * 22 + len(data)


@pytest.mark.parametrize("name", [*NAMES, "JPEG XL"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_bytes_have_a_cost_or_a_value_error(name, data):
    begins = {
        "JPEG": b"\xff\xd8\xff\xc2\x00\x0b\x08",
        "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "GIF": b"GIF89a",
        "WebP": b"RIFF\0\0\0\0WEBPVP8X",
        "BMP": b"BM",
        "TIFF": data.draw(st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0+\0\x08\0\0"])),
        "PPM": data.draw(st.sampled_from([b"P6 ", b"P7\nWIDTH ", b"P3 #"])),
        "HEIC": b"\0\0\0\0ftypheicispe\0\0\0\0",
        "JPEG 2000": b"\xff\x4f\xff\x51",
        "JPEG XL": data.draw(
            st.sampled_from([b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\njxlc\xff\x0a"])
        ),
    }
    content = begins.get(name, b"") + data.draw(st.binary(max_size=120))
    began = time.monotonic()
    with contextlib.suppress(ValueError):
        assert isinstance(cost_of(name, content, 224, MANY), Cost)
        assert largest_file(name, content) >= 256 * MIB
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("JPEG", b"\xff\xd8" + b"\xff\xfe\0\2" * 10**6),
        ("JPEG", b"\xff\xd8" + b"\xff" * 10**6 + b"\xc2"),
        ("JPEG", b"\xff\xd8\xff\xe0\0\2" + b"\0" * 10**6 + b"\xff\xd9"),
        ("PNG", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0\0\0\1" * 2 + b"\x08\2\0\0\0") * 10**5),
        ("GIF", b"GIF89a\1\0\1\0\0\0\0!\xfe" + b"\1a" * 10**6),
        ("GIF", b"GIF89a\1\0\1\0\0\0\0!\xfe" + (b"\xff" + b"a" * 255) * 10**5),
        ("PPM", b"P6 #" + b"x" * 10**7 + b"\n1 1 255\n\0\0\0"),
        ("PPM", b"P3 1 1 255 " + b" " * 10**7 + b"1 1 1"),
        ("PPM", b"P5 4000 4000 15\n" + bytes(4000 * 4000)),
        ("BMP", encoded(Image.new("L", (8, 8)), "BMP")[:30] + b"\1\0\0\0" + bytes(10**7)),
    ],
)
def test_what_python_reads_piece_by_piece_is_dear(name, data):
    assert cost_of(name, data, None, MANY).seconds >= 0.9


def test_a_jump_behind_the_last_row_counts_as_memory():
    head = bytearray(encoded(Image.new("L", (8, 8)), "BMP"))
    struct.pack_into("<iiHHI", head, 18, 10**8, 1, 1, 8, 1)
    with pytest.raises(ImageError, match=r"would need 50,\d\d\d MB of memory to decode"):
        decode(bytes(head))


@pytest.mark.parametrize("scans", [1001, 6000])
def test_more_scans_than_any_encoder_writes_are_refused_at_once(scans, jpeg_of_scans):
    began = time.monotonic()
    with pytest.raises(ImageError, match=f"{scans:,} scans; at most 1,000 are read"):
        decode(jpeg_of_scans(scans, 65500, 2700), at_least=32)
    assert time.monotonic() - began < 1


def test_several_scans_of_a_small_picture_are_read(jpeg_of_scans):
    assert decode(jpeg_of_scans(10)).size == (64, 64)


def test_a_small_file_of_many_pixels_is_refused_for_its_memory():
    packer = zlib.compressobj()
    rows = b"".join(packer.compress(bytes(1 + 4 * 6000)) for _ in range(6000)) + packer.flush()
    data = png(6000, 6000, 6, rows)
    assert len(data) < 200_000
    with pytest.raises(ImageError, match=r"would need 446 MB of memory .*at most 400 MB") as caught:
        decode(data, "white.png")
    assert "6000 x 6000 pixels in a file of" in str(caught.value)
    assert ORDINARY == 400 * MIB


def test_pixels_that_the_file_can_not_hold_are_a_file_cut_short():
    for data in (
        png(10000, 10000, 2, zlib.compress(bytes(1000))),
        b"P6 10000 10000 255\n" + bytes(1000),
    ):
        with pytest.raises(ImageError, match="the file is cut short"):
            decode(data)


def test_what_is_dear_is_decoded_apart_to_the_same_pixels(picture, monkeypatch):
    files = [encoded(picture, kind) for kind in ("JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP")]
    here = [np.asarray(decode(data, at_least=100)) for data in files]
    monkeypatch.setattr(gate_file, "IN_THREAD", -1)
    apart = [np.asarray(decode(data, at_least=100)) for data in files]
    for one, other in zip(here, apart, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ImageError, match="not a readable PNG: the file is cut short") as caught:
        decode(files[1][:-30], "x.png")
    assert caught.value.path == "x.png"


@pytest.mark.parametrize("name", ["file.jpg", "file.tif"])
def test_a_large_file_of_no_format_is_not_read(tmp_path, name):
    path = tmp_path / name
    with open(path, "wb") as file:
        file.truncate(6 << 30)
    for read in (read_bytes, open_image, lambda path: list(read_blocks(path))):
        began = time.monotonic()
        with pytest.raises(ImageError, match=r"begins with b'.*; expected one of JPEG"):
            read(path)
        assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("head", "most"),
    [
        (png(10, 10, 2, b"")[:60], 256 * MIB + 1600),
        (b"P6 10 10 255\n", 256 * MIB + 1600),
        (b"II*\0" + bytes(60), 2048 * MIB),
        (b"\xff\xd8\xff\xe0" + bytes(60), 256 * MIB),
    ],
)
def test_a_file_larger_than_its_pixels_could_need_is_not_read(tmp_path, head, most):
    path = tmp_path / "image"
    path.write_bytes(head)
    os.truncate(path, most + 1)
    with pytest.raises(ImageError, match=f"has {most + 1:,} bytes; expected at most {most:,}"):
        read_bytes(path)


@pytest.mark.parametrize("target", ["/proc/self/mem", "/proc/kmsg", "/proc/self/status"])
def test_files_of_the_kernel_are_empty(tmp_path, target):
    if not os.path.exists(target):
        pytest.skip("no /proc")
    (tmp_path / "link.jpg").symlink_to(target)
    with pytest.raises(ImageError, match="the file is empty"):
        read_bytes(tmp_path / "link.jpg")


def test_a_pipe_put_in_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "image.jpg")
    monkeypatch.setattr("data.images.file_problem", lambda path: None)
    with pytest.raises(ImageError, match="is a named pipe"):
        read_bytes(tmp_path / "image.jpg")


def test_blocks_are_the_bytes(tmp_path, monkeypatch, picture):
    monkeypatch.setattr("data.images.READ_BLOCK", 1000)
    picture.save(tmp_path / "image.png")
    whole = (tmp_path / "image.png").read_bytes()
    assert read_bytes(tmp_path / "image.png") == whole
    blocks = [bytes(block) for block in read_blocks(tmp_path / "image.png")]
    assert b"".join(blocks) == whole
    assert {len(block) for block in blocks[:-1]} == {1000}
