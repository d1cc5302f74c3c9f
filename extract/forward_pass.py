"""One run of the network over the images that lack something: decoded, computed, kept, timed."""

import contextlib
import importlib.metadata
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data import Reading
from extract.backbones import Backbone
from extract.compiled import start_engine
from extract.cores import cores
from extract.engines import CPU_BATCH, GPU_BATCH, NUMERICS, choose_device, stack_for, unused_gpu
from extract.errors import StoreError
from extract.loader import Batch, Decoding, load_batches
from extract.pooling import Tap, stored_type
from extract.preprocessing import seen_as
from extract.recipe import Recipe
from extract.store import FeatureStore, MemoryStore, ReadOnlyStore
from extract.store.copies import first_of_each
from extract.thumbnails import STORED as THUMBNAIL_TYPE
from extract.thumbnails import lacking_thumbnails, thumbnail_recipe, thumbnail_rows

if TYPE_CHECKING:
    from extract.extraction import Extraction

CHUNK_SECONDS, LARGEST_CHUNK = 0.5, 256
DISK_RESERVE = 64 << 20

# by view the taps that the same rows lack, and those rows
Job = tuple[dict[str, list[Tap]], np.ndarray]


class Started(NamedTuple):
    """A batch in one view that the network was given: what gives its rows, and since when.

    is_last: whether no further view of the batch comes after it.
    """

    rows: Callable[[], dict[Tap, np.ndarray]]
    batch: Batch
    view: str
    is_last: bool
    began: float


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

    Examples
    --------
    >>> from extract import Plan
    >>> Plan(compute=90, kept=10, n_bytes=460_800, seconds=2.5).kept
    10
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

    Examples
    --------
    >>> import numpy as np
    >>> from extract import MemoryStore, Tap, extract, load_backbone
    >>> images, taps = np.zeros((2, 40, 40, 3), np.uint8), [Tap("pixels", "avg")]
    >>> done = extract(images, taps, load_backbone("pixels"), MemoryStore(),
    ...                numerics="float32", watch=Watch(on_progress=print))
    1
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
    store: FeatureStore | MemoryStore | ReadOnlyStore
    device: str
    thumbnails: bool
    reading: Reading
    watch: Watch
    on: str | None = None


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a pass.

    Attributes
    ----------
    kept, wanted : int
        How many of the images to compute are in the store.

    Examples
    --------
    >>> from extract import Interrupted
    >>> str(Interrupted(8, 12))
    'interrupted: 8 of 12 images to compute are kept; run again to go on from there'
    """

    def __init__(self, kept: int, wanted: int) -> None:
        super().__init__(
            f"interrupted: {kept} of {wanted} images to compute are kept; "
            "run again to go on from there"
        )
        self.kept, self.wanted = kept, wanted


class ForwardPass:
    """One run of the network over the rows that lack something.

    request: what was asked for. result: the Extraction that is filled in. watch: who is told.
    """

    def __init__(self, request: Request, result: "Extraction", watch: Watch) -> None:
        self._request = request
        self._backbone = request.backbone
        self._store = request.store
        self._result = result
        self._on_plan = watch.on_plan
        self._on_progress = watch.on_progress
        self._total = 0
        self._kept = 0
        self._done = 0
        self._bad = 0
        self._bytes = 0
        self._trial = 0.0
        self._batch_seconds = 0.0
        self._chunk = CPU_BATCH
        self._provenance: dict[str, str] = {}

    def run(self, jobs: list[Job]) -> None:
        """Compute and keep what each job lacks; Interrupted says what an interrupt left kept."""
        self._total = sum(len(rows) for _, rows in jobs)
        wanted = first_of_each(self._result.ids[self._result.good])
        self._kept = len(wanted) - self._total  # copies are computed once
        began = time.perf_counter()
        for view in dict.fromkeys(view for lacking, _ in jobs for view in lacking):
            self._store.prepare(self._recipe(view))
        self._result.times["write_wait"] += time.perf_counter() - began
        self._bytes = refuse_full_disk(self._request, self._result.recipe.numerics, jobs)
        try:
            for lacking, rows in jobs:
                self._run_job(lacking, rows)
        except KeyboardInterrupt:
            raise Interrupted(self._done, self._total) from None

    def _recipe(self, view: str) -> Recipe:
        return replace(self._result.recipe, view=view)

    def _run_job(self, lacking: dict[str, list[Tap]], rows: np.ndarray) -> None:
        with contextlib.ExitStack() as stack:
            engines: dict[str, Any] = {}
            writers: dict[str, Any] = {}
            running: Started | None = None
            device = choose_device(self._request.device)
            thumbnails = self._lacking_thumbnails(rows)
            keep_thumbnails = self._thumbnail_writer(bool(thumbnails), stack)
            batches = self._batches(rows, list(lacking), device, thumbnails)
            stack.callback(batches.close)
            for batch in self._timed(batches):
                self._take(batch)
                keep_thumbnails(batch)
                if batch.pixels and not engines:
                    engines = self._start(lacking, len(rows), device, stack)
                    writers = self._writers(list(lacking), stack)
                for place, (view, pixels) in enumerate(zip(lacking, batch.pixels, strict=False), 1):
                    began = time.perf_counter()
                    is_last = place == len(lacking)
                    started: Started | None = Started(
                        engines[view].start(pixels), batch, view, is_last, began
                    )
                    if device != "cpu":  # its rows are fetched when the next batch is on its way
                        started, running = running, started
                    self._result.times["forward"] += time.perf_counter() - began
                    self._finish(started, engines, writers, len(rows))
            self._finish(running, engines, writers, len(rows))
            computed = time.perf_counter()
        # the last rows are on the disk when the writers have closed
        self._result.times["write_wait"] += time.perf_counter() - computed
        self._result.times["write"] += sum(writer.seconds for writer in writers.values())

    def _lacking_thumbnails(self, rows: np.ndarray) -> frozenset[int]:
        if not self._request.thumbnails:
            return frozenset()
        lacking = lacking_thumbnails(self._store, self._result.ids[rows], self._request.reading)
        return frozenset(rows[lacking].tolist())

    def _thumbnail_writer(
        self, wanted: bool, stack: contextlib.ExitStack
    ) -> Callable[[Batch], None]:
        """What keeps the thumbnails of a batch."""
        if not wanted:
            return lambda batch: None
        recipe = thumbnail_recipe(self._request.reading)
        writer: Any = stack.enter_context(self._store.writer(recipe, THUMBNAIL_TYPE))

        def keep(batch: Batch) -> None:
            began = time.perf_counter()
            if len(batch.thumbnails):
                writer.add(batch.thumbnail_ids, thumbnail_rows(batch.thumbnails))
            self._result.times["write_wait"] += time.perf_counter() - began

        return keep

    def _finish(
        self,
        started: Started | None,
        engines: dict[str, Any],
        writers: dict[str, Any],
        job: int,
    ) -> None:
        if started is None:
            return
        waited = time.perf_counter()
        pooled = started.rows()
        done = time.perf_counter()
        self._result.times["forward"] += done - waited
        engine = engines[started.view]
        self._result.engine = self._provenance["engine"] = engine.name
        writers[started.view].add(started.batch.ids, pooled)
        self._result.times["write_wait"] += time.perf_counter() - done
        trials = sum(own.trial_seconds for own in set(engines.values()))
        trial, self._trial = trials - self._trial, trials
        self._batch_seconds += done - started.began - trial
        if started.is_last:
            self._advance(started.batch, self._batch_seconds, job)
            self._batch_seconds = 0.0

    def _batches(
        self, rows: np.ndarray, views: Sequence[str], device: str, thumbnails: frozenset[int]
    ) -> Generator[Batch, None, None]:
        on_gpu = device.startswith("cuda")
        seen = [seen_as(view)(self._backbone.preprocessing) for view in views]
        return load_batches(
            self._request.inputs,
            rows,
            Decoding(seen, stack_for(device), thumbnails, self._request.reading),
            lambda: GPU_BATCH if on_gpu else self._chunk,
            2 if on_gpu else 0,
        )

    def _start(
        self,
        lacking: dict[str, list[Tap]],
        images: int,
        device: str,
        stack: contextlib.ExitStack,
    ) -> dict[str, Any]:
        """By view the running engine; views that lack the same taps share it."""
        began = time.perf_counter()
        numerics = self._result.recipe.numerics
        running: dict[tuple[Tap, ...], Any] = {}
        for taps in map(tuple, lacking.values()):
            if taps not in running:
                work = images * sum(tuple(own) == taps for own in lacking.values())
                engine = start_engine(self._backbone, device, numerics, list(taps), work)
                running[taps] = stack.enter_context(engine.running())
        self._result.device, self._trial = device, 0
        if self._request.device == "auto" and device == "cpu":
            self._result.unused_gpu = unused_gpu()
        self._provenance = provenance_of(next(iter(running.values())).name, device)
        self._result.times["start"] += time.perf_counter() - began
        return {view: running[tuple(taps)] for view, taps in lacking.items()}

    def _writers(self, views: Sequence[str], stack: contextlib.ExitStack) -> dict[str, Any]:
        began = time.perf_counter()
        stored = NUMERICS[self._result.recipe.numerics].stored
        writers: dict[str, Any] = {
            view: stack.enter_context(
                self._store.writer(self._recipe(view), stored, self._provenance)
            )
            for view in views
        }
        self._result.times["start"] += time.perf_counter() - began
        return writers

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self._result.times["wait"] += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _take(self, batch: Batch) -> None:
        """Note what the batch says of its images: one that changed meanwhile has another id."""
        self._result.times["decode"] += batch.decode_seconds
        self._result.bad.update(batch.bad)
        self._result.notes.update(batch.notes)
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
            self._on_plan(Plan(self._total, self._kept, self._bytes, per_image * self._total))
            self._on_plan = None
        if self._on_progress:
            self._on_progress(self._done + self._bad)


def provenance_of(engine: str, device: str) -> dict[str, str]:
    """What parts say of how their rows were computed."""
    libraries = ("torch", "torchvision", "pillow", "numpy")
    versions = {name: importlib.metadata.version(name) for name in libraries}
    return {"engine": engine, "device": device, **versions}


def refuse_full_disk(request: Request, numerics: str, jobs: Sequence[Job]) -> int:
    """StoreError where what each job lacks finds no room -> its bytes."""
    if not isinstance(request.store, FeatureStore):
        return 0
    stored = NUMERICS[numerics].stored
    n_bytes = sum(
        len(rows) * np.dtype(stored_type(tap, stored)).itemsize * request.backbone.card.width(tap)
        for lacking, rows in jobs
        for taps in lacking.values()
        for tap in taps
    )
    cache = request.store.cache
    folder = next(f for f in (cache, *cache.parents) if f.exists())
    free = shutil.disk_usage(folder).free
    if n_bytes + DISK_RESERVE > free:
        raise StoreError(
            f"the features need {n_bytes / 1e6:,.1f} MB beside a reserve of "
            f"{DISK_RESERVE / 1e6:.0f} MB, and {cache} has {free / 1e6:,.1f} MB "
            "free: make room there, keep fewer taps or choose another cache"
        )
    return n_bytes


def _chunk_size(images_per_second: float) -> int:
    """Images decoded at a time on a CPU.

    Batches enough that its cores end together, few enough to report often.
    """
    batches = round(CHUNK_SECONDS * images_per_second / CPU_BATCH)
    return CPU_BATCH * min(max(batches, 1), max(LARGEST_CHUNK // CPU_BATCH, 1))
