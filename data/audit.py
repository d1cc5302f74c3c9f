"""What is odd about a set of images: copies of one another, labels that look wrong, images unlike all others."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from data.images import open_image
from data.samples import DataError

SIDE, BORDER = 32, 3
NEIGHBOURS = 10
BLOCK = 512
# distances of copies, as shares of the distance to a typical image's tenth nearest
SAME_PIXELS = 0.1
LIKE_PIXELS, SAME_FEATURES = 0.65, 0.2
LEAST_SCALE = 0.2
# pictures with less detail than this (photos have 0.03 to 0.3, 8x8 digits 0.01) look alike honestly: only those
# whose correlation is this near 1 are copies
LEAST_DETAIL, DETAIL_SIDE, SAME_SIMPLE = 0.025, 12, 0.005
OUTLYING = 3.0


@dataclass(frozen=True, order=True)
class Copies:
    """Two rows that show the same picture.

    kind: "exact" (the same bytes), "copy" (re-encoded, resized, recoloured), "edited" (cropped or framed, or taken a
    moment later) or "mirrored". similarity: correlation of their thumbnails, -1 to 1.
    """

    first: int
    second: int
    kind: str
    similarity: float


def read_thumbnails(inputs: Sequence, threads: int | None = None) -> np.ndarray:
    """Images (paths, PIL images or uint8 arrays) -> (n, 32, 32) float32 of gray values, whole pictures squeezed.

    Raises ImageError for one that can't be read.
    """

    def read(place):
        image = open_image(inputs[place], 2 * SIDE)
        return np.asarray(
            image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32
        )

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(read, range(len(inputs))))
    return np.stack(found) if found else np.empty((0, SIDE, SIDE), np.float32)


def find_copies(
    features: np.ndarray, thumbnails: np.ndarray, ids: np.ndarray | None = None
) -> list[Copies]:
    """Pairs of rows that show the same picture, sorted.

    Two pictures are compared by the normalised cross-correlation of their thumbnails' edges (a band of two Gaussians'
    difference, frames cut off), which JPEG quality, size and colour hardly touch, and by the cosine of their
    standardised features, which cropping hardly touches. How near is near depends on the set: distances
    count as shares of the median distance to the tenth nearest image. A tenth of it in pixels makes a copy; a
    fifth of it in features with 0.65 of it in pixels makes an edited copy; a tenth of it in the flipped
    pixels a mirrored one. Pictures of little detail, which 12 x 12 pixels hold nearly whole (such as scans of 8 x 8),
    correlate though they are different: of these a copy has a correlation of 0.995. A row is compared with its ten
    nearest, so memory is bounded by blocks of rows.

    features : (n, d), of one tap; a 3x3 grid in the middle of a network serves best.
    thumbnails : (n, 32, 32), of `read_thumbnails`.
    ids : (n, 16) uint8 of `extract.image_ids`, or None: rows of one id are "exact".
    """
    if len(features) != len(thumbnails):
        raise DataError(
            f"{len(features)} rows of features and {len(thumbnails)} thumbnails: expected one of each"
        )
    if len(features) < 2:
        return []
    pixels, mirrored = _edges(thumbnails), _edges(thumbnails[:, :, ::-1])
    looks = _directions(features)
    alike, near = nearest(pixels)
    pixel_scale, look_scale = _scale(alike), _scale(nearest(looks)[0])
    found = _same_ids(ids, pixels) if ids is not None else {}
    rows, others = _pairs(near)
    simple = _detail(thumbnails) < LEAST_DETAIL
    similarity = _products(pixels, rows, pixels, others)
    by_pixels = _shares(similarity, pixel_scale, simple[rows] | simple[others])
    by_looks = (1 - _products(looks, rows, looks, others)) / look_scale
    for i in np.flatnonzero(
        (by_pixels <= SAME_PIXELS) | ((by_pixels <= LIKE_PIXELS) & (by_looks <= SAME_FEATURES))
    ):
        kind = "copy" if by_pixels[i] <= SAME_PIXELS else "edited"
        found.setdefault(
            (rows[i], others[i]), Copies(int(rows[i]), int(others[i]), kind, float(similarity[i]))
        )
    rows, others = _pairs(nearest(pixels, others=mirrored)[1])
    similarity = _products(pixels, rows, mirrored, others)
    for i in np.flatnonzero(
        _shares(similarity, pixel_scale, simple[rows] | simple[others]) <= SAME_PIXELS
    ):
        found.setdefault(
            (rows[i], others[i]),
            Copies(int(rows[i]), int(others[i]), "mirrored", float(similarity[i])),
        )
    return sorted(found.values())


def group_copies(
    n: int, pairs: Sequence[Copies], groups=None, kinds=("exact", "copy", "edited")
) -> np.ndarray:
    """(n,) group names: images joined by pairs of these kinds, or by a group given, are in one.

    An image that is in no pair keeps its own group, or is a group of its own.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    own = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    size = own.max(initial=-1) + 1
    joined = [(own[pair.first], own[pair.second]) for pair in pairs if pair.kind in kinds]
    rows, others = np.array(joined, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, others)), shape=(size, size))
    return np.array(
        [f"g{number}" for number in connected_components(graph, directed=False)[1][own]], dtype=str
    )


@dataclass(frozen=True)
class SuspectLabels:
    """Labels ranked by how little the out-of-fold probabilities believe in them.

    order: (n,) rows, the most suspect first. quality: (n,) margin of the label's probability over the best other
    class, -1 to 1. proposed: (n,) that other class. suspected: (n,) bool, confidently of another class.
    """

    order: np.ndarray
    quality: np.ndarray
    proposed: np.ndarray
    suspected: np.ndarray


def rank_labels(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence) -> SuspectLabels:
    """Rank the labels (n,) by out-of-fold probabilities (n, classes), columns in the order of the sorted classes.

    The ranking is by the normalised margin, the flag by confident learning: an image counts as suspected where
    another class is at least as probable as it is on average on that class's own images, and more probable than
    the label (Northcutt, Jiang & Chuang, 2021, "Confident learning"). Average the probabilities of several heads
    where there are: what one head alone misjudges then ranks lower.
    """
    probabilities, classes = np.asarray(probabilities, float), np.asarray(classes)
    if probabilities.shape != (len(labels), len(classes)):
        raise DataError(
            f"probabilities {probabilities.shape}: expected {len(labels)} labels x {len(classes)} classes"
        )
    codes, rows = np.searchsorted(classes, labels), np.arange(len(labels))
    own = probabilities[rows, codes]
    counts = np.bincount(codes, minlength=len(classes))
    thresholds = np.where(
        counts, np.bincount(codes, own, len(classes)) / np.maximum(counts, 1), np.inf
    )
    others = probabilities.copy()
    others[rows, codes] = -np.inf
    best = others.argmax(axis=1)
    quality = own - others[rows, best]
    confident = ((others >= thresholds) & (others > own[:, None])).any(axis=1)
    return SuspectLabels(np.argsort(quality, kind="stable"), quality, classes[best], confident)


@dataclass(frozen=True)
class Outliers:
    """Images ranked by how far they are from their nearest ones.

    order: (n,) rows, the farthest first. distance: (n,) mean distance to the nearest ones, 0 to 2. outlying: (n,) bool.
    """

    order: np.ndarray
    distance: np.ndarray
    outlying: np.ndarray


def rank_outliers(features: np.ndarray, k: int = 5) -> Outliers:
    """Images unlike all others, by the mean Euclidean distance to the k nearest rows of length one.

    Of features of a network's last layer, averaged, the distance to near neighbours tells foreign images best (Sun
    et al., 2022, "Out-of-distribution detection with deep nearest neighbors"). Outlying are those more than 3 robust
    standard deviations (1.4826 median absolute deviations) above the median (Leys et al., 2013).

    features : (n, d), as they are: not standardised, whose rare directions would drown the others.
    """
    n = len(features)
    if n < 3:
        return Outliers(np.arange(n), np.zeros(n), np.zeros(n, bool))
    cosines, _ = nearest(_unit(np.asarray(features, np.float32)), min(k, n - 1))
    distance = np.sqrt(np.maximum(2 - 2 * cosines, 0)).mean(axis=1)
    above = distance - np.median(distance)
    outlying = above > np.maximum(OUTLYING * 1.4826 * np.median(np.abs(above)), 1e-3)
    return Outliers(np.argsort(-distance, kind="stable"), distance, outlying)


def nearest(
    units: np.ndarray, k: int = NEIGHBOURS, others: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(cosines (n, k), rows (n, k)) of each unit row's k nearest among `others` (default: the same), nearest first.

    A row is never its own neighbour. Works through blocks of rows: never an n x n matrix at once.
    """
    others = units if others is None else others
    n, k = len(units), min(k, len(others) - 1)
    cosines, rows = np.empty((n, k), np.float32), np.empty((n, k), int)
    for start in range(0, n, BLOCK):
        found = units[start : start + BLOCK] @ others.T
        found[np.arange(len(found)), np.arange(start, start + len(found))] = -np.inf
        near = np.sort(np.argpartition(-found, k - 1, axis=1)[:, :k], axis=1)
        values = np.take_along_axis(found, near, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        cosines[start : start + BLOCK] = np.take_along_axis(values, order, axis=1)
        rows[start : start + BLOCK] = np.take_along_axis(near, order, axis=1)
    return cosines, rows


def _edges(thumbnails):
    """(n, p) float32 unit rows of the thumbnails' edges; zeros for a picture without any."""
    from scipy.ndimage import gaussian_filter

    fine, coarse = (
        gaussian_filter(np.asarray(thumbnails, np.float32), (0, s, s)) for s in (0.6, 2)
    )
    inner = (fine - coarse)[:, BORDER:-BORDER, BORDER:-BORDER].reshape(len(thumbnails), -1)
    return _unit(inner - inner.mean(axis=1, keepdims=True), least=1.0)


def _detail(thumbnails):
    """(n,) share of the thumbnails' variance that 12 x 12 pixels can't show, 0 to 1."""
    thumbnails = np.asarray(thumbnails, np.float32)
    coarse = np.stack([_through(one) for one in thumbnails])
    inner = (slice(None), slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    lost = ((thumbnails - coarse)[inner] ** 2).mean(axis=(1, 2))
    return lost / (thumbnails[inner].var(axis=(1, 2)) + 1)


def _through(thumbnail):
    """A thumbnail made small and large again."""
    small = Image.fromarray(thumbnail).resize((DETAIL_SIDE, DETAIL_SIDE), Image.Resampling.BOX)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _shares(similarity, scale, simple):
    """Distances (pairs,) as shares of the scale; infinite for simple pictures that are not nearly the same."""
    distances = 1 - similarity
    return np.where(simple & (distances > SAME_SIMPLE), np.inf, distances / scale)


def _directions(features):
    """(n, d) float32 unit rows of the standardised features."""
    features = np.asarray(features, np.float32)
    spread = features.std(axis=0)
    return _unit((features - features.mean(axis=0)) / np.where(spread > 1e-12, spread, 1))


def _unit(rows, least=1e-12):
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(length > least, rows / np.maximum(length, least), 0).astype(np.float32)


def _scale(cosines):
    """Median distance to the farthest of the neighbours."""
    return float(np.clip(1 - np.median(cosines[:, -1]), LEAST_SCALE, 1))


def _pairs(near):
    """The neighbours' table as pairs (first, second), each once and in order."""
    rows = np.repeat(np.arange(len(near)), near.shape[1])
    pairs = np.unique(np.sort(np.column_stack([rows, near.ravel()]), axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _products(units, rows, others, columns):
    """Inner products units[rows[i]] . others[columns[i]], block by block."""
    parts = [slice(start, start + BLOCK) for start in range(0, len(rows), BLOCK)]
    return np.concatenate(
        [np.einsum("ij,ij->i", units[rows[part]], others[columns[part]]) for part in parts]
    )


def _same_ids(ids, pixels):
    """{(first, second): Copies} of rows with one id, each with the first of its copies."""
    first, found = {}, {}
    for row, key in enumerate(np.ascontiguousarray(ids)):
        at = first.setdefault(key.tobytes(), row)
        if at != row:
            found[at, row] = Copies(at, row, "exact", 1.0)
    return found
