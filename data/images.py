"""How a file becomes RGB pixels: one decode rule for all formats, one exception for what can't be read."""

import errno
import io
import os
import re
import stat
import struct
import warnings
import zlib

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_PIXELS = 178_956_970  # where Pillow itself refuses an image as a decompression bomb


class ImageError(Exception):
    """An image that can't be read: `path`, and `reason` in plain words."""

    def __init__(self, path, reason):
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self):
        return f"{self.path}: {self.reason}" if self.path else self.reason


class _JpegFile(JpegImageFile):
    def getexif(self):
        # Pillow parses the EXIF block for its dpi alone, and warns or fails where the block is broken
        return Image.Exif()


# how a file of each format begins, its name, and Pillow's class for it. Image.open is not used: it warns
# from 89 million pixels on, and what it recognises depends on which plugins the process has loaded.
FORMATS = (
    (rb"\xff\xd8\xff", "JPEG", _JpegFile),
    (rb"\x89PNG\r\n\x1a\n", "PNG", PngImageFile),
    (rb"GIF8[79]a", "GIF", GifImageFile),
    (rb"RIFF....WEBPVP8", "WebP", WebPImageFile),
    (rb"BM", "BMP", BmpImageFile),
    (rb"II[*+]\0|MM\0[*+]", "TIFF", TiffImageFile),
    (rb"P[1-6fF]\s", "PPM", PpmImageFile),
)

TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

NOT_FILES = (
    (stat.S_ISDIR, "is a directory"),
    (stat.S_ISFIFO, "is a named pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)

# everything that Pillow's plugins are known to raise on broken files (UnidentifiedImageError is an OSError)
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def open_image(source, at_least=None):
    """The RGB image of a file, a PIL image or a uint8 array (h, w, 3) or (h, w).

    Files go through `read_bytes` and `decode`. A PIL image or an array is taken as the pixels it holds: no
    orientation is applied and `at_least` means nothing to it. Raises ImageError.
    """
    if isinstance(source, str | os.PathLike):
        return decode(read_bytes(source), os.fspath(source), at_least)
    if isinstance(source, np.ndarray):
        source = _from_array(source)
    if not isinstance(source, Image.Image):
        raise ImageError(
            "", f"a {type(source).__name__} came; expected a path, a PIL image or a uint8 array"
        )
    try:
        return to_rgb(source)
    except _DECODE_ERRORS as error:
        raise ImageError(str(getattr(source, "filename", "")), _reason("image", error)) from error


def read_bytes(path):
    """All bytes of a regular file; ImageError for anything else, and for an empty one."""
    try:
        reason = file_problem(path)
        data = b""
        if reason is None:
            with open(path, "rb") as file:
                data = file.read()
            reason = None if data else "the file is empty"
    except MemoryError:
        reason = "the file does not fit in memory"
    except OSError as error:
        reason = _os_reason(path, error)
    if reason:
        raise ImageError(os.fspath(path), reason)
    return data


def file_problem(path):
    """Why `path` is not a regular file, in plain words, or None if it is one; nothing is opened."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return _os_reason(path, error)
    except ValueError as error:  # a NUL in the name
        return f"is not a file name ({error})"
    if stat.S_ISREG(mode):
        return None
    return next((reason for is_kind, reason in NOT_FILES if is_kind(mode)), "is not a regular file")


def decode(data, path="", at_least=None, max_pixels=MAX_PIXELS):
    """The RGB image, upright by its EXIF orientation, that the bytes of a file hold.

    A JPEG is decoded by the accurate DCT at the scale that `dct_scale` gives, other formats whole. Of
    animations and multi-page files it is the first frame. How other kinds of pixels turn to RGB: `to_rgb`.

    data        bytes of the whole file; the format is told from them, never from the name
    path        goes into the error
    at_least    shorter side in pixels below which a JPEG is not scaled down; None keeps the full size
    max_pixels  limit on width x height, checked before anything is decoded

    Raises ImageError for what is broken, cut short or too large. Safe to call from many threads at once.
    """
    name = "image"
    try:
        name, plugin = _format_of(data)
        if name == "PNG":
            _check_png(data)
        _quiet_plugins()
        im = plugin(io.BytesIO(data))
        _check_size(im.size, max_pixels)
        if name == "JPEG":
            _set_scale(im, dct_scale(*im.size, at_least))
        im.load()
        return _upright(to_rgb(im), im.info.get("exif"))
    except _DECODE_ERRORS as error:
        raise ImageError(os.fspath(path), _reason(name, error)) from error


def dct_scale(width, height, at_least=None):
    """The largest of 8, 4, 2, 1 by which the shorter side, rounded up, is not below `at_least` pixels.

    >>> dct_scale(4000, 3000, 224), dct_scale(447, 800, 224), dct_scale(100, 100, 224), dct_scale(4000, 3000)
    (8, 2, 1, 1)
    """
    if at_least is None:
        return 1
    shorter = min(width, height)
    return next((scale for scale in (8, 4, 2) if -(-shorter // scale) >= at_least), 1)


def to_rgb(im):
    """A PIL image of any mode as RGB.

    Transparency is put on white. 16-bit and 32-bit integer gray is taken as 0..65535 and keeps its high byte;
    floating gray is taken as the smallest of the ranges 0..1, 0..255, 0..65535 that holds its values.
    """
    if im.mode[0] in "IF":
        im = _gray8(im)
    if im.has_transparency_data:
        rgba = im.convert("RGBA")
        white = Image.new("RGB", im.size, "white")
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return im if im.mode == "RGB" else im.convert("RGB")


def _gray8(im):
    values = np.asarray(im)
    if im.mode == "F":
        values = np.nan_to_num(values)
        top = next((top for top in (1, 255) if values.max() <= top), 65535)
        gray = np.rint(np.clip(values, 0, top) * (255 / top))
    else:
        gray = np.clip(values, 0, 65535) >> 8
    gray = gray.astype(np.uint8)
    gray[values == im.info.get("transparency", np.nan)] = 255
    return Image.fromarray(gray)


def _from_array(array):
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] != 3)
    ):
        raise ImageError(
            "", f"an array {array.dtype} {array.shape} came; expected uint8 (h, w, 3) or (h, w)"
        )
    if not array.size:
        raise ImageError("", f"an array of shape {array.shape} came; expected at least one pixel")
    return Image.fromarray(np.ascontiguousarray(array))


def _format_of(data):
    for begins, name, plugin in FORMATS:
        if re.match(begins, data, re.DOTALL):
            return name, plugin
    known = ", ".join(name for _, name, _ in FORMATS)
    raise ValueError(f"begins with {data[:12]!r}; expected one of {known}")


def _check_png(data):
    """Every chunk's CRC up to the end: Pillow skips those of the pixel data."""
    at, view = 8, memoryview(data)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise ValueError(f"wrong checksum in chunk {name.decode('latin-1')!r}")
        if name == b"IEND":
            return
        at = end
    raise ValueError("the file is cut short")


def _check_size(size, max_pixels):
    if size[0] * size[1] > max_pixels:
        raise ValueError(f"{size[0]} x {size[1]} is over the limit of {max_pixels:,} pixels")


def _set_scale(im, scale):
    # draft scales by floor(side / requested side); powers of two divide exactly, so that is ours at any size
    im.draft(im.mode, (im.width / scale, im.height / scale))


def _upright(im, exif):
    transpose = TRANSPOSES.get(_orientation(exif)) if isinstance(exif, bytes) else None
    if transpose is not None:
        im = im.transpose(transpose)
    im.info = {}  # so that nobody turns it twice
    return im


def _orientation(exif):
    """Tag 0x0112 of an EXIF block's first directory; 1 (upright) where it is absent or broken."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2], "<")
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for at in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, at)
            if tag == 0x0112:
                return struct.unpack_from(order + {3: "H", 4: "I"}.get(kind, "H"), tiff, at + 8)[0]
    except struct.error:
        pass  # an image is not lost for a broken note about it
    return 1


_NOISY = r"PIL\.(Tiff|Png)ImagePlugin"
_QUIET = ("ignore", None, Warning, re.compile(_NOISY), 0)


def _quiet_plugins():
    # These modules warn about odd tags of files that load all right. catch_warnings would put back a list
    # that another thread has changed meanwhile; a rule that is put in front and stays has no such race.
    if warnings.filters[:1] != [_QUIET]:
        warnings.filterwarnings("ignore", module=_NOISY)


def _reason(name, error):
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError):
        text = "does not fit in memory"
    return f"not a readable {name}: {text}"


def _os_reason(path, error):
    if error.errno == errno.ELOOP:
        return "is a link that leads back to itself"
    if isinstance(error, FileNotFoundError):
        return "is a link to a missing file" if os.path.islink(path) else "no such file"
    return f"can't be read ({error.strerror or error})"
