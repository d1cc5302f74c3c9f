"""The one pass: find what the store lacks, decode only that, run the network once for every tap, keep the rows."""

import contextlib
import importlib.metadata
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from data import ImageError
from extract.backbones import Backbone
from extract.compiled import start_engine
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
from extract.loader import cores, load_batches
from extract.memory import MemoryStore
from extract.pooling import Tap
from extract.preprocessing import VIEWS
from extract.recipe import Recipe, image_ids
from extract.store import FeatureStore

CHUNK_SECONDS, LARGEST_CHUNK = 0.5, 256
DISK_RESERVE = 64 << 20
LOOKS = 3
STAGES = ("ids", "start", "decode", "wait", "forward", "write", "write_wait")


@dataclass(frozen=True)
class Plan:
    """What a pass is about to do: images to compute, images already kept, bytes to write, seconds expected."""

    compute: int
    kept: int
    n_bytes: int
    seconds: float


@dataclass
class Extraction:
    """What came of it: ids by row, which rows can't be read, the recipe, and where the time went.

    ids: (n, 16) uint8, zeros where bad. bad: {row: ImageError}. times, in seconds: `ids` went on finding out
    which images these are, `start` on the network and its engine; `decode` is summed over threads and `wait` what
    the network waited for it; `forward` the network itself; `write` goes on beside the pass, `write_wait` is what
    the pass waited for it. So ids + start + wait + forward + write_wait is about the whole.
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

    @property
    def good(self) -> np.ndarray:
        """Rows that could be read, in order."""
        return np.array([row for row in range(len(self.ids)) if row not in self.bad], int)

    def accounting(self) -> dict:
        """The `extraction` block of results.json."""
        busy = self.computed and self.seconds
        return {
            "images": len(self.ids) - len(self.bad),
            "from_store": len(self.ids) - len(self.bad) - self.computed,
            "computed": self.computed,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.computed / self.seconds, 1) if busy else None,
            **{f"{name}_seconds": round(value, 3) for name, value in self.times.items()},
            "bottleneck": self._bottleneck(),
            "engine": self.engine,
            "in_words": self.in_words(),
            "unused_gpu": self.unused_gpu,
        }

    def _bottleneck(self):
        if not self.computed:
            return None
        return "decode" if self.times["wait"] > self.times["forward"] else "forward"

    def in_words(self) -> str | None:
        """One line about where the time of the pass went and what would help; None where nothing was computed."""
        if not self.computed:
            return None
        times, device = self.times, (self.device or "cpu").partition(":")[0]
        whole = max(times["wait"] + times["forward"] + times["write_wait"], 1e-9)
        waited, ran, written = (
            100 * times[name] / whole for name in ("wait", "forward", "write_wait")
        )
        if written > max(waited, ran):
            return f"writing held the pass back {written:.0f} % of the time: a faster disk for --cache would help"
        if device != "cpu" and waited > ran:
            return f"decoding held the GPU back {waited:.0f} % of the time: more cores or pre-resized images would help"
        if device != "cpu":
            return f"the network took {ran:.0f} % of the time and decoding kept up: the GPU is what limits"
        if waited > ran:
            return f"decoding took {waited:.0f} % of the time: more cores or pre-resized images would help"
        return f"the network took {ran:.0f} % of the time: a GPU, a smaller backbone or a smaller --size would help"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a pass; `kept` of `wanted` images are in the store."""

    def __init__(self, kept: int, wanted: int):
        super().__init__(
            f"interrupted: {kept} of {wanted} images to compute are kept; run again to go on from there"
        )
        self.kept, self.wanted = kept, wanted


def recipe_of(backbone: Backbone, numerics: str, view: str = "plain") -> Recipe:
    """The recipe of a backbone's features in these numerics; `plain+flipped` is read from the two it joins."""
    card = backbone.card
    return Recipe(card.architecture, card.digest, card.transform_id, numerics, view)


def read_features(
    store: FeatureStore | MemoryStore, recipe: Recipe, taps: list[Tap], ids: np.ndarray
) -> np.ndarray:
    """(n, d) float32 rows in the order of `ids`, the taps' columns side by side; of several views their mean.

    Raises DamagedPart where a row is missing.
    """
    views = recipe.view.split("+")
    rows = store.read(replace(recipe, view=views[0]), taps, ids)
    for view in views[1:]:
        rows += store.read(replace(recipe, view=view), taps, ids)
    return rows / np.float32(len(views)) if len(views) > 1 else rows


def choose_numerics(numerics, backbone, store, taps, ids, device) -> str:
    """`auto` -> those in which the store holds all of these rows, else of those that this machine has the ones it
    holds most of, else the fastest; a name is checked."""
    if check_numerics(numerics) != "auto":
        return numerics
    held = {
        name: int((~store.missing(recipe_of(backbone, name), taps, ids)).sum()) for name in NUMERICS
    }
    best = max(held, key=held.get)
    if held[best] == len(ids) * len(taps) and len(ids):
        return best
    device = choose_device(device)
    here = fastest_numerics(device)
    best = max((name for name in NUMERICS if lacks_numerics(name, device) is None), key=held.get)
    return here if held[here] == held[best] else best


def extract(
    inputs: Sequence,
    taps: list[Tap],
    backbone: Backbone,
    store: FeatureStore | MemoryStore,
    *,
    numerics: str = "auto",
    device: str = "auto",
    view: str = "plain",
    on_plan: Callable[[Plan], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Extraction:
    """Have every tap of every readable input in the store, computing only what is missing.

    Parameters
    ----------
    inputs : n paths, PIL images or uint8 (height, width, 3) arrays.
    view : one of VIEWS, or some of them joined: `plain+flipped` is a pass for each that lacks rows, and
        `read_features` averages them.
    on_plan : called once with a Plan when the second batch has been timed (the first, of a single one).
    on_progress : called with the number of images done or found unreadable, after each batch.

    Raises ExtractError for a tap the backbone can't give and for a cache that can't be written; Interrupted on
    Ctrl-C. Images that can't be read are returned in `bad`, not raised.
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
    ids, bad = image_ids(
        inputs, store.cache / "ids" if isinstance(store, FeatureStore) else None, cores()
    )
    known = time.perf_counter()
    joined = None
    for one in view.split("+"):
        done = _extract_view(
            inputs, ids, bad, taps, backbone, store, numerics, device, one, on_plan, on_progress
        )
        numerics = done.recipe.numerics
        joined = done if joined is None else _join(joined, done)
    joined.times["start"] += examined - started
    joined.times["ids"] += known - examined
    joined.seconds = time.perf_counter() - started
    return joined


def _join(first, second):
    """Two views' passes over the same ids as one: an image is computed where the network saw either view of it."""
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
    inputs, ids, bad, taps, backbone, store, numerics, device, view, on_plan, on_progress
):
    """The pass for one view; what it finds out about the images is noted in `ids` and `bad`."""
    readable = [row for row in range(len(inputs)) if row not in bad]
    numerics = choose_numerics(numerics, backbone, store, taps, ids[readable], device)
    result = Extraction(ids, bad, recipe_of(backbone, numerics, view))
    for _ in range(
        LOOKS
    ):  # again for what a file that changed meanwhile left open: its copies, its other taps
        if not (jobs := _jobs(store, result, taps)):
            break
        check_there(numerics, choose_device(device))
        before = ids.copy()
        _Pass(inputs, backbone, store, result, device, on_plan, on_progress).run(jobs)
        _spread_bad(result, before)
        on_plan = on_progress = None
    if result.computed and isinstance(store, FeatureStore):
        began = time.perf_counter()
        store.compact(result.recipe)
        result.times["write_wait"] += time.perf_counter() - began
    result.computed = min(result.computed, len(result.good))
    return result


def _spread_bad(result, ids_before):
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


def _jobs(store, result, taps):
    """Rows grouped by the taps they lack -> [(taps, rows)]; an image that comes twice is computed once."""
    jobs, seen, good = {}, set(), result.good
    missing = store.missing(result.recipe, taps, result.ids[good])
    for lacking, row in zip(missing, good, strict=True):
        key = result.ids[row].tobytes()
        if lacking.any() and key not in seen:
            seen.add(key)
            jobs.setdefault(lacking.tobytes(), []).append(row)
    return [
        (
            [tap for tap, lacks in zip(taps, np.frombuffer(mask, bool), strict=True) if lacks],
            np.array(rows),
        )
        for mask, rows in jobs.items()
    ]


class _Pass:
    """One run of the network over the rows that lack something."""

    def __init__(self, inputs, backbone, store, result, device, on_plan, on_progress):
        self._inputs, self._backbone, self._store, self._result = inputs, backbone, store, result
        self._wanted_device, self._on_plan, self._on_progress = device, on_plan, on_progress
        self._done = self._bad = self._bytes = self._trial = 0
        self._chunk, self._provenance = CPU_BATCH, {}

    def run(self, jobs):
        self._total = sum(len(rows) for _, rows in jobs)
        self._store.prepare(self._result.recipe)
        self._refuse_full_disk(jobs)
        try:
            for taps, rows in jobs:
                self._run_job(taps, rows)
        except KeyboardInterrupt:
            raise Interrupted(self._done, self._total) from None

    def _refuse_full_disk(self, jobs):
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
                f"the features need {self._bytes / 1e9:.1f} GB and {self._store.cache} has {free / 1e9:.1f} GB free: "
                "keep fewer taps or choose another folder with --cache"
            )

    def _run_job(self, taps, rows):
        with contextlib.ExitStack() as stack:
            engine = writer = running = None
            device = choose_device(self._wanted_device)
            batches = self._batches(rows, device)
            stack.callback(batches.close)
            for batch in self._timed(batches):
                self._take(batch)
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

    def _finish(self, started, engine, writer, job):
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

    def _batches(self, rows, device):
        on_gpu, view = device.startswith("cuda"), self._result.recipe.view
        preprocessing = VIEWS[view](self._backbone.preprocessing)
        ahead = 2 if on_gpu else 0
        return load_batches(
            self._inputs,
            rows,
            preprocessing,
            lambda: GPU_BATCH if on_gpu else self._chunk,
            ahead,
            stack_for(device),
        )

    def _start(self, taps, images, device, stack):
        began = time.perf_counter()
        numerics = self._result.recipe.numerics
        engine = start_engine(self._backbone, device, numerics, taps, images)
        self._result.device, self._trial = device, 0
        if self._wanted_device == "auto" and device == "cpu":
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

    def _timed(self, batches):
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self._result.times["wait"] += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _take(self, batch):
        """Note what the batch says of its images: a file that changed since it was listed has another id now."""
        self._result.times["decode"] += batch.decode_seconds
        self._result.bad.update(batch.bad)
        self._bad += len(batch.bad)
        self._result.ids[list(batch.bad)] = 0
        self._result.ids[batch.rows] = batch.ids

    def _advance(self, batch, seconds, job):
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


def _chunk_size(images_per_second):
    """Images decoded at a time on a CPU: batches enough that its cores end together, few enough to report often."""
    batches = round(CHUNK_SECONDS * images_per_second / CPU_BATCH)
    return CPU_BATCH * min(max(batches, 1), max(LARGEST_CHUNK // CPU_BATCH, 1))
