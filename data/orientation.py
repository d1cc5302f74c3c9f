"""How a picture is turned upright: by EXIF, by XMP and by ImageMagick's raw profiles."""

import binascii
import re
import struct

from PIL import Image

# EXIF's orientation -> what puts the picture upright; 1 is upright
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# as an attribute or as an element
_IN_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\b")


def upright(image: Image.Image, exif: object, xmp: object = None) -> Image.Image:
    """The image as it is to be seen, without what would have it turned twice.

    exif: the block as it stands in the file, asked first. xmp: the packet, asked where the block
    says nothing.
    """
    if isinstance(exif, bytes) or xmp:
        found = exif_orientation(exif) if isinstance(exif, bytes) else None
        if found is None and xmp:
            found = xmp_orientation(xmp)
        image = turned(image, found)
    image.info = {}
    return image


def turned(image: Image.Image, orientation: int | None) -> Image.Image:
    """The image turned by EXIF's number; numbers that mean nothing leave it as it is."""
    transpose = TRANSPOSES.get(orientation or 1)
    return image if transpose is None else image.transpose(transpose)


def exif_orientation(exif: bytes) -> int | None:
    """Tag 0x0112 of an EXIF block's first directory; None where it is absent or broken."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2], "<")
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        # an entry is 12 bytes: tag, kind of number, how many, and the value where it fits in four
        for at in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, at)
            if tag == 0x0112:
                number = {3: "H", 4: "I"}.get(kind, "H")
                return struct.unpack_from(order + number, tiff, at + 8)[0]
    except struct.error:
        pass  # an image is not lost for a broken note about it
    return None


def xmp_orientation(xmp: object) -> int | None:
    """What an XMP packet says, None where it says nothing."""
    packet = xmp.encode() if isinstance(xmp, str) else xmp
    found = _IN_XMP.search(packet) if isinstance(packet, bytes) else None
    return int(found[1]) if found else None


def raw_profile(text: bytes) -> bytes:
    """The EXIF block in what ImageMagick writes: a name, a length and hexadecimal digits."""
    try:
        _, _, digits = text.split(maxsplit=2)
        return binascii.unhexlify(b"".join(digits.split()))
    except ValueError:
        return b""
