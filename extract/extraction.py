"""The one pass: find what the store lacks, decode only that, run the network once for every tap, keep the rows."""

import contextlib
import importlib.metadata
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from data import ImageError
from extract.backbones import Backbone
from extract.compiled import start_engine
from extract.cores import cores
from extract.engines import (
    CPU_BATCH,
    GPU_BATCH,
    NUMERICS,
    check_device,
    check_numerics,
    check_there,
    choose_device,
    fastest_numerics,
    lacks_numerics,
    stack_for,
    unused_gpu,
)
from extract.errors import ExtractError
from extract.loader import Batch, Decoding, load_batches
from extract.pooling import Tap
from extract.preprocessing import VIEWS
from extract.recipe import Recipe
from extract.store import DamagedPart, FeatureStore, MemoryStore
from extract.store.ids import image_ids
from extract.thumbnails import STORED as THUMBNAIL_TYPE
from extract.thumbnails import TAP as THUMBNAIL_TAP
from extract.thumbnails import THUMBNAILS, lacking_thumbnails

CHUNK_SECONDS, LARGEST_CHUNK = 0.5, 256
DISK_RESERVE = 64 << 20
PASSES = 3  # over what files that change meanwhile leave open
READS = 5  # each damaged part that is met is set aside, and then its rows are missing
STAGES = ("ids", "start", "decode", "wait", "forward", "write", "write_wait")

# threads that meet the same damage compute its rows once: the second finds nothing missing
_mending = threading.Lock()


@dataclass(frozen=True)
class Plan:
    """What a pass is about to do.

    Attributes
    ----------
    compute : int
        Images that go through the network.
    kept : int
        Images whose features are all in the store.
    n_bytes : int
        To be written.
    seconds : float
        The pass is expected to take.
    """

    compute: int
    kept: int
    n_bytes: int
    seconds: float


@dataclass(frozen=True)
class Watch:
    """What is called while a pass goes on.

    Attributes
    ----------
    on_plan : callable or None
        Called once with a Plan when the second batch has been timed (the first, of a single one).
    on_progress : callable or None
        Called after each batch with the number of images done or found unreadable.
    """

    on_plan: Callable[[Plan], Any] | None = None
    on_progress: Callable[[int], Any] | None = None


NOT_WATCHED = Watch()


@dataclass(frozen=True)
class Request:
    """What a pass was asked for, as far as its rows can be computed again from it."""

    inputs: Sequence
    taps: Sequence[Tap]
    backbone: Backbone
    store: FeatureStore | MemoryStore
    device: str
    thumbnails: bool
    watch: Watch


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
    """What came of a pass: ids by row, which rows can't be read, the recipe, and where the time went.

    Attributes
    ----------
    ids : (n, 16) uint8
        Zeros where bad.
    bad : {row: ImageError}
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
        network itself; `write` goes on beside the pass, `write_wait` is what the pass waited for it.
        So ids + start + wait + forward + write_wait is about the whole.
    request : Request or None
        What `read` computes lacking rows from.
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
    request: Request | None = field(default=None, repr=False, compare=False)

    @property
    def good(self) -> np.ndarray:
        """Rows that could be read, in order."""
        return np.array([row for row in range(len(self.ids)) if row not in self.bad], int)

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

        A damaged part is set aside, and what it held of these rows is computed and kept again, in
        the settled numerics; likewise where the cache was removed.

        Parameters
        ----------
        taps : sequence of Tap
            Their columns follow one another.
        rows : (m,) int
            Places among the inputs, in any order.
        view : str, optional
            Another view than the pass's own, such as `plain` of `plain+flipped`.

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
            return np.empty((0, sum(map(request.backbone.card.width, taps))), np.float32)
        recipe = self.recipe if view is None else replace(self.recipe, view=view)
        for _ in range(READS):
            with contextlib.suppress(DamagedPart):
                return read_features(request.store, recipe, taps, self.ids[rows])
            self._compute_again(request, taps, rows, recipe.view)
        return read_features(request.store, recipe, taps, self.ids[rows])

    def _asked(self) -> Request:
        if self.request is None:
            raise ExtractError("this Extraction holds no images any more: call extract again")
        return self.request

    def _compute_again(
        self, request: Request, taps: Sequence[Tap], rows: np.ndarray, view: str
    ) -> None:
        rows = np.unique(rows)
        with _mending:
            done = extract(
                [request.inputs[row] for row in rows],
                taps,
                request.backbone,
                request.store,
                numerics=self.recipe.numerics,
                device=request.device,
                view=view,
                watch=request.watch,
            )
        other = np.flatnonzero((done.ids != self.ids[rows]).any(axis=1))
        for place in [*sorted(done.bad), *other.tolist()]:
            item = request.inputs[rows[place]]
            path = (
                os.fspath(item) if isinstance(item, (str, os.PathLike)) else f"image {rows[place]}"
            )
            said = done.bad[place].reason if place in done.bad else "it is another image by now"
            raise ImageError(path, f"its features are not kept any more, and {said}")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a pass.

    Attributes
    ----------
    kept, wanted : int
        How many of the images to compute are in the store.
    """

    def __init__(self, kept: int, wanted: int) -> None:
        super().__init__(
            f"interrupted: {kept} of {wanted} images to compute are kept; "
            "run again to go on from there"
        )
        self.kept, self.wanted = kept, wanted


def recipe_of(backbone: Backbone, numerics: str, view: str = "plain") -> Recipe:
    """What identifies a backbone's features.

    Parameters
    ----------
    backbone : Backbone
    numerics : str
        `float32` or a reduced precision.
    view : str
        `plain+flipped` is read from the two that it joins.

    Examples
    --------
    >>> from extract import load_backbone, recipe_of
    >>> recipe_of(load_backbone("pixels"), "float32").view
    'plain'
    """
    card = backbone.card
    return Recipe(card.architecture, card.digest, card.transform_id, numerics, view)


def read_features(
    store: FeatureStore | MemoryStore, recipe: Recipe, taps: Sequence[Tap], ids: np.ndarray
) -> np.ndarray:
    """Features as they are kept; of several views their mean. `Extraction.read` computes lacking ones too.

    Parameters
    ----------
    store : FeatureStore or MemoryStore
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
    views = recipe.view.split("+")
    rows = store.read(replace(recipe, view=views[0]), taps, ids)
    for view in views[1:]:
        rows += store.read(replace(recipe, view=view), taps, ids)
    return rows / np.float32(len(views)) if len(views) > 1 else rows


def choose_numerics(
    numerics: str,
    backbone: Backbone,
    store: FeatureStore | MemoryStore,
    taps: Sequence[Tap],
    ids: np.ndarray,
    device: str,
) -> str:
    """`auto` -> those in which the store holds all of these rows, else of those that this machine
    has the ones it holds most of, else the fastest; a name is checked."""
    if check_numerics(numerics) != "auto":
        return numerics
    held = {
        name: int((~store.missing(recipe_of(backbone, name), taps, ids)).sum()) for name in NUMERICS
    }
    best = max(held, key=held.__getitem__)
    if held[best] == len(ids) * len(taps) and len(ids):
        return best
    device = choose_device(device)
    here = fastest_numerics(device)
    there = [name for name in NUMERICS if lacks_numerics(name, device) is None]
    best = max(there, key=held.__getitem__)
    return here if held[here] == held[best] else best


def extract(
    inputs: Sequence,
    taps: Sequence[Tap],
    backbone: Backbone,
    store: FeatureStore | MemoryStore,
    *,
    numerics: str = "auto",
    device: str = "auto",
    view: str = "plain",
    thumbnails: bool = False,
    watch: Watch = NOT_WATCHED,
) -> Extraction:
    """Have every tap of every readable input in the store, computing only what is missing.

    Parameters
    ----------
    inputs : n paths, PIL images or uint8 (height, width, 3) arrays
    taps : sequence of Tap
    backbone : Backbone
    store : FeatureStore or MemoryStore
    numerics : str
        `auto`, `float32` or a reduced precision.
    device : str
        `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
    view : str
        One of VIEWS, or some of them joined: `plain+flipped` is a pass for each that lacks rows, and
        reading averages them.
    thumbnails : bool
        Keep a thumbnail of each image that goes through the network and has none yet.
    watch : Watch
        What is told of the plan and the progress.

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
    if strange := set(view.split("+")) - set(VIEWS):
        raise ExtractError(
            f"unknown view {strange.pop()!r}: expected {' or '.join(VIEWS)}, or both joined by +"
        )
    started = time.perf_counter()
    check_device(device)
    for tap in taps:
        backbone.card.check(tap)
    examined = time.perf_counter()
    remembered = store.cache / "ids" if isinstance(store, FeatureStore) else None
    ids, bad = image_ids(inputs, remembered, cores())
    known = time.perf_counter()
    request = Request(inputs, taps, backbone, store, device, thumbnails, watch)
    joined: Extraction | None = None
    for one in view.split("+"):
        done = _extract_view(request, ids, bad, numerics, one)
        numerics = done.recipe.numerics
        joined = done if joined is None else _join(joined, done)
    assert joined is not None  # a view's name is never empty
    joined.times["start"] += examined - started
    joined.times["ids"] += known - examined
    joined.seconds = time.perf_counter() - started
    return joined


def _join(first: Extraction, second: Extraction) -> Extraction:
    """Two views' passes over the same ids as one: computed is an image of which either view was."""
    return replace(
        second,
        recipe=replace(second.recipe, view=f"{first.recipe.view}+{second.recipe.view}"),
        computed=max(first.computed, second.computed),
        engine=second.engine or first.engine,
        device=second.device or first.device,
        unused_gpu=second.unused_gpu or first.unused_gpu,
        times={name: first.times[name] + second.times[name] for name in STAGES},
    )


def _extract_view(
    request: Request, ids: np.ndarray, bad: dict[int, ImageError], numerics: str, view: str
) -> Extraction:
    """The pass for one view; what it finds out about the images is noted in `ids` and `bad`."""
    store, taps, device = request.store, request.taps, request.device
    readable = [row for row in range(len(ids)) if row not in bad]
    numerics = choose_numerics(numerics, request.backbone, store, taps, ids[readable], device)
    result = Extraction(ids, bad, recipe_of(request.backbone, numerics, view), request=request)
    watch = request.watch
    # again for what a file that changed meanwhile left open: its copies, its other taps
    for _ in range(PASSES):
        if not (jobs := _jobs(result)):
            break
        check_there(numerics, choose_device(device))
        before = ids.copy()
        _Pass(request, result, watch).run(jobs)
        _spread_bad(result, before)
        watch = NOT_WATCHED
    if result.computed and isinstance(store, FeatureStore):
        began = time.perf_counter()
        store.compact(result.recipe)
        if request.thumbnails:
            store.compact(THUMBNAILS)
        result.times["write_wait"] += time.perf_counter() - began
    result.computed = min(result.computed, len(result.good))
    return result


def _spread_bad(result: Extraction, ids_before: np.ndarray) -> None:
    """An image that can't be read is bad in each of its copies, though only one of them was tried."""
    bad = {
        ids_before[row].tobytes(): error
        for row, error in result.bad.items()
        if ids_before[row].any()
    }
    for row in result.good:
        error = bad.get(result.ids[row].tobytes())
        if error is not None:
            result.bad[int(row)] = error
            result.ids[row] = 0


# taps that the same rows lack, and those rows
Job = tuple[list[Tap], np.ndarray]


def _jobs(result: Extraction) -> list[Job]:
    """Rows grouped by the taps they lack; an image that comes twice is computed once."""
    request, good = result._asked(), result.good
    rows_by_mask: dict[bytes, list[int]] = {}
    seen = set()
    missing = request.store.missing(result.recipe, request.taps, result.ids[good])
    for lacking, row in zip(missing, good, strict=True):
        key = result.ids[row].tobytes()
        if lacking.any() and key not in seen:
            seen.add(key)
            rows_by_mask.setdefault(lacking.tobytes(), []).append(row)
    jobs = []
    for mask, rows in rows_by_mask.items():
        lacks = np.frombuffer(mask, bool)
        taps = [tap for tap, lacking in zip(request.taps, lacks, strict=True) if lacking]
        jobs.append((taps, np.array(rows)))
    return jobs


class _Pass:
    """One run of the network over the rows that lack something."""

    def __init__(self, request: Request, result: Extraction, watch: Watch) -> None:
        self._request = request
        self._backbone = request.backbone
        self._store = request.store
        self._result = result
        self._on_plan = watch.on_plan
        self._on_progress = watch.on_progress
        self._total = 0
        self._done = 0
        self._bad = 0
        self._bytes = 0
        self._trial = 0.0
        self._chunk = CPU_BATCH
        self._provenance: dict[str, str] = {}

    def run(self, jobs: list[Job]) -> None:
        self._total = sum(len(rows) for _, rows in jobs)
        self._store.prepare(self._result.recipe)
        self._refuse_full_disk(jobs)
        try:
            for taps, rows in jobs:
                self._run_job(taps, rows)
        except KeyboardInterrupt:
            raise Interrupted(self._done, self._total) from None

    def _refuse_full_disk(self, jobs: list[Job]) -> None:
        if not isinstance(self._store, FeatureStore):
            return
        item = np.dtype(NUMERICS[self._result.recipe.numerics].stored).itemsize
        self._bytes = sum(
            len(rows) * item * sum(map(self._backbone.card.width, taps)) for taps, rows in jobs
        )
        folder = next(f for f in (self._store.cache, *self._store.cache.parents) if f.exists())
        free = shutil.disk_usage(folder).free
        if self._bytes + DISK_RESERVE > free:
            raise ExtractError(
                f"the features need {self._bytes / 1e9:.1f} GB and {self._store.cache} has "
                f"{free / 1e9:.1f} GB free: keep fewer taps or choose another cache"
            )

    def _run_job(self, taps: list[Tap], rows: np.ndarray) -> None:
        with contextlib.ExitStack() as stack:
            engine = writer = running = None
            device = choose_device(self._request.device)
            thumbnails = self._lacking_thumbnails(rows)
            keep_thumbnails = self._thumbnail_writer(bool(thumbnails), stack)
            batches = self._batches(rows, device, thumbnails)
            stack.callback(batches.close)
            for batch in self._timed(batches):
                self._take(batch)
                keep_thumbnails(batch)
                if batch.pixels is None:
                    continue
                if engine is None:
                    engine, writer = self._start(taps, len(rows), device, stack)
                began = time.perf_counter()
                started = engine.start(batch.pixels), batch, began
                if device != "cpu":  # its rows are fetched when the next batch is on its way
                    started, running = running, started
                self._result.times["forward"] += time.perf_counter() - began
                self._finish(started, engine, writer, len(rows))
            self._finish(running, engine, writer, len(rows))
        if writer is not None:
            self._result.times["write"] += writer.seconds

    def _lacking_thumbnails(self, rows: np.ndarray) -> frozenset[int]:
        if not self._request.thumbnails:
            return frozenset()
        lacking = lacking_thumbnails(self._store, self._result.ids[rows])
        return frozenset(rows[lacking].tolist())

    def _thumbnail_writer(
        self, wanted: bool, stack: contextlib.ExitStack
    ) -> Callable[[Batch], None]:
        """What keeps the thumbnails of a batch."""
        if not wanted:
            return lambda batch: None
        self._store.prepare(THUMBNAILS)
        writer = stack.enter_context(self._store.writer(THUMBNAILS, THUMBNAIL_TYPE))

        def keep(batch: Batch) -> None:
            began = time.perf_counter()
            if len(batch.thumbnails):
                writer.add(batch.thumbnail_ids, {THUMBNAIL_TAP: batch.thumbnails})
            self._result.times["write_wait"] += time.perf_counter() - began

        return keep

    def _finish(self, started: tuple | None, engine: Any, writer: Any, job: int) -> None:
        if started is None:
            return
        rows, batch, began = started
        waited = time.perf_counter()
        pooled = rows()
        done = time.perf_counter()
        self._result.times["forward"] += done - waited
        self._result.engine = self._provenance["engine"] = engine.name
        writer.add(batch.ids, pooled)
        self._result.times["write_wait"] += time.perf_counter() - done
        trial, self._trial = engine.trial_seconds - self._trial, engine.trial_seconds
        self._advance(batch, done - began - trial, job)

    def _batches(
        self, rows: np.ndarray, device: str, thumbnails: frozenset[int]
    ) -> Iterator[Batch]:
        on_gpu, view = device.startswith("cuda"), self._result.recipe.view
        preprocessing = VIEWS[view](self._backbone.preprocessing)
        return load_batches(
            self._request.inputs,
            rows,
            Decoding(preprocessing, stack_for(device), thumbnails),
            lambda: GPU_BATCH if on_gpu else self._chunk,
            2 if on_gpu else 0,
        )

    def _start(
        self, taps: list[Tap], images: int, device: str, stack: contextlib.ExitStack
    ) -> tuple[Any, Any]:
        began = time.perf_counter()
        numerics = self._result.recipe.numerics
        engine = start_engine(self._backbone, device, numerics, taps, images)
        self._result.device, self._trial = device, 0
        if self._request.device == "auto" and device == "cpu":
            self._result.unused_gpu = unused_gpu()
        self._provenance = {
            "engine": engine.name,
            "device": device,
            **{
                name: importlib.metadata.version(name)
                for name in ("torch", "torchvision", "pillow", "numpy")
            },
        }
        writer = self._store.writer(
            self._result.recipe, NUMERICS[numerics].stored, self._provenance
        )
        engine, writer = stack.enter_context(engine.running()), stack.enter_context(writer)
        self._result.times["start"] += time.perf_counter() - began
        return engine, writer

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self._result.times["wait"] += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _take(self, batch: Batch) -> None:
        """Note what the batch says of its images: a file that changed since it was listed has another id now."""
        self._result.times["decode"] += batch.decode_seconds
        self._result.bad.update(batch.bad)
        self._bad += len(batch.bad)
        self._result.ids[list(batch.bad)] = 0
        self._result.ids[batch.rows] = batch.ids

    def _advance(self, batch: Batch, seconds: float, job: int) -> None:
        self._result.computed += len(batch.rows)
        self._done += len(batch.rows)
        self._chunk = _chunk_size(len(batch.rows) / seconds)
        # the first batch warms up; the second is the measure, where there is one
        if self._on_plan and (self._done > len(batch.rows) or self._done + self._bad == job):
            per_image = seconds / len(batch.rows) + batch.decode_seconds / len(batch.rows) / cores()
            kept = len(self._result.ids) - len(self._result.bad) - self._total
            self._on_plan(Plan(self._total, kept, self._bytes, per_image * self._total))
            self._on_plan = None
        if self._on_progress:
            self._on_progress(self._done + self._bad)


def _chunk_size(images_per_second: float) -> int:
    """Images decoded at a time on a CPU: batches enough that its cores end together, few enough to report often."""
    batches = round(CHUNK_SECONDS * images_per_second / CPU_BATCH)
    return CPU_BATCH * min(max(batches, 1), max(LARGEST_CHUNK // CPU_BATCH, 1))
