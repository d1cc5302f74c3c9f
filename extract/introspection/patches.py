"""The patches of images that excite the channels of a layer most, found in one pass."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from data import Reading
from extract.attribution import Box, place_of
from extract.backbones import Backbone
from extract.compiled import start_engine
from extract.engines import choose_device
from extract.errors import ExtractError
from extract.introspection.fields import find_field
from extract.introspection.layer_run import check_channels, spatial_layer
from extract.loader import Batch, Decoding, load_batches
from extract.pooling import Tap
from extract.preprocessing import seen_as

CHANNELS, PATCHES = 10, 9  # that are shown of a layer, and of each of its channels
BATCH = 32
# shorter sides of pictures: whose sides are compared, and at most of those that are cut
SIZED, SHARP_SIDE = 256, 1024
PATCH_SIDE = 168  # pixels of a patch where its image has as many: twice what a page shows
MOST_SHARED = 2  # images that a channel may share with those shown before it
EDGE = 1e-6  # of a pixel, by which a share may miss the edge that it is of


@dataclass(frozen=True, eq=False)
class Strongest:
    """The places at which each channel answers most, one an image, the strongest first.

    Attributes
    ----------
    rows : (channels, k) int
        Of the images.
    places : (channels, k, 2) int
        Row and column of the map.
    values : (channels, k) float32
        The activations there.
    mean, std : (channels,) float64
        Of the channel over all places of all images.
    images : (n,) int
        Rows of all images that there were.
    averages : (n, channels) float32
        Of each of them over the places.
    """

    rows: np.ndarray
    places: np.ndarray
    values: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    images: np.ndarray
    averages: np.ndarray

    @property
    def ranked(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, places and values."""
        return self.rows, self.places, self.values

    def standing_out(self, n: int = CHANNELS) -> list[int]:
        """The channels whose strongest answers lie farthest above their mean, of other images each.

        In standard deviations of the channel, since their scales differ. What all of a layer's
        loudest channels answer to is often one thing, such as an empty sky: of a channel that
        shares more than two images with those before it nothing new is seen, so it comes last.
        """
        above = self.values.mean(axis=1) - self.mean
        far = np.divide(above, self.std, out=np.zeros_like(above), where=self.std > 0)
        seen: set[int] = set()
        taken: list[int] = []
        others: list[int] = []
        for channel in np.argsort(-far, kind="stable").tolist():
            own = set(self.rows[channel].tolist())
            is_new = len(own & seen) <= MOST_SHARED
            (taken if is_new else others).append(channel)
            seen |= own if is_new else set()
        return [*taken, *others][:n]


Choose = Callable[[Strongest], Sequence[int]]


@dataclass(frozen=True, eq=False)
class Patch:
    """A part of an image that excites a channel.

    row: of its image among the inputs. place: row and column of the map. value: the activation.
    box: left, top, right and bottom as shares of the picture's sides.
    """

    row: int
    place: tuple[int, int]
    value: float
    box: Box


def strongest_places(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], k: int = PATCHES
) -> Strongest:
    """Of each channel the places with the largest activations, while only k of them are kept.

    Parameters
    ----------
    batches : iterable of (rows (m,), maps (m, channels, height, width))
        Numbers of images with their maps: as a network gives them, or as they are kept
        (`flatten`, reshaped).
    k : int
        Fewer where there are fewer images.

    Returns
    -------
    Strongest

    Raises
    ------
    ValueError
        There are no maps.

    Examples
    --------
    >>> maps = np.zeros((2, 1, 2, 2))
    >>> maps[0, 0, 1, 0], maps[1, 0, 0, 1] = 3, 5
    >>> found = strongest_places([(np.array([7, 8]), maps)])
    >>> found.rows.tolist(), found.places.tolist(), found.values.tolist()
    ([[8, 7]], [[[0, 1], [1, 0]]], [[5.0, 3.0]])
    """
    kept: tuple[np.ndarray, ...] | None = None
    count, total, squares, width = 0, 0.0, 0.0, 1
    images: list[np.ndarray] = []
    averages: list[np.ndarray] = []
    for rows, maps in batches:
        channels, width = maps.shape[1], maps.shape[3]
        flat = maps.reshape(len(maps), channels, -1)
        own = np.tile(rows, (channels, 1)), flat.argmax(axis=2).T, flat.max(axis=2).T
        kept = own if kept is None else tuple(map(_beside, kept, own))
        # of equal ones the image of the lowest row stays, in whatever order the batches come
        order = np.lexsort((kept[0], -kept[2]), axis=1)[:, :k]
        kept = tuple(np.take_along_axis(values, order, axis=1) for values in kept)
        images.append(rows)
        averages.append(flat.mean(axis=2, dtype=np.float32))
        count += len(maps) * flat.shape[2]
        total = total + flat.sum(axis=(0, 2), dtype=np.float64)
        squares = squares + np.einsum("ncp,ncp->c", flat, flat, dtype=np.float64)
    if kept is None:
        raise ValueError("got no maps, expected those of one image or more")
    rows, places, values = kept
    mean = np.asarray(total / count)
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    there = np.concatenate(images), np.concatenate(averages)
    return Strongest(rows, np.stack(np.divmod(places, width), axis=2), values, mean, std, *there)


def _beside(kept: np.ndarray, own: np.ndarray) -> np.ndarray:
    return np.concatenate([kept, own], axis=1)


def find_patches(
    backbone: Backbone,
    layer: str,
    inputs: Sequence,
    channels: Sequence[int] | Choose | int = CHANNELS,
    *,
    view: str = "plain",
    device: str = "auto",
    reading: Reading | None = None,
) -> dict[int, list[Patch]]:
    """The nine patches of images that excite each channel most, each of another image.

    One pass of the network in float32; images that can't be read are passed over. Of images that
    share their strongest activation the earlier comes first.

    Parameters
    ----------
    backbone : Backbone
    layer : str
        With a spatial map.
    inputs : n paths, PIL images or uint8 arrays
    channels : sequence of int, int, or callable
        Their numbers; or how many of those that stand out most (`Strongest.standing_out`); or what
        chooses them, given what was found.
    view : str
        `plain`, or `whole`.
    device : str
    reading : Reading, optional
        How files become RGB images.

    Returns
    -------
    dict of int to list of Patch
        By channel, in the order asked for.

    Raises
    ------
    ExtractError
        A layer or channel that is not there, a layer without places, no image that can be read.

    Examples
    --------
    >>> from extract import load_backbone
    >>> images = np.zeros((3, 64, 64, 3), np.uint8)
    >>> images[1] = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    >>> backbone = load_backbone("resnet18", "random", size=64)
    >>> found = find_patches(backbone, "relu", images, [1])
    >>> [patch.row for patch in found[1]], found[1][0].value > 0.5
    ([1, 0, 2], True)
    """
    activation = spatial_layer(backbone, layer)
    if isinstance(channels, Sequence):
        check_channels(activation, layer, channels)
    reading = reading or Reading()
    try:
        passed = _maps(backbone, layer, inputs, (view, device, reading))
        found = strongest_places((batch.rows, maps) for batch, maps in passed)
    except ValueError as error:
        raise ExtractError(f"none of the {len(inputs)} images can be read") from error
    if isinstance(channels, int):
        channels = found.standing_out(channels)
    elif not isinstance(channels, Sequence):
        channels = channels(found)
    shown = _Shown(backbone, layer, view)
    rows = np.unique(found.rows[list(channels)])
    for batch in load_batches(inputs, rows, _pictures(SIZED, reading), lambda: BATCH, 0):
        shown.measure(batch)
    return {
        channel: list(map(shown.patch, *(own[channel].tolist() for own in found.ranked)))
        for channel in channels
    }


def locate_patches(
    backbone: Backbone,
    layer: str,
    inputs: Sequence,
    wanted: Sequence[tuple[int, int, tuple[slice, slice]]],
    *,
    view: str = "plain",
    device: str = "auto",
    reading: Reading | None = None,
    ids: np.ndarray | None = None,
) -> list[Patch | None]:
    """Where in images that are known to excite channels these are strongest.

    Parameters
    ----------
    backbone, layer, inputs, view, device, reading
        As of `find_patches`; only images that are wanted are run.
    wanted : sequence of m (row, channel, (rows, columns))
        Of the inputs, and the window of the map that is looked through.
    ids : (n, 16) uint8, optional
        Of the inputs, where they are known from before.

    Returns
    -------
    list of m Patch or None
        None for one whose image can't be read any more, or has another id by now.

    Raises
    ------
    ExtractError
        A layer or channel that is not there, a layer without places.

    Examples
    --------
    >>> from extract import load_backbone
    >>> image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    >>> backbone, corner = load_backbone("resnet18", "random", size=64), slice(4, 8)
    >>> (patch,) = locate_patches(backbone, "relu", [image], [(0, 5, (corner, corner))])
    >>> [4 <= place < 8 for place in patch.place]
    [True, True]
    """
    check_channels(spatial_layer(backbone, layer), layer, [channel for _, channel, _ in wanted])
    seen, shown = (view, device, reading or Reading()), _Shown(backbone, layer, view)
    own: dict[int, list[int]] = {}
    for number, (row, _, _) in enumerate(wanted):
        own.setdefault(row, []).append(number)
    found: list[Patch | None] = [None] * len(wanted)
    for batch, maps in _maps(backbone, layer, inputs, seen, sorted(own)):
        shown.measure(batch)
        for row, own_id, of_image in zip(batch.rows.tolist(), batch.ids, maps, strict=True):
            for number in own[row] if ids is None or (own_id == ids[row]).all() else ():
                _, channel, window = wanted[number]
                found[number] = shown.patch(row, *_strongest(of_image[channel], window))
    return found


def _strongest(values: np.ndarray, window: tuple[slice, slice]) -> tuple[tuple[int, int], float]:
    """Place and value of the largest of a map (h, w) within a window."""
    part = values[window]
    y, x = divmod(int(part.argmax()), part.shape[1])
    return (y + (window[0].start or 0), x + (window[1].start or 0)), float(part[y, x])


class _Shown:
    """Places of a layer's map as patches of images."""

    def __init__(self, backbone: Backbone, layer: str, view: str) -> None:
        self._field = find_field(backbone, layer)
        self._preprocessing, self._view = backbone.preprocessing, view
        self._seen: dict[int, Box] = {}

    def measure(self, batch: Batch) -> None:
        """Note where in the pictures of these images the network looks."""
        for row, picture in zip(batch.rows.tolist(), batch.pictures, strict=True):
            self._seen[row] = place_of(self._preprocessing, self._view, *picture.size)

    def patch(self, row: int, place: Sequence[int], value: float) -> Patch:
        """A place of an image that was measured."""
        y, x = place
        return Patch(row, (y, x), value, _within(self._field.shown(y, x), self._seen[row]))


def _maps(
    backbone: Backbone,
    layer: str,
    inputs: Sequence,
    seen: tuple[str, str, Reading],
    rows: Sequence[int] | None = None,
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Batches of images that could be read, with their maps; the network stops at the layer.

    seen : view, device and reading. rows : of the inputs, whose pictures come too; else all.
    """
    view, device, reading = seen
    tap, shape = Tap(layer, "flatten"), spatial_layer(backbone, layer).map_shape
    side = 0 if rows is None else SIZED
    rows = range(len(inputs)) if rows is None else rows
    decoding = Decoding([seen_as(view)(backbone.preprocessing)], reading=reading, picture_side=side)
    engine = start_engine(backbone, choose_device(device), "float32", [tap], len(rows))
    with engine.running() as running:
        for batch in load_batches(inputs, rows, decoding, lambda: BATCH, 0):
            if len(batch.rows):
                yield batch, running(batch.pixels[0])[tap].reshape(-1, *shape)


def _within(box: Box, seen: Box) -> Box:
    """A box in shares of what the network sees, in shares of the picture that this lies in."""
    left, top, right, bottom = seen
    width, height = right - left, bottom - top
    return (
        left + box[0] * width,
        top + box[1] * height,
        left + box[2] * width,
        top + box[3] * height,
    )


def cut_patches(
    inputs: Sequence,
    patches: Sequence[Patch],
    reading: Reading | None = None,
    ids: np.ndarray | None = None,
) -> list[Image.Image | None]:
    """The patches' pictures, cut out of their images: sharp enough to be looked at.

    Parameters
    ----------
    inputs : n paths, PIL images or uint8 arrays
        Those that the patches' rows are of.
    patches : sequence of m Patch
    reading : Reading, optional
    ids : (n, 16) uint8, optional
        Of the inputs, where they are known from before.

    Returns
    -------
    list of m PIL images or None
        None for one whose image can't be read any more, or has another id by now.
    """
    rows = sorted({patch.row for patch in patches})
    wanted: dict[int, list[int]] = {}
    for place, patch in enumerate(patches):
        wanted.setdefault(patch.row, []).append(place)
    cut: list[Image.Image | None] = [None] * len(patches)
    for batch in load_batches(inputs, rows, _pictures(_sharp(patches), reading), lambda: BATCH, 0):
        found = zip(batch.rows.tolist(), batch.ids, batch.pictures, strict=True)
        for row, own_id, picture in found:
            if ids is None or (own_id == ids[row]).all():
                for place in wanted[row]:
                    cut[place] = crop(picture, patches[place].box)
    return cut


def _sharp(patches: Sequence[Patch]) -> int:
    """The shorter side of a picture of which each patch is as many pixels as are shown."""
    shares = [
        min(right - left, bottom - top) for left, top, right, bottom in (p.box for p in patches)
    ]
    return min(math.ceil(PATCH_SIDE / min(shares, default=1)), SHARP_SIDE)


@dataclass(frozen=True)
class _NoPixels:
    """In place of a preprocessing, where no network is run.

    at_least: shorter side from which on a JPEG may be decoded smaller.
    """

    at_least: int

    def __call__(self, _image: Image.Image) -> np.ndarray:
        return np.zeros(0, np.uint8)


def _pictures(side: int, reading: Reading | None) -> Decoding:
    """Of whole images, their shorter sides of so many pixels where they have as many."""
    return Decoding([_NoPixels(side)], reading=reading or Reading(), picture_side=2 * side)


def crop(picture: Image.Image, box: Box) -> Image.Image:
    """What lies in a box of a picture, one pixel at least.

    Examples
    --------
    >>> crop(Image.new("RGB", (40, 20)), (0.25, 0.5, 0.75, 1.0)).size
    (20, 10)
    """
    width, height = picture.size
    left, top = math.floor(box[0] * width + EDGE), math.floor(box[1] * height + EDGE)
    right, bottom = math.ceil(box[2] * width - EDGE), math.ceil(box[3] * height - EDGE)
    return picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
