"""How a file becomes RGB pixels: one rule for all formats, one error for what can't be read."""

import errno
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from data import remote
from data.gate import decode_within_limits
from data.held import held_file, held_name, reading_held
from data.jpeg import dct_scale, read_jpeg
from data.limits import largest_file
from data.memory import budget
from data.netpbm import read_netpbm
from data.newer_formats import read_avif, read_heic, read_jpeg_2000, read_jpeg_xl
from data.opened import Asked, Reader
from data.orientation import turned, upright
from data.plain_formats import read_bmp, read_gif, read_webp
from data.png import read_png
from data.reading import Reading
from data.tiff import read_tiff
from data.urls import is_url
from data.values import Values, count, render

__all__ = [
    "FORMATS", "MAX_PIXELS", "FilePath", "ImageError", "dct_scale", "decode", "decode_noted",
    "file_problem", "held_bytes", "open_image", "read_blocks", "read_bytes", "to_rgb",
]  # fmt: skip

MAX_PIXELS = 178_956_970  # where Pillow itself refuses an image as a decompression bomb
DEFAULT = Reading()
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


# how a file of each format begins, its name, and what reads it. Image.open is not used: it
# warns from 89 million pixels on, and what it recognises depends on which plugins are loaded.
FORMATS: tuple[tuple[bytes, str, Reader], ...] = (
    (rb"\xff\xd8\xff", "JPEG", read_jpeg),
    (rb"\x89PNG\r\n\x1a\n", "PNG", read_png),
    (rb"GIF8[79]a", "GIF", read_gif),
    (rb"RIFF....WEBPVP8", "WebP", read_webp),
    (rb"BM", "BMP", read_bmp),
    # * is version 42, + is 43: files over 4 GB
    (rb"II[*+]\0|MM\0[*+]", "TIFF", read_tiff),
    # 1 to 6: bits, gray and colour as text, then as bytes; 7: any bands; f and F: floating
    (rb"P[1-7fF]\s", "PPM", read_netpbm),
    # boxes; mif1 is any of both, and says of which further on
    (rb"....ftyp(avi[fs]|(mif1|miaf).{4,56}?avif)", "AVIF", read_avif),
    (rb"....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", "HEIC", read_heic),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", read_jpeg_xl),
    (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", read_jpeg_2000),
)

# what a mask is
NUMBERED = "a PNG with a palette or of gray, whose numbers are classes"

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
    source: FilePath | Image.Image | np.ndarray,
    at_least: int | None = None,
    reading: Reading = DEFAULT,
) -> Image.Image:
    """The RGB image of a file, a PIL image or an array.

    Parameters
    ----------
    source : path, PIL image, or uint8 array of shape (h, w, 3) or (h, w)
        A file goes through `read_bytes` and `decode`, and so does that of a PIL image which has
        not read its pixels yet. Any other PIL image and an array are taken as the pixels they
        hold: no orientation is applied.
    at_least : int, optional
        As for `decode`; it means nothing to pixels.
    reading : Reading, optional
        As for `decode`; of pixels it says what their range is and which bands are taken.

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
        return decode(read_bytes(source), os.fspath(source), at_least, reading=reading)
    if isinstance(source, np.ndarray):
        source = _from_array(source)
    if not isinstance(source, Image.Image):
        raise ImageError(
            "", f"a {type(source).__name__} came; expected a path, a PIL image or a uint8 array"
        )
    data = held_bytes(source)
    if data is not None:
        return decode(data, held_name(source), at_least, reading=reading)
    try:
        source.load()  # one that was closed would be handed back unread
        return to_rgb(source, reading)
    except _DECODE_ERRORS as error:
        # only an image that Pillow opened from a file has a name, and only now are its pixels read
        raise ImageError(held_name(source), _reason("image", error)) from error


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
    if is_url(path):
        return b"".join(_fetched(os.fspath(path)))
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


def held_bytes(image: Any) -> bytes | None:
    """All bytes of the file that a PIL image holds and has not read yet.

    Parameters
    ----------
    image : PIL image, or anything else
        Its place in the file stays where it was.

    Returns
    -------
    bytes or None
        None for what holds no file, or one of a format that `decode` does not know.

    Raises
    ------
    ImageError
        For a file that is larger than what it declares could need, or can't be read.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO(b"P5 2 1 255 " + bytes([0, 255]))
    >>> image = Image.open(file)
    >>> held_bytes(image) == file.getvalue()
    True
    >>> image.load() is not None, held_bytes(image)
    (True, None)
    """
    with reading_held:
        file = held_file(image)
        if file is None:
            return None
        try:
            place = file.tell()
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            head = file.read(READ_BLOCK if size > LOOKED_AT else HEAD)
            is_known = _is_known(head)
            reason = _size_problem(size, head) if is_known else None
            data = head + file.read() if is_known and reason is None else None
            file.seek(place)
        except (OSError, ValueError) as error:
            raise ImageError(held_name(image), _reason("image", error)) from error
    if reason is not None:
        raise ImageError(held_name(image), reason)
    return data


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
    if is_url(path):
        yield from (memoryview(block) for block in _fetched(os.fspath(path)))
        return
    handle, size = _open(path)
    with open(handle, "rb", buffering=0) as file:
        block = memoryview(bytearray(min(size, READ_BLOCK)))
        try:
            while size and (read := file.readinto(block[:size])):
                size -= read
                yield block[:read]
        except OSError as error:
            raise ImageError(os.fspath(path), _os_reason(path, error)) from error


def _fetched(url: str) -> Iterator[bytes]:
    """The bytes of an image at a URL, as `read_bytes` takes them; a large one block by block."""
    try:
        data = remote.read_start(url, LOOKED_AT)
        size = len(data)
        if size == LOOKED_AT:
            size = max(size, remote.size_of(url))
        reason = _size_problem(size, data) if size else "the file is empty"
        if reason is not None:
            raise ImageError(url, reason)
        with budget().taken(4 * size if size > LOOKED_AT else 0, after=4 * size):
            yield data
            for at in range(len(data), size, LOOKED_AT):
                yield remote.read_range(url, at, min(at + LOOKED_AT, size))
    except ValueError as error:
        raise ImageError(url, _reason("image", error)) from error
    except OSError as error:
        raise ImageError(url, _os_reason(url, error)) from error


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
    return size, _size_problem(size, head)


def _size_problem(size: int, head: bytes) -> str | None:
    """Why a file of this size that begins so is not read; ValueError for an unknown format."""
    name, _ = _format_of(head)
    if size > LOOKED_AT and size > (most := largest_file(name, head)):
        return f"not a readable {name}: the file has {size:,} bytes; expected at most {most:,}"
    return None


def file_problem(path: FilePath) -> str | None:
    """Why `path` is not a regular file, in plain words, or None if it is one; nothing is opened."""
    try:
        if is_url(path):
            return "is a directory" if remote.entry_of(os.fspath(path)) is None else None
        mode = os.stat(path).st_mode
    except OSError as error:
        return _os_reason(path, error)
    except ValueError as error:  # a NUL in the name
        return f"is not a file name ({error})"
    return _kind_problem(mode)


def is_file(path: FilePath) -> bool:
    """Whether there is a regular file at a path or a URL."""
    return file_problem(path) is None


def _kind_problem(mode: int) -> str | None:
    if stat.S_ISREG(mode):
        return None
    return next((reason for is_kind, reason in NOT_FILES if is_kind(mode)), "is not a regular file")


def decode(
    data: bytes,
    path: FilePath = "",
    at_least: int | None = None,
    max_pixels: int = MAX_PIXELS,
    reading: Reading = DEFAULT,
) -> Image.Image:
    """The RGB image, upright by its orientation, that the bytes of a file hold.

    A JPEG is decoded by the accurate DCT at the scale that `dct_scale` gives, other formats whole.
    Transparency is put on white. Gray and colour of more than 8 bits are scaled: by the bits that
    the file declares where they are fewer than its numbers have, or else by `reading`. Missing
    values (not a number, GDAL's NoData) become black.

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
    reading : Reading, optional
        Which page, which bands and which range, the same for all images of a set. By default the
        first page, and each file is its own set.

    Returns
    -------
    PIL.Image.Image
        In mode RGB, without EXIF.

    Raises
    ------
    ImageError
        For what is broken, cut short, too large or of another format, and for bands of which
        nothing says which are colours.

    Examples
    --------
    >>> decode(b"P5 2 1 255 " + bytes([0, 255])).getpixel((1, 0))
    (255, 255, 255)
    >>> twelve = b"P5 2 1 4095 " + bytes([8, 0, 15, 255])
    >>> decode(twelve).getpixel((0, 0))
    (128, 128, 128)
    """
    return decode_noted(data, path, at_least, max_pixels, reading)[0]


def decode_noted(
    data: bytes,
    path: FilePath = "",
    at_least: int | None = None,
    max_pixels: int = MAX_PIXELS,
    reading: Reading = DEFAULT,
) -> tuple[Image.Image, tuple[str, ...]]:
    """What `decode` gives, and notes on what affected the pixels.

    Parameters
    ----------
    data, path, at_least, max_pixels, reading
        As for `decode`.

    Returns
    -------
    image : PIL.Image.Image
    notes : tuple of str
        Such as ``1 of 12 pages`` or ``missing end of file``; mostly none.

    Raises
    ------
    ImageError
        As `decode` does.

    Examples
    --------
    >>> image, notes = decode_noted(b"P5 2 1 255 " + bytes([0, 255]))
    >>> notes
    ()
    """
    name = "image"
    try:
        name, _ = _format_of(data)
        return decode_within_limits(_decoded, name, data, at_least, max_pixels, reading)
    except _DECODE_ERRORS as error:
        raise ImageError(os.fspath(path), _reason(name, error)) from error


def _decoded(
    data: bytes, at_least: int | None, max_pixels: int, reading: Reading
) -> tuple[Image.Image, tuple[str, ...]]:
    """What `decode_noted` gives, without a limit on time or memory."""
    _, read = _format_of(data)
    _quiet_plugins()
    opened = read(data, Asked(at_least, max_pixels, reading))
    image = turned(_rendered(opened.pixels, reading), opened.orientation)
    return upright(image, opened.exif, opened.xmp), opened.notes


def opened_values(data: bytes, reading: Reading) -> Values | None:
    """The numbers of an image that are still to be scaled and declare no range; None for others.

    None, too, of an image that takes long to decode: a range is found over others.
    """
    try:
        name, _ = _format_of(data)
        return decode_within_limits(_values, name, data, None, MAX_PIXELS, reading)
    except _DECODE_ERRORS:
        return None  # who decodes it says why


def _values(data: bytes, at_least: int | None, max_pixels: int, reading: Reading) -> Values | None:
    _, read = _format_of(data)
    _quiet_plugins()
    pixels = read(data, Asked(at_least, max_pixels, reading)).pixels
    return pixels if isinstance(pixels, Values) and pixels.declared is None else None


def decode_numbers(data: bytes, path: FilePath = "") -> np.ndarray:
    """The numbers of a gray PNG, or those that one with a palette has in place of colours.

    -> (h, w) uint8, or uint16 of 16 bits. Raises ImageError for what can't be read, is no PNG or
    holds colours.
    """
    name = "mask"
    try:
        kind, _ = _format_of(data)
        if kind != "PNG":
            raise ValueError(f"it is {kind}; expected {NUMBERED}")
        name = kind
        return decode_within_limits(_numbers, name, data, None, MAX_PIXELS, DEFAULT)
    except _DECODE_ERRORS as error:
        raise ImageError(os.fspath(path), _reason(name, error)) from error


def _numbers(data: bytes, at_least: int | None, max_pixels: int, reading: Reading) -> np.ndarray:
    pixels = read_png(data, Asked(at_least, max_pixels, reading)).pixels
    if isinstance(pixels, Values) and pixels.array.ndim == 2:
        return pixels.array.astype(np.uint16)
    if isinstance(pixels, Image.Image) and pixels.mode in ("1", "L", "P"):
        numbers = np.asarray(pixels).astype(np.uint8)
        # gray of 2 and 4 bits is spread over 0 to 255 by Pillow; a palette's numbers are not
        return numbers // (255 // (2 ** data[24] - 1)) if pixels.mode == "L" else numbers
    raise ValueError(f"it holds colours; expected {NUMBERED}")


def to_rgb(image: Image.Image, reading: Reading = DEFAULT) -> Image.Image:
    """A PIL image of any mode as RGB, by the rules that `decode` names."""
    # Pillow's own conversion of the modes I, I;16 and F clips at 255
    if image.mode[0] in "IF":
        return render(_wide(image), reading)
    if reading.channels is not None:
        return _chosen(image, reading.channels)
    if image.has_transparency_data:
        # a palette with alpha, and one transparent colour of any mode, are alpha only in RGBA
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _rendered(pixels: Image.Image | Values, reading: Reading) -> Image.Image:
    return render(pixels, reading) if isinstance(pixels, Values) else to_rgb(pixels, reading)


def _wide(image: Image.Image) -> Values:
    """Gray of 16 or 32 bits, or floating; what is transparent shows white."""
    array = np.asarray(image)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    clear = image.info.get("transparency")
    if not isinstance(clear, int | float):
        return Values(array)
    return Values(array, alpha=np.where(array == clear, 0, 255).astype(np.uint8))


def _chosen(image: Image.Image, channels: tuple[int, ...]) -> Image.Image:
    """The bands that are asked for, as gray or as colours."""
    if image.mode in ("P", "PA", "1"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    bands = image.split()
    if max(channels) >= len(bands):
        raise ValueError(
            f"{count(len(bands), 'band')}; channels {','.join(map(str, channels))} asks for more "
            "(the first is 0)"
        )
    if len(channels) == 1:
        return bands[channels[0]].convert("RGB")
    return Image.merge("RGB", [bands[channel] for channel in channels])


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


def _format_of(data: bytes) -> tuple[str, Reader]:
    for begins, name, read in FORMATS:
        if re.match(begins, data, re.DOTALL):
            return name, read
    known = ", ".join(name for _, name, _ in FORMATS)
    raise ValueError(f"begins with {data[:12]!r}; expected one of {known}")


def _is_known(head: bytes) -> bool:
    return any(re.match(begins, head, re.DOTALL) for begins, _, _ in FORMATS)


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
