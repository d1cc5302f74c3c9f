"""How a file becomes RGB pixels: one rule for all formats, one error for what can't be read."""

import errno
import io
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from data.gate import decode_within_limits
from data.limits import largest_file
from data.memory import budget

MAX_PIXELS = 178_956_970  # where Pillow itself refuses an image as a decompression bomb
HEAD = 64  # bytes by which a format is told
LOOKED_AT = 2**24  # of a larger file the head is looked at closely before it is read
READ_BLOCK = 2**20
# without waiting: a named pipe put in a file's place would wait for somebody who writes to it
_READING = os.O_RDONLY
for _flag in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
    _READING |= getattr(os, _flag, 0)


FilePath: TypeAlias = str | os.PathLike


class ImageError(Exception):
    """An image that can't be read.

    Parameters
    ----------
    path : path
        The file, as it was named; "" for an image that is no file.
    reason : str
        Why it can't be read, in plain words on one line.

    Examples
    --------
    >>> str(ImageError("cat.jpg", "the file is empty"))
    'cat.jpg: the file is empty'
    """

    def __init__(self, path: FilePath, reason: str) -> None:
        # both go to Exception as well: an error that was pickled is made again from its arguments
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class _JpegFile(JpegImageFile):
    """Pillow's JPEG without its look into the EXIF block."""

    def getexif(self) -> Image.Exif:
        # Pillow parses the block for its dpi alone, and warns or fails where the block is broken
        return Image.Exif()


# how a file of each format begins, its name, and Pillow's class for it. Image.open is not used: it
# warns from 89 million pixels on, and what it recognises depends on which plugins are loaded.
FORMATS: tuple[tuple[bytes, str, type[ImageFile]], ...] = (
    (rb"\xff\xd8\xff", "JPEG", _JpegFile),
    (rb"\x89PNG\r\n\x1a\n", "PNG", PngImageFile),
    (rb"GIF8[79]a", "GIF", GifImageFile),
    (rb"RIFF....WEBPVP8", "WebP", WebPImageFile),
    (rb"BM", "BMP", BmpImageFile),
    # * is version 42, + is 43: files over 4 GB
    (rb"II[*+]\0|MM\0[*+]", "TIFF", TiffImageFile),
    # 1 to 6: bits, gray and colour as text, then as bytes; f and F: floating gray and colour
    (rb"P[1-6fF]\s", "PPM", PpmImageFile),
)

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

NOT_FILES: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "is a directory"),
    (stat.S_ISFIFO, "is a named pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)

# everything that Pillow's plugins are known to raise on broken files; its UnidentifiedImageError is
# an OSError
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


def open_image(
    source: FilePath | Image.Image | np.ndarray, at_least: int | None = None
) -> Image.Image:
    """The RGB image of a file, a PIL image or an array.

    Parameters
    ----------
    source : path, PIL image, or uint8 array of shape (h, w, 3) or (h, w)
        A file goes through `read_bytes` and `decode`. A PIL image or an array is taken as the
        pixels it holds: no orientation is applied.
    at_least : int, optional
        As for `decode`; it means nothing to pixels.

    Returns
    -------
    PIL.Image.Image
        In mode RGB.

    Raises
    ------
    ImageError
        For what can't be read, and for a source of another kind.

    Examples
    --------
    >>> import numpy as np
    >>> open_image(np.zeros((2, 3), np.uint8)).size
    (3, 2)
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
        # only an image that Pillow opened from a file has a name, and only now are its pixels read
        raise ImageError(str(getattr(source, "filename", "")), _reason("image", error)) from error


def read_bytes(path: FilePath) -> bytes:
    """All bytes of a regular file that begins as an image does.

    Parameters
    ----------
    path : path
        Links are followed.

    Returns
    -------
    bytes

    Raises
    ------
    ImageError
        For anything else than a regular file, for an empty one, for one whose first bytes are of
        no known format or which is larger than what they declare could need, and for one that does
        not fit in memory.

    Examples
    --------
    >>> read_bytes("nowhere.jpg")
    Traceback (most recent call last):
        ...
    data.images.ImageError: nowhere.jpg: no such file
    """
    handle, size = _open(path)
    try:
        # what it decodes to is not known yet, but how many large files may wait for that is bounded
        with budget().taken(4 * size if size > LOOKED_AT else 0, after=4 * size):
            data = os.read(handle, size)
            # a file system of a network may give less at once
            while len(data) < size and (more := os.read(handle, size - len(data))):
                data += more
            return data
    except MemoryError:
        raise ImageError(os.fspath(path), "the file does not fit in memory") from None
    except OSError as error:
        raise ImageError(os.fspath(path), _os_reason(path, error)) from error
    finally:
        os.close(handle)


def read_blocks(path: FilePath) -> Iterator[memoryview]:
    """What `read_bytes` gives, in blocks that are each valid until the next is asked for.

    Parameters
    ----------
    path : path

    Yields
    ------
    memoryview

    Raises
    ------
    ImageError
        As `read_bytes`.

    Examples
    --------
    >>> next(read_blocks("nowhere.jpg"))
    Traceback (most recent call last):
        ...
    data.images.ImageError: nowhere.jpg: no such file
    """
    handle, size = _open(path)
    with open(handle, "rb", buffering=0) as file:
        block = memoryview(bytearray(min(size, READ_BLOCK)))
        try:
            while size and (read := file.readinto(block[:size])):
                size -= read
                yield block[:read]
        except OSError as error:
            raise ImageError(os.fspath(path), _os_reason(path, error)) from error


def _open(path: FilePath) -> tuple[int, int]:
    """An image file, its first bytes looked at, and how many bytes are to be read of it."""
    # asked before it is opened: to open a device may move it
    reason = file_problem(path)
    if reason is None:
        try:
            handle = os.open(path, _READING)
        except OSError as error:
            raise ImageError(os.fspath(path), _os_reason(path, error)) from error
        try:
            size, reason = _size_to_read(handle)
            if reason is None:
                return handle, size
        except ValueError as error:
            reason = _reason("image", error)
        except OSError as error:
            reason = _os_reason(path, error)
        os.close(handle)
    raise ImageError(os.fspath(path), reason)


def _size_to_read(handle: int) -> tuple[int, str | None]:
    """How many bytes, or why none; the file is left at its beginning."""
    status = os.fstat(handle)
    size = status.st_size
    if not stat.S_ISREG(status.st_mode):
        return size, _kind_problem(status.st_mode)
    # files of /proc have no size, and some of them no end
    if not size:
        return size, "the file is empty"
    head = os.read(handle, READ_BLOCK if size > LOOKED_AT else HEAD)
    os.lseek(handle, 0, os.SEEK_SET)
    name, _ = _format_of(head)
    if size > LOOKED_AT and size > (most := largest_file(name, head)):
        return size, (
            f"not a readable {name}: the file has {size:,} bytes; expected at most {most:,}"
        )
    return size, None


def file_problem(path: FilePath) -> str | None:
    """Why `path` is not a regular file, in plain words, or None if it is one; nothing is opened."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return _os_reason(path, error)
    except ValueError as error:  # a NUL in the name
        return f"is not a file name ({error})"
    return _kind_problem(mode)


def _kind_problem(mode: int) -> str | None:
    if stat.S_ISREG(mode):
        return None
    return next((reason for is_kind, reason in NOT_FILES if is_kind(mode)), "is not a regular file")


def decode(
    data: bytes, path: FilePath = "", at_least: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """The RGB image, upright by its EXIF orientation, that the bytes of a file hold.

    A JPEG is decoded by the accurate DCT at the scale that `dct_scale` gives, other formats whole.
    Of animations and multi-page files it is the first frame. Transparency is put on white; gray of
    16 or 32 bits keeps its high byte, as 0..65535; floating gray is taken as the smallest of the
    ranges 0..1, 0..255, 0..65535 that holds its values.

    Safe to call from many threads at once.

    Parameters
    ----------
    data : bytes
        The whole file; its format is told from them, never from the name.
    path : path, optional
        Goes into the error.
    at_least : int, optional
        Shorter side in pixels below which a JPEG is not scaled down; None keeps the full size.
    max_pixels : int, optional
        Limit on width x height, checked before anything is decoded.

    Returns
    -------
    PIL.Image.Image
        In mode RGB, without EXIF.

    Raises
    ------
    ImageError
        For what is broken, cut short, too large or of another format.

    Examples
    --------
    >>> decode(b"P5 2 1 255 " + bytes([0, 255])).getpixel((1, 0))
    (255, 255, 255)
    """
    name = "image"
    try:
        name, _ = _format_of(data)
        return decode_within_limits(_decoded, name, data, at_least, max_pixels)
    except _DECODE_ERRORS as error:
        raise ImageError(os.fspath(path), _reason(name, error)) from error


def _decoded(data: bytes, at_least: int | None, max_pixels: int) -> Image.Image:
    """What `decode` gives, without a limit on time or memory."""
    name, plugin = _format_of(data)
    if name == "PNG":
        _check_png(data)
    _quiet_plugins()
    image = plugin(io.BytesIO(data))
    _check_size(image.size, max_pixels)
    if name == "JPEG":
        _set_scale(image, dct_scale(*image.size, at_least))
    image.load()
    return _upright(to_rgb(image), image.info.get("exif"))


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


def to_rgb(image: Image.Image) -> Image.Image:
    """A PIL image of any mode as RGB, by the rules that `decode` names."""
    # Pillow's own conversion of the modes I, I;16 and F clips at 255
    if image.mode[0] in "IF":
        image = _gray8(image)
    if image.has_transparency_data:
        # a palette with alpha, and one transparent colour of any mode, are alpha only in RGBA
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _gray8(image: Image.Image) -> Image.Image:
    """Gray of 16 or 32 bits, or floating, as 8 bits; what is transparent as white."""
    values = np.asarray(image)
    if image.mode == "F":
        values = np.nan_to_num(values)
        top = _top_of_range(values)
        gray = np.rint(np.clip(values, 0, top) * (255 / top))
    else:
        # the high byte, not a rounded 255 / 65535: 8 bits that were widened come back as they were
        gray = np.clip(values, 0, 65535) >> 8
    gray = gray.astype(np.uint8)
    # nan equals nothing: without a transparent value nothing is set
    gray[values == image.info.get("transparency", np.nan)] = 255
    return Image.fromarray(gray)


def _top_of_range(values: np.ndarray) -> int:
    """The smallest of 1, 255 and 65535 that no value exceeds; the last where all are exceeded."""
    highest = values.max()
    for top in (1, 255):
        if highest <= top:
            return top
    return 65535


def _from_array(array: np.ndarray) -> Image.Image:
    is_gray = array.ndim == 2
    is_colour = array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or not (is_gray or is_colour):
        raise ImageError(
            "", f"an array {array.dtype} {array.shape} came; expected uint8 (h, w, 3) or (h, w)"
        )
    if not array.size:
        raise ImageError("", f"an array of shape {array.shape} came; expected at least one pixel")
    return Image.fromarray(np.ascontiguousarray(array))


def _format_of(data: bytes) -> tuple[str, type[ImageFile]]:
    for begins, name, plugin in FORMATS:
        if re.match(begins, data, re.DOTALL):
            return name, plugin
    known = ", ".join(name for _, name, _ in FORMATS)
    raise ValueError(f"begins with {data[:12]!r}; expected one of {known}")


def _check_png(data: bytes) -> None:
    """Every chunk's CRC up to the end: Pillow skips those of the pixel data."""
    # after 8 bytes come chunks: length, name, body, and the CRC of name and body
    at = 8
    view = memoryview(data)
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


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ValueError(f"{width} x {height} is over the limit of {max_pixels:,} pixels")


def _set_scale(image: Image.Image, scale: int) -> None:
    # draft scales by floor(side / requested side). A side divided by a power of two is exact as a
    # float, so that is our scale at any size; rounded to whole pixels it would not be.
    requested = (image.width / scale, image.height / scale)
    image.draft(image.mode, requested)  # type: ignore[arg-type]  # Pillow says int: see above


def _upright(image: Image.Image, exif: object) -> Image.Image:
    # TIFF has its orientation in a tag of its own, by which Pillow has turned it already
    if isinstance(exif, bytes):
        transpose = TRANSPOSES.get(_orientation(exif))
        if transpose is not None:
            image = image.transpose(transpose)
    image.info = {}  # so that nobody turns it twice
    return image


def _orientation(exif: bytes) -> int:
    """Tag 0x0112 of an EXIF block's first directory; 1 (upright) where it is absent or broken."""
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
    return 1


_NOISY = r"PIL\.(Tiff|Png)ImagePlugin"
# what filterwarnings puts into warnings.filters: action, message, category, module, line
_QUIET = ("ignore", None, Warning, re.compile(_NOISY), 0)


def _quiet_plugins() -> None:
    """Silence what Pillow says about odd tags of files that load all right."""
    # catch_warnings would put back a list that another thread has changed meanwhile; a rule that is
    # put in front and stays has no such race
    if warnings.filters[:1] != [_QUIET]:
        warnings.filterwarnings("ignore", module=_NOISY)


def _reason(name: str, error: BaseException) -> str:
    """What the error says on one line, or its class where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError):
        text = "does not fit in memory"
    return f"not a readable {name}: {text}"


def _os_reason(path: FilePath, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a link that leads back to itself"
    if isinstance(error, FileNotFoundError):
        return "is a link to a missing file" if os.path.islink(path) else "no such file"
    return f"can't be read ({error.strerror or error})"
