"""Thumbnails: small copies of images, in gray to compare them by and in colour to show them."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from data.images import DEFAULT, decode, open_image
from data.reading import Reading

SIDE = 32
PICTURE_SIDE = 96  # of the longer side in pixels: told apart on a page, 2 kB of JPEG
PICTURE_BYTES = 3072
QUALITIES = (60, 40, 20)
# shorter side that a JPEG's DCT leaves at least: enough for both copies
AT_LEAST = PICTURE_SIDE


def make_thumbnail(
    source: str | os.PathLike | Image.Image | np.ndarray | bytes, reading: Reading = DEFAULT
) -> np.ndarray:
    """The whole picture in gray, squeezed into a square.

    Parameters
    ----------
    source : path, PIL image, uint8 array (h, w, 3) or (h, w), or bytes
        What `open_image` takes, or all bytes of an image file.
    reading : Reading, optional
        As for `decode`.

    Returns
    -------
    ndarray of shape (32, 32), uint8
        Gray values (ITU-R 601-2 luma), 0 is black.

    Raises
    ------
    ImageError
        For an image that can't be read.

    Examples
    --------
    >>> import numpy as np
    >>> thumbnail = make_thumbnail(np.full((40, 60, 3), 200, np.uint8))
    >>> thumbnail.shape, thumbnail.dtype, thumbnail.max()
    ((32, 32), dtype('uint8'), np.uint8(200))
    """
    return gray_of(_open_whole(source, reading))


def make_picture(
    source: str | os.PathLike | Image.Image | np.ndarray | bytes, reading: Reading = DEFAULT
) -> bytes:
    """The whole picture in colour, small enough to send many of them in one page.

    Parameters
    ----------
    source, reading
        As for `make_thumbnail`.

    Returns
    -------
    bytes
        A JPEG file of at most 3,072 bytes, the longer side of its picture 96 pixels at most.

    Raises
    ------
    ImageError
        For an image that can't be read.

    Examples
    --------
    >>> import io
    >>> import numpy as np
    >>> from PIL import Image
    >>> picture = make_picture(np.full((200, 400, 3), 200, np.uint8))
    >>> Image.open(io.BytesIO(picture)).size
    (96, 48)
    """
    return picture_of(_open_whole(source, reading))


def make_both(
    source: str | os.PathLike | Image.Image | np.ndarray | bytes, reading: Reading = DEFAULT
) -> tuple[np.ndarray, bytes]:
    """What `make_thumbnail` and `make_picture` give, of one decode."""
    image = _open_whole(source, reading)
    return gray_of(image), picture_of(image)


def gray_of(image: Image.Image) -> np.ndarray:
    """(32, 32) uint8 of a picture that is open."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def picture_of(image: Image.Image) -> bytes:
    """JPEG of a picture that is open."""
    small = image.convert("RGB")
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BILINEAR)
    # noise compresses badly: half the side always fits
    for side in (PICTURE_SIDE, PICTURE_SIDE // 2):
        small.thumbnail((side, side), Image.Resampling.BILINEAR)
        for quality in QUALITIES:
            written = io.BytesIO()
            small.save(written, "JPEG", quality=quality)
            if written.tell() <= PICTURE_BYTES:
                return written.getvalue()
    raise AssertionError(f"a picture of {small.size} takes {written.tell()} bytes")


def _open_whole(
    source: str | os.PathLike | Image.Image | np.ndarray | bytes, reading: Reading
) -> Image.Image:
    if isinstance(source, bytes):
        return decode(source, at_least=AT_LEAST, reading=reading)
    return open_image(source, AT_LEAST, reading)


def read_thumbnails(
    inputs: Sequence | np.ndarray, threads: int | None = None, reading: Reading = DEFAULT
) -> np.ndarray:
    """Thumbnails of many images, read by several threads.

    Parameters
    ----------
    inputs : sequence of n paths, PIL images, uint8 arrays or bytes
        Each is what `make_thumbnail` takes.
    threads : int, optional
        How many threads read; by default what `ThreadPoolExecutor` takes.
    reading : Reading, optional
        As for `decode`, the same for all.

    Returns
    -------
    ndarray of shape (n, 32, 32), float32
        Gray values from 0 to 255, in the order of `inputs`.

    Raises
    ------
    ImageError
        For the first image that can't be read.

    Examples
    --------
    >>> import numpy as np
    >>> read_thumbnails(np.zeros((2, 40, 60, 3), np.uint8)).shape
    (2, 32, 32)
    """
    # rows are indexed, not iterated: a lazy sequence opens its images in the threads
    with ThreadPoolExecutor(threads) as pool:
        made = list(pool.map(lambda row: make_thumbnail(inputs[row], reading), range(len(inputs))))
    if not made:
        return np.empty((0, SIDE, SIDE), np.float32)
    return np.stack(made).astype(np.float32)
