"""Damaged images of every format, decoded: only our own errors, no hang, little memory.

python tests/faults/fuzz_images.py [COUNT [SEED]] prints what was read and refused, the longest time
and the largest memory; it exits 1 where a bound was broken.
"""

import io
import json
import os
import random
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from data import ImageError, open_image
from data.apart import decoders

COUNT = 10_000
LONGEST = 10.0 + 5.0  # seconds: the limit, and what a loaded machine adds
MOST = 500  # MB
PNG = b"\x89PNG\r\n\x1a\n"
EXTREMES = [0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1]


def seeds() -> list[bytes]:
    """A small file of each format, mode and way of packing."""
    dice = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(48), np.arange(64))[..., None] * [1, 2, 1]
    colour = Image.fromarray((smooth + dice.integers(0, 9, (48, 64, 3))).astype(np.uint8))
    gray, clear = colour.convert("L"), colour.convert("RGBA")
    clear.putalpha(gray)
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 200)
    floats = Image.fromarray(np.asarray(gray).astype(np.float32))
    exif = Image.Exif()
    exif[0x0112] = 6
    rows: list[tuple[Image.Image, str, dict]] = [
        (colour, "JPEG", {"exif": exif}),
        (colour, "JPEG", {"progressive": True}),
        (gray, "JPEG", {"progressive": True, "quality": 20}),
        (colour.convert("CMYK"), "JPEG", {}),
        *((image, "PNG", {}) for image in (colour, gray, clear, deep, colour.convert("P"))),
        (colour, "GIF", {}),
        (colour, "GIF", {"save_all": True, "append_images": [clear], "comment": b"x" * 300}),
        (colour, "WEBP", {}),
        (clear, "WEBP", {"lossless": True}),
        (clear, "WEBP", {"save_all": True, "append_images": [colour]}),
        *((image, "BMP", {}) for image in (colour, gray, clear)),
        *((image, "PPM", {}) for image in (colour, gray, colour.convert("1"), deep)),
        *((image, "TIFF", {}) for image in (colour, gray, clear, deep, floats)),
        *(
            (colour, "TIFF", {"compression": packing})
            for packing in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
        ),
        (colour.convert("1"), "TIFF", {"compression": "group4"}),
    ]
    files = [b"P3 2 2 255\n" + b"1 2 3 " * 4, b"P1 4 2\n10101010", b"P6 # x\n2 1 15\n" + bytes(6)]
    for image, kind, options in rows:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return files


def damaged(whole: bytes, dice: random.Random) -> bytes:
    """One to six changes, most of them in the head; numbers become those at which code errs."""
    data = bytearray(whole)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(min(len(data), dice.choice([32, 300, len(data)])))
        match dice.randrange(7):
            case 0:
                data[at] = dice.randrange(256)
            case 1:
                data[at] ^= 1 << dice.randrange(8)
            case 2:
                order, size = dice.choice("<>"), dice.choice("HI")
                number = dice.choice(EXTREMES) & (0xFFFF if size == "H" else 0xFFFFFFFF)
                packed = struct.pack(order + size, number)
                data[at : at + len(packed)] = packed
            case 3:
                del data[at : at + dice.choice([1, 2, 16, 1000])]
            case 4:
                piece = data[at : at + dice.choice([2, 16, 200])]
                data[at:at] = piece * dice.choice([1, 2, 50])
            case 5:
                data[dice.randrange(len(data) // 2, len(data)) :] = b""
            case _:
                data[at:at] = dice.randbytes(dice.choice([1, 4, 64]))
        data = data or bytearray(b"\xff")
    if whole.startswith(PNG) and dice.randrange(2):
        _mend_checksums(data)
    return bytes(data)


def _mend_checksums(data: bytearray) -> None:
    """So that what the chunks of a PNG hold is looked at."""
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + struct.unpack_from(">I", data, at)[0]
        if end > len(data):
            break
        struct.pack_into(">I", data, end - 4, zlib.crc32(data[at + 4 : end - 4]))
        at = end


def run(count: int, seed: int) -> dict:
    """Decode `count` damaged files from disk, of which every 50th is kept whole."""
    dice, wholes = random.Random(seed), seeds()
    read = refused = 0
    lines: list[str] = []
    longest = (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        for number in range(count):
            whole = wholes[number % len(wholes)]
            path.write_bytes(damaged(whole, dice) if number % 50 else whole)
            began = time.monotonic()
            try:
                image = open_image(path, dice.choice([None, 16, 224]))
                assert image.mode == "RGB"
                read += 1
            except ImageError as error:
                lines.append(str(error))
                refused += 1
            longest = max(longest, (time.monotonic() - began, f"{number} of seed {seed}"))
    assert not [line for line in lines if not line.isprintable()]
    return {
        "read": read,
        "refused": refused,
        "longest_seconds": round(longest[0], 2),
        "longest": longest[1],
        "peak_mb": peak_mb(os.getpid()),
        "decoders_peak_mb": max(map(peak_mb, decoders()), default=0),
    }


def peak_mb(process: int) -> int:
    """The most memory that a process had since it began its program."""
    # getrusage tells the most since it was forked, from one that may have had more
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    found = run(*(numbers + [COUNT, 0][len(numbers) :]))
    print(json.dumps(found))
    peak = max(found["peak_mb"], found["decoders_peak_mb"])
    sys.exit(found["longest_seconds"] > LONGEST or peak > MOST)
