"""The one pass: what the store lacks is found, computed once for every tap, and kept."""

import contextlib
import os
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from data import ImageError, Reading
from data.urls import protocol_of
from extract.backbones import Backbone
from extract.cores import cores
from extract.engines import (
    NUMERICS,
    check_device,
    check_numerics,
    check_there,
    choose_device,
    numerics_there,
)
from extract.errors import ExtractError
from extract.forward_pass import NOT_WATCHED, ForwardPass, Job, Request, Watch
from extract.kept_rows import KeptRows
from extract.pooling import MAP, Tap
from extract.preprocessing import parse_view
from extract.recipe import Recipe, decode_rule
from extract.store import DamagedPart, FeatureStore, MemoryStore, ReadOnlyStore
from extract.store.copies import first_of_each
from extract.store.ids import IdMemory, image_ids, known_ids
from extract.store.notes import keep_notes
from extract.store.parts import as_keys
from extract.thumbnails import thumbnail_recipe

PASSES = 3  # over what files that change meanwhile leave open
READS = 5  # each damaged part that is met is set aside, and then its rows are missing
STAGES = ("ids", "start", "decode", "wait", "forward", "write", "write_wait")

# threads that meet the same damage compute its rows once: the second finds nothing missing
_mending = threading.Lock()


@dataclass(frozen=True)
class Facts:
    """What can be said of a pass in figures.

    Attributes
    ----------
    images : int
        That could be read.
    computed : int
        Of them, those that went through the network for one tap or more.
    seconds : float
        All in all.
    times : {stage: seconds}
        As in Extraction.
    engine, device : str or None
        That computed; None where nothing was.
    bottleneck : {"decode", "forward"} or None
        What the pass spent more time on: waiting for images or in the network.
    unused_gpu : str or None
        Why a GPU that is there was not used.

    Examples
    --------
    >>> facts = Facts(images=100, computed=90, seconds=3.0, times={"forward": 2.0})
    >>> facts.images - facts.computed  # from the store
    10
    """

    images: int
    computed: int
    seconds: float
    times: dict[str, float]
    engine: str | None = None
    device: str | None = None
    bottleneck: str | None = None
    unused_gpu: str | None = None


@dataclass
class Extraction:
    """What came of a pass, and how its features are read.

    Attributes
    ----------
    ids : (n, 16) uint8
        Zeros where bad.
    bad : {row: ImageError}
    notes : {row: tuple of str}
        What may have affected an image's pixels, such as "1 of 12 pages", where anything did.
    recipe : Recipe
        Of the features; its numerics are settled.
    computed : int
        Images that went through the network.
    engine, device, unused_gpu : str or None
        As in Facts.
    seconds : float
    times : {stage: seconds}
        `ids` went on finding out which images these are, `start` on the network and its engine;
        `decode` is summed over threads and `wait` what the network waited for it; `forward` the
        network itself; `write` goes on beside the pass, `write_wait` is what the pass waited for
        it. So ids + start + wait + forward + write_wait is about the whole.
    request : Request or None
        What `read` computes lacking rows from.

    Examples
    --------
    >>> import numpy as np
    >>> from extract import MemoryStore, Tap, extract, load_backbone
    >>> images = [np.zeros((40, 40, 3), np.uint8), "gone.jpg"]
    >>> taps = [Tap("pixels", "avg")]
    >>> done = extract(images, taps, load_backbone("pixels"), MemoryStore(), numerics="float32")
    >>> done.good, done.bad[1].reason
    (array([0]), 'no such file')
    >>> done.read(taps, done.good).shape
    (1, 3072)
    """

    ids: np.ndarray
    bad: dict[int, ImageError]
    recipe: Recipe
    computed: int = 0
    engine: str | None = None
    device: str | None = None
    unused_gpu: str | None = None
    seconds: float = 0.0
    times: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    notes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    request: Request | None = field(default=None, repr=False, compare=False)

    @property
    def good(self) -> np.ndarray:
        """Rows that could be read, in order."""
        return _readable(len(self.ids), self.bad)

    def facts(self) -> Facts:
        """The pass in figures."""
        bottleneck = None
        if self.computed:
            bottleneck = "decode" if self.times["wait"] > self.times["forward"] else "forward"
        return Facts(
            images=len(self.ids) - len(self.bad),
            computed=self.computed,
            seconds=self.seconds,
            times=dict(self.times),
            engine=self.engine,
            device=self.device,
            bottleneck=bottleneck,
            unused_gpu=self.unused_gpu,
        )

    def read(self, taps: Sequence[Tap], rows: np.ndarray, view: str | None = None) -> np.ndarray:
        """Features of some of the images, computed again where they are not kept any more.

        A damaged part is set aside, and what it held is computed and kept again, in the settled
        numerics and on the same device; likewise where the cache was removed.

        Parameters
        ----------
        taps : sequence of Tap
            Their columns follow one another.
        rows : (m,) int
            Places among the inputs, in any order.
        view : str, optional
            Another view than the pass's first; one that it did not ask for is computed now.

        Returns
        -------
        (m, d) float32

        Raises
        ------
        ImageError
            For an image that is not kept any more and can't be read, or is another one by now.
        """
        rows = np.asarray(rows, int)
        request = self._asked()
        if not len(rows):
            return np.empty((0, self.width(taps)), np.float32)
        recipe = self.recipe if view is None else replace(self.recipe, view=view)
        for _ in range(READS):
            with contextlib.suppress(DamagedPart):
                return read_features(request.store, recipe, taps, self.ids[rows])
            self._compute_again(request, taps, rows, recipe.view)
        return read_features(request.store, recipe, taps, self.ids[rows])

    def rows(self, taps: Sequence[Tap], view: str | None = None) -> KeptRows:
        """Features of all readable images, read from the store a slice of rows at a time.

        Parameters
        ----------
        taps, view
            As of `read`.

        Returns
        -------
        KeptRows
            With `shape`, `dtype`, a length and slices, in the order of `good`: what
            `heads.HeadSearchCV` reads in blocks where memory does not hold it.
        """
        return KeptRows(self, taps, self.good, view)

    def width(self, taps: Sequence[Tap]) -> int:
        """How many values an image has in these taps together."""
        return sum(map(self._asked().backbone.card.width, taps))

    def shape(self, tap: Tap) -> tuple[int, ...]:
        """Of one image's features: (channels, height, width) of a map that is kept, else (d,)."""
        activation = self._asked().backbone.card.check(tap)
        return activation.map_shape if tap.pooling == MAP else (activation.width(tap.pooling),)

    def _asked(self) -> Request:
        if self.request is None:
            raise ExtractError("this Extraction holds no images any more: call extract again")
        return self.request

    def _compute_again(
        self, request: Request, taps: Sequence[Tap], rows: np.ndarray, view: str
    ) -> None:
        """Keep again all that the pass lacks by now; ImageError for a row that can't be.

        Not these rows alone: they are computed among their old neighbours, and the network starts
        once however many reads follow.
        """
        taps = list(dict.fromkeys([*request.taps, *taps]))
        with _mending:
            request = replace(request, taps=taps)
            done = _extract_parts(request, self.recipe.numerics, [view])
        changed = (done.ids[rows] != self.ids[rows]).any(axis=1)
        for row in sorted({*rows[changed].tolist(), *set(rows.tolist()).intersection(done.bad)}):
            item = request.inputs[row]
            path = os.fspath(item) if isinstance(item, (str, os.PathLike)) else f"image {row}"
            said = done.bad[row].reason if row in done.bad else "it is another image by now"
            raise ImageError(path, f"its features are not kept any more, and {said}")


def recipe_of(
    backbone: Backbone, numerics: str, view: str = "plain", reading: Reading | None = None
) -> Recipe:
    """What identifies a backbone's features.

    Parameters
    ----------
    backbone : Backbone
    numerics : str
        `float32` or a reduced precision.
    view : str
        `plain+flipped` is read from the two that it joins.
    reading : Reading, optional
        How the set's files become RGB images; by default each by itself.

    Returns
    -------
    Recipe

    Examples
    --------
    >>> from extract import load_backbone, recipe_of
    >>> recipe_of(load_backbone("pixels"), "float32").view
    'plain'
    """
    card = backbone.card
    decode = decode_rule(reading or Reading())
    return Recipe(card.architecture, card.digest, card.transform_id, numerics, view, decode)


def read_features(
    store: FeatureStore | MemoryStore | ReadOnlyStore,
    recipe: Recipe,
    taps: Sequence[Tap],
    ids: np.ndarray,
) -> np.ndarray:
    """Features as they are kept; of several views their mean.

    `Extraction.read` computes lacking ones too.

    Parameters
    ----------
    store : FeatureStore, MemoryStore or ReadOnlyStore
    recipe : Recipe
    taps : sequence of Tap
        Their columns follow one another.
    ids : (n, 16) uint8

    Returns
    -------
    (n, d) float32
        In the order of `ids`.

    Raises
    ------
    DamagedPart
        Where a row is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from extract import MemoryStore, Recipe, Tap, read_features
    >>> store, recipe = MemoryStore(), Recipe("net", "digest", "preprocessing", "float32")
    >>> ids, tap = np.zeros((1, 16), np.uint8), Tap("features.14", "avg")
    >>> with store.writer(recipe) as writer:
    ...     writer.add(ids, {tap: np.float32([[1, 2]])})
    >>> read_features(store, recipe, [tap], ids)
    array([[1., 2.]], dtype=float32)
    """
    view = parse_view(recipe.view)
    rows = store.read(replace(recipe, view=view.parts[0]), taps, ids)
    for part in view.parts[1:]:
        rows += store.read(replace(recipe, view=part), taps, ids)
    return rows / np.float32(len(view.parts)) if view.is_averaged else rows


def choose_numerics(numerics: str, request: Request, ids: np.ndarray) -> str:
    """`auto` -> those in which the store holds all of these rows, else of those that this machine
    has the ones it holds most of, else the fastest; a name is checked."""
    if check_numerics(numerics) != "auto":
        return numerics
    held = {}
    for name in NUMERICS:
        recipe = recipe_of(request.backbone, name, reading=request.reading)
        held[name] = int((~request.store.missing(recipe, request.taps, ids)).sum())
    best = max(held, key=held.__getitem__)
    if held[best] == len(ids) * len(request.taps) and len(ids):
        return best
    fastest, there = _numerics_there(request)
    best = max(there, key=held.__getitem__)
    return fastest if held[fastest] == held[best] else best


def _numerics_there(request: Request) -> tuple[str, list[str]]:
    """The fastest numerics, and all that there are, of whoever computes."""
    if request.on is not None:
        from extract.sharding.cluster import ask_numerics

        return ask_numerics(request.on, request.device)
    return numerics_there(request.device)


def extract(
    inputs: Sequence,
    taps: Sequence[Tap],
    backbone: Backbone,
    store: FeatureStore | MemoryStore | ReadOnlyStore,
    *,
    numerics: str = "auto",
    device: str = "auto",
    views: Sequence[str] = ("plain",),
    thumbnails: bool = False,
    reading: Reading | None = None,
    watch: Watch = NOT_WATCHED,
    on: str | None = None,
) -> Extraction:
    """Have every tap of every readable input in the store, computing only what is missing.

    Parameters
    ----------
    inputs : n paths, PIL images or uint8 (height, width, 3) arrays
    taps : sequence of Tap
    backbone : Backbone
    store : FeatureStore, MemoryStore or ReadOnlyStore
    numerics : str
        `auto`, `float32` or a reduced precision.
    device : str
        `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
    views : sequence of str
        Each one of VIEWS, a random one such as `light-0-3` (see `extract.augmentation`), or some of
        them joined, such as `plain+flipped`, which is read as their mean. One decode of an image
        serves all of them, and `read` gives the first by default.
    thumbnails : bool
        Keep a thumbnail of each image that goes through the network and has none yet.
    reading : Reading, optional
        How the set's files become RGB images; by default each by itself.
    watch : Watch
        What is told of the plan and the progress.
    on : str, optional
        `ray` or `ray://HOST:PORT`: files are read, decoded and computed by the workers of a Ray
        cluster, which keep their features in the same store; they and it have to be in folders
        that all of its machines share, or at URLs. Images in memory are computed here.

    Returns
    -------
    Extraction
        Its `bad` has the images that can't be read; they raise nothing.

    Raises
    ------
    ExtractError
        For a tap the backbone can't give and for a cache that can't be written.
    Interrupted
        On Ctrl-C; what was computed is kept.

    Examples
    --------
    >>> import numpy as np
    >>> from extract import MemoryStore, Tap, extract, load_backbone
    >>> images, tap = np.zeros((2, 40, 40, 3), np.uint8), Tap("pixels", "avg")
    >>> done = extract(images, [tap], load_backbone("pixels"), MemoryStore(), numerics="float32")
    >>> done.read([tap], [0, 1]).shape
    (2, 3072)
    """
    request = Request(
        inputs, taps, backbone, store, device, thumbnails, reading or Reading(), watch, on
    )
    return _extract_parts(request, numerics, views)


def _extract_parts(request: Request, numerics: str, views: Sequence[str]) -> Extraction:
    """`extract`: all that the views are read from, of one decode of each image."""
    started = time.perf_counter()
    check_device(request.device)
    _check_on(request)
    for tap in request.taps:
        request.backbone.card.check(tap)
    parts = list(dict.fromkeys(part for view in views for part in parse_view(view).parts))
    examined = time.perf_counter()
    store = request.store
    remembered = store.cache / "ids" if isinstance(store, FeatureStore) else None
    memory = None if request.on is None or remembered is None else IdMemory(remembered)
    if memory is None:
        ids, bad = image_ids(request.inputs, remembered, cores())
    else:
        ids, bad = known_ids(request.inputs, memory)
    known = time.perf_counter()
    numerics = choose_numerics(numerics, request, ids[_readable(len(ids), bad)])
    recipe = recipe_of(request.backbone, numerics, views[0], request.reading)
    result = Extraction(ids, bad, recipe, request=request)
    if request.on is not None and memory is not None:
        _compute_elsewhere(result, parts, request.on, memory)
    _compute(result, parts)
    result.notes = keep_notes(remembered, request.reading, ids, result.notes)
    result.times["start"] += examined - started
    result.times["ids"] += known - examined
    result.seconds = time.perf_counter() - started
    return result


def _check_on(request: Request) -> None:
    """Raise ExtractError for workers that can't be, or can't keep features in the store."""
    if request.on is None:
        return
    from extract.sharding.cluster import check_on

    check_on(request.on)
    if not isinstance(request.store, FeatureStore):
        raise ExtractError(
            f"on={request.on!r}: got a {type(request.store).__name__}, expected a FeatureStore in "
            "a folder that the workers share"
        )
    if request.store.url is not None and protocol_of(request.store.url) == "memory":
        raise ExtractError(
            f"on={request.on!r}: {request.store.url} is in this process's memory; expected a cache "
            "that the workers share"
        )


def _compute_elsewhere(result: Extraction, parts: Sequence[str], on: str, memory: IdMemory) -> None:
    """Have workers see to all files that are not known to be kept; what is left is for here."""
    if jobs := _jobs(result, parts):
        from extract.sharding.sharded_pass import ShardedPass

        ShardedPass(result, parts, memory).run(on, jobs)


def _compute(result: Extraction, parts: Sequence[str]) -> None:
    """Have the store hold all; what is found out about the images is noted in the result."""
    request = result._asked()
    store, watch = request.store, request.watch
    # again for what a file that changed meanwhile left open: its copies, its other taps
    for _ in range(PASSES):
        if not (jobs := _jobs(result, parts)):
            break
        check_there(result.recipe.numerics, choose_device(request.device))
        before = result.ids.copy()
        ForwardPass(request, result, watch).run(jobs)
        _spread_bad(result, before)
        watch = NOT_WATCHED
    if isinstance(store, FeatureStore):  # also what a pass before this one left when it was killed
        began = time.perf_counter()
        for part in parts:
            store.compact(replace(result.recipe, view=part))
        if request.thumbnails:
            store.compact(thumbnail_recipe(request.reading))
        result.times["write_wait"] += time.perf_counter() - began
    result.computed = min(result.computed, len(result.good))


def _readable(n: int, bad: Collection[int]) -> np.ndarray:
    """Those of n rows that are not bad, in order."""
    return np.delete(np.arange(n), list(bad))


def _spread_bad(result: Extraction, ids_before: np.ndarray) -> None:
    """An image that can't be read is bad in each of its copies, though one alone was tried."""
    bad = {
        ids_before[row].tobytes(): error
        for row, error in result.bad.items()
        if ids_before[row].any()
    }
    good = result.good
    copies = np.isin(as_keys(result.ids[good]), np.array(list(bad), "S16"))
    for row in good[copies].tolist():
        result.bad[row] = bad[result.ids[row].tobytes()]
        result.ids[row] = 0


def _jobs(result: Extraction, parts: Sequence[str]) -> list[Job]:
    """Rows grouped by what they lack; an image that comes twice is computed once.

    Of each row there are numbers in arrays alone: of millions, a Python object each would fill the
    memory.
    """
    request, good = result._asked(), result.good
    missing = np.stack(
        [
            request.store.missing(replace(result.recipe, view=part), request.taps, result.ids[good])
            for part in parts
        ],
        axis=1,
    )
    lacking = np.flatnonzero(missing.any(axis=(1, 2)))
    is_known = result.ids[good[lacking]].any(axis=1)  # of files that workers are to read
    known = lacking[is_known]
    firsts = known[first_of_each(result.ids[good[known]])]
    lacking = np.sort(np.concatenate([lacking[~is_known], firsts]))
    if not len(lacking):
        return []
    rows, missing = good[lacking], missing[lacking]
    # a row's booleans as one string of bytes, which numpy sorts whole
    masks = missing.reshape(len(rows), -1).view(f"S{missing[0].size}").reshape(-1)
    _, first, which = np.unique(masks, return_index=True, return_inverse=True)
    jobs = []
    for number in np.argsort(first):
        taps = {
            part: [tap for tap, lacks in zip(request.taps, own, strict=True) if lacks]
            for part, own in zip(parts, missing[first[number]], strict=True)
            if own.any()
        }
        jobs.append((taps, rows[which == number]))
    return jobs
