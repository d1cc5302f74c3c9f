"""JPEG: at the scale that is asked for, without its end too, and of more than 8 bits."""

import io
import re
import struct
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from data.opened import FORMATS_EXTRA, NO_PAGES, Asked, Opened
from data.values import Values, declared_range

END = b"\xff\xd9"
SCAN = 0xDA
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd9\xff]")
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
# two ways to go on where the file ends: pixels that are all there are the same under both
FILLINGS = (b"", b"\xaa\x55\x12" * 64)


class JpegFile(JpegImageFile):
    """Pillow's JPEG without its look into the EXIF block."""

    def getexif(self) -> Image.Exif:
        # Pillow parses the block for its dpi alone, and warns or fails where the block is broken
        return Image.Exif()


def read_jpeg(data: bytes, asked: Asked) -> Opened:
    """The picture of a JPEG, whatever page is asked for: photos lie beside stacks of pages."""
    opened = _read_picture(data, asked)
    if asked.reading.page:
        opened = opened._replace(notes=(*opened.notes, NO_PAGES))
    return opened


def _read_picture(data: bytes, asked: Asked) -> Opened:
    try:
        image = _load(data, asked)
    except (SyntaxError, OSError) as error:
        deep = _deep(data, asked)
        if deep is not None:
            return Opened(deep, exif=_exif(data))
        # only now: to look for an end in every file would cost what it tells
        mended = _without_end(data, asked) if "truncated" in str(error) else None
        if mended is None:
            raise
        exif, xmp = mended.info.get("exif"), mended.info.get("xmp")
        return Opened(mended, ("missing end of file",), exif, xmp)
    return Opened(image, (), image.info.get("exif"), image.info.get("xmp"))


def dct_scale(width: int, height: int, at_least: int | None = None) -> int:
    """By how much a JPEG is scaled down while it is decoded.

    Parameters
    ----------
    width, height : int
        Of the whole image, in pixels.
    at_least : int, optional
        What the shorter side, divided and rounded up, must not fall below, in pixels.

    Returns
    -------
    {8, 4, 2, 1}
        The largest divisor that does; 1 where `at_least` is None.

    Examples
    --------
    >>> dct_scale(4000, 3000, 224), dct_scale(447, 800, 224), dct_scale(4000, 3000)
    (8, 2, 1)
    """
    if at_least is None:
        return 1
    shorter = min(width, height)
    for scale in (8, 4, 2):
        rounded_up = -(-shorter // scale)
        if rounded_up >= at_least:
            return scale
    return 1


def _load(data: bytes, asked: Asked) -> Image.Image:
    image = JpegFile(io.BytesIO(data))
    asked.check_size(*image.size)
    scale = dct_scale(*image.size, asked.at_least)
    # draft scales by floor(side / requested side). A side divided by a power of two is exact as a
    # float, so that is our scale at any size; rounded to whole pixels it would not be.
    requested = (image.width / scale, image.height / scale)
    image.draft(image.mode, requested)  # type: ignore[arg-type]  # Pillow says int: see above
    image.load()
    return image


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of each segment; the pixels of scans are skipped."""
    at = 2
    while found := _MARKER.search(data, at):
        at = found.end()
        (length,) = struct.unpack(">H", data[at : at + 2].ljust(2, b"\0"))
        yield data[at - 1], data[at + 2 : at + length]
        at += length


def _deep(data: bytes, asked: Asked) -> Values | None:
    """A JPEG of 12 or 16 bits, or one without loss; None for any other."""
    for marker, body in _segments(data):
        if marker in FRAMES and len(body) >= 6:
            bits, height, width = struct.unpack_from(">BHH", body)
            if bits == 8 and marker != 0xC3:
                return None
            asked.check_size(width, height)
            if not data.rstrip(b"\0").endswith(END):
                raise ValueError("the file is cut short")  # which the codec would not say
            if find_spec("imagecodecs") is None:
                raise ValueError(f"{bits} bits a band, or no loss; {FORMATS_EXTRA} reads them")
            import imagecodecs

            try:
                array = imagecodecs.jpeg_decode(data)
            except Exception as error:  # codecs raise classes of their own
                raise ValueError(str(error)) from error
            return Values(np.asarray(array), declared_range(bits))
    return None


def _exif(data: bytes) -> bytes | None:
    bodies = (body for marker, body in _segments(data) if marker == 0xE1)
    return next((body for body in bodies if body.startswith(b"Exif\0\0")), None)


def _without_end(data: bytes, asked: Asked) -> Image.Image | None:
    """The image of a file that lacks its last marker; None where pixels are missing too."""
    if not _all_scans(data):
        return None
    body = data.rstrip(b"\xff")
    one, other = (_load(body + filling + END, asked) for filling in FILLINGS)
    return one if one.tobytes() == other.tobytes() else None


def _all_scans(data: bytes) -> bool:
    """Whether scans for every part of the picture have begun."""
    parts: dict[int, set[int]] = {}
    progressive = False
    for marker, body in _segments(data):
        if marker in FRAMES and len(body) >= 6:
            progressive = marker in PROGRESSIVE
            parts = {number: set(range(64)) for number in body[6::3][: body[5]]}
        elif marker == SCAN and len(body) >= 4:
            names = body[1 : 1 + 2 * body[0] : 2]
            first, last, bits = body[-3:]
            done = set(range(first, last + 1)) if progressive else set(range(64))
            # the last pass over a part is the one that gives its lowest bit
            for name in names if not progressive or not bits & 15 else b"":
                parts.get(name, set()).difference_update(done)
    return bool(parts) and not any(parts.values())
