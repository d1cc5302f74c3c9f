"""PNG: its chunks are checked and sorted here, so that Pillow meets those of the pixels alone."""

import io
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from data.opened import Asked, Opened
from data.orientation import raw_profile
from data.values import Values

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\0\0\0\0IEND\xaeB`\x82"
PIXELS = (b"PLTE", b"tRNS", b"IDAT", b"IEND")
ASKED = (b"tRNS", b"sBIT", b"eXIf", b"iTXt", b"tEXt", b"zTXt")
MOST_TEXTS, MOST_NOTES = 1_000, 10
ANIMATION = (b"acTL", b"fcTL", b"fdAT")
RAW_PROFILES = (b"Raw profile type exif\0", b"Raw profile type APP1\0")
LONGEST_TEXT = 2**23  # a text that may hold an orientation is read so far, unpacked
GRAY, COLOUR, GRAY_ALPHA, COLOUR_ALPHA = 0, 2, 4, 6


@dataclass
class _Chunks:
    """A PNG's chunks: where those of the pixels lie, and the few others that matter.

    pixels: [start, end) of neighbours together. whole: nothing was left out, the file can be read
    as it is.
    """

    pixels: list[tuple[int, int]] = field(default_factory=list)
    others: list[tuple[bytes, bytes]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    whole: bool = True
    ended: bool = False
    frames: int = 1

    def add(self, at: int, end: int) -> None:
        if self.pixels and self.pixels[-1][1] == at:
            at = self.pixels.pop()[0]
        self.pixels.append((at, end))

    def note(self, text: str) -> None:
        if len(self.notes) < MOST_NOTES:
            self.notes.append(text)

    def body(self, name: bytes) -> bytes | None:
        return next((body for known, body in self.others if known == name), None)

    def joined(self, data: bytes, header: bytes) -> bytes:
        """The file of its pixels alone, under another header if need be."""
        pieces = [data[at:end] for at, end in self.pixels]
        return b"".join([SIGNATURE, header, *pieces, b"" if self.ended else END])


def read_png(data: bytes, asked: Asked) -> Opened:
    """The picture of a PNG; of an animation the first frame, or the wanted one."""
    if data[8:16] != b"\0\0\0\rIHDR":
        raise ValueError("no header")
    page, (depth, colour) = asked.reading.page, data[24:26].ljust(2, b"\0")
    keep = (b"IDAT", b"IEND") if depth == 16 else PIXELS
    chunks = _walk(data, keep=keep + ANIMATION if page else keep)
    if chunks.frames > 1:
        chunks.note(f"{page + 1} of {chunks.frames} frames")
    if page >= chunks.frames:
        raise ValueError(f"page {page + 1} was asked for; the file has {chunks.frames}")
    exif, xmp = _about(chunks)
    if depth == 16:
        pixels: Image.Image | Values = _sixteen(data, chunks, colour, asked)
    else:
        clean = data if chunks.whole else chunks.joined(data, data[8:33])
        pixels = _load(clean, asked, page)
    return Opened(pixels, tuple(chunks.notes), exif, xmp)


def _load(clean: bytes, asked: Asked, page: int = 0) -> Image.Image:
    image = PngImageFile(io.BytesIO(clean))
    asked.check_size(*image.size)
    if page:
        image.seek(page)
    image.load()
    return image


def _walk(data: bytes, keep: tuple[bytes, ...]) -> _Chunks:
    """Every chunk up to the end, its CRC checked: Pillow skips those of the pixel data."""
    chunks = _Chunks()
    view = memoryview(data)
    # after 8 bytes come chunks: length, name, body, and the CRC of name and body
    at, seen_pixels = 8, False
    while at + 8 <= len(data) and not chunks.ended:
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            if name == b"IDAT":
                raise ValueError("the file is cut short")
            break
        seen_pixels = seen_pixels or name == b"IDAT"
        _take(chunks, name, view, (at, end), keep)
        if name == b"IEND":
            break
        at = end
    if not seen_pixels:
        raise ValueError("the file is cut short")
    if not chunks.ended:
        # whether all pixels are there the decoder tells
        chunks.whole = False
        if at + 12 > len(data) or name != b"IEND":
            chunks.note("missing end of file")
    return chunks


def _take(
    chunks: _Chunks, name: bytes, view: memoryview, place: tuple[int, int], keep: tuple[bytes, ...]
) -> None:
    at, end = place
    if _crc_is_wrong(view, at, end):
        shown = name.decode() if name.isalpha() else repr(name)
        if not name[0] & 0x20 and name != b"IEND":  # a capital letter: no picture without it
            raise ValueError(f"wrong checksum in chunk {shown}")
        chunks.note(f"wrong checksum in chunk {shown}")
        chunks.whole = False
        return
    if name in keep:
        chunks.add(at, end)
        chunks.ended = name == b"IEND"
    elif name != b"IHDR":
        chunks.whole = False
    if name in ASKED and len(chunks.others) < MOST_TEXTS:
        chunks.others.append((name, bytes(view[at + 8 : end - 4])))
    if name == b"acTL" and end - at == 20:
        chunks.frames = max(1, struct.unpack_from(">I", view, at + 8)[0])


def _crc_is_wrong(view: memoryview, at: int, end: int) -> bool:
    return zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", view, end - 4)[0]


def _about(chunks: _Chunks) -> tuple[bytes | None, bytes | None]:
    """The EXIF block, ImageMagick's kind of it included, and the XMP packet."""
    exif, xmp = chunks.body(b"eXIf"), None
    for name, body in chunks.others:
        if name not in (b"iTXt", b"tEXt", b"zTXt"):
            continue
        start = body[:80]
        if name == b"iTXt" and start.startswith(b"XML:com.adobe.xmp\0"):
            xmp = _international(body)
        elif exif is None and start.startswith(RAW_PROFILES):
            exif = raw_profile(_text(name, body)) or None
    return exif, xmp


def _international(body: bytes) -> bytes | None:
    """The text of an iTXt: name, compressed or not, method, language, translated name, text."""
    _, _, rest = body.partition(b"\0")
    parts = rest[2:].split(b"\0", 2)
    if len(parts) < 3:
        return None
    return _unpacked(parts[2]) if rest[:1] == b"\1" else parts[2]


def _text(kind: bytes, body: bytes) -> bytes:
    if kind == b"iTXt":
        return _international(body) or b""
    _, _, text = body.partition(b"\0")
    return _unpacked(text[1:]) if kind == b"zTXt" else text


def _unpacked(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, LONGEST_TEXT)
    except zlib.error:
        return b""


def _sixteen(data: bytes, chunks: _Chunks, colour: int, asked: Asked) -> Values:
    """16 bits a band, of which Pillow would keep 8."""
    header = data[8:33]
    alpha = None
    if colour == GRAY:
        array = np.asarray(_load(chunks.joined(data, header), asked)).astype(np.uint16)
    elif colour == GRAY_ALPHA:
        # the same bytes are a pixel of four bands of 8 bits, filters and interlacing included
        four = _chunk(b"IHDR", header[8:16] + bytes((8, COLOUR_ALPHA)) + header[18:21])
        bytes4 = np.asarray(_load(chunks.joined(data, four), asked)).astype(np.uint16)
        array = (bytes4[..., 0] << 8 | bytes4[..., 1]).astype(np.uint16)
        alpha = bytes4[..., 2].astype(np.uint8)
    elif colour in (COLOUR, COLOUR_ALPHA):
        array = _both_bytes(chunks.joined(data, header), asked)
        if colour == COLOUR_ALPHA:
            array, alpha = array[..., :3], (array[..., 3] >> 8).astype(np.uint8)
    else:
        raise ValueError(f"16 bits of colour type {colour}; expected gray or RGB")
    clear = chunks.body(b"tRNS")
    if clear and alpha is None:
        key = np.frombuffer(clear, ">u2", 1 if colour == GRAY else 3)
        same = array == (key[0] if colour == GRAY else key)
        alpha = np.where(same if colour == GRAY else same.all(2), 0, 255).astype(np.uint8)
    return Values(array, _declared(chunks.body(b"sBIT"), array), alpha)


def _both_bytes(clean: bytes, asked: Asked) -> np.ndarray:
    """Numbers of 16 bits in colour: as written for their high bytes, the other way for the low."""
    image = PngImageFile(io.BytesIO(clean))
    asked.check_size(*image.size)
    image.load()
    other = PngImageFile(io.BytesIO(clean))
    other.tile = [tile._replace(args=f"{image.mode};16L") for tile in other.tile]
    other.load()
    return np.asarray(image).astype(np.uint16) << 8 | np.asarray(other)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _declared(significant: bytes | None, array: np.ndarray) -> tuple[float, float] | None:
    """Black and white by the number of bits that chunk sBIT says are significant."""
    bits = max(significant[:3]) if significant else 16
    if not 8 <= bits < 16:
        return None
    # by the book numbers are spread over 16 bits; some writers leave them as they were
    return (0, 65535) if array.max() >= 2**bits else (0, 2**bits - 1)
