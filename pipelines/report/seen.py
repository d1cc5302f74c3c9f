"""The patches that excite the channels of a run's chosen layer, cut out of its images again."""

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from data import Reading
from extract.introspection.patches import Patch, crop, cut_patches
from pipelines.report.images import ImageTable
from pipelines.report.inside import ChannelLook, PatchPicture
from pipelines.report.overlay import SHOWN_SIDE
from pipelines.report.pictures import reading_of

# (kind, all that decides, what makes it) -> what is remembered or made: as `Findings.of`
Remember = Callable[[str, Sequence[Any], Callable[[], Any]], Any]


class _Gone(Exception):
    """Patches of which some could not be cut: the next time their files may be there again."""

    def __init__(self, cut: Sequence[Image.Image | None]) -> None:
        self.cut = cut


def find_seen(
    results: dict,
    images: ImageTable,
    inputs: Sequence,
    pictures: Mapping[str, bytes],
    remember: Remember | None = None,
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
    remember : callable, optional
        By which patches that were cut once are not cut again.
    """
    channels = (results.get("seen") or {}).get("channels", [])
    row_of = {id_: row for row, id_ in enumerate(images.id)}
    patches = [
        Patch(row_of[own["id"]], (0, 0), own["value"], tuple(own["box"]))
        for channel in channels
        for own in channel["patches"]
    ]
    cut = _cut(patches, inputs, images.ids, reading_of(results["data"]), remember)
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


def _cut(
    patches: Sequence[Patch],
    inputs: Sequence,
    ids: np.ndarray,
    reading: Reading,
    remember: Remember | None,
) -> Sequence[Image.Image | None]:
    """As of `cut_patches`, as small as shown; where all could be cut they are remembered."""

    def cut_small() -> list[Image.Image | None]:
        cut = cut_patches(inputs, patches, reading, ids)
        return [None if own is None else _small(own) for own in cut]

    if remember is None or not patches:
        return cut_small()

    def make() -> list[np.ndarray]:
        cut = cut_small()
        found = [own for own in cut if own is not None]
        if len(found) < len(cut):
            raise _Gone(cut)
        return [np.frombuffer(_as_png(own), np.uint8) for own in found]

    boxes = np.array([own.box for own in patches])
    try:
        kept = remember("patches", [ids[[own.row for own in patches]], boxes, reading.text], make)
    except _Gone as error:
        return error.cut
    return [Image.open(io.BytesIO(own.tobytes())) for own in kept]


def _small(picture: Image.Image) -> Image.Image:
    """No larger than it is shown."""
    small = picture.copy()
    small.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    return small


def _as_png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _of_picture(picture: bytes | None, patch: Patch) -> Image.Image | None:
    return None if picture is None else crop(Image.open(io.BytesIO(picture)), patch.box)
