"""Thumbnails by image id, kept in the store so that no image is opened for one again."""

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
from data.thumbnails import SIDE, make_thumbnail
from extract.cores import cores
from extract.errors import ExtractError
from extract.pooling import Tap
from extract.recipe import Recipe, decode_rule
from extract.store import DamagedPart, FeatureStore, MemoryStore, ReadOnlyStore
from extract.store.ids import bytes_id, open_in_memory, pixels_id

log = logging.getLogger(__name__)

TAP = Tap("thumbnail", "gray")
STORED = np.uint8
RETRIES = 5  # of reading: each damaged part that is met is set aside, and then its rows are missing


def thumbnail_recipe(reading: Reading) -> Recipe:
    """What a thumbnail's pixels depend on; it is kept like a feature, under a tap of its own."""
    preprocessing = f"gray/bilinear/{SIDE}/at-least-{2 * SIDE}/1"
    return Recipe("thumbnail", "none", preprocessing, "uint8", decode=decode_rule(reading))


def lacking_thumbnails(
    store: FeatureStore | MemoryStore | ReadOnlyStore, ids: np.ndarray, reading: Reading
) -> np.ndarray:
    """(n, 16) uint8 ids -> (n,) bool, True where no thumbnail is kept."""
    return store.missing(thumbnail_recipe(reading), [TAP], ids)[:, 0]


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
    reading = reading or Reading()
    thumbnails = np.empty((len(ids), SIDE * SIDE), np.float32)
    lacking = _read_kept(store, ids, thumbnails, reading)
    if len(lacking):
        with ThreadPoolExecutor(cores()) as pool:
            made = list(pool.map(lambda row: _make(inputs[row], reading), lacking))
        pixels = np.stack([pixels for _, pixels in made]).reshape(-1, SIDE * SIDE)
        thumbnails[lacking] = pixels
        found_ids = np.stack([np.frombuffer(found, np.uint8) for found, _ in made])
        _keep(store, found_ids, pixels, reading)
    return thumbnails.reshape(-1, SIDE, SIDE)


def _read_kept(
    store: FeatureStore | MemoryStore | ReadOnlyStore,
    ids: np.ndarray,
    thumbnails: np.ndarray,
    reading: Reading,
) -> np.ndarray:
    """Fill in the rows that are kept -> the others."""
    for _ in range(RETRIES):
        lacking = lacking_thumbnails(store, ids, reading)
        if lacking.all():
            break
        try:
            thumbnails[~lacking] = store.read(thumbnail_recipe(reading), [TAP], ids[~lacking])
            return np.flatnonzero(lacking)
        except DamagedPart as error:
            log.debug("thumbnails are made again: %s", error)
    return np.arange(len(ids))


def _make(item: Any, reading: Reading) -> tuple[bytes, np.ndarray]:
    """An image's id now, which may be another than when it was listed, and its thumbnail."""
    is_path = isinstance(item, (str, os.PathLike))
    try:
        with budget().kept():
            data = read_bytes(item) if is_path else held_bytes(item)
            if data is not None:
                return bytes_id(data), make_thumbnail(data, reading)
    except ImageError as error:
        raise ImageError(os.fspath(item) if is_path else held_name(item), error.reason) from error
    image = open_in_memory(item)
    return pixels_id(np.asarray(image)), make_thumbnail(image)


def _keep(
    store: FeatureStore | MemoryStore | ReadOnlyStore,
    ids: np.ndarray,
    pixels: np.ndarray,
    reading: Reading,
) -> None:
    try:
        with store.writer(thumbnail_recipe(reading), STORED) as writer:
            writer.add(ids, {TAP: pixels})
        if isinstance(store, FeatureStore):
            store.compact(thumbnail_recipe(reading))
    except ExtractError as error:  # a cache that can only be read still gives what it holds
        log.warning("the thumbnails are not kept: %s", error)
