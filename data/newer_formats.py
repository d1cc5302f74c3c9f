"""AVIF, HEIC, JPEG XL and JPEG 2000: each by one library, whatever else is installed."""

import io
import re
import struct
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, features
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from data.opened import FORMATS_EXTRA, Asked, Opened
from data.values import Values, count, declared_range

_SIZ = b"\xff\x4f\xff\x51"  # how a JPEG 2000 codestream begins
_JXL_BOX = b"\0\0\0\x0cJXL "
_RATIOS = (None, (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def read_avif(data: bytes, asked: Asked) -> Opened:
    """By Pillow, where it was built with libavif."""
    if not features.check("avif"):
        raise ValueError(f"{FORMATS_EXTRA} reads it")
    return _by_plugin(_import("PIL.AvifImagePlugin").AvifImageFile, data, asked)


def read_heic(data: bytes, asked: Asked) -> Opened:
    """By pillow-heif, which has turned the picture upright."""
    opened = _by_plugin(_import("pillow_heif").HeifImageFile, data, asked)
    return opened._replace(exif=None, xmp=None)


def read_jpeg_xl(data: bytes, asked: Asked) -> Opened:
    """By imagecodecs, that is libjxl, which has turned the picture upright."""
    asked.check_size(*jpeg_xl_size(data))
    _first_alone(asked)
    return Opened(_values(_decoded("jpegxl_decode", data), asked, 16))


def read_jpeg_2000(data: bytes, asked: Asked) -> Opened:
    """By Pillow, or by imagecodecs where there are more than 8 bits."""
    at = data.find(_SIZ)
    if at < 0 or len(data) < at + 43:
        raise ValueError("no image in it")
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    asked.check_size(max(0, right - left), max(0, bottom - top))
    _first_alone(asked)
    depth = data[at + 42]  # bits less one, and whether they are signed
    if depth <= 7:
        return _by_plugin(Jpeg2KImageFile, data, asked)
    bits = (depth & 127) + 1
    return Opened(_values(_decoded("jpeg2k_decode", data), asked, 16 if depth & 128 else bits))


def _first_alone(asked: Asked) -> None:
    if asked.reading.page:
        raise ValueError(f"page {asked.reading.page + 1} was asked for; only the first is read")


def _by_plugin(plugin: Any, data: bytes, asked: Asked) -> Opened:
    image: Image.Image = plugin(io.BytesIO(data))
    asked.check_size(*image.size)
    frames, page = getattr(image, "n_frames", 1), asked.reading.page
    if page >= frames:
        raise ValueError(f"page {page + 1} was asked for; the file has {frames}")
    if page:
        image.seek(page)
    image.load()
    notes = (f"{page + 1} of {frames} frames",) if frames > 1 else ()
    return Opened(image, notes, image.info.get("exif"), image.info.get("xmp"))


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise ValueError(f"{FORMATS_EXTRA} reads it") from None


def _decoded(function: str, data: bytes) -> np.ndarray:
    imagecodecs = _import("imagecodecs")
    try:
        return np.asarray(getattr(imagecodecs, function)(data))
    except ImportError:
        raise ValueError(f"{FORMATS_EXTRA} reads it") from None
    except Exception as error:  # each codec of imagecodecs has a class of error of its own
        raise ValueError(str(error)) from error


def _values(array: np.ndarray, asked: Asked, bits: int) -> Values:
    """Gray or colour, and transparency as the last of 2 or 4 bands."""
    if array.ndim == 4:
        array = array[0]
    bands = 1 if array.ndim == 2 else array.shape[2]
    declared = (0.0, 255.0) if array.dtype == np.uint8 else declared_range(bits)
    if asked.reading.channels is not None:
        return Values(array, declared)
    if bands > 4:
        raise ValueError(f"{count(bands, 'band')}; expected 1 or 3 (--channels 0,2,1 chooses)")
    if bands in (1, 3):
        return Values(array, declared)
    top = 1 if array.dtype.kind == "f" else 2 ** (bits if declared else 16) - 1
    if array.dtype == np.uint8:
        top = 255
    alpha = np.rint(np.clip(array[..., -1] / top, 0, 1) * 255).astype(np.uint8)
    return Values(array[..., 0] if bands == 2 else array[..., :3], declared, alpha)


def jpeg_xl_size(data: bytes) -> tuple[int, int]:
    """Width and height by the header: numbers of a few bits each, the lowest first."""
    start = 0
    if data.startswith(_JXL_BOX):
        found = re.search(rb"jxl[cp](?:....)??\xff\x0a", data[: 2**20], re.DOTALL)
        if not found:
            raise ValueError("no image in its first megabyte")
        start = found.end() - 2
    bits = int.from_bytes(data[start + 2 : start + 16], "little")

    def take(many: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << many) - 1), bits >> many
        return value

    def side(small: int) -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    small = take(1)
    height = side(small)
    ratio = _RATIOS[take(3)]
    return (side(small) if ratio is None else height * ratio[0] // ratio[1]), height
