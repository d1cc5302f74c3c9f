"""Thumbnails: small gray copies of images, by which pictures are compared and shown."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from data.images import DEFAULT, decode, open_image
from data.reading import Reading

SIDE = 32
# shorter side that a JPEG's DCT leaves at least: the bilinear filter then does the last halving
AT_LEAST = 2 * SIDE


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
    if isinstance(source, bytes):
        image = decode(source, at_least=AT_LEAST, reading=reading)
    else:
        image = open_image(source, AT_LEAST, reading)
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


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
