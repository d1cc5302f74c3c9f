"""The patches that excite the channels of a run's chosen layer, cut out of its images again."""

import io
import itertools
from collections.abc import Mapping, Sequence

from PIL import Image

from extract.introspection.patches import Patch, crop, cut_patches
from pipelines.report.images import ImageTable
from pipelines.report.inside import ChannelLook, PatchPicture
from pipelines.report.pictures import reading_of


def find_seen(
    results: dict, images: ImageTable, inputs: Sequence, pictures: Mapping[str, bytes]
) -> list[ChannelLook]:
    """What the page shows of each channel in `seen` of results.json; nothing where that has none.

    A patch is cut out of the image's file, as sharp as it is; of a file that is gone, or another
    image by now, out of its small picture, if there is one.

    Parameters
    ----------
    results : dict
        What results.json holds.
    images : ImageTable
    inputs : n paths, PIL images or uint8 arrays
        What the images are read from, in their order.
    pictures : mapping of str to bytes
        As of `gather_pictures`.
    """
    channels = (results.get("seen") or {}).get("channels", [])
    row_of = {id_: row for row, id_ in enumerate(images.id)}
    patches = [
        Patch(row_of[own["id"]], (0, 0), own["value"], tuple(own["box"]))
        for channel in channels
        for own in channel["patches"]
    ]
    cut = cut_patches(inputs, patches, reading_of(results["data"]), images.ids)
    shown = iter(
        PatchPicture(
            str(images.path[own.row]),
            own.value,
            found or _of_picture(pictures.get(images.id[own.row]), own),
            label=str(images.label[own.row]),
        )
        for own, found in zip(patches, cut, strict=True)
    )
    return [
        ChannelLook(own["channel"], list(itertools.islice(shown, len(own["patches"]))))
        for own in channels
    ]


def _of_picture(picture: bytes | None, patch: Patch) -> Image.Image | None:
    return None if picture is None else crop(Image.open(io.BytesIO(picture)), patch.box)
