"""A pass of workers as the driver sees it: files are listed, sent in blocks, and noted."""

import contextlib
import os
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from data import ImageError
from data.urls import is_url, protocol_of
from extract.errors import ClusterError, ExtractError
from extract.forward_pass import Interrupted, Job, Plan, refuse_full_disk
from extract.preprocessing import seen_as
from extract.sharding.blocks import Asked, Block, Done
from extract.sharding.cluster import Pool, connect, find_pool, quiet_ray
from extract.sharding.stream import KEPT, packed, stream_blocks
from extract.store import FeatureStore
from extract.store.ids import IdMemory, file_key
from extract.store.remote_parts import ANEW_SECONDS
from extract.thumbnails import thumbnail_recipe

if TYPE_CHECKING:
    from extract.extraction import Extraction

# images that a worker takes at a time, and loses where it dies: on a core some seconds' work
CPU_BLOCK, GPU_BLOCK = 64, 256
# blocks that a worker takes of few images, so that all end together
SHARES, FEWEST = 8, 8
JOINED_BLOCKS = 256  # each leaves a part: after so many they are joined


class ShardedPass:
    """One run of the workers over the files that lack something, or may.

    result : the Extraction that is filled in. views : as of recipes. memory : of ids by file.
    """

    def __init__(self, result: "Extraction", views: Sequence[str], memory: IdMemory) -> None:
        self._result = result
        self._request = result._asked()
        assert isinstance(self._request.store, FeatureStore)
        self._store = self._request.store
        self._views = views
        self._memory = memory
        self._total = 0
        self._kept = 0
        self._done = 0
        self._computed: set[bytes] = set()
        self._seconds: dict[str, float] = {}
        self._blocks = 0
        self._bytes = 0
        self._starting = 0.0
        self._on_plan = self._request.watch.on_plan

    def run(self, on: str, jobs: list[Job]) -> None:
        """Have workers compute what the jobs' files lack; Interrupted as of a ForwardPass."""
        inputs, result = self._request.inputs, self._result
        rows = sorted({int(row) for _, own in jobs for row in own if _is_path(inputs[row])})
        if not rows:
            return
        began = time.perf_counter()
        self._total, self._kept = len(rows), len(result.good) - len(rows)
        for view in self._views:
            self._store.prepare(replace(result.recipe, view=view))
        self._bytes = refuse_full_disk(self._request, result.recipe.numerics, jobs)
        ray = connect(on)
        pool = find_pool(ray)
        connected = time.perf_counter()
        self._work_through(ray, pool, self._blocks_of(rows, _block_size(len(rows), pool)))
        self._tell_times(pool, connected - began, time.perf_counter() - connected)

    def _work_through(self, ray: Any, pool: Pool, blocks: Sequence[Block]) -> None:
        began = time.perf_counter()
        try:
            with quiet_ray(), contextlib.closing(self._stream(ray, pool, blocks)) as told:
                for done in told:
                    if not self._blocks:  # until then processes began, and no image was waited for
                        took = time.perf_counter() - began - sum(done.seconds.values())
                        self._starting = max(0.0, took)
                    self._take(done, pool)
        except KeyboardInterrupt:
            raise Interrupted(self._done, self._total) from None
        except ray.exceptions.RayError as error:
            raise _in_words(error) from error
        finally:
            # once: it writes a file for each folder of images, however few of them are new
            self._memory.save()
        if self._store.url is not None:
            time.sleep(ANEW_SECONDS)  # until what is listed there is listed anew

    def _blocks_of(self, rows: Sequence[int], size: int) -> list[Block]:
        paths = {row: os.fspath(self._request.inputs[row]) for row in rows}
        listing = [(row, p if is_url(p) else os.path.abspath(p)) for row, p in paths.items()]
        return [listing[at : at + size] for at in range(0, len(listing), size)]

    def _stream(self, ray: Any, pool: Pool, blocks: Sequence[Block]) -> Generator[Done, None, None]:
        request, result = self._request, self._result
        preprocessing = request.backbone.preprocessing
        asked = Asked(
            cache=self._store.url or str(self._store.cache.absolute()),
            recipe=result.recipe,
            views=self._views,
            taps=list(request.taps),
            seen=[seen_as(view)(preprocessing) for view in self._views],
            reading=request.reading,
            device=request.device,
            thumbnails=request.thumbnails,
            images=-(-self._total // pool.n),
            cores=pool.cores,
        )
        backbone = packed(f"backbone {request.backbone.name}", request.backbone.to_send())
        return stream_blocks(ray, pool, packed("preprocessing", asked), backbone, blocks)

    def _take(self, done: Done, pool: Pool) -> None:
        """Note what a block says of its images, as a ForwardPass does of a batch."""
        result, inputs = self._result, self._request.inputs
        for row, found in done.ids.items():
            result.ids[row] = np.frombuffer(found, np.uint8)
            listed = file_key(inputs[row]) if is_url(inputs[row]) else None
            self._memory.learn(inputs[row], listed or done.keys.get(row), found)
        for row, reason in done.bad.items():
            result.bad[row] = ImageError(os.fspath(inputs[row]), reason)
            result.ids[row] = 0
        result.notes.update(done.notes)
        result.engine, result.device = done.engine or result.engine, done.device or result.device
        self._computed.update(done.ids[row] for row in done.computed)
        for stage, seconds in done.seconds.items():
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
        self._blocks += 1
        if not self._blocks % JOINED_BLOCKS:
            self._join()
        self._tell(done, pool)

    def _join(self) -> None:
        for view in self._views:
            self._store.compact(replace(self._result.recipe, view=view))
        if self._request.thumbnails:
            self._store.compact(thumbnail_recipe(self._request.reading))

    def _tell(self, done: Done, pool: Pool) -> None:
        n = len(set(done.ids) | set(done.bad))
        self._done += n
        watch = self._request.watch
        # each worker's first block starts its network; the next is the measure, where there is one
        if self._on_plan and (self._blocks > pool.n or self._done == self._total):
            seconds = sum(s for stage, s in done.seconds.items() if stage != "start") / n / pool.n
            plan = Plan(self._total, self._kept, self._bytes, seconds * self._total)
            self._on_plan(plan)
            self._on_plan = None
        if watch.on_progress:
            watch.on_progress(self._done)

    def _tell_times(self, pool: Pool, connecting: float, seconds: float) -> None:
        """The workers' stages as of one of them: what they don't account for was waited."""
        times = self._result.times
        one = {stage: own / pool.n for stage, own in self._seconds.items()}
        self._result.computed += len(self._computed)
        times["start"] += connecting + self._starting + one.get("start", 0.0)
        times["decode"] += self._seconds.get("decode", 0.0)
        times["forward"] += one.get("forward", 0.0)
        times["write"] += self._seconds.get("write", 0.0)
        times["write_wait"] += one.get("write", 0.0)
        working = sum(one.get(stage, 0.0) for stage in ("start", "forward", "write"))
        times["wait"] += max(0.0, seconds - self._starting - working)


def _block_size(n: int, pool: Pool) -> int:
    most = GPU_BLOCK if pool.on_gpus else CPU_BLOCK
    return min(most, max(FEWEST, n // (SHARES * pool.n)))


def _is_path(item: Any) -> bool:
    """Whether a worker can read it; files of fsspec's memory are those of one process."""
    return isinstance(item, (str, os.PathLike)) and protocol_of(item) != "memory"


def _in_words(error: Exception) -> ExtractError:
    """One line of what Ray raised, of workers that died again and again or can't be reached."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ClusterError(f"the cluster gave up ({said}): {KEPT}")
