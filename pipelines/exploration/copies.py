"""Near copies: pairs of images that show the same picture, and groups of them."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipelines.exploration.neighbours import find_neighbours, pair_cosines, unit_rows

# each picture is compared with this many others
NEIGHBOURS = 10
# pixels cut off each side of a thumbnail, where different pictures share frames and stamps
BORDER = 3
# how far copies may be apart, in units of the distance to a typical image's tenth nearest
SAME_PIXELS = 0.1
LIKE_PIXELS = 0.65
SAME_FEATURES = 0.2
# the least such unit: in a set of nothing but copies the tenth nearest is a copy as well
LEAST_SCALE = 0.2
# pictures with less detail than this look alike honestly (photos have 0.03 to 0.3, 8x8 digits
# 0.01): only those whose correlation is this near 1 are copies
LEAST_DETAIL = 0.025
DETAIL_SIDE = 12
SAME_SIMPLE = 0.005


@dataclass(frozen=True, order=True)
class Copies:
    """Two rows that show the same picture.

    Attributes
    ----------
    first, second : int
        The rows, the lower one first.
    kind : {"exact", "copy", "edited", "mirrored"}
        exact: the same bytes. copy: re-encoded, resized, recoloured. edited: cropped or framed, or
        taken a moment later.
    similarity : float
        Correlation of their thumbnails' edges, from -1 to 1.
    """

    first: int
    second: int
    kind: str
    similarity: float


def find_copies(
    features: np.ndarray, thumbnails: np.ndarray, ids: np.ndarray | None = None
) -> list[Copies]:
    """Pairs of rows that show the same picture.

    Two pictures are compared by the normalised cross-correlation of their thumbnails' edges (a band
    of two Gaussians' difference, frames cut off), which JPEG quality, size and colour hardly touch,
    and by the cosine of their standardised features, which cropping hardly touches.

    How near is near depends on the set: distances count as shares of the median distance to the
    tenth nearest image. A tenth of it in pixels makes a copy; a fifth of it in features with 0.65
    of it in pixels makes an edited copy; a tenth of it in the flipped pixels a mirrored one.
    Pictures of little detail, which 12 x 12 pixels hold nearly whole (such as scans of 8 x 8),
    correlate though they are different: of these a copy has a correlation of 0.995.

    A row is compared with its ten nearest, and memory is bounded by blocks of rows.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Of one tap; a 3x3 grid in the middle of a network serves best.
    thumbnails : ndarray of shape (n, side, side)
        Gray values from 0 to 255, as of `data.read_thumbnails`.
    ids : ndarray of shape (n, 16), uint8, optional
        As of `extract.image_ids`: rows of one id are "exact".

    Returns
    -------
    list of Copies
        Sorted; each pair once.

    Raises
    ------
    ValueError
        Where there are not as many features as thumbnails.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> thumbnails = rng.integers(0, 256, (20, 32, 32)).astype(np.float32)
    >>> thumbnails[7] = thumbnails[3] * 0.9
    >>> [pair] = find_copies(rng.random((20, 5)), thumbnails)
    >>> pair.first, pair.second, pair.kind
    (3, 7, 'copy')
    """
    if len(features) != len(thumbnails):
        raise ValueError(
            f"{len(features)} rows of features and {len(thumbnails)} thumbnails: "
            "expected one of each"
        )
    if len(features) < 2:
        return []
    found: dict[tuple[int, int], Copies] = {}
    for pair in _pairs_of_all_kinds(features, thumbnails, ids):
        found.setdefault((pair.first, pair.second), pair)
    return sorted(found.values())


def group_copies(
    n: int,
    pairs: Sequence[Copies],
    groups: Sequence | np.ndarray | None = None,
    kinds: Collection[str] = ("exact", "copy", "edited"),
) -> np.ndarray:
    """Groups of images that are joined by pairs, directly or over others.

    Parameters
    ----------
    n : int
        Number of images.
    pairs : sequence of Copies
        As of `find_copies`.
    groups : array of shape (n,), optional
        Groups that were given: they stay together, and a pair joins all of both.
    kinds : collection of str
        The kinds of pairs that join.

    Returns
    -------
    ndarray of shape (n,), str
        The names of the groups; an image in no pair keeps its own, or is a group of its own.

    Examples
    --------
    >>> group_copies(4, [Copies(0, 2, "copy", 1.0)]).tolist()
    ['g0', 'g1', 'g0', 'g2']
    """
    # imported here: this takes a while, and most runs find no copies
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    own = np.arange(n)
    if groups is not None:
        own = np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = own.max(initial=-1) + 1
    joining = [pair for pair in pairs if pair.kind in kinds]
    firsts = own[np.array([pair.first for pair in joining], int)]
    seconds = own[np.array([pair.second for pair in joining], int)]
    edges = (np.ones(len(joining)), (firsts, seconds))
    graph = coo_array(edges, shape=(n_groups, n_groups))
    _, joined = connected_components(graph, directed=False)
    return np.array([f"g{number}" for number in joined[own]], dtype=str)


@dataclass(frozen=True)
class _Pixels:
    """Thumbnails as they are compared: unit rows of edges, their neighbours, what is near."""

    edges: np.ndarray
    neighbours: np.ndarray
    scale: float
    simple: np.ndarray

    @classmethod
    def of(cls, thumbnails: np.ndarray) -> "_Pixels":
        edges = _edges(thumbnails)
        cosines, neighbours = find_neighbours(edges, NEIGHBOURS)
        return cls(edges, neighbours, _scale(cosines), _detail(thumbnails) < LEAST_DETAIL)

    def distances(self, similarity: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Distances (pairs,) in units of the scale; infinite for simple pictures not as one."""
        distances = 1 - similarity
        simple = self.simple[rows] | self.simple[others]
        return np.where(simple & (distances > SAME_SIMPLE), np.inf, distances / self.scale)


def _pairs_of_all_kinds(
    features: np.ndarray, thumbnails: np.ndarray, ids: np.ndarray | None
) -> Iterator[Copies]:
    """Pairs of rows, the kind that tells most of a pair first."""
    if ids is not None:
        yield from _exact_pairs(ids)
    pixels = _Pixels.of(thumbnails)
    yield from _straight_pairs(pixels, _directions(features))
    yield from _mirrored_pairs(pixels, _edges(thumbnails[:, :, ::-1]))


def _exact_pairs(ids: np.ndarray) -> Iterator[Copies]:
    """Rows with one id, each with the first of its copies."""
    first: dict[bytes, int] = {}
    for row, key in enumerate(np.ascontiguousarray(ids)):
        at = first.setdefault(key.tobytes(), row)
        if at != row:
            yield Copies(at, row, "exact", 1.0)


def _straight_pairs(pixels: _Pixels, directions: np.ndarray) -> Iterator[Copies]:
    """Copies and edited copies among the neighbours in pixels."""
    rows, others = _rows_of_pairs(pixels.neighbours)
    similarity = pair_cosines(pixels.edges, rows, pixels.edges, others)
    by_pixels = pixels.distances(similarity, rows, others)
    cosines, _ = find_neighbours(directions, NEIGHBOURS)
    by_features = (1 - pair_cosines(directions, rows, directions, others)) / _scale(cosines)
    is_copy = by_pixels <= SAME_PIXELS
    is_edited = (by_pixels <= LIKE_PIXELS) & (by_features <= SAME_FEATURES)
    for i in np.flatnonzero(is_copy | is_edited):
        kind = "copy" if is_copy[i] else "edited"
        yield Copies(int(rows[i]), int(others[i]), kind, float(similarity[i]))


def _mirrored_pairs(pixels: _Pixels, mirrored: np.ndarray) -> Iterator[Copies]:
    """Pairs of a picture and the mirror image of another."""
    _, neighbours = find_neighbours(pixels.edges, NEIGHBOURS, mirrored)
    rows, others = _rows_of_pairs(neighbours)
    similarity = pair_cosines(pixels.edges, rows, mirrored, others)
    for i in np.flatnonzero(pixels.distances(similarity, rows, others) <= SAME_PIXELS):
        yield Copies(int(rows[i]), int(others[i]), "mirrored", float(similarity[i]))


def _edges(thumbnails: np.ndarray) -> np.ndarray:
    """(n, p) float32 unit rows of the thumbnails' edges; zeros for a picture without any."""
    from scipy.ndimage import gaussian_filter

    values = np.asarray(thumbnails, np.float32)
    fine = gaussian_filter(values, (0, 0.6, 0.6))
    coarse = gaussian_filter(values, (0, 2, 2))
    inner = (fine - coarse)[:, BORDER:-BORDER, BORDER:-BORDER].reshape(len(thumbnails), -1)
    # a picture whose edges sum to less than one gray value is blank: its rounding is not compared
    return unit_rows(inner - inner.mean(axis=1, keepdims=True), least=1.0)


def _detail(thumbnails: np.ndarray) -> np.ndarray:
    """(n,) share of the thumbnails' variance that 12 x 12 pixels can't show, 0 to 1."""
    values = np.asarray(thumbnails, np.float32)
    coarse = np.stack([_blurred(one) for one in values])
    inner = (slice(None), slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    lost = ((values - coarse)[inner] ** 2).mean(axis=(1, 2))
    # one gray value squared is added, so that blank pictures have no detail
    return lost / (values[inner].var(axis=(1, 2)) + 1)


def _blurred(thumbnail: np.ndarray) -> np.ndarray:
    """A thumbnail made small and large again."""
    height, width = thumbnail.shape
    small = Image.fromarray(thumbnail).resize((DETAIL_SIDE, DETAIL_SIDE), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def _directions(features: np.ndarray) -> np.ndarray:
    """(n, d) float32 unit rows of the standardised features."""
    features = np.asarray(features, np.float32)
    spread = features.std(axis=0)
    return unit_rows((features - features.mean(axis=0)) / np.where(spread > 1e-12, spread, 1))


def _scale(cosines: np.ndarray) -> float:
    """Median distance to the farthest of the neighbours: what is far in this set."""
    return float(np.clip(1 - np.median(cosines[:, -1]), LEAST_SCALE, 1))


def _rows_of_pairs(neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The neighbours' table (n, k) as pairs of rows, each pair once, the lower row first."""
    n, k = neighbours.shape
    rows = np.repeat(np.arange(n), k)
    table = np.column_stack([rows, neighbours.ravel()])
    pairs = np.unique(np.sort(table, axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]
