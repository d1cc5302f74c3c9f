"""Thumbnails by image id, kept in the store so that no image is opened for one again."""

import contextlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from data import ImageError, Reading, read_bytes
from data.held import held_name
from data.images import held_bytes
from data.memory import budget
from data.thumbnails import AT_LEAST, PICTURE_BYTES, PICTURE_SIDE, SIDE, make_both
from extract.cores import cores
from extract.errors import ExtractError
from extract.pooling import Tap
from extract.recipe import Recipe, decode_rule
from extract.store import DamagedPart, FeatureStore, MemoryStore, ReadOnlyStore
from extract.store.ids import bytes_id, open_in_memory, pixels_id

log = logging.getLogger(__name__)

GRAY = Tap("thumbnail", "gray")
PICTURE = Tap("thumbnail", "jpeg")
STORED = np.uint8
RETRIES = 5  # of reading: each damaged part that is met is set aside, and then its rows are missing


def thumbnail_recipe(reading: Reading) -> Recipe:
    """What a thumbnail's pixels depend on; it is kept like a feature, under a tap of its own."""
    preprocessing = f"gray-{SIDE}/jpeg-{PICTURE_SIDE}/bilinear/at-least-{AT_LEAST}/2"
    return Recipe("thumbnail", "none", preprocessing, "uint8", decode=decode_rule(reading))


def lacking_thumbnails(
    store: FeatureStore | MemoryStore | ReadOnlyStore, ids: np.ndarray, reading: Reading
) -> np.ndarray:
    """(n, 16) uint8 ids -> (n,) bool, True where no thumbnail is kept."""
    return np.any(store.missing(thumbnail_recipe(reading), [GRAY, PICTURE], ids), axis=1)


def thumbnail_rows(made: Sequence[tuple[np.ndarray, bytes]]) -> dict[Tap, np.ndarray]:
    """Of m images what `make_both` gave -> rows as they are kept, JPEG files ended by zeros."""
    pictures = b"".join(picture.ljust(PICTURE_BYTES, b"\0") for _, picture in made)
    return {
        GRAY: np.array([gray for gray, _ in made], STORED).reshape(-1, SIDE * SIDE),
        PICTURE: np.frombuffer(pictures, STORED).reshape(-1, PICTURE_BYTES),
    }


def kept_thumbnails(
    store: FeatureStore | MemoryStore | ReadOnlyStore,
    inputs: Sequence,
    ids: np.ndarray,
    reading: Reading | None = None,
) -> np.ndarray:
    """Thumbnails from the store; those it lacks are made from the images, and kept.

    Parameters
    ----------
    store : FeatureStore or MemoryStore
    inputs : n paths, PIL images or uint8 (height, width, 3) arrays
    ids : (n, 16) uint8
        The images' ids, as `Extraction.ids` has them.
    reading : Reading, optional
        How the set's files become RGB images.

    Returns
    -------
    (n, 32, 32) float32
        Gray values from 0 to 255, whole pictures squeezed into squares.

    Raises
    ------
    ImageError
        For an image that has none kept and can't be read.

    Examples
    --------
    >>> import numpy as np
    >>> from extract import MemoryStore
    >>> white = np.full((40, 60, 3), 255, np.uint8)
    >>> kept_thumbnails(MemoryStore(), [white], np.zeros((1, 16), np.uint8)).mean()
    np.float32(255.0)
    """
    rows = _kept_or_made(store, inputs, ids, reading or Reading(), GRAY)
    return rows.astype(np.float32).reshape(-1, SIDE, SIDE)


def kept_pictures(
    store: FeatureStore | MemoryStore | ReadOnlyStore,
    inputs: Sequence,
    ids: np.ndarray,
    reading: Reading | None = None,
) -> list[bytes]:
    """Small pictures to show, from the store like `kept_thumbnails`.

    Parameters
    ----------
    store, inputs, ids, reading
        As for `kept_thumbnails`.

    Returns
    -------
    list of n bytes
        JPEG files of at most 3,072 bytes, the longer side 96 pixels at most.

    Raises
    ------
    ImageError
        For an image that has none kept and can't be read.

    Examples
    --------
    >>> import numpy as np
    >>> from extract import MemoryStore
    >>> white = np.full((40, 60, 3), 255, np.uint8)
    >>> kept_pictures(MemoryStore(), [white], np.zeros((1, 16), np.uint8))[0][:3]
    b'\\xff\\xd8\\xff'
    """
    rows = _kept_or_made(store, inputs, ids, reading or Reading(), PICTURE)
    return list(map(_picture, rows))


def found_pictures(
    store: FeatureStore | MemoryStore | ReadOnlyStore,
    inputs: Sequence,
    ids: np.ndarray,
    reading: Reading | None = None,
) -> dict[int, bytes]:
    """Small pictures of those images that have one yet: kept, or of a file that is as it was.

    Parameters
    ----------
    store, inputs, ids, reading
        As for `kept_thumbnails`; nothing is kept.

    Returns
    -------
    {row: bytes}
        As `kept_pictures` gives them; without the images that can't be read any more, or are other
        ones by now.

    Examples
    --------
    >>> import numpy as np
    >>> from extract import MemoryStore
    >>> found_pictures(MemoryStore(), ["gone.jpg"], np.zeros((1, 16), np.uint8))
    {}
    """
    rows = np.empty((len(ids), PICTURE_BYTES), STORED)
    reading = reading or Reading()
    lacking = _read_kept(store, ids, rows, reading, PICTURE)
    found = {row: _picture(rows[row]) for row in np.setdiff1d(np.arange(len(ids)), lacking)}

    def make(row: int) -> bytes | None:
        with contextlib.suppress(ImageError):
            own, (_, picture) = _make(inputs[row], reading)
            return picture if own == ids[row].tobytes() else None
        return None

    with ThreadPoolExecutor(cores()) as pool:
        made = dict(zip(lacking.tolist(), pool.map(make, lacking), strict=True))
    found |= {row: picture for row, picture in made.items() if picture is not None}
    return {int(row): found[row] for row in sorted(found)}


def _picture(row: np.ndarray) -> bytes:
    return row.tobytes().rstrip(b"\0")


def _kept_or_made(
    store: FeatureStore | MemoryStore | ReadOnlyStore,
    inputs: Sequence,
    ids: np.ndarray,
    reading: Reading,
    tap: Tap,
) -> np.ndarray:
    """(n, d) rows of a tap; both taps are kept of images that lack one."""
    rows = np.empty((len(ids), PICTURE_BYTES if tap == PICTURE else SIDE * SIDE), STORED)
    lacking = _read_kept(store, ids, rows, reading, tap)
    if len(lacking):
        with ThreadPoolExecutor(cores()) as pool:
            found = list(pool.map(lambda row: _make(inputs[row], reading), lacking))
        made = thumbnail_rows([both for _, both in found])
        rows[lacking] = made[tap]
        own_ids = np.stack([np.frombuffer(own, np.uint8) for own, _ in found])
        _keep(store, own_ids, made, reading)
    return rows


def _read_kept(
    store: FeatureStore | MemoryStore | ReadOnlyStore,
    ids: np.ndarray,
    rows: np.ndarray,
    reading: Reading,
    tap: Tap,
) -> np.ndarray:
    """Fill in the rows that are kept -> the others."""
    for _ in range(RETRIES):
        lacking = lacking_thumbnails(store, ids, reading)
        if lacking.all():
            break
        try:
            rows[~lacking] = store.read(thumbnail_recipe(reading), [tap], ids[~lacking])
            return np.flatnonzero(lacking)
        except DamagedPart as error:
            log.debug("thumbnails are made again: %s", error)
    return np.arange(len(ids))


def _make(item: Any, reading: Reading) -> tuple[bytes, tuple[np.ndarray, bytes]]:
    """An image's id now, which may be another than when it was listed, and its thumbnails."""
    is_path = isinstance(item, (str, os.PathLike))
    try:
        with budget().kept():
            data = read_bytes(item) if is_path else held_bytes(item)
            if data is not None:
                return bytes_id(data), make_both(data, reading)
    except ImageError as error:
        raise ImageError(os.fspath(item) if is_path else held_name(item), error.reason) from error
    image = open_in_memory(item)
    return pixels_id(np.asarray(image)), make_both(image)


def _keep(
    store: FeatureStore | MemoryStore | ReadOnlyStore,
    ids: np.ndarray,
    rows: dict[Tap, np.ndarray],
    reading: Reading,
) -> None:
    try:
        with store.writer(thumbnail_recipe(reading), STORED) as writer:
            writer.add(ids, rows)
        if isinstance(store, FeatureStore):
            store.compact(thumbnail_recipe(reading))
    except ExtractError as error:  # a cache that can only be read still gives what it holds
        log.warning("the thumbnails are not kept: %s", error)
