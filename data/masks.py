"""Masks: one class number for each pixel of an image, of PNG files, paired to images by name."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data.folders import find_images
from data.images import FilePath, decode_numbers, is_file, read_bytes
from data.listing import is_folder
from data.samples import DataError
from data.urls import as_place, is_url, join

SUFFIX = ".png"
LARGEST_NUMBER = int(np.iinfo(np.uint16).max)  # the largest number that a PNG of gray holds


def read_mask_folder(images: FilePath, masks: FilePath) -> tuple[list[str], list[str]]:
    """The images of a folder with the mask of each, by the name without its suffix.

    Parameters
    ----------
    images : path
        A folder of images, at any depth.
    masks : path
        A folder laid out like it: `images/a/1.jpg` has its mask in `masks/a/1.png`. Masks without
        an image are passed over.

    Returns
    -------
    images, masks : list of str
        Paths, sorted by image; the masks are not read.

    Raises
    ------
    DataError
        For no images, an image without a mask, and two images of one name.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("images/a.jpg", "masks/a.png"):
    ...         file = pathlib.Path(folder, name)
    ...         file.parent.mkdir()
    ...         _ = file.write_bytes(b"")
    ...     images, masks = read_mask_folder(f"{folder}/images", f"{folder}/masks")
    >>> [pathlib.Path(masks[0]).name, pathlib.Path(images[0]).name]
    ['a.png', 'a.jpg']
    """
    for folder in (images, masks):
        if not _is_folder(as_place(folder)):
            raise DataError(f"{os.fspath(folder)} is no folder: expected one of images or masks")
    found, _ = find_images(images)
    if not found:
        raise DataError(f"{os.fspath(images)}: no images found; expected files such as 1.jpg")
    wanted = [_mask_of(own, as_place(images), as_place(masks)) for own in found]
    _refuse_namesakes(found, wanted)
    without = [row for row, mask in enumerate(wanted) if not is_file(mask)]
    if without:
        first = without[0]
        raise DataError(
            f"{found[first]} has no mask ({len(without)} of {len(found)} images have none): "
            f"expected {wanted[first]}"
        )
    return found, wanted


def _is_folder(place: str) -> bool:
    try:
        return is_folder(place)
    except OSError as error:  # of a URL
        raise DataError(f"{place}: can't be read ({error.strerror})") from error


def _mask_of(image: str, images: str, masks: str) -> str:
    """The mask's place: that of the image, below the other folder and with another suffix."""
    name = os.path.splitext(os.path.relpath(image, images))[0] + SUFFIX
    return join(masks, name) if is_url(masks) else str(Path(masks, name))


def _refuse_namesakes(images: Sequence[str], masks: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for image, mask in zip(images, masks, strict=True):
        other = first.setdefault(mask, image)
        if other != image:
            raise DataError(f"{other} and {image} would share the mask {mask}: rename one")


def read_mask(source: FilePath | np.ndarray) -> np.ndarray:
    """The class numbers of a mask's pixels.

    Parameters
    ----------
    source : path, or array of shape (h, w) of a whole-numbered type
        A PNG with a palette, whose numbers are taken and whose colours mean nothing, or of gray
        with 1, 2, 4, 8 or 16 bits. An array is taken as it is.

    Returns
    -------
    (h, w) uint8 or uint16

    Raises
    ------
    ImageError
        For a file that can't be read, or holds colours.
    DataError
        For an array of another shape or type, or with numbers below 0 or above 65535.

    Examples
    --------
    >>> read_mask(np.array([[0, 1], [1, 255]]))
    array([[  0,   1],
           [  1, 255]], dtype=uint8)
    """
    if not isinstance(source, np.ndarray):
        return decode_numbers(read_bytes(source), source)
    if source.ndim != 2 or source.dtype.kind not in "bui" or not source.size:
        raise DataError(
            f"a mask {source.dtype} {source.shape} came; expected whole numbers of shape (h, w)"
        )
    low, high = int(source.min()), int(source.max())
    if low < 0 or high > LARGEST_NUMBER:
        raise DataError(f"a mask holds the numbers {low} to {high}: expected 0 to {LARGEST_NUMBER}")
    return source.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)


def write_mask(path: FilePath, mask: np.ndarray) -> None:
    """Write class numbers as a PNG, which `read_mask` gives back.

    Parameters
    ----------
    path : path
        Its folder is there.
    mask : (h, w) uint8 or uint16
        uint8 is written with a palette, that of Pascal VOC, which has small numbers in colours far
        apart; uint16 as gray.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "mask.png")
    ...     write_mask(file, np.uint8([[0, 7]]))
    ...     read_mask(file)
    array([[0, 7]], dtype=uint8)
    """
    if mask.dtype == np.uint16:
        Image.fromarray(mask).save(path, "PNG")
        return
    image = Image.fromarray(mask, "P")
    image.putpalette(mask_palette().tobytes())
    image.save(path, "PNG")


def mask_palette() -> np.ndarray:
    """(256, 3) uint8: the colours of class numbers, as Pascal VOC chose them.

    The bits of the number are dealt to the three colours in turn, the lowest to the highest bits.

    Examples
    --------
    >>> mask_palette()[:3].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    numbers = np.arange(256)[:, None]
    colours = np.zeros((256, 3), np.uint8)
    for place in range(8):
        bits = numbers >> (3 * place) & [1, 2, 4]
        colours |= ((bits > 0) << (7 - place)).astype(np.uint8)
    return colours
