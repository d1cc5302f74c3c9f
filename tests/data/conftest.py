"""Small image files and the folder of awkward ones, for the tests of `data`."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_tree(tmp_path):
    """make_tree("cat/1.jpg", ...) writes images for names that end so, empty files for others."""

    def make(*names):
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix.lower() in (".jpg", ".png"):
                Image.new("RGB", (6, 4), (number * 20 % 256, 90, 30)).save(path)
            else:
                path.touch()
        return tmp_path

    return make


@pytest.fixture
def quadrants():
    """A 32 x 24 image: red, green over blue, yellow."""
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[:12, :16], pixels[:12, 16:] = (220, 40, 40), (40, 200, 60)
    pixels[12:, :16], pixels[12:, 16:] = (50, 70, 220), (230, 210, 50)
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def badzoo(tmp_path_factory):
    """(folder, its EXPECTED.json) of the awkward files."""
    shared = Path(os.environ.get("PERMAFROST_SHARED", Path(__file__).parents[2].parent / "shared"))
    script = shared / "data" / "make_badzoo.py"
    if not script.exists():
        pytest.skip(
            f"no {script}; set PERMAFROST_SHARED to the folder that holds data/make_badzoo.py"
        )
    folder = tmp_path_factory.mktemp("badzoo")
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
    return folder, json.loads((folder / "EXPECTED.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def jpeg_of_scans():
    return _jpeg_of_scans


def _jpeg_of_scans(scans, width=64, height=64):
    """A progressive JPEG whose scans say that all coefficients stay as they are."""
    blocks = -(-width // 8) * -(-height // 8)
    data = b"\xff\xd8" + b"\xff\xdb\x00\x43\x00" + bytes([16] * 64)
    data += b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes([1, 0x11, 0])
    data += b"\xff\xc4" + struct.pack(">H", 20) + bytes([0x10, 1, *[0] * 15, 0xE0])
    run = min(32767, blocks)
    bits = ("0" + format(run - 16384, "014b")) * (blocks // run) if run > 16384 else ""
    bits += "1" * (-len(bits) % 8) or "0" * 8
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([1, 0, 1, 63, 0]) + packed
    return data + scan * scans + b"\xff\xd9"
