"""The patches that excite the channels of a run's chosen layer, cut out of its images again."""

import io
import itertools
from collections.abc import Mapping, Sequence

from PIL import Image

from extract.introspection.patches import Patch, crop, cut_patches
from pipelines.report.images import ImageTable
from pipelines.report.inside import ChannelLook, PatchPicture
from pipelines.report.overlay import as_uri
from pipelines.report.pictures import reading_of


def cut_seen(results: dict, images: ImageTable, inputs: Sequence) -> list[str | None]:
    """The patches that are listed in `seen` of results.json, one after the other, cut out of files.

    Parameters
    ----------
    results : dict
        What results.json holds.
    images : ImageTable
    inputs : n paths, PIL images or uint8 arrays
        What the images are read from, in their order.

    Returns
    -------
    list of str or None
        As addresses of their own bytes; None where the file is gone, or another image by now.
    """
    cut = cut_patches(inputs, _listed(results, images), reading_of(results["data"]), images.ids)
    return [None if own is None else as_uri(own) for own in cut]


def find_seen(
    results: dict,
    images: ImageTable,
    cut: Sequence[str | None],
    pictures: Mapping[str, bytes],
) -> list[ChannelLook]:
    """What the page shows of each channel in `seen` of results.json; nothing where that has none.

    Parameters
    ----------
    results : dict
        What results.json holds.
    images : ImageTable
    cut : sequence of str or None
        As of `cut_seen`; in place of one that is not there the small picture is cut.
    pictures : mapping of str to bytes
        As of `gather_pictures`.
    """
    shown = iter(
        PatchPicture(
            str(images.path[own.row]),
            own.value,
            found or _of_picture(pictures.get(images.id[own.row]), own),
            label=str(images.label[own.row]),
        )
        for own, found in zip(_listed(results, images), cut, strict=True)
    )
    return [
        ChannelLook(own["channel"], list(itertools.islice(shown, len(own["patches"]))))
        for own in _channels(results)
    ]


def _channels(results: dict) -> list[dict]:
    return (results.get("seen") or {}).get("channels", [])


def _listed(results: dict, images: ImageTable) -> list[Patch]:
    """All of them, by the rows of the table."""
    row_of = {id_: row for row, id_ in enumerate(images.id)}
    return [
        Patch(row_of[own["id"]], (0, 0), own["value"], tuple(own["box"]))
        for channel in _channels(results)
        for own in channel["patches"]
    ]


def _of_picture(picture: bytes | None, patch: Patch) -> str | None:
    return None if picture is None else as_uri(crop(Image.open(io.BytesIO(picture)), patch.box))
