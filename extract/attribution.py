"""Where in an image the evidence lies: sums over the places of a layer's map, and occlusion."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from data import ImageError
from extract.backbones import Card
from extract.compiled import start_engine
from extract.engines import choose_device
from extract.extractor import FeatureExtractor
from extract.loader import Batch, Decoding, load_batches
from extract.pooling import Activation, Tap, find_pooling
from extract.preprocessing import VIEWS, Preprocessing, parse_view

FLIPPED, WHOLE = "flipped", "whole"
PICTURE_SIDE = 512
MAP_BATCH, MAP_BYTES = 32, 1 << 26  # images whose maps are in memory together, and their bytes
# occlusion: positions a side at first; the strongest are halved again
COARSE, REFINED, OCCLUDED_BATCH = 4, 4, 8
FINE = 2 * COARSE

# left, top, right and bottom as shares of the picture's sides
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Located:
    """Where the evidence of some images lies.

    rows: (m,) their places among the inputs. maps: for each kind of map (m, h, w) float64, evidence
    by place, mirrored back where a view is. boxes: where the maps lie in the pictures. pictures:
    the whole images, of 512 pixels at most. bad: {row: ImageError}.
    """

    rows: np.ndarray
    maps: list[np.ndarray]
    boxes: list[Box]
    pictures: list[Image.Image]
    bad: dict[int, ImageError]


def has_places(card: Card, tap: Tap) -> bool:
    """Whether a tap's features are weighted sums over the places of a map.

    Examples
    --------
    >>> from extract import Tap, load_backbone
    >>> card = load_backbone("mobilenet_v2", "random", size=64).card
    >>> [has_places(card, Tap("features.14", pooling)) for pooling in ("avg", "grid2", "max")]
    [True, True, False]
    """
    return card.check(tap).has_places(tap.pooling)


def evidence_maps(
    extractor: FeatureExtractor, inputs: Sequence, weights: np.ndarray, taken: np.ndarray
) -> Iterator[Located]:
    """The weighted sum of an image's features, place by place of the layers that they come from.

    Parameters
    ----------
    extractor : FeatureExtractor
        That has made the features.
    inputs : n images
    weights : (n, d)
        Of each image's features; those of taps without places must be zero.
    taken : (n, d)
        What is taken off each weighted feature, spread over the places that it comes from.

    Yields
    ------
    Located
        A map for each tap with places; all maps of an image sum up to the weighted sum of its
        features less what is taken off.
    """
    card = extractor.load_backbone().card
    spans = [span for span in _spans(extractor, card) if has_places(card, span[0])]
    layers = list(dict.fromkeys(Tap(tap.layer, "flatten") for tap, _ in spans))
    n_bytes = 4 * sum(map(card.width, layers))
    size = int(np.clip(MAP_BYTES // max(n_bytes, 1), 1, MAP_BATCH))
    parts = _parts(extractor)
    with _engine(extractor, layers, 0) as engine:
        for batch in _batches(extractor, inputs, size):
            maps: list = [0.0] * len(spans)
            for part, pixels in zip(parts, batch.pixels, strict=False):
                found = engine(pixels)
                for i, (tap, span) in enumerate(spans):
                    own = weights[batch.rows, span], taken[batch.rows, span]
                    flat = found[Tap(tap.layer, "flatten")]
                    places = _by_place(card.check(tap), tap.pooling, flat, *own)
                    maps[i] += (places[:, :, ::-1] if part == FLIPPED else places) / len(parts)
            yield _located(extractor, batch, maps if len(batch.rows) else [])


def _by_place(
    activation: Activation, pooling: str, flat: np.ndarray, weights: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    """(m, h, w): what each place of the map adds to sum(weights * pooled - taken)."""
    channels, height, width = activation.map_shape
    shares = find_pooling(pooling).shares
    assert shares is not None
    down, across = shares(height), shares(width)
    shape = len(flat), channels, len(down), len(across)
    weights = weights.astype(np.float64).reshape(shape)
    maps = flat.reshape(len(flat), channels, height, width)
    if down.shape[0] == across.shape[0] == 1:  # an average: one weight for all of a channel
        summed = np.einsum("nchw,nc->nhw", maps, weights[:, :, 0, 0], optimize=False)
        places = summed * (down.T @ across)
    else:
        places = np.einsum("nchw,nchw->nhw", maps, down.T @ (weights @ across))
    return places - down.T @ (taken.reshape(shape).sum(axis=1) @ across)


def occlusion_maps(
    extractor: FeatureExtractor,
    inputs: Sequence,
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Iterator[Located]:
    """How much a score falls where a part of the image is covered by the image's mean colour.

    A grid of 4 by 4 covers at first; in the four cells where they tell most a grid of 2 by 2 each
    says where within. A view that is a mean of two is covered at the same place in both.

    Parameters
    ----------
    extractor : FeatureExtractor
        That has made the features.
    inputs : n images
    score : callable
        (rows (m,), features (m, d) of these inputs) -> (m,) scores.

    Yields
    ------
    Located
        One map of 8 by 8: what the score loses with each place.
    """
    taps = list(dict.fromkeys(extractor.taps()))
    images = len(inputs) * (1 + COARSE**2 + 4 * REFINED)
    with _engine(extractor, taps, images) as engine:

        def features(pixels: Sequence[np.ndarray]) -> np.ndarray:
            found = [engine(own) for own in pixels]
            views = [np.hstack([rows[tap] for tap in extractor.taps()]) for rows in found]
            return np.mean(views, axis=0)

        for batch in _batches(extractor, inputs, OCCLUDED_BATCH):
            maps = []
            if len(batch.rows):
                whole = score(batch.rows, features(batch.pixels))
                covered = _Covered(batch, _parts(extractor), features, score)
                maps = [_coarse_to_fine(covered, whole)]
            yield _located(extractor, batch, maps)


@dataclass(frozen=True, eq=False)
class _Covered:
    """The images of a batch with a cell of a grid covered, as they are scored."""

    batch: Batch
    parts: Sequence[str]
    features: Callable[[Sequence[np.ndarray]], np.ndarray]
    score: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def scores(self, cells: np.ndarray, side: int) -> np.ndarray:
        """(m, k) scores of each image without each of its cells (m, k), numbered by rows."""
        pixels = [
            _cover(own, cells, side, part == FLIPPED)
            for own, part in zip(self.batch.pixels, self.parts, strict=True)
        ]
        rows = np.repeat(self.batch.rows, cells.shape[1])
        return self.score(rows, self.features(pixels)).reshape(cells.shape)


def _coarse_to_fine(covered: _Covered, whole: np.ndarray) -> np.ndarray:
    """(m, 8, 8): the strongest cells are divided as their quarters alone say."""
    m = len(whole)
    coarse_cells = np.tile(np.arange(COARSE**2), (m, 1))
    coarse = whole[:, None] - covered.scores(coarse_cells, COARSE)
    strongest = np.sort(np.argsort(-np.abs(coarse), axis=1, kind="stable")[:, :REFINED], axis=1)
    down, across = np.divmod(strongest, COARSE)
    quarters = [
        (2 * down + dy) * FINE + 2 * across + dx for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    cells = np.stack(quarters, axis=2).reshape(m, -1)
    fine = (whole[:, None] - covered.scores(cells, FINE)).reshape(m, REFINED, 4)
    # what a cell loses as a whole stays its sum
    own = np.take_along_axis(coarse, strongest, axis=1)
    fine += (own[:, :, None] - fine.sum(axis=2, keepdims=True)) / 4
    spread = np.kron(coarse.reshape(m, COARSE, COARSE), np.ones((1, 2, 2))) / 4
    np.put_along_axis(spread.reshape(m, -1), cells, fine.reshape(m, -1), axis=1)
    return spread


def _cover(pixels: np.ndarray, cells: np.ndarray, side: int, mirrored: bool) -> np.ndarray:
    """(m * k, ...) pixels, each image k times, a cell of a grid in its mean colour."""
    last = pixels.dtype == np.uint8  # else channels come first
    images = np.asarray(pixels) if last else np.moveaxis(pixels, 1, -1)
    images = images[:, :, ::-1] if mirrored else images
    colours = images.mean(axis=(1, 2), keepdims=True).astype(images.dtype)
    down, across = (np.linspace(0, n, side + 1).astype(int) for n in images.shape[1:3])
    made = np.repeat(images, cells.shape[1], axis=0)
    for i, cell in enumerate(cells.ravel()):
        y, x = divmod(int(cell), side)
        made[i, down[y] : down[y + 1], across[x] : across[x + 1]] = colours[i // cells.shape[1], 0]
    made = made[:, :, ::-1] if mirrored else made
    return np.ascontiguousarray(made if last else np.moveaxis(made, -1, 1))


def place_of(preprocessing: Any, view: str, width: int, height: int) -> Box:
    """Where what the network sees lies in a picture of this size.

    Examples
    --------
    >>> from extract import Preprocessing
    >>> place_of(Preprocessing(size=224, crop=0.5), "plain", 400, 200)
    (0.375, 0.25, 0.625, 0.75)
    >>> place_of(Preprocessing(), "whole", 400, 200)
    (0.0, 0.0, 1.0, 1.0)
    """
    if view == WHOLE or not isinstance(preprocessing, Preprocessing):
        return 0.0, 0.0, 1.0, 1.0  # a preprocessing of one's own does not say
    rows, columns = preprocessing.shape
    scale = min(width / columns, height / rows) * preprocessing.crop
    across, down = columns * scale / width, rows * scale / height
    return (1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2


def _located(extractor: FeatureExtractor, batch: Batch, maps: list) -> Located:
    preprocessing, view = extractor.load_backbone().preprocessing, _parts(extractor)[0]
    boxes = [place_of(preprocessing, view, *picture.size) for picture in batch.pictures]
    return Located(batch.rows, maps, boxes, batch.pictures, batch.bad)


def _parts(extractor: FeatureExtractor) -> tuple[str, ...]:
    return parse_view(extractor.recipe().view).parts


def _spans(extractor: FeatureExtractor, card: Card) -> Iterator[tuple[Tap, slice]]:
    """The taps with the columns of their features."""
    start = 0
    for tap in extractor.taps():
        stop = start + card.width(tap)
        yield tap, slice(start, stop)
        start = stop


def _batches(extractor: FeatureExtractor, inputs: Sequence, size: int) -> Iterator[Batch]:
    preprocessing = extractor.load_backbone().preprocessing
    seen = [VIEWS[part](preprocessing) for part in _parts(extractor)]
    reading = extractor.reading_
    decoding = Decoding(seen, reading=reading, picture_side=PICTURE_SIDE)
    return load_batches(inputs, range(len(inputs)), decoding, lambda: size, 0)


@contextlib.contextmanager
def _engine(extractor: FeatureExtractor, taps: Sequence[Tap], images: int) -> Iterator[Any]:
    """The running engine in the numerics of the features."""
    numerics, device = extractor.recipe().numerics, choose_device(extractor.device)
    engine = start_engine(extractor.load_backbone(), device, numerics, list(taps), images)
    with engine.running() as running:
        yield running
