"""One ramp from black to white, and files of many kinds that hold it."""

import io
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image

WIDTH, HEIGHT = 84, 48
GRAY = (np.arange(WIDTH)[None] * 3).repeat(HEIGHT, 0).astype(np.uint8)
RGB = np.stack([GRAY, GRAY[:, ::-1], np.full_like(GRAY, 60)], -1)
OPAQUE = np.full_like(GRAY, 255)


def as_rgb(pixels):
    return np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels


def saved(image, kind, **options):
    """Bytes of a file that Pillow writes."""
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(array, **options):
    """Bytes of a TIFF that tifffile writes."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def sixteen(array):
    return array.astype(np.uint16) * 257


def bare_tiff(rows, bits, *more, samples=1, photometric=1, order="<", size=(WIDTH, HEIGHT)):
    """An uncompressed TIFF of packed whole numbers; `more`: further entries (tag, kind, value)."""
    body = b""
    for row in rows.reshape(size[1], -1):
        text = "".join(format(int(value), f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        body += int(text, 2).to_bytes(len(text) // 8, "big")
    entries = [(256, 4, size[0]), (257, 4, size[1]), (258, 3, bits), (259, 3, 1)]
    entries += [(262, 3, photometric), (273, 4, 8), (277, 3, samples), (278, 4, size[1])]
    entries += [(279, 4, len(body)), *more]
    body += b"\0" * (len(body) % 2)
    table = b""
    for tag, kind, value in sorted(entries):
        if isinstance(value, bytes):
            number, value = len(value), value.ljust(4, b"\0")
        else:
            number, value = 1, struct.pack(order + {3: "H", 4: "I"}[kind], value).ljust(4, b"\0")
        table += struct.pack(order + "HHI", tag, kind, number) + value
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(body))
    return head + body + struct.pack(order + "H", len(entries)) + table + bytes(4)


def chunk(name, body, flip=0):
    crc = zlib.crc32(name + body) ^ flip
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)


def png16(array, *more):
    """A PNG of 16 bits a band, with further chunks (name, body) before the pixels."""
    bands = 1 if array.ndim == 2 else array.shape[2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)
