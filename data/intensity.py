"""One range for the gray of a whole set, found over those of its images that declare none."""

import os
from collections.abc import Iterable

import numpy as np

from data.images import (
    DEFAULT,
    FilePath,
    ImageError,
    file_problem,
    opened_values,
    read_bytes,
)
from data.netpbm import highest_value
from data.reading import Reading
from data.tiff import is_deep
from data.tiff_tags import read_pages
from data.values import robust_range, sample

FILES = 64  # images of a set that are looked into
VALUES = 2**14  # of each
HEAD = 512  # bytes of a file that tell whether it may be deep
SHALLOW = (b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")


def find_intensity(
    paths: Iterable[FilePath], reading: Reading = DEFAULT
) -> tuple[float, float] | None:
    """The range of a set's images that are deeper than 8 bits and declare no fewer.

    Robust percentiles over a sample of those images, spread evenly over their sorted names.
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
    deep = sorted(
        {os.fspath(path) for path in paths if may_be_deep(path, reading)}, key=os.fsencode
    )
    many = min(FILES, len(deep))
    chosen = [deep[(2 * number + 1) * len(deep) // (2 * many)] for number in range(many)]
    pools = [some for path in chosen if (some := _values_of(path, reading)).size]
    found = robust_range(np.concatenate(pools)) if pools else None
    if found is None:
        return None
    low, high = (float(f"{one:.6g}") for one in found)
    return (low, high) if low < high else found


def may_be_deep(path: FilePath, reading: Reading = DEFAULT) -> bool:
    """Whether a file's first bytes, and a TIFF's tags, leave its range open."""
    if file_problem(path):
        return False
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(HEAD)
            if head.startswith(SHALLOW):
                return False
            if head.startswith(b"\x89PNG"):
                return head[24:25] == b"\x10"
            if head.startswith(b"P"):
                return highest_value(head) > 255
            if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                size = os.fstat(file.fileno()).st_size
                descriptor = file.fileno()
                page, _ = read_pages(
                    lambda at, many: os.pread(descriptor, many, at), size, reading.page
                )
                return is_deep(page)
            return b"JXL" in head[:12] or head[:2] == b"\xff\x0a" or b"jP" in head[:12]
    except (OSError, ValueError, OverflowError, MemoryError):
        return False


def _values_of(path: str, reading: Reading) -> np.ndarray:
    try:
        values = opened_values(read_bytes(path), reading)
        if values is None:
            return np.empty(0)
        return sample(values, reading, VALUES)
    except (ImageError, ValueError):
        return np.empty(0)
