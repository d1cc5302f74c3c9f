"""Which images have a picture in the page of a run, and these."""

from collections.abc import Sequence

import numpy as np

from data import Reading
from extract import FeatureStore, ReadOnlyStore, found_pictures
from pipelines.exploration.maps import even_order
from pipelines.report.images import ImageTable

# so many images all have one: about 5 MB of base64
ALL_UP_TO = 2000
# of JPEG in all beyond that: 16 MB of base64, so that the page stays below 25 MB
BUDGET = 12_000_000
CHUNK = 500


def gather_pictures(
    results: dict, images: ImageTable, inputs: Sequence, store: FeatureStore | ReadOnlyStore
) -> dict[str, bytes]:
    """JPEG files by image id, kept ones; of an image that has none kept, made of its file.

    Nothing is written. An image whose file is gone, or another one by now, has none.

    results : what results.json holds. inputs : what the images are read from, in their order.
    """
    rows = order_of_worth(results, images)
    return pictures_of(rows, images.ids, inputs, store, reading_of(results["data"]))


def pictures_of(
    rows: np.ndarray,
    ids: np.ndarray,
    inputs: Sequence,
    store: FeatureStore | ReadOnlyStore,
    reading: Reading,
) -> dict[str, bytes]:
    """The same of these rows in their order, as many as a page may hold; ids (n, 16) uint8."""
    store = ReadOnlyStore(store.cache)
    left = BUDGET if len(ids) > ALL_UP_TO else np.inf
    found: dict[str, bytes] = {}
    for start in range(0, len(rows), CHUNK):
        own = rows[start : start + CHUNK]
        pictures = found_pictures(store, [inputs[row] for row in own], ids[own], reading)
        for place, picture in pictures.items():
            left -= len(picture)
            if left < 0:
                return found
            found[ids[own[place]].tobytes().hex()] = picture
    return found


def order_of_worth(results: dict, images: ImageTable) -> np.ndarray:
    """All rows, those first whose picture is looked for most.

    What the audit lists, wrong test images, the other test images, wrong training images, those on
    the map, the others; wrong ones by how sure the answer was, the others drawn evenly by class.
    """
    in_gallery = _listed(results["audit"])
    listed = np.array([path in in_gallery for path in images.path], bool)
    tested = images.part == "test"
    groups = [listed, tested & images.is_wrong, tested, images.is_wrong, ~np.isnan(images.x)]
    rank = np.min([np.where(group, i, len(groups)) for i, group in enumerate(groups)], axis=0)
    drawn = np.argsort(even_order(images.label))
    within = np.where(images.is_wrong, -images.probability, drawn)
    return np.lexsort((within, rank))


def reading_of(data: dict) -> Reading:
    """How the files became images, by the `data` of results.json."""
    intensity, channels = data["intensity"], data["channels"]
    return Reading(
        tuple(intensity) if isinstance(intensity, list) else intensity,
        data["page"] - 1,
        channels and tuple(channels),
    )


def _listed(audit: dict) -> set[str]:
    """Paths that the page has in a gallery of what the audit found."""
    found = {pair[side] for pair in audit["copies"] for side in ("first", "second")}
    found |= set(audit["flat"])
    for rows in audit.values():
        if isinstance(rows, list):
            found |= {row["path"] for row in rows if isinstance(row, dict) and "path" in row}
    return found
