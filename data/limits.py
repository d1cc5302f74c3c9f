"""What decoding a file is about to cost in memory and time, told from its head beforehand."""

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from data.jpeg import dct_scale
from data.newer_formats import jpeg_xl_size

MIB = 2**20
LARGEST = 2**31  # bytes of a file that is read whole
SPARE = 256 * MIB  # what a file may hold beside its first picture: films, more frames, profiles
MOST_SCANS = 1000  # of a JPEG; encoders write up to 64
MOST_PIECES = 200_000  # chunks, segments or blocks that are counted before the count is given up
DEFLATE = 1040  # deflate makes at most 1,032 bytes of one


class Cost(NamedTuple):
    """What a file takes to decode, rather too much than too little.

    bytes: of memory, at the most at once. seconds: on a slow core; inf where the head does not
    tell. why: what makes it dear, for a refusal.
    """

    bytes: int
    seconds: float
    why: str


class _Head(NamedTuple):
    """What a file's head declares. raw: bytes of the pixels as they are stored, uncompressed.

    each: bytes of memory that decoding takes for a pixel; rate: pixels a second; pieces: what
    Python has to look at one by one; ratio: bytes that one byte of the file holds at most; more:
    bytes and seconds of what else there is.
    """

    width: int
    height: int
    each: float
    rate: float
    raw: float = 0
    ratio: float = 0
    pieces: int = 0
    more: tuple[int, float] = (0, 0.0)
    why: str = ""


UNKNOWN = Cost(192 * MIB, float("inf"), "a head that does not tell its size")


def cost_of(name: str, data: bytes, at_least: int | None, max_pixels: int, page: int = 0) -> Cost:
    """What `decode` will take for a file of the format `name`.

    Raises ValueError for a file that can't be whole, and for one that no encoder writes.
    """
    read = _HEADS.get(name)
    head = read(data, at_least, page) if read else None
    if head is None:
        return UNKNOWN
    pixels = head.width * head.height
    if pixels > max_pixels:
        # the decoder says so before it takes memory
        return Cost(0, head.pieces * 1e-5 + head.more[1], f"{head.pieces:,} pieces")
    if head.ratio and head.raw > head.ratio * len(data) + MIB:
        raise ValueError("the file is cut short")
    seconds = pixels / head.rate + head.pieces * 1e-5 + head.more[1]
    needed = int(pixels * head.each + head.more[0]) + len(data)
    return Cost(needed, seconds, head.why or f"{head.width} x {head.height} pixels")


def largest_file(name: str, head: bytes) -> int:
    """How many bytes a file of the format `name` may have that begins with `head`.

    Only the first picture is read, but films and further frames may lie behind it.
    """
    if name not in ("JPEG", "PNG", "BMP", "PPM", "GIF", "WebP"):
        return LARGEST  # one of many pages is read whole
    found = _HEADS[name](head, None, 0)
    if found is None:
        return SPARE
    # 16 bytes a pixel are four bands of 32 bits; text takes less
    return min(LARGEST, SPARE + 16 * found.width * found.height)


def _jpeg(data: bytes, at_least: int | None, page: int) -> _Head | None:
    """Segments up to the first scan; scans are counted where there may be more than one."""
    at, pieces = 2, 0
    width = height = bands = 0
    share, progressive, end = 0.0, False, len(data) - 12
    while at < end and pieces <= MOST_PIECES:
        marker = data[at + 1]
        if data[at] != 0xFF or marker in _JPEG_ALONE:
            # padding and what does not belong there, which Pillow reads byte by byte
            found = _JPEG_MARKER.search(data, at)
            pieces += (found.end() if found else len(data)) - at
            if not found or found.end() - 2 >= end:
                break
            at = found.end() - 2
            marker = data[at + 1]
        pieces += 1
        at += 2
        if marker in (0xD9, 0xDA):
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, bands = struct.unpack_from(">HHB", data, at + 3)
            share, progressive = _samples(data[at + 8 : at + 8 + 3 * bands]), marker & 3 == 2
        at += max(2, data[at] << 8 | data[at + 1])
    one_scan = not progressive and data[at + 2 : at + 3] == bytes([bands])
    scans = 1 if one_scan else data.count(b"\xff\xda")
    if scans > MOST_SCANS:
        raise ValueError(f"{scans:,} scans; at most {MOST_SCANS:,} are read")
    scale = dct_scale(width, height, at_least)
    coefficients = width * height * share
    held = 0 if one_scan else int(2 * coefficients)
    # a scan walks all blocks of 64 coefficients, however few bytes it has
    work = scans * coefficients / 64 * 5e-8 + min(len(data) / 4e7, coefficients / 1e7)
    why = f"{width} x {height} pixels in {scans:,} scans" if scans > 1 else ""
    return _Head(
        width, height, 8 / scale**2, 1e8 * scale**2, pieces=pieces, more=(held, work), why=why
    )


_JPEG_ALONE = frozenset([0x00, 0x01, *range(0xD0, 0xD9), 0xFF])  # these have no length
_JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]", re.DOTALL)


def _samples(components: bytes) -> float:
    """Coefficients a pixel: 1.5 for colours at half the resolution, 3 for full ones."""
    factors = [(byte >> 4) * (byte & 15) for byte in components[1::3]]
    largest = max(factors, default=0)
    return sum(factors) / largest if largest else 4


# colour type -> bands, and bytes a pixel: 13 of them for transparency put on white
_PNG_COLOURS = {0: (1, 5), 2: (3, 4), 3: (1, 5), 4: (2, 13), 6: (4, 13)}


def _png(data: bytes, at_least: int | None, page: int) -> _Head | None:
    """All chunks, since Python looks at each; the last of several headers counts."""
    at, pieces, found, clear = 8, 0, None, False
    while at + 8 <= len(data) and pieces <= MOST_PIECES:
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"IHDR" and at + 18 <= len(data):
            found = struct.unpack_from(">IIBB", data, at + 8)
        clear = clear or name == b"tRNS"
        pieces += 1
        at += 12 + length
    if found is None:
        return None
    width, height, depth, colour = found
    bands, each = _PNG_COLOURS.get(colour, (4, 13))
    raw = width * height * bands * depth / 8
    if depth == 16:
        each = 8 * bands + 13
    elif clear:
        each = 13
    rate = 1 / (bands * depth / 8 * 1.2e-8 + 2e-8)
    return _Head(width, height, each, rate, raw=raw, ratio=DEFLATE, pieces=pieces)


def _gif(data: bytes, at_least: int | None, page: int) -> _Head | None:
    """Blocks up to the first frame, which may be larger than the screen."""
    if len(data) < 13:
        return None
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _colour_table(flags)
    pieces = said = 0
    while at < len(data) and pieces <= MOST_PIECES:
        if data[at] == 0x2C and at + 10 <= len(data):
            left, top, wide, high = struct.unpack_from("<4H", data, at + 1)
            width, height = max(width, left + wide), max(height, top + high)
            break
        if data[at] != 0x21:
            at, pieces = at + 1, pieces + 1
            continue
        at += 2
        while at < len(data) and data[at] and pieces <= MOST_PIECES:
            pieces, said, at = pieces + 1, said + data[at], at + 1 + data[at]
        at += 1
    # Pillow copies a comment with every 255 bytes that it adds to it
    copying = said * said / 255 / 2e9
    return _Head(width, height, 18, 2.5e7, pieces=pieces, more=(2 * said, copying))


def _colour_table(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(data: bytes, at_least: int | None, page: int) -> _Head | None:
    if len(data) < 30:
        return None
    kind = data[12:16]
    clear = True
    if kind == b"VP8X":
        width, height = (
            int.from_bytes(data[first : first + 3], "little") + 1 for first in (24, 27)
        )
        clear = bool(data[20] & 0x10)
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        clear = False
    return _Head(width, height, 25 if clear else 16, 2e7)


def _bmp(data: bytes, at_least: int | None, page: int) -> _Head | None:
    if len(data) < 34:
        return None
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height, _, bits = struct.unpack_from("<4H", data, 18)
        packing = 0
    else:
        width, height, _, bits, packing = struct.unpack_from("<iiHHI", data, 18)
    width, height = abs(width), abs(height)
    if packing in (1, 2):
        # unpacked in Python; a jump may go 255 rows beyond the last
        more = (512 * width, len(data) * 1.5e-6)
        return _Head(width, height, 13, 1e8, more=more)
    return _Head(width, height, 13, 1e8, raw=width * height * bits / 8, ratio=1)


_PPM_GAP = rb"(?:[ \t\r\n\v\f]|#[^\r\n]*[\r\n])+"
_PPM_HEAD = re.compile(
    rb"P." + 2 * (_PPM_GAP + rb"([0-9]{1,9})") + rb"(?:" + _PPM_GAP + rb"([0-9]{1,9}))?"
)
_PAM_NUMBER = re.compile(rb"(WIDTH|HEIGHT|DEPTH|MAXVAL)[ \t]+([0-9]{1,9})")


def _ppm(data: bytes, at_least: int | None, page: int) -> _Head | None:
    kind = data[1:2]
    if kind == b"7":
        said = dict(_PAM_NUMBER.findall(data[:4096]))
        numbers = [int(said.get(word, 0)) for word in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")]
        width, height, bands, most = numbers
        end = 0
    else:
        found = _PPM_HEAD.match(data)
        if not found:
            return None
        width, height, most = int(found[1]), int(found[2]), int(found[3] or 255)
        bands, end = 3 if kind in b"36F" else 1, found.end()
    pixels = width * height
    # letter by letter, as Pillow reads a head, whose comments may have any length
    seconds = end * 6e-7
    if kind in b"123":
        # numbers as text, one by one in Python
        return _Head(width, height, 9 * bands + 13, 1e8, more=(0, seconds + len(data) * 3e-7))
    if kind in b"56" and most < 255:
        seconds += pixels * bands * 5e-7
    stored = 1 / 8 if kind == b"4" else 4 if kind in b"fF" else 2 if most > 255 else 1
    raw = pixels * bands * stored
    each = 13 + 4 * raw / max(1, pixels)
    return _Head(width, height, each, 5e7, raw=raw, ratio=1, more=(0, seconds))


# tag -> what it holds: width, height, bits, compression, bands; strips and tiles are counted
_TIFF_NUMBERS = {256: "width", 257: "height", 258: "bits", 259: "packing", 277: "bands"}
_TIFF_PARTS = (273, 324)
_TIFF_KINDS = {1: "B", 3: "H", 4: "I", 16: "Q"}
MOST_PAGES = 10_000


def _tiff(data: bytes, at_least: int | None, page: int) -> _Head | None:
    """The directory of the page that is asked for."""
    try:
        said, pieces = _tiff_directory(data, page)
    except (struct.error, OverflowError):  # an offset beyond the file, or beyond all files
        return None
    width, height = said.get("width", 0), said.get("height", 0)
    bands, bits, packing = said.get("bands", 1), said.get("bits", 1), said.get("packing", 1)
    raw = width * height * bands * bits / 8
    plain = packing == 1
    work = raw / (2e8 if plain else 4e7)
    each = 9 if bands == 1 and bits <= 8 else 13 + 3 * bands * bits / 8
    return _Head(
        width,
        height,
        each,
        1e8,
        raw=raw,
        ratio=1 if plain else 0,
        pieces=pieces,
        more=(0, work),
        why=f"{width} x {height} x {bands} values of {bits} bits",
    )


def _tiff_directory(data: bytes, page: int) -> tuple[dict[str, int], int]:
    """Numbers of the directory of a page, and how many entries and strips there are up to it."""
    order = "<" if data[:2] == b"II" else ">"
    # where the first directory is; its count of entries, an entry, and where the next one is
    big = data[2:4] in (b"+\0", b"\0+")
    first, count, entry, following = (
        ("8xQ", "Q", "HHQ8s", "Q") if big else ("4xI", "H", "HHI4s", "I")
    )
    (at,) = struct.unpack_from(order + first, data)
    pieces = 0
    for _ in range(min(page, MOST_PAGES)):
        (entries,) = struct.unpack_from(order + count, data, at)
        pieces += entries
        after = at + struct.calcsize(order + count) + entries * struct.calcsize(order + entry)
        (at,) = struct.unpack_from(order + following, data, after)
    (entries,) = struct.unpack_from(order + count, data, at)
    at += struct.calcsize(order + count)
    said: dict[str, int] = {}
    for _ in range(min(entries, 4096)):
        tag, kind, many, value = struct.unpack_from(order + entry, data, at)
        at += struct.calcsize(order + entry)
        if tag in _TIFF_PARTS:
            pieces += many
        number = _TIFF_KINDS.get(kind)
        if tag in _TIFF_NUMBERS and number and many:
            size = struct.calcsize(order + number)
            if many * size > len(value):
                (place,) = struct.unpack(order + following, value)
                value = data[place : place + size]
            said[_TIFF_NUMBERS[tag]] = struct.unpack_from(order + number, value)[0]
    return said, pieces + 4 * entries


def _boxes(data: bytes, at_least: int | None, page: int) -> _Head | None:
    """HEIC and AVIF: the largest size that a property declares."""
    sizes = [
        (int.from_bytes(found[1], "big"), int.from_bytes(found[2], "big"))
        for found in _EXTENT.finditer(data, 0, MIB)
    ]
    if not sizes:
        return None
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return _Head(width, height, 25, 1.2e7)


_EXTENT = re.compile(rb"ispe\0\0\0\0(.{4})(.{4})", re.DOTALL)


def _jpeg_2000(data: bytes, at_least: int | None, page: int) -> _Head | None:
    at = data.find(b"\xff\x4f\xff\x51", 0, MIB)
    if at < 0 or len(data) < at + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    (bands,) = struct.unpack_from(">H", data, at + 40)
    return _Head(max(0, right - left), max(0, bottom - top), 13 + 8 * bands, 1.5e7 / max(1, bands))


def _jpeg_xl(data: bytes, at_least: int | None, page: int) -> _Head | None:
    try:
        width, height = jpeg_xl_size(data)
    except ValueError:
        return None
    return _Head(width, height, 33, 1.2e7)


_HEADS: dict[str, Callable[[bytes, int | None, int], _Head | None]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "WebP": _webp,
    "BMP": _bmp,
    "TIFF": _tiff,
    "PPM": _ppm,
    "HEIC": _boxes,
    "AVIF": _boxes,
    "JPEG 2000": _jpeg_2000,
    "JPEG XL": _jpeg_xl,
}
