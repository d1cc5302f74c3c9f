"""What a worker does with a block of images: reads, decodes and computes it, and keeps the rows."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data import ImageError, Reading, read_bytes
from data.remote import REQUESTS
from data.urls import is_url
from extract.backbones import Backbone
from extract.compiled import start_engine
from extract.cores import take_share
from extract.engines import NUMERICS, choose_device
from extract.errors import ExtractError
from extract.forward_pass import provenance_of
from extract.loader import Batch, Decoding, FileBytes, load_batches
from extract.pooling import Tap
from extract.recipe import Recipe
from extract.store import FeatureStore
from extract.store.ids import ID_BYTES, bytes_id, file_key, settled
from extract.thumbnails import STORED as THUMBNAIL_TYPE
from extract.thumbnails import lacking_thumbnails, thumbnail_recipe, thumbnail_rows

READ_BYTES = 64 << 20  # of files that are in memory at once, unless one alone is larger

Block = Sequence[tuple[int, str]]  # number and path of each image


@dataclass(frozen=True)
class Asked:
    """What workers are told of a pass.

    cache : the store's folder, which all of them see, or URL. recipe : its numerics are settled.
    seen : what becomes of an RGB image in each view. images : how many a worker computes, about.
    cores : how many of them are a worker's own.
    """

    cache: str
    recipe: Recipe
    views: Sequence[str]
    taps: Sequence[Tap]
    seen: Sequence[Any]
    reading: Reading
    device: str
    thumbnails: bool
    images: int
    cores: int

    def of(self, view: str) -> Recipe:
        """The recipe in one of the views."""
        return replace(self.recipe, view=view)

    def lacking(self, store: FeatureStore, ids: np.ndarray) -> np.ndarray:
        """(n, views, taps) bool, which rows of (n, 16) uint8 ids are not kept."""
        return np.stack([store.missing(self.of(v), self.taps, ids) for v in self.views], axis=1)


@dataclass
class Done:
    """What the driver is told of a block: which images they are, and never their features.

    ids : {row: id} of those that could be read. keys : {row: what its id is remembered by}.
    bad : {row: why it can't be read}. notes : {row: what may have affected its pixels}.
    computed : rows that went through the network. seconds : by stage.
    """

    ids: dict[int, bytes] = field(default_factory=dict)
    keys: dict[int, list[int]] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)
    notes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    computed: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    engine: str | None = None
    device: str | None = None

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time within."""
        began = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began


@dataclass(frozen=True)
class DecodedBlock:
    """A block on its way to the network.

    batches : decoded images with their numbers as rows; with each batch (n, views, taps) bool,
        which features are lacking.
    """

    done: Done
    batches: Sequence[tuple[Batch, np.ndarray]]


def decode_block(asked: Asked, block: Block) -> DecodedBlock:
    """Read each file once, find out which image it is, and decode it where features are lacking.

    Raises ExtractError where this machine does not see the store.
    """
    _refuse_unseen(asked)
    done, batches = Done(), []
    with done.timed("decode"):
        for some in _little_at_a_time(block):
            files = _read(some, done)
            if not files:
                continue
            batch, lacks = _decode(asked, [file for _, file in files])
            rows = [row for row, _ in files]
            done.bad |= {rows[i]: error.reason for i, error in batch.bad.items()}
            done.notes |= {rows[i]: notes for i, notes in batch.notes.items()}
            batches.append((replace(batch, rows=np.array(rows)[batch.rows]), lacks[batch.rows]))
    return DecodedBlock(done, batches)


def _refuse_unseen(asked: Asked) -> None:
    """ExtractError without the recipe's folder, which the driver has made before the pass."""
    if not is_url(asked.cache) and not (Path(asked.cache) / asked.recipe.id).exists():
        raise ExtractError(
            f"the worker on {socket.gethostname()} does not see the cache {asked.cache}: expected "
            'a folder that all machines of the cluster share; choose one with cache="DIR"'
        )


def _little_at_a_time(block: Block) -> Iterator[Block]:
    """Parts of the block whose files fit in memory together, as far as their sizes are at hand."""
    some: list[tuple[int, str]] = []
    n_bytes = 0
    for row, path in block:
        size = 0
        with contextlib.suppress(OSError):  # reading it will say why
            size = os.stat(path).st_size
        if some and n_bytes + size > READ_BYTES:
            yield some
            some, n_bytes = [], 0
        some.append((row, path))
        n_bytes += size
    if some:
        yield some


def _read(block: Block, done: Done) -> list[tuple[int, FileBytes]]:
    """The files that could be read, with their numbers."""
    files = []
    # whoever reads from elsewhere waits for answers, and not for a core
    with ThreadPoolExecutor(REQUESTS if is_url(block[0][1]) else 1) as pool:
        read = pool.map(_read_one, [path for _, path in block])
        for (row, _), (file, key) in zip(block, read, strict=True):
            if isinstance(file, ImageError):
                done.bad[row] = file.reason
                continue
            files.append((row, file))
            done.ids[row] = file.found
            if key:
                done.keys[row] = key
    return files


def _read_one(path: str) -> tuple[FileBytes | ImageError, list | None]:
    """A file, and what its id is remembered by; of a URL the driver knows that from its listing."""
    key, started = None if is_url(path) else file_key(path), time.time()
    try:
        data = read_bytes(path)
    except ImageError as error:
        return error, None
    return FileBytes(path, data, bytes_id(data)), settled(path, key, started)


def _decode(asked: Asked, files: Sequence[FileBytes]) -> tuple[Batch, np.ndarray]:
    """Those of n files that lack features, as a batch whose rows are places among them; and of all
    files which features are lacking, (n, views, taps) bool."""
    store = FeatureStore(asked.cache)
    ids = np.frombuffer(b"".join(file.found for file in files), np.uint8).reshape(-1, ID_BYTES)
    lacks = asked.lacking(store, ids)
    places: dict[bytes, int] = {}
    for i, file in enumerate(files):  # of copies one is computed
        if lacks[i].any():
            places.setdefault(file.found, i)
    wanted = np.array(list(places.values()), int)
    thumbnails: frozenset[int] = frozenset()
    if asked.thumbnails and len(wanted):
        without = lacking_thumbnails(store, ids[wanted], asked.reading)
        thumbnails = frozenset(wanted[without].tolist())
    decoding = Decoding(asked.seen, np.stack, thumbnails, asked.reading)
    take_share(1)  # its neighbours decode as well
    with contextlib.closing(load_batches(files, wanted, decoding, lambda: len(files), 0)) as found:
        empty = np.empty(0, int)
        batch = next(found, None) or Batch(empty, ids[:0], [], {}, 0.0, [], ids[:0], {})
    # a copy of one that can't be decoded can't be either
    broken = {files[i].found: error for i, error in batch.bad.items()}
    bad = {i: broken[file.found] for i, file in enumerate(files) if file.found in broken}
    return replace(batch, bad=bad), lacks


class Network:
    """The network of a pass on a worker, which stays ready from block to block."""

    def __init__(self, asked: Asked, backbone: Backbone) -> None:
        self._asked = asked
        self._backbone = backbone
        self._store = FeatureStore(asked.cache)
        self._running = contextlib.ExitStack()
        self._engines: dict[tuple[Tap, ...], Any] = {}
        self._device = ""

    def close(self) -> None:
        """Have torch as it was: a running network changes settings of the whole process."""
        self._running.close()
        self._engines.clear()

    def compute(self, block: DecodedBlock) -> Done:
        """Compute and keep what is lacking; the rows are on the disk when it returns."""
        done = block.done
        for batch, lacks in block.batches:
            if not len(batch.rows):
                continue
            self._keep_thumbnails(batch, done)
            masks = lacks.reshape(len(lacks), -1)
            for mask in np.unique(masks, axis=0):
                rows = np.flatnonzero((masks == mask).all(axis=1))
                self._compute_rows(batch, rows, mask.reshape(lacks.shape[1:]), done)
            done.computed += batch.rows.tolist()
        return done

    def _compute_rows(self, batch: Batch, rows: np.ndarray, lacks: np.ndarray, done: Done) -> None:
        """Of some rows, those views and taps that all of them lack."""
        for view, pixels, lacking in zip(self._asked.views, batch.pixels, lacks, strict=False):
            taps = tuple(tap for tap, own in zip(self._asked.taps, lacking, strict=True) if own)
            if not taps:
                continue
            with done.timed("start"):
                engine = self._engine(taps)
            with done.timed("forward"):
                found = engine(pixels[rows])
            done.engine, done.device = engine.name, self._device
            with done.timed("write"):
                self._keep(self._asked.of(view), batch.ids[rows], found, engine.name)

    def _engine(self, taps: tuple[Tap, ...]) -> Any:
        """The engine for these taps, running from now on."""
        if taps not in self._engines:
            import torch

            asked = self._asked
            take_share(asked.cores)
            torch.set_num_threads(asked.cores)
            self._device = choose_device(asked.device)
            engine = start_engine(
                self._backbone, self._device, asked.recipe.numerics, list(taps), asked.images
            )
            self._engines[taps] = self._running.enter_context(engine.running())
        return self._engines[taps]

    def _keep(self, recipe: Recipe, ids: np.ndarray, rows: dict, engine: str) -> None:
        stored = NUMERICS[recipe.numerics].stored
        with self._store.writer(recipe, stored, provenance_of(engine, self._device)) as writer:
            writer.add(ids, rows)

    def _keep_thumbnails(self, batch: Batch, done: Done) -> None:
        if not len(batch.thumbnails):
            return
        with (
            done.timed("write"),
            self._store.writer(thumbnail_recipe(self._asked.reading), THUMBNAIL_TYPE) as writer,
        ):
            writer.add(batch.thumbnail_ids, thumbnail_rows(batch.thumbnails))
