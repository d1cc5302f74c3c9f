"""Where in an image the evidence lies: sums over the places of a layer's map, and occlusion."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from data import ImageError
from extract.backbones import Card
from extract.compiled import start_engine
from extract.engines import CPU_BATCH, GPU_BATCH, NUMERICS, choose_device
from extract.extractor import FeatureExtractor
from extract.loader import Batch, Decoding, load_batches
from extract.pooling import Activation, Tap, find_pooling
from extract.preprocessing import Preprocessing, parse_view, seen_as
from extract.store import FeatureStore

FLIPPED, WHOLE = "flipped", "whole"
PICTURE_SIDE = 512
MAP_BATCH = 32
MOST_SEEN, MAP_BYTES = 64, 1 << 26  # images whose maps are in memory together, and their bytes
# occlusion: positions a side at first; the strongest are halved again
COARSE, REFINED, OCCLUDED_BATCH = 4, 4, 16
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


@dataclass(frozen=True, eq=False)
class Seen:
    """Some images as one pass of the network saw them: their features, and the maps behind these.

    rows: (m,) their places among the inputs. ids: (m, 16) uint8. features: (m, d) float32. maps: by
    view and layer the flat rows (m, channels * h * w) of taps with places. pictures: as in Located.
    """

    extractor: FeatureExtractor
    rows: np.ndarray
    ids: np.ndarray
    features: np.ndarray
    maps: list[dict[Tap, np.ndarray]]
    pictures: list[Image.Image]
    bad: dict[int, ImageError]

    def of(self, rows: np.ndarray) -> "Seen":
        """Those of these places alone, numbered as they come."""
        own = np.flatnonzero(np.isin(self.rows, rows))
        return replace(
            self,
            rows=np.arange(len(own)),
            ids=self.ids[own],
            features=self.features[own],
            maps=[{tap: found[own] for tap, found in part.items()} for part in self.maps],
            pictures=[self.pictures[place] for place in own],
            bad={},
        )


def images_at_once(extractor: FeatureExtractor) -> int:
    """How many images' maps there is room for."""
    card = extractor.load_backbone().card
    n_bytes = 4 * sum(map(card.width, _layers_with_places(extractor)))
    return int(np.clip(MAP_BYTES // max(n_bytes, 1), 1, MOST_SEEN))


def see(extractor: FeatureExtractor, inputs: Sequence, with_maps: bool = True) -> Seen:
    """Features and maps of one decode and one run of the network; nothing is written to the disk.

    A store in memory gets the features, so that whoever asks for them next runs no network.

    Parameters
    ----------
    extractor : FeatureExtractor
        That is fitted, or has made features.
    inputs : n images
        All of their maps are in memory together: not more than `images_at_once`.
    with_maps : bool
        Else features and pictures alone.
    """
    layers = _layers_with_places(extractor) if with_maps else []
    taps, parts = extractor.taps(), _parts(extractor)
    stored = NUMERICS[extractor.recipe().numerics].stored
    keep = _keeper(extractor, stored)
    batches: list[Batch] = []
    features: list[np.ndarray] = []
    maps: list[list[dict[Tap, np.ndarray]]] = [[] for _ in parts]
    with _engine(extractor, list(dict.fromkeys([*taps, *layers])), len(inputs)) as engine:
        for batch in _batches(extractor, inputs, MAP_BATCH):
            found = [engine(pixels) for pixels in batch.pixels]
            # rounded as those are that are kept
            rows = [np.hstack([own[tap].astype(stored) for tap in taps]) for own in found]
            if rows:
                features.append(np.asarray(np.mean(rows, axis=0, dtype=np.float32)))
            for own, part, view in zip(maps, found, parts, strict=False):
                own.append({tap: part[tap] for tap in layers})
                keep(view, batch.ids, {tap: part[tap] for tap in taps})
            batches.append(replace(batch, pixels=[]))
    card = extractor.load_backbone().card
    return Seen(
        extractor,
        np.concatenate([own.rows for own in batches]),
        np.concatenate([own.ids for own in batches]),
        np.vstack([np.empty((0, sum(map(card.width, taps))), np.float32), *features]),
        [{tap: np.vstack([own[tap] for own in part]) for tap in layers} for part in maps if part],
        [picture for own in batches for picture in own.pictures],
        {row: error for own in batches for row, error in own.bad.items()},
    )


def evidence_maps(seen: Seen, weights: np.ndarray, taken: np.ndarray) -> Located:
    """The weighted sum of an image's features, place by place of the layers that they come from.

    Parameters
    ----------
    seen : Seen
        Images with their maps.
    weights : (m, d)
        Of each image's features; those of taps without places must be zero.
    taken : (m, d)
        What is taken off each weighted feature, spread over the places that it comes from.

    Returns
    -------
    Located
        A map for each tap with places; all maps of an image sum up to the weighted sum of its
        features less what is taken off.
    """
    extractor = seen.extractor
    card = extractor.load_backbone().card
    spans = [span for span in tap_spans(extractor) if has_places(card, span[0])]
    maps: list = [0.0] * len(spans)
    for part, found in zip(_parts(extractor), seen.maps, strict=False):
        for i, (tap, span) in enumerate(spans):
            own = weights[:, span], taken[:, span]
            places = _by_place(card.check(tap), tap.pooling, found[_flat(tap)], *own)
            maps[i] += (places[:, :, ::-1] if part == FLIPPED else places) / len(seen.maps)
    maps = maps if len(seen.rows) else []
    return _located(extractor, seen.rows, maps, seen.pictures, seen.bad)


def _keeper(extractor: FeatureExtractor, stored: type) -> Callable[[str, np.ndarray, dict], None]:
    """What keeps the features of a view where they are kept in memory."""
    store, recipe = extractor._store(), extractor.recipe()

    def keep(view: str, ids: np.ndarray, rows: dict[Tap, np.ndarray]) -> None:
        if not isinstance(store, FeatureStore):
            with store.writer(replace(recipe, view=view), stored) as writer:
                writer.add(ids, rows)

    return keep


def _layers_with_places(extractor: FeatureExtractor) -> list[Tap]:
    card = extractor.load_backbone().card
    return list(dict.fromkeys(_flat(tap) for tap in extractor.taps() if has_places(card, tap)))


def _flat(tap: Tap) -> Tap:
    return Tap(tap.layer, "flatten")


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
    # on a CPU small, as what is measured of another engine is a batch, three times over
    step = CPU_BATCH if choose_device(extractor.device) == "cpu" else GPU_BATCH
    with _engine(extractor, taps, images) as engine:

        def features(pixels: Sequence[np.ndarray]) -> np.ndarray:
            views = [
                np.vstack([_rows(engine(own[at : at + step])) for at in range(0, len(own), step)])
                for own in pixels
            ]
            return np.mean(views, axis=0)

        def _rows(found: dict[Tap, np.ndarray]) -> np.ndarray:
            return np.hstack([found[tap] for tap in extractor.taps()])

        for batch in _batches(extractor, inputs, OCCLUDED_BATCH):
            maps = []
            if len(batch.rows):
                whole = score(batch.rows, features(batch.pixels))
                covered = _Covered(batch, _parts(extractor), features, score)
                maps = [_coarse_to_fine(covered, whole)]
            yield _located(extractor, batch.rows, maps, batch.pictures, batch.bad)


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


def _located(
    extractor: FeatureExtractor,
    rows: np.ndarray,
    maps: list,
    pictures: list[Image.Image],
    bad: dict[int, ImageError],
) -> Located:
    preprocessing, view = extractor.load_backbone().preprocessing, _parts(extractor)[0]
    boxes = [place_of(preprocessing, view, *picture.size) for picture in pictures]
    return Located(rows, maps, boxes, pictures, bad)


def _parts(extractor: FeatureExtractor) -> tuple[str, ...]:
    return parse_view(extractor.recipe().view).parts


def tap_spans(extractor: FeatureExtractor, start: int = 0) -> Iterator[tuple[Tap, slice]]:
    """The taps with the columns of their features, which begin at `start`."""
    card = extractor.load_backbone().card
    for tap in extractor.taps():
        stop = start + card.width(tap)
        yield tap, slice(start, stop)
        start = stop


def _batches(extractor: FeatureExtractor, inputs: Sequence, size: int) -> Iterator[Batch]:
    preprocessing = extractor.load_backbone().preprocessing
    seen = [seen_as(part)(preprocessing) for part in _parts(extractor)]
    reading = extractor._settle_reading(inputs)
    decoding = Decoding(seen, reading=reading, picture_side=PICTURE_SIDE)
    return load_batches(inputs, range(len(inputs)), decoding, lambda: size, 0)


@contextlib.contextmanager
def _engine(extractor: FeatureExtractor, taps: Sequence[Tap], images: int) -> Iterator[Any]:
    """The running engine in the numerics of the features."""
    numerics, device = extractor.recipe().numerics, choose_device(extractor.device)
    engine = start_engine(extractor.load_backbone(), device, numerics, list(taps), images)
    with engine.running() as running:
        yield running
