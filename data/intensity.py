"""One range for the gray of a whole set, found over those of its images that declare none."""

import contextlib
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from data import remote
from data.held import held_file, held_name
from data.images import (
    DEFAULT,
    FilePath,
    ImageError,
    file_problem,
    opened_values,
    read_bytes,
)
from data.netpbm import highest_value
from data.reading import Reading, parse_channels, parse_intensity, parse_page
from data.samples import DataError
from data.tiff import is_deep
from data.tiff_tags import ReadAt, read_pages
from data.urls import is_url
from data.values import robust_range, sample, whole_range

AUTO = "auto"
FILES = 64  # images of a set that are looked into
STEPS = 20  # of the range, to which it is rounded
VALUES = 2**14  # of each
HEAD = 512  # bytes of a file that tell whether it may be deep
NAMED_SHALLOW = (".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".bmp")
SHALLOW = (b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")


def find_intensity(
    paths: Iterable[FilePath], reading: Reading = DEFAULT
) -> tuple[float, float] | None:
    """The range of a set's images that are deeper than 8 bits and declare no fewer.

    Robust percentiles over a sample of those images, drawn by what they hold and not by their
    names, and rounded outwards to about a twentieth of their distance: renaming images changes
    nothing, and a few more of the same kind seldom do, so that features that are kept stay of use.
    Missing and infinite values are left out.

    Parameters
    ----------
    paths : iterable of paths
        The training images, in any order. What can't be read is passed over.
    reading : Reading, optional
        Which page and which bands are taken.

    Returns
    -------
    (low, high) or None
        What becomes 0 and 255; None where no image needs a range, as in most sets.

    Examples
    --------
    >>> find_intensity(["cat.jpg", "dog.jpg"])
    """
    places = [os.fspath(path) for path in paths]
    # of files elsewhere each look is a request: many wait at a time
    with ThreadPoolExecutor(remote.REQUESTS if any(map(is_url, places)) else 1) as pool:
        looked = pool.map(lambda place: may_be_deep(place, reading), places)
        deep = {place for place, is_deep in zip(places, looked, strict=True) if is_deep}
    chosen = sorted(deep, key=_draw)[:FILES]
    pools = [some for path in chosen if (some := _values_of(path, reading)).size]
    some = np.concatenate(pools) if pools else np.empty(0)
    found = robust_range(some)
    if found is None or found == whole_range(some.dtype):
        return found
    return _rounded_outwards(*found)


def _draw(path: str) -> tuple[bytes, bytes]:
    """What orders the images of a set at random, and the same whatever they are called."""
    held = b""
    with contextlib.suppress(OSError, ValueError), _looked_into(path) as (read, size):
        held = read(0, HEAD) + str(size).encode()
    return hashlib.blake2b(held, digest_size=16).digest(), os.fsencode(path)


def _rounded_outwards(low: float, high: float) -> tuple[float, float]:
    """To the next 1, 2 or 5 times a power of ten below STEPS-ths of the distance."""
    least = (high - low) / STEPS
    power = 10.0 ** math.floor(math.log10(least))
    step = max(factor * power for factor in (1, 2, 5) if factor * power <= least)
    ends = math.floor(low / step) * step, math.ceil(high / step) * step
    # last bits of the products dropped: the numbers are read by people
    rounded = tuple(float(f"{end:.12g}") for end in ends)
    return (rounded[0], rounded[1]) if rounded[0] < rounded[1] else (low, high)


def settle_reading(
    intensity: tuple[float, float] | str | None = AUTO,
    page: int = 1,
    channels: str | Sequence[int] | None = None,
    inputs: Sequence = (),
) -> Reading:
    """How the files of a set become RGB images, as command lines and scripts ask for it.

    Parameters
    ----------
    intensity : (low, high), "LOW:HIGH", "auto", "full" or None
        What becomes black and white in images deeper than 8 bits that declare no fewer: "auto" is
        one range found over `inputs`, "full" the whole range of the type, None a range of each
        image's own.
    page : int
        Of files with several, counted from 1.
    channels : str, sequence of int or None
        Bands that become red, green and blue, or the one that is gray, counted from 0: `"0,2,1"`.
    inputs : sequence
        Training images; of them those that are files, or hold a named one, count.

    Returns
    -------
    Reading

    Raises
    ------
    DataError
        For what no file could be read by.

    Examples
    --------
    >>> settle_reading("0:4095", page=2)
    Reading(intensity=(0.0, 4095.0), page=1, channels=None)
    >>> settle_reading("auto", inputs=["cat.jpg"]) == Reading()
    True
    """
    try:
        reading = Reading(_asked_intensity(intensity), _asked_page(page), _asked_bands(channels))
    except ValueError as error:
        raise DataError(str(error)) from error
    if not isinstance(intensity, str) or intensity != AUTO:
        return reading
    named = (held_name(item) if held_file(item) else item for item in inputs)
    files = [item for item in named if isinstance(item, str | os.PathLike) and os.fspath(item)]
    return replace(reading, intensity=find_intensity(files, reading))


def _asked_intensity(intensity: Any) -> Any:
    if intensity is None or (isinstance(intensity, str) and intensity == AUTO):
        return None
    if isinstance(intensity, str):
        return parse_intensity(intensity)
    return tuple(np.ravel(intensity).tolist())


def _asked_page(page: Any) -> int:
    return parse_page(str(page))


def _asked_bands(channels: Any) -> tuple[int, ...] | None:
    if channels is None:
        return None
    if isinstance(channels, str):
        return parse_channels(channels)
    return tuple(np.ravel(channels).tolist())


def may_be_deep(path: FilePath, reading: Reading = DEFAULT) -> bool:
    """Whether a file's first bytes, and a TIFF's tags, leave its range open."""
    if is_url(path):
        # a name is believed where a look would be a request an image
        if os.fspath(path).lower().endswith(NAMED_SHALLOW):
            return False
    elif file_problem(path):
        return False
    try:
        with _looked_into(path) as (read, size):
            head = read(0, HEAD)
            if head.startswith(SHALLOW):
                return False
            if head.startswith(b"\x89PNG"):
                return head[24:25] == b"\x10"
            if head.startswith(b"P"):
                return highest_value(head) > 255
            if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                page, _ = read_pages(read, size, reading.page)
                return is_deep(page)
            return b"JXL" in head[:12] or head[:2] == b"\xff\x0a" or b"jP" in head[:12]
    except (OSError, ValueError, OverflowError, MemoryError):
        return False


@contextlib.contextmanager
def _looked_into(path: FilePath) -> Iterator[tuple[ReadAt, int]]:
    """What gives so many bytes of a file from a place on, and how many it has."""
    if is_url(path):
        url = os.fspath(path)
        yield lambda at, many: remote.read_range(url, at, at + many), remote.size_of(url)
        return
    with open(path, "rb", buffering=0) as file:
        handle = file.fileno()
        yield lambda at, many: os.pread(handle, many, at), os.fstat(handle).st_size


def _values_of(path: str, reading: Reading) -> np.ndarray:
    try:
        values = opened_values(read_bytes(path), reading)
        if values is None:
            return np.empty(0)
        return sample(values, reading, VALUES)
    except (ImageError, ValueError):
        return np.empty(0)
